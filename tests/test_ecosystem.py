"""Pipelines with other packages, where they are installed."""

import numpy as np
import pytest
from joblib import Memory
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sksae import ActivationExtractor, SAEVectorizer, TopKSAE
from sksae.datasets import TINY_LM_PATH, load_corpus, make_superposition

THEIRS = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def X():
    return make_superposition(300, 8, 16, random_state=0)[0]


def small(**settings):
    return TopKSAE(16, k=2, max_iter=2, random_state=0, **settings)


def test_memory_of_a_pipeline_fits_once(tmp_path, X):
    y = X[:, 0] > 0
    memory = Memory(tmp_path, verbose=0)
    pipeline = make_pipeline(small(), LogisticRegression(), memory=memory).fit(X, y)
    again = make_pipeline(small(), LogisticRegression(C=0.1), memory=memory).fit(X, y)
    # the second pipeline read the fitted autoencoder from the disk
    assert len(list(tmp_path.rglob("output.pkl"))) == 1
    assert (again[0].components_ == pipeline[0].components_).all()


def test_a_card_of_skops(X):
    card_module = pytest.importorskip("skops.card")
    card = card_module.Card(make_pipeline(small(), LogisticRegression()).fit(X, X[:, 0] > 0))
    text = card.render()
    assert "topksae__k" in text
    assert "sk-top-container" in text  # the diagram, with its link to the documentation
    assert "generated/api/sksae.TopKSAE.html" in text


@THEIRS
@pytest.mark.slow
def test_a_text_column_of_a_table_vectorizer():
    skrub = pytest.importorskip("skrub")
    pd = pytest.importorskip("pandas")
    texts = load_corpus().data[:30]
    frame = pd.DataFrame({"length": [float(len(text)) for text in texts], "text": texts})
    extractor = ActivationExtractor(TINY_LM_PATH, layer=2)
    vectorizer = SAEVectorizer(extractor, small(), sparse_output=False)
    table = skrub.TableVectorizer(specific_transformers=[(vectorizer, ["text"])])
    transformed = table.fit_transform(frame)
    assert transformed.shape == (30, 17)
    direct = SAEVectorizer(extractor, small(), sparse_output=False).fit_transform(texts)
    np.testing.assert_allclose(transformed.drop(columns="length").to_numpy(), direct, rtol=1e-5)


@THEIRS
@pytest.mark.slow
def test_mlflow_keeps_a_pipeline(tmp_path, X, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    sklearn_flavour = pytest.importorskip("mlflow.sklearn")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{(tmp_path / 'runs.db').as_posix()}")
    pipeline = make_pipeline(small(), LogisticRegression()).fit(X, X[:, 0] > 0)
    with mlflow.start_run():
        info = sklearn_flavour.log_model(pipeline, name="model", serialization_format="cloudpickle")
    again = sklearn_flavour.load_model(info.model_uri)
    assert (again.predict_proba(X) == pipeline.predict_proba(X)).all()
