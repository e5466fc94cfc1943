"""One run of the optimiser over an objective: the step, its counters, its state."""

import math
from functools import partial

import numpy as np
import torch
from tqdm import tqdm

from sksae._processes import copy_from_first, is_first, sum_over_processes
from sksae.kernels import adam_step, compiled_for, project, update_latents
from sksae.training._entries import MATRICES, norm_gradients, row_norms

_CHECK_EVERY = 50  # steps between looks at the loss, each of which waits for the device
_LONG_PASS = 200  # batches from which on a pass has a progress bar
_LOOKS = 50  # of the bar at the quality, per pass
_BLOCK_ENTRIES = 2**21  # of a block of a gradient, which then fits a cache
_AT_ONCE = 2**17  # of a matrix up to which one call updates all weights
_KEPT_ENTRIES = 2**24  # of a gradient that is kept whole between clipping and the step
_MANY_DEAD, _EVERY = 2**10, 4  # so many dead latents are revived in every so many steps


class TrainingRun:
    """Weights under training, the optimiser's moments, and the counts of rows and steps.

    Parameters
    ----------
    weights : dict of Tensor
        "components" (m, d), "encoder_coef" (m, d), "intercept" (d,) and other vectors; changed in
        place.
    engine : Engine
        Loss and gradients of a batch.
    learning_rate : float
    betas : tuple of float
        Adam's.
    rate_scales : dict of float
        Multipliers of the learning rate, by weight name; 0 freezes a weight.
    unit_norm : tuple of str
        Matrices whose rows keep the norm 1.
    blocks : tuple of int
        Widths of the blocks of columns over which norms of these rows are summed; empty where they
        are those of whole rows.
    nonnegative : tuple of str
        Weights that are clamped at 0 after every step.
    max_grad_norm : float or None
        Bound of the global gradient norm.
    dead_window : int
        Rows without firing after which a latent is dead. The objective is told of dead latents in
        every step, and in every fourth while they are 1024 or more: to revive so many takes long.
    schedule : callable
        ``schedule(step) -> (alpha, rate)``: the penalty's weight and the factor of the learning
        rate at optimiser step `step`, counted from 0.
    """

    def __init__(
        self,
        weights,
        engine,
        *,
        learning_rate,
        betas=(0.9, 0.999),
        rate_scales=None,
        unit_norm=("components",),
        blocks=(),
        nonnegative=(),
        max_grad_norm=1.0,
        dead_window=10_000_000,
        schedule=lambda step: (1.0, 1.0),
    ):
        self.weights = {name: w.detach().contiguous() for name, w in weights.items()}
        self.engine, self.schedule = engine, schedule
        self.learning_rate, self.betas = learning_rate, betas
        self.rate_scales = rate_scales or {}
        # Weights of rate 0 are frozen: their gradients are not made, and count in no norm.
        self._trained = [name for name in self.weights if self.rate_scales.get(name, 1.0) != 0]
        self.unit_norm, self.blocks, self.nonnegative = unit_norm, blocks, nonnegative
        self.max_grad_norm = max_grad_norm
        self.dead_window = dead_window
        self.moments = {
            name: (torch.zeros_like(w), torch.zeros_like(w)) for name, w in self.weights.items()
        }
        components = self.weights["components"]
        # Rows since each latent last fired.
        self.since_fired = torch.zeros(len(components), dtype=torch.int64, device=components.device)
        self.n_steps = 0
        self._sums, self._goes_on = (0.0, 0.0), False
        self.after_step = []

    def dead(self):
        """Mask of the latents that have not fired within the dead window."""
        return self.since_fired > self.dead_window

    def run_pass(self, batches, *, progress=None):
        """One pass over `batches`; return the mean loss per row.

        Where there is a callable `progress`, a long pass has a bar, and what it returns beside it.

        Raises
        ------
        FloatingPointError
            If the loss is no longer finite.
        """
        if not self._goes_on:
            self._sums = 0.0, 0.0
        self._goes_on = False
        shows = progress is not None and len(batches) > _LONG_PASS
        bar = tqdm(batches, leave=False, disable=not (shows and is_first()))
        for number, (x, w) in enumerate(bar):
            if shows and number % (len(batches) // _LOOKS) == 0:
                bar.set_postfix_str(progress())
            size = sum_over_processes(w.sum())
            # Tensors: to read a number per step would wait for the device.
            loss, weight = self._sums
            self._sums = loss + self.step(x, w) * size, weight + size
            for hook in self.after_step:
                hook(self)
            if self.n_steps % _CHECK_EVERY == 0:
                self._check_finite(self._sums[0])
                copy_from_first(self.weights.values())
        self._check_finite(self._sums[0])
        return self.mean_loss

    @property
    def mean_loss(self):
        """Mean loss per row of the pass so far."""
        return float(self._sums[0] / self._sums[1])

    @property
    def sums(self):
        """Sums over the pass so far of loss times weight, and of the weight."""
        return self._sums

    @sums.setter
    def sums(self, sums):
        # Set from outside: the next pass is the rest of one.
        self._sums, self._goes_on = sums, True

    def step(self, x, w):
        """One optimiser step on rows `x` of weight `w`; return the loss, detached."""
        alpha, rate = self.schedule(self.n_steps)
        dead = self.dead()
        if self.n_steps % _EVERY and len(dead) >= _MANY_DEAD:
            dead = dead & (dead.sum() < _MANY_DEAD)  # without waiting for the device
        gradient = self.engine.gradient(x, w, self.weights, alpha, dead)
        self.n_steps += 1
        with torch.no_grad():
            self._update(gradient, rate)
            for name in self.nonnegative:
                self.weights[name].clamp_(min=0)
        # Counted in rows, so that the dead window does not depend on the batch size.
        self.since_fired += len(x) if gradient.n_rows is None else gradient.n_rows
        self.since_fired.masked_fill_(gradient.fired, 0)
        return gradient.loss

    def _update(self, gradient, rate):
        """Project, clip, step, renormalise: everything at once if it is small, else in blocks."""
        if not self._trained:
            return
        loops = compiled_for(self.weights["components"])
        if loops and self.weights["components"].numel() <= _AT_ONCE and not self.blocks:
            self._update_at_once(loops, gradient, rate)
            return
        vectors = {name: gradient.vectors[name] for name in self._trained if name not in MATRICES}
        # Clipping needs the norm of the whole gradient before the first row moves: its blocks are
        # kept if they are small, and made twice if not.
        factor, blocks = 1.0, None
        if self.max_grad_norm is not None:
            if self._keeps_blocks():
                blocks = list(self._blocks(gradient))
            factor = self._clip_factor(blocks or self._blocks(gradient), vectors)
        # Matrices whose gradient has to be made; the others were updated from sums over entries.
        by_gradient = [
            n for n in self._matrices if not self._update_by_sums(n, gradient, factor, rate)
        ]
        vectors = [(name, slice(None), grad) for name, grad in vectors.items()]
        if blocks is None:
            for block in self._blocks(gradient, by_gradient):
                self._move([block], factor, rate)
            self._move(vectors, factor, rate)
        else:
            self._move([b for b in blocks if b[0] in by_gradient] + vectors, factor, rate)

    def _update_at_once(self, loops, gradient, rate):
        """Update small weights by one compiled loop."""
        n_latents, names = len(self.since_fired), self._trained
        matrices = {name: gradient.rows(name, 0, n_latents) for name in self._matrices}
        grads = {**gradient.vectors, **matrices}
        loops.update_at_once(
            [self.weights[name] for name in names],
            [grads[name] for name in names],
            [self.moments[name] for name in names],
            learning_rates=[self._rate_of(name, rate) for name in names],
            unit_norm=[name in self.unit_norm for name in names],
            max_norm=math.inf if self.max_grad_norm is None else self.max_grad_norm,
            step=self.n_steps,
            betas=self.betas,
        )

    @property
    def _matrices(self):
        return [name for name in MATRICES if name in self._trained]

    def _rate_of(self, name, rate):
        return self.learning_rate * self.rate_scales.get(name, 1.0) * rate

    def _update_by_sums(self, name, gradient, factor, rate):
        """Update a matrix without a gradient in memory, where that can be; return whether."""
        if self.blocks and name in self.unit_norm:  # the kernel knows norms of whole rows alone
            return False
        return update_latents(
            self.weights[name],
            self.moments[name],
            partial(gradient.segments, name),
            step=self.n_steps,
            learning_rate=self._rate_of(name, rate),
            betas=self.betas,
            clip=factor,
            unit_norm=name in self.unit_norm,
        )

    def _blocks(self, gradient, names=None):
        """Yield ``(name, rows, gradient)`` of the matrices; of unit norm, along the sphere alone.

        Renormalising would only undo a step across it.
        """
        m, d = self.weights["components"].shape
        # Latents per block.
        step = max(1, _BLOCK_ENTRIES // d)
        for start in range(0, m, step):
            rows = slice(start, min(start + step, m))
            for name in self._matrices if names is None else names:
                grad = gradient.rows(name, rows.start, rows.stop)
                if name in self.unit_norm:
                    self._project(grad, self.weights[name][rows])
                yield name, rows, grad

    def _project(self, grad, w):
        if not self.blocks:
            project(grad, w)
            return
        # Across the sphere points the gradient of the norm, with a unit vector in each block.
        across = norm_gradients(w, self.blocks)
        along = torch.linalg.vecdot(grad, across)[:, None]
        along /= torch.linalg.vecdot(across, across)[:, None].clamp(min=1)
        grad.addcmul_(across, along, value=-1)

    def _keeps_blocks(self):
        """Whether clipping may hold the whole gradient; else it is made twice."""
        return self.weights["components"].numel() <= _KEPT_ENTRIES

    def _clip_factor(self, blocks, vectors):
        norms = [torch.linalg.vector_norm(grad) for _, _, grad in blocks]
        norms += [torch.linalg.vector_norm(grad) for grad in vectors.values()]
        # The norm of everything is the norm of the norms.
        norm = torch.stack(norms).norm()
        return min(1.0, self.max_grad_norm / (float(norm) + 1e-6))

    def _move(self, parts, factor, rate):
        """Step by ``factor * grad`` for ``(name, rows, grad)`` in `parts`, back to the sphere."""
        is_unit = [name in self.unit_norm for name, _, _ in parts]
        weights = [self.weights[name][rows] for name, rows, _ in parts]
        adam_step(
            weights,
            [grad for _, _, grad in parts],
            [[moment[rows] for moment in self.moments[name]] for name, rows, _ in parts],
            learning_rates=[self._rate_of(name, rate) for name, _, _ in parts],
            unit_norm=[unit and not self.blocks for unit in is_unit],
            step=self.n_steps,
            betas=self.betas,
            clip=factor,
        )
        if self.blocks:
            for weight, unit in zip(weights, is_unit, strict=True):
                if unit:
                    weight /= row_norms(weight, self.blocks)[:, None]

    def _check_finite(self, total):
        if not bool(torch.isfinite(total)):
            raise FloatingPointError(
                f"The loss is no longer finite after {self.n_steps} steps: lower learning_rate, or "
                f"max_grad_norm if it was raised."
            )

    def state(self):
        """Everything that the next step depends on, as numpy arrays."""
        return {
            "weights": {name: _to_numpy(w) for name, w in self.weights.items()},
            "moments": {name: [_to_numpy(m) for m in ms] for name, ms in self.moments.items()},
            "since_fired": _to_numpy(self.since_fired),
            "n_steps": self.n_steps,
            "density": self.engine.density,
        }

    def restore(self, state):
        """Continue from what `state` returned (its weights were given to the constructor)."""
        for name in self.moments:
            # np.array copies: the state stays as it is, and may be read-only.
            moments = state["moments"][name]
            for current, saved in zip(self.moments[name], moments, strict=True):
                current.copy_(torch.as_tensor(np.array(saved)))
        self.since_fired = torch.as_tensor(np.array(state["since_fired"])).to(self.since_fired)
        self.n_steps = state["n_steps"]
        self.engine.density = state["density"]


def _to_numpy(tensor):
    return tensor.detach().cpu().numpy().copy()
