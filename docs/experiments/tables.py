"""How the defaults for ordinary tables were chosen: the tables of ``docs/defaults.md``.

Run as ``python docs/experiments/tables.py --results results.jsonl``, which goes on where it was
stopped; ``--data digits wine`` takes some of the data sets, ``--quick`` a few settings, and
``--table`` prints what the file has. Every setting is a `TopKSAE` of the same `k`, fitted to 70 %
of the rows; the score is the explained variance of the other 30 %. All settings are tried on the
split of seed 0, and the default and the best three again on five other splits: the best of many
noisy numbers is too good. Seconds are those of the process, on one thread.
"""

import argparse
import json
import time
import warnings
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_sample_images,
    load_wine,
)
from sklearn.feature_extraction.image import extract_patches_2d
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from sksae import ActivationExtractor, TopKSAE
from sksae.datasets import TINY_LM_PATH, load_corpus, make_superposition

DEFAULT = "default"
WIDTHS = (0.5, 1, 2, 4, 8)
PASSES = (15, 30, 100, 300, 1000)
BATCHES = (32, 128, 512)  # 512 with a single code per row
RATES = (2e-3, 6e-3)
MIN_STEPS, MAX_STEPS = 100, 2600  # settings of other numbers of steps are left out
MAX_ENTRIES = 1.2e10  # so are those of more multiplications, in units of a row and a weight
QUICK = 4  # settings that --quick tries
CONFIRMED = 3  # settings that are tried on the other splits


@cache
def activations():
    """Return the activations of the packaged language model, and the document of each."""
    extractor = ActivationExtractor(TINY_LM_PATH, layer=3)
    X, tokens = extractor.extract(load_corpus().data)
    return np.asarray(X, dtype=np.float32), np.asarray(tokens.text)


def tokens(n_rows):
    """Return a function that draws some of the activations."""

    def load():
        X, _ = activations()
        return X[np.random.default_rng(0).permutation(len(X))[:n_rows]]

    return load


def pooled():
    """Return the mean activation of every document."""
    X, document = activations()
    return np.array([X[document == number].mean(0) for number in np.unique(document)])


def patches():
    """Return patches of 8 x 8 pixels in three colours."""
    images = [
        extract_patches_2d(image / 255, (8, 8), max_patches=1500, random_state=0)
        for image in load_sample_images().images
    ]
    return np.concatenate(images).reshape(3000, -1)


def standardised(load):
    """Return a function that loads and standardises a data set of scikit-learn."""
    return lambda: StandardScaler().fit_transform(load().data)


def superposition(n_rows, n_features, n_directions, n_active):
    """Return a function that draws rows in which about `n_active` directions are active."""
    return lambda: make_superposition(
        n_rows, n_features, n_directions, density=n_active / n_directions, random_state=0
    )[0]


DATA = {
    "wine": (standardised(load_wine), 1),
    "diabetes": (standardised(load_diabetes), 1),
    "breast_cancer": (standardised(load_breast_cancer), 3),
    "digits": (standardised(load_digits), 8),
    "patches": (patches, 8),
    "superposition 2860": (superposition(2860, 32, 64, 4), 4),
    "superposition 28600": (superposition(28_600, 64, 192, 6), 6),
    "pooled": (pooled, 8),
    "tokens 430": (tokens(430), 8),
    "tokens 2860": (tokens(2860), 8),
    "tokens 28600": (tokens(28_600), 16),
}
"""Rows and the number of codes per row, by name."""


@cache
def rows(name):
    """Return all rows of a data set."""
    load, _ = DATA[name]
    return load().astype(np.float32)


def split(name, seed=0):
    """Return rows to fit and rows to score."""
    return train_test_split(rows(name), test_size=0.3, random_state=seed)


