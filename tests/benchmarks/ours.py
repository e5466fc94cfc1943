"""sksae behind the methods of a `Library`: a step is the step of a `Fit`."""

import torch

from sksae import (
    BatchTopKSAE,
    GatedSAE,
    JumpReLUSAE,
    SparseAutoencoder,
    TopKSAE,
)
from sksae._threads import threads_for
from sksae.autoencoders import Fit
from sksae.training import Normalization, default_learning_rate
from tests.benchmarks.task import Library

ESTIMATORS = {
    "topk": TopKSAE,
    "batchtopk": BatchTopKSAE,
    "l1": SparseAutoencoder,
    "gated": GatedSAE,
    "jumprelu": JumpReLUSAE,
}


class Ours(Library):
    """sksae: ``TrainingRun.step``, and ``transform`` to CSR."""

    distribution, module = "sksae", "sksae"
    variants = tuple(ESTIMATORS)
    decays, encode_rows = True, None
    options = {}

    def __init__(self, task):
        rows, d, m, k = task.shape
        settings = {"k": k} if task.is_top_k else {}
        if not task.decays:
            settings["learning_rate_decay"] = 0.0
        sae = ESTIMATORS[task.variant](
            m,
            batch_size=rows,
            max_iter=task.n_steps,
            learning_rate=task.rate,
            sparse_output=True,
            random_state=0,
            **settings,
            **self.options,
        )
        unit = Normalization(torch.zeros(d, dtype=torch.float64), 1.0)  # rows come in it already
        self.fit = Fit(sae, task.rows[:rows].numpy(), normalization=unit)
        if task.placed is not None:
            _place(task.placed, self.fit.run.weights)
        self._flop, self._fitted_at, self._sae = 2 * rows * m * d, None, None

    @staticmethod
    def own_rate(width):
        return default_learning_rate(width)

    def step(self, x):
        with threads_for(self._flop):
            self.fit.run.step(x, torch.ones(len(x)))

    def encode(self, x):
        return self._fitted().transform(x.numpy())

    def reconstruct(self, x):
        return torch.from_numpy(self._fitted().inverse_transform(self.encode(x)))

    def _fitted(self):
        """Return the estimator with the weights of the last step."""
        if self._fitted_at != self.fit.run.n_steps:
            self._sae, self._fitted_at = self.fit.fitted(), self.fit.run.n_steps
        return self._sae


class BFloat16Ours(Ours):
    """sksae with ``precision="bfloat16"``."""

    options = {"precision": "bfloat16"}


OURS = {"sksae": Ours, "sksae-bfloat16": BFloat16Ours}


def _place(placed, weights):
    """Start from placed weights, in place."""
    bias = placed.bias + weights.get("threshold", torch.zeros(()))
    for name in ("components", "encoder_coef"):
        weights[name].copy_(placed.directions)
    for name in {"encoder_intercept", "gate_intercept"} & set(weights):
        weights[name].copy_(torch.zeros_like(weights[name]) + bias)
