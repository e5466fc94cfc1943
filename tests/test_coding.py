"""Codes with duplicate entries, of which scipy takes the sum, and estimators in wrappers."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sksae import TopKSAE, displays, interpret, metrics
from sksae._coding import as_csr, estimator_layers, sparse_coder
from sksae.interpret import FeatureAtlas, FeatureContrast, PromptCodes, max_activating_examples
from sksae.report._listing import prompt_lines
from tests.cases import each_case

N_ROWS, ROW = 40, [0.0, 3.0, 0.0, 0.0, 5.0, 0.0]
LABELS = np.arange(N_ROWS) % 2
DOCUMENTS = np.arange(N_ROWS) // 4 * 2 + LABELS
TOKENS = {"text": np.arange(N_ROWS) // 4, "string": [f"w{i % 7} " for i in range(N_ROWS)]}


def in_parts(kind=sparse.csr_matrix):
    """Rows of `ROW`, times 1 to 7: column 1 in two parts, column 3 in two that cancel."""
    scale = np.repeat(1.0 + np.arange(N_ROWS) % 7, 5)
    values = np.tile([5.0, 1.0, 2.0, 1.0, -1.0], N_ROWS) * scale
    columns = np.tile([4, 1, 1, 3, 3], N_ROWS)
    parts = (values, columns, np.arange(N_ROWS + 1) * 5)
    return kind(sparse.csr_matrix(parts, shape=(N_ROWS, len(ROW))))


DENSE = np.outer(1.0 + np.arange(N_ROWS) % 7, ROW)


def examples(codes):
    found = max_activating_examples(codes, TOKENS)
    return {
        feature: [(str(e), e.row, e.activation, e.activations.tolist()) for e in several]
        for feature, several in found.items()
    }


def atlas(codes):
    lines = FeatureAtlas().fit(codes, tokens=TOKENS)
    keys = ("density", "max_activation", "n_texts", "top_tokens", "flags")
    found = [lines.feature(feature) for feature in range(len(ROW))]
    return [
        [str(getattr(one, key)) for key in keys] + list(map(str, one.examples)) for one in found
    ]


def contrast(codes):
    table = FeatureContrast(min_documents=1).fit(codes, LABELS, groups=DOCUMENTS).table()
    return table.drop(columns="selected").to_numpy(dtype=float)


def drawn(display, codes):
    return display.from_codes(codes, ax=Figure().subplots())


FUNCTIONS = {
    **{
        name: getattr(metrics, name)
        for name in ("l0", "l0_per_row", "l1", "latent_density", "dead_fraction", "dense_fraction")
    },
    "precision": lambda codes: np.stack(metrics.latent_precision_recall_f1(codes, codes)[:3]),
    "precision_of_true": lambda codes: np.stack(
        metrics.latent_precision_recall_f1(DENSE, codes)[:3]
    ),
    **{
        name: lambda codes, name=name: np.stack(getattr(interpret, name)(codes, LABELS))
        for name in ("auroc", "log_odds_z", "welch_t")
    },
    "contrast": contrast,
    "magnitudes": lambda codes: drawn(displays.CodeMagnitudeDisplay, codes).counts,
    "heat map": lambda codes: drawn(displays.ActivationHeatmapDisplay, codes).activations,
    "counts": lambda codes: drawn(displays.L0HistogramDisplay, codes).counts,
    "density": lambda codes: drawn(displays.DensityHistogramDisplay, codes).density,
}


@each_case("kind", [sparse.csr_matrix, sparse.csr_array, sparse.csc_array])
@each_case("name", FUNCTIONS)
def test_parts_of_a_cell_count_as_their_sum(name, kind):
    codes = in_parts(kind)
    before = [codes.data.copy(), codes.indices.copy(), codes.indptr.copy()]
    assert_allclose(FUNCTIONS[name](codes), FUNCTIONS[name](DENSE), rtol=1e-12)
    for stored, kept in zip((codes.data, codes.indices, codes.indptr), before, strict=True):
        assert_array_equal(stored, kept)


@pytest.mark.parametrize("function", [examples, atlas])
def test_examples_of_parts_are_those_of_the_sums(function):
    assert function(in_parts()) == function(DENSE)


def test_a_known_row():
    assert metrics.l0(in_parts()) == 2
    assert_array_equal(metrics.latent_density(in_parts()), [0, 1, 0, 0, 1, 0])
    assert max_activating_examples(in_parts(), n_examples=1)[1][0].activation == 21


def test_the_page_shows_a_cell_of_a_prompt_once():
    tokens = np.array([f"w{i} " for i in range(N_ROWS)], dtype=object)
    prompt = PromptCodes("".join(tokens), tokens, in_parts(sparse.csr_array))
    lines = prompt_lines(prompt)
    assert lines["feature"] == [1, 4] * N_ROWS
    assert lines["value"][:4] == [3, 5, 6, 10]
    assert prompt.strongest().tolist() == [4, 1]


def test_what_has_one_entry_for_each_cell_is_not_copied():
    codes = sparse.csr_array(DENSE)
    assert as_csr(codes) is codes
    assert as_csr(in_parts()).nnz == 3 * N_ROWS


@pytest.fixture(scope="module")
def rows_and_sae():
    X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    return X, TopKSAE(6, k=2, max_iter=1, random_state=0).fit(X)


def test_layers_of_every_wrapper_in_any_order(rows_and_sae):
    X, sae = rows_and_sae
    search = GridSearchCV(make_pipeline(StandardScaler(), sae), {}, cv=2).fit(X)
    *_, inner = layers = list(estimator_layers(FrozenEstimator(search)))
    kinds = [FrozenEstimator, GridSearchCV, Pipeline, TopKSAE]
    assert [type(layer) for layer in layers] == kinds
    assert inner is search.best_estimator_[-1]
    outer = list(estimator_layers(FrozenEstimator(search), pipelines=False))
    assert [type(layer) for layer in outer] == kinds[:3]
    # A search that is not fitted has no best estimator.
    assert len(list(estimator_layers(GridSearchCV(sae, {})))) == 1


def test_a_coder_is_unwrapped_to_any_depth_and_the_estimator_is_left_alone(rows_and_sae):
    X, sae = rows_and_sae
    search = GridSearchCV(sae, {}, cv=2).fit(X)
    coder = sparse_coder(FrozenEstimator(FrozenEstimator(search)))
    assert isinstance(coder, TopKSAE)
    assert coder.sparse_output
    assert not sae.sparse_output
    assert_array_equal(coder.transform(X).toarray(), search.transform(X))
