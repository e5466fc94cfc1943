"""What training along the principal axes of the rows gains: the table of ``docs/defaults.md``.

Run as ``python docs/experiments/axes.py``; ``--data`` and ``--variants`` take some. Every fit is
made twice, along the columns of the data and along their principal axes, and is scored by the
explained variance of rows that were held out. Tables are fitted by default on several splits, large
data for about 200 steps of 1024 rows and 784 of 512.
"""

import argparse
import warnings

import numpy as np
import tables
from sklearn.datasets import load_sample_images
from sklearn.feature_extraction.image import extract_patches_2d

from sksae import BatchTopKSAE, GatedSAE, JumpReLUSAE, SparseAutoencoder, TopKSAE
from sksae.datasets import make_superposition
from sksae.training import _principal_axes

VARIANTS = {
    "TopKSAE": lambda k: TopKSAE(k=k),
    "BatchTopKSAE": lambda k: BatchTopKSAE(k=k),
    "GatedSAE": lambda k: GatedSAE(target_l0=k),
    "JumpReLUSAE": lambda k: JumpReLUSAE(target_l0=k),
    "SparseAutoencoder": lambda k: SparseAutoencoder(target_l0=k),
}
TABLES = ("breast_cancer", "digits", "patches", "superposition 2860", "pooled", "tokens 2860")


def patches():
    """Return 100 352 patches of 8 x 8 pixels."""
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
SETTINGS = ({"batch_size": 1024, "max_iter": 2}, {"batch_size": 512, "max_iter": 4})


def score(sae, X, held_out, *, turned):
    """Return the explained variance of held-out rows after a fit along given axes."""
    fewest = _principal_axes._FEWEST, _principal_axes._PER_LATENT
    # From so many rows on the axes are the principal ones.
    _principal_axes._FEWEST, _principal_axes._PER_LATENT = (0, 0) if turned else (1e18, 0)
    try:
        type(sae._make_objective(X.shape[1], 8, X.shape[1])).turns = True
        sae.fit(X)
    finally:
        _principal_axes._FEWEST, _principal_axes._PER_LATENT = fewest
    residual = held_out - sae.inverse_transform(sae.transform(held_out))
    return 1 - float((residual**2).sum() / ((held_out - held_out.mean(0)) ** 2).sum())


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
    parser.add_argument("--splits", type=int, default=4)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in options.data:
        if name in TABLES:
            sae = TopKSAE(k=tables.DATA[name][1], random_state=0)
            report(name, sae, [tables.split(name, seed) for seed in range(options.splits)])
            continue
        load, m, k = LARGE[name]
        X = np.random.default_rng(0).permutation(np.asarray(load(), dtype=np.float32))
        pair = X[8192 : 8192 + 100_352], X[:8192]
        for variant, setting in ((v, s) for v in options.variants for s in SETTINGS):
            n_steps = setting["max_iter"] * len(pair[0]) // setting["batch_size"]
            sae = VARIANTS[variant](k).set_params(n_components=m, random_state=0, **setting)
            report(f"{name}, {variant}, {n_steps} steps", sae, [pair])


if __name__ == "__main__":
    main()
