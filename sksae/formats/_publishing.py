"""A fitted estimator for others: its files, a card that describes it, and the hub."""

import json
import re
from contextlib import contextmanager
from html import escape
from numbers import Real
from pathlib import Path
from tempfile import TemporaryDirectory

from sklearn.utils.validation import check_is_fitted

from sksae._arrays import to_torch
from sksae._files import as_path, write_text
from sksae._hook_names import IN_BLOCKS
from sksae._params import Bool, Instance, check_option
from sksae._signs import visible
from sksae.autoencoders import BaseSAE
from sksae.formats._hub import hub_errors_translated
from sksae.formats._reading import OWN_FILE
from sksae.formats._saelens import write_saelens
from sksae.formats._sksae import load

_CARD = "README.md"
_TEXT = Instance(str, type(None), description="a str or None")
_METRICS = Instance(dict, type(None), description="a dict or None")
_MEASURES = {
    "explained_variance": "explained variance",
    "l0": "L0, non-zero codes per row",
    "dead": "share of latents that fired on no training row",
    "delta_ce": "loss added by the reconstruction, nats per token (delta CE)",
    "ce_recovered": "share of the loss recovered, from zero ablation",
    "kl": "Kullback-Leibler divergence of the predictions, nats per token",
    "top1_agreement": "share of tokens with the same likeliest next token",
}
_ORIGIN = {
    "model": "model",
    "layer": "layer",
    "site": "site",
    "prepend_bos": "BOS put before each text",
    "include_special_tokens": "special tokens are rows",
    "drop_first_position": "first position left out",
    "max_length": "tokens per text at most",
    "context_size": "tokens per text at most",
    "max_norm_ratio": "tokens left out from this norm, in medians",
}
_FORBIDDEN = (401, 403)
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def save_card(
    path,
    sae,
    *,
    extractor=None,
    X=None,
    metrics=None,
    dataset=None,
    license=None,  # noqa: A002 - the word of the hub
    repo=None,
    name=None,
):
    r"""Write a model card: what a dictionary is, how well it does, and what it is for.

    The card has the front matter that the Hugging Face hub reads, the sizes, the measures, the
    origin of the activations with the choice of tokens, the parameters, and lines of code that load
    the estimator. Texts are escaped.

    Parameters
    ----------
    path : str or Path
        The file, or a folder, which gets a ``README.md``.
    sae : BaseSAE
        A fitted estimator.
    extractor : ActivationExtractor or SAEVectorizer, default=None
        Where the rows of the training data are from. None takes what ``source_`` says.
    X : array-like of shape (n_samples, n_features), default=None
        Rows that the fit has not seen, on which explained variance and L0 are measured. None takes
        the L0 of the training rows.
    metrics : dict, default=None
        Other measures by name, such as `sksae.language_models.downstream_metrics` returns; they win
        over those on `X`. What ends in ``"_se"`` is shown as the standard error.
    dataset : str, default=None
        Where the training data are from: a name on the hub, or words.
    license : str, default=None
        The licence of the weights, such as ``"mit"``.
    repo, name : str, default=None
        Repository, and folder in it, for the lines of code.

    Returns
    -------
    path : Path
        The file.

    Raises
    ------
    TypeError
        If it is no sparse autoencoder, or a measure is no number.
    NotFittedError
        If it is not fitted.

    See Also
    --------
    push_to_hub : Writes the card and the files to the hub.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sksae import TopKSAE
    >>> from sksae.datasets import make_superposition
    >>> from sksae.formats import save_card
    >>> X, _, _ = make_superposition(500, 8, 16, random_state=0)
    >>> sae = TopKSAE(16, k=2, max_iter=5, random_state=0).fit(X[:400])
    >>> with TemporaryDirectory() as folder:
    ...     card = save_card(folder, sae, X=X[400:], dataset="made by make_superposition")
    ...     print(*card.read_text().splitlines()[:9], sep="\n")
    ---
    library_name: "sksae"
    tags: ["sparse-autoencoder", "sksae"]
    ---
    <BLANKLINE>
    # A sparse autoencoder: TopKSAE
    <BLANKLINE>
    16 latents over 8 features, trained in 65 steps.
    <BLANKLINE>
    """
    for argument, value in (("dataset", dataset), ("license", license), ("repo", repo)):
        check_option(argument, value, _TEXT)
    check_option("metrics", metrics, _METRICS)
    _check_estimator(sae)
    with TemporaryDirectory() as folder:  # one rule of what an extractor says, that of `save`
        written = load(sae.save(Path(folder) / "sae.safetensors", extractor=extractor))
    origin = getattr(written, "source_", {})
    path = as_path(path)
    if path.is_dir():
        path = path / _CARD
    parts = [
        _front_matter(origin, dataset, license),
        _heading(sae),
        _table("measure", _measures(sae, X, metrics or {})),
        _table("origin of the rows", _origin(origin, dataset)),
        f"```\n{sae!r}\n```",
        _code(repo, name, origin),
    ]
    write_text(path, "\n\n".join(part for part in parts if part) + "\n")
    return path


