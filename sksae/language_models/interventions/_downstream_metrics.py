"""Downstream metrics: predictions of a language model under a reconstruction, and their scorer."""

import numpy as np
import torch
from sklearn.base import clone

from sksae.language_models.extraction import (
    ActivationExtractor,
    check_container,
    check_items,
    check_parameters,
)
from sksae.language_models.interventions._downstream_passes import DownstreamPasses, Reconstruction
from sksae.language_models.model import (
    check_fitted_on,
    fitted_estimator,
    is_transcoder,
    one_pass_at_a_time,
)

_SMALLEST = 1e-6  # nats; a smaller difference is rounding, and no scale to measure on

# By the name of a score, the metric it is made of and its sign, so that more is better.
_SCORES = {
    "ce_recovered": ("ce_recovered", 1),
    "ce_recovered_mean": ("ce_recovered_mean", 1),
    "neg_delta_ce": ("delta_ce", -1),
    "neg_kl": ("kl", -1),
    "kl_recovered": ("kl_recovered", 1),
    "top1_agreement": ("top1_agreement", 1),
    "neg_l0": ("l0", -1),
}
_COMPARING = ("neg_kl", "kl_recovered", "top1_agreement")  # need the clean prediction, not a sum


def downstream_metrics(extractor, sae, texts, *, mean=None):
    """Measure what a reconstruction does to the predictions of a language model.

    The activations that the extractor would return for `texts` are replaced by their
    reconstruction, inside the model, and the rest of the model runs on it. The cross-entropy of the
    next token is compared with that of the model as it is, and with that after the same activations
    are replaced by zero or by their mean [1]_ [2]_. With a transcoder the activations of the target
    are replaced by its prediction.

    Parameters
    ----------
    extractor : ActivationExtractor
        Says which model, which layer and site, how texts are cut into windows, and which tokens
        become rows: these are replaced, others, such as special tokens, stay as they are. A model
        given by name is loaded with its head. `pooling` has no influence. For a transcoder it has
        two sites: what is read, and what is predicted and replaced, as in ``layer=2,
        site=["resid_mid", "mlp_out"]``.
    sae : estimator
        A fitted autoencoder, or a pipeline of them, with `transform` and `inverse_transform`, or a
        `Transcoder`, or a pipeline that ends with one.
    texts : iterable
        The texts, in any form that the extractor takes.
    mean : array-like of shape (n_features,), default=None
        What the ablation by the mean puts in. None takes the mean of the rows of `texts`; with two
        sites it is of the second.

    Returns
    -------
    metrics : dict of str to float
        Means over all scored tokens, in nats where they are entropies:

        - ``"ce_clean"``, ``"ce_patched"``, ``"ce_zero"``, ``"ce_mean"``: the cross-entropy of the
          next token, with the model as it is, with reconstructions, zeros and means;
        - ``"delta_ce"``: ``ce_patched - ce_clean``, 0 for a perfect reconstruction;
        - ``"ce_recovered"``: ``(ce_zero - ce_patched) / (ce_zero - ce_clean)``, 1 for a perfect
          reconstruction, 0 for one that is no better than zeros, less for a worse one;
        - ``"ce_recovered_mean"``: the same with ``ce_mean`` instead of ``ce_zero``;
        - ``"kl"``, ``"kl_zero"``, ``"kl_mean"``: the Kullback-Leibler divergence of the changed
          prediction from the clean one;
        - ``"kl_recovered"``: ``1 - kl / kl_zero``;
        - ``"top1_agreement"``: how often the likeliest next token stays the same;
        - the standard error of each of these over the texts, by its name with ``"_se"`` behind,
          as in ``"delta_ce_se"``;
        - ``"l0"``: the number of nonzero codes per replaced row;
        - ``"n_tokens"``, ``"n_texts"``: how many tokens were scored, and in how many texts.

        A ratio is NaN if its denominator is less than 1e-6; a standard error is NaN with one text.

    Raises
    ------
    TypeError
        If `extractor` or `sae` is something else.
    ValueError
        If the model does not predict the next token, there is nothing to score, widths differ, or
        the extractor has two sites and `sae` is no transcoder, or one and it is.

    See Also
    --------
    make_downstream_scorer : The same as a scorer, for searches.
    patch : Lets a model run on the reconstruction of a site.
    sksae.metrics.explained_variance : Quality of a reconstruction, without the model.

    Notes
    -----
    A token is scored, by the prediction of the token after it, if it is no special token and there
    is one after it in its window. Means are over tokens: long texts count for more than short ones.

    Ablation by zero takes all that a residual stream says away, so that values of ``ce_recovered``
    above 0.98 are common and differ little; ``delta_ce`` tells more. Reconstructions and ablations
    replace the same activations here. Where an ablation replaces those of special tokens as well,
    as in other libraries, ``ce_zero`` is another number, and so is ``ce_recovered``.

    The tokens of a text depend on each other, so that the standard errors treat a text as one
    observation. For a ratio ``r = sum_d a_d / sum_d b_d`` over `D` texts, to first order,

        se(r)² = D / (D - 1) · sum_d (a_d - r · b_d)² / (sum_d b_d)²

    with ``b_d`` the number of scored tokens for means, and ``a_d`` and ``b_d`` the differences of
    cross-entropies for ``ce_recovered``.

    The model runs four times and once more up to the site. Its logits are computed for as many
    tokens at a time as give about four million of them. Losses are computed in float32 at least and
    summed in float64. The result does not depend on `batch_tokens`, up to the rounding of the
    model's arithmetic.

    References
    ----------
    .. [1] Bricken, T. et al. (2023). Towards monosemanticity: decomposing language models with
       dictionary learning. Transformer Circuits Thread.
    .. [2] Gao, L. et al. (2024). Scaling and evaluating sparse autoencoders. arXiv:2406.04093.

    Examples
    --------
    >>> from sksae import TopKSAE
    >>> from sksae.datasets import TINY_LM_PATH, load_corpus
    >>> from sksae.language_models import ActivationExtractor, downstream_metrics
    >>> extractor = ActivationExtractor(TINY_LM_PATH, layer=2)
    >>> texts = [text[:500] for text in load_corpus().data[:12]]
    >>> sae = TopKSAE(256, k=8, max_iter=5, random_state=0).fit(extractor.transform(texts[4:]))
    >>> metrics = downstream_metrics(extractor, sae, texts[:4])
    >>> metrics["ce_clean"] < metrics["ce_patched"] < metrics["ce_zero"]
    True
    >>> 0 < metrics["ce_recovered"] < 1, metrics["l0"], metrics["n_texts"]
    (True, 8.0, 4)
    """
    check_extractor(extractor)
    mean = check_mean(mean)
    fitted_estimator(sae)
    passes = DownstreamPasses(extractor, texts, mean)
    replace = reconstruction(sae, passes)
    sums = passes.sums({"patched": replace, **ablations(passes)}, clean=True)
    return metrics_of(sums, replace.l0())


