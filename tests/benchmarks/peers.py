"""sksae against its peers: seconds a step and a row, memory, time to quality.

From the root of the repository, with those peers installed that are wanted (see `libraries`)::

    python -m tests.benchmarks.peers steps --config A --variant topk
    python -m tests.benchmarks.peers steps --config A --variant l1 --regime trained
    python -m tests.benchmarks.peers transform --config A
    python -m tests.benchmarks.peers memory --config A --variant topk
    python -m tests.benchmarks.peers quality

All that is timed is timed in turns in one process. Steps are taken at a vanishing learning rate,
so that the weights stay what the regime says: "start", as each library initialises them, or
"trained", the true dictionary with a bias that leaves about 50 latents a row active. scikit-learn
takes part only if it is named (``--libraries``): it is measured on a few rows and scaled up.
"""

import contextlib
import itertools
import json
import math
import sys
import tempfile

import torch

from tests.benchmarks.arguments import parse
from tests.benchmarks.data import CONFIGS, Shape, activations, placed_weights, superposition
from tests.benchmarks.libraries import installed
from tests.benchmarks.ours import OURS
from tests.benchmarks.quality import Race, mean_l0, run_race
from tests.benchmarks.tables import markdown, publish, save
from tests.benchmarks.task import STILL, Task
from tests.benchmarks.timing import PeakMemory, in_child, interleave

HELD_OUT = 8192


def measure_steps(options):
    """Print the seconds of a training step, ours against each peer's."""
    task = _task(options)
    contenders = _contenders(options, task)
    calls = {name: _stepping(library, task) for name, library in contenders.items()}
    timings = _scaled(_interleaved(calls, options), contenders, task.shape.rows, 1)
    active = {
        name: mean_l0(library.encode(task.rows[: library.rows_at_most or task.shape.rows]))
        for name, library in contenders.items()
    }
    title = f"A training step: {options.variant}, {options.regime}, {task.shape}"
    _report(title, timings, active, contenders, options)


def measure_transform(options):
    """Print the seconds of encoding a row: ours to CSR at once, a peer's batch by batch."""
    task = _task(options)
    contenders = _contenders(options, task)
    calls, active = {}, {}
    for name, library in contenders.items():
        _stepping(library, task)()  # some estimate thresholds in training
        calls[name] = _encoding(library, task.rows)
        active[name] = mean_l0(library.encode(task.rows[: library.rows_at_most or 2048]))
    n = len(task.rows)
    timings = _scaled(_interleaved(calls, options), contenders, n, 1e3 / n)
    title = f"Encoding {n} rows: {options.variant}, {options.regime}, {task.shape}"
    _report(title, timings, active, contenders, options, unit="µs a row")


def measure_memory(options):
    """Print the peak memory of a few training steps, each library in a process of its own."""
    classes = _classes(options)
    passed_on = ("config", "variant", "regime", "steps", "threads")
    shared = [part for name in passed_on for part in (f"--{name}", getattr(options, name))]
    raw = {
        name: in_child("tests.benchmarks.peers", "child", "--libraries", name, *shared)
        for name in classes
    }
    ours = raw["sksae"]["added"] if "sksae" in raw else math.nan
    header = ["library", "times what sksae adds", "MiB added", "MiB at the peak"]
    rows = [
        [
            name,
            f"{memory['added'] / max(ours, 0.1):.1f}",
            *(f"{memory[k]:.0f}" for k in ("added", "peak")),
        ]
        for name, memory in raw.items()
    ]
    title = (
        f"Memory of {options.steps} training steps: {options.variant}, {CONFIGS[options.config]}"
    )
    publish(title, markdown(header, rows), _distributions(classes))
    save(options.json, raw, _distributions(classes))


def measure_child(options):
    """Print the memory of one library's steps as JSON: what `measure_memory` runs in a child."""
    task = _task(options)
    name = options.libraries[0]
    library = OURS[name] if name in OURS else installed([name])[name]
    small = task._replace(shape=Shape(64, 16, 64, 4), rows=torch.randn(256, 16), placed=None)
    _stepping(library(small), small)()  # what is imported late is not what is measured
    with PeakMemory() as memory, contextlib.redirect_stdout(sys.stderr):
        step = _stepping(library(task), task)
        for _ in range(options.steps):
            step()
    print(json.dumps({"added": memory.peak - memory.before, "peak": memory.peak}))


def measure_quality(options):
    """Print the seconds to the explained variance of the best peer, at equal L0."""
    race = Race(options.steps, options.every, options.limit, options.rates, options.ends)
    libraries = _classes(options)
    distributions = _distributions(libraries)
    if not libraries.keys() - OURS.keys():
        raise SystemExit("A target needs a peer.")
    raw = {}
    for data in options.data:
        shape = CONFIGS["L" if data == "activations" else options.config]
        x = _rows(data, shape, options)
        x, held_out = x[HELD_OUT:], x[:HELD_OUT]
        raw[data] = run_race(race, libraries, Task("topk", shape, x), x, held_out)
        title = f"Seconds to an explained variance of {raw[data]['target']:.4f}: {data}, {shape}"
        publish(title, _race_table(**raw[data]), distributions)
        save(options.json, raw, distributions)


