"""Folders with a transcoder per layer: written, read, traced back to their sites, refused."""

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from safetensors.numpy import load_file, save_file

from sksae import (
    ActivationExtractor,
    BatchTopKSAE,
    GatedSAE,
    JumpReLUSAE,
    SparseAutoencoder,
    TopKSAE,
    Transcoder,
)
from sksae.autoencoders import fitted
from sksae.datasets import TINY_LM_PATH
from sksae.formats import from_pretrained, load, read, read_circuit_tracer, write_circuit_tracer
from tests.cases import each_case, tries
from tests.formats.golden_files import FORMULAS

D, N, K = 5, 7, 3
PLACE = {"model": "openai-community/gpt2", "site": "mlp.hook_in"}
ESTIMATORS = {
    "relu": SparseAutoencoder(N),
    "jumprelu": JumpReLUSAE(N),
    "topk": TopKSAE(N, k=K),
}


def transcoder(kind="relu", *, seed=0, skip=False, d=D, n=N, t=None, dtype="f8", source=None):
    """A transcoder with random weights; thresholds are positive."""
    rng = np.random.default_rng(seed)
    t = d if t is None else t
    weights = {
        "components": rng.normal(size=(n, t)),
        "encoder_coef": rng.normal(size=(n, d)),
        "encoder_intercept": rng.normal(size=n),
        "intercept": rng.normal(size=t),
    }
    if kind == "jumprelu":
        weights["threshold"] = rng.uniform(0, 1, size=n)
    if skip:
        weights["skip_coef"] = rng.normal(size=(t, d))
    weights = {name: value.astype(dtype) for name, value in weights.items()}
    estimator = ESTIMATORS[kind].__class__(n, **({"k": min(K, n)} if kind == "topk" else {}))
    return fitted(Transcoder(estimator, skip=skip), weights, source=source)


def config_of(folder):
    return yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))


def change(folder, **entries):
    """Write a configuration with other entries than those of `folder`'s fixture."""
    config = {"model_kind": "transcoder_set", "model_name": "openai-community/gpt2", **entries}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    """Three layers with a ReLU."""
    return write_circuit_tracer(tmp_path / "set", [transcoder(seed=n) for n in range(3)], **PLACE)


@settings(max_examples=tries(15), deadline=None)
@given(
    kind=st.sampled_from(list(ESTIMATORS)),
    skip=st.booleans(),
    layers=st.integers(1, 3),
    n=st.integers(1, 6),
    d=st.integers(1, 6),
    dtype=st.sampled_from(["f4", "f8"]),
)
def test_every_bit_comes_back(tmp_path_factory, kind, skip, layers, n, d, dtype):
    shape = {"skip": skip, "n": n, "d": d, "dtype": dtype}
    models = [transcoder(kind, seed=layer, **shape) for layer in range(layers)]
    folder = write_circuit_tracer(tmp_path_factory.mktemp("any"), models, **PLACE)
    again = read(folder)
    assert len(again) == layers
    X = np.random.default_rng(5).normal(size=(4, d)).astype(dtype)
    for layer, (model, back) in enumerate(zip(models, again, strict=True)):
        assert repr(back) == repr(model)
        for name in model._objective.declared:
            assert getattr(back, name + "_").dtype == dtype
            assert_array_equal(getattr(back, name + "_"), getattr(model, name + "_"))
        assert_array_equal(back.predict(X), model.predict(X))
        single = read_circuit_tracer(folder, layer=layer)
        assert_array_equal(single.components_, model.components_)


def test_the_files_are_as_described(folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.yaml",
        *(f"layer_{n}.safetensors" for n in range(3)),
    ]
    assert config_of(folder) == {
        "model_kind": "transcoder_set",
        "model_name": "openai-community/gpt2",
        "feature_input_hook": "mlp.hook_in",
        "feature_output_hook": "hook_mlp_out",
        "activation": "relu",
    }
    tensors = load_file(folder / "layer_1.safetensors")
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    assert shapes == {"W_enc": (N, D), "W_dec": (N, D), "b_enc": (N,), "b_dec": (D,)}


