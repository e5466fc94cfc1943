"""Rows of activations at the sites of an extractor, with their texts and tokens, in chunks."""

from functools import partial
from numbers import Integral
from typing import NamedTuple

import numpy as np

from sksae._params import check_params
from sksae._threads import threads_of_process
from sksae.language_models.extraction._batching import (
    batching_of,
    check_attention,
    strictest,
)
from sksae.language_models.extraction._context_windows import RowPolicy, rows_of, text_of_rows
from sksae.language_models.extraction._forward_passes import ForwardPasses, hidden_of, token_bar
from sksae.language_models.extraction._input_items import KINDS, length, read_items
from sksae.language_models.extraction._token_table import TokenTable
from sksae.language_models.extraction._window_sources import ImageSource, TextSource
from sksae.language_models.model import (
    base_of,
    check_weights,
    checked_hook_point,
    is_name,
    load_model,
    reads_images,
    site_label,
    split_site,
)

CHUNK_TOKENS = 2**16


class Chunk(NamedTuple):
    """The rows of some consecutive items of X."""

    first: int  # index in X of the first item
    n_texts: int
    rows: np.ndarray  # (n_rows, n_features), float32
    text: np.ndarray  # (n_rows,): index of the item within the chunk
    tokens: TokenTable | None  # its `text` counts within the chunk as well


def check_parameters(extractor):
    """Raise a ValueError if the parameters are wrong or do not go together; load nothing."""
    check_params(extractor)
    if is_name(extractor.model):
        return
    if extractor.tokenizer is None and not reads_images(extractor.model):
        raise ValueError("With a model object the 'tokenizer' parameter is needed as well.")
    for name in ("device", "dtype"):
        if getattr(extractor, name) != "auto":
            raise ValueError(
                f"A model object is used as it is: leave {name}='auto' and move the model "
                f"yourself, as in model.to({getattr(extractor, name)!r})."
            )


class ActivationReader:
    """The model, the hook points and the source that the parameters of an extractor stand for.

    Parameters
    ----------
    extractor : ActivationExtractor
        Its parameters are checked and its model is loaded.
    """

    def __init__(self, extractor):
        check_parameters(extractor)
        self.extractor = extractor
        model, tokenizer = load_model(extractor)
        check_weights(extractor, model)
        self.base = base_of(model)
        check_attention(self.base)
        self.points = hook_points_of(extractor, model)  # by the names of their sites
        self._policy = RowPolicy.of(extractor)
        if reads_images(model):
            self.source = ImageSource(self.base, self._points[0], extractor, self._policy)
        else:
            self.source = TextSource(self.base, tokenizer, self._policy)

    def policy(self, kind):
        """Return the origin of the rows that a table records, values that JSON can hold."""
        extractor = self.extractor
        named = is_name(extractor.model)
        facts = {
            "model": str(extractor.model) if named else type(extractor.model).__name__,
            **_location(extractor, list(self.points)),
            "input": kind or self.source.kinds[0],
        }
        return facts | {name: _plain(value) for name, value in self._policy._asdict().items()}

    def chunk(self, first, kind, values, *, table, bar):
        """Return the `Chunk` of some items of X, all of one kind; `bar` counts their tokens."""
        return self._chunk(self.read(kind, values, first, spans=table), first, kind, table, bar)

    def all_rows(self, kind, values, *, table):
        """Return the `Chunk` of all of X."""
        reading = self.read(kind, values, 0, spans=table)
        with self._bar(reading.windows) as bar:
            return self._chunk(reading, 0, kind, table, bar)

    @threads_of_process()
    def text_rows(self, kind, values, pooling):
        """Return one row per item of X."""
        reading = self.read(kind, values, 0, spans=False)
        _check_poolable(reading.windows, len(values), self._policy)
        with self._bar(reading.windows) as bar:
            rows = self.passes(reading, bar).text_rows(pooling)
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
        return self.chunks_of(read_items(X), n_texts=length(X), table=table)

    def chunks_of(self, items, *, n_texts, table, first=0):
        """Yield the chunks of items as from `read_items`, and show how far they are.

        Parameters
        ----------
        items : iterator of (kind, value)
            The items of X that are left.
        n_texts : int or None
            Number of all items of X, if it is known.
        table : bool
            Whether the chunks have token tables.
        first : int, default=0
            Index in X of the first item.
        """
        of_all = "" if n_texts is None else f"/{n_texts:,}"
        with token_bar(self.extractor.verbose) as bar:
            for start, kind, values in self.groups(items, first):
                yield self.chunk(start, kind, values, table=table, bar=bar)
                bar.set_postfix_str(f"{start + len(values):,}{of_all} texts")

    def half_precision(self):
        """Whether the model rounds to 16 bits."""
        return next(self.base.parameters()).dtype.itemsize < 4

    @threads_of_process()
    def batching(self):
        """Return the result of `batching_of`: the windows that may share a pass."""
        key, kinds = self.extractor.position_ids, []
        for point in self._points:
            read = partial(_rows_at, self.base, point)
            kinds.append(batching_of(self.base, point, self.source, read, key=key))
        return strictest(kinds)

    @threads_of_process()
    def widths(self):
        """Return the number of columns of each block, from a pass over one token."""
        blocks = hidden_of(self.base, self._points, self.source.probe())
        return [block.shape[-1] for block in blocks]

    def width(self):
        """Return the number of features, of all blocks together."""
        return sum(self.widths())

    def read(self, kind, values, first, *, spans):
        """Return items of X of one kind as windows: a `TextReading` or an `ImageReading`."""
        kind = kind or self.source.kinds[0]
        if kind not in self.source.kinds:
            raise ValueError(
                f"X[{first}] is {KINDS[kind]}, but {type(self.base).__name__} reads "
                f"{'images' if self.source.kinds == ('image',) else 'text'}."
            )
        return self.source.read(kind, values, first=first, spans=spans)

    def passes(self, reading, bar):
        """Return the `ForwardPasses` over what was read; `bar` counts the tokens."""
        sizes = self.extractor.batch_tokens, self.extractor.max_norm_ratio
        return ForwardPasses(self.base, self._points, reading, self.batching(), *sizes, bar)

    @threads_of_process()
    def _chunk(self, reading, first, kind, table, bar):
        rows, windows = self.passes(reading, bar).token_rows()
        rows = self._no_rows() if rows is None else rows
        tokens = reading.table(windows, self.policy(kind)) if table else None
        return Chunk(first, reading.n_texts, rows, text_of_rows(windows), tokens)

    @property
    def _points(self):
        return list(self.points.values())

    def _bar(self, windows):
        """Return the progress bar of passes over all windows that have rows."""
        lengths = np.diff(windows.bounds)
        return token_bar(self.extractor.verbose, int(lengths[rows_of(windows) > 0].sum()))

    def _no_rows(self):
        return np.empty((0, self.width()), dtype=np.float32)


