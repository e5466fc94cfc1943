"""The order of the gallery: tables first, then texts, language models, and what is one's own."""

from pathlib import Path

ORDER = {
    "tables": [
        "digits",
        "named_components",
        "image_patches",
        "comparing",
        "choosing_sparsity",
        "pipeline_and_search",
        "known_dictionary",
        "variants",
        "embeddings_with_target",
        "large_data",
    ],
    "texts": ["beside_tfidf", "contrast", "what_drives_the_rating", "streaming"],
    "language_models": [
        "language_model_features",
        "what_is_kept",
        "steering",
        "circuit",
        "transcoder",
        "attribution_graph",
        "two_models",
        "vision_patches",
    ],
    "own": ["files_of_others", "custom_objective"],
}


def section_order(folder):
    """Return the place of a folder of examples."""
    return list(ORDER).index(Path(folder).name)


class ExampleOrder:
    """Place of an example in its section; those that are not listed come last, by name."""

    def __init__(self, folder):
        self.names = ORDER.get(Path(folder).name, [])

    def __call__(self, filename):
        name = Path(filename).stem
        place = self.names.index(name) if name in self.names else len(self.names)
        return place, name