def _rows(data, shape, options):
    """Rows to train on and to hold out."""
    if data == "superposition":
        return superposition(options.rows + HELD_OUT, shape.features, 4 * shape.features)[0]
    with tempfile.TemporaryDirectory() as folder:
        return activations(options.cache or folder)[: options.rows + HELD_OUT]


def _task(options):
    """Four batches of superposition, whose directions are as many as the latents."""
    shape = CONFIGS[options.config]
    x, directions = superposition(4 * shape.rows, shape.features, shape.width)
    placed = placed_weights(x, directions) if options.regime == "trained" else None
    return Task(options.variant, shape, x, rate=STILL, placed=placed)


def _classes(options):
    """Return sksae and the peers that are wanted, installed, and know the variant."""
    classes = {**OURS, **installed(options.libraries)}
    for name in [n for n, library in classes.items() if options.variant not in library.variants]:
        print(f"{name} is skipped: it has no {options.variant}", file=sys.stderr)
        del classes[name]
    return classes


def _contenders(options, task):
    """Return the libraries themselves, their dictionaries drawn from the same seed."""
    contenders = {}
    for name, library in _classes(options).items():
        torch.manual_seed(0)
        contenders[name] = library(task)
    return contenders


def _stepping(library, task):
    """Return a call that takes a step on the next batch."""
    batches = itertools.cycle(task.rows.split(task.shape.rows))
    return lambda: library.step(next(batches)[: library.rows_at_most])


def _encoding(library, x):
    """Return a call that encodes all rows, as many at a time as the library is given."""
    x = x[: library.rows_at_most]

    def encode():
        for rows in x.split(library.encode_rows or len(x)):
            library.encode(rows)

    return encode


def _interleaved(calls, options):
    return interleave(
        calls,
        repeats=options.repeats,
        warm_up=options.warm_up,
        limit=options.seconds,
        guard=options.guard,
    )


def _scaled(timings, contenders, n_rows, factor):
    """Return timings of `n_rows` rows, of whatever number of rows was measured, times `factor`."""
    return {
        name: timing.scaled(factor * n_rows / (contenders[name].rows_at_most or n_rows))
        for name, timing in timings.items()
    }


def _report(title, timings, active, contenders, options, unit="ms a step"):
    """Print timings as ratios to ours, if there is one, and save them."""
    ours = timings.get("sksae")
    header = ["library", "times sksae", "on minima", unit, "minimum", "L0", "samples"]
    rows = [
        [
            name,
            f"{timing.median / ours.median:.2f}" if ours else "",
            f"{timing.minimum / ours.minimum:.2f}" if ours else "",
            f"{1e3 * timing.median:.4g}",
            f"{1e3 * timing.minimum:.4g}",
            f"{active[name]:.1f}",
            f"{len(timing.kept)} of {len(timing.seconds)}" + " (disturbed)" * timing.disturbed,
        ]
        for name, timing in timings.items()
    ]
    distributions = _distributions(contenders)
    publish(title, markdown(header, rows), distributions)
    raw = {n: {"seconds": t.seconds, "quiet": t.quiet, "l0": active[n]} for n, t in timings.items()}
    save(options.json, {"title": title, "unit": unit, "timings": raw}, distributions)


def _race_table(best, n_steps, **_):
    """Return the table of a race: ratios to sksae at a constant rate and as `fit` schedules it."""
    ours = {r["library"]: r["seconds"] for r in best if r["library"].startswith("sksae")}
    header = ["library", *(f"times {name}" for name in ours), "seconds", "steps", "ms a step"]
    rows = []
    for record in best:
        seconds = record["seconds"]
        ratios = [f"{seconds / o:.2f}" if seconds and o else "-" for o in ours.values()]
        time = [f"{seconds:.1f}", f"{record['steps']:.0f}"] if seconds else ["not reached", "-"]
        rate = f"{record['rate']:.2g}" + " decaying" * record["decays"]
        step, score = f"{1e3 * record['step_median']:.1f}", f"{record['score']:.4f}"
        rows.append([record["library"], *ratios, *time, step, rate, score, f"{record['l0']:.1f}"])
    return markdown([*header, "rate", f"explained variance by step {n_steps}", "L0"], rows)


def _distributions(libraries):
    return [library.distribution for library in libraries.values()]


MEASUREMENTS = {
    "steps": measure_steps,
    "transform": measure_transform,
    "memory": measure_memory,
    "child": measure_child,
    "quality": measure_quality,
}

if __name__ == "__main__":
    chosen = parse(__doc__)
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    MEASUREMENTS[chosen.measurement](chosen)
