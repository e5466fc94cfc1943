"""Folders of activations that grow by shards and can be continued after a crash.

While it is written, rows, tokens, texts and the strings of tokens are appended to files that end in
``.part``. A shard is on the disk before ``progress.json`` counts it; what was appended behind the
last count is cut off when the writing continues. When all is done the files get their names, and
``activations.json``, written last, says that the folder is complete. Both have digests of all that
counts, which are compared when the writing continues and when a folder is opened.

Of several sites each has a file of rows of its own, ``rows.0.npy`` and so on, in the order in which
the fingerprint names them.
"""

import hashlib
import json
import struct
from contextlib import ExitStack, contextmanager
from itertools import islice

import numpy as np

from sksae._files import (
    as_path,
    damage_named,
    digest_of,
    read_json,
    regular,
    remove_abandoned,
    sync,
    sync_folder,
    write_text,
)
from sksae._params import Int

MANIFEST = "activations.json"
PROGRESS = "progress.json"
ROWS, TOKENS, TEXTS, STRINGS = "rows.npy", "tokens.npy", "texts.jsonl", "strings.jsonl"
FILES = (ROWS, TOKENS, TEXTS, STRINGS)  # of a folder with one site
DTYPES = ("float16", "float32")
DIGEST = "digest"
TOKEN = np.dtype(
    [("text", "<i8")]
    + [(name, "<i4") for name in ("position", "id", "start", "end", "group", "string")]
)
"""A line of the token table; `string` is the line of ``strings.jsonl``."""

_FORMAT = 1
_BLOCK = 2**20  # bytes that are read at a time for a digest
_HEADER = 512  # bytes in front of an array, enough for any shape


@contextmanager
def writing(folder, fingerprint):
    """Yield the `Shards` of a folder that no one else writes to; begin it or continue it."""
    from filelock import FileLock, Timeout

    folder = as_path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; activations need a folder.")
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RuntimeError(
            f"{folder} is being written to by another process; wait for it or take another folder."
        ) from None
    with ExitStack() as stack:
        stack.callback(lock.release)
        yield Shards(folder, fingerprint, stack)


