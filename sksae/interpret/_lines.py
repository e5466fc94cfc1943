"""An example as one line of plain text: for terminals, notebooks and logs."""

from sksae._signs import columns, fit_columns, visible


def line_of(example, width, marks):
    """Return the text of `Example.line`."""
    words = [visible(token) for token in example.tokens]
    left, peak, right = words[: example.peak], words[example.peak], words[example.peak + 1 :]
    left = "…" * example.cut_before + "".join(left)
    right = "".join(right) + "…" * example.cut_after
    if width is not None:
        room = width - sum(0 if mark.startswith("\x1b") else columns(mark) for mark in marks)
        peak = fit_columns(peak, room)
        room -= columns(peak)
        # Two thirds of the room before the token: that is what the model has read.
        after = min(columns(right), max(room // 3, room - columns(left)))
        left = fit_columns(left[::-1], room - after)[::-1]
        right = fit_columns(right, room - columns(left))
    return f"{left}{marks[0]}{peak}{marks[1]}{right}"
