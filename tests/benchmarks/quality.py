"""Time to quality: seconds of training until held-out rows are explained as well as by a peer.

All libraries train at a constant rate, of which each gets its best, in turns of a few steps, so
that a disturbance of the machine meets all of them. The clock runs during steps only. The target
is what the best peer reaches. Rates that fall towards an end must know it: sksae as `fit`
schedules it is therefore run to ever later ends until the target is reached, and peers whose
default is to decay also compete for the target with it.
"""

import statistics
import time
from typing import NamedTuple

import torch
from scipy import sparse

from sksae.training import default_batch_size
from tests.benchmarks.data import shuffled_batches
from tests.benchmarks.ours import OURS, Ours

EVALUATION_ROWS = 2048
PEER_ROWS = 2048


class Learner:
    """A library in training on shuffled rows, with its clock and its curve.

    Parameters
    ----------
    name : str
    library : type
    task : Task
    x, held_out : Tensor
        Rows to train on and rows to be judged by.
    """

    def __init__(self, name, library, task, x, held_out):
        torch.manual_seed(0)
        self.name, self.task, self.library = name, task, library(task)
        self._held_out, self._batches = held_out, shuffled_batches(x, task.shape.rows)
        self.seconds, self.curve = [], []
        self._evaluate()

    def train(self, n_steps):
        """Take `n_steps` steps on the clock, then evaluate off it."""
        for _ in range(n_steps):
            x = next(self._batches)
            start = time.perf_counter()
            self.library.step(x)
            self.seconds.append(time.perf_counter() - start)
        self._evaluate()

    def _evaluate(self):
        score = explained_variance(self.library, self._held_out)
        self.curve.append((len(self.seconds), sum(self.seconds), score))

    @property
    def score(self):
        """Explained variance of the held-out rows by now."""
        return self.curve[-1][2]

    def reached(self, target):
        """Return steps and seconds to `target`, between evaluations on a line; None if not yet."""
        for (n0, s0, v0), (n1, s1, v1) in zip(self.curve, self.curve[1:], strict=False):
            if v1 >= target:
                share = min(1.0, max(0.0, (target - v0) / (v1 - v0))) if v1 > v0 else 1.0
                return n0 + share * (n1 - n0), s0 + share * (s1 - s0)
        return None

    def record(self, target, n_steps):
        """Return what there is to tell, with the score by step `n_steps`, as JSON knows it."""
        steps, seconds = self.reached(target) or (None, None)
        median = statistics.median(self.seconds)
        codes = self.library.encode(self._held_out[:EVALUATION_ROWS])
        return {
            "library": self.name,
            "rate": self.task.rate,
            "decays": self.task.decays,
            "steps": steps,
            "seconds": seconds,
            "seconds_by_median": None if steps is None else steps * median,
            "step_median": median,
            "score": [score for n, _, score in self.curve if n <= n_steps][-1],
            "l0": mean_l0(codes),
            "curve": self.curve,
        }


class Race(NamedTuple):
    """How learners compete.

    Parameters
    ----------
    n_steps : int
        Steps after which the best peer sets the target.
    every : int
        Steps between evaluations.
    limit : float
        Multiple of `n_steps` after which a library has failed to reach the target.
    rates : tuple of float
        Learning rates to choose from; a library's own is added where it lies beyond them.
    ends : tuple of float
        Multiples of `n_steps` to which sksae is run as `fit` schedules it.
    """

    n_steps: int
    every: int
    limit: float
    rates: tuple
    ends: tuple

    def rates_for(self, library, width):
        """Return the rates that a library is tuned over."""
        own = library.own_rate(width)
        beyond = own is not None and not min(self.rates) <= own <= max(self.rates)
        return (*self.rates, own) if beyond else self.rates


def run_race(race, libraries, task, x, held_out):
    """Let sksae and its peers race to the best peer's explained variance.

    Parameters
    ----------
    race : Race
    libraries : dict of type
        sksae and at least one peer.
    task : Task
        Its rate and ends are replaced.
    x, held_out : Tensor

    Returns
    -------
    result : dict
        The "target" and "n_steps", the "best" records, one a library, and those of "others".
    """
    task = task._replace(n_steps=race.n_steps)
    learners = [
        Learner(name, library, task._replace(rate=rate, decays=decays), x, held_out)
        for name, library in libraries.items()
        for rate in race.rates_for(library, task.shape.width)
        for decays in ([False, True] if library.decays and name not in OURS else [False])
    ]
    _in_turns(learners, race.every, race.n_steps)
    target = max(learner.score for learner in learners if learner.name not in OURS)
    constant = [learner for learner in learners if not learner.task.decays]
    _catch_up(_best_of_each(constant, target), race, target)
    scheduled = _as_scheduled(race, task, target, x, held_out)
    best = _best_of_each([*scheduled, *learners], target)
    return {
        "target": target,
        "n_steps": race.n_steps,
        "best": [learner.record(target, race.n_steps) for learner in best],
        "others": [
            learner.record(target, race.n_steps)
            for learner in [*learners, *scheduled]
            if learner not in best
        ],
    }


def explained_variance(library, x):
    """Share of the variance of `x` that a library's reconstruction explains."""
    residual = sum(
        float((rows - library.reconstruct(rows)).square().sum())
        for rows in x.split(EVALUATION_ROWS)
    )
    return 1 - residual / float((x - x.mean(0)).square().sum())


def mean_l0(codes):
    """Mean number of active latents a row, of whatever ``encode`` returns."""
    codes = getattr(codes, "top_acts", codes)
    if sparse.issparse(codes):
        return codes.count_nonzero() / codes.shape[0]
    codes = torch.as_tensor(codes)
    codes = codes.to_dense() if codes.is_sparse else codes
    return float((codes != 0).sum() / len(codes))


def _in_turns(learners, every, n_steps):
    done = 0
    while done < n_steps:
        block = min(every, n_steps - done)
        for learner in learners:
            learner.train(block)
        done += block


def _best_of_each(learners, target):
    """Return the learner of every name that was first at the target, or else came closest."""

    def rank(learner):
        _, seconds = learner.reached(target) or (None, float("inf"))
        return seconds, -learner.score

    best = {}
    for learner in sorted(learners, key=rank):
        best.setdefault(learner.name, learner)
    return list(best.values())


def _catch_up(learners, race, target):
    """Train on, in turns, until all have reached the target or the limit."""
    for _ in range(race.n_steps, round(race.limit * race.n_steps), race.every):
        for learner in learners:
            if not learner.reached(target):
                learner.train(race.every)


def _as_scheduled(race, task, target, x, held_out):
    """Run sksae to ever later ends until one suffices: the peers' rows a step, and its own."""
    return [
        _to_an_end(race, task._replace(shape=task.shape._replace(rows=rows)), target, x, held_out)
        for rows in sorted({task.shape.rows, default_batch_size(len(x))})
    ]


def _to_an_end(race, task, target, x, held_out):
    rows = task.shape.rows
    for end in race.ends:
        n_steps = round(end * race.n_steps * PEER_ROWS / rows)
        settings = task._replace(decays=True, n_steps=n_steps, rate=Ours.own_rate(task.shape.width))
        learner = Learner(f"sksae, as fit, {rows} rows a step", Ours, settings, x, held_out)
        _in_turns([learner], race.every, n_steps)
        if learner.reached(target):
            break
    return learner
