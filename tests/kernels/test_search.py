"""Active entries found by a rough product are those of the exact one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sksae.kernels import ActiveSet, Rule, Search, _search, _selection, top_k
from sksae.kernels._selection import grouped_top_k
from tests.cases import each_case, tries

SHAPES = {
    "n": st.integers(1, 30),
    "d": st.integers(1, 20),
    "m": st.integers(1, 200),
    "seed": st.integers(0, 2**16),
    "kind": st.sampled_from(["plain", "duplicates", "outliers", "large", "constant"]),
}


@pytest.fixture(autouse=True)
def halved(monkeypatch):
    """Every product preselects in bfloat16, however small."""
    monkeypatch.setattr(_search, "_WORTH_HALVING", 0)
    monkeypatch.setattr(_search, "_has_bfloat16", lambda kind: True)


def problem(n, d, m, seed, kind):
    """Rows, encoder and bias in float32, with what makes rounding hurt."""
    rng = np.random.default_rng(seed)
    x, coef, bias = rng.normal(size=(n, d)), rng.normal(size=(m, d)), rng.normal(size=m)
    if kind == "duplicates":
        coef, bias = coef[rng.integers(0, max(1, m // 3), m)], np.zeros(m)
    elif kind == "outliers":
        x[0] *= 1e3
        coef[0] *= 1e2
    elif kind == "large":
        bias += 1e4
    elif kind == "constant":
        coef[:] = coef[0]
    return (torch.from_numpy(a.astype(np.float32)) for a in (x, coef, bias))


def exact(x, coef, bias):
    """Every pre-activation by the dot product that the search ends with."""
    n, m = len(x), len(coef)
    every = torch.arange(m).expand(n, m)
    return ActiveSet.from_rows(every, m).dots(x, coef, bias).view(n, m)


@settings(max_examples=tries(150), deadline=None)
@given(k=st.integers(1, 40), **SHAPES)
def test_the_k_largest(k, n, d, m, seed, kind):
    x, coef, bias = problem(n, d, m, seed, kind)
    k = min(k, m)
    z = exact(x, coef, bias)
    expected = torch.where(top_k(z, k)[0] > 0, top_k(z, k)[0], 0.0)
    values, latents = Search().largest(x, coef, bias, k)
    found = torch.where(values > 0, values, 0.0).sort(descending=True).values
    assert torch.equal(found, expected)
    assert torch.equal(torch.where(values > 0, z.gather(1, latents), 0.0), values.clamp(min=0))


@settings(max_examples=tries(150), deadline=None)
@given(k=st.integers(1, 40), **SHAPES)
def test_the_k_largest_by_magnitude(k, n, d, m, seed, kind):
    """The signed entries with the largest absolute values, as a whole sort finds them."""
    x, coef, bias = problem(n, d, m, seed, kind)
    k = min(k, m)
    z = exact(x, coef, bias)
    expected = z.abs().sort(dim=1, descending=True).values[:, :k]
    active, values = Search()(x, coef, bias, Rule(k=k, magnitude=True))
    values = values.view(n, k)
    assert torch.equal(values, z.gather(1, active.latents.view(n, k)))
    assert torch.equal(values.abs().sort(descending=True).values, expected)


def test_rules_that_contradict_themselves():
    for options in ({}, {"k": 2, "bound": 0.0}, {"bound": 0.0, "magnitude": True}):
        with pytest.raises(ValueError, match="A Rule"):
            Rule(**options)
    for options in ({"k": 2, "magnitude": True}, {"bound": 0.0}):
        with pytest.raises(ValueError, match="pooled=True needs k, and cannot go by magnitude"):
            Rule(pooled=True, **options)


@settings(max_examples=tries(150), deadline=None)
@given(bound=st.floats(-2, 2), per_latent=st.booleans(), **SHAPES)
def test_all_above_a_bound(bound, per_latent, n, d, m, seed, kind):
    x, coef, bias = problem(n, d, m, seed, kind)
    bounds = torch.full((m,), bound) + (bias if per_latent else 0)
    z = exact(x, coef, bias)
    active, values = Search()(x, coef, bias, Rule(bound=bounds))
    expected = z > bounds
    assert torch.equal(active.to_dense(torch.ones(len(active))).bool(), expected)
    assert torch.equal(values, z[expected])


@settings(max_examples=tries(100), deadline=None)
@given(k=st.floats(0.1, 5), weighted=st.booleans(), **SHAPES)
def test_the_largest_of_a_batch(k, weighted, n, d, m, seed, kind):
    """Twice, so that the second search starts from the first one's guess."""
    x, coef, bias = problem(n, d, m, seed, kind)
    w = torch.rand(n, generator=torch.Generator().manual_seed(seed)) + 0.1
    w = w if weighted else torch.ones(n)
    z = exact(x, coef, bias)
    cut = _search.pooled_cut(z, k, w)
    search = Search()
    for _ in range(2):
        active, values = search(x, coef, bias, Rule(k=k, pooled=True), w)
        assert search.cut == cut
        assert torch.equal(values, z[z > cut])
        assert len(active) == int((z > cut).sum())


