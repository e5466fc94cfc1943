"""Strings for display: lines of a terminal, tables, and texts in pictures.

Strings never control a terminal. In a picture they are never markup, drawn in fonts that have their
characters, and labels are inside of the axes and off each other.
"""

import unicodedata
from functools import lru_cache
from html import escape

import numpy as np

SHOWN = 10
"""Lines of a table that are shown."""

_CELL_COLUMNS = 60
_VISIBLE = {"\n": "↵", "\r": "␍", "\t": "→"}
_UNPRINTED = ("Cc", "Cs", "Zl", "Zp")
# They would reorder all characters after them on the line.
_BIDI_CONTROLS = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}

GREY, INK = "#8f8f8f", "#222222"
_BOX = "□"
_STEP = 11  # points between the lines of two labels
_STEPS = 12  # lines that a label may be moved up or down
_GAP = 5  # points between a mark and its label
_MARGIN, _MARK = 4, 3  # points that labels keep from the edge of the axes, and radius of a mark
_LINE, _EVERY = 1.5, 4  # points that labels keep from lines, and between the places looked at
# Looked for in this order when the user's own font lacks a character.
_FALLBACKS = (
    "Noto Sans CJK KR",
    "Noto Sans KR",
    "Source Han Sans KR",
    "Apple SD Gothic Neo",
    "AppleGothic",
    "Malgun Gothic",
    "NanumGothic",
    "NanumBarunGothic",
    "UnDotum",
    "Baekmuk Dotum",
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Hiragino Sans",
    "PingFang SC",
    "Microsoft YaHei",
    "Yu Gothic",
    "WenQuanYi Zen Hei",
    "Noto Sans Symbols 2",
    "Noto Emoji",
    "Segoe UI Symbol",
    "Noto Sans Arabic",
    "Noto Sans Hebrew",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "Arial Unicode MS",
    "DejaVu Sans",
)


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


def drawn(strings, *, family=None):
    """Return strings as they can be drawn, and the properties of the texts that draw them.

    Parameters
    ----------
    strings : list of str
        Texts of a user, already on one line.
    family : str, default=None
        A family of fonts, such as "monospace". None takes the user's own default.

    Returns
    -------
    strings : list of str
        The same, with a box for each character that no known font here has.
    properties : dict
        For `matplotlib.text.Text`: the families needed, and no mathematics.
    """
    import matplotlib as mpl

    first = [family] if family else list(mpl.rcParams["font.family"])
    strings = [visible(str(string)) for string in strings]
    characters = set("".join(strings))
    invisible = {c for c in characters if unicodedata.category(c) == "Cf"}
    missing = characters - invisible - _covered(first)
    families = list(first)
    installed = _installed() if missing else ()
    for name in (name for name in _FALLBACKS if name in installed):
        covered = missing & _characters_of(name)
        if covered:
            families.append(name)
            missing -= covered
    # A mark has no meaning without its base character, and joiners join nothing here.
    table = {ord(c): "" if unicodedata.category(c)[0] == "M" else _BOX for c in missing}
    table |= {ord(c): "" for c in invisible}
    return [s.translate(table) for s in strings], {"family": families, "parse_math": False}


def _covered(families):
    return frozenset().union(*map(_characters_of, families))


def _installed():
    from matplotlib.font_manager import fontManager

    return {font.name for font in fontManager.ttflist}


def _characters_of(family):
    from matplotlib.font_manager import FontProperties, findfont

    return _characters_in(findfont(FontProperties(family=[family])))


@lru_cache(maxsize=64)
def _characters_in(path):
    from matplotlib.font_manager import get_font

    return frozenset(map(chr, get_font(path).get_charmap()))