def check_extractor(extractor):
    """Raise a TypeError unless `extractor` is one."""
    if not isinstance(extractor, ActivationExtractor):
        raise TypeError(
            f"extractor must be an ActivationExtractor. Got {type(extractor).__name__} instead."
        )


def check_mean(mean):
    """Return `mean` as a vector of float64, or None."""
    if mean is None:
        return None
    mean = np.asarray(mean, dtype=np.float64)
    if mean.ndim != 1 or not np.isfinite(mean).all():
        raise ValueError(f"mean must be a finite vector. Got shape {mean.shape}: {mean!r}.")
    return mean


def reconstruction(sae, passes):
    """Return the `Reconstruction` of a fitted estimator, after a look at its sites and widths."""
    fitted_estimator(sae)
    two_sites = passes.target.source != passes.target.point
    if is_transcoder(sae) != two_sites:
        needed = "reads one site and predicts another" if is_transcoder(sae) else "has one site"
        raise ValueError(
            f"{type(sae).__name__} {needed}, but the extractor has {1 + two_sites}: a transcoder "
            f"needs two, as in layer=2, site=['resid_mid', 'mlp_out'], an autoencoder one."
        )
    check_fitted_on(sae, passes.source_width, passes.width)
    return Reconstruction(sae)


def ablations(passes):
    """Return the replacements of the two ablations: zeros and means."""
    mean = torch.from_numpy(passes.mean())
    return {
        "zero": lambda rows, _: torch.zeros_like(rows),
        "mean": lambda rows, _: mean.to(rows.device, rows.dtype).expand_as(rows),
    }


