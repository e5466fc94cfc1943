"""Atlases in files: the same after loading, and nothing but whole files is loaded."""

import json
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sksae._files import digest_of
from sksae.interpret import FeatureAtlas
from tests.cases import each_case, tries


@pytest.fixture(scope="module")
def atlas():
    rng = np.random.default_rng(0)
    codes = rng.gamma(1, 1, (80, 5)) * (rng.random((80, 5)) < 0.3)
    string = [f"w{i}" for i in rng.integers(0, 9, 78)] + ["\ud800", "특징\u202e"]
    return FeatureAtlas(n_examples=3).fit(
        codes, tokens={"text": np.repeat(np.arange(8), 10), "string": string}
    )


@pytest.fixture(scope="module")
def file(atlas, tmp_path_factory):
    return atlas.save(tmp_path_factory.mktemp("atlas") / "atlas.npz")


def test_an_atlas_is_the_same_after_loading(atlas, file):
    loaded = FeatureAtlas.load(file)
    assert loaded.get_params()["n_examples"] == 3
    assert loaded.facts_ == atlas.facts_
    assert loaded.table().equals(atlas.table())
    for j in range(5):
        one, other = atlas.feature(j), loaded.feature(j)
        assert [str(e) for e in one.examples] == [str(e) for e in other.examples]
        assert [(e.text, e.row) for e in one.sampled] == [(e.text, e.row) for e in other.sampled]
        assert one.silent.keys() == other.silent.keys()
        assert one.top_tokens == other.top_tokens


def test_names_of_texts_survive(tmp_path):
    atlas = FeatureAtlas().fit([[1.0], [2.0]], tokens={"text": ["a", "b"], "string": ["x", "y"]})
    loaded = FeatureAtlas.load(atlas.save(tmp_path / "atlas.npz"))
    assert [e.text for e in loaded.feature(0).examples] == ["b", "a"]


def test_the_file_holds_no_pickle(file):
    with np.load(file, allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)


@settings(max_examples=tries(25), deadline=None)
@given(keep=st.floats(0, 0.999))
def test_a_truncated_file_is_refused(file, tmp_path_factory, keep):
    raw = file.read_bytes()
    part = tmp_path_factory.mktemp("part") / "atlas.npz"
    part.write_bytes(raw[: int(keep * len(raw))])
    with pytest.raises(ValueError, match="no whole file of an atlas"):
        FeatureAtlas.load(part)


def rewritten(file, path, **changed):
    with np.load(file, allow_pickle=False) as arrays:
        content = {name: arrays[name] for name in arrays.files} | changed
    content = {name: value for name, value in content.items() if value is not None}
    del content["digest"]
    digest = digest_of(None, content)
    with path.open("wb") as out:
        np.savez(out, **content, digest=np.frombuffer(digest.encode(), np.uint8))
    return path


@each_case(
    "changed",
    [
        {"strongest_cell": np.array([10**9])},
        {"cell_string": None},
        {"string_ends": np.array([5], dtype=np.int64)},
        {"header": np.frombuffer(b"{}", dtype=np.uint8)},
        {"header": np.frombuffer(b"not json", dtype=np.uint8)},
        {"n_active": np.zeros(2, dtype=np.int64)},
        {"window_bounds": np.array([0, 10**12])},
        {"text_bounds": np.array([0, 20, 10, *range(30, 90, 10)])},
        {"n_active": np.zeros((5, 1), dtype=np.int64)},
        {"total": np.array(["a"] * 5)},
        {"sum_key": np.zeros(1, dtype=np.uint8)},
        {"string_rows": np.zeros((2, 2), dtype=np.int64)},
    ],
)
def test_arrays_that_do_not_fit_are_refused(file, tmp_path, changed):
    with pytest.raises(ValueError, match="no whole file of an atlas"):
        FeatureAtlas.load(rewritten(file, tmp_path / "wrong.npz", **changed))


def test_a_place_outside_its_text_is_refused(file, tmp_path):
    with np.load(file) as arrays:
        elsewhere = arrays["strongest_text"][::-1]
    changed = rewritten(file, tmp_path / "wrong.npz", strongest_text=elsewhere)
    with pytest.raises(ValueError, match="'strongest_cell' does not fit"):
        FeatureAtlas.load(changed)


def test_a_newer_version_is_named(file, tmp_path):
    with np.load(file) as arrays:
        header = json.loads(bytes(arrays["header"]))
    header["version"] = 99
    raw = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    with pytest.raises(ValueError, match="newer sksae"):
        FeatureAtlas.load(rewritten(file, tmp_path / "new.npz", header=raw))


def test_a_huge_claimed_shape_is_refused_before_memory_is_taken(file, tmp_path):
    claimed = tmp_path / "huge.npz"
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(claimed, "w") as new:
        for name in old.namelist():
            raw = old.read(name)
            if name == "n_active.npy":
                raw = raw.replace(b"(5,)", b"(10000000000000,)", 1)
                raw = raw.replace(b" " * 13 + b"\n", b"\n", 1)
            new.writestr(name, raw)
    with pytest.raises(ValueError, match="no whole file of an atlas"):
        FeatureAtlas.load(claimed)


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        FeatureAtlas.load(tmp_path / "none.npz")
