"""Activations at an URL of fsspec: copied once, and read like any folder."""

import sys

import numpy as np
import pytest

from sksae.language_models import ActivationExtractor, load_activations
from sksae.language_models.extraction._shards import MANIFEST, ROWS

fsspec = pytest.importorskip("fsspec")
URL = "memory://bucket/rows"


@pytest.fixture(scope="module")
def extractor(gpt2, bpe):
    return ActivationExtractor(gpt2, 1, tokenizer=bpe)


@pytest.fixture
def memory():
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()


def put(memory, extractor, texts, folder):
    rows, tokens = extractor.to_memmap(texts, folder)
    if memory.exists("/bucket/rows"):
        memory.rm("/bucket/rows", recursive=True)
    for path in folder.iterdir():
        memory.pipe(f"/bucket/rows/{path.name}", path.read_bytes())
    return np.array(rows), tokens


def copied(memory, monkeypatch):
    """The names of the files that are copied from now on."""
    names, original = [], type(memory).get_file
    monkeypatch.setattr(
        type(memory),
        "get_file",
        lambda self, remote, local: (
            names.append(remote.rpartition("/")[2]),
            original(self, remote, local),
        ),
    )
    return names


def test_activations_at_an_url_are_copied_once(memory, extractor, tmp_path, monkeypatch):
    expected, table = put(memory, extractor, ["hello world", "the cat"], tmp_path / "here")
    names, copy = copied(memory, monkeypatch), tmp_path / "copy"
    rows, tokens = load_activations(URL, cache_dir=copy)
    np.testing.assert_array_equal(rows, expected)
    assert tokens.string.tolist() == table.string.tolist()
    assert names[-1] == MANIFEST
    assert ROWS in names
    names.clear()
    load_activations(URL, cache_dir=copy)
    assert names == [MANIFEST]
    # Of a copy that was interrupted, files that are whole are kept and damaged ones replaced.
    (copy / MANIFEST).unlink()
    damaged = bytearray((copy / ROWS).read_bytes())
    damaged[-1] ^= 1
    del rows
    (copy / ROWS).write_bytes(damaged)
    names.clear()
    np.testing.assert_array_equal(load_activations(URL, cache_dir=copy)[0], expected)
    assert names == [MANIFEST, ROWS, MANIFEST]


def test_what_an_url_cannot_give_is_said(memory, extractor, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="name a folder for its copy by cache_dir"):
        load_activations(URL)
    with pytest.raises(ValueError, match="cache_dir is for URLs"):
        load_activations(tmp_path, cache_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match=f"no complete activations: there is no {MANIFEST}"):
        load_activations(URL, cache_dir=tmp_path / "copy")
    put(memory, extractor, ["hello"], tmp_path / "one")
    load_activations(URL, cache_dir=tmp_path / "copy")
    put(memory, extractor, ["world"], tmp_path / "other")
    with pytest.raises(ValueError, match=r"has other activations than memory://.*cache_dir"):
        load_activations(URL, cache_dir=tmp_path / "copy")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ImportError, match=r"load_activations needs fsspec.*'sksae\[remote\]'"):
        load_activations(URL, cache_dir=tmp_path / "copy")
