"""The procedure of `BaseSAE.fit`: plan, split, train, fold."""

import warnings
from functools import partial, wraps

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from sksae._arrays import (
    choose_device,
    compute_dtype,
    from_torch,
    rows_per_chunk,
    space_of,
    to_torch,
)
from sksae._modes import own_modes
from sksae._threads import threads_for
from sksae.autoencoders._held_out import HeldOut, split, weighted_rows
from sksae.autoencoders._inference import firing_frequency, pooled_r2
from sksae.autoencoders._naming import forget_fit
from sksae.autoencoders._passes import Passes
from sksae.autoencoders._plan import make_plan, make_schedule, shape_of_step
from sksae.training import Batches, Engine, Normalization, SparsityController, TrainingRun

_CONTROLS = 200
_TOLERANCE = 0.1
_SAMPLE = 2048
_BLOCK = 1024
_DIVERGED = -100.0


def forget_unless_continued(sae):
    """Begin a fit without what an earlier one has stored, unless it goes on from there."""
    if not sae._continues():
        forget_fit(sae)


def _on_its_own(function):
    """Run ``function(sae, X, ...)`` in modes of its own, on the threads that a step is worth."""

    @wraps(function)
    def run(sae, X, *args, **options):
        width = int(sae.components_.shape[0]) if sae._is_fitted() else None
        m, batch_size = shape_of_step(sae, *X.shape, width)
        with own_modes(), threads_for(2 * batch_size * X.shape[1] * m):
            return function(sae, X, *args, **options)

    return run


@_on_its_own
def fit(sae, X, sample_weight, y=None, targets=None):
    """Fit `sae` in place: all passes over the rows, then the fold to raw units.

    `y` is what callbacks are told; `targets` is what a transcoder predicts, of shape (n, t).
    """
    continues = sae._continues()
    width = _fitted_width(sae) if continues else None
    generator = new_generator(sae)
    rows, held_out_rows = split(sae, X.shape[0], sample_weight, generator)
    data = _reader_of(sae, X, sample_weight, targets)
    plan = make_plan(sae, len(rows), X.shape[1], width=width, n_targets=_n_targets(targets))
    training = data(batch_size=plan.batch_size, rows=rows, generator=generator)
    normalization = Normalization.from_rows(training, sae.normalize)
    training.normalize(normalization)
    _check_sense(sae, plan, training, normalization)
    held_out = None
    if held_out_rows is not None:
        held_out = HeldOut(
            new_engine(sae),
            data(rows=held_out_rows, batch_size=_chunk(plan.n_components)).normalize(normalization),
        )

    before = _progress(sae, continues)
    weights = _starting_weights(sae, training, plan, normalization, generator, continues)
    run = new_run(sae, weights, plan, training)
    del weights  # float64, twice the size of those of the run
    controller = _controller(sae, run, held_out, plan)
    run.after_step += sae._after_step(training, plan.n_steps, generator)
    snapshot = partial(_fitted, sae, run, training, normalization, plan, X)
    record = partial(_store_progress, sae, before, run)
    passes = Passes(sae, run, training, held_out, plan.max_iter, snapshot=snapshot, record=record)
    metadata = None if sample_weight is None else {"sample_weight": sample_weight.numpy()}
    told = {"estimator": sae, "X": X, "y": y, "metadata": metadata}
    root = passes.execute(told)
    _check_converged(sae, run, data, rows, normalization)
    run.moments.clear()  # two thirds of the memory, before the fold needs some

    if controller is not None:
        plan.hyperparameters["alpha_"] *= controller.factor
        _check_target(sae, held_out.l0(run.weights))
    vars(sae).update(snapshot())
    sae._stream = None
    inputs = data(rows=rows, batch_size=_chunk(sae.n_components_), targets=None)
    _store_frequency(sae, inputs, X)
    root.call_on_fit_task_end(**told, reconstruction_attributes=dict)  # `sae` is fitted itself


