import copy
import math

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from tokenizers import processors

from sksae.datasets import load_tiny_lm
from sksae.interpret import Explanation, score_by_steering
from sksae.interpret.explanation import _explanation_prompts as prompts
from tests.cases import each_case
from tests.interpret.explanation.planted import Constant, Recording, lines_of

SITE = "4.resid_post"
WORDS = ("scipy", "matrix", "random")


class Directions(TransformerMixin, BaseEstimator):
    """Codes are products with given directions."""

    def fit(self, X, y=None):
        self.components_, self.intercept_ = X, np.zeros(X.shape[1])
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return np.maximum(X @ self.components_.T, 0)

    def inverse_transform(self, F):
        return F @ self.components_


@pytest.fixture(scope="module")
def planted():
    """A model, and an autoencoder whose directions write one word each."""
    model, tokenizer = load_tiny_lm()
    ids = [tokenizer(f" {w}", add_special_tokens=False)["input_ids"][0] for w in WORDS]
    gain = model.model.norm.weight.detach()
    directions = (model.get_output_embeddings().weight.detach()[ids] * gain).double().numpy()
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    sae = Directions().fit(directions)
    return model, SITE, sae, tokenizer


def scored(planted, explanations, client=None, **options):
    model, site, sae, tokenizer = planted
    options = {"tokenizer": tokenizer, "maxima": np.full(3, 40.0), "n_tokens": 6, **options}
    return score_by_steering(explanations, model, site, sae, client, **options)


class Reader(Recording):
    """Chooses the text with the word of the description."""

    def answer(self, system, user):
        word = user.split()[1]
        first, second = lines_of(user)
        return str(1 if first.count(word) > second.count(word) else 2)


def test_words_that_a_feature_promotes_become_more_probable(planted):
    found = scored(planted, {i: f'"{word}" and so on' for i, word in enumerate(WORDS)})
    for explanation in found.values():
        score = explanation.scores["steering"]
        assert score["value"] > 1
        assert score["low"] < score["value"] < score["high"]
        assert score["n"] == 8
        assert score["baseline"]["random"] < score["value"]


def test_a_start_token_in_a_prompt_is_the_only_one(planted):
    model, site, sae, tokenizer = planted
    tokenizer = copy.deepcopy(tokenizer)
    start = tokenizer.bos_token = tokenizer.bos_token or tokenizer.eos_token
    special = [(start, tokenizer.bos_token_id)]
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A", special_tokens=special
    )
    plain, rendered = (
        scored((model, site, sae, tokenizer), {0: "scipy"}, prompts=prompt, strength=0.5)
        for prompt in ("In", f"{start}In")
    )
    assert rendered[0].scores["steering"]["value"] == plain[0].scores["steering"]["value"]


def test_a_model_in_training_mode_is_steered_as_in_evaluation_mode(planted):
    model, *others = planted
    expected = scored(planted, {0: "scipy"}, prompts=("In", "The"), strength=0.5)
    model = copy.deepcopy(model).train()
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.3
    assert scored((model, *others), {0: "scipy"}, prompts=("In", "The"), strength=0.5) == expected
    assert model.training


def test_the_change_is_that_of_the_next_token(planted):
    from sksae.language_models import steer

    model, site, sae, tokenizer = planted
    found = scored(planted, {0: "scipy"}, prompts="In", strength=0.5)[0].scores["steering"]
    ids = sorted(
        {tokenizer(f, add_special_tokens=False)["input_ids"][0] for f in ("scipy", " scipy")}
    )
    inputs = tokenizer("In", return_tensors="pt")

    def total():
        with torch.no_grad():
            logits = model(inputs["input_ids"]).logits[0, -1].double()
        return logits.log_softmax(-1)[ids].logsumexp(0).item()

    before = total()
    with steer(model, site, sae, {0: 0.5}, unit="max", maxima=[40.0] * 3):
        after = total()
    assert found["value"] == pytest.approx(after - before)
    assert math.isnan(found["low"])  # one prompt tells nothing of others


def test_no_push_changes_nothing(planted):
    found = scored(planted, {0: "scipy", 1: "matrix"}, strength=0.0)
    assert found[0].scores["steering"]["value"] == pytest.approx(0, abs=1e-9)
    client = Reader()
    found = scored(planted, {0: "scipy"}, client, strength=0.0)[0].scores["steering"]
    assert (found["n"], found["n_same"], client.asked) == (0, 8, [])
    assert math.isnan(found["value"])


def test_who_reads_well_finds_the_steered_text(planted):
    client = Reader()
    found = scored(planted, dict(enumerate(WORDS)), client, strength=4.0)
    for explanation in found.values():
        score = explanation.scores["steering"]
        assert score["value"] == 1.0
        assert score["n"] + score["n_same"] == 8
        assert score["low"] < 1
        assert score["baseline"]["chance"] == 0.5
    assert {m[0]["content"] for m in client.asked} == {prompts._STEERED}


def test_who_guesses_does_not(planted):
    found = scored(planted, dict(enumerate(WORDS)), Constant("1"), strength=4.0)
    scores = [e.scores["steering"] for e in found.values()]
    assert 0.2 < np.mean([s["value"] for s in scores]) < 0.8
    with pytest.warns(UserWarning, match="8 of 8 answers could not be read") as warned:
        found = scored(planted, {0: "scipy"}, Constant("both"), strength=4.0)[0].scores["steering"]
    assert warned[0].filename == __file__
    assert math.isnan(found["value"])
    assert found["n_failed"] == 8 - found["n_same"] > 0


def test_an_explanation_without_words_has_no_score(planted):
    score = scored(planted, {0: Explanation(0, "...")})[0].scores["steering"]
    assert "no word" in score["note"]


@each_case(
    "options, message",
    [
        ({"prompts": []}, "prompts must be one or more strings"),
        ({"prompts": ["a", " "]}, "prompts must be"),
        ({"strength": math.nan}, "strength"),
        ({"n_tokens": 0}, "n_tokens"),
    ],
)
def test_wrong_input_is_refused(planted, options, message):
    with pytest.raises(ValueError, match=message):
        scored(planted, {0: "scipy"}, **options)


def test_a_feature_that_is_not_there(planted):
    with pytest.raises(ValueError, match="7"):
        scored(planted, {7: "scipy"})
