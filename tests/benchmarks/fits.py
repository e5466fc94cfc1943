"""Seconds of whole fits to the explained variance that the best-tuned peer trains to.

From the root of the repository, with peers installed (see `libraries`)::

    python -m tests.benchmarks.fits --cache folder

A peer takes 764 steps of 1024 rows at each of some learning rates; the best rate sets the target on
rows that were held out, and its time is that of its steps alone. Of sksae, `fit` is timed with all
that it does, and the shortest fit that reaches the target is searched for over the number of steps,
by each of `SETTINGS`: with the defaults, and as many others as a peer has rates.
"""

import argparse
import statistics
import time
from operator import itemgetter
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from sklearn.datasets import load_sample_images
from sklearn.feature_extraction.image import extract_patches_2d

from sksae import ActivationExtractor, TopKSAE
from sksae.datasets import TINY_LM_PATH, load_corpus
from sksae.training import TrainingRun
from tests.benchmarks.data import Shape, shuffled_batches, standardise, superposition
from tests.benchmarks.libraries import installed
from tests.benchmarks.quality import explained_variance
from tests.benchmarks.tables import markdown, publish, save
from tests.benchmarks.task import Task

HELD_OUT = 8192
PEER_STEPS, ROWS = 764, 1024
SETTINGS = {
    "defaults": {},
    "rate 1.5e-2, betas .5 and .95": {"learning_rate": 1.5e-2, "betas": (0.5, 0.95)},
    "rate 2.5e-2, betas .9 and .99": {"learning_rate": 2.5e-2, "betas": (0.9, 0.99)},
}
"""Of the optimiser of sksae."""
STEPS = (60, 80, 100, 125, 150, 180, 210, 240, 270, 300, 340, 380, 430, 480, 540, 600, 680, 764)
"""Steps that a fit of sksae is tried with."""


def language_model(layer, site="resid_post"):
    """Return a function that extracts activations of the packaged language model."""
    return lambda: ActivationExtractor(TINY_LM_PATH, layer=layer, site=site).transform(
        load_corpus().data
    )


def patches(size):
    """Return a function that cuts patches of two photographs."""

    def cut():
        options = {"max_patches": 100_000, "random_state": 0}
        images = [
            extract_patches_2d(image, (size, size), **options)
            for image in load_sample_images().images
        ]
        return np.concatenate(images).reshape(-1, 3 * size * size)

    return cut


DATA = {
    "layer 1, residual stream": (language_model(1), 1536, 16),
    "layer 3, residual stream": (language_model(3), 1536, 16),
    "layer 2, MLP": (language_model(2, "mlp_out"), 1536, 16),
    "patches 8 x 8": (patches(8), 1536, 16),
    "patches 12 x 12": (patches(12), 3456, 32),
    "superposition": (lambda: superposition(200_000 + HELD_OUT, 384, 1536)[0], 3072, 32),
}
"""Rows, latents and codes per row, by name."""


def load(name, cache=None):
    """Return the standardised rows of a data set, shuffled."""
    path = None if cache is None else Path(cache) / f"{name.replace(' ', '_')}.npy"
    if path is not None and path.exists():
        return torch.from_numpy(np.load(path))
    rows = np.asarray(DATA[name][0](), dtype=np.float32)
    rows = standardise(np.random.default_rng(0).permutation(rows))
    if path is not None:
        np.save(path, rows.numpy())
    return rows


def peer_run(library, task, x, held_out, n_steps):
    """Return the explained variance that a peer trains to, and the seconds of its steps."""
    torch.manual_seed(0)
    peer, batches, seconds = library(task), shuffled_batches(x, task.shape.rows), []
    for _ in range(n_steps):
        rows = next(batches)
        start = time.perf_counter()
        peer.step(rows)
        seconds.append(time.perf_counter() - start)
    return explained_variance(peer, held_out), n_steps * statistics.median(seconds)


