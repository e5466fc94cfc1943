import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sksae._processes import NEGLIGIBLE, RowShare
from sksae.training import Batches, Normalization, geometric_median
from tests.cases import tries


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@settings(max_examples=tries(50), deadline=None)
@given(n=st.integers(1, 60), batch_size=st.integers(1, 70), seed=st.integers(0, 99))
def test_a_pass_sees_every_row_once(n, batch_size, seed):
    X = np.arange(n, dtype=np.float64)[:, None]
    batches = Batches(X, None, batch_size, torch.float64, "cpu", generator=generator(seed))
    seen = [x.flatten() for x, _ in batches]
    assert len(seen) == len(batches)
    assert {len(x) for x in seen[:-1]} <= {min(batch_size, n)}
    assert sorted(torch.cat(seen).tolist()) == list(range(n))


@settings(max_examples=tries(40), deadline=None)
@given(
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    batch_size=st.integers(1, 30),
    seed=st.integers(0, 99),
)
def test_shares_of_a_batch_are_the_batch_of_one_process(sizes, batch_size, seed):
    total = sum(sizes)
    X = np.arange(total, dtype=np.float64)[:, None]
    rows = torch.arange(0, total, 2)  # some are held out
    options = {"rows": rows, "generator": generator(seed)}
    alone = [x for x, _ in Batches(X, None, batch_size, torch.float64, "cpu", **options)]
    shares = []
    for first, size in zip(np.cumsum([0, *sizes]), sizes, strict=False):
        share = RowShare(int(first), size, total)
        options = {"rows": rows, "share": share, "generator": generator(seed)}
        own = X[first : first + size]
        shares.append(list(Batches(own, None, batch_size, torch.float64, "cpu", **options)))
        assert len(shares[-1]) == len(alone)
    for number, expected in enumerate(alone):
        parts = [share[number] for share in shares]
        # A process without a row of the batch has one of next to no weight.
        assert all(len(x) for x, _ in parts)
        x = torch.cat([x[w > NEGLIGIBLE] for x, w in parts])
        assert sorted(x.flatten().tolist()) == sorted(expected.flatten().tolist())


def test_rows_and_weights_stay_together():
    X = np.arange(20, dtype=np.float32)[:, None]
    weight = torch.arange(20, dtype=torch.float64) * 10
    rows = torch.tensor([3, 5, 7, 11])
    batches = Batches(X, weight, 3, torch.float32, "cpu", rows=rows, generator=generator())
    seen = {float(x): float(w) for bx, bw in batches for x, w in zip(bx, bw, strict=True)}
    assert seen == {3: 30, 5: 50, 7: 70, 11: 110}
    assert batches.n_samples == 4


def test_large_data_are_shuffled_by_blocks(monkeypatch):
    monkeypatch.setattr("sksae.training._batches._MAX_SHUFFLED", 10)
    monkeypatch.setattr("sksae.training._batches._BLOCK", 4)
    X = np.arange(30, dtype=np.float64)[:, None]
    batches = Batches(X, None, 7, torch.float64, "cpu", generator=generator())
    order = torch.cat([x.flatten() for x, _ in batches]).tolist()
    assert sorted(order) == list(range(30))
    assert order != sorted(order)


def test_averages_are_weighted_and_in_float64():
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(1000, 3)) + 1000).astype(np.float32)
    weight = torch.from_numpy(rng.random(1000))
    mean = Batches(X, weight, 10, torch.float32, "cpu").average()
    expected = np.average(X.astype(np.float64), axis=0, weights=weight.numpy())
    np.testing.assert_allclose(mean.numpy(), expected, rtol=1e-12)


def test_normalized_rows_have_the_internal_unit():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 8)) * 7 + 100
    batches = Batches(X, None, 500, torch.float64, "cpu")
    batches.normalize(Normalization.from_rows(batches, "rms"))
    ((x, _),) = batches
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-12)
    assert float(x.square().sum(1).mean()) == pytest.approx(8)


def test_infinite_rows_are_named():
    X = np.ones((10, 2))
    X[3, 1] = np.inf
    with pytest.raises(ValueError, match="NaN, infinity"):
        Normalization.from_rows(Batches(X, None, 5, torch.float64, "cpu"), "rms")


def test_geometric_median():
    x = torch.tensor([[0, 0], [1, 0], [0, 1], [5, 5]], dtype=torch.float64)
    median = geometric_median(x, torch.ones(4, dtype=torch.float64), tol=1e-12, max_iter=1000)
    torch.testing.assert_close(median, torch.tensor([0.5, 0.5]).double(), rtol=0, atol=1e-6)
    doubled = torch.cat([x, x[3:]])
    ones = torch.ones(5, dtype=torch.float64)
    weights = torch.tensor([1, 1, 1, 2], dtype=torch.float64)
    torch.testing.assert_close(geometric_median(x, weights), geometric_median(doubled, ones))
