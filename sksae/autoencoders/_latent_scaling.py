"""Latent scaling of a crosscoder: which of its latents are of one block, and which only look so."""

from dataclasses import dataclass

import numpy as np

from sksae._arrays import row_chunks, to_torch
from sksae._optional import needed
from sksae.autoencoders import _inference

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
    n_active : ndarray of int of shape (n_components,)
        Rows on which each latent fires; ratios from a few rows are noise.

    See Also
    --------
    sksae.Crosscoder.latent_scaling : Makes it.

    Examples
    --------
    >>> import numpy as np
    >>> from sksae.autoencoders import LatentScaling
    >>> norms = np.array([[1.0, 0.9], [1.0, 0.0], [1.0, 0.0], [0.1, 1.0]])
    >>> error = np.array([[1.0, 0.9], [1.0, 0.02], [1.0, 0.6], [0.1, 1.0]])
    >>> reconstruction = np.array([[1.0, 0.9], [1.0, 0.01], [1.0, 0.0], [0.8, 1.0]])
    >>> scaling = LatentScaling(("a", "b"), norms, error, reconstruction, np.full(4, 100))
    >>> scaling.kinds().tolist()
    ['shared', 'exclusive', 'shrunken', 'decoupled']
    >>> scaling.strongest.tolist()
    ['a', 'a', 'a', 'b']
    """

    blocks: tuple
    norms: np.ndarray
    error: np.ndarray
    reconstruction: np.ndarray
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
        others = np.arange(len(self.blocks)) != self.norms.argmax(1)[:, None]

        def most(ratios):
            return np.where(others, ratios, -np.inf).max(1)

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
        frame : pandas.DataFrame of shape (n_components, 3 + 3 * n_blocks)
            Columns `kind`, `strongest`, `n_active`, and per block `norm`, `error` and
            `reconstruction`, as ``"error, tuned"``.

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
        for name in ("norm", "error", "reconstruction"):
            values = getattr(self, "norms" if name == "norm" else name)
            columns |= {f"{name}, {b}": values[:, i] for i, b in enumerate(self.blocks)}
        return pd.DataFrame(columns)


def scaling_ratios(encoder, X, components, *, intercept, scale, n_blocks):
    """Return the ratios of latent scaling, in float64.

    Parameters
    ----------
    encoder : Encoder
    X : array of shape (n, n_blocks * width)
    components : ndarray of shape (m, n_blocks * width)
        In the unit of training.
    intercept, scale : ndarray of shape (n_blocks * width,)
        Rows in the unit of training are ``X / scale``.
    n_blocks : int

    Returns
    -------
    error, reconstruction : ndarray of shape (m, n_blocks)
    n_active : ndarray of int of shape (m,)
    """
    m = len(components)
    parts = components.reshape(m, n_blocks, -1)
    norms = np.linalg.norm(parts, axis=2)
    # (m, width), the direction of each latent in its strongest block
    directions = parts[np.arange(m), norms.argmax(1)]
    # Sums over rows of f <d, y>, of the errors and of the reconstructions, and of f^2.
    of_error, of_reconstruction = np.zeros((2, m, n_blocks))
    squares, n_active = np.zeros(m), np.zeros(m, dtype=np.int64)
    for rows in row_chunks(X.shape[0], max(components.shape)):
        codes = _inference.csr_codes(encoder, X[rows]).astype(np.float64)
        x = (to_torch(X[rows]).double().numpy(force=True) - intercept) / scale
        reconstruction = codes @ components
        for sums, y in ((of_error, x - reconstruction), (of_reconstruction, reconstruction)):
            by_latent = (codes.T @ y).reshape(m, n_blocks, -1)
            sums += np.einsum("mbw,mw->mb", by_latent, directions)
        squares += np.asarray(codes.power(2).sum(axis=0)).ravel()
        n_active += codes.getnnz(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        # An error leaves out what the latent itself adds to the block: f d_b.
        own = np.einsum("mbw,mw->mb", parts, directions)
        betas = of_error / squares[:, None] + own, of_reconstruction / squares[:, None]
        strongest = norms.argmax(1)[:, None]
        error, reconstruction = (
            beta / np.abs(np.take_along_axis(beta, strongest, 1)).clip(min=_NO_SCALE)
            for beta in betas
        )
    return error, reconstruction, n_active