@each_case("autoencoder", [BatchTopKSAE(N, k=2), GatedSAE(N, alpha=0.1), TopKSAE(N, k=2)])
def test_whatever_a_transcoder_wraps(autoencoder, tmp_path):
    """Pooled thresholds and gates become the thresholds that they are equal to."""
    X = np.random.default_rng(0).normal(size=(300, D))
    model = Transcoder(autoencoder.set_params(max_iter=3, random_state=0)).fit(X, np.abs(X))
    folder = write_circuit_tracer(tmp_path, [model], **PLACE)
    again = read(folder / "layer_0.safetensors")
    assert_array_equal(again.transform(X), model.transform(X))
    assert_array_equal(again.predict(X), model.predict(X))
    codes, _ = FORMULAS["circuit_tracer"](folder, X)
    np.testing.assert_allclose(codes, model.transform(X), rtol=1e-12, atol=1e-12)
    expected = {"activation": "topk", "k": 2} if type(autoencoder) is TopKSAE else {}
    assert config_of(folder).items() >= (expected or {"activation": "jumprelu"}).items()


def test_where_it_is_from_goes_along(folder, tmp_path):
    models = read(folder)
    assert models[2].source_ == {
        "format": "circuit_tracer",
        "hook_name": "blocks.2.mlp.hook_in",
        "hook_name_out": "blocks.2.hook_mlp_out",
        "model": "openai-community/gpt2",
        "layer": 2,
    }
    again = write_circuit_tracer(tmp_path / "again", models, scan="a/b")
    assert config_of(again) == {**config_of(folder), "scan": "a/b"}
    assert read(again)[1].source_ == {**models[1].source_, "scan": "a/b"}
    change(folder, feature_input_hook="layers.{layer}.norm", feature_output_hook="hook_mlp_out")
    assert read(folder)[1].source_["hook_name"] == "layers.1.norm"


def test_the_two_sites_of_a_transcoder(tmp_path):
    """What the extractor reads in one pass is what enters and what leaves the MLP."""
    texts = ["sparse features of texts"]
    direct = ActivationExtractor(TINY_LM_PATH, layer=1, site="mlp_out").transform(texts)
    d = direct.shape[1]
    for site, other in (("mlp.hook_in", "layers.1.mlp.input"), ("resid_mid", (1, "resid_mid"))):
        models = [transcoder(d=d, seed=layer) for layer in range(2)]
        place = {"model": str(TINY_LM_PATH), "site": site}
        path = write_circuit_tracer(tmp_path / site, models, **place)
        extractor = ActivationExtractor.for_sae(read(path)[1], with_target=True)
        X, Y = extractor.split(extractor.transform(texts)).values()
        read_site = ActivationExtractor(TINY_LM_PATH, site=[other]).transform(texts)
        assert_array_equal(X, read_site)
        assert_array_equal(Y, direct)
        single = ActivationExtractor.for_sae(read(path)[1])
        assert_array_equal(single.transform(texts), read_site)


def test_a_transcoder_that_was_saved_with_the_extractor_of_both_sites(tmp_path):
    texts = ["sparse features of texts", "and what a transcoder predicts"]
    places = (
        {"site": [(1, "resid_mid"), (1, "mlp_out")]},
        {"layer": 1, "site": ["resid_mid", "mlp_out"]},
    )
    for number, place in enumerate(places):
        extractor = ActivationExtractor(TINY_LM_PATH, **place)
        X, Y = extractor.split(extractor.transform(texts)).values()
        model = Transcoder(TopKSAE(8, k=2, max_iter=1, random_state=0)).fit(X, Y)
        again = load(model.save(tmp_path / f"{number}.safetensors", extractor=extractor))
        both = ActivationExtractor.for_sae(again, with_target=True)
        read_rows, target_rows = both.split(both.transform(texts)).values()
        assert_array_equal(read_rows, X)
        assert_array_equal(target_rows, Y)
        single = ActivationExtractor.for_sae(again)
        assert (single.layer, single.site) == (1, "resid_mid")
    three = ActivationExtractor(TINY_LM_PATH, layer=1, site=["resid_mid", "attn_out", "mlp_out"])
    again = load(model.save(tmp_path / "three.safetensors", extractor=three))
    with pytest.raises(ValueError, match="saved with an extractor of 3"):
        ActivationExtractor.for_sae(again)


