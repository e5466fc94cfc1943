"""SAEVectorizer: the transformer from texts to one row of sparse features per text."""

import copy

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from sksae._arrays import check_fits_in_memory, stack_csr
from sksae._coding import estimator_layers, sparse_coder, sparse_codes
from sksae._drafts import on_a_draft
from sksae._params import Bool, Instance, Option, check_params
from sksae._reprs import ShortRepr
from sksae.language_models.extraction._activation_reader import ActivationReader, Chunk
from sksae.language_models.extraction._extractor import ActivationExtractor
from sksae.language_models.extraction._forward_passes import POOLINGS, pool_codes
from sksae.language_models.extraction._input_items import check_container, check_items

_ROWS_AT_A_TIME = 2**14


class _Transformer:
    """The rule for a transformer that can be fitted."""

    def accepts(self, value):
        """Whether `value` satisfies the rule."""
        return hasattr(value, "fit") and hasattr(value, "transform")

    def __str__(self):
        return "a sparse autoencoder, or another transformer with `fit` and `transform`"


class _AutoOrBool:
    """The rule for `prefit`."""

    def accepts(self, value):
        """Whether `value` satisfies the rule."""
        return Bool().accepts(value) or (isinstance(value, str) and value == "auto")

    def __str__(self):
        return "'auto' or a bool"


