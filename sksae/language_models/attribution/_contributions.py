"""One pass over a prompt, and what every part of an activation contributes to its prediction."""

from typing import NamedTuple

import numpy as np
import torch

from sksae.language_models.attribution._attribution_nodes import along_features
from sksae.language_models.attribution._logit_metrics import Metric, read_metric
from sksae.language_models.attribution._splicing import Splicer, held
from sksae.language_models.model import HookPoint, base_of, find_blocks, find_readout, wide

_TOKENS_AT_A_TIME = 64  # dense codes of as many tokens exist at once
_COPIES_AT_A_TIME = 16


class CleanPass(NamedTuple):
    """What one pass over a prompt leaves behind."""

    x: torch.Tensor  # (n_tokens, width): what passes the site, at least float32
    gradient: torch.Tensor  # (n_tokens, width): of the metric with respect to x
    stream: torch.Tensor  # (n_tokens, d_model): what leaves the last block
    log_probabilities: torch.Tensor  # (n_vocabulary,): behind the last position
    predicted: torch.Tensor  # (n_tokens,): the most probable token, at the end the target
    logit: torch.Tensor  # (n_tokens,): its logit
    metric: Metric
    value: float

    @property
    def target(self):
        """The id of the token that is explained."""
        return self.metric.tokens[0]


class Active(NamedTuple):
    """Where features fire, and what they contribute there; arrays of one length."""

    position: np.ndarray
    feature: np.ndarray
    activation: np.ndarray
    gradient: np.ndarray
    direct: np.ndarray


def clean_pass(splicer: Splicer, target, metric, tokenizer):
    """Run a prompt once, forward and back, and return the `CleanPass`.

    Parameters
    ----------
    splicer : Splicer
        The model, the prompt and the one hook point of the site.
    target : None, str or int
        The token that is explained, as for `read_metric`.
    metric : {"log_probability", "logit"}
        What of it.
    tokenizer : tokenizer
        What makes tokens of strings.
    """
    base, stream = base_of(splicer.model), []
    path = find_blocks(base)
    end = HookPoint(f"{path}.{len(base.get_submodule(path)) - 1}")
    (x,) = splicer.read()
    leaf = x[None].requires_grad_()
    visits = [
        (splicer.points[0], held(leaf)),
        (end, lambda h: stream.append(h[0].detach().clone())),
    ]
    logits = splicer.logits(visits)[0]
    about = read_metric(target, tokenizer, logits[-1].detach())
    (token,) = about.tokens
    if metric == "logit":
        name = f"logit of {tokenizer.decode([token])!r}"
        about = Metric(lambda logits: logits[:, -1, token], name, tokens=(token,))
    value = about(logits[None]).sum()
    gradient = None
    if value.requires_grad:
        (gradient,) = torch.autograd.grad(value, leaf, allow_unused=True)
    logits = logits.detach()
    predicted = logits.argmax(-1)
    predicted[-1] = token
    return CleanPass(
        x=x.detach(),
        gradient=torch.zeros_like(x) if gradient is None else gradient[0],
        stream=stream[0],
        log_probabilities=logits[-1].to(wide(logits)).log_softmax(-1),
        predicted=predicted,
        logit=logits.gather(1, predicted[:, None])[:, 0].to(wide(logits)),
        metric=about,
        value=float(value.detach()),
    )


def direct_rows(model, clean, *, in_stream):
    """Return what makes logits of the stream at each position, and the parts that no row makes.

    Parameters
    ----------
    model : torch.nn.Module
        The model.
    clean : CleanPass
        What a pass left behind.
    in_stream : bool
        Whether `x` is, or is added to, the residual stream; if not, all is NaN.

    Returns
    -------
    rows : Tensor of shape (n_tokens, width)
        Their products with a part of `x` are its direct contributions to the predicted tokens.
    constant : Tensor of shape (n_tokens,)
        The logits of the biases.
    """
    if not in_stream:
        return torch.full_like(clean.x, torch.nan), torch.full_like(clean.logit, torch.nan)
    readout = find_readout(model)
    ids, which = clean.predicted.unique(return_inverse=True)
    rows = readout.rows(ids)[which.to(readout.gain.device)]
    rows = rows / readout.scale(clean.stream)[:, None]
    constants = readout.constants()
    return rows.to(clean.x), constants[clean.predicted.to(constants.device)]


def contributions(dictionary, clean, rows):
    """Return the `Active` features of all tokens, and a dict of what else contributes, by token."""
    error, parts = torch.empty_like(clean.x), []
    for first in range(0, len(error), _TOKENS_AT_A_TIME):
        some = clean.x[first : first + _TOKENS_AT_A_TIME]
        codes = dictionary.encode(some)
        error[first : first + len(some)] = some - dictionary.decode(codes)
        position, feature = codes.nonzero(as_tuple=True)
        parts.append((position + first, feature, codes[position, feature]))
    position, feature, code = (torch.cat(column) for column in zip(*parts, strict=True))
    active = [position, feature, code]
    intercept = dictionary.intercept(clean.x)
    norms = torch.linalg.vector_norm(clean.x, dim=-1).clamp(min=torch.finfo(error.dtype).tiny)
    tokens = {"unexplained": torch.linalg.vector_norm(error, dim=-1) / norms}
    for kind, row in (("gradient", clean.gradient), ("direct", rows)):
        active.append(code * along_features(dictionary, row, position, feature))
        tokens[f"error_{kind}"] = (error * row).sum(-1)
        tokens[f"intercept_{kind}"] = row @ intercept
    return Active(*map(to_numpy, active)), {name: to_numpy(x) for name, x in tokens.items()}


def sums_of_hidden(active, dense, chosen, n_tokens):
    """Return a dict of sums, by token, over what is too dense to be shown and over what is left."""
    rest = ~dense
    rest[chosen] = False
    return {
        f"{group}_{kind}": np.bincount(
            active.position[rows], getattr(active, kind)[rows], minlength=n_tokens
        ).astype(float)
        for group, rows in (("dense", dense), ("rest", rest))
        for kind in ("direct", "gradient")
    }


def measured(splicer, dictionary, clean, chosen):
    """Return by how much the metric falls when each of some `Active` features is taken away."""
    found = []
    directions = dictionary.components(clean.x)
    for first in range(0, len(chosen.position), _COPIES_AT_A_TIME):
        some = slice(first, first + _COPIES_AT_A_TIME)
        copies = clean.x.repeat(len(chosen.position[some]), 1, 1)
        away = torch.from_numpy(chosen.activation[some]).to(copies)[:, None]
        away = away * directions[torch.from_numpy(chosen.feature[some]).to(copies.device)]
        copies[range(len(copies)), chosen.position[some].tolist()] -= away
        found.append(clean.value - to_numpy(splicer.metric(clean.metric, {0: copies})))
    return np.concatenate(found) if found else np.zeros(0)


def to_numpy(tensor):
    """Return a tensor as an array, of float64 if it holds floats."""
    tensor = tensor.detach().cpu()
    return (tensor.double() if tensor.is_floating_point() else tensor).numpy()
