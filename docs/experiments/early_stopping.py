"""Early stopping of short, wide and long fits: measured.

Run as ``python docs/experiments/early_stopping.py breast_cancer pooled``. Data sets and splits are
those of ``docs/experiments/tables.py``. "Wide" has more latents than the default, "long" more
passes; scores are explained variances of held-out rows, which no fit saw.
"""

import argparse
from functools import cache

import numpy as np
import tables
import torch

from sksae import ActivationExtractor
from sksae.datasets import TINY_LM_PATH, load_corpus

WINDOW = 16  # tokens of a sentence


@cache
def sentences():
    """Return 2823 means over windows of the activations after two layers: 384 columns."""
    documents = load_corpus().data
    layers = [ActivationExtractor(TINY_LM_PATH, layer=n).extract(documents)[0] for n in (1, 3)]
    X = np.hstack(layers)
    X = X[: len(X) // WINDOW * WINDOW].reshape(-1, WINDOW, X.shape[1]).mean(1)
    return X[np.random.default_rng(0).permutation(len(X))[:2823]]


tables.DATA["sentences"] = (sentences, 16)
# Latents and passes of the wide and of the long fits.
SETTINGS = {
    "breast_cancer": (240, 300),
    "pooled": (384, 300),
    "tokens 430": (384, 300),
    "digits": (512, 100),
    "sentences": (3072, 100),
    "tokens 2860": (1536, 100),
    "diabetes": (160, 3000),
    "wine": (208, 3000),
}


def variants(name):
    """Return the parameters of the four fits, by their names."""
    wide, long = SETTINGS[name]
    return {
        "default": {},
        "wide": {"n_components": wide},
        "long": {"max_iter": long},
        "wide and long": {"n_components": wide, "max_iter": long},
    }


def main():
    """Measure, and print the scores without and with early stopping, and the seconds of both."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--splits", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.data:
        for fit, parameters in variants(name).items():
            columns = []
            for stops in (False, True):
                setting = {**parameters, "early_stopping": stops}
                seeds = range(1, options.splits + 1)
                columns.append([tables.measure(name, setting, seed) for seed in seeds])
            scores = [np.array([result["held_out"] for result in column]) for column in columns]
            seconds = [np.mean([result["seconds"] for result in column]) for column in columns]
            gain = scores[1] - scores[0]
            error = gain.std(ddof=1) / len(gain) ** 0.5
            whole, stopped = (
                f"{score.mean():.3f} in {time:.1f} s"
                for score, time in zip(scores, seconds, strict=True)
            )
            line = (
                f"{name}, {fit}: {whole}; stopped {stopped}; gain {gain.mean():.3f} ± {error:.3f}"
            )
            print(line, flush=True)


if __name__ == "__main__":
    main()
