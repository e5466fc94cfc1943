"""Curves of fits, frontiers of searches and maps of dictionaries."""

import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sksae import TopKSAE
from sksae.displays import (
    ContrastVolcanoDisplay,
    DecoderMapDisplay,
    SparsityFrontierDisplay,
    TrainingCurveDisplay,
)
from sksae.interpret import FeatureContrast
from sksae.metrics import sae_scorer
from sksae.model_selection import Knee, SparsityPathCV
from tests.cases import each_case
from tests.displays.labels import check_labels

RESULTS = {
    "params": [{"sae__k": 2, "sae__n_components": 8}, {"sae__k": 1, "sae__n_components": 8}],
    "mean_test_explained_variance": np.array([0.9, 0.5]),
    "split0_test_explained_variance": np.array([0.8, 0.5]),
    "split1_test_explained_variance": np.array([1.0, 0.5]),
    "mean_test_neg_l0": np.array([-1.9, -1.0]),
}


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(size=(200, 6))


def test_the_loss_curve_is_drawn(X):
    estimator = TopKSAE(12, k=2, max_iter=5, random_state=0).fit(X)
    display = TrainingCurveDisplay.from_estimator(estimator)
    assert list(display.line_.get_xdata()) == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(display.line_.get_ydata(), estimator.loss_curve_)
    assert display.score_ax_ is None
    assert display.ax_.get_ylabel() == "training loss (internal unit)"
    assert display.ax_.get_xlabel() == "pass over the data"


def test_held_out_scores_are_drawn_on_an_axis_of_their_own(X):
    pipe = make_pipeline(
        StandardScaler(), TopKSAE(12, k=2, max_iter=5, early_stopping=True, random_state=0)
    ).fit(X)
    display = TrainingCurveDisplay.from_estimator(pipe)
    scores = pipe[-1].validation_scores_
    np.testing.assert_array_equal(display.score_line_.get_ydata(), scores)
    assert display.best_.get_xdata() == [np.argmax(scores) + 1]
    assert display.score_ax_.get_ylabel() == "validation score (explained variance)"


@pytest.mark.parametrize(("losses", "scale"), [([4, 3, 1], "linear"), ([50, 10, 1], "log")])
def test_the_loss_axis_is_logarithmic_where_that_helps(losses, scale):
    assert TrainingCurveDisplay(loss_curve=losses).plot().ax_.get_yscale() == scale


def test_what_was_not_trained_has_no_curve(X):
    with pytest.raises(TypeError, match="PCA has no attribute 'loss_curve_'"):
        TrainingCurveDisplay.from_estimator(PCA(2).fit(X))
    with pytest.raises(ValueError, match="one loss per pass"):
        TrainingCurveDisplay(loss_curve=[]).plot()


def test_the_frontier_is_that_of_the_results():
    display = SparsityFrontierDisplay.from_cv_results(RESULTS, best_index=1)
    line, _, (bars,) = display.lines_[0]
    np.testing.assert_array_equal(line.get_xdata(), [1.0, 1.9])  # from sparse to dense
    np.testing.assert_array_equal(line.get_ydata(), [0.5, 0.9])
    # of 0.8 and 1.0: the standard deviation is sqrt(0.02), over sqrt(2) that is 0.1
    ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
    np.testing.assert_allclose(ends, [[0.5, 0.5], [0.8, 1.0]])
    assert (display.best_.get_xdata(), display.best_.get_ydata()) == ([1.0], [0.5])
    assert display.ax_.get_xlabel() == "active latents per row (L0)"
    assert display.ax_.get_ylabel() == "explained variance (mean ± standard error)"
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert legend == ["n_components = 8", "chosen: k = 1, n_components = 8"]


def test_ticks_of_active_latents_are_whole_numbers():
    results = {**RESULTS, "mean_test_neg_l0": np.array([-4.0, -2.0])}
    display = SparsityFrontierDisplay.from_cv_results(results)
    ticks = display.ax_.get_xticks()
    assert display.ax_.get_xscale() == "linear"
    assert (ticks == np.round(ticks)).all()
    assert display.ax_.get_title() == "Score by sparsity"


def test_a_parameter_may_be_the_axis():
    display = SparsityFrontierDisplay.from_cv_results(RESULTS, param_name="sae__k")
    assert display.sparsity.tolist() == [2, 1]
    assert display.ax_.get_xlabel() == "k"
    alone = {key: RESULTS[key] for key in ("params", "mean_test_explained_variance")}
    display = SparsityFrontierDisplay.from_cv_results(alone)
    assert display.sparsity.tolist() == [2, 1]
    assert display.ax_.get_ylabel() == "explained variance"


