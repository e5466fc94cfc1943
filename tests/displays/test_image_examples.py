"""Images with shades over patches: lit where a pattern was planted."""

import re

import numpy as np
import pytest

from sksae.displays import HighlightedText, ImageExamplesDisplay
from sksae.interpret import FeatureAtlas, ImagePatches
from tests.report.planted_images import planted_atlas


def test_the_planted_patches_are_lit_and_framed():
    atlas, places = planted_atlas()
    display = ImageExamplesDisplay.from_feature(atlas.feature(1), n_examples=6).plot(n_columns=3)
    assert display.axes_.shape == (6,)
    panels = zip(range(23, 17, -1), display.shades_, display.frames_, strict=True)
    for number, shade, frame in panels:
        opacity = np.asarray(shade.get_array())[:, :, 3]
        share = (1 + number / 24) / (1 + 23 / 24)
        expected = np.full(12, 0.6)
        expected[places[number, 1]] = 0.6 * (1 - np.sqrt(share))
        np.testing.assert_allclose(opacity.ravel(), expected, atol=1e-6)
        assert frame.get_xy() == divmod(places[number, 1], 4)[::-1]
    image, shade = display.images_[0], display.shades_[0]
    assert image.get_extent() == shade.get_extent() == [0, 4, 3, 0]  # as many patches
    assert display.axes_[0].get_title() == "1.96 · image 23"
    display.figure_.draw_without_rendering()
    box = display.axes_[0].get_window_extent()
    assert box.width / box.height == pytest.approx(4 / 3, rel=0.01)  # pixels are square


def test_html_has_the_images_and_the_same_shades():
    atlas, places = planted_atlas()
    display = ImageExamplesDisplay.from_feature(atlas.feature(0), n_examples=2)
    markup = display._repr_html_()
    assert markup.count('src="data:image/png;base64,') == 2
    shades = re.findall(r'x="(\d+)" y="(\d+)" width="1" height="1" fill-opacity="0.00"', markup)
    row, column = divmod(places[23, 0], 4)
    assert shades == [(str(column), str(row))]  # the strongest of all has no shade
    assert markup.count('fill-opacity="0.60"') == 22
    assert "http" not in markup
    assert set(re.findall(r"<(\w+)", markup)) == {"div", "span", "img", "svg", "rect", "title"}
    assert str(display).splitlines()[0] == f"image 23: [[row {row}, column {column}]]"


def test_whole_images_and_images_that_were_not_kept_have_their_own_form(monkeypatch):
    whole = FeatureAtlas().fit([[1.0], [2.0]], images=ImagePatches(np.zeros((2, 8, 8))))
    display = ImageExamplesDisplay(whole.feature(0).examples).plot()
    assert (len(display.images_), display.shades_, display.frames_) == (2, [], [])
    assert "<svg" not in display.to_html()
    monkeypatch.setattr("sksae.interpret.atlas._images.PIXEL_BYTES", 0)
    lost = FeatureAtlas().fit([[1.0], [2.0]], images=ImagePatches(np.zeros((2, 8, 8))))
    display = ImageExamplesDisplay(lost.feature(0).examples[0]).plot()
    assert np.unique(display.images_[0].get_array()).tolist() == [128]
    assert "image 1 was not kept" in display.to_html()


def test_what_has_no_images_is_refused():
    atlas, _ = planted_atlas()
    texts = FeatureAtlas().fit([[1.0]], tokens=["a"]).feature(0)
    with pytest.raises(TypeError, match="HighlightedText shows texts"):
        ImageExamplesDisplay.from_feature(texts).plot()
    with pytest.raises(TypeError, match="ImageExamplesDisplay shows"):
        HighlightedText.from_feature(atlas.feature(0)).to_html()
    with pytest.raises(TypeError, match="must be a Feature"):
        ImageExamplesDisplay.from_feature(3)
    with pytest.raises(TypeError, match="from_feature takes one"):
        ImageExamplesDisplay(atlas.feature(0)).plot()
    with pytest.raises(ValueError, match="never fires"):
        ImageExamplesDisplay([]).plot()
