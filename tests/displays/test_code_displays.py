"""Four views of codes: what the artists hold is what was counted by hand."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sksae import TopKSAE
from sksae.displays import (
    ActivationHeatmapDisplay,
    CodeMagnitudeDisplay,
    CodesDisplay,
    DensityHistogramDisplay,
    L0HistogramDisplay,
)
from tests.cases import each_case, tries
from tests.displays.labels import check_labels

CODES = np.array([[0, 1.5, 0, 0], [2, 1, 0, 0], [3, 0, 0, 4], [1, 0, 0, 0]], dtype=np.float32)
FORMS = {
    "dense": CODES,
    "csr": sparse.csr_array(CODES),
    "csc": sparse.csc_matrix(CODES),
    "tensor": torch.from_numpy(CODES),
    "list": CODES.tolist(),
}
KINDS = [
    DensityHistogramDisplay,
    L0HistogramDisplay,
    CodeMagnitudeDisplay,
    ActivationHeatmapDisplay,
]
some_codes = arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    elements=st.one_of(st.just(0.0), st.floats(2**-20, 2**20, width=32)),
)


def heights(bars):
    return [bar.get_height() for bar in bars]


@pytest.fixture(scope="module")
def model():
    X = np.random.default_rng(0).normal(size=(300, 6))
    return TopKSAE(20, k=3, max_iter=2, random_state=0).fit(X), X


@each_case("form", FORMS)
def test_densities_are_counted(form):
    display = DensityHistogramDisplay.from_codes(FORMS[form])
    assert list(display.density) == [0.75, 0.5, 0, 0.25]
    assert display.dead_bar_.get_height() == 1
    assert sum(heights(display.bars_)) == 3
    assert display.ax_.get_xlabel() == "share of rows on which a latent fires (log scale)"
    assert display.ax_.get_ylabel() == "latents"
    assert display.ax_.get_xticklabels()[0].get_text() == "never"


def test_a_density_is_in_the_bar_of_its_decade():
    density = [1.0, 0.5, 0.05, 0.02, 0.002, 0]
    display = DensityHistogramDisplay(density=density, n_rows=3000).plot(bins_per_decade=1)
    assert heights(display.bars_) == [1, 2, 2]
    middles = [bar.get_x() + bar.get_width() / 2 for bar in display.bars_]
    np.testing.assert_allclose(middles, [-2.5, -1.5, -0.5])
    assert display.dead_bar_.get_x() + display.dead_bar_.get_width() < -3
    np.testing.assert_allclose(display.limit_.get_xdata(), np.log10(3 / 3000))
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == [
        "never", "0.1 %", "1 %", "10 %", "100 %"
    ]  # fmt: skip


def test_labels_of_many_decades_have_room():
    display = DensityHistogramDisplay(density=[1e-7, 0.5]).plot()
    labels = [label.get_text() for label in display.ax_.get_xticklabels()]
    assert labels == ["never", "0.0001 %", "0.01 %", "1 %", "100 %"]


def test_the_densities_of_training_need_no_rows(model):
    estimator, _ = model
    display = DensityHistogramDisplay.from_estimator(estimator)
    assert display.density is estimator.activation_frequency_
    assert display.limit_ is None
    assert sum(heights(display.bars_)) + display.dead_bar_.get_height() == 20


@settings(max_examples=tries(25), deadline=None)
@given(st.lists(st.one_of(st.just(0.0), st.floats(1e-9, 1)), min_size=1), st.integers(1, 10**9))
def test_every_latent_is_in_one_bar(density, n_rows):
    import matplotlib.pyplot as plt

    display = DensityHistogramDisplay(density=density, n_rows=n_rows).plot()
    plt.close(display.figure_)
    assert display.dead_bar_.get_height() == density.count(0)
    assert sum(heights(display.bars_)) == len(density) - density.count(0)


@each_case("density", [[0.5, 1.5], [-0.1], [np.nan], [[0.5]]])
def test_what_is_no_share_is_refused(density):
    with pytest.raises(ValueError, match="density must"):
        DensityHistogramDisplay(density=density).plot()


@each_case("form", FORMS)
def test_active_latents_are_counted(form):
    display = L0HistogramDisplay.from_codes(FORMS[form])
    assert heights(display.bars_) == [0.5, 0.5]
    assert [bar.get_x() + bar.get_width() / 2 for bar in display.bars_] == [1, 2]
    assert list(display.mean_line_.get_xdata()) == [1.5, 1.5]
    assert display.ax_.get_xlabel() == "active latents per row (L0)"
    assert display.ax_.get_ylabel() == "share of rows"


def test_a_wide_range_has_few_bars_and_loses_no_row():
    counts = np.arange(1000)
    display = L0HistogramDisplay(counts=counts).plot()
    assert len(display.bars_) == 59  # of 17 counts each
    np.testing.assert_allclose(heights(display.bars_)[:-1], 0.017)
    np.testing.assert_allclose(sum(heights(display.bars_)), 1)


@pytest.mark.parametrize("value", ["first", "last"])
def test_the_note_beside_a_line_is_inside_the_axes(value):
    n_rows = {"first": 10**6, "last": 4}[value]
    display = DensityHistogramDisplay(density=[1e-5, 0.5], n_rows=n_rows).plot()
    check_labels(display.ax_, [text for text in display.ax_.texts if text.get_text() == "3 rows"])
    median = {"first": 1.0, "last": 100.0}[value]
    display = CodeMagnitudeDisplay(counts=[1, 9], edges=[1, 10, 100], median=median).plot()
    check_labels(display.ax_, display.ax_.texts)
    with pytest.raises(ValueError, match="n_rows must be an int >= 1 or None"):
        DensityHistogramDisplay(density=[0.5], n_rows=0).plot()


def test_there_is_a_row_at_least():
    with pytest.raises(ValueError, match="one number per row"):
        L0HistogramDisplay(counts=[]).plot()


@each_case("form", FORMS)
def test_magnitudes_are_counted(form):
    display = CodeMagnitudeDisplay.from_codes(FORMS[form], n_bins=2)
    np.testing.assert_allclose(display.edges, [1, 2, 4])
    assert display.counts.tolist() == [3, 3]
    assert heights(display.bars_) == [3, 3]
    assert display.median == 1.75
    assert list(display.median_line_.get_xdata()) == [1.75, 1.75]
    assert display.ax_.get_xlabel() == "activation (log scale)"
    assert display.ax_.get_ylabel() == "non-zero codes"


def test_negative_codes_count_by_magnitude():
    display = CodeMagnitudeDisplay.from_codes([[-1.0, 0, 4]], n_bins=1)
    assert display.counts.tolist() == [2]
    np.testing.assert_allclose(display.edges, [1, 4])


@settings(max_examples=tries(25), deadline=None)
@given(some_codes, st.integers(1, 50))
def test_every_code_is_in_one_bar(codes, n_bins):
    import matplotlib.pyplot as plt

    display = CodeMagnitudeDisplay.from_codes(codes, n_bins=n_bins)
    plt.close(display.figure_)
    assert sum(heights(display.bars_)) == np.count_nonzero(codes)


def test_codes_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="NaN or infinity"):
        CodeMagnitudeDisplay.from_codes([[1.0, np.inf]])
    with pytest.raises(ValueError, match="one more than the counts, 3"):
        CodeMagnitudeDisplay(counts=[1, 2], edges=[1, 2]).plot()


@each_case("form", FORMS)
def test_the_heat_map_shows_the_busiest_latents_in_order(form):
    display = ActivationHeatmapDisplay.from_codes(FORMS[form], n_features=2, n_rows=3)
    assert display.features.tolist() == [0, 1]
    assert display.rows.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(display.activations, CODES[:3, :2])
    shown = display.image_.get_array()
    np.testing.assert_array_equal(shown.filled(0), CODES[:3, :2])
    np.testing.assert_array_equal(shown.mask, CODES[:3, :2] == 0)
    assert display.colorbar_.ax.get_ylabel() == "activation"
    assert display.ax_.get_xlabel() == "latent"
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == ["0", "1"]


def test_the_heat_map_shows_what_was_chosen():
    display = ActivationHeatmapDisplay.from_codes(
        sparse.csr_array(CODES), features=[3, 0], rows=[2, 1], tokens=["a", "$b$", " 한", "\n"]
    )
    np.testing.assert_array_equal(display.activations, [[4, 3], [0, 2]])
    labels = display.ax_.get_yticklabels()
    assert [label.get_text() for label in labels] == ["␣□", "$b$"]  # no font here has Hangul
    assert not any(label.get_parse_math() for label in labels)
    display.figure_.canvas.draw()


def ticks(display):
    return [label.get_text() for label in display.ax_.get_xticklabels()]


def test_the_heat_map_names_latents(model):
    frame = pd.DataFrame(CODES, columns=["cold", "x $y$", "topksae7", "warm"])
    display = ActivationHeatmapDisplay.from_codes(frame, features=[3, 2, 0])
    assert ticks(display) == ["3 warm", "topksae7", "0 cold"]
    assert ticks(display.plot()) == ["3 warm", "topksae7", "0 cold"]
    four = CodesDisplay.from_codes(frame)
    assert ticks(four.heat_map) == ["0 cold", "1 x $y$", "topksae7", "3 warm"]
    some = ActivationHeatmapDisplay.from_codes(CODES, features=[3, 2], names={2: "tea"})
    assert ticks(some) == ["3", "2 tea"]
    shown = ActivationHeatmapDisplay(activations=CODES[:, :2], features=[5, 9], rows=[0, 1, 2, 3])
    assert ticks(shown.plot()) == ["5", "9"]
    shown.names = ["five", "nine"]
    assert ticks(shown.plot()) == ["5 five", "9 nine"]
    with pytest.raises(ValueError, match="one name for each of 4"):
        ActivationHeatmapDisplay.from_codes(CODES, names=["a"])
    with pytest.raises(ValueError, match=r"latents between 0 and 3 as keys\. Got 4"):
        ActivationHeatmapDisplay.from_codes(CODES, names={4: "a"})


def test_the_heat_map_has_the_names_that_an_estimator_was_given(model):
    estimator, X = model
    named = copy.deepcopy(estimator).set_feature_names({3: "cold"})
    display = ActivationHeatmapDisplay.from_estimator(named, X, features=[2, 3])
    assert ticks(display) == ["2", "3 cold"]
    pipe = make_pipeline(FunctionTransformer(), FrozenEstimator(named)).fit(X)
    assert ticks(ActivationHeatmapDisplay.from_estimator(pipe, X, features=[3])) == ["3 cold"]
    unnamed = FunctionTransformer(np.abs).fit(X)
    assert ticks(ActivationHeatmapDisplay.from_estimator(unnamed, X, features=[3])) == ["3"]
    assert "3 cold" in ticks(CodesDisplay.from_estimator(named, X).heat_map)
    assert ticks(ActivationHeatmapDisplay.from_estimator(PCA(3).fit(X), X)) == ["0", "1", "2"]


def test_negative_codes_have_colours_of_their_own():
    display = ActivationHeatmapDisplay.from_codes([[-4.0, 0.0], [1.0, 2.0]])
    low, high = display.image_.get_clim()
    assert low == -high < 0
    assert display.image_.get_cmap().name == "RdBu_r"
    assert ActivationHeatmapDisplay.from_codes(CODES).image_.get_clim()[0] == 0


@pytest.mark.parametrize("make", [dict, pd.DataFrame])
def test_tokens_may_be_a_table(make):
    tokens = make({"text": [0, 0, 1, 1], "string": ["a", "b", "c", "d"]})
    display = ActivationHeatmapDisplay.from_codes(CODES, tokens=tokens, rows=[2, 0])
    assert display.labels == ["c", "a"]


@each_case(
    "options, message",
    [
        ({"features": [4]}, "features must be between 0 and 3"),
        ({"rows": [-1]}, "rows must be between 0 and 3"),
        ({"rows": [0.5]}, "rows must be a list of int"),
        ({"n_rows": 0}, "n_rows must be an int >= 1"),
        ({"n_features": True}, "n_features must be an int >= 1"),
        ({"tokens": ["a"]}, "1 tokens for 4 rows"),
    ],
)
def test_the_heat_map_says_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        ActivationHeatmapDisplay.from_codes(CODES, **options)


def test_a_large_code_matrix_is_never_made_dense():
    codes = sparse.random_array((200_000, 100_000), density=1e-6, rng=0, format="csr")
    display = CodesDisplay.from_codes(codes)  # 80 GB if it were dense
    assert display.heat_map.activations.shape == (40, 40)
    assert sum(display.magnitudes.counts) == codes.nnz


def test_four_views_share_the_codes(model):
    estimator, X = model
    display = CodesDisplay.from_estimator(estimator, X)
    codes = estimator.transform(X)
    assert display.axes_.shape == (2, 2)
    np.testing.assert_allclose(display.density.density, (codes > 0).mean(axis=0))
    np.testing.assert_array_equal(display.l0.counts, (codes > 0).sum(axis=1))
    assert display.magnitudes.counts.sum() == (codes > 0).sum()
    assert display.figure_ is display.axes_[0, 0].figure
    again = display.plot()
    assert again is display
    assert {ax.figure for ax in display.axes_.ravel()} == {display.figure_}
    with pytest.raises(ValueError, match="axes must be four"):
        CodesDisplay.from_codes(codes, axes=display.axes_[0])


def test_codes_where_nothing_fires_have_four_views():
    display = CodesDisplay.from_codes(np.zeros((3, 2)))
    display.figure_.canvas.draw()
    assert display.density.dead_bar_.get_height() == 2
    assert heights(display.l0.bars_) == [1]
    assert len(display.magnitudes.bars_) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_estimators_and_pipelines_are_read(kind, model):
    from matplotlib.figure import Figure

    estimator, X = model
    ax = Figure().subplots()
    pipe = make_pipeline(StandardScaler(), TopKSAE(8, k=2, max_iter=1, random_state=0)).fit(X)
    for one in (estimator, pipe, PCA(3).fit(X)):
        display = kind.from_estimator(one, X, ax=ax)
        assert display.ax_ is ax
        assert display.figure_ is ax.figure
        assert display.plot(ax=ax) is display


def test_matplotlib_is_asked_for_by_name(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    message = r"L0HistogramDisplay.from_codes needs matplotlib.*pip install matplotlib"
    with pytest.raises(ImportError, match=message):
        L0HistogramDisplay.from_codes(CODES)
