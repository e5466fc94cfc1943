"""
Components of handwritten digits
================================

PCA needs every component for every image. A sparse autoencoder has more components than there are
pixels, and writes each image as a sum of a few of them. Here are 1797 images of 8 x 8 pixels, and
at most eight codes per image.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sksae import TopKSAE
from sksae.displays import ComponentImagesDisplay

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
sae = TopKSAE(k=8, random_state=0).fit(X_train)
codes = sae.transform(X_test)
print(f"{codes.shape[1]} components, {(codes > 0).sum(axis=1).mean():.1f} codes per image")
print(f"explained variance of images that were not fitted: {sae.score(X_test):.3f}")

# %%
# The components
# --------------
# A component is a direction in the space of pixels, so it can be shown as a picture: red pixels are
# brighter where the component is active, blue ones darker. These are the components that fire most.
# They are strokes at certain places.

ComponentImagesDisplay.from_estimator(sae, image_shape=(8, 8), n_components=24)

# %%
# One image, piece by piece
# -------------------------
# The reconstruction begins with ``intercept_`` and adds the components one by one, the strongest
# first.

image = int(np.flatnonzero(y_test == 3)[0])
active = codes[image].argsort()[::-1][:6]
figure, axes = plt.subplots(2, 8, figsize=(10, 2.9))
style = {"cmap": "gray_r", "vmin": 0, "vmax": 16}
axes[0, 0].imshow(X_test[image].reshape(8, 8), **style)
axes[0, 0].set_title("image", fontsize=10)
axes[1, 0].axis("off")
sums = sae.intercept_.copy()
axes[1, 1].imshow(sums.reshape(8, 8), **style)
axes[1, 1].set_title("intercept", fontsize=10)
axes[0, 1].axis("off")
for place, component in enumerate(active, start=2):
    direction = sae.components_[component].reshape(8, 8)
    top = abs(direction).max()
    axes[0, place].imshow(direction, cmap="RdBu_r", vmin=-top, vmax=top)
    axes[0, place].set_title(f"+ {codes[image, component]:.0f} x", fontsize=10)
    sums = sums + codes[image, component] * sae.components_[component]
    axes[1, place].imshow(sums.reshape(8, 8), **style)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
figure.tight_layout()

# %%
# What a component responds to
# ----------------------------
# The fit saw no labels, yet many components belong to one digit. For six that fire on 1 to 10 % of
# the images, these are the images on which they are strongest.

density = (codes > 0).mean(axis=0)
rare = np.flatnonzero((density > 0.01) & (density < 0.1))
purity = [np.bincount(y_test[codes[:, component].argsort()[::-1][:8]]).max() for component in rare]
chosen = rare[np.lexsort((-codes[:, rare].max(axis=0), -np.array(purity)))][:6]
figure, axes = plt.subplots(6, 9, figsize=(7, 5.2))
for line, component in zip(axes, chosen, strict=True):
    direction = sae.components_[component].reshape(8, 8)
    top = abs(direction).max()
    line[0].imshow(direction, cmap="RdBu_r", vmin=-top, vmax=top)
    line[0].set_ylabel(component, rotation=0, ha="right", va="center")
    for ax, row in zip(line[1:], codes[:, component].argsort()[::-1], strict=False):
        ax.imshow(X_test[row].reshape(8, 8), cmap="gray_r")
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
axes[0, 0].set_title("component", fontsize=10)
axes[0, 4].set_title("images on which it is strongest", fontsize=10)
figure.tight_layout()
