"""What a measurement prints: a markdown table, the machine, the versions, the date."""

import datetime
import importlib.metadata
import json
import os
import platform
from pathlib import Path

import torch


def markdown(header, rows):
    """Return a markdown table; columns after the first are aligned to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def surroundings(distributions):
    """Return what a measurement depends on besides the code, by name."""
    names = ["torch", "numpy", *distributions]
    versions = {name: importlib.metadata.version(name) for name in dict.fromkeys(names)}
    return {
        "machine": f"{_cpu_model()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "date": datetime.date.today().isoformat(),
    }


def publish(title, table, distributions):
    """Print a measurement and what it depends on."""
    around = surroundings(distributions)
    lines = [f"{name}: {text}" for name, text in around.items()]
    print("\n".join([f"### {title}", "", table, "", *lines, ""]), flush=True)


def save(path, raw, distributions):
    """Write raw numbers to a JSON file, if a path is given."""
    if path is not None:
        text = json.dumps({**surroundings(distributions), "raw": raw}, indent=1)
        Path(path).write_text(text + "\n", encoding="utf-8")


def _cpu_model():
    """Return the processor's name as Linux tells it, or what the platform says."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
