"""What is explained: one number a prompt, made of its logits."""

from collections.abc import Callable
from numbers import Integral
from typing import NamedTuple

import torch

from sksae.language_models.model import wide


class Metric(NamedTuple):
    """A number from logits, (n, n_tokens, n_vocabulary), for each of n prompts."""

    function: Callable
    name: str
    last: bool = True  # whether the last position is all that it reads
    tokens: tuple = ()  # ids of the tokens it is about

    def __call__(self, logits):
        """Return the metric, (n,)."""
        value = self.function(logits.to(wide(logits)))
        if not isinstance(value, torch.Tensor) or value.shape != logits.shape[:1]:
            what = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
            raise ValueError(
                f"The metric {self.name} must return a tensor with one number a prompt, "
                f"({len(logits)},); it returned {what}."
            )
        return value


def read_metric(metric, tokenizer, last_logits):
    """Return the `Metric` that a user's argument stands for.

    Parameters
    ----------
    metric : None, str, int, pair of them, or callable
        None is the log-probability of the most probable token, one token that of this token, two
        the difference of their logits.
    tokenizer : tokenizer
        What makes tokens of strings.
    last_logits : Tensor of shape (n_vocabulary,)
        The logits at the last position of the prompt.

    Raises
    ------
    TypeError
        If it is none of these.
    ValueError
        If a string is not one token, or an id is not one of the vocabulary.
    """
    if callable(metric):
        return Metric(metric, getattr(metric, "__name__", type(metric).__name__), last=False)
    if isinstance(metric, (tuple, list)):
        if len(metric) != 2:
            raise ValueError(f"A logit difference is between 2 tokens, got {len(metric)}.")
        ids = [_token_id(one, tokenizer, len(last_logits)) for one in metric]
        if ids[0] == ids[1]:
            raise ValueError(f"metric={metric!r}: both are the same token.")
        name = " minus ".join(f"logit of {tokenizer.decode([i])!r}" for i in ids)
        return Metric(
            lambda logits: logits[:, -1, ids[0]] - logits[:, -1, ids[1]], name, tokens=tuple(ids)
        )
    token = last_logits.argmax() if metric is None else metric
    token = _token_id(int(token) if metric is None else token, tokenizer, len(last_logits))
    name = f"log-probability of {tokenizer.decode([token])!r}"
    return Metric(lambda logits: logits[:, -1].log_softmax(-1)[:, token], name, tokens=(token,))


def _token_id(token, tokenizer, n_vocabulary):
    if isinstance(token, str):
        ids = tokenizer.encode(token, add_special_tokens=False)
        if len(ids) != 1:
            pieces = ", ".join(repr(tokenizer.decode([i])) for i in ids)
            raise ValueError(
                f"The metric needs one token, but {token!r} is {len(ids)}"
                f"{': ' * bool(ids)}{pieces}. Give one of them, with the space in front if there "
                f"is one, or its id."
            )
        return ids[0]
    if isinstance(token, Integral) and not isinstance(token, bool):
        if not 0 <= token < n_vocabulary:
            raise ValueError(f"There is no token {token}: the model has {n_vocabulary}.")
        return int(token)
    raise TypeError(
        f"A metric is None, a token (str or int), a pair of tokens, or a function of the logits. "
        f"Got {token!r}."
    )
