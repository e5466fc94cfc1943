"""Shares of a folder of activations, which several processes write and the first one merges.

Process i of n writes every n-th text, from the i-th on, to ``share-i-of-n`` within the folder: a
folder of activations of its own, which is continued after a crash like any other. When all are
complete, their rows are put together in the order of the texts.
"""

import shutil
from dataclasses import replace

import numpy as np

from sksae.language_models.extraction._shards import MANIFEST, PROGRESS

_ROWS = 2**16  # that are copied at a time, about
_UNKNOWN = ""  # digest of the texts until all of them are there


def share_name(number, n_shares):
    """Return the name of the folder of one share."""
    return f"share-{number}-of-{n_shares}"


def is_complete(folder):
    """Whether a folder has all that was to be written to it."""
    return (folder / MANIFEST).exists()


def check_shares(folder, n_processes):
    """Raise a ValueError if a folder that is not complete was begun by other processes."""
    if is_complete(folder):
        return
    begun_by = {int(share.name.rpartition("-")[2]) for share in _shares_in(folder)}
    if not begun_by and (folder / PROGRESS).exists():
        begun_by = {1}
    if not begun_by <= {n_processes}:
        raise ValueError(
            f"{folder} was begun by {begun_by.pop()} process(es), not by {n_processes}. Continue "
            f"with as many, take another folder, or delete this one."
        )


def remove_shares(folder):
    """Remove what was merged."""
    for share in _shares_in(folder):
        shutil.rmtree(share)


def merge(shards, shares, digest):
    """Append the rows of complete shares to a folder, in the order of the texts.

    Parameters
    ----------
    shards : Shards
        The folder, which may have some of the rows already.
    shares : list of (rows, TokenTable)
        What `load_activations` returns of every share.
    digest : str
        Of all texts.
    """
    n_texts = sum(len(tokens.texts) for _, tokens in shares)
    n_rows = sum(len(tokens) for _, tokens in shares)
    step = max(1, _ROWS * n_texts // max(n_rows, 1))
    for first in range(shards.facts["n_texts"], n_texts, step):
        last = min(first + step, n_texts)
        blocks, tokens = _merged(shares, first, last)
        shards.append(blocks, tokens, digest if last == n_texts else _UNKNOWN)


def _merged(shares, first, last):
    """Return the blocks of rows of the texts ``first : last``, and their table."""
    n_shares = len(shares)
    blocks, tables = [], []
    texts = [None] * (last - first)
    for number, (rows, tokens) in enumerate(shares):
        # Text t of the share is text ``t * n_shares + number`` of all.
        begin, end = (-(-(bound - number) // n_shares) for bound in (first, last))
        texts[begin * n_shares + number - first :: n_shares] = tokens.texts[begin:end]
        lines = slice(*np.searchsorted(tokens.text, [begin, end]))
        table = tokens[lines]
        tables.append(replace(table, text=table.text * n_shares + number - first))
        sites = rows.values() if isinstance(rows, dict) else [rows]
        blocks.append([block[lines] for block in sites])
    columns = {
        name: np.concatenate([getattr(table, name) for table in tables])
        for name in ("text", "position", "id", "string", "start", "end", "group")
    }
    order = np.argsort(columns["text"], kind="stable")
    table = replace(tables[0], texts=texts, **columns)[order]
    # Per site: the rows of all shares below each other.
    return [np.concatenate(parts)[order] for parts in zip(*blocks, strict=True)], table


def _shares_in(folder):
    return [path for path in folder.glob("share-*-of-*") if path.is_dir()]
