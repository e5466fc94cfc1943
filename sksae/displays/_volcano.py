"""Volcano plot of a contrast between two groups of rows: effect against evidence."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sksae._params import Int, Option, check_option
from sksae._signs import GREY, INK, place_labels
from sksae.displays._axes import BLUE, RED, bare, check_matplotlib, place, titled
from sksae.displays._plotted_data import latent_labels, names_by_latent

_LEAST = 1e-300  # a q-value that is not distinguished from 0
_EFFECTS = {
    "log_odds": "log odds ratio of firing",
    "mean_difference": "difference of mean activations",
    "cohen_d": "Cohen's d",
}
# Names of the effects, by the statistic of the contrast.
_BY_STATISTIC = {
    **_EFFECTS,
    "welch_t": "Cohen's d",
    "auroc": "AUROC less 0.5",
    "specificity": "log of the specificity",
    "spearman": "rank correlation",
    "linear": "correlation",
    "wilcoxon": "matched rank-biserial correlation",
}


class ContrastVolcanoDisplay:
    """Effect of each feature against the evidence for it, the selected features marked.

    Triangles that point up are selected and stronger in the group of interest, those that point
    down selected and weaker; dots are not selected. It is recommended to use
    :meth:`from_estimator`.

    Parameters
    ----------
    effect : array-like of shape (n_components,)
        Effect of each feature; positive where it is stronger in the group of interest. Infinite
        effects are drawn beyond the largest finite one; features with NaN are left out.
    qvalues : array-like of shape (n_components,)
        Corrected p-values between 0 and 1, such as those of Benjamini and Hochberg; NaN where there
        is none.
    selected : array-like of bool of shape (n_components,), default=None
        Mask of the selected features. None takes ``qvalues <= alpha``.
    names : mapping of int to str or sequence of str, default=None
        Names of features: of some by number, or of all.
    alpha : float, default=0.05
        The largest q-value that is selected, drawn as a line.
    effect_name : str, default="effect"
        Label of the horizontal axis.
    qvalue_name : str, default="q"
        Name of the corrected p-values, for the label of the vertical axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the plot.
    figure_ : matplotlib Figure
        Figure with the axes.
    stronger_, weaker_, rest_ : matplotlib PathCollection
        Selected features on either side, and the others.
    limit_ : matplotlib Line2D
        The largest q-value that is selected.
    texts_ : list of matplotlib Annotation
        Numbers and names of the features with the most evidence.

    See Also
    --------
    sksae.interpret.FeatureContrast : Computes effects and p-values.
    DecoderMapDisplay : Map of all features of the dictionary.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sksae.displays import ContrastVolcanoDisplay
    >>> display = ContrastVolcanoDisplay(effect=[0.1, 2.0, -1.0], qvalues=[0.8, 1e-6, 1e-3]).plot()
    >>> [text.get_text() for text in display.texts_]
    ['1', '2']
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        *,
        effect,
        qvalues,
        selected=None,
        names=None,
        alpha=0.05,
        effect_name="effect",
        qvalue_name="q",
    ):
        self.effect = effect
        self.qvalues = qvalues
        self.selected = selected
        self.names = names
        self.alpha = alpha
        self.effect_name = effect_name
        self.qvalue_name = qvalue_name

    @classmethod
    def from_estimator(cls, contrast, *, effect=None, names=None, ax=None, **kwargs):
        """Draw a fitted contrast of two groups of rows.

        Parameters
        ----------
        contrast : FeatureContrast
            Fitted. Where it has p-values by permutation, these are drawn.
        effect : {None, "log_odds", "mean_difference", "cohen_d"}, default=None
            Effect that is drawn; None takes the one of the contrast's statistic.
        names : mapping of int to str or sequence of str, default=None
            Names of features. None takes the names of the columns that the contrast was fitted on,
            if they had any.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Passed on to :meth:`plot`.

        Returns
        -------
        display : ContrastVolcanoDisplay
            The display, drawn.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        check_option("effect", effect, Option(None, *_EFFECTS))
        check_is_fitted(contrast)
        if not hasattr(contrast, "effects_"):
            raise TypeError(
                f"contrast must be a fitted FeatureContrast. Got {type(contrast).__name__} instead."
            )
        permuted = hasattr(contrast, "family_pvalues_")
        display = cls(
            effect=getattr(contrast, f"{effect}_") if effect else contrast.effects_,
            qvalues=contrast.family_pvalues_ if permuted else contrast.qvalues_,
            selected=contrast.get_support(),
            names=getattr(contrast, "feature_names_in_", None) if names is None else names,
            alpha=contrast.alpha,
            effect_name=_BY_STATISTIC[effect or contrast.statistic_],
            qvalue_name="family-wise p" if permuted else "q",
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax=None, *, names=None, n_annotated=8, **kwargs):
        """Draw the plot.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        names : mapping of int to str or sequence of str, default=None
            Names of features. None takes those of the display.
        n_annotated : int, default=8
            Number of selected features that are named, those with the most evidence.
        **kwargs : dict
            Passed on to :meth:`matplotlib.axes.Axes.scatter`.

        Returns
        -------
        display : ContrastVolcanoDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If lengths differ, names too, or a q-value is not between 0 and 1.
        """
        check_option("n_annotated", n_annotated, Int(0))
        effect, qvalues, selected = self._checked()
        names = names_by_latent(self.names if names is None else names, len(effect))
        evidence = -np.log10(np.maximum(qvalues, _LEAST))
        ax = place(self, ax, (6.4, 4.8))
        is_drawn, effect = ~np.isnan(effect) & np.isfinite(evidence), _drawable(effect)
        groups = {
            "rest_": (is_drawn & ~selected, GREY, ".", 25, "not selected"),
            "stronger_": (is_drawn & selected & (effect >= 0), RED, "^", 35, "selected, stronger"),
            "weaker_": (is_drawn & selected & (effect < 0), BLUE, "v", 35, "selected, weaker"),
        }
        for attribute, (members, color, marker, size, words) in groups.items():
            style = {"color": color, "marker": marker, "s": size, "linewidths": 0, "alpha": 0.8}
            label = f"{words} ({int(members.sum()):,})"
            style = {"label": label, **style, **kwargs}
            points = ax.scatter(effect[members], evidence[members], **style)
            setattr(self, attribute, points)
        shown = np.flatnonzero(is_drawn & selected)
        # Strongest evidence first, then the largest effect.
        shown = shown[np.lexsort((-np.abs(effect[shown]), -evidence[shown]))][:n_annotated]
        ax.axvline(0, color=INK, linewidth=0.8, linestyle=":")
        self.limit_ = ax.axhline(-np.log10(self.alpha), color=INK, linewidth=0.8, linestyle="--")
        ax.margins(x=0.1, y=0.12)
        ax.set_ylim(bottom=0)
        ax.set_xlabel(self.effect_name, parse_math=False)
        ax.set_ylabel(f"evidence, −log₁₀ {self.qvalue_name}", parse_math=False)
        ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, fontsize=8)
        bare(ax)
        titled(ax, "Effect and evidence of each feature", pad=24)  # above the legend
        points, labels = np.c_[effect, evidence][shown], latent_labels(shown.tolist(), names)
        self.texts_ = place_labels(ax, points, labels)
        return self

    def _checked(self):
        effect, qvalues = (np.asarray(v, dtype=np.float64) for v in (self.effect, self.qvalues))
        selected = qvalues <= self.alpha if self.selected is None else np.asarray(self.selected)
        if not effect.shape == qvalues.shape == selected.shape or effect.ndim != 1:
            raise ValueError(
                f"effect, qvalues and selected must be as long as each other. Got shapes "
                f"{effect.shape}, {qvalues.shape} and {selected.shape}."
            )
        if (qvalues < 0).any() or (qvalues > 1).any():
            raise ValueError("qvalues must be between 0 and 1.")
        return effect, qvalues, selected.astype(bool)


def _drawable(effect):
    """Return effects with the infinite ones a little beyond the largest finite one."""
    # Infinite log odds or ratios have no place on the axis.
    finite = np.abs(effect[np.isfinite(effect)])
    edge = 1.1 * float(finite.max(initial=0)) or 1.0
    return np.where(np.isinf(effect), np.copysign(edge, effect), effect)