def settings(name, *, quick=False):
    """Return the default, and the settings of the grid that are not too long for the data."""
    X, _ = split(name)
    batches = BATCHES if DATA[name][1] == 1 and len(X) > BATCHES[1] else BATCHES[:2]
    grid = [DEFAULT]
    for width, passes, batch, rate in product(WIDTHS, PASSES, batches, RATES):
        m = round(width * X.shape[1])
        n_steps = passes * -(-len(X) // batch)
        is_short = n_steps <= MAX_STEPS and passes * X.size * m <= MAX_ENTRIES
        if n_steps >= MIN_STEPS and is_short:
            grid.append(
                {"n_components": m, "max_iter": passes, "batch_size": batch, "learning_rate": rate}
            )
    return grid[: QUICK + 1] if quick else grid


def measure(name, setting, seed=0, make=TopKSAE):
    """Return what one fit gives, to the rows of the split of `seed`."""
    X, held_out = split(name, seed)
    parameters = {} if setting == DEFAULT else setting
    sae = make(k=DATA[name][1], random_state=seed, **parameters)
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of more latents than rows
        sae.fit(X)
    seconds = time.process_time() - start
    return {
        "data": name,
        "setting": setting,
        "seed": seed,
        "held_out": sae.score(held_out),
        "training": sae.score(X),
        "seconds": seconds,
        "n_components": sae.n_components_,
        "n_steps": sae.n_steps_,
        "batch_size": sae.batch_size_,
    }


def run(names, path, *, quick=False, n_splits=5):
    """Measure what the file does not have yet: all settings, then the best on other splits."""
    for name in names:
        for setting in settings(name, quick=quick):
            _measure_once(path, name, setting, 0)
        for setting, seed in product((DEFAULT, *best(path, name)), range(1, n_splits + 1)):
            _measure_once(path, name, setting, seed)


def results_of(path, name=None):
    """Return the results in a file, or those of one data set."""
    lines = path.read_text().splitlines() if path.exists() else []
    results = [json.loads(line) for line in lines]
    return [result for result in results if name in (None, result["data"])]


def best(path, name):
    """Return the settings that are best on the split of seed 0."""
    tried = [r for r in results_of(path, name) if r["seed"] == 0 and r["setting"] != DEFAULT]
    tried.sort(key=lambda result: -result["held_out"])
    return [result["setting"] for result in tried[:CONFIRMED]]


def _measure_once(path, name, setting, seed):
    key = _key({"data": name, "setting": setting, "seed": seed})
    if key not in {_key(result) for result in results_of(path, name)}:
        with path.open("a") as file:
            file.write(json.dumps(measure(name, setting, seed)) + "\n")


def _key(result):
    return result["data"], json.dumps(result["setting"], sort_keys=True), result["seed"]


def table(path):
    """Return the markdown table of the results in a file."""
    lines = [
        "| data | rows x columns | k | latents | default | best of the grid | default less best "
        "| its setting | settings | seconds |",
        "|---|---:|---:|---:|---:|---:|---:|---|---:|---:|",
    ]
    for name in dict.fromkeys(result["data"] for result in results_of(path)):
        results = results_of(path, name)
        scores = {}
        for result in results:
            if result["seed"]:
                key = json.dumps(result["setting"], sort_keys=True)
                scores.setdefault(key, {})[result["seed"]] = result["held_out"]
        default = scores.pop(json.dumps(DEFAULT))
        text, winner = max(scores.items(), key=lambda pair: np.mean(list(pair[1].values())))
        differences = [default[seed] - winner[seed] for seed in winner]
        chosen = json.loads(text)
        fits = [result for result in results if result["setting"] == DEFAULT]
        X, _ = split(name)
        n_tried = sum(r["seed"] == 0 and r["setting"] != DEFAULT for r in results)
        lines.append(
            f"| {name} | {len(X)} x {X.shape[1]} | {DATA[name][1]} | {fits[0]['n_components']} "
            f"| {_mean_and_error(default.values())} | {_mean_and_error(winner.values())} "
            f"| {_mean_and_error(differences)} | {chosen['n_components']} latents, "
            f"{chosen['max_iter']} passes of {chosen['batch_size']}, rate "
            f"{chosen['learning_rate']:g} | {n_tried} "
            f"| {np.mean([fit['seconds'] for fit in fits]):.1f} |"
        )
    return "\n".join(lines)


def _mean_and_error(values):
    """Return the mean over splits, and its standard error."""
    values = list(values)
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1) / len(values) ** 0.5:.3f}"


def main():
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", nargs="*", default=list(DATA), choices=list(DATA))
    parser.add_argument("--results", type=Path, required=True, help="file of lines of JSON")
    parser.add_argument("--splits", type=int, default=5, help="on which the best are tried again")
    parser.add_argument("--quick", action="store_true", help="four settings per data set")
    parser.add_argument("--table", action="store_true", help="print what the file has")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.table:
        quick, n_splits = arguments.quick, arguments.splits
        run(arguments.data, arguments.results, quick=quick, n_splits=n_splits)
    print(table(arguments.results))


if __name__ == "__main__":
    main()
