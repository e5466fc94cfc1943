# Made by python -m tests.public_types.stubs from the docstrings; do not edit.
from collections.abc import Callable, Sequence
from numpy import random
from numpy.typing import ArrayLike, NDArray
from pathlib import Path
from sklearn.base import BaseEstimator
from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.base import TransformerMixin
from sklearn.callback import CallbackSupportMixin
from sksae.language_models import ActivationExtractor
from sksae.language_models import SAEVectorizer
from sksae.objectives import Objective
from typing import Any, Literal, Self

__all__ = [
    "BaseSAE",
    "BatchTopKSAE",
    "Crosscoder",
    "DummySAE",
    "Fit",
    "GatedSAE",
    "JumpReLUSAE",
    "MatryoshkaSAE",
    "SparseAutoencoder",
    "TopKSAE",
    "Transcoder",
    "fitted",
]

class BaseSAE(ClassNamePrefixFeaturesOutMixin, CallbackSupportMixin, TransformerMixin, BaseEstimator):
    def __init__(
        self,
        n_components: Any = ...,
        *,
        expansion_factor: Any = ...,
        max_iter: Any = ...,
        batch_size: Any = ...,
        learning_rate: Any = ...,
        learning_rate_warm_up: Any = ...,
        learning_rate_decay: Any = ...,
        betas: Any = ...,
        max_grad_norm: Any = ...,
        dead_window: Any = ...,
        normalize: Any = ...,
        tol: Any = ...,
        n_iter_no_change: Any = ...,
        early_stopping: Any = ...,
        validation_fraction: Any = ...,
        warm_start: Any = ...,
        sparse_output: Any = ...,
        device: Any = ...,
        precision: Any = ...,
        random_state: Any = ...,
        verbose: Any = ...,
    ) -> None: ...
    def fit(self, X: ArrayLike, y: Any = ..., sample_weight: ArrayLike | None = ...) -> Self: ...
    def get_feature_names_out(self, input_features: Any = ...) -> NDArray[Any]: ...
    def inverse_transform(self, X: Any) -> NDArray[Any]: ...
    def partial_fit(
        self,
        X: ArrayLike,
        y: Any = ...,
        sample_weight: ArrayLike | None = ...,
    ) -> Self: ...
    def save(
        self,
        path: str | Path,
        *,
        extractor: ActivationExtractor | SAEVectorizer | None = ...,
    ) -> Path: ...
    def score(self, X: ArrayLike, y: Any = ..., sample_weight: ArrayLike | None = ...) -> float: ...
    def set_feature_names(self, names: Any) -> Self: ...
    def transform(self, X: ArrayLike) -> Any: ...

class BatchTopKSAE(TopKSAE):
    n_components: int | None
    k: float | None
    expansion_factor: float | None
    auxk_alpha: float
    k_aux: int | None
    dead_window: int | None
    max_iter: int | None
    batch_size: int | None
    learning_rate: float | None
    learning_rate_warm_up: float
    learning_rate_decay: float
    betas: tuple[float, float] | None
    max_grad_norm: float
    normalize: Literal["rms", "anthropic", "unit", None]
    tol: float
    n_iter_no_change: int
    early_stopping: bool
    validation_fraction: float
    warm_start: bool
    sparse_output: bool
    device: str
    precision: Literal["auto", "float32", "float64", "bfloat16"]
    random_state: int | random.RandomState | None
    verbose: int | bool
    components_: NDArray[Any]
    intercept_: NDArray[Any]
    encoder_coef_: NDArray[Any]
    encoder_intercept_: NDArray[Any]
    k_: float
    threshold_: NDArray[Any]
    activation_frequency_: NDArray[Any]
    n_components_: int
    batch_size_: int
    learning_rate_: float
    n_iter_: int
    n_steps_: int
    loss_curve_: list[float]
    validation_scores_: list[float]
    n_features_in_: int
    feature_names_in_: NDArray[Any]
    def __init__(
        self,
        n_components: int | None = ...,
        *,
        k: float | None = ...,
        expansion_factor: float | None = ...,
        auxk_alpha: float = ...,
        k_aux: int | None = ...,
        dead_window: int | None = ...,
        max_iter: int | None = ...,
        batch_size: int | None = ...,
        learning_rate: float | None = ...,
        learning_rate_warm_up: float = ...,
        learning_rate_decay: float = ...,
        betas: tuple[float, float] | None = ...,
        max_grad_norm: float = ...,
        normalize: Literal["rms", "anthropic", "unit", None] = ...,
        tol: float = ...,
        n_iter_no_change: int = ...,
        early_stopping: bool = ...,
        validation_fraction: float = ...,
        warm_start: bool = ...,
        sparse_output: bool = ...,
        device: str = ...,
        precision: Literal["auto", "float32", "float64", "bfloat16"] = ...,
        random_state: int | random.RandomState | None = ...,
        verbose: int | bool = ...,
    ) -> None: ...

