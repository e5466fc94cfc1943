"""FeatureAtlas: records of all features of a sparse autoencoder, from one pass over the data."""

import re

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from sksae._arrays import objects
from sksae._coding import sparse_coder
from sksae._drafts import on_a_draft
from sksae._files import damage_named
from sksae._optional import needed
from sksae._params import Int, check_option, check_params
from sksae._reprs import ShortRepr
from sksae._signs import edges_visible
from sksae.interpret._examples import Example
from sksae.interpret._feature import Feature, Related
from sksae.interpret._strongest import check_features
from sksae.interpret._token_cells import labelling
from sksae.interpret.atlas._atlas_file import PARAMETERS, read_atlas, write_atlas
from sksae.interpret.atlas._collection import N_OCTAVES, Collection, coded_chunks
from sksae.interpret.atlas._images import KeptImages
from sksae.interpret.atlas._neighbors import neighbor_arrays
from sksae.interpret.atlas._row_columns import column_arrays, row_sample
from sksae.interpret.atlas._tallies import EDGES, PER_OCTAVE
from sksae.language_models import logit_lens

# Shares and counts behind the warnings about features.
DENSE, FEW_TEXTS, MOSTLY = 0.1, 10, 0.5


class FeatureAtlas(ShortRepr, BaseEstimator):
    """Records of all features from one pass over the data, in bounded memory.

    For all features at once, an atlas has the windows in which they fire most, random windows from
    all strengths, windows in which they are silent, counts of rows, texts and tokens, histograms,
    and the features with similar directions or on the same rows. Windows never extend beyond their
    text, windows that read the same are kept once, and tokens that share a character are one piece.

    Parameters
    ----------
    sae : estimator, default=None
        A fitted sparse autoencoder, or another fitted transformer with non-negative codes. None
        fits the atlas on codes.
    extractor : ActivationExtractor, default=None
        Extractor of the rows that `sae` codes; the atlas is then fitted on texts. None fits it on
        rows.
    language_model : str, Path or PreTrainedModel, default=None
        A model with an unembedding, for the tokens that features promote, as in
        :func:`~sksae.language_models.logit_lens`. None leaves them out.
    tokenizer : str, Path or tokenizer, default=None
        Tokenizer of `language_model`. None takes the one of its name or path.
    n_examples : int, default=20
        Windows kept per feature where it fires most: one per text, and one of those that read the
        same.
    n_per_octave : int, default=10
        Random windows kept per feature and factor of two of its activations.
    n_silent : int, default=10
        Windows per feature and kind in which it is silent.
    before, after : int, default=24 and 8
        Pieces of text shown on either side; of images, all is shown.
    n_neighbors : int, default=10
        Features with similar directions, and features on the same rows, per feature.
    n_tokens : int, default=10
        Pieces of text that a feature fires on most, and tokens that it promotes and suppresses.
    random_state : int, default=0
        Seed of the random windows.

    Attributes
    ----------
    n_components_ : int
        Number of features.
    n_rows_, n_texts_ : int
        Number of rows and of texts of the pass.
    n_active_ : ndarray of shape (n_components_,)
        Number of rows on which each feature fires.
    density_ : ndarray of shape (n_components_,)
        Share of the rows on which each feature fires.
    max_activation_, mean_activation_ : ndarray of shape (n_components_,)
        Largest code, and mean of the positive codes; 0 for a feature that never fires.
    map_ : ndarray of shape (n_components_, 2) or None
        The directions in two dimensions, by PCA. None without directions.
    image_grid_ : tuple of int (n_rows, n_columns) or None
        Patches of an image, down and across. None where the rows are no patches of images.
    facts_ : dict
        Description of the pass: the model and the site, the autoencoder, the rows. Numbers,
        strings, booleans and None only.

    See Also
    --------
    max_activating_examples : The strongest windows alone, for codes in memory.
    explain : Explanations of the features of an atlas.
    ImagePatches : Images of which the rows are patches.
    sksae.report.write_page : A page to browse an atlas.

    Notes
    -----
    Memory is bounded by the number of features, except for four bytes per token, six per patch of
    an image, and 32 MiB for images. Counts, maxima,
    the strongest windows and the histograms are exact. Sampled windows are random among the
    *different* contexts of eight pieces of text, so that frequent repetitions do not displace other
    contexts; `Feature.n_unique` estimates the number of contexts. Sums per feature and piece are
    exact until there are four million pairs; then each feature keeps its 64 largest. Pairs of
    features that fire together are counted on random rows where all rows would be too many.

    A text of more than 32,768 rows is treated as several, and so is one whose rows are not
    contiguous.

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
    def fit(self, X, tokens=None, images=None):
        """Compute the atlas in one pass over the data.

        Parameters
        ----------
        X : array-like or iterable
            With an extractor, the texts. Without, the rows that `sae` codes, or without `sae`
            codes, dense or sparse, of shape (n_rows, n_components); a memory map will do.
        tokens : TokenTable, data frame, mapping or sequence of length n_rows, default=None
            Tokens of the rows or codes, as for :func:`max_activating_examples`: a table with one
            line per row, or one label per row. None labels rows by their numbers. Rows without a
            token table are whole rows: if `X` is a data frame, or `sae` was fitted on one, the
            atlas has their columns as well, for :func:`explain`.
        images : ImagePatches, default=None
            Images of which the rows are patches, or which are the rows. Examples then have an
            `image`, and their windows are all of the image, whatever `before` and `after` are for
            texts.

        Returns
        -------
        self : FeatureAtlas
            The fitted atlas.

        Raises
        ------
        TypeError
            If `tokens` is a single string, X is a token table, or `images` are not ImagePatches.
        ValueError
            If a parameter is wrong, shapes do not fit together, there are no rows, a row has no
            string, a code is not finite, or the rows do not fit the images.

        Warns
        -----
        UserWarning
            If codes look like activations.
        """
        check_params(self)
        coder = None if self.sae is None else sparse_coder(self.sae)
        labels = "tokens" if self.extractor is not None else labelling(tokens)
        labels = "numbers" if images is not None and labels == "tokens" else labels
        lens = self._lens(coder)  # before the long pass: it fails early if the model does not fit
        encode, n_components, chunks = coded_chunks(X, tokens, coder, self.extractor)
        sizes = ("n_examples", "n_per_octave", "n_silent", "before", "after")
        sizes = {name: getattr(self, name) for name in sizes}
        collection = Collection(n_components, **sizes, seed=self.random_state, images=images)
        collection.read(encode, chunks)
        components = getattr(coder, "components_", None)
        arrays = collection.arrays()
        arrays |= neighbor_arrays(collection.coactivation, components, self.n_neighbors)
        arrays |= _logit_arrays(lens, collection.strings)
        if labels != "tokens" and coder is not None and self.extractor is None:
            arrays |= column_arrays(X, coder, arrays, collection.strings)
        image_facts = {}
        if images is not None:
            shown, image_facts["images"] = collection.image_arrays(arrays)
            arrays |= shown
        facts = {
            **collection.policy,
            **image_facts,
            "sae": None if self.sae is None else re.sub(r"\s+", " ", repr(self.sae)),
            "n_rows": collection.tallies.n_rows,
            "n_texts": collection.tallies.n_texts,
            "n_first": collection.tallies.n_first,
            "labels": labels,
        }
        return self._set(arrays, collection.strings.to_list(), collection.sources, facts)

    def _lens(self, coder):
        """Return the `LogitLens` of all features, or None without a language model."""
        if self.language_model is None:
            if self.tokenizer is not None:
                raise ValueError(
                    "The 'tokenizer' parameter goes with 'language_model', which is None."
                )
            return None
        if coder is None:
            raise ValueError("A 'language_model' needs a fitted 'sae', whose directions it reads.")
        return logit_lens(
            self.language_model, coder, n_tokens=self.n_tokens, tokenizer=self.tokenizer
        )

    def _set(self, arrays, strings, sources, facts):
        """Store the content of a pass or of a file.

        Parameters
        ----------
        arrays : dict of str to ndarray
            By name: counts of the features (`n_active`, `histogram`, ...); `cell_string` and
            `text_bounds`, the strings of all cells and the first cell of each text; `sum_*`, a
            table of features and strings; `strongest_*`, `sampled_*`, `shared_*` and `lexical_*`,
            tables of places, sorted by bucket, of which `*_window` is the line of `window_bounds`;
            `activity_*`, the shared windows in which each feature fires; `nearest*` and
            `partner*`, `promoted*` and `suppressed*`, lists of each feature; `column_*` and
            `kept_*`, the named columns of whole rows and their values on some rows; `image_*`, the
            images kept, and `cell_patch`, the patch of each cell.
        strings, sources : list
            Names of strings and texts by number.
        facts : dict
        """
        self._arrays, self._strings, self._sources = arrays, objects(strings), sources
        self.facts_ = facts
        self.n_rows_, self.n_texts_ = facts["n_rows"], facts["n_texts"]
        self.n_active_ = arrays["n_active"]
        self.n_components_ = len(self.n_active_)
        self.density_ = self.n_active_ / max(self.n_rows_, 1)
        self.max_activation_ = arrays["maximum"]
        self.mean_activation_ = arrays["total"] / np.maximum(self.n_active_, 1)
        self.map_ = arrays.get("map")
        self._flags = _flags(arrays, self.n_rows_, facts["n_first"])
        self._images = KeptImages(arrays) if "image_grid" in arrays else None
        self.image_grid_ = self._images.grid if self._images else None
        return self

    def feature(self, feature):
        """Return the record of one feature.

        Parameters
        ----------
        feature : int
            The column of the codes.

        Returns
        -------
        feature : Feature
            Counts, windows, tokens and related features.

        Raises
        ------
        ValueError
            If there is no such feature.
        """
        check_is_fitted(self, "facts_")
        check_option("feature", feature, Int(0, self.n_components_ - 1))
        feature, arrays = int(feature), self._arrays
        sampled, weights = self._sampled_examples(feature)
        strongest = _lines(arrays, "strongest", feature, feature + 1)
        return Feature(
            feature=feature,
            n_active=int(arrays["n_active"][feature]),
            density=float(self.density_[feature]),
            n_texts=int(arrays["n_active_texts"][feature]),
            max_activation=float(arrays["maximum"][feature]),
            mean_activation=float(self.mean_activation_[feature]),
            n_unique=int(arrays["n_unique"][feature]),
            flags=tuple(name for name, mask in self._flags.items() if mask[feature]),
            top_tokens=self._top_tokens(feature),
            examples=self._examples("strongest", strongest),
            sampled=sampled,
            weights=weights,
            silent=self._silent_examples(feature),
            histogram=_histogram(arrays["histogram"][feature]),
            promoted=self._logits("promoted", feature),
            suppressed=self._logits("suppressed", feature),
            nearest=_related(arrays, "nearest", feature),
            coactive=_related(arrays, "partner", feature),
        )

    def row_sample(self, feature):
        """Return whole rows on which a feature fires, and random ones on which it is silent.

        Parameters
        ----------
        feature : int
            The column of the codes.

        Returns
        -------
        sample : RowSample
            Its strongest rows and random ones from all strengths, then rows on which it is silent.

        Raises
        ------
        ValueError
            If there is no such feature, or the rows are tokens of texts.
        """
        check_is_fitted(self, "facts_")
        check_option("feature", feature, Int(0, self.n_components_ - 1))
        if self.facts_.get("labels", "tokens") == "tokens":
            raise ValueError("The rows of this atlas are tokens of texts, not whole rows.")
        return row_sample(self._arrays, self._strings, int(feature))

    def _top_tokens(self, feature):
        """Return the pieces that a feature fires on most, and their shares of the sum."""
        arrays = self._arrays
        # Keys are feature * 2**32 + number of the string, ascending.
        lines = slice(*np.searchsorted(arrays["sum_key"], np.array([feature, feature + 1]) << 32))
        totals = arrays["sum_total"][lines]
        top = np.argsort(-totals, kind="stable")[: self.n_tokens]
        numbers = arrays["sum_key"][lines][top] & 0xFFFFFFFF
        shares = totals[top] / max(arrays["total"][feature], np.finfo(float).tiny)
        pairs = zip(numbers.tolist(), shares.tolist(), strict=True)
        return [(self._strings[number], share) for number, share in pairs]

    def _examples(self, name, lines):
        """Return some lines of the places `name` as `Example` objects."""
        arrays = self._arrays
        columns = ("row", "cell", "text", "value", "window")
        row, cell, text, value, window = (arrays[f"{name}_{column}"][lines] for column in columns)
        text_begin, text_end = arrays["text_bounds"][text], arrays["text_bounds"][text + 1]
        begin, end = text_begin, text_end
        if self._images is None:
            begin = np.maximum(cell - self.before, text_begin)
            end = np.minimum(cell + self.after + 1, text_end)
        # Window -1, where a feature is silent, runs from the last bound to the first: no entries.
        first, last = arrays["window_bounds"][window], arrays["window_bounds"][window + 1]
        cut_before, cut_after = begin > text_begin, end < text_end
        columns = (row, text, value, cell - begin, cut_before, cut_after, begin, end, first, last)
        examples = []
        for line in zip(*(column.tolist() for column in columns), strict=True):
            row, text, value, peak, cut_before, cut_after, begin, end, first, last = line
            tokens = self._strings[arrays["cell_string"][begin:end]]
            activations = np.zeros(end - begin)
            activations[arrays["window_offset"][first:last]] = arrays["window_value"][first:last]
            source = self._sources[text]
            image = None
            if self._images is not None:
                image = self._images.of_example(source, slice(begin, end), activations, peak)
            examples.append(
                Example(row, source, value, tokens, activations, peak, cut_before, cut_after, image)
            )
        return examples

    def _sampled_examples(self, feature):
        """Return random examples from strong to weak, and the rows that each represents."""
        arrays = self._arrays
        lines = _lines(arrays, "sampled", feature * N_OCTAVES, (feature + 1) * N_OCTAVES)
        octave = arrays["sampled_bucket"][lines] % N_OCTAVES
        n_rows = arrays["histogram"][feature].reshape(-1, PER_OCTAVE).sum(1)  # (N_OCTAVES,)
        n_sampled = np.bincount(octave, minlength=N_OCTAVES)
        weights = n_rows[octave] / n_sampled[octave]
        order = np.argsort(-arrays["sampled_value"][lines], kind="stable")
        return self._examples("sampled", lines.start + order), weights[order]

    def _silent_examples(self, feature):
        """Return windows in which a feature does not fire, by kind."""
        arrays, size = self._arrays, self.n_silent
        indptr, window = arrays["activity_indptr"], arrays["activity_window"]
        is_silent = np.ones(len(arrays["shared_row"]), dtype=bool)  # (n_shared,)
        is_silent[window[indptr[feature] : indptr[feature + 1]]] = False
        is_near = np.zeros(len(is_silent), dtype=bool)
        for neighbor in arrays["nearest"][feature].tolist() if "nearest" in arrays else ():
            is_near[window[indptr[neighbor] : indptr[neighbor + 1]]] = True
        near = np.flatnonzero(is_silent & is_near)[:size]
        is_silent[near] = False  # each window is shown once
        lexical = _lines(arrays, "lexical", feature, feature + 1)
        return {
            "random": self._examples("shared", np.flatnonzero(is_silent)[:size]),
            "neighbor": self._examples("shared", near),
            "lexical": self._examples("lexical", lexical),
        }

    def _logits(self, side, feature):
        """Return the promoted or suppressed tokens of a feature with their logits."""
        if side not in self._arrays:
            return []
        numbers, logits = (self._arrays[name][feature] for name in (side, f"{side}_logits"))
        pairs = zip(numbers.tolist(), logits.tolist(), strict=True)
        return [(self._strings[number], logit) for number, logit in pairs]

    def table(self, features=None):
        """Return a data frame with one line per feature.

        Parameters
        ----------
        features : array-like of int, default=None
            Features, one per line of the table. None takes all.

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
        features = check_features(features, self.n_components_)
        pd = needed("pandas", "FeatureAtlas.table")
        arrays = self._arrays
        top_tokens = map(self._top_tokens, features.tolist())
        columns = {
            "n_active": self.n_active_[features],
            "density": self.density_[features],
            "n_texts": arrays["n_active_texts"][features],
            "max_activation": self.max_activation_[features],
            "mean_activation": self.mean_activation_[features],
            "n_unique": arrays["n_unique"][features],
            "top_tokens": [_joined(token for token, _ in tokens) for tokens in top_tokens],
        }
        for side in ("promoted", "suppressed"):
            if side in arrays:
                numbers = arrays[side][features]
                columns[side] = [_joined(self._strings[line]) for line in numbers]
        firsts = (("nearest", "nearest"), ("cosine", "nearest_cosine"), ("coactive", "partner"))
        for column, name in firsts:
            if name in arrays and arrays[name].shape[1]:
                columns[column] = arrays[name][features, 0]
        columns |= {name: mask[features] for name, mask in self._flags.items()}
        return pd.DataFrame(columns, index=pd.Index(features, name="feature"))

    def save(self, path):
        """Write the atlas to one file of arrays and JSON.

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
        parameters = {name: int(getattr(self, name)) for name in PARAMETERS}
        return write_atlas(
            path,
            parameters=parameters,
            arrays=self._arrays,
            strings=self._strings,
            sources=self._sources,
            facts=self.facts_,
        )

    @classmethod
    def load(cls, path):
        """Read an atlas that `save` wrote; loading runs no code from the file.

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
            If the file is not an atlas, is damaged, or was written by a newer version.
        """
        parameters, *content = read_atlas(path)
        atlas = cls(**parameters)
        with damage_named(path, "is no whole file of an atlas"):
            check_params(atlas)
        return atlas._set(*content)


def _flags(arrays, n_rows, n_first):
    """Return the warnings about all features: a mask of shape (n_components,) by name."""
    n_active, n_texts = arrays["n_active"], arrays["n_active_texts"]
    # A feature of the beginnings of texts has most firings among their first pieces, although few
    # rows are there.
    expected = n_first / max(n_rows, 1)
    early = arrays["n_active_first"] / np.maximum(n_active, 1)
    return {
        "dead": n_active == 0,
        "rare": (n_active > 0) & (n_texts < FEW_TEXTS),
        "dense": n_active > DENSE * n_rows,
        "duplicate-heavy": (n_active >= FEW_TEXTS) & (arrays["n_unique"] < MOSTLY * n_active),
        "position-driven": (n_active > 0) & (early > MOSTLY) & (expected < MOSTLY / 5),
    }


def _lines(arrays, name, low, high):
    """Return the lines of the places `name` whose buckets are at least `low` and below `high`."""
    return slice(*np.searchsorted(arrays[f"{name}_bucket"], [low, high]).tolist())


def _histogram(counts):
    """Return counts and edges from the first to the last bin that is not empty."""
    filled = np.flatnonzero(counts)
    if not len(filled):
        return np.zeros(0, dtype=np.int64), np.zeros(1)
    low, high = filled[0], filled[-1] + 1
    return counts[low:high].astype(np.int64), EDGES[low : high + 1]


def _related(arrays, name, feature):
    if name not in arrays:
        return []
    parts = ("", "_cosine", "_jaccard", "_conditional")
    columns = [arrays[f"{name}{part}"][feature].tolist() for part in parts]
    # -1 fills up the list of a feature that has too few partners.
    return [Related(*line) for line in zip(*columns, strict=True) if line[0] >= 0]


def _logit_arrays(lens, strings):
    """Return the arrays about promoted and suppressed tokens; none without a lens."""
    arrays = {}
    if lens is None:
        return arrays
    for side in ("promoted", "suppressed"):
        tokens = getattr(lens, side)
        arrays[side] = strings.number(tokens.ravel().tolist()).reshape(tokens.shape)
        arrays[f"{side}_logits"] = np.asarray(getattr(lens, f"{side}_logits"), dtype=np.float32)
    return arrays


def _joined(tokens):
    return "  ".join(map(edges_visible, tokens))
