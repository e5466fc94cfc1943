"""Statements about the target of texts: found on some of them, tested on the others."""

import numpy as np
from scipy import sparse
from sklearn.base import clone

from sksae.interpret import (
    FeatureContrast,
    annotate,
    estimate_annotation_cost,
    estimate_cost,
    explain,
    split_texts,
    validate,
)

N_STATEMENTS = 20  # that are tested at most; the fewer, the less each has to stand out
_TYPICAL_WORDS = "a description of ordinary length, say of a dozen words, that a text may match"
N_TEXTS = 5  # that have what the words say, and as many that have not


def split_table(table, target_type, random_state):
    """Return the rows to find statements on and those to test them on, before anything is spent.

    Parameters
    ----------
    table : TextTable
        The texts. Equal ones, and those of one group, stay on one side.
    target_type : str
        As for `FeatureContrast`; "auto" takes whole numbers for a rating, and never for classes.
    random_state : int
        Seed of the split.

    Returns
    -------
    finding, testing : TextTable
        Both sides, about half of the texts each.
    contrast : FeatureContrast
        The test that suits the target; it knows the target, and no codes yet.

    Raises
    ------
    ValueError
        If there are too few texts, or the target is not of the type on both sides.
    """
    if target_type == "auto" and table.target.dtype.kind == "f":
        values = np.unique(table.target)
        of_numbers = "ordinal" if (values % 1 == 0).all() else "continuous"
        target_type = of_numbers if len(values) > 2 else "binary"
    sides = split_texts(table.texts, groups=table.groups, random_state=random_state)
    finding, testing = (table.of(rows) for rows in sides)
    contrast = FeatureContrast(
        target_type=target_type,
        pooling=None,
        n_features_to_select=N_STATEMENTS,
        random_state=random_state,
    )
    for side in (finding, testing):  # raises for a target that cannot be tested
        # Any codes will do: it is the target that is checked.
        contrast.fit(np.eye(len(side.texts), 1), side.target)
    return finding, testing, contrast


def kind_of_target(contrast):
    """Describe the type of target that a fitted contrast assumes."""
    if contrast.target_type_ != "binary":
        return contrast.target_type_
    (negative,) = (label for label in contrast.classes_ if label != contrast.pos_label_)
    return f"binary, and numbers are shares of {contrast.pos_label_} against {negative}"


def tested_statements(finding, testing, codes, explanations, contrast):
    """Return the statements about a target, tested on texts that they were not found on.

    A feature that goes along with the target proposes its words. A few words are chosen among them
    by what they themselves tell about the target of the first side, beside each other, and these
    are tested on the second side.

    Parameters
    ----------
    finding, testing : TextTable
        Both sides, from `split_table`.
    codes : tuple of two sparse matrices
        The codes of their texts, one row per text.
    explanations : dict of int to Explanation
        Rules, as `explain` writes them from token statistics of the first side.
    contrast : FeatureContrast
        The test; fitted here to the words on the first side, with the length of the texts as a
        covariate.

    Returns
    -------
    statements : DataFrame
        The table of `validate`; without lines if no words go along with the target.
    """
    # Covariate: long texts have more words of any kind.
    length = [np.array([len(text) for text in side.texts]) for side in (finding, testing)]
    to_explain = (finding.target, finding.groups)
    proposing = clone(contrast).set_params(n_features_to_select=None)
    proposing.fit(codes[0], *to_explain, covariates=length[0])
    proposed = proposing.get_support(indices=True)
    # The strongest first: of features with the same words, it is the one that is shown.
    proposed = proposed[np.argsort(proposing.pvalues_[proposed], kind="stable")]
    with_words = _with_words(proposed.tolist(), explanations, finding.texts, codes[0].shape[1])
    contrast.fit(with_words, *to_explain, covariates=length[0])
    words = {number: explanations[number] for number in contrast.chosen_.tolist()}
    return validate(
        testing.texts,
        testing.target,
        words,
        target_type=contrast.target_type_,
        contrast=contrast,
        codes=codes[1] if words else None,
        groups=testing.groups,
        covariates=length[1],
        written_from=finding.texts,
    )


def _with_words(features, explanations, texts, n_features):
    """Return which texts the explanations of some features apply to, (n_texts, n_features).

    The column of a feature is empty without words that are true of some texts and not of others,
    or where the words of another one are true of the same texts.
    """
    masks, rows, columns = set(), [], []
    for number in features:
        has = _texts_with(explanations[number], texts) if number in explanations else None
        # Too few texts with or without it, or the same texts as for a stronger feature.
        if has is None or min(has.sum(), (~has).sum()) < N_TEXTS or has.tobytes() in masks:
            continue
        masks.add(has.tobytes())
        rows.append(np.flatnonzero(has))
        columns.append(np.full(len(rows[-1]), number))
    places = (np.concatenate(rows), np.concatenate(columns)) if rows else ([], [])
    ones = np.ones(len(places[0]))
    return sparse.csr_array((ones, places), shape=(len(texts), n_features))


