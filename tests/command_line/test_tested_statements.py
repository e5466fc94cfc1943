import numpy as np
import pytest
from scipy import sparse

from sksae.command_line import TextTable, kind_of_target, split_table, statement_cells
from sksae.command_line import tested_statements as statements_of
from sksae.interpret import Explanation
from tests.cases import each_case

N = 160


def table(target, groups=None):
    return TextTable([f"text {i}" for i in range(len(target))], np.array(target), groups)


@each_case(
    "target, kind",
    [
        ([1.0, 2, 4] * 20, "ordinal"),
        ([0.5, 2, 4] * 20, "continuous"),
        ([0.0, 1] * 30, "binary, and numbers are shares of 1.0 against 0.0"),
        (["a", "b"] * 30, "binary, and numbers are shares of b against a"),
        (["a", "b", "c"] * 20, "multiclass"),
    ],
)
def test_numbers_are_no_classes(target, kind):
    finding, testing, contrast = split_table(table(target), "auto", 0)
    assert kind_of_target(contrast) == kind
    assert sorted([*finding.texts, *testing.texts]) == sorted(table(target).texts)


@each_case(
    "target, kind, message",
    [
        ([1.0, 2, 3], "auto", "Four documents"),
        (["a"] * 20 + ["b"], "auto", "y has 1 class"),
        (["a", "b"] * 10, "ordinal", "needs numbers"),
        ([0.5, 1.5, 2] * 10, "counts", "whole numbers"),
        ([1.0, 2] * 10, "rating", "target_type"),
    ],
)
def test_a_target_that_cannot_be_tested_is_refused_at_once(target, kind, message):
    with pytest.raises(ValueError, match=message):
        split_table(table(target), kind, 0)


def test_words_of_all_texts_and_the_same_words_again_are_not_tested():
    rng = np.random.default_rng(0)
    has = rng.random(N) < 0.4
    texts = [f"we had {'soup' if one else 'cake'} {i}" for i, one in enumerate(has)]
    given = TextTable(texts, has + 0.5 * rng.normal(size=N), None)
    finding, testing, contrast = split_table(given, "auto", 0)
    # Two features of soup with other words of the same texts, one of all texts, one without rule.
    said = ['"soup"', '"soup" after "had"', '"we"', '"""']
    words = {i: Explanation(i, text) for i, text in enumerate(said)}
    codes = [
        sparse.csr_array(
            np.array([["soup" in text] * 4 for text in side.texts])
            * rng.uniform(0.1, 1, (N // 2, 4))
        )
        for side in (finding, testing)
    ]
    statements = statements_of(finding, testing, codes, words, contrast)
    (line,) = statement_cells(statements)
    assert line["statement"] in said[:2]
    assert (line["survives"], line["texts"]) == (
        "yes",
        str(sum("soup" in t for t in testing.texts)),
    )


def test_a_target_of_chance_has_no_statements():
    rng = np.random.default_rng(0)
    finding, testing, contrast = split_table(table(rng.normal(size=N)), "auto", 0)
    codes = [sparse.csr_array(rng.random((N // 2, 4)) * (rng.random((N // 2, 4)) < 0.3))] * 2
    words = {i: Explanation(i, f'"{i}"') for i in range(4)}
    statements = statements_of(finding, testing, codes, words, contrast)
    assert len(statements) == 0
    assert statement_cells(statements) == []


def test_texts_of_one_author_are_compared_with_each_other_only():
    """Authors who rate high mention cake; what moves the rating of each of them is soup."""
    rng = np.random.default_rng(0)
    author = np.repeat(np.arange(40), 8)
    has_soup, has_cake = rng.random(320) < 0.4, rng.random(320) < 0.1 + 0.8 * (author % 2)
    texts = [
        f"{'soup' if soup else ''} {'cake' if cake else ''} {i}"
        for i, (soup, cake) in enumerate(zip(has_soup, has_cake, strict=True))
    ]
    rating = has_soup + 2 * (author % 2) + 0.5 * rng.normal(size=320)
    finding, testing, contrast = split_table(TextTable(texts, rating, author), "auto", 0)
    assert not set(finding.groups) & set(testing.groups)
    words = {0: Explanation(0, '"soup"'), 1: Explanation(1, '"cake"')}
    codes = [
        sparse.csr_array(
            [[word in text for word in ("soup", "cake")] for text in side.texts], dtype=float
        )
        for side in (finding, testing)
    ]
    statements = statements_of(finding, testing, codes, words, contrast)
    assert statements.loc[statements["survives"], "text"].tolist() == ['"soup"']
