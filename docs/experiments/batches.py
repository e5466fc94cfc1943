"""Batches that grow during a fit, beside constant ones, at equal rows seen.

Run as ``python docs/experiments/batches.py "superposition 100000" "tokens 20000"``. A plan is a
list of shares of the rows and the rows per step for each. The learning rate falls over the last
40 % of the rows, whatever the batch. Scores are explained variances of 10 000 held-out rows; F1 is
the mean over true directions of that of the best latent. Seconds are those of the process, on one
thread.
"""

import argparse
import time
import warnings

import numpy as np
import tables
import torch
from scipy import sparse

from sksae import BatchTopKSAE, TopKSAE
from sksae.autoencoders import Fit
from sksae.datasets import make_superposition
from sksae.metrics import latent_precision_recall_f1

HELD_OUT = 10_000
DECAY = 0.4
CONSTANT = {size: [(1, size)] for size in (128, 256, 512, 1024, 4096)}
PLANS = {
    "superposition 100000": (
        6,
        [
            *(CONSTANT[size] for size in (128, 256, 512, 1024)),
            [(1 / 3, 128), (1 / 3, 256), (1 / 3, 512)],
            [(0.5, 256), (0.5, 1024)],
            [(0.2, 64), (0.2, 128), (0.2, 256), (0.2, 512), (0.2, 1024)],
        ],
    ),
    "superposition 1000000": (
        1,
        [
            *(CONSTANT[size] for size in (256, 1024, 4096)),
            [(0.1, 256), (0.9, 1024)],
            [(0.2, 256), (0.3, 512), (0.5, 1024)],
            [(0.1, 256), (0.2, 1024), (0.7, 4096)],
        ],
    ),
    "tokens 20000": (
        6,
        [
            *(CONSTANT[size] for size in (128, 256, 512)),
            [(0.5, 64), (0.5, 256)],
            [(0.3, 128), (0.7, 512)],
        ],
    ),
    "tokens 100000": (
        2,
        [
            *(CONSTANT[size] for size in (128, 256, 512, 1024)),
            [(0.3, 128), (0.7, 512)],
            [(0.3, 256), (0.7, 1024)],
        ],
    ),
}
"""Passes, and plans, by data set."""


def load(name):
    """Return rows to fit, rows to score, the true codes of the latter if known, and k."""
    kind, n_rows = name.split()[0], int(name.split()[1])
    if kind == "tokens":
        X = tables.tokens(n_rows + HELD_OUT)()
        return X[:n_rows], X[n_rows:], None, 16
    # Frequencies fall from .2 to .01 by a power law: about 5 of 256 directions are active.
    X, _, codes = make_superposition(
        n_rows + HELD_OUT,
        64,
        256,
        density=0.2,
        min_density=0.01,
        sparse_output=True,
        random_state=0,
    )
    return X[:n_rows], X[n_rows:], codes[n_rows:], 6


def batch_sizes(n_rows, plan):
    """Return the rows of every step."""
    sizes, n_seen, end = [], 0, 0.0
    for share, size in plan:
        end += share * n_rows
        while n_seen < round(end):
            sizes.append(min(size, n_rows - n_seen))
            n_seen += sizes[-1]
    return sizes


def fitted(make, X, k, n_passes, plan):
    """Return an estimator that was fitted by a plan."""
    fit = Fit(make(k=k, random_state=0), X)
    n_rows = n_passes * len(X)
    generator = torch.Generator().manual_seed(0)
    order = torch.cat([torch.randperm(len(X), generator=generator) for _ in range(n_passes)])
    n_seen = 0
    fit.run.dead_window = n_rows // 10
    fit.run.schedule = lambda step: (1.0, min(1.0, (n_rows - n_seen) / (DECAY * n_rows)))
    for size in batch_sizes(n_rows, plan):
        fit.run.step(*fit.rows.take(order[n_seen : n_seen + size]))
        n_seen += size
    return fit.fitted()


def main():
    """Measure, and print a line for every plan."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", nargs="*", default=list(PLANS), choices=list(PLANS))
    parser.add_argument("--batch-topk", action="store_true", help="instead of TopK")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", UserWarning)
    make = BatchTopKSAE if options.batch_topk else TopKSAE
    for name in options.data:
        X, held_out, true_codes, k = load(name)
        n_passes, plans = PLANS[name]
        for plan in plans:
            start = time.process_time()
            sae = fitted(make, X, k, n_passes, plan)
            seconds = time.process_time() - start
            line = f"{name}, {plan}: {sae.score(held_out):.4f}, {seconds:.1f} s"
            codes = sparse.csr_matrix(sae.transform(held_out))
            if true_codes is not None:
                # Of every true direction, with the latent that detects it best.
                f1 = latent_precision_recall_f1(true_codes, codes)[2]
                line += f", F1 {f1.mean():.3f}"
            n_dead = sae.components_.shape[0] - np.count_nonzero(codes.getnnz(axis=0))
            print(f"{line}, {n_dead} latents silent on the held-out rows", flush=True)


if __name__ == "__main__":
    main()
