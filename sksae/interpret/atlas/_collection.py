"""The one pass: every block is shown to everything that counts, keeps or samples."""

import numpy as np

from sksae.interpret.atlas._coactivation import Coactivation
from sksae.interpret.atlas._pools import Sampled, Strongest, places_of
from sksae.interpret.atlas._silent import LexicalWindows, SharedWindows
from sksae.interpret.atlas._strings import Strings, mixed
from sksae.interpret.atlas._tallies import HIGHEST, LOWEST, Tallies, TokenSums
from sksae.interpret.atlas._windows import Windows

N_OCTAVES = HIGHEST - LOWEST
N_SHARED = 1024
_FITTING = 5  # pieces that a feature fires on most


class Collection:
    """What a pass over codes leaves behind, in bounded memory but for four bytes a token.

    Parameters
    ----------
    n_components : int
    n_examples, n_per_octave, n_silent : int
        Sizes of the lists of a feature.
    before, after : int
        Cells of a window on either side.
    seed : int
    """

    def __init__(self, n_components, *, n_examples, n_per_octave, n_silent, before, after, seed):
        self.n_components, self.seed = n_components, int(mixed(np.array([seed], np.uint64))[0])
        self.strings = Strings()
        self.tallies, self.sums = Tallies(n_components), TokenSums(n_components)
        self.strongest = Strongest(n_components, n_examples)
        self.sampled = Sampled(n_components * N_OCTAVES, n_per_octave)
        self.windows = Windows(before, after)
        self.shared = SharedWindows(N_SHARED, before, after, self.seed)
        self.lexical = LexicalWindows(n_components, n_silent, before, after, self.seed)
        self.coactivation = Coactivation(n_components)
        self._strings, self._bounds, self._sources = [], [0], []
        self._string_rows = np.zeros(0, dtype=np.int64)

    def starts(self):
        """Return where the next block begins."""
        return {
            "start_row": self.tallies.n_rows,
            "start_cell": self.tallies.n_cells,
            "start_text": self.tallies.n_texts,
        }

    def add(self, block):
        """Show a block to everything."""
        self._keep_text(block)
        self.tallies.add(block)
        self.sums.add(block)
        self.strongest.add(block)
        self._sample(block)
        strongest, sampled = self.strongest.places, self.sampled.places
        strongest = self.windows.captured(block, strongest, strongest.bucket)
        sampled = self.windows.captured(block, sampled, sampled.bucket // N_OCTAVES)
        self.strongest.places, self.sampled.places = self.windows.compacted(strongest, sampled)
        self.shared.add(block)
        self.lexical.add(block, self.sums.main)
        self.coactivation.add(block)

    def _sample(self, block):
        octave = np.floor(np.log2(block.codes.data.astype(np.float64))).astype(np.int64)
        octave = np.clip(octave - LOWEST, 0, N_OCTAVES - 1)
        bucket = block.feature * N_OCTAVES + octave
        # Most codes are no candidates any more: their keys are looked at before anything is made.
        key = mixed(block.gram ^ np.uint64(self.seed))[block.cell[block.codes.indices]]
        lines = np.flatnonzero(key < self.sampled.limit[bucket])
        self.sampled.add(places_of(block, lines, bucket[lines], self.seed))

    def _keep_text(self, block):
        starts = np.flatnonzero(np.append(True, block.text[1:] != block.text[:-1]))
        self._bounds.extend((block.start_cell + np.append(starts[1:], len(block.text))).tolist())
        self._sources.extend(block.source.tolist())
        self._strings.append(block.string)
        rows = np.bincount(block.string, np.diff(block.first_row), len(self.strings))
        rows[: len(self._string_rows)] += self._string_rows
        self._string_rows = rows.astype(np.int64)

    def arrays(self):
        """Return all that is to be kept, as arrays by name."""
        self.sums.settle()
        tallies, lexical = self.tallies, self.lexical.places
        cell_string = np.concatenate([*self._strings, np.zeros(0, dtype=np.int32)])
        # Some were entered when a piece seemed the main one that is none of the large ones.
        pair = (lexical.bucket << 32) | cell_string[lexical.cell].astype(np.int64)
        fits = np.isin(pair, self.sums.largest(_FITTING))
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
            "text_bounds": np.array(self._bounds, dtype=np.int64),
            "string_rows": self._string_rows,
            "sum_key": self.sums.key,
            "sum_total": self.sums.total,
            "sum_count": self.sums.count,
            "window_bounds": self.windows.bounds,
            "window_offset": self.windows.offset,
            "window_value": self.windows.value,
            **_columns("strongest", self.strongest.places),
            **_columns("sampled", self.sampled.places),
            **_columns("shared", self.shared.places),
            **_columns("lexical", lexical.take(fits)),
            "activity_indptr": activity.indptr,
            "activity_window": activity.indices.astype(np.int32),
        }

    def sources(self):
        """Return the texts as the table named them."""
        return self._sources


def _columns(name, places):
    """Return the columns of places that are needed later."""
    kept = ("bucket", "row", "cell", "text", "value", "window")
    return {f"{name}_{column}": getattr(places, column) for column in kept}
