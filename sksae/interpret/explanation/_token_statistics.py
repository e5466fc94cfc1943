"""Descriptions of features from token statistics, without a language model."""

import unicodedata
from collections import Counter
from typing import NamedTuple

from sksae._signs import visible
from sksae.interpret.explanation._splitting import split_examples

# Shares of the sum of the activations.
NEARLY_ALL, MOST, MANY, SECOND, SOME = 0.8, 0.6, 0.5, 0.2, 0.12
LONGEST = 24  # characters of a word that are shown


class Firing(NamedTuple):
    """A token that a feature fires on, with its surroundings."""

    token: str  # in lower case, without the spaces around it
    word: str  # the word that the token is a part of
    kind: str
    before: str | None  # the token before the word
    after: str | None  # the token after the word
    frequency: float  # relative to other firings: the inverse size of the part it is drawn from
    weight: float  # frequency times activation


def explain_from_tokens(feature, *, random_state=0):
    """Describe a feature by the tokens it fires on, in a few words.

    The description names the tokens that carry most of the activation, or their kind (numbers,
    capitalised words, line breaks), or the token before or after them where that is more specific.
    Where nothing of this holds for most of the activation, it gives the most frequent tokens and
    those that the feature promotes.

    Parameters
    ----------
    feature : Feature
        The feature.
    random_state : int, default=0
        Seed of :func:`split_examples`: only windows of its first side are used.

    Returns
    -------
    text : str
        The description, on one line.

    Raises
    ------
    ValueError
        If `random_state` is out of range.

    See Also
    --------
    explain : Descriptions of many features, or by a language model.

    Examples
    --------
    >>> import numpy as np
    >>> from sksae.interpret import FeatureAtlas, explain_from_tokens
    >>> words = [word for i in range(6) for word in (f"day {i}:", " river", " bank")]
    >>> table = {"text": np.arange(18) // 3, "string": words}
    >>> atlas = FeatureAtlas().fit(np.eye(3)[np.arange(18) % 3][:, [2]], tokens=table)
    >>> explain_from_tokens(atlas.feature(0))
    '"bank" after "river"'
    """
    explaining, _ = split_examples(feature, random_state=random_state)
    return describe(feature, explaining)


def describe(feature, side):
    """Description of a feature, from the windows of an `ExampleSide`."""
    # Most telling description first: a kind of script or numbers, up to three tokens, a kind.
    firings = _firings(side)
    if not firings:
        return "fires too rarely to tell" if feature.n_active else "never fires"
    text = _of_closed_kind(firings) or _named(firings, feature) or _of_kind(firings)
    if text:
        return text
    before, after = _context(firings, "before"), _context(firings, "after")
    if before or after:
        kind, share = _most_common(firings, "kind")
        return f"{kind if share >= MANY else 'what comes'}{before or after}"
    return _scattered(firings, feature)


def _named(firings, feature):
    """The at most three tokens that carry most of the activation; None if they do not."""
    counts = Counter(firing.token for firing in firings)
    tokens, total = [], 0.0
    for token, share in _shares(firings, "token")[:3]:
        # Later tokens need a larger share once the first ones carry half of the activation.
        # A token that occurs once is chance, unless there are hardly any firings.
        often = counts[token] >= min(2, len(firings) // 3 + 1)
        if often and share >= (SOME if total < MANY else SECOND):
            tokens.append(token)
            total += share
    if total < MANY:
        return None
    named = [firing for firing in firings if firing.token in tokens]
    names = [_name(token, [f for f in named if f.token == token]) for token in tokens]
    names = list(dict.fromkeys(names))
    context = _context(named, "before") or _context(named, "after")
    if not context and not any(len(token) > 2 and token.isalnum() for token in tokens):
        context = _promoted(feature)  # a sign or a letter alone says little
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]])) + context


def _of_closed_kind(firings):
    """Kind of nearly all tokens, where that says more than the names of a few; else None."""
    _, token_share = _shares(firings, "token")[0]
    kind, kind_share = _most_common(firings, "kind")
    if token_share < MANY and kind_share >= NEARLY_ALL and kind in _CLOSED_KINDS:
        return _of_kind(firings)
    return None


def _of_kind(firings):
    """Kind of most tokens, with its context; None if it says too little."""
    kind, share = _most_common(firings, "kind")
    if share < MOST:
        return None
    of_kind = [firing for firing in firings if firing.kind == kind]
    context = _context(of_kind, "before") or _context(of_kind, "after")
    return kind + context if context or kind not in _COMMON_KINDS else None


def _scattered(firings, feature):
    """Examples of the tokens that the feature fires on, and those that it promotes."""
    tokens = [token for token, share in _shares(firings, "token")[:3] if share >= SOME / 3]
    tokens = tokens or [_shares(firings, "token")[0][0]]
    return ", ".join(map(_quoted, tokens)) + " and others" + _promoted(feature)


