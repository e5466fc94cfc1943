"""Tokens of texts, token ids and conversations, with the span of characters of each token."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

_TEXTS_AT_A_TIME = 1024  # offsets come as Python tuples, a hundred bytes per token
_BYTES = 4  # of a character, at most; one that is unfinished after as many tokens stays so
_SPACES = "Ġ▁"  # how byte-level and sentencepiece vocabularies write a space


class Encoding(NamedTuple):
    """The tokens of all texts end to end, without special tokens that the tokenizer adds."""

    ids: np.ndarray  # (n_tokens,)
    bounds: np.ndarray  # (n_texts + 1,): text i is ids[bounds[i]:bounds[i + 1]]
    starts: np.ndarray | None  # (n_tokens,): spans, if they were asked for
    ends: np.ndarray | None


class Frame(NamedTuple):
    """The special tokens around every window, and the ids that are special anywhere."""

    prefix: np.ndarray
    suffix: np.ndarray
    special: np.ndarray


def encode(tokenizer, texts, *, spans):
    """Return the `Encoding` of a list of str; `spans` says whether character spans are wanted."""
    fast = getattr(tokenizer, "is_fast", False)
    ids, starts, ends = [], [], []
    for first in range(0, len(texts), _TEXTS_AT_A_TIME):
        part = texts[first : first + _TEXTS_AT_A_TIME]
        batch = _tokenize(tokenizer, part, return_offsets_mapping=spans and fast)
        ids += [np.array(row, dtype=np.int64) for row in batch["input_ids"]]
        if spans:
            spans_of = _offsets if fast else _decoded
            for start, end in spans_of(tokenizer, part, ids[first:], batch):
                starts.append(start)
                ends.append(end)
    return _encoding(ids, starts, ends, spans)


def encode_ids(tokenizer, rows, *, spans):
    """Return the texts that token ids spell, and the `Encoding` that has exactly these ids.

    Without `spans` nothing is decoded and the texts are empty.
    """
    if not spans:
        return [""] * len(rows), _encoding(rows, [], [], spans)
    texts = [_decode(tokenizer, row.tolist()) for row in rows]
    again = encode(tokenizer, texts, spans=True)
    starts, ends = [], []
    for i, row in enumerate(rows):
        tokens = slice(*again.bounds[i : i + 2])
        # The tokenizer makes the same tokens of the text again, so that it knows their characters.
        if np.array_equal(again.ids[tokens], row):
            start, end = again.starts[tokens], again.ends[tokens]
        else:
            # Otherwise they are spelled out, one behind the other.
            texts[i], start, end = _spelled(tokenizer, row.tolist())
        starts.append(start)
        ends.append(end)
    return texts, _encoding(rows, starts, ends, spans)


def rendered(tokenizer, conversations):
    """Return the text that the tokenizer's template makes of each conversation."""
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError(
            f"X holds conversations, but the {type(tokenizer).__name__} has no chat template to "
            f"write them with: set its `chat_template`, or give the texts themselves."
        )
    return [tokenizer.apply_chat_template(messages, tokenize=False) for messages in conversations]


def frame_of(tokenizer, texts):
    """Return the `Frame` that the tokenizer puts around any text; `texts` have some tokens."""
    bare = bare_frame(tokenizer)
    for text in ("a", *texts):
        plain = _tokenize(tokenizer, [text])["input_ids"][0]
        if plain:
            framed = _tokenize(tokenizer, [text], add_special_tokens=True)["input_ids"][0]
            # What the tokenizer adds is what stands before and behind the tokens of the bare text.
            before = _index_of(plain, framed)
            prefix, suffix = framed[:before], framed[before + len(plain) :]
            return bare._replace(
                prefix=np.array(prefix, np.int64), suffix=np.array(suffix, np.int64)
            )
    return bare


def bare_frame(tokenizer):
    """Return the `Frame` of inputs that have their special tokens already."""
    special = set(tokenizer.all_special_ids)
    named = {"unk_token": None, **tokenizer.special_tokens_map}
    unknown = named.pop("unk_token")
    # An unknown word is a word; GPT-2 has one token for "unknown" and for the end of a text.
    if unknown is not None and unknown not in named.values():
        special.discard(tokenizer.unk_token_id)
    special = np.array(sorted(special), dtype=np.int64)
    return Frame(special[:0], special[:0], special)


def with_bos(tokenizer, frame):
    """Return the frame with the tokenizer's BOS in front, unless it is there."""
    bos = tokenizer.bos_token_id
    if bos is None:
        raise ValueError(
            f"prepend_bos=True, but the {type(tokenizer).__name__} has no token for the "
            f"beginning of a text."
        )
    if len(frame.prefix) and frame.prefix[0] == bos:
        return frame
    return frame._replace(prefix=np.append(bos, frame.prefix))


def _offsets(tokenizer, texts, ids, batch):
    """Yield the spans of the tokens of each text, from the tokenizer's offsets."""
    spaces = outer_spaces(tokenizer, joined(ids))  # (n_tokens, 2)
    spaces = np.split(spaces, np.cumsum([len(row) for row in ids])[:-1])
    for text, offsets, outer in zip(texts, batch["offset_mapping"], spaces, strict=True):
        start, end = np.array(offsets, dtype=np.int64).reshape(-1, 2).T  # (n_tokens,) each
        yield give_back_spaces(start, end, outer, len(text))


