import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from sksae import _optional, language_models
from sksae.interpret import FeatureAtlas, FeatureContrast
from tests.cases import each_case

TABLES = ["Attribution", "Behaviour", "LogitLens", "TokenBehaviour", "TokenTable"]


def asks_for_frame(name):
    """The method of a public class that makes a data frame."""
    if name == "FeatureAtlas":
        return FeatureAtlas().fit([[1.0], [0.0]]).table
    if name == "FeatureContrast":
        return FeatureContrast(min_documents=1).fit(np.eye(4), [0, 1, 0, 1]).table
    cls = getattr(language_models, name)
    return cls(**{one.name: np.zeros((1, 1)) for one in fields(cls)}).to_frame


@each_case("name", [*TABLES, "FeatureAtlas", "FeatureContrast"])
def test_a_data_frame_without_pandas_names_the_extra(monkeypatch, name):
    ask = asks_for_frame(name)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=rf"{name}\.t\w+ needs pandas.*'sksae\[pandas\]'"):
        ask()


def test_each_extra_is_declared():
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    for package, extra in _optional._EXTRAS.items():
        assert [one.partition(">=")[0] for one in extras[extra]] == [package]
