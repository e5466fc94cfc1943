"""Writing of an atlas as the folder that Neuronpedia imports."""

import re
from collections.abc import Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from numbers import Integral

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sksae._arrays import to_torch
from sksae._files import BEFORE, as_path, working_place
from sksae._hook_names import IN_BLOCKS
from sksae._params import Bool, Instance, Int, check_option
from sksae.formats.neuronpedia._lines import LineFile, line_of, well_formed
from sksae.formats.neuronpedia._rows import (
    CREATOR,
    EXPLANATION,
    MODEL,
    RELEASE,
    SOURCE,
    SOURCE_SET,
    activation_rows,
    explanation_row,
    feature_row,
)

KINDS = ("features", "activations", "explanations")
COMPLETE = "source.jsonl"
"""Every folder of a source has this file; only such folders are ever replaced."""


def write_neuronpedia(
    path,
    atlas,
    *,
    model_id,
    set_name,
    layer=None,
    suffix=None,
    features=None,
    explanations=None,
    sae=None,
    hook_name=None,
    n_quantiles=5,
    batch_size=1024,
    creator_id=CREATOR,
    created_at=None,
    further=None,
    overwrite=False,
):
    """Write features as a folder that an instance of Neuronpedia imports.

    The folder, ``{path}/{model_id}/{layer}-{set_name}``, holds ``release.jsonl``, ``model.jsonl``,
    ``sourceset.jsonl`` and ``source.jsonl`` with a line each, and ``features``, ``activations`` and
    ``explanations`` with compressed batches. It is assembled beside its place, so that it is whole
    or not there; features pass through memory one by one. Numbers keep six significant digits. The
    same atlas makes the same bytes.

    Nothing is uploaded. An instance of your own imports the folder from the disk or a bucket;
    neuronpedia.org is filled by those who run it.

    Parameters
    ----------
    path : str or Path
        Where the folder of the model is, or is to be.
    atlas : FeatureAtlas
        What is known about the features, fitted.
    model_id : str
        Neuronpedia's name of the model, such as "gpt2-small".
    set_name : str
        The name of the set of autoencoders, without the layer, such as "res-sksae".
    layer : int, default=None
        The block of the model. None takes that of the atlas's extractor.
    suffix : str, default=None
        Tells autoencoders of one set and layer apart; comes last in the name of the folder.
    features : array-like of int, default=None
        Which features to write. None writes all.
    explanations : dict of int to Explanation or str, default=None
        What the features stand for, with the scores that they have.
    sae : estimator, default=None
        Its `components_` become the vectors that Neuronpedia steers with. None writes none.
    hook_name : str, default=None
        Where the vectors belong, in TransformerLens's words. None makes it from the site that the
        atlas was fitted on, where it can.
    n_quantiles : int, default=5
        Intervals of activation with examples, beside the strongest.
    batch_size : int, default=1024
        Features a file.
    creator_id : str, default="clkht01d40000jv08hvalcvly"
        The user that the import belongs to. Every instance starts with the default one.
    created_at : datetime, default=None
        The time of creation, on every line; UTC where it does not say. None is the beginning of
        1970.
    further : dict of str to dict, default=None
        More that is known, by file: fields of ``"release"``, ``"model"``, ``"sourceset"`` and
        ``"source"``, and of every ``"explanation"``. For example
        ``{"model": {"layers": 12}, "source": {"hfRepoId": "me/my-sae"}}``.
    overwrite : bool, default=False
        Whether to replace a folder that was written before.

    Returns
    -------
    folder : Path
        The folder of the source.

    Raises
    ------
    FileExistsError
        If the folder exists already.
    ValueError
        If a name cannot be one of Neuronpedia's, a field or a feature does not exist, a value is
        not finite, or the atlas has images.

    See Also
    --------
    read_neuronpedia : Reads the explanations back.
    sksae.interpret.FeatureAtlas : Collects what is written.

    References
    ----------
    .. [1] J. Lin, "Neuronpedia: interactive reference and tooling for analyzing neural networks",
       2023. https://www.neuronpedia.org

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sksae.formats import read_neuronpedia, write_neuronpedia
    >>> from sksae.interpret import FeatureAtlas
    >>> atlas = FeatureAtlas().fit([[0, 1], [2, 0]], tokens=["Ada", "Bo"])
    >>> with TemporaryDirectory() as folder:
    ...     source = write_neuronpedia(
    ...         folder, atlas, model_id="names", set_name="toy", layer=0, explanations={0: "Bo"}
    ...     )
    ...     files = sorted(file.name for file in source.iterdir())
    ...     print(source.name, read_neuronpedia(source)[0])
    0-toy Bo
    >>> files[:3]
    ['activations', 'explanations', 'features']
    """
    check_is_fitted(atlas, "n_components_")
    if getattr(atlas, "image_grid_", None) is not None:
        raise ValueError("The atlas has images, and Neuronpedia's files have texts only.")
    check_option("n_quantiles", n_quantiles, Int(1))
    check_option("batch_size", batch_size, Int(1))
    check_option("overwrite", overwrite, Bool())
    n_components = int(atlas.n_components_)
    features = features_of(features, n_components)
    further = further_of(further)
    facts = getattr(atlas, "facts_", None) or {}
    names = (model_id, set_name, layer, suffix)
    common = common_fields(facts, names, creator_id, created_at)
    rows = partial(
        _rows,
        atlas,
        common,
        set_name=set_name,
        explanations=explanations_of(explanations, n_components),
        vectors=vectors_of(sae, n_components),
        hook_name=hook_name_of(facts, common["layer"], hook_name),
        n_quantiles=n_quantiles,
        further=further["explanation"],
    )
    folder = as_path(path) / model_id / common["layer"]
    with _assembling(folder, overwrite=overwrite) as part:
        for number, first in enumerate(range(0, len(features), batch_size)):
            _write_batch(part, number, features[first : first + batch_size], rows)
        for name, row in _heads(common, set_name, atlas, sae, further).items():
            (part / name).write_bytes(line_of(row))
    return folder


