"""`Crosscoder`: one sparse code of several blocks of columns, such as two models or layers."""

import re
from collections.abc import Mapping
from itertools import groupby, pairwise

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sksae._arrays import row_weights, to_torch
from sksae._params import Int
from sksae.autoencoders._base import Autoencoder, BaseSAE
from sksae.objectives import Weight

_NUMBERED = re.compile(r"(.+?)[_. -]*\d+")  # a column's name: its block's, and its number in it


class _Blocks:
    """Rule of the `blocks` parameter."""

    def accepts(self, value):
        """Whether `value` is None, a number of blocks, or their widths."""
        if value is None or Int(1).accepts(value):
            return True
        if not isinstance(value, (Mapping, list, tuple)):
            return False
        named = isinstance(value, Mapping)
        widths = value.values() if named else value
        names_are_str = all(isinstance(name, str) for name in value) if named else True
        return len(value) > 0 and names_are_str and all(Int(1).accepts(w) for w in widths)

    def __str__(self):
        return "None, an int >= 1, or widths: a sequence of int >= 1 or a dict of them by name"


class Crosscoder(BaseSAE):
    """Sparse codes that several blocks of columns share, with a dictionary for each block.

    A row of X has what several places say about one sample, side by side: the activations of one
    token in two models, at several layers, or at two stages of training. All blocks are encoded
    together, ``Z = sum_b X_b E_b^T + b``, codes F are made of Z as by the estimator, and every
    block is decoded by its own dictionary, ``X^_b = F D_b + intercept_b`` (Lindsey et al. 2024).
    A component that is large in one block and small in another is a feature of the one: see
    `relative_norms`, and `sksae.metrics.latent_scaling`, which tells real differences from
    artefacts.

    The objective is that of the estimator. Each block is normalised by itself, so that none
    dominates by the size of its activations, and the norm of a component is the sum of its norms in
    the blocks: it weights an L1 penalty, and codes that compete for their place among the k largest
    (Minder et al. 2025).

    Parameters
    ----------
    estimator : BaseSAE
        The autoencoder whose codes, objective and parameters of training are used, such as
        ``BatchTopKSAE(1024, k=32)``; not a `DummySAE`. It is not changed.
    blocks : int, sequence of int, dict of str to int or None, default=None
        The blocks: how many of equal width, their widths, or their widths by name, in the order of
        the columns. With None the names of the columns say it: ``"2.mlp_out_5"`` is column 5 of the
        block ``"2.mlp_out"``, as `ActivationExtractor` names them. All columns are one block where
        they have no such names.

    Attributes
    ----------
    blocks_ : dict of str to int
        Widths of the blocks by name.
    components_ : ndarray of shape (n_components_, n_features_in_)
        The dictionaries side by side; `split` returns that of each block. In the unit of training,
        ``components_ / scale_``, the sum over blocks of the norms of a row is the same for all
        components; of blocks of equal size it is 1 in the unit of X.
    intercept_ : ndarray of shape (n_features_in_,)
        ``inverse_transform(F) = F @ components_ + intercept_``.
    scale_ : ndarray of shape (n_features_in_,)
        Unit of training of each column, which all columns of a block share; by default their root
        mean squared distance from their mean.
    encoder_coef_ : ndarray of shape (n_components_, n_features_in_)
        Encoder; pre-activations are ``Z = X @ encoder_coef_.T + encoder_intercept_``.
    encoder_intercept_ : ndarray of shape (n_components_,)
        Bias of the encoder.
    threshold_ : ndarray of shape (n_components_,)
        Pre-activations above it are codes; where the estimator has it.
    gate_intercept_, gain_ : ndarray of shape (n_components_,)
        The gate of a `GatedSAE`.
    k_ : int or float
        Codes kept per row; where the estimator has it.
    alpha_ : float
        Penalty used; where the estimator has it.
    activation_frequency_ : ndarray of shape (n_components_,)
        Share of the training rows (of `partial_fit`'s last call) on which each latent fires.
    n_components_ : int
        Number of latents.
    batch_size_ : int
        Rows per step.
    learning_rate_ : float
        Step size used.
    n_iter_ : int
        Passes made.
    n_steps_ : int
        Optimiser steps made.
    loss_curve_ : list of float of length n_iter_
        Mean training loss of every pass, in the internal unit.
    validation_scores_ : list of float
        Explained variance of the held-out rows after every pass; only with `early_stopping`.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns; only if X has string column names.

    See Also
    --------
    Transcoder : Codes of one site that predict another.
    sksae.metrics.latent_scaling : Tells which features are of one block, and which only look so.
    sksae.language_models.extract_paired : The same tokens in several models, side by side.

    References
    ----------
    .. [1] J. Lindsey et al., "Sparse crosscoders for cross-layer features and model diffing",
       Transformer Circuits Thread, October 2024.
    .. [2] J. Minder, C. Dumas, C. Juang, B. Chughtai and N. Nanda, "Overcoming sparsity artifacts
       in crosscoders to interpret chat-tuning", NeurIPS 2025, arXiv:2504.02922.

    Examples
    --------
    Two blocks with eight directions in both, and four in the second alone:

    >>> import numpy as np
    >>> from sksae import BatchTopKSAE, Crosscoder
    >>> rng = np.random.default_rng(0)
    >>> codes = rng.exponential(size=(2000, 12)) * (rng.random((2000, 12)) < 0.1)
    >>> first, second = rng.normal(size=(2, 12, 16))
    >>> X = np.hstack([codes[:, :8] @ first[:8], codes @ second])
    >>> crosscoder = Crosscoder(BatchTopKSAE(12, k=1.2, random_state=0), blocks=2).fit(X)
    >>> crosscoder.blocks_
    {'block0': 16, 'block1': 16}
    >>> shares = crosscoder.relative_norms()[:, 0]
    >>> int((shares < 0.1).sum()), int(((shares > 0.25) & (shares < 0.75)).sum())
    (4, 8)
    """

    _param_rules = {"estimator": Autoencoder(), "blocks": _Blocks()}

    def __init__(self, estimator, *, blocks=None):
        self.estimator = estimator
        self.blocks = blocks

    @property
    def _settings(self):
        return self.estimator

    def _make_objective(self, n_features, n_components, n_targets):
        """Return the estimator's objective for rows of several blocks."""
        objective = self.estimator._make_objective(n_features, n_components, n_targets)
        fitted = vars(self).get("blocks_")
        objective.blocks = fitted or _layout(self.blocks, None, n_features)
        objective.resolved = (*objective.resolved, "blocks")
        scale = Weight("t", unit="column", trained=False)
        objective.weights = {**objective.weights, "scale": scale}
        return objective

    def _check_data(self, X, y, sample_weight, *, reset):
        rows = super()._check_data(X, y, sample_weight, reset=reset)
        blocks = _layout(self.blocks, vars(self).get("feature_names_in_"), rows.X.shape[1])
        if not reset and list(blocks.items()) != list(self.blocks_.items()):
            raise ValueError(
                f"This Crosscoder continues a fit with the blocks {self.blocks_}, but the columns "
                f"are now {blocks}. Start anew with fit and warm_start=False."
            )
        return rows._replace(attributes={"blocks_": blocks})

    def split(self, rows):
        """Return the blocks of columns of rows, or of the dictionary.

        Parameters
        ----------
        rows : array of shape (n_rows, n_features_in_) or (n_features_in_,)
            Rows like those of X, ``components_`` or ``intercept_``.

        Returns
        -------
        blocks : dict of str to array of shape (n_rows, width) or (width,)
            Views of the columns by the names of the blocks.

        Raises
        ------
        ValueError
            If there are not as many columns as X had.
        """
        check_is_fitted(self)
        if tuple(rows.shape[-1:]) != (self.n_features_in_,):
            raise ValueError(
                f"This Crosscoder has {self.n_features_in_} columns. Got shape {tuple(rows.shape)}."
            )
        return {name: rows[..., columns] for name, columns in self._columns().items()}

    def relative_norms(self):
        """Return how the norm of each component is distributed over the blocks.

        The norms of a component in the blocks are those of the unit of training, in which blocks
        are of equal size, per root of the width. Of two blocks .5 means shared, 0 and 1 exclusive.

        Returns
        -------
        shares : ndarray of shape (n_components_, n_blocks)
            Norm in each block over the sum of the norms in all; 0 for a component that is 0.

        Raises
        ------
        ValueError
            If there is one block.
        """
        check_is_fitted(self)
        if len(self.blocks_) < 2:
            raise ValueError(
                "relative_norms compares blocks, but all columns of X are one. Say which columns "
                "belong together with blocks, such as blocks=2, and fit again."
            )
        # In units of each block.
        parts = self.split(_doubles(self.components_) / _doubles(self.scale_)).values()
        # Root mean square per column, so that wide blocks count no more, (m,).
        norms = [np.linalg.norm(part, axis=1) / part.shape[1] ** 0.5 for part in parts]
        norms = np.stack(norms, axis=1)  # (m, n_blocks)
        total = norms.sum(1, keepdims=True)
        return np.divide(norms, total, out=np.zeros_like(norms), where=total > 0)

    def block_scores(self, X, sample_weight=None):
        """Explained variance of each block.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to reconstruct.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        scores : dict of str to float
            Explained variance by the name of the block, pooled over its columns, at most 1.
        """
        X, _ = self._check_new_rows(X, "block_scores")
        weight = row_weights(sample_weight, X.shape[0])
        components, intercept = self.split(self.components_), self.split(self.intercept_)
        return {
            name: self._explained(X, block, weight, decoder=(components[name], intercept[name]))
            for name, block in self.split(X).items()
        }

    def score(self, X, y=None, sample_weight=None):
        """Mean over blocks of their explained variance.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to reconstruct.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        score : float
            Mean of `block_scores`, in which every block counts alike.
        """
        return float(np.mean(list(self.block_scores(X, sample_weight).values())))

    def _columns(self):
        """Return the columns of each block by name."""
        edges = pairwise(np.cumsum([0, *self.blocks_.values()]).tolist())
        return {name: slice(*pair) for name, pair in zip(self.blocks_, edges, strict=True)}


