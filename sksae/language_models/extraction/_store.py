"""Activations on disk: written in shards, continued after a crash, read lazily.

Process i of n writes every n-th text, from the i-th on, to ``share-i-of-n`` within the folder: a
folder of activations of its own, which is continued after a crash like any other. When all are
complete, the first process puts their rows together in the order of the texts.
"""

import hashlib
import json
import shutil
import tempfile
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import numpy as np

from sksae._arrays import objects
from sksae._files import as_path, replacing
from sksae._optional import needed
from sksae._params import Bool, Instance, check_option
from sksae._processes import (
    check_same,
    from_first,
    is_first,
    n_processes,
    process_number,
    wait_for_all,
)
from sksae.language_models.extraction._forward_passes import token_bar
from sksae.language_models.extraction._input_items import length, read_items
from sksae.language_models.extraction._shards import (
    DTYPES,
    MANIFEST,
    PROGRESS,
    ROWS,
    STRINGS,
    TEXTS,
    TOKEN,
    TOKENS,
    check_files,
    files_of,
    has_file,
    labels_of,
    read_facts,
    read_lines,
    row_files,
    writing,
)
from sksae.language_models.extraction._token_table import TokenTable

_SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
    "image_size",
    "patch_size",
)
_COPIED_ROWS = 2**16  # of shares at a time, about
_UNKNOWN = ""  # digest of the texts until all of them are there


def load_activations(path, *, site=None, verify=True, cache_dir=None):
    """Open the activations that `ActivationExtractor.to_memmap` wrote.

    Parameters
    ----------
    path : str or Path
        The folder, or an URL that `fsspec` knows, such as ``"s3://bucket/rows"``.
    site : str, default=None
        Of a folder with several sites the one to open, such as ``"2.mlp_out"``. None opens all.
    verify : bool, default=True
        Whether to read all rows once, to see that they are those that were written. False compares
        the size of their file only, which takes no time; the other files are always compared.
    cache_dir : str or Path, default=None
        Of an URL the local folder that it is copied to, which needs the extra `remote`. What is
        there already is not copied again.

    Returns
    -------
    rows : memmap of shape (n_tokens, n_features), or dict of str to memmap
        The activations, read from the disk as they are used; it cannot be written to. Of a folder
        with several sites it is a dict from the name of each to its rows, unless one is chosen.
    tokens : TokenTable of length n_tokens
        Text, position, id, string and character span of each row.

    Raises
    ------
    FileNotFoundError
        If `path` is no folder of activations.
    ValueError
        If the folder is not complete, a file in it is damaged, with its name, it has no such site,
        or an URL comes without a `cache_dir`, or with one that has other activations.

    See Also
    --------
    ActivationExtractor.to_memmap : Writes the folder.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sksae.datasets import TINY_LM_PATH
    >>> from sksae.language_models import ActivationExtractor, load_activations
    >>> extractor = ActivationExtractor(TINY_LM_PATH, layer=2)
    >>> with TemporaryDirectory() as folder:
    ...     _ = extractor.to_memmap(["sparse features"], folder)
    ...     rows, tokens = load_activations(folder)
    ...     rows.shape, rows.dtype.name, tokens.string.tolist()
    ((2, 192), 'float16', ['sparse', ' features'])
    """
    folder = as_path(path) if cache_dir is None else as_path(cache_dir)
    if isinstance(path, str) and "://" in path:
        _fetch(path, cache_dir)
    elif cache_dir is not None:
        raise ValueError(f"cache_dir is for URLs: {path} is read where it is.")
    check_option("site", site, Instance(str, type(None), description="a str or None"))
    check_option("verify", verify, Bool())
    facts = read_facts(folder / MANIFEST)
    if facts is None:
        begun = read_facts(folder / PROGRESS)
        if begun is None:
            raise FileNotFoundError(f"{folder} is no folder of activations: it has no {MANIFEST}.")
        raise ValueError(
            f"{folder} is not complete: {begun['n_texts']} texts are done. Call to_memmap with the "
            f"same texts and parameters to continue."
        )
    labels = labels_of(facts)
    if site not in (None, *labels):
        raise ValueError(f"{folder} has no site {site!r}; it has {', '.join(map(repr, labels))}.")
    check_files(folder, facts, verify=verify)
    lines = np.load(folder / TOKENS, mmap_mode="r").view(np.ndarray)
    strings = objects(read_lines(folder / STRINGS, facts["n_strings"]))  # (n_strings,)
    texts = read_lines(folder / TEXTS, facts["n_texts"])
    for name, values in (("string", strings), ("text", texts)):
        # An index out of range would take the last string, or fail later.
        if len(lines) and not 0 <= lines[name].min() <= lines[name].max() < len(values):
            raise ValueError(f"{folder / TOKENS} is damaged: it has a {name} that is not there.")
    columns = {name: lines[name] for name in TOKEN.names}
    # Rows do not depend on these two.
    policy = {k: v for k, v in facts["fingerprint"].items() if k not in ("dtype", "config")}
    tokens = TokenTable(
        **{**columns, "string": strings[columns["string"]]},  # (n_rows,)
        texts=texts,
        policy=policy,
    )
    files = dict(zip(labels, row_files(facts), strict=True))
    if site is not None or ROWS in files.values():  # a folder with one site has one file of rows
        return np.load(folder / files[site or labels[0]], mmap_mode="r"), tokens
    return {label: np.load(folder / name, mmap_mode="r") for label, name in files.items()}, tokens


