"""Windows of tokens that a model reads at once, and their padded batches."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from sksae.language_models.extraction._batching import ALONE, EQUAL_LENGTHS, PADDED
from sksae.language_models.extraction._tokenizing import joined
from sksae.language_models.model import text_config

_UNLIMITED = 2**31 - 1


class RowPolicy(NamedTuple):
    """The parameters of an extractor that decide which tokens become rows.

    Token tables record them, besides model, site and kind of input.
    """

    include_special_tokens: bool = False
    drop_first_position: bool = True
    max_norm_ratio: float | None = None
    max_length: int | None = None
    prepend_bos: bool = False
    position_ids: bool = False

    @classmethod
    def of(cls, extractor):
        """Return the policy of an extractor."""
        return cls(*(getattr(extractor, name) for name in cls._fields))


class ContextWindows(NamedTuple):
    """The token sequences that the model reads, end to end and in the order of the texts."""

    ids: np.ndarray  # (n_read,): with the special tokens of each window
    source: np.ndarray  # (n_read,): index in `Encoding.ids`, -1 for an added special token
    keep: np.ndarray  # (n_read,): whether this token becomes a row
    bounds: np.ndarray  # (n_windows + 1,): window i is ids[bounds[i]:bounds[i + 1]]
    text: np.ndarray  # (n_windows,): index of the text


def cut(encoding, frame, max_length, *, include_special, drop_first):
    """Cut each text into consecutive windows of at most `max_length` tokens.

    Parameters
    ----------
    encoding : Encoding
        The tokens of the texts.
    frame : Frame
        The special tokens around each window.
    max_length : int
        The most tokens of a window, special ones included.
    include_special, drop_first : bool
        Whether special tokens become rows, and whether first positions do not.

    Returns
    -------
    windows : ContextWindows
        The windows of all texts.
    """
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
        # The window with its special tokens, and where each of its tokens is from.
        ids += [prefix, encoding.ids[begin:end], suffix]
        source += [added[: len(prefix)], np.arange(begin, end), added[: len(suffix)]]
        lengths.append(len(prefix) + end - begin + len(suffix))
    ids, source = joined(ids), joined(source)
    bounds = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    # Wherever they are from: the text may have them itself.
    special = (source < 0) | np.isin(ids, frame.special)
    keep = np.ones(len(ids), dtype=bool) if include_special else ~special
    if drop_first:
        # Special tokens are left to `include_special`.
        firsts = bounds[:-1]
        keep[firsts] &= special[firsts]  # the first token is dropped unless it is special
    text = np.array([text for text, *_ in pieces], dtype=np.int64)
    return ContextWindows(ids, source, keep, bounds, text)


def _pieces(encoding, frame, max_length):
    """Yield ``(text, prefix, begin, end, suffix)`` per window.

    Special tokens that the text has already, because it was rendered before, are not added.
    """
    for text, (begin, end) in enumerate(pairwise(encoding.bounds.tolist())):
        while begin < end:
            prefix = _missing_in_front(frame.prefix, encoding.ids[begin:end])
            # At most max_length tokens, special ones included.
            stop = min(begin + max_length - len(prefix) - len(frame.suffix), end)
            suffix = _missing_behind(frame.suffix, encoding.ids[begin:stop])
            yield text, prefix, begin, stop, suffix
            begin = stop


def _missing_in_front(prefix, ids):
    """Return the part of `prefix` that has to be put in front of `ids`, which may begin with it.

    A text that begins with the first token of the prefix has its beginning already.
    """
    # The ids may begin with all of the prefix, or with what is left of it after n tokens.
    for n in range(len(prefix)):
        if np.array_equal(ids[: len(prefix) - n], prefix[n:]):
            return prefix[:n]
    # The ids begin with the first special token, but not with those after it: nothing is added.
    return prefix[:0] if len(prefix) and ids[0] == prefix[0] else prefix


def _missing_behind(suffix, ids):
    """Return the part of `suffix` that has to be put behind `ids`, which may end with it."""
    return _missing_in_front(suffix[::-1], ids[::-1])[::-1]


def batches(windows, batch_tokens, batching=PADDED):
    """Yield arrays of window indices, longest first, whose padded size is at most `batch_tokens`.

    Windows that keep no row are left out; one that is too long alone is a batch by itself.
    `batching` says which windows may share a batch, as `batching_of` returns it.
    """
    lengths = np.diff(windows.bounds)
    order = np.argsort(-lengths, kind="stable")
    order = order[rows_of(windows)[order] > 0]  # windows without any row are not read
    while len(order):
        # The first window is the longest of the batch.
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
    mask = np.arange(lengths.max()) < lengths[:, None]  # (n_windows, longest)
    # Row-major: the tokens of the first window of the batch come first, in `mask` as here.
    tokens = np.concatenate([np.arange(*windows.bounds[w : w + 2]) for w in batch])
    ids = np.full(mask.shape, pad, dtype=np.int64)
    keep = np.zeros(mask.shape, dtype=bool)
    ids[mask] = windows.ids[tokens]
    keep[mask] = windows.keep[tokens]
    return ids, mask, keep


def rows_of(windows):
    """Return the number of rows per window, shape (n_windows,)."""
    # Rows before each token, and all of them at the end.
    n_before = np.concatenate([[0], np.cumsum(windows.keep)])
    return np.diff(n_before[windows.bounds])


def text_of_rows(windows):
    """Return the index of the text of each row."""
    return np.repeat(windows.text, rows_of(windows))


def context_length(base, tokenizer):
    """Return the most tokens that `base` can read and that its tokenizer recommends."""
    limit = getattr(text_config(base), "max_position_embeddings", None) or _UNLIMITED
    # XLNet says -1.
    limit = (limit if limit > 0 else _UNLIMITED) - first_position(base)
    # Tokenizers without a limit say 1e30.
    return limit, int(min(limit, getattr(tokenizer, "model_max_length", limit)))


def window_length(base, tokenizer, max_length):
    """Return the most tokens of a window; `max_length` None takes the recommended number."""
    limit, recommended = context_length(base, tokenizer)
    if max_length is None:
        return recommended
    if max_length > limit:
        raise ValueError(
            f"max_length={max_length} is more than the {limit} positions that "
            f"{type(base).__name__} has."
        )
    return max_length


def first_position(base):
    """Return the number of the first position: RoBERTa counts from behind its padding id."""
    positions = getattr(getattr(base, "embeddings", None), "position_embeddings", None)
    padding = getattr(positions, "padding_idx", None)
    return 0 if padding is None else padding + 1


def check_vocabulary(base, ids):
    """Raise a ValueError if a tokenizer of another model made these ids."""
    size = base.get_input_embeddings().num_embeddings
    # On a GPU an index out of range would end the process.
    if len(ids) and ids.max() >= size:
        raise ValueError(
            f"The tokenizer does not belong to the model: it gives the id {ids.max()}, but "
            f"{type(base).__name__} has {size} tokens."
        )