def _doubles(array):
    """Return a fitted array, whatever its namespace, as numpy of float64."""
    return to_torch(array).double().numpy(force=True)


def _layout(blocks, names, n_features):
    """Return the widths of the blocks of n_features columns, by name.

    Raises
    ------
    ValueError
        If they do not add up, or columns of a block are not side by side.
    """
    if blocks is None:
        return _named_blocks(names, n_features)
    if isinstance(blocks, Mapping):
        layout = {str(name): int(width) for name, width in blocks.items()}
    else:
        counted = Int().accepts(blocks)
        # Blocks of equal width, which the sum below checks.
        widths = [n_features // blocks] * int(blocks) if counted else [int(w) for w in blocks]
        layout = {f"block{i}": width for i, width in enumerate(widths)}
    if sum(layout.values()) != n_features or 0 in layout.values():
        raise ValueError(
            f"X has {n_features} columns, which are not the blocks that blocks={blocks!r} says."
        )
    return layout


def _named_blocks(names, n_features):
    """Return the blocks given by numbered column names; a single one without such names."""
    matches = [] if names is None else [_NUMBERED.fullmatch(name) for name in names]
    if not matches or not all(matches):
        return {"block0": n_features}
    runs = [(label, len(list(run))) for label, run in groupby(m[1] for m in matches)]
    if len(dict(runs)) < len(runs):
        raise ValueError(
            "Columns of X that belong to one block by their names are not side by side. Put them "
            "in order, or pass blocks."
        )
    return dict(runs)