def _fetch(url, cache_dir):
    """Copy what a folder does not have yet of the activations at an URL."""
    from filelock import FileLock

    if cache_dir is None:
        raise ValueError(f"{url} is not on this machine: name a folder for its copy by cache_dir.")
    folder = as_path(cache_dir)
    files, root = needed("fsspec", "load_activations").url_to_fs(url)
    if not files.exists(f"{root}/{MANIFEST}"):
        raise FileNotFoundError(f"{url} has no complete activations: there is no {MANIFEST}.")
    folder.mkdir(parents=True, exist_ok=True)
    # Other processes wait for the first one, and find everything there.
    with FileLock(folder / ".lock"), tempfile.TemporaryDirectory() as place:
        files.get_file(f"{root}/{MANIFEST}", str(Path(place) / MANIFEST))
        facts, copied = read_facts(Path(place) / MANIFEST), read_facts(folder / MANIFEST)
        if copied not in (None, facts):
            raise ValueError(f"{folder} has other activations than {url}: take another cache_dir.")
        if copied is None:
            # The file that says what is there comes last.
            names = [name for name in files_of(facts) if not has_file(folder, facts, name)]
            for name in (*names, MANIFEST):
                with replacing(folder / name) as part:
                    files.get_file(f"{root}/{name}", str(part))


