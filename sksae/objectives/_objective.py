"""`Objective`: the loss of a sparse autoencoder, the weights that it has, and its hooks."""

from typing import NamedTuple

import torch

from sksae.objectives import _folding
from sksae.objectives._start import directions
from sksae.training import row_mean, row_norms


class Weight(NamedTuple):
    """Declaration of a weight, read by everything that handles weights.

    Training initialises and constrains a weight by its declaration; folding converts it to raw
    units; saving, loading, `sksae.autoencoders.fitted` and the formats check and name its array.

    Parameters
    ----------
    axes : {"m", "d", "t", "mt", "md", "td"}
        Axes of the array: m latents, d features that are read, t features that are reconstructed
        (the same as d but for a `Transcoder`). A weight with the axes "td" adds a linear function
        of the rows to their reconstruction.
    unit : {"code", "column", None}, default=None
        "code" for a weight that is compared with pre-activations, such as a threshold: it changes
        its unit with the codes. "column" for one of axes "t" that is the unit of training itself,
        per column in that of the rows, made by `Objective.fold`. None for one that has no unit.
    nonnegative : bool, default=False
        Whether it is clamped at 0 after every step.
    initial : float, default=0.0
        Value at the start of training, unless `Objective.initial_weights` returns another.
    trained : bool, default=True
        Whether it is a weight during training; otherwise it is made after it, by
        `Objective.calibrated` or `Objective.fold`.
    fitted : bool, default=True
        Whether it becomes a fitted attribute, with an underscore after its name.

    See Also
    --------
    Objective : Declares weights.

    Examples
    --------
    >>> from sksae.objectives import JumpReLU
    >>> JumpReLU.weights["threshold"].axes
    'm'
    """

    axes: str
    unit: str | None = None
    nonnegative: bool = False
    initial: float = 0.0
    trained: bool = True
    fitted: bool = True


SHARED = {
    "components": Weight("mt"),
    "encoder_coef": Weight("md"),
    "encoder_intercept": Weight("m"),
    "intercept": Weight("t"),
}
"""The weights that every objective has: the dictionary, the encoder and their biases."""