class Shards:
    """The files of a folder that is being written.

    Parameters
    ----------
    folder : Path
        The folder, which exists.
    fingerprint : dict
        What the rows depend on besides the texts; a folder that was begun with another is refused.
    stack : ExitStack
        Closes the files.
    """

    def __init__(self, folder, fingerprint, stack):
        self.folder = folder
        self._stack, self._files, self._numbers, self._hashes = stack, {}, {}, {}
        remove_abandoned(folder)
        self.complete = (folder / MANIFEST).exists()
        self.facts = read_facts(folder / (MANIFEST if self.complete else PROGRESS))
        if self.facts is None:
            self._begin(fingerprint)
        self._check(fingerprint)
        if self.complete:
            check_files(folder, self.facts, verify=True)
            (folder / PROGRESS).unlink(missing_ok=True)
        else:
            self._open()

    def append(self, blocks, tokens, digest):
        """Add a shard: it counts once it is on the disk.

        Parameters
        ----------
        blocks : list of ndarray of shape (n_rows, width)
            Activations of each site, in the dtype of the folder.
        tokens : TokenTable of length n_rows
            Where they come from; its texts are those of the shard.
        digest : str
            Of all items of X so far.
        """
        facts = self.facts
        lines = self._lines(tokens)
        strings = islice(self._numbers, facts["n_strings"], None)  # those that no shard before had
        for name, block in zip(row_files(facts), blocks, strict=True):
            self._write(name, np.ascontiguousarray(block).reshape(-1).view(np.uint8))
        self._write(TOKENS, lines.view(np.uint8))  # one line per row, as bytes
        for name, values in ((TEXTS, tokens.texts), (STRINGS, strings)):
            for value in values:
                self._write(name, json.dumps(value).encode() + b"\n")
        for file in self._files.values():
            sync(file)
        self._commit(
            {
                **facts,
                "n_texts": facts["n_texts"] + len(tokens.texts),
                "n_rows": facts["n_rows"] + len(tokens),
                "n_features": _as_fact([block.shape[1] for block in blocks], facts),
                "n_strings": len(self._numbers),
                "bytes": {name: self._files[name].tell() for name in (TEXTS, STRINGS)},
                "digests": {name: digest.hexdigest() for name, digest in self._hashes.items()},
                "sha256": digest,
            }
        )

    def finish(self, widths):
        """Give the files their names and say that the folder is complete."""
        facts = {**self.facts, "n_features": _as_fact(widths, self.facts)}
        for name in (*row_files(facts), TOKENS):
            file = self._files[name]
            file.seek(0)
            file.write(_header_of(facts, name))
            sync(file)
        for name, file in self._files.items():
            file.close()
            _part(self.folder, name).replace(self.folder / name)
        sync_folder(self.folder)
        write_facts(self.folder / MANIFEST, facts)
        (self.folder / PROGRESS).unlink()

    def first_rows(self):
        """Return ``(text, rows)``: the first text that has rows, and those; None if none has."""
        if not self.facts["n_rows"]:
            return None
        text = self._array(TOKENS, (self.facts["n_rows"],))["text"]  # (n_rows,), ascending
        n_rows = int(np.searchsorted(text, text[0], side="right"))
        blocks = [self._array(name, (n_rows, w)) for name, w in row_files(self.facts).items()]
        return int(text[0]), np.concatenate(blocks, axis=1)

    def _array(self, name, shape):
        path = self.folder / name if self.complete else _part(self.folder, name)
        # Skips the header, which is written at the end.
        return np.memmap(path, _dtype(self.facts, name), "r", _HEADER, shape)

    def _write(self, name, data):
        self._files[name].write(data)
        self._hashes[name].update(data)

    def _lines(self, tokens):
        """Return the lines of a token table, with `text` counted from the beginning of X."""
        lines = np.empty(len(tokens), dtype=TOKEN)
        for name in TOKEN.names:
            # An index into `strings.jsonl`, set below.
            lines[name] = getattr(tokens, name) if name != "string" else 0
        lines["text"] += self.facts["n_texts"]
        numbers = self._numbers
        lines["string"] = [numbers.setdefault(string, len(numbers)) for string in tokens.string]
        return lines

    def _commit(self, facts):
        write_facts(self.folder / PROGRESS, facts)
        self.facts = facts

    def _begin(self, fingerprint):
        facts = {"format": _FORMAT, "fingerprint": fingerprint, "n_texts": 0, "n_rows": 0}
        n_blocks = len(labels_of(facts))
        facts |= {"n_features": _as_fact([0] * n_blocks, facts), "n_strings": 0, "sha256": ""}
        taken = [name for name in files_of(facts) if (self.folder / name).exists()]
        if taken:
            raise ValueError(
                f"{self.folder} has a {taken[0]} that is not of `to_memmap`: take another folder."
            )
        facts["digests"] = dict.fromkeys(files_of(facts), hashlib.sha256().hexdigest())
        self._commit(facts | {"bytes": {TEXTS: 0, STRINGS: 0}})

    def _check(self, fingerprint):
        begun = self.facts["fingerprint"]
        for name in sorted({*begun, *fingerprint}):
            old, new = begun.get(name), fingerprint.get(name)
            if old != new:
                raise ValueError(
                    f"{self.folder} was begun with {name}={old!r}, not with {name}={new!r}. Take "
                    f"another folder, or delete this one."
                )

    def _open(self):
        """Open the files at their committed ends, and remove what a crash left behind these."""
        for name in files_of(self.facts):
            part, size = _part(self.folder, name), committed_bytes(self.facts, name)
            if not part.exists() and (self.folder / name).exists():
                (self.folder / name).replace(part)  # the last time, the end was near
            mode = "r+b" if part.exists() and regular(part) else "w+b"
            file = self._stack.enter_context(part.open(mode))
            if self.facts["n_texts"] and part.stat().st_size < size:
                raise ValueError(f"{part} is shorter than {PROGRESS} says: delete {self.folder}.")
            file.truncate(size)
            file.seek(0 if name in (TEXTS, STRINGS) else _HEADER)
            self._hashes[name], self._files[name] = _hash_of(file, size), file
            if self._hashes[name].hexdigest() != self.facts["digests"][name]:
                raise ValueError(
                    f"{part} is damaged: its digest is not that in {PROGRESS}. Delete "
                    f"{self.folder}."
                )
            file.seek(size)
        strings = read_lines(_part(self.folder, STRINGS), self.facts["n_strings"])
        self._numbers = {string: i for i, string in enumerate(strings)}


def write_facts(path, facts):
    """Write the facts about a folder with their digest."""
    write_text(path, json.dumps({**facts, DIGEST: digest_of(facts)}, indent=1))


def read_facts(path):
    """Return the facts that `write_facts` wrote, None if there is no such file."""
    if not path.exists():
        return None
    with damage_named(path):
        facts = read_json(path)
        if facts.pop(DIGEST, None) != digest_of(facts):
            raise ValueError("it is damaged: its digest is not that of its content")
        if facts["format"] != _FORMAT:
            raise ValueError("another version of sksae wrote it")
        counts = [facts[name] for name in ("n_texts", "n_rows", "n_strings")]
        counts += [*row_files(facts).values()]  # numbers of columns
        counts += [facts["bytes"][name] for name in (TEXTS, STRINGS)]
        if not all(Int(0, 2**62).accepts(count) for count in counts):
            raise ValueError("it has counts that are none")
        if facts["fingerprint"]["dtype"] not in DTYPES or set(facts["digests"]) != {
            *files_of(facts)
        }:
            raise ValueError("it lacks the type of the rows or digests")
    return facts


