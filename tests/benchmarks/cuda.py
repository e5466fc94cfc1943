"""A device against the CPU and against plain torch on the same device, in one command.

Run as ``python -m tests.benchmarks.cuda``: in at most eight minutes it prints which kernels run,
whether every estimator learns what it learns on the CPU, the time of a step beside that of the same
loss under plain autograd, and the time of whole fits and of several values of k. ``--device cpu
--config T`` tries it out where there is no such device. What fails is a line of the table, and the
rest is measured all the same.
"""

import argparse
import statistics
import time
import warnings
from functools import partial

import numpy as np
import torch

from sksae import TopKSAE
from sksae.autoencoders import Fit
from sksae.kernels import runs_on
from tests.benchmarks.data import CONFIGS, superposition
from tests.benchmarks.ours import ESTIMATORS
from tests.benchmarks.tables import markdown, publish

LIMIT = 480.0  # seconds after which nothing new is begun
PRECISIONS = ("float32", "float64", "bfloat16")
NEAR = {"float32": 0.01, "float64": 1e-4, "bfloat16": 0.03}
"""Explained variance by which a fit may differ from that of the CPU."""


def synchronize(device):
    """Wait until the device has done what it was asked."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds_of(call, device, *, repeats):
    """Return the median time of a call, after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        synchronize(device)
        start = time.perf_counter()
        call()
        synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def settings(shape, name, **options):
    """Return an estimator of a shape."""
    sparsity = {"k": shape.k} if name.endswith("topk") else {}
    return ESTIMATORS[name](
        shape.width, batch_size=shape.rows, random_state=0, **sparsity, **options
    )


def agreement(name, precision, device, shape, X):
    """Return explained variances on the CPU and on the device, and whether they are near."""
    X = X.astype(np.float64 if precision == "float64" else np.float32)
    scores = [
        settings(shape, name, device=place, precision=precision, max_iter=5).fit(X).score(X)
        for place in ("cpu", device)
    ]
    near = abs(scores[0] - scores[1]) <= NEAR[precision]
    return [f"{score:.4f}" for score in scores] + ["yes" if near else "**no**"]


def steps(name, precision, device, shape, X, repeats):
    """Return the milliseconds of a step and of one under plain autograd, and their ratio."""
    times = []
    for plain in (False, True):
        sae = settings(shape, name, device=device, precision=precision, max_iter=100)
        fit = Fit(sae, X[: shape.rows])
        fit.run.engine.plain = plain
        x, w = next(iter(fit.rows))
        step = partial(fit.run.step, x, w)
        times.append(1e3 * seconds_of(step, device, repeats=repeats))
    ours, autograd = times
    return f"{ours:.2f}", f"{autograd:.2f}", f"{autograd / ours:.1f}"


def whole_fits(device, shape, X):
    """Return seconds and peak memory of a pass, of `transform`, and of six values of k."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    sae = settings(shape, "topk", device=device, max_iter=1, sparse_output=True)
    fit = seconds_of(lambda: sae.fit(X), device, repeats=1)
    codes = seconds_of(lambda: sae.transform(X), device, repeats=1)
    peak = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else float("nan")
    ks = sorted({max(1, shape.k * share // 4) for share in (1, 2, 3, 4, 6, 8)})

    def search():
        for k in ks:
            options = {"batch_size": shape.rows, "max_iter": 1, "random_state": 0}
            TopKSAE(shape.width, k=k, device=device, **options).fit(X)

    several = seconds_of(search, device, repeats=1)
    return f"{fit:.2f}", f"{codes:.2f}", f"{several:.2f} of {len(ks)}", f"{peak:.0f}"


def rows_of(cases, measure, width, end):
    """Return a row per case; a failure is one, and so is a case for which no time was left."""
    rows = []
    for case in cases:
        if time.perf_counter() > end:
            rows.append([*case, *["not begun"] * width])
            continue
        try:
            rows.append([*case, *measure(*case)])
        except Exception as error:  # whatever a driver, a compiler or a kernel may raise
            reason = str(error).splitlines()[0][:120] if str(error) else ""
            rows.append([*case, f"**{type(error).__name__}**: {reason}", *[""] * (width - 1)])
    return rows


def main(arguments=None):
    """Measure everything, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--config", nargs="+", choices=CONFIGS, default=["C", "A", "B"])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--passes", type=int, default=40, help="batches of a whole fit")
    options = parser.parse_args(arguments)
    device, end = options.device, time.perf_counter() + LIMIT
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("There is no CUDA device. Try --device cpu --config T.")
    where = torch.cuda.get_device_name() if device == "cuda" else device
    print(f"{where}: fast forms run: {runs_on(torch.device(device))}\n")
    small = CONFIGS["T"]
    X, _ = superposition(4 * small.rows, small.features, 2 * small.features)
    cases = [(name, precision) for name in ESTIMATORS for precision in PRECISIONS]
    found = rows_of(cases, lambda *case: agreement(*case, device, small, X.numpy()), 3, end)
    header = ["estimator", "precision", "CPU", where, "near"]
    publish(f"Explained variance after 5 passes, {small}", markdown(header, found), ["sksae"])
    for config in options.config:
        shape = CONFIGS[config]
        n_rows = options.passes * shape.rows
        rows = superposition(n_rows, shape.features, 2 * shape.features)[0].numpy()
        cases = [(name, precision) for name in ESTIMATORS for precision in PRECISIONS[::2]]

        def measure(name, precision, shape=shape, rows=rows):
            return steps(name, precision, device, shape, rows, options.repeats)

        found = rows_of(cases, measure, 3, end)
        header = ["estimator", "precision", "sksae, ms", "plain autograd, ms", "ratio"]
        publish(f"A step, {config}: {shape}", markdown(header, found), ["sksae"])
        found = rows_of(
            [()], lambda shape=shape, rows=rows: whole_fits(device, shape, rows), 4, end
        )
        header = ["fit of one pass, s", "transform, s", "several k, s", "peak memory, MiB"]
        publish(f"Whole fits, {config}: {n_rows} rows", markdown(header, found), ["sksae"])


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
