"""Parts of a page: the details of some features, in a compact form that a browser reads at once.

A part is base64 of zlib of: the length of its header, little-endian in four bytes; the header,
which is JSON; the tokens of all examples, numbers in the header's `words`, seven bits per byte, low
bits first; their activations, one byte each, 255 being the feature's largest. An example that is an
image has one token, the name of its place, and after its activation those of all patches.
"""

import base64
import json
import math
import struct
import zlib

import numpy as np

from sksae._signs import visible

N_STRONGEST, N_QUANTILES, N_IN_QUANTILE, N_SILENT = 20, 5, 5, 4
N_CROPS = 6  # images of a feature in the list
STEPS = 255  # of an activation, between 0 and the largest of its feature


class Words(dict):
    """Numbers for strings, in the order in which they were first asked for."""

    def __missing__(self, string):
        self[string] = len(self)
        return self[string]

    def shown(self):
        """Return the strings in the order of their numbers, as they can be shown."""
        return [visible(string) for string in self]


class Pictures(dict):
    """Images that a page shows, as base64 of PNG files by their numbers, each once."""

    def add(self, image):
        """Add the image of an example, unless it was not kept."""
        if image.pixels is not None and image.number not in self:
            self[image.number] = base64.b64encode(image.png()).decode("ascii")

    def crops(self, examples):
        """Return ``[image, patch]`` of the examples shown in the list, -1 for no patch."""
        images = [example.image for example in examples if example.image.pixels is not None]
        return [[image.number, patch_of(image)] for image in images[:N_CROPS]]


def patch_of(image):
    """Return the number of the patch of an example's row, -1 if it is no patch."""
    row, column = image.peak or (0, -1)
    return row * image.heat.shape[1] + column


def encode_part(features, explanations, text_columns=None, pictures=None):
    """Return a part of the page: the details of some features.

    Parameters
    ----------
    features : list of Feature
        The features.
    explanations : dict of int to object
        Explanations of some of them, by feature; their `scores` are shown with the details.
    text_columns : TextColumns, default=None
        Columns beside the texts; it notes which texts are shown.
    pictures : Pictures, default=None
        The images of the page, where the examples are images; those of the examples are added.

    Returns
    -------
    part : str
        Base64.
    """
    words, tokens, levels = Words(), [], []
    details = []
    for feature in features:
        groups = example_groups(feature)
        shown = [example for group in groups for example in group["examples"]]
        explanation, window = (
            explanations.get(feature.feature),
            _window if pictures is None else _picture,
        )
        details.append(_details(feature, explanation, groups, words, window))
        for example in shown:
            if pictures is None:
                strings, activations = example.tokens, example.activations
            else:
                pictures.add(example.image)
                strings = example.tokens[[example.peak]]
                patches = np.nan_to_num(example.image.heat.ravel())
                activations = np.append(example.activation, patches)
            tokens += map(words.__getitem__, strings)
            if text_columns is not None:
                text_columns.add(example.text)
            levels.append(activation_levels(activations, feature.max_activation))
    levels = np.concatenate(levels) if levels else np.zeros(0, dtype=np.uint8)
    header = {"words": words.shown(), "features": details}
    return pack(header, seven_bits(tokens) + levels.tobytes())


def pack(header, rest=b""):
    """Return base64 of the compressed header, a JSON value, and of the bytes after it."""
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    head = text.encode("utf-8")
    content = struct.pack("<I", len(head)) + head + rest
    return base64.b64encode(zlib.compress(content, 9)).decode("ascii")


def seven_bits(numbers):
    """Return numbers as bytes of seven bits, low bits first; the last of each is below 128."""
    numbers = np.asarray(numbers, dtype=np.uint32)
    lengths = 1 + sum((numbers >= 1 << bits).astype(np.int64) for bits in (7, 14, 21, 28))
    ends = np.cumsum(lengths)
    coded = np.zeros(int(ends[-1]) if len(ends) else 0, dtype=np.uint8)
    starts = ends - lengths
    # Byte 0 of all numbers, then byte 1 of those that have it, and so on; the eighth bit is set
    # if more bytes follow.
    for byte in range(int(lengths.max(initial=0))):
        longer = lengths > byte
        follows = (lengths[longer] > byte + 1) * 128
        coded[starts[longer] + byte] = (numbers[longer] >> 7 * byte) % 128 + follows
    return coded.tobytes()


def activation_levels(activations, largest):
    """Return activations as bytes: 0 where there is none, 1 to 255 up to the largest."""
    activations = np.asarray(activations, dtype=np.float64)
    share = activations / largest if largest > 0 else np.zeros_like(activations)
    return np.where(share > 0, np.clip(np.rint(share * STEPS), 1, STEPS), 0).astype(np.uint8)


