"""Model, layer and site that an autoencoder was trained on, from its ``source_``."""

import re
from pathlib import Path

from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from sksae._hook_names import IN_BLOCKS, site_of_hook
from sksae.language_models.extraction._activation_reader import places_of
from sksae.language_models.model import is_transcoder

# Names that TransformerLens has for models, and what the hub calls them.
_MODELS = [
    ("gpt2-small|gpt2", "openai-community/gpt2"),
    ("gpt2-(?:medium|large|xl)", "openai-community/{0}"),
    ("(gemma-2-\\w+)-pt", "google/{1}"),
    ("gemma-.+", "google/{0}"),
    ("pythia-.+", "EleutherAI/{0}"),
    ("mistral-7b", "mistralai/Mistral-7B-v0.1"),
]
_HOOKS = [
    (r"(?:model\.)?layers\.(\d+)\.output", "resid_post"),
    (r"(?:model\.)?layers\.(\d+)\.input", "resid_pre"),
]
# Hooks that are the output of a module, by what the model's name begins with.
_MODULES = {
    ("gpt2", "mlp.hook_post"): "h.{}.mlp.act",
    ("pythia", "mlp.hook_post"): "layers.{}.mlp.act",
    ("gpt2", "attn.hook_z"): "h.{}.attn.c_proj.input",
    ("pythia", "attn.hook_z"): "layers.{}.attention.dense.input",
    ("gemma", "attn.hook_z"): "layers.{}.self_attn.o_proj.input",
    ("llama", "attn.hook_z"): "layers.{}.self_attn.o_proj.input",
}
# Hooks that `ActivationExtractor` knows by name in every model that has them.
_BY_NAME = re.compile(r"blocks\.\d+\.(mlp\.hook_(in|out)|ln2\.hook_normalized)")
_OTHER_NAMES = {"context_size": "max_length"}


def extractor_params(source, names, params):
    """Return the parameters of the extractor that an autoencoder is for.

    Parameters
    ----------
    source : dict
        What the autoencoder says about its origin.
    names : list of str
        The parameters of an extractor.
    params : dict
        Parameters that win over those of the source.

    Returns
    -------
    params : dict
        All parameters that are given or follow from the source.
    """
    named = {_OTHER_NAMES.get(name, name): value for name, value in source.items()}
    named = {n: value for n, value in named.items() if n in names and value is not None}
    model = params.get("model", named.get("model"))
    location = {name: named.pop(name) for name in ("layer", "site") if name in named}
    site = params.get("site", location.get("site"))
    elsewhere = site is None and {"hook_name", "module"} & set(source)
    if "site" not in params and ("layer" not in params or elsewhere):
        location = _location(source, location, model)
    elif site not in IN_BLOCKS:
        location = {}
    named |= location
    if "model" in named:
        named["model"] = hub_name(named["model"])
    if model is None:
        raise ValueError(
            f"The autoencoder does not say which model it is for: give it as model=... What it "
            f"says is {source}."
        )
    return {**named, **params}


def with_target_site(source, params, explicit):
    """Return the parameters of an extractor of what a transcoder reads and of what it predicts.

    Parameters
    ----------
    source : dict
        What the transcoder says about its origin.
    params : dict
        From `extractor_params`: the extractor of what it reads.
    explicit : dict
        Parameters that were given by the user.

    Returns
    -------
    params : dict
        The parameters, with a list of two sites.

    Raises
    ------
    ValueError
        If layer or site were given, or the transcoder does not say where it writes.
    """
    if {"layer", "site"} & set(explicit):
        raise ValueError("With layer or site, give both sites as site=[...], without with_target.")
    if "target" in source:
        target = dict(zip(("layer", "site"), source["target"], strict=True))
    elif "module_out" in source:
        target = {"site": source["module_out"]}
    elif "hook_name_out" in source:
        hook = source["hook_name_out"]
        layer_and_site = site_of_hook(hook)
        names = ("layer", "site")
        target = dict(zip(names, layer_and_site, strict=True)) if layer_and_site else {}
        target = target or _location({"hook_name": hook}, {}, params["model"])
    else:
        raise ValueError(
            f"It does not say which site it predicts, as transcoders do that were read from a "
            f"file, or saved with the extractor of both sites: give both sites as site=[...]. "
            f"What it says is {source}."
        )
    return {**params, "layer": None, "site": [_in_one_piece(params), _in_one_piece(target)]}