@each_case("m", [64, 96, 97, 256])
def test_grouped_selection_is_selection(m):
    rng = np.random.default_rng(0)
    z = torch.from_numpy(rng.integers(0, 40, size=(50, m)).astype(np.float32))
    for k in (1, 3, 5):
        values, columns = grouped_top_k(z, k)
        expected, _ = top_k(z, k)
        assert torch.equal(values, expected)
        assert torch.equal(z.gather(1, columns), expected)
        assert all(len(set(row)) == k for row in columns.tolist())


def test_a_margin_too_small_is_made_up_for(monkeypatch):
    """Without any margin, rows in doubt are searched again among all that may be in."""
    monkeypatch.setattr("sksae.kernels._active._compiled_loops", lambda: None)
    x, coef, bias = problem(200, 32, 300, 0, "plain")
    z = exact(x, coef, bias)
    calls, widened = [], _selection._widened_top_k

    def widen(z, *args, **options):
        calls.append(len(z))
        return widened(z, *args, **options)

    monkeypatch.setattr(_selection, "MARGIN", 1)
    monkeypatch.setattr(_selection, "_widened_top_k", widen)
    values, _ = Search().largest(x, coef, bias, 8)
    assert torch.equal(values.sort(descending=True).values, top_k(z, 8)[0])
    assert 0 < sum(calls) < 200


def test_products_over_the_active_entries():
    rng = np.random.default_rng(0)
    codes = torch.from_numpy(rng.normal(size=(7, 5)) * (rng.random((7, 5)) < 0.4))
    left, right = (torch.from_numpy(rng.normal(size=(n, 3))) for n in (7, 5))
    active = ActiveSet.from_flat(codes.flatten().nonzero().flatten(), 7, 5)
    values = codes[codes != 0]
    assert torch.equal(active.to_dense(values), codes)
    torch.testing.assert_close(active.dots(left, right), (left @ right.T)[codes != 0])
    torch.testing.assert_close(active.row_sums(values, right), codes @ right)
    torch.testing.assert_close(active.latent_totals(values), codes.sum(0))
    order, rows, pointer = active.by_latent
    transposed = ActiveSet(pointer, rows, 7)
    torch.testing.assert_close(transposed.row_sums(values[order], left), codes.T @ left)
    kept = active.where(values > 0)
    assert torch.equal(kept.to_dense(values[values > 0]), codes.clamp(min=0))
    empty = active.where(values > 1e9)
    assert len(empty) == len(empty.dots(left, right)) == 0
    assert not empty.row_sums(values[:0], right).any()


def test_bfloat16_values_where_they_will_do():
    x, coef, bias = problem(64, 64, 256, 0, "plain")
    z = exact(x, coef, bias)
    active, values = Search(exact=False)(x, coef, bias, Rule(k=8))
    reference = z[active.rows, active.latents]
    assert 0 < (values - reference).abs().max() < 0.02 * z.abs().max()
