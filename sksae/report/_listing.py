"""Data of a page about all features: list, histogram, map, prompts and features to start with."""

import math
from collections.abc import Mapping

import numpy as np

from sksae._coding import as_csr
from sksae._signs import visible
from sksae.interpret import Explanation
from sksae.report._parts import rounded, scores_of

BINS_PER_DECADE = 4
N_TOKENS, N_STARTERS = 5, 8
MIN_ACTIVE, MIN_TEXTS, MAX_TIMES_MEAN_DENSITY = 20, 5, 2  # of features to start with
MAP_STEPS = 1000


class Listing:
    """Lines of the list, one per feature, as columns.

    Parameters
    ----------
    explanations : dict of int to object
        Explanations of some features; `str` of them is shown.
    pictures : Pictures, default=None
        The images of the page, where the examples are images.
    """

    def __init__(self, explanations, pictures=None):
        self.explanations, self.pictures = explanations, pictures
        self.flags = []  # names, in the order of their first features; lines hold their indices
        self.columns = {
            name: []
            for name in (
                *("feature", "label", "tokens", "density", "largest", "score", "doubted", "flags"),
                *(() if pictures is None else ("crops",)),
            )
        }
        self.score_names = {}
        self._focus = []

    def add(self, feature):
        """Add the line of a `Feature`."""
        explanation = self.explanations.get(feature.feature)
        score = next(iter(scores_of(explanation)), {"name": None, "value": None})
        if score["name"] is not None:
            self.score_names.setdefault(score["name"])
        self.flags += [flag for flag in feature.flags if flag not in self.flags]
        line = {
            "feature": int(feature.feature),
            "label": visible(str(explanation)).strip() if explanation is not None else None,
            "tokens": [visible(token) for token, _ in feature.top_tokens[:N_TOKENS]],
            "density": rounded(feature.density),
            "largest": rounded(feature.max_activation),
            "score": score["value"],
            "doubted": int(_is_doubted(explanation)),
            "flags": [self.flags.index(flag) for flag in feature.flags],
        }
        if self.pictures is not None:
            line["crops"] = self.pictures.crops(feature.examples)
        for name, value in line.items():
            self.columns[name].append(value)
        self._focus.append(_focus(feature, self.pictures is not None))

    def starters(self, density):
        """Return features to start with: without flags, and with different main tokens.

        Parameters
        ----------
        density : ndarray of shape (n_components,)
            Share of the rows on which each feature fires, for all features.

        Returns
        -------
        features : list of int
            The best first.
        """
        usual = MAX_TIMES_MEAN_DENSITY * density.mean() if len(density) else 0
        chosen, chosen_words = [], set()
        for line in np.argsort(-np.array(self._focus), kind="stable").tolist():
            words = {_word(token) for token in self.columns["tokens"][line][:2]}
            words = words if self.pictures is None else set()  # places, which tell nothing
            is_dense = self.columns["density"][line] > usual
            if self._focus[line] <= 0 or is_dense or words & chosen_words:
                continue
            chosen.append(self.columns["feature"][line])
            chosen_words |= words
            if len(chosen) == N_STARTERS:
                break
        return chosen


def _is_doubted(explanation):
    """Whether the scores of an explanation, of any class, leave its words in doubt."""
    scores = getattr(explanation, "scores", None) or {}
    return Explanation(0, str(explanation), scores=scores).is_doubted


def _focus(feature, on_images):
    """Return the concentration of a feature on few words; 0 if it fires too rarely.

    Of a feature of images, it is its largest activation: there are no words.
    """
    frequent = feature.n_active >= MIN_ACTIVE and feature.n_texts >= MIN_TEXTS
    if feature.flags or not frequent or not feature.examples:
        return 0.0
    if on_images:
        return feature.max_activation
    shares = {}
    for token, share in feature.top_tokens:
        shares[_word(token)] = shares.get(_word(token), 0) + share
    readable = (share**2 for word, share in shares.items() if _is_telling(word))
    # Features of punctuation and of word pieces are hard to interpret: they come last.
    return sum(readable) + 1e-3 * sum(share**2 for share in shares.values())


def _is_telling(word):
    return word.isalpha() and len(word) >= (4 if word.isascii() else 2)


def _word(token):
    return token.strip().casefold()


def density_bins(density, n_rows):
    """Return the histogram of ``log10(density)`` that the page draws.

    Parameters
    ----------
    density : ndarray of shape (n_components,)
        Share of the rows on which each feature fires.
    n_rows : int
        Number of rows; the axis begins at ``1 / n_rows``.

    Returns
    -------
    bins : dict
        `decades` below a share of 1, `per_decade` bins each, their `counts` from low to high, how
        many never fire (`dead`), the `median` of the others and `n_rows`.
    """
    decades = max(1, math.ceil(math.log10(max(n_rows, 2))))
    alive = density[density > 0]
    edges = np.linspace(-decades, 0, decades * BINS_PER_DECADE + 1)
    # A density of 1 belongs to the last bin, rounding never pushes 1 / n_rows out of the first.
    counts = np.histogram(np.clip(np.log10(alive), -decades, 0), edges)[0]
    return {
        "decades": decades,
        "per_decade": BINS_PER_DECADE,
        "counts": counts.tolist(),
        "dead": int(len(density) - len(alive)),
        "median": rounded(np.median(alive)) if len(alive) else None,
        "n_rows": int(n_rows),
    }


def map_places(places):
    """Return the features' coordinates on the map, in thousandths of its side, or None."""
    if places is None or not len(places):
        return None
    places = np.asarray(places, dtype=np.float64)
    low, high = places.min(axis=0), places.max(axis=0)
    side = max(float((high - low).max()), np.finfo(float).tiny)
    inside = (places - (low + high) / 2) / side + 0.5
    return np.rint(inside * MAP_STEPS).astype(int).T.tolist()


def prompt_lines(prompt):
    """Return the data of a `PromptCodes` on the page: its tokens and its non-zero codes."""
    codes = as_csr(prompt.codes).tocoo()
    codes.eliminate_zeros()
    return {
        "text": visible(prompt.text),
        "tokens": [visible(token) for token in prompt.tokens],
        "token": codes.row.tolist(),
        "feature": codes.col.tolist(),
        "value": list(map(rounded, codes.data.tolist())),
    }


def fact_lines(facts):
    """Return one (name, value) line per fact that is not None; a dict becomes one value."""
    lines = []
    for name, value in facts.items():
        if value is None:
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{key}: {entry}" for key, entry in value.items())
        lines.append([visible(str(name)), visible(str(value))])
    return lines


def table_cells(table):
    """Return the lines of a table as visible strings, the names of its columns first."""
    if hasattr(table, "columns"):
        raise TypeError("table must be a list of dict; that of a data frame is to_dict('records').")
    table = list(table)
    for line in table:
        if not isinstance(line, Mapping) or set(line) != set(table[0]):
            raise ValueError(f"table must be dicts with the same keys. Got the line {line!r}.")
    if not table:
        return []
    lines = [list(table[0]), *([line[name] for name in table[0]] for line in table)]
    return [[visible(str(cell)) for cell in line] for line in lines]
