# Made by python -m tests.public_types.stubs from the docstrings; do not edit.
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from numpy import memmap, random
from numpy.typing import ArrayLike, NDArray
from pathlib import Path
from sklearn.base import BaseEstimator
from sklearn.base import TransformerMixin
from sksae.autoencoders import Transcoder
from typing import Any, Literal, Self

__all__ = [
    "ActivationExtractor",
    "Attribution",
    "AttributionGraph",
    "Behaviour",
    "FeatureCircuit",
    "LogitLens",
    "SAEVectorizer",
    "TokenBehaviour",
    "TokenTable",
    "attribute",
    "attribution_graph",
    "describe_behaviour",
    "downstream_metrics",
    "extract_paired",
    "feature_circuit",
    "load_activations",
    "logit_lens",
    "make_downstream_scorer",
    "patch",
    "randomized_model",
    "read_activations",
    "steer",
]

class ActivationExtractor(TransformerMixin, BaseEstimator):
    model: Any
    layer: int | list[int] | None
    site: str | list[Any]
    tokenizer: Any
    image_processor: Any
    pooling: Literal[None, "mean", "max", "first", "last"] | None
    max_length: int | None
    include_special_tokens: bool
    drop_first_position: bool
    max_norm_ratio: float | None
    prepend_bos: bool
    position_ids: bool
    batch_tokens: int
    device: str
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    verbose: int | bool
    def __init__(
        self,
        model: Any,
        layer: int | list[int] | None = ...,
        site: str | list[Any] = ...,
        *,
        tokenizer: Any = ...,
        image_processor: Any = ...,
        pooling: Literal[None, "mean", "max", "first", "last"] | None = ...,
        max_length: int | None = ...,
        include_special_tokens: bool = ...,
        drop_first_position: bool = ...,
        max_norm_ratio: float | None = ...,
        prepend_bos: bool = ...,
        position_ids: bool = ...,
        batch_tokens: int = ...,
        device: str = ...,
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = ...,
        verbose: int | bool = ...,
    ) -> None: ...
    def extract(self, X: Iterable[Any]) -> tuple[NDArray[Any], TokenTable]: ...
    def extract_chunks(self, X: Iterable[Any]) -> Iterator[tuple[Any, Any, Any]]: ...
    def fit(self, X: Iterable[Any], y: Any = ...) -> Self: ...
    @classmethod
    def for_sae(
        cls,
        sae: Any,
        *,
        with_target: bool = ...,
        **params: Any,
    ) -> ActivationExtractor: ...
    def get_feature_names_out(self, input_features: Any = ...) -> NDArray[Any]: ...
    def split(self, rows: NDArray[Any]) -> dict[str, NDArray[Any]]: ...
    def stream(
        self,
        X: Iterable[Any],
        *,
        chunk_rows: int = ...,
        buffer_rows: int | None = ...,
        random_state: int | random.RandomState | None = ...,
    ) -> Iterator[NDArray[Any]]: ...
    def to_memmap(
        self,
        X: Iterable[Any],
        path: str | Path,
        dtype: Literal["float16", "float32"] = ...,
    ) -> tuple[memmap[Any, Any] | dict[str, memmap[Any, Any]], TokenTable]: ...
    def transform(self, X: Iterable[Any]) -> NDArray[Any]: ...

class Attribution:
    site: NDArray[Any]
    position: NDArray[Any]
    token: NDArray[Any]
    feature: NDArray[Any]
    activation: NDArray[Any]
    baseline_activation: NDArray[Any]
    effect: NDArray[Any]
    exact: NDArray[Any]
    name: NDArray[Any]
    total: dict[str, float]
    completeness: dict[str, float]
    clean: float
    metric: str
    def __init__(
        self,
        site: NDArray[Any],
        position: NDArray[Any],
        token: NDArray[Any],
        feature: NDArray[Any],
        activation: NDArray[Any],
        baseline_activation: NDArray[Any],
        effect: NDArray[Any],
        exact: NDArray[Any],
        name: NDArray[Any],
        total: dict[str, float],
        completeness: dict[str, float],
        clean: float,
        metric: str,
    ) -> None: ...
    def __getitem__(self, rows: Any) -> Any: ...
    def __len__(self) -> int: ...
    def to_frame(self) -> Any: ...

