"""FeatureContrast: selection of the features that go along with a target of documents."""

from collections.abc import Mapping

import numpy as np
from scipy import sparse
from scipy.stats import false_discovery_control
from sklearn.base import BaseEstimator, clone
from sklearn.feature_selection import SelectorMixin
from sklearn.utils import ClassifierTags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from sksae._arrays import check_rows
from sksae._coding import as_csr
from sksae._drafts import on_a_draft
from sksae._optional import needed
from sksae._params import Float, Int, Option, Seed, check_params
from sksae._reprs import DocLinked
from sksae._signs import visible
from sksae.interpret.contrast._associations import (
    FORMS,
    OF_NUMBERS,
    OF_TWO,
    associations,
    effect_interval,
    flipped_pvalues,
    in_form,
    pair_associations,
    permuted_pvalues,
)
from sksae.interpret.contrast._documents import POOLINGS, baseline_codes, compared_documents
from sksae.interpret.contrast._feature_sets import greedy_set, lasso_set
from sksae.interpret.contrast._measures import (
    CENTRED,
    STATISTICS,
    auroc,
    column_blocks,
    effect_of,
    family_pvalues,
    measures,
)
from sksae.interpret.contrast._targets import NUMBERS, TARGET_TYPES, check_class_sizes, read_target

_COLUMNS = {
    "score": "scores_",
    "effect": "effects_",
    "effect_low": "effects_low_",
    "effect_high": "effects_high_",
    "pvalue": "pvalues_",
    "qvalue": "qvalues_",
    "family_pvalue": "family_pvalues_",
    "held_out_effect": "held_out_effects_",
    "held_out_pvalue": "held_out_pvalues_",
    **{
        name: f"{name}_"
        for name in (
            *("strongest_class", "n_documents", "target_firing", "target_silent", "mean_pos"),
            *("mean_neg", "mean_difference", "t", "cohen_d", "firing_rate_pos", "firing_rate_neg"),
            *("log_odds", "z", "auroc", "auroc_low", "auroc_high", "held_out_auroc", "specificity"),
        )
    },
}
"""Attributes of a contrast by the names of their columns in its table."""

_PER_CLASS = ("effects", "pvalues", "qvalues")
_OPTIONAL = {
    *_COLUMNS.values(),
    *(f"class_{name}_" for name in _PER_CLASS),
    *("classes_", "pos_label_", "n_pos_", "n_neg_", "baseline_", "chosen_", "gains_"),
}
"""Attributes that not every fit has."""


