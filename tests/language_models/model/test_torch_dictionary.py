import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sksae import TopKSAE, Transcoder
from sksae.language_models.model import TorchDictionary, fitted_estimator, reconstruct
from tests.cases import each_case

X = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def topk():
    return TopKSAE(9, k=2, max_iter=3, random_state=0).fit(X)


@each_case("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_codes_and_reconstructions_are_the_estimators(topk, dtype):
    x = torch.from_numpy(X[:12].reshape(3, 4, 6)).to(dtype)
    wide = torch.float64 if dtype is torch.float64 else torch.float32
    rows = x.to(wide).reshape(12, 6).numpy()
    codes = TorchDictionary(topk).encode(x)
    assert codes.dtype is wide
    np.testing.assert_array_equal(codes.reshape(12, 9).numpy(), topk.transform(rows))
    made = reconstruct(topk, x)
    np.testing.assert_allclose(
        made.reshape(12, 6).numpy(), topk.inverse_transform(topk.transform(rows)), rtol=1e-6
    )
    torch.testing.assert_close(TorchDictionary(topk).decode(codes), made)


def test_sparse_codes_come_out_dense_and_the_estimator_stays_as_it_is(topk):
    sparse = TopKSAE(9, k=2, max_iter=3, random_state=0, sparse_output=True).fit(X)
    x = torch.from_numpy(X)
    assert torch.equal(TorchDictionary(sparse).encode(x), TorchDictionary(topk).encode(x))
    assert torch.allclose(reconstruct(sparse, x), reconstruct(topk, x), atol=1e-6)
    assert sparse.sparse_output


def test_no_rows(topk):
    nothing = torch.zeros(0, 6)
    assert TorchDictionary(topk).encode(nothing).shape == (0, 9)
    assert reconstruct(topk, nothing).shape == (0, 6)


def test_what_stands_behind_frozen_estimators_and_searches(topk):
    assert fitted_estimator(FrozenEstimator(topk)) is topk
    search = GridSearchCV(TopKSAE(9, max_iter=2, random_state=0), {"k": [1, 2]}, cv=2).fit(X)
    assert fitted_estimator(search) is search.best_estimator_
    assert TorchDictionary(search).n_features == 9


def test_pipelines_reconstruct_but_have_no_directions():
    pipeline = make_pipeline(StandardScaler(), PCA(6)).fit(X)
    torch.testing.assert_close(
        reconstruct(pipeline, torch.from_numpy(X)), torch.from_numpy(X), atol=1e-5, rtol=0
    )
    with pytest.raises(TypeError, match="Pipeline has no components_"):
        TorchDictionary(pipeline)


def test_what_is_wrong_is_named(topk):
    with pytest.raises(TypeError, match="StandardScaler has no components_"):
        TorchDictionary(StandardScaler().fit(X))
    with pytest.raises(TypeError, match="PCA has no intercept_"):
        TorchDictionary(PCA(2).fit(X))
    with pytest.raises(TypeError, match="int has no transform"):
        TorchDictionary(3)
    with pytest.raises(ValueError, match="not fitted"):
        TorchDictionary(TopKSAE(9))
    with pytest.raises(ValueError, match=r"fitted on 6 columns.*this site have 5"):
        TorchDictionary(topk, 5)
    dictionary = TorchDictionary(topk)
    assert dictionary.check_features([0, 8]).tolist() == [0, 8]
    with pytest.raises(ValueError, match="no feature 9: TopKSAE has 9"):
        dictionary.check_features([0, 9])
    with pytest.raises(ValueError, match="no feature -1"):
        dictionary.check_features([-1])
    for nothing in ([], [0.5], ["a"], 3):
        with pytest.raises(ValueError, match="Features are numbers"):
            dictionary.check_features(nothing)


@each_case("skip", [False, True])
def test_a_transcoder_predicts_its_target(skip):
    Y = np.concatenate([X[:, ::-1], X[:, :2]], axis=1)
    model = Transcoder(TopKSAE(9, k=2, max_iter=2, random_state=0), skip=skip).fit(X, Y)
    x, dictionary = torch.from_numpy(X.reshape(16, 4, 6)), TorchDictionary(model, 6)
    codes = dictionary.encode(x)
    np.testing.assert_array_equal(codes.reshape(64, 9).numpy(), model.transform(X))
    wanted = torch.from_numpy(model.predict(X)).reshape(16, 4, 8)
    parts = codes @ dictionary.components(codes) + dictionary.past_codes(x)
    torch.testing.assert_close(parts, wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(reconstruct(FrozenEstimator(model), x, 8), wanted)
    with pytest.raises(ValueError, match="makes 8 columns of the 6"):
        reconstruct(model, x)
    with pytest.raises(ValueError, match=r"directions of 8 columns.*target site have 6"):
        dictionary.check_target_width(6)


def test_a_single_target_is_one_column():
    model = Transcoder(TopKSAE(9, k=2, max_iter=2, random_state=0)).fit(X, X[:, 0])
    made = reconstruct(model, torch.from_numpy(X), 1)
    np.testing.assert_array_equal(made[:, 0].numpy(), model.predict(X))
    with pytest.raises(TypeError, match="LinearRegression has no transform"):
        TorchDictionary(LinearRegression().fit(X, X))
