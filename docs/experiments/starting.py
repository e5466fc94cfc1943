"""How the start and the training defaults were chosen: the tables of ``docs/starting.md``.

Run as ``python docs/experiments/starting.py --data lm --seeds 3``. The first rows of a table are
the earlier defaults and the chosen ones; every other row changes one thing of the chosen ones.
Starts and rates are set here, whatever the defaults have become since.
"""

import argparse
import math
import time
import warnings
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from sksae import GatedSAE, JumpReLUSAE, SparseAutoencoder, TopKSAE
from sksae.datasets import TINY_LM_PATH, load_corpus, make_superposition
from sksae.training import Batches, Engine, HeldOut, Revival, default_batch_size

CHECKPOINTS = (50, 200)
HELD_OUT_ROWS = 8192


class Task(NamedTuple):
    """Rows, the true dictionary where it is known, and how long and how sparsely to train."""

    X: np.ndarray
    held_out: np.ndarray
    dictionary: np.ndarray | None
    width: int
    sparsity: dict
    n_steps: int


class Recipe(NamedTuple):
    """A start and the parameters of a fit.

    `scale` is the encoder over the decoder; `active`, the share of rows on which a latent is
    active at first (None leaves the bias 0); `rates`, multipliers of the learning rate by name;
    `revives`, whether dead latents start anew in the first 60 % of a fit.
    """

    scale: float = 1.0
    active: float | None = None
    directions: str = "random"
    rates: dict = {}
    parameters: dict = {}
    revives: bool = False


EARLIER = {
    "learning_rate": 3e-3,
    "betas": (0.9, 0.999),
    "max_grad_norm": 1.0,
    "learning_rate_decay": 0.2,
}
LATER = {**EARLIER, "learning_rate": 6e-3, "learning_rate_decay": 0.4, "betas": (0.9, 0.99)}
HALF = {"encoder_coef": 0.5}
CHOSEN = {
    "TopKSAE": Recipe(0.3, rates=HALF, parameters=LATER),
    "SparseAutoencoder": Recipe(active=0.05, parameters=LATER),
    "GatedSAE": Recipe(0.3, 0.05, rates=HALF, parameters=LATER),
    "JumpReLUSAE": Recipe(0.3, rates=HALF, parameters=LATER, revives=True),
}
TOY_A = {
    "TopKSAE": {"k": 2},
    "SparseAutoencoder": {"alpha": 1.0},
    "GatedSAE": {"alpha": 4.0},
    "JumpReLUSAE": {"alpha": 1.5},
}
TOY_B = {**TOY_A, "TopKSAE": {"k": 3}, "JumpReLUSAE": {"alpha": 2.0, "bandwidth": 0.5}}


def aimed(k):
    """Parameters of every variant that give `k` codes a row."""
    return {name: {"k": k} if name == "TopKSAE" else {"target_l0": float(k)} for name in CHOSEN}


def superposition(n_samples, n_held_out, *shape, **law):
    """Return rows in superposition, others to be judged by, and their dictionary."""
    X, D, _ = make_superposition(n_samples + n_held_out, *shape, bias=1.0, random_state=100, **law)
    return X[:n_samples], X[n_samples:], D


def language_model(layer):
    """Return activations of the packaged language model; held-out rows are of other documents."""
    from sksae.language_models import ActivationExtractor

    texts = train_test_split(load_corpus().data, test_size=0.2, random_state=0)
    extractor = ActivationExtractor(TINY_LM_PATH, layer=layer)
    X, held_out = (np.asarray(extractor.transform(part), dtype=np.float32) for part in texts)
    return X, held_out, None


def digits():
    """Return images of digits."""
    X = load_digits().data.astype(np.float32)
    return *train_test_split(X, test_size=0.2, random_state=0), None


TASKS = {
    "lm": lambda: Task(*language_model(3), 1536, aimed(24), 500),
    "lm-layer-1": lambda: Task(*language_model(1), 1536, aimed(24), 500),
    "toy-a": lambda: Task(*superposition(20_000, 5000, 16, 32, density=0.05), 32, TOY_A, 2000),
    "toy-b": lambda: Task(
        *superposition(50_000, 5000, 32, 128, density=0.1, min_density=0.01), 128, TOY_B, 2000
    ),
    "superposition": lambda: Task(
        *superposition(60_000, 8000, 128, 1024, density=0.05, min_density=0.001, noise=0.02),
        1024,
        aimed(12),
        1000,
    ),
    "digits": lambda: Task(*digits(), 512, aimed(8), 500),
}


