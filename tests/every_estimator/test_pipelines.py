"""At home in scikit-learn: pipelines, searches, frames, routing, caching."""

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.estimators import SAES, fitted, wide

# Of code that all classes share: two of them stand for it in the default run.
pytestmark = [pytest.mark.usefixtures("unchanged_world"), pytest.mark.costly]


def names_of(SAE, width=64):
    return [f"{SAE.__name__.lower()}{i}" for i in range(width)]


def test_frames_in_and_out(SAE, X):
    frame = pd.DataFrame(X, columns=[f"unit{i}" for i in range(12)], index=range(1000, 1400))
    sae = wide(SAE, max_iter=3).fit(frame)
    assert sae.feature_names_in_.tolist() == list(frame.columns)
    assert sae.get_feature_names_out().tolist() == names_of(SAE)
    plain = sae.transform(frame)
    codes = clone(sae).set_output(transform="pandas").fit(frame).transform(frame)
    assert codes.columns.tolist() == names_of(SAE)
    assert codes.index.tolist() == frame.index.tolist()
    assert_array_equal(codes.to_numpy(), plain)
    codes = clone(sae).set_output(transform="polars").fit_transform(frame)
    assert isinstance(codes, pl.DataFrame)
    assert_array_equal(codes.to_numpy(), plain)
    with pytest.raises(ValueError, match="feature names"):
        sae.transform(frame.rename(columns={"unit3": "unit3b"}))


def test_frames_cannot_hold_sparse_codes(SAE, X):
    sae = wide(SAE, max_iter=1, sparse_output=True).set_output(transform="pandas").fit(X)
    with pytest.raises(ValueError, match=r"[Ss]parse|scipy"):
        sae.transform(X)


def test_the_interface_of_sparse_codes_follows_the_setting(SAE, X):
    sae = wide(SAE, max_iter=1, sparse_output=True).fit(X)
    for interface, kind in (("spmatrix", "csr_matrix"), ("sparray", "csr_array")):
        with sklearn.config_context(sparse_interface=interface):
            codes = sae.transform(X)
        assert type(codes).__name__ == kind
        assert sae.inverse_transform(codes).shape == X.shape
        assert isinstance(sae.inverse_transform(codes), np.ndarray)


def test_a_pipeline_is_its_steps_by_hand(sae, X):
    y = X[:, 0]
    sae.set_params(max_iter=2)
    pipeline = make_pipeline(StandardScaler(), sae, Ridge()).fit(X, y)
    scaled = StandardScaler().fit_transform(X)
    codes = clone(sae).fit(scaled).transform(scaled)
    assert_allclose(pipeline.predict(X), Ridge().fit(codes, y).predict(codes), rtol=1e-10)
    assert np.isfinite(cross_val_score(pipeline, X, y, cv=2)).all()


def test_unions_and_column_transformers(SAE, X):
    union = FeatureUnion(
        [("a", wide(SAE, max_iter=1)), ("b", wide(SAE, max_iter=1, n_components=5))]
    )
    assert union.fit_transform(X).shape == (400, 69)
    assert union.get_feature_names_out()[-1] == f"b__{SAE.__name__.lower()}4"
    columns = ColumnTransformer([("sae", wide(SAE, max_iter=1), slice(0, 6))])
    assert columns.fit_transform(X).shape == (400, 64)


def test_sample_weight_is_routed_through_a_pipeline(SAE, X):
    weight = np.linspace(0, 1, len(X))
    with sklearn.config_context(enable_metadata_routing=True):
        sae = (
            wide(SAE, max_iter=3)
            .set_fit_request(sample_weight=True)
            .set_score_request(sample_weight=True)
        )
        scaler = StandardScaler().set_fit_request(sample_weight=True)
        pipeline = make_pipeline(scaler, sae).fit(X, sample_weight=weight)
        score = pipeline.score(X, sample_weight=weight)
        with pytest.raises(sklearn.exceptions.UnsetMetadataPassedError):
            make_pipeline(StandardScaler(), wide(SAE)).fit(X, sample_weight=weight)
    scaled = StandardScaler().fit(X, sample_weight=weight).transform(X)
    alone = wide(SAE, max_iter=3).fit(scaled, sample_weight=weight)
    assert_array_equal(pipeline[-1].components_, alone.components_)
    assert score == alone.score(scaled, sample_weight=weight)


def test_a_frozen_model_is_not_refitted(SAE, X):
    sae = fitted(SAE, X)
    codes = sae.transform(X[:50])
    pipeline = make_pipeline(FrozenEstimator(sae), Ridge()).fit(X[:50], X[:50, 0])
    assert_array_equal(pipeline[0].transform(X[:50]), codes)
    assert_array_equal(clone(pipeline)[0].transform(X[:50]), codes)


def test_a_cached_step_is_fitted_once(SAE, X, tmp_path, monkeypatch):
    fits, fit = [], SAE.fit

    def counted(self, *args, **kwargs):
        fits.append(self)
        return fit(self, *args, **kwargs)

    monkeypatch.setattr(SAE, "fit", counted)
    memory = joblib.Memory(tmp_path, verbose=0)
    predictions = [
        make_pipeline(wide(SAE, max_iter=3), Ridge(alpha=alpha), memory=memory)
        .fit(X, X[:, 0])
        .predict(X)
        for alpha in (1.0, 1.0, 2.0)
    ]
    assert len(fits) == 1
    assert_array_equal(predictions[0], predictions[1])
    assert np.abs(predictions[2] - predictions[0]).max() > 0


def test_a_search_over_the_width(SAE, X):
    search = GridSearchCV(wide(SAE, max_iter=10), {"n_components": [5, 64]}, cv=2).fit(X)
    assert search.best_params_ == {"n_components": 64}
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.transform(X).shape == (400, 64)
    assert search.inverse_transform(search.transform(X)).shape == X.shape


@pytest.mark.slow
def test_a_search_in_processes_gives_what_one_in_this_process_gives(X):
    sae = wide(SAES[0], max_iter=3)
    grid = {"n_components": [5, 8], "normalize": ["rms", None]}
    alone = GridSearchCV(sae, grid, cv=2).fit(X)
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        together = GridSearchCV(sae, grid, cv=2, n_jobs=2).fit(X)
    assert_allclose(
        together.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"], rtol=1e-9
    )


def test_threads_fit_side_by_side(SAE, X):
    reference = fitted(SAE, X, max_iter=10).components_
    models = joblib.Parallel(n_jobs=2, backend="threading")(
        joblib.delayed(wide(SAE, max_iter=10).fit)(X) for _ in range(4)
    )
    for model in models:
        assert_array_equal(model.components_, reference)


def test_the_diagram_of_a_notebook_is_drawn(SAE, X):
    html = fitted(SAE, X)._repr_html_()
    assert SAE.__name__ in html
    assert "components_" in html


def test_fit_transform_is_fit_and_transform(sae, X):
    one, other = clone(sae).fit_transform(X), sae.fit(X).transform(X)
    assert_array_equal(getattr(one, "data", one), getattr(other, "data", other))
