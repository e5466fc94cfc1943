"""Several sites read in one pass, against extractors of one site each."""

import numpy as np
import pytest
from sklearn.base import clone

from sksae import TopKSAE, load
from sksae.datasets import TINY_LM_PATH, load_corpus
from sksae.language_models import ActivationExtractor, load_activations
from sksae.language_models.extraction import _activation_reader
from sksae.language_models.model import _hooks, own_pass
from tests.cases import each_case

TEXTS = [
    "The cat sat on the mat and the dog sat on the log.",
    "hello world, hello  again",
    "A sparse autoencoder",
    "the log",
]
LABELS = ["0.resid_mid", "0.mlp_out", "2.resid_mid", "2.mlp_out"]
SITES = {"layer": [0, 2], "site": ["resid_mid", "mlp_out"]}


@pytest.fixture(scope="module")
def model(tiny):
    return tiny("llama")


@pytest.fixture(scope="module")
def make(model, bpe):
    """``make(**parameters)``: an extractor of the model."""
    return lambda **parameters: ActivationExtractor(model, tokenizer=bpe, **parameters)


@pytest.fixture(scope="module")
def alone(make):
    """The rows of each site, by its name."""
    return {site: make(site=[site]).transform(TEXTS) for site in LABELS}


def test_blocks_are_the_rows_of_each_site(make, alone):
    extractor = make(**SITES)
    rows = extractor.transform(TEXTS)
    blocks = extractor.split(rows)
    assert list(blocks) == LABELS
    for site, block in blocks.items():
        assert np.shares_memory(block, rows)
        np.testing.assert_array_equal(block, alone[site])
    layer, site = 2, "mlp_out"
    np.testing.assert_array_equal(make(layer=layer, site=site).transform(TEXTS), alone[LABELS[3]])
    names = extractor.get_feature_names_out()
    assert len(names) == rows.shape[1] == 64
    assert [names[0], names[17], names[-1]] == ["0.resid_mid_0", "0.mlp_out_1", "2.mlp_out_15"]


def test_sites_with_layers_of_their_own(make, alone):
    mixed = make(site=["embeddings", (-1, "mlp_out"), "0.resid_mid", "layers.1.mlp.act_fn"])
    blocks = mixed.split(mixed.transform(TEXTS))
    widths = {"embeddings": 16, "2.mlp_out": 16, "0.resid_mid": 16, "layers.1.mlp.act_fn": 24}
    assert {site: block.shape[1] for site, block in blocks.items()} == widths
    for site in ("2.mlp_out", "0.resid_mid"):
        np.testing.assert_array_equal(blocks[site], alone[site])


def test_one_pass_gives_all(make, monkeypatch):
    extractor = make(**SITES)
    extractor.transform(TEXTS)
    n_passes = []
    monkeypatch.setattr(_hooks, "own_pass", lambda m: n_passes.append(1) or own_pass(m))
    extractor.transform(TEXTS)
    assert len(n_passes) == 1


@each_case("pooling", ["mean", "max", "last"])
def test_pooling_is_that_of_each_site(make, pooling):
    blocks = make(**SITES, pooling=pooling)
    rows = blocks.transform(TEXTS)
    for site, block in blocks.split(rows).items():
        expected = make(site=[site], pooling=pooling).transform(TEXTS)
        np.testing.assert_array_equal(block, expected)


def test_a_token_is_left_out_if_one_site_has_an_outlier(make):
    kept = []
    for sites in (["0.mlp_out"], ["2.mlp_out"], ["0.mlp_out", "2.mlp_out"]):
        _, tokens = make(site=sites, max_norm_ratio=1.15).extract(TEXTS)
        kept.append(set(zip(tokens.text.tolist(), tokens.position.tolist(), strict=True)))
    assert kept[2] == kept[0] & kept[1]
    assert kept[0] - kept[1]
    assert kept[1] - kept[0]


def test_tables_chunks_and_streams(make, alone):
    extractor = make(**SITES)
    rows, tokens = extractor.extract(TEXTS)
    assert len(rows) == len(tokens)
    assert tokens.policy["site"] == LABELS
    assert tokens.policy["layer"] is None
    together = np.concatenate(list(alone.values()), axis=1)
    ((first, chunk, _),) = extractor.extract_chunks(TEXTS)
    assert first == 0
    np.testing.assert_array_equal(chunk, together)
    mixed = np.concatenate(list(extractor.stream(TEXTS, random_state=0)))
    order = [np.lexsort(values.T) for values in (mixed, together)]
    np.testing.assert_array_equal(mixed[order[0]], together[order[1]])


