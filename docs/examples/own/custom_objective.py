"""
An objective of your own
========================

A variant is a loss of a few lines and an estimator of a few lines. Here codes are signed: each row
keeps the pre-activations of the largest magnitude, so that one component stands for a direction
and its opposite. Fitting, transforming, searching and the displays need nothing else.
"""

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sksae import TopKSAE
from sksae.autoencoders import BaseSAE
from sksae.displays import ComponentImagesDisplay
from sksae.objectives import Objective, Rule, reconstruction_loss


@dataclass
class AbsTopK(Objective):
    """Reconstruction loss of the k codes of the largest magnitude of every row."""

    k: int
    resolved = ("k",)

    def rule(self, weights):
        """Return which entries can have a code."""
        return Rule(k=self.k, magnitude=True)

    def loss(self, entries, alpha, dead):
        """Return the loss and the codes."""
        codes = entries.kept(entries.z)
        return reconstruction_loss(entries, entries.decode(codes)), codes


class AbsTopKSAE(BaseSAE):
    """Sparse autoencoder with signed codes."""

    def __init__(self, n_components=None, *, k=8, max_iter=None, random_state=None):
        super().__init__(n_components, max_iter=max_iter, random_state=random_state)
        self.k = k

    def _make_objective(self, n_features, n_components, n_targets):
        return AbsTopK(k=min(self.k, n_components))


# %%
# Beside codes that are not negative
# ----------------------------------
# At the same number of codes per image, for a growing number of components:

X_train, X_test = train_test_split(load_digits().data, random_state=0)
sizes = (16, 32, 64)
scores = {"signed codes": [], "codes that are not negative": []}
for size in sizes:
    signed = AbsTopKSAE(size, k=4, max_iter=15, random_state=0).fit(X_train)
    plain = TopKSAE(size, k=4, max_iter=15, random_state=0).fit(X_train)
    scores["signed codes"].append(signed.score(X_test))
    scores["codes that are not negative"].append(plain.score(X_test))
figure, ax = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
for (name, values), color in zip(scores.items(), ["#d55e00", "#0072b2"], strict=True):
    ax.plot(sizes, values, "o-", color=color, label=name)
ax.set_xscale("log", base=2)
ax.set_xticks(sizes, map(str, sizes))
ax.set(xlabel="components", ylabel="explained variance of held-out images")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)

# %%
# Both ends of a component
# ------------------------
# The images with the most negative and the most positive codes of four components. What is red in
# the component is bright on the right, and what is blue is bright on the left.

codes = signed.transform(X_test)
both = np.minimum((codes > 0).sum(axis=0), (codes < 0).sum(axis=0))
chosen = both.argsort()[::-1][:4]
figure, axes = plt.subplots(4, 9, figsize=(8, 3.9))
for line, component in zip(axes, chosen, strict=True):
    order = codes[:, component].argsort()
    for ax, row in zip(line[:4], order, strict=False):
        ax.imshow(X_test[row].reshape(8, 8), cmap="gray_r")
    for ax, row in zip(line[5:], order[::-1][3::-1], strict=False):
        ax.imshow(X_test[row].reshape(8, 8), cmap="gray_r")
    direction = signed.components_[component].reshape(8, 8)
    top = abs(direction).max()
    line[4].imshow(direction, cmap="RdBu_r", vmin=-top, vmax=top)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
for place, title in ((0, "most negative"), (4, "component"), (8, "most positive")):
    axes[0, place].set_title(title, fontsize=9)
figure.tight_layout()

# %%
# The displays take the new estimator as any other:

ComponentImagesDisplay.from_estimator(signed, (8, 8), n_components=16)
