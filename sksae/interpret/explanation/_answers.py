"""What a language model answered, read strictly: an answer that is not one raises a ValueError."""

import json
import re

LONGEST = 400  # characters of a description
_NAMES = r"(?:seed:)?(?:think|thinking|thought|thoughts|reasoning)"
# What begins and ends the thoughts of a reasoning model, by maker. Each pattern takes a time that
# grows with the length of the answer only.
_THOUGHT_BEGINS = re.compile(
    rf"<{_NAMES}\b[^<>]*>|\[THINK\]|◁think▷|<\|START_THINKING\|>"
    r"|<\|channel\|>(?:analysis|commentary)\b|<\|begin_of_thought\|>",
    re.IGNORECASE,
)
_THOUGHT_ENDS = re.compile(
    rf"</{_NAMES}\s*>|\[/THINK\]|◁/think▷|<\|END_THINKING\|>"
    r"|<\|channel\|>final[^<>]*<\|message\|>|<\|end_of_thought\|>",
    re.IGNORECASE,
)
_CHANNELS = ("<|channel|>", "<|message|>")  # single tokens of the marks above
_LABELLED = re.compile(r"^[^\w{]*explanation\W*?:(.*)$", re.IGNORECASE)
_FENCE = re.compile(r"^\s*(?:```|~~~)")
_LABELS = ("explanation", "description", "answer")


def read_description(answer):
    """Return the description in an answer: its labelled line, or else all of it, if it is one."""
    spoken = _spoken(answer)
    lines = [line.strip() for line in spoken.splitlines() if not _FENCE.match(line)]
    lines = [line for line in lines if line]
    text = _description_in_json("\n".join(lines))
    if text is None:
        text = _description_in_lines(lines)
    text = " ".join(text.strip("*_ \t").split())
    if len(text) > 1 and text[0] == text[-1] and text.count(text[0]) == 2 and text[0] in "\"'`":
        text = text[1:-1].strip()
    if not any(map(str.isalnum, text)):
        raise ValueError("it describes nothing")
    if len(text) > LONGEST:
        raise ValueError(f"it has {len(text)} characters; at most {LONGEST} are a description")
    return text


def marks_thoughts(token):
    """Return whether a token is a mark, or part of one, that tells thoughts from the answer."""
    return token in _CHANNELS or any(m.fullmatch(token) for m in (_THOUGHT_BEGINS, _THOUGHT_ENDS))


def _description_in_lines(lines):
    """Return what follows the last label, on its line or the next; without a label, the line."""
    for i in reversed(range(len(lines))):
        if match := _LABELLED.match(lines[i]):
            beside = match[1].strip("*_\"'` \t")
            return match[1] if beside else " ".join(lines[i + 1 : i + 2])
    if len(lines) > 1:
        raise ValueError("it has several lines and none of them begins with EXPLANATION:")
    return " ".join(lines)


def _description_in_json(text):
    """Return the description in a text that is JSON, or whose lines hold an object; else None."""
    objects = re.findall(r"^\{[^{}]*\}", text, re.MULTILINE)
    for candidate in [text, *objects[-1:]]:
        try:
            value = json.loads(candidate)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, list) and len(value) == 1:
            value = value[0] if isinstance(value[0], dict) else {"explanation": value[0]}
        if not isinstance(value, dict):
            continue
        entries = {name.lower(): entry for name, entry in value.items()}
        named = [entries[label] for label in _LABELS if label in entries]
        found = named or list(entries.values())
        if not (named or len(found) == 1) or not isinstance(found[0], str):
            raise ValueError('it is JSON without "explanation"')
        return found[0]
    return None


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
    """Return an answer without what a reasoning model thought before it."""
    if not isinstance(answer, str):
        raise ValueError(f"it is a {type(answer).__name__}, not a string")
    begin = max((end.end() for end in _THOUGHT_ENDS.finditer(answer)), default=0)
    if _THOUGHT_BEGINS.search(answer, begin):
        raise ValueError("it breaks off within a thought")
    return answer[begin:]
