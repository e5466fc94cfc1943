"""Downstream metrics of transcoders, whose prediction replaces the target."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, RegressorMixin, TransformerMixin

from sksae import TopKSAE
from sksae.language_models import (
    ActivationExtractor,
    downstream_metrics,
    make_downstream_scorer,
)
from tests.cases import each_case
from tests.language_models.transcoders import linear_gpt2, neurons, relu_gpt2, skipping

TEXTS = [
    "The cat sat on the mat and the dog sat on the log.",
    "hello world, hello  again",
    "A sparse autoencoder",
]


class Predicts(RegressorMixin, TransformerMixin, BaseEstimator):
    """Predicts one vector for every row."""

    def __init__(self, vector=None):
        self.vector = vector

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X

    def predict(self, X):
        return np.broadcast_to(self.vector, (len(X), len(self.vector)))

    def __sklearn_is_fitted__(self):
        return True


@pytest.fixture(scope="module")
def model():
    return relu_gpt2()


@pytest.fixture(scope="module")
def extractor(model, bpe):
    return ActivationExtractor(model, site=["h.1.mlp.input", "1.mlp_out"], tokenizer=bpe)


def test_the_mlp_as_a_transcoder_keeps_everything(extractor, model, bpe):
    metrics = downstream_metrics(extractor, neurons(model), TEXTS)
    assert metrics["delta_ce"] == pytest.approx(0, abs=1e-5)
    assert metrics["kl"] == pytest.approx(0, abs=1e-6)
    assert metrics["top1_agreement"] == 1
    assert metrics["ce_recovered"] == pytest.approx(1, abs=1e-4)
    assert 0 < metrics["l0"] < 64
    linear = linear_gpt2()
    on_linear = ActivationExtractor(linear, site=extractor.site, tokenizer=bpe)
    metrics = downstream_metrics(on_linear, skipping(linear), TEXTS)
    assert metrics["delta_ce"] == pytest.approx(0, abs=1e-5)
    assert metrics["l0"] == 0


def test_ablations_are_of_the_target(extractor, model, bpe):
    """Those that an extractor of the target alone gives."""
    alone = ActivationExtractor(model, 1, "mlp_out", tokenizer=bpe)
    mean = alone.transform(TEXTS).mean(0, dtype=np.float64)
    sae = TopKSAE(8, k=2, max_iter=1, random_state=0).fit(alone.transform(TEXTS))
    expected = downstream_metrics(alone, sae, TEXTS)
    zeros = downstream_metrics(extractor, Predicts(np.zeros(16, np.float32)), TEXTS)
    assert zeros["ce_patched"] == zeros["ce_zero"] == pytest.approx(expected["ce_zero"], abs=1e-6)
    means = downstream_metrics(extractor, Predicts(mean), TEXTS, mean=mean)
    assert means["ce_patched"] == pytest.approx(means["ce_mean"], abs=1e-6)
    assert zeros["ce_mean"] == pytest.approx(expected["ce_mean"], abs=1e-6)
    assert means["ce_recovered_mean"] == pytest.approx(0, abs=1e-4)


@each_case("kind", ["bloom", "opt"])
def test_predictions_go_where_the_target_is(kind, tiny, bpe):
    lm, vector = tiny(kind, head=True), np.linspace(-1, 1, 16, dtype=np.float32)
    options = {"tokenizer": bpe, "max_length": 16}
    both = ActivationExtractor(lm, 1, ["resid_pre", "mlp_out"], **options)
    alone = ActivationExtractor(lm, 1, "mlp_out", **options)
    sae = TopKSAE(8, k=2, max_iter=1, random_state=0).fit(alone.transform(TEXTS))
    expected = downstream_metrics(alone, sae, TEXTS, mean=vector)
    found = downstream_metrics(both, Predicts(vector), TEXTS, mean=vector)
    assert found["ce_patched"] == pytest.approx(expected["ce_mean"], abs=1e-5)
    assert found["ce_clean"] == pytest.approx(expected["ce_clean"], abs=1e-6)


@each_case("metric", [None, "neg_delta_ce"])
def test_the_scorer_says_the_same(extractor, model, metric):
    exact = neurons(model)
    score = make_downstream_scorer(extractor, TEXTS, metric)(exact)
    wanted = -downstream_metrics(extractor, exact, TEXTS)["delta_ce"]
    assert (score if metric else score["neg_delta_ce"]) == pytest.approx(wanted, abs=1e-7)


def test_what_is_wrong_is_named(extractor, model, bpe):
    exact = neurons(model)
    options = {"tokenizer": bpe}
    one = ActivationExtractor(model, 1, "resid_mid", **options)
    sae = TopKSAE(8, k=2, max_iter=1, random_state=0).fit(one.transform(TEXTS))
    three = ActivationExtractor(model, layer=range(3), site="mlp_out", **options)
    wide = ActivationExtractor(model, site=["h.1.mlp.input", "h.1.mlp.act"], **options)
    for where, estimator, message in (
        (one, exact, "Transcoder reads one site and predicts another, but the extractor has 1"),
        (extractor, sae, "TopKSAE has one site, but the extractor has 2"),
        (three, exact, "The extractor has 3: 0.mlp_out, 1.mlp_out, 2.mlp_out"),
        (wide, exact, "makes 16 columns of the 64"),
    ):
        with pytest.raises(ValueError, match=message):
            downstream_metrics(where, estimator, TEXTS)
    with pytest.raises(ValueError, match="mean has 5 entries, but the site has 16"):
        downstream_metrics(extractor, exact, TEXTS, mean=np.zeros(5))
