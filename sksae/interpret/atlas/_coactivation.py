"""Which features fire on the same rows, and which point the same way."""

import numpy as np
import torch
from scipy import sparse

from sksae._threads import threads_for

_PRODUCTS = 2**22  # pairs counted in a block
_DIRECTIONS = 1024  # compared with all in a block
_MOST_PAIRS = 2**22
_LEAST = 5  # rows on which two features fire together, for a partner to be named


class Coactivation:
    """Counts of rows on which two features fire, on random rows where all would be too many.

    Pairs that hardly go together are forgotten once there are too many.

    Parameters
    ----------
    n_components : int
    """

    def __init__(self, n_components):
        self.n_rows = 0
        self.n_active = np.zeros(n_components, dtype=np.int64)
        self.counts = sparse.csr_array((n_components, n_components), dtype=np.int32)

    def add(self, block):
        """Count a block."""
        codes = sparse.csr_array(block.codes)
        active = np.diff(codes.indptr).astype(np.int64)
        order = np.argsort(block.gram[block.cell], kind="stable")
        n_rows = int(np.searchsorted(np.cumsum(active[order] ** 2), _PRODUCTS, side="right"))
        rows = np.sort(order[: max(n_rows, 1)])
        some = codes[rows]
        some = sparse.csr_array(
            (np.ones(some.nnz, dtype=np.int32), some.indices, some.indptr), shape=some.shape
        )
        self.n_rows += len(rows)
        self.n_active += np.bincount(some.indices, minlength=codes.shape[1])
        self.counts = self.counts + some.T.tocsr() @ some
        if self.counts.nnz > _MOST_PAIRS:
            self._prune()

    def _prune(self):
        counts = self.counts
        active, lengths = self.n_active.astype(np.float64), np.diff(counts.indptr)
        either = np.repeat(active, lengths)
        either += active[counts.indices]
        either -= counts.data
        jaccard = np.divide(counts.data, either, out=either)
        worst = np.partition(jaccard, len(jaccard) // 2)[len(jaccard) // 2]
        kept = jaccard > worst
        if kept.any():  # or all are as good
            indptr = np.append(0, np.cumsum(kept, dtype=np.int32))[counts.indptr]
            parts = (counts.data[kept], counts.indices[kept], indptr)
            self.counts = sparse.csr_array(parts, shape=counts.shape)

    def partners(self, size):
        """Return the features that fire along with each, the best first, -1 for none: (m, size)."""
        counts = self.counts.tocoo()
        kept = (counts.row != counts.col) & (counts.data >= _LEAST)
        row, column, data = counts.row[kept], counts.col[kept], counts.data[kept]
        jaccard = _jaccard(data, self.n_active[row], self.n_active[column])
        order = np.lexsort((column, -jaccard, row))
        row = row[order]
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        order, row, rank = order[rank < size], row[rank < size], rank[rank < size]
        partners = np.full((self.counts.shape[0], size), -1, dtype=np.int32)
        partners[row, rank] = column[order]
        return partners

    def together(self, features):
        """Return ``(jaccard, conditional)`` of each feature with those in its line, float32."""
        if not features.size:
            return (np.zeros(features.shape, dtype=np.float32),) * 2
        line = np.repeat(np.arange(len(features)), features.shape[1])
        other = np.maximum(features, 0).ravel()
        both = np.asarray(self.counts[line, other]).reshape(features.shape).astype(np.float64)
        mine = np.broadcast_to(self.n_active[:, None], features.shape)
        conditional = both / np.maximum(mine, 1)
        jaccard = _jaccard(both, mine, self.n_active[np.maximum(features, 0)])
        return jaccard.astype(np.float32), conditional.astype(np.float32)


def _jaccard(both, one, other):
    return both / np.maximum(one + other - both, 1)


def nearest_directions(components, size):
    """Return the features with the most similar directions and the cosines: (m, size) each."""
    components = np.asarray(components)
    with threads_for(2 * min(len(components), _DIRECTIONS) * components.size):
        return _nearest(torch.as_tensor(components, dtype=torch.float32), size)


def _nearest(directions, size):
    norms = torch.linalg.vector_norm(directions, dim=1, keepdim=True)
    directions = directions / norms.clamp(min=torch.finfo(torch.float32).tiny)
    features, cosines = [], []
    for start in range(0, len(directions), _DIRECTIONS):
        some = directions[start : start + _DIRECTIONS] @ directions.T
        some[torch.arange(len(some)), start + torch.arange(len(some))] = -2
        best = some.topk(size)
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
