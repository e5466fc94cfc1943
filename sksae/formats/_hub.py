"""Published autoencoders by their name on the Hugging Face hub, or by a path."""

import difflib
import glob
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from sksae._coding import estimator_layers
from sksae._params import Bool, Instance, check_option
from sksae.formats._circuit_tracer import CONFIG, LAYER_FILE, TRAINING_CONFIGS
from sksae.formats._cross_layer import ACROSS_FILE
from sksae.formats._raw_units import center_rows
from sksae.formats._reading import OWN_FILE, SIGNS, read
from sksae.formats._releases import CENTERED, canonical, model_of, resolve
from sksae.formats._sentence_transformers import FOLDER, WEIGHTS

_BESIDE = ("sparsity.safetensors", "config.json", "checkpoints/final.safetensors")
_WEIGHTS = (".safetensors", ".npz", ".pt", ".pth")
_SHOWN = 10
_TRANSPORT = ("huggingface_hub", "httpx", "httpcore", "requests", "urllib3")
_TEXT = Instance(str, type(None), description="a str or None")


def from_pretrained(
    repo_or_path,
    name=None,
    *,
    format="auto",  # noqa: A002 - the word that pandas and pillow use
    revision=None,
    cache_dir=None,
    token=None,
    local_files_only=False,
    **options,
):
    """Return a published autoencoder as a fitted estimator, from the hub or from a folder.

    Only the files of the one autoencoder are downloaded, all of the same commit, into the cache
    that Hugging Face's libraries share; what is there is not downloaded again.

    Parameters
    ----------
    repo_or_path : str or Path
        A repository such as ``"google/gemma-scope-2b-pt-res"``, the name of a release of SAELens
        such as ``"gemma-scope-2b-pt-res-canonical"``, or a path of this machine.
    name : str, default=None
        The folder or file in it, such as ``"layer_20/width_16k/average_l0_71"``, or the id that
        SAELens has for it in the release. None if there is only one.
    format : str, default="auto"
        The library that wrote it; see `read`. "auto" goes by the names of the files.
    revision : str, default=None
        A branch, tag or commit of the repository. None is its main branch.
    cache_dir : str or Path, default=None
        Where to keep files. None is where Hugging Face's libraries do.
    token : str, default=None
        For private and gated repositories. None is the one that was stored by logging in.
    local_files_only : bool, default=False
        Whether to use nothing but what was downloaded before.
    **options
        Passed on to the reader of the format, such as ``dtype="float64"``, or ``layer=5`` for one
        layer of a set of transcoders.

    Returns
    -------
    sae : BaseSAE, Pipeline or list of Transcoder
        The fitted estimator, or one per layer of a set of transcoders (circuit-tracer's). Its
        ``source_`` has the repository, the name in it and the commit besides what the files say,
        for `ActivationExtractor.for_sae`.

    Raises
    ------
    FileNotFoundError
        If there is no such path, repository or revision, or nothing of it was downloaded.
    PermissionError
        If the repository is gated, and the token does not open it.
    ValueError
        If it has no such name (those it has are listed), or a file is damaged.
    ConnectionError
        If the hub cannot be reached.

    See Also
    --------
    read : Reads a path.
    sksae.ActivationExtractor.for_sae : Reads the activations that it is for.

    Notes
    -----
    A canonical autoencoder of Gemma Scope is the one of its layer and width with the mean L0
    nearest to 100. Where a release was trained on activations without their mean over features (as
    TransformerLens makes them for GPT-2 by default), that mean is folded into the encoder, so that
    it codes the activations of the model as it is; reconstructions then have no such mean.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sksae import TopKSAE
    >>> from sksae.datasets import make_superposition
    >>> from sksae.formats import from_pretrained, write_saelens
    >>> X, _, _ = make_superposition(500, 8, 16, random_state=0)
    >>> sae = TopKSAE(16, k=2, max_iter=5, random_state=0).fit(X)
    >>> with TemporaryDirectory() as folder:
    ...     _ = write_saelens(f"{folder}/blocks.3.hook_resid_post", sae)
    ...     from_pretrained(folder, "blocks.3.hook_resid_post")
    TopKSAE(k=2, n_components=16)
    """
    check_option("name", name, _TEXT)
    check_option("revision", revision, _TEXT)
    check_option("local_files_only", local_files_only, Bool())
    path = Path(repo_or_path)
    if path.exists():
        # A path comes before a repository of the same name.
        return read(_inside(path, name), format=format, **options)
    repo, name = _resolved(str(repo_or_path), name)
    hub = _Hub(repo, revision, cache_dir, token, local_files_only=local_files_only)
    files = hub.files()
    place = _place(repo, name, files)
    folder = hub.download(_needed(place, files, format, options.get("layer")))
    model = read(folder / place, format=format, **options)
    for part in model if isinstance(model, list) else [model]:
        *_, sae = estimator_layers(part)
        if repo in CENTERED:
            center_rows(sae)
            sae.source_["centered_rows"] = True
        source = getattr(sae, "source_", {})  # a file of sksae's own may say nothing
        facts = {name: value for name, value in source.items() if value is not None}
        # What the repository says about its model, else what the file says.
        model_name = model_of(repo) or facts.get("model")
        location = {"repo": repo, "name": place, "revision": folder.name, "model": model_name}
        sae.source_ = {**facts, **{k: v for k, v in location.items() if v is not None}}
    return model


