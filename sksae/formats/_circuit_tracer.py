"""Folders of circuit-tracer: ``config.yaml``, and files of weights per layer of the model."""

import re

import numpy as np
import yaml

from sksae._files import as_path, damage_named, regular, write_safetensors, write_text
from sksae._hook_names import IN_BLOCKS
from sksae._params import Instance, Int, Option, check_option
from sksae.autoencoders import Transcoder
from sksae.formats._activations import read_fitted
from sksae.formats._cross_layer import (
    ACROSS_FILE,
    THRESHOLD,
    are_across,
    count_files,
    count_layers,
    read_across,
    write_across,
)
from sksae.formats._raw_units import estimator, raw_units
from sksae.formats._sources import DTYPE, SIZE, brief, source_facts, take, text_or_none
from sksae.formats._tensors import read_tensors

CONFIG = "config.yaml"
TRAINING_CONFIGS = ("wandb-config.yaml", "wanb-config.yaml")  # the second is on the hub as it is
LAYER_FILE = re.compile(r"layer_(\d+)\.safetensors")
_MOST_BYTES = 2**20  # of a configuration, which has about 300
# Axes: n latents, d features of the residual stream. Every matrix multiplies from the left.
_LAYOUT = {
    "W_enc": "n d",
    "W_dec": "n d",
    "b_enc": "n",
    "b_dec": "d",
    "W_skip": "d d",
    THRESHOLD: "n",
}
_ACTIVATIONS = {"relu": "relu", "topk": "topk", "jumprelu": "jumprelu", "jump_relu": "jumprelu"}
_HOOKS = ("feature_input_hook", "feature_output_hook")
# What SAELens says of the sets that have no config.yaml.
_MLP_HOOKS = {"feature_input_hook": "mlp.hook_in", "feature_output_hook": "hook_mlp_out"}
_ACROSS = "cross_layer_transcoder"
_TEXT = Instance(str, type(None), description="a str or None")


def read_circuit_tracer(path, *, layer=None, dtype=None):
    """Read transcoders, per layer or across layers, from a folder of circuit-tracer.

    Parameters
    ----------
    path : str or Path
        The folder, with ``config.yaml`` and ``layer_0.safetensors``, ``layer_1.safetensors`` and
        so on; or one of these files, with ``config.yaml`` beside it. The folder of a cross-layer
        transcoder has ``W_enc_0.safetensors``, ``W_dec_0.safetensors`` and so on instead.
    layer : int, default=None
        The only layer that is read. None reads all, or that of the file.
    dtype : {"float32", "float64", None}, default=None
        Of the weights. None takes float64 if the file has it, else float32.

    Returns
    -------
    transcoders : list of Transcoder, or Transcoder
        One fitted estimator per layer, in the order of the layers; a single one if a layer or a
        file is named. Each has ``source_``, a dict of where it is from, with the hook that it reads
        and the hook that it writes. Of a cross-layer transcoder, that of layer l predicts what its
        codes add to the MLPs of layers l, l + 1 and so on, side by side; the sum of all predictions
        for an MLP is what stands for it.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, file or layer.
    ValueError
        If a file is damaged, layers are missing, or codes can be negative.

    See Also
    --------
    write_circuit_tracer : Writes such folders.
    sksae.ActivationExtractor.for_sae : Reads both sites of a transcoder, with ``with_target=True``.
    read : Finds out which library wrote a file.

    Notes
    -----
    A transcoder without thresholds has a ReLU, unless ``config.yaml`` has ``activation: topk`` and
    ``k``. Codes are then the k largest of a row that are positive; circuit-tracer keeps k numbers
    where fewer are positive, too.

    References
    ----------
    .. [1] M. Hanna, M. Piotrowski et al., "circuit-tracer", 2025.
       https://github.com/decoderesearch/circuit-tracer

    Examples
    --------
    >>> import numpy as np
    >>> from tempfile import TemporaryDirectory
    >>> from sksae import SparseAutoencoder, Transcoder
    >>> from sksae.formats import read_circuit_tracer, write_circuit_tracer
    >>> X = np.random.default_rng(0).normal(size=(500, 8))
    >>> transcoders = [
    ...     Transcoder(SparseAutoencoder(16, max_iter=2, random_state=layer)).fit(X, abs(X))
    ...     for layer in range(2)
    ... ]
    >>> with TemporaryDirectory() as folder:
    ...     path = write_circuit_tracer(folder, transcoders, model="gpt2", site="resid_mid")
    ...     again = read_circuit_tracer(path)
    ...     last = read_circuit_tracer(path, layer=1)
    >>> len(again), again[1].source_["layer"], again[1].source_["hook_name_out"]
    (2, 1, 'blocks.1.hook_mlp_out')
    >>> bool((last.predict(X) == transcoders[1].predict(X)).all())
    True
    """
    check_option("dtype", dtype, DTYPE)
    check_option("layer", layer, Int(0, none=True))
    path = as_path(path)
    folder = path if path.is_dir() else path.parent
    config, where = _configuration(folder)
    if config.get("model_kind") == _ACROSS:
        if not path.is_dir():
            layer = _layer_of(path, layer, ACROSS_FILE)
        if layer is not None:
            return _across(config, folder, layer, None, dtype)
        n_layers = count_layers(folder)
        return [_across(config, folder, i, n_layers, dtype) for i in range(n_layers)]
    files = _layer_files(folder)
    if not path.is_dir():
        layer = _layer_of(path, layer)
    elif layer is None:
        _check_complete(folder, files)
        return [_transcoder(config, where, files[n], n, dtype) for n in range(len(files))]
    if layer not in files:
        regular(folder / f"layer_{layer}.safetensors")  # raises
    return _transcoder(config, where, files[layer], layer, dtype)


