"""A folder that grows shard by shard and can be continued after a crash at any moment.

While it is written, rows, tokens, texts and the strings of tokens are appended to files that end in
``.part``. A shard is on the disk before ``progress.json`` counts it; what was appended behind the
last count is cut off when the writing continues. When all is done the files get their names, and
``activations.json``, written last, says that the folder is complete.
"""

import json
import os
import struct
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path

import numpy as np

from sksae._files import replacing

MANIFEST = "activations.json"
PROGRESS = "progress.json"
ROWS, TOKENS, TEXTS, STRINGS = "rows.npy", "tokens.npy", "texts.jsonl", "strings.jsonl"
FILES = (ROWS, TOKENS, TEXTS, STRINGS)
TOKEN = np.dtype(
    [("text", "<i8")]
    + [(name, "<i4") for name in ("position", "id", "start", "end", "group", "string")]
)
"""A line of the token table; `string` is the line of ``strings.jsonl``."""

_FORMAT = 1
_HEADER = 512  # bytes in front of an array, enough for any shape


@contextmanager
def writing(folder, fingerprint):
    """Yield the `Shards` of a folder that no one else writes to; begin it or continue it."""
    from filelock import FileLock, Timeout

    folder = Path(folder)
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
    """What has been written to a folder, and more of it.

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
        self._stack, self._files, self._known = stack, {}, {}
        self.complete = (folder / MANIFEST).exists()
        self.facts = read_json(folder / (MANIFEST if self.complete else PROGRESS))
        if self.facts is None:
            self._begin(fingerprint)
        self._check(fingerprint)
        if self.complete:
            (folder / PROGRESS).unlink(missing_ok=True)
        else:
            self._open()

    def append(self, rows, tokens, digest):
        """Add a shard: it counts once it is on the disk.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_features)
            Activations, in the dtype of the folder.
        tokens : TokenTable of length n_rows
            Where they come from; its texts are those of the shard.
        digest : str
            Of all items of X so far.
        """
        facts = self.facts
        lines = self._lines(tokens)
        strings = islice(self._known, facts["n_strings"], None)
        self._files[ROWS].write(np.ascontiguousarray(rows))
        self._files[TOKENS].write(lines)
        for name, values in ((TEXTS, tokens.texts), (STRINGS, strings)):
            self._files[name].writelines(json.dumps(value).encode() + b"\n" for value in values)
        for file in self._files.values():
            sync(file)
        self._commit(
            {
                **facts,
                "n_texts": facts["n_texts"] + len(tokens.texts),
                "n_rows": facts["n_rows"] + len(rows),
                "n_features": rows.shape[1],
                "n_strings": len(self._known),
                "bytes": {name: self._files[name].tell() for name in (TEXTS, STRINGS)},
                "sha256": digest,
            }
        )

    def finish(self, n_features):
        """Give the files their names and say that the folder is complete."""
        facts = {**self.facts, "n_features": n_features}
        shapes = {ROWS: (facts["n_rows"], n_features), TOKENS: (facts["n_rows"],)}
        for name, shape in shapes.items():
            file = self._files[name]
            file.seek(0)
            file.write(_header(self._dtype(name), shape))
            sync(file)
        for name, file in self._files.items():
            file.close()
            _part(self.folder, name).replace(self.folder / name)
        sync_folder(self.folder)
        write_json(self.folder / MANIFEST, facts)
        (self.folder / PROGRESS).unlink()

    def first_rows(self):
        """Return ``(text, rows)``: the first text that has rows, and those; None if none has."""
        if not self.facts["n_rows"]:
            return None
        text = self._array(TOKENS, (self.facts["n_rows"],))["text"]
        n_rows = int(np.searchsorted(text, text[0], side="right"))
        return int(text[0]), np.array(self._array(ROWS, (n_rows, self.facts["n_features"])))

    def _array(self, name, shape):
        path = self.folder / name if self.complete else _part(self.folder, name)
        return np.memmap(path, self._dtype(name), "r", _HEADER, shape)

    def _dtype(self, name):
        return TOKEN if name == TOKENS else np.dtype(self.facts["fingerprint"]["dtype"])

    def _lines(self, tokens):
        """Return the lines of a token table, with `text` counted from the beginning of X."""
        lines = np.empty(len(tokens), dtype=TOKEN)
        for name in TOKEN.names:
            lines[name] = getattr(tokens, name) if name != "string" else 0
        lines["text"] += self.facts["n_texts"]
        known = self._known
        lines["string"] = [known.setdefault(string, len(known)) for string in tokens.string]
        return lines

    def _commit(self, facts):
        write_json(self.folder / PROGRESS, facts)
        self.facts = facts

    def _begin(self, fingerprint):
        taken = [name for name in FILES if (self.folder / name).exists()]
        if taken:
            raise ValueError(
                f"{self.folder} has a {taken[0]} that is not of `to_memmap`: take another folder."
            )
        facts = {"format": _FORMAT, "fingerprint": fingerprint, "n_texts": 0, "n_rows": 0}
        facts |= {"n_features": 0, "n_strings": 0, "sha256": ""}
        self._commit(facts | {"bytes": {TEXTS: 0, STRINGS: 0}})

    def _check(self, fingerprint):
        begun = self.facts.get("fingerprint", {})
        if self.facts.get("format") != _FORMAT:
            raise ValueError(f"{self.folder} was written by another version of sksae.")
        for name in sorted({*begun, *fingerprint}):
            old, new = begun.get(name), fingerprint.get(name)
            if old != new:
                raise ValueError(
                    f"{self.folder} was begun with {name}={old!r}, not with {name}={new!r}. Take "
                    f"another folder, or delete this one."
                )

    def _open(self):
        """Open the files behind what counts of them, and remove what a crash left."""
        for left in self.folder.glob(".*.json.*.part"):
            left.unlink()
        for name in FILES:
            part, size = _part(self.folder, name), self._committed(name)
            if not part.exists() and (self.folder / name).exists():
                (self.folder / name).replace(part)  # the last time, the end was near
            file = self._stack.enter_context(part.open("r+b" if part.exists() else "w+b"))
            if self.facts["n_texts"] and part.stat().st_size < size:
                raise ValueError(f"{part} is shorter than {PROGRESS} says: delete {self.folder}.")
            file.truncate(size)
            file.seek(size)
            self._files[name] = file
        strings = read_lines(_part(self.folder, STRINGS))
        self._known = {string: i for i, string in enumerate(strings)}

    def _committed(self, name):
        """Return how many bytes of a file count."""
        if name in self.facts["bytes"]:
            return self.facts["bytes"][name]
        width = self.facts["n_features"] if name == ROWS else 1
        return _HEADER + self.facts["n_rows"] * width * self._dtype(name).itemsize


def sync(file):
    """Have a file's contents on the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder):
    """Have the names of a folder's files on the disk, where the system knows how."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path, value):
    """Write a JSON file that is whole or not there, also after a loss of power."""
    with replacing(path) as part, part.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        sync(file)
    sync_folder(path.parent)


def read_json(path):
    """Return what a JSON file holds, None if there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def read_lines(path):
    """Return the values of a file with one JSON value a line."""
    with path.open(encoding="utf-8", newline="\n") as file:
        return [json.loads(line) for line in file]


def _part(folder, name):
    return (folder / name).with_suffix(".part")


def _header(dtype, shape):
    """Return the header of a ``.npy`` file in `_HEADER` bytes, which numpy pads less."""
    facts = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    start = np.lib.format.magic(1, 0)
    room = _HEADER - len(start) - 2
    return start + struct.pack("<H", room) + repr(facts).encode().ljust(room - 1) + b"\n"