def _check_poolable(windows, n_texts, policy):
    """Raise a ValueError if a text has no token to pool."""
    tokens = np.bincount(windows.text, weights=rows_of(windows), minlength=n_texts)  # rows per text
    empty = np.flatnonzero(tokens == 0)
    if not len(empty):
        return
    dropped = policy.drop_first_position and np.isin(empty, windows.text).any()
    raise ValueError(
        f"There is nothing to pool in texts without tokens: X[{empty[0]}]"
        + f" and {len(empty) - 1} more" * (len(empty) > 1)
        + ". Leave them out, or extract one row per token with pooling=None."
        + " Without a special token in front, the only token of a text is in its first "
        "position, which drop_first_position=False keeps." * bool(dropped)
    )


def _rows_at(base, point, inputs, shape=None):
    return hidden_of(base, [point], inputs, shape)[0]


def _location(extractor, labels):
    """Return layer and site as JSON values; several sites have their layers in their names."""
    if is_several(extractor):
        return {"layer": None, "site": labels}
    layer = extractor.layer
    return {"layer": None if layer is None else int(layer), "site": extractor.site}


def _plain(value):
    """Return a parameter as a JSON value, without numpy's types."""
    return value.item() if isinstance(value, np.generic) else value


class Layers:
    """Rule of the `layer` parameter."""

    def accepts(self, value):
        """Whether `value` is a layer, None or some layers."""
        if isinstance(value, (list, tuple, range)):
            return len(value) > 0 and all(_is_layer(layer) for layer in value)
        return value is None or _is_layer(value)

    def __str__(self):
        return "an int, None or a list of int"


class Sites:
    """Rule of the `site` parameter."""

    def accepts(self, value):
        """Whether `value` is the name of a site, or some sites."""
        if isinstance(value, (list, tuple)):
            return len(value) > 0 and all(map(_is_site, value))
        return isinstance(value, str)

    def __str__(self):
        return "a str or a list of str and of pairs (layer, str)"


def is_several(extractor):
    """Whether an extractor has a list of sites, which may have one entry."""
    return not (isinstance(extractor.site, str) and _is_layer_or_none(extractor.layer))


def hook_points_of(extractor, model):
    """Return the hook points of an extractor by the names of their sites.

    Parameters
    ----------
    extractor : ActivationExtractor
        Every one of its layers is combined with every one of its sites; without layers each site
        has its own.
    model : torch.nn.Module
        Its model.

    Returns
    -------
    points : dict of str to HookPoint
        In the order of the blocks, layer by layer.

    Raises
    ------
    ValueError
        If the model has no such layer or site, a site is there twice, or pairs of layers and sites
        come with layers.
    """
    points = {}
    for layer, site in places_of(extractor.layer, extractor.site):
        point = checked_hook_point(model, layer, site)
        label = site_label(base_of(model), layer, site)
        if point in points.values():
            raise ValueError(f"The site {label!r} is there twice.")
        points[label] = point
    return points


def places_of(layers, sites):
    """Return pairs of a layer and a site."""
    if isinstance(sites, str) and _is_layer_or_none(layers):
        return [(layers, sites)]
    sites = [sites] if isinstance(sites, str) else sites
    if layers is None:
        return [split_site(site) for site in sites]
    for site in sites:
        if not isinstance(site, str):
            raise ValueError(f"With a pair of layer and site, {site!r}, layer must be None.")
    layers = [layers] if isinstance(layers, Integral) else layers
    return [(layer, site) for layer in layers for site in sites]


def _is_layer(value):
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_layer_or_none(value):
    return value is None or _is_layer(value)


def _is_site(value):
    pair = isinstance(value, (list, tuple)) and len(value) == 2
    return isinstance(value, str) or (
        pair and _is_layer_or_none(value[0]) and isinstance(value[1], str)
    )