def metrics_of(sums, l0):
    """Return the metrics that follow from sums over the scored tokens.

    Parameters
    ----------
    sums : dict of str to ndarray of shape (n_texts,)
        Sums over the scored tokens of each text, as `DownstreamPasses.sums` returns them. Without
        ``"kl_patched"`` and ``"agree_patched"``, what needs them is left out.
    l0 : float
        Mean number of nonzero codes per row.
    """
    # Texts with a scored token.
    sums = {name: values[sums["n"] > 0] for name, values in sums.items()}
    n = sums["n"]
    metrics = {"n_tokens": int(n.sum()), "n_texts": len(n), "l0": float(l0)}

    def put(name, numerators, denominators=n):
        metrics[name], metrics[f"{name}_se"] = ratio(numerators, denominators)
        # The denominator is rounding, and the ratio says nothing.
        if abs(denominators.sum()) < _SMALLEST * n.sum():
            metrics[name] = metrics[f"{name}_se"] = float("nan")

    for name in ("clean", "patched", "zero", "mean"):
        put(f"ce_{name}", sums[f"ce_{name}"])
    put("delta_ce", sums["ce_patched"] - sums["ce_clean"])
    for name, ablated in (("ce_recovered", "ce_zero"), ("ce_recovered_mean", "ce_mean")):
        put(name, sums[ablated] - sums["ce_patched"], sums[ablated] - sums["ce_clean"])
    if "kl_patched" not in sums:
        return metrics
    for name, key in (("kl", "kl_patched"), ("kl_zero", "kl_zero"), ("kl_mean", "kl_mean")):
        put(name, sums[key])
    put("kl_recovered", sums["kl_zero"] - sums["kl_patched"], sums["kl_zero"])
    put("top1_agreement", sums["agree_patched"])
    return metrics


def ratio(numerators, denominators):
    """Return the ratio of two sums over texts, and its standard error, NaN for one text."""
    total, n_texts = denominators.sum(), len(denominators)
    if not total:
        return float("nan"), float("nan")
    value = numerators.sum() / total
    if n_texts < 2:
        return float(value), float("nan")
    # Standard error of a ratio of sums by linearisation (the delta method), with texts as units.
    errors = (numerators - value * denominators) / total
    return float(value), float(np.sqrt(n_texts / (n_texts - 1) * np.square(errors).sum()))


