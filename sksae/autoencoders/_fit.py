"""`Fit`: one fit of an estimator, from rows to fitted attributes."""

import math
from functools import cached_property, partial
from numbers import Real

import torch
from sklearn.base import clone

from sksae._arrays import (
    compute_dtype,
    from_torch,
    space_of,
    to_torch,
    training_arithmetic,
)
from sksae._processes import RowShare, check_same, from_first, gathered
from sksae.autoencoders._inference import encoder_of, firing_frequency
from sksae.autoencoders._resolved_parameters import (
    batch_size,
    randomness,
    rows_at_once,
    rows_learnt,
    width_of,
)
from sksae.autoencoders._training_passes import described, warn_caller
from sksae.training import (
    Batches,
    Engine,
    HeldOut,
    Normalization,
    Schedule,
    SparsityController,
    TrainingRun,
    default_betas,
    default_dead_window,
    default_haste,
    default_learning_rate,
    default_max_iter,
    hold_out,
    principal_axes,
)

_CONTROLS = 200  # measurements of a controlled L0 per fit
_SAMPLE = 2048
_BLOCK = 1024


class Fit:
    """One fit of an estimator, from rows to fitted attributes.

    Making it resolves the parameters, measures the internal unit and initialises the weights;
    ``run.step(x, w)`` is one step of the optimiser, and `attributes` returns the fitted attributes
    of the weights so far. The estimator is not changed.

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
    seed : int, default=None
        Seed of all that is random. None draws it from `random_state`.

    Attributes
    ----------
    objective : Objective
        The objective.
    run : TrainingRun
        Weights under training and the optimiser's state.
    rows : Batches
        Training rows in the internal unit.
    held_out : HeldOut or None
        Measures on the rows held out, if there are any.
    losses, scores : list of float
        Mean loss and validation score of every pass.
    after_pass : list of callable
        Called with the fit after every pass, as those of ``run.after_step`` after every step.
    quality : callable or None
        Returns the quality of the weights so far in words; None where nothing is to be printed.
    batch_size, max_iter, n_steps, dead_window : int
        Resolved parameters; `n_steps` is None in a stream.
    learning_rate, betas : float, tuple of float
        Resolved parameters of Adam.

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
    >>> fit.fitted().transform(X).shape
    (500, 16)
    """

    def __init__(
        self,
        estimator,
        X,
        targets=None,
        sample_weight=None,
        *,
        streams=False,
        normalization=None,
        seed=None,
    ):
        self.estimator, self.settings, self.streams = estimator, estimator._settings, streams
        self._X, self._targets, self._weight = X, targets, sample_weight
        state = getattr(estimator, "_stream", None) if streams else None
        self.continues = estimator._is_fitted() if streams else estimator._continues()
        # Counts and curves to go on from, copied: callbacks see those of the estimator grow.
        names = ("n_iter_", "n_steps_", "loss_curve_", "validation_scores_")
        before = vars(estimator) if self.continues else {}
        self._before = {name: before[name] for name in names if name in before}
        self.seed, self._generator = randomness(self.settings, state, seed)
        # Rows are numbered over all processes, where there are several.
        check_same(lambda: {"the number of features": X.shape[1], "the dtype of X": str(X.dtype)})
        self._share = RowShare.of(X.shape[0])
        n_features, n_targets = X.shape[1], (X if targets is None else targets).shape[1]
        # Those of a stream are not all that there will be.
        n_rows = None if streams else rows_learnt(self.settings, X, sample_weight)
        self.n_components = width_of(estimator, n_rows, n_features, continues=self.continues)
        self.objective = estimator._make_objective(n_features, self.n_components, n_targets)
        self._row_numbers, held_out = self._split()
        self._resolve(state)
        self.rows = self._batches(self._row_numbers, self.batch_size, generator=self._generator)
        if normalization is None:
            normalization = _unit_of(self) if state is None else _kept_unit(state)
        self.normalization = normalization
        self.rows.normalize(normalization)
        if not streams:
            self._check_sense()
        self.held_out = None
        if held_out is not None:
            rows = self._batches(held_out, rows_at_once(self.n_components)).normalize(normalization)
            # An engine of its own: what one remembers of a batch helps with the next one.
            self.held_out = HeldOut(self._engine(), rows)
        self.run = self._new_run(self._weights(state))
        self.losses, self.scores, self.after_pass = [], [], []
        talks = from_first(lambda: self.settings.verbose)
        self.quality = partial(described, self) if talks else None
        if state is not None:
            self.run.restore(state["run"])
        self._first_step = self.run.n_steps
        if not streams:
            self.run.after_step += self._controls()
            self.run.after_step += self.objective.events(self.rows, self.n_steps, self._generator)

    # Parameters and rows -------------------------------------------------------------------------

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
            rows = torch.arange(self._share.total)
        else:
            rows = gathered(self._weight).nonzero().flatten()
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
        n_active = self.objective.n_active
        self.batch_size = batch_size(settings, n_samples, n_active, streams=self.streams)
        self.max_iter = int(settings.max_iter or 0) or default_max_iter(
            n_samples, self.n_components, self.batch_size, n_active, self.objective.fewest_steps
        )
        per_pass = math.ceil(n_samples / self.batch_size)  # optimiser steps in a pass
        self.n_steps = None if self.streams else self.max_iter * per_pass
        # What is trained already needs no haste.
        haste = 0 if self.continues else default_haste(n_samples, self.batch_size, self.n_steps)
        rate = settings.learning_rate or default_learning_rate(self.n_components, haste)
        self.learning_rate = float(rate)
        self.betas = tuple(settings.betas or default_betas(haste))
        dead_window = settings.dead_window if state is None else state["dead_window"]
        self.dead_window = int(dead_window or 0) or default_dead_window(
            self.batch_size, n_samples, 1 if self.streams else self.max_iter
        )

    def _check_sense(self):
        """Warn of settings that can be fitted but are probably not intended."""
        name, m, settings = type(self.estimator).__name__, self.n_components, self.settings
        messages = [
            f"{parameter}={value} is greater than the number of components, {m}: all are kept."
            for parameter in self.objective.resolved
            if isinstance(value := getattr(settings, parameter, None), Real)
            and getattr(self.objective, parameter) < value
        ]
        if m > self.rows.n_samples and self.objective.fewest_steps:
            messages.append(
                f"{name} learns {m} components from {self.rows.n_samples} rows: each can learn a "
                "row by heart. Lower n_components, or give more rows."
            )
        if self.normalization.constant:
            messages.append("All rows of X, or all targets, are equal: there is nothing to learn.")
        for message in messages:
            warn_caller(message, UserWarning)

    def _batches(self, rows, batch_size, *, with_targets=True, generator=None, dtype=None):
        """Return `Batches` over some rows, on the device of their arithmetic and in its dtype."""
        n_entries = self.n_components * self._X.shape[1]
        device, working_dtype = training_arithmetic(self._X, self.settings, n_entries)
        targets = self._targets if with_targets else None
        options = {
            "rows": rows,
            "share": self._share,
            "generator": generator,
            "targets": targets,
            "blocks": self.objective.widths_of_blocks,
        }
        return Batches(self._X, self._weight, batch_size, dtype or working_dtype, device, **options)

    # Weights and the run -------------------------------------------------------------------------

    def _weights(self, state):
        """Weights to start from, float64 on the CPU: new ones, or those that are continued."""
        declared = self.objective.declared
        if state is None and not self.continues:
            return self.objective.initial_weights(self.rows, self.n_components, self._generator)
        if state is not None:
            names = [name for name, weight in declared.items() if weight.trained]
            previous = state["run"]["weights"]
        else:
            names = [name for name, weight in declared.items() if weight.fitted]
            previous = {n: v for n in names if (v := vars(self.estimator).get(n + "_")) is not None}
        missing = [name for name in names if name not in previous]
        if missing:
            raise ValueError(
                f"This {type(self.estimator).__name__} continues a fit with other parameters, that "
                f"has no {', '.join(missing)}. Start anew with fit and warm_start=False."
            )
        weights = {name: to_torch(previous[name]) for name in names}
        return weights if state is not None else self.objective.unfold(weights, self.normalization)

    def _engine(self):
        return Engine(self.objective, precision=self.settings.precision)

    def _new_run(self, weights):
        """Return the `TrainingRun`, with copies of the weights where training is done."""
        settings, objective, rows = self.settings, self.objective, self.rows
        # Rates may be scaled by how far Adam can move a weight in a fit: learning rate times steps,
        # without limit where the end is not known or other steps came before.
        ends = self.n_steps is not None and not self.continues
        # How far a weight can move in all.
        reach = self.learning_rate * self.n_steps if ends else math.inf
        return TrainingRun(
            {name: w.to(rows.device, rows.dtype, copy=True) for name, w in weights.items()},
            self._engine(),
            learning_rate=self.learning_rate,
            betas=self.betas,
            rate_scales=objective.rate_scales(reach),
            unit_norm=("components",) if objective.unit_norm else (),
            blocks=objective.widths_of_blocks,
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
            lambda: self.held_out.l0(run.weights),
            interval=max(1, self.n_steps // _CONTROLS),
            first=round(min(self.objective.alpha_warm_up, 0.05) * self.n_steps),
        )
        return [run.schedule.controller]

    def train_pass(self):
        """Make one pass over the rows, as a call of `partial_fit` does."""
        self.losses.append(self.run.run_pass(self.rows, progress=self.quality))

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
        # In an order of its own, so that looking at the weights changes no later step.
        sample = self.rows.thinned().shuffled(0)
        weights = objective.calibrated(run.weights, run.engine, sample)
        folded = objective.fold(weights, self.normalization)
        # Far from the origin, what the encoder's rows lose by rounding the intercept makes up for.
        coef = folded["encoder_coef"]
        centre = self.normalization.mean[: coef.shape[1]]
        # What rounding loses, times the centre, (m,).
        lost = [(block - block.to(dtype).double()) @ centre for block in coef.split(_BLOCK)]
        folded["encoder_intercept"] = folded["encoder_intercept"] + torch.cat(lost)
        arrays = {
            name + "_": from_torch(value.to(dtype).contiguous(), space)
            for name, value in folded.items()
        }
        return {
            **arrays,
            **{name + "_": getattr(objective, name) for name in objective.resolved},
            "n_components_": self.n_components,
            "batch_size_": self.batch_size,
            "learning_rate_": self.learning_rate,
            "_objective": objective,
        }

    def progress(self, losses=None):
        """Return the counts and curves so far, after those of a fit that this one continues.

        Parameters
        ----------
        losses : list of float, default=None
            Losses of the passes; None takes those of whole passes.

        Returns
        -------
        attributes : dict
            Counts and curves by name.
        """
        losses = self.losses if losses is None else losses
        before = self._before
        attributes = {
            "n_iter_": before.get("n_iter_", 0) + len(losses),
            # Of the stream or fit before, and those of this run.
            "n_steps_": before.get("n_steps_", 0) + self.run.n_steps - self._first_step,
            "loss_curve_": before.get("loss_curve_", []) + losses,
        }
        if self.settings.early_stopping:
            attributes["validation_scores_"] = before.get("validation_scores_", []) + self.scores
        return attributes

    def result(self):
        """Return all that the estimator keeps of this fit.

        Returns
        -------
        attributes : dict
            `attributes`, `progress`, the state of a stream, and how often latents fire.
        """
        attributes = {
            **self.attributes(),
            **self.progress(),
            "_stream": self._state() if self.streams else None,
        }
        centre = attributes["intercept_"] if self._targets is None else None
        encoder = encoder_of(attributes, self.settings, self._X, centre=centre)
        rows = self._batches(
            self._row_numbers,
            rows_at_once(self.n_components),
            with_targets=False,
            dtype=encoder.dtype,
        ).thinned()
        frequency = firing_frequency(encoder, rows)
        dtype = compute_dtype(self._X, torch.device("cpu"))
        attributes["activation_frequency_"] = from_torch(frequency.to(dtype), space_of(self._X))
        return attributes

    def fitted(self):
        """Return a copy of the estimator that is fitted with the weights so far.

        Returns
        -------
        estimator : BaseSAE
            A new estimator, which transforms and scores.
        """
        estimator = clone(self.estimator)
        state = {"n_features_in_": self._X.shape[1], "_stream": None}
        vars(estimator).update({**state, **self.attributes(), **self.progress()})
        return estimator

    def measures(self):
        """Return how well the weights so far do on a sample of the training rows.

        Returns
        -------
        explained_variance : float
            At most 1.
        l0 : float
            Non-zero codes per row.
        """
        weights = self.run.weights
        return self._sample.explained_variance(weights), self._sample.l0(weights)

    @cached_property
    def _sample(self):
        """The rows of `measures`, made where it is first called: at most `_SAMPLE` in memory."""
        rows = self._batches(self._row_numbers, rows_at_once(self.n_components)).thinned(_SAMPLE)
        # An engine of its own, so that looking changes no later step.
        return HeldOut(self._engine(), rows.normalize(self.normalization))

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


def _unit_of(fit):
    """Measure the internal unit of a fit, along axes of its choice."""
    settings, objective = fit.settings, fit.objective
    unit = Normalization.from_rows(fit.rows, settings.normalize)
    may_turn = objective.turns and not objective.linear_maps and settings.normalize == "rms"
    # What is continued has axes already, and a stream's first rows are not all.
    if not may_turn or fit.continues or fit.streams:
        return unit
    return unit._replace(axes=principal_axes(fit.rows.normalize(unit), fit.n_components))


def _kept_unit(state):
    """Return the internal unit of the stream that is continued."""
    scale = state["scale"]
    scale = scale if isinstance(scale, float) else torch.from_numpy(scale.copy())
    return Normalization(torch.from_numpy(state["mean"].copy()), scale)
