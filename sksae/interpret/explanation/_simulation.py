"""How well activations can be foretold from an explanation, piece by piece."""

import math

import numpy as np

from sksae.interpret.explanation._intervals import correlation_interval, pearson
from sksae.interpret.explanation._prompts import simulate_messages
from sksae.interpret.explanation._trials import SILENT, Trial, counts, mixed, spread

TOP = -2  # the part of the strongest windows
_SHIFTS = 200


def simulation(feature, side, text, plan, rng):
    """Return questions how strongly the feature fires on each piece of some windows.

    A third of the windows are the strongest, a third from all strengths, a third silent ones.
    """
    del feature
    third = max(1, plan.n_examples // 3)
    top = side.top[:third]
    rows = {e.row for e in top}
    random = [
        item for item in spread(side.quantiles, len(rows) + third, rng) if item[1].row not in rows
    ][:third]
    windows = [(TOP, e) for e in top] + random
    windows += [(SILENT, e) for e in mixed({"random": side.silent.get("random", [])}, third, rng)]
    return [
        Trial(
            simulate_messages(text, e.tokens),
            tuple(np.asarray(e.activations, dtype=float).tolist()),
            (part,) * len(e.tokens),
        )
        for part, e in windows
    ]


def score_simulation(trials, answers, rng):
    """Return the correlation of true and foretold activations over all pieces of text."""
    pairs = [
        (trial.parts[0] == TOP, np.array(trial.truth), np.array(answer, dtype=float))
        for trial, answer in zip(trials, answers, strict=True)
        if answer is not None
    ]
    both = [pair[1:] for pair in pairs]
    low, high = correlation_interval(both, rng)
    return {
        "value": _over(both),
        "low": low,
        "high": high,
        "random": _over([pair[1:] for pair in pairs if not pair[0]]),
        **counts(trials, answers),
        "baseline": {"shuffled": _chance(both, rng)},
    }


def _over(pairs):
    if not pairs:
        return math.nan
    return pearson(*map(np.concatenate, zip(*pairs, strict=True)))


def _chance(pairs, rng):
    """Return what 95 of 100 shifts of the foretold activations along the truth score at most."""
    if not pairs or math.isnan(_over(pairs)):
        return math.nan
    truth, foretold = map(np.concatenate, zip(*pairs, strict=True))
    found = [
        pearson(truth, np.roll(foretold, int(shift)))
        for shift in rng.integers(1, max(len(truth), 2), size=_SHIFTS)
    ]
    return float(np.quantile(found, 0.95))
