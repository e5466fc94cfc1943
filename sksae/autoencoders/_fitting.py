"""The procedure of `BaseSAE.fit`: plan, split, train, fold."""

import warnings
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state

from sksae._arrays import choose_device, compute_dtype, from_torch, space_of, to_torch
from sksae.autoencoders._inference import firing_frequency
from sksae.kernels import decode
from sksae.training import (
    MINIMUM_STEPS,
    Batches,
    Normalization,
    SparsityController,
    Stopping,
    TrainingRun,
    default_batch_size,
    default_dead_window,
    default_learning_rate,
    default_max_iter,
    ramp_down,
    ramp_up,
)

_HELD_OUT_ROWS = 2048


class Plan(NamedTuple):
    """What the parameters left at None become for these data."""

    n_components: int
    batch_size: int
    max_iter: int
    n_steps: int
    learning_rate: float
    dead_window: int
    hyperparameters: dict


def make_plan(sae, n_samples, n_features):
    """Resolve the parameters of `sae` for training rows of this shape."""
    m = sae.n_components or max(1, round(sae.expansion_factor * n_features))
    batch_size = min(n_samples, sae.batch_size or default_batch_size(n_samples))
    per_pass = -(-n_samples // batch_size)
    max_iter = sae.max_iter or default_max_iter(per_pass)
    return Plan(
        n_components=m,
        batch_size=batch_size,
        max_iter=max_iter,
        n_steps=max_iter * per_pass,
        learning_rate=sae.learning_rate or default_learning_rate(m),
        dead_window=sae.dead_window or default_dead_window(batch_size, n_samples),
        hyperparameters=sae._hyperparameters(n_features, m),
    )


def batches_of(X, weight=None, *, batch_size=4096, rows=None, generator=None, device="cpu"):
    """Return `Batches` over X in the dtype that its arithmetic is done in."""
    dtype = compute_dtype(X, torch.device(device))
    return Batches(X, weight, batch_size, dtype, device, rows=rows, generator=generator)


def fit(sae, X, sample_weight, y=None):
    """Fit `sae` in place."""
    space, device = space_of(X), choose_device(sae.device, space_of(X))
    generator = new_generator(sae)
    rows, held_out_rows = _split(sae, X.shape[0], sample_weight, generator)
    data = partial(batches_of, X, sample_weight, device=device)
    plan = make_plan(sae, len(rows), X.shape[1])
    training = data(batch_size=plan.batch_size, rows=rows, generator=generator)
    normalization = Normalization.from_rows(training, sae.normalize)
    training.normalize(normalization)

    continues = sae._continues()
    weights = (
        _fitted_weights(sae, normalization, plan.n_components)
        if continues
        else sae._initial_weights(training, plan.n_components, generator)
    )
    run = _new_run(sae, weights, plan, device, training)
    run.after_step += sae._after_step(training, plan.n_steps, generator)
    held_out = None
    if held_out_rows is not None:
        held_out = data(rows=held_out_rows).normalize(normalization)
    controller = _controller(sae, run, held_out, plan)
    run.schedule = _schedule(sae, plan, controller)

    curves = _train(sae, run, training, held_out, plan, normalization, y)
    n_iter, n_steps = len(curves["loss_curve_"]), run.n_steps
    if continues:
        curves = {name: getattr(sae, name, []) + values for name, values in curves.items()}
        n_iter, n_steps = sae.n_iter_ + n_iter, sae.n_steps_ + n_steps
    if controller is not None:
        plan.hyperparameters["alpha_"] *= controller.factor
    _store(sae, run.weights, normalization, plan, space, X, n_iter=n_iter, n_steps=n_steps)
    for name, values in curves.items():
        setattr(sae, name, values)
    sae._stream = None
    _measure_frequency(sae, data(rows=rows), space, X)


def partial_fit(sae, X, sample_weight):
    """Continue `sae` with one pass over X."""
    space, device = space_of(X), choose_device(sae.device, space_of(X))
    stream = getattr(sae, "_stream", None)
    rows = _weighted_rows(X.shape[0], sample_weight)
    plan = make_plan(sae, len(rows), X.shape[1])
    generator = new_generator(sae)
    if stream is not None:
        generator.set_state(torch.from_numpy(stream["generator"].copy()))
        plan = plan._replace(dead_window=stream["dead_window"])
    training = batches_of(
        X, sample_weight, batch_size=plan.batch_size, rows=rows, generator=generator, device=device
    )
    if stream is None:
        normalization = Normalization.from_rows(training, sae.normalize)
    else:
        mean = torch.from_numpy(stream["mean"].copy())
        normalization = Normalization(mean, stream["scale"])
    training.normalize(normalization)

    if stream is not None:
        weights = {name: torch.from_numpy(w) for name, w in stream["run"]["weights"].items()}
    elif sae._is_fitted():
        weights = _fitted_weights(sae, normalization, sae.components_.shape[0])
    else:
        weights = sae._initial_weights(training, plan.n_components, generator)
    run = _new_run(sae, weights, plan, device, training)
    if stream is not None:
        run.restore(stream["run"])
    run.schedule = _schedule(sae, plan._replace(n_steps=None))
    before = run.n_steps
    loss = run.run_pass(training, progress=bool(sae.verbose))
    if sae.verbose:
        print(f"[{type(sae).__name__}] step {run.n_steps}, loss = {loss:.6g}")  # noqa: T201

    n_iter, n_steps = getattr(sae, "n_iter_", 0), getattr(sae, "n_steps_", 0)
    curve = [*getattr(sae, "loss_curve_", []), loss]
    added = run.n_steps - before
    _store(
        sae, run.weights, normalization, plan, space, X, n_iter=n_iter + 1, n_steps=n_steps + added
    )
    sae.loss_curve_ = curve
    sae._stream = {
        "run": run.state(),
        "generator": generator.get_state().numpy().copy(),
        "mean": normalization.mean.numpy(),
        "scale": normalization.scale,
        "dead_window": plan.dead_window,
    }
    _measure_frequency(sae, batches_of(X, sample_weight, rows=rows, device=device), space, X)


def new_generator(sae):
    """Return the one source of randomness of a fit: a CPU generator seeded from `random_state`."""
    seed = int(check_random_state(sae.random_state).randint(np.iinfo(np.int32).max))
    return torch.Generator().manual_seed(seed)


def _weighted_rows(n_samples, sample_weight):
    """Rows that count: a weight of zero means that the row is not there."""
    if sample_weight is None:
        return torch.arange(n_samples)
    return sample_weight.nonzero().flatten()


def _split(sae, n_samples, sample_weight, generator):
    """Training rows and, where something needs them, held-out rows."""
    rows = _weighted_rows(n_samples, sample_weight)
    if not sae.early_stopping and getattr(sae, "target_l0", None) is None:
        return rows, None
    seed = int(torch.randint(2**31 - 1, (1,), generator=generator))
    train, held_out = train_test_split(
        rows.numpy(), test_size=sae.validation_fraction, random_state=seed
    )
    return torch.from_numpy(train), torch.from_numpy(held_out)


def _fitted_weights(sae, normalization, n_components):
    if n_components != sae.components_.shape[0]:
        raise ValueError(
            f"warm_start continues a fit with {sae.components_.shape[0]} components, but "
            f"n_components asks for {n_components}. Set warm_start=False to start anew."
        )
    names = sae._fold_names
    return sae._unfold({name: to_torch(getattr(sae, name + "_")) for name in names}, normalization)


def _new_run(sae, weights, plan, device, training):
    dtype = training.dtype
    alpha = plan.hyperparameters.get("alpha_", 0.0)
    return TrainingRun(
        {name: w.to(device, dtype) for name, w in weights.items()},
        sae._objective,
        learning_rate=plan.learning_rate,
        betas=tuple(sae.betas),
        rate_scales=sae._rate_scales(plan.n_steps, plan.learning_rate, alpha),
        unit_norm=sae._unit_norm,
        max_grad_norm=sae.max_grad_norm,
        dead_window=plan.dead_window,
    )


def _schedule(sae, plan, controller=None):
    """Penalty and learning rate as functions of the optimiser step."""
    alpha = plan.hyperparameters.get("alpha_", 0.0)
    total = plan.n_steps or MINIMUM_STEPS
    alpha_steps = round(sae._alpha_warm_up * total)
    rate_steps = round(sae.learning_rate_warm_up * total)

    def schedule(step):
        factor = 1.0 if controller is None else controller.factor
        rate = 1.0 if rate_steps == 0 else min(1.0, (step + 1) / rate_steps)
        if plan.n_steps is not None:
            rate *= ramp_down(step, total, sae.learning_rate_decay)
        return alpha * factor * ramp_up(step, alpha_steps), rate

    return schedule


def _controller(sae, run, held_out, plan):
    target = getattr(sae, "target_l0", None)
    if target is None:
        return None
    if not 0 < target < plan.n_components:
        raise ValueError(
            f"The 'target_l0' parameter of {type(sae).__name__} must lie between 0 and the "
            f"{plan.n_components} components. Got {target!r} instead."
        )
    x, w = held_out.take(torch.arange(min(held_out.n_samples, _HELD_OUT_ROWS)))

    def measure():
        with torch.no_grad():
            _, codes = sae._objective(x, w, run.weights, 0.0, run.dead())
        return float(w @ (codes > 0).sum(1).to(w.dtype) / w.sum())

    controller = SparsityController(
        target,
        measure,
        interval=max(1, plan.n_steps // 200),
        first=round(sae._alpha_warm_up * plan.n_steps),
    )
    run.after_step.append(controller)
    return controller


def _train(sae, run, training, held_out, plan, normalization, y):
    """All passes; return the curves as fitted attributes."""
    losses, scores = [], []
    validating = sae.early_stopping
    stopping = Stopping(sae.tol, sae.n_iter_no_change)
    stops = validating or sae.tol > 0
    every = max(1, plan.max_iter // 100)
    root = sae._init_callback_context(max_subtasks=plan.max_iter)
    root.call_on_fit_task_begin(estimator=sae, X=None, y=y)
    finished = False
    try:
        for number in range(1, plan.max_iter + 1):
            task = root.subcontext(task_name="pass")
            task.call_on_fit_task_begin(estimator=sae, X=None, y=y)
            losses.append(run.run_pass(training, progress=bool(sae.verbose)))
            if validating:
                scores.append(_explained_variance(sae, run.weights, held_out))
            if sae.verbose and (number % every == 0 or number == plan.max_iter):
                _report(sae, number, plan.max_iter, losses[-1], scores)
            finished = stops and stopping.update(
                scores[-1] if validating else -losses[-1], run.weights if validating else None
            )
            halted = task.call_on_fit_task_end(
                estimator=sae,
                X=None,
                y=y,
                reconstruction_attributes=partial(_snapshot, sae, run.weights, normalization),
            )
            if finished or halted:
                finished = True
                break
    except KeyboardInterrupt:
        if run.n_steps == 0:
            raise
        finished = True
        losses = losses or [float("nan")]
        warnings.warn("Training interrupted by user; the model so far is kept.", stacklevel=4)
    if validating and stopping.best_weights is not None:
        run.weights = stopping.best_weights
    if sae.tol > 0 and not finished:
        warnings.warn(
            f"Maximum number of passes ({plan.max_iter}) reached before the "
            f"{'validation score' if validating else 'loss'} stopped improving by tol={sae.tol}. "
            f"Increase max_iter.",
            ConvergenceWarning,
            stacklevel=4,
        )
    root.call_on_fit_task_end(estimator=sae, X=None, y=y, reconstruction_attributes=dict)
    curves = {"loss_curve_": losses}
    if validating:
        curves["validation_scores_"] = scores
    return curves


def _report(sae, number, total, loss, scores):
    score = f", validation explained variance = {scores[-1]:.4f}" if scores else ""
    print(f"[{type(sae).__name__}] pass {number}/{total}, loss = {loss:.6g}{score}")  # noqa: T201


def _explained_variance(sae, weights, held_out):
    """Pooled explained variance of the training-time codes on held-out rows."""
    mean = held_out.average(lambda x: x)
    residual, total = 0.0, 0.0
    dead = torch.zeros(
        len(weights["components"]), dtype=torch.bool, device=weights["components"].device
    )
    with torch.no_grad():
        for x, w in held_out:
            _, codes = sae._objective(x, w, weights, 0.0, dead)
            error = (x - decode(codes, weights)).square().sum(1)
            spread = (x - mean.to(x)).square().sum(1)
            residual += float((error * w).sum())
            total += float((spread * w).sum())
    return 1.0 - residual / total if total > 0 else 0.0


def _snapshot(sae, weights, normalization):
    folded = sae._fold(weights, normalization)
    return {f"{name}_": value.numpy() for name, value in folded.items()}


def _store(sae, weights, normalization, plan, space, X, *, n_iter, n_steps):
    """Set the fitted attributes, in X's namespace and dtype."""
    dtype = compute_dtype(X, torch.device("cpu"))
    for name, value in sae._fold(weights, normalization).items():
        setattr(sae, name + "_", from_torch(value.to(dtype).contiguous(), space))
    for name, value in plan.hyperparameters.items():
        setattr(sae, name, value)
    sae.n_components_ = int(sae.components_.shape[0])
    sae.batch_size_, sae.learning_rate_ = plan.batch_size, plan.learning_rate
    sae.n_iter_, sae.n_steps_ = n_iter, n_steps


def _measure_frequency(sae, rows, space, X):
    encoder = sae._encoder(X, space)
    frequency = firing_frequency(encoder, rows)
    dtype = compute_dtype(X, torch.device("cpu"))
    sae.activation_frequency_ = from_torch(frequency.to(dtype), space)
