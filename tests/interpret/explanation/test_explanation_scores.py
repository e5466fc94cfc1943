import json
import math

import numpy as np
import pytest

from sksae.interpret import (
    Explanation,
    explain,
    load_explanations,
    save_explanations,
    score_explanations,
    split_examples,
)
from sksae.interpret.explanation import _explanation_prompts as prompts
from sksae.interpret.explanation import _explanation_scores
from tests.cases import each_case
from tests.interpret.explanation.planted import (
    WORDS,
    Always,
    Constant,
    Oracle,
    Recording,
    lines_of,
    planted_atlas,
)

TRUE = dict(enumerate(WORDS))
ASKED = ("detection", "fuzzing", "simulation", "intruder")


@pytest.fixture(scope="module")
def atlas():
    return planted_atlas()


def scores_of(scored, method, key="value"):
    return [e.scores[method][key] for e in scored.values()]


@pytest.fixture(scope="module")
def known(atlas):
    return score_explanations(atlas, TRUE, Oracle(), methods=ASKED)


@each_case("method", ASKED)
def test_who_knows_the_truth_is_right(known, method):
    np.testing.assert_allclose(scores_of(known, method), 1.0)
    for explanation in known.values():
        score = explanation.scores[method]
        assert score["n"] > 0
        assert score["n_failed"] == 0
        assert score["low"] <= 1 + 1e-9
        assert score["high"] == pytest.approx(1.0)


def test_perfect_answers_to_few_questions_are_not_certain(known):
    for method in ("detection", "fuzzing", "intruder"):
        assert max(scores_of(known, method, "low")) < 0.95


def test_the_explanation_of_another_feature_scores_badly(known):
    for method in ("detection", "fuzzing"):
        for baseline in scores_of(known, method, "baseline"):
            assert baseline["random"] < 0.6
            assert baseline["shuffled"] < 0.8
    for baseline in scores_of(known, "simulation", "baseline"):
        assert math.isnan(baseline["random"]) or baseline["random"] < 0.3
    assert scores_of(known, "intruder", "baseline") == [{"chance": 0.2}] * 3


def test_another_estimator_is_put_beside(atlas, known):
    """Its features have the explanations of others, and one of them is the right one."""
    wrong = {0: WORDS[1], 1: WORDS[2], 2: WORDS[2], 3: "nothing"}
    options = {"methods": ASKED[:2]}
    alone = score_explanations(atlas, wrong, Oracle(), baselines=False, **options)
    scored = score_explanations(atlas, TRUE, Oracle(), baseline=(atlas, wrong), **options)
    for method in ASKED[:2]:
        values = np.array(scores_of(alone, method))
        assert math.isnan(values[3])  # it never fires
        assert values[2] == 1.0
        for feature, explanation in scored.items():
            found, expected = explanation.scores[method], known[feature].scores[method]
            assert found["baseline"]["estimator"] == pytest.approx(values[:3].mean())
            assert found["value"] == expected["value"]
            assert found["baseline"] == {**expected["baseline"], **found["baseline"]}
    with pytest.raises(TypeError, match="baseline must be a pair"):
        score_explanations(atlas, TRUE, baseline=atlas)
    with pytest.raises(ValueError, match="9"):
        score_explanations(atlas, TRUE, baseline=(atlas, {9: "tea"}))
    options["methods"] = ["embedding", "detection"]
    rare = score_explanations(atlas, {3: "nothing"}, Oracle(), baseline=(atlas, TRUE), **options)
    assert rare[3].scores["detection"]["baseline"] == {"estimator": 1.0}
    assert 0.5 < rare[3].scores["embedding"]["baseline"]["estimator"] < 1
    rare = score_explanations(atlas, TRUE, baseline=(atlas, {3: "nothing"}))
    assert math.isnan(rare[0].scores["embedding"]["baseline"]["estimator"])


def test_recall_is_told_for_strong_and_weak_firings(known):
    for method in ("detection", "fuzzing", "intruder"):
        for parts in scores_of(known, method, "quantiles"):
            assert {part["value"] for part in parts} == {1.0}
            assert [part["quantile"] for part in parts] == sorted({p["quantile"] for p in parts})
            assert len(parts) >= 2


@pytest.mark.parametrize("number", [0, 1])
def test_who_always_says_the_same_is_at_chance(atlas, number):
    scored = score_explanations(atlas, TRUE, Always(number), methods=ASKED[:2])
    for method in ASKED[:2]:
        assert scores_of(scored, method) == [0.5] * 3
        assert scores_of(scored, method, "sensitivity") == [float(number)] * 3
        assert scores_of(scored, method, "specificity") == [1.0 - number] * 3
        for low, high in zip(*(scores_of(scored, method, k) for k in ("low", "high")), strict=True):
            assert low < 0.5 < high


