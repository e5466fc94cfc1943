# Made by python -m tests.public_types.stubs from the docstrings; do not edit.
from collections.abc import Callable, Iterable, Sequence
from numpy import random
from numpy.typing import ArrayLike, NDArray
from pathlib import Path
from sklearn.base import BaseEstimator
from sklearn.base import TransformerMixin
from sklearn.feature_selection import SelectorMixin
from sksae.language_models import ActivationExtractor
from typing import Any, Literal, NamedTuple, Self

__all__ = [
    "CachedClient",
    "Example",
    "ExampleImage",
    "ExampleSide",
    "Explanation",
    "Feature",
    "FeatureAtlas",
    "FeatureContrast",
    "ImagePatches",
    "LocalClient",
    "OpenAIClient",
    "PromptCodes",
    "Quantile",
    "Related",
    "RowSample",
    "annotate",
    "auroc",
    "choose_features",
    "estimate_annotation_cost",
    "estimate_cost",
    "explain",
    "explain_from_tokens",
    "load_explanations",
    "log_odds_z",
    "max_activating_examples",
    "read_prompt",
    "save_explanations",
    "score_by_steering",
    "score_explanations",
    "split_examples",
    "split_texts",
    "validate",
    "welch_t",
]

class CachedClient:
    n_asked: int
    n_found: int
    def __init__(
        self,
        client: Any,
        path: str | Path,
        *,
        identity: str | dict[Any, Any] | None = ...,
    ) -> None: ...
    def complete(self, messages: list[dict[Any, Any]]) -> str: ...

class Example:
    row: int
    text: Any
    activation: float
    tokens: NDArray[Any]
    activations: NDArray[Any]
    peak: int
    cut_before: bool
    cut_after: bool
    def __init__(
        self,
        row: int,
        text: Any,
        activation: float,
        tokens: NDArray[Any],
        activations: NDArray[Any],
        peak: int,
        cut_before: bool = ...,
        cut_after: bool = ...,
        image: ExampleImage | None = ...,
    ) -> None: ...
    def line(self, *, width: int | None = ..., marks: tuple[str, str] = ...) -> str: ...

class ExampleImage:
    number: int
    pixels: NDArray[Any] | None
    heat: NDArray[Any]
    peak: tuple[Any, ...] | None
    def __init__(
        self,
        number: int,
        pixels: NDArray[Any] | None,
        heat: NDArray[Any],
        peak: tuple[Any, ...] | None,
    ) -> None: ...
    @property
    def is_whole(self) -> Any: ...
    def png(self) -> Any: ...

class ExampleSide(NamedTuple):
    top: list[Example]
    quantiles: list[list[Example]]
    silent: dict[str, list[Example]]
    def windows(self) -> list[Example]: ...

class Explanation:
    feature: int
    text: str
    source: str
    scores: dict[str, dict[Any, Any]]
    seen: tuple[Any, ...]
    def __init__(
        self,
        feature: int,
        text: str,
        source: str = ...,
        scores: dict[str, dict[Any, Any]] = ...,
        seen: tuple[Any, ...] = ...,
    ) -> None: ...
    @property
    def is_doubted(self) -> bool: ...

class Feature:
    feature: int
    n_active: int
    density: float
    n_texts: int
    max_activation: float
    mean_activation: float
    n_unique: int
    flags: tuple[str, ...]
    top_tokens: list[tuple[str, float]]
    examples: list[Example]
    sampled: list[Example]
    weights: NDArray[Any]
    silent: dict[str, list[Example]]
    histogram: tuple[Any, ...]
    promoted: list[tuple[str, float]]
    suppressed: list[tuple[str, float]]
    nearest: list[Related]
    coactive: list[Related]
    def __init__(
        self,
        feature: int,
        n_active: int,
        density: float,
        n_texts: int,
        max_activation: float,
        mean_activation: float,
        n_unique: int,
        flags: tuple[str, ...],
        top_tokens: list[tuple[str, float]],
        examples: list[Example],
        sampled: list[Example] = ...,
        weights: NDArray[Any] = ...,
        silent: dict[str, list[Example]] = ...,
        histogram: tuple[Any, ...] = ...,
        promoted: list[tuple[str, float]] = ...,
        suppressed: list[tuple[str, float]] = ...,
        nearest: list[Related] = ...,
        coactive: list[Related] = ...,
    ) -> None: ...
    def quantiles(self, n_quantiles: int = ...) -> list[Quantile]: ...

