"""From a name to codes: published autoencoders from a fake hub, and the extractor they are for."""

import json
import shutil
import time

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.numpy import save_file
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import sksae
from sksae import (
    ActivationExtractor,
    JumpReLUSAE,
    SAEVectorizer,
    SparseAutoencoder,
    TopKSAE,
    Transcoder,
)
from sksae.autoencoders import fitted
from sksae.datasets import TINY_LM_PATH, load_corpus
from sksae.formats import (
    RowNormalizer,
    write_dictionary_learning,
    write_gemma_scope,
    write_saelens,
    write_sparsify,
)
from sksae.formats._releases import canonical, model_of, resolve
from tests.cases import each_case
from tests.formats.fake_hub import COMMITS
from tests.formats.golden_files import GOLDEN

HOOK = "blocks.2.hook_resid_post"


@pytest.fixture(scope="module")
def rows():
    extractor = ActivationExtractor(TINY_LM_PATH, layer=2)
    return extractor.transform(load_corpus().data[:10])


def fit(cls, rows, **params):
    return cls(64, max_iter=2, random_state=0, **params).fit(rows)


def test_saelens(hub, get, rows):
    """By repository and name: codes, where it is from, and nothing else downloaded."""
    learnt = fit(TopKSAE, rows, k=4)
    folder = hub.root / "jb/saes"
    facts = {"hook_name": HOOK, "model_name": str(TINY_LM_PATH), "prepend_bos": False}
    for name in (HOOK, "blocks.1.hook_resid_post"):
        write_saelens(folder / name, learnt, metadata=facts)
    (folder / "README.md").write_text("of no use")
    (folder / HOOK / "trainer_state.pt").write_bytes(b"huge")
    read = get("jb/saes", HOOK)
    assert_array_equal(read.transform(rows), learnt.transform(rows))
    assert sorted(hub.given) == [
        f"jb/saes/{HOOK}/{file}"
        for file in ("cfg.json", "sae_weights.safetensors", "sparsity.safetensors")
    ]
    assert read.source_["repo"] == "jb/saes"
    assert read.source_["name"] == HOOK
    assert read.source_["revision"] == COMMITS["main"]
    twin = ActivationExtractor.for_sae(read)
    assert (twin.layer, twin.site, twin.prepend_bos) == (2, "resid_post", False)
    assert_array_equal(twin.transform(load_corpus().data[:10]), rows)


def test_sparsify_and_the_model_of_its_run(hub, get, rows):
    learnt = fit(TopKSAE, rows, k=4)
    write_sparsify(hub.root / "eai/sae-tiny/layers.2", learnt)
    (hub.root / "eai/sae-tiny/config.json").write_text(f'{{"model": "{TINY_LM_PATH}"}}')
    read = get("eai/sae-tiny")  # the only one
    assert_allclose(read.transform(rows), learnt.transform(rows), rtol=1e-4, atol=1e-4)
    twin = ActivationExtractor.for_sae(read)
    assert (twin.model, twin.layer, twin.site) == (str(TINY_LM_PATH), 2, "resid_post")


def test_dictionary_learning(hub, get, rows):
    learnt = fit(SparseAutoencoder, rows)
    for number in (0, 1):
        write_dictionary_learning(hub.root / f"ak/dicts/resid/trainer_{number}", learnt)
    assert_array_equal(get("ak/dicts", "resid/trainer_1").transform(rows), learnt.transform(rows))
    assert {path.split("/")[3] for path in hub.given} == {"trainer_1"}


