"""An atlas against plain loops over dense codes, on small tables of every shape."""

from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from sksae.interpret import FeatureAtlas
from sksae.interpret.atlas import _blocks
from tests.cases import tries

GRAM = 8
VALUES = [0.125, 0.5, 1.0, 1.5, 2.0, 3.0, 40.0]


class Plain:
    """What an atlas should find, cell by cell: a cell is a tuple of rows."""

    def __init__(self, codes, table, before=24, after=8):
        self.codes, self.table, self.before, self.after = codes, table, before, after
        self.cells, self.run = [], []  # a run is one text in one piece
        text, group, position = (table[name] for name in ("text", "group", "position"))
        for row in range(len(codes)):
            new_text = row == 0 or text[row] != text[row - 1]
            if new_text or group[row] != group[row - 1] or position[row] < 0:
                self.cells.append([])
                self.run.append((self.run[-1] + 1 if new_text else self.run[-1]) if row else 0)
            self.cells[-1].append(row)
        self.string = [max((table["string"][r] for r in rows), key=len) for rows in self.cells]
        self.cell_of = {row: cell for cell, rows in enumerate(self.cells) for row in rows}

    def window(self, cell, before=None, after=None):
        """Return the cells around one, in its text."""
        before, after = (self.before, self.after) if before is None else (before, after)
        near = range(max(cell - before, 0), min(cell + after + 1, len(self.cells)))
        return [c for c in near if self.run[c] == self.run[cell]]

    def context(self, cell):
        """Return what is read up to a cell."""
        return tuple(self.string[c] for c in self.window(cell, GRAM - 1, 0))

    def activations(self, feature, cells):
        return [max(self.codes[row, feature] for row in self.cells[c]) for c in cells]

    def fires(self, feature):
        return [row for row in range(len(self.codes)) if self.codes[row, feature] > 0]

    def strongest(self, feature, size):
        """Return rows: the first strongest of each text, each context once."""
        of_text = {}
        for row in self.fires(feature):
            run = self.run[self.cell_of[row]]
            if run not in of_text or self.codes[row, feature] > self.codes[of_text[run], feature]:
                of_text[run] = row
        rows = sorted(of_text.values(), key=lambda row: (-self.codes[row, feature], row))
        return self.first_of_each_context(rows)[:size]

    def first_of_each_context(self, rows):
        seen = {}
        for row in rows:
            seen.setdefault(self.context(self.cell_of[row]), row)
        return list(seen.values())

    def contexts_by_octave(self, feature):
        """Return the first row of each context in each octave."""
        octaves = defaultdict(list)
        for row in self.fires(feature):
            octave = np.clip(np.floor(np.log2(self.codes[row, feature])), -24, 23)
            octaves[int(octave)].append(row)
        return sorted(row for rows in octaves.values() for row in self.first_of_each_context(rows))

    def top_tokens(self, feature):
        sums = {}
        for row in range(len(self.codes)):
            string = self.string[self.cell_of[row]]
            sums[string] = sums.get(string, 0) + self.codes[row, feature]
        total = sum(sums.values())
        return [(s, t / total) for s, t in sorted(sums.items(), key=lambda i: -i[1]) if t > 0]

    def silent(self, feature):
        """Return the first rows of the windows in which a feature is silent."""
        firsts = self.first_of_each_context([rows[0] for rows in self.cells])
        return {row for row in firsts if not self.is_on_near(feature, self.cell_of[row])}

    def is_on_near(self, feature, cell):
        return any(self.activations(feature, self.window(cell)))


@st.composite
def tables(draw, max_rows=40):
    """Draw a table with texts that come back, characters of several rows, special tokens."""
    n_rows = draw(st.integers(1, max_rows))

    def column(values):
        return draw(st.lists(values, min_size=n_rows, max_size=n_rows))

    ids = st.sampled_from(draw(st.sampled_from([(0, 1, 2), ("b", "a", "희"), (7,)])))
    stays = column(st.integers(0, 5))
    text, group, names = (
        column(ids),
        list(range(n_rows)),
        column(st.sampled_from(["x", " y", "🌊"])),
    )
    for row in range(1, n_rows):
        if stays[row]:
            text[row] = text[row - 1]
            if stays[row] == 1:  # one character of two rows
                group[row], names[row] = group[row - 1], names[row - 1]
    position = [-1 if special else row for row, special in enumerate(column(st.integers(0, 5)))]
    position = [row if p < 0 and draw(st.booleans()) else p for row, p in enumerate(position)]
    string = np.array(names, dtype=object)
    return {
        "text": np.array(text),
        "position": np.array(position),
        "group": np.array(group),
        "string": string,
    }


