"""Files of other tools: written for them, and read from them."""

from sksae.formats.neuronpedia import (
    read_neuronpedia,
    read_neuronpedia_features,
    write_neuronpedia,
)

__all__ = ["read_neuronpedia", "read_neuronpedia_features", "write_neuronpedia"]