@pytest.mark.parametrize(
    ("trainer", "folder", "place"),
    [
        ({"layer": 3, "submodule_name": "resid_post_layer_3"}, "x", (3, "resid_post")),
        ({"submodule_name": "mlp_out_layer5"}, "x", (5, "mlp_out")),
        ({"layer": 4, "submodule_name": "attn_out"}, "x", (4, "attn_out")),
        ({"submodule_name": None}, "resid_post_layer_12/trainer_0", (12, "resid_post")),
    ],
)
def test_where_dictionary_learning_reads(hub, get, rows, trainer, folder, place):
    path = write_dictionary_learning(hub.root / "ak/dicts" / folder, fit(SparseAutoencoder, rows))
    config = json.loads((path / "config.json").read_text())
    config["trainer"] |= {"lm_name": "EleutherAI/pythia-70m-deduped", **trainer}
    (path / "config.json").write_text(json.dumps(config))
    twin = ActivationExtractor.for_sae(get("ak/dicts", folder))
    assert (twin.model, twin.layer, twin.site) == ("EleutherAI/pythia-70m-deduped", *place)


def test_gemma_scope_knows_its_model_by_the_repository(hub, get, rows):
    learnt = fit(JumpReLUSAE, rows)
    for l0 in (43, 89, 240):
        write_gemma_scope(
            hub.root / f"google/gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_{l0}", learnt
        )
    read = get("google/gemma-scope-2b-pt-res", "layer_20/width_16k/average_l0_43")
    assert_array_equal(read.transform(rows), learnt.transform(rows))
    twin = ActivationExtractor.for_sae(read)
    assert (twin.model, twin.layer, twin.site) == ("google/gemma-2-2b", 20, "resid_post")
    # Canonical: the one nearest to 100, by the name that SAELens has for it.
    read = get("gemma-scope-2b-pt-res-canonical", "layer_20/width_16k/canonical")
    assert read.source_["name"] == "layer_20/width_16k/average_l0_89"
    assert read.source_["l0"] == 89
    file = get("google/gemma-scope-2b-pt-res", "layer_20/width_16k/average_l0_240/params.npz")
    assert file.source_["l0"] == 240


def test_gemma_scope_transcoders(hub, get):
    place = "layer_3/width_16k/average_l0_71"
    folder = hub.root / "google/gemma-scope-2b-pt-transcoders" / place
    shutil.copytree(GOLDEN / "gemma_scope/params", folder)
    read = get("gemma-scope-2b-pt-transcoders", place)
    assert type(read) is Transcoder
    assert read.source_["hook_name_out"] == "blocks.3.hook_mlp_out"
    extractor = ActivationExtractor.for_sae(read)
    assert (extractor.layer, extractor.site) == (None, "blocks.3.ln2.hook_normalized")
    assert extractor.model == "google/gemma-2-2b"
    assert ActivationExtractor.for_sae(read, with_target=True).site == [
        "blocks.3.ln2.hook_normalized",
        (3, "mlp_out"),
    ]


def test_transcoders_of_circuit_tracer(hub, get):
    """All layers of a set, or one of them by its file or number, and no other file."""
    golden = GOLDEN / "circuit_tracer/relu"
    folder = hub.root / "mw/qwen3-transcoders/low"
    shutil.copytree(golden, folder)
    shutil.copy(golden / "layer_0.safetensors", folder / "layer_1.safetensors")
    (folder / "features.bin").write_bytes(b"huge")
    X = np.load(golden / "expected.npz")["X"]
    one = get("mw/qwen3-transcoders", "low/layer_1.safetensors")
    assert sorted(path.rpartition("/")[2] for path in hub.given) == [
        "config.yaml",
        "layer_1.safetensors",
    ]
    assert one.source_["layer"] == 1
    assert get("mw/qwen3-transcoders", layer=1).source_["name"] == "low"
    assert not any("layer_0" in path for path in hub.given)
    both = get("mw/qwen3-transcoders")
    assert [model.source_["hook_name_out"] for model in both] == [
        "blocks.0.hook_mlp_out",
        "blocks.1.hook_mlp_out",
    ]
    for model in (one, *both):
        assert_array_equal(model.transform(X), both[0].transform(X))
        assert model.source_["repo"] == "mw/qwen3-transcoders"
    extractor = ActivationExtractor.for_sae(both[1], with_target=True)
    assert extractor.model == "openai-community/gpt2"
    assert extractor.site == ["blocks.1.mlp.hook_in", (1, "mlp_out")]
    assert not any(path.endswith("features.bin") for path in hub.given)