def write_circuit_tracer(path, transcoders, *, model=None, site=None, target_site=None, scan=None):
    """Write one transcoder per layer, or one across layers, as a folder that circuit-tracer loads.

    The folder goes into circuit-tracer's cache, ``~/.cache/circuit_tracer/<owner>/<name>``, or to
    the hub. Weights are written as they are; parameters and names are lost.

    Parameters
    ----------
    path : str or Path
        The folder; made if needed. Files of the same layers are replaced.
    transcoders : list of Transcoder
        A fitted transcoder for each layer of the model, from the first layer on, all of one width.
        If each predicts the MLPs of its own and of all later layers, side by side, they are
        written as a cross-layer transcoder, with the intercepts for an MLP added up.
        Those of a `TopKSAE` are marked by ``activation: topk``, which version 0.5.0 of
        circuit-tracer does not look at: it takes them for a ReLU's.
    model : str, default=None
        The name of the model on the hub. None takes it from ``source_``.
    site, target_site : str, default=None
        What the transcoders read, such as ``"resid_mid"``, and what they predict: sites inside a
        block, or the rest of a name of TransformerLens, such as ``"mlp.hook_in"``. None takes them
        from ``source_``; without it `target_site` is ``"mlp_out"``.
    scan : str, default=None
        What circuit-tracer's viewer calls the set. None leaves it to circuit-tracer.

    Returns
    -------
    path : Path
        The folder.

    Raises
    ------
    TypeError
        If `transcoders` is no list of transcoders.
    ValueError
        If model or site are not known, transcoders differ in width, activation or sites, predict
        rows of another width than they read, or the folder has more layers already.

    See Also
    --------
    read_circuit_tracer : Reads such folders.

    Examples
    --------
    >>> import numpy as np
    >>> from tempfile import TemporaryDirectory
    >>> from sksae import SparseAutoencoder, Transcoder
    >>> from sksae.formats import write_circuit_tracer
    >>> X = np.random.default_rng(0).normal(size=(500, 8))
    >>> transcoder = Transcoder(SparseAutoencoder(16, max_iter=2, random_state=0)).fit(X, abs(X))
    >>> with TemporaryDirectory() as folder:
    ...     path = write_circuit_tracer(folder, [transcoder], model="gpt2", site="resid_mid")
    ...     print(sorted(file.name for file in path.iterdir()))
    ...     print((path / "config.yaml").read_text())
    ['config.yaml', 'layer_0.safetensors']
    model_kind: transcoder_set
    model_name: gpt2
    feature_input_hook: hook_resid_mid
    feature_output_hook: hook_mlp_out
    activation: relu
    <BLANKLINE>
    """
    for name, text in {
        "model": model,
        "site": site,
        "target_site": target_site,
        "scan": scan,
    }.items():
        check_option(name, text, _TEXT)
    path, records = as_path(path), _records(transcoders)
    model = model or _agreed("model", [record.source.get("model") for record in records])
    hooks = [
        _hook_of(records, "site", "hook_name", site),
        _hook_of(records, "target_site", "hook_name_out", target_site, default="mlp_out"),
    ]
    is_across = are_across(records)
    config = {
        "model_kind": _ACROSS if is_across else "transcoder_set",
        "model_name": model,
        **dict(zip(_HOOKS, hooks, strict=True)),
        **({} if scan is None else {"scan": scan}),
        **({} if is_across else _activation(records)),
    }
    if is_across:
        write_across(path, records, [_tensors(record) for record in records])
        write_text(path / CONFIG, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        return path
    more = sorted(set(_layer_files(path)) - set(range(len(records))))
    if more:
        raise ValueError(
            f"{path} has layers {more[0]} to {more[-1]} of another set, which would be read as "
            f"part of this one: write to another folder."
        )
    for layer, record in enumerate(records):
        write_safetensors(path / f"layer_{layer}.safetensors", _tensors(record))
    # Last, since circuit-tracer takes a folder with it for whole.
    write_text(path / CONFIG, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    return path


class _PlainLoader(yaml.SafeLoader):
    """YAML without references, which can make a short text endless."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise ValueError("it refers to parts of itself")
        return super().compose_node(parent, index)


def _read_yaml(path):
    """Return the mapping in a YAML file."""
    with damage_named(path):
        data = regular(path).read_bytes()
        if len(data) > _MOST_BYTES:
            raise ValueError(f"it has {len(data):,} bytes, too many for a configuration")
        content = yaml.load(data.decode("utf-8"), Loader=_PlainLoader)
        if not isinstance(content, dict):
            raise ValueError("it holds no mapping of names to values")
    return content


def _configuration(folder):
    """Return the configuration of a folder, and its file."""
    where = folder / CONFIG
    # Some of mwhanna's sets have the configuration of their training instead.
    if not where.is_file() and any((folder / name).is_file() for name in TRAINING_CONFIGS):
        return _MLP_HOOKS, where
    config = _read_yaml(where)
    kind = take(config, "model_kind", _TEXT, where, default="transcoder_set")
    if kind not in ("transcoder_set", _ACROSS):
        raise ValueError(
            f"{where} has the model_kind {brief(kind)}; it must be 'transcoder_set' or {_ACROSS!r}."
        )
    if config.get("transcoders") and not (_layer_files(folder) or count_files(folder)):
        places = config["transcoders"]
        first = brief(places[0] if isinstance(places, list) else places)
        raise ValueError(
            f"{where} names files in other places, the first of them {first}: read each by itself, "
            f"as from_pretrained('owner/name', 'folder')."
        )
    return config, where


def _layer_files(folder):
    """Return the files of weights by layer."""
    names = {path: LAYER_FILE.fullmatch(path.name) for path in folder.glob("layer_*.safetensors")}
    return {int(match[1]): path for path, match in names.items() if match}


def _layer_of(path, layer, pattern=LAYER_FILE):
    """Return the layer in the name of a file."""
    match = pattern.fullmatch(regular(path).name)
    if match is None:
        example = "layer_0" if pattern is LAYER_FILE else "W_enc_0"
        raise ValueError(f"{path} must be a folder, or be named as {example}.safetensors.")
    if layer not in (None, int(match[1])):
        raise ValueError(f"layer={layer} is not the layer of {path}.")
    return int(match[1])


def _check_complete(folder, files):
    missing = sorted(set(range(max(files, default=0) + 1)) - set(files))
    if missing:
        raise FileNotFoundError(
            f"There is no layer_{missing[0]}.safetensors in {folder}. Name the layer that you "
            f"want as layer=..."
        )


def _transcoder(config, where, path, layer, dtype):
    """Return the estimator of one layer."""
    name = take(config, "activation", Option(*_ACTIVATIONS, None), where, default=None)
    optional = ("W_skip", THRESHOLD)
    arrays = read_tensors(path, _LAYOUT, optional=optional, dtype=dtype)
    threshold = arrays.get(THRESHOLD)
    stored = "relu" if threshold is None else "jumprelu"
    activation = stored if name is None else _ACTIVATIONS[name]
    if (activation == "jumprelu") != (stored == "jumprelu"):
        has = "no" if threshold is None else "a"
        raise ValueError(f"{where} has the activation {name!r}, but {path} has {has} {THRESHOLD}.")
    if threshold is not None and (threshold < 0).any():
        raise ValueError(f"{path} has thresholds below 0, so that codes can be negative.")
    weights = raw_units(
        arrays["W_enc"],
        arrays["W_dec"],
        arrays["b_enc"],
        arrays["b_dec"],
        threshold=threshold,
        skip=arrays.get("W_skip"),
        path=path,
    )
    source = _source(config, layer)
    k = take(config, "k", SIZE, where) if activation == "topk" else None
    return estimator(activation, weights, source, k=k, transcoder=True)


def _across(config, folder, layer, n_layers, dtype):
    """Return the estimator of one layer of a cross-layer transcoder."""
    activation, weights = read_across(folder, layer, n_layers, dtype)
    n_written = weights["components"].shape[1] // weights["encoder_coef"].shape[1]
    source = _source(config, range(layer, layer + n_written))
    return estimator(activation, weights, source, transcoder=True)


def _source(config, layer):
    """Return the facts of one layer; hooks are named within a block, or with a place for it.

    `layer` may be a range: the layer that is read, and all of those that are written.
    """
    layers = layer if isinstance(layer, range) else [layer]
    layer, hooks = layers[0], {}
    for name, hook in zip(("hook_name", "hook_name_out"), _HOOKS, strict=True):
        text = text_or_none(config, hook)
        if text is not None:
            inside = text if "{layer}" in text else f"blocks.{{layer}}.{text}"
            hooks[name] = inside.replace("{layer}", str(layer))
            if name == "hook_name_out" and len(layers) > 1:
                hooks[name] = [inside.replace("{layer}", str(i)) for i in layers]
    return source_facts(
        "circuit_tracer",
        **hooks,
        model=text_or_none(config, "model_name"),
        layer=layer,
        scan=text_or_none(config, "scan"),
    )


def _records(transcoders):
    """Return what the writer needs to know of each layer, all of it checked."""
    if not isinstance(transcoders, (list, tuple)) or not transcoders:
        raise TypeError(
            f"transcoders must be a list of transcoders, one per layer. Got {brief(transcoders)} "
            f"instead."
        )
    for transcoder in transcoders:
        if not isinstance(transcoder, Transcoder):
            raise TypeError(f"transcoders must be of transcoders. Got {brief(transcoder)}.")
    records = [read_fitted(transcoder, transcoders=True) for transcoder in transcoders]
    for layer, record in enumerate(records):
        if record.source.get("layer", layer) != layer:
            raise ValueError(
                f"transcoders must be in the order of the layers, from 0 on: number {layer} is of "
                f"layer {record.source['layer']}."
            )
    if are_across(records):
        return records
    shapes = [
        (*record.arrays["components"].shape, record.arrays["encoder_coef"].shape[1])
        for record in records
    ]
    for n, t, d in shapes:
        if t != d:
            raise ValueError(f"circuit-tracer's targets are as wide as its inputs: {t} is not {d}.")
        if (n, d) != (shapes[0][0], shapes[0][2]):
            raise ValueError(
                f"circuit-tracer's layers are of one width: {n} latents of {d} features are not "
                f"{shapes[0][0]} of {shapes[0][2]}."
            )
    return records


def _activation(records):
    """Return the entries of the configuration that say how codes are made."""
    names = {"relu": "relu", "topk": "topk"}
    kinds = {names.get(record.activation, "jumprelu") for record in records}
    if kinds != {"topk"}:
        if "topk" in kinds:
            raise ValueError("circuit-tracer has the k largest in all layers, or in none.")
        return {"activation": kinds.pop()} if len(kinds) == 1 else {}
    if len({record.k for record in records}) > 1:
        raise ValueError("circuit-tracer has the same k in all layers.")
    return {"activation": "topk", "k": records[0].k}


def _hook_of(records, name, fact, site, default=None):
    """Return the name of a hook within its block."""
    if site is None:
        # source_ has a hook if the transcoder was read, the site if it was saved with an extractor.
        hooks = [record.source.get(fact, record.source.get(name)) for record in records]
        # Across layers, the first hook is that of the layer itself.
        hooks = [hook[0] if isinstance(hook, list) else hook for hook in hooks]
        hooks = [hook and re.sub(r"^blocks\.\d+\.", "", hook) for hook in hooks]
        site = default if default and hooks[0] is None else _agreed(name, hooks)
    return f"hook_{site}" if site in IN_BLOCKS else site


def _agreed(name, values):
    """Return the value that all layers have."""
    if None in values:
        raise ValueError(f"A transcoder does not say its {name}: give {name}=...")
    if len(set(values)) > 1:
        raise ValueError(f"Transcoders are not of one {name}: {', '.join(sorted(set(values)))}.")
    return values[0]


def _tensors(record):
    arrays = record.arrays
    tensors = {
        "W_enc": arrays["encoder_coef"],
        "W_dec": arrays["components"],
        "b_enc": arrays["encoder_intercept"],
        "b_dec": arrays["intercept"],
    }
    if "threshold" in arrays:
        # What is not above 0 is no code here, and would be one there.
        tensors[THRESHOLD] = np.maximum(arrays["threshold"], 0)
    if "skip_coef" in arrays:
        tensors["W_skip"] = arrays["skip_coef"]
    return tensors
