"""Annotation of texts by words, as a language model or a rule reads them: a flag for each text."""

import re
from collections.abc import Sequence

import numpy as np
from scipy import sparse

from sksae._params import Float, Int, Pair, check_option
from sksae.interpret.explanation._client_calls import (
    ask,
    check_client,
    warn_of_failures,
    warn_of_unread,
)
from sksae.interpret.explanation._cost import FRAME, n_tokens
from sksae.interpret.explanation._explanation import as_explanations
from sksae.interpret.explanation._explanation_prompts import detect_messages, plain, read_flags

_TOKENS_PER_ANSWER, _TOKENS_PER_PIECE = 2, 2

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


def annotate(
    texts,
    explanations,
    client=None,
    *,
    per_question=5,
    max_characters=4000,
    max_concurrency=4,
    verbose=0,
):
    """Decide for each text whether each explanation applies to it.

    With a client, a language model reads the texts, a few per question. Without one, explanations
    from words and token statistics are rules that are applied as they are: ``"bank" after "river"``
    holds of a text in which these words follow each other. Letters are compared without case.

    Parameters
    ----------
    texts : sequence of str
        The texts; no one that an explanation was made from, if it is to be tested.
    explanations : dict of int to (Explanation or str)
        By feature, as :func:`explain` returns them. Equal words are asked about once.
    client : object, default=None
        An object with ``complete(messages)`` that returns a string. With a :class:`CachedClient`
        no question is asked twice, and an interrupted call goes on where it was.
    per_question : int, default=5
        Texts per question.
    max_characters : int, default=4000
        Length of the pieces that longer texts are cut into. A text has what one of its pieces has.
    max_concurrency : int, default=4
        The largest number of questions at the same time. The result does not depend on it.
    verbose : int, default=0
        Whether to show how many questions are answered.

    Returns
    -------
    annotations : csr_array of shape (n_texts, n_explanations)
        1 where the text has it, NaN where no answer tells, and no entry where it has not; columns
        in the order of `explanations`.

    Raises
    ------
    TypeError
        If `client` cannot be asked, or the texts are no strings.
    ValueError
        If an explanation is no rule and there is no client.
    RuntimeError
        If no question got an answer.

    Warns
    -----
    UserWarning
        If some questions got no answer, or answers cannot be read.

    See Also
    --------
    estimate_annotation_cost : How many questions this will be.
    validate : Tests whether what the words say goes along with a target.

    Examples
    --------
    >>> from sksae.interpret import annotate
    >>> texts = ["The cat purrs.", "Stocks fell.", "Cats and stocks."]
    >>> annotate(texts, {4: '"cat" or "cats"', 7: '"stocks"'}).toarray()
    array([[1., 0.],
           [0., 1.],
           [1., 1.]])
    """
    texts, explanations = checked_texts(texts), as_explanations(explanations)
    check_option("per_question", per_question, Int(1))
    check_option("max_characters", max_characters, Int(1))
    if client is None:
        return _by_rules(texts, explanations)
    check_client(client)
    questions = _Questions(texts, explanations, per_question, max_characters)
    answers = ask(
        client, questions, max_concurrency=max_concurrency, verbose=verbose, name="annotate"
    )
    if len(questions):
        warn_of_failures(answers, stacklevel=3)
    return questions.annotations(answers)


def estimate_annotation_cost(
    texts,
    explanations,
    *,
    price_per_million=(0.0, 0.0),
    per_question=5,
    max_characters=4000,
    count_tokens=None,
):
    """Estimate how many questions :func:`annotate` will ask, and what they cost.

    Parameters
    ----------
    texts : sequence of str
        The texts.
    explanations : dict of int to (Explanation or str)
        By feature.
    price_per_million : tuple of two float, default=(0.0, 0.0)
        The price of a million tokens that are sent, and of a million that come back.
    per_question : int, default=5
        As for :func:`annotate`.
    max_characters : int, default=4000
        As for :func:`annotate`.
    count_tokens : callable, default=None
        Maps a str to its number of tokens. None counts one token per four bytes of UTF-8.

    Returns
    -------
    cost : dict
        `calls`, `tokens_in`, `tokens_out` and `price`.

    Raises
    ------
    ValueError
        If an option is out of range.

    See Also
    --------
    annotate : Asks the questions.
    estimate_cost : The same for explanations and their scores.

    Notes
    -----
    Tokens out are those of the shortest good answers; a reasoning model takes many times that.
    Neither retries nor answers from a cache are considered.

    Examples
    --------
    >>> from sksae.interpret import estimate_annotation_cost
    >>> cost = estimate_annotation_cost(["a text"] * 100, {3: "rivers", 5: "lakes", 8: "lakes"})
    >>> cost["calls"]
    40
    """
    texts, explanations = checked_texts(texts), as_explanations(explanations)
    check_option("per_question", per_question, Int(1))
    check_option("max_characters", max_characters, Int(1))
    check_option("price_per_million", price_per_million, Pair(Float(0)))
    questions = _Questions(texts, explanations, per_question, max_characters)
    calls, tokens_in = len(questions), 0
    if calls:
        # Questions differ in their description and their lines only.
        of_lines = sum(n_tokens(line, count_tokens) for line in questions.lines)
        frame = sum(n_tokens(m["content"], count_tokens) for m in detect_messages("", [""]))
        of_descriptions = sum(n_tokens(text, count_tokens) for text in questions.descriptions)
        tokens_in = len(questions.descriptions) * of_lines + calls * (frame + FRAME)
        tokens_in += questions.n_parts * of_descriptions
    pieces = len(questions.descriptions) * len(questions.lines)
    tokens_out = calls * _TOKENS_PER_ANSWER + pieces * _TOKENS_PER_PIECE
    price = (tokens_in * price_per_million[0] + tokens_out * price_per_million[1]) / 1e6
    return {"calls": calls, "tokens_in": tokens_in, "tokens_out": tokens_out, "price": price}


