"""One run of the optimiser over an objective: the step, its counters, its state."""

import numpy as np
import torch
from tqdm import tqdm

from sksae._threads import threads_for

_CHECK_EVERY = 50
_LONG_PASS = 200


class TrainingRun:
    """Weights under training and all that moves with them.

    Parameters
    ----------
    weights : dict of Tensor
        Leading names by convention: "components" (m, d), "encoder_coef" (m, d),
        "encoder_intercept" (m,), "intercept" (d,).
    objective : callable
        ``objective(x, w, weights, alpha, dead) -> (loss, codes)``, where `alpha` is the weight of
        the penalty at this step and `dead` a mask of shape (m,).
    learning_rate : float
    betas : tuple of float
        Adam's.
    rate_scales : dict of float
        Multipliers of the learning rate, by weight name.
    unit_norm : tuple of str
        Weights whose rows stay on the unit sphere.
    max_grad_norm : float or None
        Bound of the global gradient norm.
    dead_window : int
        Rows without firing after which a latent is dead.
    schedule : callable
        ``schedule(step) -> (alpha, rate)``: the penalty's weight and the factor of the learning
        rate at optimiser step `step`, counted from 0.
    """

    def __init__(
        self,
        weights,
        objective,
        *,
        learning_rate,
        betas=(0.9, 0.999),
        rate_scales=None,
        unit_norm=("components",),
        max_grad_norm=1.0,
        dead_window=10_000_000,
        schedule=lambda step: (1.0, 1.0),
    ):
        self.weights = {name: w.clone().requires_grad_() for name, w in weights.items()}
        self.objective, self.schedule = objective, schedule
        self.unit_norm, self.max_grad_norm = unit_norm, max_grad_norm
        self.dead_window = dead_window
        components = self.weights["components"]
        self.since_fired = torch.zeros(len(components), dtype=torch.int64, device=components.device)
        self.n_steps = 0
        self.after_step = []
        groups = {}
        for name, w in self.weights.items():
            groups.setdefault(learning_rate * (rate_scales or {}).get(name, 1.0), []).append(w)
        self._rates = list(groups)
        self.optimizer = torch.optim.Adam(
            [{"params": params, "lr": rate} for rate, params in groups.items()],
            betas=betas,
            fused=components.device.type in ("cpu", "cuda"),
        )

    def dead(self):
        """Mask of the latents that have not fired within the dead window."""
        return self.since_fired > self.dead_window

    def run_pass(self, batches, *, progress=False):
        """One pass over `batches`; return the mean loss a row.

        Raises
        ------
        FloatingPointError
            If the loss is no longer finite.
        """
        total, weight = 0.0, 0.0
        n, (m, d) = batches.batch_size, self.weights["components"].shape
        bar = tqdm(batches, leave=False, disable=not (progress and len(batches) > _LONG_PASS))
        with threads_for(2 * n * m * d):
            for x, w in bar:
                size = w.sum()
                total = total + self.step(x, w) * size
                weight = weight + size
                for hook in self.after_step:
                    hook(self)
                if self.n_steps % _CHECK_EVERY == 0:
                    self._check_finite(total)
        self._check_finite(total)
        return float(total / weight)

    def step(self, x, w):
        """One optimiser step on rows `x` of weight `w`; return the loss, detached."""
        alpha, rate = self.schedule(self.n_steps)
        loss, codes = self.objective(x, w, self.weights, alpha, self.dead())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._project()
        if self.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.weights.values(), self.max_grad_norm)
        for group, base in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = base * rate
        self.optimizer.step()
        self._constrain()
        self.since_fired += len(x)
        self.since_fired[(codes.detach() > 0).any(0)] = 0
        self.n_steps += 1
        return loss.detach()

    def _project(self):
        """Drop the radial part of the gradient, which renormalising would only undo."""
        for name in self.unit_norm:
            w = self.weights[name]
            with torch.no_grad():
                w.grad -= (w.grad * w).sum(1, keepdim=True) * w

    def _constrain(self):
        with torch.no_grad():
            for name in self.unit_norm:
                w = self.weights[name]
                w /= w.norm(dim=1, keepdim=True)
            if "threshold" in self.weights:
                self.weights["threshold"].clamp_(min=0)

    def _check_finite(self, total):
        if not bool(torch.isfinite(total)):
            raise FloatingPointError(
                f"The loss is no longer finite after {self.n_steps} steps: lower learning_rate, or "
                f"max_grad_norm if it was raised."
            )

    def moments(self):
        """Adam's running moments by weight name; empty before the first step."""
        state = self.optimizer.state
        return {
            name: [state[w]["exp_avg"], state[w]["exp_avg_sq"]]
            for name, w in self.weights.items()
            if w in state
        }

    def state(self):
        """Everything that the next step depends on, as numpy arrays."""
        steps = [float(entry["step"]) for entry in self.optimizer.state.values()]
        return {
            "weights": {name: _to_numpy(w) for name, w in self.weights.items()},
            "moments": {name: [_to_numpy(m) for m in ms] for name, ms in self.moments().items()},
            "optimizer_steps": max(steps, default=0.0),
            "since_fired": _to_numpy(self.since_fired),
            "n_steps": self.n_steps,
        }

    def restore(self, state):
        """Continue from what `state` returned (its weights were given to the constructor)."""
        for name, (first, second) in state["moments"].items():
            w = self.weights[name]
            self.optimizer.state[w] = {
                "step": torch.tensor(
                    state["optimizer_steps"], dtype=torch.float32, device=w.device
                ),
                "exp_avg": torch.as_tensor(np.array(first)).to(w),
                "exp_avg_sq": torch.as_tensor(np.array(second)).to(w),
            }
        self.since_fired = torch.as_tensor(np.array(state["since_fired"])).to(w.device)
        self.n_steps = state["n_steps"]


def _to_numpy(tensor):
    return tensor.detach().cpu().numpy().copy()
