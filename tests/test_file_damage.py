"""Files with a bit flipped, bytes deleted or the end cut: an error with the name, or the same.

Small files that claim, or unpack to, large ones take memory in proportion to what they are.
"""

import gzip
import json
import re
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch

import sksae
from sksae import ActivationExtractor, JumpReLUSAE
from sksae.datasets import TINY_LM_PATH
from sksae.formats import (
    read,
    read_neuronpedia,
    read_neuronpedia_features,
    write_dictionary_learning,
    write_gemma_scope,
)
from sksae.interpret import Explanation, FeatureAtlas, load_explanations, save_explanations
from sksae.language_models import load_activations
from tests.cases import each_case
from tests.estimators import arrays_of

N_DAMAGES = 60  # of every kind, on every file


def estimator_of(sae):
    return {name: (array.dtype, array.tobytes()) for name, array in arrays_of(sae).items()}


def contents_of_atlas(path):
    atlas = FeatureAtlas.load(path)
    arrays = {name: (a.dtype, a.tobytes()) for name, a in atlas._arrays.items()}
    return arrays, atlas._strings.tolist(), atlas._sources, atlas.facts_, atlas.get_params()


def contents_of_activations(path):
    rows, tokens = load_activations(path.parent)
    columns = {name: column.tolist() for name, column in tokens._columns().items()}
    return rows.dtype, rows.tobytes(), columns, tokens.texts, tokens.policy


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Every file with the function that reads what is in it."""
    folder = tmp_path_factory.mktemp("files")
    X = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    sae = JumpReLUSAE(16, alpha=1.0, max_iter=1, random_state=0).partial_fit(X)
    sae.set_feature_names({3: "rivers"})
    codes = np.random.default_rng(1).gamma(1, 1, (40, 3))
    atlas = FeatureAtlas(n_examples=2).fit(
        codes, tokens={"text": np.repeat(np.arange(4), 10), "string": list("abcde") * 8}
    )
    words = {1: Explanation(1, "cold", "hand", {"fuzzing": {"value": 0.5}}, seen=("a", 2))}
    extractor = ActivationExtractor(TINY_LM_PATH, layer=0)
    extractor.to_memmap(["sparse features", "the mean of an array"], folder / "activations")
    write_dictionary_learning(folder / "dl", sae)
    found = {
        "sksae": (sae.save(folder / "sae.safetensors"), lambda p: estimator_of(sksae.load(p))),
        "atlas": (atlas.save(folder / "atlas.npz"), contents_of_atlas),
        "explanations": (save_explanations(folder / "words.json", words), load_explanations),
        "dictionary_learning": (
            folder / "dl" / "ae.pt",
            lambda path: estimator_of(read(path.parent)),
        ),
        "gemma_scope": (
            write_gemma_scope(folder / "params.npz", sae),
            lambda path: estimator_of(read(path)),
        ),
    }
    for name in ("rows.npy", "tokens.npy", "texts.jsonl", "strings.jsonl", "activations.json"):
        found[name] = folder / "activations" / name, contents_of_activations
    return found


def flipped(raw, rng):
    place = rng.integers(len(raw))
    return raw[:place] + bytes([raw[place] ^ 1 << int(rng.integers(8))]) + raw[place + 1 :]


def shortened(raw, rng):
    place = rng.integers(len(raw))
    return raw[:place] + raw[place + int(rng.integers(1, 9)) :]


def cut(raw, rng):
    return raw[: rng.integers(len(raw))]


def outcome(contents, path):
    """Return what is in a file and None, or None and the message of the one error that may come."""
    try:
        return contents(path), None
    except ValueError as error:
        return None, str(error)


FORMATS = [
    *("sksae", "atlas", "explanations", "dictionary_learning", "gemma_scope"),
    *("rows.npy", "tokens.npy", "texts.jsonl", "strings.jsonl", "activations.json"),
]


@each_case("damage", [flipped, shortened, cut])
@each_case("name", FORMATS)
def test_damage_is_an_error_with_the_name_or_changes_nothing(files, name, damage):
    path, contents = files[name]
    raw, expected, n_errors = path.read_bytes(), contents(path), 0
    rng = np.random.default_rng(0)
    try:
        for _ in range(N_DAMAGES):
            path.write_bytes(damage(raw, rng))
            found, message = outcome(contents, path)
            assert found == expected if message is None else str(path) in message
            n_errors += message is not None
    finally:
        path.write_bytes(raw)
    assert n_errors > N_DAMAGES / 2
    assert contents(path) == expected


def test_explanations_may_be_changed_by_hand(files, tmp_path):
    text = files["explanations"][0].read_text()
    changed = tmp_path / "words.json"
    changed.write_text(text.replace("cold", "warm"))
    with pytest.raises(ValueError, match=r"words\.json is damaged, or was changed by hand"):
        load_explanations(changed)
    lines = [line for line in text.splitlines() if '"digest"' not in line]
    changed.write_text("\n".join(lines).replace("cold", "warm"))
    assert load_explanations(changed)[1].text == "warm"


# Small files that are large


def peak_of(call, path, match):
    """Return the bytes that are taken until the error that names the file."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=match) as caught:
            call(path)
        assert str(path) in str(caught.value)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


LARGE = 2**26  # bytes that unpack from a sixteenth of a million


