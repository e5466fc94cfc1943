"""
Patches of a vision model
=========================

A vision transformer reads an image as patches, as a language model reads a text as tokens. The rows
of an extractor are then patches, and a latent can be looked at where it fires in the images.

The model here is small and has random weights, made from a configuration, so that nothing is
downloaded. What its latents find is what such a model lets through: colours, brightness and
coarse texture. Give the name of a trained model, and the same lines find what that has learnt.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from sklearn.datasets import load_sample_images
from transformers import ViTConfig, ViTModel

from sksae import ActivationExtractor, TopKSAE
from sksae.displays import ImageExamplesDisplay
from sksae.interpret import FeatureAtlas, ImagePatches
from sksae.report import write_page

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
# An atlas is given the images as they are shown. The extractor says which patch each row is; a
# class token or a register would have no place in the image, and would shift nothing. Each example
# is the whole image: a patch is darker the weaker the latent fires on it, and the strongest has a
# frame.

atlas = FeatureAtlas(sae, extractor=extractor).fit(pixels, images=ImagePatches(crops))
usual = np.flatnonzero((atlas.density_ > 0.02) & (atlas.density_ < 0.1))
first, second = usual[np.argsort(-atlas.max_activation_[usual])[:2]].tolist()
print(f"latent {first} fires on {atlas.density_[first]:.1%} of the patches")
display = ImageExamplesDisplay.from_feature(atlas.feature(first), n_examples=8).plot()

# %%
# Another one:

print(f"latent {second} fires on {atlas.density_[second]:.1%} of the patches")
display = ImageExamplesDisplay.from_feature(atlas.feature(second), n_examples=8).plot()

# %%
# The activation of every patch of an example, as numbers:

image = atlas.feature(first).examples[0].image
print(f"image {image.number}, strongest at {image.peak} of {image.heat.shape}")
image.heat[image.peak[0] - 1 : image.peak[0] + 2].round(1)

# %%
# All latents on a page
# ---------------------
# The page is one file, with the images in it. Its list shows the patches on which each latent fires
# most; hold the pointer over a patch to see the activation.

with TemporaryDirectory() as folder:
    page = write_page(Path(folder) / "patches.html", atlas, title="Patches of two photographs")
    size = page.stat().st_size
print(f"{size / 1e6:.1f} MB for {atlas.n_components_} latents; images: {atlas.facts_['images']}")
