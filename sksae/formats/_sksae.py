"""Reader of the files that `save` writes, with a check of everything in them."""

import json
from inspect import signature

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from sklearn.base import clone

from sksae import autoencoders
from sksae._files import damage_named, digest_of, regular
from sksae._params import Bool, Float, Int, check_params
from sksae._saved_layout import CURVES, DIGEST, HEADER, MOMENTS, NUMBER, SCALARS, VERSION
from sksae.autoencoders import BaseSAE, fitted

_RULES = {
    **dict.fromkeys(("n_components_", "n_features_in_", "batch_size_"), Int(1)),
    **dict.fromkeys(("n_iter_", "n_steps_"), Int(0)),
    "learning_rate_": Float(0, open_="low"),
    "single_target_": Bool(),
}
_ALWAYS = {"n_components_", "n_features_in_", "n_iter_", "n_steps_"}
_ENTRIES = {
    "class": str,
    "params": dict,
    "fitted": dict,
    "curves": dict,
    "feature_names": dict,
    "explanations": dict,
    "feature_names_in": list,
    "source": dict,
    "stream": dict,
}
_NEEDED = ("class", "params", "fitted", "curves")
_STREAM_TYPES = {
    "since_fired": np.int64,
    "generator": np.uint8,
    "mean": np.float64,
    "scale": np.float64,
}


def load(path):
    """Read an estimator that its method `save` wrote.

    No code in the file can run: the class is one of those here, by its name, and everything else is
    numbers and text, which are checked.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    sae : BaseSAE
        The fitted estimator, with the arrays, parameters, curves, names, explanations and
        ``source_`` that it was saved with.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not such a file, is damaged, or was written by a later version; with its name.

    See Also
    --------
    sksae.formats.read : Reads the files of other libraries.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import sksae
    >>> from sksae.datasets import make_superposition
    >>> X, _, _ = make_superposition(500, 8, 16, random_state=0)
    >>> sae = sksae.TopKSAE(16, k=2, max_iter=5, random_state=0).fit(X)
    >>> with TemporaryDirectory() as folder:
    ...     again = sksae.load(sae.save(Path(folder) / "sae.safetensors"))
    >>> again
    TopKSAE(k=2, max_iter=5, n_components=16, random_state=0)
    >>> bool((again.transform(X) == sae.transform(X)).all())
    True
    """
    with damage_named(path, "cannot be loaded"):
        metadata, arrays = _content(regular(path))
        return _estimator(_header(metadata, arrays), arrays)