def test_a_constant_simulation_has_no_correlation(atlas):
    scored = score_explanations(atlas, TRUE, Always(0), methods="simulation")
    assert np.isnan(scores_of(scored, "simulation")).all()
    assert scores_of(scored, "simulation", "n_failed") == [0, 0, 0]


def test_a_constant_choice_is_right_as_often_as_it_is_by_chance(atlas):
    scored = score_explanations(atlas, TRUE, Constant("3"), methods="intruder", n_examples=40)
    assert np.mean(scores_of(scored, "intruder")) == pytest.approx(0.2, abs=0.2)
    assert max(scores_of(scored, "intruder", "quantiles"), key=len)


@each_case(
    "garbage",
    [
        "",
        "yes",
        "[1, 0",
        "[]",
        "[2, 2, 2, 2, 2]",
        "I can't 1 2 3",
        "<think>[0, 1] or 2",
        None,
        b"1",
    ],
)
def test_every_answer_that_cannot_be_read_is_counted(atlas, known, garbage):
    with pytest.warns(UserWarning, match=r"answers could not be read and count as") as found:
        scored = score_explanations(atlas, TRUE, Constant(garbage), methods=ASKED)
    assert found[0].filename == __file__
    for method in ASKED:
        if garbage == "[2, 2, 2, 2, 2]" and method == "intruder":
            continue  # that names one number
        assert np.isnan(scores_of(scored, method)).all()
        assert scores_of(scored, method, "n") == [0, 0, 0]
        assert scores_of(scored, method, "n_failed") == scores_of(known, method, "n")


def test_a_score_without_a_single_answer_is_named(atlas, known):
    class PartlySilent(Oracle):
        def answer(self, system, user):
            return None if user.startswith("Description: rain") else super().answer(system, user)

    options = {"methods": "detection", "baselines": False}
    with pytest.warns(UserWarning, match=r"all of detection of feature 1; the first .* a NoneType"):
        scored = score_explanations(atlas, TRUE, PartlySilent(), **options)
    values = scores_of(scored, "detection")
    assert np.isnan(values[1])
    assert values[0] == values[2] == 1.0


def test_some_unreadable_answers_leave_the_others(atlas, known):
    class Lazy(Oracle):
        def answer(self, system, user):
            answer = super().answer(system, user)
            return "?" if len(self.asked) % 3 == 0 else answer

    options = {"methods": ASKED, "max_concurrency": 1}
    scored = score_explanations(atlas, TRUE, Lazy(), **options)
    for method in ASKED:
        np.testing.assert_allclose(scores_of(scored, method), 1.0)
        total = np.add(scores_of(scored, method, "n"), scores_of(scored, method, "n_failed"))
        assert total.tolist() == scores_of(known, method, "n")
        assert min(scores_of(scored, method, "n_failed")) > 0


def test_questions_without_an_answer_are_counted_and_warned_of(atlas):
    class Broken(Oracle):
        def answer(self, system, user):
            if len(self.asked) % 4 == 0:
                raise ConnectionError("gone")
            return super().answer(system, user)

    options = {"methods": "detection", "baselines": False, "max_concurrency": 1}
    with pytest.warns(UserWarning, match=r"questions got no answer and count as failed") as found:
        scored = score_explanations(atlas, TRUE, Broken(), **options)
    assert found[0].filename == __file__
    assert sum(scores_of(scored, "detection", "n_failed")) > 0
    assert scores_of(scored, "detection") == [1.0] * 3


def test_if_no_question_is_answered_that_is_an_error(atlas):
    class Gone:
        def complete(self, messages):
            raise ConnectionError("gone")

    with pytest.raises(RuntimeError, match="ConnectionError: gone"):
        score_explanations(atlas, TRUE, Gone())


def test_no_window_that_was_explained_from_is_tested_on(atlas):
    def bare(line):
        return line.replace("<<", "").replace(">>", "").strip("…")

    for number in TRUE:
        explaining, scoring = Oracle(), Oracle()
        explanations = explain(atlas, explaining, [number])
        methods = ("detection", "fuzzing", "simulation")
        score_explanations(atlas, explanations, scoring, methods=methods)
        shown = {bare(line) for line in lines_of(explaining.asked[0][1]["content"])}
        tested = set()
        for system, user in scoring.asked:
            lines = lines_of(user["content"])
            joined = system["content"] == prompts._SIMULATE
            tested |= {"".join(map(json.loads, lines))} if joined else set(map(bare, lines))
        assert len(shown) >= 12
        assert len(tested) >= 20
        assert not shown & tested


