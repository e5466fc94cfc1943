"""Explanations and features from what Neuronpedia publishes: folders, single files, answers."""

import json
import math
import re

from sksae._files import as_path, regular
from sksae._params import Float, Instance, check_option
from sksae.formats.neuronpedia._lines import read_lines, well_formed
from sksae.formats.neuronpedia._rows import FEATURE

_ENDS = (".jsonl", ".jsonl.gz", ".json", ".json.gz")


def read_neuronpedia(path, *, score=None):
    """Read explanations of features from files of Neuronpedia.

    Takes the folder of a source, as exported by Neuronpedia or written by `write_neuronpedia`; its
    ``explanations`` folder; or a single file. A file holds one row per line, or, if its name ends
    in ``.json``, a list of rows or the answer of Neuronpedia's interface about one feature.

    Of several explanations of a feature the one with the best scores is kept, or else the first.
    Those without any text are left out.

    Parameters
    ----------
    path : str or Path
        The folder or file; files may be compressed with gzip.
    score : str, default=None
        The kind of score to choose by, such as "eleuther_recall". None takes the mean of all.

    Returns
    -------
    explanations : dict of int to Explanation
        By feature, in the order of their numbers. `source` is the model that explained, and
        `scores` have at least a ``"value"``, by the kind of score.

    Raises
    ------
    FileNotFoundError
        If there is no such folder or file, or no explanations in it.
    ValueError
        If a line is not what it should be, or is about another model or source than those before.

    See Also
    --------
    write_neuronpedia : Writes such folders.
    read_neuronpedia_features : Reads what is known about the features.

    References
    ----------
    .. [1] J. Lin, "Neuronpedia: interactive reference and tooling for analyzing neural networks",
       2023. https://www.neuronpedia.org

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from sksae.formats import read_neuronpedia
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder) / "batch-0.jsonl"
    ...     _ = file.write_text('{"index": "7", "description": "days of the week"}')
    ...     explanations = read_neuronpedia(file)
    >>> print(explanations[7])
    days of the week
    """
    from sksae.interpret import Explanation  # for this reader alone: half of `import sksae`

    check_option("score", score, Instance(str, type(None), description="a str or None"))
    best = {}
    for where, row in _rows(path, "explanations"):
        for item in _explanations(row, where):
            feature, text = _feature(item, where), _field(item, "description", str, where)
            if not text.strip():
                continue
            source, scores = _source(item, where), _scores(item, where)
            rank = _rank(scores, score)
            # The first of explanations that are equally good.
            if feature not in best or rank > best[feature][0]:
                best[feature] = rank, text, source, scores
    return {
        feature: Explanation(feature=feature, text=text, source=source, scores=scores)
        for feature, (_, text, source, scores) in sorted(best.items())
    }


def read_neuronpedia_features(path):
    """Read the rows of features from files of Neuronpedia.

    Parameters
    ----------
    path : str or Path
        The folder of a source, its ``features`` folder, or a single file; files may be compressed
        with gzip.

    Returns
    -------
    rows : dict of int to dict
        By feature, in the order of their numbers: the fields as Neuronpedia names them, such as
        ``"frac_nonzero"``, the share of tokens on which a feature fires, ``"maxActApprox"``, its
        largest activation, and ``"pos_str"``, the tokens that it promotes.

    Raises
    ------
    FileNotFoundError
        If there is no such folder or file, or no features in it.
    ValueError
        If a line is not what it should be, or is about another model or source than those before.

    See Also
    --------
    read_neuronpedia : Reads what the features stand for.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from sksae.formats import read_neuronpedia_features
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder) / "batch-0.jsonl"
    ...     _ = file.write_text('{"index": "7", "frac_nonzero": 0.02, "pos_str": [" Monday"]}')
    ...     print(read_neuronpedia_features(file)[7]["pos_str"])
    [' Monday']
    """
    rows = {}
    for where, row in _rows(path, "features"):
        for name, value in row.items():
            _check_kind(name, value, where)
        rows.setdefault(_feature(row, where), row)
    return dict(sorted(rows.items()))


