"""Page about features: one HTML file, with a folder of details where there are many."""

import base64
import hashlib
import html
import os
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template
from urllib.parse import quote

import numpy as np

from sksae._files import write_text
from sksae._params import Int, check_option
from sksae._signs import visible
from sksae.report._listing import (
    Listing,
    density_bins,
    fact_lines,
    map_places,
    prompt_lines,
    table_cells,
)
from sksae.report._parts import Pictures, encode_part, pack
from sksae.report._user_frames import TextColumns, statement_lines, tested_texts

PART = 256  # features whose details are read together
ONE_FILE = 20_000  # features up to which the page is one file

SOURCES = Path(__file__).parent / "page"
SCRIPTS = (
    *("reading", "drawing", "texts", "images", "searching", "listing", "feature", "statements"),
    *("start", "prompts", "routing"),
)
STYLES = ("page", "views")

# Whatever the texts contain: nothing is fetched, and only the page's own script runs. The parts of
# a large page are scripts that it adds, which have to lie beside it.
POLICY = (
    "default-src 'none'; script-src {script}; style-src {style}; base-uri 'none'; "
    "form-action 'none'"
)
PICTURES = "; img-src data:"  # images that are in the page itself
NEARBY = "script-src 'unsafe-inline' 'self' file:"


def write_page(
    path,
    atlas,
    *,
    features=None,
    explanations=None,
    prompts=(),
    title="Sparse features",
    facts=None,
    table=(),
    columns=None,
    statements=None,
    tested_on=None,
):
    """Write an HTML page with a list of features to search and sort, and a view of each.

    The page is one file that needs nothing else, or, above 20,000 features, a file and a folder
    beside it, ``<name>-features``, whose parts are read as they are needed. It works without a
    server and fetches nothing. Texts are data: they are never markup, and cannot run.

    Its search finds features by their numbers, explanations and tokens, and by the texts of their
    examples. Where the rows of the atlas are patches of images, or whole images, it shows the
    images that the atlas kept, with their strongest patches; each is in the file once.

    Parameters
    ----------
    path : str or Path
        The file, which ends in ``.html``; its folder is made if needed, an existing page replaced.
    atlas : FeatureAtlas
        A fitted atlas.
    features : array-like of int, default=None
        The features shown, in this order. None shows all.
    explanations : dict of int to object, default=None
        Explanations by feature: strings, or explanations with scores.
    prompts : sequence of PromptCodes, default=()
        Prompts that the page shows with the features that fire on them.
    title : str, default="Sparse features"
        The heading of the page.
    facts : dict of str to object, default=None
        Facts shown after those of the atlas, which they replace where names are the same.
    table : list of dict, default=()
        Measurements, one dict per line, all with the same keys.
    columns : DataFrame or mapping, default=None
        Columns shown beside each example, such as the rating and the date: one line per text of
        the atlas, in the order in which the atlas got the texts.
    statements : DataFrame, default=None
        The table of :func:`sksae.interpret.validate`, for a view of statements.
    tested_on : DataFrame or mapping, default=None
        The texts that `validate` got, in the column "text", for examples for and against each
        statement; other columns are shown beside them.

    Returns
    -------
    path : Path
        The file to open in a browser.

    Raises
    ------
    OSError
        If a file cannot be written; a page that was there before is as it was.
    TypeError
        If `atlas` is no fitted atlas, or another argument is of a wrong type.
    ValueError
        If `path` is no file that ends in ``.html``, a feature is none of the atlas or is named
        twice, the codes of a prompt have another width, or lines of a frame are missing.

    See Also
    --------
    sksae.interpret.FeatureAtlas : Makes the atlas.
    sksae.interpret.read_prompt : Makes the prompts.
    sksae.interpret.validate : Makes the statements.
    feature_lines : The same for a terminal.

    Examples
    --------
    >>> import tempfile
    >>> from sksae.interpret import FeatureAtlas
    >>> from sksae.report import write_page
    >>> table = {"text": [0, 0, 1, 1], "string": ["a", " cold", "cold", " tea"]}
    >>> atlas = FeatureAtlas().fit([[0, 0], [2, 0], [3, 0], [0, 1]], tokens=table)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = write_page(f"{folder}/index.html", atlas, explanations={0: "cold things"})
    ...     page.name
    'index.html'
    """
    path = checked_path(path)
    listed = _listed(features, atlas)
    explanations = _checked(explanations or {}, prompts, atlas)
    _check_mapping("facts", facts or {})
    claims = statement_lines(statements, atlas.n_components_)
    index = {
        "title": visible(str(title)),
        "facts": fact_lines({**atlas.facts_, **(facts or {})}),
        "table": table_cells(table),
        "prompts": [prompt_lines(prompt) for prompt in prompts],
        "part_size": PART,
        "statements": claims,
        "tested_on": tested_texts(claims, tested_on),
    }
    if getattr(atlas, "image_grid_", None) is not None:
        index["image_grid"] = list(atlas.image_grid_)
    text_columns = TextColumns(columns, "columns", atlas.n_texts_)
    _write(path, index, atlas, listed, explanations, text_columns)
    return path


