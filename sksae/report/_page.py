"""The page: one HTML file with its style and its picture inside, and no script."""

import html
from pathlib import Path

import numpy as np

from sksae._files import replacing
from sksae._signs import edges_visible, visible
from sksae.report._histogram import density_histogram
from sksae.report._style import STYLE

NAMED_SHARE = 0.005  # of a feature's activation; less would read as 0 %

# Nothing is loaded and nothing runs, whatever the texts contain.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'"


def render_page(features, density, n_rows, *, title="Sparse features", facts=None, table=()):
    """Return a self-contained HTML page about the features of a sparse autoencoder.

    Texts are data: everything is escaped, and the page allows no script, not even its own.

    Parameters
    ----------
    features : list of FeatureSummary
        The features shown, in this order.
    density : array-like of shape (n_components,)
        Share of the rows on which each feature fires, for all features.
    n_rows : int
        Number of rows that `density` was measured on.
    title : str, default="Sparse features"
        The heading of the page.
    facts : dict of str to object, default=None
        What was done: lines of a name and a value.
    table : list of dict, default=()
        Measurements, one dict a line, all with the keys of the first.

    Returns
    -------
    page : str
        The text of the HTML file.

    Raises
    ------
    ValueError
        If `density` is no list of shares between 0 and 1, or `n_rows` is no positive number.

    See Also
    --------
    write_page : Writes the page to a file.
    sksae.interpret.summarize_features : Makes `features`.

    Examples
    --------
    >>> from sksae.interpret import summarize_features
    >>> from sksae.metrics import latent_density
    >>> from sksae.report import render_page
    >>> codes = [[0, 0], [2, 0], [0, 1], [3, 0]]
    >>> features = summarize_features(codes, ["Ada", "Bo", "<b>", "Dan"])
    >>> page = render_page(features, latent_density(codes), 4, title="Four people")
    >>> "<h1>Four people</h1>" in page, "<b>" in page, "&lt;b&gt;" in page
    (True, False, True)
    """
    density = np.asarray(density, dtype=np.float64)
    if density.ndim != 1 or not ((density >= 0) & (density <= 1)).all():
        raise ValueError("density must be a list of shares between 0 and 1, one a feature.")
    if not n_rows >= 1:
        raise ValueError(f"n_rows must be at least 1. Got {n_rows!r} instead.")
    body = [
        f"<h1>{_escape(title)}</h1>",
        '<p class="soft">Each feature is one direction that a sparse autoencoder found in the data.'
        " The texts show where it fires most: the stronger the colour, the stronger it fires.</p>",
        _facts(facts or {}),
        _table(table),
        "<h2>How often features fire</h2>",
        density_histogram(density, n_rows),
        _density_caption(density, n_rows),
        f"<h2>{len(features)} features</h2>",
        _contents(features),
        *map(_feature, features),
        '<footer class="soft">Made with sksae.</footer>',
    ]
    head = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_escape(title)}</title><style>{STYLE}</style></head>\n<body>\n"
    )
    return head + "\n".join(filter(None, body)) + "\n</body></html>\n"


def write_page(path, features, density, n_rows, **how):
    """Write the page of `render_page` to a file, whole or not at all.

    Parameters
    ----------
    path : str or Path
        The file; its folder is made if needed, an existing file is replaced.
    features : list of FeatureSummary
        The features shown, in this order.
    density : array-like of shape (n_components,)
        Share of the rows on which each feature fires, for all features.
    n_rows : int
        Number of rows that `density` was measured on.
    **how : dict
        `title`, `facts` and `table`, as in `render_page`.

    Returns
    -------
    path : Path
        The file.

    Raises
    ------
    OSError
        If the file cannot be written.
    ValueError
        As `render_page`.

    See Also
    --------
    render_page : The same as a string.

    Examples
    --------
    >>> import tempfile
    >>> from sksae.report import write_page
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_page(f"{folder}/index.html", [], [0.0, 0.1], 30)
    ...     "1 of 2 features never" in path.read_text(encoding="utf-8")
    True
    """
    path, page = Path(path), render_page(features, density, n_rows, **how)
    with replacing(path) as part:
        part.write_text(page, encoding="utf-8")
    return path


def _facts(facts):
    if not facts:
        return ""
    lines = (f"<dt>{_escape(name)}</dt><dd>{_escape(value)}</dd>" for name, value in facts.items())
    return f"<dl>{''.join(lines)}</dl>"


def _table(table):
    if not table:
        return ""
    head = "".join(f"<th>{_escape(name)}</th>" for name in table[0])
    lines = (
        "<tr>" + "".join(f"<td>{_escape(line[name])}</td>" for name in table[0]) + "</tr>"
        for line in table
    )
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(lines)}</table></div>'


def _density_caption(density, n_rows):
    dead = int((density == 0).sum())
    return (
        f'<p class="soft">Measured on {n_rows:,} rows. {dead:,} of {len(density):,} features never '
        "fire there. Left of the dashed line, below 3 firings, rare and dead look the same.</p>"
    )


def _contents(features):
    links = (f'<a href="#feature-{f.feature}">{f.feature}</a>' for f in features)
    return f"<nav>{''.join(links)}</nav>"


def _feature(summary):
    """One card: how often, on what, and where."""
    tokens = (
        f"<li><code>{_escape(edges_visible(token))}</code> {share:.0%}</li>"
        for token, share in summary.top_tokens
        if share >= NAMED_SHARE
    )
    examples = (_example(example, summary.max_activation) for example in summary.examples)
    return (
        f'<section id="feature-{summary.feature}"><h3>Feature {summary.feature}</h3>'
        f'<p class="soft">fires on {summary.density:.2%} of rows ({summary.n_active:,}), in '
        f"{summary.n_texts:,} text{'s' * (summary.n_texts != 1)}, at most "
        f"{summary.max_activation:.3g}</p>"
        f'<ul class="chips">{"".join(tokens)}</ul>'
        f'<ol class="examples">{"".join(examples)}</ol></section>'
    )


def _example(example, strongest):
    """One line: the activation and the window, coloured by activation."""
    pieces = ["<i>…</i>"] if example.cut_before else []
    cells = zip(example.tokens, example.activations.tolist(), strict=True)
    for i, (token, activation) in enumerate(cells):
        token = _escape(token).replace("↵", "<i>↵</i>")
        if activation > 0:
            share = min(1.0, activation / strongest)
            peak = ' class="peak"' if i == example.peak else ""
            style = f'style="--a:{0.1 + 0.9 * share:.2f}" title="{activation:.3g}"'
            token = f"<mark{peak} {style}>{token}</mark>"
        pieces.append(token)
    pieces += ["<i>…</i>"] if example.cut_after else []
    return (
        f'<li><span class="value">{example.activation:.3g}</span>'
        f'<span class="text" dir="auto">{"".join(pieces)}</span></li>'
    )


def _escape(value):
    """Text for HTML: no markup, no control characters, signs for line breaks."""
    return html.escape(visible(str(value)))
