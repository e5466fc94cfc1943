"""Lines for a terminal: a table, and features with their examples."""

import os
import shutil
import sys

from sksae._params import Int, check_option
from sksae._signs import columns, edges_visible
from sksae.report._listing import table_cells

COLUMNS = 100
BRACKETS = ("[[", "]]")
BOLD = ("\x1b[1;30;43m", "\x1b[0m")


def table_lines(table):
    r"""Return the lines of a table for the terminal, all columns aligned to the right.

    Parameters
    ----------
    table : list of dict
        One dict per line, all with the keys of the first, which become the heading. Cells are
        shown as strings, without characters that steer a terminal.

    Returns
    -------
    lines : list of str
        The heading and the lines; none for an empty table.

    Raises
    ------
    TypeError, ValueError
        If the table is a data frame, or its lines have different keys.

    See Also
    --------
    write_page : Shows the same table on a page.

    Examples
    --------
    >>> from sksae.report import table_lines
    >>> table = [{"rows": "1,200", "L0": "16.0"}, {"rows": "300", "L0": "8.5"}]
    >>> print(*table_lines(table), sep="\n")
     rows    L0
    1,200  16.0
      300   8.5
    """
    cells = table_cells(table)
    widths = [max(map(columns, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(" " * (w - columns(v)) + v for v, w in zip(line, widths, strict=True))
        for line in cells
    ]


def feature_lines(feature, *, n_examples=None, explanation=None):
    r"""Return the lines of a feature for the terminal: a heading, its tokens, its examples.

    The strongest token of an example is bold on a coloured ground where the output is a terminal,
    and in double brackets elsewhere. Lines fit the terminal, and 100 columns.

    Parameters
    ----------
    feature : Feature
        The feature.
    n_examples : int, default=None
        Largest number of examples. None shows all.
    explanation : Explanation or str, default=None
        Its name, for a line below the heading. None leaves the line out.

    Returns
    -------
    lines : list of str
        The lines.

    Raises
    ------
    TypeError
        If `feature` is not a `Feature`.
    ValueError
        If `n_examples` is negative.

    See Also
    --------
    sksae.interpret.FeatureAtlas : Its `feature` makes them.

    Examples
    --------
    >>> from sksae.interpret import FeatureAtlas
    >>> from sksae.report import feature_lines
    >>> table = {"text": [0, 0, 0], "string": ["a", " cold", " day"]}
    >>> atlas = FeatureAtlas().fit([[0], [2], [0]], tokens=table)
    >>> print(*feature_lines(atlas.feature(0)), sep="\n")
    Feature 0: fires on 33.33% of rows, in 1 text, at most 2
      on  ␣cold 100%
           2  a[[ cold]] day
    """
    if not hasattr(feature, "examples"):
        raise TypeError(
            f"feature must be a Feature, such as atlas.feature(0). Got {type(feature).__name__} "
            "instead."
        )
    check_option("n_examples", n_examples, Int(0, none=True))
    width = min(COLUMNS, shutil.get_terminal_size((COLUMNS, 24)).columns)
    marks = BOLD if _colours() else BRACKETS
    texts = f"{feature.n_texts:,} text" + "s" * (feature.n_texts != 1)
    tokens = [
        f"{edges_visible(token)} {share:.0%}"
        for token, share in feature.top_tokens
        if share >= 0.005
    ]
    return [
        f"Feature {feature.feature}: fires on {feature.density:.2%} of rows, in {texts}, "
        f"at most {feature.max_activation:.3g}",
        *([f"  is  {edges_visible(str(explanation))}"] if explanation is not None else []),
        *([f"  on  {'   '.join(tokens)}"] if tokens else []),
        *(
            f"{example.activation:8.3g}  {example.line(width=width - 10, marks=marks)}"
            for example in feature.examples[:n_examples]
        ),
    ]


def _colours():
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
