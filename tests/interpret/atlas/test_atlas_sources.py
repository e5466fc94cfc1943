"""What an atlas is fitted on: codes of every kind, rows, texts in chunks, images, tables."""

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import BaseEstimator

from sksae import ActivationExtractor, TopKSAE
from sksae.datasets import TINY_LM_PATH, load_corpus
from sksae.interpret import FeatureAtlas
from sksae.interpret.atlas import _blocks
from sksae.language_models.extraction import _activation_reader
from tests.cases import each_case

CODES = np.array([[0, 3, 1], [2, 0, 1], [4, 0, 1], [0, 0, 1]])


class Directions(BaseEstimator):
    """Rows that are codes already, and directions."""

    def __init__(self, components):
        self.components = components
        self.components_ = components

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X

    def get_feature_names_out(self):
        return [f"directions{i}" for i in range(len(self.components_))]


def as_tensor(codes):
    return torch.from_numpy(codes).to(torch.bfloat16)


@each_case(
    "form",
    ["float16", "float32", "float64", "longdouble", "int8", "uint64", "bool", "tensor", "list"],
)
def test_codes_of_every_type_are_counted(form):
    codes = {"tensor": as_tensor, "list": np.ndarray.tolist}.get(form, lambda c: c.astype(form))
    atlas = FeatureAtlas().fit(codes(CODES))
    assert atlas.n_active_.tolist() == [2, 1, 4]
    assert atlas.max_activation_.tolist() == ([1, 1, 1] if form == "bool" else [4, 3, 1])
    assert [e.row for e in atlas.feature(2).examples] == [0, 1, 2, 3]


def test_codes_stored_in_parts_are_one_code():
    parts = sparse.csr_array((np.array([1.0, 2]), np.array([0, 0]), np.array([0, 2])), shape=(1, 1))
    feature = FeatureAtlas().fit(parts).feature(0)
    assert (feature.n_active, feature.max_activation, feature.mean_activation) == (1, 3, 3)


def test_codes_are_left_as_they_are():
    codes = sparse.csc_array(np.array([[1.0, -2], [-3, 4]]))
    assert FeatureAtlas().fit(codes).n_active_.tolist() == [1, 1]
    assert codes.data.tolist() == [1, -3, -2, 4]


@each_case("n_neighbors", [0, 1, 50])
def test_fewer_neighbours_than_features_or_none(n_neighbors):
    atlas = FeatureAtlas(Directions(np.eye(3)), n_neighbors=n_neighbors).fit(np.tile(CODES, (5, 1)))
    n_found = min(n_neighbors, 2)
    feature = atlas.feature(2)
    assert len(feature.nearest) == len(feature.coactive) == n_found
    assert all(related.cosine == 0 for related in feature.nearest + feature.coactive)
    assert ("nearest" in atlas.table().columns) == (n_neighbors > 0)


def test_one_feature_has_no_neighbours():
    atlas = FeatureAtlas(Directions(np.ones((1, 5)))).fit(CODES[:, :1])
    assert atlas.feature(0).nearest == atlas.feature(0).coactive == []
    assert atlas.map_.shape == (1, 2)


def test_features_that_all_fire_together_keep_their_partners(monkeypatch):
    """More pairs than are kept, none of them worse than another."""
    monkeypatch.setattr(_blocks, "BLOCK_ROWS", 1)
    monkeypatch.setattr("sksae.interpret.atlas._neighbors._MOST_PAIRS", 2**16)
    atlas = FeatureAtlas(n_neighbors=3).fit(np.ones((5, 300)))
    assert [(r.feature, r.jaccard) for r in atlas.feature(7).coactive] == [(0, 1), (1, 1), (2, 1)]


def test_no_window_around_and_none_that_is_silent():
    table = {"text": [0, 0, 0, 0], "string": ["a", " b", " c", " d"]}
    atlas = FeatureAtlas(before=0, after=0, n_silent=0).fit(CODES, tokens=table)
    assert [str(e) for e in atlas.feature(0).examples] == ["…[[ c]]…"]
    assert atlas.feature(0).silent == {"random": [], "neighbor": [], "lexical": []}


def test_frames_and_named_texts():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"text": ["x", "x", "y", "y"], "string": ["a", " b", "c", " d"]})
    found = {}
    for name, tokens in (("frame", frame), ("categories", frame.astype("category"))):
        examples = FeatureAtlas().fit(CODES, tokens=tokens).feature(0).examples
        found[name] = [(e.text, str(e)) for e in examples]
    assert found["frame"] == found["categories"] == [("y", "[[c]] d"), ("x", "a[[ b]]")]


@each_case("chunk", [1, 300, 10**6])
def test_texts_in_chunks_are_numbered_through(chunk, monkeypatch):
    monkeypatch.setattr(_activation_reader, "CHUNK_TOKENS", chunk)
    extractor = ActivationExtractor(TINY_LM_PATH, layer=3)
    start, end = (text[:200] for text in load_corpus().data[:2])
    texts = ["", start, "", "곰 🌊 희", *(text[:250] for text in load_corpus().data[2:7]), end, ""]
    rows, tokens = extractor.extract(texts)
    fitted = TopKSAE(16, k=4, max_iter=1, random_state=0).fit(rows)
    whole = FeatureAtlas(fitted).fit(rows, tokens=tokens)
    parts = FeatureAtlas(fitted, extractor=extractor).fit(text for text in texts)
    assert (parts.n_rows_, parts.n_texts_) == (len(rows), 8)
    for j in range(16):
        one, other = whole.feature(j), parts.feature(j)
        for kind in ("examples", "sampled"):
            shown = [[(e.row, e.text, str(e)) for e in getattr(f, kind)] for f in (one, other)]
            assert shown[0] == shown[1]
        for shown in other.examples:
            piece = "".join(shown.tokens.tolist())
            assert piece.strip("�") in texts[shown.text]


def test_patches_of_images_are_shown_by_their_places():
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        image_size=12,
        patch_size=4,
    )
    model = transformers.AutoModel.from_config(config).eval()
    images = np.random.default_rng(0).normal(size=(5, 3, 12, 12)).astype(np.float32)
    extractor = ActivationExtractor(model, 1)
    fitted = TopKSAE(8, k=2, max_iter=1, random_state=0).fit(extractor.transform(images))
    atlas = FeatureAtlas(fitted, extractor=extractor).fit(images)
    assert (atlas.n_rows_, atlas.n_texts_) == (45, 5)
    places = {f"row {i}, column {j}" for i in range(3) for j in range(3)}
    for j in np.flatnonzero(atlas.n_active_).tolist():
        for shown in atlas.feature(j).examples:
            assert set(shown.tokens.tolist()) == places
            assert shown.row == 9 * shown.text + shown.peak