@st.composite
def cases(draw, values=VALUES, max_rows=40):
    table = draw(tables(max_rows))
    width = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    fires = rng.random((len(table["text"]), width)) < rng.choice([0, 0.1, 0.5, 1], width)
    return fires * rng.choice(values, fires.shape), table


def fit(codes, table, *, block_rows=None, **arguments):
    """Return an atlas of blocks that hold at least one text each."""
    changes = np.flatnonzero(table["text"][1:] != table["text"][:-1]) + 1
    longest = int(np.diff([0, *changes, len(table["text"])]).max())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_blocks, "BLOCK_ROWS", max(block_rows or 2**15, longest))
        return FeatureAtlas(**arguments).fit(codes, tokens=table)


FORMS = {
    "dense": np.asarray,
    "float32": np.float32,
    "float16": np.float16,
    "CSR": sparse.csr_array,
    "CSC": sparse.csc_matrix,
}


@settings(max_examples=tries(60), deadline=None)
@given(
    case=cases(),
    form=st.sampled_from(sorted(FORMS)),
    around=st.sampled_from([(24, 8), (0, 0), (2, 1)]),
    n_examples=st.integers(1, 4),
    block_rows=st.sampled_from([None, 1, 7]),
)
def test_counts_and_windows_are_those_of_plain_loops(case, form, around, n_examples, block_rows):
    codes, table = case
    plain = Plain(codes, table, *around)
    sizes = {"n_examples": n_examples, "before": around[0], "after": around[1]}
    atlas = fit(FORMS[form](codes), table, block_rows=block_rows, n_per_octave=64, **sizes)
    assert atlas.n_texts_ == plain.run[-1] + 1
    for j in range(codes.shape[1]):
        feature, rows = atlas.feature(j), plain.fires(j)
        assert feature.n_active == len(rows)
        assert feature.n_texts == len({plain.run[plain.cell_of[row]] for row in rows})
        assert feature.max_activation == codes[:, j].max()
        assert feature.mean_activation == (codes[rows, j].mean() if rows else 0)
        assert [e.row for e in feature.examples] == plain.strongest(j, n_examples)
        assert sorted(e.row for e in feature.sampled) == plain.contexts_by_octave(j)
        assert feature.n_unique == len(feature.sampled)
        assert feature.weights.sum() == pytest.approx(len(rows))
        assert feature.top_tokens == [(s, pytest.approx(t)) for s, t in plain.top_tokens(j)]
        assert feature.histogram[0].sum() == len(rows)
        silent = [shown for kind in feature.silent.values() for shown in kind]
        for shown in feature.examples + feature.sampled + silent:
            assert_shows(shown, plain, j)


def assert_shows(shown, plain, feature):
    """Assert that an example is the window around its row."""
    cell = plain.cell_of[shown.row]
    window = plain.window(cell)
    assert shown.tokens.tolist() == [plain.string[c] for c in window]
    assert shown.peak == cell - window[0]
    assert shown.activations.tolist() == plain.activations(feature, window)
    assert shown.activation == plain.codes[shown.row, feature]
    assert shown.text == plain.table["text"][shown.row]
    runs = [
        plain.run[c] if 0 <= c < len(plain.run) else None for c in (window[0] - 1, window[-1] + 1)
    ]
    assert (shown.cut_before, shown.cut_after) == tuple(run == plain.run[cell] for run in runs)


@settings(max_examples=tries(60), deadline=None)
@given(case=cases(), around=st.sampled_from([(24, 8), (0, 0), (2, 1)]), n_silent=st.integers(0, 60))
def test_silent_windows_are_those_of_plain_loops(case, around, n_silent):
    codes, table = case
    plain = Plain(codes, table, *around)
    atlas = fit(codes, table, n_silent=n_silent, before=around[0], after=around[1])
    for j in range(codes.shape[1]):
        silent, quiet = atlas.feature(j).silent, plain.silent(j)
        rows = {e.row for e in silent["random"]}
        assert silent["neighbor"] == []  # without directions there are none
        assert rows <= quiet
        assert len(rows) == len(silent["random"]) == min(n_silent, len(quiet))
        main = plain.top_tokens(j)[0][0] if plain.fires(j) else None
        for shown in silent["lexical"]:
            assert shown.tokens[shown.peak] in {token for token, _ in plain.top_tokens(j)[:5]}
            assert not shown.activations.any()
        there = [r for r in plain.silent(j) if plain.string[plain.cell_of[r]] == main]
        assert len(silent["lexical"]) >= min(len(there), n_silent, 1)