class FeatureAtlas(BaseEstimator):
    sae: Any
    extractor: ActivationExtractor | None
    language_model: Any
    tokenizer: Any
    n_examples: int
    n_per_octave: int
    n_silent: int
    before: int
    after: int
    n_neighbors: int
    n_tokens: int
    random_state: int
    n_components_: int
    n_rows_: int
    n_texts_: int
    n_active_: NDArray[Any]
    density_: NDArray[Any]
    max_activation_: NDArray[Any]
    mean_activation_: NDArray[Any]
    map_: NDArray[Any] | None
    image_grid_: tuple[Any, ...] | None
    facts_: dict[Any, Any]
    def __init__(
        self,
        sae: Any = ...,
        *,
        extractor: ActivationExtractor | None = ...,
        language_model: Any = ...,
        tokenizer: Any = ...,
        n_examples: int = ...,
        n_per_octave: int = ...,
        n_silent: int = ...,
        before: int = ...,
        after: int = ...,
        n_neighbors: int = ...,
        n_tokens: int = ...,
        random_state: int = ...,
    ) -> None: ...
    def feature(self, feature: int) -> Feature: ...
    def fit(
        self,
        X: ArrayLike | Iterable[Any],
        tokens: Any = ...,
        images: ImagePatches | None = ...,
    ) -> Self: ...
    @classmethod
    def load(cls, path: str | Path) -> FeatureAtlas: ...
    def row_sample(self, feature: int) -> RowSample: ...
    def save(self, path: str | Path) -> Path: ...
    def table(self, features: ArrayLike | None = ...) -> Any: ...

class FeatureContrast(SelectorMixin, TransformerMixin, BaseEstimator):
    statistic: Literal["log_odds", "welch_t", "auroc", "mean_difference", "specificity", "spearman", "linear", "wilcoxon", "auto"]
    target_type: Literal["auto", "binary", "multiclass", "continuous", "ordinal", "counts"]
    alpha: float
    min_documents: int
    min_effect: float
    pos_label: Any
    pooling: Literal["max", "mean", "fired", None]
    n_permutations: int
    held_out: float
    n_features_to_select: int | None
    selection: Literal["greedy", "lasso"]
    random_state: int | random.RandomState | None
    target_type_: str
    statistic_: str
    classes_: NDArray[Any]
    pos_label_: Any
    n_pos_: int
    n_neg_: int
    n_documents_: NDArray[Any]
    mean_pos_: NDArray[Any]
    mean_neg_: NDArray[Any]
    mean_difference_: NDArray[Any]
    t_: NDArray[Any]
    cohen_d_: NDArray[Any]
    firing_rate_pos_: NDArray[Any]
    firing_rate_neg_: NDArray[Any]
    log_odds_: NDArray[Any]
    z_: NDArray[Any]
    auroc_: NDArray[Any]
    auroc_low_: NDArray[Any]
    auroc_high_: NDArray[Any]
    specificity_: NDArray[Any]
    target_firing_: NDArray[Any]
    target_silent_: NDArray[Any]
    strongest_class_: NDArray[Any]
    class_effects_: NDArray[Any]
    class_pvalues_: NDArray[Any]
    class_qvalues_: NDArray[Any]
    scores_: NDArray[Any]
    effects_: NDArray[Any]
    effects_low_: NDArray[Any]
    effects_high_: NDArray[Any]
    pvalues_: NDArray[Any]
    qvalues_: NDArray[Any]
    family_pvalues_: NDArray[Any]
    held_out_auroc_: NDArray[Any]
    held_out_effects_: NDArray[Any]
    held_out_pvalues_: NDArray[Any]
    chosen_: NDArray[Any]
    gains_: NDArray[Any]
    baseline_: FeatureContrast
    n_features_in_: int
    feature_names_in_: NDArray[Any]
    def __init__(
        self,
        statistic: Literal["log_odds", "welch_t", "auroc", "mean_difference", "specificity", "spearman", "linear", "wilcoxon", "auto"] = ...,
        *,
        target_type: Literal["auto", "binary", "multiclass", "continuous", "ordinal", "counts"] = ...,
        alpha: float = ...,
        min_documents: int = ...,
        min_effect: float = ...,
        pos_label: Any = ...,
        pooling: Literal["max", "mean", "fired", None] = ...,
        n_permutations: int = ...,
        held_out: float = ...,
        n_features_to_select: int | None = ...,
        selection: Literal["greedy", "lasso"] = ...,
        random_state: int | random.RandomState | None = ...,
    ) -> None: ...
    def _get_support_mask(self) -> Any: ...
    def compare(self) -> Any: ...
    def fit(
        self,
        X: Any,
        y: ArrayLike,
        groups: ArrayLike | None = ...,
        *,
        covariates: Any = ...,
        baseline: Any = ...,
    ) -> Self: ...
    def table(self, feature_names: ArrayLike | dict[Any, Any] | None = ...) -> Any: ...

