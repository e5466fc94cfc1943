"""Validation of statements: words and a target, on texts that neither was chosen by."""

import math

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from sksae._coding import as_csr
from sksae._optional import needed
from sksae._params import Float, Int, Seed, check_option
from sksae._signs import visible
from sksae.interpret.contrast import FeatureContrast
from sksae.interpret.explanation._explanation import as_explanations
from sksae.interpret.statements._annotation import annotate, checked_texts


def split_texts(texts, *, groups=None, test_size=0.5, random_state=None):
    """Split texts into some for finding statements and others for testing them.

    Groups stay together, such as the texts of one author, and so do equal texts.

    Parameters
    ----------
    texts : sequence of str
        The texts.
    groups : array-like of shape (n_texts,), default=None
        The group of each text; None is one group per text.
    test_size : float, default=0.5
        Share of the texts that are for testing, about.
    random_state : int, RandomState instance or None, default=None
        Source of the split.

    Returns
    -------
    finding, testing : ndarray of int
        Positions of the texts of either side, ascending.

    Raises
    ------
    ValueError
        If one side would be empty, or lengths differ.

    See Also
    --------
    validate : Tests statements on the second side.

    Examples
    --------
    >>> from sksae.interpret import split_texts
    >>> texts = ["a", "b", "a", "c"]
    >>> finding, testing = split_texts(texts, random_state=1)
    >>> sorted([*finding.tolist(), *testing.tolist()])
    [0, 1, 2, 3]
    >>> ({0, 2} <= set(finding.tolist())) or ({0, 2} <= set(testing.tolist()))
    True
    """
    check_option("test_size", test_size, Float(0, 1, open_="both low high"))
    check_option("random_state", random_state, Seed())
    n_texts = len(texts)
    numbers = {}
    # Equal texts have one number.
    text_number = np.array([numbers.setdefault(str(t), len(numbers)) for t in texts], dtype=int)
    unit = text_number
    if groups is not None:
        groups = column_or_1d(groups)
        check_consistent_length(texts, groups)
        # Nodes of the graph after those of the texts.
        group_number = np.unique(groups, return_inverse=True)[1] + len(numbers)
        size = int(max(group_number, default=0)) + 1
        # Texts and groups are the nodes of a graph: what is connected stays on one side.
        links = sparse.coo_array((np.ones(n_texts), (text_number, group_number)), (size, size))
        unit = connected_components(links, directed=False)[1][text_number]  # component of each text
    units, unit = np.unique(unit, return_inverse=True)
    order = check_random_state(random_state).permutation(len(units))
    sizes = np.bincount(unit, minlength=len(units))[order]
    # Units up to which the test side is nearest to its share.
    n_test = np.cumsum(sizes)
    stop = int(np.argmin(np.abs(n_test - test_size * n_texts))) + 1 if n_texts else 0
    is_test = np.isin(unit, order[:stop])
    if not n_texts or is_test.all() or not is_test.any():
        raise ValueError(
            f"{n_texts} texts in {len(units)} groups of equal texts and groups cannot be split "
            f"with test_size={test_size}."
        )
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