def test_what_was_seen_counts_whatever_the_seed(atlas):
    class Lines(Recording):
        def answer(self, system, user):
            return json.dumps([0] * len(lines_of(user)))

    explanation = explain(atlas, Oracle(), [0], random_state=0)[0]
    shown = {prompts.line_of(e) for e in atlas.feature(0).examples if e.text in explanation.seen}
    assert shown
    for seed in range(1, 4):
        client = Lines()
        score_explanations(atlas, {0: explanation}, client, methods="detection", random_state=seed)
        tested = {line for m in client.asked for line in lines_of(m[1]["content"])}
        assert not tested & shown


def test_negatives_hold_the_token_where_the_feature_is_silent(atlas):
    client = Recording()
    client.answer = lambda system, user: "[]"
    with pytest.warns(UserWarning, match="could not be read"):
        score_explanations(
            atlas, {0: "tea"}, client, methods="detection", baselines=False, max_concurrency=1
        )
    lines = [line for m in client.asked for line in lines_of(m[1]["content"])]
    _, side = split_examples(atlas.feature(0))
    lexical = {prompts.line_of(e) for e in side.silent["lexical"]}
    assert lexical
    assert all(" no tea" in line for line in lexical)
    assert lexical <= set(lines)
    assert sum(" tea" in line for line in lines) < len(lines)
    assert {len(lines_of(m[1]["content"])) for m in client.asked[:-1]} == {5}


def test_windows_are_the_same_for_every_explanation(atlas):
    def asked(text):
        client = Always(0)
        score_explanations(atlas, {0: text}, client, methods=ASKED[:3], max_concurrency=1)
        return [m[1]["content"].partition("\n")[2] for m in client.asked]

    assert asked("tea") == asked("something else")


def test_the_seed_decides(atlas):
    def scored(seed):
        client = Always(1)
        score_explanations(atlas, TRUE, client, random_state=seed, max_concurrency=1)
        return client.asked

    assert scored(0) == scored(0)
    assert scored(0) != scored(1)


def test_rare_features_are_said_to_be_rare(atlas):
    client = Oracle()
    scored = score_explanations(atlas, {3: "never", 0: "tea"}, client, min_examples=5)
    score = scored[3].scores["detection"]
    assert score["note"].startswith("too rare: 0 windows with the feature")
    assert math.isnan(score["value"])
    assert score["n"] == 0
    assert "note" not in scored[0].scores["detection"]
    every = score_explanations(atlas, TRUE, client, min_examples=10_000)
    assert all("too rare" in note for note in scores_of(every, "fuzzing", "note"))


def test_scores_of_before_are_kept(atlas):
    before = Explanation(0, "tea", "hand", {"detection": {"value": 0.1}, "mine": {"value": 2}})
    scores = score_explanations(atlas, {0: before}, Oracle(), methods="detection")[0].scores
    assert scores["mine"] == {"value": 2}
    assert scores["detection"]["value"] == 1.0
    assert before.scores["detection"] == {"value": 0.1}


def test_nobody_is_asked_for_an_embedding(atlas):
    scored = score_explanations(atlas, explain(atlas))
    for score in scored.values():
        found = score.scores["embedding"]
        assert found["low"] < found["value"] < found["high"] or found["value"] == 1
        assert found["value"] > 0.6
        assert 0.5 < found["baseline"]["shuffled"] < 0.8
        assert found["baseline"]["random"] < found["value"]


def test_an_embedding_that_knows_is_perfect_and_one_that_does_not_is_at_chance(atlas):
    def knowing(texts):
        return [[w in t and f" no {w}" not in t for w in WORDS] + [1e-3] for t in texts]

    scored = score_explanations(atlas, TRUE, embed=knowing)
    assert scores_of(scored, "embedding") == [1.0] * 3
    scored = score_explanations(atlas, TRUE, embed=lambda texts: np.ones((len(texts), 2)))
    assert scores_of(scored, "embedding") == [0.5] * 3


@each_case(
    "embed, message",
    [
        (lambda texts: np.ones(3), r"embed must return one vector per text.*shape \(3,\)"),
        (lambda texts: np.ones((1, 2)), "one vector per text"),
        (lambda texts: np.full((len(texts), 2), np.nan), "NaN or infinity"),
    ],
)
def test_embeddings_are_checked(atlas, embed, message):
    with pytest.raises(ValueError, match=message):
        score_explanations(atlas, TRUE, embed=embed)