class Crosscoder(BaseSAE):
    estimator: BaseSAE
    blocks: int | Sequence[int] | dict[str, int] | None
    blocks_: dict[str, int]
    components_: NDArray[Any]
    intercept_: NDArray[Any]
    scale_: NDArray[Any]
    encoder_coef_: NDArray[Any]
    encoder_intercept_: NDArray[Any]
    threshold_: NDArray[Any]
    gate_intercept_: NDArray[Any]
    gain_: NDArray[Any]
    k_: int | float
    alpha_: float
    activation_frequency_: NDArray[Any]
    n_components_: int
    batch_size_: int
    learning_rate_: float
    n_iter_: int
    n_steps_: int
    loss_curve_: list[float]
    validation_scores_: list[float]
    n_features_in_: int
    feature_names_in_: NDArray[Any]
    def __init__(
        self,
        estimator: BaseSAE,
        *,
        blocks: int | Sequence[int] | dict[str, int] | None = ...,
    ) -> None: ...
    def block_scores(
        self,
        X: ArrayLike,
        sample_weight: ArrayLike | None = ...,
    ) -> dict[str, float]: ...
    def relative_norms(self) -> NDArray[Any]: ...
    def score(self, X: ArrayLike, y: Any = ..., sample_weight: ArrayLike | None = ...) -> float: ...
    def split(self, rows: NDArray[Any]) -> dict[str, NDArray[Any]]: ...

class DummySAE(TopKSAE):
    n_components: int | None
    strategy: Literal["random", "data", "pca", "frozen_decoder", "soft_frozen_decoder", "frozen_encoder"]
    k: int | None
    expansion_factor: float | None
    auxk_alpha: float
    k_aux: int | None
    dead_window: int | None
    max_iter: int | None
    batch_size: int | None
    learning_rate: float | None
    learning_rate_warm_up: float
    learning_rate_decay: float
    betas: tuple[float, float] | None
    max_grad_norm: float
    normalize: Literal["rms", "anthropic", "unit", None]
    tol: float
    n_iter_no_change: int
    early_stopping: bool
    validation_fraction: float
    warm_start: bool
    sparse_output: bool
    device: str
    precision: Literal["auto", "float32", "float64", "bfloat16"]
    random_state: int | random.RandomState | None
    verbose: int | bool
    components_: NDArray[Any]
    intercept_: NDArray[Any]
    encoder_coef_: NDArray[Any]
    encoder_intercept_: NDArray[Any]
    k_: int
    activation_frequency_: NDArray[Any]
    n_components_: int
    batch_size_: int
    learning_rate_: float
    n_iter_: int
    n_steps_: int
    loss_curve_: list[float]
    validation_scores_: list[float]
    n_features_in_: int
    feature_names_in_: NDArray[Any]
    def __init__(
        self,
        n_components: int | None = ...,
        *,
        strategy: Literal["random", "data", "pca", "frozen_decoder", "soft_frozen_decoder", "frozen_encoder"] = ...,
        k: int | None = ...,
        expansion_factor: float | None = ...,
        auxk_alpha: float = ...,
        k_aux: int | None = ...,
        dead_window: int | None = ...,
        max_iter: int | None = ...,
        batch_size: int | None = ...,
        learning_rate: float | None = ...,
        learning_rate_warm_up: float = ...,
        learning_rate_decay: float = ...,
        betas: tuple[float, float] | None = ...,
        max_grad_norm: float = ...,
        normalize: Literal["rms", "anthropic", "unit", None] = ...,
        tol: float = ...,
        n_iter_no_change: int = ...,
        early_stopping: bool = ...,
        validation_fraction: float = ...,
        warm_start: bool = ...,
        sparse_output: bool = ...,
        device: str = ...,
        precision: Literal["auto", "float32", "float64", "bfloat16"] = ...,
        random_state: int | random.RandomState | None = ...,
        verbose: int | bool = ...,
    ) -> None: ...

