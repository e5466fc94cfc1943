"""Clocks: candidates in turns in one process, quiet samples only; peak memory of a child.

What other processes do is read from Linux' ``/proc``; elsewhere every sample counts as quiet, and
memory cannot be measured.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

STAT, STATUS, CLEAR = (Path("/proc") / name for name in ("stat", "self/status", "self/clear_refs"))
QUIET_SAMPLES = 3
LEAST_SECONDS = 0.1
"""A shorter sample repeats its call, because ``/proc`` counts in hundredths of a second."""


class Watch:
    """Wall time of a ``with`` block, and whether other processes left the CPU alone meanwhile."""

    def __enter__(self):
        self._others, self._start = _used_by_others(), time.perf_counter()
        return self

    def __exit__(self, *_):
        self.seconds = time.perf_counter() - self._start
        self.foreign = _used_by_others() - self._others
        self.quiet = self.foreign <= 0.02 + 0.05 * self.seconds


class Timing:
    """Samples of one candidate; only the quiet ones count, if there are enough of them."""

    def __init__(self):
        self.seconds, self.quiet = [], []

    def sample(self, call, n_calls, guard):
        """Take the mean time of some calls as a sample."""
        with Watch() as watch:
            for _ in range(n_calls):
                call()
        self.seconds.append(watch.seconds / n_calls)
        self.quiet.append(watch.quiet or not guard)

    @property
    def kept(self):
        """The seconds that count."""
        kept = [s for s, quiet in zip(self.seconds, self.quiet, strict=True) if quiet]
        return kept if len(kept) >= min(QUIET_SAMPLES, len(self.seconds)) else self.seconds

    @property
    def disturbed(self):
        """Whether other processes were busy during so many samples that all had to count."""
        return sum(self.quiet) < min(QUIET_SAMPLES, len(self.seconds))

    @property
    def median(self):
        """Median of the seconds that count."""
        return statistics.median(self.kept)

    @property
    def minimum(self):
        """Least of the seconds that count."""
        return min(self.kept)

    def scaled(self, factor):
        """Return the timing of `factor` times the work."""
        timing = Timing()
        timing.seconds, timing.quiet = [s * factor for s in self.seconds], self.quiet
        return timing


def interleave(candidates, *, repeats, warm_up=2, limit=600.0, guard=True):
    """Time callables in turns, so that all of them meet the same machine.

    Parameters
    ----------
    candidates : dict of callable
    repeats : int
        Samples of each that count; with `guard`, disturbed ones are taken again.
    warm_up : int
        Calls of each before the clock starts.
    limit : float
        Seconds after which no further round starts, whatever has been gathered.
    guard : bool
        Whether to drop samples during which other processes used the CPU.

    Returns
    -------
    timings : dict of Timing
    """
    timings = {name: Timing() for name in candidates}
    n_calls = {name: _warmed_up(call, warm_up) for name, call in candidates.items()}
    end = time.perf_counter() + limit
    while min(sum(timing.quiet) for timing in timings.values()) < repeats:
        for name, call in candidates.items():
            timings[name].sample(call, n_calls[name], guard)
        if time.perf_counter() > end:
            break
    return timings


def _warmed_up(call, times):
    """Make a call some times, at least once; return how many of it make a sample."""
    for _ in range(max(1, times)):
        start = time.perf_counter()
        call()
    return math.ceil(LEAST_SECONDS / max(time.perf_counter() - start, 1e-4))


class PeakMemory:
    """Resident memory before a ``with`` block and its peak within, of this process, in MiB."""

    def __enter__(self):
        CLEAR.write_text("5")  # forget the peak so far
        self.before = _status("VmRSS")
        return self

    def __exit__(self, *_):
        self.peak = _status("VmHWM")


def in_child(module, *arguments):
    """Run ``python -m module`` in a process of its own; return the JSON on its last line."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


def _used_by_others():
    """Seconds of CPU time that processes other than this one have used since the machine started.

    0 where the system does not tell.
    """
    if not STAT.exists():
        return 0.0
    user, nice, system, _, _, irq, soft, steal = map(int, STAT.read_text().split()[1:9])
    ticks = user + nice + system + irq + soft + steal
    return ticks / os.sysconf("SC_CLK_TCK") - time.process_time()


def _status(name):
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name + ":"))
    return int(line.split()[1]) / 1024
