"""Names of features of whole rows, with planted truth."""

import numpy as np
import pytest

from sksae import TopKSAE
from sksae.interpret import Explanation, FeatureAtlas, explain, load_explanations, save_explanations
from sksae.interpret.explanation._explaining import rule_score
from sksae.report import feature_lines
from sksae.report._listing import Listing

pd = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def clusters():
    """Rows of three groups: large and heavy, light and smooth, and neither; and their codes."""
    rng = np.random.default_rng(0)
    group = rng.integers(0, 3, 300)
    noise = rng.normal(size=(300, 4))
    noise[:, 0] += 6 * (group == 0)
    noise[:, 1] += 6 * (group == 0) - 6 * (group == 1)
    noise[:, 2] -= 6 * (group == 1)
    frame = pd.DataFrame(noise, columns=["length", "weight", "roughness", "age"])
    return frame * [1000.0, 1.0, 0.001, 1.0], group


class Coder:
    """A transformer that fires where the rows of a frame are in a group."""

    def __init__(self, group):
        self.group = group

    def get_feature_names_out(self):
        return ["group0", "group1", "chance"]

    def transform(self, X):
        chance = np.random.default_rng(1).random(len(self.group)) < 0.3
        codes = np.c_[self.group == 0, self.group == 1, chance].astype(np.float64)
        return codes[np.asarray(X.index)]


def test_a_table_names_features_by_columns_and_marks_what_is_chance(clusters):
    frame, group = clusters
    explanations = explain(FeatureAtlas(Coder(group)).fit(frame))
    assert str(explanations[0]) == "high length, high weight"
    assert set(explanations[1].text.split(", ")) == {"low weight", "low roughness"}
    assert explanations[0].scores["rule"]["value"] > 0.98
    assert str(explanations[2]).endswith(" (not clearly better than chance)")
    assert "(" not in explanations[2].text
    assert {one.source for one in explanations.values()} == {"table"}


def test_a_fitted_autoencoder_names_by_the_columns_that_it_was_fitted_on(clusters, tmp_path):
    frame, group = clusters
    units = (frame - frame.mean()) / frame.std()
    sae = TopKSAE(6, k=1, max_iter=30, batch_size=32, random_state=0).fit(units)
    atlas = FeatureAtlas(sae).fit(units)
    explanations = explain(atlas)
    large = int(np.argmax((sae.transform(units) > 0)[group == 0].mean(0)))
    assert {"high length", "high weight"} <= set(explanations[large].text.split(", "))
    atlas.save(tmp_path / "atlas.npz")
    assert explain(FeatureAtlas.load(tmp_path / "atlas.npz")) == explanations
    save_explanations(tmp_path / "names.json", explanations)
    assert load_explanations(tmp_path / "names.json") == explanations


def test_whole_texts_name_features_by_over_represented_words():
    topic = np.arange(400) % 4
    words = ["cats purr", "stocks fell", "rain falls", "goals win"]
    texts = [f"The {words[t]} number {i}." for i, t in enumerate(topic)]
    chance = np.random.default_rng(0).random((400, 1)) < 0.3
    codes = np.c_[np.eye(4)[topic], chance]
    explanations = explain(FeatureAtlas().fit(codes, tokens=texts))
    for feature, pair in enumerate(words):
        assert set(explanations[feature].text.replace('"', "").split(" or ")) == set(pair.split())
        assert explanations[feature].scores["rule"]["low"] > 0.5
    assert "(not clearly better than chance)" in str(explanations[4]) or not explanations[4].scores


def test_rows_of_nothing_known_have_numbers():
    codes = np.eye(3)[np.arange(30) % 3]
    atlas = FeatureAtlas().fit(codes)
    assert [str(one) for one in explain(atlas).values()] == [f"component {i}" for i in range(3)]
    with pytest.raises(ValueError, match="named columns"):
        explain(atlas, rows="table")
    labelled = FeatureAtlas().fit(codes, tokens=["a", "b", "c"] * 10)
    assert explain(labelled)[0].source == "tokens"
    assert explain(labelled, rows="numbers")[1].text == "component 1"
    tokens = {"text": np.arange(30), "string": ["a"] * 30}
    with pytest.raises(ValueError, match="tokens of texts"):
        explain(FeatureAtlas().fit(codes, tokens=tokens), rows="texts")


def test_a_rule_is_better_than_chance_only_with_enough_rows():
    perfect = rule_score(np.array([3.0, 2, 1, 0]), np.array([True, True, False, False]))
    assert (perfect["value"], perfect["high"], perfect["n"]) == (1, 1, 4)
    assert perfect["low"] < 0.5  # two and two rows fall that way in one of six orders
    assert rule_score(np.arange(20.0), np.arange(20) > 9)["low"] > 0.5
    assert rule_score(np.zeros(20), np.arange(20) > 9)["value"] == 0.5
    assert np.isnan(rule_score(np.arange(3.0), np.ones(3, dtype=bool))["value"])


def test_the_mark_reaches_frames_the_page_and_the_terminal(clusters):
    frame, _ = clusters
    rule = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9, "baseline": {"chance": 0.5}}
    weak = {0: Explanation(0, "high age", "table", {"rule": rule})}
    sae = TopKSAE(4, k=1, max_iter=1, batch_size=64, random_state=0).fit(frame)
    names = sae.set_feature_names(weak).get_feature_names_out()
    assert names[0] == "high age (not clearly better than chance)"
    listing = Listing(weak)
    feature = FeatureAtlas(sae).fit(frame).feature(0)
    listing.add(feature)
    lines = feature_lines(feature, n_examples=0, explanation=weak[0])
    assert lines[1] == "  is  high age (not clearly better than chance)"
    assert listing.columns["label"] == ["high age (not clearly better than chance)"]