class Fit:
    objective: Objective
    run: Any
    rows: Any
    held_out: Any
    losses: list[float]
    scores: list[float]
    after_pass: list[Callable[..., Any]]
    quality: Callable[..., Any] | None
    batch_size: int
    max_iter: int
    n_steps: int
    dead_window: int
    learning_rate: float | tuple[float, ...]
    betas: float | tuple[float, ...]
    def __init__(
        self,
        estimator: BaseSAE,
        X: NDArray[Any],
        targets: NDArray[Any] | None = ...,
        sample_weight: Any = ...,
        *,
        streams: bool = ...,
        normalization: Any = ...,
        seed: int | None = ...,
    ) -> None: ...
    def attributes(self) -> dict[Any, Any]: ...
    def fitted(self) -> BaseSAE: ...
    def measures(self) -> tuple[float, float]: ...
    def progress(self, losses: list[float] | None = ...) -> dict[Any, Any]: ...
    def result(self) -> dict[Any, Any]: ...
    def train_pass(self) -> None: ...

class GatedSAE(BaseSAE):
    n_components: int | None
    alpha: float | None
    target_l0: float | None
    decoder_norm: Literal["unit", "free"]
    expansion_factor: float | None
    alpha_warm_up: float
    dead_window: int | None
    max_iter: int | None
    batch_size: int | None
    learning_rate: float | None
    learning_rate_warm_up: float
    learning_rate_decay: float
    betas: tuple[float, float] | None
    max_grad_norm: float
    normalize: Literal["rms", "anthropic", "unit", None]
    tol: float
    n_iter_no_change: int
    early_stopping: bool
    validation_fraction: float
    warm_start: bool
    sparse_output: bool
    device: str
    precision: Literal["auto", "float32", "float64", "bfloat16"]
    random_state: int | random.RandomState | None
    verbose: int | bool
    components_: NDArray[Any]
    intercept_: NDArray[Any]
    encoder_coef_: NDArray[Any]
    encoder_intercept_: NDArray[Any]
    threshold_: NDArray[Any]
    gate_intercept_: NDArray[Any]
    gain_: NDArray[Any]
    alpha_: float
    activation_frequency_: NDArray[Any]
    n_components_: int
    batch_size_: int
    learning_rate_: float
    n_iter_: int
    n_steps_: int
    loss_curve_: list[float]
    validation_scores_: list[float]
    n_features_in_: int
    feature_names_in_: NDArray[Any]
    def __init__(
        self,
        n_components: int | None = ...,
        *,
        alpha: float | None = ...,
        target_l0: float | None = ...,
        decoder_norm: Literal["unit", "free"] = ...,
        expansion_factor: float | None = ...,
        alpha_warm_up: float = ...,
        dead_window: int | None = ...,
        max_iter: int | None = ...,
        batch_size: int | None = ...,
        learning_rate: float | None = ...,
        learning_rate_warm_up: float = ...,
        learning_rate_decay: float = ...,
        betas: tuple[float, float] | None = ...,
        max_grad_norm: float = ...,
        normalize: Literal["rms", "anthropic", "unit", None] = ...,
        tol: float = ...,
        n_iter_no_change: int = ...,
        early_stopping: bool = ...,
        validation_fraction: float = ...,
        warm_start: bool = ...,
        sparse_output: bool = ...,
        device: str = ...,
        precision: Literal["auto", "float32", "float64", "bfloat16"] = ...,
        random_state: int | random.RandomState | None = ...,
        verbose: int | bool = ...,
    ) -> None: ...

