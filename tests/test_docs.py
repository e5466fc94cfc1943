"""The pages say what the package has, and their code runs."""

import importlib
import re
import runpy
from pathlib import Path

import pytest

import sksae
from tests.cases import each_case

ROOT = Path(__file__).parents[1]
PUBLIC = ["sksae", *(f"sksae.{name}" for name in dir(sksae) if name in sksae._SUBMODULES)]


@each_case("module", PUBLIC)
def test_every_public_name_is_in_the_api_page(module):
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    missing = [name for name in importlib.import_module(module).__all__ if f"`{name}" not in page]
    assert not missing


def test_every_name_of_the_api_page_is_public():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    names = {name for module in PUBLIC for name in importlib.import_module(module).__all__}
    listed = re.findall(r"^\| `(\w+)", page, flags=re.MULTILINE)
    assert listed
    assert set(listed) <= names


def test_pages_link_to_what_exists():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_costs_on_paper_are_those_of_the_script():
    page = (ROOT / "docs" / "several_machines.md").read_text(encoding="utf-8").splitlines()
    script = runpy.run_path(str(ROOT / "docs" / "experiments" / "scaling.py"))
    lines = script["table"](10**9, 4096, 131_072, 64)
    assert len(lines) == 8
    assert set(lines) <= set(page)
    # Each measured step is explained to an eighth.
    measured = [seconds for _, seconds in script["MEASURED"].values()]
    assert script["measured_rates"]()[2] == pytest.approx(measured, rel=1 / 8)


def test_version_is_stated_once():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '[tool.hatch.version]\npath = "sksae/__init__.py"' in text
    assert re.findall('^version = "', text, re.M) == []
    release = sksae.__version__.partition(".dev")[0]
    for page, line in (
        ("CITATION.cff", f"version: {release}\n"),
        ("citation.md", f"{{{release}}}"),
    ):
        assert line in (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert f"## {release}" in (ROOT / "docs" / "changelog.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_readme_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    namespace = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.S):
        exec(block, namespace)
    score, labels = capsys.readouterr().out.splitlines()[:2]
    assert float(score) > 0.8
    assert len(set(labels.strip("[]").split())) == 1  # ten images of one digit
    assert namespace["codes"].shape == (450, 256)
    assert namespace["classifier"].score(namespace["test"], namespace["test_package"]) > 0.75
    assert namespace["kept"]["ce_recovered"] > 0.5
    assert " shape" in namespace["tokenizer"].decode(namespace["ids"][0])
    assert (tmp_path / "features.html").stat().st_size > 1_000_000
    assert len(set(namespace["sae"].get_feature_names_out())) == 512
