# Made by python -m tests.public_types.stubs from the docstrings; do not edit.
from collections.abc import Callable
from numpy.typing import ArrayLike, NDArray
from sksae.autoencoders import Crosscoder
from typing import Any, Literal

__all__ = [
    "LatentScaling",
    "dead_fraction",
    "dense_fraction",
    "dictionary_redundancy",
    "dictionary_uniqueness",
    "encoder_decoder_cosine",
    "explained_variance",
    "explained_variance_scorer",
    "fraction_of_variance_unexplained",
    "l0",
    "l0_per_row",
    "l1",
    "l2_ratio",
    "latent_density",
    "latent_precision_recall_f1",
    "latent_scaling",
    "make_penalized_scorer",
    "matched_cosine_similarity",
    "matched_cosines",
    "mean_cosine_similarity",
    "mean_cosine_similarity_scorer",
    "mean_max_cosine_similarity",
    "mean_squared_reconstruction_error",
    "nearest_atoms",
    "neg_dead_fraction_scorer",
    "neg_l0_scorer",
    "neg_mean_squared_error_scorer",
    "relative_reconstruction_bias",
    "sae_scorer",
]

class LatentScaling:
    blocks: tuple[str, ...]
    norms: NDArray[Any]
    error: NDArray[Any]
    reconstruction: NDArray[Any]
    cosine: NDArray[Any]
    n_active: NDArray[Any]
    def __init__(
        self,
        blocks: tuple[str, ...],
        norms: NDArray[Any],
        error: NDArray[Any],
        reconstruction: NDArray[Any],
        cosine: NDArray[Any],
        n_active: NDArray[Any],
    ) -> None: ...
    def kinds(
        self,
        *,
        max_norm: float = ...,
        max_error: float = ...,
        max_reconstruction: float = ...,
    ) -> NDArray[Any]: ...
    @property
    def strongest(self) -> Any: ...
    def to_frame(self, **thresholds: Any) -> Any: ...

def dead_fraction(codes: Any) -> float: ...

def dense_fraction(codes: Any, *, min_density: float = ...) -> float: ...

def dictionary_redundancy(dictionary: ArrayLike, *, absolute: bool = ...) -> float: ...

def dictionary_uniqueness(
    dictionary: ArrayLike,
    dictionary_true: ArrayLike,
    *,
    absolute: bool = ...,
) -> float: ...

def encoder_decoder_cosine(encoder_coef: ArrayLike, components: ArrayLike) -> NDArray[Any]: ...

def explained_variance(
    X: ArrayLike,
    X_reconstructed: ArrayLike,
    *,
    sample_weight: ArrayLike | None = ...,
) -> float: ...

def explained_variance_scorer(
    estimator: Any,
    X: ArrayLike,
    y: Any = ...,
    sample_weight: ArrayLike | None = ...,
) -> float: ...

def fraction_of_variance_unexplained(
    X: ArrayLike,
    X_reconstructed: ArrayLike,
    *,
    sample_weight: ArrayLike | None = ...,
) -> float: ...

def l0(codes: Any, *, normalize: bool = ..., sample_weight: ArrayLike | None = ...) -> float: ...

def l0_per_row(codes: Any) -> NDArray[Any]: ...

def l1(codes: Any, *, sample_weight: ArrayLike | None = ...) -> float: ...

def l2_ratio(
    X: ArrayLike,
    X_reconstructed: ArrayLike,
    *,
    sample_weight: ArrayLike | None = ...,
) -> float: ...

def latent_density(codes: Any, *, sample_weight: ArrayLike | None = ...) -> NDArray[Any]: ...

def latent_precision_recall_f1(
    codes: Any,
    codes_true: Any,
    *,
    matches: ArrayLike | None = ...,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]: ...

def latent_scaling(crosscoder: Crosscoder, X: ArrayLike) -> LatentScaling: ...

def make_penalized_scorer(l0_penalty: float) -> Callable[..., Any]: ...

def matched_cosine_similarity(
    dictionary: ArrayLike,
    other: ArrayLike,
    *,
    absolute: bool = ...,
) -> float: ...

def matched_cosines(dictionary: ArrayLike, other: ArrayLike, *, absolute: bool = ...) -> Any: ...

def mean_cosine_similarity(
    X: ArrayLike,
    X_reconstructed: ArrayLike,
    *,
    centered: bool = ...,
    sample_weight: ArrayLike | None = ...,
) -> float: ...

def mean_cosine_similarity_scorer(
    estimator: Any,
    X: ArrayLike,
    y: Any = ...,
    sample_weight: ArrayLike | None = ...,
) -> float: ...

def mean_max_cosine_similarity(
    dictionary: ArrayLike,
    other: ArrayLike,
    *,
    absolute: bool = ...,
) -> float: ...

def mean_squared_reconstruction_error(
    X: ArrayLike,
    X_reconstructed: ArrayLike,
    *,
    per: Literal["element", "row"] = ...,
    sample_weight: ArrayLike | None = ...,
) -> float: ...

def nearest_atoms(
    dictionary: ArrayLike,
    other: ArrayLike | None = ...,
    *,
    absolute: bool = ...,
) -> tuple[NDArray[Any], NDArray[Any]]: ...

def neg_dead_fraction_scorer(
    estimator: Any,
    X: ArrayLike,
    y: Any = ...,
    sample_weight: ArrayLike | None = ...,
) -> float: ...

def neg_l0_scorer(
    estimator: Any,
    X: ArrayLike,
    y: Any = ...,
    sample_weight: ArrayLike | None = ...,
) -> float: ...

def neg_mean_squared_error_scorer(
    estimator: Any,
    X: ArrayLike,
    y: Any = ...,
    sample_weight: ArrayLike | None = ...,
) -> float: ...

def relative_reconstruction_bias(
    X: ArrayLike,
    X_reconstructed: ArrayLike,
    *,
    centered: bool = ...,
    sample_weight: ArrayLike | None = ...,
) -> float: ...

def sae_scorer(
    estimator: Any,
    X: ArrayLike,
    y: Any = ...,
    sample_weight: ArrayLike | None = ...,
) -> dict[str, float]: ...
