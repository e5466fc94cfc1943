"""
A transcoder of a layer
=======================

An autoencoder describes what activations are. A transcoder describes what a layer does: it reads
the input of an MLP and predicts its output, with few codes in between. With a skip connection, the
part of the layer that is linear needs no codes.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LinearRegression

from sksae import ActivationExtractor, TopKSAE, Transcoder
from sksae.datasets import load_corpus, load_tiny_lm

model, tokenizer = load_tiny_lm()
texts = load_corpus().data[::3]
options = {"layer": 1, "tokenizer": tokenizer}
X, tokens = ActivationExtractor(model, site="resid_mid", **options).extract(texts)
Y = ActivationExtractor(model, site="mlp_out", **options).transform(texts)
train = np.asarray(tokens.text) < 90  # by text: tokens of one text are alike
X_train, Y_train, X_test, Y_test = X[train], Y[train], X[~train], Y[~train]

# %%
# The linear map alone is what codes are compared with.

numbers = (2, 8, 32)
scores = {"codes": [], "codes and a skip connection": []}
for skip, values in zip((False, True), scores.values(), strict=True):
    for k in numbers:
        estimator = TopKSAE(256, k=k, max_iter=4, random_state=0)
        transcoder = Transcoder(estimator, skip=skip).fit(X_train, Y_train)
        values.append(transcoder.score(X_test, Y_test))
linear = LinearRegression().fit(X_train, Y_train)
error = ((Y_test - linear.predict(X_test)) ** 2).sum()
linear_score = 1 - error / ((Y_test - Y_test.mean(axis=0)) ** 2).sum()

figure, ax = plt.subplots(figsize=(7, 3.8), layout="constrained")
for (name, values), color in zip(scores.items(), ["#d55e00", "#0072b2"], strict=True):
    ax.plot(numbers, values, "o-", color=color, label=name)
ax.axhline(linear_score, color="0.3", linestyle="--", linewidth=1)
ax.text(numbers[0], linear_score, "linear map alone", va="bottom", fontsize=9, color="0.3")
ax.set_xscale("log", base=2)
ax.set_xticks(numbers, map(str, numbers))
ax.set(xlabel="codes per token", ylabel="explained variance of the MLP's output")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)

# %%
# What a feature reads and writes
# -------------------------------
# A feature has one direction in the input, a row of ``encoder_coef_``, and one in the output, a
# row of ``components_``. The tokens on which a feature fires most, from the last fit:

codes = transcoder.transform(X_test)
strings = np.asarray(tokens.string, dtype=object)[~train]
density = (codes > 0).mean(axis=0)
rare = np.flatnonzero((density > 0.01) & (density < 0.1))
for feature in rare[codes[:, rare].max(axis=0).argsort()[::-1][:6]]:
    strongest = codes[:, feature].argsort()[::-1][:200]
    common, counts = np.unique(strings[strongest].astype(str), return_counts=True)
    print(f"{feature:4}", *map(repr, common[counts.argsort()[::-1][:6]].tolist()))
