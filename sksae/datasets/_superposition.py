"""Data with a known dictionary and known codes: sparse features in superposition."""

import math
from numbers import Integral, Real

import numpy as np
from scipy import sparse
from scipy.special import ndtr
from sklearn.utils import check_random_state, check_scalar, gen_batches

BLOCK_SIZE = 2**22  # draws per block: 16 MB of float32
TIGHT_FRAME_STEPS = 10


def make_superposition(
    n_samples=1000,
    n_features=16,
    n_components=32,
    *,
    density=0.05,
    min_density=None,
    density_exponent=0.5,
    correlation=0.0,
    n_factors=8,
    parents=None,
    exclusive=False,
    magnitude=1.0,
    magnitude_std=0.2,
    bias=0.0,
    noise=0.0,
    orthogonalize=True,
    sparse_output=False,
    dtype=np.float32,
    random_state=None,
):
    r"""Generate samples that are sparse sums of more directions than dimensions.

    The data are ``X = codes @ dictionary + bias + noise``. Each of the `n_components` directions
    fires on a small share of the samples, with a non-negative code. The result that a sparse
    autoencoder should have is thereby known.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of samples.
    n_features : int, default=16
        Dimension of the data.
    n_components : int, default=32
        Number of directions. They are in superposition if it exceeds `n_features`.
    density : float or array-like of shape (n_components,), default=0.05
        Share of the samples on which each direction fires.
    min_density : float, default=None
        If given, densities fall from `density`, for the first direction, to `min_density`, for
        the last, as a power law.
    density_exponent : float, default=0.5
        The power law: a density is linear in ``rank ** -density_exponent``.
    correlation : float, default=0.0
        Share of the variance, between 0 and 1, that common factors have in the Gaussian variables
        whose thresholds decide what fires. At 0 directions fire independently. It does not change
        the densities.
    n_factors : int, default=8
        Number of common factors.
    parents : array-like of int, of shape (n_components,), default=None
        A hierarchy: a direction fires only on samples on which its parent does. -1 marks a root,
        and a parent must come before its children. A direction cannot be denser than its parent.
        ``np.maximum((np.arange(n_components) - n_roots) // n_children, -1)`` are trees with
        `n_children` branches everywhere.
    exclusive : bool, default=False
        Whether at most one of the children of the same parent fires on a sample. Their densities
        must then add up to at most their parent's. Roots are never exclusive.
    magnitude : float or array-like of shape (n_components,), default=1.0
        Mean of the codes that fire, before negative draws are set to zero.
    magnitude_std : float or array-like of shape (n_components,), default=0.2
        Their standard deviation.
    bias : float or array-like of shape (n_features,), default=0.0
        Constant added to all samples. A float is the norm of a bias in a random direction.
    noise : float, default=0.0
        Standard deviation of Gaussian noise added to each element of `X`.
    orthogonalize : bool, default=True
        Whether random directions are spread evenly: made orthogonal if `n_components` is at most
        `n_features`, and otherwise as close as unit rows get to a tight frame, in which the sum of
        squared cosines between directions is least.
    sparse_output : bool, default=False
        Whether `codes` is a CSR matrix; then no dense (n_samples, n_components) array ever exists.
    dtype : {numpy.float32, numpy.float64}, default=numpy.float32
        Data type of all that is returned.
    random_state : int, RandomState instance or None, default=None
        Determines the dictionary, the codes and the noise. Pass an int for reproducible output
        across several calls.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        The samples.
    dictionary : ndarray of shape (n_components, n_features)
        The directions, rows of unit norm.
    codes : {ndarray, csr_array} of shape (n_samples, n_components)
        The codes, non-negative.

    Raises
    ------
    ValueError
        If a parameter is out of range, or the densities do not fit the hierarchy.

    See Also
    --------
    sklearn.datasets.make_sparse_coded_signal : A fixed number of Gaussian codes per sample.

    Notes
    -----
    The mean number of directions that fire on a sample is the sum of the densities (as long as
    negative magnitudes are rare). With `parents`, common factors act on the roots, and children are
    drawn given their parents, so densities hold exactly in hierarchies too.

    Superposition is the name of [1]_. The power law, the correlation and the hierarchy follow
    [2]_, the tight frame [3]_. Gradient descent on the sum of squared cosines reaches the same sum,
    but with adaptive step sizes it can make some directions nearly equal.

    References
    ----------
    .. [1] Elhage, N. et al. (2022). Toy models of superposition. Transformer Circuits Thread.
    .. [2] Chanin, D. and Garriga-Alonso, A. (2026). SynthSAEBench: evaluating sparse autoencoders
       on scalable realistic synthetic data. arXiv:2602.14687.
    .. [3] Tropp, J. A., Dhillon, I. S., Heath, R. W. and Strohmer, T. (2005). Designing structured
       tight frames via an alternating projection method. IEEE Transactions on Information Theory
       51(1), 188-209.

    Examples
    --------
    >>> import numpy as np
    >>> from sksae.datasets import make_superposition
    >>> X, dictionary, codes = make_superposition(random_state=0)
    >>> X.shape, dictionary.shape, codes.shape
    ((1000, 16), (32, 16), (1000, 32))
    >>> bool(np.allclose(X, codes @ dictionary, atol=1e-6))
    True

    Four times as many directions as dimensions, with a power law:

    >>> X, dictionary, codes = make_superposition(
    ...     500, n_features=32, n_components=128, density=0.1, min_density=0.01, random_state=0
    ... )
    """
    _check_counts(n_samples=n_samples, n_features=n_features, n_components=n_components)
    dtype = _check_scalars(n_factors, correlation, noise, dtype)
    densities = _densities(density, min_density, density_exponent, n_components)
    hierarchy = _Hierarchy(parents, densities, exclusive)
    magnitude = _per_column(magnitude, "magnitude", n_components)
    magnitude_std = _per_column(magnitude_std, "magnitude_std", n_components)
    rng = np.random.default_rng(check_random_state(random_state).randint(np.iinfo(np.int32).max))
    dictionary = _directions(rng, n_components, n_features, orthogonalize)
    bias = _bias(rng, bias, n_features)
    # (n_components, n_factors), rows of norm 1
    loadings = _unit(rng.standard_normal((n_components, n_factors), dtype=np.float32))
    X, blocks = np.empty((n_samples, n_features), dtype=dtype), []
    for rows in gen_batches(n_samples, max(1, BLOCK_SIZE // n_components)):
        uniform = _uniform(rng, rows.stop - rows.start, loadings, correlation, hierarchy.roots)
        codes = _codes(rng, hierarchy.fires(uniform), magnitude, magnitude_std)
        x = codes @ dictionary + bias  # (b, n_features)
        X[rows] = x + noise * rng.standard_normal(x.shape) if noise else x
        blocks.append(codes.astype(dtype))
    codes = sparse.vstack(blocks, format="csr")
    return X, dictionary.astype(dtype), codes if sparse_output else codes.toarray()


class _Hierarchy:
    """Conditions under which directions fire, given their parents.

    Direction i fires if its parent does and the uniform draw of column ``source[i]`` lies in
    ``[low[i], high[i])``. Exclusive siblings share a column and divide its interval.
    """

    def __init__(self, parents, densities, exclusive):
        n_components = len(densities)
        self.parents = _check_parents(parents, n_components)
        self.roots = np.flatnonzero(self.parents < 0)
        depth = np.zeros(n_components, dtype=np.intp)
        self.source = np.arange(n_components)
        self.low, self.high = np.zeros(n_components), np.array(densities, dtype=np.float64)
        # Of each parent: its first child, and the part of the interval that its children use.
        eldest, used = {}, np.zeros(n_components)
        for child in np.flatnonzero(self.parents >= 0):
            parent = self.parents[child]
            depth[child] = depth[parent] + 1
            share = densities[child] / densities[parent] if densities[child] else 0.0
            if exclusive:
                self.source[child] = eldest.setdefault(parent, child)
                self.low[child] = used[parent]
                used[parent] += share
            self.high[child] = self.low[child] + share
            if self.high[child] > 1 + 1e-6:
                raise ValueError(
                    f"Direction {child} {'and its siblings are' * exclusive or 'is'} denser than "
                    f"the parent, direction {parent}. Lower the density of the children."
                )
        # Directions by their depth: a level is decided after the one of its parents.
        self.levels = [np.flatnonzero(depth == level) for level in range(1, depth.max() + 1)]

    def fires(self, uniform):
        """Turn uniform draws into decisions, both of shape (b, n_components)."""
        # Siblings that exclude each other share the draw of the eldest.
        uniform = uniform[:, self.source]
        # (b, n_components)
        fires = (uniform >= self.low.astype(np.float32)) & (uniform < self.high.astype(np.float32))
        for level in self.levels:  # a child fires only where its parent does
            fires[:, level] &= fires[:, self.parents[level]]
        return fires


def _uniform(rng, n_samples, loadings, correlation, roots):
    """Return uniform draws (b, n_components) in which the roots follow a Gaussian copula."""
    uniform = rng.random((n_samples, len(loadings)), dtype=np.float32)
    if correlation:
        common = rng.standard_normal((n_samples, loadings.shape[1]), dtype=np.float32)
        specific = rng.standard_normal((n_samples, len(roots)), dtype=np.float32)
        # (b, n_roots), standard normal with correlated columns
        gaussian = math.sqrt(correlation) * common @ loadings[roots].T
        gaussian += math.sqrt(1 - correlation) * specific
        # The normal distribution function makes them uniform again.
        uniform[:, roots] = ndtr(gaussian)
    return uniform


def _codes(rng, fires, magnitude, magnitude_std):
    """Return codes (b, n_components) as CSR in float64, where `fires` is true."""
    columns = np.nonzero(fires)[1]  # component of each code, row by row
    values = magnitude[columns] + magnitude_std[columns] * rng.standard_normal(len(columns))
    row_ends = np.r_[0, np.count_nonzero(fires, axis=1).cumsum()]
    codes = sparse.csr_array((np.maximum(values, 0), columns, row_ends), shape=fires.shape)
    codes.eliminate_zeros()
    return codes


def _directions(rng, n_components, n_features, orthogonalize):
    """Draw unit rows (n_components, n_features), spread evenly if `orthogonalize`."""
    rows = _unit(rng.standard_normal((n_components, n_features)))
    for _ in range(TIGHT_FRAME_STEPS * orthogonalize):
        # Alternate between the nearest tight frame and the nearest unit rows.
        # Gram matrices are as small as they can be.
        wide = rows if n_components <= n_features else rows.T
        values, vectors = np.linalg.eigh(wide @ wide.T)
        # Directions that the rows do not have.
        values = np.maximum(values, np.finfo(np.float64).eps * values[-1])
        # (W W^T)^(-1/2) W, the nearest matrix with orthonormal rows
        frame = (vectors / np.sqrt(values)) @ (vectors.T @ wide)
        rows = _unit(frame if n_components <= n_features else frame.T)
    return rows


def _unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _bias(rng, bias, n_features):
    direction = _unit(rng.standard_normal((1, n_features)))[0]
    return bias * direction if np.ndim(bias) == 0 else _per_column(bias, "bias", n_features)


def _densities(density, min_density, exponent, n_components):
    """Return the firing probability of each direction, (n_components,)."""
    densities = _per_column(density, "density", n_components)
    if min_density is not None:
        if np.ndim(density) != 0 or not min_density <= density:
            raise ValueError("min_density needs a density that is a single number, and not less.")
        powers = np.arange(1.0, n_components + 1) ** -check_scalar(
            exponent, "density_exponent", Real, min_val=0, include_boundaries="neither"
        )
        # Powers go from 1 down, densities from `density` to `min_density`.
        span = powers[0] - powers[-1] if n_components > 1 else 1.0
        densities = min_density + (density - min_density) * (powers - powers[-1]) / span
        densities[0] = density
    if not ((densities >= 0) & (densities <= 1)).all():
        raise ValueError("Densities must lie between 0 and 1.")
    return densities


def _per_column(value, name, n_columns):
    """Broadcast a number, or one number per column, to float64 of shape (n_columns,)."""
    values = np.asarray(value, dtype=np.float64)
    if values.shape not in ((), (n_columns,)) or not np.isfinite(values).all():
        raise ValueError(f"{name} must be a finite number or {n_columns} of them. Got {value!r}.")
    return np.broadcast_to(values, n_columns)


def _check_parents(parents, n_components):
    if parents is None:
        return np.full(n_components, -1)
    parents = np.asarray(parents)
    if parents.shape != (n_components,) or parents.dtype.kind not in "iu":
        raise ValueError(f"parents must hold {n_components} integers, one per direction.")
    if (parents < -1).any() or (parents >= np.arange(n_components)).any():
        raise ValueError("A parent must be -1 or come before its children.")
    return parents


def _check_counts(**counts):
    for name, value in counts.items():
        check_scalar(value, name, Integral, min_val=1)


def _check_scalars(n_factors, correlation, noise, dtype):
    """Raise for a number out of range; return `dtype` as a numpy dtype."""
    _check_counts(n_factors=n_factors)
    check_scalar(correlation, "correlation", Real, min_val=0, max_val=1)
    check_scalar(noise, "noise", Real, min_val=0)
    if np.dtype(dtype) not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f"dtype must be numpy.float32 or numpy.float64. Got {dtype!r} instead.")
    return np.dtype(dtype)
