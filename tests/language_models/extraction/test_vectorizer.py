import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import estimator_checks

from sksae import ActivationExtractor, SAEVectorizer, SparseAutoencoder, TopKSAE
from sksae.datasets import TINY_LM_PATH, load_corpus
from sksae.language_models.extraction import _activation_reader, _vectorizer
from sksae.language_models.extraction._forward_passes import POOLINGS, pool_codes
from tests.cases import each_case

TEXTS = ["The cat sat on the mat.", "", "hello world, hello again", "a", "a dog and a log " * 9]


@pytest.fixture(scope="module")
def extractor(gpt2, bpe):
    return ActivationExtractor(gpt2, 1, tokenizer=bpe)


@pytest.fixture
def vectorizer(extractor):
    return SAEVectorizer(extractor, TopKSAE(40, k=3, max_iter=5, random_state=0))


@pytest.fixture(scope="module")
def two_packages():
    texts, target = load_corpus(return_X_y=True)
    two = np.flatnonzero((target == 2) | (target == 3))
    return [texts[i][:600] for i in two], target[two]


def by_hand(codes, text, n_texts, pooling):
    one = {"max": lambda x: x.max(0), "mean": lambda x: x.mean(0), "first": lambda x: x[0]}
    one["last"] = lambda x: x[-1]
    pooled = np.zeros((n_texts, codes.shape[1]))
    for i in np.unique(text):
        pooled[i] = one[pooling](codes[text == i])
    return pooled


# Names


def test_names_set_through_the_vectorizer_are_columns_of_a_pipeline(vectorizer):
    with pytest.raises(NotFittedError):
        vectorizer.set_feature_names({3: "cold"})
    assert vectorizer.fit(TEXTS).set_feature_names({3: "cold"}) is vectorizer
    assert vectorizer.get_feature_names_out()[2:4].tolist() == ["topksae2", "cold"]
    # Fitted and named, the autoencoder is used as it is, with its names.
    named = SAEVectorizer(vectorizer.extractor, vectorizer.sae_, sparse_output=False)
    pipeline = make_pipeline(named.set_feature_names({3: "warm"}), StandardScaler())
    table = clone(pipeline).set_output(transform="pandas").fit_transform(TEXTS)
    assert list(table.columns[2:4]) == ["topksae2", "warm"]


@each_case("wrapped", [False, True])
def test_names_of_an_autoencoder_that_is_used_as_it_is(extractor, wrapped):
    sae = TopKSAE(8, k=2, max_iter=1, random_state=0).fit(extractor.transform(TEXTS))
    vectorizer = SAEVectorizer(extractor, FrozenEstimator(sae) if wrapped else sae)
    vectorizer.set_feature_names({1: "cold"})
    vectorizer.fit_transform(TEXTS)
    assert vectorizer.get_feature_names_out()[1] == sae.feature_names_[1] == "cold"


def test_features_of_another_transformer_have_no_names_to_set(extractor):
    vectorizer = SAEVectorizer(extractor, FunctionTransformer()).fit(TEXTS)
    with pytest.raises(AttributeError, match="FunctionTransformer has no set_feature_names"):
        vectorizer.set_feature_names({1: "cold"})


# Pooling


@pytest.mark.parametrize("pooling", POOLINGS)
@each_case("low", [0, -1])
def test_sparse_codes_are_pooled_as_dense_ones(pooling, low):
    rng = np.random.default_rng(0)
    codes = rng.uniform(low, 1, size=(30, 7)) * (rng.random((30, 7)) < 0.4)
    text = np.sort(rng.choice([0, 1, 2, 5, 6], size=30))
    pooled = pool_codes(sparse.csr_array(codes), text, 8, pooling)
    np.testing.assert_allclose(pooled.toarray(), by_hand(codes, text, 8, pooling), rtol=1e-12)
    assert (pooled.data != 0).all()
    assert pool_codes(sparse.csr_array((0, 7)), text[:0], 2, pooling).shape == (2, 7)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_features_are_the_pooled_codes_of_the_tokens(extractor, vectorizer, pooling):
    vectorizer.set_params(pooling=pooling).fit(TEXTS)
    rows, tokens = extractor.extract(TEXTS)
    sae = TopKSAE(40, k=3, max_iter=5, random_state=0).fit(rows)
    np.testing.assert_array_equal(vectorizer.sae_.components_, sae.components_)
    expected = by_hand(sae.transform(rows), tokens.text, len(TEXTS), pooling)
    features = vectorizer.transform(TEXTS)
    assert features.format == "csr"
    assert features.dtype == np.float32
    assert features.has_sorted_indices
    np.testing.assert_allclose(features.toarray(), expected, atol=1e-5)
    # Neither the empty text nor the one of one token has a row.
    assert np.diff(features.indptr)[[1, 3]].tolist() == [0, 0]
    dense = clone(vectorizer).set_params(sparse_output=False).fit_transform(TEXTS)
    assert isinstance(dense, np.ndarray)
    np.testing.assert_allclose(dense, expected, atol=1e-5)


