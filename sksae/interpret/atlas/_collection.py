"""Collection of everything about all features, in one pass over blocks of codes."""

import numpy as np
from scipy import sparse

from sksae._arrays import two_axes
from sksae._coding import sparse_codes
from sksae._runs import joined_ranges, ranks_in_runs, run_starts
from sksae.interpret._strongest import StrongestPool, check_codes, taken
from sksae.interpret.atlas._blocks import BLOCK_ROWS, Strings, cut_blocks, make_block, mixed
from sksae.interpret.atlas._images import ImagePatches, image_arrays, placed_rows
from sksae.interpret.atlas._neighbors import Coactivation
from sksae.interpret.atlas._places import (
    SampledPlaces,
    no_places,
    places_of_cells,
    places_of_codes,
    strongest_per_text,
)
from sksae.interpret.atlas._tallies import HIGHEST, LOWEST, Tallies, TokenSums
from sksae.language_models import ActivationExtractor

N_OCTAVES = HIGHEST - LOWEST
N_SHARED = 1024
_MAIN_PIECES = 5  # pieces that count as those that a feature fires on most


def coded_chunks(X, tokens, coder, extractor):
    """Prepare the rows that an atlas is fitted on.

    Parameters
    ----------
    X, tokens
        As for `FeatureAtlas.fit`.
    coder : estimator or None
        Codes rows, sparsely if it can. None takes codes.
    extractor : ActivationExtractor or None
        Reads texts. None takes rows.

    Returns
    -------
    encode : callable
        Makes CSR codes of rows.
    n_components : int
        Columns of the codes.
    chunks : iterable of (first_text, rows, tokens)
        Rows with their token tables; texts of a chunk count from `first_text`.
    """
    if hasattr(X, "string"):
        raise TypeError("X is a token table; rows come first, as in fit(X, tokens=tokens).")
    if extractor is None:
        X = X if hasattr(X, "shape") else np.asarray(X)
        if getattr(getattr(X, "dtype", None), "kind", "f") in "USO":
            raise ValueError("X holds texts or other objects: texts need an 'extractor'.")
    if coder is None:
        if extractor is not None:
            raise ValueError("An extractor needs a fitted 'sae' to code what it reads.")
        codes = check_codes(X)
        # There are no sparse containers of float16.
        encode = _single_precision if codes.dtype == np.float16 else sparse.csr_array
        return encode, codes.shape[1], [(0, codes, tokens)]
    n_components = len(coder.get_feature_names_out())

    def encode(rows):
        return sparse_codes(coder, rows, n_components)

    if extractor is None:
        if X.ndim != 2:
            remedy = f" X{two_axes(X.shape)}." if X.ndim > 2 else ""
            raise ValueError(
                f"X must be 2-D, rows by features; got shape {tuple(X.shape)}.{remedy}"
            )
        return encode, n_components, [(0, X, tokens)]
    if not isinstance(extractor, ActivationExtractor):
        raise ValueError(
            "The 'extractor' parameter of FeatureAtlas must be an ActivationExtractor or None. "
            f"Got {extractor!r} instead."
        )
    if tokens is not None:
        raise ValueError(
            "With an extractor X is texts, which have their tokens: leave out tokens=."
        )
    return encode, n_components, extractor.extract_chunks(X)


def _single_precision(codes):
    return sparse.csr_array(codes.astype(np.float32))


