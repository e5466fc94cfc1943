# Made by python -m tests.public_types.stubs from the docstrings; do not edit.
from collections.abc import Iterable, Mapping
from numpy.typing import ArrayLike, NDArray
from pathlib import Path
from sklearn.base import BaseEstimator
from sklearn.base import OneToOneFeatureMixin
from sklearn.base import TransformerMixin
from sksae.autoencoders import BaseSAE
from sksae.autoencoders import JumpReLUSAE
from sksae.autoencoders import SparseAutoencoder
from sksae.autoencoders import TopKSAE
from sksae.autoencoders import Transcoder
from sksae.interpret import Explanation
from sksae.interpret import FeatureAtlas
from sksae.language_models import ActivationExtractor
from sksae.language_models import SAEVectorizer
from typing import Any, Literal, Self

__all__ = [
    "RowNormalizer",
    "from_pretrained",
    "load",
    "push_to_hub",
    "read",
    "read_circuit_tracer",
    "read_dictionary_learning",
    "read_feature_json",
    "read_gemma_scope",
    "read_goodfire",
    "read_llama_scope",
    "read_neuronpedia",
    "read_neuronpedia_features",
    "read_openai",
    "read_qwen_scope",
    "read_saelens",
    "read_sentence_transformers",
    "read_sparsify",
    "save_card",
    "write_circuit_tracer",
    "write_dictionary_learning",
    "write_feature_json",
    "write_gemma_scope",
    "write_neuronpedia",
    "write_saelens",
    "write_sentence_transformers",
    "write_sparsify",
]

class RowNormalizer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    method: Literal["layer_norm", "norm"]
    n_features_in_: int
    feature_names_in_: NDArray[Any]
    def __init__(self, method: Literal["layer_norm", "norm"] = ...) -> None: ...
    def fit(self, X: ArrayLike, y: Any = ...) -> Self: ...
    def restore(self, X_normalized: ArrayLike, X: ArrayLike) -> NDArray[Any]: ...
    def transform(self, X: ArrayLike) -> NDArray[Any]: ...

def from_pretrained(
    repo_or_path: str | Path,
    name: str | None = ...,
    *,
    format: str = ...,
    revision: str | None = ...,
    cache_dir: str | Path | None = ...,
    token: str | None = ...,
    local_files_only: bool = ...,
    **options: Any,
) -> Any: ...

def load(path: str | Path) -> BaseSAE: ...

def push_to_hub(
    sae: BaseSAE,
    repo: str,
    name: str | None = ...,
    *,
    extractor: ActivationExtractor | SAEVectorizer | None = ...,
    saelens: bool = ...,
    private: bool | None = ...,
    revision: str | None = ...,
    token: str | None = ...,
    commit_message: str | None = ...,
    **card: Any,
) -> str: ...

def read(
    path: str | Path,
    format: Literal["auto", "circuit_tracer", "dictionary_learning", "gemma_scope", "goodfire", "llama_scope", "openai", "qwen_scope", "saelens", "sentence_transformers", "sksae", "sparsify"] = ...,
    **options: Any,
) -> Any: ...

def read_circuit_tracer(
    path: str | Path,
    *,
    layer: int | None = ...,
    dtype: Literal["float32", "float64", None] | None = ...,
) -> list[Transcoder] | Transcoder: ...

def read_dictionary_learning(
    path: str | Path,
    *,
    dtype: Literal["float32", "float64", None] | None = ...,
) -> BaseSAE: ...

def read_feature_json(path: str | Path) -> dict[tuple[int, int], dict[Any, Any]]: ...

def read_gemma_scope(
    path: str | Path,
    *,
    dtype: Literal["float32", "float64", None] | None = ...,
) -> JumpReLUSAE | Transcoder: ...

def read_goodfire(
    path: str | Path,
    *,
    dtype: Literal["float32", "float64", None] | None = ...,
) -> SparseAutoencoder: ...

def read_llama_scope(
    path: str | Path,
    *,
    input_scale: float | None = ...,
    dtype: Literal["float32", "float64", None] | None = ...,
) -> BaseSAE: ...

def read_neuronpedia(path: str | Path, *, score: str | None = ...) -> dict[int, Explanation]: ...

def read_neuronpedia_features(path: str | Path) -> dict[int, dict[Any, Any]]: ...

def read_openai(
    path: str | Path,
    *,
    dtype: Literal["float32", "float64", None] | None = ...,
) -> Any: ...

def read_qwen_scope(
    path: str | Path,
    *,
    k: int | None = ...,
    dtype: Literal["float32", "float64", None] | None = ...,
) -> TopKSAE: ...

def read_saelens(
    path: str | Path,
    *,
    input_scale: float | None = ...,
    dtype: Literal["float32", "float64", None] | None = ...,
) -> Any: ...

def read_sentence_transformers(
    path: str | Path,
    *,
    dtype: Literal["float32", "float64", None] | None = ...,
) -> Any: ...

def read_sparsify(
    path: str | Path,
    *,
    dtype: Literal["float32", "float64", None] | None = ...,
) -> TopKSAE | Transcoder: ...

def save_card(
    path: str | Path,
    sae: BaseSAE,
    *,
    extractor: ActivationExtractor | SAEVectorizer | None = ...,
    X: ArrayLike | None = ...,
    metrics: dict[Any, Any] | None = ...,
    dataset: str | None = ...,
    license: str | None = ...,
    repo: str | None = ...,
    name: str | None = ...,
) -> Path: ...

def write_circuit_tracer(
    path: str | Path,
    transcoders: list[Transcoder],
    *,
    model: str | None = ...,
    site: str | None = ...,
    target_site: str | None = ...,
    scan: str | None = ...,
) -> Path: ...

def write_dictionary_learning(path: str | Path, sae: BaseSAE) -> Path: ...

def write_feature_json(
    path: str | Path,
    atlases: list[FeatureAtlas] | Mapping[int, FeatureAtlas],
    *,
    features: Iterable[tuple[int, int]] | None = ...,
    transcoder_id: str = ...,
    n_quantiles: int = ...,
) -> Path: ...

def write_gemma_scope(path: str | Path, sae: BaseSAE) -> Path: ...

def write_neuronpedia(
    path: str | Path,
    atlas: FeatureAtlas,
    *,
    model_id: str,
    set_name: str,
    layer: int | None = ...,
    suffix: str | None = ...,
    features: ArrayLike | None = ...,
    explanations: dict[int, Explanation] | str | None = ...,
    sae: Any = ...,
    hook_name: str | None = ...,
    n_quantiles: int = ...,
    batch_size: int = ...,
    creator_id: str = ...,
    created_at: Any = ...,
    further: dict[str, dict[Any, Any]] | None = ...,
    overwrite: bool = ...,
) -> Path: ...

def write_saelens(path: str | Path, sae: Any, *, metadata: dict[Any, Any] | None = ...) -> Path: ...

def write_sentence_transformers(path: str | Path, sae: Any, *, codes_only: bool = ...) -> Path: ...

def write_sparsify(path: str | Path, sae: TopKSAE | Transcoder) -> Path: ...