class Objective:
    """Loss of a sparse autoencoder as torch code, with the weights that it needs.

    A subclass says which entries of the pre-activations ``Z = X E^T + b`` can have a code or a
    gradient (`rule`), and computes the loss and the codes from these entries (`loss`). All else has
    a default. An estimator makes its objective once per fit, in
    ``_make_objective(n_features, n_components, n_targets)``; `Transcoder` takes any of them.

    The loss is written on `entries`, which stand for the pre-activations of a batch. It does not
    know which form they have: a matrix of shape (n, m), or a vector of the active ones.

    ==================================== =========================================================
    ``entries.z``                        pre-activations
    ``entries.x``, ``entries.w``         rows to reconstruct, of shape (n, t), and their weights
    ``entries.weights``                  dict of all weights
    ``entries.at(vector)``               values of a vector of shape (m,) at the entries
    ``entries.kept(values)``             `values` where a rule with `k` selects, 0 elsewhere
    ``entries.decode(codes)``            reconstructions, of shape (n, t)
    ``entries.squared_error(codes)``     mean squared error, with its gradients (for `backward`)
    ``entries.norms()``                  norms of the dictionary's rows, at the entries
    ``entries.row_mean(values)``         mean over rows of the sum of `values` over latents
    ``entries.shortfall(threshold)``     mean over rows of ``sum_j |D_j| relu(threshold_j - z_j)``
    ``entries.rows_of(latents, step)``   dictionary rows of some latents, and their pre-activations
                                         in every step-th row, in all by default
    ==================================== =========================================================

    Attributes
    ----------
    weights : dict of Weight
        Weights beside the encoder, the dictionary and their biases, by name.
    resolved : tuple of str
        Attributes of the objective that the estimator shows with an underscore, such as ``"k"``;
        each is a parameter of the estimator, possibly left at None there.
    unit_norm : bool
        Whether rows of the dictionary keep the norm 1.
    blocks : dict of int
        Widths of the blocks that the columns of the rows are, by name, as for `sksae.Crosscoder`.
        Each has a unit of its own, and the norm of a row of the dictionary is the sum of its norms
        in them. Empty where all columns are one.
    pre_bias : bool
        Whether the bias of the dictionary is subtracted before encoding (Bricken et al. 2023).
    turns : bool
        Whether large data are trained on along their principal axes, with weights along these;
        False by default. The loss has to be the same along any orthogonal axes.
    encoder_scale : float
        First encoder rows over first dictionary rows.
    rates : dict of float
        Multipliers of the learning rate by weight name.
    alpha, alpha_warm_up : float
        Weight of a sparsity penalty, and the share of the steps over which it rises from 0.
    target_l0 : float or None
        Codes per row that the penalty is steered to.
    fewest_steps : int
        Optimiser steps of a fit of few rows, unless `max_iter` says otherwise; 0 where there is
        nothing to learn.
    n_active : float or None
        Codes per row that are expected; `target_l0`, unless an objective knows more.

    See Also
    --------
    Weight : Declares one weight.
    sksae.autoencoders.BaseSAE : Base class of the estimators.

    Examples
    --------
    A loss without any penalty, of codes that are the positive pre-activations:

    >>> import torch
    >>> from sksae.objectives import Objective, Rule, reconstruction_loss
    >>> class Plain(Objective):
    ...     def rule(self, weights):
    ...         return Rule(bound=0.0)
    ...
    ...     def loss(self, entries, alpha, dead):
    ...         codes = torch.relu(entries.z)
    ...         return reconstruction_loss(entries, entries.decode(codes)), codes
    """

    weights = {}
    resolved = ()
    unit_norm = True
    blocks = {}
    pre_bias = True
    turns = False
    encoder_scale = 0.3
    rates = {"encoder_coef": 0.5}
    alpha = 0.0
    alpha_warm_up = 0.0
    target_l0 = None
    fewest_steps = 2000

    def rule(self, weights):
        """Return the `Rule` of the entries that can have a code or a gradient.

        Parameters
        ----------
        weights : dict of Tensor
            Weights by name.

        Returns
        -------
        rule : Rule
            The rule.
        """
        raise NotImplementedError

    def loss(self, entries, alpha, dead):
        """Return the loss of a batch and its codes.

        Parameters
        ----------
        entries : AllEntries
            Entries of the batch.
        alpha : float
            Weight of the penalty at this step.
        dead : Tensor of bool of shape (m,)
            Latents that have not fired for long; while they are 1024 or more, told in every fourth
            step alone.

        Returns
        -------
        loss : Tensor, scalar
            Loss: summed over features and latents, averaged over rows.
        codes : Tensor
            Codes, one per entry.
        """
        raise NotImplementedError

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        # Gradients in closed form are those of one loss: another loss has its own, by autograd.
        for name in ("backward", "compiled_backward"):
            if "loss" in vars(cls) and name not in vars(cls):
                setattr(cls, name, getattr(Objective, name))

    def backward(self, entries, alpha, dead):
        """Return the loss and the codes, and leave the gradients on the entries.

        By default autograd finds them. An objective that knows them is faster: it hands them to
        ``entries.decode_backward``, ``entries.rows_backward`` and ``entries.encode_backward``.

        Parameters
        ----------
        entries : AllEntries
            Entries of the batch.
        alpha : float
            Weight of the penalty at this step.
        dead : Tensor of bool of shape (m,)
            Latents that have not fired for long.

        Returns
        -------
        loss : Tensor, scalar
            That of `loss`, detached.
        codes : Tensor
            Codes, one per entry.
        """
        loss, codes = self.loss(entries, alpha, dead)
        loss.backward()
        return loss.detach(), codes.detach()

    def compiled_backward(self, entries, dead):
        """Return what `backward` finds for a small batch, by loops that numba compiled.

        Parameters
        ----------
        entries : DenseEntries
            All entries of the batch.
        dead : Tensor of bool of shape (m,)
            Latents that have not fired for long.

        Returns
        -------
        compiled : tuple or None
            The loss, a dict of gradients by weight name, and the mask of the latents with a code
            other than 0. None, by default and without numba, if `backward` is to be called.
        """
        return

    def fitted_rule(self, fitted):
        """Return the `Rule` of raw pre-activations that are codes at inference, row by row.

        Parameters
        ----------
        fitted : dict of array
            Fitted arrays by weight name, in raw units.

        Returns
        -------
        rule : Rule
            That of training by default; one with a `bound`, or with `k` and not `pooled`.
        """
        return self.rule(fitted)

    def initial_weights(self, rows, n_components, generator):
        """Return the weights at the start of training.

        Parameters
        ----------
        rows : Batches
            Training rows in the internal unit.
        n_components : int
            Number of latents.
        generator : torch.Generator
            The only source of randomness.

        Returns
        -------
        weights : dict of Tensor, float64, on the CPU
            Unit rows of the dictionary near rows of the data, `encoder_scale` times them as
            encoder, biases of 0, and the declared weights at their initial value.
        """
        centre = rows.thinned().average()
        inputs, components = directions(rows, n_components, centre, generator)
        if self.widths_of_blocks:
            components = components / row_norms(components, self.widths_of_blocks)[:, None]
        sizes = {"m": n_components, "d": inputs.shape[1], "t": components.shape[1]}
        declared = {
            name: torch.full([sizes[axis] for axis in w.axes], w.initial, dtype=torch.float64)
            for name, w in self.weights.items()
            if w.trained
        }
        return {
            "components": components,
            "encoder_coef": self.encoder_scale * inputs,
            "encoder_intercept": torch.zeros(n_components, dtype=torch.float64),
            "intercept": centre[rows.targets],
            **declared,
        }

    def rate_scales(self, reach):
        """Return the multipliers of the learning rate by weight name.

        Parameters
        ----------
        reach : float
            Distance that a weight can travel in this fit, infinite where the end of training is
            not known or weights are continued.

        Returns
        -------
        scales : dict of float
            `rates` by default; 1 for weights that are not named.
        """
        return self.rates

    def events(self, rows, n_steps, generator):
        """Return callables ``event(run)`` that are called after every optimiser step of a fit.

        Parameters
        ----------
        rows : Batches
            Training rows.
        n_steps : int
            Steps of the fit.
        generator : torch.Generator
            The only source of randomness.

        Returns
        -------
        events : list of callable
            None by default; see `sksae.training.Revival`.
        """
        return []

    def calibrated(self, weights, engine, rows):
        """Return the weights of training with what only inference needs.

        Parameters
        ----------
        weights : dict of Tensor
            Weights by name.
        engine : Engine
            Makes the entries of a batch.
        rows : Batches
            Training rows.

        Returns
        -------
        weights : dict of Tensor
            The same by default.
        """
        return weights

    def fold(self, weights, normalization):
        """Return the fitted arrays that weights of training make.

        Parameters
        ----------
        weights : dict of Tensor
            Weights in the internal unit.
        normalization : Normalization
            The internal unit.

        Returns
        -------
        fitted : dict of Tensor, float64
            Arrays by name that act on raw rows, with unit rows of the dictionary.
        """
        return _folding.fold(weights, self.declared, normalization, **self._folding_options)

    def unfold(self, fitted, normalization):
        """Return the weights of training that continue fitted arrays, the inverse of `fold`.

        Parameters
        ----------
        fitted : dict of Tensor
            Fitted arrays by weight name, in raw units.
        normalization : Normalization
            The internal unit of the training to come.

        Returns
        -------
        weights : dict of Tensor, float64
            Weights in the internal unit.
        """
        return _folding.unfold(fitted, self.declared, normalization, **self._folding_options)

    @property
    def _folding_options(self):
        return {"pre_bias": self.pre_bias, "blocks": self.widths_of_blocks}

    @property
    def n_active(self):
        """Codes per row that are expected, from which batches are sized; None if not known."""
        return self.target_l0

    @property
    def knows_gradients(self):
        """Whether `backward` does without autograd."""
        return type(self).backward is not Objective.backward

    @property
    def has_loops(self):
        """Whether `compiled_backward` finds gradients where numba is installed."""
        return type(self).compiled_backward is not Objective.compiled_backward

    @property
    def declared(self):
        """All weights by name, the encoder and the dictionary included."""
        return {**SHARED, **self.weights}

    @property
    def widths_of_blocks(self):
        """Widths of the blocks where there are several, else an empty tuple."""
        return tuple(self.blocks.values()) if len(self.blocks) > 1 else ()

    @property
    def linear_maps(self):
        """Names of the weights that add a linear function of the rows to their reconstruction."""
        return tuple(name for name, weight in self.declared.items() if weight.axes == "td")


def reconstruction_loss(entries, reconstruction):
    """Mean squared norm of the residual: summed over features, averaged over rows.

    Parameters
    ----------
    entries : AllEntries
        Entries of a batch.
    reconstruction : Tensor of shape (n, t)
        Result of ``entries.decode``.

    Returns
    -------
    loss : Tensor, scalar
        Weighted mean over rows.
    """
    return row_mean((reconstruction - entries.x).square().sum(1), entries.w)
