from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sksae.interpret.explanation._explanation_prompts import (
    read_choice,
    read_description,
    read_flags,
    read_levels,
)
from tests.cases import each_case, tries


@each_case(
    "answer, text",
    [
        ("EXPLANATION: names of rivers", "names of rivers"),
        ("names of rivers\n", "names of rivers"),
        ("<think>lakes</think>\n<answer>names of rivers</answer>", "names of rivers"),
        ("<answer>\nEXPLANATION: names of rivers\n</answer>\nI hope so.", "names of rivers"),
        ("<reflection>lakes</reflection>names of rivers", "names of rivers"),
        ("<analysis>\nlakes\n</analysis>\nEXPLANATION: names of rivers", "names of rivers"),
        ("Explanation - names of rivers", "names of rivers"),
        ("### Explanation\n\nnames of rivers", "names of rivers"),
        ("<answer>names of rivers", "names of rivers"),
        ("EXPLANATION: <answer> and </answer> in XML", "<answer> and </answer> in XML"),
        ("explanations of rivers", "explanations of rivers"),
        ("explanation-like words", "explanation-like words"),
        ("They flow.\nSo:\n**Explanation:** names  of rivers", "names of rivers"),
        ("[EXPLANATION]: 'names of rivers'", "names of rivers"),
        ('EXPLANATION: "up" in "give up"', '"up" in "give up"'),
        ("<think>\nEXPLANATION: boats\n</think>\nEXPLANATION: 강 이름", "강 이름"),
        ("EXPLANATION: first\nEXPLANATION: second", "second"),
        ("They are about boats.\nSo:\n</think>\n\nnames of rivers", "names of rivers"),
        ("<THINKING a='b'>boats</thinking>names of rivers", "names of rivers"),
        ("[THINK]boats[/THINK]names of rivers", "names of rivers"),
        ("◁think▷boats◁/think▷names of rivers", "names of rivers"),
        (
            "<|channel|>analysis<|message|>boats<|end|><|start|>assistant<|channel|>final"
            "<|message|>EXPLANATION: names of rivers",
            "names of rivers",
        ),
        ("<think>a</think>boats<think>b</think>names of rivers", "names of rivers"),
        ("EXPLANATION:\nnames of rivers", "names of rivers"),
        ("1. EXPLANATION：names of rivers", "names of rivers"),
        ("**EXPLANATION:**\n\n**names of rivers**\n\nI hope this helps.", "names of rivers"),
        ("```\nEXPLANATION: names of rivers\n```", "names of rivers"),
        ("```\nnames of rivers\n```", "names of rivers"),
        ('{"explanation": "names of rivers"}', "names of rivers"),
        ('```json\n{\n "Explanation": "names of rivers",\n "n": 3\n}\n```', "names of rivers"),
        ('Here it is.\n{"explanation": "names of rivers"}', "names of rivers"),
        ('{"phrase": "names of rivers"}', "names of rivers"),
        ('["names of rivers"]', "names of rivers"),
        ('{"explanation": "a \\"{\\" in code"}', 'a "{" in code'),
        ('EXPLANATION: JSON such as {"answer": 3}', 'JSON such as {"answer": 3}'),
        ("{ at the end of a line", "{ at the end of a line"),
    ],
)
def test_descriptions_are_found(answer, text):
    assert read_description(answer) == text


@each_case(
    "answer",
    [
        "",
        " \n",
        "EXPLANATION:",
        "...",
        "I cannot\nhelp with that",
        "x" * 401,
        None,
        3,
        "<think>The tokens are about",
        "EXPLANATION: boats <think>or not",
        "<think>one</think><think>EXPLANATION: two",
        "</think>",
        "[THINK]boats",
        "<|channel|>analysis<|message|>EXPLANATION: boats",
        '{"explanation": ["boats"]}',
        '{"a": "boats", "b": "rivers"}',
        "[1]",
        "{}",
    ],
)
def test_what_is_no_description_is_refused(answer):
    with pytest.raises(ValueError, match="it "):
        read_description(answer)


def test_lists_are_found_behind_other_words():
    assert read_flags("The lines [1] and so on: [0, 1, true]", 3) == [0, 1, 1]
    assert read_levels("<think>[9, 9]</think>[0, 7.5]", 2, 10) == [0.0, 7.5]


@each_case(
    "answer",
    [
        "[0, 1]",
        "[0, 1, 2]",
        '["a", 0, 1]',
        "0, 1, 1",
        "[0, 1, [1]]",
        "[0 1 1]",
        "[0, 1, 1",
        "[0, 1, {}]",
        None,
    ],
)
def test_lists_that_do_not_fit_are_refused(answer):
    with pytest.raises(ValueError):
        read_flags(answer, 3)


@each_case("answer", ["[0, 11]", "[-1, 0]", "[NaN, 0]", "[Infinity, 0]", '["3", 1]'])
def test_levels_outside_of_the_scale_are_refused(answer):
    with pytest.raises(ValueError):
        read_levels(answer, 2, 10)


@each_case(
    "answer, choice", [("3", 2), ("Passage 3.", 2), ("3, yes 3", 2), ("<think>1, 2</think>5", 4)]
)
def test_choices_count_from_one(answer, choice):
    assert read_choice(answer, 5) == choice


@each_case("answer", ["", "none", "6", "0", "1 or 2", "9" * 5000, None])
def test_choices_that_are_none_are_refused(answer):
    with pytest.raises(ValueError):
        read_choice(answer, 5)


def test_the_end_of_a_thought_is_where_an_answer_begins():
    assert read_flags("[1, 1]\n</think>\n[0, 1]", 2) == [0, 1]
    assert read_choice("it is 1 or 2</think> 3", 5) == 2
    for read in (read_flags, lambda answer, n: read_levels(answer, n, 10)):
        with pytest.raises(ValueError, match="breaks off within a thought"):
            read("<think>perhaps [0, 0], but no, since", 2)
    with pytest.raises(ValueError, match="breaks off within a thought"):
        read_choice("<think>Is it passage 2", 5)


@each_case(
    "unit", ["<think>", "<think ", "<answer>", "explanation ", "[", "{", "</think", "* ", "`", '"']
)
def test_a_long_answer_is_read_in_one_go(unit):
    """Half a megabyte; a time that grows with its square would be that of minutes."""
    with pytest.raises(ValueError):
        read_description(unit * (500_000 // len(unit)))


@settings(max_examples=tries(100), deadline=None)
@given(st.text())
def test_any_answer_is_read_or_refused(answer):
    for read in (
        read_description,
        lambda a: read_flags(a, 2),
        lambda a: read_levels(a, 2, 10),
        lambda a: read_choice(a, 2),
    ):
        with suppress(ValueError):
            assert read(answer) not in (None, "", [])


def test_a_description_cannot_steer_a_terminal():
    assert (
        read_description("EXPLANATION: a\x1b]0;owned\x07b\u202ec")
        == "a\ufffd]0;owned\ufffdb\ufffdc"
    )