def place_labels(ax, points, labels, *, lines=(), radius=_MARK):
    """Write labels beside points, inside the axes and without overlap where there is space.

    Each label takes the first free place of: right of its point, left of it, and the same one line
    higher, one line lower, two lines higher and so on. A line leads from a label that had to move
    to its point. Without a free place it takes the one with the least overlap.

    Parameters
    ----------
    ax : matplotlib Axes
        Axes whose limits are final.
    points : array-like of shape (n_labels, 2)
        The points, in data coordinates. Labels of the first ones are placed first.
    labels : list of str
        One label per point.
    lines : sequence of array-like of shape (n_vertices, 2), default=()
        Lines that labels keep off where they can, in data coordinates.
    radius : float, default=3
        Of the marks at the points, in points (1/72 inch).

    Returns
    -------
    texts : list of matplotlib Annotation
        The labels, in the order of the points.
    """
    from matplotlib.patheffects import withStroke

    labels, properties = drawn(labels)
    if not labels:
        return []
    style = {"va": "center", "fontsize": 8, "color": INK, **properties}
    measured = [ax.text(0, 0, label, in_layout=False, **style) for label in labels]
    ax.figure.draw_without_rendering()  # a layout has its sizes after this only
    boxes = [text.get_window_extent() for text in measured]
    for text in measured:
        text.remove()
    pixels = ax.figure.dpi / 72
    inside = ax.get_window_extent().padded(-_MARGIN * pixels)
    points = np.asarray(points, dtype=np.float64)
    anchors = ax.transData.transform(points)
    taken = np.hstack([anchors - radius * pixels, anchors + radius * pixels]).tolist()
    taken += [box for line in lines for box in _boxes_along(ax.transData.transform(line), pixels)]
    gap = (radius + _GAP) * pixels
    style["path_effects"] = [withStroke(linewidth=2.5, foreground="white")]
    arrow = {"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkB": radius}
    texts = []
    for label, point, anchor, box in zip(labels, points, anchors, boxes, strict=True):
        (dx, dy), place = _free_place(anchor, (box.width, box.height), inside, taken, gap, pixels)
        taken.append(place)
        is_right = dx >= 0
        text = ax.annotate(
            label,
            point,
            xytext=(dx / pixels, dy / pixels),
            textcoords="offset points",
            ha="left" if is_right else "right",
            arrowprops={**arrow, "relpos": (0 if is_right else 1, 0.5)},
            **style,
        )
        text.set_in_layout(False)
        is_far = abs(dy) > _STEP * pixels
        text.arrow_patch.set_visible(is_far)
        if is_far:  # later labels keep off the line as well
            taken += _boxes_along(anchor + np.array([(0, 0), (dx, dy)]), pixels)
        texts.append(text)
    return texts


def _boxes_along(vertices, pixels):
    """Return small boxes (left, bottom, right, top) along a line, all in pixels."""
    steps = np.hypot(*np.diff(vertices, axis=0).T)
    along = np.r_[0, np.cumsum(steps)]
    places = np.linspace(0, along[-1], max(2, int(along[-1] / (_EVERY * pixels))))
    centres = np.c_[
        np.interp(places, along, vertices[:, 0]), np.interp(places, along, vertices[:, 1])
    ]
    return np.hstack([centres - _LINE * pixels, centres + _LINE * pixels]).tolist()


def _free_place(anchor, size, inside, taken, gap, pixels):
    """Return the offset of a label from its point, and the box that it takes, all in pixels."""
    step = _STEP * pixels
    best = None
    for number in range(2 * _STEPS + 1):
        lines = (number + 1) // 2 * (1 if number % 2 else -1)  # 0, 1, -1, 2, -2 and so on
        for dx in (gap, -gap):
            dy = lines * step
            x = anchor[0] + (dx if dx > 0 else dx - size[0])
            y = anchor[1] + dy - size[1] / 2
            box = (x, y, x + size[0], y + size[1])
            cost = _outside(box, inside) + sum(_overlap(box, obstacle) for obstacle in taken)
            if best is None or cost < best[0]:
                best = cost, (dx, dy), box
            if cost < 1e-6:  # areas are rounded
                return best[1:]
    return best[1:]


def _outside(box, inside):
    """Return the area of a box beyond another, weighed more than any overlap."""
    area = (box[2] - box[0]) * (box[3] - box[1])
    return 100 * max(0, area - _overlap(box, inside.extents))


def _overlap(box, obstacle):
    """Return the area that two boxes (left, bottom, right, top) share."""
    width = min(box[2], obstacle[2]) - max(box[0], obstacle[0])
    height = min(box[3], obstacle[3]) - max(box[1], obstacle[1])
    return max(0, width) * max(0, height)