@settings(max_examples=tries(30), deadline=None)
@given(case=cases(max_rows=25), block_rows=st.integers(1, 30))
def test_blocks_change_nothing_where_no_text_is_cut(case, block_rows):
    codes, table = case
    whole, parts = fit(codes, table), fit(codes, table, block_rows=block_rows)
    for name in sorted(set(whole._arrays) - {"window_bounds", "window_offset", "window_value"}):
        if not name.startswith(("lexical_", "strongest_window", "sampled_window")):
            np.testing.assert_array_equal(whole._arrays[name], parts._arrays[name], err_msg=name)


@settings(max_examples=tries(30), deadline=None)
@given(case=cases(max_rows=30), block_rows=st.integers(1, 12))
def test_a_text_longer_than_a_block_is_read_as_several(case, block_rows):
    codes, table = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_blocks, "BLOCK_ROWS", block_rows)
        atlas = FeatureAtlas(n_per_octave=64).fit(codes, tokens=table)
    dense = codes > 0
    np.testing.assert_array_equal(atlas.n_active_, dense.sum(0))
    np.testing.assert_array_equal(atlas.max_activation_, codes.max(0))
    plain = Plain(codes, table)
    for j in range(codes.shape[1]):
        feature = atlas.feature(j)
        assert feature.weights.sum() == pytest.approx(feature.n_active)
        for shown in feature.examples + feature.sampled:
            cells = range(plain.cell_of[shown.row] - shown.peak, len(plain.cells))
            cells = cells[: len(shown.tokens)]
            assert len({plain.run[c] for c in cells}) == 1
            assert shown.tokens.tolist() == [plain.string[c] for c in cells]
            assert shown.activations.tolist() == plain.activations(j, cells)
            assert len(cells) <= block_rows + 2  # of a character of several rows


@settings(max_examples=tries(30), deadline=None)
@given(
    case=cases(values=[1e-30, 1e-8, 1.0, 2.0**24, 1e30, 1e300]),
    dtype=st.sampled_from(["float64", "float32"]),
)
def test_tiny_and_huge_codes_are_counted_and_shown(case, dtype):
    with np.errstate(over="ignore"):
        codes = case[0].astype(dtype).clip(max=3e38 if dtype == "float32" else None)
    codes = codes.astype(dtype)
    atlas = fit(codes, case[1], n_per_octave=64)
    for j in range(codes.shape[1]):
        feature = atlas.feature(j)
        assert feature.n_active == (codes[:, j] > 0).sum() == feature.histogram[0].sum()
        assert feature.max_activation == codes[:, j].max()
        assert feature.weights.sum() == pytest.approx(feature.n_active)
        for one in feature.examples + feature.sampled:
            assert one.activation == codes[one.row, j]
            assert np.isfinite(one.activations).all()
        assert all(a.low >= b.high for a, b in pairwise(feature.quantiles(3)))


@settings(max_examples=tries(30), deadline=None)
@given(
    seed=st.integers(0, 2**32),
    n_rows=st.integers(1, 60),
    labels=st.sampled_from([None, "all alike"]),
    block_rows=st.integers(1, 60),
)
def test_rows_with_labels_are_all_different(seed, n_rows, labels, block_rows):
    """Whatever their labels are."""
    rng = np.random.default_rng(seed)
    codes = rng.choice([0, 0, 1.0, 2.0, 3.0], (n_rows, 40))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_blocks, "BLOCK_ROWS", block_rows)
        atlas = FeatureAtlas(n_examples=10, n_per_octave=60, n_silent=60)
        atlas.fit(codes, tokens=labels and [labels] * n_rows)
    for j in range(40):
        feature, fires = atlas.feature(j), np.flatnonzero(codes[:, j])
        expected = sorted(fires.tolist(), key=lambda row: (-codes[row, j], row))
        assert [e.row for e in feature.examples] == expected[:10]
        assert sorted(e.row for e in feature.sampled) == fires.tolist()
        assert feature.n_unique == feature.n_texts == len(fires)
        silent = {e.row for e in feature.silent["random"]}
        assert silent == set(range(n_rows)) - set(fires.tolist())
