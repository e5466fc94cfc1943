"""Estimators that are published and read again, and what their cards say."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.exceptions import NotFittedError

import sksae
from sksae import ActivationExtractor, BatchTopKSAE, SparseAutoencoder, TopKSAE, Transcoder
from sksae.datasets import TINY_LM_PATH, load_corpus, make_superposition
from sksae.formats import from_pretrained, push_to_hub, read, read_saelens, save_card
from tests.cases import each_case

FILES = {
    "README.md",
    "cfg.json",
    "sae_weights.safetensors",
    "sksae.safetensors",
    "sparsity.safetensors",
}


@pytest.fixture(scope="module")
def X():
    return make_superposition(400, 8, 16, random_state=0)[0]


@pytest.fixture(scope="module")
def learnt(X):
    return BatchTopKSAE(16, k=2, max_iter=4, random_state=0).fit(X)


def test_what_is_published_is_read_again(hub, get, X, learnt):
    url = push_to_hub(learnt, "me/dictionaries", token="open")
    assert url == f"{hub.url}/me/dictionaries/commit/{'a' * 40}"
    folder = hub.root / "me/dictionaries"
    assert {path.name for path in folder.iterdir()} == FILES
    assert hub.commits == ["BatchTopKSAE with sksae"]
    again = get("me/dictionaries")
    assert repr(again) == repr(learnt)
    assert_array_equal(again.components_, learnt.components_)
    assert again.loss_curve_ == learnt.loss_curve_
    assert again.source_["repo"] == "me/dictionaries"
    assert hub.given == ["me/dictionaries/sksae.safetensors"]  # and nothing else
    # the files beside it hold the same codes
    theirs = get("me/dictionaries", format="saelens")
    assert_array_equal(theirs.transform(X), learnt.transform(X))
    assert_array_equal(read_saelens(folder).transform(X), learnt.transform(X))
    assert repr(read(folder)) == repr(learnt)


def test_a_repository_of_several(hub, get, X, learnt):
    other = TopKSAE(24, k=1, max_iter=2, random_state=0).fit(X)
    push_to_hub(learnt, "me/two", "layer_0", token="open", commit_message="The first")
    push_to_hub(other, "me/two", "layer_1", token="open", saelens=False)
    assert hub.commits == ["The first", "TopKSAE with sksae"]
    assert {path.name for path in (hub.root / "me/two/layer_1").iterdir()} == {
        "README.md",
        "sksae.safetensors",
    }
    assert get("me/two", "layer_1").n_components_ == 24
    assert get("me/two", "layer_0").n_components_ == 16
    with pytest.raises(ValueError, match="autoencoders at layer_0, layer_1"):
        get("me/two")


def test_the_extractor_comes_with_it(hub, get):
    extractor = ActivationExtractor(TINY_LM_PATH, layer=2, prepend_bos=True)
    rows = extractor.transform(load_corpus().data[:5])
    sae = TopKSAE(32, k=4, max_iter=2, random_state=0).fit(rows)
    push_to_hub(
        sae, "me/lm", token="open", extractor=extractor, dataset="docstrings of six packages"
    )
    for again in (get("me/lm"), get("me/lm", format="saelens")):
        twin = ActivationExtractor.for_sae(again)
        assert (twin.layer, twin.site, twin.prepend_bos) == (2, "resid_post", True)
    card = (hub.root / "me/lm/README.md").read_text()
    assert "| data | docstrings of six packages |" in card
    assert "| BOS put before each text | yes |" in card
    assert "| layer | 2 |" in card
    assert "ActivationExtractor.for_sae(sae)" in card
    assert not hasattr(sae, "source_")  # it is not changed


def test_the_measures_of_a_card(tmp_path, X, learnt):
    metrics = {"delta_ce": 0.25, "delta_ce_se": 0.031, "my measure": 3}
    card = save_card(tmp_path / "card.md", learnt, X=X, metrics=metrics).read_text()
    l0 = (learnt.transform(X) != 0).sum(axis=1).mean()
    assert f"| L0, non-zero codes per row | {l0:.4g} |" in card
    assert f"| explained variance | {learnt.score(X):.4g} |" in card
    assert "nats per token (delta CE) | 0.25 ± 0.031 |" in card
    assert "\n| my measure | 3 |\n" in card
    assert "delta\\_ce\\_se" not in card
    # without rows the L0 is that of the training rows, and nothing is said about the variance
    card = save_card(tmp_path, learnt).read_text()
    assert f"| {learnt.activation_frequency_.sum():.4g} |" in card
    assert "explained variance" not in card


def test_the_head_of_a_card_is_what_the_hub_reads(tmp_path, learnt):
    yaml = pytest.importorskip("yaml")
    path = save_card(
        tmp_path, learnt, dataset="roneneldan/TinyStories", license="mit", repo="me/it", name="a"
    )
    _, head, body = path.read_text().split("---\n", 2)
    assert yaml.safe_load(head) == {
        "library_name": "sksae",
        "license": "mit",
        "datasets": ["roneneldan/TinyStories"],
        "tags": ["sparse-autoencoder", "sksae"],
    }
    assert 'from_pretrained("me/it", "a")' in body
    assert "BatchTopKSAE(k=2, max_iter=4, n_components=16, random_state=0)" in body


def test_texts_of_a_card_are_texts(tmp_path, learnt):
    hostile = "a | b <script>x</script>\n# heading\x1b[2J [link](http://x) `c`"
    card = save_card(tmp_path, learnt, dataset=hostile, metrics={hostile: 1.0}).read_text()
    assert "<script>" not in card
    assert "\x1b" not in card
    assert "\n# heading" not in card
    assert "[link]" not in card.replace("\\[link\\]", "")
    assert "datasets:" not in card


def test_a_transcoder_has_a_card_and_a_place(hub, get, X):
    transcoder = Transcoder(SparseAutoencoder(16, max_iter=2, random_state=0)).fit(X, 2 * X)
    push_to_hub(transcoder, "me/transcoder", token="open")
    assert_array_equal(get("me/transcoder").predict(X), transcoder.predict(X))
    card = (hub.root / "me/transcoder/README.md").read_text()
    assert "# A transcoder: Transcoder" in card


def test_what_saelens_cannot_hold_is_refused(hub, X):
    transcoder = Transcoder(TopKSAE(16, k=2, max_iter=2, random_state=0)).fit(X, 2 * X)
    with pytest.raises(ValueError, match="set saelens=False"):
        push_to_hub(transcoder, "me/it", token="open")
    assert not hub.root.exists()


def test_who_may_not_write_is_told(hub, learnt):
    with pytest.raises(PermissionError, match="me/it may not be written: log in"):
        push_to_hub(learnt, "me/it", token="closed")
    hub.close()
    with pytest.raises(ConnectionError, match="me/it cannot be written to the hub"):
        push_to_hub(learnt, "me/it", token="open")


@each_case(
    "sae, options, error",
    [
        (TopKSAE(), {}, NotFittedError),
        ("a name", {}, TypeError),
        (np.ones(3), {}, TypeError),
        (None, {"dataset": 3}, ValueError),
        (None, {"metrics": {"l0": "many"}}, TypeError),
        (None, {"metrics": [3]}, ValueError),
    ],
)
def test_cards_of_something_else(sae, options, error, tmp_path, learnt):
    with pytest.raises(error):
        save_card(tmp_path / "card.md", learnt if sae is None else sae, **options)
    assert not (tmp_path / "card.md").exists()


def test_our_own_file_in_a_folder(tmp_path, X, learnt):
    learnt.save(tmp_path / "sksae.safetensors")
    assert repr(from_pretrained(tmp_path)) == repr(sksae.load(tmp_path / "sksae.safetensors"))
