"""Texts to token ids, ids to the windows a model reads, windows to padded batches."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from sksae.language_models._spans import decoded_spans, give_back_spaces, outer_spaces
from sksae.language_models._tokens import TokenTable, strings

_TEXTS_AT_A_TIME = 1024  # offsets come as Python tuples, a hundred bytes a token


class Encoding(NamedTuple):
    """The tokens of all texts end to end, without special tokens that the tokenizer adds."""

    ids: np.ndarray  # (n_tokens,)
    bounds: np.ndarray  # (n_texts + 1,): text i is ids[bounds[i]:bounds[i + 1]]
    starts: np.ndarray | None  # (n_tokens,): spans, if they were asked for
    ends: np.ndarray | None


class Windows(NamedTuple):
    """What the model reads, window by window, end to end and in the order of the texts."""

    ids: np.ndarray  # (n_read,): with the special tokens of each window
    source: np.ndarray  # (n_read,): index in `Encoding.ids`, -1 for an added special token
    keep: np.ndarray  # (n_read,): whether this token becomes a row
    bounds: np.ndarray  # (n_windows + 1,)
    text: np.ndarray  # (n_windows,)


class Frame(NamedTuple):
    """The special tokens around every window, and the ids that are special anywhere."""

    prefix: np.ndarray
    suffix: np.ndarray
    special: np.ndarray


def encode(tokenizer, texts, *, spans):
    """Return the `Encoding` of a list of str; `spans` says whether character spans are wanted."""
    fast = getattr(tokenizer, "is_fast", False)
    ids, starts, ends, lengths = [], [], [], []
    for first in range(0, len(texts), _TEXTS_AT_A_TIME):
        some = texts[first : first + _TEXTS_AT_A_TIME]
        batch = _tokenize(tokenizer, some, return_offsets_mapping=spans and fast)
        lengths += [len(row) for row in batch["input_ids"]]
        ids += [np.array(row, dtype=np.int64) for row in batch["input_ids"]]
        if not spans:
            continue
        for i, text in enumerate(some):
            row = ids[first + i]
            if fast:
                start, end = np.array(batch["offset_mapping"][i], dtype=np.int64).reshape(-1, 2).T
                spaces = outer_spaces(tokenizer, row)
                start, end = give_back_spaces(start, end, spaces, len(text))
            else:
                start, end = decoded_spans(tokenizer, row.tolist(), text)
            starts.append(start)
            ends.append(end)
    bounds = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    columns = (_joined(starts), _joined(ends)) if spans else (None, None)
    return Encoding(_joined(ids), bounds, *columns)


def frame_of(tokenizer, texts):
    """Return the `Frame` that the tokenizer puts around any text; `texts` have some tokens."""
    special = set(tokenizer.all_special_ids)
    others = {"unk_token": None, **tokenizer.special_tokens_map}
    unknown = others.pop("unk_token")
    # An unknown word is a word; GPT-2 has one token for "unknown" and for the end of a text.
    if unknown is not None and unknown not in others.values():
        special.discard(tokenizer.unk_token_id)
    special = np.array(sorted(special), dtype=np.int64)
    for text in ("a", *texts):
        plain = _tokenize(tokenizer, [text])["input_ids"][0]
        if plain:
            framed = _tokenize(tokenizer, [text], add_special_tokens=True)["input_ids"][0]
            before = _index_of(plain, framed)
            prefix, suffix = framed[:before], framed[before + len(plain) :]
            return Frame(np.array(prefix, np.int64), np.array(suffix, np.int64), special)
    return Frame(special[:0], special[:0], special)


def cut(encoding, frame, max_length, *, include_special, drop_first):
    """Return the `Windows` of consecutive pieces of each text, at most `max_length` tokens each."""
    room = max_length - len(frame.prefix) - len(frame.suffix)
    if room < 1:
        raise ValueError(
            f"max_length={max_length} leaves no room for text: the tokenizer adds "
            f"{len(frame.prefix) + len(frame.suffix)} special tokens."
        )
    pieces = [
        (text, begin, min(begin + room, end))
        for text, (begin, end) in enumerate(pairwise(encoding.bounds.tolist()))
        for begin in range(begin, end, room)
    ]
    added = [np.full(len(part), -1, dtype=np.int64) for part in (frame.prefix, frame.suffix)]
    parts = [(added[0], np.arange(begin, end), added[1]) for _, begin, end in pieces]
    source = _joined([part for window in parts for part in window])
    parts = [(frame.prefix, encoding.ids[begin:end], frame.suffix) for _, begin, end in pieces]
    ids = _joined([part for window in parts for part in window])
    lengths = [end - begin + max_length - room for _, begin, end in pieces]
    bounds = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    keep = np.ones(len(ids), dtype=bool)
    if not include_special:
        keep = (source >= 0) & ~np.isin(ids, frame.special)
    if drop_first:
        keep[bounds[:-1]] = False
    return Windows(ids, source, keep, bounds, np.array([text for text, *_ in pieces], np.int64))


def batches(windows, batch_tokens):
    """Yield arrays of window indices, longest first, whose padded size is at most `batch_tokens`.

    Windows that keep no row are left out; one that is too long alone is a batch by itself.
    """
    lengths = np.diff(windows.bounds)
    order = np.argsort(-lengths, kind="stable")
    order = order[rows_of(windows)[order] > 0]
    while len(order):
        size = max(1, batch_tokens // lengths[order[0]])
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


def table_of(tokenizer, texts, encoding, windows):
    """Return the `TokenTable` of the rows of `windows`."""
    source, ids = windows.source[windows.keep], windows.ids[windows.keep]
    text = np.repeat(windows.text, np.diff(windows.bounds))[windows.keep]
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


def _tokenize(tokenizer, texts, *, add_special_tokens=False, return_offsets_mapping=False):
    """Call the tokenizer without padding or truncation; it says nothing about long texts."""
    return tokenizer(
        texts,
        add_special_tokens=add_special_tokens,
        return_offsets_mapping=return_offsets_mapping,
        return_attention_mask=False,
        return_token_type_ids=False,
        padding=False,
        truncation=False,
        verbose=False,
    )


def _index_of(part, whole):
    """Return where the list `part` begins in the list `whole`."""
    for first in range(len(whole) - len(part) + 1):
        if whole[first : first + len(part)] == part:
            return first
    raise ValueError("The tokenizer changes the tokens of a text when it adds its special tokens.")


def _joined(parts):
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
