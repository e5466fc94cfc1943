"""Strings for display: lines of a terminal, tables, and texts in pictures."""

from sksae._signs._drawn_text import GREY, INK, drawn, place_labels
from sksae._signs._shown_strings import (
    SHOWN,
    TableRepr,
    aligned,
    columns,
    edges_visible,
    fit_columns,
    visible,
)

__all__ = [
    "GREY",
    "INK",
    "SHOWN",
    "TableRepr",
    "aligned",
    "columns",
    "drawn",
    "edges_visible",
    "fit_columns",
    "place_labels",
    "visible",
]
