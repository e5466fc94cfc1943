"""How the cost of sksae grows with rows, width, k and features, one varied at a time.

From the root of the repository::

    python -m tests.benchmarks.growth --variant topk

A slope is the exponent of a power law fitted to the medians: 1 is proportional, 0 is no growth.
All sizes of an axis are timed in turns in one process.
"""

import argparse
import itertools

import numpy as np
import torch

from tests.benchmarks.data import CONFIGS, superposition
from tests.benchmarks.ours import ESTIMATORS, Ours
from tests.benchmarks.tables import markdown, publish, save
from tests.benchmarks.task import STILL, Task
from tests.benchmarks.timing import interleave

AXES = ("rows", "width", "k", "features")


def grid(start, n_sizes):
    """Return sizes around `start`, each twice the one before."""
    return [round(start * 2.0 ** (i - n_sizes // 2)) for i in range(n_sizes)]


def slope(sizes, seconds):
    """Exponent of the power law that fits best in logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def measure_axis(axis, options):
    """Time steps and encodings along one axis; return a record of each."""
    base = CONFIGS[options.config]
    sizes = grid(getattr(base, axis), options.sizes)
    steps, encodings = {}, {}
    for size in sizes:
        shape = base._replace(**{axis: size})
        x, _ = superposition(2 * shape.rows, shape.features, 4 * shape.features)
        ours = Ours(Task(options.variant, shape, x, rate=STILL))
        batches = itertools.cycle(x.split(shape.rows))
        steps[size] = lambda ours=ours, batches=batches: ours.step(next(batches))
        encodings[size] = lambda ours=ours, x=x, n=shape.rows: ours.encode(x[:n])
    kept = {"repeats": options.repeats, "limit": options.seconds, "guard": options.guard}
    return [
        _record(axis, what, interleave(calls, **kept))
        for what, calls in {"step": steps, "encode": encodings}.items()
    ]


def _record(axis, what, timings):
    sizes, medians = list(timings), [timing.median for timing in timings.values()]
    return {
        "axis": axis,
        "what": what,
        "sizes": sizes,
        "medians": medians,
        "seconds": [timing.seconds for timing in timings.values()],
        "slope": slope(sizes, medians),
        "last_slope": slope(sizes[-2:], medians[-2:]),
    }


def _table(records):
    header = ["what", "varied", "slope", "slope of the last two", "sizes", "ms"]
    rows = [
        [
            record["what"],
            record["axis"],
            f"{record['slope']:.2f}",
            f"{record['last_slope']:.2f}",
            " ".join(map(str, record["sizes"])),
            " ".join(f"{1e3 * median:.3g}" for median in record["medians"]),
        ]
        for record in records
    ]
    return markdown(header, rows)


def _options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variant", default="topk", choices=ESTIMATORS)
    parser.add_argument("--config", default="C", choices=CONFIGS, help="the sizes in the middle")
    parser.add_argument("--axes", nargs="+", default=AXES, choices=AXES)
    parser.add_argument("--sizes", type=int, default=5, help="of every axis, each twice the last")
    parser.add_argument("--repeats", type=int, default=7, help="undisturbed samples of each")
    parser.add_argument("--seconds", type=float, default=300, help="of a table's line, at most")
    parser.add_argument("--no-guard", dest="guard", action="store_false")
    parser.add_argument("--threads", type=int, default=0, help="0 leaves torch's number")
    parser.add_argument("--json", metavar="FILE", help="where the raw numbers go")
    return parser.parse_args()


def main():
    """Measure all axes, print the table, keep the raw numbers."""
    options = _options()
    if options.threads:
        torch.set_num_threads(options.threads)
    records = [record for axis in options.axes for record in measure_axis(axis, options)]
    publish(
        f"Growth of {options.variant} around {CONFIGS[options.config]}", _table(records), ["sksae"]
    )
    save(options.json, records, ["sksae"])


if __name__ == "__main__":
    main()
