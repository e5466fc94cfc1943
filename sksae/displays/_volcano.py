"""Which features tell two groups of rows apart: effect against evidence."""

from collections.abc import Mapping

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sksae._params import Int, Option, check_option
from sksae.displays._axes import BLUE, GREY, INK, RED, bare, check_matplotlib, place
from sksae.displays._fonts import drawn

_LEAST = 1e-300  # a q-value that is not distinguished from 0
_EFFECTS = {
    "log_odds": "log odds ratio of firing",
    "mean_difference": "difference of mean activations",
    "cohen_d": "Cohen's d",
}
# What the effect of a contrast is, by the statistic that it orders by.
_BY_STATISTIC = {
    **_EFFECTS,
    "welch_t": "Cohen's d",
    "auroc": "AUROC less 0.5",
    "specificity": "log of the specificity",
}


class ContrastVolcanoDisplay:
    """Effect of each feature against the evidence for it, the selected features marked.

    Triangles that point up are selected and stronger in the group of interest, those that point
    down selected and weaker; dots are not selected. It is recommended to use
    :meth:`from_estimator`.

    Parameters
    ----------
    effect : array-like of shape (n_components,)
        Effect of each feature; positive where it is stronger in the group of interest.
    qvalues : array-like of shape (n_components,)
        Corrected p-values between 0 and 1, such as those of Benjamini and Hochberg; NaN where there
        is none.
    selected : array-like of bool of shape (n_components,), default=None
        Which features are selected. None takes ``qvalues <= alpha``.
    alpha : float, default=0.05
        The largest q-value that is selected, drawn as a line.
    effect_name : str, default="effect"
        Label of the horizontal axis.
    qvalue_name : str, default="q"
        What the corrected p-values are, for the label of the vertical axis.

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
    sksae.interpret.FeatureContrast : Finds them.
    DecoderMapDisplay : Where the features are in the dictionary.

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
        alpha=0.05,
        effect_name="effect",
        qvalue_name="q",
    ):
        self.effect = effect
        self.qvalues = qvalues
        self.selected = selected
        self.alpha = alpha
        self.effect_name = effect_name
        self.qvalue_name = qvalue_name

    @classmethod
    def from_estimator(cls, contrast, *, effect=None, ax=None, **kwargs):
        """Draw a fitted contrast of two groups of rows.

        Parameters
        ----------
        contrast : FeatureContrast
            Fitted. Where it has p-values by permutation, these are drawn.
        effect : {None, "log_odds", "mean_difference", "cohen_d"}, default=None
            Which of its effects is drawn; None takes the one that goes with its statistic.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Passed on to :meth:`plot`.

        Returns
        -------
        display : ContrastVolcanoDisplay
            What was drawn.
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
            alpha=contrast.alpha,
            effect_name=_BY_STATISTIC[effect or contrast.statistic],
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
            Names of features: of some by number, or of all.
        n_annotated : int, default=8
            How many of the selected features, those with the most evidence, are named.
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
        names = _by_feature(names, len(effect))
        evidence = -np.log10(np.maximum(qvalues, _LEAST))
        ax = place(self, ax, (6.4, 4.8))
        known = np.isfinite(effect) & np.isfinite(evidence)
        groups = {
            "rest_": (known & ~selected, GREY, ".", 25, "not selected"),
            "stronger_": (known & selected & (effect >= 0), RED, "^", 35, "selected, stronger"),
            "weaker_": (known & selected & (effect < 0), BLUE, "v", 35, "selected, weaker"),
        }
        for attribute, (mine, color, marker, size, words) in groups.items():
            style = {"color": color, "marker": marker, "s": size, "linewidths": 0, "alpha": 0.8}
            label = f"{words} ({int(mine.sum()):,})"
            points = ax.scatter(effect[mine], evidence[mine], **{"label": label, **style, **kwargs})
            setattr(self, attribute, points)
        shown = np.flatnonzero(known & selected)
        shown = shown[np.lexsort((-np.abs(effect[shown]), -evidence[shown]))][:n_annotated]
        self.texts_ = _annotations(ax, effect, evidence, shown.tolist(), names)
        ax.axvline(0, color=INK, linewidth=0.8, linestyle=":")
        self.limit_ = ax.axhline(-np.log10(self.alpha), color=INK, linewidth=0.8, linestyle="--")
        ax.margins(x=0.1, y=0.12)
        ax.set_ylim(bottom=0)
        ax.set_xlabel(self.effect_name, parse_math=False)
        ax.set_ylabel(f"evidence, −log₁₀ {self.qvalue_name}", parse_math=False)
        ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, fontsize=8)
        bare(ax)
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


def _by_feature(names, n_features):
    """Return a mapping of names, however they were given."""
    if names is None or isinstance(names, Mapping):
        return names or {}
    if isinstance(names, str) or len(names) != n_features:
        raise ValueError(f"names must be a mapping, or have one name for each of {n_features}.")
    return dict(enumerate(names))


def _annotations(ax, x, y, shown, names):
    from matplotlib.patheffects import withStroke

    labels, properties = drawn([f"{i} {names.get(i, '')}".strip() for i in shown])
    lifts = _lifts(x[shown], y[shown])
    return [
        ax.annotate(
            label,
            (x[i], y[i]),
            xytext=(6 if x[i] >= 0 else -6, 3 + 10 * lift),
            textcoords="offset points",
            ha="left" if x[i] >= 0 else "right",
            fontsize=8,
            color=INK,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            **properties,
        )
        for i, label, lift in zip(shown, labels, lifts, strict=True)
    ]


def _lifts(x, y):
    """Return how many lines higher each label goes, so that points side by side can be read."""
    wide, high = max(x, default=0) - min(x, default=0), max(y, default=0)
    lifts = np.zeros(len(x), dtype=int)
    done = []
    for i in np.argsort(x, kind="stable").tolist():
        near = [j for j in done if x[i] - x[j] < 0.15 * wide and abs(y[i] - y[j]) < 0.05 * high]
        taken = {lifts[j] for j in near}
        lifts[i] = next(lift for lift in range(len(x)) if lift not in taken)
        done.append(i)
    return lifts.tolist()
