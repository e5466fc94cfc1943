"""Items of X: texts, token ids, conversations, rows of a data set, or images."""

import sys
from collections.abc import Mapping, Sequence
from numbers import Integral

import numpy as np
import torch

KINDS = {
    "messages": "a conversation",
    "input_ids": "token ids",
    "text": "a text",
    "image": "an image",
}
"""The kinds of items, which are also the keys that a row of a data set is asked for, in order."""

# Entries of a row that change what a model or a template makes of its item: none is passed on.
_BESIDE = {
    "messages": ("chat_template_kwargs", "documents", "functions", "tools"),
    "input_ids": (
        "bbox",
        "cache",
        "cache_params",
        "decoder_input_ids",
        "entity_ids",
        "global_attention_mask",
        "head_mask",
        "input_features",
        "inputs_embeds",
        "past_key_values",
        "perm_mask",
        "pixel_values",
        "pixel_values_videos",
        "target_mapping",
        "visual_embeds",
    ),
    "text": (),
    "image": (),
}


def read_items(X):
    """Return an iterator of the ``(kind, value)`` of each item of X, which is read lazily.

    A text is a str, token ids an int64 array, a conversation a list of dict, an image what the
    image processor takes or a float array.

    Raises
    ------
    ValueError
        If X is one text instead of an iterable of them, and later at the first item that is none
        of the kinds or of another kind than the first.
    """
    check_container(X)
    return _read(X)


def check_items(X):
    """Return the kind of the items of X, None if there are none, and the list of their values."""
    items = list(read_items(X))
    return items[0][0] if items else None, [value for _, value in items]


def length(X):
    """Return the number of items of X, None if only reading it would tell."""
    return len(X) if hasattr(X, "__len__") else None


def check_container(X):
    """Raise a ValueError if X is one text, a mapping, a frame or nothing to iterate over."""
    if isinstance(X, (str, bytes)):
        raise ValueError(
            "X must be an iterable of texts, one str each. Got one text: wrap it, [X]."
        )
    if "input_ids" in (X if isinstance(X, Mapping) else getattr(X, "columns", ())):
        raise ValueError(
            "X must be an iterable of rows. Got columns, with 'input_ids': give one mapping per "
            "row, with its mask, as in [{'input_ids': ids, 'attention_mask': mask} for ids, mask "
            "in zip(X['input_ids'], X['attention_mask'])]."
        )
    if isinstance(X, Mapping):
        raise ValueError(f"X must be an iterable of texts. Got a mapping: {_keys(X)}; take one.")
    if hasattr(X, "columns"):
        raise ValueError("X must be an iterable of texts. Got a frame: take the column of texts.")
    try:
        iter(X)
    except TypeError:
        raise ValueError(
            f"X must be an iterable of texts, or of what else the model reads, but is {_what(X)}."
        ) from None


def _read(X):
    kind = None
    for i, item in enumerate(X):
        is_row = isinstance(item, Mapping)
        item_kind, value = _of_row(item, i) if is_row else _item(item, f"X[{i}]")
        kind = kind or item_kind  # of the first item, for all
        if item_kind != kind:
            raise ValueError(
                f"All of X must be of one kind, but X[0] is {KINDS[kind]} and X[{i}] "
                f"{KINDS[item_kind]}."
            )
        yield kind, value


def _of_row(row, i):
    """Return the kind and the value of a row of a data set."""
    for kind, description in KINDS.items():
        if kind in row:
            item_kind, value = _item(row[kind], f"X[{i}][{kind!r}]")
            _refuse_beside(row, kind, i)
            if item_kind != kind:
                raise ValueError(f"X[{i}][{kind!r}] is {KINDS[item_kind]}, not {description}.")
            return kind, _real_ids(value, row, i) if kind == "input_ids" else value
    hint = " A conversation is a list of messages: wrap it, [X]." * ("role" in row)
    raise ValueError(
        f"X[{i}] is a mapping with none of the keys {', '.join(map(repr, KINDS))}: "
        f"{_keys(row)}.{hint}"
    )


def _refuse_beside(row, kind, i):
    """Raise a ValueError if a row has what belongs to its item and would not be read."""
    for name in _BESIDE[kind]:
        value = row.get(name)
        if value is not None and not (isinstance(value, (list, tuple, dict)) and not value):
            raise ValueError(
                f"X[{i}] has {name!r} beside {KINDS[kind]}, but only {kind!r} would be read. Take "
                f"the key out to have it read alone."
            )


