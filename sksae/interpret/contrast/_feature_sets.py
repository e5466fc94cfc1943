"""Small sets of features that say different things, chosen by their gain on held-out documents."""

import numpy as np
from scipy import sparse
from sklearn.linear_model import lasso_path

_N_FOLDS = 5
_MOST_CANDIDATES = 1000  # of the path, for whose products a matrix is kept
_N_ALPHAS, _LEAST_ALPHA = 100, 0.01  # penalties, down to a share of the largest that matters


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
    folds, total = _folds(codes, design, random), (design.scores**2).sum()
    chosen, gains = [], []
    while len(chosen) < min(n_features, codes.shape[1]):
        gain = sum(fold.gains() for fold in folds) / total
        gain[chosen] = -np.inf  # a feature is not chosen twice
        best = int(np.argmax(gain))
        # No candidate predicts held-out documents better than the model so far.
        if gain[best] <= 0:
            break
        chosen.append(best)
        gains.append(float(gain[best]))
        column = codes[:, [best]].toarray()[:, 0]
        for fold in folds:
            fold.add(column)
    return chosen, gains


def lasso_set(codes, design, n_features, random):
    """Choose the features of a linear model with an L1 penalty that has as many.

    The penalty falls from where no feature has a coefficient to where as many have one; those with
    the largest coefficients come first. Codes are standardised, after groups and covariates are
    taken out. Of several scores, one of each class, the model is the multi-task lasso, whose
    features are those of all classes. Candidates beyond the thousand that go most along with the
    scores are left out.

    Parameters, returns and the measure of the gains are those of `greedy_set`. The choice ends
    where the features together gain most.
    """
    products = codes.T @ design.scores  # (n_candidates, n_scores)
    # Squared norms without groups and covariates, (n_candidates,).
    power = _products(codes, design, only_squares=True)
    # The others are explained by groups and covariates.
    varies = power > 1e-9 * codes.power(2).sum(axis=0)
    # Squared length of the products with the scores, for codes of norm 1.
    strength = (products**2).sum(axis=1) / np.where(varies, power, np.inf)
    candidates = np.argsort(-strength, kind="stable")[: min(_MOST_CANDIDATES, varies.sum())]
    if not len(candidates):
        return [], []
    scale = np.sqrt(power[candidates])  # codes get norm 1, as a penalty on coefficients needs it
    gram = _products(codes[:, candidates], design) / np.outer(scale, scale)
    products = products[candidates] / scale[:, None]
    order = candidates[_largest_coefficients(gram, products, n_features)]
    folds, total, gains = _folds(codes, design, random), (design.scores**2).sum(), []
    for candidate in order:
        gains.append(float(sum(fold.gains([candidate])[0] for fold in folds) / total))
        column = codes[:, [candidate]].toarray()[:, 0]
        for fold in folds:
            fold.add(column)
    # Up to the feature at which the gains add up to most.
    together = np.cumsum(gains)
    n_chosen = int(np.argmax(together)) + 1 if together.max(initial=0) > 0 else 0
    return order[:n_chosen].tolist(), gains[:n_chosen]


def _products(codes, design, only_squares=False):
    """Return the products of codes without groups and covariates, (n_candidates, n_candidates)."""
    n_rows, n_groups = len(design.group), len(design.sizes)
    places = design.group, np.arange(n_rows)  # entries (group, row)
    # Means times the root of the size: their products are what centring takes off.
    weights = 1 / np.sqrt(design.sizes[design.group])
    means = sparse.csr_array((weights, places), shape=(n_groups, n_rows)) @ codes
    on_basis = codes.T @ design.basis  # (n_candidates, n_basis)
    if only_squares:
        squares = codes.power(2).sum(axis=0) - means.power(2).sum(axis=0)
        return squares - (on_basis**2).sum(axis=1)
    return (codes.T @ codes - means.T @ means).toarray() - on_basis @ on_basis.T


