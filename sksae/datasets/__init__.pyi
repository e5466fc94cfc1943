# Made by python -m tests.public_types.stubs from the docstrings; do not edit.
TINY_LM_PATH: Any
from numpy import random
from numpy.typing import ArrayLike, NDArray
from typing import Any

__all__ = [
    "TINY_LM_PATH",
    "load_corpus",
    "load_tiny_lm",
    "make_superposition",
]

def load_corpus(*, return_X_y: bool = ...) -> Any: ...

def load_tiny_lm() -> tuple[Any, Any]: ...

def make_superposition(
    n_samples: int = ...,
    n_features: int = ...,
    n_components: int = ...,
    *,
    density: float | ArrayLike = ...,
    min_density: float | None = ...,
    density_exponent: float = ...,
    correlation: float = ...,
    n_factors: int = ...,
    parents: ArrayLike | None = ...,
    exclusive: bool = ...,
    magnitude: float | ArrayLike = ...,
    magnitude_std: float | ArrayLike = ...,
    bias: float | ArrayLike = ...,
    noise: float = ...,
    orthogonalize: bool = ...,
    sparse_output: bool = ...,
    dtype: Any = ...,
    random_state: int | random.RandomState | None = ...,
) -> tuple[NDArray[Any], NDArray[Any], Any]: ...
