"""
Components of image patches
===========================

Patches of photographs are sums of few edges and colours (Olshausen and Field, 1996). A sparse
autoencoder finds them from 6000 patches of the two sample images of scikit-learn.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_images
from sklearn.feature_extraction.image import extract_patches_2d

from sksae import TopKSAE
from sksae.displays import ComponentImagesDisplay

images = [image / 255 for image in load_sample_images().images]
shape = (8, 8, 3)
patches = np.concatenate(
    [extract_patches_2d(image, shape[:2], max_patches=3000, random_state=0) for image in images]
)
X = patches.reshape(len(patches), -1)
X = X - X.reshape(len(X), -1, 3).mean(axis=1).repeat(64, axis=0).reshape(X.shape)  # less its colour
sae = TopKSAE(256, k=6, max_iter=25, random_state=0).fit(X)
print(f"explained variance {sae.score(X):.3f} with 6 of 256 components per patch")

# %%
# The components
# --------------
# Most are edges: light on one side, dark on the other, at one angle and place. Some are colours,
# and some are fine textures.

ComponentImagesDisplay.from_estimator(sae, shape, n_components=40, n_columns=10)

# %%
# A photograph from six components per patch
# ------------------------------------------
# The image is cut into patches, each is encoded and decoded, and the mean colour is put back.

crop = images[0][140:300, 240:480]
height, width = crop.shape[:2]
tiles = crop.reshape(height // 8, 8, width // 8, 8, 3).swapaxes(1, 2).reshape(-1, 64, 3)
means = tiles.mean(axis=1, keepdims=True)
rows = (tiles - means).reshape(len(tiles), -1)


def joined(flat_tiles):
    """Return the image of which these are the tiles."""
    blocks = flat_tiles.reshape(height // 8, width // 8, 8, 8, 3).swapaxes(1, 2)
    return blocks.reshape(height, width, 3).clip(0, 1)


pictures = {"image": crop, "mean colours only": joined(np.broadcast_to(means, tiles.shape))}
for k in (1, 6):
    few = sae.transform(rows)
    few[few < np.sort(few, axis=1)[:, [-k]]] = 0  # the k strongest codes of each patch
    pictures[f"and {k} component{'s' * (k > 1)} per patch"] = joined(
        sae.inverse_transform(few).reshape(tiles.shape) + means
    )
figure, axes = plt.subplots(2, 2, figsize=(9, 6.4), layout="constrained")
for ax, (title, picture) in zip(axes.flat, pictures.items(), strict=True):
    ax.imshow(picture)
    ax.set_title(title, fontsize=10)
    ax.axis("off")