def _promoted(feature):
    """Words that a feature promotes; the empty string if there are none."""
    # By key, so that no word is given twice; of equal ones the most promoted one.
    promoted = {_key(token): token.strip() for token, _ in reversed(feature.promoted[:8])}
    promoted = [promoted[word] for word in reversed(promoted) if len(word) > 1 and word.isalpha()]
    return f"; says {' or '.join(map(_quoted, promoted[:2]))}" if promoted else ""


def _context(firings, side):
    """Text that names the token before (or after) most of the firings; empty if there is none."""
    neighbour, weight_share = _most_common(firings, side)
    with_it = [firing for firing in firings if getattr(firing, side) == neighbour]
    # Share of the firings themselves; `weight_share` is that of their activations.
    share = sum(f.frequency for f in with_it) / sum(f.frequency for f in firings)
    # Few firings share a neighbour by chance. By frequency as well as by weight, since strong
    # firings do not represent weak ones.
    if neighbour is None or len(with_it) < 3 or min(weight_share, share) < MOST:
        return ""
    return f" {'after' if side == 'before' else 'before'} {_quoted(neighbour)}"


def _most_common(firings, attribute):
    """Value of an attribute with the largest share of the weight, and that share; None is no value.

    The share is of all firings, those without a value included.
    """
    shares = [share for share in _shares(firings, attribute) if share[0] is not None]
    return shares[0] if shares else (None, 0.0)


def _shares(firings, attribute):
    """Values of an attribute with their shares of the weight, the largest first."""
    sums = Counter()
    for firing in firings:
        sums[getattr(firing, attribute)] += firing.weight
    total = sum(sums.values())
    return [(value, weight / total) for value, weight in sums.most_common()]


def _firings(side):
    """Firings of the windows, weighted so that each part from strong to weak counts the same."""
    # From the strongest to the weakest firings.
    parts = [list(part) for part in side.quantiles if part] or [[]]
    sampled_rows = {example.row for part in parts for example in part}
    for example in side.top:
        if example.row not in sampled_rows:
            # The smallest of the parts with its activation: with ties there may be several.
            fitting = [
                part
                for part in parts
                if not part or part[-1].activation <= example.activation <= part[0].activation
            ]
            min(fitting or parts[:1], key=len).append(example)
    # Each part counts the same, however many windows it has.
    return [_firing(example, 1 / len(part)) for part in parts for example in part]


def _firing(example, frequency):
    tokens, peak = example.tokens, example.peak
    start, stop = peak, peak + 1  # of the tokens of the word
    # A token that begins with a space begins a word.
    while start > 0 and _joins(tokens[start - 1], tokens[start]):
        start -= 1
    while stop < len(tokens) and _joins(tokens[stop - 1], tokens[stop]):
        stop += 1
    return Firing(
        token=_key(tokens[peak]),
        word="".join(tokens[start:stop]).strip().casefold(),
        kind=_kind(tokens[peak]),
        before=next((_key(t) for t in reversed(tokens[:start]) if t.strip()), None),
        after=next((_key(t) for t in tokens[stop:] if t.strip()), None),
        frequency=frequency,
        weight=frequency * example.activation,
    )


def _joins(left, right):
    return bool(left and right and left[-1].isalpha() and right[0].isalpha())


def _key(token):
    """Token without case and outer spaces, by which tokens are compared."""
    return token.strip().casefold() or token


_COMMON_KINDS = ("words", "signs")


def _kind(token):
    bare = token.strip()
    if not bare:
        return "line breaks" if "\n" in token else "spaces"
    if bare.isnumeric():
        return "numbers"
    if not any(map(str.isalnum, bare)):
        return "signs"
    # The script is the first word of a character's name in Unicode.
    scripts = {unicodedata.name(c, "").partition(" ")[0] for c in bare if c.isalpha()}
    if len(scripts) == 1 and scripts <= set(_SCRIPTS):
        return _SCRIPTS[scripts.pop()]
    if len(bare) == 1:
        return "single letters"
    if bare.isupper():
        return "words in capitals"
    return "capitalised words" if bare[:1].isupper() else "words"


_SCRIPTS = {
    "ARABIC": "Arabic text",
    "CJK": "Chinese characters",
    "CYRILLIC": "Cyrillic text",
    "DEVANAGARI": "Devanagari text",
    "GREEK": "Greek letters",
    "HANGUL": "Korean text",
    "HEBREW": "Hebrew text",
    "HIRAGANA": "Japanese text",
    "KATAKANA": "Japanese text",
    "THAI": "Thai text",
}
_CLOSED_KINDS = {"numbers", *_SCRIPTS.values()}


def _name(token, firings):
    """A token in quotes, with its word if that is mostly the same one."""
    word, share = _most_common(firings, "word")
    if word == token or not token.isalpha() or share < MOST:
        return _quoted(token)
    return f"{_quoted(token)} in {_quoted(word)}"


def _quoted(token):
    if not token.strip():
        return "a line break" if "\n" in token else "a space"
    shown = visible(token)
    return f'"{shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"}"'
