"""Rows to learn from: features in superposition, and activations of the packaged language model.

Rows are float32 tensors, centred and with a mean squared norm of the number of features: the unit
that sksae trains in, so that no library has to normalise anything.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from sksae import ActivationExtractor
from sksae.datasets import TINY_LM_PATH, load_corpus, make_superposition

ACTIVE = 30
NOISE = 0.1


class Shape(NamedTuple):
    """The size of a training step."""

    rows: int
    features: int
    width: int
    k: int

    def __str__(self):
        return f"{self.rows} x {self.features} -> {self.width}, k {self.k}"


CONFIGS = {
    "A": Shape(4096, 512, 4096, 32),
    "B": Shape(4096, 768, 16384, 32),
    "C": Shape(2048, 384, 3072, 32),
    "L": Shape(2048, 192, 1536, 16),
    "T": Shape(512, 64, 256, 8),
}
"""A to C: dictionaries of a usual size. L: the packaged language model. T: to try things out."""


class Placed(NamedTuple):
    """Weights of a dictionary as training leaves it, for libraries to start from.

    Parameters
    ----------
    directions : Tensor of shape (width, features)
        Unit rows, of the decoder and of the encoder.
    bias : float
        The encoder's bias, negative, the same for all latents.
    """

    directions: torch.Tensor
    bias: float


def superposition(n_rows, n_features, n_directions, seed=0):
    """Draw rows in which about 30 of `n_directions` unit directions are active, and directions."""
    X, directions, _ = make_superposition(
        n_rows,
        n_features,
        n_directions,
        density=_zipf(n_directions),
        magnitude_std=0.5,
        noise=NOISE / n_features**0.5,
        orthogonalize=False,
        sparse_output=True,
        random_state=seed,
    )
    return standardise(X), torch.from_numpy(directions)


def activations(folder):
    """Activations of the packaged language model, shuffled; a folder keeps them once extracted."""
    path = Path(folder) / "activations.npy"
    if not path.exists():
        X = ActivationExtractor(TINY_LM_PATH, layer=3).transform(load_corpus().data)
        np.save(path, np.random.default_rng(0).permutation(X))
    return standardise(np.load(path))


def standardise(X):
    """Centre X and scale it to a mean squared norm of its number of features."""
    x = torch.from_numpy(np.asarray(X, dtype=np.float32))
    x = x - x.mean(0)
    return x * (x.shape[1] / x.square().sum(1).mean()).sqrt()


def placed_weights(x, directions, n_active=50):
    """Weights along `directions` whose bias leaves about `n_active` latents a row active."""
    z = (x[:512] @ directions.T).flatten()
    rank = min(len(z), max(1, n_active * min(len(x), 512)))
    return Placed(directions, -float(z.kthvalue(len(z) - rank + 1).values))


def shuffled_batches(x, n_rows, seed=0):
    """Yield batches of `n_rows` rows without end, every pass in a new order."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        for rows in torch.randperm(len(x), generator=generator).split(n_rows):
            if len(rows) == n_rows:
                yield x[rows]


def _zipf(n_directions):
    """Firing rates that fall with the rank, at most 1/2, about `ACTIVE` in sum."""
    rates = np.arange(1.0, n_directions + 1) ** -0.7
    for _ in range(5):
        rates = np.minimum(0.5, rates * min(ACTIVE, n_directions / 4) / rates.sum())
    return rates
