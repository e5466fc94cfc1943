"""Wrong, truncated and hostile files: a ValueError that names the file, and no code run."""

import json
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from sklearn.pipeline import Pipeline

from sksae.formats import read
from tests.cases import each_case, tries
from tests.estimators import arrays_of
from tests.formats.golden_files import FILES, GOLDEN, READ, file_of, name_of

WEIGHTS = {
    "saelens": "sae_weights.safetensors",
    "sparsify": "sae.safetensors",
    "dictionary_learning": "ae.pt",
    "openai": "autoencoder.pt",
    "gemma_scope": "params.npz",
    "sentence_transformers": "model.safetensors",
    **{kind: name for kind, name in FILES.items() if kind != "openai"},
}
ONE_EACH = [
    GOLDEN / name
    for name in (
        "saelens/gated",
        "sparsify/topk",
        "dictionary_learning/BatchTopKSAE",
        "openai/topk",
        "gemma_scope/params",
        "circuit_tracer/jumprelu",
        "goodfire/relu",
        "qwen_scope/SAE-Res-Qwen3-1.7B-Base-W64-L0_4",
        "sentence_transformers/topk",
    )
]

one_each = pytest.mark.parametrize("folder", ONE_EACH, ids=name_of)


def copy(folder, tmp_path):
    """A copy of a golden folder: what to read, and its file of weights."""
    target = tmp_path / folder.parent.name / folder.name
    shutil.copytree(folder, target)
    return file_of(target), target / WEIGHTS[folder.parent.name]


def attempt(path):
    """What was read and None, or None and what was wrong."""
    try:
        return read(path), None
    except ValueError as error:
        return None, str(error)


def assert_finite(model):
    sae = model[-1] if isinstance(model, Pipeline) else model
    for name, array in arrays_of(sae).items():
        assert np.isfinite(array).all(), name


@one_each
@pytest.mark.parametrize("keep", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_named(folder, keep, tmp_path):
    path, weights = copy(folder, tmp_path)
    data = weights.read_bytes()
    weights.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(ValueError, match=rf"{weights.name} cannot be read"):
        read(path)


@one_each
@settings(max_examples=tries(40), deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_named_or_read(folder, data, tmp_path_factory):
    path, weights = copy(folder, tmp_path_factory.mktemp("damaged"))
    raw = bytearray(weights.read_bytes())
    places = st.one_of(st.integers(0, min(400, len(raw) - 1)), st.integers(0, len(raw) - 1))
    for place, byte in data.draw(
        st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=4)
    ):
        raw[place] = byte
    weights.write_bytes(bytes(raw))
    model, complaint = attempt(path)
    if model is None:
        assert weights.name in complaint
    else:
        assert_finite(model)


@one_each
def test_a_missing_file_is_named(folder, tmp_path):
    path, weights = copy(folder, tmp_path)
    weights.unlink()
    with pytest.raises((FileNotFoundError, ValueError), match=r"There is no|nothing at|no format"):
        read(path)
    kind = folder.parent.name
    if kind not in FILES:
        with pytest.raises(FileNotFoundError, match=weights.name):
            read(path, format=kind)


@each_case("folder", [f for f in ONE_EACH if list(f.glob("*.json"))])
@each_case("text", ["", "{", "[]", "null", '"x"', "[" * 100_000, "{}", "\ufeff{}"])
def test_a_configuration_that_is_none_is_named(folder, text, tmp_path):
    path, _ = copy(folder, tmp_path)
    config = next(p for p in path.iterdir() if p.suffix == ".json")
    config.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=config.name):
        read(path)
    config.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=config.name):
        read(path)


@each_case("value", [None, "64", -1, 0, 2.5, [], {}, float("nan"), 10**30])
@each_case("name", ["d_in", "d_sae", "architecture", "apply_b_dec_to_input"])
def test_a_configuration_with_nonsense_is_refused(name, value, tmp_path):
    path, _ = copy(GOLDEN / "saelens/gated", tmp_path)
    config = json.loads((path / "cfg.json").read_text())
    (path / "cfg.json").write_text(json.dumps({**config, name: value}))
    with pytest.raises(ValueError, match=r"cfg\.json|sae_weights"):
        read(path)