def _decoded(tokenizer, texts, ids, batch):
    """Yield the spans of the tokens of each text, from the decoded tokens."""
    for text, row in zip(texts, ids, strict=True):
        yield decoded_spans(tokenizer, row.tolist(), text)


def _spelled(tokenizer, ids):
    """Return the text of `ids` and the span of each, decoded one behind the other.

    For ids that no text has, such as a word spelt by its letters. The tokens of one character
    share its span.
    """
    text, starts, ends = "", [], []
    before = read = 0
    for n in range(1, len(ids) + 1):
        longer = _decode(tokenizer, ids[before:n])
        # A character whose bytes are not all there yet.
        if longer.endswith("\ufffd") and n - read < _BYTES and n < len(ids):
            continue
        # Without the tokens before, whose spelling may depend on what follows.
        piece = longer[len(_decode(tokenizer, ids[before:read])) :]
        # Tokens that share a character have the span of all of it.
        starts += [len(text)] * (n - read)
        text += piece
        ends += [len(text)] * (n - read)
        before, read = read, n
    return text, np.array(starts, dtype=np.int64), np.array(ends, dtype=np.int64)


def _decode(tokenizer, ids):
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False) if len(ids) else ""


def _tokenize(tokenizer, texts, *, add_special_tokens=False, return_offsets_mapping=False):
    """Call the tokenizer without padding, truncation or warnings about long texts."""
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
    """Return the index at which the list `part` begins in the list `whole`."""
    for first in range(len(whole) - len(part) + 1):
        if whole[first : first + len(part)] == part:
            return first
    raise ValueError("The tokenizer changes the tokens of a text when it adds its special tokens.")


def _encoding(ids, starts, ends, spans):
    bounds = np.concatenate([[0], np.cumsum([len(row) for row in ids], dtype=np.int64)])
    return Encoding(
        joined(ids), bounds, *((joined(starts), joined(ends)) if spans else (None,) * 2)
    )


def joined(parts):
    """Return int64 arrays end to end."""
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def give_back_spaces(starts, ends, spaces, length):
    """Return spans that include the spaces that are part of the tokens.

    With ``trim_offsets=True`` (Llama 3, RoBERTa) the offsets of ``"Ġworld"`` are those of
    ``"world"``.

    Parameters
    ----------
    starts, ends : ndarray of shape (n_tokens,)
        Spans of the tokens of one text.
    spaces : ndarray of shape (n_tokens, 2)
        How many spaces each token begins and ends with.
    length : int
        Length of the text.
    """
    # End of the tokens before each one, in front of which no start moves.
    before = np.concatenate([[0], np.maximum.accumulate(ends)[:-1]])
    starts = np.minimum(starts, np.maximum(starts - spaces[:, 0], before))
    after = np.concatenate([starts[1:], [length]])[: len(ends)]  # start of the token after each one
    return starts, np.maximum(ends, np.minimum(ends + spaces[:, 1], after))


def outer_spaces(tokenizer, ids):
    """Return the numbers of leading and trailing spaces of tokens, shape (n_tokens, 2)."""
    unique, inverse = np.unique(ids, return_inverse=True)
    counts = [
        (len(piece) - len(piece.lstrip(_SPACES)), len(piece) - len(piece.rstrip(_SPACES)))
        for piece in tokenizer.convert_ids_to_tokens(unique.tolist())
    ]
    return np.array(counts, dtype=np.int64).reshape(-1, 2)[inverse]


def decoded_spans(tokenizer, ids, text):
    """Return the spans of tokens whose tokenizer has no offsets, from decoded prefixes.

    A token that adds no whole character is part of the next one. Where the decoded text is not
    the text itself (a tokenizer that lowercases, say), the pieces are looked for in the text.
    """
    lengths, unfinished = [0], []  # characters that the first n tokens decode to
    for n in range(1, len(ids) + 1):
        decoded = tokenizer.decode(ids[:n], clean_up_tokenization_spaces=False)
        # Replacement characters at the end stand for bytes of an unfinished character.
        stable = decoded.rstrip("\ufffd")
        # True for a token that completes no character.
        unfinished.append(len(stable) < len(decoded) or len(stable) <= lengths[-1])
        lengths.append(max(len(stable), lengths[-1]))
    if len(ids) and stable != text:
        return _searched_spans(stable, lengths, text)
    starts = np.array(lengths[:-1], dtype=np.int64)
    # A token of an unfinished character reaches over all of it.
    ends = np.minimum(np.array(lengths[1:], dtype=np.int64) + np.array(unfinished), len(text))
    return starts, ends


def _searched_spans(decoded, lengths, text):
    """Return the spans in `text` of the pieces of `decoded` between consecutive `lengths`."""
    starts, ends, cursor = [], [], 0
    # Some letters have another length in lower case, which would shift all spans.
    lowered = text.lower() if len(text.lower()) == len(text) else text
    for begin, end in pairwise(lengths):
        piece = decoded[begin:end].strip().lower()
        index = lowered.find(piece, cursor) if piece else -1
        start = cursor if index < 0 else index  # not found: an empty span where the search stands
        cursor = start if index < 0 else index + len(piece)
        starts.append(start)
        ends.append(cursor)
    return np.array(starts, dtype=np.int64), np.array(ends, dtype=np.int64)
