"""Texts of planted concepts, their embeddings, and a language model that knows the concepts."""

import json
import re
import threading

import numpy as np

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
DRIVING = {"rating": NAMES[:5], "label": NAMES[5:8]}
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
    return texts, {"rating": rating, "label": rng.random(n_texts) < 1 / (1 + np.exp(-logit))}


def embeddings(texts, seed):
    """The sum of vectors of words; those of one concept are alike."""
    rng = np.random.default_rng(seed + 10_000)
    vectors = {}
    for words in CONCEPTS.values():
        direction = rng.normal(size=64)
        vectors |= {word: direction + 0.2 * rng.normal(size=64) for word in words}
    for word in FILLERS:
        vectors.setdefault(word, 0.15 * rng.normal(size=64))
    return np.array([sum(vectors[word] for word in text.split()) for text in texts])


class Scripted:
    """A language model that knows the concepts and nothing of features and targets.

    It names the concept that most of the texts with the feature mention, and reads texts without a
    fault. `n_asked` counts questions, `n_read` texts that it was to judge.
    """

    name = identity = "scripted"

    def __init__(self):
        self.n_asked = self.n_read = 0
        self._lock = threading.Lock()

    def complete(self, messages):
        system, user = messages[0]["content"], messages[1]["content"]
        if system == prompts._EXPLAIN:
            return f"EXPLANATION: {self.concept_of(user)}"
        name = re.match(r"Description: (\w+)", user)[1]
        texts = re.findall(r"^\d+\. (.*)$", user, re.MULTILINE)
        return json.dumps([int(has) for has in self.has_concept(name, texts)])

    def concept_of(self, texts):
        """The concept whose words stand most often in texts, for one question."""
        with self._lock:
            self.n_asked += 1
        counts = {name: sum(map(texts.count, words)) for name, words in CONCEPTS.items()}
        return max(counts, key=counts.get)

    def has_concept(self, name, texts):
        """Whether each of some texts has a concept, for one question."""
        with self._lock:
            self.n_asked += 1
            self.n_read += len(texts)
        return [bool(set(CONCEPTS[name]) & set(text.split())) for text in texts]


def concepts_in(statement):
    """Concepts that a statement names itself or by one of their words."""
    words_in = set(re.findall(r"\w+", statement))
    return {name for name, words in CONCEPTS.items() if words_in & {name, *words}}


def judged(statements, target):
    """The driving concepts that surviving statements name, and the statements that name none."""
    driving = set(DRIVING[target])
    named = set().union(*map(concepts_in, statements)) & driving
    return named, [text for text in statements if not concepts_in(text) & driving]
