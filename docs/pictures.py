"""Pictures of the README and the guide, which are committed: ``python docs/pictures.py``.

Each is a figure of an example of the gallery.
"""

import runpy
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from PIL import Image

DOCS = Path(__file__).parent
FIGURES = {
    # example: name of the picture, number of the figure
    "tables/digits.py": ("digits", 2),
    "tables/named_components.py": ("named_components", 1),
    "tables/choosing_sparsity.py": ("choosing_sparsity", 1),
    "tables/comparing.py": ("comparing", 1),
    "tables/image_patches.py": ("image_patches", 1),
    "language_models/circuit.py": ("circuit", 2),
}


def save(figure, path):
    """Save a figure as a small PNG: two pixels per point, 128 colours."""
    figure.savefig(path, dpi=144, bbox_inches="tight", facecolor="white")
    image = Image.open(path).convert("RGB")
    image.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


for example, (name, number) in FIGURES.items():
    plt.close("all")
    runpy.run_path(str(DOCS / "examples" / example))
    save(plt.figure(number), DOCS / "images" / f"{name}.png")