def test_transcoders_across_layers_and_elsewhere(hub, get):
    folder = hub.root / "mn/clt"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("model_kind: cross_layer_transcoder\nmodel_name: gpt2\n")
    for layer in range(2):
        encoder = {
            f"W_enc_{layer}": np.eye(2),
            **{f"b_{x}_{layer}": np.ones(2) for x in ("enc", "dec")},
        }
        save_file(encoder, folder / f"W_enc_{layer}.safetensors")
        decoder = {f"W_dec_{layer}": np.ones((2, 2 - layer, 2))}
        save_file(decoder, folder / f"W_dec_{layer}.safetensors")
    (folder / "features.bin").write_bytes(b"huge")
    ones = [get("mn/clt", layer=1), get("mn/clt", "W_dec_1.safetensors")]
    names = ["W_dec_1.safetensors", "W_enc_1.safetensors", "config.yaml"]
    assert sorted({path.rpartition("/")[2] for path in hub.given}) == names
    both = get("mn/clt")
    for one in ones:
        assert_array_equal(one.components_, both[1].components_)
        assert one.source_["layer"] == 1
    assert [one.predict([[1.0, -3.0]]).tolist() for one in both] == [[[3.0, 3, 2, 2]], [[3.0, 3]]]
    assert not any(path.endswith("features.bin") for path in hub.given)
    folder = hub.root / "mw/gemma-scope"
    folder.mkdir(parents=True)
    place = "hf://google/gemma-scope-2b-pt-transcoders/layer_0/width_16k/average_l0_76/params.npz"
    (folder / "config.yaml").write_text(f"model_kind: transcoder_set\ntranscoders: [{place!r}]\n")
    with pytest.raises(ValueError, match=r"in other places, the first of them 'hf://google/gemma"):
        get("mw/gemma-scope")


@each_case(
    "kind, repo, name, model",
    [
        (
            "qwen_scope/SAE-Res-Qwen3-1.7B-Base-W64-L0_4",
            "Qwen/SAE-Res-Qwen3-8B-Base-W64K-L0_5",
            "layer3.sae.pt",
            "Qwen/Qwen3-8B-Base",
        ),
        (
            "goodfire/relu",
            "Goodfire/Llama-3.1-8B-Instruct-SAE-l19",
            None,
            "meta-llama/Llama-3.1-8B-Instruct",
        ),
        ("sentence_transformers/topk", "st/csr", None, None),
    ],
)
def test_plain_files_and_modules(hub, get, kind, repo, name, model):
    place = "2_SparseAutoEncoder" if repo == "st/csr" else ""
    unpublished = shutil.ignore_patterns("expected.npz")
    shutil.copytree(GOLDEN / kind, hub.root / repo / place, ignore=unpublished)
    (hub.root / repo / "README.md").write_text("of no use")
    read = get(repo, name)
    with np.load(GOLDEN / kind / "expected.npz") as file:
        X, features = file["X"], file["features"]
    assert ((read.transform(X) != 0) >= (features != 0)).all()
    assert read.source_.get("model") == model
    assert getattr(read, "k_", None) == {"Qwen": 5, "Good": None, "st/c": 4}[repo[:4]]


def test_rows_without_their_mean(hub, get, rows):
    """gpt2-small-res-jb was trained on centred rows; it codes those of the model as it is."""
    learnt = fit(SparseAutoencoder, rows - rows.mean(1, keepdims=True))
    facts = {"hook_name": "blocks.8.hook_resid_pre", "model_name": "gpt2-small"}
    name = "blocks.8.hook_resid_pre"
    write_saelens(hub.root / "jbloom/GPT2-Small-SAEs-Reformatted" / name, learnt, metadata=facts)
    read = get("gpt2-small-res-jb", name)
    direct = get("jbloom/GPT2-Small-SAEs-Reformatted", name)
    assert_array_equal(direct.encoder_coef_, read.encoder_coef_)
    expected = learnt.transform(rows - rows.mean(1, keepdims=True))
    assert_allclose(read.transform(rows), expected, rtol=1e-3, atol=1e-3)
    assert read.source_["centered_rows"] is True
    twin = ActivationExtractor.for_sae(read)
    assert (twin.model, twin.layer, twin.site) == ("openai-community/gpt2", 8, "resid_pre")