@pytest.mark.parametrize("folder", READ, ids=name_of)
@each_case("bad", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(folder, bad, tmp_path):
    path, weights = copy(folder, tmp_path)
    if weights.suffix == ".safetensors":
        arrays = load_file(weights)
        name = "b_dec" if "b_dec" in arrays else "pre_bias"
        arrays[name][3] = bad
        save_file(arrays, weights)
    elif weights.suffix == ".npz":
        with np.load(weights) as file:
            arrays = dict(file)
        arrays["threshold"][3] = bad
        np.savez(weights, **arrays)
        name = "threshold"
    else:
        content = torch.load(weights, weights_only=True)
        name = next(n for n, t in content.items() if isinstance(t, torch.Tensor) and t.ndim == 2)
        content[name][1, 1] = bad
        torch.save(content, weights)
    with pytest.raises(ValueError, match=f"{weights.name} cannot be read: {name} has entries"):
        read(path)


class Bomb:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@each_case("protocol", ["torch", "pickle"])
@each_case("kind", ["openai/relu", "dictionary_learning/AutoEncoder"])
def test_no_code_is_run(kind, protocol, tmp_path):
    path, weights = copy(GOLDEN / kind, tmp_path)
    trace = tmp_path / "ran"
    content = {**torch.load(weights, weights_only=True), "activation": Bomb(trace)}
    if protocol == "torch":
        torch.save(content, weights)
    else:
        weights.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(ValueError, match="other than numbers"):
        read(path)
    assert not trace.exists()


def test_an_npz_with_objects_is_refused(tmp_path):
    path, weights = copy(GOLDEN / "gemma_scope/params", tmp_path)
    with np.load(weights) as file:
        arrays = dict(file)
    trace = tmp_path / "ran"
    arrays["b_enc"] = np.array([Bomb(trace)] * 64, dtype=object)
    np.savez(weights, **arrays)
    with pytest.raises(ValueError, match=r"params\.npz cannot be read"):
        read(path)
    assert not trace.exists()


def test_claims_that_a_file_cannot_keep_are_refused(tmp_path):
    """One number seen as a matrix, a compressed nothing, a header without its data."""
    path, weights = copy(GOLDEN / "dictionary_learning/AutoEncoderNew", tmp_path)
    config = {"trainer": {"dict_class": "AutoEncoderNew"}}
    (path / "config.json").write_text(json.dumps(config))
    wide = torch.zeros(1).expand(10**7, 10**7)
    content = {"encoder.weight": wide, "decoder.weight": wide.T, "encoder.bias": wide[0]}
    torch.save({**content, "decoder.bias": wide[0]}, weights)
    with pytest.raises(ValueError, match="claims more numbers"):
        read(path)

    path, weights = copy(GOLDEN / "gemma_scope/params", tmp_path)
    header = {"descr": "<f4", "fortran_order": False, "shape": (10**9, 10**9)}
    with zipfile.ZipFile(weights, "w") as file:
        for name in ("W_enc", "W_dec", "b_enc", "b_dec", "threshold"):
            with file.open(name + ".npy", "w") as member:
                np.lib.format.write_array_header_1_0(member, header)
    with pytest.raises(ValueError, match="claims 4,000,000,000"):
        read(path)


@each_case(
    "change, message",
    [
        (lambda w: w.pop("b_mag"), "it has no b_mag"),
        (lambda w: w.update(W_skip=w["W_dec"]), "not of this format: W_skip"),
        (lambda w: w.update(b_mag=w["b_mag"][:-1]), r"b_mag has shape \(63,\), not \(64\)"),
        (lambda w: w.update(W_dec=w["W_dec"].T.copy()), r"W_dec has shape \(16, 64\)"),
        (lambda w: w.update(r_mag=w["r_mag"] + 1e4), "overflow"),
        (lambda w: w.update(r_mag=w["r_mag"] - 1e4), "overflow"),
    ],
)
def test_other_tensors_than_expected_are_named(change, message, tmp_path):
    path, weights = copy(GOLDEN / "saelens/gated", tmp_path)
    arrays = load_file(weights)
    change(arrays)
    save_file(arrays, weights)
    with pytest.raises(ValueError, match=message) as caught:
        read(path)
    assert str(weights) in str(caught.value)


def test_half_precision_becomes_single(tmp_path):
    path, weights = copy(GOLDEN / "saelens/jumprelu", tmp_path)
    for dtype in (torch.bfloat16, torch.float16):
        tensors = safetensors.torch.load_file(weights)
        tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
        safetensors.torch.save_file(tensors, weights)
        assert read(path).components_.dtype == np.float32


def test_every_reader_goes_by_the_same_names():
    assert {folder.parent.name for folder in READ} == set(WEIGHTS)
    assert all(file_of(folder).exists() for folder in READ)
