"""From words to tested statements: splits, annotations and what survives."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from sksae.interpret import (
    CachedClient,
    FeatureAtlas,
    FeatureContrast,
    annotate,
    estimate_annotation_cost,
    explain,
    split_texts,
    validate,
)
from sksae.interpret.statements._annotation import _Questions, rule_of
from tests.cases import each_case

WORDS = {3: '"rain"', 1: '"tea" or "coffee"', 8: '"stone" after "wet"'}
TEXTS = ["Tea in the rain.", "A wet stone", "a stone, wet", "No COFFEE", "nothing", "training"]
TRUTH = [[1, 1, 0], [0, 0, 1], [0, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]]


class Reader:
    """A client that finds the first word of a description in the lines, and counts questions."""

    name = identity = "reader"

    def __init__(self, broken=()):
        self.n_asked, self.broken = 0, broken

    def complete(self, messages):
        self.n_asked += 1
        user = messages[1]["content"]
        word = re.match(r"Description: (\w+)", user)[1]
        if word in self.broken:
            return "I cannot tell"
        lines = re.findall(r"^\d+\. (.*)$", user, re.MULTILINE)
        return json.dumps([int(word in line.casefold()) for line in lines])


@each_case(
    "words, has, lacks",
    [
        ('"cat"', ["The CAT."], ["concatenate", "cats"]),
        ('"ing" in "raining"', ["it is raining"], ["ring"]),
        ('"a", "b" or "c"', ["x b"], ["xbx"]),
        ('"bank" after "river"', ["river bank"], ["bank", "river, bank"]),
        ('"(" before a line break', ["f(\n"], ["f(x"]),
        ("numbers", ["in 1984"], ["never"]),
        ('numbers after "in"', ["in 1984"], ["1984"]),
        ("capitalised words", ["in Rome"], ["in rome"]),
        ('"tea", "cup" and others; says "pot"', ["a cup"], ["a pot"]),
        ('"사랑"', ["사랑은"], ["미움"]),
        ("Korean text", ["I like 사랑"], ["I like love"]),
        ('"x.y"', ["an x.y"], ["an xzy"]),
        ('"""', ['say "no"'], ["say no"]),
        ('"."" or "a"', ['end."', "a cup"], ['"', "end."]),
    ],
)
def test_words_from_statistics_are_rules(words, has, lacks):
    rule = rule_of(words)
    assert all(rule.search(text) for text in has)
    assert not any(rule.search(text) for text in lacks)


def test_prose_is_no_rule_and_needs_a_client():
    for prose in ("names of rivers", "high mean area", "component 3", 'words like "tea"', ""):
        assert rule_of(prose) is None
    with pytest.raises(ValueError, match="feature 2 is no rule of words, 'rivers'; pass a client"):
        annotate(TEXTS, {2: "rivers"})
    with pytest.raises(TypeError, match="texts is one str"):
        annotate("rivers", WORDS)


def test_texts_are_annotated_by_rules_without_a_client():
    found = annotate(TEXTS, WORDS)
    assert found.toarray().tolist() == TRUTH
    assert found.nnz == 4
    assert annotate([], WORDS).shape == (0, 3)
    assert annotate(TEXTS, {}).shape == (6, 0)


def test_a_client_reads_a_few_texts_at_a_time_and_nothing_twice(tmp_path):
    texts, words = [text.casefold() for text in TEXTS], {3: "rain", 1: "tea"}
    reader = Reader()
    client = CachedClient(reader, tmp_path / "answers.jsonl")
    cost = estimate_annotation_cost(texts, words, per_question=4, price_per_million=(1.0, 1.0))
    found = annotate(texts, words, client, per_question=4)
    assert found.toarray().tolist() == [[1, 1], [0, 0], [0, 0], [0, 0], [0, 0], [1, 0]]
    assert reader.n_asked == cost["calls"] == 4
    assert cost["price"] == pytest.approx((cost["tokens_in"] + cost["tokens_out"]) / 1e6)
    again = annotate(texts, words, client, per_question=4, max_concurrency=1)
    assert (found != again).nnz == 0
    assert reader.n_asked == 4


def test_a_long_text_has_what_one_of_its_pieces_has():
    texts = ["word " * 300 + "rain " + "word " * 300, "word " * 500]
    reader = Reader()
    found = annotate(texts, {0: "rain"}, reader, max_characters=200, per_question=3)
    assert found.toarray().tolist() == [[1], [0]]
    assert reader.n_asked > 8