def test_sites_that_are_not_known():
    for_sae = ActivationExtractor.for_sae
    single = transcoder(source={"model": "gpt2", "layer": 1, "site": "resid_mid"})
    with pytest.raises(ValueError, match="does not say which site it predicts"):
        for_sae(single, with_target=True)
    both = {"hook_name": "blocks.1.hook_resid_mid", "hook_name_out": "blocks.1.hook_mlp_out"}
    pair = transcoder(source={"model": "gpt2", "layer": 1, "site": "resid_mid", **both})
    assert for_sae(pair, with_target=True).site == [(1, "resid_mid"), (1, "mlp_out")]
    with pytest.raises(ValueError, match="without with_target"):
        for_sae(pair, with_target=True, layer=3)
    with pytest.raises(ValueError, match="with_target must be a bool"):
        for_sae(pair, with_target="yes")
    modules = {"module": "layers.1.mlp.input", "module_out": "layers.1.mlp", "layer": 1}
    other = for_sae(transcoder(source={"model": "gpt2", **modules}), with_target=True)
    assert other.site == ["layers.1.mlp.input", "layers.1.mlp"]


def test_one_layer_or_file(folder):
    last = read_circuit_tracer(folder, layer=2)
    assert type(last) is Transcoder
    file = folder / "layer_2.safetensors"
    assert_array_equal(read(file).components_, last.components_)
    assert_array_equal(from_pretrained(folder, file.name).components_, last.components_)
    assert len(from_pretrained(folder)) == 3
    with pytest.raises(FileNotFoundError, match=r"layer_3\.safetensors"):
        read_circuit_tracer(folder, layer=3)
    with pytest.raises(ValueError, match="layer=1 is not the layer of"):
        read_circuit_tracer(file, layer=1)
    with pytest.raises(ValueError, match="layer must be"):
        read_circuit_tracer(folder, layer=-1)
    (folder / "layer_1.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"no layer_1\.safetensors .* Name the layer"):
        read(folder)
    assert read_circuit_tracer(folder, layer=2).n_components_ == N


def test_the_configuration_of_training_is_enough(folder):
    """A set without config.yaml has a ReLU between the input and the output of the MLP."""
    expected = read(folder)[1]
    (folder / "config.yaml").rename(folder / "wanb-config.yaml")
    again = read(folder)[1]
    assert_array_equal(again.components_, expected.components_)
    del expected.source_["model"]
    assert again.source_ == expected.source_
    (folder / "wanb-config.yaml").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.yaml"):
        read(folder / "layer_1.safetensors")


@each_case(
    "entries, message",
    [
        ({"model_kind": "something"}, "model_kind 'something'"),
        ({"model_kind": 3}, "'model_kind' in .* must be a str"),
        ({"activation": "gelu"}, "'activation' in .* must be one of 'relu'"),
        ({"activation": "topk"}, "has no 'k'"),
        ({"activation": "topk", "k": 0}, "'k' in .* must be an int >= 1"),
        ({"activation": "jump_relu"}, r"has the activation 'jump_relu', but .* has no activation_"),
    ],
)
def test_what_no_estimator_computes_is_refused(entries, message, folder):
    change(folder, **entries)
    with pytest.raises(ValueError, match=message):
        read(folder)


@pytest.fixture
def across(tmp_path):
    """The folder of a cross-layer transcoder of three layers, with thresholds, and its arrays."""
    rng, arrays = np.random.default_rng(0), {}
    for layer in range(3):
        encoder = {
            f"W_enc_{layer}": rng.normal(size=(N, D)),
            f"b_enc_{layer}": rng.normal(size=N),
            f"b_dec_{layer}": rng.normal(size=D),
            f"threshold_{layer}": rng.uniform(0, 1, size=N),
        }
        decoder = {f"W_dec_{layer}": rng.normal(size=(N, 3 - layer, D))}
        save_file(encoder, tmp_path / f"W_enc_{layer}.safetensors")
        save_file(decoder, tmp_path / f"W_dec_{layer}.safetensors")
        arrays |= encoder | decoder
    hooks = {"feature_input_hook": "hook_resid_mid", "feature_output_hook": "hook_mlp_out"}
    config = {"model_kind": "cross_layer_transcoder", "model_name": "gpt2", **hooks}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    return tmp_path, arrays


def test_transcoders_across_layers_add_up(across):
    """What stands for an MLP is the sum over its layer and those before it, by the formula."""
    folder, arrays = across
    transcoders = read(folder)
    assert [type(one) for one in transcoders] == [Transcoder] * 3
    X, codes = np.random.default_rng(1).normal(size=(3, 20, D)), []
    for layer in range(3):
        z = X[layer] @ arrays[f"W_enc_{layer}"].T + arrays[f"b_enc_{layer}"]
        codes.append(z * (z > arrays[f"threshold_{layer}"]))
        np.testing.assert_allclose(transcoders[layer].transform(X[layer]), codes[-1], atol=1e-12)
    for layer in range(3):
        expected, found = arrays[f"b_dec_{layer}"], 0
        for source in range(layer + 1):
            place = layer - source
            expected = expected + codes[source] @ arrays[f"W_dec_{source}"][:, place]
            found = found + transcoders[source].predict(X[source])[:, place * D : (place + 1) * D]
        np.testing.assert_allclose(found, expected, atol=1e-12)
    one = read_circuit_tracer(folder, layer=1)
    assert_array_equal(one.components_, transcoders[1].components_)
    by_file = read(folder / "W_dec_1.safetensors")
    assert_array_equal(by_file.components_, one.components_)
    assert one.source_["hook_name_out"] == ["blocks.1.hook_mlp_out", "blocks.2.hook_mlp_out"]
    extractor = ActivationExtractor.for_sae(transcoders[0], with_target=True)
    assert extractor.site == [(0, "resid_mid"), *((layer, "mlp_out") for layer in range(3))]
    last = ActivationExtractor.for_sae(transcoders[2], with_target=True)
    assert last.site == [(2, "resid_mid"), (2, "mlp_out")]


def test_transcoders_across_layers_are_written_as_they_are_read(across, tmp_path):
    folder, arrays = across
    again = tmp_path / "again"
    write_circuit_tracer(again, read(folder))
    assert config_of(again) == {**config_of(folder)}
    for layer in range(3):
        for part in ("enc", "dec"):
            name = f"W_{part}_{layer}.safetensors"
            found = load_file(again / name)
            for key, value in found.items():
                np.testing.assert_array_equal(value, arrays[key])
            assert set(found) == set(load_file(folder / name))
    fitted_ones = [transcoder(t=(2 - layer) * D, seed=layer) for layer in range(2)]
    write_circuit_tracer(tmp_path / "two", fitted_ones, **PLACE)
    X = np.random.default_rng(0).normal(size=(9, D))
    sums = [fitted_ones[0].predict(X)[:, D:] + fitted_ones[1].predict(X)]
    both = read(tmp_path / "two")
    sums.append(both[0].predict(X)[:, D:] + both[1].predict(X))
    np.testing.assert_allclose(sums[1], sums[0], atol=1e-12)


def test_transcoders_across_layers_that_do_not_fit(across, tmp_path):
    folder, arrays = across
    with pytest.raises(FileNotFoundError, match=r"W_enc_3\.safetensors"):
        read_circuit_tracer(folder, layer=3)
    save_file({"W_dec_1": arrays["W_dec_2"]}, folder / "W_dec_1.safetensors")
    with pytest.raises(ValueError, match=r"W_dec_1\.safetensors.*W_dec_1"):
        read(folder)
    (folder / "W_dec_1.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"W_dec_1\.safetensors"):
        read(folder)
    for options in ({"kind": "topk"}, {"skip": True}):
        ones = [transcoder(t=(2 - layer) * D, **options) for layer in range(2)]
        with pytest.raises(ValueError, match="have a ReLU or thresholds, and no skip"):
            write_circuit_tracer(tmp_path / "no", ones, **PLACE)
    ones = [transcoder(t=2 * D), transcoder(n=N + 1)]
    with pytest.raises(ValueError, match="equally many latents, not"):
        write_circuit_tracer(tmp_path / "no", ones, **PLACE)
    ones = [transcoder(t=2 * D), transcoder()]
    with pytest.raises(ValueError, match="more layers of another set"):
        write_circuit_tracer(folder, ones, **PLACE)


def test_files_of_other_repositories(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("model_kind: transcoder_set\ntranscoders:\n- hf://google/x/params.npz\n")
    with pytest.raises(ValueError, match=r"hf://google/x/params\.npz.*from_pretrained"):
        read(tmp_path, format="circuit_tracer")


@each_case("threshold", [-0.1, np.nan])
def test_thresholds_that_are_none(threshold, tmp_path):
    folder = write_circuit_tracer(tmp_path, [transcoder("jumprelu")], **PLACE)
    tensors = load_file(folder / "layer_0.safetensors")
    tensors["activation_function.threshold"][2] = threshold
    save_file(tensors, folder / "layer_0.safetensors")
    with pytest.raises(ValueError, match=r"layer_0.*(thresholds below 0|not finite)"):
        read(folder)


NESTED = "a: &a [x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abc", "bcd", strict=True)
)


@each_case(
    "text, message",
    [
        ("", "no mapping"),
        ("- a\n- b\n", "no mapping"),
        ("a: [", "config.yaml cannot be read"),
        ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
        (NESTED, "refers to parts of itself"),
        ("a: " + "[" * 2000, "config.yaml cannot be read"),
        ("a: " + "x" * 2**20, "too many for a configuration"),
        (b"\xff\xfe\x00", "config.yaml cannot be read"),
    ],
)
def test_a_configuration_that_is_none_is_named(text, message, folder):
    data = text if isinstance(text, bytes) else text.encode()
    (folder / "config.yaml").write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        read(folder)
    assert "config.yaml" in str(caught.value)


@each_case(
    "models, options, message",
    [
        ([transcoder(), transcoder(n=8)], PLACE, "8 latents of 5 features are not 7 of 5"),
        ([transcoder(t=6)], PLACE, "6 is not 5"),
        ([transcoder(), transcoder("topk")], PLACE, "the k largest in all layers, or in none"),
        ([transcoder(source={"layer": 1})], PLACE, "number 0 is of layer 1"),
        ([transcoder()], {"site": "resid_mid"}, "does not say its model: give model="),
        ([transcoder()], {"model": "gpt2"}, "does not say its site: give site="),
        (
            [transcoder(source={"model": "a"}), transcoder(source={"model": "b"})],
            {"site": "resid_mid"},
            "not of one model: a, b",
        ),
        ([transcoder()], {**PLACE, "scan": 3}, "scan must be a str or None"),
    ],
)
def test_what_the_folder_cannot_hold_is_refused(models, options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_circuit_tracer(tmp_path, models, **options)
    assert not list(tmp_path.iterdir())


def test_what_is_no_list_of_transcoders_is_refused(tmp_path):
    for wrong in (transcoder(), [], None, [TopKSAE()]):
        with pytest.raises(TypeError, match="transcoders must be"):
            write_circuit_tracer(tmp_path, wrong, **PLACE)
    other = fitted(Transcoder(TopKSAE(N, k=2)), weights_of(transcoder("topk")))
    with pytest.raises(ValueError, match="the same k"):
        write_circuit_tracer(tmp_path, [transcoder("topk"), other], **PLACE)


def weights_of(model):
    return {name: getattr(model, name + "_") for name in model._objective.declared}


def test_a_set_does_not_mix_with_another(folder):
    with pytest.raises(ValueError, match="layers 2 to 2 of another set"):
        write_circuit_tracer(folder, [transcoder(), transcoder()], **PLACE)
    write_circuit_tracer(folder, [transcoder(seed=9)] * 3, **PLACE)
    assert_array_equal(read(folder)[2].components_, transcoder(seed=9).components_)
