"""Texts: escaped, legible, and exactly the characters that were given."""

import html
import re
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sksae._signs import columns, drawn, visible
from sksae.displays import AttributionDisplay, HighlightedText
from sksae.interpret import FeatureAtlas, max_activating_examples
from sksae.language_models import Attribution
from tests.cases import each_case, tries

tokens_and_values = st.lists(
    st.tuples(st.text(max_size=6), st.one_of(st.just(0.0), st.floats(-9, 9))), min_size=1
)


def words(text):
    return html.unescape(re.sub("<[^<>]*>", "", text.to_html()))


@settings(max_examples=tries(50), deadline=None)
@given(tokens_and_values)
def test_html_is_the_text_and_nothing_else(pairs):
    tokens, values = zip(*pairs, strict=True)
    text = HighlightedText.from_tokens(tokens, values)
    assert words(text) == visible("".join(tokens))
    tags = set(re.findall(r"<(\w+)", text.to_html()))
    assert tags <= {"div", "span"}


def test_html_escapes_and_says_the_value():
    text = HighlightedText.from_tokens(["<script>", '"&', " b\n", "\u202eabc"], [0, 2.0, -1, 1])
    markup = text._repr_html_()
    assert "<script" not in markup
    assert 'title="2"' in markup
    assert "&quot;&amp;" in markup
    assert "b↵" in markup
    assert "\u202e" not in markup
    assert "2px dotted" in markup.split('title="-1"')[1].split(">")[0]
    assert "http" not in markup
    assert "class=" not in markup


def test_colours_follow_the_values():
    text = HighlightedText.from_tokens(["a", "b", "c", "d"], [4.0, 2.0, 0.0, 9.0], max_activation=4)
    shades = re.findall(r"rgba\(255,171,25,([\d.]+)\)", text.to_html())
    assert shades == ["0.50", "0.29", "0.50"]  # 0.08 to 0.5, and no more


def luminance(rgb):
    x = np.asarray(rgb) / 255
    linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


@each_case("value", [1.0, -1.0])
@each_case("page, ink", [(255, 0), (17, 240)])
def test_the_strongest_colour_can_be_read_on_light_and_dark_pages(value, page, ink):
    markup = HighlightedText.from_tokens(["a"], [value]).to_html()
    *color, alpha = map(float, re.search(r"rgba\(([^)]*)\)", markup)[1].split(","))
    back = luminance(alpha * np.array(color) + (1 - alpha) * np.full(3, page))
    light, dark = sorted([back, luminance(np.full(3, ink))], reverse=True)
    assert (light + 0.05) / (dark + 0.05) > 4.5  # the WCAG's bound for text


def test_examples_of_a_feature_are_lines():
    table = {"text": [0, 0, 0, 1, 1], "string": ["a", " cold", " day", "cold", " tea"]}
    codes = np.array([[0], [2.0], [0], [3.0], [0.0]])
    examples = max_activating_examples(codes, table)[0]
    text = HighlightedText(examples)
    assert repr(text) == "[[cold]] tea\na[[ cold]] day"
    assert words(text) == "3cold tea2a cold day"
    feature = SimpleNamespace(examples=examples, max_activation=6.0)
    one = HighlightedText.from_feature(feature, n_examples=1)
    assert words(one) == "cold tea"
    assert "0.29" in one.to_html()  # 3 of 6


def test_an_example_that_was_cut_says_so():
    codes = np.zeros((20, 1))
    codes[10] = 1
    table = {"text": [0] * 20, "string": [f" {i}" for i in range(20)]}
    (example,) = max_activating_examples(codes, table, before=1, after=1)[0]
    assert words(HighlightedText(example)) == "… 9 10 11…"


