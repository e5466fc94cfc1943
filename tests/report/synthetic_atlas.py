"""An atlas of made-up features, as large as asked, with Zipf tokens."""

from dataclasses import replace
from functools import cache

import numpy as np

from sksae.interpret import Example, Feature, Related

FLAGS = ((), (), (), ("rare",), ("dense",), ("duplicate-heavy", "position-driven"))
WIDTH, PEAK = 33, 24


class SyntheticAtlas:
    """What the page reads of a `FeatureAtlas`; every eleventh feature never fires.

    After the first `period` features the same come again, which is quick.
    """

    def __init__(
        self, n_components, *, n_examples=20, n_sampled=25, words=None, seed=0, period=1100
    ):
        self.n_components_, self.n_rows_, self.n_texts_ = n_components, 100_000, 2_000
        self.n_examples, self.n_sampled, self.seed = n_examples, n_sampled, seed
        self.period, self._made = period, cache(self._make)
        rng = np.random.default_rng(seed)
        self.words = np.array(words or [f" w{i}" for i in range(20_000)], dtype=object)
        self.alive = np.arange(n_components) % 11 != 10
        log_density = rng.uniform(-4.5, -0.7, n_components)
        self.n_active_ = np.where(self.alive, np.maximum(1, 1e5 * 10**log_density), 0).astype(int)
        self.density_ = self.n_active_ / self.n_rows_
        self.max_activation_ = np.where(self.alive, rng.uniform(2, 20, n_components), 0)
        self.facts_ = {"model": "synthetic", "layer": 3, "policy": {"site": "resid_post"}}
        self.map_ = rng.normal(size=(n_components, 2)).astype(np.float32)

    def feature(self, i):
        return replace(self._made(i % self.period), feature=i)

    def _make(self, i):
        rng = np.random.default_rng([self.seed, i])
        largest = float(self.max_activation_[i])
        if not self.alive[i]:
            return Feature(i, 0, 0.0, 0, 0.0, 0.0, 0, ("dead",), [], [])
        strongest = self._examples(rng, np.sort(rng.uniform(0.7, 1, self.n_examples))[::-1])
        strengths = np.sort(rng.uniform(0.05, 1, self.n_sampled))[::-1]
        return Feature(
            feature=i,
            n_active=int(self.n_active_[i]),
            density=float(self.density_[i]),
            n_texts=min(int(self.n_active_[i]), 1500),
            max_activation=largest,
            mean_activation=largest / 3,
            n_unique=int(self.n_active_[i]) // 2 + 1,
            flags=FLAGS[i % len(FLAGS)],
            top_tokens=self._pairs(rng, 5, 0.4),
            examples=[self._scaled(example, largest) for example in strongest],
            sampled=[self._scaled(example, largest) for example in self._examples(rng, strengths)],
            weights=np.ones(self.n_sampled),
            histogram=(rng.integers(1, 500, 20), np.geomspace(largest / 100, largest, 21)),
            promoted=self._pairs(rng, 10, 3.0),
            suppressed=[(token, -value) for token, value in self._pairs(rng, 10, 3.0)],
            nearest=self._related(rng),
            coactive=self._related(rng),
        )

    def _zipf(self, rng, size):
        return self.words[np.minimum(rng.zipf(1.3, size) - 1, len(self.words) - 1)]

    def _examples(self, rng, strengths):
        found = []
        for strength in strengths.tolist():
            activations = np.where(rng.random(WIDTH) < 0.1, rng.random(WIDTH) * strength, 0)
            activations[PEAK] = strength
            tokens = self._zipf(rng, WIDTH)
            where = (int(rng.integers(1e12)), int(rng.integers(2000)))
            found.append(Example(*where, strength, tokens, activations, PEAK, True, True))
        return found

    def _scaled(self, example, largest):
        fields = {**vars(example), "activation": example.activation * largest}
        return Example(**{**fields, "activations": example.activations * largest})

    def _pairs(self, rng, n, largest):
        values = np.sort(rng.uniform(0, largest, n))[::-1]
        return [(str(token), float(v)) for token, v in zip(self._zipf(rng, n), values, strict=True)]

    def _related(self, rng):
        others = rng.integers(0, self.n_components_, 10).tolist()
        return [Related(other, *np.sort(rng.random(3))[[2, 0, 1]].tolist()) for other in others]
