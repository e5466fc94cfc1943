"""The whole path from texts to statements, on texts whose concepts are known."""

import runpy
import sys
from pathlib import Path

import pytest

from tests.benchmarks.statements import by_sksae, is_right, n_lines, outcome
from tests.benchmarks.statements import main as benchmark
from tests.interpret.statements.planted_concepts import DRIVING, Scripted


@pytest.mark.slow
@pytest.mark.parametrize("seed", [100, 101])
@pytest.mark.parametrize("make_client", [lambda: None, Scripted], ids=["offline", "scripted"])
def test_the_path_finds_what_drives_targets_and_says_nothing_false(seed, make_client):
    """A statement without a word of a concept that drives the target is false.

    Ten seeds are run by ``python -m tests.benchmarks.statements planted``.
    """
    outcomes = {target: outcome(by_sksae, seed, target, make_client()) for target in DRIVING}
    assert is_right(outcomes), outcomes


def test_lines_of_a_path_are_those_between_its_marks():
    def path():
        # begin
        lines = 1

        lines += 1
        # end
        return lines

    assert n_lines(path) == 2


def test_a_peer_that_is_missing_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "hypothesaes", None)
    assert benchmark(["hypothesaes"]) == 2
    assert "hypothesaes is skipped" in capsys.readouterr().err


@pytest.mark.slow
def test_the_example_finds_all_that_moves_the_rating(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path(__file__).parents[3] / "docs" / "examples" / "texts"
    ran = runpy.run_path(str(folder / "what_drives_the_rating.py"))
    assert (tmp_path / ran["page"]).stat().st_size > 100_000
    table = ran["table"]
    survived = table.loc[table["survives"]]
    for thing, move in ran["MOVES"].items():
        effects = survived.loc[survived["text"].str.contains(f'"{thing}"'), "effect"]
        assert len(effects), thing
        assert (effects * move > 0).all(), thing