def test_our_own_files(hub, get, rows):
    learnt = fit(TopKSAE, rows, k=4)
    extractor = ActivationExtractor(TINY_LM_PATH, layer=2, max_length=32)
    learnt.save(hub.root / "me/mine/tiny.safetensors", extractor=extractor)
    read = get("me/mine", "tiny.safetensors")
    assert repr(read) == repr(learnt)
    assert_array_equal(read.transform(rows), learnt.transform(rows))
    assert ActivationExtractor.for_sae(read).max_length == 32
    assert sksae.formats.read(hub.root / "me/mine/tiny.safetensors").k_ == 4
    assert get("me/mine").source_["name"] == "tiny.safetensors"  # the only one


def test_rows_that_are_normalised(hub, get, rows):
    model = make_pipeline(RowNormalizer("norm"), fit(TopKSAE, rows, k=4)).fit(rows)
    write_saelens(hub.root / "a/b", model, metadata={"hook_name": HOOK, "model_name": "gpt2"})
    read = get("a/b")
    assert_allclose(read.transform(rows), model.transform(rows), rtol=1e-5, atol=1e-5)
    assert read[-1].source_["name"] == "."
    assert ActivationExtractor.for_sae(read).layer == 2


def test_paths(hub, get, rows, tmp_path):
    learnt = fit(TopKSAE, rows, k=4)
    write_saelens(tmp_path / "mine/x", learnt)
    assert_array_equal(get(tmp_path / "mine", "x").transform(rows), learnt.transform(rows))
    assert_array_equal(get(str(tmp_path / "mine/x")).transform(rows), learnt.transform(rows))
    with pytest.raises(FileNotFoundError, match="There is no y in"):
        get(tmp_path / "mine", "y")
    write_sparsify(tmp_path / "mine/layers.3", learnt)
    with pytest.raises(ValueError, match=r"has autoencoders in layers\.3, x: name one of them"):
        get(tmp_path / "mine")
    with pytest.raises(FileNotFoundError, match="nothing at"):
        get("./absent/folder")
    assert hub.given == []


def test_what_is_there_is_not_downloaded_again(hub, get, rows):
    write_saelens(hub.root / "a/b/x", fit(TopKSAE, rows, k=4))
    first = get("a/b", "x")
    n_given = len(hub.given)
    again = get("a/b", "x")
    offline = get("a/b", "x", local_files_only=True)
    assert len(hub.given) == n_given
    hub.close()
    without = get("a/b", "x")  # the hub is gone, and the cache is enough
    for model in (again, offline, without):
        assert_array_equal(model.transform(rows), first.transform(rows))
        assert model.source_["revision"] == COMMITS["main"]
    with pytest.raises(ValueError, match="has no 'y', but an autoencoder at x"):
        get("a/b", "y", local_files_only=True)


def test_a_revision(hub, get, rows):
    write_saelens(hub.root / "a/b", fit(TopKSAE, rows, k=4))
    assert get("a/b", revision="old").source_["revision"] == COMMITS["old"]
    with pytest.raises(FileNotFoundError, match="no such revision"):
        get("a/b", revision="absent")


def test_names_that_are_not_there(hub, get, rows):
    learnt = fit(TopKSAE, rows, k=4)
    for layer in range(12):
        write_saelens(hub.root / f"a/b/layer_{layer}/resid", learnt)
    with pytest.raises(ValueError, match=r"autoencoders at layer_0/resid, .*, and 2 more\. Name"):
        get("a/b")
    with pytest.raises(ValueError, match=r"no 'layer_3/residual'.*Near are layer_3/resid"):
        get("a/b", "layer_3/residual")
    assert get("a/b", "layer_3").source_["name"] == "layer_3/resid"
    (hub.root / "a/empty").mkdir()
    with pytest.raises(ValueError, match="nothing that can be recognised"):
        get("a/empty")
    with pytest.raises(ValueError, match=r"no '\.\./\.\./etc'"):
        get("a/b", "../../etc")


