"""Texts, token ids and conversations to one long array of token ids, with spans if wanted."""

from typing import NamedTuple

import numpy as np

from sksae.language_models.extraction._spans import decoded_spans, give_back_spaces, outer_spaces

_TEXTS_AT_A_TIME = 1024  # offsets come as Python tuples, a hundred bytes per token
_BYTES = 4  # of a character, at most; what is unfinished after as many tokens stays so


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
        some = texts[first : first + _TEXTS_AT_A_TIME]
        batch = _tokenize(tokenizer, some, return_offsets_mapping=spans and fast)
        ids += [np.array(row, dtype=np.int64) for row in batch["input_ids"]]
        if spans:
            found = _offsets if fast else _decoded
            for start, end in found(tokenizer, some, ids[first:], batch):
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
        mine = slice(*again.bounds[i : i + 2])
        if np.array_equal(again.ids[mine], row):
            start, end = again.starts[mine], again.ends[mine]
        else:
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
            before = _index_of(plain, framed)
            prefix, suffix = framed[:before], framed[before + len(plain) :]
            return bare._replace(
                prefix=np.array(prefix, np.int64), suffix=np.array(suffix, np.int64)
            )
    return bare


def bare_frame(tokenizer):
    """Return the `Frame` of what has its special tokens already."""
    special = set(tokenizer.all_special_ids)
    others = {"unk_token": None, **tokenizer.special_tokens_map}
    unknown = others.pop("unk_token")
    # An unknown word is a word; GPT-2 has one token for "unknown" and for the end of a text.
    if unknown is not None and unknown not in others.values():
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
    """Yield the spans of each text's tokens, as the tokenizer tells them."""
    spaces = outer_spaces(tokenizer, joined(ids))
    spaces = np.split(spaces, np.cumsum([len(row) for row in ids])[:-1])
    for text, offsets, own in zip(texts, batch["offset_mapping"], spaces, strict=True):
        start, end = np.array(offsets, dtype=np.int64).reshape(-1, 2).T
        yield give_back_spaces(start, end, own, len(text))


def _decoded(tokenizer, texts, ids, batch):
    """Yield the spans of each text's tokens, from what they decode to."""
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
        if longer.endswith("\ufffd") and n - read < _BYTES and n < len(ids):
            continue
        piece = longer[len(_decode(tokenizer, ids[before:read])) :]
        starts += [len(text)] * (n - read)
        text += piece
        ends += [len(text)] * (n - read)
        before, read = read, n
    return text, np.array(starts, dtype=np.int64), np.array(ends, dtype=np.int64)


def _decode(tokenizer, ids):
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False) if len(ids) else ""


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


def _encoding(ids, starts, ends, spans):
    bounds = np.concatenate([[0], np.cumsum([len(row) for row in ids], dtype=np.int64)])
    return Encoding(
        joined(ids), bounds, *((joined(starts), joined(ends)) if spans else (None,) * 2)
    )


def joined(parts):
    """Return int64 arrays end to end."""
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