@_on_its_own
def partial_fit(sae, X, sample_weight, targets=None):
    """Continue `sae` with one pass over X; everything the next call needs stays in ``_stream``."""
    stream = getattr(sae, "_stream", None)
    continues = sae._is_fitted()
    width = _fitted_width(sae) if continues else None
    rows = weighted_rows(X.shape[0], sample_weight)
    data = partial(_reader_of(sae, X, sample_weight, targets), rows=rows)
    generator = new_generator(sae) if stream is None else torch.Generator()
    plan = make_plan(sae, len(rows), X.shape[1], width=width, n_targets=_n_targets(targets))
    plan = plan._replace(n_steps=None)
    if stream is not None:
        generator.set_state(torch.from_numpy(stream["generator"].copy()))
        plan = plan._replace(dead_window=stream["dead_window"])
    training = data(batch_size=plan.batch_size, generator=generator)
    if stream is None:
        normalization = Normalization.from_rows(training, sae.normalize)
    else:
        scale = stream["scale"]
        scale = torch.from_numpy(scale.copy()) if isinstance(scale, np.ndarray) else scale
        normalization = Normalization(torch.from_numpy(stream["mean"].copy()), scale)
    training.normalize(normalization)

    before = _progress(sae, continues)
    if stream is not None:
        weights = {name: to_torch(w) for name, w in stream["run"]["weights"].items()}
    else:
        weights = _starting_weights(sae, training, plan, normalization, generator, continues)
    run = new_run(sae, weights, plan, training)
    if stream is not None:
        run.restore(stream["run"])
    done = run.n_steps
    loss = run.run_pass(training, progress=bool(sae.verbose))

    vars(sae).update(_fitted(sae, run, training, normalization, plan, X))
    before["n_steps_"] -= done
    _store_progress(sae, before, run, [loss])
    sae._stream = {
        "run": run.state(),
        "generator": generator.get_state().numpy().copy(),
        "mean": normalization.mean.numpy(),
        "scale": getattr(normalization.scale, "numpy", lambda: normalization.scale)(),
        "dead_window": plan.dead_window,
    }
    _store_frequency(sae, data(batch_size=_chunk(sae.n_components_), targets=None), X)


def score(sae, X, weight, targets=None):
    """Explained variance of X, or of the targets, by a fitted `sae`."""
    rows = batches_of(X, weight, targets=targets)
    options = {"rows": rows, "weight": weight, "targets": targets}
    return pooled_r2(sae._encoder(X, space_of(X)), X, sae._decoder, **options)


def new_generator(sae):
    """Return the one source of randomness of a fit: a CPU generator seeded from `random_state`."""
    seed = int(check_random_state(sae.random_state).randint(np.iinfo(np.int32).max))
    return torch.Generator().manual_seed(seed)


def _chunk(width):
    """Rows at a time whose codes of this width fit in a cache."""
    return min(4096, rows_per_chunk(width))


def _reader_of(sae, X, sample_weight, targets):
    """Return what makes `Batches` over these rows, on the device of `sae`."""
    device = choose_device(sae.device, space_of(X))
    return partial(batches_of, X, sample_weight, device=device, targets=targets)


def _n_targets(targets):
    return None if targets is None else targets.shape[1]


def batches_of(X, weight=None, *, batch_size=4096, device="cpu", **options):
    """Return `Batches` over X in the dtype that its arithmetic is done in."""
    dtype = compute_dtype(X, torch.device(device))
    return Batches(X, weight, batch_size, dtype, device, **options)


def new_run(sae, weights, plan, training):
    """Return a `TrainingRun` of the variant's objective from float64 weights."""
    return TrainingRun(
        {name: w.to(training.device, training.dtype, copy=True) for name, w in weights.items()},
        new_engine(sae),
        learning_rate=plan.learning_rate,
        betas=tuple(sae.betas),
        rate_scales=sae._rate_scales(plan),
        unit_norm=sae._unit_norm,
        max_grad_norm=sae.max_grad_norm,
        dead_window=plan.dead_window,
        schedule=make_schedule(sae, plan),
    )


def new_engine(sae):
    """Return the `Engine` of the variant's objective."""
    return Engine(sae._objective, sae._rule, pre_bias=sae._pre_bias, precision=sae.precision)


def _fitted_width(sae):
    width = int(sae.components_.shape[0])
    if sae.n_components is not None and sae.n_components != width:
        raise ValueError(
            f"This {type(sae).__name__} continues a fit with {width} components, but n_components "
            f"is {sae.n_components}. Start anew with fit and warm_start=False."
        )
    return width


def _starting_weights(sae, training, plan, normalization, generator, continues):
    if not continues:
        return sae._initial_weights(training, plan.n_components, generator)
    fitted = {name: to_torch(getattr(sae, name + "_")) for name in sae._fold_names}
    return sae._unfold(fitted, normalization)


