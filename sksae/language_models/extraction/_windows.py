"""Token ids to the windows that a model reads, windows to padded batches."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from sksae.language_models.extraction._batching import ALONE, EQUAL_LENGTHS, PADDED
from sksae.language_models.extraction._encoding import joined
from sksae.language_models.extraction._tokens import TokenTable, strings


class Windows(NamedTuple):
    """The token sequences that the model reads, end to end and in the order of the texts."""

    ids: np.ndarray  # (n_read,): with the special tokens of each window
    source: np.ndarray  # (n_read,): index in `Encoding.ids`, -1 for an added special token
    keep: np.ndarray  # (n_read,): whether this token becomes a row
    bounds: np.ndarray  # (n_windows + 1,)
    text: np.ndarray  # (n_windows,)


def cut(encoding, frame, max_length, *, include_special, drop_first):
    """Return the `Windows` of consecutive pieces of each text, at most `max_length` tokens each."""
    n_added = len(frame.prefix) + len(frame.suffix)
    if max_length <= n_added:
        raise ValueError(
            f"max_length={max_length} leaves nothing for text: each window has {n_added} special "
            f"tokens."
        )
    pieces = list(_pieces(encoding, frame, max_length))
    added = np.full(n_added, -1, dtype=np.int64)
    ids, source, lengths = [], [], []
    for _, prefix, begin, end, suffix in pieces:
        ids += [prefix, encoding.ids[begin:end], suffix]
        source += [added[: len(prefix)], np.arange(begin, end), added[: len(suffix)]]
        lengths.append(len(prefix) + end - begin + len(suffix))
    ids, source = joined(ids), joined(source)
    bounds = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    special = (source < 0) | np.isin(ids, frame.special)
    keep = np.ones(len(ids), dtype=bool) if include_special else ~special
    if drop_first:
        firsts = bounds[:-1]
        keep[firsts] &= special[firsts]
    return Windows(ids, source, keep, bounds, np.array([text for text, *_ in pieces], np.int64))


def _pieces(encoding, frame, max_length):
    """Yield ``(text, prefix, begin, end, suffix)``, the tokens of a text around which a window is.

    What the text has of the special tokens itself, because it was rendered before, is not added.
    """
    for text, (begin, end) in enumerate(pairwise(encoding.bounds.tolist())):
        while begin < end:
            prefix = _missing_in_front(frame.prefix, encoding.ids[begin:end])
            stop = min(begin + max_length - len(prefix) - len(frame.suffix), end)
            suffix = _missing_behind(frame.suffix, encoding.ids[begin:stop])
            yield text, prefix, begin, stop, suffix
            begin = stop


def _missing_in_front(prefix, ids):
    """Return what of `prefix` has to be put in front of `ids`, which may begin with a part of it.

    A text that begins with the first token of the prefix has its beginning already.
    """
    for n in range(len(prefix)):
        if np.array_equal(ids[: len(prefix) - n], prefix[n:]):
            return prefix[:n]
    return prefix[:0] if len(prefix) and ids[0] == prefix[0] else prefix


def _missing_behind(suffix, ids):
    """Return what of `suffix` has to be put behind `ids`, which may end with a part of it."""
    return _missing_in_front(suffix[::-1], ids[::-1])[::-1]


def batches(windows, batch_tokens, batching=PADDED):
    """Yield arrays of window indices, longest first, whose padded size is at most `batch_tokens`.

    Windows that keep no row are left out; one that is too long alone is a batch by itself.
    `batching` says which windows may share a batch, as `batching_of` returns it.
    """
    lengths = np.diff(windows.bounds)
    order = np.argsort(-lengths, kind="stable")
    order = order[rows_of(windows)[order] > 0]
    while len(order):
        size = max(1, batch_tokens // lengths[order[0]])
        if batching == EQUAL_LENGTHS:
            size = min(size, np.count_nonzero(lengths[order] == lengths[order[0]]))
        elif batching == ALONE:
            size = 1
        yield order[:size]
        order = order[size:]


def padded(windows, batch, pad):
    """Return ``(ids, mask, keep)``, each (n_windows, longest), padded on the right."""
    lengths = np.diff(windows.bounds)[batch]
    mask = np.arange(lengths.max()) < lengths[:, None]
    where = np.concatenate([np.arange(*windows.bounds[w : w + 2]) for w in batch])
    ids = np.full(mask.shape, pad, dtype=np.int64)
    keep = np.zeros(mask.shape, dtype=bool)
    ids[mask] = windows.ids[where]
    keep[mask] = windows.keep[where]
    return ids, mask, keep


def rows_of(windows):
    """Return how many rows each window gives, shape (n_windows,)."""
    kept = np.concatenate([[0], np.cumsum(windows.keep)])
    return np.diff(kept[windows.bounds])


def text_of_rows(windows):
    """Return the index of the text of each row."""
    return np.repeat(windows.text, rows_of(windows))


def table_of(tokenizer, texts, encoding, windows, policy):
    """Return the `TokenTable` of the rows of `windows`."""
    source, ids = windows.source[windows.keep], windows.ids[windows.keep]
    text = text_of_rows(windows)
    added = source < 0

    def column(values):
        # An index of -1 is never used: those rows are replaced.
        return np.where(added, -1, values[source]) if len(values) else source

    position = np.arange(len(encoding.ids)) - np.repeat(
        encoding.bounds[:-1], np.diff(encoding.bounds)
    )
    start, end = column(encoding.starts), column(encoding.ends)
    names = np.full(len(ids), "", dtype=object)
    empty = np.flatnonzero(end <= start)
    names[empty] = tokenizer.convert_ids_to_tokens(ids[empty].tolist())
    return TokenTable(
        text=text,
        position=column(position),
        id=ids,
        string=strings(texts, text, start, end, names),
        start=start,
        end=end,
        group=column(_groups(encoding, position)),
        texts=texts,
        policy=policy,
    )


def _groups(encoding, position):
    """Return the position of the first of the tokens that share characters, shape (n_tokens,)."""
    if not len(position):
        return position
    # One axis for all texts: what follows the end of a text never overlaps it.
    shift = np.repeat(np.arange(len(encoding.bounds) - 1), np.diff(encoding.bounds))
    shift = shift * (encoding.ends.max() + 1)
    reached = np.maximum.accumulate(encoding.ends + shift)
    first = np.ones(len(position), dtype=bool)
    first[1:] = encoding.starts[1:] + shift[1:] >= reached[:-1]
    first |= position == 0
    return position[np.maximum.accumulate(np.where(first, np.arange(len(first)), 0))]
