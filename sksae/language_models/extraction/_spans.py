"""Spans: the characters of a text that each of its tokens stands for."""

from itertools import pairwise

import numpy as np

_SPACES = "Ġ▁"  # how byte-level and sentencepiece vocabularies write a space


def give_back_spaces(starts, ends, spaces, length):
    """Return spans that include the spaces that are part of the tokens.

    Tokenizers with ``trim_offsets=True`` (Llama 3, RoBERTa) say that ``"Ġworld"`` is ``"world"``.

    Parameters
    ----------
    starts, ends : ndarray of shape (n_tokens,)
        Spans of the tokens of one text.
    spaces : ndarray of shape (n_tokens, 2)
        How many spaces each token begins and ends with.
    length : int
        Length of the text.
    """
    before = np.concatenate([[0], np.maximum.accumulate(ends)[:-1]])
    starts = np.minimum(starts, np.maximum(starts - spaces[:, 0], before))
    after = np.concatenate([starts[1:], [length]])[: len(ends)]
    return starts, np.maximum(ends, np.minimum(ends + spaces[:, 1], after))


def outer_spaces(tokenizer, ids):
    """Return how many spaces each of `ids` begins and ends with, shape (n_tokens, 2)."""
    unique, inverse = np.unique(ids, return_inverse=True)
    counts = [
        (len(piece) - len(piece.lstrip(_SPACES)), len(piece) - len(piece.rstrip(_SPACES)))
        for piece in tokenizer.convert_ids_to_tokens(unique.tolist())
    ]
    return np.array(counts, dtype=np.int64).reshape(-1, 2)[inverse]


def decoded_spans(tokenizer, ids, text):
    """Return the spans of tokens whose tokenizer has no offsets, from what prefixes decode to.

    A token that adds no whole character is part of the next one. Where the decoded text is not
    the text itself (a tokenizer that lowercases, say), the pieces are looked for in the text.
    """
    whole, ends, unfinished = [0], [], []
    for n in range(1, len(ids) + 1):
        decoded = tokenizer.decode(ids[:n], clean_up_tokenization_spaces=False)
        stable = decoded.rstrip("\ufffd")
        unfinished.append(len(stable) < len(decoded) or len(stable) <= whole[-1])
        whole.append(max(len(stable), whole[-1]))
    if len(ids) and stable != text:
        return _searched_spans(stable, whole, text)
    starts = np.array(whole[:-1], dtype=np.int64)
    ends = np.minimum(np.array(whole[1:], dtype=np.int64) + np.array(unfinished), len(text))
    return starts, ends


def _searched_spans(decoded, whole, text):
    """Return the spans in `text` of the pieces of `decoded` between the lengths in `whole`."""
    starts, ends, cursor = [], [], 0
    lowered = text.lower() if len(text.lower()) == len(text) else text
    for begin, end in pairwise(whole):
        piece = decoded[begin:end].strip().lower()
        found = lowered.find(piece, cursor) if piece else -1
        start = cursor if found < 0 else found
        cursor = start if found < 0 else found + len(piece)
        starts.append(start)
        ends.append(cursor)
    return np.array(starts, dtype=np.int64), np.array(ends, dtype=np.int64)
