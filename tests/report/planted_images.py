"""Images of coloured squares, and an atlas of features that fire on one colour each."""

import numpy as np

from sksae.interpret import FeatureAtlas, ImagePatches

GRID, PATCH = (3, 4), 8
COLOURS = {0: (230, 30, 30), 1: (30, 60, 230)}  # of the squares on which each feature fires


def planted_atlas(n_images=24):
    """An atlas of two features, and where each square is: (n_images, 2) numbers of patches."""
    rng = np.random.default_rng(0)
    images = rng.integers(90, 130, size=(n_images, GRID[0] * PATCH, GRID[1] * PATCH, 3))
    places = np.array([rng.permutation(12)[:2] for _ in range(n_images)])
    codes = np.zeros((n_images, 12, 2))
    for image, pair in enumerate(places):
        for feature, patch in enumerate(pair):
            row, column = np.array(divmod(patch, GRID[1])) * PATCH
            images[image, row : row + PATCH, column : column + PATCH] = COLOURS[feature]
            codes[image, patch, feature] = 1 + image / n_images
    patches = ImagePatches(images.astype(np.uint8), GRID)
    return FeatureAtlas().fit(codes.reshape(-1, 2), images=patches), places
