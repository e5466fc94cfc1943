# Made by python -m tests.public_types.stubs from the docstrings; do not edit.
from collections.abc import Sequence
from numpy.typing import ArrayLike
from pathlib import Path
from sksae.interpret import Explanation
from sksae.interpret import Feature
from sksae.interpret import FeatureAtlas
from sksae.interpret import PromptCodes
from sksae.language_models import AttributionGraph
from typing import Any

__all__ = [
    "feature_lines",
    "table_lines",
    "write_graph_page",
    "write_page",
]

def feature_lines(
    feature: Feature,
    *,
    n_examples: int | None = ...,
    explanation: Explanation | str | None = ...,
) -> list[str]: ...

def table_lines(table: list[dict[Any, Any]]) -> list[str]: ...

def write_graph_page(
    path: str | Path,
    graph: AttributionGraph,
    *,
    atlas: FeatureAtlas | dict[int, FeatureAtlas] | list[FeatureAtlas] | None = ...,
    groups: dict[str, Any] | None = ...,
    max_nodes: int = ...,
    title: str = ...,
) -> Path: ...

def write_page(
    path: str | Path,
    atlas: FeatureAtlas,
    *,
    features: ArrayLike | None = ...,
    explanations: dict[int, Any] | None = ...,
    prompts: Sequence[PromptCodes] = ...,
    title: str = ...,
    facts: dict[str, Any] | None = ...,
    table: list[dict[Any, Any]] = ...,
    columns: Any = ...,
    statements: Any = ...,
    tested_on: Any = ...,
) -> Path: ...
