"""Features that fire on the same rows, and features with similar directions."""

import numpy as np
import torch
from scipy import sparse

from sksae._runs import ranks_in_runs
from sksae._threads import threads_for

_PRODUCTS = 2**22  # pairs counted per block
_DIRECTIONS = 1024  # compared with all others at a time
_MOST_PAIRS = 2**22
_LEAST_SHARED = 5  # rows on which two features fire together, for a partner to be named


class Coactivation:
    """Counts of rows on which two features fire, on random rows where all would be too many.

    Once there are too many pairs, those with the smaller Jaccard index are dropped.

    Parameters
    ----------
    n_components : int
    """

    def __init__(self, n_components):
        self.n_rows = 0
        self.n_active = np.zeros(n_components, dtype=np.int64)  # of the counted rows
        # Symmetric, the diagonal included: rows on which both features fire.
        self.counts = sparse.csr_array((n_components, n_components), dtype=np.int32)

    def add(self, block):
        """Count the pairs of a block, or of as many of its rows as the budget allows."""
        codes = sparse.csr_array(block.codes)
        n_active = np.diff(codes.indptr).astype(np.int64)  # (n_rows,): codes of each row
        # A row with n codes has n**2 pairs. Rows in order of their hashes are in random order.
        order = np.argsort(block.gram[block.cell], kind="stable")
        n_rows = int(np.searchsorted(np.cumsum(n_active[order] ** 2), _PRODUCTS, side="right"))
        rows = np.sort(order[: max(n_rows, 1)])
        active = codes[rows]
        ones = np.ones(active.nnz, dtype=np.int32)
        active = sparse.csr_array((ones, active.indices, active.indptr), shape=active.shape)
        self.n_rows += len(rows)
        self.n_active += np.bincount(active.indices, minlength=codes.shape[1])
        self.counts = self.counts + active.T.tocsr() @ active
        if self.counts.nnz > _MOST_PAIRS:
            self._prune()

    def _prune(self):
        """Drop the half of the pairs with the smaller Jaccard index."""
        counts = self.counts
        n_active = self.n_active.astype(np.float64)
        # One array of the length of all pairs, changed in place, for the sake of memory.
        union = np.repeat(n_active, np.diff(counts.indptr))
        union += n_active[counts.indices]
        union -= counts.data
        jaccard = np.divide(counts.data, union, out=union)
        median = np.partition(jaccard, len(jaccard) // 2)[len(jaccard) // 2]
        is_kept = jaccard > median
        if is_kept.any():  # none if all are equal
            # Entries kept before each entry; indptr[i] of the old rows becomes that of the new.
            indptr = np.append(0, np.cumsum(is_kept, dtype=np.int32))[counts.indptr]
            parts = (counts.data[is_kept], counts.indices[is_kept], indptr)
            self.counts = sparse.csr_array(parts, shape=counts.shape)

    def partners(self, size):
        """Return the features that fire along with each, by their Jaccard index.

        Parameters
        ----------
        size : int

        Returns
        -------
        partners : ndarray of shape (n_components, size)
            The largest index first, -1 where there are no more.
        """
        counts = self.counts.tocoo()
        is_pair = (counts.row != counts.col) & (counts.data >= _LEAST_SHARED)
        row, column, shared = counts.row[is_pair], counts.col[is_pair], counts.data[is_pair]
        jaccard = _jaccard(shared, self.n_active[row], self.n_active[column])
        order = np.lexsort((column, -jaccard, row))
        row, column = row[order], column[order]
        rank = ranks_in_runs(row)
        first = rank < size
        partners = np.full((self.counts.shape[0], size), -1, dtype=np.int32)
        partners[row[first], rank[first]] = column[first]
        return partners

    def indices(self, others):
        """Return how each feature fires together with some others.

        Parameters
        ----------
        others : ndarray of shape (n_components, size)
            Features, line by line; -1 for none gives values without a meaning.

        Returns
        -------
        jaccard, conditional : ndarray of shape (n_components, size), dtype=float32
            Rows of both over rows of one of them, and over rows of the feature.
        """
        if not others.size:
            return (np.zeros(others.shape, dtype=np.float32),) * 2
        line = np.repeat(np.arange(len(others)), others.shape[1])
        column = np.maximum(others, 0)
        shared = np.asarray(self.counts[line, column.ravel()])
        shared = shared.reshape(others.shape).astype(np.float64)
        n_active = np.broadcast_to(self.n_active[:, None], others.shape)
        conditional = shared / np.maximum(n_active, 1)
        jaccard = _jaccard(shared, n_active, self.n_active[column])
        return jaccard.astype(np.float32), conditional.astype(np.float32)


def _jaccard(shared, n_first, n_second):
    return shared / np.maximum(n_first + n_second - shared, 1)


def neighbor_arrays(coactivation, components, n_neighbors):
    """Return the arrays of an atlas about related features.

    Parameters
    ----------
    coactivation : Coactivation
        Counts of the whole pass.
    components : array-like of shape (n_components, n_features) or None
        Directions. Without them there are no nearest features, no cosines and no map.
    n_neighbors : int
        Features per list, at most.
    """
    size = max(min(n_neighbors, len(coactivation.n_active) - 1), 0)
    partners = coactivation.partners(size)
    neighbors = {"partner": partners}
    arrays = {}
    if components is not None:
        components = np.asarray(components, dtype=np.float32)
        neighbors["nearest"], arrays["nearest_cosine"] = nearest_directions(components, size)
        arrays["map"] = map_of(components)
        unit = components / np.maximum(np.linalg.norm(components, axis=1, keepdims=True), 1e-30)
        cosine = arrays["partner_cosine"] = np.empty(partners.shape, dtype=np.float32)
        # One column of partners at a time: all would be an array of shape (m, size, n_features).
        for rank, partner in enumerate(np.maximum(partners, 0).T):
            cosine[:, rank] = np.einsum("ij,ij->i", unit, unit[partner])
    else:
        arrays["partner_cosine"] = np.full(partners.shape, np.nan, dtype=np.float32)
    for name, features in neighbors.items():
        jaccard, conditional = coactivation.indices(features)
        arrays |= {name: features, f"{name}_jaccard": jaccard, f"{name}_conditional": conditional}
    return arrays


def nearest_directions(components, size):
    """Return the features with the most similar directions, and the cosines: (m, size) each."""
    components = np.asarray(components)
    with threads_for(2 * min(len(components), _DIRECTIONS) * components.size):
        return _nearest(torch.as_tensor(components, dtype=torch.float32), size)


def _nearest(directions, size):
    norms = torch.linalg.vector_norm(directions, dim=1, keepdim=True)
    directions = directions / norms.clamp(min=torch.finfo(torch.float32).tiny)
    features, cosines = [], []
    for start in range(0, len(directions), _DIRECTIONS):
        block = directions[start : start + _DIRECTIONS] @ directions.T
        line = torch.arange(len(block))
        block[line, start + line] = -2  # less than any cosine: no feature is its own neighbour
        best = block.topk(size)
        features.append(best.indices.numpy().astype(np.int32))
        cosines.append(best.values.numpy())
    return np.concatenate(features), np.concatenate(cosines)


def map_of(components):
    """Return the directions in two dimensions, by PCA: float32 of shape (m, 2)."""
    from sklearn.decomposition import PCA

    components = np.asarray(components, dtype=np.float32)
    if min(components.shape) < 2:
        return np.pad(components[:, :1], ((0, 0), (0, 1)))
    pca = PCA(
        2,
        svd_solver="covariance_eigh" if components.shape[1] < 4096 else "randomized",
        random_state=0,
    )
    return pca.fit_transform(components).astype(np.float32)
