"""One training for every k, and a least-squares dictionary at the end: measured, and not kept.

Run as ``python docs/experiments/one_fit.py digits "tokens 2860"``. Data sets and splits are those
of ``docs/experiments/tables.py``; scores are explained variances of held-out rows. "Nested" trains
on the mean loss over several k at once, with equal shares or, as in HierarchicalTopK (Balagansky
et al. 2025, arXiv 2505.24473), with shares in proportion to the steps between them. "Refit"
replaces the dictionary by the one that is best for the codes of the training rows, held near the
trained one by as much weight as a number of further rows would have.
"""

import argparse
import warnings
from dataclasses import dataclass

import numpy as np
import tables
import torch
from sklearn.base import clone

from sksae import TopKSAE
from sksae.objectives import TopK, reconstruction_loss

LEVELS = (1, 2, 4, 8, 16, 32)
PRIOR_ROWS = (1, 10, 100, 1000)


@dataclass
class NestedTopK(TopK):
    """The loss of `TopK`, as a weighted mean over several k."""

    levels: tuple = LEVELS
    shares: tuple = ()

    def loss(self, entries, alpha, dead):
        """Return the loss and the codes of the largest k."""
        codes = entries.kept(torch.relu(entries.z))
        # The k-th largest code of every row, for every k.
        per_row = codes.detach() if codes.ndim == 2 else codes.detach().view(len(entries.x), -1)
        ordered = per_row.sort(1, descending=True).values
        loss = 0.0
        for level, share in zip(self.levels, self.shares, strict=True):
            is_kept = codes >= entries.of_rows(ordered[:, level - 1])
            loss = loss + share * reconstruction_loss(entries, entries.decode(codes * is_kept))
        return loss, codes


class NestedTopKSAE(TopKSAE):
    """A `TopKSAE` of the largest level, trained for all of them."""

    proportional = False

    def _make_objective(self, n_features, n_components, n_targets):
        steps = np.diff((0, *LEVELS)) if self.proportional else np.ones(len(LEVELS))
        return NestedTopK(LEVELS[-1], shares=tuple(steps / steps.sum()))


class ProportionalTopKSAE(NestedTopKSAE):
    """The same with shares in proportion to the steps between levels."""

    proportional = True


def explained(X, reconstruction, mean):
    """Return the explained variance of rows."""
    return 1 - float(((X - reconstruction) ** 2).sum() / ((X - mean) ** 2).sum())


def at_levels(sae, X, mean):
    """Return the explained variance of the k largest codes of every row, for every k."""
    codes = np.asarray(sae.transform(X))
    order = np.argsort(-codes, axis=1)
    scores = []
    for level in LEVELS:
        kept = codes.copy()
        np.put_along_axis(kept, order[:, level:], 0, axis=1)
        scores.append(explained(X, sae.inverse_transform(kept), mean))
    return np.array(scores)


def refitted(sae, X, held_out, prior_rows):
    """Return the explained variance of held-out rows with a least-squares dictionary."""
    sae = clone(sae).set_params(sparse_output=True).fit(X)
    codes, test_codes = sae.transform(X), sae.transform(held_out)
    gram = (codes.T @ codes).toarray().astype(np.float64)
    targets = codes.T @ (X - sae.intercept_)
    scores = [explained(held_out, test_codes @ sae.components_ + sae.intercept_, X.mean(0))]
    for n_rows in prior_rows:
        weight = n_rows * float(np.mean(codes.data**2))
        # The minimum of |X - F D|^2 + weight |D - D0|^2.
        left = gram + weight * np.eye(len(gram))
        components = np.linalg.solve(left, targets + weight * sae.components_)
        reconstruction = test_codes @ components + sae.intercept_
        scores.append(explained(held_out, reconstruction, X.mean(0)))
    return np.array(scores)


def main():
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", nargs="*", default=["digits", "superposition 2860", "tokens 2860"])
    parser.add_argument("--passes", type=int, default=None, help="of the fits that are refitted")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", UserWarning)
    np.set_printoptions(precision=3, suppress=True)
    for name in options.data:
        X, held_out = tables.split(name)
        mean = X.mean(0)
        fits = [TopKSAE(k=level, random_state=0).fit(X) for level in LEVELS]
        single = np.array(
            [explained(held_out, f.inverse_transform(f.transform(held_out)), mean) for f in fits]
        )
        print(name, "k", LEVELS, "single fits", single)
        for cls in (NestedTopKSAE, ProportionalTopKSAE):
            nested = at_levels(cls(random_state=0).fit(X), held_out, mean)
            print(name, cls.__name__, "less the single fits", nested - single)
        sae = TopKSAE(k=tables.DATA[name][1], max_iter=options.passes, random_state=0)
        print(name, "refit, rows", (0, *PRIOR_ROWS), refitted(sae, X, held_out, PRIOR_ROWS))


if __name__ == "__main__":
    main()
