"""Items of X to windows: the source of a model that reads text."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch

from sksae.language_models._sites import input_device, takes
from sksae.language_models.extraction._batching import text_trial
from sksae.language_models.extraction._encoding import (
    bare_frame,
    encode,
    encode_ids,
    frame_of,
    rendered,
    with_bos,
)
from sksae.language_models.extraction._passes import (
    check_vocabulary,
    context_length,
    first_position,
)
from sksae.language_models.extraction._windows import Windows, cut, padded, table_of

_ANY_TOKEN = 0  # stands in the padding, which the mask hides and no row comes from
_BYTES_OF_A_TOKEN = 4  # of English text; a guess is enough to cut X into chunks


class Reading(NamedTuple):
    """Some items of X as windows, and what belongs to them."""

    windows: Windows
    feed: Callable  # a batch of windows to the model's inputs and which positions to keep
    table: Callable  # windows to the token table of their rows


class TextSource:
    """Texts, token ids and conversations, for a model that reads token ids.

    Parameters
    ----------
    base : torch.nn.Module
        A model without its head.
    tokenizer : tokenizer
        Its tokenizer.
    extractor : ActivationExtractor
        Whose parameters say what becomes a row.
    """

    kinds = ("text", "input_ids", "messages")

    def __init__(self, base, tokenizer, extractor):
        self.base = base
        self.tokenizer = tokenizer
        self.extractor = extractor
        self.max_length = _window_length(base, tokenizer, extractor.max_length)
        if extractor.prepend_bos:
            with_bos(tokenizer, bare_frame(tokenizer))
        names = inspect.signature(base.forward).parameters
        if extractor.position_ids and "position_ids" not in names:
            raise ValueError(f"position_ids=True, but {type(base).__name__} takes no position_ids.")

    def read(self, kind, values, policy, *, first=0, spans):
        """Return the `Reading` of some items; `spans` says whether a table is wanted."""
        texts = rendered(self.tokenizer, values) if kind == "messages" else values
        if kind == "input_ids":
            texts, encoding = encode_ids(self.tokenizer, values, spans=spans)
        else:
            encoding = encode(self.tokenizer, texts, spans=spans)
        windows = cut(
            encoding,
            self._frame(kind, texts),
            self.max_length,
            include_special=self.extractor.include_special_tokens,
            drop_first=self.extractor.drop_first_position,
        )
        check_vocabulary(self.base, windows.ids)
        table = partial(table_of, self.tokenizer, texts, encoding, policy=policy)
        return Reading(windows, partial(self._feed, windows), table)

    def trial(self):
        """Return the sequences to try the model with."""
        limit, _ = context_length(self.base, self.tokenizer)
        return text_trial(self.base, limit, self._inputs)

    def probe(self):
        """Return the inputs of one token, whatever it is."""
        one = torch.full((1, 1), _ANY_TOKEN)
        return self._inputs(one, torch.ones_like(one))

    def cost(self, kind, value):
        """Guess how many tokens an item has."""
        if kind == "input_ids":
            return len(value) + 1
        if kind == "messages":
            value = "".join(str(message["content"]) for message in value)
        return len(value.encode(errors="replace")) // _BYTES_OF_A_TOKEN + 2

    def _frame(self, kind, texts):
        # Ids and rendered conversations have the special tokens that they are to have.
        texts_alone = kind == "text"
        frame = frame_of(self.tokenizer, texts) if texts_alone else bare_frame(self.tokenizer)
        return with_bos(self.tokenizer, frame) if self.extractor.prepend_bos else frame

    def _feed(self, windows, batch):
        ids, mask, keep = padded(windows, batch, _ANY_TOKEN)
        return self._inputs(torch.from_numpy(ids), torch.from_numpy(mask).long()), keep

    def _inputs(self, ids, mask):
        device = input_device(self.base)
        inputs = {"input_ids": ids.to(device)}
        if takes(self.base, "attention_mask"):
            inputs["attention_mask"] = mask.to(device)
        if self.extractor.position_ids:
            positions = torch.arange(ids.shape[1], device=device) + first_position(self.base)
            inputs["position_ids"] = positions.expand(ids.shape)
        return inputs


def _window_length(base, tokenizer, max_length):
    limit, recommended = context_length(base, tokenizer)
    if max_length is None:
        return recommended
    if max_length > limit:
        raise ValueError(
            f"max_length={max_length} is more than the {limit} positions that "
            f"{type(base).__name__} has."
        )
    return max_length