def test_a_folder_has_each_site_alone(make, alone, tmp_path):
    extractor = make(**SITES)
    blocks, tokens = extractor.to_memmap(TEXTS, tmp_path / "a", dtype="float32")
    assert list(blocks) == LABELS
    again, table = load_activations(tmp_path / "a")
    for site in LABELS:
        one, _ = load_activations(tmp_path / "a", site=site)
        for rows in (blocks[site], again[site], one):
            assert isinstance(rows, np.memmap)
            assert rows.flags.c_contiguous
            np.testing.assert_array_equal(rows, alone[site])
    assert table.string.tolist() == tokens.string.tolist()
    assert table.policy["site"] == LABELS
    with pytest.raises(ValueError, match=r"no site '1.mlp_out'; it has '0.resid_mid'"):
        load_activations(tmp_path / "a", site="1.mlp_out")
    with pytest.raises(ValueError, match="begun with site="):
        make(site=LABELS[:2]).to_memmap(TEXTS, tmp_path / "a", dtype="float32")
    file = next((tmp_path / "a").glob("rows.3.npy"))
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"rows\.3\.npy"):
        load_activations(tmp_path / "a")


def test_a_folder_with_one_site_can_be_asked_for_it(make, tmp_path):
    rows, _ = make(layer=2, site="mlp_out").to_memmap(TEXTS, tmp_path / "a")
    assert sorted(p.name for p in (tmp_path / "a").glob("rows*")) == ["rows.npy"]
    np.testing.assert_array_equal(load_activations(tmp_path / "a", site="2.mlp_out")[0], rows)
    with pytest.raises(ValueError, match=r"it has '2\.mlp_out'"):
        load_activations(tmp_path / "a", site="0.mlp_out")


def test_writing_goes_on_where_it_stopped(make, alone, tmp_path, monkeypatch):
    monkeypatch.setattr(_activation_reader, "CHUNK_TOKENS", 8)
    extractor = make(**SITES)

    def interrupted():
        yield from TEXTS[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extractor.to_memmap(interrupted(), tmp_path / "a", dtype="float32")
    with pytest.raises(ValueError, match="not complete"):
        load_activations(tmp_path / "a")
    with (tmp_path / "a" / "rows.1.part").open("ab") as file:
        file.write(b"torn")
    blocks, _ = extractor.to_memmap(TEXTS, tmp_path / "a", dtype="float32")
    for site, rows in blocks.items():
        np.testing.assert_allclose(rows, alone[site], atol=1e-5)
    nothing, _ = extractor.to_memmap([], tmp_path / "b")
    assert {rows.shape for rows in nothing.values()} == {(0, 16)}


def test_clones_keep_the_sites(make):
    extractor = make(**SITES)
    params = clone(extractor).get_params()
    assert (params["layer"], params["site"]) == (SITES["layer"], SITES["site"])


def test_what_is_wrong_is_named(make):
    wrong = [
        ({"layer": [], "site": "mlp_out"}, "'layer' parameter"),
        ({"layer": [0.5], "site": "mlp_out"}, "'layer' parameter"),
        ({"site": []}, "'site' parameter"),
        ({"site": (0, "mlp_out")}, "'site' parameter"),
        ({"layer": [0, 0], "site": "mlp_out"}, "'0.mlp_out' is there twice"),
        ({"site": ["0.mlp_out", (-3, "mlp_out")]}, "'0.mlp_out' is there twice"),
        ({"site": ["mlp_out"]}, "needs a layer"),
        ({"layer": 0, "site": [(0, "mlp_out")]}, "layer must be None"),
        ({"layer": [0, 7], "site": "mlp_out"}, "has 3 layers"),
    ]
    for parameters, message in wrong:
        with pytest.raises(ValueError, match=message):
            make(**parameters).transform(TEXTS)
    with pytest.raises(ValueError, match=r"have 64 columns. Got shape \(3, 5\)"):
        make(**SITES).split(np.zeros((3, 5)))


def test_a_saved_autoencoder_knows_its_sites(tmp_path):
    """Lists of layers and names, and pairs."""
    cases = [([0, 1], "resid_post"), (1, ["resid_mid", "mlp_out"]), (None, [(1, "resid_mid")])]
    texts = load_corpus().data[:2]
    for layer, site in cases:
        extractor = ActivationExtractor(TINY_LM_PATH, layer=layer, site=site)
        X = extractor.transform(texts)
        sae = TopKSAE(8, k=2, max_iter=1, random_state=0).fit(X)
        sae.save(tmp_path / "sae.safetensors", extractor=extractor)
        again = ActivationExtractor.for_sae(load(tmp_path / "sae.safetensors"))
        np.testing.assert_array_equal(again.transform(texts), X)
        assert list(again.get_feature_names_out()) == list(extractor.get_feature_names_out())