def _controller(sae, run, held_out, plan):
    """Put the penalty of `run` under control if an L0 is asked for; return the controller."""
    target = getattr(sae, "target_l0", None)
    if target is None:
        return None
    if target >= plan.n_components:
        raise ValueError(
            f"The 'target_l0' parameter of {type(sae).__name__} must be below the number of "
            f"components, {plan.n_components}. Got {target!r} instead."
        )
    controller = SparsityController(
        target,
        lambda: held_out.l0(run.weights),
        interval=max(1, plan.n_steps // _CONTROLS),
        first=round(min(sae._alpha_warm_up, 0.05) * plan.n_steps),
    )
    run.after_step.append(controller)
    run.schedule = make_schedule(sae, plan, controller)
    return controller


def _check_target(sae, l0):
    if abs(l0 - sae.target_l0) > _TOLERANCE * sae.target_l0:
        warnings.warn(
            f"The codes of held-out rows have {l0:.3g} non-zeros a row, target_l0 asked for "
            f"{sae.target_l0:.3g}. Increase max_iter, or choose another n_components.",
            ConvergenceWarning,
            stacklevel=7,
        )


def _check_sense(sae, plan, training, normalization):
    """Warn of what scikit-learn would warn of: it can be done, but it hardly is what was meant."""
    name, m, k = type(sae).__name__, plan.n_components, getattr(sae, "k", None)
    messages = []
    if k is not None and "k_" in plan.hyperparameters and k > m:
        messages.append(f"k={k} is greater than the number of components, {m}: all are kept.")
    if sae.n_components is not None and m > training.n_samples:
        messages.append(
            f"{name} learns {m} components from {training.n_samples} rows: each can learn a row by "
            "heart. Lower n_components, or give more rows."
        )
    if normalization.constant:
        messages.append("All rows of X, or all targets, are equal: there is nothing to learn.")
    for message in messages:
        warnings.warn(message, UserWarning, stacklevel=7)


def _check_converged(sae, run, data, rows, normalization):
    sample = rows[torch.arange(min(len(rows), _SAMPLE)) * len(rows) // min(len(rows), _SAMPLE)]
    sample = data(rows=sample, batch_size=_chunk(len(run.weights["components"])))
    explained = HeldOut(run.engine, sample.normalize(normalization)).explained_variance(run.weights)
    if explained < _DIVERGED:
        warnings.warn(
            f"{type(sae).__name__} did not converge: its reconstructions are much further from the "
            f"rows than the mean is (explained variance {explained:.3g}). Lower learning_rate.",
            ConvergenceWarning,
            stacklevel=7,
        )


def _fitted(sae, run, training, normalization, plan, X):
    """Return the fitted attributes that the weights so far make, in X's namespace and dtype."""
    weights = sae._calibrated(run.weights, run.engine, training.shuffled(0))
    dtype, space = compute_dtype(X, torch.device("cpu")), space_of(X)
    folded = sae._fold(weights, normalization)
    # Far from the origin, what the encoder's rows lose by rounding the intercept makes up for.
    coef = folded["encoder_coef"]
    centre = normalization.mean[: coef.shape[1]]
    lost = [(block - block.to(dtype).double()) @ centre for block in coef.split(_BLOCK)]
    folded["encoder_intercept"] += torch.cat(lost)
    arrays = {
        name + "_": from_torch(value.to(dtype).contiguous(), space)
        for name, value in folded.items()
    }
    return {
        **arrays,
        **plan.hyperparameters,
        "n_components_": int(arrays["components_"].shape[0]),
        "batch_size_": plan.batch_size,
        "learning_rate_": plan.learning_rate,
    }


def _progress(sae, continues):
    """What a fit adds to: the counts and curves so far, or none."""
    if not continues:
        return {"n_iter_": 0, "n_steps_": 0}
    names = ("n_iter_", "n_steps_", "loss_curve_", "validation_scores_")
    return {name: getattr(sae, name) for name in names if hasattr(sae, name)}


def _store_progress(sae, before, run, losses, scores=()):
    """Store the counts and curves so far, those of an earlier fit that this one continues first."""
    sae.n_iter_ = before["n_iter_"] + len(losses)
    sae.n_steps_ = before["n_steps_"] + run.n_steps
    sae.loss_curve_ = before.get("loss_curve_", []) + losses
    if sae.early_stopping:
        sae.validation_scores_ = before.get("validation_scores_", []) + list(scores)
    else:
        vars(sae).pop("validation_scores_", None)


def _store_frequency(sae, rows, X):
    frequency = firing_frequency(sae._encoder(X, space_of(X)), rows)
    dtype = compute_dtype(X, torch.device("cpu"))
    sae.activation_frequency_ = from_torch(frequency.to(dtype), space_of(X))