class JumpReLUSAE(BaseSAE):
    n_components: int | None
    alpha: float | None
    target_l0: float | None
    penalty: Literal["l0", "tanh"]
    bandwidth: float | None
    threshold_init: float | None
    tanh_scale: float
    pre_activation_alpha: float
    expansion_factor: float | None
    alpha_warm_up: float | None
    dead_window: int | None
    max_iter: int | None
    batch_size: int | None
    learning_rate: float | None
    learning_rate_warm_up: float
    learning_rate_decay: float
    betas: tuple[float, float] | None
    max_grad_norm: float
    normalize: Literal["rms", "anthropic", "unit", None]
    tol: float
    n_iter_no_change: int
    early_stopping: bool
    validation_fraction: float
    warm_start: bool
    sparse_output: bool
    device: str
    precision: Literal["auto", "float32", "float64", "bfloat16"]
    random_state: int | random.RandomState | None
    verbose: int | bool
    components_: NDArray[Any]
    intercept_: NDArray[Any]
    encoder_coef_: NDArray[Any]
    encoder_intercept_: NDArray[Any]
    threshold_: NDArray[Any]
    alpha_: float
    activation_frequency_: NDArray[Any]
    n_components_: int
    batch_size_: int
    learning_rate_: float
    n_iter_: int
    n_steps_: int
    loss_curve_: list[float]
    validation_scores_: list[float]
    n_features_in_: int
    feature_names_in_: NDArray[Any]
    def __init__(
        self,
        n_components: int | None = ...,
        *,
        alpha: float | None = ...,
        target_l0: float | None = ...,
        penalty: Literal["l0", "tanh"] = ...,
        bandwidth: float | None = ...,
        threshold_init: float | None = ...,
        tanh_scale: float = ...,
        pre_activation_alpha: float = ...,
        expansion_factor: float | None = ...,
        alpha_warm_up: float | None = ...,
        dead_window: int | None = ...,
        max_iter: int | None = ...,
        batch_size: int | None = ...,
        learning_rate: float | None = ...,
        learning_rate_warm_up: float = ...,
        learning_rate_decay: float = ...,
        betas: tuple[float, float] | None = ...,
        max_grad_norm: float = ...,
        normalize: Literal["rms", "anthropic", "unit", None] = ...,
        tol: float = ...,
        n_iter_no_change: int = ...,
        early_stopping: bool = ...,
        validation_fraction: float = ...,
        warm_start: bool = ...,
        sparse_output: bool = ...,
        device: str = ...,
        precision: Literal["auto", "float32", "float64", "bfloat16"] = ...,
        random_state: int | random.RandomState | None = ...,
        verbose: int | bool = ...,
    ) -> None: ...

