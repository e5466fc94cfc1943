"""
A dictionary that is known
==========================

On generated data one can ask whether an autoencoder finds what is there. Forty-eight directions
share 24 dimensions, so that no rotation can separate them, and three of them are active in each
row.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import PCA, FastICA

from sksae import TopKSAE
from sksae.datasets import make_superposition
from sksae.metrics import latent_precision_recall_f1, mean_max_cosine_similarity

X, dictionary, true_codes = make_superposition(
    4000, n_features=24, n_components=48, density=3 / 48, random_state=0
)
sae = TopKSAE(48, k=3, random_state=0).fit(X)
models = {
    "PCA": PCA(24).fit(X).components_,
    "ICA": FastICA(24, whiten="unit-variance", max_iter=500, random_state=0).fit(X).mixing_.T,
    "TopKSAE": sae.components_,
}

# %%
# Directions
# ----------
# Each row of a picture is a true direction, each column a learnt component in the order that fits
# best, and the colour is the cosine. A dark diagonal means that the directions were found.

figure, axes = plt.subplots(
    1, 3, figsize=(10, 4.4), width_ratios=[24, 24, 48], layout="constrained"
)
for ax, (name, components) in zip(axes, models.items(), strict=True):
    unit = components / np.linalg.norm(components, axis=1, keepdims=True)
    cosine = dictionary @ unit.T
    if name != "TopKSAE":
        cosine = abs(cosine)  # the sign of these components has no meaning
    rows, columns = linear_sum_assignment(-cosine)
    rest = np.setdiff1d(np.arange(len(dictionary)), rows)
    mesh = ax.imshow(cosine[np.r_[rows, rest]][:, columns], cmap="RdBu_r", vmin=-1, vmax=1)
    ax.set_title(f"{name}: mean best cosine {cosine.max(axis=1).mean():.2f}", fontsize=10)
    ax.set(xticks=[], yticks=[], xlabel="components")
axes[0].set_ylabel("true directions")
figure.colorbar(mesh, ax=axes, shrink=0.7, label="cosine")
print(f"mean best cosine: {mean_max_cosine_similarity(dictionary, sae.components_):.3f}")

# %%
# Codes
# -----
# The codes tell where each direction is active. Precision and recall take each latent as a
# detector of the direction that it fits best. Weak activations are the ones that are missed.

codes = sae.transform(X)
precision, recall, f1, _ = latent_precision_recall_f1(codes, true_codes)
print(f"mean precision {precision.mean():.2f}, recall {recall.mean():.2f}, F1 {f1.mean():.2f}")
latent = int((dictionary @ sae.components_.T)[0].argmax())
figure, ax = plt.subplots(figsize=(4.6, 4.2), layout="constrained")
ax.scatter(true_codes[:, 0], codes[:, latent], s=8, alpha=0.4, color="#0072b2")
ax.plot([0, 1.8], [0, 1.8], color="0.5", linewidth=1)
ax.set(xlabel="true code of a direction", ylabel="learnt code", aspect="equal")
ax.spines[["top", "right"]].set_visible(False)
