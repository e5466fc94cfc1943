"""
What distinguishes two sets of texts
====================================

``FeatureContrast`` tests every feature for a difference between two sets of texts, counts each
text once, and bounds the share of false discoveries. Here the documentation of torch is compared
with that of NumPy.
"""

import numpy as np

from sksae import ActivationExtractor, SAEVectorizer, TopKSAE
from sksae.datasets import TINY_LM_PATH, load_corpus
from sksae.displays import ContrastVolcanoDisplay, HighlightedText
from sksae.interpret import FeatureAtlas, FeatureContrast, explain

corpus = load_corpus()
packages = np.array(corpus.target_names)[corpus.target]
chosen = np.flatnonzero(np.isin(packages, ["numpy", "torch"]))
texts, labels = [corpus.data[i] for i in chosen], packages[chosen]
extractor = ActivationExtractor(TINY_LM_PATH, layer=3)
rows, tokens = extractor.extract(texts)
sae = TopKSAE(384, k=12, max_iter=4, sparse_output=True, random_state=0).fit(rows)

# %%
# Names for the features, from the tokens on which they fire:

atlas = FeatureAtlas(sae, language_model=TINY_LM_PATH).fit(rows, tokens=tokens)
names = explain(atlas)

# %%
# The contrast
# ------------
# Each point is a feature: how much more often it fires in texts about torch, and the evidence for
# that. Above the line, one discovery in twenty is expected to be false.

codes = SAEVectorizer(extractor, sae).fit_transform(texts)
contrast = FeatureContrast(pos_label="torch").fit(codes, labels)
ContrastVolcanoDisplay.from_estimator(contrast, names=names)

# %%
# The features with the most evidence, as a table:

table = contrast.table([str(names[i]) for i in range(codes.shape[1])])
columns = ["name", "log_odds", "firing_rate_pos", "firing_rate_neg", "qvalue"]
table[[column for column in columns if column in table]].head(10).round(3)

# %%
# A look at the places
# --------------------
# A difference is no cause, and a name is short. Look at where a feature fires before you say what
# it is.

strongest = int(np.argmax(np.where(contrast.effects_ > 0, -np.log(contrast.qvalues_), 0)))
print(names[strongest])
HighlightedText.from_feature(atlas.feature(strongest), n_examples=6)
