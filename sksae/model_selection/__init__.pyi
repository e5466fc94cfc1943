# Made by python -m tests.public_types.stubs from the docstrings; do not edit.
from collections.abc import Callable, Iterable, Sequence
from numpy import random
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.base import MetaEstimatorMixin
from sklearn.base import TransformerMixin
from sklearn.utils import Bunch
from sksae.language_models import ActivationExtractor
from typing import Any, Self

__all__ = [
    "BestExplainedVariance",
    "DiminishingReturns",
    "Knee",
    "OneStandardError",
    "ScoreTable",
    "SparsityPathCV",
    "choice_report",
    "compare",
    "feature_stability",
    "sparse_probing",
]

class BestExplainedVariance:
    max_l0: float
    score: str
    sparsity: str
    def __init__(self, max_l0: float, *, score: str = ..., sparsity: str = ...) -> None: ...
    def __call__(self, cv_results: dict[str, NDArray[Any]]) -> int: ...

class DiminishingReturns:
    elasticity: float
    score: str
    sparsity: str
    def __init__(
        self,
        *,
        elasticity: float = ...,
        score: str = ...,
        sparsity: str = ...,
    ) -> None: ...
    def __call__(self, cv_results: dict[str, NDArray[Any]]) -> int: ...

class Knee:
    score: str
    sparsity: str
    def __init__(self, *, score: str = ..., sparsity: str = ...) -> None: ...
    def __call__(self, cv_results: dict[str, NDArray[Any]]) -> int: ...

class OneStandardError:
    score: str
    sparsity: str
    def __init__(self, *, score: str = ..., sparsity: str = ...) -> None: ...
    def __call__(self, cv_results: dict[str, NDArray[Any]]) -> int: ...

class ScoreTable(Bunch):
    def __init__(self, **kwargs: NDArray[Any]) -> None: ...
    def to_frame(self) -> Any: ...

class SparsityPathCV(MetaEstimatorMixin, TransformerMixin, BaseEstimator):
    estimator: Any
    values: ArrayLike
    param_name: str | None
    continuation: float
    cv: Any
    refit: Callable[..., Any] | None
    scoring: Callable[..., Any] | None
    n_jobs: int | None
    cv_results_: dict[str, NDArray[Any]]
    best_index_: int
    best_params_: dict[Any, Any]
    choice_: Any
    best_estimator_: Any
    n_splits_: int
    def __init__(
        self,
        estimator: Any,
        values: ArrayLike,
        *,
        param_name: str | None = ...,
        continuation: float = ...,
        cv: Any = ...,
        refit: Callable[..., Any] | None = ...,
        scoring: Callable[..., Any] | None = ...,
        n_jobs: int | None = ...,
    ) -> None: ...
    @property
    def feature_names_in_(self) -> Any: ...
    def fit(
        self,
        X: ArrayLike,
        y: Any = ...,
        *,
        groups: ArrayLike | None = ...,
        sample_weight: ArrayLike | None = ...,
    ) -> Self: ...
    def get_feature_names_out(self, input_features: ArrayLike | None = ...) -> NDArray[Any]: ...
    def inverse_transform(self, X: Any) -> NDArray[Any]: ...
    @property
    def n_features_in_(self) -> Any: ...
    def score(self, X: ArrayLike, y: Any = ..., sample_weight: ArrayLike | None = ...) -> float: ...
    def transform(self, X: ArrayLike) -> Any: ...

def choice_report(rule: Callable[..., Any], cv_results: dict[str, NDArray[Any]]) -> Any: ...

def compare(
    estimators: dict[str, Any] | list[Any],
    X: ArrayLike,
    y: ArrayLike | None = ...,
    *,
    cv: Any = ...,
    n_draws: int = ...,
    extractor: ActivationExtractor | None = ...,
    texts: Iterable[str] | None = ...,
    random_state: int | random.RandomState | None = ...,
    n_jobs: int | None = ...,
) -> ScoreTable: ...

def feature_stability(
    estimator: Any,
    X: ArrayLike,
    *,
    n_seeds: int = ...,
    threshold: float = ...,
    random_state: int | random.RandomState | None = ...,
) -> Any: ...

def sparse_probing(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    k: int | Sequence[int] = ...,
    cv: Any = ...,
    scoring: str | Callable[..., Any] | None = ...,
    baseline: Any = ...,
    n_draws: int = ...,
    random_state: int | random.RandomState | None = ...,
) -> ScoreTable: ...
