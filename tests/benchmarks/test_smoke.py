"""Every measurement runs: once, on tiny shapes, with sksae alone."""

import json

import numpy as np
import pytest
import torch

from sksae.autoencoders import Fit
from tests.benchmarks import atlas, cuda, extraction, fits, floor, growth, peers, processes, timing
from tests.benchmarks.arguments import VARIANTS, parse
from tests.benchmarks.data import CONFIGS, Shape, superposition
from tests.benchmarks.ours import ESTIMATORS, OURS, Ours
from tests.benchmarks.quality import Race, run_race
from tests.benchmarks.task import Task
from tests.cases import each_case
from tests.processes import needs_processes

TINY = Shape(32, 8, 16, 2)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(CONFIGS, "T", TINY)
    monkeypatch.setattr(timing, "LEAST_SECONDS", 1e-9)  # one call is a sample


def options_of(measurement, *arguments):
    return parse("", [measurement, "--config", "T", "--libraries", "--threads", "1", *arguments])


@each_case("variant, regime", [("topk", "start"), *((variant, "trained") for variant in VARIANTS)])
def test_every_variant_steps_and_encodes(variant, regime, tmp_path, capsys):
    for measurement, measure in [
        ("steps", peers.measure_steps),
        ("transform", peers.measure_transform),
    ]:
        once = ["--repeats", "1", "--warm-up", "1", "--seconds", "0", "--no-guard"]
        file = tmp_path / f"{measurement}.json"
        chosen = ["--variant", variant, "--regime", regime, "--json", str(file)]
        measure(options_of(measurement, *chosen, *once))
        timings = json.loads(file.read_text())["raw"]["timings"]
        assert set(timings) == set(OURS)
        assert all(len(timing["seconds"]) == 1 for timing in timings.values())
        assert "sksae" in capsys.readouterr().out


def test_parts_of_a_step(capsys):
    options = ["--config", "T", "--libraries", "--repeats", "1", "--seconds", "0", "--no-guard"]
    timings = floor.main(options)
    assert {"sksae", *floor.parts(TINY, torch.zeros(32, 8))} == set(timings)
    assert "sum of the parts" in capsys.readouterr().out


def test_the_memory_of_a_child(monkeypatch, capsys):
    """In this process, and whatever the system tells of its memory."""
    monkeypatch.setattr(peers, "PeakMemory", Unmeasured)
    peers.measure_child(options_of("child", "--steps", "2", "--libraries", "sksae"))
    assert json.loads(capsys.readouterr().out) == {"added": 1.0, "peak": 3.0}


class Unmeasured:
    """A memory of known size."""

    before, peak = 2.0, 3.0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_a_race_against_a_peer():
    x, _ = superposition(400, TINY.features, 16)
    race = Race(n_steps=6, every=3, limit=1.5, rates=(1e-3,), ends=(0.1,))
    libraries = {"sksae": Ours, "a peer": Ours}
    result = run_race(race, libraries, Task("topk", TINY, x), x[100:], x[:100])
    names = {record["library"] for record in result["best"]}
    assert {"sksae", "a peer"} < names
    assert all(np.isfinite(record["score"]) for record in result["best"])
    assert "as fit" in peers._race_table(**result)


def test_whole_fits_against_a_peer(tmp_path, monkeypatch, capsys):
    x, _ = superposition(900, TINY.features, 16)
    monkeypatch.setitem(fits.DATA, "tiny", (lambda: x, TINY.width, TINY.k))
    monkeypatch.setattr(fits, "HELD_OUT", 100)
    monkeypatch.setattr(fits, "ROWS", TINY.rows)
    monkeypatch.setattr(fits, "installed", lambda names: dict.fromkeys(names, Ours))
    options = ["--data", "tiny", "--cache", str(tmp_path), "--json", str(tmp_path / "raw.json")]
    for peer_steps, steps, reached in (("1", "100", True), ("100", "1", False)):
        fits.main([*options, "--peer-steps", peer_steps, "--steps", steps, "--rates", "3e-3"])
        assert ("not reached" not in capsys.readouterr().out) == reached
    assert "tiny" in json.loads((tmp_path / "raw.json").read_text())["raw"]


def test_the_fewest_steps_are_found(monkeypatch):
    monkeypatch.setattr(fits, "one_fit", lambda x, held_out, n_steps: (n_steps / 10, 0.0, 0.0))
    for target, expected in ((0.35, 4), (0.4, 4), (0.0, 1), (0.8, 8), (0.81, None)):
        assert fits.shortest_fit(None, None, target, (1, 2, 4, 8)) == expected


def test_growth_along_every_axis():
    options = growth.argparse.Namespace(
        config="T", variant="topk", sizes=2, repeats=1, seconds=0, guard=False
    )
    for axis in growth.AXES:
        for record in growth.measure_axis(axis, options):
            assert np.isfinite(record["slope"])
    assert set(ESTIMATORS) == set(VARIANTS)


def test_an_atlas(tmp_path, monkeypatch):
    monkeypatch.setattr(atlas, "PeakMemory", Unmeasured)
    rows, tokens = atlas.make_rows(tmp_path, 512, 8)
    line = atlas.measure(rows, tokens, n_components=16, k=2)
    assert line["rows"] == "512"
    assert line["features"] == "16"


def test_extraction():
    options = extraction.argparse.Namespace(
        texts=3, batch_tokens=128, repeats=1, seconds=0, guard=False
    )
    record = extraction.measure("packaged", options)
    assert record["tokens"] > 100
    assert set(record["ratio"]) == set(extraction.WAYS)


@needs_processes
def test_steps_of_processes():
    alone, shares = processes.measure(TINY, 2, 3)
    assert len(shares) == 2
    assert min(alone, *shares) > 0


@pytest.mark.filterwarnings("ignore")
def test_a_device_and_what_fails_on_it(monkeypatch, capsys):
    """The CPU stands for the device: it agrees with itself, and a failure is a line."""

    def broken(*args, **options):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(cuda, "whole_fits", broken)
    options = ["--device", "cpu", "--config", "T", "--repeats", "1", "--passes", "2"]
    cuda.main(options)
    out = capsys.readouterr().out
    assert out.count("| yes |") == len(ESTIMATORS) * len(cuda.PRECISIONS)
    assert "**no**" not in out
    assert "| **RuntimeError**: out of luck |" in out
    monkeypatch.setattr(cuda, "LIMIT", -1.0)
    cuda.main(options)
    assert "not begun" in capsys.readouterr().out


def test_steps_are_those_of_fit():
    """As many steps on the same batches leave the weights that `fit` leaves."""
    x, _ = superposition(64, TINY.features, 16)
    sae = ESTIMATORS["topk"](16, k=2, batch_size=16, max_iter=3, random_state=0)
    fit = Fit(sae, x.numpy())
    for _ in range(3):
        for rows, w in fit.rows:
            fit.run.step(rows, w)
    expected = sae.fit(x.numpy())
    assert torch.equal(
        torch.from_numpy(fit.fitted().components_), torch.from_numpy(expected.components_)
    )
