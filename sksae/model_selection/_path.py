"""SparsityPathCV: cross-validation along a path of sparsities with continued fits."""

import math
import time

import numpy as np
from joblib import Parallel, delayed
from scipy import sparse
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, MetaEstimatorMixin, TransformerMixin, clone
from sklearn.model_selection import check_cv
from sklearn.utils.validation import check_is_fitted

from sksae._arrays import as_input, check_sample_weight
from sksae._drafts import on_a_draft
from sksae._params import Float, Int, check_params
from sksae._reprs import DocLinked
from sksae.metrics import sae_scorer
from sksae.model_selection._refit import DiminishingReturns, choice_report


class SparsityPathCV(DocLinked, MetaEstimatorMixin, TransformerMixin, BaseEstimator):
    """Cross-validate an autoencoder along a path of sparsities, and fit it at the chosen one.

    In every split the densest codes are fitted first, in full; each further fit continues from the
    one before it with the share `continuation` of its passes, as the Lasso path continues from one
    penalty to the next. Six sparsities thus cost about two and a half fits. The chosen sparsity is
    fitted anew on all rows, in full.

    Parameters
    ----------
    estimator : SparseAutoencoder, TopKSAE or another variant
        Cloned, never changed. Its other parameters are those of every fit.
    values : array-like of float
        Values of the sparsity parameter, in any order.
    param_name : str, default=None
        The sparsity parameter. None takes "k" where the estimator has it, then "target_l0": both
        are numbers of active latents. "alpha" has to be named.
    continuation : float, default=0.3
        Passes of each further fit, as a share of those of the first one.
    cv : int, cross-validation generator or iterable, default=None
        Splits, as in :class:`sklearn.model_selection.GridSearchCV`; None for 5 folds. Rows that
        belong together, such as the tokens of a text, need a splitter by group.
    refit : callable, default=None
        Rule that chooses the index of a candidate from `cv_results_`. None takes
        :class:`DiminishingReturns`: reconstruction alone always prefers the densest codes.
    scoring : callable, default=None
        ``scoring(estimator, X) -> dict of float``. None takes :func:`sksae.metrics.sae_scorer`.
    n_jobs : int, default=None
        Number of splits that joblib computes in parallel; the fits of a path are sequential.

    Attributes
    ----------
    cv_results_ : dict of str to ndarray
        As of :class:`sklearn.model_selection.GridSearchCV`, in the order of `values`.
    best_index_ : int
        Index of the chosen value.
    best_params_ : dict
        The chosen value by parameter name.
    choice_ : :class:`~sklearn.utils.Bunch`
        How close the choice was: the :func:`choice_report` of the rule.
    best_estimator_ : estimator
        Fitted on all rows.
    n_splits_ : int
        Number of splits.
    n_features_in_ : int
        Number of features of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features; only if X has string column names.

    See Also
    --------
    OneStandardError, Knee : Other rules for `refit`.
    sklearn.linear_model.LassoCV : The same pattern for a regression.
    sklearn.model_selection.GridSearchCV : Fits every candidate in full, whatever its parameters.

    Notes
    -----
    A continued fit differs from the fit of the same value from a random start; the page on
    performance compares the two. Rows of the test split are left out by a weight of zero, so that a
    memory-mapped X is not copied.

    Examples
    --------
    >>> from sksae import TopKSAE
    >>> from sksae.datasets import make_superposition
    >>> from sksae.model_selection import SparsityPathCV
    >>> X, _, _ = make_superposition(1000, 8, 16, random_state=0)
    >>> sae = TopKSAE(16, max_iter=5, random_state=0)
    >>> search = SparsityPathCV(sae, [1, 2, 3], cv=2).fit(X)
    >>> (-search.cv_results_["mean_test_neg_l0"]).round().tolist()
    [1.0, 2.0, 3.0]
    >>> search.transform(X).shape
    (1000, 16)
    """

    _param_rules = {"continuation": Float(0, 1, open_="low"), "n_jobs": Int(none=True)}

    def __init__(
        self,
        estimator,
        values,
        *,
        param_name=None,
        continuation=0.3,
        cv=None,
        refit=None,
        scoring=None,
        n_jobs=None,
    ):
        self.estimator = estimator
        self.values = values
        self.param_name = param_name
        self.continuation = continuation
        self.cv = cv
        self.refit = refit
        self.scoring = scoring
        self.n_jobs = n_jobs

    @on_a_draft
    def fit(self, X, y=None, *, groups=None, sample_weight=None):
        """Fit the path in every split, choose a value, and fit it on all rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows.
        y : None
            Ignored.
        groups : array-like of shape (n_samples,), default=None
            Group of every row, for a splitter that needs it.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        self : object
            Fitted search.

        Raises
        ------
        TypeError
            If X is sparse.
        ValueError
            If a parameter breaks its rule, there is no value, or the estimator has no parameter
            of the name.
        """
        check_params(self)
        name, values = self._name(), np.asarray(self.values).ravel()
        if len(values) == 0:
            raise ValueError("The 'values' parameter of SparsityPathCV has no value.")
        if values.dtype.kind not in "iuf":
            raise ValueError(
                f"The 'values' parameter of SparsityPathCV must be numbers. Got {self.values!r}."
            )
        if self.refit is not None and not callable(self.refit):
            raise ValueError(
                "The 'refit' parameter of SparsityPathCV must be a rule such as Knee(), or None. "
                f"Got {self.refit!r} instead."
            )
        if sparse.issparse(X):
            raise TypeError("X is a sparse matrix; a dense array is needed: X.toarray().")
        # A data frame stays, so that its column names reach the estimator.
        X = as_input(X)
        X = X if hasattr(X, "shape") else np.asarray(X)
        weight = check_sample_weight(sample_weight, len(X))
        splits = list(check_cv(self.cv).split(X, y, groups))
        scoring = sae_scorer if self.scoring is None else self.scoring
        # From dense to sparse: the most active latents, or the smallest penalty, first.
        order = np.argsort(values if name == "alpha" else -values, kind="stable")
        candidates = [{name: values[i].item()} for i in order]
        run = delayed(_fit_path)
        paths = Parallel(n_jobs=self.n_jobs)(
            run(self.estimator, candidates, self.continuation, X, weight, test, scoring)
            for _, test in splits
        )
        # paths[split][i] is of candidates[i]; argsort inverts the order.
        paths = [[path[i] for i in np.argsort(order)] for path in paths]
        self.cv_results_ = _results([{name: value.item()} for value in values], paths)
        self.n_splits_ = len(splits)
        rule = DiminishingReturns() if self.refit is None else self.refit
        self.choice_ = choice_report(rule, self.cv_results_)
        self.best_index_ = self.choice_.index
        self.best_params_ = self.cv_results_["params"][self.best_index_]
        best = clone(self.estimator).set_params(**self.best_params_)
        self.best_estimator_ = best.fit(X, sample_weight=sample_weight)
        return self

    def _name(self):
        if isinstance(self.estimator, type) or not hasattr(self.estimator, "get_params"):
            raise TypeError(f"estimator must be an autoencoder. Got {self.estimator!r} instead.")
        params = self.estimator.get_params(deep=False)
        name = self.param_name or ("k" if "k" in params else "target_l0")
        if name not in params or "warm_start" not in params:
            raise ValueError(
                f"{type(self.estimator).__name__} has no parameter {name!r} with a warm start: "
                f"SparsityPathCV needs an autoencoder of sksae and one of its parameters."
            )
        return name

    def transform(self, X):
        """Sparse codes of the rows of X by the chosen autoencoder.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        codes : {ndarray, sparse matrix} of shape (n_samples, n_components_)
            Codes.
        """
        check_is_fitted(self)
        return self.best_estimator_.transform(X)

    def inverse_transform(self, X):
        """Reconstruct rows from codes by the chosen autoencoder.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_components_)
            Codes.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features_in_)
            Reconstructed rows.
        """
        check_is_fitted(self)
        return self.best_estimator_.inverse_transform(X)

    def score(self, X, y=None, sample_weight=None):
        """Explained variance of the reconstruction by the chosen autoencoder.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to reconstruct.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        score : float
            At most 1.
        """
        check_is_fitted(self)
        return self.best_estimator_.score(X, y, sample_weight=sample_weight)

    def get_feature_names_out(self, input_features=None):
        """Get the names of the columns of `transform`.

        Parameters
        ----------
        input_features : array-like of str, default=None
            As for the chosen autoencoder.

        Returns
        -------
        names : ndarray of str
            One name per latent.
        """
        check_is_fitted(self)
        return self.best_estimator_.get_feature_names_out(input_features)

    @property
    def n_features_in_(self):
        """Number of features of X."""
        return self.best_estimator_.n_features_in_

    @property
    def feature_names_in_(self):
        """Names of the features; only if X has string column names."""
        return self.best_estimator_.feature_names_in_

    def __sklearn_is_fitted__(self):
        return hasattr(self, "best_estimator_")


