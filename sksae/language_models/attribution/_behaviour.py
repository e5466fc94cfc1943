"""Features active on a prompt, and their contributions to the prediction of the model."""

from collections.abc import Mapping
from numbers import Integral
from typing import NamedTuple

import numpy as np
import torch

from sksae._arrays import objects, to_torch
from sksae._modes import own_modes
from sksae._params import Float, Int, Option, check_option
from sksae._threads import threads_of_process
from sksae.language_models.attribution._attribution_nodes import along_features
from sksae.language_models.attribution._behaviour_table import Behaviour, TokenBehaviour
from sksae.language_models.attribution._logit_lens import token_strings
from sksae.language_models.attribution._logit_metrics import Logit, Metric, read_metric
from sksae.language_models.attribution._splicing import Splicer, held
from sksae.language_models.extraction import tokenized_prompt
from sksae.language_models.interventions import maxima_array
from sksae.language_models.model import (
    SITES,
    HookPoint,
    TorchDictionary,
    base_of,
    find_blocks,
    find_readout,
    find_target,
    load_causal,
    wide,
)

_TOKENS_AT_A_TIME = 64  # dense codes of as many tokens exist at once
_COPIES_AT_A_TIME = 16

_RULES = {
    "n_features": Int(1),
    "max_density": Float(0, 1, none=True),
    "metric": Option("log_probability", "logit"),
    "verify": Int(0),
}


