# Made by python -m tests.public_types.stubs from the docstrings; do not edit.
from collections.abc import Mapping, Sequence
from numpy import random
from numpy.typing import ArrayLike, NDArray
from sksae.interpret import Example
from sksae.interpret import Feature
from sksae.interpret import FeatureContrast
from sksae.language_models import Attribution
from sksae.language_models import Behaviour
from sksae.language_models import TokenTable
from sksae.model_selection import ScoreTable
from typing import Any, Literal

__all__ = [
    "ActivationHeatmapDisplay",
    "AttributionDisplay",
    "CodeMagnitudeDisplay",
    "CodesDisplay",
    "ComponentImagesDisplay",
    "ComponentLoadingsDisplay",
    "ContrastVolcanoDisplay",
    "DecoderMapDisplay",
    "DensityHistogramDisplay",
    "HighlightedText",
    "ImageExamplesDisplay",
    "L0HistogramDisplay",
    "SparsityFrontierDisplay",
    "TrainingCurveDisplay",
]

class ActivationHeatmapDisplay:
    ax_: Any
    figure_: Any
    image_: Any
    colorbar_: Any
    def __init__(
        self,
        *,
        activations: ArrayLike,
        features: ArrayLike,
        rows: ArrayLike,
        labels: list[str] | None = ...,
        names: Mapping[int, str] | Sequence[str] | None = ...,
    ) -> None: ...
    @classmethod
    def from_codes(
        cls,
        codes: Any,
        *,
        tokens: Sequence[str] | TokenTable | None = ...,
        features: ArrayLike | None = ...,
        rows: ArrayLike | None = ...,
        n_features: int = ...,
        n_rows: int = ...,
        names: Mapping[int, str] | Sequence[str] | None = ...,
        ax: Any = ...,
        **kwargs: dict[Any, Any],
    ) -> ActivationHeatmapDisplay: ...
    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        *,
        tokens: Sequence[str] | TokenTable | None = ...,
        names: Mapping[int, str] | Sequence[str] | None = ...,
        ax: Any = ...,
        **kwargs: dict[Any, Any],
    ) -> ActivationHeatmapDisplay: ...
    def plot(
        self,
        ax: Any = ...,
        *,
        cmap: Any = ...,
        colorbar: bool = ...,
        **kwargs: dict[Any, Any],
    ) -> ActivationHeatmapDisplay: ...

class AttributionDisplay:
    ax_: Any
    figure_: Any
    image_: Any
    texts_: list[Any]
    def __init__(
        self,
        *,
        values: ArrayLike,
        tokens: list[str],
        positions: ArrayLike,
        features: list[str],
        value_name: str = ...,
        title: str = ...,
    ) -> None: ...
    @classmethod
    def from_attribution(
        cls,
        table: Attribution | Behaviour,
        *,
        value: Literal[None, "effect", "exact", "gradient", "direct_logit", "activation"] | None = ...,
        n_features: int = ...,
        n_tokens: int = ...,
        ax: Any = ...,
        **kwargs: dict[Any, Any],
    ) -> AttributionDisplay: ...
    def plot(
        self,
        ax: Any = ...,
        *,
        cmap: Any = ...,
        colorbar: bool = ...,
        **kwargs: dict[Any, Any],
    ) -> AttributionDisplay: ...

class CodeMagnitudeDisplay:
    ax_: Any
    figure_: Any
    bars_: Any
    median_line_: Any
    def __init__(
        self,
        *,
        counts: ArrayLike,
        edges: ArrayLike,
        median: float | None = ...,
    ) -> None: ...
    @classmethod
    def from_codes(
        cls,
        codes: Any,
        *,
        n_bins: int = ...,
        ax: Any = ...,
        **kwargs: dict[Any, Any],
    ) -> CodeMagnitudeDisplay: ...
    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        *,
        n_bins: int = ...,
        ax: Any = ...,
        **kwargs: dict[Any, Any],
    ) -> CodeMagnitudeDisplay: ...
    def plot(self, ax: Any = ..., **kwargs: dict[Any, Any]) -> CodeMagnitudeDisplay: ...

class CodesDisplay:
    axes_: NDArray[Any]
    figure_: Any
    def __init__(
        self,
        *,
        heat_map: ActivationHeatmapDisplay,
        density: DensityHistogramDisplay,
        l0: L0HistogramDisplay,
        magnitudes: CodeMagnitudeDisplay,
    ) -> None: ...
    @classmethod
    def from_codes(
        cls,
        codes: Any,
        *,
        tokens: Sequence[str] | TokenTable | None = ...,
        names: Mapping[int, str] | Sequence[str] | None = ...,
        axes: ArrayLike | None = ...,
    ) -> CodesDisplay: ...
    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        *,
        tokens: Sequence[str] | TokenTable | None = ...,
        axes: ArrayLike | None = ...,
    ) -> CodesDisplay: ...
    def plot(self, axes: ArrayLike | None = ...) -> CodesDisplay: ...

