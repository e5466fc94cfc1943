"""Metrics of an attribution: one number per prompt, computed from its logits."""

from numbers import Integral

import torch

from sksae.language_models.model import wide


class Metric:
    """A number from logits, (n, n_tokens, n_vocabulary), for each of n prompts.

    Parameters
    ----------
    name : str
        The name shown with results.
    tokens : tuple of int, default=()
        The ids of the tokens that it is about.
    """

    last = True  # whether the last position is all that it reads

    def __init__(self, name, tokens=()):
        self.name = name
        self.tokens = tokens

    def __call__(self, logits):
        """Return the metric, (n,), in at least float32."""
        return self.values(logits.to(wide(logits)))


class LogProbability(Metric):
    """Log-probability of one token after the prompt."""

    def values(self, logits):
        """Return the metric of `logits`."""
        return logits[:, -1].log_softmax(-1)[:, self.tokens[0]]


class Logit(Metric):
    """Logit of one token after the prompt."""

    def values(self, logits):
        """Return the metric of `logits`."""
        return logits[:, -1, self.tokens[0]]


class LogitDifference(Metric):
    """Logit of the first of two tokens after the prompt minus that of the second."""

    def values(self, logits):
        """Return the metric of `logits`."""
        first, second = self.tokens
        return logits[:, -1, first] - logits[:, -1, second]


class UserMetric(Metric):
    """A function of the logits at all positions."""

    last = False

    def __init__(self, function):
        super().__init__(getattr(function, "__name__", type(function).__name__))
        self.function = function

    def values(self, logits):
        """Return the metric of `logits`, after a check of its shape."""
        value = self.function(logits)
        if not isinstance(value, torch.Tensor) or value.shape != logits.shape[:1]:
            is_tensor = isinstance(value, torch.Tensor)
            returned = tuple(value.shape) if is_tensor else type(value).__name__
            raise ValueError(
                f"The metric {self.name} must return a tensor with one number per prompt, "
                f"({len(logits)},); it returned {returned}."
            )
        return value


def read_metric(metric, tokenizer, last_logits):
    """Return the `Metric` for the `metric` argument of `attribute`.

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
        return UserMetric(metric)
    n_vocabulary = len(last_logits)
    if isinstance(metric, (tuple, list)):
        if len(metric) != 2:
            raise ValueError(f"A logit difference is between 2 tokens, got {len(metric)}.")
        ids = tuple(_token_id(token, tokenizer, n_vocabulary) for token in metric)
        if ids[0] == ids[1]:
            raise ValueError(f"metric={metric!r}: both are the same token.")
        name = " minus ".join(f"logit of {tokenizer.decode([i])!r}" for i in ids)
        return LogitDifference(name, ids)
    token = int(last_logits.argmax()) if metric is None else metric
    token = _token_id(token, tokenizer, n_vocabulary)
    return LogProbability(f"log-probability of {tokenizer.decode([token])!r}", (token,))


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
