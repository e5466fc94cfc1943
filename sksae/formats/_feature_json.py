"""Features as the JSON files that the viewer of circuit-tracer shows beside a graph.

The fields are those of circuit-tracer's `frontend/feature_models.py`. A file is called by the
number that the viewer has for a layer and a feature, Cantor's: ``(l + f) (l + f + 1) / 2 + f``.
"""

from collections.abc import Mapping

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sksae._files import as_path, damage_named, read_json, working_place
from sksae._hook_names import cantor, uncantor
from sksae._params import Instance, Int, check_option
from sksae.formats.neuronpedia._lines import digits, line_of, well_formed

_N_BINS = 50  # of the histogram that the viewer draws
_KINDS = {
    "transcoder_id": (str, "a string"),
    "index": (int, "an integer"),
    "examples_quantiles": (list, "a list"),
    "top_logits": (list, "a list"),
    "bottom_logits": (list, "a list"),
    "act_min": ((int, float), "a number"),
    "act_max": ((int, float), "a number"),
    "quantile_values": (list, "a list"),
    "histogram": (list, "a list"),
    "activation_frequency": ((int, float), "a number"),
}


def write_feature_json(path, atlases, *, features=None, transcoder_id="sksae", n_quantiles=5):
    """Write what atlases know about features, for the viewer of circuit-tracer.

    The folder is assembled beside its place, so that it is whole or not there. For a graph to find
    it, write that with ``scan="./"`` and the path of the folder as the viewer's server has it.
    Numbers keep six significant digits.

    Parameters
    ----------
    path : str or Path
        The folder, which must not exist yet.
    atlases : list of FeatureAtlas, or mapping of int to FeatureAtlas
        The atlas of the features of each layer, from layer 0 on, or by layer.
    features : iterable of (int, int), default=None
        Pairs of a layer and a feature, such as ``zip(graph.layer, graph.feature)`` of the feature
        nodes of a graph. None writes all that fire.
    transcoder_id : str, default="sksae"
        The name of the transcoders.
    n_quantiles : int, default=5
        Ranges of activation with examples, beside the strongest.

    Returns
    -------
    folder : Path
        The folder.

    Raises
    ------
    FileExistsError
        If there is something at `path`.
    ValueError
        If a layer has no atlas, or a feature is not in it.

    See Also
    --------
    read_feature_json : Reads them back.
    sksae.language_models.AttributionGraph.to_json : Writes the graph.
    write_neuronpedia : Writes features for Neuronpedia.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sksae.formats import read_feature_json, write_feature_json
    >>> from sksae.interpret import FeatureAtlas
    >>> atlas = FeatureAtlas().fit([[0, 3], [2, 0]], tokens=["Ada", "Bo"])
    >>> with TemporaryDirectory() as folder:
    ...     written = write_feature_json(f"{folder}/features", [atlas])
    ...     read = read_feature_json(written)
    >>> sorted(read), read[0, 1]["examples_quantiles"][0]["examples"][0]["tokens"]
    ([(0, 0), (0, 1)], ['Ada'])
    """
    check_option("transcoder_id", transcoder_id, Instance(str, description="a str"))
    check_option("n_quantiles", n_quantiles, Int(1))
    atlases = dict(atlases) if isinstance(atlases, Mapping) else dict(enumerate(atlases))
    for atlas in atlases.values():
        check_is_fitted(atlas, "n_components_")
    pairs = _pairs(atlases, features)
    folder = as_path(path)
    if folder.exists():
        raise FileExistsError(f"{folder} exists already: take another path.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with working_place(folder.parent) as place:
        part = place / "new"
        part.mkdir()
        for layer, number in pairs:
            record = atlases[layer].feature(number)
            if features is None and not record.n_active:
                continue
            content = _content(record, well_formed(transcoder_id), n_quantiles)
            (part / f"{cantor(layer, number)}.json").write_bytes(line_of(content))
        part.rename(folder)
    return folder


def _pairs(atlases, features):
    """Return the pairs of a layer and a feature to write."""
    if features is None:
        return [
            (layer, number)
            for layer, atlas in atlases.items()
            for number in range(int(atlas.n_components_))
        ]
    pairs = sorted({(int(layer), int(number)) for layer, number in features})
    for layer, number in pairs:
        if layer not in atlases:
            raise ValueError(f"There is no atlas for layer {layer}.")
        if not 0 <= number < atlases[layer].n_components_:
            raise ValueError(
                f"There is no feature {number}: the atlas of layer {layer} has "
                f"{int(atlases[layer].n_components_)}."
            )
    return pairs


def _content(record, transcoder_id, n_quantiles):
    """Return the content of the file of a `Feature`."""
    groups = [("Top", record.examples)]
    for quantile in record.quantiles(n_quantiles):
        low, high = digits(quantile.low), digits(quantile.high)
        groups.append((f"{low:g} to {high:g}", quantile.examples))
    counts, edges = record.histogram
    # Firings up to each edge, between which they are taken as evenly spread. The last edge is
    # behind the largest.
    sums = np.concatenate([[0.0], np.cumsum(counts)])
    largest, total = float(record.max_activation), float(sums[-1])
    edges = np.minimum(edges, largest)
    up_to = np.interp(np.linspace(0, largest, _N_BINS + 1), edges, sums, left=0)  # (n_bins + 1,)
    up_to[-1] = total
    histogram = np.diff(up_to)
    # 99 percentiles of the firings.
    inverse = np.interp(np.arange(1, 100) * total / 100, sums, edges)
    return {
        "transcoder_id": transcoder_id,
        "index": int(record.feature),
        "examples_quantiles": [
            {"quantile_name": name, "examples": [_example(x) for x in examples]}
            for name, examples in groups
        ],
        "top_logits": [well_formed(token) for token, _ in record.promoted],
        "bottom_logits": [well_formed(token) for token, _ in record.suppressed],
        "act_min": 0.0,
        "act_max": digits(largest),
        "quantile_values": [digits(x) for x in inverse],
        "histogram": [digits(x) for x in histogram],
        "activation_frequency": digits(record.density),
    }


def _example(example):
    return {
        "tokens_acts_list": [digits(x) for x in example.activations],
        "train_token_ind": int(example.peak),
        "is_repeated_datapoint": False,
        "tokens": [well_formed(str(token)) for token in example.tokens],
    }


def read_feature_json(path):
    """Read the files of features that `write_feature_json` or a tool of circuit-tracer wrote.

    Parameters
    ----------
    path : str or Path
        The folder, with one file per feature.

    Returns
    -------
    features : dict of (int, int) to dict
        By layer and feature, in this order: the fields as circuit-tracer names them, such as
        ``"examples_quantiles"``, ``"top_logits"`` and ``"activation_frequency"``.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no such file in it.
    ValueError
        If a file is not what it should be.

    See Also
    --------
    write_feature_json : Writes them.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from sksae.formats import read_feature_json
    >>> content = '{"index": 0, "top_logits": [" Monday"], "examples_quantiles": []}'
    >>> with TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "1.json").write_text(content)
    ...     print(read_feature_json(folder)[1, 0]["top_logits"])
    [' Monday']
    """
    folder = as_path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    files = [file for file in folder.glob("*.json") if file.stem.isascii() and file.stem.isdigit()]
    if not files:
        raise FileNotFoundError(f"{folder} has no files of features, such as 12.json.")
    features = {}
    for file in files:
        with damage_named(file, "is no file of a feature"):
            features[uncantor(int(file.stem))] = _checked(read_json(file))
    return dict(sorted(features.items()))


def _checked(content):
    """Return the content of a file, or raise a ValueError."""
    if not isinstance(content, dict) or "examples_quantiles" not in content:
        raise ValueError("it has no examples_quantiles")
    for name, (kind, words) in _KINDS.items():
        value = content.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, kind)):
            raise ValueError(f"{name} must be {words}, got {value!r}")
    for group in content["examples_quantiles"]:
        for example in group["examples"]:
            if len(example["tokens"]) != len(example["tokens_acts_list"]):
                raise ValueError("an example has more tokens than activations, or fewer")
    return content
