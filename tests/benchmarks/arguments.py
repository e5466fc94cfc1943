"""The command line of `peers`."""

import argparse

from tests.benchmarks.data import CONFIGS
from tests.benchmarks.libraries import LIBRARIES

VARIANTS = ("topk", "batchtopk", "l1", "gated", "jumprelu")
SLOW = ("scikit-learn",)


def parse(description, arguments=None):
    """Return the options of a measurement; ``measurement`` is its name."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="measurement", required=True)
    for name, what in {
        "steps": "seconds of a training step",
        "transform": "seconds of encoding a row",
        "memory": "peak memory of training steps",
        "child": "what memory runs for every library",
    }.items():
        command = _command(commands, name, what, "A")
        command.add_argument("--variant", default="topk", choices=VARIANTS)
        command.add_argument("--regime", default="start", choices=("start", "trained"))
        if name in ("steps", "transform"):
            _add_timing(command)
        else:
            command.add_argument("--steps", type=int, default=3)
    _add_race(_command(commands, "quality", "seconds to equal explained variance", "C"))
    return parser.parse_args(arguments)


def _command(commands, name, what, config):
    fast = [library for library in LIBRARIES if library not in SLOW]
    command = commands.add_parser(name, help=what)
    command.add_argument("--config", default=config, choices=CONFIGS)
    command.add_argument("--libraries", nargs="*", default=fast, help=f"of {', '.join(LIBRARIES)}")
    command.add_argument("--threads", type=int, default=0, help="0 leaves torch's number")
    command.add_argument("--json", metavar="FILE", help="where the raw numbers go")
    return command


def _add_timing(command):
    command.add_argument("--repeats", type=int, default=10, help="undisturbed samples of each")
    command.add_argument("--warm-up", type=int, default=2)
    command.add_argument("--seconds", type=float, default=600, help="no round starts after them")
    command.add_argument(
        "--no-guard",
        dest="guard",
        action="store_false",
        help="keep samples during which other processes used the CPU",
    )


def _add_race(command):
    datasets = ("superposition", "activations")
    command.set_defaults(variant="topk")
    command.add_argument("--data", nargs="+", default=datasets, choices=datasets)
    command.add_argument("--rows", type=int, default=131_072, help="to train on")
    command.add_argument("--steps", type=int, default=1500, help="after which the target is set")
    command.add_argument("--every", type=int, default=25, help="steps between evaluations")
    command.add_argument(
        "--limit", type=float, default=2, help="times --steps, then one has failed"
    )
    command.add_argument("--rates", type=float, nargs="+", default=(3e-4, 1e-3, 3e-3))
    command.add_argument("--ends", type=float, nargs="+", default=(0.1, 0.2, 0.4, 0.7, 1.0, 1.5))
    command.add_argument("--cache", metavar="FOLDER", help="keeps the activations for later runs")
