"""Map of a dictionary: latents with similar directions are near each other."""

from collections.abc import Mapping

import numpy as np
from sklearn.decomposition import PCA

from sksae._params import Int, Option, Seed, check_option
from sksae._signs import GREY, INK, place_labels
from sksae.displays._axes import BLUE, check_matplotlib, percent, place, titled
from sksae.displays._plotted_data import as_array, fitted_step, latent_labels, set_names

_NAMES = {"pca": "principal component", "umap": "UMAP"}
_NEIGHBORS, _MIN_DISTANCE = 15, 0.05


class DecoderMapDisplay:
    """Map of the directions of a dictionary, coloured by how often each latent fires.

    It is recommended to use :meth:`from_estimator` or :meth:`from_directions`.

    Parameters
    ----------
    positions : array-like of shape (n_components, 2)
        Coordinates of each latent, such as the `map_` of an atlas.
    density : array-like of shape (n_components,), default=None
        Share of the rows on which each latent fires; those that never fire are grey crosses.
    axis_name : str, default=""
        Name of the axes, such as "principal component".

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the map.
    figure_ : matplotlib Figure
        Figure with the axes.
    points_ : matplotlib PathCollection
        Latents that fire, the most frequent ones below the others.
    dead_ : matplotlib PathCollection
        Latents that never fire.
    colorbar_ : matplotlib Colorbar or None
        Colour bar.
    texts_ : list of matplotlib Annotation
        Names of latents.

    See Also
    --------
    sksae.metrics.nearest_atoms : Nearest atoms, without the distortion of a map.

    References
    ----------
    L. McInnes, J. Healy, J. Melville: UMAP: Uniform Manifold Approximation and Projection for
    Dimension Reduction, 2018. https://arxiv.org/abs/1802.03426

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sksae import TopKSAE
    >>> from sksae.datasets import make_superposition
    >>> from sksae.displays import DecoderMapDisplay
    >>> X, _, _ = make_superposition(500, 8, 16, random_state=0)
    >>> sae = TopKSAE(16, k=2, max_iter=5, random_state=0).fit(X)
    >>> display = DecoderMapDisplay.from_estimator(sae, annotate={3: "third"})
    >>> display.positions.shape, display.texts_[0].get_text()
    ((16, 2), '3 third')
    >>> plt.close(display.figure_)
    """

    def __init__(self, *, positions, density=None, axis_name=""):
        self.positions = positions
        self.density = density
        self.axis_name = axis_name

    @classmethod
    def from_estimator(
        cls, estimator, *, method="pca", random_state=0, annotate=(), ax=None, **kwargs
    ):
        """Draw the dictionary of a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            Fitted, with `components_`; a pipeline that ends in one, or a search over one. Its
            `activation_frequency_`, if it has one, gives the colours.
        method : {"pca", "umap"}, default="pca"
            Projection of the directions; see :meth:`from_directions`.
        random_state : int, RandomState instance or None, default=0
            Seed of the projection.
        annotate : mapping of int to str, or list of int, default=()
            Latents whose number is written beside the point, with the name of the mapping or, in a
            list, the name that the estimator has for it.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Passed on to :meth:`plot`.

        Returns
        -------
        display : DecoderMapDisplay
            The display, drawn.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        step = fitted_step(estimator, "components_")
        if not isinstance(annotate, Mapping):
            names = set_names(step)
            annotate = {latent: names.get(latent, "") for latent in annotate}
        return cls.from_directions(
            as_array(step.components_),
            density=as_array(getattr(step, "activation_frequency_", None)),
            method=method,
            random_state=random_state,
            annotate=annotate,
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_directions(
        cls, directions, *, density=None, method="pca", random_state=0, ax=None, **kwargs
    ):
        """Draw directions.

        Parameters
        ----------
        directions : array-like of shape (n_components, n_features)
            The rows of a dictionary.
        density : array-like of shape (n_components,), default=None
            Share of the rows on which each latent fires.
        method : {"pca", "umap"}, default="pca"
            "pca" takes the first two principal components of the directions at length 1; "umap"
            needs umap-learn and keeps neighbourhoods by cosine (15 neighbours, least distance
            0.05) rather than distances.
        random_state : int, RandomState instance or None, default=0
            Seed of the projection.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Passed on to :meth:`plot`.

        Returns
        -------
        display : DecoderMapDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib, or for ``method="umap"`` umap-learn, is not installed.
        ValueError
            If there are fewer than three directions.
        """
        check_matplotlib(f"{cls.__name__}.from_directions")
        check_option("method", method, Option(*_NAMES))
        check_option("random_state", random_state, Seed())
        directions = np.asarray(directions)
        if directions.ndim != 2 or min(directions.shape[0], directions.shape[1] + 1) < 3:
            raise ValueError(
                "A map needs at least three directions of at least two numbers. Got shape "
                f"{directions.shape} instead."
            )
        norms = np.linalg.norm(directions, axis=1, keepdims=True)
        directions = directions / np.where(norms > 0, norms, 1)  # zero directions stay zero
        layout = {"pca": _principal, "umap": _umap}[method]
        display = cls(
            positions=layout(directions, random_state), density=density, axis_name=_NAMES[method]
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax=None, *, annotate=(), cmap="viridis_r", **kwargs):
        """Draw the map.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        annotate : mapping of int to str, or list of int, default=()
            Latents whose number, and name if there is one, is written beside the point.
        cmap : str or Colormap, default="viridis_r"
            Colours from rare to frequent.
        **kwargs : dict
            Passed on to :meth:`matplotlib.axes.Axes.scatter`.

        Returns
        -------
        display : DecoderMapDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If positions, densities and annotations do not fit together.
        """
        points, density, names = self._checked(annotate)
        check_matplotlib("DecoderMapDisplay.plot")
        from matplotlib.colors import LogNorm

        ax = place(self, ax, (6.4, 5.2))
        # Rare latents are drawn last, on top of frequent ones.
        order = np.argsort(-density, kind="stable")
        fires, dead = order[density[order] > 0], order[density[order] == 0]
        # Points of area by the number of latents.
        style = {"s": float(np.clip(8000 / len(points), 4, 40)), "linewidths": 0, **kwargs}
        if self.density is None:
            style = {"color": BLUE, **style}
        elif len(fires):
            low, high = density[fires].min(), density[fires].max()
            # A logarithmic scale needs two ends.
            norm = LogNorm(low, high) if low < high else LogNorm(low / 2, min(2 * high, 1))
            style |= {"c": density[fires], "cmap": cmap, "norm": norm}
        self.points_ = ax.scatter(*points[fires].T, **style)
        self.dead_ = ax.scatter(*points[dead].T, s=style["s"], c=GREY, marker="x", linewidths=0.8)
        self.colorbar_ = None
        if self.density is not None and len(fires):
            self.colorbar_ = _colorbar(ax, self.points_)
        if len(dead):
            self.dead_.set_label(f"{len(dead)} dead")
            ax.legend(handles=[self.dead_], frameon=False, loc="upper right")
        marked = points[list(names)]
        ax.scatter(*marked.T, s=50, facecolors="none", edgecolors=INK, linewidths=1)
        if self.axis_name:
            ax.set(xlabel=f"{self.axis_name} 1", ylabel=f"{self.axis_name} 2")
        ax.set_aspect("equal", "datalim")
        ax.tick_params(labelsize=8)
        titled(ax, "Directions of the latents")
        self.texts_ = place_labels(ax, marked, latent_labels(names, names))
        return self

    def _checked(self, annotate):
        """Return points, densities (1 where they are not known) and names by number."""
        points = np.asarray(self.positions, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(f"positions must have two columns. Got shape {points.shape} instead.")
        density = np.ones(len(points)) if self.density is None else np.asarray(self.density)
        if density.shape != (len(points),):
            raise ValueError(f"density has shape {density.shape}; ({len(points)},) is needed.")
        pairs = annotate.items() if isinstance(annotate, Mapping) else ((f, "") for f in annotate)
        names = {feature: str(name) for feature, name in pairs}
        for feature in names:
            if not Int(0, len(points) - 1).accepts(feature):
                raise ValueError(
                    f"annotate must name latents between 0 and {len(points) - 1}. "
                    f"Got {feature!r} instead."
                )
        if not ((density >= 0) & (density <= 1)).all():
            raise ValueError("density must have one share between 0 and 1 per latent.")
        if not np.isfinite(points).all():
            raise ValueError("positions contains NaN or infinity.")
        return points, density.astype(np.float64), names


def _colorbar(ax, points):
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    # More than three decades: only powers of ten have labels.
    wide = points.norm.vmax > 1000 * points.norm.vmin
    bar = ax.figure.colorbar(
        points,
        ax=ax,
        label="share of rows on which a latent fires (log scale)",
        aspect=30,
        ticks=LogLocator(subs=(1,) if wide else (1, 2, 5)),
        format=FuncFormatter(lambda share, _: percent(share)),
    )
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    return bar


def _principal(directions, random_state):
    return PCA(2, random_state=random_state).fit_transform(directions)


def _umap(directions, random_state):
    try:
        from umap import UMAP
    except ImportError as error:
        raise ImportError(
            'method="umap" needs umap-learn, which is not installed: pip install umap-learn, or '
            'take method="pca".'
        ) from error
    return UMAP(
        metric="cosine",
        n_neighbors=min(_NEIGHBORS, len(directions) - 1),
        min_dist=_MIN_DISTANCE,
        random_state=random_state,
        n_jobs=1,
    ).fit_transform(directions)
