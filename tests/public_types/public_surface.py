"""Code of a user, for a type checker.

The lines are those that users write; the types that `assert_type` states are those that an editor
shows. Nothing here is run: ``python -m mypy tests/public_types/public_surface.py`` reads it.
"""

from pathlib import Path
from typing import Any, assert_type

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import sksae
from sksae import (
    ActivationExtractor,
    BatchTopKSAE,
    JumpReLUSAE,
    MatryoshkaSAE,
    SAEVectorizer,
    SparseAutoencoder,
    TopKSAE,
    Transcoder,
)
from sksae.autoencoders import BaseSAE
from sksae.callbacks import Checkpoint
from sksae.datasets import load_corpus, load_tiny_lm, make_superposition
from sksae.displays import CodesDisplay, SparsityFrontierDisplay
from sksae.formats import from_pretrained, read, write_saelens
from sksae.interpret import FeatureAtlas, FeatureContrast, explain
from sksae.language_models import TokenTable, downstream_metrics, logit_lens, steer
from sksae.metrics import explained_variance, l0
from sksae.model_selection import DiminishingReturns, SparsityPathCV
from sksae.objectives import Objective, TopK
from sksae.report import write_page


def tables(X: NDArray[np.float32], frame: pd.DataFrame, y: NDArray[np.int64]) -> None:
    sae = TopKSAE(16, k=4, random_state=0)
    assert_type(sae.fit(X), TopKSAE)
    assert_type(sae.fit(frame).partial_fit(X), TopKSAE)
    sae.fit(X.tolist(), y, sample_weight=np.ones(len(X)))
    assert_type(sae.score(X), float)
    assert_type(sae.components_, NDArray[Any])
    assert_type(sae.n_iter_, int)
    assert_type(sae.k_, int)
    reconstructed = sae.inverse_transform(sae.transform(X))
    assert_type(explained_variance(X, reconstructed), float)
    assert_type(l0(sae.transform(X)), float)
    path = sae.save("sae.safetensors")
    assert_type(path, Path)
    assert_type(sksae.load(path), BaseSAE)
    sae.set_callbacks(Checkpoint("fit.checkpoint", interval=60)).fit_transform(X)
    sae.set_output(transform="pandas")
    BatchTopKSAE(k=8, precision="bfloat16").fit(X)
    MatryoshkaSAE(64, widths=[16, 64]).fit(X)
    JumpReLUSAE(target_l0=8).fit(X)
    SparseAutoencoder(alpha=0.1, normalize=None).fit(X)
    Transcoder(TopKSAE(64), skip=True).fit(X, X).predict(X)
    search = GridSearchCV(make_pipeline(sae, LogisticRegression()), {"topksae__k": [2, 4]})
    search.fit(X, y)
    chosen = SparsityPathCV(TopKSAE(), [4, 8], refit=DiminishingReturns()).fit(X)
    SparsityFrontierDisplay.from_cv_results(chosen.cv_results_).plot()
    CodesDisplay.from_estimator(sae, X)


def texts(texts: list[str], target: NDArray[np.int64]) -> None:
    model, tokenizer = load_tiny_lm()
    extractor = ActivationExtractor(model, layer=3, tokenizer=tokenizer, site="resid_post")
    rows, tokens = extractor.extract(texts)
    assert_type(tokens, TokenTable)
    sae = TopKSAE(512, k=16, sparse_output=True).fit(rows)
    vectorizer = SAEVectorizer(extractor, sae).fit(texts)
    make_pipeline(vectorizer, LogisticRegression()).fit(texts, target)
    atlas = FeatureAtlas(sae, extractor=extractor, language_model=model, tokenizer=tokenizer)
    assert_type(atlas.fit(texts), FeatureAtlas)
    assert_type(atlas.feature(3).density, float)
    explanations = explain(atlas)
    assert_type(explanations[3].text, str)
    assert_type(write_page("features.html", atlas, explanations=explanations), Path)
    FeatureContrast(random_state=0).fit(vectorizer.transform(texts), target)
    downstream_metrics(extractor, sae, texts)
    assert_type(logit_lens(model, sae, tokenizer=tokenizer).feature, NDArray[Any])
    with steer(model, "3.resid_post", sae, {5: 20.0}):
        model.generate()


def files(folder: Path) -> None:
    X, _, _ = make_superposition(500, 8, 16, random_state=0)
    load_corpus().data
    write_saelens(folder, TopKSAE(16, k=2).fit(X), metadata={"hook_name": "a.b"})
    read(folder, format="saelens")
    from_pretrained("google/gemma-scope-2b-pt-res", "layer_20/width_16k/average_l0_71")


class Own(TopK):
    """An objective of one's own."""

    def loss(self, entries: Any, alpha: Any, dead: Any) -> Any:
        return super().loss(entries, alpha, dead)


def own_objective() -> Objective:
    return Own(2)