class ImagePatches:
    def __init__(
        self,
        images: Any,
        grid: tuple[Any, ...] | None = ...,
        *,
        image: ArrayLike | None = ...,
        patch: ArrayLike | None = ...,
        side: int = ...,
    ) -> None: ...

class LocalClient:
    name: str
    identity: dict[Any, Any]
    def __init__(self, model: Any, tokenizer: Any, *, max_new_tokens: int = ...) -> None: ...
    def complete(self, messages: list[dict[Any, Any]]) -> str: ...

class OpenAIClient:
    name: str
    identity: dict[Any, Any]
    usage: dict[str, int]
    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = ...,
        api_key: str | None = ...,
        timeout: float = ...,
        max_retries: int = ...,
        wait: float = ...,
        temperature: float | None = ...,
        seed: int | None = ...,
        options: dict[Any, Any] | None = ...,
    ) -> None: ...
    def complete(self, messages: list[dict[Any, Any]]) -> str: ...

class PromptCodes:
    text: str
    tokens: NDArray[Any]
    codes: Any
    def __init__(self, text: str, tokens: NDArray[Any], codes: Any) -> None: ...
    def strongest(self, n_features: int = ...) -> NDArray[Any]: ...

class Quantile(NamedTuple):
    low: float
    high: float
    share: float
    examples: list[Example]

class Related(NamedTuple):
    feature: int
    cosine: float
    jaccard: float
    conditional: float

class RowSample(NamedTuple):
    row: NDArray[Any]
    activation: NDArray[Any]
    label: NDArray[Any]
    columns: list[str]
    values: NDArray[Any]
    loadings: NDArray[Any] | None

def annotate(
    texts: Sequence[str],
    explanations: dict[int, Explanation | str],
    client: Any = ...,
    *,
    per_question: int = ...,
    max_characters: int = ...,
    max_concurrency: int = ...,
    verbose: int = ...,
) -> Any: ...

def auroc(
    X: Any,
    y: ArrayLike,
    *,
    pos_label: Any = ...,
    signed: bool = ...,
) -> tuple[NDArray[Any], NDArray[Any]]: ...

def choose_features(
    atlas: FeatureAtlas,
    *,
    n_features: int = ...,
    min_active: int = ...,
    min_texts: int = ...,
) -> NDArray[Any]: ...

def estimate_annotation_cost(
    texts: Sequence[str],
    explanations: dict[int, Explanation | str],
    *,
    price_per_million: tuple[float, float] = ...,
    per_question: int = ...,
    max_characters: int = ...,
    count_tokens: Callable[..., Any] | None = ...,
) -> dict[Any, Any]: ...