def test_texts_alone_and_together(vectorizer, monkeypatch):
    together = vectorizer.fit(TEXTS).transform(TEXTS).toarray()
    alone = [vectorizer.transform([text]).toarray() for text in TEXTS]
    np.testing.assert_allclose(np.concatenate(alone), together, atol=1e-5)
    monkeypatch.setattr(_activation_reader, "CHUNK_TOKENS", 10)
    np.testing.assert_allclose(vectorizer.transform(iter(TEXTS)).toarray(), together, atol=1e-5)
    monkeypatch.setattr(_vectorizer, "_ROWS_AT_A_TIME", 5)
    again = clone(vectorizer).fit_transform(iter(TEXTS))
    np.testing.assert_allclose(again.toarray(), together, atol=1e-5)
    assert vectorizer.transform([]).shape == (0, 40)


def test_the_pooling_of_the_extractor_has_no_influence(extractor, vectorizer):
    expected = vectorizer.fit_transform(TEXTS).toarray()
    mean = clone(extractor).set_params(pooling="mean")
    features = clone(vectorizer).set_params(extractor=mean).fit_transform(TEXTS)
    np.testing.assert_array_equal(features.toarray(), expected)


# The autoencoder in it


def test_a_frozen_autoencoder_is_used_as_it_is(extractor, vectorizer):
    expected = vectorizer.fit_transform(TEXTS).toarray()
    sae = vectorizer.sae_
    before = pickle.dumps(sae)
    frozen = SAEVectorizer(extractor, FrozenEstimator(sae))
    np.testing.assert_allclose(frozen.transform(TEXTS).toarray(), expected, atol=1e-6)
    twin = clone(frozen).fit(TEXTS[:1])
    assert twin.sae_.estimator is sae
    np.testing.assert_allclose(twin.fit_transform(TEXTS).toarray(), expected, atol=1e-6)
    assert pickle.dumps(sae) == before
    assert twin.get_feature_names_out().tolist() == sae.get_feature_names_out().tolist()
    with pytest.raises(NotFittedError):
        SAEVectorizer(extractor, FrozenEstimator(TopKSAE(4))).fit(TEXTS)


def test_a_fitted_autoencoder_is_used_as_it_is(extractor, vectorizer):
    expected = vectorizer.fit_transform(TEXTS).toarray()
    sae = vectorizer.sae_
    before = pickle.dumps(sae)
    for prefit in ("auto", True):
        given = SAEVectorizer(extractor, sae, prefit=prefit)
        np.testing.assert_array_equal(given.transform(TEXTS).toarray(), expected)
        for texts in (TEXTS[:1], TEXTS):
            assert given.fit(texts).sae_ is sae
        np.testing.assert_array_equal(given.fit_transform(TEXTS).toarray(), expected)
        twin = clone(given)
        assert twin.fit(TEXTS[:1]).sae_.estimator is sae
        assert clone(clone(twin)).sae.estimator is sae
        np.testing.assert_array_equal(twin.transform(TEXTS).toarray(), expected)
    assert pickle.dumps(sae) == before