def _content(path):
    """Return the metadata and the arrays of a file; they are no larger than it is."""
    try:
        with safe_open(path, framework="np") as file:
            names = file.keys()
            return file.metadata() or {}, {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise ValueError(f"it is not a whole safetensors file ({error})") from error


def _header(metadata, arrays):
    if HEADER not in metadata:
        raise ValueError("sksae did not write it. Read files of other libraries with formats.read")
    if metadata.get(DIGEST) != digest_of(metadata[HEADER], arrays):
        raise ValueError("it is damaged: its digest is not that of its content")
    header = json.loads(metadata[HEADER], object_pairs_hook=_once, parse_constant=_no_constant)
    if not isinstance(header, dict):
        raise ValueError("its header is not an object")
    version = header.pop("version", None)
    if not Int(1).accepts(version):
        raise ValueError(f"its version is {version!r}")
    if version > VERSION:
        raise ValueError(f"it has version {version} of the format, this sksae reads {VERSION}")
    unknown, missing = sorted(set(header) - set(_ENTRIES)), [n for n in _NEEDED if n not in header]
    if unknown or missing:
        raise ValueError(f"its header has {unknown} that are not known, and lacks {missing}")
    for name, value in header.items():
        if not isinstance(value, _ENTRIES[name]):
            raise ValueError(f"{name!r} in its header is {type(value).__name__}")
    return header


def _once(pairs):
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("its header has a key twice")
    return entries


def _no_constant(name):
    raise ValueError(f"its header has a {name}")


def _estimator(header, arrays):
    sae = _unfitted(header["class"], header["params"])
    curves = _curves(header["curves"])
    weights = sorted(name for name in arrays if not name.startswith("stream."))
    kinds = {arrays[name].dtype.name for name in weights}
    if kinds not in ({"float32"}, {"float64"}):
        raise ValueError(
            f"its arrays are of the types {sorted(kinds)}, not all float32 or all float64"
        )
    fitted(sae, {name: arrays[name] for name in weights})
    scalars = _scalars(sae, header["fitted"])
    for name in ("n_components_", "n_features_in_"):
        if scalars[name] != getattr(sae, name):
            raise ValueError(f"{name} is {scalars[name]}, but its arrays say {getattr(sae, name)}")
    del sae.source_
    vars(sae).update({**scalars, **curves})
    if "source" in header:
        sae.source_ = _restored(header["source"])
    _add_words(sae, header)
    # Arrays of a stream are there if and only if its numbers are.
    if ("stream" in header) != (len(weights) < len(arrays)):
        raise ValueError("its state of partial_fit is not whole")
    if "stream" in header:
        sae._stream = _stream(sae, header["stream"], arrays)
    return sae


def _unfitted(name, params):
    cls = getattr(autoencoders, name, None) if name in autoencoders.__all__ else None
    if not isinstance(cls, type) or not issubclass(cls, BaseSAE) or cls is BaseSAE:
        raise ValueError(f"there is no estimator {name!r}")
    unknown = sorted(set(params) - set(cls._param_rules))
    if unknown:
        raise ValueError(f"{name} has no parameters {unknown}")
    required = [n for n, p in signature(cls).parameters.items() if p.default is p.empty]
    if not set(required) <= set(params):
        raise ValueError(f"{name} lacks the parameters {required}")
    sae = cls(**{key: _parameter(value) for key, value in params.items()})
    check_params(sae)
    check_params(sae._settings)
    return sae


def _parameter(value):
    if isinstance(value, dict):
        if set(value) == {"class", "params"} and isinstance(value["params"], dict):
            return _unfitted(value["class"], value["params"])
        if all(Int(1).accepts(width) for width in value.values()):  # of blocks by name
            return value
        if list(value) != ["RandomState"]:
            raise ValueError("a parameter is an object")
        return random_state(value["RandomState"])
    return tuple(value) if isinstance(value, list) else value


def _scalars(sae, scalars):
    """Return the numbers of a fit, each checked by its rule; they become the objective's, too."""
    resolved = {name + "_": name for name in sae._objective.resolved}
    allowed = set(SCALARS) | set(resolved)
    missing, unknown = sorted(_ALWAYS - set(scalars)), sorted(set(scalars) - allowed)
    if missing or unknown:
        raise ValueError(f"what was fitted lacks {missing}, and has {unknown} that are not known")
    scalars = {name: tuple(v) if isinstance(v, list) else v for name, v in scalars.items()}
    rules = {**sae._settings._param_rules, **sae._param_rules}
    for name, value in scalars.items():
        # A resolved parameter is checked by the rule of the parameter, and is never None.
        rule = _RULES[name] if name in _RULES else rules[resolved[name]]
        if value is None or not rule.accepts(value):
            raise ValueError(f"{name} is {value!r}, not {rule}")
    _resolve(sae, {resolved[name]: scalars[name] for name in set(resolved) & set(scalars)})
    return scalars


def _resolve(sae, values):
    """Restore the objective of the fit, with its parameters as they were resolved then."""
    as_fitted = clone(sae)
    for name, value in values.items():
        owner = as_fitted if name in as_fitted._param_rules else as_fitted._settings
        owner.set_params(**{name: value})
    (m, t), d = sae.components_.shape, sae.n_features_in_
    sae._objective = as_fitted._make_objective(d, m, t)
    for name, value in values.items():
        if getattr(sae._objective, name) != value:
            raise ValueError(f"{name}_ is {value}, of {m} components")


def _curves(found):
    curves = {}
    for name, values in found.items():
        if name not in CURVES or not isinstance(values, list):
            raise ValueError(f"the curve {name!r} is not known")
        curves[name] = _restored(values)
        if not all(isinstance(value, float) for value in curves[name]):
            raise ValueError(f"{name} has entries that are not numbers")
    return curves


def _restored(value):
    """Return a value of the header with the numbers that JSON does not have."""
    if isinstance(value, list):
        return [_restored(inner) for inner in value]
    if isinstance(value, dict):
        if list(value) == [NUMBER] and value[NUMBER] in ("nan", "inf", "-inf"):
            return float(value[NUMBER])
        return {key: _restored(inner) for key, inner in value.items()}
    return value


def _add_words(sae, header):
    if "feature_names_in" in header:
        names = header["feature_names_in"]
        if len(names) != sae.n_features_in_ or not all(isinstance(name, str) for name in names):
            raise ValueError("feature_names_in does not have one name per column")
        sae.feature_names_in_ = np.array(names, dtype=object)
    sae.set_feature_names(_by_component(header.get("feature_names", {})))
    explanations = _by_component(header.get("explanations", {}))
    if not set(explanations) <= set(range(sae.n_components_)):
        raise ValueError("it explains components that it does not have")
    if explanations:
        sae.explanations_ = _restored(explanations)


def _by_component(words):
    if not all(key.isdecimal() and len(key) < 10 for key in words):
        raise ValueError("words belong to components by their number")
    return {int(key): value for key, value in words.items()}


def _stream(sae, numbers, given):
    """Return the state that `partial_fit` goes on from, every array of the shape that it needs."""
    rules = {"n_steps": Int(0), "density": Float(0), "dead_window": Int(1), "one_scale": Bool()}
    if set(numbers) != set(rules) or not all(rules[n].accepts(v) for n, v in numbers.items()):
        raise ValueError("its state of partial_fit has numbers that are not right")
    declared = sae._objective.declared
    weights = {name: weight.axes for name, weight in declared.items() if weight.trained}
    shapes = _stream_shapes(sae, weights, one_scale=numbers["one_scale"])
    if {n for n in given if n.startswith("stream.")} != {f"stream.{n}" for n in shapes}:
        raise ValueError("its state of partial_fit is not whole")
    arrays = {}
    for name, shape in shapes.items():
        array = arrays[name] = given[f"stream.{name}"]
        kind = _STREAM_TYPES.get(name, sae.components_.dtype)
        if (shape is not None and array.shape != shape) or array.dtype != kind:
            raise ValueError(f"stream.{name} is {array.dtype.name} of shape {array.shape}")
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"stream.{name} has entries that are not finite")
    check_generator(arrays["generator"])
    return {
        "run": {
            "weights": {name: arrays[f"weights.{name}"] for name in weights},
            "moments": {name: [arrays[f"{k}.{name}"] for k in MOMENTS] for name in weights},
            "since_fired": arrays["since_fired"],
            "n_steps": numbers["n_steps"],
            "density": numbers["density"],
        },
        "generator": arrays["generator"],
        "mean": arrays["mean"],
        "scale": float(arrays["scale"][0]) if numbers["one_scale"] else arrays["scale"],
        "dead_window": numbers["dead_window"],
    }


