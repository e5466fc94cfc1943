"""One prompt, as the model reads it."""

from typing import NamedTuple

import numpy as np
import torch

from sksae.language_models._sites import base_of, input_device
from sksae.language_models.extraction._encoding import bare_frame
from sksae.language_models.extraction._extractor import ActivationExtractor
from sksae.language_models.extraction._passes import context_length
from sksae.language_models.extraction._tokens import TokenTable


class Prompt(NamedTuple):
    """The tokens of one prompt, special ones included."""

    ids: torch.Tensor  # (1, n_tokens), on the device of the model's input
    tokens: TokenTable  # one line a token
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
    # The first block's input is all that this runs, and its table has everything about the tokens.
    extractor = ActivationExtractor(
        model,
        site="embeddings",
        tokenizer=tokenizer,
        include_special_tokens=True,
        drop_first_position=False,
    )
    _, tokens = extractor.extract([prompt])
    limit, _ = context_length(base_of(model), tokenizer)
    if not 0 < len(tokens) <= limit:
        raise ValueError(
            f"A prompt has 1 to {limit} tokens for {type(model).__name__}; this one has "
            f"{len(tokens)}."
        )
    ids = torch.from_numpy(tokens.id)[None].to(input_device(base_of(model)))
    special = np.isin(tokens.id, bare_frame(tokenizer).special)
    return Prompt(ids, tokens, torch.from_numpy(special))
