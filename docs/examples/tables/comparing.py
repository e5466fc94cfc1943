"""
Beside PCA, NMF and dictionary learning
=======================================

A decomposition can be compared with another at an equal number of codes per row. Components of PCA
all have codes, so PCA with k components stands beside a sparse autoencoder with k codes per row.
``compare`` fits all on the same splits and scores them on the rows that were held out.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.decomposition import NMF, PCA, MiniBatchDictionaryLearning

from sksae import TopKSAE
from sksae.model_selection import compare

X = load_digits().data[:600]
estimators = {}
for k in (2, 4, 8, 16):
    estimators[f"PCA, {k}"] = PCA(k)
    estimators[f"NMF, {k}"] = NMF(k, init="nndsvda", max_iter=300, tol=1e-3)
    estimators[f"TopKSAE, {k}"] = TopKSAE(128, k=k, random_state=0)
for k in (4, 8):
    estimators[f"Dictionary learning, {k}"] = MiniBatchDictionaryLearning(
        128,
        transform_algorithm="omp",
        transform_n_nonzero_coefs=k,
        max_iter=3,
        batch_size=32,
        random_state=0,
    )

# %%
# The table has one line per estimator: the explained variance, the codes per row, the latents
# without any, and the seconds of a fit. ``compare`` returns means and standard deviations over the
# splits.

comparison = pd.DataFrame(compare(estimators, X, cv=2)).set_index("estimator")
columns = ["explained_variance", "l0", "dead_fraction", "fit_seconds"]
comparison[columns].round(3)

# %%
# The frontier
# ------------
# A greater height at as many codes is better. The two that choose few of many components for each
# row explain more than those that use the same components for all. Dictionary learning solves a
# problem of optimisation for every row that it encodes, with codes of either sign, and explains
# most with many codes; the codes of a sparse autoencoder are one product and a selection, and are
# never negative.

figure, ax = plt.subplots(figsize=(7, 4.4), layout="constrained")
kinds = pd.Series([name.rpartition(",")[0] for name in comparison.index], comparison.index)
colors = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"]
for (kind, part), color, marker in zip(
    comparison.groupby(kinds, sort=False), colors, "osD^", strict=True
):
    ax.errorbar(
        part.l0,
        part.explained_variance,
        part.explained_variance_std,
        label=kind,
        color=color,
        marker=marker,
        capsize=2,
    )
ax.set_xscale("log", base=2)
ax.set_xticks([2, 4, 8, 16], ["2", "4", "8", "16"])
ax.set(xlabel="codes per row", ylabel="explained variance of held-out rows")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)

# %%
# What the components look like
# -----------------------------
# PCA's components are about all images at once. Those of NMF are parts, and those of the
# autoencoder are strokes at a place: each is about some of the images.

models = {
    "PCA": PCA(8).fit(X),
    "NMF": NMF(8, init="nndsvda", max_iter=300).fit(X),
    "TopKSAE": TopKSAE(128, k=8, random_state=0).fit(X),
}
figure, axes = plt.subplots(3, 8, figsize=(9, 3.6))
for line, (name, model) in zip(axes, models.items(), strict=True):
    frequency = getattr(model, "activation_frequency_", np.arange(8, 0, -1))
    for ax, i in zip(line, np.argsort(-frequency, kind="stable"), strict=False):
        image = model.components_[i].reshape(8, 8)
        top = abs(image).max()
        ax.imshow(image, cmap="RdBu_r", vmin=-top, vmax=top)
        ax.set(xticks=[], yticks=[])
    line[0].set_ylabel(name, rotation=0, ha="right", va="center")
figure.tight_layout()