def validate(
    texts,
    y,
    explanations,
    client=None,
    *,
    codes=None,
    contrast=None,
    groups=None,
    covariates=None,
    target_type="auto",
    alpha=0.05,
    min_documents=5,
    annotations=None,
    written_from=None,
    n_examples=5,
    random_state=0,
    **options,
):
    """Test on held-out texts whether explanations go along with a target.

    A feature may go along with a target though its explanation does not: the words are then wrong
    about the feature. So the texts are annotated by the words, see :func:`annotate`, and the
    *annotations* are tested, as :class:`FeatureContrast` tests codes. The statements are a list
    that is read as a whole, so that the p-values are corrected by Holm's procedure [1]_: the
    probability that any false statement survives is at most `alpha`.

    Parameters
    ----------
    texts : sequence of str
        Texts held out from the search for features and from the writing of words, such as the
        second side of :func:`split_texts`.
    y : array-like of shape (n_texts,)
        The target of each text.
    explanations : dict of int to (Explanation or str)
        By feature; those of the features that were selected.
    client : object, default=None
        As for :func:`annotate`.
    codes : {array-like, sparse matrix} of shape (n_texts, n_features), default=None
        Codes of the texts, for the fidelity of the words: the F1 scores of the annotations as a
        prediction of where the feature fires.
    contrast : FeatureContrast, default=None
        The contrast, fitted on other texts, that selected the features. A statement survives only
        with the same sign of its effect.
    groups : array-like of shape (n_texts,), default=None
        Texts that depend on each other: those of one author, or matched pairs.
    covariates : array-like or DataFrame, default=None
        As for :meth:`FeatureContrast.fit`.
    target_type : str, default="auto"
        As for :class:`FeatureContrast`.
    alpha : float, default=0.05
        The largest probability that any false statement survives.
    min_documents : int, default=5
        Smallest number of texts that have what the words say, for a statement to be tested.
    annotations : csr_array of shape (n_texts, n_explanations), default=None
        Those of :func:`annotate`, if they are there already. No question is asked then.
    written_from : sequence of str, default=None
        Texts that features were chosen or words written by. None of `texts` may equal one.
    n_examples : int, default=5
        Largest number of texts named for, and against, each statement.
    random_state : int, default=0
        Seed of the choice of these texts, and of the permutation by which `f1_chance` is measured.
    **options : dict
        Passed on to :func:`annotate`.

    Returns
    -------
    statements : DataFrame
        One line per explanation, indexed by the feature, the surviving ones first:

        - "text", the words, and "survives";
        - "n_texts", the texts that have what they say, and "n_failed", those without an answer,
          which are left out;
        - "with" and "without", the mean target of texts that have it and of the others; of classes
          the share of the positive one, or of the one in "class";
        - "effect", "effect_low", "effect_high", as in :class:`FeatureContrast`, its "pvalue"
          and "family_pvalue", corrected for the number of statements;
        - "f1", and "f1_chance", that of the annotations in a random order; only with `codes`;
        - "stratified_f1", the F1 score where the texts on which the feature fires, and those on
          which it does not, count as much in all: to compare rare features with frequent ones.
          "stratified_f1_chance" is that of words that are true of the same share of both;
        - "effect_found", that of the contrast; only with `contrast`;
        - "texts_for" and "texts_against", tuples of positions in `texts`: random ones that have
          what the words say, and whose target is on the side that the effect points to, or on the
          other side: above or below the mean of the others, or of the class or not.

    Raises
    ------
    ImportError
        If pandas is not installed.
    ValueError
        If lengths differ, a text was used before, or an explanation needs a client.

    See Also
    --------
    split_texts : Makes the split, once.
    annotate : Annotates texts by words.
    FeatureContrast : Finds the features.
    sksae.report.write_page : Shows the statements, with the texts for and against them.

    References
    ----------
    .. [1] Holm, S. "A simple sequentially rejective multiple test procedure." Scandinavian Journal
       of Statistics 6, 1979.

    Examples
    --------
    >>> from sksae.interpret import validate
    >>> texts = [f"{'great' if i % 3 else 'dull'} plot {i}" for i in range(60)]
    >>> rating = [4 + i % 2 if i % 3 else 1 + i % 2 for i in range(60)]
    >>> table = validate(texts, rating, {2: '"great"', 5: '"plot"'}, target_type="ordinal")
    >>> table[["text", "survives", "with"]].to_dict("records")[0]
    {'text': '"great"', 'survives': True, 'with': 4.5}
    """
    check_option("alpha", alpha, Float(0, 1, open_="low"))
    check_option("min_documents", min_documents, Int(1))
    check_option("n_examples", n_examples, Int(0))
    texts, explanations = checked_texts(texts), as_explanations(explanations)
    check_consistent_length(texts, y, groups, covariates)
    _check_unused(texts, written_from)
    if annotations is None:
        annotations = annotate(texts, explanations, client, **options)
    elif options:
        raise ValueError(f"{', '.join(options)}: nobody is asked, since there are annotations.")
    table = as_csr(sparse.csr_array(annotations))
    if table.shape != (len(texts), len(explanations)):
        raise ValueError(
            f"annotations have shape {table.shape}; ({len(texts)}, {len(explanations)}) is needed."
        )
    test = FeatureContrast(
        target_type=target_type,
        alpha=alpha,
        min_documents=min_documents,
        pooling=None,
    )
    numbers = list(explanations)
    lines = _tested(table, y, groups, covariates, test)
    if codes is not None:
        _add_fidelity(lines, table, codes, numbers, random_state)
    _add_examples(lines, table, y, n_examples, random_state)
    tested = [line["n_texts"] >= min_documents for line in lines]
    corrected = _holm(np.array([line["pvalue"] for line in lines]), np.array(tested, dtype=bool))
    for number, line, pvalue in zip(numbers, lines, corrected.tolist(), strict=True):
        line["text"] = visible(explanations[number].text)
        line["family_pvalue"], line["survives"] = pvalue, pvalue <= alpha
        if contrast is not None:
            line["effect_found"] = _effect_found(contrast, number, line.get("class"))
            line["survives"] &= line["effect_found"] * line["effect"] > 0
    return _frame(lines, numbers)