def test_what_goes_wrong_on_the_way(hub, get, rows, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such repository"):
        get("no/body")
    with pytest.raises(FileNotFoundError, match=r"no path, and no name|There is nothing"):
        get("a//b")
    with pytest.raises(ValueError, match="neither a path nor a release"):
        get("something")
    with pytest.raises(FileNotFoundError, match="downloaded before"):
        get("a/b", local_files_only=True)
    write_saelens(hub.root / "a/b", fit(TopKSAE, rows, k=4))
    hub.gated.add("a/b")
    with pytest.raises(PermissionError, match="gated"):
        get("a/b")
    assert get("a/b", token="open").k_ == 4
    hub.close()
    with pytest.raises(ConnectionError, match="a/c cannot be read from the hub"):
        get("a/c")


def test_a_connection_that_breaks_leaves_nothing_that_looks_whole(
    hub, get, rows, tmp_path, monkeypatch
):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # huggingface_hub tries again
    write_saelens(hub.root / "a/b", fit(TopKSAE, rows, k=4))
    hub.cut.add("a/b/sae_weights.safetensors")
    with pytest.raises((ConnectionError, OSError)):
        get("a/b")
    names = {path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert "sae_weights.safetensors" not in names
    hub.cut.clear()
    assert get("a/b").k_ == 4


def test_it_is_an_estimator_like_any_other(hub, get, rows):
    """A fit learns anew; frozen it stays as it is, in a pipeline and in a vectorizer."""
    learnt = fit(TopKSAE, rows, k=4)
    facts = {"hook_name": HOOK, "model_name": str(TINY_LM_PATH)}
    write_saelens(hub.root / "a/b", learnt, metadata=facts)
    read = get("a/b")
    fresh = clone(read).set_params(max_iter=2, random_state=0)
    assert not hasattr(fresh, "components_")
    assert_array_equal(fresh.fit(rows).components_, learnt.components_)
    assert not hasattr(fresh, "source_")
    y = np.arange(len(rows)) % 2
    pipeline = make_pipeline(FrozenEstimator(read), LogisticRegression(max_iter=5, tol=10))
    pipeline.fit(rows, y)
    assert_array_equal(pipeline[0].transform(rows), learnt.transform(rows))
    texts = load_corpus().data[:5]
    extractor = ActivationExtractor.for_sae(FrozenEstimator(read))
    vectorizer = SAEVectorizer(extractor, FrozenEstimator(read), sparse_output=False).fit(texts)
    codes = learnt.transform(extractor.transform(texts[:1]))
    assert_allclose(vectorizer.transform(texts)[0], codes.max(0), rtol=1e-5, atol=1e-6)


@each_case(
    "source, expected",
    [
        ({"model": "gpt2-small", "layer": 1, "site": "mlp_out"}, ("openai-community/gpt2", 1)),
        ({"model": "gpt2-xl", "layer": 1, "site": "mlp_out"}, ("openai-community/gpt2-xl", 1)),
        ({"model": "gemma-2-9b-pt", "layer": 1, "site": "mlp_out"}, ("google/gemma-2-9b", 1)),
        ({"model": "pythia-70m-deduped", "module": "layers.1.mlp.act"}, (None, None)),
        ({"model": "a/b", "hook_name": "model.layers.7.output"}, ("a/b", 7)),
        ({"model": "a/b", "site": "embeddings", "layer": 3}, ("a/b", None)),
        ({"model": "a/b", "layer": 3, "hook_name": "model.layers.3.input"}, ("a/b", 3)),
    ],
)
def test_sources(source, expected):
    model = fitted(TopKSAE(2, k=1), arrays(), source=source)
    extractor = ActivationExtractor.for_sae(model)
    if expected == (None, None):
        assert extractor.model == "EleutherAI/pythia-70m-deduped"
        assert (extractor.layer, extractor.site) == (None, "layers.1.mlp.act")
    else:
        assert (extractor.model, extractor.layer) == expected


def arrays():
    eye = np.eye(2)
    return {
        "components": eye,
        "encoder_coef": eye,
        "encoder_intercept": np.zeros(2),
        "intercept": np.zeros(2),
    }


def test_sources_that_do_not_say_enough():
    def made(**source):
        return fitted(TopKSAE(2, k=1), arrays(), source=source)

    for_sae = ActivationExtractor.for_sae
    with pytest.raises(ValueError, match="which model"):
        for_sae(made(layer=1, site="mlp_out"))
    with pytest.raises(ValueError, match="where in the model"):
        for_sae(made(model="gpt2"))
    with pytest.raises(ValueError, match="TopKSAE does not say what it was trained on"):
        for_sae(TopKSAE())
    with pytest.raises(ValueError, match="'gpt2' does not say"):
        for_sae("gpt2")
    context = made(model="gpt2", layer=1, site="mlp_out", context_size=128, prepend_bos=True)
    extractor = for_sae(context, max_length=64, batch_tokens=512)
    assert (extractor.max_length, extractor.prepend_bos, extractor.batch_tokens) == (64, True, 512)
    assert for_sae(made(model="gpt2"), layer=3).layer == 3
    other_layer = for_sae(made(model="gpt2", layer=1, site="mlp_out"), layer=3)
    assert (other_layer.layer, other_layer.site) == (3, "mlp_out")
    other_site = for_sae(made(model="gpt2", layer=1, site="mlp_out"), site="attn_out")
    assert (other_site.layer, other_site.site) == (1, "attn_out")
    module = for_sae(made(model="gpt2", layer=1, site="mlp_out"), site="h.1.mlp.act")
    assert (module.layer, module.site) == (None, "h.1.mlp.act")
    heads = made(model="gpt2-small", layer=1, hook_name="blocks.1.attn.hook_q")
    for given in ({}, {"layer": 1}):
        with pytest.raises(ValueError, match=r"reads 'blocks\.1\.attn\.hook_q'"):
            for_sae(heads, **given)
    heads = {"hook_name": "blocks.1.attn.hook_z", "layer": 1}
    assert for_sae(made(model="gemma-2-2b", **heads)).site == "layers.1.self_attn.o_proj.input"
    assert for_sae(made(model="gpt2-small", **heads)).site == "h.1.attn.c_proj.input"
    third = made(model="google/gemma-3-1b-pt", hook_name="model.layers.1.self_attn.o_proj.input")
    assert for_sae(third).site == "layers.1.self_attn.o_proj.input"
    neurons = {"hook_name": "blocks.1.mlp.hook_post", "layer": 1}
    assert for_sae(made(model="gpt2-small", **neurons)).site == "h.1.mlp.act"
    assert for_sae(made(model="pythia-70m", **neurons)).site == "layers.1.mlp.act"
    with pytest.raises(ValueError, match="for which ActivationExtractor has no word"):
        for_sae(made(model="gemma-2-2b", **neurons))
    # sparsify reads modules themselves, which is not what Gemma adds to its stream.
    mlp = made(model="google/gemma-2-2b", layer=3, site="mlp_out", module="layers.3.mlp")
    assert (for_sae(mlp).layer, for_sae(mlp).site) == (None, "layers.3.mlp")
    assert for_sae(made(layer=1, site="mlp_out"), model="gpt2").site == "mlp_out"


@each_case(
    "release, name, repo, place",
    [
        (
            "gemma-scope-2-4b-pt-res-all",
            "layer_0_width_16k_l0_big",
            "google/gemma-scope-2-4b-pt",
            "resid_post_all/layer_0_width_16k_l0_big",
        ),
        (
            "gemma-scope-2-4b-pt-transcoders",
            "transcoder/layer_17_width_16k_l0_big",
            "google/gemma-scope-2-4b-pt",
            "transcoder/layer_17_width_16k_l0_big",
        ),
        (
            "llama_scope_lxr_8x",
            "l15r_8x",
            "fnlp/Llama3_1-8B-Base-LXR-8x",
            "Llama3_1-8B-Base-L15R-8x",
        ),
        (
            "gpt2-small-resid-mid-v5-128k",
            "blocks.1.hook_resid_mid",
            "jbloom/GPT2-Small-OAI-v5-128k-resid-mid-SAEs",
            "v5_128k_layer_1",
        ),
        (
            "pythia-70m-deduped-att-sm",
            "blocks.1.hook_attn_out",
            "ctigges/pythia-70m-deduped__att-sm_processed",
            "1-att-sm",
        ),
        (
            "gemma-2-9b-res-matryoshka-dc",
            "blocks.1.hook_resid_post",
            "chanind/gemma-2-9b-batch-topk-matryoshka-saes-w-32k-l0-60",
            "blocks.1.hook_resid_post",
        ),
        (
            "gemma-2-2b-res-snap-matryoshka-dc",
            "blocks.1.hook_resid_post",
            "chanind/gemma-2-2b-batch-topk-matryoshka-saes-w-32k-l0-40",
            "snap/blocks.1.hook_resid_post",
        ),
        (
            "pythia-70m-deduped-res-sm",
            "blocks.0.hook_resid_pre",
            "ctigges/pythia-70m-deduped__res-sm_processed",
            "e-res-sm",
        ),
        (
            "sae_bench_gemma-2-2b_topk_width-2pow12_date-1109",
            "blocks.12.hook_resid_post__trainer_3_step_308",
            "canrager/saebench_gemma-2-2b_width-2pow12_date-1109",
            "gemma-2-2b_topk_width-2pow12_date-1109/resid_post_layer_12_checkpoints/"
            "trainer_3_step_308",
        ),
        (
            "sae_bench_pythia70m_sweep_gated_ctx128_0730",
            "blocks.4.hook_resid_post__trainer_8",
            "canrager/lm_sae",
            "pythia70m_sweep_gated_ctx128_0730/resid_post_layer_4/trainer_8",
        ),
        (
            "gpt2-small-res_sce-ajt",
            "blocks.6.hook_resid_pre",
            "neuronpedia/gpt2-small__res_sce-ajt",
            "6-res_sce-ajt",
        ),
        (
            "gpt-oss-20b-andyrdt",
            "resid_post_layer_3_trainer_0",
            "andyrdt/saes-gpt-oss-20b",
            "resid_post_layer_3/trainer_0",
        ),
    ],
)
def test_releases_of_saelens(release, name, repo, place):
    assert resolve(release, name) == (repo, place)
    assert resolve(release, None) == (repo, None)


def test_releases_with_other_names():
    with pytest.raises(ValueError, match="llama_scope_lxr_8x has no 'l15'"):
        resolve("llama_scope_lxr_8x", "l15")
    places = [f"layer_23/width_131k/average_l0_{l0}" for l0 in (66, 134, 20)]
    name = "layer_23/width_131k/canonical"
    assert canonical("google/gemma-scope-9b-pt-att", name, places).endswith("_66")
    assert canonical("google/gemma-scope-9b-pt-att", name, []) == name
    assert model_of("google/gemma-scope-9b-it-res") == "google/gemma-2-9b-it"
    assert model_of("google/gemma-scope-2-1b-pt") == "google/gemma-3-1b-pt"
    assert model_of("google/gemma-scope-2-270m-pt") == "google/gemma-3-270m"
    assert model_of("google/gemma-scope-2-270m-it") == "google/gemma-3-270m-it"
    # As near to 100 from above: SAELens has that one.
    places = [f"layer_27/width_16k/average_l0_{l0}" for l0 in (64, 136)]
    repo = "google/gemma-scope-9b-pt-att"
    assert canonical(repo, "layer_27/width_16k/canonical", places).endswith("_136")
    assert model_of("fnlp/Llama3_1-8B-Base-LXR-8x") == "meta-llama/Llama-3.1-8B"
    assert model_of("someone/else") is None
