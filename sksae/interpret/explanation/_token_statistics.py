"""A description without a language model: what a feature fires on, after what, before what."""

import unicodedata
from collections import Counter
from typing import NamedTuple

from sksae._signs import visible
from sksae.interpret.explanation._splitting import split_examples

NEARLY_ALL, MOST, MANY, SECOND, SOME = 0.8, 0.6, 0.5, 0.2, 0.12  # of the sum of the activations
LONGEST = 24  # characters of a word that are shown


class Place(NamedTuple):
    """What stands around the piece that a feature fires on."""

    piece: str
    word: str  # the word that the piece is a part of
    kind: str | None
    before: str | None  # the word or sign before, and after
    after: str | None
    firings: float  # how many it stands for, in some unit
    weight: float  # times the activation


def explain_from_tokens(feature, *, random_state=0):
    """Describe a feature by what it fires on, in a few words and without a language model.

    The words name the pieces of text that most of the activation falls on, or the kind of piece
    (numbers, capitalised words, line breaks), or what comes before or after where that says
    more; where nothing of this holds for most of the activation, what the feature fires on most
    and what it promotes.

    Parameters
    ----------
    feature : Feature
        The feature.
    random_state : int, default=0
        Seed of :func:`split_examples`: only windows to explain from are looked at.

    Returns
    -------
    text : str
        The words, on one line.

    Raises
    ------
    ValueError
        If `random_state` is out of range.

    See Also
    --------
    explain : The same for many features, or by a language model.

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
    """Return the words for a feature, from the windows of an `ExampleSide`."""
    places = _places(side)
    if not places:
        return "fires too rarely to tell" if feature.n_active else "never fires"
    text = _of_one_kind(places) or _named(places, feature) or _of_a_kind(places)
    if text:
        return text
    before, after = _context(places, "before"), _context(places, "after")
    if before or after:
        kind = _main(places, "kind")
        what = kind[0] if kind and kind[1] >= MANY else "what comes"
        return f"{what}{before or after}"
    return _scattered(places, feature)


def _named(places, feature):
    """Return the pieces that most of the activation falls on, at most three of them."""
    counts = Counter(place.piece for place in places)
    pieces, total = [], 0.0
    for piece, share in _shares(places, "piece")[:3]:
        # Once is chance, unless there is hardly more to see.
        often = counts[piece] >= min(2, len(places) // 3 + 1)
        if often and share >= (SOME if total < MANY else SECOND):
            pieces.append(piece)
            total += share
    if total < MANY:
        return None
    mine = [place for place in places if place.piece in pieces]
    names = [_name(piece, [p for p in mine if p.piece == piece]) for piece in pieces]
    names = list(dict.fromkeys(names))
    context = _context(mine, "before") or _context(mine, "after")
    if not context and not any(len(piece) > 2 and piece.isalnum() for piece in pieces):
        context = _says(feature)  # a sign or a letter alone says little
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]])) + context


def _of_one_kind(places):
    """Return the kind of nearly all pieces, where that says more than to name a few of them."""
    _, share = _shares(places, "piece")[0]
    kind = _main(places, "kind")
    if share < MANY and kind and kind[1] >= NEARLY_ALL and kind[0] in _CLOSED_KINDS:
        return _of_a_kind(places)
    return None


def _of_a_kind(places):
    kind = _main(places, "kind")
    if kind is None or kind[1] < MOST:
        return None
    mine = [place for place in places if place.kind == kind[0]]
    context = _context(mine, "before") or _context(mine, "after")
    if context or kind[0] not in _COMMON_KINDS:
        return kind[0] + context
    return None


def _scattered(places, feature):
    """Return examples of what the feature fires on, and what it promotes."""
    words = [piece for piece, share in _shares(places, "piece")[:3] if share >= SOME / 3]
    words = words or [_shares(places, "piece")[0][0]]
    return ", ".join(_quoted(word) for word in words) + " and others" + _says(feature)


def _says(feature):
    """Return the words that a feature promotes; the empty string if there are none."""
    promoted = {_key(token): token.strip() for token, _ in reversed(feature.promoted[:8])}
    promoted = [promoted[word] for word in reversed(promoted) if len(word) > 1 and word.isalpha()]
    return f"; says {' or '.join(map(_quoted, promoted[:2]))}" if promoted else ""


def _context(places, side):
    """Return what most of the places have on one side, as words; the empty string if nothing."""
    found = _main(places, side)
    if found is None:
        return ""
    mine = [place for place in places if getattr(place, side) == found[0]]
    share = sum(place.firings for place in mine) / sum(place.firings for place in places)
    # Few places share a word by chance, and strong ones are not to speak for weak ones.
    if len(mine) < 3 or min(found[1], share) < MOST:
        return ""
    return f" {'after' if side == 'before' else 'before'} {_quoted(found[0])}"


def _main(places, attribute):
    shares = _shares([p for p in places if getattr(p, attribute) is not None], attribute)
    if not shares:
        return None
    total = sum(place.weight for place in places)
    name, _ = shares[0]
    return name, sum(p.weight for p in places if getattr(p, attribute) == name) / total


def _shares(places, attribute):
    """Return the different values and their shares of the weight, the largest first."""
    sums = Counter()
    for place in places:
        sums[getattr(place, attribute)] += place.weight
    total = sum(sums.values())
    return [(name, value / total) for name, value in sums.most_common()]


def _places(side):
    """Return where the feature fires; parts from strong to weak have the same number of firings."""
    parts = [list(part) for part in side.quantiles if part] or [[]]
    known = {e.row for part in parts for e in part}
    for example in side.top:
        if example.row not in known:
            # Of the parts that it can belong to, the smallest: equal activations are everywhere.
            able = [
                p
                for p in parts
                if not p or p[-1].activation <= example.activation <= p[0].activation
            ]
            min(able or parts[:1], key=len).append(example)
    return [_place(e, 1 / len(part)) for part in parts for e in part]


def _place(example, firings):
    tokens, peak = example.tokens, example.peak
    begin, end = peak, peak + 1
    # A piece that begins with a space begins a word.
    while begin > 0 and _joins(tokens[begin - 1], tokens[begin]):
        begin -= 1
    while end < len(tokens) and _joins(tokens[end - 1], tokens[end]):
        end += 1
    weight = firings * example.activation
    piece, word = _key(tokens[peak]), "".join(tokens[begin:end]).strip().casefold()
    before = next((_key(t) for t in reversed(tokens[:begin]) if t.strip()), None)
    after = next((_key(t) for t in tokens[end:] if t.strip()), None)
    return Place(piece, word, _kind(tokens[peak], piece), before, after, firings, weight)


def _joins(left, right):
    return bool(left and right and left[-1].isalpha() and right[0].isalpha())


def _key(token):
    """Return what makes two pieces the same: neither case nor the spaces around them."""
    return token.strip().casefold() or token


_COMMON_KINDS = ("words", "signs")


def _kind(token, piece):
    bare = token.strip()
    if not bare:
        return "line breaks" if "\n" in token else "spaces"
    if bare.isnumeric():
        return "numbers"
    if not any(map(str.isalnum, bare)):
        return "signs"
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


def _name(piece, places):
    """Return a piece in quotes, within its word if that is nearly always the same one."""
    word = _main(places, "word")
    if word is None or word[0] == piece or not piece.isalpha():
        return _quoted(piece)
    return f"{_quoted(piece)} in {_quoted(word[0])}" if word[1] >= MOST else _quoted(piece)


def _quoted(word):
    if not word.strip():
        return "a line break" if "\n" in word else "a space"
    word = visible(word)
    return f'"{word if len(word) <= LONGEST else word[: LONGEST - 1] + "…"}"'
