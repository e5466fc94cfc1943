"""Components of images and of tables."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sksae import TopKSAE
from sksae.displays import CodesDisplay, ComponentImagesDisplay, ComponentLoadingsDisplay


@pytest.fixture(scope="module")
def frame():
    X = np.random.default_rng(0).normal(size=(60, 6)) * [1, 10, 1, 1, 1, 1]
    return pd.DataFrame(X, columns=["age", "weight", "height", "a", "b", "c"])


@pytest.fixture(scope="module")
def sae(frame):
    return TopKSAE(5, k=1, max_iter=2, batch_size=32, random_state=0).fit(frame)


def test_a_picture_is_the_component_in_the_shape_of_the_image(sae):
    display = ComponentImagesDisplay.from_estimator(sae, (2, 3), components=[4, 1])
    assert [ax.get_title() for ax in display.axes_] == ["4", "1"]
    for image, component in zip(display.images_, (4, 1), strict=True):
        expected = np.asarray(sae.components_)[component].reshape(2, 3)
        np.testing.assert_allclose(image.get_array(), expected)
        assert image.norm.vmax == -image.norm.vmin == np.abs(expected).max()


def test_colours_are_grey_where_nothing_changes(sae):
    display = ComponentImagesDisplay.from_estimator(sae, (1, 2, 3), n_components=2)
    busiest = np.argsort(-sae.activation_frequency_, kind="stable")[:2]
    assert [ax.get_title() for ax in display.axes_] == list(map(str, busiest))
    drawn = ComponentImagesDisplay(images=[[[[0.0, 2.0, -1.0]]]], names=["sky"]).plot()
    np.testing.assert_allclose(drawn.images_[0].get_array(), [[[0.5, 1.0, 0.25]]])
    assert drawn.axes_[0].get_title() == "0 sky"


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((2, 2), {}, "has 4 numbers, but a component has 6"),
        (6, {}, "must be"),
        ((3, 2, 1), {}, "must be"),
        ((2, 3), {"components": [5]}, "between 0 and 4"),
        ((2, 3), {"components": [1], "axes": [None, None]}, "axes must be 1"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(sae, shape, options, message):
    with pytest.raises(ValueError, match=message):
        ComponentImagesDisplay.from_estimator(sae, shape, **options)


def test_bars_are_the_strongest_loadings_in_standard_deviations(sae, frame):
    display = ComponentLoadingsDisplay.from_estimator(sae, frame, components=[2])
    loadings = np.asarray(sae.components_)[2] / frame.std(ddof=0).to_numpy()
    order = np.argsort(-np.abs(loadings))
    labels = [label.get_text() for label in display.axes_[0].get_yticklabels()]
    assert labels == frame.columns[order].tolist()
    widths = [bar.get_width() for bar in display.bars_[0]]
    np.testing.assert_allclose(widths, loadings[order], rtol=1e-6)
    assert display.axes_[0].get_xlabel() == "loading (standard deviations)"
    assert display.axes_[0].yaxis_inverted()  # the strongest at the top


def test_names_of_latents_and_of_columns_are_found_in_a_pipeline(frame):
    pipe = make_pipeline(StandardScaler(), PCA(3)).fit(frame)
    display = ComponentLoadingsDisplay.from_estimator(pipe, names={0: "size"}, n_components=2)
    assert [ax.get_title() for ax in display.axes_] == ["0 size", "1"]
    labels = {label.get_text() for label in display.axes_[0].get_yticklabels()}
    assert labels == set(frame.columns)
    axes = plt.subplots(1, 2)[1]
    assert display.plot(axes, n_loadings=1).axes_[1] is axes[1]


def test_names_that_an_estimator_was_given_are_titles(sae, frame):
    named = TopKSAE(5, k=1, max_iter=1, batch_size=32, random_state=0).fit(frame)
    named.set_feature_names({1: "old and heavy"})
    for display in (
        ComponentLoadingsDisplay.from_estimator(named, components=[1, 0]),
        ComponentImagesDisplay.from_estimator(named, (2, 3), components=[1, 0]),
    ):
        assert [ax.get_title() for ax in display.axes_] == ["1 old and heavy", "0"]


def test_each_panel_of_codes_has_a_title():
    display = CodesDisplay.from_codes(np.eye(4))
    assert [ax.get_title() for ax in display.axes_.ravel()] == [
        "Activations",
        "Firing frequencies of the latents",
        "Active latents per row",
        "Magnitudes of the codes",
    ]