def store(reader, X, path, dtype):
    """Write the rows of X to a folder, or the missing ones, and open it."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(map(repr, DTYPES))}. Got {dtype!r}.")
    items = read_items(X)
    head = [item for item in [next(items, None)] if item is not None]
    fingerprint = _fingerprint(reader, head[0][0] if head else None, dtype)
    args = reader, _Digested(chain(head, items)), fingerprint, as_path(path), length(X)
    if n_processes() > 1:
        _store_together(*args)
    else:
        check_shares(as_path(path), 1)
        _store_items(*args)
    return load_activations(path, verify=False)  # they were compared, or written just now


def _store_items(reader, items, fingerprint, folder, n_items):
    with writing(folder, fingerprint) as shards:
        _skip(reader, items, shards)
        if shards.complete:
            _check_end(items, shards)
        else:
            _write(reader, items, shards, n_items)


def _store_together(reader, items, fingerprint, folder, n_items):
    """Have every process write a share of the texts, and the first one merge the shares."""
    facts = {"the folder": folder, **{f"the {name}": v for name, v in fingerprint.items()}}
    check_same(lambda: {name: str(value) for name, value in facts.items()})
    number, n = process_number(), n_processes()
    if from_first(lambda: is_complete(folder)):
        if is_first():
            _store_items(reader, items, fingerprint, folder, n_items)
            remove_shares(folder)  # of a process that was killed while it did that
        wait_for_all()
        return
    from_first(lambda: check_shares(folder, n))  # before anyone begins
    share = _Digested(islice(items, number, None, n))
    # Items number, number + n, number + 2 n, ...
    n_own = None if n_items is None else len(range(number, n_items, n))
    _store_items(reader, share, fingerprint, folder / share_name(number, n), n_own)
    # The last texts are those of others, which have the same texts if they have the same digest.
    check_same(lambda: {"X": items.digest})
    if is_first():
        _merge_shares(reader, fingerprint, folder, items.digest)
        remove_shares(folder)
    wait_for_all()


def _merge_shares(reader, fingerprint, folder, digest):
    names = [share_name(number, n_processes()) for number in range(n_processes())]
    shares = [load_activations(folder / name, verify=False) for name in names]
    with writing(folder, fingerprint) as shards:
        append_shares(shards, shares, digest)
        _finish(reader, shards)


class _Digested:
    """Iterator of items with a digest of those read so far."""

    def __init__(self, items):
        self._items = items
        self.digest = ""

    def __iter__(self):
        return self

    def __next__(self):
        kind, value = next(self._items)
        item_digest = hashlib.sha256(_bytes_of(kind, value)).hexdigest()
        # A chain: the digest of all items so far and of the next one.
        joined = f"{self.digest}{kind}{item_digest}".encode()
        self.digest = hashlib.sha256(joined).hexdigest()
        return kind, value


def _write(reader, items, shards, n_texts):
    """Append the missing rows, one shard per chunk."""
    done, widths = shards.facts["n_texts"], None
    for chunk in reader.chunks_of(items, n_texts=n_texts, table=True, first=done):
        rows = _cast(chunk, shards.facts["fingerprint"]["dtype"])
        widths = widths or _widths(reader, rows)  # known after the first rows
        # Items are read no further than the chunk, and so is their digest.
        blocks = np.split(rows, np.cumsum(widths)[:-1], axis=1)
        shards.append(blocks, chunk.tokens, items.digest)
    _finish(reader, shards)


def _finish(reader, shards):
    widths = list(row_files(shards.facts).values())
    shards.finish(widths if any(widths) else reader.widths())


def _widths(reader, rows):
    """Return the number of columns of each block."""
    return reader.widths() if len(reader.points) > 1 else [rows.shape[1]]


def _skip(reader, items, shards):
    """Skip the stored items after a check that they are those of X and of this model."""
    done, first = shards.facts["n_texts"], shards.first_rows()
    compared = []  # the first item that has rows
    for i in range(done):
        item = next(items, None)
        if item is None:
            raise ValueError(f"{shards.folder} has {done} texts already, but X has only {i}.")
        if first and first[0] == i:
            compared = [item]
    if items.digest != shards.facts["sha256"]:
        raise ValueError(
            f"{shards.folder} was begun with other texts: its first {done} are not those of X. "
            f"Take another folder, or delete this one."
        )
    for kind, value in compared:
        rows = reader.chunk(first[0], kind, [value], table=False, bar=token_bar(False)).rows
        if not _alike(rows, first[1], reader.half_precision()):
            raise ValueError(
                f"{shards.folder} was begun with another model or tokenizer: the rows of "
                f"X[{first[0]}] are not those that it has. Take another folder, or delete this one."
            )


def _check_end(items, shards):
    if next(items, None) is not None:
        raise ValueError(
            f"{shards.folder} is complete with {shards.facts['n_texts']} texts, but X has more. "
            f"Take another folder, or delete this one."
        )


def _alike(rows, stored, half):
    """Whether rows are the same but for the rounding of another batch and of the file."""
    if rows.shape != stored.shape:
        return False
    stored = stored.astype(np.float32)
    # Relative to the norm: rounding of the model, of another batch, and of float16 in the file.
    tolerance = 0.02 if half else 0.002
    return np.linalg.norm(rows - stored) <= tolerance * np.linalg.norm(stored)


def _cast(chunk, dtype):
    """Return the rows in the dtype of the file."""
    rows, largest = chunk.rows, np.finfo(dtype).max
    if rows.size and not max(rows.max(), -rows.min()) <= largest:  # NaN is not, either
        bad = ~np.isfinite(rows).all(1)
        if bad.any():
            item = chunk.first + chunk.text[np.flatnonzero(bad)[0]]
            raise ValueError(
                f"An activation of X[{item}] is not finite. Load the model in float32, or leave "
                f"the text out."
            )
        lost = np.abs(rows) > largest
        if lost.any():
            row = int(np.flatnonzero(lost.any(1))[0])
            raise ValueError(
                f"An activation of X[{chunk.first + chunk.text[row]}] is "
                f"{np.abs(rows[row][lost[row]]).max():.6g}, more than {dtype} holds ({largest:g}). "
                f"Write with dtype='float32', or leave outliers out with `max_norm_ratio`."
            )
    return rows.astype(dtype, copy=False)


def _fingerprint(reader, kind, dtype):
    """Return the facts that the rows depend on, as far as known without running the model."""
    config = {"architecture": type(reader.base).__name__}
    config |= {name: getattr(reader.base.config, name, None) for name in _SIZES}
    config = {name: value for name, value in config.items() if value is not None}
    facts = {**reader.policy(kind), "dtype": dtype, "config": config}
    return json.loads(json.dumps(facts, default=str))  # as it will be read


def _bytes_of(kind, value):
    """Return an item of X as bytes."""
    if kind == "text":
        return value.encode()
    if kind == "messages":
        return json.dumps(value, sort_keys=True, default=str).encode()
    if isinstance(value, np.ndarray):
        return f"{value.dtype.str} {value.shape} ".encode() + value.tobytes()
    return f"{value.mode} {value.size} ".encode() + value.tobytes()


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
    """Remove the shares, which have been merged."""
    for share in _shares_in(folder):
        shutil.rmtree(share)


def append_shares(shards, shares, digest):
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
    step = max(1, _COPIED_ROWS * n_texts // max(n_rows, 1))
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
        lines = slice(*np.searchsorted(tokens.text, [begin, end]))  # the table is sorted by text
        table = tokens[lines]
        tables.append(replace(table, text=table.text * n_shares + number - first))
        sites = rows.values() if isinstance(rows, dict) else [rows]
        blocks.append([block[lines] for block in sites])
    columns = {
        name: np.concatenate([getattr(table, name) for table in tables])
        for name in ("text", "position", "id", "string", "start", "end", "group")
    }
    # Rows of a text are in one share, in order, so that a stable sort keeps them.
    order = np.argsort(columns["text"], kind="stable")
    table = replace(tables[0], texts=texts, **columns)[order]
    # Per site: the rows of all shares below each other.
    return [np.concatenate(parts)[order] for parts in zip(*blocks, strict=True)], table


def _shares_in(folder):
    return [path for path in folder.glob("share-*-of-*") if path.is_dir()]
