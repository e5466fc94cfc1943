"""Strict parsers of answers of language models: a ValueError says why an answer is not usable."""

import json
import re

from sksae._signs import visible

LONGEST = 400  # characters of a description
_NAMES = r"(?:seed:)?(?:think|thinking|thought|thoughts|reasoning|reflection|scratchpad|analysis)"
# Marks around the thoughts of reasoning models: DeepSeek, Qwen and others; Magistral; Kimi; Command
# A; gpt-oss. Matching takes a time proportional to the length of the answer.
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
_CHANNEL_MARKS = ("<|channel|>", "<|message|>")  # tokens of gpt-oss's marks
_LABEL = re.compile(
    r"^(?:\d+[.)])?[^\w{]*explanation(?:\W*?[:：]|\s+[-–—]\s|\W*$)(.*)$", re.IGNORECASE
)
_ANSWER = ("<answer>", "</answer>")  # around the answer, after the thought, as R1 was taught
_FENCES = ("```", "~~~")  # of code blocks in Markdown
_JSON_LABELS = ("explanation", "description", "answer")


def read_description(answer):
    """Description in an answer: that of its JSON, of its labelled line, or its only line."""
    lines = [line.strip() for line in _without_thoughts(answer).splitlines()]
    lines = [line for line in lines if line and not line.startswith(_FENCES)]
    text = _description_in_json("\n".join(lines))
    if text is None:
        text = _description_in_lines(lines)
    text = " ".join(text.strip("*_ \t").split())
    # Quotes around the whole text, rather than around words at both of its ends.
    if len(text) > 1 and text[0] == text[-1] and text.count(text[0]) == 2 and text[0] in "\"'`":
        text = text[1:-1].strip()
    if not any(map(str.isalnum, text)):
        raise ValueError("it describes nothing")
    if len(text) > LONGEST:
        raise ValueError(f"it has {len(text)} characters; at most {LONGEST} are a description")
    return visible(text)


def read_flags(answer, n):
    """The n numbers, each 0 or 1, of the last JSON list in an answer."""
    values = _read_list(answer, n)
    if not all(value in (0, 1) for value in values):
        raise ValueError("its list holds something else than 0 and 1")
    return [int(value) for value in values]


def read_levels(answer, n, highest):
    """The n numbers, from 0 to `highest`, of the last JSON list in an answer."""
    values = _read_list(answer, n)
    if not all(isinstance(v, (int, float)) and 0 <= v <= highest for v in values):
        raise ValueError(f"its list holds something else than numbers from 0 to {highest}")
    return [float(value) for value in values]


def read_choice(answer, n):
    """Index, from 0, of the choice among n, where an answer names exactly one number."""
    numbers = set(re.findall(r"\d+", _without_thoughts(answer)))
    if len(numbers) != 1:
        raise ValueError(f"it names {len(numbers)} numbers instead of one")
    number = numbers.pop()
    if len(number) > 9 or not 1 <= int(number) <= n:
        raise ValueError(f"its number is not one from 1 to {n}")
    return int(number) - 1


def marks_thoughts(token):
    """Whether a token is a mark, or part of one, that separates thoughts from the answer."""
    marks = (_THOUGHT_BEGINS, _THOUGHT_ENDS)
    return token in _CHANNEL_MARKS or any(mark.fullmatch(token) for mark in marks)


def _description_in_lines(lines):
    """Text after the last label, on its line or on the next; without a label, the only line."""
    for i in reversed(range(len(lines))):
        if label := _LABEL.match(lines[i]):
            text = label[1].strip("*_\"'` \t")
            return label[1] if text else " ".join(lines[i + 1 : i + 2])
    if len(lines) > 1:
        raise ValueError("it has several lines and none of them begins with EXPLANATION:")
    return " ".join(lines)


def _description_in_json(text):
    """Description in a text that is JSON, or of which a line begins an object; None without."""
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
        labelled = [entries[label] for label in _JSON_LABELS if label in entries]
        if not labelled and len(entries) == 1:
            labelled = list(entries.values())
        if not labelled or not isinstance(labelled[0], str):
            raise ValueError('it is JSON without "explanation"')
        return labelled[0]
    return None


def _read_list(answer, n):
    lists = re.findall(r"\[[^\[\]]*\]", _without_thoughts(answer))
    if not lists:
        raise ValueError("there is no JSON list in it")
    try:
        values = json.loads(lists[-1])
    except (ValueError, RecursionError) as error:
        raise ValueError("its list is not JSON") from error
    if len(values) != n:
        raise ValueError(f"its list has {len(values)} entries instead of {n}")
    return values


def _without_thoughts(answer):
    """An answer from the end of the last thought on, without the marks around it."""
    if not isinstance(answer, str):
        raise ValueError(f"it is a {type(answer).__name__}, not a string")
    # The mark that begins the first thought may be missing: some chat templates write it.
    start = max((mark.end() for mark in _THOUGHT_ENDS.finditer(answer)), default=0)
    if _THOUGHT_BEGINS.search(answer, start):
        raise ValueError("it breaks off within a thought")
    (begin, end), answer = _ANSWER, answer[start:].lstrip()
    if not answer.startswith(begin):  # elsewhere the marks may be what is described
        return answer
    return answer.removeprefix(begin).rpartition(end)[0] or answer.removeprefix(begin)
