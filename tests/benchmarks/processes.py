"""A training step of several processes on this machine beside that of one, on the same batch.

From the root of the repository::

    python -m tests.benchmarks.processes --config A --processes 2

Every process computes on one thread. The seconds are those of its processor: what the others do
meanwhile does not count, and neither does waiting for them.
"""

import argparse
import time

import numpy as np
import torch

from sksae import TopKSAE
from sksae.autoencoders import Fit
from sksae.training import Normalization
from tests.benchmarks.data import CONFIGS, superposition
from tests.benchmarks.tables import markdown
from tests.processes import together


def step_seconds(X, shape, n_steps):
    """Return the median processor seconds of a step of a fit whose batches are of this shape."""
    torch.set_num_threads(1)
    sae = TopKSAE(shape.width, k=shape.k, batch_size=shape.rows, random_state=0)
    # Rows come in the unit of training already.
    unit = Normalization(torch.zeros(X.shape[1], dtype=torch.float64), 1.0)
    fit = Fit(sae, X, normalization=unit)
    seconds = []
    while len(seconds) <= n_steps:
        for x, w in fit.rows:
            start = time.process_time()
            fit.run.step(x, w)
            seconds.append(time.process_time() - start)
    return float(np.median(seconds[1 : n_steps + 1]))


def of_a_share(rank, X, shape, n_steps, n):
    """Return `step_seconds` of one of n processes."""
    return step_seconds(np.array_split(X, n)[rank], shape, n_steps)


def measure(shape, n, n_steps):
    """Return the seconds of a step of one process, and of each of n."""
    X = superposition(2 * shape.rows, shape.features, 2 * shape.features)[0].numpy()
    threads = torch.get_num_threads()
    try:
        alone = step_seconds(X, shape, n_steps)
    finally:
        torch.set_num_threads(threads)
    return alone, together(of_a_share, X, shape, n_steps, n, n=n, timeout=600)


def main(options):
    """Print a table with a line."""
    shape, n = CONFIGS[options.config], options.processes
    alone, shares = measure(shape, n, options.steps)
    summed = 8 * shape.width * shape.features / 1e6  # two matrices in float32
    cells = [f"{alone * 1e3:.0f}", f"{np.mean(shares) * 1e3:.0f}", f"{alone / n * 1e3:.0f}"]
    heading = ["one process, ms", f"each of {n}", f"first / {n}", "summed, MB"]
    print(markdown(heading, [[*cells, f"{summed:.1f}"]]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", default="A", choices=CONFIGS)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    main(parser.parse_args())