class AttributionGraph:
    kind: NDArray[Any]
    layer: NDArray[Any]
    position: NDArray[Any]
    feature: NDArray[Any]
    activation: NDArray[Any]
    bias: NDArray[Any]
    influence: NDArray[Any]
    cumulative_influence: NDArray[Any]
    name: NDArray[Any]
    adjacency: NDArray[Any]
    tokens: list[str]
    prompt: str
    logit_tokens: list[str]
    logit_probabilities: NDArray[Any]
    n_active: int
    def __init__(
        self,
        kind: NDArray[Any],
        layer: NDArray[Any],
        position: NDArray[Any],
        feature: NDArray[Any],
        activation: NDArray[Any],
        bias: NDArray[Any],
        influence: NDArray[Any],
        cumulative_influence: NDArray[Any],
        name: NDArray[Any],
        adjacency: NDArray[Any],
        tokens: list[str],
        prompt: str,
        logit_tokens: list[str],
        logit_probabilities: NDArray[Any],
        n_active: int,
    ) -> None: ...
    def __len__(self) -> int: ...
    @classmethod
    def from_json(cls, path: str | Path) -> AttributionGraph: ...
    @property
    def n_layers(self) -> Any: ...
    @property
    def node_ids(self) -> Any: ...
    def plot(self, ax: Any = ..., *, n_nodes: int = ..., n_edges: int = ...) -> Any: ...
    def predicted_change(self, nodes: ArrayLike | bool, *, direct: bool = ...) -> NDArray[Any]: ...
    def prune(
        self,
        node_threshold: float = ...,
        edge_threshold: float = ...,
    ) -> AttributionGraph: ...
    def scores(self) -> dict[str, float]: ...
    def to_frame(self) -> Any: ...
    def to_json(
        self,
        path: str | Path | None = ...,
        *,
        slug: str = ...,
        scan: str = ...,
    ) -> dict[Any, Any]: ...

class Behaviour:
    position: NDArray[Any]
    token: NDArray[Any]
    feature: NDArray[Any]
    activation: NDArray[Any]
    share_of_max: NDArray[Any]
    density: NDArray[Any]
    direct_logit: NDArray[Any]
    gradient: NDArray[Any]
    exact: NDArray[Any]
    name: NDArray[Any]
    tokens: TokenBehaviour
    metric: str
    value: float
    target: str
    predicted: str
    target_log_probability: float
    predicted_log_probability: float
    def __init__(
        self,
        position: NDArray[Any],
        token: NDArray[Any],
        feature: NDArray[Any],
        activation: NDArray[Any],
        share_of_max: NDArray[Any],
        density: NDArray[Any],
        direct_logit: NDArray[Any],
        gradient: NDArray[Any],
        exact: NDArray[Any],
        name: NDArray[Any],
        tokens: TokenBehaviour,
        metric: str,
        value: float,
        target: str,
        predicted: str,
        target_log_probability: float,
        predicted_log_probability: float,
    ) -> None: ...
    def __getitem__(self, rows: Any) -> Any: ...
    def __len__(self) -> int: ...
    def lines(self, n_rows: int = ...) -> list[str]: ...
    def strongest(self, position: int) -> Behaviour: ...
    def to_frame(self) -> Any: ...

class FeatureCircuit:
    nodes: Attribution
    edges: Any
    faithfulness: float
    completeness: float
    sites: list[str]
    tokens: list[str]
    prompt: str
    metric_tokens: tuple[int, ...]
    def __init__(
        self,
        nodes: Attribution,
        edges: Any,
        faithfulness: float,
        completeness: float,
        sites: list[str],
        tokens: list[str],
        prompt: str = ...,
        metric_tokens: tuple[int, ...] = ...,
    ) -> None: ...
    def plot(self, ax: Any = ..., *, n_edges: int = ...) -> Any: ...
    def to_graphml(self, path: str | Path) -> None: ...
    def to_json(
        self,
        path: str | Path | None = ...,
        *,
        slug: str = ...,
        scan: str = ...,
    ) -> dict[Any, Any]: ...
    def to_networkx(self) -> Any: ...

