import numpy as np
import pytest
from scipy import sparse

from sksae.interpret import choose_features, summarize_features
from sksae.metrics import latent_density


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    text = np.repeat(np.arange(40), 25)
    string = rng.choice(["a", " b", "c", " d", "e", "f"], size=1000).astype(object)
    codes = rng.exponential(size=(1000, 8)) * (rng.random((1000, 8)) < 0.05)
    codes[:, 7] = 0
    return codes, {"text": text, "string": string}


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array, sparse.csc_matrix])
def test_summaries_are_what_a_count_finds(data, kind):
    codes, table = data
    summaries = summarize_features(kind(codes), table, n_examples=3, n_tokens=2)
    assert [s.feature for s in summaries] == list(range(8))
    assert [s.density for s in summaries] == latent_density(codes).tolist()
    for summary in summaries[:7]:
        column = codes[:, summary.feature]
        assert summary.n_active == (column > 0).sum()
        assert summary.n_texts == len(set(table["text"][column > 0].tolist()))
        assert summary.max_activation == column.max() == summary.examples[0].activation
        shares = {s: column[table["string"] == s].sum() / column.sum() for s in table["string"]}
        expected = sorted(shares.items(), key=lambda item: -item[1])[:2]
        assert [s for s, _ in summary.top_tokens] == [s for s, _ in expected]
        np.testing.assert_allclose([x for _, x in summary.top_tokens], [x for _, x in expected])
    dead = summaries[7]
    assert (dead.max_activation, dead.top_tokens, dead.examples, dead.n_texts) == (0.0, [], [], 0)


@pytest.fixture
def planted(data):
    """Latent 0 fires on half of all " b", latent 1 on every "c", latent 2 everywhere."""
    codes, table = data
    b, c = (np.flatnonzero(table["string"] == s) for s in (" b", "c"))
    codes = np.zeros((1000, 8))
    codes[b[: len(b) // 2], 0] = codes[c, 1] = codes[::2, 2] = 1
    codes[b[: len(b) // 2 : 2], 3] = 1
    codes[np.flatnonzero(table["string"] == "f")[:3], 4] = 1
    return codes, table


def test_features_on_one_token_in_some_places_come_first(planted):
    codes, table = planted
    chosen = choose_features(codes, table, n_features=2)
    # 3 is more selective, 0 has the same main token; 2 fires too often, 4 on too few rows.
    assert chosen.tolist() == [3, 1]


def test_directions_differ(planted):
    codes, table = planted
    components = np.eye(8)
    components[1] = components[3]
    assert choose_features(codes, table, components, n_features=2).tolist() == [3]


def test_bounds_give_way_where_too_few_features_are_known(planted):
    codes, table = planted
    assert set(choose_features(codes, table, n_features=4).tolist()) == {1, 3, 4}


def test_labels_and_nothing_at_all():
    codes = np.zeros((30, 3))
    codes[:25, 0] = codes[5, 1] = 1
    assert len(choose_features(codes, [f"row {i}" for i in range(30)], n_features=2)) <= 2
    assert choose_features(np.zeros((5, 2))).tolist() == []
    assert choose_features(np.zeros((0, 2))).tolist() == []


@pytest.mark.parametrize("name", ["n_features", "min_active", "min_texts"])
def test_counts_are_checked(name):
    with pytest.raises(ValueError, match=f"{name} must be an int >= 1"):
        choose_features(np.ones((2, 2)), **{name: 0})