def _inside(path, name):
    if name is None:
        return path
    if not (path / name).exists():
        raise FileNotFoundError(f"There is no {name} in {path}.")
    return path / name


def _resolved(repo, name):
    """Return repository and name of what may be a release of SAELens."""
    if repo.count("/") == 1 and not repo.startswith(("/", ".", "~")):
        return repo, name
    if "/" in repo or repo.startswith((".", "~")):
        raise FileNotFoundError(f"There is nothing at {repo}.")
    return resolve(repo, name)


class _Hub:
    """One revision of one repository."""

    def __init__(self, repo, revision, cache_dir, token, *, local_files_only):
        from huggingface_hub import HfApi

        self._api = HfApi(token=token)
        self._repo, self._offline = repo, local_files_only
        self._where = {"revision": revision, "cache_dir": cache_dir}

    def files(self):
        """Return the paths of all files; offline, of those that were downloaded before."""
        if self._offline:
            return self._cached()
        try:
            with hub_errors_translated(self._repo):
                info = self._api.repo_info(self._repo, revision=self._where["revision"])
        except ConnectionError as error:
            self._offline = True
            try:
                return self._cached()
            except FileNotFoundError:
                raise error from None
        return sorted(file.rfilename for file in info.siblings or ())

    def _cached(self):
        folder = self.download([])
        files = (path for path in folder.rglob("*") if path.is_file())
        return sorted(path.relative_to(folder).as_posix() for path in files)

    def download(self, files):
        """Make files part of the cache; return the folder of their commit."""
        with hub_errors_translated(self._repo):
            folder = self._api.snapshot_download(
                self._repo,
                allow_patterns=[glob.escape(file) for file in files],
                local_files_only=self._offline,
                **self._where,
            )
        return Path(folder)


