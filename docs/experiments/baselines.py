"""Trained autoencoders beside baselines: the tables of ``docs/choosing_sparsity.md``.

Run as ``python docs/experiments/baselines.py``. The first table is of the standardised digits of
scikit-learn, on two splits. The second is of the packaged language model at one site, with trained
and with random weights: documents of all six packages are divided into those that the autoencoders
are fitted to and others that they are scored on.
"""

import argparse

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from sksae import ActivationExtractor, DummySAE, TopKSAE
from sksae.datasets import load_corpus, load_tiny_lm
from sksae.interpret import FeatureAtlas, explain, score_explanations
from sksae.language_models import downstream_metrics, randomized_model
from sksae.metrics import explained_variance
from sksae.model_selection import compare, sparse_probing

STRATEGIES = (
    "random",
    "data",
    "pca",
    "frozen_decoder",
    "soft_frozen_decoder",
    "frozen_encoder",
)
LAYER, WIDTH, K = 3, 384, 16
N_FITTED, N_PREDICTED, N_EXPLAINED = 120, 12, 40
FEWEST_FIRINGS = 50  # of a feature that is explained


def estimators(width, k, **options):
    """Return a `TopKSAE` and a baseline per strategy, by name."""
    named = {"TopKSAE": TopKSAE(width, k=k, random_state=0, **options)}
    for strategy in STRATEGIES:
        named[strategy] = DummySAE(width, strategy=strategy, k=k, random_state=0, **options)
    return named


def digits():
    """Print explained variance on digits, by codes per row."""
    X = StandardScaler().fit_transform(load_digits().data)
    ks = (1, 2, 4, 8, 16)
    by_k = [estimators(128, k) for k in ks]
    frontiers = {name: [one[name] for one in by_k] for name in by_k[0]}
    # None: every draw is another.
    frontiers["random"] = [one.set_params(random_state=None) for one in frontiers["random"]]
    frontiers["PCA"] = [PCA(k) for k in ks]
    table = compare(frontiers, X, cv=2, n_draws=5, random_state=0).to_frame()
    table["candidate"] = table["candidate"].str.rpartition("=")[2].astype(int)
    shown = table.pivot_table("explained_variance", "estimator", "candidate", sort=False)
    print(shown.round(2).to_string())
    spread = table[table["estimator"] == "random"]["explained_variance_std"]
    print("standard deviation of random directions:", spread.round(3).tolist())


def language_model(*, weights):
    """Print what is kept, explained and told of the packaged model by each estimator."""
    model, tokenizer = load_tiny_lm()
    if weights == "random":
        model, tokenizer = randomized_model(model, tokenizer, random_state=0)
    extractor = ActivationExtractor(model, layer=LAYER, tokenizer=tokenizer)
    corpus = load_corpus()
    order = np.random.default_rng(0).permutation(len(corpus.data))
    fitted, others = order[:N_FITTED], order[N_FITTED:]
    X = extractor.transform([corpus.data[i] for i in fitted])
    rest, table = extractor.extract([corpus.data[i] for i in others])
    document = np.asarray(table.text)
    pooled = np.array([rest[document == i].mean(0) for i in range(len(others))])
    target = np.asarray(corpus.target)[others]
    texts = [corpus.data[i] for i in others[:N_PREDICTED]]
    for name, sae in estimators(WIDTH, K, sparse_output=True).items():
        sae.fit(X)
        codes = sae.transform(rest)
        kept = downstream_metrics(extractor, sae, texts)
        largest = np.array([codes[document == i].max(0).toarray()[0] for i in range(len(others))])
        probes = sparse_probing(largest, pooled, target, k=5, cv=5, random_state=0)
        atlas = FeatureAtlas().fit(codes, tokens=table)
        firing = np.flatnonzero(codes.count_nonzero(axis=0) >= FEWEST_FIRINGS)
        chosen = np.random.default_rng(0).permutation(firing)[:N_EXPLAINED]
        scored = score_explanations(atlas, explain(atlas, features=chosen))
        values = [explanation.scores["embedding"]["value"] for explanation in scored.values()]
        numbers = {
            "EV": explained_variance(rest, sae.inverse_transform(codes)),
            "CE recovered": kept["ce_recovered"],
            "delta CE": kept["delta_ce"],
            "probe": probes["mean"][0],
            "explanations": np.nanmean(values),
        }
        print(
            f"{weights:8} {name:20}",
            *(f"{key} {value:.3f}" for key, value in numbers.items()),
            flush=True,
        )
    print(f"{weights:8} all columns", f"{probes['mean'][-1]:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=("digits", "language_model"), default=None)
    data = parser.parse_args().data
    if data != "language_model":
        digits()
    if data != "digits":
        for weights in ("trained", "random"):
            language_model(weights=weights)