class LogitLens:
    feature: NDArray[Any]
    promoted_ids: NDArray[Any]
    suppressed_ids: NDArray[Any]
    promoted: NDArray[Any]
    suppressed: NDArray[Any]
    promoted_logits: NDArray[Any]
    suppressed_logits: NDArray[Any]
    kurtosis: NDArray[Any]
    def __init__(
        self,
        feature: NDArray[Any],
        promoted_ids: NDArray[Any],
        suppressed_ids: NDArray[Any],
        promoted: NDArray[Any],
        suppressed: NDArray[Any],
        promoted_logits: NDArray[Any],
        suppressed_logits: NDArray[Any],
        kurtosis: NDArray[Any],
    ) -> None: ...
    def __len__(self) -> int: ...
    def lines(self) -> list[str]: ...
    def to_frame(self) -> Any: ...

class SAEVectorizer(TransformerMixin, BaseEstimator):
    extractor: ActivationExtractor
    sae: Any
    pooling: Literal["max", "mean", "first", "last"]
    sparse_output: bool
    prefit: Literal["auto"] | bool
    sae_: Any
    def __init__(
        self,
        extractor: ActivationExtractor,
        sae: Any,
        pooling: Literal["max", "mean", "first", "last"] = ...,
        *,
        sparse_output: bool = ...,
        prefit: Literal["auto"] | bool = ...,
    ) -> None: ...
    def fit(self, X: Iterable[Any], y: Any = ...) -> Self: ...
    def fit_transform(self, X: Iterable[Any], y: Any = ...) -> Any: ...
    def get_feature_names_out(self, input_features: Any = ...) -> NDArray[Any]: ...
    def set_feature_names(self, names: Any) -> Self: ...
    def transform(self, X: Iterable[Any]) -> Any: ...

class TokenBehaviour:
    position: NDArray[Any]
    token: NDArray[Any]
    predicted_id: NDArray[Any]
    predicted: NDArray[Any]
    logit: NDArray[Any]
    unexplained: NDArray[Any]
    error_direct: NDArray[Any]
    error_gradient: NDArray[Any]
    intercept_direct: NDArray[Any]
    intercept_gradient: NDArray[Any]
    dense_direct: NDArray[Any]
    dense_gradient: NDArray[Any]
    rest_direct: NDArray[Any]
    rest_gradient: NDArray[Any]
    constant: NDArray[Any]
    def __init__(
        self,
        position: NDArray[Any],
        token: NDArray[Any],
        predicted_id: NDArray[Any],
        predicted: NDArray[Any],
        logit: NDArray[Any],
        unexplained: NDArray[Any],
        error_direct: NDArray[Any],
        error_gradient: NDArray[Any],
        intercept_direct: NDArray[Any],
        intercept_gradient: NDArray[Any],
        dense_direct: NDArray[Any],
        dense_gradient: NDArray[Any],
        rest_direct: NDArray[Any],
        rest_gradient: NDArray[Any],
        constant: NDArray[Any],
    ) -> None: ...
    def __getitem__(self, rows: Any) -> Any: ...
    def __len__(self) -> int: ...
    def to_frame(self) -> Any: ...

class TokenTable:
    text: NDArray[Any]
    position: NDArray[Any]
    id: NDArray[Any]
    string: NDArray[Any]
    start: NDArray[Any]
    end: NDArray[Any]
    group: NDArray[Any]
    texts: list[str]
    policy: dict[Any, Any]
    def __init__(
        self,
        text: NDArray[Any],
        position: NDArray[Any],
        id: NDArray[Any],
        string: NDArray[Any],
        start: NDArray[Any],
        end: NDArray[Any],
        group: NDArray[Any],
        texts: list[str],
        policy: dict[Any, Any] = ...,
    ) -> None: ...
    def __getitem__(self, rows: Any) -> Any: ...
    def __len__(self) -> int: ...
    def merged(self) -> tuple[TokenTable, NDArray[Any]]: ...
    def to_frame(self) -> Any: ...

def attribute(
    model: Any,
    sites: str | tuple[int, str] | list[Any],
    saes: Any,
    prompt: str | NDArray[Any] | list[Any],
    metric: Any = ...,
    *,
    target_sites: str | tuple[int, str] | list[Any] | None = ...,
    baseline: Literal[None, "patch", "mean", "zero"] | None = ...,
    counterfactual: str | NDArray[Any] | list[Any] | None = ...,
    background: list[str] | None = ...,
    method: Literal["integrated_gradients", "attribution_patching"] = ...,
    n_steps: int = ...,
    verify: int = ...,
    names: Mapping[int, str] | list[Any] | None = ...,
    tokenizer: Any = ...,
    batch_size: int = ...,
    max_nodes: int = ...,
) -> Attribution: ...