class ComponentImagesDisplay:
    axes_: NDArray[Any]
    figure_: Any
    images_: list[Any]
    def __init__(
        self,
        *,
        images: ArrayLike,
        components: ArrayLike | None = ...,
        names: Mapping[int, str] | Sequence[str] | None = ...,
    ) -> None: ...
    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        image_shape: tuple[int, ...],
        *,
        components: ArrayLike | None = ...,
        n_components: int = ...,
        names: Mapping[int, str] | Sequence[str] | None = ...,
        axes: ArrayLike | None = ...,
        **kwargs: dict[Any, Any],
    ) -> ComponentImagesDisplay: ...
    def plot(
        self,
        axes: ArrayLike | None = ...,
        *,
        n_columns: int = ...,
        cmap: Any = ...,
        **kwargs: dict[Any, Any],
    ) -> ComponentImagesDisplay: ...

class ComponentLoadingsDisplay:
    axes_: NDArray[Any]
    figure_: Any
    bars_: list[Any]
    def __init__(
        self,
        *,
        loadings: ArrayLike,
        columns: Sequence[str],
        components: ArrayLike | None = ...,
        names: Mapping[int, str] | None = ...,
        loading_name: str = ...,
    ) -> None: ...
    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike | None = ...,
        *,
        components: ArrayLike | None = ...,
        n_components: int = ...,
        columns: Sequence[str] | None = ...,
        names: Mapping[int, str] | Sequence[str] | None = ...,
        axes: ArrayLike | None = ...,
        **kwargs: dict[Any, Any],
    ) -> ComponentLoadingsDisplay: ...
    def plot(
        self,
        axes: ArrayLike | None = ...,
        *,
        n_loadings: int = ...,
        n_columns: int = ...,
        **kwargs: dict[Any, Any],
    ) -> ComponentLoadingsDisplay: ...

class ContrastVolcanoDisplay:
    ax_: Any
    figure_: Any
    stronger_: Any
    weaker_: Any
    rest_: Any
    limit_: Any
    texts_: list[Any]
    def __init__(
        self,
        *,
        effect: ArrayLike,
        qvalues: ArrayLike,
        selected: ArrayLike | None = ...,
        names: Mapping[int, str] | Sequence[str] | None = ...,
        alpha: float = ...,
        effect_name: str = ...,
        qvalue_name: str = ...,
    ) -> None: ...
    @classmethod
    def from_estimator(
        cls,
        contrast: FeatureContrast,
        *,
        effect: Literal[None, "log_odds", "mean_difference", "cohen_d"] | None = ...,
        names: Mapping[int, str] | Sequence[str] | None = ...,
        ax: Any = ...,
        **kwargs: dict[Any, Any],
    ) -> ContrastVolcanoDisplay: ...
    def plot(
        self,
        ax: Any = ...,
        *,
        names: Mapping[int, str] | Sequence[str] | None = ...,
        n_annotated: int = ...,
        **kwargs: dict[Any, Any],
    ) -> ContrastVolcanoDisplay: ...

class DecoderMapDisplay:
    ax_: Any
    figure_: Any
    points_: Any
    dead_: Any
    colorbar_: Any
    texts_: list[Any]
    def __init__(
        self,
        *,
        positions: ArrayLike,
        density: ArrayLike | None = ...,
        axis_name: str = ...,
    ) -> None: ...
    @classmethod
    def from_directions(
        cls,
        directions: ArrayLike,
        *,
        density: ArrayLike | None = ...,
        method: Literal["pca", "umap"] = ...,
        random_state: int | random.RandomState | None = ...,
        ax: Any = ...,
        **kwargs: dict[Any, Any],
    ) -> DecoderMapDisplay: ...
    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        method: Literal["pca", "umap"] = ...,
        random_state: int | random.RandomState | None = ...,
        annotate: Mapping[int, str] | list[int] = ...,
        ax: Any = ...,
        **kwargs: dict[Any, Any],
    ) -> DecoderMapDisplay: ...
    def plot(
        self,
        ax: Any = ...,
        *,
        annotate: Mapping[int, str] | list[int] = ...,
        cmap: Any = ...,
        **kwargs: dict[Any, Any],
    ) -> DecoderMapDisplay: ...