@contextmanager
def _assembling(folder, *, overwrite):
    """Yield an empty folder beside `folder`, which takes its place if no error is raised."""
    if folder.exists():
        if not overwrite:
            raise FileExistsError(f"{folder} exists. Take overwrite=True to replace it.")
        if not (folder / COMPLETE).is_file():
            raise FileExistsError(
                f"{folder} is not a folder that Neuronpedia's files were written to, as it has no "
                f"{COMPLETE}: it is not replaced. Take another path."
            )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with working_place(folder.parent) as place:
        part, old = place / "new", place / BEFORE / folder.name
        for new in (part, old.parent):
            new.mkdir()
        yield part
        if folder.exists():
            folder.rename(old)
        try:
            part.rename(folder)
        except OSError:
            if old.exists() and not folder.exists():
                old.rename(folder)
            raise


def _rows(
    atlas, common, feature, *, set_name, explanations, vectors, hook_name, n_quantiles, further
):
    """Yield ``(kind, line)`` of all lines of a feature."""
    details = atlas.feature(feature)
    vector = None if vectors is None else vectors[feature]
    yield (
        "features",
        feature_row(details, common, set_name=set_name, vector=vector, hook_name=hook_name),
    )
    for row in activation_rows(details, common, n_quantiles):
        yield "activations", row
    if feature in explanations:
        yield "explanations", explanation_row(feature, explanations[feature], common, further)


def _write_batch(part, number, features, rows):
    """Write the lines of some features to one file per kind."""
    with ExitStack() as stack:
        files = {
            kind: stack.enter_context(LineFile(part / kind / f"batch-{number}.jsonl.gz"))
            for kind in KINDS
        }
        for feature in features:
            for kind, row in rows(feature):
                try:
                    files[kind].write(row)
                except ValueError as error:
                    raise ValueError(f"Feature {feature} cannot be written: {error}.") from error


def _heads(common, set_name, atlas, sae, further):
    """Return the line of each of the four files that describe the source, the last one last."""
    model, source, time = common["modelId"], common["layer"], common["createdAt"]
    width = None if sae is None else int(sae.components_.shape[1])
    shared = {"creatorId": common["creatorId"], "createdAt": time}
    release = {**RELEASE, **shared, "name": set_name, "description": set_name}
    release |= {"defaultSourceSetName": set_name, **further["release"]}
    names = {"id": model, "displayNameShort": model, "displayName": model}
    model_row = {**MODEL, **shared, **names, "dimension": width, "updatedAt": time}
    set_row = {**SOURCE_SET, **shared, "modelId": model, "name": set_name}
    set_row |= {"releaseName": release["name"], "description": set_name}
    row = {**SOURCE, **shared, "id": source, "modelId": model, "setName": set_name}
    row |= {"num_prompts": int(atlas.n_texts_)}
    return {
        "release.jsonl": release,
        "model.jsonl": {**model_row, **further["model"]},
        "sourceset.jsonl": {**set_row, **further["sourceset"]},
        COMPLETE: {**row, **further["source"]},
    }


