"""Writing of an atlas as the folder that Neuronpedia imports."""

from contextlib import ExitStack, contextmanager
from functools import partial

from sklearn.utils.validation import check_is_fitted

from sksae._files import BEFORE, as_path, working_place
from sksae._params import Bool, Int, check_option
from sksae.formats.neuronpedia._arguments import (
    common_fields,
    explanations_of,
    features_of,
    further_of,
    hook_name_of,
    vectors_of,
)
from sksae.formats.neuronpedia._fields import CREATOR, MODEL, RELEASE, SOURCE, SOURCE_SET
from sksae.formats.neuronpedia._lines import LineFile, line_of
from sksae.formats.neuronpedia._rows import activation_rows, explanation_row, feature_row

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
        If a name cannot be one of Neuronpedia's, a field or a feature does not exist, or a value
        is not finite.

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
