"""Fonts for a user's strings in a picture: never markup, a box for characters without a font."""

import unicodedata
from functools import lru_cache

from sksae._signs import visible

_BOX = "□"
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