def _in_one_piece(params):
    """Return layer and site as an entry of a list of sites."""
    layer = params.get("layer")
    return params["site"] if layer is None else (layer, params["site"])


def source_of(sae):
    """Return the ``source_`` of an autoencoder, whatever it is wrapped in.

    Raises
    ------
    ValueError
        If it has none.
    """
    wrapped = sae
    while not hasattr(wrapped, "source_"):
        if isinstance(wrapped, Pipeline):
            wrapped = wrapped[-1]
        elif isinstance(wrapped, FrozenEstimator):
            wrapped = wrapped.estimator
        elif hasattr(wrapped, "best_estimator_"):
            wrapped = wrapped.best_estimator_
        else:
            name = type(sae).__name__ if isinstance(sae, BaseEstimator) else repr(sae)
            raise ValueError(
                f"{name} does not say what it was trained on: it has no source_, as autoencoders "
                f"have that were read from a file. Use ActivationExtractor(model, layer, site)."
            )
    return _target_apart(wrapped.source_) if is_transcoder(wrapped) else wrapped.source_


def _target_apart(source):
    """Return the origin of a transcoder with the site that it reads, and with that it predicts.

    One that was saved with the extractor of its rows and targets has a list of both.
    """
    layer, site = source.get("layer"), source.get("site", "resid_post")
    if not isinstance(site, list | tuple) and not isinstance(layer, list | tuple):
        return source
    places = places_of(layer, site)
    if len(places) != 2:
        raise ValueError(
            f"A transcoder reads one site and predicts another, but was saved with an extractor of "
            f"{len(places)}: give the sites as site=[...]. What it says is {source}."
        )
    (layer, site), target = places
    return {**source, "layer": layer, "site": site, "target": target}


def hub_name(model):
    """Return the name that the hub has for a model of TransformerLens; other names as they are."""
    if "/" in model or Path(model).exists():
        return model
    for pattern, name in _MODELS:
        if match := re.fullmatch(pattern, model):
            return name.format(match[0], *match.groups())
    return model


def _location(source, location, model):
    """Return layer and site as a dict, from the names that the source has for them."""
    if location.get("site") == "embeddings":
        return {"site": "embeddings"}
    if "module" in source and location.get("site") != "resid_post":
        return {"site": source["module"]}
    if "site" in location:
        return location
    hook = source.get("hook_name") or ""
    for pattern, site in _HOOKS:
        if match := re.fullmatch(pattern, hook):
            return {"layer": int(match[1]), "site": site}
    if match := re.fullmatch(r"(?:model\.)?(layers\.\d+\.[\w.]+?)(\.input|\.output)", hook):
        return {"site": match[1] + match[2].removesuffix(".output")}
    if module := _module(hook, model):
        return {"site": module}
    if _BY_NAME.fullmatch(hook):
        return {"site": hook}
    if hook:
        raise ValueError(
            f"The autoencoder reads {hook!r}, for which ActivationExtractor has no word. If it is "
            f"what some module puts out, give the path of that module as site=..."
        )
    raise ValueError(
        f"The autoencoder does not say where in the model it reads: give layer=... and site=... "
        f"What it says is {source}."
    )


def _module(hook, model):
    """Return the path of the module whose output a hook of TransformerLens is, None if unknown."""
    match = re.fullmatch(r"blocks\.(\d+)\.([\w.]+)", hook)
    family = str(model).rpartition("/")[2].lower()
    for (name, point), path in _MODULES.items():
        if match and match[2] == point and family.startswith(name):
            return path.format(match[1])
    return None
