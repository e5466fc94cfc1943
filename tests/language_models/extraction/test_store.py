"""Activations on the disk: the same as in memory, whatever happens on the way."""

import hashlib
import json
import os
import pathlib
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from sksae import TopKSAE
from sksae.language_models import ActivationExtractor, load_activations
from sksae.language_models.extraction import _activation_reader
from sksae.language_models.extraction._shards import FILES, MANIFEST, TOKEN, read_facts, write_facts
from tests.cases import each_case, tries

TEXTS = [
    "The cat sat on the mat.",
    "",
    "희소 특징 👩",
    "a\r\ndog \u2028and a log",
    "hello world",
    "a",
]


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr(_activation_reader, "CHUNK_TOKENS", 8)


@pytest.fixture(scope="module")
def extractor(gpt2, bpe):
    return ActivationExtractor(gpt2, 1, tokenizer=bpe, drop_first_position=False)


def same_tables(one, other):
    for name in ("text", "position", "id", "string", "start", "end", "group"):
        assert getattr(one, name).tolist() == getattr(other, name).tolist()
    assert one.texts == other.texts
    assert one.policy == other.policy


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != ".lock"}


# What is written


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_file_has_the_rows_and_their_table(extractor, tmp_path, dtype):
    rows, tokens = extractor.extract(TEXTS)
    stored, table = extractor.to_memmap(iter(TEXTS), tmp_path / "new" / "folder", dtype)
    assert isinstance(stored, np.memmap)
    assert not stored.flags.writeable
    assert stored.dtype == dtype
    np.testing.assert_allclose(stored, rows, rtol=1e-3 if dtype == "float16" else 1e-5, atol=1e-4)
    same_tables(tokens, table)
    assert set(contents(tmp_path / "new" / "folder")) == {*FILES, MANIFEST}
    again, same = load_activations(str(tmp_path / "new" / "folder"))
    np.testing.assert_array_equal(again, stored)
    same_tables(table, same)
    # Plain files that need nothing of ours.
    np.testing.assert_array_equal(np.load(tmp_path / "new" / "folder" / "rows.npy"), stored)
    assert np.load(tmp_path / "new" / "folder" / "tokens.npy").dtype == TOKEN
    same_tables(tokens.merged()[0], table.merged()[0])


@given(texts=st.lists(st.text("ab the\n\r\u2028특é👩", max_size=12), max_size=6))
@settings(max_examples=tries(25), deadline=None, suppress_health_check=list(HealthCheck))
def test_what_is_read_is_what_was_written(extractor, tmp_path_factory, texts):
    rows, tokens = extractor.extract(texts)
    stored, table = extractor.to_memmap(texts, tmp_path_factory.mktemp("x"), "float32")
    assert stored.shape == rows.shape
    np.testing.assert_allclose(stored, rows, atol=1e-5)
    same_tables(tokens, table)


def test_special_tokens_ids_and_conversations(bert, wordpiece, tmp_path):
    extractor = ActivationExtractor(bert, 1, tokenizer=wordpiece, include_special_tokens=True)
    _, tokens = extractor.extract(["the cat", "hello"])
    _, table = extractor.to_memmap(["the cat", "hello"], tmp_path / "texts")
    same_tables(tokens, table)
    assert table.string.tolist() == ["[CLS]", "the", "cat", "[SEP]", "[CLS]", "hello", "[SEP]"]
    _, table = extractor.to_memmap([[2, 5, 6, 3]], tmp_path / "ids")
    assert table.string.tolist() == ["[CLS]", "the", "cat", "[SEP]"]
    wordpiece.chat_template = "{{ messages[0]['content'] }}"
    talks = [[{"role": "user", "content": "the cat"}]]
    _, table = extractor.to_memmap(talks, tmp_path / "talks")
    assert table.texts == ["the cat"]


def test_an_estimator_reads_the_file(extractor, tmp_path):
    texts = ["the cat sat on the mat and the dog", "a sparse autoencoder"] * 10
    rows, _ = extractor.to_memmap(texts, tmp_path)
    sae = TopKSAE(32, k=3, max_iter=3, random_state=0)
    in_memory = clone(sae).fit(np.array(rows))
    on_disk = clone(sae).fit(rows)
    np.testing.assert_array_equal(on_disk.components_, in_memory.components_)
    np.testing.assert_array_equal(on_disk.transform(rows), in_memory.transform(np.array(rows)))


