import copy
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sksae import TopKSAE
from sksae.datasets import TINY_LM_PATH, load_corpus
from sksae.language_models import (
    ActivationExtractor,
    downstream_metrics,
    make_downstream_scorer,
)
from sksae.model_selection import BestExplainedVariance, OneStandardError
from tests.cases import each_case

TEXTS = [
    "The cat sat on the mat and the dog sat on the log.",
    "hello world, hello  again",
    "A sparse autoencoder",
]
METRICS = {
    "ce_recovered": ("ce_recovered", 1),
    "ce_recovered_mean": ("ce_recovered_mean", 1),
    "neg_delta_ce": ("delta_ce", -1),
    "neg_kl": ("kl", -1),
    "kl_recovered": ("kl_recovered", 1),
    "top1_agreement": ("top1_agreement", 1),
    "neg_l0": ("l0", -1),
}


@pytest.fixture(scope="module")
def llama(tiny):
    return tiny("llama", head=True)


@pytest.fixture(scope="module")
def extractor(llama, bpe):
    return ActivationExtractor(llama, 1, tokenizer=bpe)


@pytest.fixture(scope="module")
def topk(extractor):
    return TopKSAE(24, k=3, max_iter=20, random_state=0).fit(extractor.transform(TEXTS))


@pytest.fixture(scope="module")
def packaged():
    """The packaged model, some rows of it, and held-out texts."""
    extractor = ActivationExtractor(TINY_LM_PATH, 2)
    texts = [text[:500] for text in load_corpus().data[:14]]
    return extractor, extractor.transform(texts[4:]), texts[:4]


def passes_of(model, call):
    """How often the last block runs during `call`."""
    runs = []
    handle = model.model.layers[-1].register_forward_hook(lambda *_: runs.append(1))
    call()
    handle.remove()
    return len(runs)


@each_case("metric", METRICS)
def test_scores_are_the_metrics(metric, extractor, topk):
    name, sign = METRICS[metric]
    expected = sign * downstream_metrics(extractor, topk, TEXTS)[name]
    scorer = make_downstream_scorer(extractor, TEXTS, metric)
    for _ in range(2):
        score = scorer(topk)
        assert type(score) is float
        assert score == pytest.approx(expected, abs=1e-9)
    assert scorer(topk, "ignored", y="too") == score


def test_all_scores_at_once(extractor, topk):
    mean = np.arange(16.0)
    found = downstream_metrics(extractor, topk, TEXTS, mean=mean)
    scores = make_downstream_scorer(extractor, iter(TEXTS), None, mean=mean)(topk)
    assert scores == pytest.approx({k: sign * found[name] for k, (name, sign) in METRICS.items()})


def test_what_is_the_same_for_all_is_computed_once(llama, extractor, topk):
    """All texts fit into one batch: clean, zero and mean; then what the score needs."""
    for metric, each in (("ce_recovered", 1), ("neg_delta_ce", 1), ("neg_kl", 2), (None, 2)):
        scorer = make_downstream_scorer(extractor, TEXTS, metric)
        first = passes_of(llama, lambda scorer=scorer: scorer(topk))
        again = passes_of(llama, lambda scorer=scorer: scorer(topk))
        assert again == each
        assert first >= 3 + each


def test_making_a_scorer_runs_nothing(llama, extractor):
    assert passes_of(llama, lambda: make_downstream_scorer(extractor, TEXTS)) == 0


def test_an_extractor_that_changes_later(llama, bpe, topk):
    extractor = ActivationExtractor(llama, 1, tokenizer=bpe)
    scorer = make_downstream_scorer(extractor, TEXTS)
    expected = make_downstream_scorer(extractor, TEXTS)(topk)
    extractor.set_params(layer=0)
    assert scorer(topk) == expected
    assert make_downstream_scorer(extractor, TEXTS)(topk) != expected


def test_copies_and_pickles(saved, topk):
    scorer = make_downstream_scorer(ActivationExtractor(saved, 1), TEXTS, "neg_kl")
    before = pickle.loads(pickle.dumps(scorer))
    score = scorer(topk)
    assert copy.deepcopy(scorer) is scorer
    search = GridSearchCV(topk, {"k": [1]}, scoring=scorer)
    assert clone(search).scoring is scorer
    stored = pickle.dumps(scorer)
    assert len(stored) < 10_000  # no model
    after = pickle.loads(stored)
    assert after._fixed.keys() == scorer._fixed.keys()
    assert after(topk) == before(topk) == score


