"""Activations of texts, token ids, conversations and images, with the origin of each row."""

from sksae.language_models.extraction._activation_reader import ActivationReader, check_parameters
from sksae.language_models.extraction._batching import batching_of
from sksae.language_models.extraction._context_windows import ContextWindows, batches, padded
from sksae.language_models.extraction._extractor import ActivationExtractor, extract_paired
from sksae.language_models.extraction._foreign_activations import read_activations
from sksae.language_models.extraction._forward_passes import token_bar
from sksae.language_models.extraction._input_items import check_container, check_items, read_items
from sksae.language_models.extraction._store import load_activations
from sksae.language_models.extraction._token_table import ColumnTable, TokenTable
from sksae.language_models.extraction._tokenizing import bare_frame
from sksae.language_models.extraction._vectorizer import SAEVectorizer
from sksae.language_models.extraction._window_sources import Prompt, TextReading, tokenized_prompt

__all__ = [
    "ActivationExtractor",
    "ActivationReader",
    "ColumnTable",
    "ContextWindows",
    "Prompt",
    "SAEVectorizer",
    "TextReading",
    "TokenTable",
    "bare_frame",
    "batches",
    "batching_of",
    "check_container",
    "check_items",
    "check_parameters",
    "extract_paired",
    "load_activations",
    "padded",
    "read_activations",
    "read_items",
    "token_bar",
    "tokenized_prompt",
]
