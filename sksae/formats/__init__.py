"""Files of other tools: written for them, and read from them."""

from sksae.formats._circuit_tracer import read_circuit_tracer, write_circuit_tracer
from sksae.formats._dictionary_learning import (
    read_dictionary_learning,
    write_dictionary_learning,
)
from sksae.formats._feature_json import read_feature_json, write_feature_json
from sksae.formats._gemma_scope import read_gemma_scope, write_gemma_scope
from sksae.formats._hub import from_pretrained
from sksae.formats._llama_scope import read_llama_scope
from sksae.formats._publishing import push_to_hub, save_card
from sksae.formats._reading import read
from sksae.formats._row_normalizer import RowNormalizer
from sksae.formats._saelens import read_saelens, write_saelens
from sksae.formats._sentence_transformers import (
    read_sentence_transformers,
    write_sentence_transformers,
)
from sksae.formats._sksae import load
from sksae.formats._sparsify import read_sparsify, write_sparsify
from sksae.formats._torch_files import read_goodfire, read_openai, read_qwen_scope
from sksae.formats.neuronpedia import (
    read_neuronpedia,
    read_neuronpedia_features,
    write_neuronpedia,
)

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


def __dir__():
    return __all__