def _largest_coefficients(gram, products, n_features):
    # A smaller problem with the same solutions: X and y are such that X.T @ X is the Gram matrix
    # and X.T @ y the products.
    """Return the candidates of the first model of the path that has as many features, or the last.

    The lasso on a root of the products, with at most as many rows as candidates, is that on all
    documents.
    """
    values, vectors = np.linalg.eigh(gram)
    positive = values > 1e-10 * values[-1]  # directions in which candidates differ at all
    root = np.sqrt(values[positive])[:, None]
    X, y = root * vectors[:, positive].T, (vectors[:, positive].T @ products) / root
    # The smallest penalty at which all coefficients are 0; `lasso_path` divides losses by the rows.
    largest = np.sqrt((products**2).sum(axis=1)).max() / len(X)
    alphas = largest * np.geomspace(1, _LEAST_ALPHA, _N_ALPHAS)
    target = y if y.shape[1] > 1 else y[:, 0]
    coefficients = lasso_path(X, target, alphas=alphas, max_iter=10_000)[1]
    # Of all scores; (n_candidates, n_alphas)
    sizes = np.abs(coefficients).reshape(-1, gram.shape[0], _N_ALPHAS).sum(axis=0)
    sizes[sizes < 1e-6 * sizes.max(axis=0)] = 0  # copies of a feature, by rounding
    # Models with enough features, (n_alphas,).
    enough = (sizes > 0).sum(axis=0) >= min(n_features, len(gram))
    # The first such model, or the last of the path.
    size = sizes[:, int(np.argmax(enough)) if enough.any() else -1]
    order = np.argsort(-size, kind="stable")[:n_features]
    return order[size[order] > 0]


def _folds(codes, design, random):
    """Return linear models without features, each with other documents or groups held out."""
    n_units = len(design.sizes)
    # Without groups documents are held out one by one, with groups as a whole.
    unit = np.arange(len(design.group)) if n_units == 1 else design.group
    n_units = len(unit) if n_units == 1 else n_units
    fold = (random.permutation(n_units) % min(_N_FOLDS, n_units))[unit]
    return [_Fold(codes, design, fold == index) for index in range(fold.max() + 1)]


class _Fold:
    """A linear model of one feature after the other on one part of the documents."""

    def __init__(self, codes, design, is_held):
        self.codes = codes
        self.held, self.fitted = np.flatnonzero(is_held), np.flatnonzero(~is_held)
        self.held_codes, self.fitted_codes = (
            sparse.csc_array(codes[rows]) for rows in (self.held, self.fitted)
        )
        self.basis = np.empty((codes.shape[0], 0))  # orthonormal on the fitted documents
        self.residual = design.scores.copy()  # (n_documents, n_scores), on held-out documents too
        self.add(np.ones(codes.shape[0]))
        for column in design.basis.T:
            self.add(column)

    def add(self, column):
        """Add a feature to the model."""
        basis = self.basis
        for _ in range(2):  # twice, against rounding
            column = column - basis @ (basis[self.fitted].T @ column[self.fitted])
        norm = np.linalg.norm(column[self.fitted])
        # The model explains the feature already.
        if norm <= 1e-9 * np.sqrt(len(column)):
            return
        column = column / norm
        self.basis = np.column_stack([basis, column])
        # The coefficient is fitted on the one part and applied to all documents.
        self.residual -= np.outer(column, column[self.fitted] @ self.residual[self.fitted])

    def gains(self, candidates=None):
        """Return what each candidate would take off the squares of the held-out residuals."""
        fitted_codes, held_codes = self.fitted_codes, self.held_codes
        if candidates is not None:
            fitted_codes, held_codes = fitted_codes[:, candidates], held_codes[:, candidates]
        fitted_basis, held_basis = self.basis[self.fitted], self.basis[self.held]
        projected = fitted_codes.T @ fitted_basis  # (n_candidates, n_basis)
        power = fitted_codes.power(2).sum(axis=0)  # squared norms, (n_candidates,)
        unexplained = power - (projected**2).sum(axis=1)
        varies = unexplained > 1e-9 * power
        # Regression of the residuals on what the model leaves of each candidate.
        slope = fitted_codes.T @ self.residual[self.fitted]  # (n_candidates, n_scores)
        slope = np.where(varies, 1 / np.where(varies, unexplained, 1), 0)[:, None] * slope
        residual = self.residual[self.held]
        # On held-out documents: products of the residuals with what the model leaves of the
        # candidate.
        agreement = held_codes.T @ residual - projected @ (held_basis.T @ residual)
        crossed = held_codes.T @ held_basis
        # Squared norm of the same rest, multiplied out so that sparse codes stay sparse.
        power = held_codes.power(2).sum(axis=0) - 2 * (projected * crossed).sum(axis=1)
        power += ((projected @ (held_basis.T @ held_basis)) * projected).sum(axis=1)
        # |r|^2 - |r - slope c|^2, summed over the scores.
        return (2 * slope * agreement - slope**2 * power[:, None]).sum(axis=1)