class SAEVectorizer(ShortRepr, TransformerMixin, BaseEstimator):
    """Sparse features of texts: activations of a language model, coded and pooled per text.

    It stands where TfidfVectorizer would stand. `transform` streams: neither all activations nor
    any dense matrix of codes exists at once.

    Parameters
    ----------
    extractor : ActivationExtractor
        Where the activations come from. Its own `pooling` has no influence.
    sae : estimator
        A sparse autoencoder to fit on the rows of the tokens, or a fitted one, such as a published
        dictionary. `prefit` says what becomes of a fitted one.
    pooling : {"max", "mean", "first", "last"}, default="max"
        What becomes of the codes of the tokens of a text.
    sparse_output : bool, default=True
        Whether `transform` returns a sparse matrix; data frames need False.
    prefit : "auto" or bool, default="auto"
        Whether `sae` is used as it is: "auto" does so if it is fitted, and fits a clone of it
        otherwise; True raises an error unless it is fitted; False always fits a clone. What is in
        a :class:`~sklearn.frozen.FrozenEstimator` is used as it is in any case.

    Attributes
    ----------
    sae_ : estimator
        The fitted autoencoder: `sae` itself where it is used as it is.

    See Also
    --------
    ActivationExtractor : One row of activations per token or per text.
    sklearn.feature_extraction.text.TfidfVectorizer : Words instead of features.

    Notes
    -----
    `fit` holds the activations of all tokens in memory. For more texts than that allows, fit the
    autoencoder on what `ActivationExtractor.to_memmap` returns, and give it fitted.

    Neither `clone` nor a search copies the language model. They keep a fitted autoencoder that is
    used as it is, in a :class:`~sklearn.frozen.FrozenEstimator`, so that no fold trains it anew; a
    search over its parameters is refused, and needs ``prefit=False``.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sksae import ActivationExtractor, SAEVectorizer, TopKSAE
    >>> from sksae.datasets import TINY_LM_PATH, load_corpus
    >>> extractor = ActivationExtractor(TINY_LM_PATH, layer=2)
    >>> vectorizer = SAEVectorizer(extractor, TopKSAE(64, k=4, max_iter=3, random_state=0))
    >>> texts, target = load_corpus(return_X_y=True)
    >>> texts, target = texts[::24], target[::24]
    >>> vectorizer.fit_transform(texts).shape == (len(texts), 64)
    True
    >>> pipeline = make_pipeline(vectorizer, LogisticRegression(max_iter=1000))
    >>> pipeline = pipeline.fit(texts, target)
    >>> pipeline.predict(texts[:1]).shape
    (1,)
    """

    # skrub's TableVectorizer then gives it the column rather than a data frame of one column.
    __single_column_transformer__ = True

    _param_rules = {
        "extractor": Instance(ActivationExtractor, description="an ActivationExtractor"),
        "sae": _Transformer(),
        "pooling": Option(*POOLINGS),
        "sparse_output": Bool(),
        "prefit": _AutoOrBool(),
    }

    def __init__(self, extractor, sae, pooling="max", *, sparse_output=True, prefit="auto"):
        self.extractor = extractor
        self.sae = sae
        self.pooling = pooling
        self.sparse_output = sparse_output
        self.prefit = prefit

    @on_a_draft
    def fit(self, X, y=None):
        """Fit the autoencoder on the activations of the tokens of texts, unless it is fitted.

        Parameters
        ----------
        X : iterable
            The texts, in any form that the extractor takes.
        y : None
            Ignored.

        Returns
        -------
        self : SAEVectorizer
            Fitted vectorizer.

        Raises
        ------
        NotFittedError
            If the autoencoder is to be used as it is, but is not fitted.
        ValueError
            If a parameter or `X` is invalid.
        """
        check_params(self)
        if self._is_prefit():
            check_container(X)
            check_is_fitted(self.sae)
            self.sae_ = self.sae  # the estimator itself, not a copy
        else:
            self._fit_rows(self._all_rows(X).rows)
        return self

    def fit_transform(self, X, y=None):
        """Fit to texts and return their features; the language model reads each text once.

        Parameters
        ----------
        X : iterable
            The texts, in any form that the extractor takes.
        y : None
            Ignored.

        Returns
        -------
        features : {sparse matrix, ndarray} of shape (n_texts, n_codes), dtype=float32
            One row per text.
        """
        check_params(self)
        if self._is_prefit():
            return self.fit([]).transform(X)
        chunk = self._all_rows(X)
        self._fit_rows(chunk.rows)
        return self._pooled(_parts(chunk))

    def transform(self, X):
        """Return the features of texts.

        Parameters
        ----------
        X : iterable
            The texts, in any form that the extractor takes.

        Returns
        -------
        features : {sparse matrix, ndarray} of shape (n_texts, n_codes), dtype=float32
            One row per text; empty for a text without tokens.

        Raises
        ------
        ValueError
            If `X` is invalid.
        MemoryError
            If dense features cannot fit in memory; ``sparse_output=True`` is the remedy.
        """
        check_is_fitted(self)
        check_params(self)
        return self._pooled(ActivationReader(self.extractor).chunks(X, table=False))

    def set_feature_names(self, names):
        """Name features, so that pipelines and data frames have named columns.

        Parameters
        ----------
        names : dict of int to str, sequence of length n_codes, or None
            The names, such as the explanations of :func:`~sksae.interpret.explain`; as for the
            ``set_feature_names`` of a sparse autoencoder.

        Returns
        -------
        self : SAEVectorizer
            The vectorizer; its fitted autoencoder has the names, and so has `sae` where it is used
            as it is.

        Raises
        ------
        AttributeError
            If the transformer within is no sparse autoencoder of sksae.
        ValueError
            If there is no such feature, or a name is empty.
        """
        check_is_fitted(self)
        *_, named = estimator_layers(self._fitted())
        if not hasattr(named, "set_feature_names"):
            raise AttributeError(
                f"{type(named).__name__} has no set_feature_names; the features of a sparse "
                f"autoencoder can be named."
            )
        named.set_feature_names(names)
        return self

    def get_feature_names_out(self, input_features=None):
        """Return the names of the features, which are those of the autoencoder.

        Parameters
        ----------
        input_features : None
            Ignored.

        Returns
        -------
        names : ndarray of shape (n_codes,), dtype=object
            One name per feature.
        """
        check_is_fitted(self)
        return sparse_coder(self._fitted()).get_feature_names_out()

    def _all_rows(self, X):
        return ActivationReader(self.extractor).all_rows(*check_items(X), table=False)

    def _fit_rows(self, rows):
        self.sae_ = clone(self.sae).fit(rows)

    def _pooled(self, chunks):
        """Return the pooled codes of all texts of some chunks."""
        coder = sparse_coder(self._fitted())
        width = len(coder.get_feature_names_out())
        blocks = []
        for chunk in chunks:
            codes = sparse_codes(coder, chunk.rows, width)
            pooled = pool_codes(codes, chunk.text, chunk.n_texts, self.pooling)
            pooled.sort_indices()
            blocks.append((np.diff(pooled.indptr), pooled.indices, pooled.data))
        shape = (sum(len(block[0]) for block in blocks), width)  # (n_texts, width)
        features = stack_csr(blocks, shape, np.float32)
        if self.sparse_output:
            return features
        check_fits_in_memory(shape, features.dtype.itemsize, "feature matrix")
        return features.toarray()

    def _fitted(self):
        return getattr(self, "sae_", self.sae)

    def _is_prefit(self):
        """Whether `sae` is used as it is."""
        if isinstance(self.sae, FrozenEstimator):
            return True
        automatic = isinstance(self.prefit, str) and self.prefit == "auto"
        return _has_been_fitted(self.sae) if automatic else bool(self.prefit)

    def __sklearn_clone__(self):
        original = self
        frozen = isinstance(self.sae, FrozenEstimator)
        # A clone of it would not be fitted, so that it is frozen.
        if not frozen and self._is_prefit() and _has_been_fitted(self.sae):
            original = copy.copy(self)
            original.sae = FrozenEstimator(self.sae)
        return super(SAEVectorizer, original).__sklearn_clone__()

    def __sklearn_is_fitted__(self):
        return hasattr(self, "sae_") or self._is_prefit()

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        # An estimator that was fitted before needs no fit here.
        tags.requires_fit = not self._is_prefit()
        return tags


def _has_been_fitted(estimator):
    """Whether an estimator, or every step of a pipeline, is fitted."""
    steps = (
        [step for _, step in estimator.steps] if isinstance(estimator, Pipeline) else [estimator]
    )
    states = [_state(step) for step in steps if step is not None and step != "passthrough"]
    return True in states and False not in states  # steps without a state decide nothing


def _state(step):
    """Whether a step is fitted; None where it has no state."""
    if isinstance(step, Pipeline):
        return _has_been_fitted(step)
    if not hasattr(step, "__sklearn_tags__"):
        return False
    if not get_tags(step).requires_fit:
        return None
    try:
        check_is_fitted(step)
    except NotFittedError:
        return False
    return True


def _parts(chunk):
    """Yield a chunk in pieces of complete texts, so that the codes of one piece fit in memory."""
    # (n_texts,), row behind the last one of each text
    ends = np.searchsorted(chunk.text, np.arange(chunk.n_texts), side="right")
    first = start = 0
    for text, end in enumerate(ends.tolist()):
        if end - start >= _ROWS_AT_A_TIME or text == chunk.n_texts - 1:
            piece = slice(start, end)
            yield Chunk(first, text + 1 - first, chunk.rows[piece], chunk.text[piece] - first, None)
            first, start = text + 1, end