@threads_of_process()
@own_modes()
def describe_behaviour(
    model,
    site,
    sae,
    prompt,
    *,
    target_site=None,
    target=None,
    metric="log_probability",
    n_features=10,
    max_density=0.1,
    names=None,
    maxima=None,
    verify=0,
    tokenizer=None,
):
    """Describe the features active on a prompt and their effects on the model's prediction.

    The activation ``x`` of each token is ``sum of a_j d_j + b + e``: codes `a`, directions `d`, the
    autoencoder's intercept `b`, and its error `e`. Each part contributes

    - ``gradient``: its product with ``d metric / d x``. For a feature this is ``a_j g . d_j``, the
      first-order estimate of how much the metric falls when the feature is taken away [1]_;
    - ``direct_logit``: its product with the row of the unembedding for one token, seen through the
      final norm at its present scale (the equation of `logit_lens`, with the scale of the token).
      It is what the part adds to that logit if no later block reads it. At a position only the
      prediction behind that position can change directly, so the token is the one that is most
      probable there, and the target at the last position.

    Parameters
    ----------
    model : str, Path or PreTrainedModel
        A model that predicts tokens, or the name or path of one.
    site : str or (int, str)
        Where in the model: ``"3.resid_post"`` or ``(3, "resid_post")``, or the path of a module;
        see `ActivationExtractor` for the names.
    sae : estimator
        A sparse autoencoder fitted on activations of this site, or a `Transcoder` that reads it.
    prompt : str, array of token ids or list of messages
        What the model reads.
    target_site : str or (int, str), default=None
        Where a transcoder writes: its `x` is the activation there, and what a skip connection adds
        counts with the intercept. None is the ``mlp_out`` of the block that `site` is in; an
        autoencoder writes where it reads.
    target : str or int, default=None
        The token whose prediction behind the prompt is explained, as a string or an id. None takes
        the most probable one.
    metric : {"log_probability", "logit"}, default="log_probability"
        What of the target is explained: its log-probability in nats, or its logit.
    n_features : int, default=10
        Of each token the table has the features with the largest activations and those with the
        largest gradients, this many of either.
    max_density : float or None, default=0.1
        Features that fired on a larger share of the rows in the fit are not shown, only summed up.
        None shows all.
    names : mapping of int to str, default=None
        Names of features.
    maxima : array-like of shape (n_components,), default=None
        The largest known activation of each feature, for `share_of_max`.
    verify : int, default=0
        For how many lines, from the top, the effect is measured as well: by how much the metric
        falls when ``a_j d_j`` is taken away at that token and everything behind is computed anew.
    tokenizer : str, Path or tokenizer, default=None
        None takes the one that goes with the model's name or path. Needed with a model object.

    Returns
    -------
    behaviour : Behaviour
        One line per feature and token, the largest gradient first; `behaviour.tokens` has one line
        per token, with the share that the autoencoder leaves out and its contribution.

    Raises
    ------
    TypeError
        If `sae` has no directions, or `target` or `names` are of another kind.
    ValueError
        If the model has no such site or predicts no tokens, if the autoencoder was fitted on rows
        of another width, if the target is not one token, or if a number is out of range.

    See Also
    --------
    logit_lens : The tokens that features promote on any prompt.
    attribute : Effects measured from a baseline, at several sites at once.

    Notes
    -----
    At the ``resid_post`` of the last block the direct contributions of all features, of the error
    and of the intercept, with `tokens.constant`, sum to the logit (before it is bent, in Gemma 2).
    At other sites the other blocks add the rest. At a module path they are NaN: what the module
    puts out need not be added to the stream. Where blocks normalise the stream itself (OPT 350m)
    they are what is meant behind the last block only.

    Codes and gradient hold for the features that fire; none of it goes through the encoder.
    Special tokens that the prompt begins with have no lines, as their activations are outliers in
    many models; their features are part of `tokens.rest_gradient`.

    References
    ----------
    .. [1] Marks et al., "Sparse feature circuits: discovering and editing interpretable causal
       graphs in language models", ICLR 2025.

    Examples
    --------
    >>> from sksae import TopKSAE
    >>> from sksae.datasets import TINY_LM_PATH, load_corpus
    >>> from sksae.language_models import ActivationExtractor, describe_behaviour
    >>> rows = ActivationExtractor(TINY_LM_PATH, layer=4).transform(load_corpus().data[:5])
    >>> sae = TopKSAE(64, k=8, max_iter=3, random_state=0).fit(rows)
    >>> table = describe_behaviour(
    ...     TINY_LM_PATH, "4.resid_post", sae, "Return the mean of", max_density=None, verify=2
    ... )
    >>> tokens, last = table.tokens, table.strongest(-1)
    >>> tokens.token.tolist()
    ['<s>', 'Return', ' the', ' mean', ' of']
    >>> parts = last.direct_logit.sum() + tokens.error_direct[-1] + tokens.intercept_direct[-1]
    >>> round(float(parts + tokens.constant[-1] - tokens.logit[-1]), 3) + 0.0
    0.0
    """
    numbers = {"n_features": n_features, "max_density": max_density}
    _check(target, names, **numbers, metric=metric, verify=verify)
    dictionary = TorchDictionary(sae)
    density, maxima = _density(dictionary), _maxima(dictionary, maxima)
    model, tokenizer = load_causal(model, tokenizer)
    written = find_target(model, site, sae, target_site)
    prompt = tokenized_prompt(model, tokenizer, prompt)
    splicer = Splicer(model, [written.point, written.source], prompt.inputs)
    clean = _clean_pass(splicer, target, metric, tokenizer)
    rows, constant = _direct_rows(model, clean, in_stream=written.site in SITES)
    active, tokens = _contributions(dictionary, clean, rows)
    dense = density[active.feature] > (1 if max_density is None else max_density)
    chosen = _chosen(active, ~dense & ~_leading(prompt)[active.position], n_features)
    shown = Active(*(column[chosen] for column in active))
    exact = np.full(len(chosen), np.nan)
    exact[:verify] = _measured(splicer, dictionary, clean, Active(*(x[:verify] for x in shown)))
    strings = prompt.tokens.string
    predicted = to_numpy(clean.predicted)
    return Behaviour(
        **_columns(shown, strings, density, maxima, names or {}),
        exact=exact,
        tokens=TokenBehaviour(
            position=np.arange(len(strings)),
            token=strings,
            predicted_id=predicted,
            predicted=token_strings(tokenizer, predicted),
            logit=to_numpy(clean.logit),
            constant=to_numpy(constant),
            **tokens,
            **_sums_of_hidden(active, dense, chosen, len(strings)),
        ),
        **_prediction(clean, tokenizer),
    )


