"""One prompt, as the model reads it."""

from typing import NamedTuple

import numpy as np
import torch

from sksae.language_models._sites import base_of, input_device, reads_images
from sksae.language_models.extraction._encoding import bare_frame
from sksae.language_models.extraction._extractor import ActivationExtractor
from sksae.language_models.extraction._parameters import check_parameters
from sksae.language_models.extraction._passes import context_length
from sksae.language_models.extraction._sources import TextSource
from sksae.language_models.extraction._texts import check_items
from sksae.language_models.extraction._tokens import TokenTable


class Prompt(NamedTuple):
    """The tokens of one prompt, special ones included."""

    ids: torch.Tensor  # (1, n_tokens), on the device of the model's input
    tokens: TokenTable  # one line per token
    special: torch.Tensor  # (n_tokens,): whether the token is a special one

    @property
    def inputs(self):
        """Keyword arguments of a forward pass."""
        return {"input_ids": self.ids, "attention_mask": torch.ones_like(self.ids)}


def read_prompt(model, tokenizer, prompt):
    """Return the `Prompt` of a text, of token ids or of chat messages.

    Raises
    ------
    ValueError
        If there is no token, or there are more than the model reads at once.
    """
    if tokenizer is None:
        raise ValueError("With a model object the 'tokenizer' parameter is needed as well.")
    base = base_of(model)
    if reads_images(model):
        raise ValueError(f"{type(model).__name__} reads images, and a prompt is text.")
    extractor = ActivationExtractor(
        model, tokenizer=tokenizer, include_special_tokens=True, drop_first_position=False
    )
    check_parameters(extractor)
    kind, values = check_items([prompt])
    if kind == "image":
        raise ValueError("A prompt is a text, token ids or chat messages, and no image.")
    reading = TextSource(base, tokenizer, extractor).read(kind, values, {}, spans=True)
    tokens = reading.table(reading.windows)
    limit, _ = context_length(base, tokenizer)
    if not 0 < len(tokens) <= limit:
        raise ValueError(
            f"A prompt has 1 to {limit} tokens for {type(model).__name__}; this one has "
            f"{len(tokens)}."
        )
    ids = torch.from_numpy(tokens.id)[None].to(input_device(base))
    special = np.isin(tokens.id, bare_frame(tokenizer).special)
    return Prompt(ids, tokens, torch.from_numpy(special))
