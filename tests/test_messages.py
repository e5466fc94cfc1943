"""Inputs of the wrong kind: the error says what was given and what is needed."""

import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy import sparse

import sksae
from sksae import SAEVectorizer, SparseAutoencoder, TopKSAE, Transcoder, metrics
from sksae.displays import (
    ActivationHeatmapDisplay,
    CodeMagnitudeDisplay,
    HighlightedText,
    L0HistogramDisplay,
    TrainingCurveDisplay,
)
from sksae.formats import RowNormalizer, read, read_openai
from sksae.interpret import (
    FeatureAtlas,
    FeatureContrast,
    auroc,
    choose_features,
    explain_from_tokens,
    log_odds_z,
    max_activating_examples,
    read_prompt,
    split_examples,
)
from sksae.model_selection import SparsityPathCV
from sksae.report import feature_lines, write_page
from tests.cases import each_case

X = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
TEXTS = ["a b c", "d e f"] * 5
TOKENS = {"text": np.arange(60) // 6, "string": [f"w{i} " for i in range(60)]}


@pytest.fixture(scope="module")
def small():
    return TopKSAE(16, k=2, max_iter=1, random_state=0).fit(X)


@pytest.fixture(scope="module")
def atlas(small):
    return FeatureAtlas(small).fit(X, tokens=TOKENS)


def atlas_of(codes, tokens):
    return FeatureAtlas().fit(codes, tokens=tokens)


HOLDS_TEXTS = {
    "list": TEXTS,
    "list of rows": [["a", "b"], ["c", "d"]],
    "tuple": tuple(TEXTS),
    "array": np.array(TEXTS),
    "objects": np.array(TEXTS, dtype=object)[:, None],
    "series": pd.Series(TEXTS),
    "frame": pd.DataFrame({"number": np.arange(10), "text": TEXTS}),
    "polars": pl.DataFrame({"number": np.arange(10), "text": TEXTS}),
    "polars series": pl.Series(TEXTS),
    "one": "a text",
    "bytes": [b"ab", b"cd"],
}


def uses_of_rows(small):
    return [
        TopKSAE(16, k=2, max_iter=1).fit,
        TopKSAE(16, k=2, max_iter=1).partial_fit,
        SparsityPathCV(SparseAutoencoder(16, max_iter=1), [0.1], cv=2).fit,
        lambda rows: Transcoder(TopKSAE(16, k=2, max_iter=1)).fit(rows, X),
        small.transform,
        small.score,
        small.inverse_transform,
    ]


@each_case("kind", HOLDS_TEXTS)
def test_texts_given_as_rows_point_to_the_vectorizer(small, kind):
    for use in uses_of_rows(small):
        with pytest.raises(ValueError, match=r"X holds texts, such as .*SAEVectorizer takes texts"):
            use(HOLDS_TEXTS[kind])


def test_numbers_written_as_texts_are_numbers_as_in_scikit_learn():
    columns = {"a": ["1", "2.5", "-3", "0"], "b": ["1e3", "4", "5", "6"]}
    text, number = pd.DataFrame(columns), pd.DataFrame(columns).astype(np.float32)
    settings = {"n_components": 4, "k": 1, "max_iter": 1, "random_state": 0}
    one, other = (TopKSAE(**settings).fit(frame) for frame in (text, number))
    np.testing.assert_array_equal(one.components_, other.components_)


@each_case(
    "cube",
    [
        torch.from_numpy(X).reshape(3, 20, 8),
        X.reshape(3, 20, 8),
        X.reshape(3, 20, 8).tolist(),
        list(torch.from_numpy(X).reshape(3, 20, 8)),
    ],
)
def test_three_axes_say_how_to_make_rows(small, cube):
    for use in uses_of_rows(small):
        with pytest.raises(ValueError, match=r"X has shape \(3, 20, 8\); X.reshape\(-1, 8\) makes"):
            use(cube)


def test_three_axes_of_codes_say_so_too(small, atlas):
    cube = X.reshape(3, 20, 8)
    for use in (
        metrics.l0,
        max_activating_examples,
        lambda cube: metrics.explained_variance(X, cube),
    ):
        with pytest.raises(ValueError, match=r"reshape\(-1, 8\) makes a row of each position"):
            use(cube)
    for unfitted in (FeatureAtlas(), FeatureAtlas(small)):
        with pytest.raises(ValueError, match=r"X?.reshape\(-1, 8\) makes a row of each position"):
            unfitted.fit(cube)


DATES = np.arange(60).astype("M8[D]")
NOT_ROWS = {
    "generator": (lambda: (row for row in X), "X is a generator; rows of numbers are needed"),
    "dict": (lambda: {"a": X}, "X is a dict; rows of numbers are needed"),
    "lazy frame": (lambda: pl.DataFrame(X).lazy(), r"X.collect\(\) reads it"),
    "masked": (lambda: np.ma.masked_greater(X, 1), r"X has masked values.*X.filled\(value\)"),
    "fields": (lambda: pd.DataFrame(X).to_records(), r"X has named fields.*makes columns of them"),
    "dates": (lambda: np.stack([DATES] * 8, 1), r"X holds dates or times, datetime64\[D\]"),
    "durations": (lambda: np.stack([DATES - DATES[0]] * 8, 1), "X holds dates or times, timedelta"),
    "column of dates": (lambda: pd.DataFrame(X).assign(day=DATES), "X holds dates or times"),
    "polars dates": (lambda: pl.DataFrame({"day": DATES}), "X holds dates or times, Date"),
    "empty frame": (pd.DataFrame, "X has no columns"),
}


@pytest.mark.parametrize(("make", "message"), NOT_ROWS.values(), ids=NOT_ROWS)
def test_what_would_be_misread_is_refused_with_the_remedy(small, make, message):
    for use in (TopKSAE(16).fit, TopKSAE(16).partial_fit, small.transform, small.score):
        with pytest.raises((TypeError, ValueError), match=message):
            use(make())


@pytest.mark.parametrize(
    "same",
    [
        X.tolist(),
        X.astype(object),
        X.astype(">f4"),
        np.ma.masked_array(X),
        np.repeat(X, 2, axis=1)[:, ::2],
        pd.DataFrame(X).convert_dtypes(),
        pl.DataFrame(X),
    ],
    ids=["lists", "objects", "big-endian", "nothing masked", "strided", "nullable", "polars"],
)
def test_forms_of_the_same_numbers_have_the_same_codes(small, same):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X has feature names")
        np.testing.assert_allclose(small.transform(same), small.transform(X), rtol=1e-5)


def test_none_and_estimators_are_no_rows(small):
    for use in uses_of_rows(small):
        with pytest.raises(ValueError, match="X is None; rows of numbers are needed"):
            use(None)
        with pytest.raises(ValueError, match="X is an estimator, TopKSAE"):
            use(small)
    with pytest.raises(ValueError, match="codes is an estimator, TopKSAE"):
        metrics.l0(small)
    with pytest.raises(ValueError, match="X_reconstructed is an estimator"):
        metrics.explained_variance(X, small)


def test_sparse_rows_of_a_path():
    search = SparsityPathCV(SparseAutoencoder(16, max_iter=1), [0.1], cv=2)
    with pytest.raises(TypeError, match=r"X is a sparse matrix.*X\.toarray\(\)"):
        search.fit(sparse.csr_array(X))


@pytest.mark.parametrize("settings", [{"early_stopping": True}, {"target_l0": 2.0}])
def test_one_row_cannot_be_split(settings):
    sae = SparseAutoencoder(16, max_iter=1, **settings)
    message = f"{next(iter(settings))}.* needs at least 2 .*n_samples=1"
    with pytest.raises(ValueError, match=message):
        sae.fit(X[:1])
    with pytest.raises(ValueError, match=message):
        sae.fit(X[:3], sample_weight=[0, 1, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what two rows and one pass can reach
        assert sae.fit(X[:2]).n_iter_ == 1


@each_case("table", [TOKENS, pd.DataFrame(TOKENS), TOKENS["string"], "a text"])
def test_tokens_in_the_place_of_codes(small, table):
    with pytest.raises(TypeError, match=r"max_activating_examples\(codes, tokens\)"):
        max_activating_examples(table, small.transform(X))


def test_an_estimator_in_the_place_of_codes(small):
    with pytest.raises(TypeError, match="codes is an estimator, TopKSAE; what its transform"):
        max_activating_examples(small, TOKENS)


def test_rows_given_as_codes_are_warned_of(small):
    for use in (
        max_activating_examples,
        lambda rows, table: FeatureAtlas().fit(rows, tokens=table),
    ):
        with pytest.warns(UserWarning, match=r"no zeros and \d\d% of them are negative.*transform"):
            use(X, TOKENS)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for codes in (small.transform(X), np.abs(X), -np.abs(X), np.maximum(X, 0)):
                use(codes, TOKENS)


def test_arguments_of_a_page_in_the_wrong_order(atlas, small, tmp_path):
    path = tmp_path / "index.html"
    with pytest.raises(TypeError, match=r"write_page\('index.html', atlas\). Got FeatureAtlas"):
        write_page(atlas, path)
    with pytest.raises(TypeError, match=r"path must be a str or Path.*Got NoneType"):
        write_page(None, atlas)
    with pytest.raises(TypeError, match=r"atlas must be a fitted FeatureAtlas.*Got TopKSAE"):
        write_page(path, small)
    assert not list(tmp_path.iterdir())


@each_case("wrong", [None, 3, np.nan, b"w"])
def test_strings_of_tokens_that_are_none(wrong):
    table = {"text": [0, 0, 0], "string": ["a", wrong, "b"]}
    for use in (
        max_activating_examples,
        lambda codes, table: FeatureAtlas().fit(codes, tokens=table),
    ):
        with pytest.raises(ValueError, match=r"'string' of tokens needs a str in each row. Row 1 "):
            use([[0], [2], [1]], table)
    with pytest.raises(ValueError, match=r"'text' of tokens has None"):
        max_activating_examples([[0], [2]], {"text": [0, None], "string": ["a", "b"]})
    with pytest.raises(ValueError, match="a label that is None"):
        max_activating_examples([[0], [2]], ["a", None])


def test_what_is_no_atlas_no_feature_no_extractor(small, atlas):
    with pytest.raises(TypeError, match=r"atlas must be a fitted FeatureAtlas. Got TopKSAE"):
        choose_features(small)
    with pytest.raises(TypeError, match=r"such as atlas.feature\(0\). Got FeatureAtlas"):
        feature_lines(atlas)
    with pytest.raises(TypeError, match=r"read_prompt\(extractor, sae, text\). Got TopKSAE"):
        read_prompt(small, None, "a")
    with pytest.raises(TypeError, match=r"TopKSAE is a class; .*TopKSAE\(...\).fit\(X\)"):
        FeatureAtlas(TopKSAE).fit(X)
    with pytest.raises(TypeError, match=r"comes before X. Got ndarray"):
        L0HistogramDisplay.from_estimator(X, small)
    with pytest.raises(TypeError, match=r"path must be a str or Path. Got NoneType"):
        sksae.load(None)
    with pytest.raises(ValueError, match=r"'extractor' parameter of SAEVectorizer must be an Act"):
        SAEVectorizer(small, small).fit(TEXTS)


@each_case(
    "rows, message",
    [
        (TEXTS, "X holds texts"),
        (X.reshape(3, 20, 8), r"X.reshape\(-1, 8\)"),
        (None, "X is None"),
        (TopKSAE(4), "X is an estimator"),
    ],
)
def test_what_is_no_rows_of_a_contrast_or_a_normalizer(rows, message):
    labels = np.arange(60) % 2
    for use in (
        RowNormalizer().fit,
        RowNormalizer().fit(X).transform,
        lambda rows: FeatureContrast().fit(rows, labels),
        lambda rows: auroc(rows, labels),
        lambda rows: log_odds_z(rows, labels),
    ):
        with pytest.raises(ValueError, match=message):
            use(rows)


def test_wrong_parameters_of_a_path(small):
    for settings, message in (
        ({"values": None}, "'values' parameter of SparsityPathCV must be numbers"),
        ({"values": ["a"]}, "'values' parameter of SparsityPathCV must be numbers"),
        ({"values": [1], "refit": "best"}, "'refit' parameter .*such as Knee"),
    ):
        with pytest.raises(ValueError, match=message):
            SparsityPathCV(TopKSAE(8), **settings).fit(X)
    for estimator in (TopKSAE, None):
        with pytest.raises(TypeError, match="estimator must be an autoencoder"):
            SparsityPathCV(estimator, [1]).fit(X)
    with pytest.raises(ValueError, match=r"l0_penalty must be at least 0. Got 'a'"):
        metrics.make_penalized_scorer("a")
    with pytest.raises(TypeError, match=r"X must be rows .*NoneType"):
        metrics.sae_scorer(small, None)


def test_what_is_no_feature_and_no_codes(small, atlas):
    for use in (HighlightedText.from_feature, split_examples, explain_from_tokens):
        with pytest.raises(TypeError, match=r"such as atlas.feature\(0\). Got FeatureAtlas"):
            use(atlas)
    with pytest.raises(TypeError, match="one label per row; got TopKSAE"):
        max_activating_examples(small.transform(X), small)
    for display in (CodeMagnitudeDisplay, ActivationHeatmapDisplay, L0HistogramDisplay):
        with pytest.raises(ValueError, match=r"codes (holds|is)"):
            display.from_codes(TEXTS)
        with pytest.raises(ValueError, match=r"codes (holds|is)"):
            display.from_codes(small)
    with pytest.raises(TypeError, match=r"must be a fitted sparse autoencoder. Got ndarray"):
        TrainingCurveDisplay.from_estimator(X)
    with pytest.raises(TypeError, match=r"X must be rows of numbers. Got NoneType"):
        L0HistogramDisplay.from_estimator(small, None)


def test_a_folder_with_one_file_of_openai(tmp_path):
    state = {"pre_bias": torch.zeros(2), "latent_bias": torch.zeros(2), "activation": "ReLU"}
    state |= {f"{part}coder.weight": torch.eye(2) for part in ("en", "de")}
    folder = tmp_path / "autoencoders"
    folder.mkdir()
    with pytest.raises(ValueError, match=r"autoencoders is a folder with 0 .pt files; name one"):
        read_openai(folder)
    torch.save(state, folder / "8.pt")
    for sae in (read(folder), read(folder, format="openai"), read_openai(folder)):
        assert pickle.dumps(sae.source_) == pickle.dumps(read_openai(folder / "8.pt").source_)
        np.testing.assert_array_equal(sae.transform([[1.0, -1.0]]), [[1, 0]])
    torch.save(state, folder / "9.pt")
    with pytest.raises(ValueError, match=r"a folder with 2 .pt files: 8.pt, 9.pt; name one"):
        read(folder)