def test_a_compressed_npz_is_no_trap(tmp_path):
    path = tmp_path / "params.npz"
    np.savez_compressed(path, W_enc=np.zeros(LARGE // 4, np.float32))
    assert path.stat().st_size < LARGE / 500
    assert peak_of(read, path, "may unpack to") < 2**24


def test_an_atlas_with_other_arrays_is_no_trap(files, tmp_path):
    with np.load(files["atlas"][0]) as arrays:
        content = dict(arrays)
    np.savez_compressed(tmp_path / "atlas.npz", **content, other=np.zeros(LARGE, np.uint8))
    assert peak_of(FeatureAtlas.load, tmp_path / "atlas.npz", "may unpack to") < 2**24


def test_an_atlas_of_features_that_never_fire_can_be_read(tmp_path):
    """Its file is not compressed, as it would look like a trap."""
    codes = np.zeros((2, 40_000))
    codes[0, 0] = 1
    atlas = FeatureAtlas(n_neighbors=0).fit(codes, tokens=["a", "b"])
    again = FeatureAtlas.load(atlas.save(tmp_path / "atlas.npz"))
    np.testing.assert_array_equal(again.n_active_, atlas.n_active_)


def test_a_compressed_archive_of_torch_is_no_trap(tmp_path):
    torch.save({"a": torch.zeros(LARGE // 16)}, tmp_path / "stored.pt")
    with (
        zipfile.ZipFile(tmp_path / "stored.pt") as stored,
        zipfile.ZipFile(tmp_path / "it.pt", "w", zipfile.ZIP_DEFLATED) as file,
    ):
        for name in stored.namelist():
            file.writestr(name, stored.read(name))
    assert peak_of(read, tmp_path / "it.pt", "may unpack to|compressed") < 2**24


@each_case("reader", [read_neuronpedia, read_neuronpedia_features])
@each_case("name", ["batch-0.jsonl.gz", "batch-0.json.gz"])
def test_one_long_line_is_no_trap(name, reader, tmp_path):
    path = tmp_path / name
    with gzip.open(path, "wb") as file:
        for _ in range(LARGE // 2**20):
            file.write(b" " * 2**20)
    assert peak_of(reader, path, "it unpacks to") < 2**25


def test_many_lines_are_no_trap(tmp_path):
    path = tmp_path / "batch-0.jsonl.gz"
    line = json.dumps({"index": "1", "description": "a" * 100_000}).encode() + b"\n"
    with gzip.open(path, "wb") as file:
        for _ in range(2 * LARGE // len(line)):
            file.write(line)
    assert peak_of(read_neuronpedia, path, "it unpacks to") < 2**24


# Archives of torch.save


def archive(path, **content):
    weights = {"pre_bias": torch.zeros(2), "latent_bias": torch.zeros(2)}
    weights |= {"encoder.weight": torch.eye(2), "decoder.weight": torch.eye(2)}
    torch.save({**weights, "activation": "ReLU", **content}, path)
    return path


@pytest.mark.parametrize("name", ["activation", "activation_state_dict"])
def test_values_that_never_end_are_shown_in_part(name, tmp_path):
    value = "x"
    for _ in range(60):
        value = [value, value]
    content = {"activation": value}
    if name == "activation_state_dict":
        content = {"activation": "TopK", name: {"k": value}}
    with pytest.raises(ValueError, match=re.escape("[[[")) as caught:
        read(archive(tmp_path / "it.pt", **content))
    assert len(str(caught.value)) < 500


def rewritten(path, change):
    """Write the archive anew with other bytes in its pickle."""
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, raw in members.items():
            file.writestr(name, change(raw) if name.endswith("data.pkl") else raw)
    return path


HUGE = b"\x8a\x05\x00\x00\x00\x00\x10"  # 2**36


@each_case(
    "pickled, message",
    [
        (b"ctorch.storage\nUntypedStorage\n" + HUGE + b"\x85R", "other than numbers"),
        (b"cbuiltins\nbytearray\n" + HUGE + b"\x85R", "other than numbers"),
        (b"ctorch\nFloatStorage\nK\x05\x85R", "cannot be read"),
        (b"ccollections\nOrderedDict\n](K\x01K\x02e\x85R", "cannot be read"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb", "other than numbers"),
        (b"]r\xff\xff\xff\x7f", "claims more objects"),
        (b"\x96\x00\x00\x00\x00\x00\x01\x00\x00", "cannot be read"),
    ],
)
def test_pickles_can_do_nothing_else(pickled, message, tmp_path):
    path = archive(tmp_path / "it.pt", activation=7)
    changed = rewritten(path, lambda raw: raw.replace(b"K\x07", pickled))
    with pytest.raises(ValueError, match=message):
        read(changed)


def test_a_storage_is_as_long_as_its_record(tmp_path):
    """More would be memory of others."""
    path = archive(tmp_path / "it.pt", latents_activation_frequency=torch.zeros(77))
    assert b"K\x4dt" in zipfile.ZipFile(path).read("it/data.pkl")
    changed = rewritten(path, lambda raw: raw.replace(b"K\x4d", b"K\x4e"))
    with pytest.raises(ValueError, match=r"it\.pt cannot be read: "):
        read(changed)


def test_tensors_of_all_kinds_are_those_of_torch(tmp_path):
    from sksae.formats._tensors import opened_torch

    base = torch.arange(24.0).reshape(4, 6)
    content = {
        "rows": base[1:3],
        "columns": base[:, ::2],
        "transposed": base.T,
        "half": base.half(),
        "brain": base.bfloat16(),
        "long": base.long(),
        "flag": base > 3,
        "number": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(base),
    }
    torch.save(content, tmp_path / "it.pt")
    with opened_torch(tmp_path / "it.pt") as (found, read_tensor):
        for name, tensor in content.items():
            assert found[name].shape == tuple(tensor.shape)
            assert torch.equal(read_tensor(found[name]), tensor.detach())