def make_downstream_scorer(extractor, texts, metric="ce_recovered", *, mean=None):
    """Make a scorer of how much of what a language model predicts survives a reconstruction.

    With it a search can choose a sparsity by what the model keeps, instead of by squared errors.

    Parameters
    ----------
    extractor : ActivationExtractor
        Where the activations are that the autoencoders were fitted on, as for
        `downstream_metrics`; for transcoders two sites.
    texts : iterable
        The texts to score on, in any form that the extractor takes; held out, a few thousand
        tokens or more. The rows that a search hands to the scorer are ignored.
    metric : str, default="ce_recovered"
        One of ``"ce_recovered"``, ``"ce_recovered_mean"``, ``"neg_delta_ce"``, ``"neg_kl"``,
        ``"kl_recovered"``, ``"top1_agreement"`` and ``"neg_l0"``; None makes a scorer that returns
        all of them, as a dict.
    mean : array-like of shape (n_features,), default=None
        As for `downstream_metrics`.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X=None, y=None)``, more is better. It can be pickled.

    Raises
    ------
    TypeError
        If `extractor` is something else.
    ValueError
        If a parameter is invalid. An error that only the model can show, such as a layer that it
        does not have, is raised when the scorer is first called.

    See Also
    --------
    downstream_metrics : Says what the scores are.
    sksae.model_selection.OneStandardError : Chooses a candidate from all scores.
    sksae.metrics.sae_scorer : Scores without the model.

    Notes
    -----
    What does not depend on the autoencoder, the cross-entropies of the model as it is and of the
    ablations, is computed in the first call and kept. After that a call runs the model once for a
    score made of cross-entropies alone, and twice for the others.

    The scorer keeps the parameters of the extractor as they are now. Copies of the scorer are the
    scorer itself, and the model is never copied. A pickle has what was kept, but the model only as
    far as the extractor's has it: with ``n_jobs`` give the extractor the name of a model, and call
    the scorer once before the search.

    Every fold is scored on the same texts, so that the spread over folds is that of the fits; that
    of the texts is in the standard errors of `downstream_metrics`.

    Examples
    --------
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sksae import TopKSAE
    >>> from sksae.datasets import TINY_LM_PATH, load_corpus
    >>> from sksae.language_models import ActivationExtractor, make_downstream_scorer
    >>> from sksae.model_selection import OneStandardError
    >>> extractor = ActivationExtractor(TINY_LM_PATH, layer=2)
    >>> texts = [text[:500] for text in load_corpus().data[:8]]
    >>> rows = extractor.transform(texts[2:])
    >>> search = GridSearchCV(
    ...     TopKSAE(64, max_iter=5, random_state=0),
    ...     {"k": [1, 16]},
    ...     scoring=make_downstream_scorer(extractor, texts[:2], metric=None),
    ...     refit=OneStandardError(score="ce_recovered"),
    ...     cv=2,
    ... )
    >>> search.fit(rows).best_params_
    {'k': 16}
    """
    check_extractor(extractor)
    check_parameters(extractor)
    if metric not in (None, *_SCORES):
        raise ValueError(
            f"metric must be one of {', '.join(map(repr, _SCORES))}, or None for all of them. Got "
            f"{metric!r} instead."
        )
    check_container(texts)
    texts = list(texts)
    check_items(texts)
    if not texts:
        raise ValueError("texts is empty: there is nothing to score on.")
    return _DownstreamScorer(clone(extractor), texts, metric, check_mean(mean))


class _DownstreamScorer:
    """Scorer of fitted estimators on texts."""

    def __init__(self, extractor, texts, metric, mean):
        self.extractor = extractor
        self.texts = texts
        self.metric = metric
        self.mean = mean
        self._passes = None
        self._fixed = None

    def __call__(self, estimator, X=None, y=None):
        """Return the score of a fitted estimator, or the dict of all scores."""
        with one_pass_at_a_time:
            passes = self._ready()
            replace = reconstruction(estimator, passes)
            clean = self.metric is None or self.metric in _COMPARING
            sums = passes.sums({"patched": replace}, clean=clean)
            metrics = metrics_of({**self._fixed, **sums}, replace.l0())
        if self.metric is not None:
            name, sign = _SCORES[self.metric]
            return sign * metrics[name]
        return {score: sign * metrics[name] for score, (name, sign) in _SCORES.items()}

    def _ready(self):
        """Return the passes, after computing the sums that do not depend on the estimator."""
        if self._passes is None:
            self._passes = DownstreamPasses(self.extractor, self.texts, self.mean)
        if self._fixed is None:
            # Clean, zero and mean: the same for all estimators.
            self._fixed = self._passes.sums(ablations(self._passes), clean=True)
        return self._passes

    def __deepcopy__(self, memo):
        # A search that is cloned copies its parameters; nothing of this one ever changes.
        return self

    def __getstate__(self):
        return {**vars(self), "_passes": None}

    def __repr__(self):
        metric = f"metric={self.metric!r}"
        return f"make_downstream_scorer({self.extractor!r}, <{len(self.texts)} texts>, {metric})"
