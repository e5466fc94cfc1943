"""Files that are written and read anywhere in the package: whole, with right modes, and finite."""

import os
import signal
import stat
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest

import sksae
from sksae import _files
from sksae._files import (
    append_whole,
    replacing,
    working_place,
    write_text,
)
from sksae.autoencoders import TopKSAE
from sksae.formats import (
    read,
    read_neuronpedia,
    read_openai,
    write_dictionary_learning,
    write_saelens,
)
from sksae.formats._tensors import write_json
from sksae.interpret import CachedClient, FeatureAtlas, load_explanations
from sksae.language_models import load_activations
from tests.cases import each_case

posix = pytest.mark.skipif(os.name != "posix", reason="modes, pipes and locks of POSIX")


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# Writing


@pytest.fixture
def umask():
    """Set the umask; it is put back."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.fixture(scope="module")
def fitted():
    X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    return TopKSAE(8, k=2, max_iter=1, random_state=0).fit(X)


@posix
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_a_new_file_has_the_mode_of_any_new_file(umask, mask, mode, fitted, tmp_path):
    umask(mask)
    assert mode_of(fitted.save(tmp_path / "sae.safetensors")) == mode
    write_text(tmp_path / "note", "text")
    assert mode_of(tmp_path / "note") == mode


@posix
def test_the_file_that_a_link_leads_to_is_written(fitted, tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    write_text(folder / "first", "before")
    for link, target in (("latest", "first"), ("new", "second"), ("sae.safetensors", "weights")):
        (tmp_path / link).symlink_to(folder / target)
    write_text(tmp_path / "latest", "after")
    write_text(tmp_path / "new", "new")
    fitted.save(tmp_path / "sae.safetensors")
    assert [path.read_text() for path in (folder / "first", folder / "second")] == ["after", "new"]
    assert np.array_equal(sksae.load(folder / "weights").components_, fitted.components_)
    assert all(path.is_symlink() for path in tmp_path.iterdir() if path != folder)
    assert names(folder) == ["first", "second", "weights"]
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(OSError, match="leads to itself"):
        write_text(tmp_path / "loop", "text")


@posix
@pytest.mark.parametrize("mode", [0o664, 0o600, 0o444, 0o640])
def test_a_file_that_is_replaced_keeps_its_mode(umask, mode, fitted, tmp_path):
    path = fitted.save(tmp_path / "sae.safetensors")
    path.chmod(mode)
    fitted.save(path)
    assert mode_of(path) == mode
    assert sksae.load(path).n_components_ == 8


@each_case("name", ["a", "lock", "new", "x" * 243, "x" * 255, "é" * 127, ".hidden"])
def test_names_of_any_length_that_the_system_takes(name, fitted, tmp_path):
    fitted.save(tmp_path / name)
    assert names(tmp_path) == [name]
    assert sksae.load(tmp_path / name).n_components_ == 8


def test_threads_that_write_one_file_leave_one_of_theirs(tmp_path):
    path, errors = tmp_path / "file", []

    def write(letter):
        try:
            for _ in range(15):
                write_text(path, letter * 50_000)
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    text = path.read_text()
    assert text == text[0] * 50_000
    assert names(tmp_path) == ["file"]


def test_an_error_changes_nothing(tmp_path):
    write_text(tmp_path / "file", "before")

    def interrupted():
        with replacing(tmp_path / "file") as part:
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / "file").read_text() == "before"
    assert names(tmp_path) == ["file"]


KILLED = """
import pathlib, runpy, sys, time
working_place = runpy.run_path(sys.argv[1])["working_place"]
with working_place(pathlib.Path(sys.argv[2])) as place:
    (place / "half").write_text("half")
    print("writing", flush=True)
    time.sleep(600)