def _holm(pvalues, tested):
    """Return p-values corrected by Holm's procedure; 1 where nothing was tested."""
    # From the smallest p-value on, with the factors m, m - 1, ..., 1.
    order = np.flatnonzero(tested)[np.argsort(pvalues[tested], kind="stable")]
    factors = len(order) - np.arange(len(order))
    corrected = np.ones(len(pvalues))
    # No p-value less than one before it.
    corrected[order] = np.minimum(np.maximum.accumulate(factors * pvalues[order]), 1)
    return corrected


def _effect_found(contrast, number, label):
    """Return the effect of a feature in a contrast; of several classes, that of one."""
    check_is_fitted(contrast)
    if number >= contrast.n_features_in_:
        raise ValueError(f"contrast has {contrast.n_features_in_} features, but no {number}.")
    if label is None:
        return float(contrast.effects_[number])
    return float(contrast.class_effects_[number, contrast.classes_ == label].sum())


_FIRST = ("text", "survives", "class", "n_texts", "n_failed", "with", "without")


def _frame(lines, numbers):
    pd = needed("pandas", "validate")
    frame = pd.DataFrame(lines, index=pd.Index(numbers, name="feature"))
    columns = [name for name in _FIRST if name in frame]
    frame = frame[[*columns, *(name for name in frame if name not in columns)]]
    if not len(frame):
        return frame
    order = np.lexsort((frame["pvalue"], ~frame["survives"].to_numpy(dtype=bool)))
    return frame.iloc[order]


def _check_unused(texts, written_from):
    if written_from is None:
        return
    used = set(checked_texts(written_from))
    repeated = [number for number, text in enumerate(texts) if text in used]
    if repeated:
        raise ValueError(
            f"{len(repeated)} of the texts, such as text {repeated[0]}, were used to find features "
            f"or to write words; test on others, see split_texts."
        )


def _tested(table, y, groups, covariates, test):
    """Return one dict per column of annotations; texts without an answer are left out of it."""
    columns = sparse.csc_array(table)
    n_failed = (columns != columns).sum(axis=0)  # NaN differs from itself
    lines = [None] * table.shape[1]
    complete = np.flatnonzero(n_failed == 0)
    # Columns with all answers are tested at once, each of the others on the texts with an answer.
    for part in [complete, *([column] for column in np.flatnonzero(n_failed))]:
        if not len(part):
            continue
        block = columns[:, part]
        answered = np.ones(block.shape[0], dtype=bool)
        if n_failed[part[0]]:
            answered = ~np.isnan(block.toarray()[:, 0])
        rows = np.flatnonzero(answered)
        target, of_groups, beside = (_rows(values, rows) for values in (y, groups, covariates))
        fitted = test.fit(sparse.csr_array(block)[rows], target, of_groups, covariates=beside)
        for position, column in enumerate(part):
            line = _line(fitted, position, sparse.csr_array(block)[rows], target)
            lines[column] = {**line, "n_failed": int(n_failed[column])}
    return lines


def _rows(values, rows):
    """Return some rows of an array, a list, a data frame or None."""
    if values is None or len(rows) == len(values):
        return values
    if hasattr(values, "iloc"):
        return values.iloc[rows]
    return np.asarray(values)[rows]