def test_a_fitted_autoencoder_is_fitted_anew_where_that_is_asked_for(extractor, vectorizer):
    sae = vectorizer.fit(TEXTS).sae_
    before = pickle.dumps(sae)
    other = ["completely different words", "and more of them again and again"]
    expected = clone(vectorizer).fit(other).sae_.components_
    anew = SAEVectorizer(extractor, sae, prefit=False)
    with pytest.raises(NotFittedError):
        anew.transform(TEXTS)
    np.testing.assert_array_equal(anew.fit(other).sae_.components_, expected)
    np.testing.assert_array_equal(clone(anew).fit(other).sae_.components_, expected)
    anew.fit_transform(other)
    np.testing.assert_array_equal(anew.sae_.components_, expected)
    assert pickle.dumps(sae) == before


def test_no_fold_trains_a_fitted_autoencoder(extractor, vectorizer):
    texts, target = ["cat sat", "dog ran", "a cat", "a dog"] * 3, [0, 1] * 6
    sae = vectorizer.fit(TEXTS).sae_
    pipeline = make_pipeline(SAEVectorizer(extractor, sae), LogisticRegression())
    search = GridSearchCV(pipeline, {"saevectorizer__pooling": ["max", "mean"]}, cv=2)
    chosen = search.fit(texts, target).best_estimator_[0]
    assert chosen.sae_.estimator is sae
    over_k = GridSearchCV(pipeline, {"saevectorizer__sae__k": [1, 2]}, cv=2)
    with pytest.raises(ValueError, match="cannot set parameters of the inner estimator"):
        over_k.fit(texts, target)
    pipeline.set_params(saevectorizer__prefit=False)
    assert over_k.fit(texts, target).best_estimator_[0].sae_ is not sae


def test_what_counts_as_fitted(extractor):
    rows = np.random.default_rng(0).normal(size=(50, extractor.transform(TEXTS).shape[1]))
    scaler, sae = StandardScaler(), TopKSAE(8, k=2, max_iter=1, random_state=0)
    fitted = clone(sae).fit(rows)
    whole = make_pipeline(clone(scaler), clone(sae)).fit(rows)
    assert SAEVectorizer(extractor, whole).fit(TEXTS).sae_ is whole
    # a fitted last step does not make a pipeline a fitted one
    for part in (make_pipeline(scaler, fitted), make_pipeline(FunctionTransformer(), sae)):
        assert SAEVectorizer(extractor, part).fit(TEXTS).sae_ is not part
    stateless = make_pipeline(FunctionTransformer(), fitted)
    assert SAEVectorizer(extractor, stateless).fit(TEXTS).sae_ is stateless
    with pytest.raises(NotFittedError):
        SAEVectorizer(extractor, sae, prefit=True).fit(TEXTS)
    with pytest.raises(ValueError, match="'prefit' parameter of SAEVectorizer must be 'auto' or a"):
        SAEVectorizer(extractor, sae, prefit="yes").fit(TEXTS)


def test_an_autoencoder_that_was_asked_for_frames(extractor, vectorizer):
    expected = vectorizer.fit_transform(TEXTS).toarray()
    sae = clone(vectorizer.sae).set_output(transform="pandas")
    framed = SAEVectorizer(extractor, sae).fit(TEXTS)
    with sklearn.config_context(transform_output="pandas"):
        codes = clone(framed).set_output(transform="default").fit_transform(TEXTS)
    np.testing.assert_array_equal(codes.toarray(), expected)
    assert isinstance(framed.sae_.transform(extractor.transform(TEXTS)), pd.DataFrame)


def test_other_transformers(extractor):
    scaled = make_pipeline(StandardScaler(), SparseAutoencoder(30, max_iter=3, random_state=0))
    vectorizer = SAEVectorizer(extractor, scaled, "mean").fit(TEXTS)
    rows, tokens = extractor.extract(TEXTS)
    expected = by_hand(vectorizer.sae_.transform(rows), tokens.text, len(TEXTS), "mean")
    np.testing.assert_allclose(vectorizer.transform(TEXTS).toarray(), expected, atol=1e-5)


# scikit-learn


