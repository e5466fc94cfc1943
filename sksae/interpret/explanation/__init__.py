"""Features in words, by token statistics or by a language model, and how true the words are."""

from sksae.interpret.explanation._client_calls import CachedClient
from sksae.interpret.explanation._cost import estimate_cost
from sksae.interpret.explanation._explaining import explain
from sksae.interpret.explanation._explanation import (
    Explanation,
    load_explanations,
    save_explanations,
)
from sksae.interpret.explanation._explanation_scores import score_explanations
from sksae.interpret.explanation._local_client import LocalClient
from sksae.interpret.explanation._openai_client import OpenAIClient
from sksae.interpret.explanation._splitting import ExampleSide, split_examples
from sksae.interpret.explanation._steering_score import score_by_steering
from sksae.interpret.explanation._token_statistics import explain_from_tokens

__all__ = [
    "CachedClient",
    "ExampleSide",
    "Explanation",
    "LocalClient",
    "OpenAIClient",
    "estimate_cost",
    "explain",
    "explain_from_tokens",
    "load_explanations",
    "save_explanations",
    "score_by_steering",
    "score_explanations",
    "split_examples",
]


def __dir__():
    return __all__
