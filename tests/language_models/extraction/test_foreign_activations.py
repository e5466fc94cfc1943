"""Activations that vLLM, SAELens and BioNeMo wrote, in files made as theirs are."""

import json
import sys

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from safetensors.torch import save_file

from sksae import TopKSAE
from sksae.datasets import load_tiny_lm
from sksae.language_models import read_activations
from tests.cases import each_case

RNG = np.random.default_rng(0)
STATES = RNG.normal(size=(2, 5, 3, 8)).astype(np.float32)  # requests, tokens, layers, features
IDS = RNG.integers(0, 100, size=(2, 5))


def vllm(folder, dtype=torch.float32):
    for number in (1, 0):
        states = torch.from_numpy(STATES[number]).to(dtype)
        tensors = {"hidden_states": states, "token_ids": torch.from_numpy(IDS[number])}
        save_file(tensors, folder / f"cmpl-{number}.safetensors")
        (folder / f"cmpl-{number}.safetensors.lock").touch()
    return folder


def saelens(folder, *, ids=True):
    pyarrow = pytest.importorskip("pyarrow")
    columns = {"blocks.1.hook_resid_post": STATES[:, :, 1].tolist()}
    columns |= {"token_ids": IDS.tolist()} if ids else {}
    for number in range(2):
        table = pyarrow.table(
            {name: values[number : number + 1] for name, values in columns.items()}
        )
        path = str(folder / f"data-{number:05d}-of-00002.arrow")
        with (
            pyarrow.OSFile(path, "wb") as file,
            pyarrow.ipc.new_stream(file, table.schema) as writer,
        ):
            writer.write_table(table)
    files = [{"filename": f"data-{number:05d}-of-00002.arrow"} for number in range(2)]
    (folder / "state.json").write_text(json.dumps({"_data_files": files}))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def bionemo(folder, *, lists):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    for number in range(2):
        x = STATES[number, :, 0]
        columns = {"activations": list(x)} if lists else {f"{i}": x[:, i] for i in range(8)}
        parquet.write_table(pyarrow.table(columns), folder / f"shard_{number:05d}.parquet")
    (folder / "metadata.json").write_text(json.dumps({"n_samples": 10, "hidden_dim": 8}))
    return folder


def test_vllm(tmp_path):
    rows, tokens = read_activations(vllm(tmp_path), site=1)
    assert_array_equal(rows, STATES[:, 1:, 1].reshape(8, 8))
    assert tokens.text.tolist() == [0] * 4 + [1] * 4
    assert tokens.position.tolist() == [1, 2, 3, 4] * 2
    assert_array_equal(tokens.id, IDS[:, 1:].ravel())
    assert tokens.string[0] == f"#{IDS[0, 1]}"
    for text, start, end, string in zip(
        tokens.text, tokens.start, tokens.end, tokens.string, strict=True
    ):
        assert tokens.texts[text][start:end] == string
    assert TopKSAE(16, k=2, max_iter=1).fit(rows).transform(rows).shape == (8, 16)


def test_vllm_in_bfloat16_and_one_file(tmp_path):
    vllm(tmp_path, torch.bfloat16)
    path = tmp_path / "cmpl-1.safetensors"
    rows, tokens = read_activations(path, site=2, drop_first_position=False)
    expected = torch.from_numpy(STATES[1, :, 2]).bfloat16().float().numpy()
    assert_array_equal(rows, expected)
    assert len(tokens) == 5
    assert rows.dtype == np.float32


def test_a_tokenizer_gives_the_strings(tmp_path):
    _, tokenizer = load_tiny_lm()
    ids = tokenizer("sparse features")["input_ids"]
    states = {"hidden_states": torch.ones(len(ids), 1, 8), "token_ids": torch.tensor(ids)}
    save_file(states, tmp_path / "a.safetensors")
    _, tokens = read_activations(tmp_path, tokenizer=tokenizer, drop_first_position=False)
    assert "".join(tokens.string) == tokens.texts[0] == "<s>sparse features"


@each_case("ids", [True, False])
def test_saelens(tmp_path, ids):
    rows, tokens = read_activations(saelens(tmp_path, ids=ids), site="blocks.1.hook_resid_post")
    assert_array_equal(rows, STATES[:, 1:, 1].reshape(8, 8))
    assert tokens.position.tolist() == [1, 2, 3, 4] * 2
    assert_array_equal(tokens.id, IDS[:, 1:].ravel() if ids else [-1] * 8)


@each_case("lists", [True, False])
def test_bionemo(tmp_path, lists):
    rows, tokens = read_activations(bionemo(tmp_path, lists=lists))
    assert_array_equal(rows, STATES[:, :, 0].reshape(10, 8))
    assert tokens.text.tolist() == list(range(10))


@each_case(
    "options, message",
    [
        ({}, "has the sites 0, 1, 2: choose one. Got site=None"),
        ({"site": 3}, "Got site=3"),
        ({"site": 0, "format": "saelenz"}, "format must be"),
    ],
)
def test_the_layer_is_chosen(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        read_activations(vllm(tmp_path), **options)


def test_what_is_no_such_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is nothing at"):
        read_activations(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="none of the formats vllm, saelens, bionemo"):
        read_activations(tmp_path)


def test_damaged_files_are_named(tmp_path):
    vllm(tmp_path)
    path = tmp_path / "cmpl-0.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"cmpl-0\.safetensors"):
        read_activations(tmp_path, site=0)
    save_file({"hidden_states": torch.ones(3, 8), "token_ids": torch.arange(3)}, path)
    with pytest.raises(ValueError, match=r"cmpl-0\.safetensors.*shapes"):
        read_activations(tmp_path, site=0)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "dataset_info.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"needs pyarrow.*'sksae\[parquet\]'"):
        read_activations(tmp_path)
