"""The features of a language model, from texts to a page: what ``python -m sksae`` does.

It takes about a minute on two cores and writes ``sksae-report/index.html``.
"""

from sklearn.model_selection import train_test_split

from sksae import TopKSAE
from sksae.datasets import TINY_LM_PATH, load_corpus
from sksae.interpret import choose_features, summarize_features
from sksae.language_models import ActivationExtractor
from sksae.metrics import dead_fraction, l0, latent_density
from sksae.report import feature_lines, write_page

train, held_out = train_test_split(load_corpus().data, test_size=0.2, random_state=0)
extractor = ActivationExtractor(TINY_LM_PATH, layer=3, verbose=1)
X = extractor.transform(train)
X_held_out, tokens = extractor.extract(held_out)

sae = TopKSAE(k=16, max_iter=6, sparse_output=True, random_state=0, verbose=1).fit(X)
codes = sae.transform(X_held_out)
print(f"explained variance {sae.score(X_held_out):.4f}, L0 {l0(codes):.1f}, ", end="")
print(f"dead fraction {dead_fraction(codes):.4f} on {len(X_held_out):,} held-out tokens")

chosen = choose_features(codes, tokens, sae.components_, n_features=12)
features = summarize_features(codes, tokens, chosen, n_examples=5)
for feature in features:
    print(*feature_lines(feature), "", sep="\n")
write_page("sksae-report/index.html", features, latent_density(codes), len(X_held_out))
