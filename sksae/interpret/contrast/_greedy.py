"""Small sets of features that say different things, chosen by their gain on held-out documents."""

import numpy as np
from scipy import sparse

_N_FOLDS = 5


def greedy_set(codes, design, n_features, random):
    """Choose features one by one, each by the variance that it explains beside those before it.

    A linear model of the scores is fitted on four fifths of the documents, and the gain is measured
    on the others, five times. The choice ends where no feature gains anything.

    Parameters
    ----------
    codes : csr_array of shape (n_documents, n_candidates)
    design : Design
        Its scores are explained; whole groups are held out.
    n_features : int
        The largest number of features.
    random : RandomState

    Returns
    -------
    chosen : list of int
        Candidates in the order of their choice.
    gains : list of float
        Share of the squared scores of held-out documents that each explains beside the others.
    """
    n_units = len(design.sizes)
    unit = np.arange(len(design.group)) if n_units == 1 else design.group
    n_units = len(unit) if n_units == 1 else n_units
    fold = (random.permutation(n_units) % min(_N_FOLDS, n_units))[unit]
    folds = [_Fold(codes, design, fold == index) for index in range(fold.max() + 1)]
    total = (design.scores**2).sum()
    chosen, gains = [], []
    while len(chosen) < min(n_features, codes.shape[1]):
        gain = sum(one.gains() for one in folds) / total
        gain[chosen] = -np.inf
        best = int(np.argmax(gain))
        if gain[best] <= 0:
            break
        chosen.append(best)
        gains.append(float(gain[best]))
        column = codes[:, [best]].toarray()[:, 0]
        for one in folds:
            one.add(column)
    return chosen, gains


class _Fold:
    """A linear model of one feature after the other on one part of the documents."""

    def __init__(self, codes, design, is_held):
        self.codes = codes
        self.held, self.fitted = np.flatnonzero(is_held), np.flatnonzero(~is_held)
        self.held_codes, self.fitted_codes = (
            sparse.csc_array(codes[rows]) for rows in (self.held, self.fitted)
        )
        self.basis = np.empty((codes.shape[0], 0))  # orthonormal on the fitted documents
        self.residual = design.scores.copy()
        self.add(np.ones(codes.shape[0]))
        for column in design.basis.T:
            self.add(column)

    def add(self, column):
        """Add a feature to the model."""
        basis = self.basis
        for _ in range(2):  # twice, against rounding
            column = column - basis @ (basis[self.fitted].T @ column[self.fitted])
        norm = np.linalg.norm(column[self.fitted])
        if norm <= 1e-9 * np.sqrt(len(column)):
            return
        column = column / norm
        self.basis = np.column_stack([basis, column])
        self.residual -= np.outer(column, column[self.fitted] @ self.residual[self.fitted])

    def gains(self):
        """Return what each candidate would take off the squares of the held-out residuals."""
        fitted_basis, held_basis = self.basis[self.fitted], self.basis[self.held]
        projected = self.fitted_codes.T @ fitted_basis  # (n_candidates, n_basis)
        power = self.fitted_codes.power(2).sum(axis=0)
        left = power - (projected**2).sum(axis=1)
        varies = left > 1e-9 * power
        slope = self.fitted_codes.T @ self.residual[self.fitted]  # (n_candidates, n_scores)
        slope = np.where(varies, 1 / np.where(varies, left, 1), 0)[:, None] * slope
        held = self.residual[self.held]
        agreement = self.held_codes.T @ held - projected @ (held_basis.T @ held)
        crossed = self.held_codes.T @ held_basis
        power = self.held_codes.power(2).sum(axis=0) - 2 * (projected * crossed).sum(axis=1)
        power += ((projected @ (held_basis.T @ held_basis)) * projected).sum(axis=1)
        return (2 * slope * agreement - slope**2 * power[:, None]).sum(axis=1)