class FeatureContrast(DocLinked, SelectorMixin, BaseEstimator):
    """Find the features that go along with a target: two sets, classes, or a number.

    Every feature is tested on its own, and a document is one observation: the tokens of a text
    depend on each other, and a test that takes each for an observation finds associations where
    there are none.
    The expected share of false discoveries among the selected features is at most `alpha`, by
    Benjamini and Hochberg's procedure over the features that fire in enough documents of any label.

    Parameters
    ----------
    statistic : {"log_odds", "welch_t", "auroc", "mean_difference", "specificity", "spearman", \
            "linear", "wilcoxon", "auto"}, default="auto"
        Statistic that features are tested and ordered by. For classes, the odds of firing
        ("log_odds"), with Fisher's exact test; the mean ("welch_t"), with Welch's test; or the
        ranks ("auroc"), with the Mann-Whitney test. "mean_difference" and "specificity", the
        smoothed ratio of the means, are for two classes and tested as the mean is. A ratio is
        largest for features that fire in a handful of documents: it describes features rather than
        selects them. For numbers, the correlation of the ranks ("spearman"), or of the values
        ("linear"). For matched pairs, the ranks of their differences ("wilcoxon"). "auto" is
        "spearman" for numbers, "wilcoxon" for matched pairs, and "log_odds" otherwise.
    target_type : {"auto", "binary", "multiclass", "continuous", "ordinal", "counts"}, \
            default="auto"
        What the target is. "auto" is what scikit-learn's
        :func:`~sklearn.utils.multiclass.type_of_target` says: two values are "binary", more labels
        or whole numbers "multiclass", other numbers "continuous". An ordered categorical of pandas
        is "ordinal". Ratings and counts, being whole numbers, have to be called "ordinal" or
        "counts"; more than 20 whole numbers are refused rather than taken for classes.
    alpha : float, default=0.05
        The largest expected share of false discoveries; with `n_permutations`, the largest
        probability of any.
    min_documents : int, default=5
        Smallest number of documents in which a feature fires, that is, is greater than 0, for it
        to be tested at all.
    min_effect : float, default=0
        Smallest absolute effect of a selected feature: the log odds ratio, Cohen's d for
        "welch_t", the AUROC minus one half, the difference of the means, the log of the
        specificity, or a correlation.
    pos_label : object, default=None
        The positive class. None takes the larger label.
    pooling : {"max", "mean", "fired", None}, default="max"
        Pooling of the rows of a document, where `fit` gets `groups`: the largest value, the mean,
        or 1 if one of them is greater than 0. None takes each row for a document, and the groups
        for documents that depend on each other.
    n_permutations : int, default=0
        Number of random permutations of the labels of the documents, by which each feature is
        compared with the largest statistic of all: exact for correlated features too.
    held_out : float, default=0
        Share of the documents, the same of all classes, or of the groups, that are held out of
        testing and selection, for effects without selection bias.
    n_features_to_select : int, default=None
        The largest number of features of a set that does not repeat itself, chosen among the
        significant ones, see `selection`. None selects all that are significant.
    selection : {"greedy", "lasso"}, default="greedy"
        How they are chosen. "greedy" takes each for what it adds on held-out documents to a linear
        model of the target by those before it. "lasso" takes those of the first linear model, as
        its L1 penalty falls, that has so many, the largest standardised coefficients first, up to
        where they explain most of held-out documents [6]_.
    random_state : int, RandomState instance or None, default=None
        Source of the permutations, of the documents held out and of the folds of the choice.

    Attributes
    ----------
    target_type_, statistic_ : str
        What "auto" became.
    classes_ : ndarray of shape (n_classes,)
        The labels; only of classes.
    pos_label_ : object
        The positive one; this and the following only of two classes.
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
    target_firing_, target_silent_ : ndarray of shape (n_features_in_,)
        Mean of the target where the feature fires and where it does not, NaN where there is no
        such document; only of numbers.
    strongest_class_ : ndarray of shape (n_features_in_,)
        The class with the smallest p-value; this and the following only of several classes.
    class_effects_, class_pvalues_, class_qvalues_ : ndarray of shape (n_features_in_, n_classes)
        Tests of each class against the rest, and the false discoveries of each class by itself.
    scores_ : ndarray of shape (n_features_in_,)
        Of two classes, the values of `statistic`: `z_`, `t_`, `auroc_`, `mean_difference_` or
        `specificity_`. Otherwise the normal deviate of the p-value, with the sign of the effect.
    effects_ : ndarray of shape (n_features_in_,)
        Effects, to be compared with `min_effect`; positive where the target is larger, or the
        positive class, or the strongest one, has more. With groups or covariates, the correlation
        of the codes with the target within the groups and beside the covariates.
    effects_low_, effects_high_ : ndarray of shape (n_features_in_,)
        Ends of their intervals of 95 % confidence, each for this feature alone; NaN for
        "specificity".
    pvalues_ : ndarray of shape (n_features_in_,)
        Two-sided p-values of the test. Of several classes, the omnibus test: the smallest p-value
        of a class against the rest, times the number of classes.
    qvalues_ : ndarray of shape (n_features_in_,)
        The smallest `alpha` at which a feature is selected by its false discoveries; 1 where it
        fires in too few documents.
    family_pvalues_ : ndarray of shape (n_features_in_,)
        p-values corrected for the number of features by permutation; only with `n_permutations`.
    held_out_auroc_ : ndarray of shape (n_features_in_,)
        AUROC on the documents held out; only with `held_out` and two classes without groups.
    held_out_effects_, held_out_pvalues_ : ndarray of shape (n_features_in_,)
        Effects and p-values on the documents held out; only with `held_out` and other targets.
    chosen_, gains_ : ndarray of shape (n_chosen,)
        The chosen features in the order of their choice, and the share of the variance of the
        target, on held-out documents, that each adds; only with `n_features_to_select`.
    baseline_ : FeatureContrast
        The same for the codes of the baseline; only with `baseline`.
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

    The tests are two-sided. Those of means, ranks and correlations are approximations that take
    account of the skewness of codes and target; Fisher's test and permutations are exact. A
    "linear" effect has the p-value of the ranks where that is larger, since a few extreme numbers
    make linear correlations with anything.

    Documents of groups are compared within their group: the test is the one of all permutations of
    the target within the groups, which says nothing about documents whose group has one value of
    the target. If this is true of every group, the groups are the observations, each with its mean
    codes. Pairs with one document of either class have Wilcoxon's test. Covariates are taken out of
    the target and the codes by least squares on cubic splines of their ranks, and on indicators
    of their labels; the variance of the test is the larger one of those with and without the
    assumption that the target varies as much everywhere.

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
    .. [4] Mantel, N. "Chi-square tests with one degree of freedom; extensions of the
       Mantel-Haenszel procedure." Journal of the American Statistical Association 58, 1963.
    .. [5] Wilcoxon, F. "Individual comparisons by ranking methods." Biometrics Bulletin 1, 1945.
    .. [6] Tibshirani, R. "Regression shrinkage and selection via the lasso." Journal of the Royal
       Statistical Society B 58, 1996.

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
    >>> contrast.table().loc[[7], ["firing_rate_pos", "firing_rate_neg", "auroc"]].round(2)
       firing_rate_pos  firing_rate_neg  auroc
    7             0.47             0.08    0.7

    A rating with the length of the text as a covariate:

    >>> length = rng.integers(20, 200, size=200)
    >>> rating = length / 100 + codes[:, 7] + rng.normal(size=200)
    >>> contrast = FeatureContrast().fit(codes, rating, covariates=length)
    >>> contrast.statistic_, contrast.get_support(indices=True)
    ('spearman', array([7]))
    """

    _param_rules = {
        "statistic": Option(*STATISTICS, *OF_NUMBERS, "wilcoxon", "auto"),
        "target_type": Option(*TARGET_TYPES),
        "alpha": Float(0, 1, open_="low"),
        "min_documents": Int(1),
        "min_effect": Float(0),
        "pooling": Option(*POOLINGS),
        "n_permutations": Int(0),
        "held_out": Float(0, 1, open_="high"),
        "n_features_to_select": Int(1, none=True),
        "selection": Option("greedy", "lasso"),
        "random_state": Seed(),
    }

    def __init__(
        self,
        statistic="auto",
        *,
        target_type="auto",
        alpha=0.05,
        min_documents=5,
        min_effect=0,
        pos_label=None,
        pooling="max",
        n_permutations=0,
        held_out=0,
        n_features_to_select=None,
        selection="greedy",
        random_state=None,
    ):
        self.statistic = statistic
        self.target_type = target_type
        self.alpha = alpha
        self.min_documents = min_documents
        self.min_effect = min_effect
        self.pos_label = pos_label
        self.pooling = pooling
        self.n_permutations = n_permutations
        self.held_out = held_out
        self.n_features_to_select = n_features_to_select
        self.selection = selection
        self.random_state = random_state

    @on_a_draft
    def fit(self, X, y, groups=None, *, covariates=None, baseline=None):
        """Test every feature for an association with the target.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Codes or other features, one row per document, or one row per token with `groups`.
        y : array-like of shape (n_samples,)
            The target of each row: labels, or numbers.
        groups : array-like of shape (n_samples,), default=None
            The document of each row, all of whose rows have one target; with ``pooling=None``, the
            documents that depend on each other: those of one author, or matched pairs.
        covariates : {array-like, DataFrame} of shape (n_samples,) or (n_samples, n_covariates), \
                default=None
            What else the target may depend on, such as the length of the text; numbers or labels.
        baseline : array-like, sparse matrix or pair, default=None
            Other codes of the same rows, with any number of columns, to which `baseline_` is
            fitted; or a fitted transformer and the rows that it takes.

        Returns
        -------
        self : FeatureContrast
            Fitted selector.

        Raises
        ------
        ValueError
            If a parameter breaks its rule, X is not finite, `y` is not of the type, has too few
            documents, or rows of one document have different targets.
        """
        check_params(self)
        check_rows(X, "X")
        raw_y = y
        X, y = validate_data(
            self, X, y, accept_sparse=("csr", "csc"), dtype=[np.float64, np.float32]
        )
        for name in _OPTIONAL:
            vars(self).pop(name, None)  # of an earlier fit
        is_ordered = getattr(getattr(raw_y, "dtype", None), "ordered", False)
        target = read_target(raw_y if is_ordered else y, self.target_type, self.pos_label)
        self.target_type_ = target.type
        data = compared_documents(X, target, groups, covariates, self.pooling)
        self._check_statistic(data)
        random = check_random_state(self.random_state)
        if self.held_out:
            data = self._hold_out(data, random)
        for name, values in self._columns(data).items():
            setattr(self, f"{name}_", values)
        self._describe_classes(data.target)
        self._correct(data, random)
        if self.n_features_to_select is not None:
            self._choose(data, random)
        if baseline is not None:
            codes = baseline_codes(baseline, len(target.values))
            self.baseline_ = clone(self).fit(codes, raw_y, groups, covariates=covariates)
        return self

    def _check_statistic(self, data):
        """Resolve the statistic; a ValueError where it does not fit the target."""
        statistic, kind = self.statistic, data.target.type
        # Pairs with covariates are groups of two.
        is_matched = data.are_pairs and not data.covariates
        if statistic == "auto":
            statistic = "spearman" if kind in NUMBERS else "log_odds"
            statistic = "wilcoxon" if is_matched else statistic
        if kind in NUMBERS:
            options = OF_NUMBERS[:1] if kind == "ordinal" else OF_NUMBERS
            remedy = "a target of numbers"
        else:
            options = tuple(STATISTICS)
            if kind == "multiclass" or not data.is_plain:
                options = tuple(name for name in STATISTICS if name not in OF_TWO)
            options = (*options, *["wilcoxon"] * is_matched)
            remedy = "several classes" if kind == "multiclass" else "two classes"
            remedy += " with groups or covariates" * (not data.is_plain)
        if statistic not in options:
            raise ValueError(
                f"statistic={statistic!r} is not for {remedy} (target_type {kind!r}); take one of "
                f"{', '.join(map(repr, options))}."
            )
        self.statistic_ = statistic

    def _columns(self, data):
        """Return all measures of some documents by name."""
        statistic, target, columns = self.statistic_, data.target, {}
        if target.type == "binary":
            check_class_sizes(target.values)
            # Tests by signed ranks and scores have no entry; ranks come nearest.
            _, test, _ = STATISTICS.get(statistic, STATISTICS["auroc"])
            columns = measures(data.X, target.values, test)
        if statistic == "wilcoxon":
            return {**columns, **pair_associations(_differences(data.X))}
        # Two classes without groups and covariates: the statistic itself is score and effect.
        if target.type == "binary" and data.is_plain:
            columns["scores"] = columns[STATISTICS[statistic][0]]
            columns["effects"] = effect_of(statistic, columns)
            ends = effect_interval(statistic, columns, target.values)
            return {**columns, "effects_low": ends[0], "effects_high": ends[1]}
        # Several classes without groups and covariates are each tested against the rest.
        unadjusted = target.type == "multiclass" and data.is_plain
        design = None if unadjusted else data.design(statistic)
        return {**columns, **associations(data.X, target, statistic, design)}

    def _describe_classes(self, target):
        if target.classes is not None:
            self.classes_ = target.classes
        if target.type == "binary":
            self.pos_label_ = target.pos_label
            self.n_pos_, self.n_neg_ = int(target.values.sum()), int((~target.values).sum())

    def _correct(self, data, random):
        """Correct the p-values for the number of features that are tested."""
        # Only these are tests, for which the p-values are corrected.
        tested = np.flatnonzero(self._tested())
        self.qvalues_ = _false_discoveries(self.pvalues_, tested)
        if hasattr(self, "class_pvalues_"):
            columns = [_false_discoveries(pvalues, tested) for pvalues in self.class_pvalues_.T]
            self.class_qvalues_ = np.stack(columns, axis=1)
        if self.n_permutations:
            self.family_pvalues_ = np.ones(len(self.qvalues_))
        if self.n_permutations and len(tested):
            X, target, statistic = data.X[:, tested], data.target, self.statistic_
            if statistic == "wilcoxon":
                # Signs of whole pairs are flipped.
                values = flipped_pvalues(_differences(X), self.n_permutations, random)
            elif target.type == "binary" and data.is_plain:
                test = STATISTICS[statistic][1]
                values = family_pvalues(X, target.values, test, self.n_permutations, random)
            else:
                options = (FORMS[statistic], data.design(statistic), self.n_permutations, random)
                values = permuted_pvalues(X, *options)
            self.family_pvalues_[tested] = values

    def _choose(self, data, random):
        """Choose a few of the significant features, each for what it adds to the others."""
        candidates = np.flatnonzero(self._is_significant())
        self.chosen_, self.gains_ = candidates[:0], np.zeros(0)
        if len(candidates):
            statistic = "auroc" if self.statistic_ == "wilcoxon" else self.statistic_
            X = data.X[:, candidates]  # (n_documents, n_candidates)
            # Codes as the statistic reads them, so that what is added is measured in the same way.
            blocks = [in_form(block, FORMS[statistic]) for block in column_blocks(X)]
            codes = sparse.csr_array(sparse.hstack(blocks))
            design = data.design(statistic)
            choose = greedy_set if self.selection == "greedy" else lasso_set
            chosen, gains = choose(codes, design, self.n_features_to_select, random)
            self.chosen_, self.gains_ = candidates[chosen], np.array(gains)

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
            absolute score. The columns "effect" and "qvalue" are those of a volcano plot. Of
            several classes it has "effect", "pvalue" and "qvalue" of each, as in "effect: spam".

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
        # What is 1 or 0.5 without a difference is sorted by its effect, which is 0 there.
        strength = np.abs(self.effects_ if self.statistic_ in CENTRED else self.scores_)
        strength = np.abs(self.scores_) if not hasattr(self, "auroc_") else strength
        selected = self._get_support_mask()
        # Selected ones first, then tested ones, the strongest first.
        order = np.lexsort((-strength, ~self._tested(), ~selected))
        pd = needed("pandas", "FeatureContrast.table")
        columns = {} if feature_names is None else {"name": self._shown_names(feature_names)}
        columns["selected"] = selected
        for column, attribute in _COLUMNS.items():
            if hasattr(self, attribute):
                columns[column] = getattr(self, attribute)
        if hasattr(self, "class_effects_"):
            for name in _PER_CLASS:
                of_classes = getattr(self, f"class_{name}_").T  # (n_classes, n_features)
                for label, values in zip(self.classes_, of_classes, strict=True):
                    columns[f"{name[:-1]}: {visible(str(label))}"] = values
        return pd.DataFrame(columns).iloc[order]

    def compare(self):
        """Return a data frame that sets the features beside those of the baseline.

        Returns
        -------
        comparison : DataFrame
            One line for the features and one for the `baseline`: "n_features", "n_tested", those
            that fire in enough documents, "n_selected", their share "selected", the median of their
            absolute effects and the largest one; and "gain", the share of the target that the
            chosen features explain on held-out documents, with `n_features_to_select`.

        Raises
        ------
        AttributeError
            If `fit` got no baseline.
        ImportError
            If pandas is not installed.
        """
        check_is_fitted(self)
        if not hasattr(self, "baseline_"):
            raise AttributeError("There is no baseline; pass other codes to fit, baseline=codes.")
        pd = needed("pandas", "FeatureContrast.compare")
        lines = [self._summary(), self.baseline_._summary()]
        return pd.DataFrame(lines, index=["features", "baseline"])

    def _summary(self):
        tested, selected = self._tested(), self._get_support_mask()
        sizes = np.abs(self.effects_[selected])
        summary = {
            "n_features": len(tested),
            "n_tested": int(tested.sum()),
            "n_selected": int(selected.sum()),
            "selected": float(selected.sum() / max(tested.sum(), 1)),
            "median_effect": float(np.median(sizes)) if len(sizes) else np.nan,
            "largest_effect": float(np.abs(self.effects_[tested]).max(initial=0)),
        }
        return summary | ({"gain": float(self.gains_.sum())} if hasattr(self, "gains_") else {})

    def _shown_names(self, names):
        """Return one name per feature, empty where a mapping has none."""
        n_features = self.n_features_in_
        if isinstance(names, Mapping):
            return [visible(str(names.get(feature, ""))) for feature in range(n_features)]
        if len(names) != n_features:
            raise ValueError(f"feature_names has {len(names)} names; {n_features} are needed.")
        return [visible(str(name)) for name in names]

    def _tested(self):
        return self.n_documents_ >= self.min_documents

    def _hold_out(self, data, random):
        """Measure the documents held out, and return the others."""
        # Documents held out only measure what the others select.
        tested, held = data.split(self.held_out, random)
        if data.target.type == "binary" and data.is_plain:
            self.held_out_auroc_ = auroc(held.X, held.target.values, signed=True)[0]
        else:
            columns = self._columns(held)
            self.held_out_effects_ = columns["effects"]
            self.held_out_pvalues_ = columns["pvalues"]
        return tested

    def _is_significant(self):
        values = self.family_pvalues_ if hasattr(self, "family_pvalues_") else self.qvalues_
        large = np.abs(self.effects_) >= self.min_effect
        return self._tested() & large & (values <= self.alpha)

    def _get_support_mask(self):
        check_is_fitted(self)
        significant = self._is_significant()
        if not hasattr(self, "chosen_"):
            return significant
        return significant & np.isin(np.arange(len(significant)), self.chosen_)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.sparse = True
        if self.statistic in OF_TWO:
            tags.classifier_tags = ClassifierTags(multi_class=False)
        return tags


def _false_discoveries(pvalues, tested):
    """Return Benjamini and Hochberg's q-values of the tested features, and 1 for the others."""
    qvalues = np.ones(len(pvalues))
    if len(tested):
        qvalues[tested] = false_discovery_control(pvalues[tested])
    return qvalues


def _differences(X):
    """Return the codes of the second document of each pair, less those of the first."""
    X = as_csr(sparse.csr_array(X))
    return sparse.csr_array(X[1::2] - X[::2])
