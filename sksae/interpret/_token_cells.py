"""Cells: rows grouped into pieces of whole characters, in reading order, text by text."""

import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import sparse

from sksae._arrays import objects
from sksae._coding import as_csr, sparse_coder, sparse_codes
from sksae._runs import run_lengths, run_starts

LONGEST_GAP = 20
"""Characters between two tokens that are still shown; a longer gap becomes an ellipsis."""


class TokenCells(NamedTuple):
    """Cells of a token table, each shown as one piece of text.

    A cell is one row, or several rows that share a character. `begin` and `end` bound the cells of
    the same text, so that no window leaves its text.
    """

    string: np.ndarray  # (n_cells,), object
    text: np.ndarray  # (n_cells,): texts numbered from 0
    first_row: np.ndarray  # (n_cells + 1,): cell c is made of rows first_row[c]:first_row[c + 1]
    begin: np.ndarray  # (n_cells,): first cell of the text of each cell
    end: np.ndarray  # (n_cells,): last cell of the text of each cell, plus one
    cell: np.ndarray  # (n_rows,): the cell of each row
    source: np.ndarray  # (n_rows,): the text of each row, as the table names it
    distinct: bool  # no two windows count as the same: rows with labels, patches of images


def read_cells(tokens, n_rows):
    """Return the `TokenCells` of a token table, of one label per row, or of row numbers (None)."""
    if isinstance(tokens, (str, bytes)):
        raise TypeError("tokens must be a token table or one label per row; got one string.")
    text, string = column_of(tokens, "text"), column_of(tokens, "string")
    if text is None or string is None:
        if _is_frame(tokens):
            raise ValueError(
                "A table of tokens needs the columns 'text' and 'string', one line per row of "
                f"codes; this one has {', '.join(map(str, _names(tokens)))}."
            )
        if tokens is not None and not isinstance(tokens, Iterable):
            raise TypeError(
                f"tokens must be a token table or one label per row; got {type(tokens).__name__}."
            )
        labels = range(n_rows) if tokens is None else list(tokens)
        _check_length(len(labels), n_rows)
        if any(label is None for label in labels):
            raise ValueError("tokens has a label that is None; every row needs one.")
        rows = np.arange(n_rows)
        return _make_cells(rows, objects(map(str, labels)), rows, distinct=True)
    text, string = np.asarray(text), np.asarray(string, dtype=object)
    _check_length(len(text), n_rows)
    _check_strings(text, string)
    firsts = _cell_starts(text, column_of(tokens, "group"), column_of(tokens, "position"))
    # Patches are named by their places, which say nothing of what is there.
    distinct = getattr(tokens, "policy", {}).get("input") == "image"
    return _make_cells(text, _whole_strings(tokens, text, string, firsts), firsts, distinct)


def labelling(tokens):
    """Return what `tokens` says about rows: "tokens", "labels", or "numbers" for None."""
    if tokens is None:
        return "numbers"
    is_table = all(column_of(tokens, name) is not None for name in ("text", "string"))
    return "tokens" if is_table else "labels"


def _check_strings(text, string):
    """Raise a ValueError unless every row has a string and the name of a text."""
    wrong = [row for row, value in enumerate(string.tolist()) if not isinstance(value, str)]
    if wrong:
        raise ValueError(
            f"The column 'string' of tokens needs a str in each row. Row {wrong[0]} has "
            f"{string[wrong[0]]!r}; a token that is no text has its name, such as '[CLS]', or ''."
        )
    if text.dtype.kind == "O" and any(name is None for name in text.tolist()):
        raise ValueError("The column 'text' of tokens has None; every row needs its text.")


def _make_cells(text, string, firsts, distinct=False):
    """Return the `TokenCells` that begin at the rows `firsts` and read `string`."""
    first_row = np.append(firsts, len(text))
    source, text = text, text[firsts]  # of each row, and of each cell
    starts = run_starts(text)  # first cell of each text
    lengths = run_lengths(starts, len(text))
    return TokenCells(
        string=string,
        # Texts are numbered in the order of their names, whatever these are.
        text=np.unique(text, return_inverse=True)[1].reshape(-1),
        first_row=first_row,
        begin=np.repeat(starts, lengths),
        end=np.repeat(starts + lengths, lengths),
        cell=np.repeat(np.arange(len(firsts)), np.diff(first_row)),
        source=source,
        distinct=distinct,
    )


def _cell_starts(text, group, position):
    """Return the rows at which a new cell begins; without groups, each row does."""
    if group is None:
        return np.arange(len(text))
    is_start = np.zeros(len(text), dtype=bool)
    is_start[run_starts(text, np.asarray(group))] = True
    if position is not None:
        is_start |= np.asarray(position) < 0  # special tokens share no characters
    return np.flatnonzero(is_start)


def _whole_strings(tokens, text, string, firsts):
    """Return the string of each cell, with the text between it and the cell before."""
    columns = [column_of(tokens, name) for name in ("start", "end", "texts")]
    if any(column is None for column in columns):
        ends = np.append(firsts[1:], len(string))
        cells = zip(firsts.tolist(), ends.tolist(), strict=True)
        # Each token of a character that several share carries all of it.
        return objects(max(string[a:b], key=len) for a, b in cells)
    start, end, texts = np.asarray(columns[0])[firsts], np.asarray(columns[1]), columns[2]
    end = np.maximum.reduceat(end, firsts) if len(firsts) else end
    # Characters between the end of the cell before, in the same text, and the start of a cell.
    previous_end = np.full(len(firsts), -1)  # -1 where there is no cell before in the text
    same_text = text[firsts][1:] == text[firsts][:-1]
    previous_end[1:] = np.where(same_text, end[:-1], -1)
    shared, strings = {}, []  # equal strings are stored once
    spans = (text[firsts], previous_end, start, end, string[firsts])
    for t, p, s, e, name in zip(*(column.tolist() for column in spans), strict=True):
        # Spaces between tokens, which the tokenizer left out.
        gap = texts[t][p:s] if 0 <= p < s else ""
        piece = texts[t][s:e] if 0 <= s < e else name  # a special token has a name only
        piece = (gap if len(gap) <= LONGEST_GAP else "…") + piece
        strings.append(shared.setdefault(piece, piece))
    return objects(strings)