@pytest.mark.slow
def test_in_a_pipeline_with_a_classifier(two_packages):
    texts, y = two_packages
    extractor = ActivationExtractor(TINY_LM_PATH, layer=3)
    sae = TopKSAE(256, k=8, max_iter=3, random_state=0)
    pipeline = make_pipeline(SAEVectorizer(extractor, sae), LogisticRegression(max_iter=1000))
    scores = cross_val_score(pipeline, texts, y, cv=2, error_score="raise")
    assert scores.mean() > 0.9  # one half by chance
    pipeline.fit(texts, y)
    names = pipeline[:-1].get_feature_names_out()
    assert names.tolist() == [f"topksae{i}" for i in range(256)]
    assert pipeline[-1].coef_.shape == (1, 256)


def test_frames_need_dense_features(vectorizer):
    dense = clone(vectorizer).set_params(sparse_output=False).set_output(transform="pandas")
    frame = dense.fit_transform(TEXTS)
    assert isinstance(frame, pd.DataFrame)
    assert list(frame) == [f"topksae{i}" for i in range(40)]
    with pytest.raises(ValueError, match=r"Pandas output does not support sparse|scipy sparse"):
        vectorizer.set_output(transform="pandas").fit_transform(TEXTS)


def test_the_kind_of_sparse_matrix_follows_the_setting(vectorizer):
    for interface, kind in (("spmatrix", "csr_matrix"), ("sparray", "csr_array")):
        with sklearn.config_context(sparse_interface=interface):
            assert type(vectorizer.fit_transform(TEXTS)).__name__ == kind


class Uncopied:
    """Mixed into a model that no one may copy."""

    def __deepcopy__(self, memo):
        raise AssertionError("the language model was copied")


@pytest.fixture
def uncopied(tiny):
    model = tiny("gpt2")
    model.__class__ = type("GPT2Model", (Uncopied, type(model)), {})
    return model


def test_nothing_copies_the_language_model(uncopied, bpe):
    import copy

    extractor = ActivationExtractor(uncopied, 1, tokenizer=bpe)
    vectorizer = SAEVectorizer(extractor, TopKSAE(20, k=2, max_iter=2, random_state=0))
    texts, y = ["the cat sat", "hello world again"] * 4, [0, 1] * 4
    pipeline = make_pipeline(vectorizer, LogisticRegression())
    grid = {"saevectorizer__sae__k": [1, 3], "saevectorizer__extractor__layer": [0, 2]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(texts, y)
    assert search.best_score_ == 1
    assert search.best_estimator_[0].extractor.model is uncopied
    assert search.best_estimator_[0].sae_.k in (1, 3)
    assert copy.deepcopy(pipeline)[0].extractor.model is uncopied
    assert clone(clone(vectorizer)).extractor.model is uncopied


def test_a_pickle_of_a_named_model_is_small(saved):
    named = ActivationExtractor(saved, 1)
    vectorizer = SAEVectorizer(named, TopKSAE(20, k=2, max_iter=2, random_state=0)).fit(TEXTS)
    expected = vectorizer.transform(TEXTS).toarray()
    data = pickle.dumps(vectorizer)
    assert len(data) < 10_000
    np.testing.assert_array_equal(pickle.loads(data).transform(TEXTS).toarray(), expected)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"extractor": "gpt2"}, "'extractor' parameter.*an ActivationExtractor"),
        ({"sae": 3}, "'sae' parameter.*sparse autoencoder"),
        ({"pooling": None}, "'pooling' parameter"),
        ({"sparse_output": 1}, "'sparse_output' parameter"),
        ({"extractor__layer": 9}, "has 3 layers"),
    ],
)
def test_bad_parameters(vectorizer, parameters, message):
    vectorizer.set_params(**parameters)
    for method in (vectorizer.fit, vectorizer.fit_transform):
        with pytest.raises(ValueError, match=message):
            method(TEXTS)


def test_use_before_fit(vectorizer):
    for ask in (lambda: vectorizer.transform(TEXTS), vectorizer.get_feature_names_out):
        with pytest.raises(NotFittedError):
            ask()


def test_tags_and_contract(extractor, vectorizer):
    tags = sklearn.utils.get_tags(vectorizer)
    assert tags.input_tags.string
    assert tags.requires_fit
    assert not sklearn.utils.get_tags(SAEVectorizer(extractor, FrozenEstimator(3))).requires_fit
    for check in (
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_set_params,
        estimator_checks.check_estimator_repr,
    ):
        check("SAEVectorizer", vectorizer)