class MatryoshkaSAE(BatchTopKSAE):
    n_components: int | None
    k: float | None
    widths: Sequence[int] | None
    expansion_factor: float | None
    auxk_alpha: float
    k_aux: int | None
    dead_window: int | None
    max_iter: int | None
    batch_size: int | None
    learning_rate: float | None
    learning_rate_warm_up: float
    learning_rate_decay: float
    betas: tuple[float, float] | None
    max_grad_norm: float
    normalize: Literal["rms", "anthropic", "unit", None]
    tol: float
    n_iter_no_change: int
    early_stopping: bool
    validation_fraction: float
    warm_start: bool
    sparse_output: bool
    device: str
    precision: Literal["auto", "float32", "float64", "bfloat16"]
    random_state: int | random.RandomState | None
    verbose: int | bool
    components_: NDArray[Any]
    intercept_: NDArray[Any]
    encoder_coef_: NDArray[Any]
    encoder_intercept_: NDArray[Any]
    k_: float
    widths_: tuple[int, ...]
    threshold_: NDArray[Any]
    activation_frequency_: NDArray[Any]
    n_components_: int
    batch_size_: int
    learning_rate_: float
    n_iter_: int
    n_steps_: int
    loss_curve_: list[float]
    validation_scores_: list[float]
    n_features_in_: int
    feature_names_in_: NDArray[Any]
    def __init__(
        self,
        n_components: int | None = ...,
        *,
        k: float | None = ...,
        widths: Sequence[int] | None = ...,
        expansion_factor: float | None = ...,
        auxk_alpha: float = ...,
        k_aux: int | None = ...,
        dead_window: int | None = ...,
        max_iter: int | None = ...,
        batch_size: int | None = ...,
        learning_rate: float | None = ...,
        learning_rate_warm_up: float = ...,
        learning_rate_decay: float = ...,
        betas: tuple[float, float] | None = ...,
        max_grad_norm: float = ...,
        normalize: Literal["rms", "anthropic", "unit", None] = ...,
        tol: float = ...,
        n_iter_no_change: int = ...,
        early_stopping: bool = ...,
        validation_fraction: float = ...,
        warm_start: bool = ...,
        sparse_output: bool = ...,
        device: str = ...,
        precision: Literal["auto", "float32", "float64", "bfloat16"] = ...,
        random_state: int | random.RandomState | None = ...,
        verbose: int | bool = ...,
    ) -> None: ...
    def prefix(self, n_components: int) -> MatryoshkaSAE: ...

class SparseAutoencoder(BaseSAE):
    n_components: int | None
    alpha: float | None
    target_l0: float | None
    decoder_norm: Literal["free", "unit"]
    expansion_factor: float | None
    alpha_warm_up: float
    dead_window: int | None
    max_iter: int | None
    batch_size: int | None
    learning_rate: float | None
    learning_rate_warm_up: float
    learning_rate_decay: float
    betas: tuple[float, float] | None
    max_grad_norm: float
    normalize: Literal["rms", "anthropic", "unit", None]
    tol: float
    n_iter_no_change: int
    early_stopping: bool
    validation_fraction: float
    warm_start: bool
    sparse_output: bool
    device: str
    precision: Literal["auto", "float32", "float64", "bfloat16"]
    random_state: int | random.RandomState | None
    verbose: int | bool
    components_: NDArray[Any]
    intercept_: NDArray[Any]
    encoder_coef_: NDArray[Any]
    encoder_intercept_: NDArray[Any]
    alpha_: float
    activation_frequency_: NDArray[Any]
    n_components_: int
    batch_size_: int
    learning_rate_: float
    n_iter_: int
    n_steps_: int
    loss_curve_: list[float]
    validation_scores_: list[float]
    n_features_in_: int
    feature_names_in_: NDArray[Any]
    def __init__(
        self,
        n_components: int | None = ...,
        *,
        alpha: float | None = ...,
        target_l0: float | None = ...,
        decoder_norm: Literal["free", "unit"] = ...,
        expansion_factor: float | None = ...,
        alpha_warm_up: float = ...,
        dead_window: int | None = ...,
        max_iter: int | None = ...,
        batch_size: int | None = ...,
        learning_rate: float | None = ...,
        learning_rate_warm_up: float = ...,
        learning_rate_decay: float = ...,
        betas: tuple[float, float] | None = ...,
        max_grad_norm: float = ...,
        normalize: Literal["rms", "anthropic", "unit", None] = ...,
        tol: float = ...,
        n_iter_no_change: int = ...,
        early_stopping: bool = ...,
        validation_fraction: float = ...,
        warm_start: bool = ...,
        sparse_output: bool = ...,
        device: str = ...,
        precision: Literal["auto", "float32", "float64", "bfloat16"] = ...,
        random_state: int | random.RandomState | None = ...,
        verbose: int | bool = ...,
    ) -> None: ...

