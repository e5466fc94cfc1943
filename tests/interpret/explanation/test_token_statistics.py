import numpy as np

from sksae.interpret import Feature, FeatureAtlas, explain_from_tokens
from tests.cases import each_case


def described(texts, fires):
    """The words for a feature that fires where a function of (token, the one before) says so."""
    strings = [token for tokens in texts for token in tokens]
    before = [b for tokens in texts for b in ("", *tokens[:-1])]
    codes = [[float(fires(t, b))] for t, b in zip(strings, before, strict=True)]
    text = np.repeat(np.arange(len(texts)), [len(tokens) for tokens in texts])
    atlas = FeatureAtlas().fit(codes, tokens={"text": text, "string": strings})
    return explain_from_tokens(atlas.feature(0))


def around(*middles, n=24):
    """Texts with different words before and after some tokens, in turn."""
    words = [f" {a}{b}" for a in "bcdfghk" for b in "aeiou"]
    return [
        [words[3 * i % 35], words[5 * i % 35], *middles[i % len(middles)], words[2 * i % 35], "."]
        for i in range(n)
    ]


@each_case(
    "texts, fires, words",
    [
        (around([" bank"]), lambda t, b: t == " bank", '"bank"'),
        (around([" Bank"], ["bank"]), lambda t, b: t.strip().lower() == "bank", '"bank"'),
        (
            around([" river", " bank"], [" bank"]),
            lambda t, b: b == " river",
            '"bank" after "river"',
        ),
        (
            around([" in", " spite", " of"]),
            lambda t, b: t == " spite",
            '"spite" after "in"',
        ),
        (
            around([" cat"], [" dog"], [" cat"]),
            lambda t, b: t in (" cat", " dog"),
            '"cat" or "dog"',
        ),
        (
            around(*[[f" {c}"] for c in "강산물불말손눈코입귀"]),
            lambda t, b: "가" <= t[-1] <= "힣",
            "Korean text",
        ),
        (around(*[[f" {i}"] for i in range(24)]), lambda t, b: t.strip().isdigit(), "numbers"),
        (
            around(*[[f" {a}xe"] for a in "ABCDEFGHIJKLMNOP"]),
            lambda t, b: t.endswith("xe"),
            "capitalised words",
        ),
        (around(["\n"], ["\n\n"]), lambda t, b: "\n" in t, "a line break"),
        (around([" train", "ing"]), lambda t, b: t == "ing", '"ing" in "training"'),
        (
            around([" play", "ing"], [" say", "ing"], [" go", "ing"], [" mov", "ing"]),
            lambda t, b: t == "ing",
            '"ing"',
        ),
        (
            around(*[[" the", f" {a}{b}x"] for a in "klmnp" for b in "aeiou"]),
            lambda t, b: b == " the",
            'words after "the"',
        ),
    ],
)
def test_the_words_say_what_a_feature_fires_on(texts, fires, words):
    assert described(texts, fires).startswith(words)


def test_of_a_mixed_feature_examples_are_named_and_what_it_promotes():
    texts = around(*[[f" {a}{b}q"] for a in "lmnp" for b in "aeiou"])
    strings = np.array([token for tokens in texts for token in tokens], dtype=object)
    codes = np.array([[s.endswith("q")] for s in strings], dtype=float)
    table = {"text": np.repeat(np.arange(24), 5), "string": strings}
    feature = FeatureAtlas().fit(codes, tokens=table).feature(0)
    object.__setattr__(
        feature, "promoted", [(" Next", 3.0), ("next", 2.0), (".", 1.0), ("ly", 1.0)]
    )
    text = explain_from_tokens(feature)
    assert text.endswith(' and others; says "Next" or "ly"')
    assert 'q"' in text


def test_no_word_steers_a_terminal_or_ends_the_line():
    text = described(around(["\x1b[2J\n\u202ex"]), lambda t, b: "x" in t)
    assert "\x1b" not in text
    assert "\n" not in text
    assert "\u202e" not in text


def test_features_that_do_not_fire():
    facts = (0, 0, 0.0, 0, 0.0, 0.0, 0, ("dead",), [], [])
    assert explain_from_tokens(Feature(*facts)) == "never fires"


def test_what_is_kept_for_the_test_is_not_looked_at():
    """One text only fires, and it is either on one side or on the other."""
    texts = [*around([" bank"], n=1), ["a", "b"]]
    assert described(texts, lambda t, b: t == " bank") in ('"bank"', "fires too rarely to tell")
