"""
A table with named components
=============================

The breast cancer data describe 569 tumours by 30 columns. Three components describe each tumour,
and each component gets a name from the columns, with a score on rows that the name was not made
from.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler

from sksae import TopKSAE
from sksae.displays import ComponentLoadingsDisplay
from sksae.interpret import FeatureAtlas, explain

data = load_breast_cancer(as_frame=True)
scaler = StandardScaler().set_output(transform="pandas")
X = scaler.fit_transform(data.data)  # columns of different units

# %%
# Twelve components are enough for a first look. The default width explains more, with components
# that fire on fewer rows.

sae = TopKSAE(12, k=3, max_iter=100, batch_size=32, random_state=0).fit(X)
print(f"explained variance {sae.score(X):.2f}, with 3 codes per row")
atlas = FeatureAtlas(sae).fit(X)
names = explain(atlas)
sae.set_feature_names(names)
for number, name in names.items():
    rule = name.scores["rule"]
    print(f"{sae.activation_frequency_[number]:5.1%}  {name!s:75}  AUROC {rule['value']:.2f}")

# %%
# The components
# --------------
# Blue columns are higher where the component is active, red ones lower.

ComponentLoadingsDisplay.from_estimator(sae, X, n_components=6, names={}, n_loadings=6)

# %%
# What they say about the target
# ------------------------------
# The fit did not see which tumours are malignant. Where one component fires nearly all are, where
# another fires hardly any: the names describe the classes, too.

codes = sae.transform(X)
is_malignant = data.target.to_numpy() == 0
fires = np.asarray(codes) > 0
share = np.array([is_malignant[column].mean() for column in fires.T])
order = share.argsort()
figure, ax = plt.subplots(figsize=(8, 4.2))
ax.barh([str(names[i]) for i in order], share[order], color="#4477aa")
ax.axvline(is_malignant.mean(), color="0.3", linestyle="--", linewidth=1)
ax.text(is_malignant.mean() + 0.01, -0.4, "all tumours", fontsize=9, color="0.3")
ax.set(xlabel="share of malignant tumours where the component fires", xlim=(0, 1))
ax.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
