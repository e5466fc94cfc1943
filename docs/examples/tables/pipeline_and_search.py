"""
A pipeline and a grid search
============================

An autoencoder is a transformer: it stands in a ``Pipeline`` before a classifier, and
``GridSearchCV`` reaches its parameters. Here a linear classifier gets the codes of handwritten
digits. The columns that it uses can be shown as pictures.
"""

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline

from sksae import TopKSAE
from sksae.displays import ComponentImagesDisplay

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, train_size=900, random_state=0)
pipeline = Pipeline(
    [
        ("sae", TopKSAE(max_iter=20, random_state=0)),
        ("classifier", LogisticRegression(max_iter=2000)),
    ]
)
grid = {"sae__n_components": [64, 128, 256], "sae__k": [2, 8, 16]}
search = GridSearchCV(pipeline, grid, cv=2).fit(X_train, y_train)
search

# %%
# What was found
# --------------
# The score of the whole pipeline decides, and not the reconstruction. Little is lost with eight
# codes per image, which are easier to read than sixteen.

results = pd.DataFrame(search.cv_results_)
table = results.pivot(
    index="param_sae__n_components", columns="param_sae__k", values="mean_test_score"
)
alone = LogisticRegression(max_iter=5000).fit(X_train / 16, y_train)
print(f"best: {search.best_params_}")
print(f"accuracy on held-out images: {search.score(X_test, y_test):.3f}")
print(f"the same classifier on pixels: {alone.score(X_test / 16, y_test):.3f}")

figure, ax = plt.subplots(figsize=(5, 3.6), layout="constrained")
mesh = ax.imshow(table, cmap="Blues", aspect="auto")
for i, line in enumerate(table.to_numpy()):
    for j, value in enumerate(line):
        dark = value > table.to_numpy().mean()
        ax.text(j, i, f"{value:.3f}", ha="center", va="center", color="w" if dark else "k")
ax.set_xticks(range(len(table.columns)), table.columns)
ax.set_yticks(range(len(table)), table.index)
ax.set(xlabel="k, codes per image", ylabel="n_components", title="cross-validated accuracy")

# %%
# The components behind a decision
# --------------------------------
# Of each digit, the component with the largest coefficient.

sae, classifier = search.best_estimator_
strongest = classifier.coef_.argmax(axis=1)
display = ComponentImagesDisplay.from_estimator(sae, (8, 8), components=strongest, n_columns=10)
for ax, digit in zip(display.axes_, classifier.classes_, strict=True):
    ax.set_title(f"for {digit}", fontsize=10)
