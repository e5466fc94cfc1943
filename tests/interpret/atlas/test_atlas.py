"""An atlas against what plain code finds in the same codes."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from sksae import ActivationExtractor, TopKSAE
from sksae.datasets import TINY_LM_PATH, load_corpus
from sksae.interpret import FeatureAtlas, max_activating_examples
from sksae.interpret.atlas import _blocks
from tests.cases import each_case, tries


def random_codes(seed, n_rows=600, width=12, density=0.1):
    rng = np.random.default_rng(seed)
    codes = sparse.random_array((n_rows, width), density=density, rng=rng, format="csr")
    codes.data = rng.gamma(1.0, 2.0, codes.nnz) + 1e-3
    return codes


def random_table(seed, n_rows=600, n_strings=40):
    rng = np.random.default_rng(seed)
    words = np.array([f" w{i}" for i in range(n_strings)], dtype=object)
    lengths = rng.integers(1, 40, n_rows)
    text = np.repeat(np.arange(n_rows), lengths)[:n_rows]
    return {"text": text, "string": words[rng.integers(0, n_strings, n_rows)]}


@pytest.fixture(scope="module")
def codes():
    return random_codes(0)


@pytest.fixture(scope="module")
def table():
    return random_table(1)


@pytest.fixture(scope="module")
def atlas(codes, table):
    return FeatureAtlas(n_examples=7, n_per_octave=5).fit(codes, tokens=table)


def test_counts_are_those_of_the_codes(atlas, codes, table):
    dense = codes.toarray()
    assert atlas.n_rows_ == 600
    assert atlas.n_texts_ == len(np.unique(table["text"]))
    np.testing.assert_array_equal(atlas.n_active_, (dense > 0).sum(0))
    np.testing.assert_array_equal(atlas.density_, (dense > 0).mean(0))
    np.testing.assert_array_equal(atlas.max_activation_, dense.max(0))
    mean = dense.sum(0) / (dense > 0).sum(0)
    np.testing.assert_allclose(atlas.mean_activation_, mean, rtol=1e-12)
    for j in range(12):
        fires = dense[:, j] > 0
        assert atlas.feature(j).n_texts == len(np.unique(table["text"][fires]))


def test_the_strongest_windows_are_those_of_max_activating_examples(atlas, codes, table):
    exact = max_activating_examples(codes, table, n_examples=7)
    for j, examples in exact.items():
        mine = atlas.feature(j).examples
        assert [e.row for e in mine] == [e.row for e in examples]
        for one, other in zip(mine, examples, strict=True):
            assert (one.activation, str(one), one.peak) == (
                other.activation,
                str(other),
                other.peak,
            )
            assert (one.text, one.cut_before, one.cut_after) == (
                other.text,
                other.cut_before,
                other.cut_after,
            )
            np.testing.assert_allclose(one.activations, other.activations, rtol=1e-6)


def test_histograms_count_every_firing(atlas, codes):
    dense = codes.toarray()
    for j in range(12):
        counts, edges = atlas.feature(j).histogram
        expected, _ = np.histogram(dense[:, j][dense[:, j] > 0], edges)
        np.testing.assert_array_equal(counts, expected)
        assert counts.sum() == (dense[:, j] > 0).sum()
        np.testing.assert_allclose(edges[1:] / edges[:-1], 2**0.25)


def test_tokens_are_ranked_by_their_share_of_the_activation(atlas, codes, table):
    dense = codes.toarray()
    for j in range(12):
        shares = {
            word: dense[table["string"] == word, j].sum() / dense[:, j].sum()
            for word in set(table["string"])
        }
        top = sorted(shares.items(), key=lambda item: -item[1])[:10]
        found = atlas.feature(j).top_tokens
        np.testing.assert_allclose([s for _, s in found], [s for _, s in top], rtol=1e-9)
        for word, share in found:
            assert share == pytest.approx(shares[word], rel=1e-9)


def test_sampled_windows_are_real_and_stand_for_all_firings(atlas, codes):
    dense = codes.toarray()
    for j in range(12):
        feature = atlas.feature(j)
        assert [e.activation for e in feature.sampled] == sorted(
            (e.activation for e in feature.sampled), reverse=True
        )
        for example in feature.sampled:
            assert example.activation == dense[example.row, j]
        # every octave in which it fires is there, with all its rows
        assert feature.weights.sum() == pytest.approx(feature.n_active)
        quantiles = feature.quantiles(4)
        assert sum(q.share for q in quantiles) == pytest.approx(1)
        assert all(a.low >= b.high for a, b in pairwise(quantiles))


def test_a_feature_is_silent_in_silent_windows(atlas, codes, table):
    dense = codes.toarray()
    for j in range(12):
        feature = atlas.feature(j)
        main = {token for token, _ in feature.top_tokens[:5]}
        assert set(feature.silent) == {"random", "neighbor", "lexical"}
        assert feature.silent["random"]
        for kind, examples in feature.silent.items():
            for example in examples:
                first = example.row - example.peak
                window = slice(first, first + len(example.tokens))
                assert not dense[window, j].any()
                assert (table["text"][window] == example.text).all()
                assert "".join(table["string"][window]) == "".join(example.tokens)
                assert kind != "lexical" or example.tokens[example.peak] in main


def test_what_fires_together_is_counted(codes, table):
    atlas = FeatureAtlas(n_neighbors=11).fit(codes, tokens=table)
    fires = codes.toarray() > 0
    for j in range(12):
        found = {related.feature: related for related in atlas.feature(j).coactive}
        for i in set(range(12)) - {j}:
            both, either = (fires[:, i] & fires[:, j]).sum(), (fires[:, i] | fires[:, j]).sum()
            if both >= 5:
                assert found[i].jaccard == pytest.approx(both / either, rel=1e-6)
                assert found[i].conditional == pytest.approx(both / fires[:, j].sum(), rel=1e-6)
            else:
                assert i not in found


@settings(max_examples=tries(15), deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(20, 400))
def test_the_result_does_not_depend_on_how_rows_are_cut(seed, size):
    codes, table = random_codes(seed, 300), random_table(seed + 1, 300, n_strings=6)
    whole = FeatureAtlas(n_examples=4, n_per_octave=3).fit(codes, tokens=table)
    rows, _blocks.BLOCK_ROWS = _blocks.BLOCK_ROWS, size
    try:
        pieces = FeatureAtlas(n_examples=4, n_per_octave=3).fit(codes, tokens=table)
    finally:
        _blocks.BLOCK_ROWS = rows
    longest = np.bincount(table["text"]).max()
    for j in range(12):
        one, other = whole.feature(j), pieces.feature(j)
        assert one.n_active == other.n_active
        assert one.top_tokens == [
            (token, pytest.approx(share)) for token, share in other.top_tokens
        ]
        if longest <= size:  # texts are not cut
            assert [(e.row, str(e)) for e in one.examples] == [
                (e.row, str(e)) for e in other.examples
            ]
            assert [e.row for e in one.sampled] == [e.row for e in other.sampled]
            assert one.n_unique == other.n_unique
            np.testing.assert_array_equal(one.weights, other.weights)


def test_repeated_contexts_count_once():
    """One text a hundred times, and thirty that are all different."""
    texts = [["same", " old", " thing"]] * 100 + [[f"new{i}", " thing"] for i in range(30)]
    text = np.repeat(np.arange(130), [len(t) for t in texts])
    string = np.array([s for t in texts for s in t], dtype=object)
    codes = (string == " thing")[:, None] * 1.0
    feature = FeatureAtlas(n_per_octave=64).fit(codes, tokens={"text": text, "string": string})
    feature = feature.feature(0)
    assert (feature.n_active, feature.n_unique) == (130, 31)
    assert feature.flags == ("dense", "duplicate-heavy")
    assert len({str(e) for e in feature.examples}) == len(feature.examples) == 20
    assert sum("same" in str(e) for e in feature.examples) == 1


def test_the_number_of_contexts_is_estimated_where_a_sample_is_full():
    n_rows = 20_000
    string = np.array([f"{i}" for i in range(n_rows)], dtype=object)
    table = {"text": np.arange(n_rows) // 10, "string": string}
    atlas = FeatureAtlas(n_per_octave=200).fit(np.ones((n_rows, 1)), tokens=table)
    assert abs(atlas.feature(0).n_unique / n_rows - 1) < 3 / np.sqrt(200)


def test_flags():
    n_rows = 2000
    codes = np.zeros((n_rows, 4))
    codes[:, 1] = 1  # always
    codes[::50, 2] = 1  # at the beginning of each text
    codes[5, 3] = 1  # once
    rng = np.random.default_rng(0)
    string = np.array([f" {i}" for i in rng.integers(0, 500, n_rows)], dtype=object)
    atlas = FeatureAtlas().fit(codes, tokens={"text": np.arange(n_rows) // 50, "string": string})
    flags = [atlas.feature(j).flags for j in range(4)]
    assert flags == [("dead",), ("dense",), ("position-driven",), ("rare",)]
    frame = atlas.table()
    assert frame.loc[0, "dead"]
    assert frame[["dead", "dense", "position-driven", "rare"]].sum().tolist() == [1, 1, 1, 1]


def test_a_dead_feature_has_nothing_to_show():
    feature = FeatureAtlas().fit(np.array([[0.0, 1.0]])).feature(0)
    assert (feature.n_active, feature.max_activation, feature.mean_activation) == (0, 0, 0)
    assert feature.examples == feature.sampled == feature.top_tokens == feature.quantiles() == []
    assert len(feature.histogram[0]) == 0


def test_tokens_of_one_character_are_one_piece():
    """The three bytes of a Hangul syllable, as a byte-level tokenizer cuts it."""
    table = {
        "text": [0] * 5,
        "position": [0, 1, 2, 3, 4],
        "group": [0, 1, 1, 1, 4],
        "string": ["a", "희", "희", "희", "b"],
    }
    codes = np.array([[0.0], [1], [3], [2], [0]])
    feature = FeatureAtlas().fit(codes, tokens=table).feature(0)
    (example,) = feature.examples
    assert example.tokens.tolist() == ["a", "희", "b"]
    assert example.activations.tolist() == [0, 3, 0]
    assert feature.top_tokens == [("희", 1.0)]


def test_rows_with_labels_are_shown_by_their_labels():
    names = ["Ada", "Bo", "Bo", "Dan"]
    feature = FeatureAtlas().fit([[0.0], [2], [1], [3]], tokens=names).feature(0)
    assert [str(e) for e in feature.examples] == ["[[Dan]]", "[[Bo]]", "[[Bo]]"]


@pytest.fixture(scope="module")
def reading():
    """The packaged model, an autoencoder, some texts."""
    extractor = ActivationExtractor(TINY_LM_PATH, layer=3)
    texts = [text[:400] for text in load_corpus().data[:15]]
    X = extractor.transform(texts)
    return extractor, TopKSAE(96, k=6, max_iter=4, random_state=0).fit(X), texts


def test_texts_rows_and_codes_give_the_same_atlas(reading):
    extractor, fitted, texts = reading
    rows, tokens = extractor.extract(texts)
    from_texts = FeatureAtlas(fitted, extractor=extractor).fit(texts)
    from_rows = FeatureAtlas(fitted).fit(rows, tokens=tokens)
    from_codes = FeatureAtlas().fit(fitted.transform(rows), tokens=tokens)
    for j in range(0, 96, 7):
        one, two, three = (a.feature(j) for a in (from_texts, from_rows, from_codes))
        assert [str(e) for e in one.examples] == [str(e) for e in two.examples]
        assert [str(e) for e in two.examples] == [str(e) for e in three.examples]
        assert [e.text for e in one.examples] == [e.text for e in two.examples]
        assert one.nearest == two.nearest
    assert from_texts.facts_["model"] == str(TINY_LM_PATH)
    assert from_texts.facts_["layer"] == 3
    assert from_texts.facts_["sae"].startswith("TopKSAE(")


def test_directions_and_logits(reading):
    from sksae.language_models import logit_lens

    extractor, fitted, texts = reading
    atlas = FeatureAtlas(fitted, extractor=extractor, language_model=TINY_LM_PATH, n_tokens=4)
    atlas.fit(texts[:10])
    cosine = fitted.components_ @ fitted.components_.T
    np.fill_diagonal(cosine, -2)
    lens = logit_lens(TINY_LM_PATH, fitted, n_tokens=4)
    for j in (0, 50, 95):
        feature = atlas.feature(j)
        order = np.argsort(-cosine[j])[:10]
        assert [r.feature for r in feature.nearest] == order.tolist()
        np.testing.assert_allclose([r.cosine for r in feature.nearest], cosine[j, order], atol=1e-5)
        assert [t for t, _ in feature.promoted] == lens.promoted[j].tolist()
        np.testing.assert_allclose([v for _, v in feature.suppressed], lens.suppressed_logits[j])
    assert atlas.map_.shape == (96, 2)
    assert {"promoted", "suppressed", "nearest", "cosine"} <= set(atlas.table().columns)


@each_case(
    "arguments, X, tokens, message",
    [
        ({}, np.zeros((0, 3)), None, "no rows"),
        ({}, np.zeros(3), None, "2-D"),
        ({}, np.array([[np.nan]]), None, "NaN"),
        ({}, np.ones((2, 1)), ["one"], "2 rows"),
        ({"n_examples": 0}, np.ones((2, 1)), None, "n_examples"),
        ({"extractor": "gpt2"}, ["a"], None, "needs a fitted 'sae'"),
        ({}, ["a", "b"], None, "texts need an 'extractor'"),
        ({"language_model": "gpt2"}, np.ones((2, 1)), None, "needs a fitted 'sae'"),
        ({"tokenizer": "gpt2"}, np.ones((2, 1)), None, "goes with 'language_model'"),
    ],
)
def test_wrong_input_is_named(arguments, X, tokens, message):
    with pytest.raises(ValueError, match=message):
        FeatureAtlas(**arguments).fit(X, tokens=tokens)


def test_there_is_no_such_feature(atlas):
    for wrong in (-1, 12, 1.5):
        with pytest.raises(ValueError, match="feature"):
            atlas.feature(wrong)


def test_nothing_is_there_before_fit():
    from sklearn.exceptions import NotFittedError

    for method in ("table", "feature", "save"):
        with pytest.raises(NotFittedError):
            getattr(FeatureAtlas(), method)(*([0] if method != "table" else []))


def test_labels_may_stand_beside_the_rows():
    feature = FeatureAtlas().fit([[0.0], [2]], ["Ada", "Bo"]).feature(0)
    assert [str(e) for e in feature.examples] == ["[[Bo]]"]


def test_a_wrong_language_model_is_named_before_the_pass(reading):
    extractor = reading[0]
    wrong = TopKSAE(8, k=2, max_iter=1, random_state=0).fit(np.eye(16, 24))

    def never():
        raise RuntimeError("the texts were read")
        yield

    atlas = FeatureAtlas(wrong, extractor=extractor, language_model=TINY_LM_PATH)
    with pytest.raises(ValueError, match="24"):
        atlas.fit(never())
