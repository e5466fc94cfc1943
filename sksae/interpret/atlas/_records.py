"""An atlas read: arrays of all features to the record of one."""

import numpy as np

from sksae._optional import needed
from sksae._signs import edges_visible
from sksae.interpret._examples import Example
from sksae.interpret._feature import Feature, Related
from sksae.interpret.atlas._collection import N_OCTAVES
from sksae.interpret.atlas._tallies import EDGES, PER_OCTAVE

DENSE, FEW_TEXTS, MOSTLY = 0.1, 10, 0.5


def flags_of(atlas):
    """Return the warnings about every feature: a mask for each, by name."""
    arrays = atlas._arrays
    active = arrays["n_active"]
    some = np.maximum(active, 1)
    # As often at the first pieces of texts as if it were about them.
    expected = atlas._n_first / max(atlas.n_rows_, 1)
    early = arrays["n_active_first"] / some
    return {
        "dead": active == 0,
        "rare": (active > 0) & (arrays["n_active_texts"] < FEW_TEXTS),
        "dense": active > DENSE * atlas.n_rows_,
        "duplicate-heavy": (active >= FEW_TEXTS) & (arrays["n_unique"] < MOSTLY * active),
        "position-driven": (active > 0) & (early > MOSTLY) & (expected < MOSTLY / 5),
    }


def feature_of(atlas, feature):
    """Return the `Feature` of one column."""
    arrays = atlas._arrays
    n_active = int(arrays["n_active"][feature])
    sampled, weights = _sampled(atlas, feature)
    return Feature(
        feature=feature,
        n_active=n_active,
        density=float(atlas.density_[feature]),
        n_texts=int(arrays["n_active_texts"][feature]),
        max_activation=float(arrays["maximum"][feature]),
        mean_activation=float(atlas.mean_activation_[feature]),
        n_unique=int(arrays["n_unique"][feature]),
        flags=tuple(name for name, mask in atlas._flags.items() if mask[feature]),
        top_tokens=top_tokens(atlas, feature),
        examples=_examples(atlas, "strongest", _lines(arrays, "strongest", feature)),
        sampled=sampled,
        weights=weights,
        silent=_silent(atlas, feature),
        histogram=_histogram(arrays["histogram"][feature]),
        promoted=_logits(atlas, "promoted", feature),
        suppressed=_logits(atlas, "suppressed", feature),
        nearest=_related(arrays, "nearest", feature),
        coactive=_related(arrays, "partner", feature),
    )


def table_of(atlas, features):
    """Return the data frame of `FeatureAtlas.table`."""
    pd = needed("pandas", "FeatureAtlas.table")
    arrays = atlas._arrays
    columns = {
        "n_active": atlas.n_active_[features],
        "density": atlas.density_[features],
        "n_texts": arrays["n_active_texts"][features],
        "max_activation": atlas.max_activation_[features],
        "mean_activation": atlas.mean_activation_[features],
        "n_unique": arrays["n_unique"][features],
        "top_tokens": [_words(t for t, _ in top_tokens(atlas, f)) for f in features.tolist()],
    }
    for side in ("promoted", "suppressed"):
        if side in arrays:
            lines = arrays[side][features].tolist()
            columns[side] = [_words(atlas._strings[i] for i in line) for line in lines]
    firsts = (("nearest", "nearest"), ("cosine", "nearest_cosine"), ("coactive", "partner"))
    for column, name in firsts:
        if name in arrays and arrays[name].shape[1]:
            columns[column] = arrays[name][features, 0]
    columns |= {name: mask[features] for name, mask in atlas._flags.items()}
    return pd.DataFrame(columns, index=pd.Index(features, name="feature"))


def _words(tokens):
    return "  ".join(map(edges_visible, tokens))


def top_tokens(atlas, feature):
    """Return the pieces that a feature fires on most, and their shares."""
    arrays = atlas._arrays
    mine = slice(*np.searchsorted(arrays["sum_key"], np.array([feature, feature + 1]) << 32))
    totals = arrays["sum_total"][mine]
    top = np.argsort(-totals, kind="stable")[: atlas.n_tokens]
    numbers = arrays["sum_key"][mine][top] & 0xFFFFFFFF
    shares = totals[top] / max(arrays["total"][feature], np.finfo(float).tiny)
    found = zip(numbers.tolist(), shares.tolist(), strict=True)
    return [(atlas._strings[number], share) for number, share in found]


