"""
The variants at the same sparsity
=================================

The estimators differ in how they make codes sparse. ``TopKSAE`` gives every row the same number of
codes; the others give more to rows that need more. Those with a penalty find the penalty for the
mean number that ``target_l0`` asks for.
"""

import matplotlib.pyplot as plt
import numpy as np

from sksae import BatchTopKSAE, GatedSAE, JumpReLUSAE, SparseAutoencoder, TopKSAE
from sksae.datasets import make_superposition
from sksae.metrics import l0_per_row

X, dictionary, true_codes = make_superposition(
    3000, n_features=24, n_components=48, density=4 / 48, random_state=0
)
X_train, X_test, true_test = X[:2000], X[2000:], true_codes[2000:]
options = {"n_components": 48, "random_state": 0}
variants = {
    "TopKSAE": TopKSAE(k=4, **options),
    "BatchTopKSAE": BatchTopKSAE(k=4, **options),
    "JumpReLUSAE": JumpReLUSAE(target_l0=4, max_iter=40, **options),
    "GatedSAE": GatedSAE(target_l0=4, max_iter=40, **options),
    "SparseAutoencoder": SparseAutoencoder(target_l0=4, max_iter=40, **options),
}
for sae in variants.values():
    sae.fit(X_train)

# %%
# Codes per row
# -------------
# The number of true directions varies from row to row (grey). A fixed number cannot follow it.

figure, axes = plt.subplots(1, 5, figsize=(11, 2.8), sharey=True, layout="constrained")
true_number = (true_test > 0).sum(axis=1)
bins = np.arange(-0.5, 13.5)
for ax, (name, sae) in zip(axes, variants.items(), strict=True):
    number = l0_per_row(sae.transform(X_test))
    ax.hist(true_number, bins, color="0.8", label="true")
    ax.hist(number, bins, histtype="step", color="#0072b2", linewidth=1.8, label="codes")
    ax.set_title(name, fontsize=10)
    ax.set_xlabel(f"codes per row, mean {number.mean():.1f}")
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set(ylabel="rows", ylim=(0, 420))
axes[0].legend(frameon=False, fontsize=9)

# %%
# Reconstruction and directions
# -----------------------------
# At about the same sparsity: the explained variance of held-out rows, the cosine of each true
# direction with the nearest component, and the size of reconstructions relative to the rows. An L1
# penalty makes codes too small.

measures = {"explained variance": [], "mean best cosine": [], "size of reconstructions": []}
for sae in variants.values():
    reconstruction = sae.inverse_transform(sae.transform(X_test))
    sizes = np.linalg.norm(reconstruction, axis=1).mean() / np.linalg.norm(X_test, axis=1).mean()
    measures["explained variance"].append(sae.score(X_test))
    measures["mean best cosine"].append((dictionary @ sae.components_.T).max(axis=1).mean())
    measures["size of reconstructions"].append(sizes)
figure, axes = plt.subplots(1, 3, figsize=(10, 2.8), sharey=True, layout="constrained")
for ax, (title, values) in zip(axes, measures.items(), strict=True):
    ax.plot(values, list(variants), "o", color="#0072b2")
    for value, name in zip(values, variants, strict=True):
        ax.text(value, name, f" {value:.2f}", va="bottom", ha="left", fontsize=9)
    ax.set_title(title, fontsize=10)
    ax.margins(x=0.25, y=0.15)
    ax.grid(axis="y", color="0.9")
    ax.spines[["top", "right"]].set_visible(False)
axes[0].invert_yaxis()
