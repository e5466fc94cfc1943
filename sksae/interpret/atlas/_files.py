"""An atlas in a file: arrays without pickle, and JSON."""

import json
import zipfile
import zlib
from pathlib import Path

import numpy as np

from sksae._files import replacing

VERSION = 1
_PARAMETERS = (
    "n_examples",
    "n_per_octave",
    "n_silent",
    "before",
    "after",
    "n_neighbors",
    "n_tokens",
    "random_state",
)
_TEXT = ("header", "strings", "string_ends", "sources")
_PLACES = ("strongest", "sampled", "shared", "lexical")


def write_atlas(atlas, path):
    """Write an atlas to a file and return its path."""
    strings = [string.encode("utf-8", "surrogatepass") for string in atlas._strings]
    sources = [s if isinstance(s, (int, str)) else str(s) for s in atlas._sources]
    header = {
        "format": "sksae atlas",
        "version": VERSION,
        "parameters": {name: int(getattr(atlas, name)) for name in _PARAMETERS},
        "facts": atlas.facts_,
    }
    text = {
        "header": _bytes(json.dumps(header).encode()),
        "sources": _bytes(json.dumps(sources).encode()),
        "strings": _bytes(b"".join(strings)),
        "string_ends": np.cumsum([len(string) for string in strings], dtype=np.int64),
    }
    path = Path(path)
    with replacing(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **text, **atlas._arrays)
    return path


def read_atlas(path):
    """Return ``(parameters, arrays, strings, sources, facts)`` of a file."""
    try:
        with Path(path).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            _check_sizes(file)
            header = json.loads(bytes(file["header"]))
            _check_header(header, path)
            arrays = {name: file[name] for name in file.files if name not in _TEXT}
            joined, ends = bytes(file["strings"]), file["string_ends"].tolist()
            sources = json.loads(bytes(file["sources"]))
        starts = [0, *ends[:-1]]
        strings = [
            joined[a:b].decode("utf-8", "surrogatepass") for a, b in zip(starts, ends, strict=True)
        ]
        _check_arrays(arrays, len(strings), len(sources))
    except (
        AttributeError,
        EOFError,
        KeyError,
        MemoryError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{path} is no whole file of an atlas: {reason[0]}") from error
    return header["parameters"], arrays, strings, sources, header["facts"]


def _check_sizes(file):
    """Raise a ValueError if an array claims another size than it has, before memory is taken."""
    for member in file.zip.infolist():
        with file.zip.open(member) as stream:
            version = np.lib.format.read_magic(stream)
            read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
                version, np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read(stream)
            claimed = int(np.prod(shape, dtype=object)) * dtype.itemsize
            if claimed != member.file_size - stream.tell():
                raise ValueError(f"{member.filename} claims {claimed:,} bytes.")


def _bytes(raw):
    return np.frombuffer(raw, dtype=np.uint8)


def _check_header(header, path):
    if header.get("format") != "sksae atlas":
        raise ValueError("it is something else.")
    if header["version"] > VERSION:
        raise ValueError(
            f"it has version {header['version']}, this sksae reads up to {VERSION}; a newer sksae "
            "wrote it."
        )
    if set(header["parameters"]) != set(_PARAMETERS) or not isinstance(header["facts"], dict):
        raise ValueError("its parameters are not those of an atlas.")
    if not {"n_rows", "n_texts", "n_first"} <= set(header["facts"]):
        raise ValueError("its facts are incomplete.")


def _check_arrays(arrays, n_strings, n_texts):
    """Raise a ValueError if arrays are missing or point beyond each other."""
    n_components = len(arrays["n_active"])
    n_cells, n_windows = len(arrays["cell_string"]), len(arrays["window_bounds"]) - 1
    for name in ("n_active_first", "n_active_texts", "total", "maximum", "histogram", "n_unique"):
        _check(len(arrays[name]) == n_components, name)
    _check_range(arrays, "cell_string", n_strings)
    _check_range(arrays, "text_bounds", n_cells + 1)
    _check(len(arrays["text_bounds"]) == n_texts + 1, "text_bounds")
    _check_range(arrays, "window_bounds", len(arrays["window_value"]) + 1)
    _check(len(arrays["window_offset"]) == len(arrays["window_value"]), "window_offset")
    _check(len(arrays["sum_key"]) == len(arrays["sum_total"]), "sum_total")
    _check_range(arrays, "activity_window", max(len(arrays["shared_row"]), 1))
    _check(len(arrays["activity_indptr"]) == n_components + 1, "activity_indptr")
    for name in _PLACES:
        n_lines = len(arrays[f"{name}_bucket"])
        for column in ("row", "cell", "text", "value", "window"):
            _check(len(arrays[f"{name}_{column}"]) == n_lines, f"{name}_{column}")
        _check_range(arrays, f"{name}_cell", n_cells)
        _check_range(arrays, f"{name}_text", n_texts)
        _check_range(arrays, f"{name}_window", n_windows, -1)
    for name in ("nearest", "partner"):
        if name in arrays:
            _check_range(arrays, name, n_components, -1)
    for name in ("promoted", "suppressed"):
        if name in arrays:
            _check_range(arrays, name, n_strings)


def _check_range(arrays, name, stop, start=0):
    values = arrays[name]
    inside = not values.size or (values.min() >= start and values.max() < stop)
    _check(values.dtype.kind in "iu" and inside, name)


def _check(right, name):
    if not right:
        raise ValueError(f"its array {name!r} does not fit the others.")
