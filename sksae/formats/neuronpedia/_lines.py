"""JSON Lines, compressed or not: one row per line, strict JSON, read with bounds on its size."""

import gzip
import json
import zlib

import numpy as np

from sksae._files import most_unpacked, regular

NUL = "\0"  # no database takes it
_ALIKE = 16  # so many times more than one line, as the lines of features that never fire are alike


def well_formed(string):
    """Return a text that UTF-8 can hold, without lone surrogates and NULs."""
    try:
        string.encode()
    except UnicodeEncodeError:
        string = string.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return string.replace(NUL, "\N{REPLACEMENT CHARACTER}")


def digits(value):
    """Return a number with six significant digits."""
    return float(f"{float(value):.6g}")


def line_of(row):
    """Return a row as one line of bytes."""
    text = json.dumps(
        row, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain
    )
    return text.encode() + b"\n"


class LineFile:
    """A file of lines that is created with its first line, so that no file is empty."""

    def __init__(self, path):
        self.path = path
        self._raw = self._lines = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for file in (self._lines, self._raw):
            if file is not None:
                file.close()

    def write(self, row):
        """Append a row."""
        if self._lines is None:
            self.path.parent.mkdir(exist_ok=True)
            self._raw = self.path.open("wb")
            # Neither name nor time: the same rows make the same bytes.
            self._lines = gzip.GzipFile("", "wb", 6, self._raw, mtime=0)
        self._lines.write(line_of(row))


def read_lines(path):
    """Yield ``(where, row)`` of the rows of a file, objects all; `where` is for messages.

    Files that end in ``.gz`` are compressed. Those that end in ``.json`` hold one row or a list of
    rows, others one row per line.
    """
    is_json = path.name.removesuffix(".gz").endswith(".json")
    if not regular(path).stat().st_size:
        raise ValueError(f"{path} is empty, without even a line: it was cut off.")
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as file:
        read = file.read if is_json else file.readline
        for number, line in enumerate(_bounded(read, path), 1):
            where = str(path) if is_json else f"{path}, line {number}"
            if not line.strip():
                continue
            value = _value(line, where)
            rows = value if is_json and isinstance(value, list) else [value]
            for row in rows:
                if not isinstance(row, dict):
                    raise ValueError(f"{where}: expected an object, got {_named(row)}.")
                yield where, row


def _bounded(read, path):
    """Yield the data that a function reads of a file that may be truncated, not gzip, or a bomb."""
    most, total = most_unpacked(path), 0  # bytes of one line, and of all
    try:
        while line := read(most + 1):
            total += len(line)
            # A line of many megabytes, or many lines that were one compressed run.
            if len(line) > most or total > _ALIKE * most:
                raise ValueError(
                    f"{path} cannot be read: it unpacks to more than {total - 1:,} bytes, too many "
                    f"for an honest file of its size."
                )
            yield line
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be decompressed: {error}.") from error


def _value(line, where):
    try:
        return json.loads(line.decode("utf-8-sig"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not valid JSON: {error}.") from error


def _refuse(constant):
    raise ValueError(f"{constant} is not a JSON number")


def _named(value):
    kinds = {list: "a list", str: "a string", bool: "a bool", type(None): "null"}
    return kinds.get(type(value), "a number")


def _plain(value):
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} objects cannot be written as JSON.")
