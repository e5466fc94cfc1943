from functools import partial

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from sksae.interpret import (
    Explanation,
    FeatureAtlas,
    estimate_cost,
    explain,
    score_explanations,
    split_examples,
)
from sksae.interpret.explanation import _explanation_prompts as prompts
from tests.interpret.explanation.planted import Constant, Oracle, Recording, planted_atlas


@pytest.fixture(scope="module")
def atlas():
    return planted_atlas()


def test_without_a_client_all_features_that_fire_are_described(atlas):
    explanations = explain(atlas)
    assert {i: str(e).partition(" after ")[0] for i, e in explanations.items()} == {
        0: '"tea"',
        1: '"rain"',
        2: '"stone"',
    }
    assert {e.source for e in explanations.values()} == {"tokens"}


def test_with_a_client_each_feature_is_one_question(atlas):
    client = Oracle()
    explanations = explain(atlas, client, [2, 0])
    assert list(explanations) == [2, 0]
    assert [str(e) for e in explanations.values()] == ["stone", "tea"]
    assert explanations[2].source == "oracle"
    assert len(client.asked) == 2


def test_a_feature_that_never_fires_is_not_asked_about(atlas):
    client = Oracle()
    found = explain(atlas, client, [3])
    assert found == {3: Explanation(3, "never fires", "tokens")}
    assert client.asked == []


def test_only_windows_to_explain_from_are_shown(atlas):
    class Looking(Recording):
        def answer(self, system, user):
            return f"EXPLANATION: {len(user)}"

    client = Looking()
    explanation = explain(atlas, client, [0], n_examples=12)[0]
    explaining, scoring = split_examples(atlas.feature(0))
    shown = client.asked[0][1]["content"]
    lines = {prompts.marked(e): e for e in explaining.windows()}
    assert sum(line in shown for line in lines) == 12
    assert not any(prompts.marked(e) in shown for e in scoring.windows())
    assert set(explanation.seen) == {e.text for line, e in lines.items() if line in shown}
    # The strongest first, then some of all parts.
    strongest = [prompts.marked(e) for e in explaining.top[:6]]
    assert [shown.index(line) for line in strongest] == sorted(map(shown.index, strongest))
    assert all(any(prompts.marked(e) in shown for e in part) for part in explaining.quantiles)


def test_the_result_does_not_depend_on_the_other_features_or_the_bound(atlas):
    every = explain(atlas, Oracle(), max_concurrency=8)
    assert explain(atlas, Oracle(), [1], max_concurrency=1) == {1: every[1]}


def test_one_failure_does_not_lose_the_others(atlas):
    class Sometimes(Oracle):
        def answer(self, system, user):
            if user.count("rain") > 3:
                raise ConnectionError("gone")
            return super().answer(system, user)

    with pytest.warns(UserWarning, match="1 of 3 .*: 1; feature 1: ConnectionError: gone"):
        explanations = explain(atlas, Sometimes())
    assert list(explanations) == [0, 2]


@pytest.mark.parametrize(("answer", "reason"), [("", "describes nothing"), (None, "not a string")])
def test_if_nothing_comes_that_is_an_error(atlas, answer, reason):
    with pytest.raises(RuntimeError, match=f"None of 3 features could be explained.*{reason}"):
        explain(atlas, Constant(answer))


def test_the_warning_points_to_the_call(atlas):
    class Second(Oracle):
        def answer(self, system, user):
            return "..." if user.count("tea") > 3 else super().answer(system, user)

    with pytest.warns(UserWarning, match="feature 0: ValueError: it describes nothing") as found:
        explain(atlas, Second())
    assert found[0].filename == __file__


def test_wrong_input_is_refused_before_anything_is_asked(atlas):
    client = Oracle()
    with pytest.raises(ValueError, match="n_examples must be an int >= 1"):
        explain(atlas, client, n_examples=0)
    with pytest.raises(ValueError, match="4"):
        explain(atlas, client, [0, 4])
    with pytest.raises(TypeError, match="method complete"):
        explain(atlas, "gpt")
    assert client.asked == []
    assert explain(atlas, client, []) == {}


@pytest.mark.parametrize(
    ("atlas", "error", "message"),
    [
        (FeatureAtlas(), NotFittedError, "not fitted"),
        (np.eye(3), TypeError, "fitted FeatureAtlas. Got ndarray"),
    ],
    ids=["unfitted", "codes"],
)
def test_an_atlas_is_needed(atlas, error, message):
    for use in (explain, estimate_cost, partial(score_explanations, explanations={0: "tea"})):
        with pytest.raises(error, match=message):
            use(atlas)


@pytest.mark.parametrize(
    ("features", "message"),
    [(3, "list of column numbers"), (np.array([True, False]), "flatnonzero"), ([9], "feature 9")],
    ids=["number", "mask", "beyond"],
)
def test_features_are_numbers_in_a_list(features, message):
    atlas = FeatureAtlas().fit(np.eye(2))
    with pytest.raises(ValueError, match=message):
        explain(atlas, features=features)


def test_any_iterable_of_features_will_do():
    atlas = FeatureAtlas().fit(np.eye(3))
    assert list(explain(atlas, features={2: "a", 0: "b"}.keys())) == [2, 0]
    assert explain(atlas, features=()) == {}