def checked_texts(texts):
    """Return texts as a list; a TypeError if they are not strings."""
    if isinstance(texts, str):
        raise TypeError("texts is one str; a sequence of them is needed.")
    texts = list(texts)
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"texts[{number}] must be a str. Got {type(text).__name__} instead.")
    return texts


def _by_rules(texts, explanations):
    columns = []
    for number, explanation in explanations.items():
        rule = rule_of(explanation.text)
        if rule is None:
            raise ValueError(
                f"The explanation of feature {number} is no rule of words, {explanation.text!r}; "
                f"pass a client that can read it."
            )
        columns.append(np.array([rule.search(text) is not None for text in texts], dtype=float))
    return _as_sparse(columns, len(texts))


def _as_sparse(columns, n_texts):
    columns = [sparse.coo_array(column[:, None]) for column in columns]
    return sparse.hstack(columns, "csr") if columns else sparse.csr_array((n_texts, 0))


class _Questions(Sequence):
    """Questions about some pieces of texts each, which are written as they are asked."""

    def __init__(self, texts, explanations, per_question, max_characters):
        pieces = [_pieces(text, max_characters) for text in texts]
        # Text of each piece, (n_lines,).
        self.text_of_line = np.repeat(np.arange(len(texts)), [len(part) for part in pieces])
        self.lines = [plain(piece) for part in pieces for piece in part]
        positions = {}  # of different words, from the first explanation that has them
        for explanation in explanations.values():
            positions.setdefault(explanation.text, len(positions))
        self.descriptions = list(positions)
        # Position of the words of each explanation.
        self.description_of = [positions[words.text] for words in explanations.values()]
        # Of explanations with the same words, the first one stands for all in warnings.
        self.numbers = [
            list(explanations)[self.description_of.index(i)] for i in positions.values()
        ]
        self.n_texts = len(texts)
        self.step = per_question
        self.n_parts = -(-len(self.lines) // per_question)  # questions about the same words

    def __len__(self):
        return len(self.descriptions) * self.n_parts

    def __getitem__(self, index):
        """The messages of a question."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        # Questions are ordered by description, then by part of the lines.
        column, part = divmod(index, self.n_parts)
        return detect_messages(self.descriptions[column], self.lines[self._of(part)])

    def _of(self, part):
        return slice(part * self.step, (part + 1) * self.step)

    def annotations(self, answers):
        """Return the answers as a sparse array; what applies to a piece applies to its text."""
        parsed = [self._flags(index, answer) for index, answer in enumerate(answers)]
        methods = [(self.numbers[i // self.n_parts], "annotation", False) for i in range(len(self))]
        warn_of_unread(methods, answers, parsed)
        columns = []
        for column in range(len(self.numbers)):
            flags = parsed[column * self.n_parts : (column + 1) * self.n_parts]
            lengths = [len(self.lines[self._of(part)]) for part in range(self.n_parts)]
            values = np.concatenate(
                [
                    np.full(length, np.nan) if flag is None else np.array(flag, dtype=float)
                    for flag, length in zip(flags, lengths, strict=True)
                ]
                or [np.zeros(0)]
            )
            columns.append(self._of_texts(values))
        return _as_sparse([columns[i] for i in self.description_of], self.n_texts)

    def _of_texts(self, values):
        has, unknown = np.zeros((2, self.n_texts), dtype=bool)
        # One piece that has it is enough; else one piece without an answer leaves the text unknown.
        np.logical_or.at(has, self.text_of_line, values == 1)
        np.logical_or.at(unknown, self.text_of_line, np.isnan(values))
        return np.where(has, 1.0, np.where(unknown, np.nan, 0.0))

    def _flags(self, index, answer):
        """Return what an answer says of each piece; None if it cannot be read or did not come."""
        if isinstance(answer, Exception):
            return None
        try:
            return read_flags(answer, len(self.lines[self._of(index % self.n_parts)]))
        except ValueError:
            return None


def _pieces(text, max_characters):
    """Return a text in pieces of at most some characters, cut at white space where there is."""
    pieces = []
    while len(text) > max_characters:
        # At the last space of the second half, or in the middle of a word where there is none.
        cut = max(text.rfind(" ", max_characters // 2, max_characters), 0) or max_characters
        pieces.append(text[:cut])
        text = text[cut:]
    return [*pieces, text]


def rule_of(text):
    """Return the rule that a description is, as a compiled pattern; None if it is prose.

    Examples
    --------
    >>> from sksae.interpret.statements._annotation import rule_of
    >>> rule = rule_of('"bank" after "river"')
    >>> [rule.search(text) is not None for text in ("The river bank.", "The bank.")]
    [True, False]
    >>> rule_of("names of rivers") is None
    True
    """
    match = _RULE.fullmatch(text)
    if match is None:
        return None
    names = match["names"]
    pattern = _KINDS.get(names)
    if pattern is None:
        parts = [_of_name(name) for name in re.findall(_NAME, names)]
        pattern = f"(?:{'|'.join(parts)})"
    if match["neighbour"]:
        # The neighbour is a token: where it ends a word, something stands between.
        neighbour = _of_thing(match["neighbour"])
        parts = [neighbour, pattern] if match["side"] == "after" else [pattern, neighbour]
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
