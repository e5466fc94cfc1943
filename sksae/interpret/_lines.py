"""An example as one line of plain text: for terminals, notebooks and logs."""

import unicodedata

BRACKETS = ("[[", "]]")
BOLD_YELLOW = ("\x1b[1;30;43m", "\x1b[0m")

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
    >>> from sksae.interpret import visible
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
    >>> from sksae.interpret import edges_visible
    >>> print(edges_visible("  token"))
    ␣␣token
    """
    string = visible(string)
    inner = string.strip(" ")
    begin = string.index(inner)
    return "␣" * begin + inner + "␣" * (len(string) - begin - len(inner))


def example_line(example, *, width=None, marks=BRACKETS):
    """Return an example on one line, the strongest token between `marks`.

    Parameters
    ----------
    example : Example
        What to show.
    width : int, default=None
        The most columns of a terminal that the line takes. None shows the whole window.
    marks : tuple of two str, default=("[[", "]]")
        What stands before and after the strongest token; escape sequences take no columns.

    Returns
    -------
    line : str
        The line, without a line break.

    See Also
    --------
    max_activating_examples : Finds the examples.

    Examples
    --------
    >>> from sksae.interpret import example_line, max_activating_examples
    >>> words = ["a", " very", " cold", " day"]
    >>> table = {"text": [0, 0, 0, 0], "string": words}
    >>> example = max_activating_examples([[0], [0], [2], [1]], table)[0][0]
    >>> print(example_line(example, width=16))
    …very[[ cold]] …
    """
    words = [visible(token) for token in example.tokens]
    left, peak, right = words[: example.peak], words[example.peak], words[example.peak + 1 :]
    left = "…" * example.cut_before + "".join(left)
    right = "".join(right) + "…" * example.cut_after
    if width is not None:
        room = width - sum(0 if mark.startswith("\x1b") else columns(mark) for mark in marks)
        peak = _fit(peak, room)
        room -= columns(peak)
        # Two thirds of the room before the token: that is what the model has read.
        after = min(columns(right), max(room // 3, room - columns(left)))
        left = _fit(left[::-1], room - after)[::-1]
        right = _fit(right, room - columns(left))
    return f"{left}{marks[0]}{peak}{marks[1]}{right}"


def columns(string):
    """Return how many columns of a terminal a string takes."""
    return sum(map(_columns, string))


def _fit(string, room):
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
