"""Interpretation of the features of sparse autoencoders: examples, atlases, explanations."""

from sksae.interpret._examples import Example, max_activating_examples
from sksae.interpret._feature import Feature, Quantile, Related
from sksae.interpret._token_cells import PromptCodes, read_prompt
from sksae.interpret.atlas import (
    ExampleImage,
    FeatureAtlas,
    ImagePatches,
    RowSample,
    choose_features,
)
from sksae.interpret.contrast import FeatureContrast, auroc, log_odds_z, welch_t
from sksae.interpret.explanation import (
    CachedClient,
    ExampleSide,
    Explanation,
    LocalClient,
    OpenAIClient,
    estimate_cost,
    explain,
    explain_from_tokens,
    load_explanations,
    save_explanations,
    score_by_steering,
    score_explanations,
    split_examples,
)
from sksae.interpret.statements import (
    annotate,
    estimate_annotation_cost,
    split_texts,
    validate,
)

__all__ = [
    "CachedClient",
    "Example",
    "ExampleImage",
    "ExampleSide",
    "Explanation",
    "Feature",
    "FeatureAtlas",
    "FeatureContrast",
    "ImagePatches",
    "LocalClient",
    "OpenAIClient",
    "PromptCodes",
    "Quantile",
    "Related",
    "RowSample",
    "annotate",
    "auroc",
    "choose_features",
    "estimate_annotation_cost",
    "estimate_cost",
    "explain",
    "explain_from_tokens",
    "load_explanations",
    "log_odds_z",
    "max_activating_examples",
    "read_prompt",
    "save_explanations",
    "score_by_steering",
    "score_explanations",
    "split_examples",
    "split_texts",
    "validate",
    "welch_t",
]


def __dir__():
    return __all__