def test_a_model_object_is_not_copied(llama, extractor, topk):
    scorer = make_downstream_scorer(extractor, TEXTS)
    assert copy.deepcopy(scorer).extractor.model is llama
    assert scorer.extractor is not extractor


@pytest.mark.slow
def test_a_search_finds_that_more_features_keep_more(packaged):
    extractor, rows, texts = packaged
    search = GridSearchCV(
        TopKSAE(128, max_iter=5, random_state=0),
        {"k": [1, 4, 16]},
        scoring=make_downstream_scorer(extractor, texts),
        cv=2,
    ).fit(rows)
    assert search.best_params_ == {"k": 16}
    scores = search.cv_results_["mean_test_score"]
    assert list(scores) == sorted(scores)
    expected = downstream_metrics(extractor, search.best_estimator_, texts)["ce_recovered"]
    assert search.scorer_(search.best_estimator_) == pytest.approx(expected, abs=1e-6)


def test_rules_of_searches_read_the_scores(packaged):
    extractor, rows, texts = packaged
    scorer = make_downstream_scorer(extractor, texts[:2], None)
    grid, rule = {"k": [1, 4, 16]}, OneStandardError(score="neg_delta_ce")
    model = TopKSAE(64, max_iter=3, random_state=0)
    search = GridSearchCV(model, grid, scoring=scorer, refit=rule, cv=2).fit(rows[:2000])
    assert search.best_params_ == {"k": 16}
    assert search.cv_results_["mean_test_neg_l0"].tolist() == [-1, -4, -16]
    other = BestExplainedVariance(max_l0=4, score="top1_agreement")
    assert grid["k"][other(search.cv_results_)] == 4


def test_pipelines_in_cross_validation(extractor):
    rows = extractor.transform(TEXTS)
    model = make_pipeline(StandardScaler(), TopKSAE(24, k=2, max_iter=3, random_state=0))
    scorer = make_downstream_scorer(extractor, TEXTS, None)
    found = cross_validate(model, rows, scoring=scorer, cv=2, return_estimator=True)
    for i, fitted in enumerate(found["estimator"]):
        expected = downstream_metrics(extractor, fitted, TEXTS)
        assert found["test_neg_kl"][i] == pytest.approx(-expected["kl"])
        assert found["test_neg_l0"][i] == -2


def test_bad_arguments(extractor, llama, topk):
    with pytest.raises(TypeError, match="extractor must be an ActivationExtractor"):
        make_downstream_scorer(llama, TEXTS)
    with pytest.raises(ValueError, match=r"metric must be one of 'ce_recovered'.*Got 'kl'"):
        make_downstream_scorer(extractor, TEXTS, "kl")
    with pytest.raises(ValueError, match="metric must be one of"):
        make_downstream_scorer(extractor, TEXTS, ["ce_recovered"])
    with pytest.raises(ValueError, match="Got one text"):
        make_downstream_scorer(extractor, TEXTS[0])
    with pytest.raises(ValueError, match=r"X\[1\] is None"):
        make_downstream_scorer(extractor, ["a", None])
    with pytest.raises(ValueError, match="texts is empty"):
        make_downstream_scorer(extractor, [])
    with pytest.raises(ValueError, match="mean must be a finite vector"):
        make_downstream_scorer(extractor, TEXTS, mean=[np.inf])
    with pytest.raises(ValueError, match="batch_tokens"):
        make_downstream_scorer(clone(extractor).set_params(batch_tokens=0), TEXTS)
    narrow = TopKSAE(8, max_iter=1, random_state=0).fit(np.eye(5, dtype=np.float32))
    with pytest.raises(ValueError, match="fitted on 5 columns"):
        make_downstream_scorer(extractor, TEXTS)(narrow)
    assert repr(make_downstream_scorer(extractor, TEXTS)).endswith(
        "<3 texts>, metric='ce_recovered')"
    )