def test_other_parameters_make_lines(X):
    grid = {"n_components": [8, 12], "k": [1, 2]}
    search = GridSearchCV(
        TopKSAE(max_iter=2, random_state=0), grid, scoring=sae_scorer, refit=Knee(), cv=2
    ).fit(X)
    display = SparsityFrontierDisplay.from_estimator(search)
    assert [line.get_label() for line in display.lines_] == [
        "n_components = 8", "n_components = 12"
    ]  # fmt: skip
    assert display.best_index == search.best_index_
    mean = search.cv_results_["mean_test_explained_variance"]
    np.testing.assert_array_equal(display.score, mean)


def test_a_path_is_a_search(X):
    path = SparsityPathCV(TopKSAE(8, max_iter=2, random_state=0), [3, 1], cv=2).fit(X)
    display = SparsityFrontierDisplay.from_estimator(path)
    np.testing.assert_allclose(display.sparsity, -path.cv_results_["mean_test_neg_l0"])
    assert display.labels == ["k = 3", "k = 1"]


def test_earlier_iterations_of_a_halving_search_are_left_out():
    results = {**RESULTS, "iter": np.array([0, 1])}
    display = SparsityFrontierDisplay.from_cv_results(results)
    assert list(display.lines_[0][0].get_xdata()) == [1.0]


def test_candidates_need_not_share_their_parameters():
    params = [{"k": None, "sae": "a"}, {"alpha": 0.5}]
    display = SparsityFrontierDisplay.from_cv_results({**RESULTS, "params": params})
    assert display.groups == ["sae = a", "alpha = 0.5"]
    assert display.sparsity.tolist() == [1.9, 1]


def test_the_frontier_says_what_is_missing(X):
    with pytest.raises(ValueError, match=r"no 'mean_test_r2', only .* or search with scoring="):
        SparsityFrontierDisplay.from_cv_results(RESULTS, score="r2")
    with pytest.raises(ValueError, match="no parameter 'alpha' that is a number"):
        SparsityFrontierDisplay.from_cv_results(RESULTS, param_name="alpha")
    with pytest.raises(TypeError, match="PCA has no cv_results_"):
        SparsityFrontierDisplay.from_estimator(PCA())
    with pytest.raises(ValueError, match="No candidate"):
        SparsityFrontierDisplay(sparsity=[1], score=[np.nan]).plot()


def test_the_map_is_the_principal_plane_of_the_directions():
    directions = np.random.default_rng(0).normal(size=(30, 5))
    density = np.r_[0, 0, np.geomspace(1e-3, 0.5, 28)]
    display = DecoderMapDisplay.from_directions(
        3 * directions, density=density, annotate={4: "$x$ é"}
    )
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    np.testing.assert_allclose(display.positions, PCA(2).fit_transform(unit), atol=1e-12)
    assert len(display.points_.get_offsets()) == 28
    np.testing.assert_allclose(display.dead_.get_offsets(), display.positions[:2])
    # frequent latents are drawn first, so that the rare ones are seen
    np.testing.assert_allclose(display.points_.get_array(), density[:1:-1])
    (text,) = display.texts_
    assert text.get_text() == "4 $x$ é"
    assert not text.get_parse_math()
    assert display.ax_.get_xlabel() == "principal component 1"
    assert display.colorbar_.ax.get_ylabel().startswith("share of rows")
    display.figure_.canvas.draw()


@each_case("density", [None, np.zeros(5), np.full(5, 0.5)])
def test_a_map_needs_no_spread_of_densities(density):
    display = DecoderMapDisplay(positions=np.eye(5, 2), density=density).plot()
    display.figure_.canvas.draw()
    assert (display.colorbar_ is None) == (density is None or not density.any())


def test_the_map_of_an_estimator_has_its_densities(X):
    estimator = TopKSAE(12, k=2, max_iter=2, random_state=0).fit(X)
    display = DecoderMapDisplay.from_estimator(make_pipeline(PCA(6), estimator).fit(X))
    assert display.density.shape == (12,)
    assert DecoderMapDisplay.from_estimator(PCA(4).fit(X)).density is None
    named = DecoderMapDisplay.from_estimator(
        estimator.set_feature_names({3: "cold"}), annotate=[3, 5]
    )
    assert [text.get_text() for text in named.texts_] == ["3 cold", "5"]


