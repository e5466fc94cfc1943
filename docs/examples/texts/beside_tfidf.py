"""
Texts as features, beside TF-IDF
================================

``SAEVectorizer`` stands where ``TfidfVectorizer`` would stand. Its columns are features of a
language model, which knows more about a text than its words, and each can be described by where it
fires. The two also work side by side, in a ``FeatureUnion``.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.sparse import hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import Normalizer

from sksae import ActivationExtractor, SAEVectorizer, TopKSAE
from sksae.datasets import load_corpus, load_tiny_lm

corpus = load_corpus()  # documentation of six Python packages
train, test, package, test_package = train_test_split(
    corpus.data, corpus.target, train_size=180, stratify=corpus.target, random_state=0
)
model, tokenizer = load_tiny_lm()
extractor = ActivationExtractor(model, layer=3, tokenizer=tokenizer)

# %%
# The autoencoder learns from the tokens of the training texts, without labels. Fitted, it is used
# as it is by every pipeline. The codes of a text are the largest codes of its tokens; they are
# brought to length 1, as the rows of TF-IDF are, so that neither outweighs the other.

rows = extractor.transform(train[:90])
sae = TopKSAE(384, k=12, max_iter=4, sparse_output=True, random_state=0).fit(rows)
features = make_pipeline(SAEVectorizer(extractor, sae), Normalizer()).fit(train)
words = TfidfVectorizer(sublinear_tf=True).fit(train)

# %%
# Accuracy with few labels
# ------------------------
# The same logistic regression on words, on features, and on both, for a growing number of labelled
# texts. With few labels features help: a model knows which words are alike. With many labels words
# alone are best here, because packages differ in their words.

representations = {
    "TF-IDF": (words.transform(train), words.transform(test)),
    "SAE features": (features.transform(train), features.transform(test)),
}
representations["both"] = tuple(
    hstack([part[i] for part in representations.values()]).tocsr() for i in range(2)
)
sizes = (12, 30, 60, 120, 180)
rng = np.random.default_rng(0)
accuracy = {name: [] for name in representations}
for size in sizes:
    draws = [np.r_[:180]] if size == 180 else [rng.permutation(180)[:size] for _ in range(5)]
    for name, (X, X_test) in representations.items():
        scores = []
        for draw in draws:
            classifier = LogisticRegression(C=10, max_iter=1000).fit(X[draw], package[draw])
            scores.append(classifier.score(X_test, test_package))
        accuracy[name].append(np.mean(scores))
figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for (name, values), color, marker in zip(
    accuracy.items(), ["#d55e00", "#0072b2", "#009e73"], "so^", strict=True
):
    ax.plot(sizes, values, color=color, marker=marker, label=name)
ax.set_xscale("log")
ax.set_xticks(sizes, map(str, sizes))
ax.minorticks_off()
ax.set(xlabel="labelled texts", ylabel="accuracy on held-out texts")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)
for name, values in accuracy.items():
    print(f"{name:13} " + "  ".join(f"{value:.2f}" for value in values))

# %%
# As a pipeline
# -------------
# In an application both are one estimator, with a ``FeatureUnion`` inside.

both = make_union(features, words)
pipeline = make_pipeline(both, LogisticRegression(C=10, max_iter=1000)).fit(train, package)
predicted = pipeline.predict(test[:5])
for text, i, j in zip(test, predicted, test_package[:5], strict=False):
    print(f"{text[:45]!r}: {corpus.target_names[i]} (in truth {corpus.target_names[j]})")