def estimate_cost(
    atlas: FeatureAtlas,
    features: ArrayLike | None = ...,
    *,
    methods: Sequence[str] = ...,
    price_per_million: tuple[float, float] = ...,
    n_examples: int = ...,
    n_candidates: int = ...,
    per_question: int = ...,
    min_examples: int = ...,
    baselines: bool = ...,
    baseline: tuple[FeatureAtlas | dict[int, Explanation | str], ...] | None = ...,
    count_tokens: Callable[..., Any] | None = ...,
    random_state: int = ...,
) -> dict[Any, Any]: ...

def explain(
    atlas: FeatureAtlas,
    client: Any = ...,
    features: ArrayLike | None = ...,
    *,
    rows: Literal["auto", "tokens", "texts", "table", "numbers"] = ...,
    n_examples: int = ...,
    n_candidates: int = ...,
    max_concurrency: int = ...,
    random_state: int = ...,
    verbose: int = ...,
) -> dict[int, Explanation]: ...

def explain_from_tokens(feature: Feature, *, random_state: int = ...) -> str: ...

def load_explanations(path: str | Path) -> dict[int, Explanation]: ...

def log_odds_z(
    X: Any,
    y: ArrayLike,
    *,
    pos_label: Any = ...,
    signed: bool = ...,
) -> tuple[NDArray[Any], NDArray[Any]]: ...

def max_activating_examples(
    codes: Any,
    tokens: Any = ...,
    features: ArrayLike | None = ...,
    *,
    n_examples: int = ...,
    before: int = ...,
    after: int = ...,
    one_per_text: bool = ...,
) -> dict[int, list[Example]]: ...

def read_prompt(extractor: ActivationExtractor, sae: Any, text: str) -> PromptCodes: ...

def save_explanations(path: str | Path, explanations: dict[int, Explanation] | str) -> Path: ...

def score_by_steering(
    explanations: dict[int, Explanation | str],
    model: Any,
    site: str | tuple[int, str],
    sae: Any,
    client: Any = ...,
    *,
    tokenizer: Any,
    maxima: ArrayLike,
    prompts: Sequence[str] = ...,
    strength: float = ...,
    n_tokens: int = ...,
    max_concurrency: int = ...,
    random_state: int = ...,
    verbose: int = ...,
) -> dict[int, Explanation]: ...

def score_explanations(
    atlas: FeatureAtlas,
    explanations: dict[int, Explanation | str],
    client: Any = ...,
    *,
    methods: Sequence[str] | None = ...,
    embed: Callable[..., Any] | None = ...,
    n_examples: int = ...,
    per_question: int = ...,
    min_examples: int = ...,
    baselines: bool = ...,
    baseline: tuple[FeatureAtlas | dict[int, Explanation | str], ...] | None = ...,
    max_concurrency: int = ...,
    random_state: int = ...,
    verbose: int = ...,
) -> dict[int, Explanation]: ...

def split_examples(
    feature: Feature,
    *,
    n_quantiles: int = ...,
    seen: Any = ...,
    random_state: int = ...,
) -> ExampleSide: ...

def split_texts(
    texts: Sequence[str],
    *,
    groups: ArrayLike | None = ...,
    test_size: float = ...,
    random_state: int | random.RandomState | None = ...,
) -> NDArray[Any]: ...

def validate(
    texts: Sequence[str],
    y: ArrayLike,
    explanations: dict[int, Explanation | str],
    client: Any = ...,
    *,
    codes: Any = ...,
    contrast: FeatureContrast | None = ...,
    groups: ArrayLike | None = ...,
    covariates: Any = ...,
    target_type: str = ...,
    alpha: float = ...,
    min_documents: int = ...,
    annotations: Any = ...,
    written_from: Sequence[str] | None = ...,
    n_examples: int = ...,
    random_state: int = ...,
    **options: dict[Any, Any],
) -> Any: ...

def welch_t(
    X: Any,
    y: ArrayLike,
    *,
    pos_label: Any = ...,
    signed: bool = ...,
) -> tuple[NDArray[Any], NDArray[Any]]: ...
