"""The gain of principal axes and of haste where rows are many: the tables of ``docs/defaults.md``.

Run as ``python docs/experiments/axes.py``; ``--data`` and ``--variants`` take some. Every fit is
made twice, along the columns of the data and along their principal axes, and is scored by the
explained variance of rows that were held out. Tables are fitted on several splits, by default and
with short momentum, large data by every one of `SETTINGS`.
"""

import argparse
import math
import warnings
from itertools import product
from unittest.mock import patch

import numpy as np
import tables
from sklearn.datasets import load_sample_images
from sklearn.feature_extraction.image import extract_patches_2d

from sksae import (
    BatchTopKSAE,
    GatedSAE,
    JumpReLUSAE,
    MatryoshkaSAE,
    SparseAutoencoder,
    TopKSAE,
)
from sksae.datasets import make_superposition
from sksae.training import _principal_axes

VARIANTS = {
    "TopKSAE": lambda k: TopKSAE(k=k),
    "BatchTopKSAE": lambda k: BatchTopKSAE(k=k),
    "MatryoshkaSAE": lambda k: MatryoshkaSAE(k=k),
    "GatedSAE": lambda k: GatedSAE(target_l0=k),
    "JumpReLUSAE": lambda k: JumpReLUSAE(target_l0=k),
    "SparseAutoencoder": lambda k: SparseAutoencoder(target_l0=k),
}
TABLES = ("breast_cancer", "digits", "patches", "superposition 2860", "pooled", "tokens 2860")


def patches():
    """Return 120 000 patches of 8 x 8 pixels."""
    options = {"max_patches": 60_000, "random_state": 0}
    cut = [extract_patches_2d(image, (8, 8), **options) for image in load_sample_images().images]
    return np.concatenate(cut).reshape(len(cut) * 60_000, -1)


def superposition():
    """Return mixtures of about 30 of 1536 directions in 384 dimensions."""
    return make_superposition(110_000, 384, 1536, density=0.02, noise=0.005, random_state=0)[0]


LARGE = {
    "patches, 192 columns": (patches, 1536, 16),
    "tokens, 192 columns": (lambda: tables.activations()[0], 1536, 16),
    "superposition, 384 columns": (superposition, 1536, 32),
}
SHORT, LONG = {"batch_size": 1024, "max_iter": 2}, {"batch_size": 512, "max_iter": 4}
SETTINGS = {
    "196 steps": SHORT,  # which makes haste
    "196 usual steps": {**SHORT, "learning_rate": 6e-3, "betas": (0.9, 0.99)},
    "784 steps": LONG,
    "784 steps in haste": {**LONG, "learning_rate": 8.5e-3, "betas": (0.8, 0.97)},
}
N_ROWS = 100_352  # of large data


def score(sae, X, held_out, *, turned):
    """Return the explained variance of held-out rows after a fit along given axes."""
    objective = type(sae._make_objective(X.shape[1], 8, X.shape[1]))
    fewest = {"MANY_ROWS": 0 if turned else math.inf, "_PER_LATENT": 0}  # rows that are turned
    with patch.multiple(_principal_axes, **fewest), patch.object(objective, "turns", True):
        sae.fit(X)
    return sae.score(held_out)


def report(name, sae, pairs):
    """Print a line of the table."""
    scores = np.array(
        [[score(sae, *pair, turned=turned) for turned in (False, True)] for pair in pairs]
    )
    along_columns, along_axes = scores.mean(0)
    print(
        f"| {name} | {along_columns:.4f} | {along_axes:.4f} | {along_axes - along_columns:+.4f} |",
        flush=True,
    )


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", nargs="*", default=[*TABLES, *LARGE], choices=[*TABLES, *LARGE])
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--settings", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--splits", type=int, default=4)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in options.data:
        if name in TABLES:
            pairs = [tables.split(name, seed) for seed in range(options.splits)]
            for betas in (None, (0.8, 0.97)):
                sae = TopKSAE(k=tables.DATA[name][1], betas=betas, random_state=0)
                report(f"{name}, betas {betas}", sae, pairs)
            continue
        load, m, k = LARGE[name]
        X = np.random.default_rng(0).permutation(np.asarray(load(), dtype=np.float32))
        pair = X[8192 : 8192 + N_ROWS], X[:8192]
        for variant, setting in product(options.variants, options.settings):
            parameters = {"n_components": m, "random_state": 0, **SETTINGS[setting]}
            sae = VARIANTS[variant](k).set_params(**parameters)
            report(f"{name}, {variant}, {setting}", sae, [pair])


if __name__ == "__main__":
    main()