def _is_frame(tokens):
    return isinstance(tokens, Mapping) or hasattr(tokens, "columns")


def _names(tokens):
    return list(tokens.keys() if isinstance(tokens, Mapping) else tokens.columns)


def column_of(tokens, name):
    """Return a column of a mapping or data frame, or an attribute; None where there is none."""
    if _is_frame(tokens):
        return tokens[name] if name in _names(tokens) else None
    return getattr(tokens, name, None)


def _check_length(length, n_rows):
    if length != n_rows:
        raise ValueError(
            f"codes has {n_rows} rows, but tokens has {length}: one token per row is needed."
        )


@dataclass(frozen=True, eq=False, repr=False)
class PromptCodes:
    """A text, cut into pieces, and the codes of each piece.

    The page of :func:`~sksae.report.write_page` shows it as a heat map of features and pieces.

    Parameters
    ----------
    text : str
        The text.
    tokens : ndarray of shape (n_pieces,), dtype=object
        One string per piece of whole characters.
    codes : csr_array of shape (n_pieces, n_components)
        The largest codes of the rows that make up each piece.

    See Also
    --------
    read_prompt : Makes it.
    sksae.report.write_page : Shows it.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> from sksae.interpret import PromptCodes
    >>> tokens = np.array(["cold", " tea"], dtype=object)
    >>> prompt = PromptCodes("cold tea", tokens, sparse.csr_array([[0, 2.0], [1.0, 0]]))
    >>> prompt.strongest(n_features=1)
    array([1])
    """

    text: str
    tokens: np.ndarray
    codes: sparse.csr_array

    def __repr__(self):
        n_tokens, n_features = self.codes.shape
        text = reprlib.repr(self.text)
        return f"PromptCodes({text}, {n_tokens} tokens, {n_features} features)"

    def strongest(self, n_features=10):
        """Return the features that fire most, by their largest code.

        Parameters
        ----------
        n_features : int, default=10
            Largest number of features returned.

        Returns
        -------
        features : ndarray of shape (n_active,)
            Columns of the codes, the strongest first.
        """
        codes = as_csr(self.codes)
        largest = np.zeros(codes.shape[1])
        np.maximum.at(largest, codes.indices, codes.data)
        order = np.argsort(-largest, kind="stable")[:n_features]
        return order[largest[order] > 0]


def read_prompt(extractor, sae, text):
    """Compute the codes of a text, piece by piece.

    Tokens that share a character are one piece, with the largest of their codes.

    Parameters
    ----------
    extractor : ActivationExtractor
        Gives the activations that `sae` was fitted on.
    sae : estimator
        A fitted sparse autoencoder, or another transformer with codes that are not negative.
    text : str
        The text.

    Returns
    -------
    prompt : PromptCodes
        Its pieces, of whole characters each, and their codes.

    Raises
    ------
    TypeError
        If `text` is no string, or `extractor` is no extractor.
    ValueError
        If no token of the text is read.

    See Also
    --------
    max_activating_examples : The texts on which a feature fires most.
    sksae.language_models.describe_behaviour : Effects of features on the logits of a prompt.

    Examples
    --------
    >>> from sksae import TopKSAE
    >>> from sksae.datasets import TINY_LM_PATH
    >>> from sksae.interpret import read_prompt
    >>> from sksae.language_models import ActivationExtractor
    >>> extractor = ActivationExtractor(TINY_LM_PATH, layer=3)
    >>> sae = TopKSAE(16, k=4, max_iter=1, random_state=0)
    >>> sae = sae.fit(extractor.transform(["The river ran past the mill."] * 9))
    >>> prompt = read_prompt(extractor, sae, "a mill, 방앗간")
    >>> prompt.codes.shape == (len(prompt.tokens), 16)
    True
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a string. Got {type(text).__name__} instead.")
    if not hasattr(extractor, "extract"):
        raise TypeError(
            "extractor must be an ActivationExtractor, and comes first: read_prompt(extractor, "
            f"sae, text). Got {type(extractor).__name__} instead."
        )
    coder = sparse_coder(sae)
    width = len(coder.get_feature_names_out())
    rows, tokens = extractor.extract([text])
    if not len(tokens):
        raise ValueError("No token of this text is read; it is empty, or the extractor skips all.")
    cells = read_cells(tokens, len(tokens))
    codes = sparse_codes(coder, rows, width)
    return PromptCodes(text, cells.string, _largest_per_cell(codes, cells))


def _largest_per_cell(codes, cells):
    """Return the largest codes of the rows of each cell, as CSR."""
    codes = codes.tocoo()
    shape = (len(cells.string), codes.shape[1])
    key = cells.cell[codes.row].astype(np.int64) * shape[1] + codes.col  # cell and feature
    order = np.argsort(key, kind="stable")
    key, data = key[order], codes.data[order]
    starts = run_starts(key)
    largest = np.maximum.reduceat(data, starts) if len(starts) else data
    cell, feature = np.divmod(key[starts], shape[1])
    return sparse.csr_array((largest, (cell, feature)), shape=shape)