_FURTHER = {
    "release": RELEASE,
    "model": MODEL,
    "sourceset": SOURCE_SET,
    "source": SOURCE,
    "explanation": EXPLANATION,
}
_OURS = {"id", "modelId", "setName", "releaseName", "index", "layer", "description", "scores"}
_OURS |= {"authorId", "creatorId", "createdAt", "updatedAt"}


def common_fields(facts, names, creator_id, created_at):
    """Return the fields that all lines share; `names` are model, set, layer and suffix."""
    model_id, set_name, layer, suffix = names
    check_option("creator_id", creator_id, Instance(str, description="a str"))
    return {
        "modelId": _name("model_id", model_id),
        "layer": _source_name(facts, layer, set_name, suffix),
        "creatorId": well_formed(creator_id),
        "createdAt": _time(created_at),
    }


def features_of(features, n_components):
    """Return the numbers of the features to write."""
    if features is None:
        return range(n_components)
    return [_feature(feature, n_components) for feature in np.ravel(features).tolist()]


def _feature(feature, n_components):
    if isinstance(feature, bool) or not isinstance(feature, Integral):
        raise ValueError(f"A feature must be an int. Got {feature!r} instead.")
    if not 0 <= feature < n_components:
        raise ValueError(f"There is no feature {feature}: the atlas has {n_components}.")
    return int(feature)


def explanations_of(explanations, n_components):
    """Return the explanations by feature, known to be features of the atlas."""
    if explanations is None:
        return {}
    if not isinstance(explanations, Mapping):
        raise ValueError(
            f"explanations must be a dict from features to texts, got a "
            f"{type(explanations).__name__}."
        )
    return {_feature(key, n_components): value for key, value in explanations.items()}


def further_of(further):
    """Return the further fields by file, known to be fields of it."""
    fields_by_file = {name: {} for name in _FURTHER}
    for name, fields in ({} if further is None else further).items():
        if name not in _FURTHER:
            raise ValueError(f"further has {name!r}, which is none of {', '.join(_FURTHER)}.")
        for field in fields:
            if field in _OURS or field not in _FURTHER[name]:
                free = ", ".join(sorted(set(_FURTHER[name]) - _OURS))
                raise ValueError(f"further[{name!r}] has {field!r}, which is none of {free}.")
        fields_by_file[name] = dict(fields)
    return fields_by_file


def _source_name(facts, layer, set_name, suffix):
    """Return the name of the source, which is the name of its folder."""
    layer = facts.get("layer") if layer is None else layer
    if isinstance(layer, bool) or not isinstance(layer, Integral) or layer < 0:
        raise ValueError(f"layer must be given, as the number of a block. It is {layer!r}.")
    name = f"{int(layer)}-{_name('set_name', set_name)}"
    return name if suffix is None else f"{name}__{_name('suffix', suffix)}"


def _name(parameter, name):
    """Return a name that can be part of paths and addresses."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(
            f"{parameter} must be made of letters, digits, dots, dashes and underscores and begin "
            f"with a letter or digit, as it is part of a path. Got {name!r} instead."
        )
    return name


def _time(created_at):
    check_option("created_at", created_at, Instance(datetime, type(None), description="a datetime"))
    created_at = datetime(1970, 1, 1) if created_at is None else created_at
    if created_at.tzinfo is None:  # the files do not depend on where they are written
        created_at = created_at.replace(tzinfo=UTC)
    return created_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def vectors_of(sae, n_components):
    """Return the directions of an estimator as numpy, or None."""
    if sae is None:
        return None
    check_is_fitted(sae)
    vectors = to_torch(sae.components_).cpu().numpy()
    if len(vectors) != n_components:
        raise ValueError(
            f"sae has {len(vectors)} components, but the atlas was fitted on {n_components}."
        )
    return vectors


def hook_name_of(facts, source, hook_name):
    """Return what TransformerLens calls the site, or None."""
    if hook_name is None and facts.get("site") in IN_BLOCKS:
        return f"blocks.{source.partition('-')[0]}.hook_{facts['site']}"
    return hook_name
