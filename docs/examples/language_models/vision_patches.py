"""
Patches of a vision model
=========================

A vision transformer reads an image as patches, as a language model reads a text as tokens. The rows
of an extractor are then patches, and a latent can be looked at where it fires in the images.

The model here is small and has random weights, made from a configuration, so that nothing is
downloaded. What its latents find is what such a model lets through: colours, brightness and
coarse texture. Give the name of a trained model, and the same lines find what that has learnt.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_sample_images
from transformers import ViTConfig, ViTModel

from sksae import ActivationExtractor, TopKSAE

SIDE, PATCH = 192, 12
torch.manual_seed(0)
model = ViTModel(
    ViTConfig(
        hidden_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=192,
        image_size=SIDE,
        patch_size=PATCH,
    ),
    add_pooling_layer=False,
).eval()
crops = [
    image[top : top + SIDE, left : left + SIDE]
    for image in load_sample_images().images
    for top in (0, 110, 220)
    for left in (0, 150, 300, 440)
]
# (channels, height, width), from -1 to 1, as the models of this family want their pixels
pixels = [np.moveaxis(crop / 127.5 - 1, 2, 0).astype(np.float32) for crop in crops]

# %%
# A row per patch
# ---------------
# The table of tokens says of each row which image it is of, and where in it.

extractor = ActivationExtractor(model, layer=0, site="resid_post")
rows, tokens = extractor.extract(pixels)
print(f"{len(rows):,} rows of {len(crops)} images; the first is {tokens.string[0]}")
sae = TopKSAE(128, k=6, random_state=0).fit(rows)
codes = sae.transform(rows)
print(f"explained variance {sae.score(rows):.3f} with 6 of 128 latents per patch")

# %%
# Where latents fire
# ------------------
# Four latents that fire on a few patches in a hundred, each in the two images in which it is
# strongest. Patches on which it does not fire are dimmed.

grid = SIDE // PATCH
density = (codes > 0).mean(axis=0)
candidates = np.flatnonzero((density > 0.02) & (density < 0.1))
strongest = candidates[np.argsort(-codes[:, candidates].max(axis=0))[:4]]
figure, axes = plt.subplots(2, 4, figsize=(9, 4.8), layout="constrained")
for column, latent in zip(axes.T, strongest, strict=True):
    maps = codes[:, latent].reshape(len(crops), grid, grid)
    images = np.argsort(-maps.sum(axis=(1, 2)))[:2]
    for ax, image in zip(column, images, strict=True):
        lit = (maps[image] / maps.max()).repeat(PATCH, axis=0).repeat(PATCH, axis=1)
        ax.imshow((crops[image] / 255 * (0.2 + 0.8 * np.sqrt(lit))[:, :, None]).clip(0, 1))
        ax.axis("off")
    column[0].set_title(f"latent {latent}: {density[latent]:.1%} of patches", fontsize=9)
