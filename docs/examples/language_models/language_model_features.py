"""Features of a language model, from texts to an HTML page.

The script does the same as ``python -m sksae``. It takes about a minute on two cores and writes
``sksae-report/index.html``.
"""

from sklearn.model_selection import train_test_split

from sksae import TopKSAE
from sksae.datasets import TINY_LM_PATH, load_corpus
from sksae.interpret import FeatureAtlas, choose_features, explain, read_prompt
from sksae.language_models import ActivationExtractor
from sksae.report import feature_lines, write_page

# The autoencoder learns from 80 % of the texts; everything is reported on the others.
train, held_out = train_test_split(load_corpus().data, test_size=0.2, random_state=0)
extractor = ActivationExtractor(TINY_LM_PATH, layer=3, verbose=1)
X = extractor.transform(train)
X_held_out, tokens = extractor.extract(held_out)

sae = TopKSAE(k=16, max_iter=6, sparse_output=True, random_state=0, verbose=1).fit(X)
atlas = FeatureAtlas(sae, language_model=TINY_LM_PATH).fit(X_held_out, tokens=tokens)
print(f"explained variance {sae.score(X_held_out):.4f}, L0 {atlas.density_.sum():.1f}, ", end="")
print(f"dead fraction {(atlas.n_active_ == 0).mean():.4f} on {len(X_held_out):,} held-out tokens")

# Print a dozen features that are easy to name, with the texts in which they fire most.
explanations = explain(atlas)
for feature in choose_features(atlas, n_features=12).tolist():
    print(explanations[feature])
    print(*feature_lines(atlas.feature(feature), n_examples=5), "", sep="\n")
# Write the page, with six prompts and the features that fire on them.
prompts = [read_prompt(extractor, sae, text[:600]) for text in held_out[:6]]
write_page("sksae-report/index.html", atlas, explanations=explanations, prompts=prompts)