def test_wrong_input_is_named():
    with pytest.raises(TypeError, match="single string"):
        HighlightedText.from_tokens("abc", [1, 2, 3])
    with pytest.raises(ValueError, match="each of the 2 tokens"):
        HighlightedText.from_tokens(["a", "b"], [1.0])
    with pytest.raises(ValueError, match="finite number"):
        HighlightedText.from_tokens(["a"], [np.nan])
    with pytest.raises(TypeError, match="Got a str"):
        HighlightedText(["abc"]).to_html()
    with pytest.raises(ValueError, match=r"Got 1 finite numbers in an array of shape \(2,\)"):
        HighlightedText.from_tokens(["a", "b"], [np.nan, 1.0])
    feature = FeatureAtlas().fit([[1.0]]).feature(0)
    with pytest.raises(TypeError, match="from_feature takes one"):
        HighlightedText(feature).to_html()


def test_text_is_drawn_on_lines_that_fit():
    text = HighlightedText.from_tokens(["ab", "cdef", " 희소", "x" * 12], [0, 1.0, -2.0, 0.5])
    text.plot(width=8)
    strings = [t.get_text() for t in text.texts_]
    # no font here has Hangul; a syllable takes two columns of the line, and its box one
    assert strings == ["ab", "cdef", " □□", "x" * 8, "x" * 4]
    assert [t.get_position() for t in text.texts_] == [
        (0, 0.5), (2, 0.5), (0, 1.5), (0, 2.5), (0, 3.5)
    ]  # fmt: skip
    assert [box.get_width() for box in text.boxes_] == [4, 3, 8, 4]
    text.figure_.canvas.draw()


@settings(max_examples=tries(25), deadline=None)
@given(tokens_and_values, st.integers(4, 30))
def test_no_drawn_line_is_too_long_and_no_character_is_lost(pairs, width):
    import matplotlib.pyplot as plt

    from sksae.displays._highlighted import _laid_out

    tokens, values = zip(*pairs, strict=True)
    text = HighlightedText.from_tokens(tokens, values)
    pieces = list(_laid_out(text._examples(), width))
    assert "".join(piece[2] for piece in pieces) == visible("".join(tokens))
    assert all(column + columns(string) <= width for _, column, string, _, _ in pieces)
    plt.close("all")


def test_letters_fit_into_given_axes():
    from matplotlib.figure import Figure

    ax = Figure(figsize=(2, 1), dpi=100).add_axes((0, 0, 1, 1))
    text = HighlightedText.from_tokens(["abc"], [1.0]).plot(ax, width=80)
    # 80 characters of 0.602 times their size on two inches of 72 points
    size = 144 / 80 / 0.602
    np.testing.assert_allclose(text.texts_[0].get_fontsize(), size)
    np.testing.assert_allclose(ax.get_ylim(), (72 / size / 1.6, 0))  # lines on an inch


def test_characters_without_a_font_are_boxes():
    import matplotlib as mpl

    (string,), properties = drawn(["a\U000f0000b\u200dc"])
    assert string == "a□bc"
    assert properties["parse_math"] is False
    assert properties["family"] == list(mpl.rcParams["font.family"])


def test_without_a_korean_font_a_picture_is_still_drawn():
    (string,), _ = drawn(["한 a"])
    assert string == "□ a"
    HighlightedText.from_tokens(["한", " a"], [1, 2]).plot().figure_.canvas.draw()


def test_with_a_korean_font_every_syllable_is_drawn(installed_fonts):
    known = installed_fonts & {"Noto Sans CJK KR", "Noto Sans KR", "NanumGothic", "UnDotum"}
    if not known:
        pytest.skip("no font with Hangul is installed; what is checked are the boxes without one")
    strings, properties = drawn(["한 a", "$희소"])
    assert strings == ["한 a", "$희소"]
    assert set(properties["family"]) & known
    text = HighlightedText.from_tokens([" 희소", "a"], [1, 2]).plot()
    assert [one.get_text() for one in text.texts_] == [" 희소", "a"]
    text.figure_.canvas.draw()  # a warning about a missing glyph would be an error