def push_to_hub(
    sae,
    repo,
    name=None,
    *,
    extractor=None,
    saelens=True,
    private=None,
    revision=None,
    token=None,
    commit_message=None,
    **card,
):
    """Publish a fitted estimator on the Hugging Face hub, for `from_pretrained`.

    One commit has sksae's own file, which loses nothing, the files of SAELens beside it, and a
    model card. The repository is made if there is none.

    Parameters
    ----------
    sae : BaseSAE
        A fitted estimator.
    repo : str
        The repository, such as ``"me/gpt2-small-dictionaries"``.
    name : str, default=None
        The folder in it, such as ``"layer_5"``. None puts the files at the top, for a repository
        with one autoencoder.
    extractor : ActivationExtractor or SAEVectorizer, default=None
        Where the rows of the training data are from, so that `ActivationExtractor.for_sae` makes
        the extractor for who reads it.
    saelens : bool, default=True
        Whether to put the files of SAELens beside it. What SAELens cannot hold is an error.
    private : bool, default=None
        Whether a new repository is private. None is the default of the account.
    revision : str, default=None
        The branch. None is the main branch.
    token : str, default=None
        A token that may write. None is the one that was stored by logging in.
    commit_message : str, default=None
        The message of the commit. None is one with the class of the estimator.
    **card
        Passed on to `save_card`, such as ``X=X_test``, ``dataset="roneneldan/TinyStories"``.

    Returns
    -------
    url : str
        The address of the commit.

    Raises
    ------
    PermissionError
        If the token may not write there.
    ConnectionError
        If the hub cannot be reached.
    ValueError
        If the estimator does what SAELens cannot, and `saelens` is True.

    See Also
    --------
    from_pretrained : Reads what was published.
    save_card : Writes the card alone.

    Examples
    --------
    >>> from sksae.formats import push_to_hub
    >>> push_to_hub(  # doctest: +SKIP
    ...     sae, "me/dictionaries", "layer_5", extractor=extractor, X=X_test, license="mit"
    ... )
    """
    check_option("saelens", saelens, Bool())
    check_option("name", name, _TEXT)
    _check_estimator(sae)
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with TemporaryDirectory() as folder:
        _write_files(folder, sae, extractor, saelens=saelens)
        save_card(folder, sae, extractor=extractor, repo=repo, name=name, **card)
        message = commit_message or f"{type(sae).__name__} with sksae"
        where = {"repo_id": repo, "revision": revision}
        with hub_errors_translated(repo, "written to"), _refusals_translated(repo):
            api.create_repo(repo, private=private, exist_ok=True)
            commit = api.upload_folder(
                folder_path=folder, path_in_repo=name, commit_message=message, **where
            )
    return str(commit.commit_url)


def _check_estimator(sae):
    if not isinstance(sae, BaseSAE):
        raise TypeError(f"sae must be a sparse autoencoder of sksae. Got {type(sae).__name__}.")
    check_is_fitted(sae)


def _write_files(folder, sae, extractor, *, saelens):
    """Write sksae's own file, which has all that an extractor says, and those of SAELens."""
    own_file = sae.save(Path(folder) / OWN_FILE, extractor=extractor)
    if not saelens:
        return
    written = load(own_file)
    origin = getattr(written, "source_", {})
    hook = {}
    if origin.get("site") in IN_BLOCKS and isinstance(origin.get("layer"), int):
        hook = {"hook_name": f"blocks.{origin['layer']}.hook_{origin['site']}"}
    try:
        write_saelens(folder, written, metadata=hook)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{error} To publish sksae's own file alone, set saelens=False."
        ) from error