def _real_ids(ids, row, i):
    """Return the ids of a row of a data set without the padding that its mask tells of.

    The other columns that tokenizers write may say only what a pass over these ids assumes
    anyway: tokens of one type, at consecutive positions.
    """
    real = slice(None)
    if row.get("attention_mask") is not None:
        real = _real_part(row["attention_mask"], len(ids), f"X[{i}]['attention_mask']")
    for name in ("token_type_ids", "position_ids"):
        if row.get(name) is None:
            continue
        values = _as_array(row[name])
        # What the model would be given without the key.
        expected = np.zeros(len(ids)) if name == "token_type_ids" else np.arange(len(ids))
        expected = expected[: len(ids[real])]
        # In the padding anything may stand.
        if values.shape != ids.shape or not np.array_equal(values[real], expected):
            rule = "all 0" if name == "token_type_ids" else "0, 1, 2, ... for its tokens"
            raise ValueError(
                f"X[{i}][{name!r}] must be {rule}: the model reads each row as one text of its "
                f"own. Leave the key out to have it read so."
            )
    return ids[real]


def _real_part(mask, n_tokens, name):
    """Return the slice of the tokens whose mask is 1."""
    mask = _as_array(mask)
    if mask.shape != (n_tokens,):
        raise ValueError(
            f"{name} must have one entry per token id, shape ({n_tokens},). Got shape {mask.shape}."
        )
    if mask.dtype.kind not in "biuf" or not np.isin(mask, (0, 1)).all():
        raise ValueError(f"{name} must have no entries but 0, for padding, and 1. Got {mask!r}.")
    columns = np.flatnonzero(mask)  # positions of the real tokens
    if not len(columns):
        return slice(0)
    first, end = int(columns[0]), int(columns[-1]) + 1
    if len(columns) < end - first:  # a mask with a hole
        hole = first + int(np.argmin(mask[first:end]))
        raise ValueError(
            f"{name} is 0 at position {hole}, between tokens whose mask is 1. Padding is left out "
            f"at both ends of a row only: give the tokens that the model is to read as one run."
        )
    return slice(first, end)


def _as_array(values):
    """Return a column of a row as an ndarray; ragged values get the shape ()."""
    if isinstance(values, torch.Tensor):
        return _array(values)
    try:
        return np.asarray(values if len(values) else np.zeros(0, dtype=np.int64))
    except (TypeError, ValueError):
        return np.asarray(None)


def _item(item, name):
    if isinstance(item, str):
        return "text", _checked_text(item, name)
    if _is_image(item):
        return "image", _array(item) if isinstance(item, torch.Tensor) else item
    if (ids := _as_ids(item)) is not None:
        if len(ids) and ids.min() < 0:
            raise ValueError(f"{name} has the negative token id {ids.min()}.")
        return "input_ids", ids
    if isinstance(item, (list, tuple)) and all(isinstance(part, Mapping) for part in item):
        return "messages", _checked_messages(item, name)
    raise ValueError(
        f"X must be an iterable of str, of token ids, of conversations, of mappings with one of "
        f"these, or of images, but {name} is {_what(item)}."
    )


def _checked_text(text, name):
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} is not valid Unicode: {error}. What text.encode('utf-8', 'replace').decode() "
            "returns is."
        ) from error
    return text


def _checked_messages(messages, name):
    for i, message in enumerate(messages):
        if not {"role", "content"} <= set(message):
            raise ValueError(
                f"{name}[{i}] must have the keys 'role' and 'content', but has {_keys(message)}."
            )
    return [dict(message) for message in messages]


def _as_ids(item):
    """Return token ids as an int64 array, or None if `item` is none."""
    if isinstance(item, torch.Tensor):
        item = _array(item)
    if isinstance(item, np.ndarray):
        is_ids = item.ndim == 1 and np.issubdtype(item.dtype, np.integer)
        return _small(item).astype(np.int64) if is_ids else None
    if isinstance(item, Sequence) and not isinstance(item, bytes) and all(map(_is_int, item)):
        return _small(item).astype(np.int64)
    return None


def _small(ids):
    """Return ids as an array; what int64 cannot hold becomes its largest number, no token's id."""
    array = np.asarray(ids) if len(ids) else np.zeros(0, dtype=np.int64)
    if array.dtype.kind == "i":
        return array
    largest = np.iinfo(np.int64).max
    return np.array([max(min(int(i), largest), -largest) for i in ids], dtype=np.int64)


def _is_int(value):
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_image(item):
    if isinstance(item, (np.ndarray, torch.Tensor)):
        return item.ndim == 3
    # An image of Pillow exists only if Pillow has been imported.
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(item, pillow.Image)


def _array(tensor):
    """Return a tensor as an ndarray; numpy has no bfloat16."""
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy(force=True)


def _what(value):
    """Describe a value for an error message."""
    if value is None:
        return "None"
    kind = f"of type {type(value).__name__}"
    if isinstance(value, (np.ndarray, torch.Tensor)):
        kind += f", dtype {value.dtype} and shape {tuple(value.shape)}"
    return kind


def _keys(mapping):
    keys = [repr(key) for key in mapping]
    return f"its keys are {', '.join(keys[:10])}{', ...' * (len(keys) > 10)}" if keys else "empty"