def test_windows_without_words_are_no_trouble():
    from sksae.interpret import FeatureAtlas

    codes = np.tile([[1.0], [0.0]], (30, 1))
    atlas = FeatureAtlas().fit(codes, tokens={"text": np.arange(60), "string": [" ", "\n"] * 30})
    score = score_explanations(atlas, {0: "  "})[0].scores["embedding"]
    assert math.isnan(score["value"])


@each_case(
    "arguments, options, error, message",
    [
        ((TRUE,), {"methods": "detection"}, ValueError, "'detection' asks a language model"),
        ((TRUE,), {"methods": "other"}, ValueError, "each of methods must be one of 'detection'"),
        ((TRUE, "gpt"), {}, TypeError, "method complete"),
        (({9: "x"},), {}, ValueError, "9"),
        (({0: 3},), {}, ValueError, r"explanations\[0\] must be the Explanation of feature 0"),
        (({0: Explanation(1, "x")},), {}, ValueError, r"explanations\[0\]"),
        ((["x"],), {}, TypeError, "must be a dict by feature"),
        ((TRUE,), {"n_examples": 1}, ValueError, "n_examples"),
        ((TRUE,), {"baselines": 1}, ValueError, "baselines must be a bool"),
    ],
)
def test_wrong_input_is_refused(atlas, arguments, options, error, message):
    with pytest.raises(error, match=message):
        score_explanations(atlas, *arguments, **options)


def test_scores_survive_a_file(atlas, known, tmp_path):
    loaded = load_explanations(save_explanations(tmp_path / "e.json", known))
    assert str(loaded) == str(known)


def test_nothing_to_score(atlas):
    assert score_explanations(atlas, {}) == {}
    assert score_explanations(atlas, {}, Oracle()) == {}


def test_features_are_scored_a_few_at_a_time(atlas, monkeypatch):
    options = {"methods": ("detection", "intruder", "embedding")}
    together = score_explanations(atlas, TRUE, Oracle(), **options)
    monkeypatch.setattr(_explanation_scores, "_AT_A_TIME", 1)
    assert score_explanations(atlas, TRUE, Oracle(), **options) == together

    class Down(Recording):
        def answer(self, system, user):
            raise ConnectionError("down")

    client = Down()
    with pytest.raises(RuntimeError, match="questions got an answer; ConnectionError: down"):
        score_explanations(atlas, TRUE, client)
    first = {m[1]["content"].partition("\n")[0] for m in client.asked}
    assert len(first) <= 2  # the first feature and its baseline


@each_case(
    "scores, is_marked",
    [
        ({}, False),
        (
            {"detection": {"value": 0.9, "low": 0.8, "baseline": {"random": 0.5, "shuffled": 0.6}}},
            False,
        ),
        (
            {"detection": {"value": 0.9, "low": 0.6, "baseline": {"random": 0.5, "shuffled": 0.6}}},
            True,
        ),
        ({"detection": {"value": 0.9, "low": None, "baseline": {"chance": 0.5}}}, False),
        ({"steering": {"value": 0.5, "baseline": {"chance": 0.5}}}, True),
        # Another estimator's mean is no chance, and what has no number says nothing.
        ({"fuzzing": {"value": 0.5, "low": 0.4, "baseline": {"estimator": 0.9}}}, False),
        ({"fuzzing": {"value": math.nan, "low": math.nan, "baseline": {"random": 0.9}}}, False),
        # One score that is clearly above chance is enough.
        (
            {
                "fuzzing": {"value": 0.5, "low": 0.4, "baseline": {"random": 0.5}},
                "detection": {"value": 0.8, "low": 0.7, "baseline": {"random": 0.5}},
            },
            False,
        ),
        ({"rule": {"value": 0.6, "low": 0.5}}, True),
        # A baseline that is one number is chance.
        ({"detection": {"value": 0.6, "low": 0.5, "baseline": 0.5}}, True),
        ({"detection": {"value": 0.6, "low": 0.55, "baseline": 0.5}, "other": 0.1}, False),
    ],
)
def test_words_that_no_score_lifts_above_chance_are_marked(scores, is_marked):
    explanation = Explanation(3, "rivers", scores=scores)
    assert explanation.is_doubted == is_marked
    marked = str(explanation)
    assert marked == "rivers" + " (not clearly better than chance)" * is_marked