def test_many_lines_fit_into_given_axes():
    from matplotlib.figure import Figure

    ax = Figure(figsize=(4, 1), dpi=100).add_axes((0, 0, 1, 1))
    text = HighlightedText.from_tokens(["abcde"] * 20, np.ones(20)).plot(ax, width=5)
    # 20 lines of 1.6 times their size on an inch of 72 points
    np.testing.assert_allclose(text.texts_[0].get_fontsize(), 72 / 20 / 1.6)
    np.testing.assert_allclose(ax.get_ylim(), (20, 0))


def attribution():
    return Attribution(
        site=np.array(["0.mlp_out", "0.mlp_out", "1.mlp_out", "1.mlp_out"], dtype=object),
        position=np.array([3, 1, 3, 3]),
        token=np.array([" $a", "b\n", " $a", " $a"], dtype=object),
        feature=np.array([7, 7, 7, -1]),
        activation=np.array([2.0, 1.0, 3.0, 1.0]),
        baseline_activation=np.zeros(4),
        effect=np.array([0.5, 0.25, -1.0, 0.01]),
        exact=np.array([0.625, np.nan, np.nan, np.nan]),
        name=np.array(["관사", "관사", "", "error"], dtype=object),
        total={}, completeness={}, clean=-1.0, metric="log-probability of '$b'",
    )  # fmt: skip


def test_an_attribution_is_a_grid():
    display = AttributionDisplay.from_attribution(attribution())
    assert display.features == ["1.mlp_out 7", "0.mlp_out 7 관사", "1.mlp_out error"]
    assert display.tokens == ["b\n", " $a"]
    np.testing.assert_array_equal(display.values, [[0, -1], [0.25, 0.5], [0, 0.01]])
    np.testing.assert_array_equal(display.image_.get_array(), display.values)
    assert display.image_.get_clim() == (-1, 1)
    assert [text.get_text() for text in display.texts_] == ["-1", "+0.25", "+0.5"]
    labels = [label.get_text() for label in display.ax_.get_xticklabels()]
    assert labels == ["b↵\n1", "␣$a\n3"]
    assert display.ax_.get_title() == "log-probability of '$b' = -1"
    display.figure_.canvas.draw()


def test_only_what_is_of_the_metric_has_its_title():
    table = SimpleNamespace(
        **{name: getattr(attribution()[:3], name) for name in ("position", "token", "feature")},
        name=np.array(["", "", ""], dtype=object), metric="log-probability", value=-0.5,
        gradient=np.array([1.0, 2, 3]), direct_logit=np.array([3.0, 2, 1]),
    )  # fmt: skip
    table = type("Behaviour", (), {**vars(table), "__len__": lambda self: 3})()
    display = AttributionDisplay.from_attribution(table)
    np.testing.assert_array_equal(display.values, [[2, 4]])
    assert display.title == "log-probability = -0.5"
    direct = AttributionDisplay.from_attribution(table, value="direct_logit")
    np.testing.assert_array_equal(direct.values, [[2, 4]])
    assert direct.title == ""


def test_an_attribution_shows_the_strongest():
    display = AttributionDisplay.from_attribution(attribution(), n_features=1, n_tokens=1)
    np.testing.assert_array_equal(display.values, [[-1]])
    exact = AttributionDisplay.from_attribution(attribution(), value="exact")
    assert exact.values.max() == 0.625
    with pytest.raises(ValueError, match="Attribution has no 'gradient'"):
        AttributionDisplay.from_attribution(attribution(), value="gradient")
    with pytest.raises(ValueError, match="value must be one of"):
        AttributionDisplay.from_attribution(attribution(), value="wrong")
    with pytest.raises(ValueError, match="1 features and 2 tokens"):
        AttributionDisplay(values=[[1]], tokens=["a", "b"], positions=[0, 1], features=["f"]).plot()
