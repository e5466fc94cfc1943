"""How the defaults for ordinary tables were chosen: the table of ``docs/defaults.md``.

Run as ``python docs/experiments/tables.py --results results.jsonl``, which goes on where it was
stopped; ``--data digits wine`` takes some of the data sets, ``--quick`` a few settings, and
``--table`` prints what the file has. Every setting is a `TopKSAE` of the same `k`, fitted to 70 %
of the rows; the score is the explained variance of the other 30 %. Seconds are those of the
process, on one thread.
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
PASSES = (30, 100, 300, 2000)
BATCHES = (32, 128)
RATES = (2e-3, 6e-3)
MAX_STEPS = 4000  # settings of more steps are left out
MAX_ENTRIES = 4e9  # so are those of more multiplications, in units of a row and a weight


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
def split(name):
    """Return rows to fit and rows to score."""
    load, _ = DATA[name]
    X = load().astype(np.float32)
    return train_test_split(X, test_size=0.3, random_state=0)


def settings(name, *, quick=False):
    """Return the settings of the grid that are not too long for the data."""
    X, _ = split(name)
    grid = [DEFAULT]
    grids = [axis[:1] if quick else axis for axis in (PASSES, BATCHES, RATES)]
    for width, passes, batch, rate in product(WIDTHS, *grids):
        rows, m = passes * len(X), round(width * X.shape[1])
        n_steps = passes * -(-len(X) // batch)
        if n_steps <= MAX_STEPS and rows * m * X.shape[1] <= MAX_ENTRIES * 10:
            grid.append(
                {"n_components": m, "max_iter": passes, "batch_size": batch, "learning_rate": rate}
            )
    return grid


def measure(name, setting, seed=0):
    """Return what one fit gives."""
    X, held_out = split(name)
    parameters = {} if setting == DEFAULT else setting
    sae = TopKSAE(k=DATA[name][1], random_state=seed, **parameters)
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


def run(names, path, *, quick=False, seeds=(0,)):
    """Measure all settings that the file does not have yet."""
    lines = path.read_text().splitlines() if path.exists() else []
    done = {_key(json.loads(line)) for line in lines}
    for name in names:
        for setting, seed in product(settings(name, quick=quick), seeds):
            if _key({"data": name, "setting": setting, "seed": seed}) in done:
                continue
            with path.open("a") as file:
                file.write(json.dumps(measure(name, setting, seed)) + "\n")


def _key(result):
    return result["data"], json.dumps(result["setting"], sort_keys=True), result["seed"]


def table(path):
    """Return the markdown table of the results in a file."""
    results = [json.loads(line) for line in path.read_text().splitlines()]
    lines = [
        "| data | rows x columns | k | latents | default | best of | its setting | seconds |",
        "|---|---:|---:|---:|---:|---:|---|---:|",
    ]
    for name in dict.fromkeys(result["data"] for result in results):
        of = [result for result in results if result["data"] == name]
        default = [result for result in of if result["setting"] == DEFAULT]
        grid = [result for result in of if result["setting"] != DEFAULT]
        best = max(grid, key=lambda result: result["held_out"])
        X, _ = split(name)
        chosen = best["setting"]
        text = (
            f"{chosen['n_components']} latents, {chosen['max_iter']} passes of "
            f"{chosen['batch_size']}, rate {chosen['learning_rate']:g}"
        )
        mean = np.mean([result["held_out"] for result in default])
        seconds = np.mean([result["seconds"] for result in default])
        lines.append(
            f"| {name} | {len(X)} x {X.shape[1]} | {DATA[name][1]} | {default[0]['n_components']} "
            f"| {mean:.3f} | {best['held_out']:.3f} of {len(grid)} | {text} | {seconds:.1f} |"
        )
    return "\n".join(lines)


def main():
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", nargs="*", default=list(DATA), choices=list(DATA))
    parser.add_argument("--results", type=Path, required=True, help="file of lines of JSON")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="four settings per data set")
    parser.add_argument("--table", action="store_true", help="print what the file has")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.table:
        seeds = range(arguments.seeds)
        run(arguments.data, arguments.results, quick=arguments.quick, seeds=seeds)
    print(table(arguments.results))


if __name__ == "__main__":
    main()
