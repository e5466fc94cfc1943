"""The whole path from texts to statements, on texts whose concepts are known."""

import functools
import json
import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from sksae import TopKSAE
from sksae.interpret import FeatureAtlas, FeatureContrast, explain, split_texts, validate
from sksae.interpret.explanation import _explanation_prompts as prompts

CONCEPTS = {
    "staff": ("waiter", "staff", "host"),
    "noise": ("loud", "noisy", "music"),
    "price": ("cheap", "bargain", "fair"),
    "dirt": ("dirty", "filthy", "stained"),
    "view": ("ocean", "sunset", "view"),
    "waiting": ("slow", "wait", "queue"),
    "freshness": ("fresh", "crisp", "ripe"),
    "seasoning": ("salty", "bland", "overcooked"),
    "children": ("kids", "family", "stroller"),
    "parking": ("parking", "garage", "car"),
    "wine": ("wine", "cellar", "glass"),
    "dessert": ("cake", "sorbet", "pie"),
}
NAMES = list(CONCEPTS)
DRIVE_RATING, DRIVE_LABEL = NAMES[:5], NAMES[5:8]
FILLERS = ("we", "went", "there", "with", "two", "friends", "then", "came", "back", "for", "lunch")


def planted_texts(seed, n_texts=2000):
    """Texts with each concept in a fifth of them; five drive a rating, three a label."""
    rng = np.random.default_rng(seed)
    has = rng.random((n_texts, len(NAMES))) < 0.2
    texts = []
    for row in has:
        words = [rng.choice(CONCEPTS[NAMES[i]]) for i in np.flatnonzero(row)]
        texts.append(" ".join(rng.permutation([*words, *rng.choice(FILLERS, 6)])))
    rating = has[:, :5] @ [1, -1, 0.8, -0.8, 0.9] + rng.standard_t(4, n_texts)
    logit = has[:, 5:8] @ [1.5, -1.5, 1.5] - 0.5
    return texts, rating, rng.random(n_texts) < 1 / (1 + np.exp(-logit))


def embeddings(texts):
    """The sum of vectors of words; those of one concept are alike."""
    rng = np.random.default_rng(123)
    vectors = {}
    for words in CONCEPTS.values():
        direction = rng.normal(size=64)
        vectors |= {word: direction + 0.2 * rng.normal(size=64) for word in words}
    for word in FILLERS:
        vectors.setdefault(word, 0.15 * rng.normal(size=64))
    return np.array([sum(vectors[word] for word in text.split()) for text in texts])


class Scripted:
    """A language model that knows the concepts and nothing of features and targets."""

    name = identity = "scripted"

    def complete(self, messages):
        system, user = messages[0]["content"], messages[1]["content"]
        if system == prompts._EXPLAIN:
            counts = {name: sum(map(user.count, words)) for name, words in CONCEPTS.items()}
            return f"EXPLANATION: {max(counts, key=counts.get)}"
        words = CONCEPTS[re.match(r"Description: (\w+)", user)[1]]
        lines = re.findall(r"^\d+\. (.*)$", user, re.MULTILINE)
        return json.dumps([int(bool(set(words) & set(line.split()))) for line in lines])


@functools.cache
def codes_of(texts, seed):
    """Texts to find statements on and texts to test them on, by index, and codes of all."""
    X = embeddings(texts)
    finding, testing = split_texts(texts, random_state=seed)
    sae = TopKSAE(24, k=4, max_iter=60, batch_size=64, random_state=seed).fit(X[finding])
    return finding, testing, sae.transform(X)


def statements(seed, client):
    """Surviving statements about the rating and about the label."""
    texts, rating, label = planted_texts(seed)
    finding, testing, codes = codes_of(tuple(texts), seed)
    some, others = [texts[i] for i in finding], [texts[i] for i in testing]
    # Words are written from more texts than a page shows.
    atlas = FeatureAtlas(n_examples=50, n_per_octave=100).fit(codes[finding], tokens=some)
    for y in (rating, label):
        contrast = FeatureContrast().fit(codes[finding], y[finding])
        words = explain(atlas, client, contrast.get_support(indices=True))
        given = {"contrast": contrast, "written_from": some, "codes": codes[testing]}
        table = validate(others, y[testing], words, client, **given)
        yield table.loc[table["survives"], "text"].tolist()


def concepts_in(statement):
    """Concepts that a statement names itself or by one of their words."""
    said = set(re.findall(r"\w+", statement))
    return {name for name, words in CONCEPTS.items() if said & {name, *words}}


@pytest.mark.slow
@pytest.mark.parametrize("client", [None, Scripted()], ids=["offline", "scripted"])
def test_the_path_finds_what_drives_targets_and_says_nothing_false(client):
    """A statement without a word of a concept that drives the target is false."""
    n_right, results = 0, []
    for seed in range(10):
        of_rating, of_label = statements(seed, client)
        found = [set().union(*map(concepts_in, said)) for said in (of_rating, of_label)]
        false = [s for s in of_rating if not concepts_in(s) & set(DRIVE_RATING)]
        false += [s for s in of_label if not concepts_in(s) & set(DRIVE_LABEL)]
        hits = len(found[0] & set(DRIVE_RATING)), len(found[1] & set(DRIVE_LABEL))
        n_right += hits[0] >= 4 and hits[1] == 3 and not false
        results.append((seed, hits, false))
    assert n_right >= 9, results


@pytest.mark.slow
def test_the_example_finds_all_that_moves_the_rating():
    folder = Path(__file__).parents[3] / "docs" / "examples" / "texts"
    ran = runpy.run_path(str(folder / "what_drives_the_rating.py"))
    table = ran["table"]
    survived = table.loc[table["survives"]]
    for thing, move in ran["MOVES"].items():
        effects = survived.loc[survived["text"].str.contains(f'"{thing}"'), "effect"]
        assert len(effects), thing
        assert (effects * move > 0).all(), thing
