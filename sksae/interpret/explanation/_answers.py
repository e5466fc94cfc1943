"""What a language model answered, read strictly: an answer that is not one raises a ValueError."""

import json
import re

from sksae._signs import visible

LONGEST = 400  # characters of a description
_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL)
_LABELLED = re.compile(r"^\W*explanation\W*?:(.*)$", re.IGNORECASE)


def read_description(answer):
    """Return the description in an answer: its labelled line, or else all of it, if it is one."""
    lines = [line.strip() for line in _spoken(answer).splitlines() if line.strip()]
    labelled = [match[1] for match in map(_LABELLED.match, lines) if match]
    if not labelled and len(lines) > 1:
        raise ValueError("it has several lines and none of them begins with EXPLANATION:")
    text = " ".join((labelled or lines or [""])[-1].strip("*_ \t").split())
    if len(text) > 1 and text[0] == text[-1] and text.count(text[0]) == 2 and text[0] in "\"'`":
        text = text[1:-1].strip()
    if not any(map(str.isalnum, text)):
        raise ValueError("it describes nothing")
    if len(text) > LONGEST:
        raise ValueError(f"it has {len(text)} characters; at most {LONGEST} are a description")
    return visible(text)


def read_flags(answer, n):
    """Return the n numbers, each 0 or 1, of a JSON list."""
    values = _read_list(answer, n)
    if not all(value in (0, 1) for value in values):
        raise ValueError("its list holds something else than 0 and 1")
    return [int(value) for value in values]


def read_levels(answer, n, highest):
    """Return the n numbers, from 0 to `highest`, of a JSON list."""
    values = _read_list(answer, n)
    if not all(isinstance(v, (int, float)) and 0 <= v <= highest for v in values):
        raise ValueError(f"its list holds something else than numbers from 0 to {highest}")
    return [float(value) for value in values]


def read_choice(answer, n):
    """Return which of n was chosen, from 0, where the answer names one number only."""
    numbers = set(re.findall(r"\d+", _spoken(answer)))
    if len(numbers) != 1:
        raise ValueError(f"it names {len(numbers)} numbers instead of one")
    number = numbers.pop()
    if len(number) > 9 or not 1 <= int(number) <= n:
        raise ValueError(f"its number is not one from 1 to {n}")
    return int(number) - 1


def _read_list(answer, n):
    lists = re.findall(r"\[[^\[\]]*\]", _spoken(answer))
    if not lists:
        raise ValueError("there is no JSON list in it")
    try:
        values = json.loads(lists[-1])
    except (ValueError, RecursionError) as error:
        raise ValueError("its list is not JSON") from error
    if len(values) != n:
        raise ValueError(f"its list has {len(values)} entries instead of {n}")
    return values


def _spoken(answer):
    """Return an answer without what a reasoning model thought before."""
    if not isinstance(answer, str):
        raise ValueError(f"it is a {type(answer).__name__}, not a string")
    return _THOUGHT.sub("", answer)
