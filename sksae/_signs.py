"""Strings shown to a person: on one line, and unable to steer a terminal."""

import unicodedata

_VISIBLE = {"\n": "↵", "\r": "␍", "\t": "→"}
_UNPRINTED = ("Cc", "Cs", "Zl", "Zp")
# They would reorder everything that follows on the line.
_BIDI_CONTROLS = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}


def visible(string):
    r"""Return a text with signs for line breaks and tabs, and no character that moves a cursor.

    Parameters
    ----------
    string : str
        Any text.

    Returns
    -------
    shown : str
        Text that stays on one line and cannot steer a terminal.

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
    """Return a token as it can be shown alone, with signs for the spaces at its ends.

    Parameters
    ----------
    string : str
        The token.

    Returns
    -------
    shown : str
        What `visible` makes of it, with signs for outer spaces.

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
    """Return how many columns of a terminal a string takes."""
    return sum(map(_columns, string))


def fit_columns(string, room):
    """Return as much of the start of `string` as fits, with an ellipsis where some is missing."""
    if columns(string) <= room:
        return string
    kept, used = [], 1
    for character in string:
        used += _columns(character)
        if used > room:
            break
        kept.append(character)
    return "".join(kept) + "…" * (room > 0)


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
