"""A page read back, as a browser does it."""

import base64
import json
import re
import struct
import zlib


def unpacked(text):
    """The header of a part, and the bytes after it."""
    whole = zlib.decompress(base64.b64decode(text, validate=True))
    (length,) = struct.unpack("<I", whole[:4])
    return json.loads(whole[4 : 4 + length].decode("utf-8")), whole[4 + length :]


def seven_bit_numbers(stream, count):
    """The first numbers of a stream, and what follows them."""
    numbers, at = [], 0
    while len(numbers) < count:
        number, bits = 0, 0
        while stream[at] & 128:
            number, bits, at = number | (stream[at] & 127) << bits, bits + 7, at + 1
        numbers.append(number | stream[at] << bits)
        at += 1
    return numbers, stream[at:]


def read_part(text, n_patches=0):
    """The features of a part; examples are dicts with their tokens and levels.

    An example that is an image has a level more for each patch.
    """
    header, stream = unpacked(text)
    words, features = header["words"], header["features"]
    windows = [w for f in features for group in f["groups"] for w in group["examples"]]
    numbers, levels = seven_bit_numbers(stream, sum(window[0] for window in windows))
    assert len(levels) == len(numbers) + n_patches * len(windows)
    names = ("peak", "cut", "activation", "text", *(("patch", "n_known") if n_patches else ()))
    shown, at, at_level = {}, 0, 0
    for window in windows:
        end, end_level = at + window[0], at_level + window[0] + n_patches
        shown[id(window)] = {
            "tokens": [words[number] for number in numbers[at:end]],
            "levels": list(levels[at_level:end_level]),
            **dict(zip(names, window[1:], strict=True)),
        }
        at, at_level = end, end_level
    for feature in features:
        for group in feature["groups"]:
            group["examples"] = [shown[id(window)] for window in group["examples"]]
        for name in ("tokens", "promoted", "suppressed"):
            feature[name] = [(words[number], value) for number, value in feature[name]]
    return features


def blocks_of(page):
    """What the page holds beside its own script, by name."""
    found = re.findall(r'<script type="application/octet-stream" id="([^"]*)">(.*?)</script>', page)
    return dict(found)


def read_index(page):
    """What the page says about all features."""
    index, rest = unpacked(blocks_of(page)["index"])
    assert rest == b""
    return index


def read_features(path):
    """The details of all features of a page, from the page or from the folder beside it."""
    page = path.read_text(encoding="utf-8")
    index, blocks = read_index(page), blocks_of(page)
    texts = [text for name, text in blocks.items() if name.startswith("part-")]
    for name in index["parts"]:
        call = (path.parent / index["folder"] / f"{name}.js").read_text(encoding="ascii")
        said, text = re.fullmatch(r'sksaePart\("([^"]*)","([^"]*)"\)\n', call).groups()
        assert said == name
        texts.append(text)
    rows, columns = index.get("image_grid", (0, 0))
    return [feature for text in texts for feature in read_part(text, rows * columns)]
