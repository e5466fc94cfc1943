"""FeatureContrast: selection of the features that tell two sets of documents apart."""

from collections.abc import Mapping

import numpy as np
from scipy import sparse
from scipy.stats import false_discovery_control
from sklearn.base import BaseEstimator
from sklearn.feature_selection import SelectorMixin
from sklearn.utils import ClassifierTags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from sksae._arrays import check_rows
from sksae._drafts import on_a_draft
from sksae._optional import needed
from sksae._params import Float, Int, Option, Seed, check_params
from sksae._signs import visible
from sksae.interpret.contrast._documents import (
    POOLINGS,
    check_class_sizes,
    check_groups,
    pool_rows,
    split_documents,
    two_classes,
)
from sksae.interpret.contrast._measures import (
    CENTRED,
    STATISTICS,
    effect_of,
    family_pvalues,
    measures,
)
from sksae.interpret.contrast._scores import auroc

_COLUMNS = {
    "score": "scores_",
    "effect": "effects_",
    "pvalue": "pvalues_",
    "qvalue": "qvalues_",
    "family_pvalue": "family_pvalues_",
    **{
        name: f"{name}_"
        for name in (
            *("n_documents", "mean_pos", "mean_neg", "mean_difference", "t", "cohen_d"),
            *("firing_rate_pos", "firing_rate_neg", "log_odds", "z"),
            *("auroc", "auroc_low", "auroc_high", "held_out_auroc", "specificity"),
        )
    },
}
"""Attributes of a contrast by the names of their columns in its table."""