def test_the_map_says_what_is_wrong(monkeypatch):
    with pytest.raises(ValueError, match="at least three directions"):
        DecoderMapDisplay.from_directions(np.eye(2))
    with pytest.raises(ValueError, match="method must be one of 'pca', 'umap'"):
        DecoderMapDisplay.from_directions(np.eye(4), method="tsne")
    with pytest.raises(ValueError, match="between 0 and 3"):
        DecoderMapDisplay(positions=np.eye(4, 2)).plot(annotate=[4])
    with pytest.raises(ValueError, match=r"\(4,\) is needed"):
        DecoderMapDisplay(positions=np.eye(4, 2), density=[0.5]).plot()
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ImportError, match="pip install umap-learn"):
        DecoderMapDisplay.from_directions(np.eye(4), method="umap")


@pytest.mark.slow  # compiles for some twenty seconds
@pytest.mark.filterwarnings("ignore:Tensorflow not installed:ImportWarning")
def test_umap_keeps_groups_together():
    pytest.importorskip("umap")
    rng = np.random.default_rng(0)
    directions = np.repeat(np.eye(6)[:2], 20, axis=0) + 0.05 * rng.normal(size=(40, 6))
    first, again = (
        DecoderMapDisplay.from_directions(directions, method="umap").positions for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)
    distance = np.linalg.norm(first[:, None] - first[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    assert (distance.argmin(axis=1) // 20 == np.arange(40) // 20).all()


def contrast_codes():
    rng = np.random.default_rng(0)
    codes = rng.exponential(size=(200, 30)) * (rng.random((200, 30)) < 0.2)
    codes[100:160, 7] += 1
    codes[:60, 3] += 1
    return codes


def contrast(**options):
    return FeatureContrast(**options).fit(contrast_codes(), np.repeat([0, 1], 100))


@pytest.mark.parametrize("effect", [None, "mean_difference"])
def test_a_contrast_is_drawn_by_side_and_support(effect):
    fitted = contrast(alpha=1e-3)
    display = ContrastVolcanoDisplay.from_estimator(fitted, effect=effect)
    values = fitted.mean_difference_ if effect else fitted.log_odds_
    points = np.c_[values, -np.log10(fitted.qvalues_)]
    np.testing.assert_allclose(display.stronger_.get_offsets(), points[[7]])
    np.testing.assert_allclose(display.weaker_.get_offsets(), points[[3]])
    assert len(display.rest_.get_offsets()) == 28
    assert {text.get_text() for text in display.texts_} == {"3", "7"}
    np.testing.assert_allclose(display.limit_.get_ydata(), 3)
    words = "difference of mean activations" if effect else "log odds ratio of firing"
    assert display.ax_.get_xlabel() == words
    assert display.ax_.get_ylabel() == "evidence, −log₁₀ q"


def test_p_values_by_permutation_are_drawn_where_they_decide():
    fitted = contrast(n_permutations=99, statistic="welch_t", random_state=0)
    display = ContrastVolcanoDisplay.from_estimator(fitted)
    assert display.qvalues is fitted.family_pvalues_
    assert display.ax_.get_ylabel() == "evidence, −log₁₀ family-wise p"
    assert display.ax_.get_xlabel() == "Cohen's d"


def test_a_q_value_of_zero_has_a_place_and_names_are_no_markup():
    display = ContrastVolcanoDisplay(effect=[1.0, 0.5], qvalues=[0.0, 0.9])
    assert display.plot(names={0: "a $b é"}, n_annotated=5) is display
    np.testing.assert_allclose(display.stronger_.get_offsets(), [[1, 300]])
    (text,) = display.texts_
    assert text.get_text() == "0 a $b é"
    display.figure_.canvas.draw()


def test_labels_of_points_side_by_side_are_on_lines_of_their_own():
    # in one place at the top edge, at the right edge, and spread
    for effect in (np.ones(8), np.r_[np.zeros(4), np.full(4, 5.0)], np.linspace(-3, 3, 8)):
        names = [f"a name of some length, {i}" for i in range(8)]
        display = ContrastVolcanoDisplay(effect=effect, qvalues=np.zeros(8), names=names).plot()
        check_labels(display.ax_, display.texts_)
        assert len({text.get_text() for text in display.texts_}) == 8


def test_an_infinite_effect_is_drawn_beyond_the_others():
    display = ContrastVolcanoDisplay(effect=[np.inf, 2.0, -np.inf, np.nan], qvalues=[1e-3] * 4)
    display.plot()
    np.testing.assert_allclose(display.stronger_.get_offsets(), [[2.2, 3], [2, 3]])
    np.testing.assert_allclose(display.weaker_.get_offsets(), [[-2.2, 3]])


def test_labels_of_a_map_are_inside_of_it():
    positions = np.r_[np.eye(4, 2), np.ones((4, 2))]
    names = {i: f"a name of some length, {i}" for i in range(8)}
    display = DecoderMapDisplay(positions=positions).plot(annotate=names)
    check_labels(display.ax_, display.texts_)


def test_labels_of_candidates_are_inside_of_the_axes():
    from matplotlib.figure import Figure

    ax = Figure(figsize=(5, 4)).subplots()  # without a layout that would make space
    labels = [f"target_l0 = {i}" for i in range(6)]
    display = SparsityFrontierDisplay(
        sparsity=[1, 1.01, 2, 3, 4, 4], score=[0.1, 0.1, 0.5, 0.7, 0.7, 0.7], labels=labels
    ).plot(ax)
    assert [text.get_text() for text in ax.texts] == labels
    check_labels(display.ax_, ax.texts)


def test_labels_of_candidates_keep_off_the_line():
    sparsity, score = np.arange(1.0, 9), np.arange(1.0, 9) / 10
    labels = [f"target_l0 = {i}" for i in range(8)]
    display = SparsityFrontierDisplay(sparsity=sparsity, score=score, labels=labels).plot()
    from matplotlib.text import Text

    display.figure_.draw_without_rendering()
    along = np.linspace(1, 8, 2000)
    line = display.ax_.transData.transform(np.c_[along, along / 10])
    for text in display.ax_.texts:
        box = Text.get_window_extent(text).shrunk(0.98, 0.9)
        inside = (line > (box.x0, box.y0)) & (line < (box.x1, box.y1))
        assert not inside.all(axis=1).any(), text
    check_labels(display.ax_, display.ax_.texts)


def test_two_frontiers_share_axes():
    first = SparsityFrontierDisplay.from_cv_results(RESULTS, best_index=1, label="A")
    second = SparsityFrontierDisplay(sparsity=[10, 20], score=[0.3, 0.4]).plot(
        first.ax_, label="$B"
    )
    lines = [bars[0] for bars in (*first.lines_, *second.lines_)]
    assert len({line.get_color() for line in lines}) == 2
    assert len({line.get_marker() for line in lines}) == 2
    legend = first.ax_.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == [
        "A", "$B", "chosen: k = 1, n_components = 8"
    ]  # fmt: skip
    assert first.ax_.get_xscale() == "log"  # from 1 to 20, where neither spans a factor of 5
    groups = SparsityFrontierDisplay(sparsity=[1, 2], score=[0, 1], groups=["a", "b"])
    groups.plot(first.ax_, label="C")
    assert [bars.get_label() for bars in groups.lines_] == ["C: a", "C: b"]
    assert len({bars[0].get_color() for bars in (*first.lines_, *groups.lines_)}) == 3
    first.figure_.canvas.draw()


def test_frontiers_of_a_comparison_have_a_colour_and_a_name_each():
    names = [f"estimator {i}" for i in range(9)]
    n = 2 * len(names)
    comparison = {
        "estimator": np.repeat(names, 2),
        "l0": np.tile([2.0, 4.0], len(names)),
        "explained_variance": np.linspace(0, 1, n),
        "explained_variance_std": np.r_[0.2, np.full(n - 1, np.nan)],
        "ce_recovered": np.linspace(0.5, 1, n),
        "n_fits": np.full(n, 4),
    }
    display = SparsityFrontierDisplay.from_comparison(comparison)
    ax, lines = display.ax_, [bars[0] for bars in display.lines_]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == names
    assert [list(line.get_xdata()) for line in lines] == [[2, 4]] * len(names)
    assert len({line.get_color() for line in lines[:8]}) == 8
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == len(names)
    assert ax.get_title() == "Score by sparsity"
    assert display.score_error[0] == pytest.approx(0.1)
    display.figure_.canvas.draw()
    low, high = ax.get_xlim()
    assert all(tick == round(tick) for tick in ax.get_xticks() if low <= tick <= high)
    other = SparsityFrontierDisplay.from_comparison(comparison, score="ce_recovered")
    assert other.ax_.get_ylabel() == "ce recovered"
    with pytest.raises(ValueError, match="comparison has no 'r2'"):
        SparsityFrontierDisplay.from_comparison(comparison, score="r2")


def test_two_training_curves_share_axes():
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(layout="constrained")
    figure.draw_without_rendering()  # from here on the layout has moved the axes
    first = TrainingCurveDisplay(loss_curve=[3, 2, 1], validation_scores=[0.1, 0.2, 0.15]).plot(ax)
    second = TrainingCurveDisplay(loss_curve=[90, 20], validation_scores=[0.3, 0.2])
    second.plot(first.ax_, label="B")
    assert second.score_ax_ is first.score_ax_
    lines = [first.line_, first.score_line_, second.line_, second.score_line_]
    assert len({line.get_color() for line in lines}) == 4
    legend = [text.get_text() for text in first.score_ax_.get_legend().get_texts()]
    assert legend == [
        "training loss",
        "B",
        "validation score",
        "best: 0.2 after pass 2",
        "B, validation score",
        "B, best: 0.3 after pass 1",
    ]
    assert first.ax_.get_yscale() == "log"


def test_what_a_frontier_cannot_show_is_refused():
    for name, values in (("groups", ["a"]), ("labels", ["a"]), ("score_error", [0.1])):
        with pytest.raises(ValueError, match=f"{name} must have one value for each of the 2"):
            SparsityFrontierDisplay(sparsity=[1, 2], score=[0, 1], **{name: values}).plot()
    with pytest.raises(ValueError, match="best_index must be an int in"):
        SparsityFrontierDisplay(sparsity=[1, 2], score=[0, 1], best_index=-1).plot()
    with pytest.raises(ValueError, match="annotate=True needs labels"):
        SparsityFrontierDisplay(sparsity=[1, 2], score=[0, 1]).plot(annotate=True)
    with pytest.raises(ValueError, match="share between 0 and 1 per latent"):
        DecoderMapDisplay(positions=np.eye(4, 2), density=[0.5, np.nan, 0, 1]).plot()
    with pytest.raises(ValueError, match=r"between 0 and 3\. Got 1\.7"):
        DecoderMapDisplay(positions=np.eye(4, 2)).plot(annotate=[1.7])


def test_the_volcano_says_what_is_wrong():
    with pytest.raises(ValueError, match="as long as each other"):
        ContrastVolcanoDisplay(effect=[1, 2], qvalues=[0.5]).plot()
    with pytest.raises(ValueError, match="between 0 and 1"):
        ContrastVolcanoDisplay(effect=[1], qvalues=[2]).plot()
    for names in (["a"], "ab"):
        with pytest.raises(ValueError, match="one name for each of 2"):
            ContrastVolcanoDisplay(effect=[1, 2], qvalues=[0.5, 1]).plot(names=names)
    with pytest.raises(TypeError, match=r"FeatureContrast\. Got PCA"):
        ContrastVolcanoDisplay.from_estimator(PCA(1).fit(np.eye(3)))


def test_names_of_all_features_are_names_by_number():
    fitted = contrast(alpha=1e-3)
    names = np.array([f"name {i}" for i in range(30)])
    for some in (names, names.tolist(), dict(enumerate(names))):
        display = ContrastVolcanoDisplay.from_estimator(fitted, names=some)
        assert {text.get_text() for text in display.texts_} == {"3 name 3", "7 name 7"}


def test_names_of_columns_are_names_of_features():
    frame = pd.DataFrame(contrast_codes(), columns=[f"name {i}" for i in range(30)])
    fitted = FeatureContrast(alpha=1e-3).fit(frame, np.repeat([0, 1], 100))
    display = ContrastVolcanoDisplay.from_estimator(fitted)
    assert {text.get_text() for text in display.texts_} == {"3 name 3", "7 name 7"}
    assert {text.get_text() for text in display.plot().texts_} == {"3 name 3", "7 name 7"}
    other = ContrastVolcanoDisplay.from_estimator(fitted, names={3: "tea"})
    assert {text.get_text() for text in other.texts_} == {"3 tea", "7"}
    frame = frame.rename(columns=lambda name: name.replace("name ", "topksae"))
    fitted = FeatureContrast(alpha=1e-3).fit(frame, np.repeat([0, 1], 100))
    display = ContrastVolcanoDisplay.from_estimator(fitted)
    assert {text.get_text() for text in display.texts_} == {"topksae3", "topksae7"}
