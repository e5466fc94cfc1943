"""
Embeddings with a target
========================

Embeddings predict well and say nothing: none of their columns has a meaning. Here each text is one
row of 192 numbers, the mean activation of a language model, and the target is the package that the
text documents. How many features of an autoencoder does it take to predict it, and which?
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sksae import ActivationExtractor, TopKSAE
from sksae.datasets import load_corpus, load_tiny_lm
from sksae.interpret import FeatureAtlas, explain
from sksae.model_selection import sparse_probing

corpus = load_corpus()
model, tokenizer = load_tiny_lm()
extractor = ActivationExtractor(model, layer=3, pooling="mean", tokenizer=tokenizer)
embeddings = extractor.transform(corpus.data)
package = np.array(corpus.target_names)[corpus.target]
sae = TopKSAE(32, k=4, max_iter=60, random_state=0).fit(embeddings)
print(f"{embeddings.shape[0]} texts of {embeddings.shape[1]} numbers")
print(f"explained variance with 4 codes per text: {sae.score(embeddings):.2f}")

# %%
# Names from the texts
# --------------------
# ``explain`` names a feature by the words that are over-represented in the texts on which it fires.
# Shown is the feature that fires most on each package, compared with the others.

codes = sae.transform(embeddings)
names = explain(FeatureAtlas(sae).fit(embeddings, tokens=corpus.data))
fires = pd.DataFrame(codes > 0).groupby(package).mean()
typical = (fires - fires.mean()).T.idxmax().loc[corpus.target_names]
for name, feature in typical.items():
    print(f"{name:13} {fires.loc[name, feature]:4.0%} of its texts  {names[feature]}")

# %%
# Where these features fire, as the share of the texts of each package:

figure, ax = plt.subplots(figsize=(8.5, 3.6), layout="constrained")
shares = fires.loc[corpus.target_names, typical].to_numpy()
mesh = ax.imshow(shares.T, cmap="Blues", vmin=0, vmax=1, aspect="auto")
ax.set_xticks(range(6), corpus.target_names)
ax.set_yticks(range(6), [str(names[feature]) for feature in typical], fontsize=9)
for i, j in np.ndindex(6, 6):
    color = "w" if shares[i, j] > 0.6 else "k"
    ax.text(i, j, f"{shares[i, j]:.0%}", ha="center", va="center", fontsize=9, color=color)
ax.set_title("share of the texts on which a feature fires", fontsize=10)

# %%
# Few features against few columns
# --------------------------------
# ``sparse_probing`` chooses the k features with the largest F statistic inside each split, and
# fits a logistic regression on them. The same number of raw columns, principal components, or
# random features (the mean of several draws, and two standard deviations of a draw) shows what that
# is worth; all columns show what there is to predict. With so few
# texts, columns and principal components predict at least as well: what the features add is that
# one can say what they are about. Look at such a picture before you take features for the better
# predictors.

codes = codes[:, (codes > 0).any(axis=0)]
probes = sparse_probing(codes, embeddings, package, k=(1, 2, 5, 10, 20), cv=3, random_state=0)
table = pd.DataFrame(probes)
figure, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
curves = table[table.probe != "all columns"].groupby("probe", sort=False)
for (name, part), color in zip(curves, ["#0072b2", "#d55e00", "#009e73", "0.6"], strict=True):
    ax.errorbar(part.k, part["mean"], part["mean"] - part.low, color=color, marker="o", label=name)
everything = table[table.probe == "all columns"]["mean"].item()
ax.axhline(everything, color="0.3", linestyle="--", linewidth=1)
ax.text(1, everything + 0.01, "all 192 columns", fontsize=9, color="0.3")
ax.set_xscale("log")
ax.set_xticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
ax.minorticks_off()
ax.set(xlabel="number of columns of the probe", ylabel="accuracy on held-out texts")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)
