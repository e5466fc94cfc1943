"""Statements in the words of a language model that is asked over a network, and what they cost."""

import numpy as np
from sklearn.base import clone

from sksae.interpret import estimate_annotation_cost, estimate_cost, explain, validate

_TYPICAL_WORDS = "a description of ordinary length, say of a dozen words, that a text may match"


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