@cache
def task_of(name):
    """Return the task of this name, made once."""
    return TASKS[name]()


def directions_of(kind, random, x):
    """Unit rows of the dictionary: at random, from rows `x`, both, or of the covariance of `x`."""
    data = x[torch.arange(len(random)) % len(x)]
    if kind == "data rows":
        random = data
    elif kind == "data rows + random":
        norms = (rows.norm(dim=1, keepdim=True).clamp(min=1e-9) for rows in (data, random))
        random = data / next(norms) + random / next(norms)
    elif kind == "covariance":
        values, vectors = torch.linalg.eigh(x.T @ x / len(x))
        random = random @ (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return random / random.norm(dim=1, keepdim=True).clamp(min=1e-9)


class Start:
    """Mixed into a variant: starts by a `Recipe`, and follows explained variance off the clock."""

    start = Recipe()

    def _make_objective(self, *shape):
        objective, recipe = super()._make_objective(*shape), self.start
        initial_weights, rate_scales = objective.initial_weights, objective.rate_scales

        def recipe_weights(rows, n_components, generator):
            weights = initial_weights(rows, n_components, generator)
            return started_weights(recipe, objective.pre_bias, weights, rows, generator)

        def recipe_rates(reach):
            scales = rate_scales(reach)
            return {
                **{name: scales[name] for name in scales if name == "threshold"},
                **recipe.rates,
            }

        def recipe_events(rows, n_steps, generator):
            follow = self._follower(objective, rows, n_steps)
            if not recipe.revives:
                return [follow]
            return [Revival(rows, n_steps, generator, threshold="threshold"), follow]

        objective.initial_weights, objective.rate_scales = recipe_weights, recipe_rates
        objective.events = recipe_events
        return objective

    def _follower(self, objective, rows, n_steps):
        """Return an event that notes time and explained variance at the checkpoints."""
        self.curve, clock = {}, {"start": time.process_time()}
        X = self.held_out[:HELD_OUT_ROWS]
        judges = Batches(X, None, 2048, rows.dtype, rows.device).normalize(rows._normalization)
        judge = HeldOut(Engine(objective), judges)

        def follow(run):
            if run.n_steps in (*CHECKPOINTS, n_steps):
                now = time.process_time()
                score = judge.explained_variance(run.weights)
                self.curve[run.n_steps] = (now - clock["start"], score)
                clock["start"] += time.process_time() - now

        return follow


def started_weights(recipe, pre_bias, weights, rows, generator):
    """Return first weights of an objective with the start of a recipe."""
    D, b = weights["components"], weights["intercept"]
    sample, _ = rows.take(torch.randperm(rows.n_samples, generator=generator)[:4096])
    sample = sample.double()
    sizes = D.norm(dim=1, keepdim=True)
    random = torch.randn(D.shape, generator=generator, dtype=torch.float64)
    weights["components"] = sizes * directions_of(recipe.directions, random, sample - b)
    weights["encoder_coef"] = recipe.scale * weights["components"]
    bias = torch.zeros(len(D), dtype=torch.float64)
    if recipe.active is not None:
        z = (sample - b * pre_bias) @ weights["encoder_coef"].T
        bias = -torch.quantile(z, 1 - recipe.active, dim=0)
    weights["gate_intercept" if "gate_intercept" in weights else "encoder_intercept"] = bias
    return weights


def started(cls):
    """Return a subclass of a variant that starts by a recipe."""
    return type(cls.__name__, (Start, cls), {"__init__": cls.__init__})


VARIANTS = {
    cls.__name__: started(cls) for cls in (TopKSAE, SparseAutoencoder, GatedSAE, JumpReLUSAE)
}


def measure(task, variant, recipe, seed):
    """Fit once; return what a table shows of it."""
    passes = math.ceil(task.n_steps / math.ceil(len(task.X) / default_batch_size(len(task.X))))
    options = {**task.sparsity[variant], **recipe.parameters}
    sae = VARIANTS[variant](task.width, max_iter=passes, random_state=seed, **options)
    sae.start, sae.held_out = recipe, task.held_out
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        sae.fit(task.X)
    measures = {f"EV at {step}": sae.curve[step][1] for step in CHECKPOINTS if step in sae.curve}
    measures["steps"] = sae.n_steps_
    *_, (measures["seconds"], measures["EV at end"]) = sae.curve.values()
    measures["L0"] = sae.activation_frequency_.sum()
    measures["dead %"] = 100 * (sae.activation_frequency_ == 0).mean()
    if task.dictionary is not None:
        norms = np.linalg.norm(sae.components_, axis=1, keepdims=True)
        measures["cosine"] = (task.dictionary @ (sae.components_ / norms).T).max(1).mean()
    return measures


def summary(values):
    """Mean and standard deviation over seeds, as text."""
    if all(isinstance(value, int) for value in values):
        return str(values[0])
    mean, spread = np.mean(values), np.std(values)
    return f"{mean:.1f} ± {spread:.1f}" if mean > 1 else f"{mean:.3f} ± {spread:.3f}"


def rows_of(variant):
    """The recipes of a table by name: earlier, chosen, and single changes of the chosen one."""
    chosen = CHOSEN[variant]
    change = {
        "encoder scale 1": {"scale": 1.0},
        "encoder scale 0.1": {"scale": 0.1},
        "encoder at the full rate": {"rates": {}},
        "rate 3e-3 for all": {"rates": {}, "learning_rate": 3e-3},
        "betas (0.9, 0.999)": {"betas": (0.9, 0.999)},
        "betas (0.9, 0.95)": {"betas": (0.9, 0.95)},
        "not clipped": {"max_grad_norm": None},
        "decay over 20 %": {"learning_rate_decay": 0.2},
        "decay over 60 %": {"learning_rate_decay": 0.6},
        "warm-up over 5 %": {"learning_rate_warm_up": 0.05},
        "decoder from data rows": {"directions": "data rows"},
        "decoder from data rows + random": {"directions": "data rows + random"},
        "decoder of the covariance": {"directions": "covariance"},
        "batch 512": {"batch_size": 512},
        "batch 2048": {"batch_size": 2048},
    }
    if variant in ("SparseAutoencoder", "GatedSAE"):
        change |= {f"active {share}": {"active": share} for share in (None, 0.1)}
    if variant == "JumpReLUSAE":
        change |= {"no revival": {"revives": False}, "threshold 0.5": {"threshold_init": 0.5}}
    changed = {name: altered(chosen, **what) for name, what in change.items()}
    return {"earlier": Recipe(parameters=EARLIER), "chosen": chosen, **changed}


def altered(recipe, **what):
    """Return `recipe` with fields or parameters of the fit replaced."""
    own = {name: what.pop(name) for name in list(what) if name in Recipe._fields}
    return recipe._replace(**{"parameters": {**recipe.parameters, **what}, **own})


def print_table(data, variant, names, seeds, n_steps=None):
    """Measure recipes over seeds and print a row each, as they come."""
    task, head = task_of(data), None
    task = task._replace(n_steps=n_steps or task.n_steps)
    for name in names:
        runs = [measure(task, variant, rows_of(variant)[name], seed) for seed in range(seeds)]
        if head is None:
            head = list(runs[0])
            print("| " + " | ".join([f"{variant}, {data}", *head]) + " |")
            print("|---" * (len(head) + 1) + "|")
        cells = [summary([run[column] for run in runs]) for column in head]
        print("| " + " | ".join([name, *cells]) + " |", flush=True)


def main(arguments=None):
    """Print a markdown table for every data set and variant asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", choices=TASKS, default=["lm"])
    parser.add_argument("--variant", nargs="+", choices=VARIANTS, default=["TopKSAE"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="at least so many instead of the data's own")
    parser.add_argument("--recipe", nargs="+", help="rows of the table, all if not given")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for data in options.data:
        for variant in options.variant:
            names = options.recipe or list(rows_of(variant))
            print_table(data, variant, names, options.seeds, options.steps)
            print()


if __name__ == "__main__":
    main()
