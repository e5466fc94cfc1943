"""The stubs say what the docstrings say, and a type checker finds mistakes with them."""

import re
from pathlib import Path

import pytest

from tests.cases import each_case
from tests.public_types.stubs import Types, alternatives, stubs

FOLDER = Path(__file__).parent


def test_stubs_are_those_of_the_docstrings():
    """If this fails, run ``python -m tests.public_types.stubs``."""
    changed = [
        path.parent.name
        for path, text in stubs().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    assert changed == []


@each_case(
    "docstring, annotation",
    [
        ("int, default=3", "int"),
        ("str or Path", "str | Path"),
        ("array-like of shape (n_samples,) or (n_samples, n_targets)", "ArrayLike"),
        ("{array-like, sparse matrix} of shape (n, m)", "Any"),
        ('{"a", "b", None}', 'Literal["a", "b", None]'),
        ("dict of int to (list of str or str)", "dict[int, list[str] | str]"),
        ("list of (str, float)", "list[tuple[str, float]]"),
        ("tuple of two floats", "tuple[float, float]"),
        ("mapping of int to str", "Mapping[int, str]"),
        ("ndarray of shape (n,), dtype=object", "NDArray[Any]"),
        ("something that has no class", "Any"),
    ],
)
def test_types_of_docstrings(docstring, annotation):
    assert Types([]).of(docstring) == annotation


def test_a_default_of_none_is_a_type():
    assert Types([]).of("int, default=None", None) == "int | None"
    assert alternatives("a, {b, c} or d") == ["a", "{b, c}", "d"]


@pytest.mark.slow
def test_a_checker_finds_the_mistakes_and_nothing_else(tmp_path):
    api = pytest.importorskip("mypy.api")
    options = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]
    files = [FOLDER / "public_surface.py", FOLDER / "mistakes.py"]
    report, errors, _ = api.run([*options, f"--cache-dir={tmp_path}", *map(str, files)])
    assert errors == ""
    found = re.findall(r"(\w+)\.py:(\d+): error: .*\[([a-z-]+)\]$", report, re.M)
    lines = files[1].read_text(encoding="utf-8").splitlines()
    expected = [
        ("mistakes", str(number), line.partition("# expected: ")[2])
        for number, line in enumerate(lines, start=1)
        if "# expected: " in line
    ]
    assert len(expected) == 6
    assert sorted(found) == sorted(expected), report
