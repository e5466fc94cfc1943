"""Features whose meaning is known, and clients that know it, or nothing."""

import json
import re
import threading

import numpy as np

from sksae.interpret import FeatureAtlas
from sksae.interpret.explanation import _explanation_prompts as prompts

WORDS = ("tea", "rain", "stone")
FILLERS = [f" {a}{b}" for a in "bdfgk" for b in ("al", "ep", "im", "or")]


def level(word, before):
    """A feature fires on its word, twice as much after "hot", and not at all after "no"."""
    return {" no": 0.0, " hot": 2.0}.get(before, 1.0) if word else 0.0


def planted_atlas(n_texts=240, length=14, **options):
    """Feature i fires on ``WORDS[i]``; a fourth one never fires."""
    rng = np.random.default_rng(3)
    texts = []
    for number in range(n_texts):
        tokens = rng.choice(FILLERS, size=length).tolist()
        place = int(rng.integers(1, length))
        tokens[place - 1] = (" no", " hot", tokens[place - 1])[rng.integers(3)]
        tokens[place] = f" {WORDS[number % 3]}"
        texts.append(tokens)
    strings = [token for tokens in texts for token in tokens]
    before = [b for tokens in texts for b in ("", *tokens[:-1])]
    codes = np.zeros((len(strings), len(WORDS) + 1))
    for column, word in enumerate(WORDS):
        codes[:, column] = [level(s == f" {word}", b) for s, b in zip(strings, before, strict=True)]
    table = {"text": np.repeat(np.arange(n_texts), length), "string": strings}
    return FeatureAtlas(**options).fit(codes, tokens=table)


class Recording:
    """A client that keeps the questions it was asked."""

    name = identity = "recording"

    def __init__(self):
        self.asked, self._lock = [], threading.Lock()

    def complete(self, messages):
        with self._lock:
            self.asked.append(messages)
        return self.answer(messages[0]["content"], messages[1]["content"])


class Constant(Recording):
    """Always says the same."""

    def __init__(self, answer):
        super().__init__()
        self._answer = answer

    def answer(self, system, user):
        return self._answer


class Always(Recording):
    """Answers in the right form, with one number for everything."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def answer(self, system, user):
        return json.dumps([self.number] * len(lines_of(user)))


class Oracle(Recording):
    """Knows what the words mean, and reads them off the description."""

    name = identity = "oracle"

    def answer(self, system, user):
        if system == prompts._EXPLAIN:
            return f"EXPLANATION: {max(WORDS, key=user.count)}"
        if system == prompts._INTRUDE:
            return str(1 + [not any(w in m for w in WORDS) for m in marks_of(user)].index(True))
        word = re.match(r"Description: (\w+)", user)[1]
        if system == prompts._DETECT:
            return json.dumps([int(fires(line, word)) for line in lines_of(user)])
        if system == prompts._FUZZ:
            return json.dumps([int(mark.strip() == word) for mark in marks_of(user)])
        tokens = [json.loads(line) for line in lines_of(user)]
        pairs = zip(["", *tokens[:-1]], tokens, strict=True)
        return json.dumps([5 * level(token == f" {word}", before) for before, token in pairs])


def lines_of(user):
    return re.findall(r"^\d+\. (.*)$", user, re.MULTILINE)


def marks_of(user):
    """What is marked in each line."""
    return ["".join(re.findall(r"<<(.*?)>>", line)) for line in lines_of(user)]


def fires(line, word):
    return re.search(rf"(?<! no) {word}\b", line) is not None