def check_files(folder, facts, *, verify):
    """Raise an error unless the files of a complete folder are those that were written.

    Parameters
    ----------
    folder : Path
    facts : dict
        From `read_facts`.
    verify : bool
        Whether to read all rows, which may be many, for their digest.
    """
    missing = [name for name in files_of(facts) if not (folder / name).exists()]
    if missing:
        raise FileNotFoundError(f"{folder} is damaged: {', '.join(missing)} is missing.")
    rows = row_files(facts)
    for name in files_of(facts):
        path = regular(folder / name)
        with damage_named(path, "is damaged"), path.open("rb") as file:
            size, expected = path.stat().st_size, committed_bytes(facts, name)
            if size != expected:
                raise ValueError(f"it has {size:,} bytes, not {expected:,}")
            if name not in (TEXTS, STRINGS) and file.read(_HEADER) != _header_of(facts, name):
                raise ValueError("its header does not say what is in it")
            read = verify or name not in rows
            if read and _hash_of(file, size).hexdigest() != facts["digests"][name]:
                raise ValueError("its digest is not that of its content")


def has_file(folder, facts, name):
    """Whether a folder has a file with the digest in the facts."""
    path, size = folder / name, committed_bytes(facts, name)
    if not (path.is_file() and path.stat().st_size == size):
        return False
    with path.open("rb") as file:
        file.seek(0 if name in (TEXTS, STRINGS) else _HEADER)
        return _hash_of(file, size).hexdigest() == facts["digests"][name]


def committed_bytes(facts, name):
    """Return the committed number of bytes of a file."""
    if name in facts["bytes"]:
        return facts["bytes"][name]
    # A token has one line; rows have as many numbers as columns.
    width = row_files(facts).get(name, 1)
    return _HEADER + facts["n_rows"] * width * _dtype(facts, name).itemsize


def labels_of(facts):
    """Return the names of the sites whose rows a folder has."""
    layer, site = (facts["fingerprint"].get(name) for name in ("layer", "site"))
    if isinstance(site, list):
        return site
    return [site if layer is None else f"{layer}.{site}"]


def row_files(facts):
    """Return the files of rows, one per site, with the number of their columns, as a dict."""
    widths = facts["n_features"]
    if not isinstance(facts["fingerprint"].get("site"), list):
        return {ROWS: widths}
    names = [f"{ROWS.removesuffix('.npy')}.{i}.npy" for i in range(len(labels_of(facts)))]
    return dict(zip(names, widths, strict=True))


def files_of(facts):
    """Return the names of all files that are written shard by shard."""
    return (*row_files(facts), *FILES[1:])


def _as_fact(widths, facts):
    """Return numbers of columns as they are stored: a single number for a single site."""
    return widths if isinstance(facts["fingerprint"].get("site"), list) else widths[0]


def _hash_of(file, end):
    """Return the hash of what an open file has from where it is read to an end."""
    digest = hashlib.sha256()
    while block := file.read(min(_BLOCK, end - file.tell())):
        digest.update(block)
    return digest


def _dtype(facts, name):
    return TOKEN if name == TOKENS else np.dtype(facts["fingerprint"]["dtype"])


def _header_of(facts, name):
    width = row_files(facts).get(name)
    more = () if width is None else (width,)
    return _header(_dtype(facts, name), (facts["n_rows"], *more))


def read_lines(path, n_lines):
    """Return the strings of a file with one JSON string per line."""
    with damage_named(path), path.open(encoding="utf-8", newline="\n") as file:
        values = [json.loads(line) for line in file]
        if len(values) != n_lines:
            raise ValueError(f"it has {len(values):,} lines, not {n_lines:,}")
        if not all(isinstance(value, str) for value in values):
            raise ValueError("it has lines that are no strings")
    return values


def _part(folder, name):
    return (folder / name).with_suffix(".part")


def _header(dtype, shape):
    """Return the header of a ``.npy`` file in `_HEADER` bytes, which numpy pads less."""
    facts = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    start = np.lib.format.magic(1, 0)
    length = _HEADER - len(start) - 2  # of the text behind the two bytes of its length
    return start + struct.pack("<H", length) + repr(facts).encode().ljust(length - 1) + b"\n"