def _line(fitted, position, block, y):
    has = block[:, [position]].toarray()[:, 0] > 0
    line = {"n_texts": int(has.sum())}
    positive = None
    if fitted.target_type_ == "multiclass":
        line["class"] = positive = fitted.strongest_class_[position]
    elif fitted.target_type_ == "binary":
        positive = fitted.pos_label_
    values = _numbers(y) if positive is None else np.asarray(y) == positive
    line["with"] = float(values[has].mean()) if has.any() else math.nan
    line["without"] = float(values[~has].mean()) if not has.all() else math.nan
    line["effect"] = float(fitted.effects_[position])
    line["effect_low"] = float(fitted.effects_low_[position])
    line["effect_high"] = float(fitted.effects_high_[position])
    line["pvalue"] = float(fitted.pvalues_[position])
    line["positive"] = positive  # for the choice of examples
    return line


def _numbers(y):
    """Return numbers, or those of an ordered categorical, as floats."""
    if getattr(getattr(y, "dtype", None), "ordered", False):
        y = y.cat.codes if hasattr(y, "cat") else y.codes
    return np.asarray(y, dtype=np.float64)


def _add_examples(lines, table, y, n_examples, random_state):
    """Add the texts for and against each statement, chosen at random among those that have it."""
    rng = np.random.default_rng(random_state)
    for column, line in enumerate(lines):
        positive = line.pop("positive")
        values = _numbers(y) if positive is None else np.asarray(y) == positive
        # Half way between two classes; numbers are compared with the mean of the texts without the
        # words.
        between = line["without"] if positive is None else 0.5
        with_words = np.flatnonzero(table[:, [column]].toarray()[:, 0] > 0)  # NaN is not
        # 1 where a text goes along with the effect, -1 where it speaks against it
        beyond = np.sign(values[with_words] - between) * np.sign(line["effect"])
        for name, side in (("texts_for", beyond > 0), ("texts_against", beyond < 0)):
            texts = rng.permutation(with_words[side])[:n_examples]
            line[name] = tuple(np.sort(texts).tolist())


def _add_fidelity(lines, table, codes, numbers, random_state):
    """Add the F1 score of annotations as a prediction of where the feature fires."""
    codes = sparse.csc_array(codes) if sparse.issparse(codes) else np.asarray(codes)
    if codes.ndim != 2 or codes.shape[0] != table.shape[0] or codes.shape[1] <= max(numbers):
        raise ValueError(
            f"codes has shape {codes.shape}; a row for each of {table.shape[0]} texts and a column "
            f"for each feature up to {max(numbers)} are needed."
        )
    rng = np.random.default_rng(random_state)
    for column, number in enumerate(numbers):
        values = codes[:, [number]]
        fires = np.asarray(values.toarray() if sparse.issparse(values) else values)[:, 0] > 0
        annotation = table[:, [column]].toarray()[:, 0]
        answered = ~np.isnan(annotation)
        has_words, fires = annotation[answered] > 0, fires[answered]
        lines[column]["f1"] = _f1(has_words, fires)
        # Words dealt out at random to as many texts.
        lines[column]["f1_chance"] = _f1(rng.permutation(has_words), fires)
        stratified, chance = _stratified_f1(has_words, fires)
        lines[column]["stratified_f1"], lines[column]["stratified_f1_chance"] = stratified, chance


def _f1(has_words, fires):
    n_either = int(has_words.sum() + fires.sum())
    return 2 * int((has_words & fires).sum()) / n_either if n_either else math.nan


def _stratified_f1(has_words, fires):
    """Return the F1 score with as much weight on firing as on silent texts, and that of chance.

    With weight 1 on either side, recall r and false alarms f, true positives are r, positives 1 and
    positive answers r + f. Of words that are true of a share p of both, r = f = p.
    """
    if fires.all() or not fires.any():
        return math.nan, math.nan
    recall, false_alarms = float(has_words[fires].mean()), float(has_words[~fires].mean())
    share = float(has_words.mean())
    # With equal weights the precision is recall / (recall + false_alarms); words at random have a
    # recall and false alarms of `share`.
    return 2 * recall / (1 + recall + false_alarms), 2 * share / (1 + 2 * share)