def attribution_graph(
    model: Any,
    sites: str | list[tuple[int, str]],
    transcoders: list[Transcoder],
    prompt: str | NDArray[Any] | list[Any],
    *,
    target_sites: str | list[tuple[int, str]] | None = ...,
    max_logits: int = ...,
    logit_probability: float = ...,
    max_feature_nodes: int = ...,
    include_special_tokens: bool = ...,
    names: Mapping[int, str] | list[Any] | None = ...,
    tokenizer: Any = ...,
    batch_size: int = ...,
) -> AttributionGraph: ...

def describe_behaviour(
    model: Any,
    site: str | tuple[int, str],
    sae: Any,
    prompt: str | NDArray[Any] | list[Any],
    *,
    target_site: str | tuple[int, str] | None = ...,
    target: str | int | None = ...,
    metric: Literal["log_probability", "logit"] = ...,
    n_features: int = ...,
    max_density: float | None = ...,
    names: Mapping[int, str] | None = ...,
    maxima: ArrayLike | None = ...,
    verify: int = ...,
    tokenizer: Any = ...,
) -> Behaviour: ...

def downstream_metrics(
    extractor: ActivationExtractor,
    sae: Any,
    texts: Iterable[Any],
    *,
    mean: ArrayLike | None = ...,
) -> dict[str, float]: ...

def extract_paired(
    extractors: dict[str, ActivationExtractor],
    X: Iterable[Any],
) -> tuple[NDArray[Any], TokenTable, dict[str, int]]: ...

def feature_circuit(
    model: Any,
    sites: str | tuple[int, str] | list[Any],
    saes: Any,
    prompt: str | NDArray[Any] | list[Any],
    metric: Any = ...,
    *,
    baseline: Literal[None, "patch", "mean", "zero"] | None = ...,
    counterfactual: str | NDArray[Any] | list[Any] | None = ...,
    background: list[str] | None = ...,
    node_threshold: float = ...,
    edge_threshold: float = ...,
    positions: Literal["none", "sum"] = ...,
    method: Literal["integrated_gradients", "attribution_patching"] = ...,
    n_steps: int = ...,
    names: Mapping[int, str] | list[Any] | None = ...,
    tokenizer: Any = ...,
    batch_size: int = ...,
) -> FeatureCircuit: ...

def load_activations(
    path: str | Path,
    *,
    site: str | None = ...,
    verify: bool = ...,
    cache_dir: str | Path | None = ...,
) -> tuple[memmap[Any, Any] | dict[str, memmap[Any, Any]], TokenTable]: ...

def logit_lens(
    model: Any,
    sae: Any,
    features: ArrayLike | None = ...,
    *,
    n_tokens: int = ...,
    block_size: int = ...,
    tokenizer: Any = ...,
) -> LogitLens: ...

def make_downstream_scorer(
    extractor: ActivationExtractor,
    texts: Iterable[Any],
    metric: str = ...,
    *,
    mean: ArrayLike | None = ...,
) -> Callable[..., Any]: ...

def patch(
    model: Any,
    site: str | tuple[int, str],
    sae: Any,
    *,
    target_site: str | tuple[int, str] | None = ...,
    where: Any = ...,
    with_error: bool = ...,
) -> AbstractContextManager[Any]: ...

def randomized_model(
    model: Any,
    tokenizer: Any = ...,
    *,
    keep_embeddings: bool = ...,
    random_state: int | random.RandomState | None = ...,
) -> tuple[Any, Any]: ...

def read_activations(
    path: str | Path,
    *,
    format: Literal["auto", "vllm", "saelens", "bionemo"] = ...,
    site: int | str | None = ...,
    tokenizer: Any = ...,
    drop_first_position: bool = ...,
) -> tuple[NDArray[Any], TokenTable]: ...

def steer(
    model: Any,
    site: str | tuple[int, str],
    sae: Any,
    features: Mapping[int, float],
    how: Literal["add", "clamp", "scale", "ablate", "project_out"] = ...,
    *,
    target_site: str | tuple[int, str] | None = ...,
    unit: Literal["absolute", "norm", "max"] = ...,
    maxima: ArrayLike | Mapping[int, float] | None = ...,
    where: Any = ...,
    only_active: bool = ...,
    preserve_norm: bool = ...,
) -> AbstractContextManager[Any]: ...