def _lines(arrays, name, low, high=None):
    """Return the lines of the places of some buckets."""
    bucket = arrays[f"{name}_bucket"]
    return slice(*np.searchsorted(bucket, [low, low + 1 if high is None else high]).tolist())


def _examples(atlas, name, lines):
    """Return some lines of places as `Example` objects."""
    arrays, strings = atlas._arrays, atlas._strings
    columns = ("row", "cell", "text", "value", "window")
    row, cell, text, value, window = (arrays[f"{name}_{column}"][lines] for column in columns)
    low, high = arrays["text_bounds"][text], arrays["text_bounds"][text + 1]
    begin = np.maximum(cell - atlas.before, low)
    end = np.minimum(cell + atlas.after + 1, high)
    # Window -1, where a feature is silent, is from the last entry to the first: none.
    bounds = arrays["window_bounds"][window], arrays["window_bounds"][window + 1]
    parts = (row, text, value, cell - begin, begin > low, end < high, begin, end, *bounds)
    found = []
    for line in zip(*(part.tolist() for part in parts), strict=True):
        row, text, value, peak, cut_before, cut_after, begin, end, first, last = line
        activations = np.zeros(end - begin)
        activations[arrays["window_offset"][first:last]] = arrays["window_value"][first:last]
        tokens = strings[arrays["cell_string"][begin:end]]
        text = atlas._sources[text]
        found.append(Example(row, text, value, tokens, activations, peak, cut_before, cut_after))
    return found


def _sampled(atlas, feature):
    """Return random places where a feature fires, from strong to weak, and their weights."""
    arrays = atlas._arrays
    lines = _lines(arrays, "sampled", feature * N_OCTAVES, (feature + 1) * N_OCTAVES)
    octave = arrays["sampled_bucket"][lines] % N_OCTAVES
    rows = arrays["histogram"][feature].reshape(-1, PER_OCTAVE).sum(1)
    kept = np.bincount(octave, minlength=N_OCTAVES)
    weights = rows[octave] / kept[octave]
    order = np.argsort(-arrays["sampled_value"][lines], kind="stable")
    return _examples(atlas, "sampled", lines.start + order), weights[order]


def _silent(atlas, feature):
    """Return windows in which a feature does not fire, by kind."""
    arrays, size = atlas._arrays, atlas.n_silent
    indptr, window = arrays["activity_indptr"], arrays["activity_window"]
    quiet = np.ones(len(arrays["shared_row"]), dtype=bool)
    quiet[window[indptr[feature] : indptr[feature + 1]]] = False
    near = np.zeros(len(quiet), dtype=bool)
    for other in arrays["nearest"][feature].tolist() if "nearest" in arrays else ():
        near[window[indptr[other] : indptr[other + 1]]] = True
    near = np.flatnonzero(quiet & near)[:size]
    quiet[near] = False
    return {
        "random": _examples(atlas, "shared", np.flatnonzero(quiet)[:size]),
        "neighbor": _examples(atlas, "shared", near),
        "lexical": _examples(atlas, "lexical", _lines(arrays, "lexical", feature)),
    }


def _histogram(counts):
    """Return counts and edges from the first to the last bin that is not empty."""
    some = np.flatnonzero(counts)
    if not len(some):
        return np.zeros(0, dtype=np.int64), np.zeros(1)
    low, high = some[0], some[-1] + 1
    return counts[low:high].astype(np.int64), EDGES[low : high + 1]


def _logits(atlas, side, feature):
    if side not in atlas._arrays:
        return []
    numbers, values = (atlas._arrays[name][feature] for name in (side, f"{side}_logits"))
    found = zip(numbers.tolist(), values.tolist(), strict=True)
    return [(atlas._strings[number], value) for number, value in found]


def _related(arrays, name, feature):
    if name not in arrays:
        return []
    parts = ("", "_cosine", "_jaccard", "_conditional")
    columns = [arrays[f"{name}{part}"][feature].tolist() for part in parts]
    return [Related(*line) for line in zip(*columns, strict=True) if line[0] >= 0]