def _fit_path(estimator, candidates, continuation, X, weight, test, scoring):
    """Fit the candidates one after another without the rows `test`, score each on them."""
    train_weight = np.ones(len(X)) if weight is None else weight.copy()
    train_weight[test] = 0
    # Rows are left out by a weight of 0, so that all splits share X in memory.
    held_out = X.iloc[test] if hasattr(X, "iloc") else X[test]
    options = {} if weight is None else {"sample_weight": weight[test]}
    sae, path, n_passes = clone(estimator), [], 0
    for candidate in candidates:
        sae.set_params(**candidate)
        if path:
            # Shorter than the first fit, since it goes on from the weights before.
            sae.set_params(warm_start=True, max_iter=math.ceil(continuation * n_passes))
        start = time.perf_counter()
        sae.fit(X, sample_weight=train_weight)
        fit_end = time.perf_counter()
        n_passes = n_passes if path else sae.n_iter_  # of the first fit
        scores = scoring(sae, held_out, **options)
        times = {"fit_time": fit_end - start, "score_time": time.perf_counter() - fit_end}
        path.append((scores, times))
    return path


def _results(params, paths):
    """Return `cv_results_` of ``paths[split][candidate] = (scores, times)``."""
    (name,) = params[0]
    results = {"params": params, f"param_{name}": np.array([p[name] for p in params])}
    for key in ("fit_time", "score_time"):
        # One row per split, one column per candidate.
        table = np.array([[times[key] for _, times in path] for path in paths])
        results[f"mean_{key}"], results[f"std_{key}"] = table.mean(0), table.std(0)
    for key in paths[0][0][0]:
        table = np.array([[scores[key] for scores, _ in path] for path in paths])
        for split, row in enumerate(table):
            results[f"split{split}_test_{key}"] = row
        results[f"mean_test_{key}"], results[f"std_test_{key}"] = table.mean(0), table.std(0)
        # 1 is the best, as in scikit-learn.
        ranks = rankdata(-table.mean(0), method="min").astype(np.int32)
        results[f"rank_test_{key}"] = ranks
    return results
