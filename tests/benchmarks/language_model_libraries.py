"""The peers that are made for language models: SAELens, dictionary_learning and sparsify.

Two things are not their defaults: warm-ups of thousands of steps are shortened to a twentieth of
the run, and nothing is logged.
"""

import contextlib
import importlib
from functools import partial

import torch

from tests.benchmarks.task import Library, place


class SAELens(Library):
    """SAELens: a step of its SAETrainer."""

    distribution, module = "sae-lens", "sae_lens"
    variants = ("topk", "batchtopk", "l1", "gated", "jumprelu")
    options = {}
    prefixes = {
        "topk": "TopK",
        "batchtopk": "BatchTopK",
        "l1": "Standard",
        "gated": "Gated",
        "jumprelu": "JumpReLU",
    }

    def __init__(self, task):
        import sae_lens
        from sae_lens.config import SAETrainerConfig
        from sae_lens.training.sae_trainer import SAETrainer

        rows, d, m, k = task.shape
        name = self.prefixes[task.variant] + "TrainingSAE"
        sparsity = {"k": k} if task.is_top_k else {}
        config = getattr(sae_lens, name + "Config")(d_in=d, d_sae=m, **sparsity, **self.options)
        self.sae = getattr(sae_lens, name)(config)
        if task.placed is not None:
            place(task.placed, self.sae, ("W_enc", "W_dec"), ("b_enc", "b_gate", "b_mag"))
        config = SAETrainerConfig(
            total_training_samples=task.n_steps * rows,
            train_batch_size_samples=rows,
            lr=task.rate,
            lr_end=task.rate,
        )
        self.trainer = SAETrainer(config, self.sae, iter(()))

    def step(self, x):
        self.trainer.maybe_reset_sparsity()
        self.trainer.step(x)
        self.trainer.n_training_steps += 1

    @torch.no_grad()
    def encode(self, x):
        return self.sae.encode(x)

    @torch.no_grad()
    def reconstruct(self, x):
        return self.sae.decode(self.encode(x))


class SparseSAELens(SAELens):
    """SAELens with sparse activations, which do not go with its rescaling by decoder norms."""

    variants = ("topk",)
    options = {"use_sparse_activations": True, "rescale_acts_by_decoder_norm": False}


class DictionaryLearning(Library):
    """dictionary_learning: ``update`` of its trainers."""

    distribution, module = "dictionary-learning", "dictionary_learning.trainers"
    unused = ("nnsight",)
    variants = ("topk", "batchtopk", "l1", "gated", "jumprelu")
    trainers = {
        "topk": ("top_k", "TopKTrainer"),
        "batchtopk": ("batch_top_k", "BatchTopKTrainer"),
        "l1": ("standard", "StandardTrainerAprilUpdate"),
        "gated": ("gdm", "GatedSAETrainer"),
        "jumprelu": ("jumprelu", "JumpReluTrainer"),
    }

    def __init__(self, task):
        module, name = self.trainers[task.variant]
        trainer = getattr(importlib.import_module(f"{self.module}.{module}"), name)
        _, d, m, k = task.shape
        sparsity = {"k": k} if task.is_top_k else {"sparsity_warmup_steps": task.at_most(2000)}
        self.trainer = trainer(
            steps=task.n_steps,
            activation_dim=d,
            dict_size=m,
            layer=0,
            lm_name="",
            lr=task.rate,
            warmup_steps=task.at_most(1000),
            device="cpu",
            **sparsity,
        )
        self.sae, self.n_steps = self.trainer.ae, 0
        if task.placed is not None:
            matrices = ("W_enc", "W_dec", "encoder.weight", "decoder.weight")
            biases = ("b_enc", "encoder.bias", "gate_bias", "mag_bias")
            place(task.placed, self.sae, matrices, biases)
        estimates = task.variant == "batchtopk"  # a threshold, after its thousandth step
        self._options = {"use_threshold": False} if estimates else {}

    @staticmethod
    def own_rate(width):
        return 2e-4 / (width / 2**14) ** 0.5

    def step(self, x):
        self.trainer.update(self.n_steps, x)
        self.n_steps += 1

    @torch.no_grad()
    def encode(self, x):
        return self.sae.encode(x, **self._options)

    @torch.no_grad()
    def reconstruct(self, x):
        return self.sae.decode(self.encode(x))


class Sparsify(Library):
    """sparsify: what its trainer does with a SparseCoder and a batch, with its default optimiser.

    The loop itself cannot be entered from outside: it takes a language model and hooks it.
    """

    distribution, module = "eai-sparsify", "sparsify"

    def __init__(self, task):
        import sparsify

        _, d, m, k = task.shape
        self.sae = sparsify.SparseCoder(d, sparsify.SparseCoderConfig(num_latents=m, k=k))
        self.since_fired = torch.zeros(m, dtype=torch.long)
        self.schedule, self._started = None, task.placed is not None
        if self._started:
            place(task.placed, self.sae, ("encoder.weight", "W_dec"), ("encoder.bias",))
        self._optimise(task)

    def _optimise(self, task):
        from schedulefree import ScheduleFreeWrapper
        from sparsify.sign_sgd import SignSGD

        signs = SignSGD(self.sae.parameters(), lr=task.rate)
        self.optimizer = ScheduleFreeWrapper(signs, momentum=0.95)
        self.optimizer.train()

    @staticmethod
    def own_rate(width):
        return 5e-3 / (width / 2**14) ** 0.5

    def step(self, x):
        if not self._started:
            self.sae.b_dec.data = x.mean(0)
            self._started = True
        self.sae.set_decoder_norm_to_unit_norm()
        out = self.sae(x, total_variance=(x - x.mean(0)).square().sum())
        fired = torch.zeros(len(self.since_fired), dtype=torch.bool)
        fired[out.latent_indices.flatten()] = True
        out.fvu.backward()
        self.sae.remove_gradient_parallel_to_decoder_directions()
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.schedule is not None:
            self.schedule.step()
        self.since_fired += len(x)
        self.since_fired[fired] = 0

    @torch.no_grad()
    def encode(self, x):
        return self.sae.encode(x)

    @torch.no_grad()
    def reconstruct(self, x):
        with self._final_weights():
            codes = self.encode(x)
            return self.sae.decode(codes.top_acts, codes.top_indices)

    @contextlib.contextmanager
    def _final_weights(self):
        """Put the averages in place that a schedule-free optimiser would save."""
        self.optimizer.eval()
        yield
        self.optimizer.train()


class AdamSparsify(Sparsify):
    """sparsify with the Adam that it offers, whose rate falls linearly to 0 by default."""

    decays = True

    def _optimise(self, task):
        import transformers

        self.optimizer = torch.optim.Adam(self.sae.parameters(), lr=task.rate)
        if task.decays:
            schedule = transformers.get_linear_schedule_with_warmup
            schedule = partial(schedule, num_training_steps=task.n_steps)
        else:
            schedule = transformers.get_constant_schedule_with_warmup
        self.schedule = schedule(self.optimizer, num_warmup_steps=task.at_most(1000))

    @staticmethod
    def own_rate(width):
        return 2e-4 / (width / 2**14) ** 0.5

    def _final_weights(self):
        return contextlib.nullcontext()
