"""What the parameters left at None become, and how rates and penalty move with the steps."""

from typing import NamedTuple

from sksae.training import (
    MINIMUM_STEPS,
    default_batch_size,
    default_dead_window,
    default_learning_rate,
    default_max_iter,
    ramp_down,
    ramp_up,
)


class Plan(NamedTuple):
    """Resolved parameters of one fit; `n_steps` is None for a stream, whose end is not known."""

    n_components: int
    batch_size: int
    max_iter: int
    n_steps: int | None
    learning_rate: float
    dead_window: int
    hyperparameters: dict

    @property
    def alpha(self):
        """Weight of the sparsity penalty, 0 for a variant without one."""
        return self.hyperparameters.get("alpha_", 0.0)


def make_plan(sae, n_samples, n_features, *, width=None, n_targets=None):
    """Resolve the parameters of `sae` for training rows of this shape.

    `width` is the number of components of the fit that this one continues, if it does; `n_targets`
    that of the columns that are reconstructed, if they are not those of the rows.
    """
    m, batch_size = shape_of_step(sae, n_samples, n_features, width)
    per_pass = -(-n_samples // batch_size)
    max_iter = int(sae.max_iter or 0) or default_max_iter(per_pass)
    return Plan(
        n_components=m,
        batch_size=batch_size,
        max_iter=max_iter,
        n_steps=max_iter * per_pass,
        learning_rate=float(sae.learning_rate or default_learning_rate(m)),
        dead_window=int(sae.dead_window or 0) or default_dead_window(batch_size, n_samples),
        hyperparameters=sae._hyperparameters(n_features, m, n_targets or n_features),
    )


def shape_of_step(sae, n_samples, n_features, width=None):
    """Numbers of components and of rows of an optimiser step."""
    m = width or int(sae.n_components or 0) or max(1, round(sae.expansion_factor * n_features))
    return m, min(n_samples, int(sae.batch_size or 0) or default_batch_size(n_samples))


def make_schedule(sae, plan, controller=None):
    """Return ``schedule(step) -> (alpha, rate)`` for a `TrainingRun`.

    The penalty ramps up from exactly 0; the learning rate ramps down to 0 at the end of a fit. In
    a stream the ramps up last as long as they would in a fit of the documented minimum of steps.
    """
    total = plan.n_steps or MINIMUM_STEPS
    alpha_steps = round(sae._alpha_warm_up * total)
    rate_steps = round(sae.learning_rate_warm_up * total)

    def schedule(step):
        factor = 1.0 if controller is None else controller.factor
        rate = ramp_up(step + 1, rate_steps)
        if plan.n_steps is not None:
            rate *= ramp_down(step, total, sae.learning_rate_decay)
        return plan.alpha * factor * ramp_up(step, alpha_steps), rate

    return schedule
