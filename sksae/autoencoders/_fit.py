"""`Fit`: one fit of an estimator, from rows to fitted attributes."""

import math
import warnings

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
from sksae.autoencoders._inference import encoder_of, firing_frequency
from sksae.training import (
    Batches,
    Engine,
    HeldOut,
    Normalization,
    Schedule,
    SparsityController,
    Stopping,
    TrainingRun,
    default_batch_size,
    default_dead_window,
    default_learning_rate,
    default_max_iter,
    hold_out,
)

_CONTROLS = 200  # measurements of a controlled L0 per fit
_L0_TOLERANCE = 0.1
_LINES = 100  # of verbose output, at most


class Fit:
    """One fit of an estimator, from rows to fitted attributes.

    Making it resolves the parameters, measures the internal unit and initialises the weights;
    ``run.step(x, w)`` is one step of the optimiser, `train` makes all steps of ``fit``, and
    `attributes` returns the fitted attributes of the weights so far. The estimator is not changed.

    Parameters
    ----------
    estimator : BaseSAE
        The estimator; its objective is made once, here.
    X : array of shape (n_samples, n_features)
        Validated rows.
    targets : array of shape (n_samples, n_targets), default=None
        What is to be predicted, if not the rows themselves.
    sample_weight : Tensor of shape (n_samples,), default=None
        Weights of the rows, at most 1.
    streams : bool, default=False
        Whether this is a call of `partial_fit`: the end of training is not known, and a call
        before this one is continued.
    normalization : Normalization, default=None
        Internal unit of training. None measures it.

    Attributes
    ----------
    objective : Objective
        The objective.
    run : TrainingRun
        Weights under training and the optimiser's state.
    rows : Batches
        Training rows in the internal unit.
    batch_size, max_iter, n_steps, dead_window : int
        Resolved parameters; `n_steps` is None in a stream.
    learning_rate : float
        Resolved learning rate.

    See Also
    --------
    BaseSAE.fit : Makes a `Fit` and keeps its result.

    Examples
    --------
    >>> from sksae import TopKSAE
    >>> from sksae.autoencoders import Fit
    >>> from sksae.datasets import make_superposition
    >>> X, _, _ = make_superposition(500, 8, 16, random_state=0)
    >>> fit = Fit(TopKSAE(16, k=2, random_state=0), X)
    >>> for x, w in fit.rows:
    ...     loss = fit.run.step(x, w)
    >>> fit.attributes()["components_"].shape
    (16, 8)
    """

    def __init__(
        self, estimator, X, targets=None, sample_weight=None, *, streams=False, normalization=None
    ):
        self.estimator, self.settings, self.streams = estimator, estimator._settings, streams
        self._X, self._targets, self._weight = X, targets, sample_weight
        state = getattr(estimator, "_stream", None) if streams else None
        self.continues = estimator._is_fitted() if streams else estimator._continues()
        self._generator = _generator(self.settings, state)
        n_features = X.shape[1]
        n_targets = n_features if targets is None else targets.shape[1]
        self.n_components = self._width(n_features)
        self.objective = estimator._make_objective(n_features, self.n_components, n_targets)
        self._row_numbers, held_out = self._split()
        self._resolve(state)
        self.rows = self._batches(self._row_numbers, self.batch_size, generator=self._generator)
        if normalization is None:
            normalization = _kept_unit(state) or Normalization.from_rows(
                self.rows, self.settings.normalize
            )
        self.normalization = normalization
        self.rows.normalize(normalization)
        engine = Engine(self.objective, precision=self.settings.precision)
        self._held_out = None
        if held_out is not None:
            rows = self._batches(held_out, _chunk(self.n_components)).normalize(normalization)
            self._held_out = HeldOut(
                Engine(self.objective, precision=self.settings.precision), rows
            )
        self.run = self._new_run(engine, self._weights(state))
        self._losses, self._scores = [], []
        if state is not None:
            self.run.restore(state["run"])
        self._first_step = self.run.n_steps
        if not streams:
            self.run.after_step += self._controls()
            self.run.after_step += self.objective.events(self.rows, self.n_steps, self._generator)

    # Parameters and rows -------------------------------------------------------------------------

    def _width(self, n_features):
        """Number of latents: that of the fit which this one continues, or as the parameters say."""
        settings = self.settings
        if not self.continues:
            m = int(settings.n_components or 0)
            return m or max(1, round(settings.expansion_factor * n_features))
        width = int(self.estimator.components_.shape[0])
        if settings.n_components is not None and settings.n_components != width:
            raise ValueError(
                f"This {type(self.estimator).__name__} continues a fit with {width} components, "
                f"but n_components is {settings.n_components}. Start anew with fit and "
                f"warm_start=False."
            )
        return width

    def _split(self):
        """Row numbers to train on, and those held out where something is measured on them."""
        target, name = self.objective.target_l0, type(self.estimator).__name__
        if self.streams and target is not None:
            raise ValueError("partial_fit does not support target_l0: set alpha instead.")
        if target is not None and target >= self.n_components:
            raise ValueError(
                f"The 'target_l0' parameter of {name} must be below the number of components, "
                f"{self.n_components}. Got {target!r} instead."
            )
        # A weight of zero means that the row is not there.
        if self._weight is None:
            rows = torch.arange(self._X.shape[0])
        else:
            rows = self._weight.nonzero().flatten()
        if self.streams or not (self.settings.early_stopping or target is not None):
            return rows, None
        if len(rows) < 2:
            why = "early_stopping=True" if self.settings.early_stopping else "target_l0"
            raise ValueError(
                f"{why} holds out rows and needs at least 2 that count; there is "
                f"n_samples={len(rows)}."
            )
        return hold_out(rows, self.settings.validation_fraction, self._generator)

    def _resolve(self, state):
        """Resolve the parameters that are None."""
        settings, n_samples = self.settings, len(self._row_numbers)
        batch_size = int(settings.batch_size or 0) or default_batch_size(n_samples)
        self.batch_size = min(n_samples, batch_size)
        per_pass = math.ceil(n_samples / self.batch_size)
        self.max_iter = int(settings.max_iter or 0) or default_max_iter(per_pass)
        self.n_steps = None if self.streams else self.max_iter * per_pass
        self.learning_rate = float(
            settings.learning_rate or default_learning_rate(self.n_components)
        )
        self.dead_window = int(settings.dead_window or 0) or default_dead_window(
            self.batch_size, n_samples
        )
        if state is not None:
            self.dead_window = state["dead_window"]

    def _batches(self, rows, batch_size, *, with_targets=True, generator=None):
        """Return `Batches` over some rows, in the dtype and on the device of their arithmetic."""
        device = choose_device(self.settings.device, space_of(self._X))
        dtype = compute_dtype(self._X, torch.device(device))
        targets = self._targets if with_targets else None
        options = {"rows": rows, "generator": generator, "targets": targets}
        return Batches(self._X, self._weight, batch_size, dtype, device, **options)

    # Weights and the run -------------------------------------------------------------------------

    def _weights(self, state):
        """Weights to start from, float64 on the CPU: new ones, or those that are continued."""
        if state is not None:
            return {name: to_torch(w) for name, w in state["run"]["weights"].items()}
        if not self.continues:
            return self.objective.initial_weights(self.rows, self.n_components, self._generator)
        names = [name for name, weight in self.objective.declared.items() if weight.fitted]
        missing = [name for name in names if not hasattr(self.estimator, name + "_")]
        if missing:
            raise ValueError(
                f"This {type(self.estimator).__name__} continues a fit with other parameters, that "
                f"has no {', '.join(missing)}. Start anew with fit and warm_start=False."
            )
        fitted = {name: to_torch(getattr(self.estimator, name + "_")) for name in names}
        return self.objective.unfold(fitted, self.normalization)

    def _new_run(self, engine, weights):
        """Return the `TrainingRun`, with copies of the weights where training is done."""
        settings, objective, rows = self.settings, self.objective, self.rows
        ends = self.n_steps is not None and not self.continues
        return TrainingRun(
            {name: w.to(rows.device, rows.dtype, copy=True) for name, w in weights.items()},
            engine,
            learning_rate=self.learning_rate,
            betas=tuple(settings.betas),
            rate_scales=objective.rate_scales(
                self.learning_rate * self.n_steps if ends else math.inf
            ),
            unit_norm=("components",) if objective.unit_norm else (),
            nonnegative=tuple(
                name for name, w in objective.declared.items() if w.trained and w.nonnegative
            ),
            max_grad_norm=settings.max_grad_norm,
            dead_window=self.dead_window,
            schedule=Schedule(
                self.n_steps,
                alpha=objective.alpha,
                alpha_warm_up=objective.alpha_warm_up,
                warm_up=settings.learning_rate_warm_up,
                decay=settings.learning_rate_decay,
            ),
        )

    def _controls(self):
        """Return the controller of the penalty, if an L0 is asked for, in a list."""
        target, run = self.objective.target_l0, self.run
        if target is None:
            return []
        run.schedule.controller = SparsityController(
            target,
            lambda: self._held_out.l0(run.weights),
            interval=max(1, self.n_steps // _CONTROLS),
            first=round(min(self.objective.alpha_warm_up, 0.05) * self.n_steps),
        )
        return [run.schedule.controller]

    # Training ------------------------------------------------------------------------------------

    def train(self, X, y):
        """Make all passes; afterwards ``run.weights`` are those to keep.

        Parameters
        ----------
        X, y : object
            Passed on to the callbacks of the estimator.
        """
        estimator, settings = self.estimator, self.settings
        stopping = Stopping(settings.tol, settings.n_iter_no_change)
        root = estimator._init_callback_context(max_subtasks=self.max_iter)
        root.call_on_fit_task_begin(estimator=estimator, X=X, y=y)
        ended = False
        try:
            for number in range(1, self.max_iter + 1):
                ended = self._pass(number, stopping, root, X, y)
                if ended:
                    break
        except KeyboardInterrupt:
            if self.run.n_steps == 0:
                raise
            ended = True
            self._losses = self._losses or [float("nan")]
            warnings.warn("Training was interrupted; the model so far is kept.", stacklevel=4)
        if stopping.best_weights is not None:
            self.run.weights = stopping.best_weights
        if settings.tol > 0 and not ended:
            warnings.warn(
                f"Maximum number of passes ({self.max_iter}) reached before the loss or the "
                f"validation score stopped improving by tol={settings.tol}. Increase max_iter.",
                ConvergenceWarning,
                stacklevel=4,
            )
        root.call_on_fit_task_end(estimator=estimator, X=X, y=y, reconstruction_attributes=dict)
        self.run.moments.clear()  # two thirds of the memory, before the fold needs some
        self._settle_penalty()

    def train_pass(self):
        """Make one pass over the rows, as a call of `partial_fit` does."""
        self._losses.append(self.run.run_pass(self.rows, progress=bool(self.settings.verbose)))

    def _pass(self, number, stopping, root, X, y):
        """Make one pass; return whether it was the last."""
        task = root.subcontext(task_name="pass")
        task.call_on_fit_task_begin(estimator=self.estimator, X=X, y=y)
        loss = self.run.run_pass(self.rows, progress=bool(self.settings.verbose))
        stop = self._stop(loss, stopping)
        if self.settings.verbose:
            _report(
                type(self.estimator).__name__, number, self.max_iter, self._losses, self._scores
            )
        halted = task.call_on_fit_task_end(
            estimator=self.estimator, X=X, y=y, reconstruction_attributes=self.attributes
        )
        return stop or bool(halted)

    def _stop(self, loss, stopping):
        """Extend the curves together, so that an interruption cannot come between them."""
        if not self.settings.early_stopping:
            self._losses.append(loss)
            return self.settings.tol > 0 and stopping.update(-loss)
        score = self._held_out.explained_variance(self.run.weights)
        self._losses.append(loss)
        self._scores.append(score)
        return stopping.update(score, self.run.weights)

    def _settle_penalty(self):
        """Keep the penalty that a controller ended with; warn where the L0 is not as asked."""
        controller, target = self.run.schedule.controller, self.objective.target_l0
        if controller is None:
            return
        self.objective.alpha *= controller.factor
        l0 = self._held_out.l0(self.run.weights)
        if abs(l0 - target) > _L0_TOLERANCE * target:
            warnings.warn(
                f"The codes of held-out rows have {l0:.3g} non-zeros per row, target_l0 asked for "
                f"{target:.3g}. Increase max_iter, or choose another n_components.",
                ConvergenceWarning,
                stacklevel=5,
            )

    # The result ----------------------------------------------------------------------------------

    def attributes(self):
        """Return the fitted attributes of the weights so far, in X's namespace and dtype.

        Returns
        -------
        attributes : dict
            Arrays and resolved parameters by name, enough to transform.
        """
        space, dtype = space_of(self._X), compute_dtype(self._X, torch.device("cpu"))
        objective, run = self.objective, self.run
        weights = objective.calibrated(run.weights, run.engine, self.rows.shuffled(0))
        arrays = {
            name + "_": from_torch(value.to(dtype).contiguous(), space)
            for name, value in objective.fold(weights, self.normalization).items()
        }
        return {
            **arrays,
            **{name + "_": getattr(objective, name) for name in objective.resolved},
            "n_components_": self.n_components,
            "batch_size_": self.batch_size,
            "learning_rate_": self.learning_rate,
            "_objective": objective,
        }

    def result(self):
        """Return all that the estimator keeps of this fit.

        Returns
        -------
        attributes : dict
            `attributes`, the curves and counts, the state of a stream, and how often latents fire.
        """
        before = vars(self.estimator) if self.continues else {}
        attributes = {
            **self.attributes(),
            "n_iter_": before.get("n_iter_", 0) + len(self._losses),
            "n_steps_": before.get("n_steps_", 0) + self.run.n_steps - self._first_step,
            "loss_curve_": before.get("loss_curve_", []) + self._losses,
            "_stream": self._state() if self.streams else None,
        }
        scores = before.get("validation_scores_", []) + self._scores
        if self.settings.early_stopping or (self.streams and scores):
            attributes["validation_scores_"] = scores
        rows = self._batches(self._row_numbers, _chunk(self.n_components), with_targets=False)
        encoder = encoder_of(attributes, self.settings, self._X)
        frequency = firing_frequency(encoder, rows)
        dtype = compute_dtype(self._X, torch.device("cpu"))
        attributes["activation_frequency_"] = from_torch(frequency.to(dtype), space_of(self._X))
        return attributes

    def _state(self):
        """Everything that the next call of `partial_fit` depends on, as numpy."""
        scale = self.normalization.scale
        return {
            "run": self.run.state(),
            "generator": self._generator.get_state().numpy().copy(),
            "mean": self.normalization.mean.numpy(),
            "scale": scale.numpy() if torch.is_tensor(scale) else scale,
            "dead_window": self.dead_window,
        }


def _generator(settings, state):
    """Return the one source of randomness of a fit: a CPU generator seeded from `random_state`."""
    if state is not None:
        generator = torch.Generator()
        return generator.set_state(torch.from_numpy(state["generator"].copy()))
    seed = int(check_random_state(settings.random_state).randint(np.iinfo(np.int32).max))
    return torch.Generator().manual_seed(seed)


def _kept_unit(state):
    """Return the internal unit of the stream that is continued, None if there is none."""
    if state is None:
        return None
    scale = state["scale"]
    scale = torch.from_numpy(scale.copy()) if isinstance(scale, np.ndarray) else scale
    return Normalization(torch.from_numpy(state["mean"].copy()), scale)


def _chunk(width):
    """Rows at a time whose codes of this width fit in a cache."""
    return min(4096, rows_per_chunk(width))


def _report(name, number, max_iter, losses, scores):
    """Print a line per pass, thinned out where passes are many and short."""
    if number % max(1, max_iter // _LINES) and number != max_iter:
        return
    line = f"[{name}] pass {number}/{max_iter}, loss = {losses[-1]:.6g}"
    if scores:
        line += f", validation explained variance = {scores[-1]:.4f}"
    print(line)  # noqa: T201 - what verbose asks for