@contextmanager
def _refusals_translated(repo):
    """Turn what a hub refuses into a PermissionError."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except HfHubHTTPError as error:
        if getattr(error.response, "status_code", None) not in _FORBIDDEN:
            raise
        raise PermissionError(
            f"{repo} may not be written: log in with 'hf auth login', or give a token that may."
        ) from error


# The parts of a card ------------------------------------------------------------------------------


def _front_matter(origin, dataset, license_name):
    """Return the front matter in YAML, of which JSON is a subset."""
    entries = {"library_name": "sksae", "license": license_name}
    if isinstance(origin.get("model"), str) and _HUB_NAME.fullmatch(origin["model"]):
        entries["base_model"] = origin["model"]
    if dataset is not None and _HUB_NAME.fullmatch(dataset):
        entries["datasets"] = [dataset]
    entries["tags"] = ["sparse-autoencoder", "sksae"]
    lines = [f"{key}: {json.dumps(value)}" for key, value in entries.items() if value is not None]
    return "\n".join(["---", *lines, "---"])


def _heading(sae):
    kind = "transcoder" if hasattr(sae, "predict") else "sparse autoencoder"
    return (
        f"# A {kind}: {type(sae).__name__}\n\n{sae.n_components_:,} latents over "
        f"{sae.n_features_in_:,} features, trained in {sae.n_steps_:,} steps."
    )


def _measures(sae, X, metrics):
    """Return the values of the measures by their descriptions."""
    numbers = {}
    if hasattr(sae, "activation_frequency_"):
        frequency = to_torch(sae.activation_frequency_).double()
        # The sum of the frequencies is the mean number of active latents per row.
        numbers = {"l0": float(frequency.sum()), "dead": float((frequency == 0).double().mean())}
    if X is not None and not hasattr(sae, "predict"):
        numbers["explained_variance"] = float(sae.score(X))
        codes = sae.transform(X)
        numbers["l0"] = float((codes != 0).sum() / codes.shape[0])
    for measure, value in metrics.items():
        if not isinstance(value, Real):
            raise TypeError(f"The measure {measure!r} must be a number. Got {value!r}.")
    numbers |= metrics
    # Standard errors have the name of their measure.
    errors = {measure: numbers.get(f"{measure}_se") for measure in numbers}
    # Measures that are known, in the order of the card, then others.
    ordered = [*(m for m in _MEASURES if m in numbers), *(m for m in numbers if m not in _MEASURES)]
    return {
        _MEASURES.get(m, m): f"{numbers[m]:.4g}" + (f" ± {errors[m]:.2g}" if errors[m] else "")
        for m in ordered
        if not m.endswith("_se")
    }


def _origin(origin, dataset):
    """Return the known facts about the activations, by their descriptions."""
    facts = {_ORIGIN[key]: value for key, value in origin.items() if key in _ORIGIN}
    facts = {key: value for key, value in facts.items() if value is not None}
    return {**({} if dataset is None else {"data": dataset}), **facts}


def _table(title, entries):
    """Return a Markdown table whose texts are escaped."""
    if not entries:
        return ""
    lines = [f"| {_text(key)} | {_text(value)} |" for key, value in entries.items()]
    return "\n".join([f"| {title} | |", "| --- | --- |", *lines])


def _text(value):
    value = {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value
    return re.sub(r"([\\`*_|\[\]!#])", r"\\\1", escape(visible(str(value)), quote=False))


def _code(repo, name, origin):
    """Return the lines that read the estimator, and its rows where they can be made."""
    if repo is None:
        return ""
    arguments = ", ".join(json.dumps(part) for part in (repo, name) if part is not None)
    lines = ["from sksae.formats import from_pretrained", "", f"sae = from_pretrained({arguments})"]
    if "model" in origin:
        lines = ["from sksae import ActivationExtractor", *lines]
        lines += ["rows = ActivationExtractor.for_sae(sae).transform(texts)"]
    code = "\n".join([*lines, f"codes = sae.transform({'rows' if 'model' in origin else 'X'})"])
    return f"```python\n{code}\n```"