def _texts_with(explanation, texts):
    """Return the mask of the texts that an explanation applies to; None where it is no rule."""
    try:
        return annotate(texts, {explanation.feature: explanation}).toarray()[:, 0] > 0
    except ValueError:  # such as "fires too rarely to tell"
        return None


class AskedStatements:
    """Statements whose words a client writes and reads; nothing is sent before `test`.

    Parameters
    ----------
    finding, testing : TextTable
        Both sides, from `split_table`.
    codes : tuple of two sparse matrices
        The codes of their texts, one row per text.
    atlas : FeatureAtlas
        The atlas of the first side.
    contrast : FeatureContrast
        The test; fitted here to the codes of the first side, with the length of the texts as a
        covariate.

    Attributes
    ----------
    features : list of int
        Those that explain the target beside each other, about which questions will be asked.
    """

    def __init__(self, finding, testing, codes, atlas, contrast):
        self.finding, self.testing, self.codes, self.atlas = finding, testing, codes, atlas
        self.length = [np.array([len(text) for text in side.texts]) for side in (finding, testing)]
        self.contrast = clone(contrast)
        self.contrast.fit(codes[0], finding.target, finding.groups, covariates=self.length[0])
        self.features = self.contrast.chosen_.tolist()

    def cost(self, price_per_million):
        """Return how many questions will be asked at most, their tokens and their price."""
        typical = {feature: f"{_TYPICAL_WORDS} {feature}" for feature in self.features}
        prices = {"price_per_million": price_per_million}
        steps = (
            estimate_cost(self.atlas, self.features, **prices),
            estimate_annotation_cost(self.testing.texts, typical, **prices),
        )
        names = ("calls", "tokens_in", "tokens_out", "price")
        return {name: sum(step[name] for step in steps) for name in names}

    def test(self, client):
        """Ask the client for words and whether texts have them; return words and the table.

        Returns
        -------
        explanations : dict of int to Explanation
            Without features whose words are those of a stronger one.
        statements : DataFrame
            The table of `validate`.
        """
        explanations = explain(self.atlas, client, self.features) if self.features else {}
        by_words = {}
        for feature in self.features:  # the strongest first
            if feature in explanations:
                by_words.setdefault(explanations[feature].text.casefold(), feature)
        explanations = {feature: explanations[feature] for feature in by_words.values()}
        statements = validate(
            self.testing.texts,
            self.testing.target,
            explanations,
            client,
            target_type=self.contrast.target_type_,
            contrast=self.contrast,
            codes=self.codes[1] if explanations else None,
            groups=self.testing.groups,
            covariates=self.length[1],
            written_from=self.finding.texts,
        )
        return explanations, statements


def statements_of_file(statements, testing):
    """Return the table of statements with rows of the CSV file in place of positions of texts.

    Parameters
    ----------
    statements : DataFrame
        The table of `validate`.
    testing : TextTable
        The texts that were tested on.

    Returns
    -------
    statements : DataFrame
        With the columns "rows_for" and "rows_against": numbers of rows, of which the first below
        the names is 1, separated by spaces.
    """
    sides = [side for side in ("for", "against") if f"texts_{side}" in statements]
    rows = {
        f"rows_{side}": [
            " ".join(str(testing.lines[text] + 1) for text in texts)
            for texts in statements[f"texts_{side}"]
        ]
        for side in sides
    }
    return statements.drop(columns=[f"texts_{side}" for side in sides]).assign(**rows)


def statement_cells(statements):
    """Return the cells to show of a table of statements, one dict per line.

    Parameters
    ----------
    statements : DataFrame
        The table of `validate`.

    Returns
    -------
    lines : list of dict
        The columns that a reader needs, as strings.
    """
    return [
        {
            "statement": line["text"],
            **({"class": line["class"]} if "class" in line else {}),
            "feature": number,
            "texts": f"{line['n_texts']:,}",
            "with": f"{line['with']:.3g}",
            "without": f"{line['without']:.3g}",
            "effect": f"{line['effect']:+.2f}",
            "95 %": f"{line['effect_low']:+.2f} to {line['effect_high']:+.2f}",
            "p": f"{line['family_pvalue']:.2g}",
            "survives": "yes" if line["survives"] else "no",
        }
        for number, line in zip(statements.index, statements.to_dict("records"), strict=True)
    ]
