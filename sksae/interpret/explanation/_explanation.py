"""Explanations of features with their scores, and the file that they are kept in."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sksae._files import digest_of, plain_json, read_json, write_text
from sksae._params import Int, check_option
from sksae._signs import visible

_FORMAT, _VERSION = "sksae explanations", 1
_ENTRIES, _DIGEST = ("format", "version", "explanations"), "digest"
_MARK = " (not clearly better than chance)"
_CHANCES = ("random", "shuffled", "chance")  # baselines of words that say nothing of the feature
CHANCE = 0.5
"""The area under the ROC curve of a rule that knows nothing."""

_TEXTS = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class Explanation:
    """A description of a feature in a few words, with its scores.

    As a string it is those words, on one line and without characters that steer a terminal: they
    may come from a file, or from a language model that has read anybody's text. If they are
    doubted (`is_doubted`), "(not clearly better than chance)" follows.

    Parameters
    ----------
    feature : int
        The column of the codes.
    text : str
        The description.
    source : str, default="hand"
        The origin: "tokens", "texts", "table" or "numbers" for :func:`explain` without a language
        model, the name of a language model, or "hand".
    scores : dict of str to dict, default={}
        The scores of :func:`score_explanations`, by method, and "rule" of :func:`explain`.
    seen : tuple, default=()
        The texts that the description was made from; scores leave them out.

    See Also
    --------
    explain : Makes them.
    score_explanations : Tests them.

    Examples
    --------
    >>> from sksae.interpret import Explanation
    >>> by_hand = Explanation(12, "names of rivers")
    >>> print(by_hand)
    names of rivers
    >>> score = {"value": 0.6, "low": 0.4, "high": 0.8, "baseline": {"random": 0.5}}
    >>> print(Explanation(12, "names of rivers", scores={"detection": score}))
    names of rivers (not clearly better than chance)
    """

    feature: int
    text: str
    source: str = "hand"
    scores: dict = field(default_factory=dict)
    seen: tuple = ()

    def __str__(self):
        return visible(self.text) + (_MARK if self.is_doubted else "")

    @property
    def is_doubted(self):
        """Whether there are scores that chance can be held against, and none is clearly above it.

        A score is clearly above chance if its interval, or without one its value, is above all of
        its baselines "random", "shuffled" and "chance", or the one number that its baseline is;
        "rule" has to be above 0.5.

        Returns
        -------
        is_doubted : bool
            Whether "(not clearly better than chance)" follows the words.
        """
        scores = self.scores if isinstance(self.scores, Mapping) else {}
        # None: this score cannot say.
        verdicts = [_is_above_chance(name, score) for name, score in scores.items()]
        verdicts = [is_above for is_above in verdicts if is_above is not None]
        return bool(verdicts) and not any(verdicts)


def _is_above_chance(name, score):
    """Whether the interval of a score is above chance; None where the score does not say."""
    if not isinstance(score, Mapping):
        return None
    if name == "rule":
        return score.get("low", math.nan) > CHANCE
    baseline = score.get("baseline")
    baseline = baseline if isinstance(baseline, Mapping) else {"chance": baseline}
    # Without an interval the value itself has to be above.
    low = score.get("low")
    low = score.get("value") if low is None else low
    chances = [baseline[key] for key in _CHANCES if isinstance(baseline.get(key), (int, float))]
    if not chances or not isinstance(low, (int, float)) or math.isnan(low):
        return None
    return low > max(chances)


def save_explanations(path, explanations):
    """Write explanations and their scores to a JSON file, whole or not at all.

    A digest in the file tells damage. Whoever changes the file by hand leaves out its line.

    Parameters
    ----------
    path : str or Path
        The file.
    explanations : dict of int to Explanation or str
        By feature, as :func:`explain` returns them.

    Returns
    -------
    path : Path
        The file.

    Raises
    ------
    OSError
        If the file cannot be written.
    TypeError, ValueError
        If these are no explanations by feature.

    See Also
    --------
    load_explanations : Reads them back.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sksae.interpret import Explanation, load_explanations, save_explanations
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_explanations(Path(folder) / "names.json", {3: Explanation(3, "rivers")})
    ...     print(load_explanations(path)[3])
    rivers
    """
    by_feature = sorted(as_explanations(explanations).items())
    lines = [_line(explanation) for _, explanation in by_feature]
    content = {"format": _FORMAT, "version": _VERSION, "explanations": lines}
    content = {_DIGEST: digest_of(content), **content}  # first: its line can be left out
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return Path(path)


def _line(explanation):
    """Return an explanation as a JSON value; an error where it could not be read back."""
    # JSON turns numbers of numpy into others and tuples into lists; what cannot come back is
    # refused.
    feature, scores = int(explanation.feature), explanation.scores
    where = f"The explanation of feature {feature} cannot be saved, because it could not be read"
    line = {
        "feature": feature,
        "text": explanation.text,
        "source": explanation.source,
        "scores": plain_json(scores),
        "seen": plain_json(explanation.seen),
    }
    if not _is_valid(line):
        raise ValueError(
            f"{where} back: text and source must be strings, scores a dict of dicts by method as "
            f"score_explanations returns them, and seen texts or their numbers."
        )
    wrong = {f"the score {name!r}": _unreadable(score, name) for name, score in scores.items()}
    wrong["seen"] = _unreadable_texts(explanation.seen)
    for part, reason in wrong.items():
        if reason:
            raise ValueError(f"{where} back as it is: {part} is wrong, {reason}.")
    return line


def _unreadable_texts(seen):
    """Return what among texts, or their numbers, a JSON file would change; None if nothing."""
    for text in seen:
        reason = None if text is None else _unreadable(text, "it")
        if reason or (isinstance(text, float) and math.isnan(text)):
            return reason or f"it has {text!r}, which is not finite"
    return None


def _unreadable(value, name):
    """Return what in a value a JSON file would change, in words; None if nothing. NaN is kept."""
    if not isinstance(name, str):
        return f"the key {name!r} is a {type(name).__name__} and not a str"
    if isinstance(value, dict):
        return next(filter(None, (_unreadable(v, key) for key, v in value.items())), None)
    if isinstance(value, list):
        return next(filter(None, (_unreadable(v, name) for v in value)), None)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and math.isinf(value):
        return f"{name} has {value!r}, which is not finite"
    if isinstance(value, (str, int, float)):  # bool is an int
        return None
    return f"{name} has a {type(value).__name__}"


def as_explanations(explanations):
    """Dict of `Explanation` by feature, from strings as well; an error where they do not fit."""
    if not isinstance(explanations, Mapping):
        raise TypeError(
            f"explanations must be a dict by feature, as explain returns it. Got "
            f"{type(explanations).__name__} instead."
        )
    by_feature = {}
    for number, explanation in explanations.items():
        check_option("each feature of explanations", number, Int(0))
        if isinstance(explanation, str):
            explanation = Explanation(int(number), explanation)
        if not isinstance(explanation, Explanation) or explanation.feature != number:
            raise ValueError(
                f"explanations[{number}] must be the Explanation of feature {number} or a str. "
                f"Got {explanation!r} instead."
            )
        by_feature[int(number)] = explanation
    return by_feature


def load_explanations(path):
    """Read the explanations that :func:`save_explanations` wrote.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    explanations : dict of int to Explanation
        By feature.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it holds no explanations, is damaged, or was written by a newer version.

    See Also
    --------
    save_explanations : Writes them.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sksae.interpret import Explanation, load_explanations, save_explanations
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_explanations(Path(folder) / "names.json", {3: Explanation(3, "rivers")})
    ...     load_explanations(path)
    {3: Explanation(feature=3, text='rivers', source='hand', scores={}, seen=())}
    """
    content = read_json(path, "is not a file of explanations, or not all of it")
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(f"{path} is JSON, but not a file that save_explanations wrote.")
    if content.get("version") != _VERSION:
        raise ValueError(
            f"{path} has version {content.get('version')!r} of the format; this sksae reads "
            f"version {_VERSION}."
        )
    # A file without a digest was edited by hand, which is allowed.
    if content.pop(_DIGEST, None) not in (None, digest_of(content)):
        raise ValueError(
            f"{path} is damaged, or was changed by hand: then leave out its line {_DIGEST!r}."
        )
    lines = content.get("explanations")
    if not isinstance(lines, list) or len(content) > len(_ENTRIES):
        raise ValueError(f"{path} has no list of explanations, or more than {_ENTRIES}.")
    explanations = {}
    for number, line in enumerate(lines):
        if not _is_valid(line) or line["feature"] in explanations:
            raise ValueError(
                f"Explanation {number} of {path} is damaged, or a second one of its feature."
            )
        # Numbers that are not finite are None in the file, and NaN again here.
        seen, scores = tuple(line["seen"]), _numbers(line["scores"])
        wrong = [_unreadable(score, name) for name, score in scores.items()]
        wrong.append(_unreadable_texts(seen))
        if any(wrong):
            raise ValueError(
                f"Explanation {number} of {path}, of feature {line['feature']}, is damaged: "
                f"{next(filter(None, wrong))}."
            )
        explanations[line["feature"]] = Explanation(
            line["feature"], line["text"], line["source"], scores, seen
        )
    return explanations


def _is_valid(line):
    return (
        isinstance(line, dict)
        and type(line.get("feature")) is int
        and line["feature"] >= 0
        and isinstance(line.get("text"), str)
        and isinstance(line.get("source"), str)
        and isinstance(line.get("scores"), dict)
        and all(isinstance(score, dict) for score in line["scores"].values())
        and isinstance(line.get("seen"), list)
        and all(isinstance(text, _TEXTS) for text in line["seen"])
    )


def _numbers(value):
    """Scores with NaN for None, the inverse of `plain_json`."""
    if isinstance(value, dict):
        return {name: _numbers(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_numbers(inner) for inner in value]
    return math.nan if value is None else value