def _write(path, index, atlas, listed, explanations, text_columns):
    """Write the page; after an error, an earlier one is as it was."""
    pictures = Pictures() if "image_grid" in index else None
    listing, folder = Listing(explanations, pictures), path.with_name(f"{path.stem}-features")
    blocks, names = [], []
    before = set(_parts_in(folder))
    try:
        for begin in range(0, len(listed), PART):
            records = [atlas.feature(feature) for feature in listed[begin : begin + PART]]
            for record in records:
                listing.add(record)
            part = encode_part(records, explanations, text_columns, pictures)
            if len(listed) <= ONE_FILE:
                blocks.append(part)
            else:
                names.append(_write_part(folder, begin // PART, part))
        index = {
            **index,
            "folder": quote(folder.name) if names else "",
            "parts": names,
            "columns_of_texts": text_columns.shown(),
            **_overview(atlas, listing),
        }
        write_text(path, _html(index, blocks, pictures))
    except BaseException:
        _remove(folder, set(names) - before)  # an earlier page does not refer to them
        raise
    _remove(folder, before - set(names))


def checked_path(path):
    """Return the path of a page, or raise an error if it cannot be one."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(
            f"path must be a str or Path, and comes before the atlas, as in "
            f"write_page('index.html', atlas). Got {type(path).__name__} instead."
        )
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        raise ValueError(f"path must name a file that ends in .html. Got {str(path)!r} instead.")
    return path


def _checked(explanations, prompts, atlas):
    """Return explanations by int; raise where they or prompts are of other features."""
    rule = Int(0, atlas.n_components_ - 1)
    _check_mapping("explanations", explanations)
    for feature in explanations:
        check_option("each key of explanations", feature, rule)
    if hasattr(prompts, "codes") or not all(hasattr(prompt, "codes") for prompt in prompts):
        raise TypeError("prompts must be a list of PromptCodes, as read_prompt makes them.")
    for prompt in prompts:
        if prompt.codes.shape[1] != atlas.n_components_:
            raise ValueError(
                f"prompts must have codes of the {atlas.n_components_} features of the atlas. "
                f"Got one with {prompt.codes.shape[1]} instead."
            )
    return {int(feature): explanation for feature, explanation in explanations.items()}


def _check_mapping(name, value):
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a dict. Got {type(value).__name__} instead.")


def _listed(features, atlas):
    """Return the features shown, as ints."""
    n_components = getattr(atlas, "n_components_", None)
    if n_components is None or not hasattr(atlas, "feature"):
        kind = "one that is not fitted" if hasattr(atlas, "feature") else type(atlas).__name__
        raise TypeError(
            f"atlas must be a fitted FeatureAtlas, from sksae.interpret. Got {kind} instead."
        )
    listed = list(range(n_components)) if features is None else np.asarray(features).tolist()
    if not isinstance(listed, list):
        raise TypeError(f"features must be a list of features. Got {features!r} instead.")
    for feature in listed:
        check_option("each of features", feature, Int(0, n_components - 1))
    if len(set(listed)) < len(listed):
        twice = next(feature for feature in listed if listed.count(feature) > 1)
        raise ValueError(f"features names {twice} more than once.")
    return listed


def _overview(atlas, listing):
    """Return the data of the page about all features at once."""
    density = np.asarray(atlas.density_, dtype=np.float64)
    return {
        "n_components": int(atlas.n_components_),
        "n_rows": int(atlas.n_rows_),
        "n_texts": int(atlas.n_texts_),
        "histogram": density_bins(density, atlas.n_rows_),
        "map": map_places(atlas.map_),
        "columns": listing.columns,
        "flags": listing.flags,
        "score_names": list(listing.score_names),
        "starters": listing.starters(density),
    }


def _html(index, blocks, pictures):
    """Return the text of the page."""
    data = {"index": pack(index), **{f"part-{n}": part for n, part in enumerate(blocks)}}
    data |= {f"image-{number}": png for number, png in (pictures or {}).items()}
    policy = POLICY + PICTURES * (pictures is not None)
    near = bool(index["parts"])
    return page_text(
        "page.html", index["title"], SCRIPTS, STYLES, data=data, beside=near, policy=policy
    )


def page_text(template, title, scripts, styles, *, data, texts=None, beside=False, policy=POLICY):
    """Return the text of a page with its scripts and styles, which alone may run on it.

    Parameters
    ----------
    template : str
        The file with its elements.
    title : str
        Any text.
    scripts, styles : sequence of str
        Names of files, without their endings.
    data : dict of str to str
        What the page reads, by the id of its element: base64.
    texts : dict of str to str, optional
        The same as JSON, which must have no "<".
    beside : bool
        Whether the page reads scripts that lie beside it.
    policy : str
        What the page may do.
    """
    script, style = _source(scripts, "js"), _source(styles, "css")
    allowed = _hash(script) + " 'strict-dynamic'" * beside
    policies = [policy.format(script=allowed, style=_hash(style)), *[NEARBY] * beside]
    blocks = [("octet-stream", name, text) for name, text in data.items()]
    blocks += [("json", name, text) for name, text in (texts or {}).items()]
    return Template((SOURCES / template).read_text(encoding="utf-8")).substitute(
        title=html.escape(title),
        policies="\n".join(
            f'<meta http-equiv="Content-Security-Policy" content="{rule}">' for rule in policies
        ),
        style=style,
        data="\n".join(
            f'<script type="application/{kind}" id="{name}">{text}</script>'
            for kind, name, text in blocks
        ),
        script=script,
    )


def _source(names, ending):
    files = (SOURCES / f"{name}.{ending}" for name in names)
    return "\n" + "\n".join(file.read_text(encoding="utf-8") for file in files)


def _hash(text):
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _write_part(folder, number, part):
    """Write a part under a name with a digest of its content, and return the name."""
    name = f"{number:04d}-{hashlib.sha256(part.encode('ascii')).hexdigest()[:16]}"
    write_text(folder / f"{name}.js", f'sksaePart("{name}","{part}")\n')
    return name


def _parts_in(folder):
    """Return the names of the parts in a folder, by the pattern of their names."""
    scripts = folder.glob("*.js") if folder.is_dir() else ()
    return [file.stem for file in scripts if re.fullmatch(r"\d{4,}-[0-9a-f]{16}", file.stem)]


def _remove(folder, names):
    """Remove parts, and their folder if nothing else is in it."""
    for name in names:
        (folder / f"{name}.js").unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
