"""The extractor that reads what an autoencoder was trained on, by what it says of itself."""

import re
from pathlib import Path

from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from sksae.language_models.model import SITES

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
_IN_BLOCKS = tuple(site for site in SITES if site != "embeddings")
_OTHER_NAMES = {"context_size": "max_length"}


class ForSAE:
    """Mixin: the constructor that asks a fitted autoencoder for the parameters."""

    @classmethod
    def for_sae(cls, sae, **params):
        """Return the extractor of the activations that an autoencoder is for.

        Model, layer, site and choice of tokens come from ``source_``, which an autoencoder has that
        was read from a file or the hub, or saved with its extractor.

        Parameters
        ----------
        sae : estimator
            A fitted autoencoder, a pipeline that ends with one, a search over one, or a
            `FrozenEstimator` of any of these.
        **params
            Parameters of the extractor; they win over what the autoencoder says.

        Returns
        -------
        extractor : ActivationExtractor
            The extractor; nothing is loaded yet.

        Raises
        ------
        ValueError
            If the model or the place in it is not known, with what is.

        See Also
        --------
        sksae.formats.from_pretrained : Published autoencoders.

        Examples
        --------
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import sksae
        >>> from sksae.datasets import TINY_LM_PATH, load_corpus
        >>> extractor = sksae.ActivationExtractor(TINY_LM_PATH, layer=2, site="mlp_out")
        >>> rows = extractor.transform(load_corpus().data[:20])
        >>> sae = sksae.TopKSAE(64, k=4, max_iter=2, random_state=0).fit(rows)
        >>> with TemporaryDirectory() as folder:
        ...     path = sae.save(Path(folder) / "sae.safetensors", extractor=extractor)
        ...     again = sksae.load(path)
        >>> twin = sksae.ActivationExtractor.for_sae(again)
        >>> twin.layer, twin.site
        (2, 'mlp_out')
        """
        source = source_of(sae)
        known = {_OTHER_NAMES.get(name, name): value for name, value in source.items()}
        known = {n: v for n, v in known.items() if n in cls._get_param_names() and v is not None}
        model = params.get("model", known.get("model"))
        place = {n: known.pop(n) for n in ("layer", "site") if n in known}
        site = params.get("site", place.get("site"))
        elsewhere = site is None and {"hook_name", "module"} & set(source)
        if "site" not in params and ("layer" not in params or elsewhere):
            place = _place(source, place, model)
        elif site not in _IN_BLOCKS:
            place = {}
        known |= place
        if "model" in known:
            known["model"] = hub_name(known["model"])
        if model is None:
            raise ValueError(
                f"The autoencoder does not say which model it is for: give it as model=... What it "
                f"says is {source}."
            )
        return cls(**{**known, **params})


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
            what = type(sae).__name__ if isinstance(sae, BaseEstimator) else repr(sae)
            raise ValueError(
                f"{what} does not say what it was trained on: it has no source_, as autoencoders "
                f"have that were read from a file. Use ActivationExtractor(model, layer, site)."
            )
    return wrapped.source_


def hub_name(model):
    """Return the name that the hub has for a model of TransformerLens; other names as they are."""
    if "/" in model or Path(model).exists():
        return model
    for pattern, name in _MODELS:
        if found := re.fullmatch(pattern, model):
            return name.format(found[0], *found.groups())
    return model


def _place(source, place, model):
    """Return layer and site, from whichever words the source has for them."""
    if place.get("site") == "embeddings":
        return {"site": "embeddings"}
    if "module" in source and place.get("site") != "resid_post":
        return {"site": source["module"]}
    if "site" in place:
        return place
    hook = source.get("hook_name") or ""
    for pattern, site in _HOOKS:
        if found := re.fullmatch(pattern, hook):
            return {"layer": int(found[1]), "site": site}
    if found := re.fullmatch(r"(?:model\.)?(layers\.\d+\.[\w.]+?)(\.input|\.output)", hook):
        return {"site": found[1] + found[2].removesuffix(".output")}
    if module := _module(hook, model):
        return {"site": module}
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
    found = re.fullmatch(r"blocks\.(\d+)\.([\w.]+)", hook)
    family = str(model).rpartition("/")[2].lower()
    for (name, point), path in _MODULES.items():
        if found and found[2] == point and family.startswith(name):
            return path.format(found[1])
    return None