"""


@posix
def test_what_a_killed_process_left_is_removed_and_what_others_write_is_not(tmp_path):
    path = tmp_path / "file"
    command = [sys.executable, "-c", KILLED, _files.__file__, str(tmp_path)]
    killed, living = (subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2))
    try:
        for process in (killed, living):
            assert process.stdout.readline() == b"writing\n"
        killed.kill()
        killed.wait()
        with working_place(tmp_path):  # another of this process
            assert len(names(tmp_path)) == 2
            write_text(path, "whole")
            assert len(names(tmp_path)) == 3
    finally:
        for process in (killed, living):
            process.kill()
            process.communicate()
    write_text(path, "whole")
    assert names(tmp_path) == ["file"]


@posix
def test_folders_of_others_and_new_ones_are_not_removed(tmp_path):
    (tmp_path / ".sksae-new").mkdir()
    (tmp_path / ".sksae-new" / "content").touch()  # and no lock
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "lock").touch()
    (tmp_path / ".sksae-link").symlink_to(tmp_path / "elsewhere")
    write_text(tmp_path / "file", "text")
    assert names(tmp_path) == [".sksae-link", ".sksae-new", "elsewhere", "file"]
    assert names(tmp_path / "elsewhere") == ["lock"]
    long_ago = time.time() - 7200
    os.utime(tmp_path / ".sksae-new", (long_ago, long_ago))
    write_text(tmp_path / "file", "text")
    assert names(tmp_path) == [".sksae-link", "elsewhere", "file"]


@posix
def test_an_empty_folder_is_removed_and_its_writer_takes_another(tmp_path, monkeypatch):
    """Killed before it had a lock; or about to have one, while another writer cleans up."""
    (tmp_path / ".sksae-empty").mkdir()
    write_text(tmp_path / "file", "text")
    assert names(tmp_path) == ["file"]
    folders = iter([tmp_path / ".sksae-removed", tmp_path / ".sksae-second"])

    def mkdtemp(**options):
        folder = next(folders)
        if folder.name.endswith("second"):
            folder.mkdir()
        return str(folder)

    monkeypatch.setattr(_files.tempfile, "mkdtemp", mkdtemp)
    write_text(tmp_path / "file", "new text")
    assert (tmp_path / "file").read_text() == "new text"
    assert names(tmp_path) == ["file"]


@posix
def test_a_folder_that_was_moved_away_comes_back(tmp_path):
    """Killed between moving the old folder away and the new one to its place."""
    left = tmp_path / ".sksae-left"
    (left / "before" / "source").mkdir(parents=True)
    (left / "lock").touch()
    write_text(tmp_path / "file", "text")
    assert names(tmp_path) == ["file", "source"]


def test_what_is_synced_is_open_for_writing(fitted, tmp_path, monkeypatch):
    """As Windows wants it."""
    fcntl = pytest.importorskip("fcntl")
    synced, sync = [], os.fsync

    def like_windows(descriptor):
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            mode = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
            synced.append(mode)
        return sync(descriptor)

    monkeypatch.setattr(os, "fsync", like_windows)
    fitted.save(tmp_path / "sae.safetensors")
    assert synced == [os.O_RDWR]


@posix
def test_only_files_are_replaced(fitted, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match=r"a pipe or device.*pipe"):
        fitted.save(tmp_path / "pipe")
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        fitted.save(tmp_path)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


class Stream:
    """A file that takes so many bytes at each call."""

    def __init__(self, takes):
        self.takes, self.content = list(takes), b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def write(self, data):
        taken = min(self.takes.pop(0), len(data))
        self.content += data[:taken]
        return taken


def test_appending_is_all_or_an_error(tmp_path, monkeypatch):
    path = tmp_path / "lines"
    append_whole(path, b"\none\n")
    append_whole(path, b"\ntwo\n")
    assert path.read_bytes() == b"\none\n\ntwo\n"
    stream = Stream([3, 99])
    monkeypatch.setattr(_files.Path, "open", lambda *_, **__: stream)
    append_whole(path, b"\nthree\n")
    assert stream.content == b"\nth\nthree\n"
    stream.takes = [3, 2, 1]
    with pytest.raises(OSError, match="Not all could be written"):
        append_whole(path, b"\nfour\n")


@pytest.fixture
def full_at_60_kb():
    """No file of this process can grow beyond 60 kB: writing more is an error of the system."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@posix
def test_a_disk_that_is_full_is_an_error_with_the_name(tmp_path, full_at_60_kb):
    X = np.random.default_rng(0).normal(size=(600, 64)).astype(np.float32)
    sae = TopKSAE(512, k=2, max_iter=1, random_state=0).fit(X)
    writers = {
        "sae.safetensors": lambda: sae.save(tmp_path / "sae.safetensors"),
        "sae_weights.safetensors": lambda: write_saelens(tmp_path / "saelens", sae),
        "ae.pt": lambda: write_dictionary_learning(tmp_path / "dl", sae),
        "words.json": lambda: write_json(tmp_path / "words.json", {"a": "b" * 100_000}),
    }
    for name, write in writers.items():
        with pytest.raises(OSError, match=name):
            write()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


# Reading

LOADERS = {
    "load": sksae.load,
    "read": read,
    "read_openai": read_openai,
    "read_neuronpedia": read_neuronpedia,
    "FeatureAtlas.load": FeatureAtlas.load,
    "load_explanations": load_explanations,
}


@posix
@each_case("kind", ["pipe", "device", "folder", "nothing"])
@each_case("loader", LOADERS)
def test_what_is_no_file_is_named_at_once(loader, kind, tmp_path):
    path = tmp_path / f"it.{'pt' if loader == 'read_openai' else 'safetensors'}"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    with pytest.raises((OSError, ValueError), match=path.name):
        LOADERS[loader](path)


class Echo:
    def complete(self, messages):
        return messages[-1]["content"]


PATHS = {
    **LOADERS,
    "read": read,
    "load_activations": load_activations,
    **{name: getattr(sksae.formats, name) for name in sksae.formats.__all__ if "read_" in name},
    "CachedClient": lambda path: CachedClient(Echo(), path, identity="echo"),
    "write_text": lambda path: write_text(path, "text"),
}


@each_case("given", [None, 3, b"name"])
@each_case("what", PATHS)
def test_what_is_no_path_is_named(what, given):
    kind = type(given).__name__
    with pytest.raises(TypeError, match=f"path must be a str or Path. Got {kind} instead"):
        PATHS[what](given)


@each_case("name", ["batch-0.jsonl.gz", "batch-0.jsonl", "batch-0.json"])
def test_an_empty_file_of_lines_is_not_taken_for_no_lines(name, tmp_path):
    (tmp_path / name).touch()
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(ValueError, match=f"{name} is empty"):
            read_neuronpedia(path)


@posix
@pytest.mark.parametrize("name", ["activations.json", "progress.json"])
def test_a_pipe_in_a_folder_of_activations_is_named(name, tmp_path):
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=f"{name} is not a file, but a pipe"):
        load_activations(tmp_path)


def test_a_json_file_that_is_nested_too_deeply_is_named(tmp_path):
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"deep\.json cannot be read: it is nested too deeply"):
        _files.read_json(tmp_path / "deep.json")


def test_reading_in_threads_leaves_warning_filters_alone(fitted, tmp_path):
    from sksae.formats import write_dictionary_learning, write_saelens

    write_saelens(tmp_path / "saelens", fitted)
    write_dictionary_learning(tmp_path / "dictionary_learning", fitted)
    before = list(warnings.filters)

    def reading(folder):
        for _ in range(20):
            read(tmp_path / folder)

    threads = [
        threading.Thread(target=reading, args=(folder,))
        for folder in ("saelens", "dictionary_learning") * 3
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before
