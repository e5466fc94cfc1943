"""What features do on a prompt: how strongly they fire, and what that does to the prediction."""

from collections.abc import Mapping
from numbers import Integral

import numpy as np

from sksae._arrays import objects, to_torch
from sksae._modes import own_modes
from sksae._params import Float, Int, Option, check_option
from sksae._threads import threads_of_process
from sksae.language_models._dictionary import Dictionary
from sksae.language_models._identities import attach, check_runs_once
from sksae.language_models._loading import load_causal
from sksae.language_models._prompts import read_prompt
from sksae.language_models._sites import SITES, base_of, split_site
from sksae.language_models.attribution._behaviour_table import Behaviour, TokenBehaviour
from sksae.language_models.attribution._contributions import (
    Active,
    clean_pass,
    contributions,
    direct_rows,
    measured,
    sums_of_hidden,
    to_numpy,
)
from sksae.language_models.attribution._logit_lens import token_strings
from sksae.language_models.attribution._splicing import Splicer
from sksae.language_models.steering._feature_edits import maxima_array

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
    target=None,
    metric="log_probability",
    n_features=10,
    max_density=0.1,
    names=None,
    maxima=None,
    verify=0,
    tokenizer=None,
):
    """Describe which features fire on a prompt and what they do to the model's prediction.

    The activation ``x`` of each token is ``sum of a_j d_j + b + e``: codes `a`, directions `d`, the
    autoencoder's intercept `b`, and what it leaves out, `e`. Each part contributes

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
        A sparse autoencoder fitted on activations of this site.
    prompt : str, array of token ids or list of messages
        What the model reads.
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
        One line a feature and token, the largest gradient first; `behaviour.tokens` has one line a
        token, with the share that the autoencoder leaves out and what that contributes.

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
    dictionary = Dictionary(sae)
    density, maxima = _density(dictionary), _maxima(dictionary, maxima)
    model, tokenizer = load_causal(model, tokenizer)
    layer, part = split_site(site)
    place = attach(model, layer, part)
    check_runs_once(base_of(model), place)
    prompt = read_prompt(model, tokenizer, prompt)
    splicer = Splicer(model, [place], prompt.inputs)
    clean = clean_pass(splicer, target, metric, tokenizer)
    rows, constant = direct_rows(model, clean, in_stream=part in SITES)
    active, tokens = contributions(dictionary, clean, rows)
    dense = density[active.feature] > (1 if max_density is None else max_density)
    chosen = _chosen(active, ~dense & ~_leading(prompt)[active.position], n_features)
    shown = Active(*(column[chosen] for column in active))
    exact = np.full(len(chosen), np.nan)
    exact[:verify] = measured(splicer, dictionary, clean, Active(*(x[:verify] for x in shown)))
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
            **sums_of_hidden(active, dense, chosen, len(strings)),
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
    """Return the share of rows each feature fired on in the fit, NaN where that is not known."""
    known = getattr(dictionary.sae, "activation_frequency_", None)
    if known is None:
        return np.full(dictionary.n_features, np.nan)
    return to_numpy(to_torch(known, "cpu"))


def _maxima(dictionary, maxima):
    """Return the largest activations as an array, NaN where they are not known."""
    if maxima is None:
        return np.full(dictionary.n_features, np.nan)
    maxima = maxima_array(maxima, dictionary.n_features).astype(float)
    return np.where(maxima > 0, maxima, np.nan)


def _leading(prompt):
    """Which tokens are special ones that the prompt begins with; never the last."""
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
    """Return what the table says about the prediction behind the prompt."""
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