class FeatureContrast(SelectorMixin, BaseEstimator):
    """Find the features that tell two sets of documents apart.

    Every feature is tested on its own, and a document is one observation: the tokens of a text
    depend on each other, and a test that takes each for an observation finds differences where
    there are none.
    The expected share of false discoveries among the selected features is at most `alpha`, by
    Benjamini and Hochberg's procedure over the features that fire in enough documents of any label.

    Parameters
    ----------
    statistic : {"log_odds", "welch_t", "auroc", "mean_difference", "specificity"}, \
            default="log_odds"
        Statistic that features are tested and ordered by: the odds of firing, with Fisher's exact
        test; the mean, with Welch's test; or the ranks, with the Mann-Whitney test.
        "mean_difference" and "specificity", the smoothed ratio of the means, are tested as the
        mean is. A ratio is largest for features that fire in a handful of documents: it describes
        features rather than selects them.
    alpha : float, default=0.05
        The largest expected share of false discoveries; with `n_permutations`, the largest
        probability of any.
    min_documents : int, default=5
        Smallest number of documents in which a feature fires, that is, is greater than 0, for it
        to be tested at all.
    min_effect : float, default=0
        Smallest absolute effect of a selected feature: the log odds ratio, Cohen's d for
        "welch_t", the AUROC minus one half, the difference of the means, or the log of the
        specificity.
    pos_label : object, default=None
        The positive class. None takes the larger label.
    pooling : {"max", "mean", "fired"}, default="max"
        Pooling of the rows of a document, where `fit` gets `groups`: the largest value, the mean,
        or 1 if one of them is greater than 0.
    n_permutations : int, default=0
        Number of random permutations of the labels of the documents, by which each feature is
        compared with the largest statistic of all: exact for correlated features too.
    held_out : float, default=0
        Share of the documents, the same of both classes, that are held out of testing and
        selection, for an AUROC without selection bias.
    random_state : int, RandomState instance or None, default=None
        Source of the permutations and of the documents held out.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        The two labels.
    pos_label_ : object
        The positive one.
    n_pos_, n_neg_ : int
        Documents of each class that were tested on.
    n_documents_ : ndarray of shape (n_features_in_,)
        Number of them in which each feature fires.
    mean_pos_, mean_neg_, mean_difference_ : ndarray of shape (n_features_in_,)
        Means over the documents of each class, and the first minus the second.
    t_, cohen_d_ : ndarray of shape (n_features_in_,)
        Welch's t, and the difference of the means over the root of the mean variance.
    firing_rate_pos_, firing_rate_neg_ : ndarray of shape (n_features_in_,)
        Share of the documents of each class in which the feature fires.
    log_odds_ : ndarray of shape (n_features_in_,)
        Log odds ratio of firing, half a document added to each count.
    z_ : ndarray of shape (n_features_in_,)
        Standardised number of firings in the positive class.
    auroc_ : ndarray of shape (n_features_in_,)
        Probability that a document of the positive class has the larger value; ties count half.
    auroc_low_, auroc_high_ : ndarray of shape (n_features_in_,)
        Ends of its interval of 95 % confidence, for this feature alone; of no width at 0 and 1.
    specificity_ : ndarray of shape (n_features_in_,)
        Ratio of the means of the positive values, both smoothed by about one firing document.
    scores_ : ndarray of shape (n_features_in_,)
        Values of `statistic`: `z_`, `t_`, `auroc_`, `mean_difference_` or `specificity_`.
    effects_ : ndarray of shape (n_features_in_,)
        Effects, to be compared with `min_effect`; positive where the positive class has more.
    pvalues_ : ndarray of shape (n_features_in_,)
        Two-sided p-values of the test.
    qvalues_ : ndarray of shape (n_features_in_,)
        The smallest `alpha` at which a feature is selected by its false discoveries; 1 where it
        fires in too few documents.
    family_pvalues_ : ndarray of shape (n_features_in_,)
        p-values corrected for the number of features by permutation; only with `n_permutations`.
    held_out_auroc_ : ndarray of shape (n_features_in_,)
        AUROC on the documents held out; only with `held_out`.
    n_features_in_ : int
        Number of features of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features; only if X has string column names.

    See Also
    --------
    auroc : One of the tests, for :class:`~sklearn.feature_selection.SelectKBest`.
    log_odds_z, welch_t : The others.
    sklearn.feature_selection.SelectFdr : The same selection by a score function.

    Notes
    -----
    A feature that differs between the sets need not be about the property by which they were
    chosen. Sets that differ in length differ in every feature under "max" pooling; topic, language,
    template and chat tokens make features differ as well. Before you name a feature, compare sets
    that are matched in these, look at the places where it fires, count how often it fires on other
    texts, and steer it.

    The tests are two-sided. Those of means and ranks are approximations that take account of the
    skewness between classes of different sizes; Fisher's test and permutations are exact.

    A constant feature has no effect, a statistic of 0, an AUROC of 0.5 and a p-value of 1. `t_` is
    infinite where both classes have one value each, and these differ.

    References
    ----------
    .. [1] Benjamini, Y., Hochberg, Y. "Controlling the false discovery rate: a practical and
       powerful approach to multiple testing." Journal of the Royal Statistical Society B 57, 1995.
    .. [2] Westfall, P. H., Young, S. S. "Resampling-based multiple testing." Wiley, 1993.
    .. [3] DeLong, E. R., DeLong, D. M., Clarke-Pearson, D. L. "Comparing the areas under two or
       more correlated receiver operating characteristic curves: a nonparametric approach."
       Biometrics 44, 1988.

    Examples
    --------
    >>> import numpy as np
    >>> from sksae.interpret import FeatureContrast
    >>> rng = np.random.default_rng(0)
    >>> label = np.repeat(["benign", "harmful"], 100)
    >>> codes = rng.exponential(size=(200, 50)) * (rng.random((200, 50)) < 0.1)
    >>> codes[100:140, 7] += 1
    >>> contrast = FeatureContrast().fit(codes, label)
    >>> contrast.get_support(indices=True)
    array([7])
    >>> contrast.table().loc[7, ["firing_rate_pos", "firing_rate_neg", "auroc"]].round(2).tolist()
    [0.47, 0.08, 0.7]
    """

    _param_rules = {
        "statistic": Option(*STATISTICS),
        "alpha": Float(0, 1, open_="low"),
        "min_documents": Int(1),
        "min_effect": Float(0),
        "pooling": Option(*POOLINGS),
        "n_permutations": Int(0),
        "held_out": Float(0, 1, open_="high"),
        "random_state": Seed(),
    }

    def __init__(
        self,
        statistic="log_odds",
        *,
        alpha=0.05,
        min_documents=5,
        min_effect=0,
        pos_label=None,
        pooling="max",
        n_permutations=0,
        held_out=0,
        random_state=None,
    ):
        self.statistic = statistic
        self.alpha = alpha
        self.min_documents = min_documents
        self.min_effect = min_effect
        self.pos_label = pos_label
        self.pooling = pooling
        self.n_permutations = n_permutations
        self.held_out = held_out
        self.random_state = random_state

    @on_a_draft
    def fit(self, X, y, groups=None):
        """Test every feature for a difference between the two classes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Codes or other features, one row per document, or one row per token with `groups`.
        y : array-like of shape (n_samples,)
            The class of each row; two of them.
        groups : array-like of shape (n_samples,), default=None
            The document of each row. All rows of a document have one label.

        Returns
        -------
        self : FeatureContrast
            Fitted selector.

        Raises
        ------
        ValueError
            If a parameter breaks its rule, X is not finite, `y` has not two classes of two
            documents each, or a document has both labels.
        """
        check_params(self)
        check_rows(X, "X")
        X, y = validate_data(
            self, X, y, accept_sparse=("csr", "csc"), dtype=[np.float64, np.float32]
        )
        self.classes_, self.pos_label_, positive = two_classes(y, self.pos_label)
        if groups is not None:
            number, positive = check_groups(groups, positive)
            X = pool_rows(X, number, len(positive), self.pooling)
        check_class_sizes(positive)
        random = check_random_state(self.random_state)
        for optional in ("family_pvalues_", "held_out_auroc_"):
            vars(self).pop(optional, None)  # of an earlier fit
        if self.held_out:
            X, positive = self._hold_out(X, positive, random)
        self._measure(X, positive)
        tested = np.flatnonzero(self._tested())
        self.qvalues_ = np.ones(X.shape[1])
        if len(tested):
            self.qvalues_[tested] = false_discovery_control(self.pvalues_[tested])
        if self.n_permutations:
            self.family_pvalues_ = np.ones(X.shape[1])
        if self.n_permutations and len(tested):
            self.family_pvalues_[tested] = family_pvalues(
                X[:, tested], positive, STATISTICS[self.statistic][1], self.n_permutations, random
            )
        return self

    def table(self, feature_names=None):
        """Return all measures as a data frame with one line per feature.

        Parameters
        ----------
        feature_names : array-like of str, of shape (n_features_in_,), or dict, default=None
            Names of all features or, by number, of some, such as the descriptions of `explain`.
            None takes the names of the columns of X, if it had any.

        Returns
        -------
        table : DataFrame
            The measures, under the names of the attributes, indexed by the number of the feature:
            selected features first, those that fire in too few documents last, each group by the
            absolute score. The columns "effect" and "qvalue" are those of a volcano plot.

        Raises
        ------
        ImportError
            If pandas is not installed.
        ValueError
            If there is not one name per feature.
        """
        check_is_fitted(self)
        if feature_names is None:
            feature_names = getattr(self, "feature_names_in_", None)
        strength = np.abs(self.effects_ if self.statistic in CENTRED else self.scores_)
        selected = self._get_support_mask()
        order = np.lexsort((-strength, ~self._tested(), ~selected))
        pd = needed("pandas", "FeatureContrast.table")
        columns = {} if feature_names is None else {"name": self._shown_names(feature_names)}
        columns["selected"] = selected
        for column, attribute in _COLUMNS.items():
            if hasattr(self, attribute):
                columns[column] = getattr(self, attribute)
        return pd.DataFrame(columns).iloc[order]

    def _shown_names(self, names):
        """Return one name per feature, empty where a mapping has none."""
        n_features = self.n_features_in_
        if isinstance(names, Mapping):
            return [visible(str(names.get(feature, ""))) for feature in range(n_features)]
        if len(names) != n_features:
            raise ValueError(f"feature_names has {len(names)} names; {n_features} are needed.")
        return [visible(str(name)) for name in names]

    def _measure(self, X, positive):
        measure, test, _ = STATISTICS[self.statistic]
        columns = measures(X, positive, test)
        for name, values in columns.items():
            setattr(self, f"{name}_", values)
        self.n_pos_, self.n_neg_ = int(positive.sum()), int((~positive).sum())
        self.scores_ = columns[measure]
        self.effects_ = effect_of(self.statistic, columns)

    def _tested(self):
        return self.n_documents_ >= self.min_documents

    def _hold_out(self, X, positive, random):
        """Measure the AUROC of the documents held out, and return the others."""
        tested, held = split_documents(positive, self.held_out, random)
        X = sparse.csr_array(X) if sparse.issparse(X) else X
        self.held_out_auroc_ = auroc(X[held], positive[held], signed=True)[0]
        return X[tested], positive[tested]

    def _get_support_mask(self):
        check_is_fitted(self)
        values = self.family_pvalues_ if hasattr(self, "family_pvalues_") else self.qvalues_
        large = np.abs(self.effects_) >= self.min_effect
        return self._tested() & large & (values <= self.alpha)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.sparse = True
        tags.classifier_tags = ClassifierTags(multi_class=False)
        return tags