def example_groups(feature):
    """Return the examples the page shows, in groups: strongest, equal-count parts, silent.

    Parameters
    ----------
    feature : Feature
        The feature.

    Returns
    -------
    groups : list of dict
        Each with `kind`, `share`, `low`, `high`, `n_found` and `examples`.
    """
    strongest = feature.examples[:N_STRONGEST]
    groups = [_group("strongest", strongest, len(feature.examples))]
    rows = {example.row for example in strongest}
    for part in feature.quantiles(N_QUANTILES):
        new = [example for example in part.examples if example.row not in rows] or part.examples
        # Evenly from strong to weak, so that a part shows its whole range.
        n_shown = min(N_IN_QUANTILE, len(new))
        examples = [new[i * len(new) // n_shown] for i in range(n_shown)]
        groups.append(_group("quantile", examples, len(part.examples), part))
    silent = list(feature.silent.get("lexical", ()))
    groups.append(_group("silent", silent[:N_SILENT], len(silent)))
    return [group for group in groups if group["examples"]]


def _group(kind, examples, n_found, part=None):
    bounds = {name: rounded(getattr(part, name, None)) for name in ("share", "low", "high")}
    return {"kind": kind, **bounds, "n_found": n_found, "examples": examples}


def _details(feature, explanation, groups, words, window):
    """Return the details of a feature as a JSON value; tokens are numbers of words."""

    def shares(pairs):
        return [[words[token], rounded(value)] for token, value in pairs]

    counts, edges = trimmed(*feature.histogram)
    return {
        "feature": int(feature.feature),
        "active": int(feature.n_active),
        "texts": int(feature.n_texts),
        "unique": int(feature.n_unique),
        "mean": rounded(feature.mean_activation),
        "tokens": shares(feature.top_tokens),
        "promoted": shares(feature.promoted),
        "suppressed": shares(feature.suppressed),
        "counts": counts,
        "edges": edges,
        "nearest": [[int(r.feature), *map(rounded, r[1:])] for r in feature.nearest],
        "coactive": [[int(r.feature), *map(rounded, r[1:])] for r in feature.coactive],
        "scores": scores_of(explanation),
        "source": visible(str(getattr(explanation, "source", ""))),
        "groups": [{**group, "examples": list(map(window, group["examples"]))} for group in groups],
    }


def _window(example):
    """Return length, peak, cut ends (1: before, 2: after), activation and text of an example."""
    text = example.text
    name = int(text) if isinstance(text, (int, np.integer)) else visible(str(text))
    cut = int(example.cut_before) + 2 * int(example.cut_after)
    return [len(example.tokens), int(example.peak), cut, rounded(example.activation), name]


def _picture(example):
    """Return the same of an example that is an image, its patch and the number of known patches."""
    n_known = int(np.isfinite(example.image.heat).sum())
    activation = rounded(example.activation)
    return [1, 0, 0, activation, example.image.number, patch_of(example.image), n_known]


def scores_of(explanation):
    """Return the scores of an explanation with their baselines, as a JSON value."""
    scores = getattr(explanation, "scores", None) or {}
    entries = []
    for name, score in scores.items():
        score = score if isinstance(score, dict) else {"value": score}
        numbers = {key: rounded(score.get(key)) for key in ("value", "low", "high")}
        counts = {key: int(score.get(key) or 0) for key in ("n", "n_failed")}
        entries.append(
            {
                "name": visible(str(name)),
                **numbers,
                **counts,
                "note": visible(str(score.get("note", ""))),
                "baselines": _baselines(score.get("baseline")),
                "quantiles": _values(score.get("quantiles") or ()),
            }
        )
    return entries


def _baselines(baseline):
    """Return pairs of a name and a value, of one baseline or of a dict of several."""
    values = baseline if isinstance(baseline, dict) else {"baseline": baseline}
    pairs = ([visible(str(name)), rounded(value)] for name, value in values.items())
    return [[name, value] for name, value in pairs if value is not None and "n_failed" not in name]


def _values(quantiles):
    return [rounded(q["value"] if isinstance(q, dict) else q) for q in quantiles]


def trimmed(counts, edges):
    """Return the bins of a histogram from the first to the last that has a count."""
    used = np.flatnonzero(counts)
    if not len(used):
        return [], []
    first, last = int(used[0]), int(used[-1]) + 1
    return np.asarray(counts)[first:last].tolist(), [
        rounded(edge) for edge in np.asarray(edges)[first : last + 1].tolist()
    ]


def rounded(value):
    """Return a number with four digits, or None if it is not a finite number."""
    try:
        value = float(value)
    except (TypeError, ValueError):
        return None
    return float(f"{value:.4g}") if math.isfinite(value) else None