class Collection:
    """Everything that an atlas keeps of a pass, in bounded memory but for four bytes per token.

    Parameters
    ----------
    n_components : int
    n_examples, n_per_octave, n_silent : int
        Sizes of the lists of a feature.
    before, after : int
        Cells of a window on either side.
    seed : int
    images : ImagePatches, default=None
        The images of which the rows are patches.
    """

    def __init__(
        self, n_components, *, n_examples, n_per_octave, n_silent, before, after, seed, images=None
    ):
        if images is not None:
            if not isinstance(images, ImagePatches):
                raise TypeError(
                    f"images must be ImagePatches, as in images=ImagePatches(images, grid=(14, "
                    f"14)). Got {type(images).__name__} instead."
                )
            before = after = BLOCK_ROWS  # all of an image
        self.images, self.grid = images, None
        self.n_components, self.seed = n_components, int(mixed(np.array([seed], np.uint64))[0])
        self.policy = {}
        self.strings = Strings()
        self.sources = []  # the texts as the token table names them
        self.tallies, self.sums = Tallies(n_components), TokenSums(n_components)
        self.strongest = StrongestPool(no_places(), n_components, n_examples)
        # One bucket per feature and octave of activations.
        self.sampled = SampledPlaces(n_components * N_OCTAVES, n_per_octave)
        self.windows = WindowCodes(before, after)
        self.shared = SharedWindows(N_SHARED, before, after, self.seed)
        self.lexical = LexicalWindows(n_components, n_silent, before, after, self.seed)
        self.coactivation = Coactivation(n_components)
        self._cell_strings = []  # one array per block
        self._patches = []  # one array per chunk
        self._text_bounds = [0]  # in cells of the whole pass
        self._string_rows = np.zeros(0, dtype=np.int64)  # (n_strings,): rows of each string

    def read(self, encode, chunks):
        """Add all chunks, as `coded_chunks` returns them."""
        for first_text, rows, tokens in chunks:
            if self.images is not None:
                tokens = self._placed(tokens, rows.shape[0], first_text)
            # How special tokens and long texts were treated; tables of one pass agree.
            self.policy = self.policy or dict(getattr(tokens, "policy", {}))
            for part, parts in cut_blocks(
                tokens, rows.shape[0], self.strings, self.tallies.n_cells
            ):
                if first_text:
                    parts["source"] = parts["source"] + first_text
                starts = {
                    "start_row": self.tallies.n_rows,
                    "start_cell": self.tallies.n_cells,
                    "start_text": self.tallies.n_texts,
                }
                self._add(make_block(encode(rows[part]), parts, starts))
        if not self.tallies.n_rows:
            raise ValueError("X has no rows: there is nothing to look at.")

    def _placed(self, tokens, n_rows, first_image):
        """Return the rows of a chunk at their places in the images; each is one cell."""
        placed = placed_rows(self.images, tokens, n_rows, first_image)
        self.grid = self.grid or placed.grid
        if placed.grid != self.grid:
            raise ValueError(f"All images must have one grid. Got {self.grid} and {placed.grid}.")
        self._patches.append(placed.position.astype(np.int16))
        return placed

    def image_arrays(self, arrays):
        """Return the arrays of an atlas about images, and a fact that says what was kept."""
        n_read = max(self.sources) + 1
        if n_read < len(self.images.images) and self.images.image is None:
            raise ValueError(
                f"images has {len(self.images.images)} images, but the rows are of {n_read}."
            )
        patches = np.concatenate(self._patches)
        return image_arrays(self.images, self.grid, patches, arrays, self.sources)

    def _add(self, block):
        self._keep_text(block)
        self.tallies.add(block)
        self.sums.add(block)
        self.strongest.add(strongest_per_text(block, self.strongest))
        self._sample(block)
        self._capture_windows(block)
        self.shared.add(block)
        self.lexical.add(block, self.sums.main)
        self.coactivation.add(block)

    def _keep_text(self, block):
        starts = run_starts(block.text)
        self._text_bounds.extend(
            (block.start_cell + np.append(starts[1:], len(block.text))).tolist()
        )
        self.sources.extend(block.source.tolist())
        self._cell_strings.append(block.string)
        # New strings have the largest numbers, so the counts of the old ones are at the front.
        rows = np.bincount(block.string, np.diff(block.first_row), len(self.strings))
        rows[: len(self._string_rows)] += self._string_rows
        self._string_rows = rows.astype(np.int64)

    def _sample(self, block):
        octave = np.floor(np.log2(block.codes.data.astype(np.float64))).astype(np.int64)
        octave = np.clip(octave - LOWEST, 0, N_OCTAVES - 1)
        bucket = block.feature * N_OCTAVES + octave
        # After some blocks most codes cannot enter: their keys are compared before places are made.
        key = mixed(block.gram ^ np.uint64(self.seed))[block.code_cell]
        codes = np.flatnonzero(key < self.sampled.limit[bucket])
        self.sampled.add(places_of_codes(block, codes, bucket[codes], self.seed))

    def _capture_windows(self, block):
        """Store the codes around the places that came with this block, while it is at hand."""
        strongest, sampled = self.strongest.entries, self.sampled.places
        strongest = self.windows.captured(block, strongest, strongest.bucket)
        sampled = self.windows.captured(block, sampled, sampled.bucket // N_OCTAVES)
        strongest, sampled = self.windows.compacted(strongest, sampled)
        self.strongest.entries, self.sampled.places = strongest, sampled

    def arrays(self):
        """Return the arrays of an atlas by name; without those about neighbours and logits."""
        self.sums.settle()
        tallies = self.tallies
        cell_string = np.concatenate([*self._cell_strings, np.zeros(0, dtype=np.int32)])
        n_unique = self.sampled.n_different().reshape(-1, N_OCTAVES).sum(1)
        activity = self.shared.activity(self.n_components)
        return {
            "n_active": tallies.n_active,
            "n_active_first": tallies.n_active_first,
            "n_active_texts": tallies.n_active_texts,
            "total": tallies.total,
            "maximum": tallies.maximum,
            "histogram": tallies.histogram,
            "n_unique": np.minimum(np.rint(n_unique).astype(np.int64), tallies.n_active),
            "cell_string": cell_string,
            "text_bounds": np.array(self._text_bounds, dtype=np.int64),
            "string_rows": self._string_rows,
            "sum_key": self.sums.key,
            "sum_total": self.sums.total,
            "sum_count": self.sums.count,
            "window_bounds": self.windows.bounds,
            "window_offset": self.windows.offset,
            "window_value": self.windows.value,
            **_columns("strongest", self.strongest.entries),
            **_columns("sampled", self.sampled.places),
            **_columns("shared", self.shared.places),
            **_columns("lexical", self._lexical_places(cell_string)),
            "activity_indptr": activity.indptr,
            "activity_window": activity.indices.astype(np.int32),
        }

    def _lexical_places(self, cell_string):
        """Return the places whose string is still among the main ones of their feature.

        A place enters for the main string of the moment, which the rest of the pass may overtake.
        """
        places = self.lexical.places
        key = (places.bucket << 32) | cell_string[places.cell].astype(np.int64)
        return taken(places, np.isin(key, self.sums.largest(_MAIN_PIECES)))


def _columns(name, places):
    """Return the columns of places that an atlas keeps, as arrays by name."""
    columns = ("bucket", "row", "cell", "text", "value", "window")
    return {f"{name}_{column}": getattr(places, column) for column in columns}


_SINGLE = float(np.finfo(np.float32).smallest_subnormal), float(np.finfo(np.float32).max)
_PER_STRING = 16  # cells with the same string that are looked at per block


class WindowCodes:
    """Positive codes in windows: ragged lines, one per window, stored end to end.

    Line w has the entries ``bounds[w] : bounds[w + 1]`` of `offset` and `value`.

    Parameters
    ----------
    before, after : int
        Cells on either side.
    """

    def __init__(self, before, after):
        self.before, self.after = before, after
        self.bounds = np.zeros(1, dtype=np.int64)  # (n_windows + 1,)
        self.offset = np.zeros(0, dtype=np.uint16)  # (n_entries,): cells from the window's first
        self.value = np.zeros(0, dtype=np.float32)  # (n_entries,)

    def __len__(self):
        return len(self.bounds) - 1

    def captured(self, block, places, feature):
        """Return the places with a window each: those of this block get theirs now.

        Parameters
        ----------
        block : Block
        places : Places
        feature : ndarray of shape (n_places,)
            Feature whose codes are stored.
        """
        new = np.flatnonzero(places.window < 0)
        if not len(new):
            return places
        cells = places.cell[new] - block.start_cell
        begin, end = block.window(cells, self.before, self.after)
        low, high = _code_ranges(block, feature[new], begin, end)
        codes = joined_ranges(low, high - low)  # positions in the block, window by window
        line = np.repeat(np.arange(len(new)), high - low)  # window of each of them
        cell = block.code_cell[codes]
        # Several rows of one cell give it one value, the largest.
        starts = run_starts(line, cell)
        values = block.codes.data[codes]
        values = np.maximum.reduceat(values, starts) if len(starts) else values
        line, cell = line[starts], cell[starts]
        window = places.window.copy()
        window[new] = len(self) + np.arange(len(new))
        self._append(np.bincount(line, minlength=len(new)), cell - begin[line], values)
        return places._replace(window=window)

    def _append(self, counts, offset, value):
        self.bounds = np.concatenate([self.bounds, self.bounds[-1] + np.cumsum(counts)])
        self.offset = np.concatenate([self.offset, offset.astype(np.uint16)])
        # Codes of float64 stay positive and finite in float32.
        value = np.clip(value, *_SINGLE).astype(np.float32)
        self.value = np.concatenate([self.value, value])

    def compacted(self, *groups):
        """Return groups of places, their windows renumbered, and forget all other windows.

        Nothing is done before there are twice as many windows as places.
        """
        if len(self) > 2 * sum(len(places.window) for places in groups) + 1024:
            is_used = np.zeros(len(self), dtype=bool)
            for places in groups:
                is_used[places.window] = True
            used = np.flatnonzero(is_used)
            lengths = np.diff(self.bounds)[used]
            entries = joined_ranges(self.bounds[used], lengths)
            self.bounds = np.append(0, np.cumsum(lengths))
            self.offset, self.value = self.offset[entries], self.value[entries]
            new_line = np.cumsum(is_used) - 1  # (n_windows,): for each old line that is used
            groups = [places._replace(window=new_line[places.window]) for places in groups]
        return groups


def _code_ranges(block, feature, begin, end):
    """Return first and last position, plus one, of a feature's codes in the cells begin to end."""
    base = feature * np.int64(max(len(block.cell), 1))  # as in `Block.key`
    low = np.searchsorted(block.key, base + block.first_row[begin])
    return low, np.searchsorted(block.key, base + block.first_row[end])


class SharedWindows:
    """Random windows with all the features that fire in them; all others are silent there.

    Parameters
    ----------
    size : int
        Windows kept.
    before, after : int
        Cells on either side.
    seed : int
    """

    def __init__(self, size, before, after, seed):
        self.before, self.after, self.seed = before, after, seed
        self._sampled = SampledPlaces(1, size)
        self._active = {}  # row of the middle of a window -> features that fire in it, ascending

    @property
    def places(self):
        """`Places` of the middles of the windows."""
        return self._sampled.places

    def add(self, block):
        """Enter the windows of a block."""
        cells = np.arange(len(block.string))
        self._sampled.add(places_of_cells(block, cells, np.zeros(len(cells)), self.seed))
        places = self.places
        new = np.flatnonzero(places.row >= block.start_row)
        begin, end = block.window(places.cell[new] - block.start_cell, self.before, self.after)
        codes = sparse.csr_array(block.codes) if len(new) else None
        active = dict(self._active)
        for line, low, high in zip(new.tolist(), begin.tolist(), end.tolist(), strict=True):
            entries = slice(*codes.indptr[block.first_row[[low, high]]])
            active[int(places.row[line])] = np.unique(codes.indices[entries])
        # Rows of earlier blocks may have left the sample.
        self._active = {row: active[row] for row in places.row.tolist()}

    def activity(self, n_components):
        """Return which features fire in which window, CSC of shape (n_windows, n_components)."""
        lists = [self._active[row] for row in self.places.row.tolist()]
        indptr = np.append(0, np.cumsum([len(features) for features in lists], dtype=np.int64))
        indices = np.concatenate([*lists, np.zeros(0, dtype=np.int32)]).astype(np.int64)
        data = np.ones(len(indices), dtype=bool)
        shape = (len(lists), n_components)
        return sparse.csc_array(sparse.csr_array((data, indices, indptr), shape=shape))


class LexicalWindows:
    """Windows around the piece that a feature fires on most, in which it does not fire.

    Parameters
    ----------
    n_components : int
    size : int
        Windows kept per feature.
    before, after : int
        Cells on either side.
    seed : int
    """

    def __init__(self, n_components, size, before, after, seed):
        self.before, self.after, self.seed = before, after, seed
        self._sampled = SampledPlaces(n_components, size)

    @property
    def places(self):
        """`Places` of the middles of the windows; the bucket is the feature."""
        return self._sampled.places

    def add(self, block, main):
        """Enter the windows of a block.

        Parameters
        ----------
        block : Block
        main : ndarray of shape (n_components,)
            Number of the string that each feature fires on most so far, -1 for none.
        """
        # A few random cells per string, those with the smallest grams, in order of the strings ...
        order = np.lexsort((block.gram, block.string))
        cells = order[ranks_in_runs(block.string[order]) < _PER_STRING]
        string = block.string[cells]
        # ... joined with the features that have the string as their main one.
        features = np.argsort(main, kind="stable")
        features = features[np.searchsorted(main[features], 0) :]  # without those that have -1
        low = np.searchsorted(string, main[features])
        counts = np.searchsorted(string, main[features], side="right") - low
        feature = np.repeat(features, counts)
        cell = cells[joined_ranges(low, counts)]
        # Most pairs have too large a key for the sample: silence is looked up for the others only.
        key = mixed(block.gram ^ np.uint64(self.seed))[cell]
        enters = key < self._sampled.limit[feature]
        cell, feature = cell[enters], feature[enters]
        low, high = _code_ranges(block, feature, *block.window(cell, self.before, self.after))
        silent = low == high
        self._sampled.add(places_of_cells(block, cell[silent], feature[silent], self.seed))
