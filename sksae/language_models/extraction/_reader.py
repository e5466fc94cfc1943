"""Reader: from an extractor and X to rows with their texts and tokens, at once or in chunks."""

from functools import partial
from typing import NamedTuple

import numpy as np

from sksae._threads import threads_of_process
from sksae.language_models._identities import attach
from sksae.language_models._loading import is_name, load, load_image_processor
from sksae.language_models._pickling import check_weights
from sksae.language_models._sites import base_of, reads_images
from sksae.language_models.extraction._batching import batching_of, check_attention
from sksae.language_models.extraction._images import ImageSource
from sksae.language_models.extraction._parameters import POLICY, check_parameters
from sksae.language_models.extraction._passes import Passes, hidden_of
from sksae.language_models.extraction._progress import Progress
from sksae.language_models.extraction._sources import TextSource
from sksae.language_models.extraction._texts import KINDS, length, read_items
from sksae.language_models.extraction._tokens import TokenTable
from sksae.language_models.extraction._windows import rows_of, text_of_rows

CHUNK_TOKENS = 2**16


class Chunk(NamedTuple):
    """The rows of some consecutive items of X."""

    first: int  # index in X of the first item
    n_texts: int
    rows: np.ndarray  # (n_rows, n_features), float32
    text: np.ndarray  # (n_rows,): index of the item within the chunk
    tokens: TokenTable | None  # its `text` counts within the chunk as well


class Reader:
    """A model, a place in it and a way to read X, as the parameters of an extractor say.

    Parameters
    ----------
    extractor : ActivationExtractor
        Its parameters are checked and its model is loaded.
    """

    def __init__(self, extractor):
        check_parameters(extractor)
        self.extractor = extractor
        model, tokenizer = load(extractor)
        check_weights(extractor, model)
        self.base = base_of(model)
        check_attention(self.base)
        self.place = attach(model, extractor.layer, extractor.site)
        if reads_images(model):
            self.source = ImageSource(
                self.base, self.place, lambda: load_image_processor(extractor), extractor
            )
        else:
            self.source = TextSource(self.base, tokenizer, extractor)

    def policy(self, kind):
        """Return what a table says about how its rows came about."""
        extractor = self.extractor
        named = is_name(extractor.model)
        facts = {
            "model": str(extractor.model) if named else type(extractor.model).__name__,
            "layer": None if extractor.layer is None else int(extractor.layer),
            "site": extractor.site,
            "input": kind or self.source.kinds[0],
        }
        return facts | {name: _plain(getattr(extractor, name)) for name in POLICY}

    @threads_of_process()
    def chunk(self, first, kind, values, *, table, progress):
        """Return the `Chunk` of some items of X, all of one kind."""
        reading = self.read(kind, values, first, spans=table)
        rows, windows = self._passes(reading, progress).token_rows()
        rows = self._no_rows() if rows is None else rows
        tokens = reading.table(windows) if table else None
        return Chunk(first, len(values), rows, text_of_rows(windows), tokens)

    def all_rows(self, kind, values, *, table):
        """Return the `Chunk` that is all of X."""
        return self.chunk(0, kind, values, table=table, progress=None)

    @threads_of_process()
    def text_rows(self, kind, values, pooling):
        """Return one row for each item of X."""
        reading = self.read(kind, values, 0, spans=False)
        self._check_poolable(reading.windows, len(values))
        rows = self._passes(reading, None).text_rows(pooling)
        return self._no_rows() if rows is None else rows

    def groups(self, items, first=0):
        """Yield ``(first, kind, values)``, items of about `CHUNK_TOKENS` tokens at a time."""
        kind, values, tokens = None, [], 0
        for kind, value in items:
            values.append(value)
            tokens += self.source.cost(kind, value)
            if tokens >= CHUNK_TOKENS:
                yield first, kind, values
                first, values, tokens = first + len(values), [], 0
        if values:
            yield first, kind, values

    def chunks(self, X, *, table):
        """Return an iterator of the chunks of X, which is read lazily."""
        return self._chunks(
            read_items(X), Progress(self.extractor.verbose, n_texts=length(X)), table
        )

    def _chunks(self, items, progress, table):
        try:
            for first, kind, values in self.groups(items):
                yield self.chunk(first, kind, values, table=table, progress=progress)
                progress.add(0, len(values))
        finally:
            progress.close()

    def half_precision(self):
        """Whether the model rounds to 16 bits."""
        return next(self.base.parameters()).dtype.itemsize < 4

    @threads_of_process()
    def batching(self):
        """Return which windows may share a pass, as `batching_of` does."""
        read = partial(hidden_of, self.base, self.place)
        given = self.extractor.position_ids
        return batching_of(self.base, self.place, self.source.trial, read, inputs=given)

    def width(self):
        """Return the number of features, from a pass over one token."""
        return hidden_of(self.base, self.place, self.source.probe()).shape[-1]

    def read(self, kind, values, first, *, spans):
        kind = kind or self.source.kinds[0]
        if kind not in self.source.kinds:
            raise ValueError(
                f"X[{first}] is {KINDS[kind]}, but {type(self.base).__name__} reads "
                f"{'images' if self.source.kinds == ('image',) else 'text'}."
            )
        return self.source.read(kind, values, self.policy(kind), first=first, spans=spans)

    def _passes(self, reading, progress):
        extractor = self.extractor
        if progress is None:
            lengths = np.diff(reading.windows.bounds)
            total = int(lengths[rows_of(reading.windows) > 0].sum())
            progress = Progress(extractor.verbose, n_tokens=total)
        sizes = extractor.batch_tokens, extractor.max_norm_ratio
        return Passes(self.base, self.place, reading, self.batching(), *sizes, progress)

    def _check_poolable(self, windows, n_texts):
        tokens = np.bincount(windows.text, weights=rows_of(windows), minlength=n_texts)
        empty = np.flatnonzero(tokens == 0)
        if not len(empty):
            return
        lost = self.extractor.drop_first_position and np.isin(empty, windows.text).any()
        raise ValueError(
            f"There is nothing to pool in texts without tokens: X[{empty[0]}]"
            + f" and {len(empty) - 1} more" * (len(empty) > 1)
            + ". Leave them out, or extract one row per token with pooling=None."
            + " Without a special token in front, the only token of a text is in its first "
            "position, which drop_first_position=False keeps." * bool(lost)
        )

    def _no_rows(self):
        return np.empty((0, self.width()), dtype=np.float32)


def _plain(value):
    """Return a parameter as JSON knows it, without numpy's types."""
    return value.item() if isinstance(value, np.generic) else value