def test_questions_are_written_as_they_are_asked():
    questions = _Questions(["a", "b", "c"], {}, 2, 10)
    assert len(questions) == 0
    with pytest.raises(IndexError):
        questions[0]


def test_what_no_answer_tells_is_left_out():
    texts = [f"{'rain' if i % 2 else 'sun'} on day {i}" for i in range(40)]
    with pytest.warns(UserWarning, match="answers could not be read"):
        found = annotate(texts, {0: "rain", 1: "sun"}, Reader(broken=["sun"]))
    assert np.isnan(found.toarray()[:, 1]).all()
    found[:30, [1]] = 0.0
    table = validate(texts, np.arange(40) % 2, {0: "rain", 1: "sun"}, annotations=found)
    assert table["n_failed"].to_dict() == {0: 0, 1: 10}
    assert table["survives"].to_dict() == {0: True, 1: False}


def test_a_split_keeps_authors_and_equal_texts_together():
    rng = np.random.default_rng(0)
    texts = [f"text {i}" for i in rng.integers(80, size=100)]
    authors = rng.integers(60, size=100)
    finding, testing = split_texts(texts, groups=authors, test_size=0.3, random_state=0)
    assert sorted([*finding, *testing]) == list(range(100))
    texts = np.array(texts)
    assert not set(texts[finding]) & set(texts[testing])
    assert not set(authors[finding]) & set(authors[testing])
    alone, rest = split_texts([f"{i}" for i in range(100)], test_size=0.3, random_state=0)
    assert (len(alone), len(rest)) == (70, 30)
    with pytest.raises(ValueError, match="cannot be split"):
        split_texts(["a", "a"])


@pytest.fixture
def reviews():
    """Great ones are rated higher; the weather says nothing; a feature fires on both."""
    rng = np.random.default_rng(0)
    great, rain = rng.random((2, 200)) < 0.4
    texts = [f"{'great' * int(great[i])} plot, {'rain' * int(rain[i])} {i}" for i in range(200)]
    rating = np.round(3 + great + 0.7 * rng.normal(size=200))
    return texts, rating, np.c_[great, rain, great]


def test_a_statement_survives_by_its_words(reviews):
    texts, rating, codes = reviews
    words = {0: '"great"', 1: '"rain"', 2: '"sun"'}
    contrast = FeatureContrast(target_type="ordinal").fit(codes * 1.0, rating)
    options = {"codes": codes, "contrast": contrast, "target_type": "ordinal"}
    table = validate(texts, rating, words, **options)
    assert table["survives"].to_dict() == {0: True, 1: False, 2: False}  # its code is selected
    assert contrast.get_support().tolist() == [True, False, True]
    assert table.loc[0, "f1"] == 1 > 0.7 > table.loc[0, "f1_chance"]
    assert table.loc[2, ["n_texts", "f1", "family_pvalue"]].tolist() == [0, 0, 1]
    assert table.loc[0, "with"] == pytest.approx(rating[codes[:, 0]].mean())
    assert table.loc[0, "without"] == pytest.approx(rating[~codes[:, 0]].mean())
    assert table.loc[0, "effect_low"] > 0
    assert table.loc[0, "family_pvalue"] == pytest.approx(2 * table.loc[0, "pvalue"])
    assert table.loc[1, "family_pvalue"] == pytest.approx(table.loc[1, "pvalue"])
    contrast.effects_ = -contrast.effects_
    assert not validate(texts, rating, words, **options)["survives"].any()