def one_fit(x, held_out, n_steps, **settings):
    """Return the explained variance of a fit of so many steps, its seconds, and those of steps."""
    n_rows = n_steps * ROWS
    passes = -(-n_rows // len(x))
    options = {"batch_size": ROWS, "max_iter": passes, "random_state": 0, "sparse_output": True}
    sae = TopKSAE(**options, **settings)
    of_steps, step = [], TrainingRun.step

    def timed(run, *batch):
        start = time.perf_counter()
        loss = step(run, *batch)
        of_steps.append(time.perf_counter() - start)
        return loss

    with patch.object(TrainingRun, "step", timed):
        start = time.perf_counter()
        sae.fit(x[: n_rows // passes])
        seconds = time.perf_counter() - start
    return sae.score(held_out), seconds, sum(of_steps)


def shortest_fit(x, held_out, target, steps, **settings):
    """Return the fewest steps of a fit that reaches the target, or None, by bisection."""
    low, high = 0, len(steps)
    while low < high:
        middle = (low + high) // 2
        score, *_ = one_fit(x, held_out, steps[middle], **settings)
        low, high = (low, middle) if score >= target else (middle + 1, high)
    return steps[low] if low < len(steps) else None


def compare(name, options):
    """Return what is to tell of a data set."""
    _, m, k = DATA[name]
    x = load(name, options.cache)
    x, held_out = x[HELD_OUT:], x[:HELD_OUT]
    task = Task("topk", Shape(ROWS, x.shape[1], m, k), x, n_steps=options.peer_steps)
    peers = {
        f"{label}, {rate:g}": peer_run(
            library, task._replace(rate=rate), x, held_out, options.peer_steps
        )
        for label, library in installed(options.libraries).items()
        for rate in options.rates
    }
    best = max(peers, key=peers.get)  # by explained variance
    target, peer_seconds = peers[best]
    rows, held_out, fits = x.numpy(), held_out.numpy(), {}
    for label, tuned in SETTINGS.items():
        settings = {"n_components": m, "k": k, **tuned}
        n_steps = shortest_fit(rows, held_out, target, options.steps, **settings)
        if n_steps is not None:
            again = [one_fit(rows, held_out, n_steps, **settings) for _ in range(3)]
            _, seconds, of_steps = sorted(again, key=itemgetter(1))[1]  # the median of three
            fits[label] = seconds, n_steps, of_steps
    return {"target": target, "best": best, "seconds": peer_seconds, "peers": peers, "fits": fits}


def _row(name, found):
    seconds_of_peer, fits = found["seconds"], found["fits"]
    cells = [name, f"{found['target']:.4f}", found["best"], f"{seconds_of_peer:.1f}"]
    best = min(fits, key=fits.get, default=None)  # by seconds
    for label in ("defaults", best):
        if label in fits:
            seconds, n_steps, of_steps = fits[label]
            cells += [f"{seconds:.1f} ({n_steps} steps)", f"{seconds / of_steps - 1:.2f}"]
            cells += [f"{seconds_of_peer / seconds:.1f}"]
        else:
            cells += ["not reached", "", ""]
    return [*cells, best or ""]


def main(arguments=None):
    """Print the table, data set by data set."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=list(DATA))
    parser.add_argument("--libraries", nargs="+", default=["sparsify-adam"])
    parser.add_argument("--rates", type=float, nargs="+", default=(1e-3, 3e-3, 6e-3))
    parser.add_argument("--peer-steps", type=int, default=PEER_STEPS)
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    parser.add_argument("--cache", metavar="FOLDER", help="keeps the rows for later runs")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args(arguments)
    ours = ["sksae", "beside steps", "times", "tuned", "beside steps", "times", "by"]
    header = ["data", "target", "best peer", "its seconds", *ours]
    TopKSAE(64, k=4, max_iter=1).fit(np.random.default_rng(0).normal(size=(9000, 64)))  # compile
    distributions = [library.distribution for library in installed(options.libraries).values()]
    found = {}
    for name in options.data:
        found[name] = compare(name, options)
        table = markdown(header, [_row(n, f) for n, f in found.items()])
        publish("Seconds of fits to equal explained variance", table, ["sksae", *distributions])
    save(options.json, found, ["sksae", *distributions])


if __name__ == "__main__":
    main()
