"""Scorer of the predictions that a language model keeps under a reconstruction."""

from sklearn.base import clone

from sksae.language_models.extraction import check_container, check_items, check_parameters
from sksae.language_models.interventions._downstream_metrics import (
    ablations,
    check_extractor,
    check_mean,
    metrics_of,
    reconstruction,
)
from sksae.language_models.interventions._downstream_passes import DownstreamPasses
from sksae.language_models.model import one_pass_at_a_time

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
    >>> texts = load_corpus().data[:8]
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