def test_statements_about_classes_groups_and_covariates(reviews):
    texts, rating, codes = reviews
    words = {0: '"great"', 1: '"rain"'}
    kinds = np.where(rating > 3, "good", np.where(rating > 2, "fair", "poor"))
    table = validate(texts, kinds, words, codes=codes)
    assert table.loc[0, ["survives", "class"]].tolist() == [True, "good"]
    assert table.loc[0, "f1"] == f1_score(codes[:, 0], codes[:, 0])
    table = validate(texts, rating > 3, words, groups=np.arange(200) // 4)
    assert table["survives"].to_dict() == {0: True, 1: False}
    frame = pd.DataFrame({"great": codes[:, 0].astype(float)})
    table = validate(texts, rating, words, target_type="ordinal", covariates=frame)
    assert not table["survives"].any()


def test_texts_in_korean_from_words_to_statements():
    rng = np.random.default_rng(0)
    kind, place = rng.integers(2, size=(2, 120))
    words = np.array([["맛있는 음식", "느린 직원"], ["서울에서", "부산에서"]])
    texts = [f"{words[1, p]} {words[0, k]}, 번호{i}" for i, (k, p) in enumerate(np.c_[kind, place])]
    codes = np.c_[np.eye(2)[kind], np.eye(2)[place]]
    finding, testing = split_texts(texts, random_state=0)
    rating = 4.0 - kind + 0.5 * rng.normal(size=120)
    contrast = FeatureContrast().fit(codes[finding], rating[finding])
    some, others = [texts[i] for i in finding], [texts[i] for i in testing]
    atlas = FeatureAtlas().fit(codes[finding], tokens=some)
    names = explain(atlas, features=contrast.get_support(indices=True))
    table = validate(others, rating[testing], names, contrast=contrast, written_from=some)
    assert table["survives"].to_dict() == {0: True, 1: True}
    assert table.loc[0, "with"] > 3.5 > table.loc[1, "with"]
    assert "맛있는" in table.loc[0, "text"]
    assert "느린" in table.loc[1, "text"]


@each_case(
    "options, message",
    [
        ({"codes": np.ones((2, 1))}, "codes has shape"),
        ({"written_from": ["a", "text 1"]}, "1 of the texts, such as text 1, were used"),
        ({"annotations": np.ones((2, 1))}, "annotations have shape"),
        ({"annotations": np.ones((20, 1)), "verbose": 1}, "verbose: nobody is asked"),
        ({"alpha": 0}, "alpha must be"),
        ({"groups": [1]}, "inconsistent"),
    ],
)
def test_what_cannot_be_validated_is_named(options, message):
    texts = [f"text {i}" for i in range(20)]
    with pytest.raises(ValueError, match=message):
        validate(texts, [0, 1] * 10, {0: '"text"'}, **options)


def test_fidelity_counts_firing_and_silent_texts_as_much():
    texts = [f"{'rain' if i < 6 else 'sun'} on day {i}" for i in range(40)]
    codes = np.zeros((40, 3))
    codes[[0, 1, 2, 20], 1] = 1  # of four texts on which it fires three have the word
    table = validate(texts, np.arange(40) % 2, {1: '"rain"', 0: '"sun"'}, codes=codes)
    recall, false_alarms, share = 3 / 4, 3 / 36, 6 / 40
    line = table.loc[1]
    assert line["f1"] == pytest.approx(2 * 3 / (6 + 4))
    assert line["stratified_f1"] == pytest.approx(2 * recall / (1 + recall + false_alarms))
    assert line["stratified_f1_chance"] == pytest.approx(2 * share / (1 + 2 * share))
    assert np.isnan(table.loc[0, "stratified_f1"])  # it never fires
    # The same by weights of the texts, as scikit-learn counts them.
    fires, weight = codes[:, 1], np.where(codes[:, 1], 1 / 4, 1 / 36)
    said = [text.startswith("rain") for text in texts]
    assert line["stratified_f1"] == pytest.approx(f1_score(fires, said, sample_weight=weight))


def test_texts_for_and_against_have_the_words():
    texts = [f"{'rain' if i % 2 else 'sun'} on day {i}" for i in range(40)]
    label = np.array(["dry", "wet"])[(np.arange(40) % 2) * (np.arange(40) > 8)]
    table = validate(texts, label, {0: '"rain"', 1: '"sun"'}, n_examples=4)
    rain, sun = table.loc[0], table.loc[1]
    assert rain["effect"] > 0 > sun["effect"]
    assert (len(rain["texts_for"]), rain["texts_against"]) == (4, (1, 3, 5, 7))
    assert all(label[i] == "wet" and i % 2 for i in rain["texts_for"])
    assert all(label[i] == "dry" and not i % 2 for i in sun["texts_for"])
    assert sun["texts_against"] == ()


def test_equal_words_are_asked_about_once():
    texts = [f"{'rain' if i % 3 else 'sun'} {i}" for i in range(12)]
    words, reader = {4: "rain", 2: "sun", 7: "rain"}, Reader()
    annotations = annotate(texts, words, reader, per_question=5)
    assert reader.n_asked == 2 * 3 == estimate_annotation_cost(texts, words)["calls"]
    has_rain = [float("rain" in text) for text in texts]
    expected = np.c_[has_rain, 1 - np.array(has_rain), has_rain]
    np.testing.assert_array_equal(annotations.toarray(), expected)
