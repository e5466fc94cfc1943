"""Latent scaling of a crosscoder: which of its latents are of one block, and which only look so."""

from dataclasses import dataclass

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sksae._arrays import to_torch
from sksae._coding import sparse_codes
from sksae._optional import needed
from sksae.metrics._row_blocks import check_dense, dense_rows, row_slices

_NO_SCALE = 1e-12


@dataclass(frozen=True)
class LatentScaling:
    """Whether latents are of one block of a `Crosscoder`, and what else explains that they look so.

    Norms say in which block a component is. That it is in no other is an artefact of the training
    where the latent explains something there (Minder et al. 2025).

    Parameters
    ----------
    blocks : tuple of str
        Names of the blocks.
    norms : ndarray of shape (n_components, n_blocks)
        Norms of the components in the blocks, each in the unit of its block.
    error : ndarray of shape (n_components, n_blocks)
        How much a latent explains of what a block is without it, relative to its strongest block
        (``nu^epsilon``); nan for a latent that never fires.
    reconstruction : ndarray of shape (n_components, n_blocks)
        The same of the block's reconstruction (``nu^r``).
    cosine : ndarray of shape (n_components, n_blocks)
        Cosine between the component in a block and in its strongest block; 0 where it is 0. A
        component of equal norms and a small cosine stands for something that both blocks tell
        apart, in different directions.
    n_active : ndarray of int of shape (n_components,)
        Rows on which each latent fires; ratios from a few rows are noise.

    See Also
    --------
    latent_scaling : Makes it.

    Examples
    --------
    >>> import numpy as np
    >>> from sksae.metrics import LatentScaling
    >>> norms = np.array([[1.0, 0.9], [1.0, 0.0], [1.0, 0.0], [0.1, 1.0]])
    >>> error = np.array([[1.0, 0.9], [1.0, 0.02], [1.0, 0.6], [0.1, 1.0]])
    >>> reconstruction = np.array([[1.0, 0.9], [1.0, 0.01], [1.0, 0.0], [0.8, 1.0]])
    >>> cosine = np.array([[1.0, 0.9], [1.0, 0.0], [1.0, 0.0], [0.5, 1.0]])
    >>> n_active = np.full(4, 100)
    >>> scaling = LatentScaling(("a", "b"), norms, error, reconstruction, cosine, n_active)
    >>> scaling.kinds().tolist()
    ['shared', 'exclusive', 'shrunken', 'decoupled']
    >>> scaling.strongest.tolist()
    ['a', 'a', 'a', 'b']
    """

    blocks: tuple
    norms: np.ndarray
    error: np.ndarray
    reconstruction: np.ndarray
    cosine: np.ndarray
    n_active: np.ndarray

    @property
    def strongest(self):
        """Name of the block in which each component has its largest norm."""
        return np.array(self.blocks, dtype=object)[self.norms.argmax(1)]

    def kinds(self, *, max_norm=0.2, max_error=0.2, max_reconstruction=0.5):
        """Return what each latent is.

        Parameters
        ----------
        max_norm : float, default=0.2
            Latents look exclusive if their norm in every other block is less than so many times
            that in the strongest. The defaults are those of Minder et al. (2025).
        max_error : float, default=0.2
            A latent that looks exclusive is ``"shrunken"`` if `error` is more in another block: the
            block has what the component stands for, and nothing reconstructs it.
        max_reconstruction : float, default=0.5
            It is ``"decoupled"`` if `reconstruction` is more in another block: other latents
            reconstruct it there.

        Returns
        -------
        kinds : ndarray of str of shape (n_components,)
            ``"shared"``, ``"exclusive"``, ``"shrunken"``, ``"decoupled"``, or ``"silent"`` for a
            latent that never fires.
        """
        is_weaker = np.arange(len(self.blocks)) != self.norms.argmax(1)[:, None]

        def most(ratios):
            return np.where(is_weaker, ratios, -np.inf).max(1)

        strongest = self.norms.max(1)
        with np.errstate(invalid="ignore"):
            choices = {
                "silent": self.n_active == 0,
                "shared": most(self.norms) >= max_norm * strongest,
                "shrunken": most(self.error) > max_error,
                "decoupled": most(self.reconstruction) > max_reconstruction,
            }
        return np.select(list(choices.values()), list(choices), "exclusive").astype(object)

    def to_frame(self, **thresholds):
        """Return a data frame with one line per latent.

        Parameters
        ----------
        **thresholds
            Passed on to `kinds`.

        Returns
        -------
        frame : pandas.DataFrame of shape (n_components, 3 + 4 * n_blocks)
            Columns `kind`, `strongest`, `n_active`, and per block `norm`, `error`,
            `reconstruction` and `cosine`, as ``"error, tuned"``.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        pd = needed("pandas", "LatentScaling.to_frame")
        columns = {
            "kind": self.kinds(**thresholds),
            "strongest": self.strongest,
            "n_active": self.n_active,
        }
        measures = {
            "norm": self.norms,
            "error": self.error,
            "reconstruction": self.reconstruction,
            "cosine": self.cosine,
        }
        for name, values in measures.items():
            columns |= {f"{name}, {block}": values[:, i] for i, block in enumerate(self.blocks)}
        return pd.DataFrame(columns)


def latent_scaling(crosscoder, X):
    """Measure whether components of a crosscoder that look exclusive to a block are.

    A component can be large in one block and 0 in another although the other block has the same
    concept: the penalty shrank it away ("complete shrinkage"), or the other block has it by other
    latents ("latent decoupling"). For each latent j, with codes f and direction d in its strongest
    block, and each block b,

    ``beta_b = argmin sum_i |beta f_ij d - y_i|^2``

    where y is what is left of the block without the latent, ``x_b - x^_b + f_j d_b``, or the
    block's reconstruction ``x^_b`` less its intercept. The ratios of beta in a block to beta in the
    strongest are near 0 for both if the component is exclusive [1]_.

    Parameters
    ----------
    crosscoder : Crosscoder
        A fitted crosscoder.
    X : array-like of shape (n_samples, n_features)
        Rows, better others than those of the training.

    Returns
    -------
    scaling : LatentScaling
        The ratios of each latent and block, what they say, and how far directions differ.

    Raises
    ------
    TypeError
        If it is no crosscoder.
    ValueError
        If there is one block, or blocks are of different widths: a direction of one must be one of
        the others, as in layers or versions of one model.

    See Also
    --------
    sksae.Crosscoder : Its `relative_norms` say which components look exclusive.

    References
    ----------
    .. [1] J. Minder, C. Dumas, C. Juang, B. Chughtai and N. Nanda, "Overcoming sparsity artifacts
       in crosscoders to interpret chat-tuning", NeurIPS 2025, arXiv:2504.02922.

    Examples
    --------
    The second block is the first, less half of its features:

    >>> import numpy as np
    >>> from sksae import BatchTopKSAE, Crosscoder
    >>> from sksae.metrics import latent_scaling
    >>> rng = np.random.default_rng(0)
    >>> codes = rng.exponential(size=(2000, 12)) * (rng.random((2000, 12)) < 0.1)
    >>> directions = rng.normal(size=(12, 16))
    >>> X = np.hstack([codes @ directions, codes[:, :6] @ directions[:6]])
    >>> crosscoder = Crosscoder(BatchTopKSAE(12, k=1.2, random_state=0), blocks=2).fit(X)
    >>> np.unique(latent_scaling(crosscoder, X).kinds(), return_counts=True)
    (array(['exclusive', 'shared'], dtype=object), array([6, 6]))
    """
    if not hasattr(crosscoder, "relative_norms"):
        raise TypeError(f"A fitted Crosscoder is needed. Got {crosscoder!r}.")
    check_is_fitted(crosscoder)
    widths = list(crosscoder.blocks_.values())
    if len(widths) < 2 or len(set(widths)) > 1:
        raise ValueError(
            f"latent_scaling compares directions of several blocks of one width. Got the blocks "
            f"{crosscoder.blocks_}."
        )
    scale, intercept, components = (
        to_torch(array).double().numpy(force=True)
        for array in (crosscoder.scale_, crosscoder.intercept_, crosscoder.components_)
    )
    # Components as (m, n_blocks, width), in the unit of training.
    parts = (components / scale).reshape(len(components), len(widths), -1)
    codes, rows = sparse_codes(crosscoder, X, len(components)), check_dense(X, "X")
    chunks = (
        (codes[chunk], (dense_rows(rows, chunk, "X") - intercept) / scale)
        for chunk in row_slices(rows)
    )
    norms = np.linalg.norm(parts, axis=2)
    ratios = _ratios(chunks, parts, norms.argmax(1))
    return LatentScaling(tuple(crosscoder.blocks_), norms / widths[0] ** 0.5, *ratios)


def _ratios(chunks, parts, strongest):
    """Return the ratios for errors and for reconstructions, the cosines, and rows with a code.

    Parameters
    ----------
    chunks : iterable of (codes, x)
        CSR of shape (n, m), and rows less the intercept of shape (n, n_blocks * width), in the unit
        of training.
    parts : ndarray of shape (m, n_blocks, width)
        Components in the same unit.
    strongest : ndarray of int of shape (m,)
        The strongest block of each.
    """
    m, n_blocks, _ = parts.shape
    directions = parts[np.arange(m), strongest]
    # Sums over rows of f <d, y>, for y of errors and of reconstructions, and of f^2.
    of_error, of_reconstruction = np.zeros((2, m, n_blocks))
    squares, n_active = np.zeros(m), np.zeros(m, dtype=np.int64)
    for codes, x in chunks:
        codes = codes.astype(np.float64)
        reconstruction = codes @ parts.reshape(m, -1)
        for sums, y in ((of_error, x - reconstruction), (of_reconstruction, reconstruction)):
            by_latent = (codes.T @ y).reshape(parts.shape)
            sums += np.einsum("mbw,mw->mb", by_latent, directions)
        squares += np.bincount(codes.indices, codes.data**2, minlength=m)
        n_active += np.bincount(codes.indices, minlength=m)
    overlap = np.einsum("mbw,mw->mb", parts, directions)  # <d_b, d>
    norms = np.linalg.norm(parts, axis=2)
    cosine = overlap / (norms * norms.max(1, keepdims=True)).clip(min=_NO_SCALE)
    with np.errstate(invalid="ignore", divide="ignore"):
        # An error leaves out what the latent itself adds to the block, f d_b. The betas are these
        # over <d, d>, which the ratios do not need.
        betas = of_error / squares[:, None] + overlap, of_reconstruction / squares[:, None]
        error, reconstruction = (
            beta / np.abs(beta[np.arange(m), strongest, None]).clip(min=_NO_SCALE) for beta in betas
        )
    return error, reconstruction, cosine, n_active
