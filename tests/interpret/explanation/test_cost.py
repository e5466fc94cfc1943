import pytest

from sksae.interpret import estimate_cost, explain, score_explanations
from sksae.interpret.explanation import _cost
from tests.cases import each_case
from tests.interpret.explanation.planted import WORDS, Oracle, planted_atlas


@pytest.fixture(scope="module")
def atlas():
    return planted_atlas()


@pytest.mark.parametrize("baselines", [True, False])
def test_the_questions_that_are_counted_are_those_that_are_asked(atlas, baselines):
    methods = ("detection", "fuzzing", "simulation", "intruder", "embedding")
    cost = estimate_cost(atlas, [0, 1, 2], methods=methods, baselines=baselines)
    client = Oracle()
    explain(atlas, client, [0, 1, 2])
    assert cost["steps"]["explain"]["calls"] == len(client.asked) == 3
    texts = dict(enumerate(WORDS))
    score_explanations(atlas, texts, client, methods=methods, baselines=baselines)
    assert cost["calls"] == len(client.asked)
    sent = sum(len(m["content"]) for messages in client.asked for m in messages)
    assert cost["tokens_in"] == pytest.approx(sent / 4, rel=0.25)
    assert cost["steps"]["embedding"]["calls"] == 0


def test_the_questions_about_a_baseline_are_counted(atlas):
    methods, words = ("detection", "fuzzing"), dict(enumerate(WORDS))
    baseline = atlas, {0: WORDS[0], 2: WORDS[2]}
    cost = estimate_cost(atlas, [0, 1, 2], methods=methods, baseline=baseline)
    client = Oracle()
    explain(atlas, client, [0, 1, 2])
    score_explanations(atlas, words, client, methods=methods)
    without_baseline, client.asked = len(client.asked), client.asked[:3]
    score_explanations(atlas, words, client, methods=methods, baseline=baseline)
    assert cost["calls"] == len(client.asked) > without_baseline
    assert cost["steps"]["baseline"]["calls"] == len(client.asked) - without_baseline


def test_prices_add_up(atlas):
    options = {"methods": ("detection",), "count_tokens": lambda text: 1}
    cost = estimate_cost(atlas, price_per_million=(2.0, 8.0), **options)
    assert cost["n_features"] == cost["n_measured"] == 3
    assert cost["tokens_in"] == cost["calls"] * (2 + _cost.FRAME)
    price = (2 * cost["tokens_in"] + 8 * cost["tokens_out"]) / 1e6
    assert cost["price"] == pytest.approx(price)
    assert sum(step["price"] for step in cost["steps"].values()) == pytest.approx(price)


def test_many_features_are_measured_by_some(atlas, monkeypatch):
    whole = estimate_cost(atlas, [0, 1, 2], methods="detection")
    monkeypatch.setattr(_cost, "_N_MEASURED", 2)
    part = estimate_cost(atlas, [0, 1, 2], methods="detection")
    assert (part["n_features"], part["n_measured"]) == (3, 2)
    assert part["tokens_in"] == pytest.approx(whole["tokens_in"], rel=0.1)
    assert part["steps"]["explain"]["calls"] == 3
    assert "2 of 3 features" in part["how"]


def test_nothing_costs_nothing(atlas):
    for features in ([], [3]):
        cost = estimate_cost(atlas, features, methods="fuzzing", price_per_million=(1, 1))
        assert (cost["calls"], cost["price"]) == (0, 0.0)


@each_case(
    "options, message",
    [
        ({"methods": "steering"}, "each of methods must be one of"),
        ({"price_per_million": 3.0}, "price_per_million must be a pair"),
        ({"features": [7]}, "7"),
        ({"baseline": (planted_atlas(), {9: "tea"})}, "9"),
    ],
)
def test_wrong_input_is_refused(atlas, options, message):
    with pytest.raises(ValueError, match=message):
        estimate_cost(atlas, **options)


def test_candidates_are_counted_with_their_comparison(atlas):
    one, three = (estimate_cost(atlas, n_candidates=n) for n in (1, 3))
    assert three["steps"]["explain"]["calls"] == 3 * one["steps"]["explain"]["calls"] == 9
    assert three["steps"]["choose"]["calls"] >= 9
    assert "choose" not in one["steps"]
    client = Oracle()
    explain(atlas, client, n_candidates=3)
    assert len(client.asked) == 9  # of candidates that agree none is compared
