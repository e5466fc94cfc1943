"""Strings and tables for display: short lines without characters that control a terminal."""

import unicodedata
from html import escape

SHOWN = 10
"""Lines of a table that are shown."""

_CELL_COLUMNS = 60
_VISIBLE = {"\n": "↵", "\r": "␍", "\t": "→"}
_UNPRINTED = ("Cc", "Cs", "Zl", "Zp")
# They would reorder all characters after them on the line.
_BIDI_CONTROLS = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}


def visible(string):
    r"""Return a text with signs for line breaks and tabs, and without control characters.

    Parameters
    ----------
    string : str
        Any text.

    Returns
    -------
    shown : str
        Text of one line that cannot control a terminal.

    See Also
    --------
    edges_visible : Shows the spaces at the ends as well.

    Examples
    --------
    >>> from sksae._signs import visible
    >>> print(visible("one\n\ttwo"))
    one↵→two
    """
    return "".join(map(_visible, string))


def edges_visible(string):
    """Return a token with signs for the spaces at its ends.

    Parameters
    ----------
    string : str
        The token.

    Returns
    -------
    shown : str
        The token as `visible` returns it, with signs for outer spaces.

    See Also
    --------
    visible : The same for longer texts.

    Examples
    --------
    >>> from sksae._signs import edges_visible
    >>> print(edges_visible("  token"))
    ␣␣token
    """
    string = visible(string)
    inner = string.strip(" ")
    begin = string.index(inner)
    return "␣" * begin + inner + "␣" * (len(string) - begin - len(inner))


def columns(string):
    """Return the number of columns of a terminal that a string takes."""
    return sum(map(_columns, string))


def fit_columns(string, width):
    """Return the start of `string` that fits into `width` columns, cut with an ellipsis."""
    if columns(string) <= width:
        return string
    characters, used = [], 1  # one column for the ellipsis
    for character in string:
        used += _columns(character)
        if used > width:
            break
        characters.append(character)
    return "".join(characters) + "…" * (width > 0)


class TableRepr:
    """Mixin of tables: their first lines, as aligned text and as HTML.

    A table has a method `_shown` that returns sentences (list of str), a heading (tuple of str)
    and lines (list of tuple of str).
    """

    def __repr__(self):
        sentences, cells = self._cleaned()
        return "\n".join([*sentences, *aligned(cells)])

    def _repr_html_(self):
        sentences, (heading, *lines) = self._cleaned()
        above = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
        if not heading:
            return above
        head = "".join(f"<th>{escape(name)}</th>" for name in heading)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>"
            for line in lines
        )
        return f"{above}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _cleaned(self):
        """Return sentences and lines of cells, the heading first, that are safe to show."""
        sentences, heading, lines = self._shown()
        cells = [[fit_columns(visible(str(x)), _CELL_COLUMNS) for x in line] for line in lines]
        return [visible(sentence) for sentence in sentences], [list(heading), *cells]


def aligned(lines):
    """Return lists of cells as lines of text: all to the right, but the last to the left."""
    if not lines or not lines[0]:
        return []
    widths = [max(map(columns, column)) for column in zip(*lines, strict=True)]
    texts = []
    for *cells, last in lines:
        padded = [
            " " * (width - columns(cell)) + cell for cell, width in zip(cells, widths, strict=False)
        ]
        texts.append("  ".join([*padded, last]).rstrip())
    return texts


def _visible(character):
    if character in _VISIBLE:
        return _VISIBLE[character]
    if unicodedata.category(character) in _UNPRINTED or ord(character) in _BIDI_CONTROLS:
        return "\N{REPLACEMENT CHARACTER}"
    return character


def _columns(character):
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
