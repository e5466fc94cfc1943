"""Displays of codes, fits, searches, dictionaries and texts, with scikit-learn's interface."""

from sksae.displays._attribution_heat_map import AttributionDisplay
from sksae.displays._codes import (
    CodeMagnitudeDisplay,
    CodesDisplay,
    DensityHistogramDisplay,
    L0HistogramDisplay,
)
from sksae.displays._components import ComponentImagesDisplay, ComponentLoadingsDisplay
from sksae.displays._decoder_map import DecoderMapDisplay
from sksae.displays._frontier import SparsityFrontierDisplay
from sksae.displays._heat_map import ActivationHeatmapDisplay
from sksae.displays._highlighted import HighlightedText
from sksae.displays._image_examples import ImageExamplesDisplay
from sksae.displays._training import TrainingCurveDisplay
from sksae.displays._volcano import ContrastVolcanoDisplay

__all__ = [
    "ActivationHeatmapDisplay",
    "AttributionDisplay",
    "CodeMagnitudeDisplay",
    "CodesDisplay",
    "ComponentImagesDisplay",
    "ComponentLoadingsDisplay",
    "ContrastVolcanoDisplay",
    "DecoderMapDisplay",
    "DensityHistogramDisplay",
    "HighlightedText",
    "ImageExamplesDisplay",
    "L0HistogramDisplay",
    "SparsityFrontierDisplay",
    "TrainingCurveDisplay",
]


def __dir__():
    return __all__
