"""The files that Neuronpedia imports and publishes: dashboards and explanations of features."""

from sksae.formats.neuronpedia._neuronpedia_reading import (
    read_neuronpedia,
    read_neuronpedia_features,
)
from sksae.formats.neuronpedia._neuronpedia_writing import write_neuronpedia

__all__ = ["read_neuronpedia", "read_neuronpedia_features", "write_neuronpedia"]


def __dir__():
    return __all__