def _check(target, names, **numbers):
    for name, value in numbers.items():
        check_option(name, value, _RULES[name])
    if not (target is None or isinstance(target, (str, Integral))):
        raise TypeError(f"target must be a token, as a str or an int, or None. Got {target!r}.")
    if not (names is None or isinstance(names, Mapping)):
        raise TypeError(f"names must map features to names. Got {names!r}.")


def _density(dictionary):
    """Return the share of rows each feature fired on in the fit, NaN if it is not known."""
    frequency = getattr(dictionary.sae, "activation_frequency_", None)
    if frequency is None:
        return np.full(dictionary.n_features, np.nan)
    return to_numpy(to_torch(frequency, "cpu"))


def _maxima(dictionary, maxima):
    """Return the largest activations as an array, NaN where they are not known."""
    if maxima is None:
        return np.full(dictionary.n_features, np.nan)
    maxima = maxima_array(maxima, dictionary.n_features).astype(float)
    return np.where(maxima > 0, maxima, np.nan)


def _leading(prompt):
    """Mask of the special tokens that the prompt begins with; never the last token."""
    leading = prompt.special.numpy().cumprod().astype(bool)
    leading[-1] = False
    return leading


def _chosen(active, allowed, n_features):
    """Return the rows of the table, the largest gradient first.

    Of each token they are the `n_features` with the largest activations and as many with the
    largest gradients.
    """
    rows = np.flatnonzero(allowed)
    size, activation = np.abs(active.gradient[rows]), active.activation[rows]
    keep = np.zeros(len(rows), dtype=bool)
    for value in (size, activation):
        order = np.lexsort((-value, active.position[rows]))
        position = active.position[rows][order]
        rank = np.arange(len(rows)) - np.searchsorted(position, position)
        keep[order[rank < n_features]] = True
    order = np.lexsort((-activation, -size))
    return rows[order[keep[order]]]


def _columns(shown, strings, density, maxima, names):
    """Return the columns of the table, all but `exact`."""
    return {
        "position": shown.position,
        "token": strings[shown.position],
        "feature": shown.feature,
        "activation": shown.activation,
        "share_of_max": shown.activation / maxima[shown.feature],
        "density": density[shown.feature],
        "direct_logit": shown.direct,
        "gradient": shown.gradient,
        "name": objects([str(names.get(feature, "")) for feature in shown.feature.tolist()]),
    }


def _prediction(clean, tokenizer):
    """Return the fields of the table about the prediction behind the prompt."""
    best = int(clean.log_probabilities.argmax())
    target, predicted = token_strings(tokenizer, np.array([clean.target, best]))
    return {
        "metric": clean.metric.name,
        "value": clean.value,
        "target": target,
        "predicted": predicted,
        "target_log_probability": float(clean.log_probabilities[clean.target]),
        "predicted_log_probability": float(clean.log_probabilities[best]),
    }


class CleanPass(NamedTuple):
    """The tensors of one pass over a prompt."""

    x: torch.Tensor  # (n_tokens, width): activations of the site, at least float32
    source: torch.Tensor  # (n_tokens, source_width): what codes are made of
    gradient: torch.Tensor  # (n_tokens, width): of the metric with respect to x
    stream: torch.Tensor  # (n_tokens, d_model): output of the last block
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
    """Active features and their contributions, one entry per code that is not zero."""

    position: np.ndarray
    feature: np.ndarray
    activation: np.ndarray
    gradient: np.ndarray
    direct: np.ndarray


