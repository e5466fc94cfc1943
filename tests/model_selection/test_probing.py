import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.feature_selection import f_classif
from sklearn.linear_model import Ridge
from sklearn.model_selection import ShuffleSplit

from sksae import DummySAE, TopKSAE
from sksae.model_selection import sparse_probing
from sksae.model_selection._probing import _f_statistic


@pytest.fixture(scope="module")
def planted():
    """Codes of which the third fires for one class, and rows that mix all of them."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 100)
    codes = rng.uniform(size=(200, 20)) * (rng.uniform(size=(200, 20)) < 0.2)
    codes[:, 3] = y * rng.uniform(1, 2, size=200)
    return codes, codes @ rng.normal(size=(20, 12)), y


def scores_of(probes):
    return {
        (name, k): mean
        for name, k, mean in zip(probes.probe, probes.k, probes["mean"], strict=True)
    }


def test_one_latent_is_enough_where_it_is_the_class(planted):
    codes, X, y = planted
    probes = sparse_probing(codes, X, y, k=(1, 4), random_state=0)
    scores = scores_of(probes)
    assert scores["latents", 1] == scores["latents", 4] == 1.0
    assert scores["columns", 1] < 0.95
    assert scores["random latents", 1] < 0.65
    assert len(probes.to_frame()) == 9
    assert (probes.low <= probes["mean"]).all()
    assert scores["latents", 1] > probes.high[3]  # above what draws reach by luck
    sparse_codes = scores_of(
        sparse_probing(sparse.csr_array(codes), X, y, k=(1, 4), random_state=0)
    )
    assert sparse_codes["latents", 1] == 1.0
    assert sparse_codes["columns", 1] == scores["columns", 1]


def test_random_latents_are_the_mean_of_several_draws(planted):
    """By the draws one by one: each is the beginning of a permutation of the latents."""
    codes, X, y = planted
    rng, options = np.random.RandomState(3), {"k": 2, "cv": 4, "random_state": 3}
    drawn = [np.sort(rng.permutation(20)[:2]) for _ in range(6)]
    singles = [
        scores_of(sparse_probing(codes[:, two], X, y, k=2, cv=4))["latents", 2] for two in drawn
    ]
    table = sparse_probing(codes, X, y, n_draws=6, **options)
    assert table.probe[3] == "random latents"
    spread = np.std(singles, ddof=1)
    np.testing.assert_allclose(table["mean"][3], np.mean(singles))
    np.testing.assert_allclose(table["std"][3], spread)
    np.testing.assert_allclose(table.high[3] - table.low[3], 4 * spread)
    one = sparse_probing(codes, X, y, n_draws=1, **options)
    np.testing.assert_allclose(one["mean"][3], singles[0])
    assert np.isnan(one["std"][3])
    everything = sparse_probing(codes, X, y, k=20, cv=2, n_draws=2, random_state=0)
    assert everything["std"][3] == 0
    with pytest.raises(ValueError, match="n_draws must be"):
        sparse_probing(codes, X, y, n_draws=0)


def test_the_selection_does_not_see_the_test_rows():
    """Of 2000 columns of noise some predict any class of few rows, if they are chosen by all."""
    rng = np.random.default_rng(0)
    codes, X, y = rng.normal(size=(60, 2000)), rng.normal(size=(60, 5)), np.repeat([0, 1], 30)
    score = scores_of(sparse_probing(codes, X, y, k=[5], random_state=0))["latents", 5]
    assert 0.3 < score < 0.7


def test_the_statistic_is_that_of_scikit_learn(planted):
    codes, X, _ = planted
    y = np.random.default_rng(1).integers(0, 3, size=200)
    np.testing.assert_allclose(_f_statistic(X, y), f_classif(X, y)[0], rtol=1e-9)
    constant = np.c_[codes, np.zeros(200), np.ones(200)]
    assert (_f_statistic(constant, y)[-2:] < 1e-6).all()
    assert (_f_statistic(constant.astype(np.float32), y)[-2:] < 1e-6).all()
    np.testing.assert_allclose(
        _f_statistic(sparse.csr_array(codes), y), _f_statistic(codes, y), rtol=1e-9
    )


def test_estimators_and_what_cannot_be_probed(planted):
    _, X, y = planted
    sae = TopKSAE(16, k=2, max_iter=2, random_state=0).fit(X)
    own = sparse_probing(sae, X, y, k=[100], random_state=0)
    given = sparse_probing(sae.transform(X), X, y, k=[16], random_state=0)
    np.testing.assert_array_equal(own["mean"][[0, 1, 3]], given["mean"][[0, 1, 3]])
    assert own.k.tolist() == [16, 12, 12, 16, 12]
    named = pd.DataFrame(X).add_prefix("column")
    by_name = TopKSAE(16, k=2, max_iter=2, random_state=0).fit(named)
    framed = sparse_probing(by_name, named, y, k=iter([16]), cv=ShuffleSplit(1, random_state=0))
    assert framed.k.tolist() == sparse_probing(by_name, named, y, k=16, cv=2).k.tolist()
    assert np.isnan(framed.std).tolist() == [True, True, True, False, True]
    assert not np.isnan(framed["mean"]).any()
    with pytest.raises(TypeError, match="'Ridge' has no method 'transform'"):
        sparse_probing(sae, X, y, baseline=Ridge())
    with pytest.raises(TypeError, match="X is a sparse matrix"):
        sparse_probing(sae, sparse.csr_array(X), y)
    with pytest.raises(ValueError, match="classes in y"):
        sparse_probing(sae, X, np.linspace(0, 1.5, 200))
    with pytest.raises(ValueError, match="a row for each of the 200 rows"):
        sparse_probing(sae.transform(X[:50]), X, y)
    with pytest.raises(ValueError, match="k must be"):
        sparse_probing(sae, X, y, k=[0])


def test_a_baseline_is_probed_as_the_estimator_is(planted):
    codes, X, y = planted
    options = {"k": 2, "cv": 2, "random_state": 0}
    dummy = DummySAE(16, k=2, random_state=0)
    probes = sparse_probing(codes, X, y, baseline=dummy, **options)
    assert not hasattr(dummy, "components_")
    separate = scores_of(sparse_probing(dummy.fit(X), X, y, **options))
    scores = scores_of(probes)
    assert scores["latents of DummySAE", 2] == separate["latents", 2]
    assert scores["latents of DummySAE", 2] < scores["latents", 2] == 1.0
    without = scores_of(sparse_probing(codes, X, y, **options))
    assert scores == {**without, ("latents of DummySAE", 2): separate["latents", 2]}
    several = {"a": dummy, "b": DummySAE(16, k=2, random_state=1)}
    named = sparse_probing(codes, X, y, baseline=several, **options)
    assert named.probe.tolist()[4:6] == ["latents of a", "latents of b"]
    assert named["mean"][4] == separate["latents", 2]
    listed = sparse_probing(codes, X, y, baseline=[dummy, dummy], **options)
    assert listed.probe.tolist()[4:6] == ["latents of DummySAE", "latents of DummySAE 2"]
