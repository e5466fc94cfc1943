"""What a library is asked to train, and what all libraries have in common."""

from typing import NamedTuple

import torch

from tests.benchmarks.data import Placed, Shape

STILL = 1e-6
"""A learning rate that leaves the weights where they are, and the cost of a step with them."""


class Task(NamedTuple):
    """What a library is asked to train.

    Parameters
    ----------
    variant : {"topk", "batchtopk", "l1", "gated", "jumprelu"}
    shape : Shape
    rows : Tensor
        Rows that stand for the data, for libraries that look at them before the first step.
    rate : float
        Learning rate.
    n_steps : int
        Length of the run, of which the ramps are a share.
    decays : bool
        Whether the learning rate falls towards the end, where that is a library's default.
    placed : Placed, default=None
        Weights to start from instead of the library's own.
    """

    variant: str
    shape: Shape
    rows: torch.Tensor
    rate: float = 1e-3
    n_steps: int = 100_000
    decays: bool = False
    placed: Placed | None = None

    @property
    def is_top_k(self):
        """Whether the variant takes a number of active latents, and not a penalty."""
        return self.variant.endswith("topk")

    def at_most(self, n_steps):
        """Shorten a default number of steps to a twentieth of the run, which may be a short one."""
        return min(n_steps, self.n_steps // 20)


class Library:
    """One way to train a dictionary.

    ``step(x)`` is one optimiser step, ``encode(x)`` returns what the library's users get, and
    ``reconstruct(x)`` a tensor like `x`.

    Attributes
    ----------
    distribution, module : str
        What to install and what to import.
    unused : tuple of str
        Modules that the library imports and a training step never enters.
    variants : tuple of str
    rows_at_most : int or None
        Rows to measure it with, for a library that would take hours otherwise.
    encode_rows : int or None
        Rows to encode at a time, for a library that does not itself divide them.
    decays : bool
        Whether its learning rate falls towards the end by default.
    """

    distribution = module = None
    unused, variants = (), ("topk",)
    rows_at_most, encode_rows, decays = None, 2048, False

    @staticmethod
    def own_rate(width):
        """Return the learning rate that it chooses for a dictionary of this width, if it does."""
        return


@torch.no_grad()
def place(placed, model, matrices, biases):
    """Start `model` from placed weights: parameters by name, those that it does not have left out.

    Latents stay active above a threshold that `model` has, because the bias is raised by it.
    """
    parameters = dict(model.named_parameters())
    for name in set(matrices) & set(parameters):
        matrix = parameters[name]
        upright = matrix.shape == placed.directions.shape
        matrix.copy_(placed.directions if upright else placed.directions.T)
    for name in set(biases) & set(parameters):
        parameters[name].fill_(placed.bias).add_(parameters.get("threshold", torch.zeros(())))