def _clean_pass(splicer, target, metric, tokenizer):
    """Run a prompt once, forward and back, and return the `CleanPass`.

    Parameters
    ----------
    splicer : Splicer
        The model, the prompt and two hook points: that of the site and that of its source.
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
    x, source = splicer.read()
    leaf = x[None].requires_grad_()
    visits = [
        (splicer.points[0], held(leaf)),
        (end, lambda h: stream.append(h[0].detach().clone())),
    ]
    logits = splicer.logits(visits)[0]
    about = read_metric(target, tokenizer, logits[-1].detach())
    (token,) = about.tokens
    if metric == "logit":
        about = Logit(f"logit of {tokenizer.decode([token])!r}", (token,))
    value = about(logits[None]).sum()
    gradient = None
    if value.requires_grad:
        (gradient,) = torch.autograd.grad(value, leaf, allow_unused=True)
    logits = logits.detach()
    predicted = logits.argmax(-1)
    predicted[-1] = token
    return CleanPass(
        x=x.detach(),
        source=source,
        gradient=torch.zeros_like(x) if gradient is None else gradient[0],
        stream=stream[0],
        log_probabilities=logits[-1].to(wide(logits)).log_softmax(-1),
        predicted=predicted,
        logit=logits.gather(1, predicted[:, None])[:, 0].to(wide(logits)),
        metric=about,
        value=float(value.detach()),
    )


def _direct_rows(model, clean, *, in_stream):
    """Return the unembedding directions at each position, and the logits of the bias terms.

    Parameters
    ----------
    model : torch.nn.Module
        The model.
    clean : CleanPass
        The pass over the prompt.
    in_stream : bool
        Whether `x` is part of the residual stream or added to it; if not, all is NaN.

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
    ids, index = clean.predicted.unique(return_inverse=True)
    rows = readout.rows(ids)[index.to(readout.gain.device)]
    rows = rows / readout.scale(clean.stream)[:, None]
    constants = readout.constants()
    return rows.to(clean.x), constants[clean.predicted.to(constants.device)]


def _contributions(dictionary, clean, rows):
    """Return the `Active` features, and a dict of the other contributions per token."""
    dictionary.check_width(clean.source.shape[-1])
    dictionary.check_target_width(clean.x.shape[-1])
    past_codes = dictionary.past_codes(clean.source)
    error, parts = clean.x - past_codes, []
    for first in range(0, len(error), _TOKENS_AT_A_TIME):
        block = slice(first, first + _TOKENS_AT_A_TIME)
        codes = dictionary.encode(clean.source[block])
        error[block] -= codes @ dictionary.components(codes)
        position, feature = codes.nonzero(as_tuple=True)
        parts.append((position + first, feature, codes[position, feature]))
    position, feature, code = (torch.cat(column) for column in zip(*parts, strict=True))
    active = [position, feature, code]
    norms = torch.linalg.vector_norm(clean.x, dim=-1).clamp(min=torch.finfo(error.dtype).tiny)
    tokens = {"unexplained": torch.linalg.vector_norm(error, dim=-1) / norms}
    for kind, row in (("gradient", clean.gradient), ("direct", rows)):
        active.append(code * along_features(dictionary, row, position, feature))
        tokens[f"error_{kind}"] = (error * row).sum(-1)
        tokens[f"intercept_{kind}"] = (past_codes * row).sum(-1)
    return Active(*map(to_numpy, active)), {name: to_numpy(x) for name, x in tokens.items()}


def _sums_of_hidden(active, dense, chosen, n_tokens):
    """Return sums per token over the features too dense to be shown, and over the others."""
    remaining = ~dense
    remaining[chosen] = False
    return {
        f"{group}_{kind}": np.bincount(
            active.position[rows], getattr(active, kind)[rows], minlength=n_tokens
        ).astype(float)
        for group, rows in (("dense", dense), ("rest", remaining))
        for kind in ("direct", "gradient")
    }


def _measured(splicer, dictionary, clean, chosen):
    """Return the fall of the metric when each of some `Active` features is removed."""
    effects = []
    directions = dictionary.components(clean.x)
    for first in range(0, len(chosen.position), _COPIES_AT_A_TIME):
        block = slice(first, first + _COPIES_AT_A_TIME)
        copies = clean.x.repeat(len(chosen.position[block]), 1, 1)
        activation = torch.from_numpy(chosen.activation[block]).to(copies)[:, None]
        feature = torch.from_numpy(chosen.feature[block]).to(copies.device)
        # Each copy lacks one feature at one position.
        copies[range(len(copies)), chosen.position[block].tolist()] -= (
            activation * directions[feature]
        )
        effects.append(clean.value - to_numpy(splicer.metric(clean.metric, {0: copies})))
    return np.concatenate(effects) if effects else np.zeros(0)


def to_numpy(tensor):
    """Return a tensor as an array, of float64 if it holds floats."""
    tensor = tensor.detach().cpu()
    return (tensor.double() if tensor.is_floating_point() else tensor).numpy()
