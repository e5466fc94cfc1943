# Made by python -m tests.public_types.stubs from the docstrings; do not edit.
Rule: Any
from collections.abc import Callable
from numpy.typing import NDArray
from typing import Any, Literal, NamedTuple

__all__ = [
    "BatchTopK",
    "FrozenTopK",
    "Gated",
    "JumpReLU",
    "L1",
    "Matryoshka",
    "Objective",
    "Rule",
    "TopK",
    "Weight",
    "reconstruction_loss",
]

class L1(Objective):
    alpha: float
    alpha_warm_up: float
    unit_norm: bool
    def __init__(
        self,
        alpha: float = ...,
        alpha_warm_up: float = ...,
        target_l0: float | None = ...,
        unit_norm: bool = ...,
    ) -> None: ...
    def backward(self, entries: Any, alpha: Any, dead: Any) -> Any: ...
    def events(self, rows: Any, n_steps: Any, generator: Any) -> Any: ...
    def initial_weights(self, rows: Any, n_components: Any, generator: Any) -> Any: ...
    def loss(self, entries: Any, alpha: Any, dead: Any) -> Any: ...
    def rule(self, weights: Any) -> Any: ...

class BatchTopK(TopK):
    k: float
    auxk_alpha: float
    k_aux: int
    def __init__(
        self,
        k: float,
        auxk_alpha: float = ...,
        k_aux: int = ...,
        variance: float | None = ...,
    ) -> None: ...
    def calibrated(self, weights: Any, engine: Any, rows: Any) -> Any: ...
    def fitted_rule(self, fitted: Any) -> Any: ...
    def rule(self, weights: Any) -> Any: ...

class FrozenTopK(TopK):
    k: int
    auxk_alpha: float
    k_aux: int
    strategy: Literal["random", "data", "pca", "frozen_decoder", "soft_frozen_decoder", "frozen_encoder"]
    def __init__(
        self,
        k: int,
        auxk_alpha: float = ...,
        k_aux: int = ...,
        variance: float | None = ...,
        strategy: Literal["random", "data", "pca", "frozen_decoder", "soft_frozen_decoder", "frozen_encoder"] = ...,
    ) -> None: ...
    def events(self, rows: Any, n_steps: Any, generator: Any) -> Any: ...
    def fold(self, weights: Any, normalization: Any) -> Any: ...
    def initial_weights(self, rows: Any, n_components: Any, generator: Any) -> Any: ...
    @property
    def is_drawn(self) -> Any: ...
    def unfold(self, fitted: Any, normalization: Any) -> Any: ...

class Gated(Objective):
    alpha: float
    alpha_warm_up: float
    unit_norm: bool
    def __init__(
        self,
        alpha: float = ...,
        alpha_warm_up: float = ...,
        target_l0: float | None = ...,
        unit_norm: bool = ...,
    ) -> None: ...
    def backward(self, entries: Any, alpha: Any, dead: Any) -> Any: ...
    def fitted_rule(self, fitted: Any) -> Any: ...
    def fold(self, weights: Any, normalization: Any) -> Any: ...
    def initial_weights(self, rows: Any, n_components: Any, generator: Any) -> Any: ...
    def loss(self, entries: Any, alpha: Any, dead: Any) -> Any: ...
    def rule(self, weights: Any) -> Any: ...
    def unfold(self, fitted: Any, normalization: Any) -> Any: ...

class JumpReLU(Objective):
    alpha: float
    alpha_warm_up: float
    penalty: Literal["l0", "tanh"]
    bandwidth: float
    threshold_init: float
    tanh_scale: float
    pre_activation_alpha: float
    def __init__(
        self,
        alpha: float = ...,
        alpha_warm_up: float = ...,
        target_l0: float | None = ...,
        penalty: Literal["l0", "tanh"] = ...,
        bandwidth: float = ...,
        threshold_init: float = ...,
        tanh_scale: float = ...,
        pre_activation_alpha: float = ...,
    ) -> None: ...
    def backward(self, entries: Any, alpha: Any, dead: Any) -> Any: ...
    def events(self, rows: Any, n_steps: Any, generator: Any) -> Any: ...
    def fitted_rule(self, fitted: Any) -> Any: ...
    def initial_weights(self, rows: Any, n_components: Any, generator: Any) -> Any: ...
    @property
    def knows_gradients(self) -> Any: ...
    def loss(self, entries: Any, alpha: Any, dead: Any) -> Any: ...
    def rate_scales(self, reach: Any) -> Any: ...
    def rule(self, weights: Any) -> Any: ...

class Matryoshka(BatchTopK):
    k: float
    auxk_alpha: float
    k_aux: int
    widths: tuple[int, ...]
    def __init__(
        self,
        k: float,
        auxk_alpha: float = ...,
        k_aux: int = ...,
        variance: float | None = ...,
        widths: tuple[int, ...] = ...,
    ) -> None: ...
    def backward(self, entries: Any, alpha: Any, dead: Any) -> Any: ...
    def loss(self, entries: Any, alpha: Any, dead: Any) -> Any: ...

class Objective:
    weights: dict[str, Weight]
    resolved: tuple[str, ...]
    unit_norm: bool
    blocks: dict[str, int]
    pre_bias: bool
    encoder_scale: float
    rates: dict[str, float]
    alpha: float
    alpha_warm_up: float
    target_l0: float | None
    fewest_steps: int
    def backward(self, entries: Any, alpha: float, dead: Any) -> tuple[Any, Any]: ...
    def calibrated(self, weights: dict[str, Any], engine: Any, rows: Any) -> dict[str, Any]: ...
    @property
    def declared(self) -> Any: ...
    def events(self, rows: Any, n_steps: int, generator: Any) -> list[Callable[..., Any]]: ...
    def fitted_rule(self, fitted: dict[str, NDArray[Any]]) -> Any: ...
    def fold(self, weights: dict[str, Any], normalization: Any) -> Any: ...
    def initial_weights(self, rows: Any, n_components: int, generator: Any) -> Any: ...
    @property
    def knows_gradients(self) -> Any: ...
    @property
    def linear_maps(self) -> Any: ...
    def loss(self, entries: Any, alpha: float, dead: Any) -> tuple[Any, Any]: ...
    @property
    def n_active(self) -> Any: ...
    def rate_scales(self, reach: float) -> dict[str, float]: ...
    def rule(self, weights: dict[str, Any]) -> Any: ...
    def unfold(self, fitted: dict[str, Any], normalization: Any) -> Any: ...
    @property
    def widths_of_blocks(self) -> Any: ...

class TopK(Objective):
    k: int
    auxk_alpha: float
    k_aux: int
    def __init__(
        self,
        k: int,
        auxk_alpha: float = ...,
        k_aux: int = ...,
        variance: float | None = ...,
    ) -> None: ...
    def backward(self, entries: Any, alpha: Any, dead: Any) -> Any: ...
    def loss(self, entries: Any, alpha: Any, dead: Any) -> Any: ...
    @property
    def n_active(self) -> Any: ...
    def rule(self, weights: Any) -> Any: ...

class Weight(NamedTuple):
    axes: Literal["m", "d", "t", "mt", "md", "td"]
    unit: Literal["code", "column", None]
    nonnegative: bool
    initial: float
    trained: bool
    fitted: bool

def reconstruction_loss(entries: Any, reconstruction: Any) -> Any: ...