class DensityHistogramDisplay:
    ax_: Any
    figure_: Any
    bars_: Any
    dead_bar_: Any
    limit_: Any
    def __init__(self, *, density: ArrayLike, n_rows: int | None = ...) -> None: ...
    @classmethod
    def from_codes(
        cls,
        codes: Any,
        *,
        ax: Any = ...,
        **kwargs: dict[Any, Any],
    ) -> DensityHistogramDisplay: ...
    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike | None = ...,
        *,
        ax: Any = ...,
        **kwargs: dict[Any, Any],
    ) -> DensityHistogramDisplay: ...
    def plot(
        self,
        ax: Any = ...,
        *,
        bins_per_decade: int = ...,
        **kwargs: dict[Any, Any],
    ) -> DensityHistogramDisplay: ...

class HighlightedText:
    ax_: Any
    figure_: Any
    texts_: list[Any]
    boxes_: list[Any]
    def __init__(
        self,
        examples: Example | list[Example],
        *,
        max_activation: float | None = ...,
    ) -> None: ...
    @classmethod
    def from_feature(cls, feature: Feature, *, n_examples: int = ...) -> HighlightedText: ...
    @classmethod
    def from_tokens(
        cls,
        tokens: Sequence[str],
        activations: ArrayLike,
        *,
        max_activation: float | None = ...,
    ) -> HighlightedText: ...
    def plot(
        self,
        ax: Any = ...,
        *,
        width: int = ...,
        **kwargs: dict[Any, Any],
    ) -> HighlightedText: ...
    def to_html(self) -> str: ...

class ImageExamplesDisplay:
    axes_: NDArray[Any]
    figure_: Any
    images_: list[Any]
    shades_: list[Any]
    frames_: list[Any]
    def __init__(
        self,
        examples: Example | list[Example],
        *,
        max_activation: float | None = ...,
    ) -> None: ...
    @classmethod
    def from_feature(cls, feature: Feature, *, n_examples: int = ...) -> ImageExamplesDisplay: ...
    def plot(
        self,
        axes: ArrayLike | None = ...,
        *,
        n_columns: int = ...,
        **kwargs: dict[Any, Any],
    ) -> ImageExamplesDisplay: ...
    def to_html(self) -> str: ...

class L0HistogramDisplay:
    ax_: Any
    figure_: Any
    bars_: Any
    mean_line_: Any
    def __init__(self, *, counts: ArrayLike) -> None: ...
    @classmethod
    def from_codes(
        cls,
        codes: Any,
        *,
        ax: Any = ...,
        **kwargs: dict[Any, Any],
    ) -> L0HistogramDisplay: ...
    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        *,
        ax: Any = ...,
        **kwargs: dict[Any, Any],
    ) -> L0HistogramDisplay: ...
    def plot(self, ax: Any = ..., **kwargs: dict[Any, Any]) -> L0HistogramDisplay: ...

class SparsityFrontierDisplay:
    ax_: Any
    figure_: Any
    lines_: list[Any]
    best_: Any
    def __init__(
        self,
        *,
        sparsity: ArrayLike,
        score: ArrayLike,
        score_error: ArrayLike | None = ...,
        groups: list[str] | None = ...,
        labels: list[str] | None = ...,
        best_index: int | None = ...,
        sparsity_name: str = ...,
        score_name: str = ...,
    ) -> None: ...
    @classmethod
    def from_comparison(
        cls,
        comparison: ScoreTable,
        *,
        score: str = ...,
        ax: Any = ...,
        **kwargs: dict[Any, Any],
    ) -> SparsityFrontierDisplay: ...
    @classmethod
    def from_cv_results(
        cls,
        cv_results: dict[str, NDArray[Any]],
        *,
        score: str = ...,
        param_name: str | None = ...,
        best_index: int | None = ...,
        ax: Any = ...,
        **kwargs: dict[Any, Any],
    ) -> SparsityFrontierDisplay: ...
    @classmethod
    def from_estimator(
        cls,
        search: Any,
        *,
        score: str = ...,
        param_name: str | None = ...,
        ax: Any = ...,
        **kwargs: dict[Any, Any],
    ) -> SparsityFrontierDisplay: ...
    def plot(
        self,
        ax: Any = ...,
        *,
        annotate: bool | None = ...,
        **kwargs: dict[Any, Any],
    ) -> SparsityFrontierDisplay: ...

class TrainingCurveDisplay:
    ax_: Any
    figure_: Any
    line_: Any
    score_ax_: Any
    score_line_: Any
    best_: Any
    def __init__(
        self,
        *,
        loss_curve: ArrayLike,
        validation_scores: ArrayLike | None = ...,
    ) -> None: ...
    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        ax: Any = ...,
        **kwargs: dict[Any, Any],
    ) -> TrainingCurveDisplay: ...
    def plot(self, ax: Any = ..., **kwargs: dict[Any, Any]) -> TrainingCurveDisplay: ...