class TopKSAE(BaseSAE):
    n_components: int | None
    k: int | None
    expansion_factor: float | None
    auxk_alpha: float
    k_aux: int | None
    dead_window: int | None
    max_iter: int | None
    batch_size: int | None
    learning_rate: float | None
    learning_rate_warm_up: float
    learning_rate_decay: float
    betas: tuple[float, float] | None
    max_grad_norm: float
    normalize: Literal["rms", "anthropic", "unit", None]
    tol: float
    n_iter_no_change: int
    early_stopping: bool
    validation_fraction: float
    warm_start: bool
    sparse_output: bool
    device: str
    precision: Literal["auto", "float32", "float64", "bfloat16"]
    random_state: int | random.RandomState | None
    verbose: int | bool
    components_: NDArray[Any]
    intercept_: NDArray[Any]
    encoder_coef_: NDArray[Any]
    encoder_intercept_: NDArray[Any]
    k_: int
    activation_frequency_: NDArray[Any]
    n_components_: int
    batch_size_: int
    learning_rate_: float
    n_iter_: int
    n_steps_: int
    loss_curve_: list[float]
    validation_scores_: list[float]
    n_features_in_: int
    feature_names_in_: NDArray[Any]
    def __init__(
        self,
        n_components: int | None = ...,
        *,
        k: int | None = ...,
        expansion_factor: float | None = ...,
        auxk_alpha: float = ...,
        k_aux: int | None = ...,
        dead_window: int | None = ...,
        max_iter: int | None = ...,
        batch_size: int | None = ...,
        learning_rate: float | None = ...,
        learning_rate_warm_up: float = ...,
        learning_rate_decay: float = ...,
        betas: tuple[float, float] | None = ...,
        max_grad_norm: float = ...,
        normalize: Literal["rms", "anthropic", "unit", None] = ...,
        tol: float = ...,
        n_iter_no_change: int = ...,
        early_stopping: bool = ...,
        validation_fraction: float = ...,
        warm_start: bool = ...,
        sparse_output: bool = ...,
        device: str = ...,
        precision: Literal["auto", "float32", "float64", "bfloat16"] = ...,
        random_state: int | random.RandomState | None = ...,
        verbose: int | bool = ...,
    ) -> None: ...

class Transcoder(BaseSAE):
    estimator: BaseSAE
    skip: bool
    components_: NDArray[Any]
    intercept_: NDArray[Any]
    skip_coef_: NDArray[Any]
    encoder_coef_: NDArray[Any]
    encoder_intercept_: NDArray[Any]
    threshold_: NDArray[Any]
    gate_intercept_: NDArray[Any]
    gain_: NDArray[Any]
    k_: int | float
    alpha_: float
    activation_frequency_: NDArray[Any]
    single_target_: bool
    n_components_: int
    batch_size_: int
    learning_rate_: float
    n_iter_: int
    n_steps_: int
    loss_curve_: list[float]
    validation_scores_: list[float]
    n_features_in_: int
    feature_names_in_: NDArray[Any]
    def __init__(self, estimator: BaseSAE, *, skip: bool = ...) -> None: ...
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike | None = ...,
        sample_weight: ArrayLike | None = ...,
    ) -> Self: ...
    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike | None = ...,
        sample_weight: ArrayLike | None = ...,
    ) -> Self: ...
    def predict(self, X: ArrayLike) -> NDArray[Any]: ...
    def score(
        self,
        X: ArrayLike,
        y: ArrayLike | None = ...,
        sample_weight: ArrayLike | None = ...,
    ) -> float: ...

def fitted(
    estimator: BaseSAE,
    weights: dict[str, NDArray[Any]],
    *,
    source: dict[Any, Any] | None = ...,
) -> BaseSAE: ...
