"""sksae behind the methods of a `Library`: a step is what `fit` runs for a step.

This is the one file that knows how `fit` makes its `TrainingRun`.
"""

from functools import partial

import torch
from sksae.autoencoders._plan import make_plan

from sksae import BatchTopKSAE, GatedSAE, JumpReLUSAE, SparseAutoencoder, TopKSAE
from sksae._threads import threads_for
from sksae.autoencoders import _fitting
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
        self.sae = ESTIMATORS[task.variant](
            m,
            batch_size=rows,
            max_iter=1,
            learning_rate=task.rate,
            sparse_output=True,
            random_state=0,
            **settings,
            **self.options,
        )
        X, generator = task.rows[:rows].numpy(), _fitting.new_generator(self.sae)
        training = _fitting.batches_of(X, batch_size=rows, generator=generator)
        unit = Normalization(torch.zeros(d, dtype=torch.float64), 1.0)  # rows come in it already
        training.normalize(unit)
        plan = make_plan(self.sae, task.n_steps * rows, d)
        weights = self.sae._initial_weights(training, m, generator)
        if task.placed is not None:
            _place(task.placed, weights)
        self.run = _fitting.new_run(self.sae, weights, plan, training)
        calibrate = partial(self.sae._calibrated, engine=self.run.engine, rows=training)
        self._fold = partial(
            _fitting._fitted, calibrate=calibrate, normalization=unit, plan=plan, X=X
        )
        self._flop, self._folded = 2 * rows * m * d, None

    @staticmethod
    def own_rate(width):
        return default_learning_rate(width)

    def step(self, x):
        with threads_for(self._flop):
            self.run.step(x, torch.ones(len(x)))

    def encode(self, x):
        return self._fitted().transform(x.numpy())

    def reconstruct(self, x):
        return torch.from_numpy(self._fitted().inverse_transform(self.encode(x)))

    def _fitted(self):
        """Return the estimator with the weights of the last step, as `fit` stores them."""
        if self._folded != self.run.n_steps:
            _fitting._store(self.sae, self._fold(self.sae, self.run.weights))
            self.sae.n_features_in_ = self.sae.components_.shape[1]
            self._folded = self.run.n_steps
        return self.sae


class BFloat16Ours(Ours):
    """sksae with ``precision="bfloat16"``."""

    options = {"precision": "bfloat16"}


OURS = {"sksae": Ours, "sksae-bfloat16": BFloat16Ours}


def _place(placed, weights):
    """Start from placed weights, in place."""
    bias = placed.bias + weights.get("threshold", torch.zeros(()))
    for name in ("components", "encoder_coef"):
        weights[name] = placed.directions.double()
    for name in {"encoder_intercept", "gate_intercept"} & set(weights):
        weights[name] = torch.zeros_like(weights[name]) + bias
