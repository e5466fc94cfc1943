"""
Choosing the sparsity
=====================

Denser codes always explain more, so the explained variance cannot choose between them. A rule can,
if the data have a number of codes per row beyond which more explain little. This example shows
data that have one, and data that have none, and how to tell.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from sksae import TopKSAE
from sksae.datasets import make_superposition
from sksae.displays import SparsityFrontierDisplay
from sksae.model_selection import SparsityPathCV

generated, _, true_codes = make_superposition(
    2000, n_features=32, n_components=64, density=3 / 64, random_state=0
)
print(f"{(true_codes > 0).sum(axis=1).mean():.1f} directions per row of the generated data")

# %%
# ``SparsityPathCV`` fits the densest codes first and continues from there to sparser ones, in every
# split, and refits at the value that its rule chooses.

values = [1, 2, 3, 4, 6, 8, 12]
known = SparsityPathCV(TopKSAE(64, max_iter=20, random_state=0), values, cv=3).fit(generated)
digits = SparsityPathCV(TopKSAE(128, max_iter=10, random_state=0), values, cv=3)
digits.fit(load_digits().data[:900])

# %%
# The frontiers
# -------------
# On the left the curve bends at the true number, and the rule chooses it. On the right there is no
# bend: each doubling explains a little more. The rule returns the sparsest candidate.

figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
SparsityFrontierDisplay.from_estimator(known, ax=axes[0])
SparsityFrontierDisplay.from_estimator(digits, ax=axes[1])
axes[0].set_title("generated: 3 directions per row", fontsize=10)
axes[1].set_title("images of digits", fontsize=10)
axes[1].set_ylabel("")

# %%
# How sure the choice is
# ----------------------
# ``choice_`` says how the splits would have chosen one by one. ``at_edge`` means that the search
# has no answer: widen it, or decide by what the codes are for, with
# ``BestExplainedVariance(max_l0=8)`` or by the score of a classifier behind them.

for name, search in {"generated": known, "digits": digits}.items():
    choice = search.choice_
    print(
        f"{name:9}  k = {choice.params['k']}, "
        f"the same in {choice.agreement:.0%} of the splits, at the edge: {choice.at_edge}"
    )