def _rows(path, kind):
    """Yield ``(where, row)`` of all files, as long as they are about one source."""
    first = {}
    for file in _files(as_path(path), kind):
        for where, row in read_lines(file):
            for name in ("modelId", "layer"):
                value = row.get(name)
                if value is not None and first.setdefault(name, value) != value:
                    raise ValueError(
                        f"{where} has {name} {value!r}, those before have {first[name]!r}. Read "
                        f"one source at a time: features of different ones have the same numbers."
                    )
            yield where, row


def _files(path, kind):
    """Return the files of a kind in the order of their numbers."""
    if not path.exists():
        raise FileNotFoundError(f"There is no file or folder {path}.")
    if not path.is_dir():
        return [regular(path)]
    folder = path / kind if (path / kind).is_dir() else path
    files = [
        file
        for file in folder.iterdir()
        if file.is_file() and file.name.endswith(_ENDS) and file.name.startswith("batch-")
    ]
    if not files:
        inside = sorted(path.glob(f"*/*/{kind}"))
        hint = f" Read one source at a time, such as {inside[0].parent}." if inside else ""
        raise FileNotFoundError(f"{path} has no {kind}: no files {kind}/batch-*.jsonl.gz.{hint}")
    return sorted(files, key=_numbers)  # batch-2 before batch-10


def _numbers(file):
    return [int(number) for number in re.findall(r"\d+", file.name)], file.name


def _explanations(row, where):
    """Return the explanations in a row, which is itself one or holds a list of them."""
    if "explanations" not in row:
        return [row]
    items = _field(row, "explanations", list, where)
    return [{"index": row.get("index"), **_object(item, "explanations", where)} for item in items]


def _feature(row, where):
    index = row.get("index")
    text = str(index) if isinstance(index, (str, int)) and not isinstance(index, bool) else ""
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise ValueError(f"{where}: index must be the number of a feature, got {index!r}.")
    return int(text)


def _field(row, name, kind, where):
    value = row.get(name)
    if not isinstance(value, kind):
        words = {str: "a string", list: "a list"}
        raise ValueError(f"{where}: {name} must be {words[kind]}, got {value!r}.")
    return well_formed(value) if kind is str else value


def _object(value, name, where):
    if not isinstance(value, dict):
        raise ValueError(f"{where}: {name} must hold objects, got {value!r}.")
    return value


def _source(item, where):
    """Return who explained: a model, or what `write_neuronpedia` noted."""
    for name in ("explanationModelName", "notes"):
        if item.get(name):
            return _field(item, name, str, where)
    return "neuronpedia"


def _scores(item, where):
    """Return the scores of an explanation by kind, the first of each."""
    scores = {}
    items = [] if item.get("scores") is None else _field(item, "scores", list, where)
    for score in items:
        score = _object(score, "scores", where)
        value = score.get("value")
        if not Float().accepts(value):
            raise ValueError(f"{where}: the value of a score must be a number, got {value!r}.")
        name = _field(score, "explanationScoreTypeName", str, where)
        model = score.get("explanationScoreModelName")
        by = {"model": model} if isinstance(model, str) and model else {}
        scores.setdefault(name, {"value": float(value), **by, **_details(score)})
    return scores


def _details(score):
    """Return what `write_neuronpedia` added to a score; that of others can be anything."""
    try:
        details = json.loads(score.get("jsonDetails") or "null")
    except (TypeError, ValueError, RecursionError):
        return {}
    ours = details.get("sksae") if isinstance(details, dict) else None
    return {k: v for k, v in ours.items() if k != "value"} if isinstance(ours, dict) else {}


def _rank(scores, score):
    values = [s["value"] for name, s in scores.items() if score in (None, name)]
    # Divided first: scores of any size can be in a file, and their sum may overflow.
    # -inf: an explanation without scores comes after all with some.
    return math.fsum(value / len(values) for value in values) if values else -math.inf


def _check_kind(name, value, where):
    """Refuse a value whose JSON type is not that of the field."""
    default = FEATURE.get(name)
    if default is None or value is None or name == "index":
        return
    if isinstance(default, float):
        good, kind = Float().accepts(value), "a number"
    else:
        good = isinstance(value, type(default))
        kind = {str: "a string", bool: "true or false", list: "a list"}[type(default)]
    if not good:
        raise ValueError(f"{where}: {name} must be {kind}, got {value!r}.")
