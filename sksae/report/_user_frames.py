"""Data of a page from frames of the user: columns beside texts, and statements with their texts."""

import math
from collections.abc import Mapping

import numpy as np

from sksae._signs import visible
from sksae.report._parts import rounded

DIGITS = 6  # of numbers that are shown beside a text; whole ones have all of theirs
_NUMBERS = {
    "effect": "effect",
    "low": "effect_low",
    "high": "effect_high",
    "p": "family_pvalue",
    "with": "with",
    "without": "without",
    "found": "effect_found",
    "f1": "stratified_f1",
    "f1_chance": "stratified_f1_chance",
}
"""Columns of statements by the names that the page gives them."""

_NEEDED = ("text", "survives", "n_texts", *list(_NUMBERS.values())[:6])


class TextColumns:
    """Columns of a frame, reduced to the texts that the page shows.

    Parameters
    ----------
    frame : DataFrame, mapping or None
        Columns with one value per text, in the order of the texts.
    name : str
        Name of the argument, for errors.
    n_texts : int, default=0
        Number of texts of which each needs its line.
    """

    def __init__(self, frame, name, n_texts=0):
        self.name = name
        frame = {} if frame is None else frame
        if not (isinstance(frame, Mapping) or hasattr(frame, "columns")):
            raise TypeError(
                f"{name} must be a data frame or a mapping of columns. Got {type(frame).__name__} "
                "instead."
            )
        names = list(frame.columns if hasattr(frame, "columns") else frame)
        self.columns = {visible(str(key)): list(frame[key]) for key in names}
        lengths = {len(values) for values in self.columns.values()}
        self.n_lines = lengths.pop() if lengths else 0
        if lengths or (self.columns and self.n_lines < n_texts):
            raise ValueError(
                f"{name} must have one line for each of {n_texts} texts in every column, in their "
                f"order. Got {sorted({self.n_lines, *lengths})} lines instead."
            )
        self.lines = {}  # from the number of a text to its place among those that are shown

    def add(self, text):
        """Note that a text is shown; its number is a line of the frame."""
        if not self.columns:
            return
        if not isinstance(text, (int, np.integer)) or not 0 <= text < self.n_lines:
            raise ValueError(
                f"{self.name} are looked up by the number of a text, from 0 to {self.n_lines - 1}. "
                f"Got {text!r} instead."
            )
        self.lines.setdefault(int(text), len(self.lines))

    def shown(self):
        """Return the columns of the texts that are shown, as a JSON value."""
        return {
            "names": list(self.columns),
            "texts": list(self.lines),
            "values": [
                [_cell(values[text]) for text in self.lines] for values in self.columns.values()
            ],
        }


def _cell(value):
    """Return a value as a number or a visible string; None where there is none."""
    if value is None or isinstance(value, (bool, np.bool_)):
        return None if value is None else str(bool(value))
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        value = float(value)
        if not math.isfinite(value):
            return None if math.isnan(value) else str(value)
        return float(f"{value:.{DIGITS}g}") if value % 1 else int(value)
    shown = str(value)
    return None if shown in ("NaT", "<NA>") else visible(shown)


def statement_lines(statements, n_components):
    """Return a line of the page per statement.

    Parameters
    ----------
    statements : DataFrame or None
        The table of :func:`sksae.interpret.validate`.
    n_components : int
        Number of features of the atlas.

    Returns
    -------
    lines : list of dict
    """
    if statements is None:
        return []
    if not hasattr(statements, "columns") or not hasattr(statements, "to_dict"):
        raise TypeError(
            f"statements must be the data frame of validate. Got {type(statements).__name__} "
            "instead."
        )
    missing = [name for name in _NEEDED if name not in statements.columns and len(statements)]
    if missing:
        raise ValueError(
            f"statements must have the columns of validate; {missing[0]!r} is missing."
        )
    numbers = [int(number) for number in statements.index]
    if any(not 0 <= number < n_components for number in numbers):
        raise ValueError(f"statements must be of features from 0 to {n_components - 1}.")
    return [
        _line(number, line)
        for number, line in zip(numbers, statements.to_dict("records"), strict=True)
    ]


def _line(number, line):
    return {
        "feature": number,
        "text": visible(str(line["text"])),
        "survives": bool(line["survives"]),
        "class": None if line.get("class") is None else visible(str(line["class"])),
        "n_texts": int(line["n_texts"]),
        **{name: rounded(line.get(column)) for name, column in _NUMBERS.items()},
        **{side: [int(text) for text in line.get(f"texts_{side}") or ()] for side in _SIDES},
    }


_SIDES = ("for", "against")


def tested_texts(lines, frame):
    """Return the texts for and against statements, with columns beside them, as a JSON value.

    Parameters
    ----------
    lines : list of dict
        Those of `statement_lines`.
    frame : DataFrame, mapping or None
        The texts that statements were tested on, in the column "text", and other columns.
    """
    columns = TextColumns(frame, "tested_on")
    if columns.columns and "text" not in columns.columns:
        raise ValueError(
            f"tested_on must have the texts in a column 'text'. Got {', '.join(columns.columns)}."
        )
    texts = columns.columns.pop("text", [])
    if texts:
        for number in (text for line in lines for side in _SIDES for text in line[side]):
            columns.lines.setdefault(number, len(columns.lines))
        if max(columns.lines, default=-1) >= len(texts):
            raise ValueError(
                f"tested_on has {len(texts)} lines, but statements were tested on more texts."
            )
    return {**columns.shown(), "strings": [visible(str(texts[number])) for number in columns.lines]}
