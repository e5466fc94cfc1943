"""Which rule finds the true number of active latents: the table of ``docs/choosing_sparsity.md``.

Run as ``python docs/experiments/sparsity.py --results results.jsonl``, which goes on where it was
stopped; ``--table`` prints what the file has. On every synthetic set, a `TopKSAE` with as many
latents as there are true directions is fitted at every k of a grid. A rule that
chooses k is right if it is within 25 % of the true mean number of active directions, or at the
value of the grid that is nearest to it.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from sksae import TopKSAE
from sksae.datasets import make_superposition
from sksae.model_selection import SparsityPathCV

GRID = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
N_SAMPLES, N_HELD_OUT = 3000, 1000
SETS = {
    # features, directions, active directions per row, further options
    "32, 64": (32, 64, 3, {}),
    "32, 128": (32, 128, 4, {}),
    "64, 128": (64, 128, 5, {}),
    "64, 256": (64, 256, 8, {}),
    "128, 256": (128, 256, 10, {}),
    "128, 256, dense": (128, 256, 20, {}),
    "64, 128, noise": (64, 128, 5, {"noise": 0.05}),
    "128, 256, noise": (128, 256, 10, {"noise": 0.05}),
    "64, 128, correlated": (64, 128, 6, {"correlation": 0.3}),
    "128, 256, correlated": (128, 256, 12, {"correlation": 0.3}),
    "64, 128, unequal": (64, 128, 6, {"min_density": 0.02}),
    "64, 120, hierarchy": (64, 120, 6, {"parents": "trees"}),
    "128, 256, all": (128, 256, 10, {"correlation": 0.2, "noise": 0.05, "min_density": 0.01}),
}


def load(name):
    """Return rows to fit, rows to score, and the mean number of active directions."""
    n_features, n_directions, n_active, options = SETS[name]
    options, density = dict(options), n_active / n_directions
    if options.get("parents") == "trees":
        parents = np.maximum((np.arange(n_directions) - 30) // 3, -1)
        options["parents"] = parents
        # Three children share their parent's density.
        density = np.where(parents < 0, 0.15, 0.05 / 1.5)
    elif "min_density" in options:
        options["density_exponent"] = 1.0
        density = min(0.4, 4 * density)
    X, _, codes = make_superposition(
        N_SAMPLES + N_HELD_OUT, n_features, n_directions, density=density, random_state=0, **options
    )
    return X[:N_SAMPLES], X[N_SAMPLES:], float((codes != 0).sum(1).mean())


def nth_projection(sae, X, n):
    """Mean over rows of the n-th largest projection on the dictionary, relative to the rows."""
    Z = X - sae.intercept_
    projections = np.sort(Z @ sae.components_.T, axis=1)[:, ::-1]
    return float(projections[:, n - 1].mean() / np.sqrt(np.square(Z).sum(1).mean()))


def description_length(sae, X, share=0.01):
    """Bits per row: which latents fire, their codes, and the residual, at a share of the spread."""
    codes, m = sae.transform(X), sae.n_components_
    step = np.sqrt(share * X.var())
    rate = np.clip((codes > 0).mean(0), 1e-9, 1 - 1e-9)
    which = -(rate * np.log2(rate) + (1 - rate) * np.log2(1 - rate)).sum()
    values = [codes[:, j][codes[:, j] > 0] for j in range(m)]
    bits = sum(
        len(v) * max(0.0, np.log2(v.std() / step + 1e-9) + 2.05) for v in values if len(v) > 1
    )
    residual = X - sae.inverse_transform(codes)
    spread = residual.std(0) / step
    return float(which + bits / len(X) + np.maximum(0, np.log2(spread + 1e-9) + 2.05).sum())


def measure(name, k):
    """Return what every rule needs of one k."""
    X, held_out, n_active = load(name)
    m = SETS[name][1]
    one = TopKSAE(m, k=k, batch_size=64, max_iter=20, random_state=0).fit(X)
    cosine = one.components_ @ one.components_.T
    return {
        "data": name,
        "k": k,
        "n_active": n_active,
        "explained_variance": one.score(held_out),
        "projection_2": nth_projection(one, held_out, m // 2),
        "projection_4": nth_projection(one, held_out, m // 4),
        "projection_3k": nth_projection(one, held_out, min(m - 1, 2 * max(GRID))),
        "cosines": float(np.abs(cosine[~np.eye(m, dtype=bool)]).mean()),
        "bits_1": description_length(one, held_out),
        "bits_0.1": description_length(one, held_out, 0.001),
        "bits_10": description_length(one, held_out, 0.1),
    }


def along_a_path(name):
    """Return the k that `SparsityPathCV` chooses on the same rows, and its scores."""
    X, held_out, n_active = load(name)
    values = [k for k in GRID if k <= 3.2 * SETS[name][2]]
    sae = TopKSAE(SETS[name][1], batch_size=64, max_iter=20, random_state=0)
    rows = np.arange(len(X) + len(held_out))
    split = [(rows[: len(X)], rows[len(X) :])]
    search = SparsityPathCV(sae, values, cv=split).fit(np.concatenate([X, held_out]))
    scores = search.cv_results_["mean_test_explained_variance"].tolist()
    return {"data": name, "n_active": n_active, "path": search.best_params_["k"], "scores": scores}


def main():
    """Measure, and print what the file has."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--results", type=Path, required=True, help="file of lines of JSON")
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--path", action="store_true", help="search along a path instead")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = arguments.results
    if arguments.path:
        for name in arguments.sets:
            with path.open("a") as file:
                file.write(json.dumps(along_a_path(name)) + "\n")
        return
    lines = path.read_text().splitlines() if path.exists() else []
    done = {(r["data"], r["k"]) for r in map(json.loads, lines)}
    for name in arguments.sets:
        for k in GRID:
            if (name, k) not in done and k <= 3.2 * SETS[name][2]:
                with path.open("a") as file:
                    file.write(json.dumps(measure(name, k)) + "\n")


if __name__ == "__main__":
    main()
