"""FeatureAtlas: everything about every feature of a sparse autoencoder, from one pass over data."""

import re

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from sksae._arrays import objects
from sksae._drafts import on_a_draft
from sksae._files import damage_named
from sksae._params import Int, check_option, check_params
from sksae._reprs import ShortRepr
from sksae.interpret._strongest import check_features
from sksae.interpret.atlas._files import read_atlas, write_atlas
from sksae.interpret.atlas._fitting import collect, directions_of, lens_of, logits_of
from sksae.interpret.atlas._records import feature_of, flags_of, table_of


class FeatureAtlas(ShortRepr, BaseEstimator):
    """Everything about every feature from one pass over the data, in bounded memory.

    For all features at once: the windows in which they fire most, random windows from all
    strengths, windows in which they are silent, how often and on what they fire, histograms, and
    which other features are near or fire along. Windows never leave their text, those that read
    the same are kept once, and tokens that share a character are one piece.

    Parameters
    ----------
    sae : estimator, default=None
        A fitted sparse autoencoder, or another fitted transformer that makes codes. None takes
        codes.
    extractor : ActivationExtractor, default=None
        Reads texts for `sae`. None takes rows.
    language_model : str, Path or PreTrainedModel, default=None
        A model that predicts tokens, for those that features promote, as in
        :func:`~sksae.language_models.logit_lens`. None leaves them out.
    tokenizer : str, Path or tokenizer, default=None
        None takes the one that goes with the name or path of `language_model`.
    n_examples : int, default=20
        Windows kept where a feature fires most: one of a text, and one of those that read the same.
    n_per_octave : int, default=10
        Random windows kept between each activation and its double.
    n_silent : int, default=10
        Windows of each kind shown in which a feature is silent.
    before, after : int, default=24 and 8
        Pieces of text shown on either side.
    n_neighbors : int, default=10
        Near features, and features that fire along.
    n_tokens : int, default=10
        Pieces of text that a feature fires on most, and tokens that it promotes and suppresses.
    random_state : int, default=0
        Seed of the random windows.

    Attributes
    ----------
    n_components_ : int
        Number of features.
    n_rows_, n_texts_ : int
        Rows and texts of the pass.
    n_active_ : ndarray of shape (n_components_,)
        Rows on which each feature fires.
    density_ : ndarray of shape (n_components_,)
        Share of the rows on which each feature fires.
    max_activation_, mean_activation_ : ndarray of shape (n_components_,)
        Largest code, and mean of the positive codes; 0 for a feature that never fires.
    map_ : ndarray of shape (n_components_, 2) or None
        The directions in two dimensions, by PCA. None without directions.
    facts_ : dict
        What was done: the model and the place in it, the autoencoder, the rows. Numbers, strings,
        booleans and None only.

    See Also
    --------
    max_activating_examples : The windows alone, exact and for codes in memory.
    explain : Descriptions of the features of an atlas.
    sksae.report.write_page : A page to browse them.

    Notes
    -----
    Memory is bounded by the number of features, but for four bytes a token. Counts, maxima, the
    strongest windows and the histograms are exact. Sampled windows are random among the *different*
    contexts of eight pieces of text, so that what is repeated a thousand times does not crowd out
    the rest; `Feature.n_unique` estimates how many contexts there are. Of the pieces that features
    fire on, sums are exact until there are four million pairs; then each feature keeps its 64
    largest. Which features fire together is counted on random rows where all would be too many.

    A text of more than 32,768 rows is read as several, and so is one whose rows are not together.

    Examples
    --------
    >>> import numpy as np
    >>> from sksae.interpret import FeatureAtlas
    >>> codes = np.array([[0, 0], [2, 0], [0, 1], [3, 0], [0, 0]])
    >>> table = {"text": [0, 0, 0, 1, 1], "string": ["a", " cold", " day", "cold", " tea"]}
    >>> atlas = FeatureAtlas().fit(codes, tokens=table)
    >>> cold = atlas.feature(0)
    >>> cold.density, cold.n_texts, cold.max_activation, cold.top_tokens
    (0.4, 2, 3.0, [('cold', 0.6), (' cold', 0.4)])
    >>> [str(example) for example in cold.examples]
    ['[[cold]] tea', 'a[[ cold]] day']
    """

    _param_rules = {
        "n_examples": Int(1),
        "n_per_octave": Int(3),
        "n_silent": Int(0),
        "before": Int(0, 2**14),
        "after": Int(0, 2**14),
        "n_neighbors": Int(0),
        "n_tokens": Int(1),
        "random_state": Int(0, 2**32 - 1),
    }

    def __init__(
        self,
        sae=None,
        *,
        extractor=None,
        language_model=None,
        tokenizer=None,
        n_examples=20,
        n_per_octave=10,
        n_silent=10,
        before=24,
        after=8,
        n_neighbors=10,
        n_tokens=10,
        random_state=0,
    ):
        self.sae = sae
        self.extractor = extractor
        self.language_model = language_model
        self.tokenizer = tokenizer
        self.n_examples = n_examples
        self.n_per_octave = n_per_octave
        self.n_silent = n_silent
        self.before = before
        self.after = after
        self.n_neighbors = n_neighbors
        self.n_tokens = n_tokens
        self.random_state = random_state

    @on_a_draft
    def fit(self, X, tokens=None):
        """Make the pass.

        Parameters
        ----------
        X : array-like or iterable
            With an extractor, the texts. Without, the rows that `sae` codes, or without `sae`
            codes, dense or sparse, of shape (n_rows, n_components); a memory map will do.
        tokens : TokenTable, data frame, mapping or sequence of length n_rows, default=None
            Where rows or codes came from, as for :func:`max_activating_examples`: a table with one
            line a row, or one label a row. None labels rows by their numbers.

        Returns
        -------
        self : FeatureAtlas
            The fitted atlas.

        Raises
        ------
        TypeError
            If `tokens` is a single string, or X is a token table.
        ValueError
            If a parameter is wrong, shapes do not fit together, there are no rows, a row has no
            string, or a code is not finite.

        Warns
        -----
        UserWarning
            If codes look like the rows that an autoencoder codes.
        """
        check_params(self)
        lens = lens_of(self)  # before the long pass: a model may be the wrong one
        collection, policy = collect(self, X, tokens)
        arrays = collection.arrays()
        strings = collection.strings
        arrays |= directions_of(self, collection.coactivation)
        arrays |= logits_of(lens, strings)
        facts = {
            **policy,
            "sae": None if self.sae is None else re.sub(r"\s+", " ", repr(self.sae)),
            "n_rows": collection.tallies.n_rows,
            "n_texts": collection.tallies.n_texts,
            "n_first": collection.tallies.n_first,
        }
        return self._set(arrays, strings.to_list(), collection.sources(), facts)

    def _set(self, arrays, strings, sources, facts):
        """Store what a pass or a file has."""
        self._arrays, self._strings, self._sources = arrays, objects(strings), sources
        self.facts_ = facts
        self.n_rows_, self.n_texts_ = facts["n_rows"], facts["n_texts"]
        self._n_first = facts["n_first"]
        self.n_active_ = arrays["n_active"]
        self.n_components_ = len(self.n_active_)
        self.density_ = self.n_active_ / max(self.n_rows_, 1)
        self.max_activation_ = arrays["maximum"]
        self.mean_activation_ = arrays["total"] / np.maximum(self.n_active_, 1)
        self.map_ = arrays.get("map")
        self._flags = flags_of(self)
        return self

    def feature(self, feature):
        """Return all about one feature.

        Parameters
        ----------
        feature : int
            The column of the codes.

        Returns
        -------
        feature : Feature
            Counts, windows, tokens and neighbours.

        Raises
        ------
        ValueError
            If there is no such feature.
        """
        check_is_fitted(self, "facts_")
        check_option("feature", feature, Int(0, self.n_components_ - 1))
        return feature_of(self, int(feature))

    def table(self, features=None):
        """Return a data frame with one line a feature.

        Parameters
        ----------
        features : array-like of int, default=None
            The features of interest. None takes all.

        Returns
        -------
        table : pandas.DataFrame of shape (n_features, n_columns)
            Indexed by feature: `n_active`, `density`, `n_texts`, `max_activation`,
            `mean_activation`, `n_unique`; `top_tokens`, `promoted` and `suppressed` as text;
            `nearest`, `cosine` and `coactive`, the first of each, -1 where there is none; and a
            column of booleans for each warning.

        Raises
        ------
        ImportError
            If pandas is not installed.
        ValueError
            If there is no such feature.
        """
        check_is_fitted(self, "facts_")
        return table_of(self, check_features(features, self.n_components_))

    def save(self, path):
        """Write the atlas to one file of arrays and JSON, whole or not at all.

        Parameters
        ----------
        path : str or Path
            The file; `.npz` is its usual ending.

        Returns
        -------
        path : Path
            The file.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        check_is_fitted(self, "facts_")
        return write_atlas(self, path)

    @classmethod
    def load(cls, path):
        """Read an atlas that `save` wrote; nothing in the file is run.

        Parameters
        ----------
        path : str or Path
            The file.

        Returns
        -------
        atlas : FeatureAtlas
            The atlas, without autoencoder, extractor and language model.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it is no atlas, is damaged, or was written by a newer version.
        """
        parameters, *content = read_atlas(path)
        atlas = cls(**parameters)
        with damage_named(path, "is no whole file of an atlas"):
            check_params(atlas)
        return atlas._set(*content)