def _stream_shapes(sae, weights, *, one_scale):
    d, (m, t) = sae.n_features_in_, sae.components_.shape
    # A transcoder's unit covers inputs and targets.
    total = d + t if hasattr(sae, "single_target_") else d
    axes = {"m": m, "d": d, "t": t}
    shapes = {
        f"{kind}.{name}": tuple(axes[axis] for axis in order)
        for name, order in weights.items()
        for kind in ("weights", *MOMENTS)
    }
    sizes = {"since_fired": (m,), "mean": (total,), "scale": (1 if one_scale else total,)}
    return {**shapes, **sizes, "generator": None}


# Of a Mersenne Twister: words of its state, and one more than the largest word.
_WORDS, _LARGEST = 624, 2**32
_HALVES = 2**31  # of the first word only the highest bit is part of the state
_FIELDS = np.dtype(
    [
        *(("seed", "<u8"), ("left", "<i4"), ("seeded", "<i4"), ("next", "<u8")),
        *(("words", "<u8", _WORDS), ("rest", "u1", 40)),
    ]
)
"""The state of torch's generator on the CPU."""


def random_state(state):
    """Return the `RandomState` of a state as `RandomState.get_state` has it.

    Raises
    ------
    ValueError
        If a generator does not have such states.
    """
    if not isinstance(state, list) or len(state) != 5:
        raise ValueError("its RandomState has not the five parts of one")
    # The second normal number of a pair is kept for the next call: `gauss`.
    kind, words, position, has_gauss, gauss = state
    right = kind == "MT19937" and isinstance(words, list) and len(words) == _WORDS
    if not right or not all(Int(0, _LARGEST - 1).accepts(word) for word in words):
        raise ValueError(f"its RandomState is not a MT19937 with {_WORDS} words of 32 bits")
    if not Int(0, _WORDS).accepts(position) or not Int(0, 1).accepts(has_gauss):
        raise ValueError(f"its RandomState has a position that is not in [0, {_WORDS}]")
    if not Float().accepts(gauss):
        raise ValueError("its RandomState has a normal number that is not finite")
    _check_words(np.array(words, dtype=np.uint64))
    made = np.random.RandomState()
    made.set_state((kind, np.array(words, dtype=np.uint32), position, has_gauss, gauss))
    return made


def check_generator(raw):
    """Raise a ValueError if bytes are not a state of torch's generator on the CPU."""
    if raw.shape != (_FIELDS.itemsize,) or raw.dtype != np.uint8:
        raise ValueError("its state of the random numbers is not right")
    fields = raw.view(_FIELDS)[0]
    remaining, following = int(fields["left"]), int(fields["next"])
    # `remaining` falls and `following` rises with each number; the first is drawn from new words.
    within = following > 0 and remaining + following == _WORDS + 1
    unused = (remaining, following) == (1, 0)
    if not (within or unused):
        raise ValueError("its state of the random numbers has a position outside of its words")
    _check_words(fields["words"])
    try:
        torch.Generator().set_state(torch.from_numpy(raw.copy()))
    except RuntimeError as error:
        raise ValueError("its state of the random numbers is not right") from error


def _check_words(words):
    if (words >= _LARGEST).any() or (words[0] < _HALVES and not words[1:].any()):
        raise ValueError("its state of the random numbers has words that no generator has")
