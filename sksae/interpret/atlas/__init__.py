"""Atlases: everything about all features of a sparse autoencoder, from one pass over data."""

from sksae.interpret.atlas._atlas import FeatureAtlas
from sksae.interpret.atlas._choice import choose_features
from sksae.interpret.atlas._images import ExampleImage, ImagePatches
from sksae.interpret.atlas._row_columns import RowSample

__all__ = ["ExampleImage", "FeatureAtlas", "ImagePatches", "RowSample", "choose_features"]


def __dir__():
    return __all__
