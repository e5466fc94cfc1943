"""
The features of a language model
================================

From texts to a page that shows every feature: extract activations, fit an autoencoder, find where
each feature fires, name it, and write the page. ``python -m sksae`` does the same from the command
line.
"""

from sklearn.model_selection import train_test_split

from sksae import TopKSAE
from sksae.datasets import TINY_LM_PATH, load_corpus
from sksae.displays import CodesDisplay, DecoderMapDisplay, HighlightedText
from sksae.interpret import FeatureAtlas, choose_features, explain, read_prompt
from sksae.language_models import ActivationExtractor
from sksae.report import feature_lines, write_page

# %%
# The autoencoder learns from one part of the texts. Everything is reported on the other.

train, held_out = train_test_split(load_corpus().data, train_size=120, test_size=60, random_state=0)
extractor = ActivationExtractor(TINY_LM_PATH, layer=3)
X = extractor.transform(train)
X_held_out, tokens = extractor.extract(held_out)
sae = TopKSAE(512, k=16, max_iter=4, sparse_output=True, random_state=0).fit(X)
atlas = FeatureAtlas(sae, language_model=TINY_LM_PATH).fit(X_held_out, tokens=tokens)
print(f"explained variance {sae.score(X_held_out):.4f}, L0 {atlas.density_.sum():.1f}, ", end="")
print(f"dead fraction {(atlas.n_active_ == 0).mean():.4f} on {len(X_held_out):,} held-out tokens")

# %%
# Four pictures of codes
# ----------------------
# A few codes per token, many features that fire rarely, and some that fire often.

CodesDisplay.from_codes(sae.transform(X_held_out[:4000]))

# %%
# A dozen features that are easy to name
# --------------------------------------

explanations = explain(atlas)
chosen = choose_features(atlas, n_features=12)
for feature in chosen.tolist():
    print(explanations[feature])
    print(*feature_lines(atlas.feature(feature), n_examples=2), "", sep="\n")

# %%
# The same for one of them, with the tokens coloured by the activation:

HighlightedText.from_feature(atlas.feature(chosen[0]), n_examples=8)

# %%
# A map of the dictionary
# -----------------------
# Features with similar directions are near each other. Colours are how often they fire.

names = {int(feature): str(explanations[feature]) for feature in chosen[:8].tolist()}
DecoderMapDisplay.from_estimator(sae, annotate=names)

# %%
# The page
# --------
# One file with all features to search and sort, and six prompts with the features that fire on
# them.

prompts = [read_prompt(extractor, sae, text[:600]) for text in held_out[:6]]
page = write_page("sksae-report/index.html", atlas, explanations=explanations, prompts=prompts)
print(f"{page.stat().st_size / 1e6:.1f} MB")
