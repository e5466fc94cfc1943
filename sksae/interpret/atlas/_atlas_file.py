"""File format of atlases: an npz archive of arrays, without pickle, and JSON."""

import json

import numpy as np

from sksae._files import as_path, damage_named, digest_of, most_unpacked, opened_npz, replacing
from sksae._params import Int
from sksae.interpret.atlas._images import MOST_PATCHES
from sksae.interpret.atlas._tallies import EDGES

VERSION = 1
PARAMETERS = (
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
DIGEST = "digest"
_HEADER = 512  # bytes in front of an array, at most
_BOUNDS = ("text_bounds", "window_bounds", "activity_indptr")  # where ragged lines begin
_COUNT = Int(0, 2**62)
# Lists of each feature, and the arrays of the same shape that go with them.
_TABLES = {
    "nearest": "nearest_cosine nearest_jaccard nearest_conditional",
    "partner": "partner_cosine partner_jaccard partner_conditional",
    "promoted": "promoted_logits",
    "suppressed": "suppressed_logits",
}
_PLACES = ("strongest", "sampled", "shared", "lexical")


def write_atlas(path, *, parameters, arrays, strings, sources, facts):
    """Write the content of an atlas to a file and return its path.

    Parameters
    ----------
    path : str or Path
    parameters : dict of str to int
        The `PARAMETERS` of the atlas.
    arrays : dict of str to ndarray
    strings : sequence of str
        Pieces of text by number.
    sources : list
        Texts by number; names that JSON does not have are written as strings.
    facts : dict

    Returns
    -------
    path : Path
    """
    # Strings lie end to end in one array of bytes; `string_ends` tells where each ends.
    strings = [string.encode("utf-8", "surrogatepass") for string in strings]
    sources = [name if isinstance(name, (int, str)) else str(name) for name in sources]
    header = {
        "format": "sksae atlas",
        "version": VERSION,
        "parameters": parameters,
        "facts": facts,
    }
    text = {
        "header": _bytes(json.dumps(header).encode()),
        "sources": _bytes(json.dumps(sources).encode()),
        "strings": _bytes(b"".join(strings)),
        "string_ends": np.cumsum([len(string) for string in strings], dtype=np.int64),
    }
    path, content = as_path(path), {**text, **arrays}
    content[DIGEST] = _bytes(digest_of(None, content).encode())
    with replacing(path) as part:
        _write(part, np.savez_compressed, content)
        if sum(array.nbytes + _HEADER for array in content.values()) > most_unpacked(part):
            # Readers refuse files that are compressed too well, as a protection from zip bombs.
            _write(part, np.savez, content)
    return path


def _write(path, save, content):
    with path.open("wb") as file:
        save(file, **content)


def read_atlas(path):
    """Return ``(parameters, arrays, strings, sources, facts)`` of a file."""
    with damage_named(path, "is no whole file of an atlas"), opened_npz(path) as entries:
        header = json.loads(bytes(entries["header"][1]()))
        _check_header(header)
        arrays = {name: load() for name, (_, load) in entries.items()}
        digest = bytes(arrays.pop(DIGEST)).decode()
        if digest != digest_of(None, arrays):
            raise ValueError("its digest is not that of its content")
        text = {name: arrays.pop(name) for name in _TEXT}
        joined, ends = bytes(text["strings"]), text["string_ends"].tolist()
        sources = json.loads(bytes(text["sources"]))
        starts = [0, *ends[:-1]]
        strings = [
            joined[a:b].decode("utf-8", "surrogatepass") for a, b in zip(starts, ends, strict=True)
        ]
        _check_arrays(arrays, len(strings), len(sources))
        if "image_grid" in arrays:
            _check_images(arrays, sources)
    return header["parameters"], arrays, strings, sources, header["facts"]


def _bytes(raw):
    return np.frombuffer(raw, dtype=np.uint8)


def _check_header(header):
    if not isinstance(header, dict) or header.get("format") != "sksae atlas":
        raise ValueError("it is something else.")
    if not _COUNT.accepts(header.get("version")):
        raise ValueError("its version is no number.")
    if header["version"] > VERSION:
        raise ValueError(
            f"it has version {header['version']}, this sksae reads up to {VERSION}; a newer sksae "
            "wrote it."
        )
    parameters, facts = header.get("parameters"), header.get("facts")
    if not isinstance(parameters, dict) or set(parameters) != set(PARAMETERS):
        raise ValueError("its parameters are not those of an atlas.")
    if not all(_COUNT.accepts(value) for value in parameters.values()):
        raise ValueError("its parameters are not numbers.")
    counts = ("n_rows", "n_texts", "n_first")
    if not isinstance(facts, dict) or not all(_COUNT.accepts(facts.get(name)) for name in counts):
        raise ValueError("its facts are incomplete.")


def _check_arrays(arrays, n_strings, n_texts):
    """Raise a ValueError if arrays are missing, of the wrong kind, or point beyond each other."""
    expected = _expected(arrays)
    unknown = sorted(set(arrays) - set(expected) - set(_BOUNDS))
    if unknown:
        raise ValueError(f"it has arrays that are not of an atlas: {', '.join(unknown[:5])}")
    for name, (kinds, shape) in expected.items():
        _check(arrays[name].dtype.kind in kinds and arrays[name].shape == shape, name)
    n_components, n_cells = len(arrays["n_active"]), len(arrays["cell_string"])
    _check_bounds(arrays, "text_bounds", n_texts, n_cells)
    _check_bounds(arrays, "window_bounds", None, len(arrays["window_value"]))
    _check_bounds(arrays, "activity_indptr", n_components, len(arrays["activity_window"]))
    _check_range(arrays["cell_string"], n_strings, "cell_string")
    _check_range(arrays["activity_window"], len(arrays["shared_row"]), "activity_window")
    # A key is feature * 2**32 + number of a string.
    _check_range(arrays["sum_key"], n_components << 32, "sum_key")
    _check_range(arrays["sum_key"].astype(np.int64) & 0xFFFFFFFF, n_strings, "sum_key")
    for name in _PLACES:
        cell, text = arrays[f"{name}_cell"], arrays[f"{name}_text"]
        _check_range(text, n_texts, f"{name}_text")
        # Every place lies in its text, so that windows around it can be cut.
        begin, end = arrays["text_bounds"][text], arrays["text_bounds"][text + 1]
        _check(((begin <= cell) & (cell < end)).all(), f"{name}_cell")
        window = arrays[f"{name}_window"]
        _check_range(window, len(arrays["window_bounds"]) - 1, f"{name}_window", -1)
    for name in ("nearest", "partner"):
        if name in arrays:
            _check_range(arrays[name], n_components, name, -1)
    for name in ("promoted", "suppressed", "column_string"):
        if name in arrays:
            _check_range(arrays[name], n_strings, name)
    if "kept_row" in arrays:
        _check(len(arrays["kept_row"]) > 0 and (np.diff(arrays["kept_row"]) > 0).all(), "kept_row")


def _check_images(arrays, sources):
    """Raise a ValueError if the arrays about images point beyond each other."""
    grid, shape, number = (arrays[f"image_{name}"] for name in ("grid", "shape", "number"))
    _check(grid.min() > 0 and grid.prod() <= MOST_PATCHES, "image_grid")
    _check_range(arrays["cell_patch"], int(grid.prod()), "cell_patch", -1)
    _check(not shape.size or shape.min() > 0, "image_shape")
    _check(shape.prod(axis=1).sum() * 3 == len(arrays["image_pixels"]), "image_shape")
    _check((np.diff(number) > 0).all(), "image_number")
    _check(all(isinstance(source, int) for source in sources), "sources")


def _expected(arrays):
    """Return the kinds of dtype and the shape that each array should have, by name.

    The shapes follow from a few arrays: `n_active` has one entry per feature, `sum_key` one per
    pair of feature and string, `window_value` one per code in a window.
    """

    def each(names, kinds, shape):
        return dict.fromkeys(names.split(), (kinds, shape))

    features = arrays["n_active"].shape[:1]
    sums, values = arrays["sum_key"].shape[:1], arrays["window_value"].shape[:1]
    expected = {
        **each("n_active n_active_first n_active_texts n_unique", "iu", features),
        **each("total maximum", "f", features),
        "histogram": ("iu", (*features, len(EDGES) - 1)),
        **each("sum_key sum_count", "iu", sums),
        "sum_total": ("f", sums),
        "window_offset": ("iu", values),
        "window_value": ("f", values),
    }
    for name in ("cell_string", "string_rows", "activity_window", "text_bounds"):
        expected[name] = ("iu", arrays[name].shape[:1])
    for name in _PLACES:
        lines = arrays[f"{name}_bucket"].shape[:1]
        columns = " ".join(f"{name}_{column}" for column in ("bucket", "row", "cell", "text"))
        expected |= each(f"{columns} {name}_window", "iu", lines)
        expected[f"{name}_value"] = ("f", lines)
    for name, companions in _TABLES.items():
        if name in arrays:
            shape = features + arrays[name].shape[1:2]
            expected |= {name: ("iu", shape), **each(companions, "f", shape)}
    if "map" in arrays:
        expected["map"] = ("f", (*features, 2))
    if "column_string" in arrays:
        columns, rows = arrays["column_string"].shape[:1], arrays["kept_row"].shape[:1]
        expected |= {"column_string": ("iu", columns), "kept_row": ("iu", rows)}
        expected["kept_value"] = ("f", rows + columns)
        if "column_loading" in arrays:
            expected["column_loading"] = ("f", features + columns)
    if "image_grid" in arrays:
        expected |= _expected_images(arrays)
    return expected


def _expected_images(arrays):
    """Return the same of the arrays about images."""
    images = arrays["image_number"].shape[:1]
    return {
        "image_grid": ("iu", (2,)),
        "image_number": ("iu", images),
        "image_shape": ("iu", (*images, 2)),
        "image_pixels": ("u", arrays["image_pixels"].shape[:1]),
        "cell_patch": ("i", arrays["cell_string"].shape[:1]),
    }


def _check_bounds(arrays, name, n_parts, stop):
    """Raise a ValueError unless ascending bounds divide `stop` entries into `n_parts` parts."""
    bounds = arrays[name]
    valid = bounds.dtype.kind in "iu" and bounds.ndim == 1 and len(bounds) > 0
    _check(valid and (n_parts is None or len(bounds) == n_parts + 1), name)
    _check(bounds[0] == 0 and bounds[-1] == stop and (bounds[1:] >= bounds[:-1]).all(), name)


def _check_range(values, stop, name, start=0):
    _check(not values.size or (values.min() >= start and values.max() < stop), name)


def _check(valid, name):
    if not valid:
        raise ValueError(f"its array {name!r} does not fit the others.")