def test_a_complete_folder_is_only_opened(extractor, tmp_path, monkeypatch):
    extractor.to_memmap(TEXTS, tmp_path)
    before = contents(tmp_path)
    extractor.to_memmap(iter(TEXTS), tmp_path)
    assert contents(tmp_path) == before
    for other, what in (
        (TEXTS[:-1], "has 6 texts already, but X has only 5"),
        ([*TEXTS, "more"], "is complete with 6 texts, but X has more"),
        (["x", *TEXTS[1:]], "begun with other texts"),
        ([[1, 2]] * 6, "begun with input='text', not with input='input_ids'"),
    ):
        with pytest.raises(ValueError, match=what):
            extractor.to_memmap(other, tmp_path)
    with pytest.raises(ValueError, match="dtype='float16', not with dtype='float32'"):
        extractor.to_memmap(TEXTS, tmp_path, "float32")
    with pytest.raises(ValueError, match="drop_first_position=False, not with"):
        clone(extractor).set_params(drop_first_position=True).to_memmap(TEXTS, tmp_path)
    assert contents(tmp_path) == before


# What goes wrong


def interrupted(texts, after):
    yield from texts[:after]
    raise KeyboardInterrupt


def test_it_continues_where_it_stopped(extractor, tmp_path):
    extractor.to_memmap(TEXTS, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        extractor.to_memmap(interrupted(TEXTS, 4), tmp_path / "part")
    done = json.loads((tmp_path / "part" / "progress.json").read_text())["n_texts"]
    assert 0 < done <= 4
    with pytest.raises(ValueError, match=f"{done} texts are done.*to_memmap"):
        load_activations(tmp_path / "part")
    # What was appended after the last commit does not count.
    with (tmp_path / "part" / "rows.part").open("ab") as file:
        file.write(b"half a shard")
    read = []
    extractor.to_memmap((read.append(t) or t for t in TEXTS), tmp_path / "part")
    assert read == TEXTS
    assert contents(tmp_path / "part") == contents(tmp_path / "whole")


def test_other_texts_do_not_continue_it(extractor, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        extractor.to_memmap(interrupted(TEXTS, 4), tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="begun with other texts"):
        extractor.to_memmap(["other", *TEXTS[1:]], tmp_path)
    with pytest.raises(ValueError, match="but X has only 1"):
        extractor.to_memmap(TEXTS[:1], tmp_path)
    assert contents(tmp_path) == before


def test_another_model_does_not_continue_it(extractor, tiny, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        extractor.to_memmap(interrupted(TEXTS, 4), tmp_path)
    other = tiny("gpt2")
    with torch.no_grad():
        other.wte.weight += 0.1 * torch.randn_like(other.wte.weight)
    with pytest.raises(ValueError, match=r"another model or tokenizer: the rows of X\[0\]"):
        clone(extractor).set_params(model=other).to_memmap(TEXTS, tmp_path)
    with pytest.raises(ValueError, match="with config="):
        clone(extractor).set_params(model=tiny("gpt2"), layer=1).set_params(
            model=_wider(tiny("gpt2"))
        ).to_memmap(TEXTS, tmp_path)
    extractor.to_memmap(TEXTS, tmp_path)


def _wider(model):
    model.resize_token_embeddings(400)
    return model


def test_activations_beyond_float16(extractor, tiny, tmp_path):
    loud = tiny("gpt2")
    with torch.no_grad():
        loud.wte.weight[loud.wte.weight.shape[0] // 2 :] *= 1
        loud.wpe.weight[5] = 1e6
    loud = clone(extractor).set_params(model=loud)
    texts = ["a", "hello", "the cat sat on the mat and the dog"]
    with pytest.raises(ValueError, match=r"activation of X\[2\] is 1.*dtype='float32'"):
        loud.to_memmap(texts, tmp_path / "half")
    with pytest.raises(ValueError, match="is not complete"):
        load_activations(tmp_path / "half")
    rows, _ = loud.to_memmap(texts, tmp_path / "full", "float32")
    assert np.abs(rows).max() > 65504


class Fault:
    """Stops the process, or raises, before or after the n-th step that touches the disk."""

    def __init__(self, monkeypatch, step, after, stop):
        self.count, self.step, self.after, self.stop = 0, step, after, stop
        for owner, name in (
            (os, "fsync"),
            (pathlib.Path, "replace"),
            (pathlib.Path, "unlink"),
        ):
            monkeypatch.setattr(owner, name, self.around(getattr(owner, name)))

    def around(self, call):
        def counted(*args, **kwargs):
            self.count += 1
            mine = self.count == self.step
            if mine and not self.after:
                self.stop()
            result = call(*args, **kwargs)
            if mine and self.after:
                self.stop()
            return result

        return counted


def full():
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("after", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_error_at_any_step_can_be_continued(extractor, tmp_path, after):
    texts = TEXTS[:4]
    extractor.to_memmap(texts, tmp_path / "whole")
    expected = contents(tmp_path / "whole")
    for step in range(1, 200):
        folder = tmp_path / str(step)
        with pytest.MonkeyPatch.context() as patch:
            fault = Fault(patch, step, after, full)
            try:
                extractor.to_memmap(texts, folder)
                finished = True
            except OSError as error:
                finished = error.errno != 28
        if fault.count < step:
            break
        if not finished and not (folder / MANIFEST).exists():
            with pytest.raises((ValueError, FileNotFoundError)):
                load_activations(folder)
        extractor.to_memmap(texts, folder)
        assert contents(folder) == expected, step
    assert step > 20


CRASHES = """
import os, pathlib, sys
import pytest, torch
torch.set_num_threads(1)
from sksae.language_models import ActivationExtractor, load_activations
from sksae.language_models.extraction import _activation_reader
from tests.language_models.conftest import byte_level
from tests.language_models.families import build
from tests.language_models.extraction.test_store import TEXTS, Fault, contents

_activation_reader.CHUNK_TOKENS = 8
root = pathlib.Path(sys.argv[1])
extractor = ActivationExtractor(build("gpt2"), 1, tokenizer=byte_level(), drop_first_position=False)
extractor.to_memmap(TEXTS, root / "whole")
expected = contents(root / "whole")
step = 0
while True:
    step += 1
    folder = root / str(step)
    child = os.fork()
    if not child:
        with pytest.MonkeyPatch.context() as patch:
            Fault(patch, step, step % 2, lambda: os._exit(9))
            extractor.to_memmap(TEXTS, folder)
        os._exit(0)
    killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if not killed:
        break
    assert killed == 9
    extractor.to_memmap(TEXTS, folder)
    assert contents(folder) == expected
print(step)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_crash_at_any_step_can_be_continued(tmp_path):
    command = [sys.executable, "-c", CRASHES, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 20


def test_two_writers_at_once(extractor, tmp_path):
    inside, go_on = threading.Event(), threading.Event()

    def texts():
        for i, text in enumerate(TEXTS):
            if i == len(TEXTS) - 1:
                inside.set()
                go_on.wait(10)
            yield text

    writer = threading.Thread(target=lambda: extractor.to_memmap(texts(), tmp_path))
    writer.start()
    inside.wait(10)
    with pytest.raises(RuntimeError, match="is being written to by another process"):
        extractor.to_memmap(TEXTS, tmp_path)
    go_on.set()
    writer.join()
    rows, _ = extractor.to_memmap(TEXTS, tmp_path)
    assert len(rows) == len(extractor.transform(TEXTS))


def test_folders_that_are_something_else(extractor, tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder of activations"):
        load_activations(tmp_path)
    np.save(tmp_path / "rows.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"has a rows\.npy that is not of `to_memmap`"):
        extractor.to_memmap(TEXTS, tmp_path)
    assert np.load(tmp_path / "rows.npy").tolist() == [0, 0, 0]
    with pytest.raises(NotADirectoryError, match="activations need a folder"):
        extractor.to_memmap(TEXTS, tmp_path / "rows.npy")
    with pytest.raises(ValueError, match="dtype must be one of"):
        extractor.to_memmap(TEXTS, tmp_path / "x", "float64")


def test_a_shortened_file_is_noticed(extractor, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        extractor.to_memmap(interrupted(TEXTS, 4), tmp_path)
    os.truncate(tmp_path / "rows.part", 600)
    with pytest.raises(ValueError, match=r"rows\.part is shorter than progress\.json says"):
        extractor.to_memmap(TEXTS, tmp_path)


def test_damage_while_it_is_written_is_noticed(extractor, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        extractor.to_memmap(interrupted(TEXTS, 4), tmp_path)
    raw = bytearray((tmp_path / "rows.part").read_bytes())
    raw[700] ^= 1
    (tmp_path / "rows.part").write_bytes(raw)
    with pytest.raises(ValueError, match=r"rows\.part is damaged: its digest.*Delete"):
        extractor.to_memmap(TEXTS, tmp_path)


def test_a_complete_folder_with_other_rows_is_refused(extractor, tmp_path):
    """Also by `to_memmap`, which opens what is complete; the rows are behind those of X[0]."""
    rows, _ = extractor.to_memmap(TEXTS, tmp_path, "float32")
    changed = np.array(rows)
    changed[-1, 3] = np.nan
    raw = (tmp_path / "rows.npy").read_bytes()
    (tmp_path / "rows.npy").write_bytes(raw[: -changed.nbytes] + changed.tobytes())
    for call in (load_activations, lambda path: extractor.to_memmap(TEXTS, path, "float32")):
        with pytest.raises(ValueError, match=r"rows\.npy is damaged: its digest is not that"):
            call(tmp_path)
    opened, _ = load_activations(tmp_path, verify=False)
    np.testing.assert_array_equal(opened, changed)
    (tmp_path / "rows.npy").write_bytes(raw[:-8])
    with pytest.raises(ValueError, match=r"rows\.npy is damaged: it has .* bytes, not"):
        load_activations(tmp_path, verify=False)


@each_case("column, value", [("string", -3), ("string", 10**6), ("text", -1), ("text", 6)])
def test_a_table_that_points_elsewhere_is_refused(extractor, tmp_path, column, value):
    """By someone who knows how to make digests."""
    extractor.to_memmap(TEXTS, tmp_path)
    lines = np.load(tmp_path / "tokens.npy")
    lines[column][2] = value
    header = (tmp_path / "tokens.npy").read_bytes()[:512]
    (tmp_path / "tokens.npy").write_bytes(header + lines.tobytes())
    facts = read_facts(tmp_path / MANIFEST)
    facts["digests"]["tokens.npy"] = hashlib.sha256(lines.tobytes()).hexdigest()
    write_facts(tmp_path / MANIFEST, facts)
    with pytest.raises(ValueError, match=rf"tokens\.npy is damaged: it has a {column} that"):
        load_activations(tmp_path)


@each_case(
    "change, message",
    [
        ({"format": 9}, "another version of sksae"),
        ({"n_rows": -1}, "counts that are none"),
        ({"n_rows": "3"}, "counts that are none"),
        ({"n_rows": 10**12}, r"rows\.npy is damaged: it has .* bytes, not"),
        ({"n_strings": 0}, r"strings\.jsonl cannot be read: it has .* lines, not 0"),
        ({"fingerprint": {"dtype": "O"}}, "type of the rows"),
        ({"digests": {}}, "lacks the type of the rows or digests"),
    ],
)
def test_facts_that_do_not_fit_are_refused(extractor, tmp_path, change, message):
    extractor.to_memmap(TEXTS, tmp_path)
    write_facts(tmp_path / MANIFEST, read_facts(tmp_path / MANIFEST) | change)
    with pytest.raises(ValueError, match=message) as caught:
        load_activations(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_rows_that_are_not_finite_are_not_written(extractor, tiny, tmp_path):
    broken = tiny("gpt2")
    with torch.no_grad():
        broken.wpe.weight[12] = float("nan")
    broken = clone(extractor).set_params(model=broken)
    with pytest.raises(ValueError, match=r"activation of X\[0\] is not finite"):
        broken.to_memmap(["the cat sat on the mat and the dog " * 3], tmp_path)


def test_progress_is_shown(extractor, tmp_path, capsys):
    loud = clone(extractor).set_params(verbose=1)
    with pytest.raises(KeyboardInterrupt):
        loud.to_memmap(interrupted(TEXTS, 5), tmp_path)
    capsys.readouterr()
    loud.to_memmap(TEXTS, tmp_path)
    shown = capsys.readouterr().out
    assert "6/6 texts" in shown
    assert shown.endswith("6/6 texts]\n")


# Streams


@each_case("chunk_rows, buffer_rows", [(1, 1), (4, 4), (4, 7), (5, None), (99, 300)])
def test_a_stream_has_each_row_once(extractor, chunk_rows, buffer_rows):
    rows = extractor.transform(TEXTS)
    sizes = {"chunk_rows": chunk_rows, "buffer_rows": buffer_rows, "random_state": 0}
    chunks = list(extractor.stream(iter(TEXTS), **sizes))
    assert [len(chunk) for chunk in chunks[:-1]] == [chunk_rows] * (len(chunks) - 1)
    drawn = np.concatenate(chunks)
    assert drawn.dtype == np.float32
    assert drawn.shape == rows.shape
    order = np.lexsort(rows.round(3).T)
    drawn_order = np.lexsort(drawn.round(3).T)
    np.testing.assert_allclose(drawn[drawn_order], rows[order], atol=2e-3)
    again = np.concatenate(list(extractor.stream(TEXTS, **sizes)))
    np.testing.assert_array_equal(again, drawn)
    if chunk_rows > 1:
        assert not np.allclose(drawn, rows, atol=1e-3)


def test_a_stream_is_for_partial_fit(extractor):
    sae = TopKSAE(20, k=2, random_state=0)
    for rows in extractor.stream(TEXTS * 5, chunk_rows=32, random_state=0):
        sae.partial_fit(rows)
    assert sae.n_iter_ == -(-len(extractor.transform(TEXTS * 5)) // 32)


def test_bad_sizes_of_a_stream(extractor):
    for sizes in ({"chunk_rows": 0}, {"chunk_rows": 1.5}, {"chunk_rows": 8, "buffer_rows": 7}):
        with pytest.raises(ValueError, match="_rows"):
            extractor.stream(TEXTS, **sizes)
    with pytest.raises(ValueError, match="seed"):
        extractor.stream(TEXTS, random_state="x")
    assert list(extractor.stream([])) == []