@contextmanager
def hub_errors_translated(repo, done="read from"):
    """Turn what goes wrong on the way to the hub into errors of the standard library."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise PermissionError(
            f"{repo} is gated: accept its terms on the hub, and log in or give a token."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise FileNotFoundError(f"{repo} has no such revision.") from error
    except errors.RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"There is no path {repo}, and no such repository on the hub, unless it is private: "
            f"then log in or give a token."
        ) from error
    except errors.HFValidationError as error:
        raise FileNotFoundError(
            f"{repo} is neither a path nor the name of a repository."
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise FileNotFoundError(f"Nothing of {repo} was downloaded before: {error}") from error
    except Exception as error:  # of the libraries below, each with errors of its own
        if not type(error).__module__.startswith(_TRANSPORT):
            raise
        raise ConnectionError(f"{repo} cannot be {done} the hub: {error}") from error


def _place(repo, name, files):
    """Return the folder or file of the name, one of those that can be read."""
    places = _places(files)
    if name is None:
        if len(places) == 1:
            return places[0]
        raise ValueError(f"{repo} has {_listed(places)}. Name one of them.")
    name = name.strip("/")
    parent = PurePosixPath(name).parent.as_posix()
    if name.endswith("/canonical"):
        name = canonical(repo, name, places)
    if name in places:
        return name
    if name in files:
        is_layer = _layer_of(PurePosixPath(name)) is not None
        return parent if parent in places and not is_layer else name
    near = difflib.get_close_matches(name, places, n=5, cutoff=0.5)
    inside = [place for place in places if place.startswith(name + "/")]
    if len(inside) == 1:
        return inside[0]
    shown = f" Near are {', '.join(near)}." if near and not inside else ""
    raise ValueError(f"{repo} has no {name!r}, but {_listed(inside or places)}.{shown}")


def _places(files):
    """Return the folders with the files of a format ("." is the repository), else all weights."""
    available, folders = set(files), set()
    for file in files:
        folder = PurePosixPath(file).parent
        for _, signs in SIGNS:
            if all(_join(folder, sign) in available for sign in signs):
                folders.add(folder.as_posix())
        if FOLDER.fullmatch(folder.name) and PurePosixPath(file).name in WEIGHTS:
            folders.add(folder.as_posix())
    weights = [file for file in files if file.endswith(_WEIGHTS)]
    # A set of transcoders may be a configuration that names files elsewhere: its reader says so.
    sets = [PurePosixPath(file) for file in files if PurePosixPath(file).name == CONFIG]
    return sorted(folders) or weights or [path.parent.as_posix() for path in sets]


def _listed(places):
    if not places:
        return "nothing that can be recognised"
    more = f", and {len(places) - _SHOWN:,} more" if len(places) > _SHOWN else ""
    kind = "an autoencoder" if len(places) == 1 else "autoencoders"
    return f"{kind} at {', '.join(places[:_SHOWN])}{more}"


def _needed(place, files, written_by="auto", layer=None):
    """Return the files of a place, and no others of its repository.

    Of a set of transcoders these are the files of all layers, or of one.
    """
    folder = PurePosixPath(place)
    if place in files:
        beside = (CONFIG, *TRAINING_CONFIGS) if _layer_of(folder) is not None else ()
        if match := ACROSS_FILE.fullmatch(folder.name):
            # The encoder and the decoder of a layer are files of their own.
            beside += tuple(f"W_{part}_{match[1]}.safetensors" for part in ("enc", "dec"))
        candidates = [_join(folder.parent, name) for name in beside]
        return [place, *(file for file in candidates if file in files and file != place)]
    own_file = _join(folder, OWN_FILE)
    if own_file in files and written_by in ("auto", "sksae"):
        return [own_file]
    names = {sign for _, signs in SIGNS for sign in signs} | set(_BESIDE)
    if FOLDER.fullmatch(folder.name):
        names |= set(WEIGHTS)
    names |= {path.name for path in map(PurePosixPath, files) if _layer_of(path) is not None}
    if layer is not None:
        names = {name for name in names if _layer_of(PurePosixPath(name)) in (None, layer)}
    candidates = [_join(folder, name) for name in sorted(names)]
    if _join(folder, "sae.safetensors") in files:  # sparsify: the run says which model it was
        candidates.append(_join(folder.parent, "config.json"))
    return [file for file in candidates if file in files]


def _layer_of(path):
    """Return the layer in the name of a file of a set of transcoders, or None."""
    match = LAYER_FILE.fullmatch(path.name) or ACROSS_FILE.fullmatch(path.name)
    return match and int(match[1])


def _join(folder, file):
    return (folder / file).as_posix()
