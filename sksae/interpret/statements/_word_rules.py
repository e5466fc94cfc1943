"""Descriptions from token statistics and words, read as rules that texts obey or not."""

import re

# What is quoted ends where a word of the sentence may follow: it may be a quotation mark itself.
_QUOTED = r'"(?s:.+?)"(?=$|[ ,;])'
_THING = rf"(?:{_QUOTED}|a line break|a space)"
_KINDS = {
    "numbers": r"\d+",
    "words": r"\w+",
    "signs": r"[^\w\s]+",
    "spaces": " ",
    "line breaks": r"\n",
    "single letters": r"\b[^\W\d_]\b",
    "words in capitals": r"\b[A-ZÀ-ÖØ-Þ]{2,}\b",
    "capitalised words": r"\b[A-ZÀ-ÖØ-Þ]\w*",
    "what comes": r"\S+",
    "Arabic text": "[\u0600-\u06ff]+",
    "Chinese characters": "[\u4e00-\u9fff]+",
    "Cyrillic text": "[\u0400-\u04ff]+",
    "Devanagari text": "[\u0900-\u097f]+",
    "Greek letters": "[\u0370-\u03ff]+",
    "Korean text": "[\uac00-\ud7a3\u1100-\u11ff]+",
    "Hebrew text": "[\u0590-\u05ff]+",
    "Japanese text": "[\u3040-\u30ff]+",
    "Thai text": "[\u0e00-\u0e7f]+",
}
_SPACES = {"a line break": r"\n", "a space": " "}
# One thing, or a thing within a word; several of them; what stands before or after them.
_NAME = rf"{_THING}(?: in {_QUOTED})?"
_RULE = re.compile(
    rf"(?P<names>{_NAME}(?:(?:, | or ){_NAME})*|{'|'.join(_KINDS)})"
    rf"(?: (?P<side>after|before) (?P<neighbour>{_THING}))?(?: and others)?(?:; says .*)?"
)


def rule_of(text):
    """Return the rule that a description is, as a compiled pattern; None if it is prose.

    Examples
    --------
    >>> from sksae.interpret.statements._word_rules import rule_of
    >>> rule = rule_of('"bank" after "river"')
    >>> [rule.search(text) is not None for text in ("The river bank.", "The bank.")]
    [True, False]
    >>> rule_of("names of rivers") is None
    True
    """
    found = _RULE.fullmatch(text)
    if found is None:
        return None
    names = found["names"]
    pattern = _KINDS.get(names)
    if pattern is None:
        parts = [_of_name(name) for name in re.findall(_NAME, names)]
        pattern = f"(?:{'|'.join(parts)})"
    if found["neighbour"]:
        # The neighbour is a token: where it ends a word, something stands between.
        neighbour = _of_thing(found["neighbour"])
        parts = [neighbour, pattern] if found["side"] == "after" else [pattern, neighbour]
        pattern = r"\s*".join(parts)
    return re.compile(pattern)


def _of_name(name):
    """Return the pattern of a thing, or of the word that it stands in."""
    things = re.findall(_THING, name)
    return _of_thing(things[-1])


def _of_thing(thing):
    if thing in _SPACES:
        return _SPACES[thing]
    word = thing[1:-1]
    cut = word.endswith("…")
    pattern = re.escape(word.removesuffix("…") if cut else word)
    # Words of letters with spaces between them are whole; others, such as Korean ones, are not.
    if word[:1].isascii() and re.match(r"\w", word):
        pattern = rf"(?<!\w){pattern}"
    if not cut and word[-1:].isascii() and re.match(r"\w", word[-1:]):
        pattern = rf"{pattern}(?!\w)"
    return f"(?i:{pattern})"
