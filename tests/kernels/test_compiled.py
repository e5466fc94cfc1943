"""Compiled loops against torch: uncompiled in the default run, and compiled where asked for."""

import os
from threading import Barrier

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sksae import BatchTopKSAE, MatryoshkaSAE, TopKSAE
from sksae.autoencoders import Fit
from sksae.kernels import ActiveSet, _active, compiled_for
from sksae.kernels import top_k as torch_top_k
from sksae.training import Batches, Engine, Normalization
from tests.cases import each_case, tries

loops = pytest.importorskip("sksae.kernels.compiled")

DTYPES = st.sampled_from([torch.float32, torch.float64])


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture
def in_use(monkeypatch):
    """Have the loops be used, compiled or not."""
    monkeypatch.setattr(_active, "_compiled_loops", lambda: loops)


def test_the_loops_are_used_where_they_are_compiled():
    is_compiled = os.environ["NUMBA_DISABLE_JIT"] == "0"
    for dtype in (torch.float32, torch.float64):
        assert (compiled_for(torch.zeros(1, dtype=dtype)) is loops) == is_compiled
    assert compiled_for(torch.zeros(1, dtype=torch.bfloat16)) is None


def test_a_compiler_that_fails_is_done_without(monkeypatch):
    """Whatever the import raises: numba says ImportError, of numpy too, and others say more."""
    from numba import config

    monkeypatch.setattr(config, "DISABLE_JIT", 0)
    find = _active._compiled_loops.__wrapped__
    assert find() is loops
    monkeypatch.delitem(__import__("sys").modules, "numba")
    for error in (ImportError, RuntimeError, OSError):

        def refuse(name, *args, error=error, through=__import__, **options):
            if name.partition(".")[0] == "numba":
                raise error("no compiler")
            return through(name, *args, **options)

        with monkeypatch.context() as patch:
            patch.setattr("builtins.__import__", refuse)
            assert find() is None


@settings(max_examples=tries(60))
@given(
    n=st.integers(1, 4),
    m=st.integers(1, 150),
    k=st.integers(1, 40),
    seed=st.integers(0, 99),
    kind=st.sampled_from(["real", "whole", "equal", "infinite", "tiny"]),
    dtype=DTYPES,
)
def test_the_k_largest(n, m, k, seed, kind, dtype):
    """Those of a stable sort, equal ones by lowest column; few and many candidates."""
    z, k = random(n, m, seed=seed, dtype=dtype), min(k, m)
    if kind == "whole":
        z = z.round() + 0.0  # no -0.0, which is below 0.0 here
    elif kind == "equal":
        z = z * 0 + 1
    elif kind == "infinite":
        z[:, ::3] = torch.inf
        z[:, 1::3] = -torch.inf
    elif kind == "tiny":
        z *= 1e-40
    order = torch.sort(z, dim=1, descending=True, stable=True).indices[:, :k]
    values, columns = loops.top_k(z, k)
    assert torch.equal(columns, order.sort(1).values)
    assert torch.equal(values, z.gather(1, columns))


@settings(max_examples=tries(60))
@given(n=st.integers(1, 90), place=st.integers(1, 90), seed=st.integers(0, 99), dtype=DTYPES)
def test_the_nth_largest(n, place, seed, dtype):
    values, place = (3 * random(n, seed=seed, dtype=dtype)).round() + 0.0, min(place, n)
    expected = values.sort(descending=True).values[place - 1]
    assert loops.nth_largest(values, place) == float(expected)
    values = random(n, seed=seed, dtype=dtype)
    assert loops.nth_largest(values, place) == float(values.sort().values[n - place])


@settings(max_examples=tries(40))
@given(
    m=st.integers(2, 120),
    k=st.integers(1, 30),
    seed=st.integers(0, 99),
    kind=st.sampled_from(["real", "close", "wrong", "coarse", "negative"]),
)
def test_a_rough_product_does_not_decide(m, k, seed, kind):
    """Entries closer to each other than the error of the product are found all the same."""
    x, coef = (random(n, 16, seed=seed + n, dtype=torch.float32) for n in (5, m))
    bias, k = random(m, seed=seed + 2, dtype=torch.float32), min(k, m)
    if kind == "close":  # a thousandth of the rounding of bfloat16 apart
        coef = coef[:1] + 1e-5 * coef
        bias = 0 * bias
    elif kind == "negative":
        bias = bias - 100
    exact = torch.addmm(bias, x, coef.T)
    rough = exact.to(torch.bfloat16)
    if kind == "wrong":  # errors of the size that products of bfloat16 have
        rough = (exact + 0.02 * random(5, m, seed=seed + 3, dtype=torch.float32)).bfloat16()
    elif kind == "coarse":  # whole numbers, in which candidates are missed
        rough = exact.round().bfloat16()
    values, columns = loops.refined_top_k(rough, x, coef, bias, k)
    torch.testing.assert_close(values, exact.gather(1, columns), rtol=1e-4, atol=1e-4)
    largest = torch_top_k(exact, k)[0].sort(1).values
    if kind != "negative":  # below 0 there are no codes, and candidates may stand for each other
        torch.testing.assert_close(values.sort(1).values, largest, rtol=1e-5, atol=1e-5)


@settings(max_examples=tries(30))
@given(m=st.integers(1, 40), cut=st.floats(-2, 4), seed=st.integers(0, 99))
def test_all_above_a_bound(m, cut, seed):
    """A bound per latent, and then one for all; rows without any entry are empty."""
    x, coef = (random(n, 6, seed=seed + n, dtype=torch.float32) for n in (5, m + 5))
    bias, bound = torch.zeros(m + 5), cut + 0.1 * random(m + 5, seed=seed, dtype=torch.float32)
    exact = x @ coef.T
    options = {"lowered": (bound - 0.1).bfloat16(), "bound": bound}
    rough = (exact + 0.05).bfloat16()
    values, columns, counts = loops.refined_above(rough, x, coef, bias, **options)
    mask = exact > bound
    if not ((exact - bound).abs() < 1e-5).any():  # sums in another order, on another side
        assert torch.equal(columns, mask.nonzero()[:, 1])
        assert torch.equal(counts, mask.sum(1))
        torch.testing.assert_close(values, exact[mask], rtol=1e-4, atol=1e-5)
    pointer = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    kept, latents, new_pointer = loops.keep_above(values, columns, pointer, cut)
    assert torch.equal(kept, values[values > cut])
    assert torch.equal(latents, columns[values > cut])
    rows = torch.repeat_interleave(torch.arange(5), counts)[values > cut]
    assert torch.equal(new_pointer.diff(), torch.bincount(rows, minlength=5))


def test_what_a_rough_product_hides_is_searched_for():
    """Errors as large as those of the candidates, and larger than all differences."""
    rng = np.random.default_rng(0)
    exact = np.linspace(10, 8, 200)[None].astype(np.float32)
    coef, bias = torch.from_numpy(exact.T.copy()), torch.zeros(200)
    for _ in range(20):
        rough = torch.from_numpy(exact + rng.uniform(-1, 1, exact.shape)).bfloat16()
        values, columns = loops.refined_top_k(rough, torch.ones(1, 1), coef, bias, 3)
        assert columns.tolist() == [[0, 1, 2]]
        np.testing.assert_array_equal(values, exact[:, :3])


def entries(seed, n=6, m=9, dtype=torch.float64):
    """A random active set, with empty rows and latents, and its values."""
    mask = random(n, m, seed=seed) > 0.5
    mask[1], mask[:, 2] = False, False
    active = ActiveSet.from_flat(mask.flatten().nonzero().flatten(), n, m)
    return active, random(len(active), seed=seed + 1, dtype=dtype)


@settings(max_examples=tries(20))
@given(seed=st.integers(0, 99), dtype=DTYPES, d=st.integers(1, 9))
def test_products_over_entries(seed, dtype, d):
    active, values = entries(seed, dtype=dtype)
    left, right = (random(size, d, seed=seed + 2, dtype=dtype) for size in (6, 9))
    dense = active.to_dense(values)
    sums = loops.segment_sums(values, active.latents, active.pointer, right)
    torch.testing.assert_close(sums, dense @ right)
    products = loops.dots(left, right, active.pointer, active.latents, values.clone())
    torch.testing.assert_close(products, (dense + left @ right.T)[dense != 0])
    order, rows, pointer = loops.by_latent(active.latents, active.pointer, 9)
    latents, stable = torch.sort(active.latents, stable=True)
    assert torch.equal(order, stable)
    assert torch.equal(rows, active.rows[stable])
    assert pointer.diff().tolist() == torch.bincount(latents, minlength=9).tolist()
    x, share, offset = left, torch.rand(6, dtype=dtype), right[0]
    dense.requires_grad_()
    error = dense @ right + offset - x
    loss = share @ error.square().sum(1)
    loss.backward()
    active_parts = values, active.latents, active.pointer
    found = loops.error_and_pulls(*active_parts, right, offset=offset, x=x, share=share)
    torch.testing.assert_close(found[0], error.detach())
    torch.testing.assert_close(found[1], dense.grad[dense != 0])
    torch.testing.assert_close(found[2], 2 * share[active.rows] * values)
    torch.testing.assert_close(found[3].sum(), loss.detach())


@each_case("on_sphere, clip", [(True, 0.5), (False, 1.0)])
def test_adam(on_sphere, clip):
    """Three steps of torch's, beside which rows of the matrix keep the norm 1."""
    weights = [random(5, 3), random(4, seed=1)]
    if on_sphere:
        weights[0] /= weights[0].norm(dim=1, keepdim=True)
    expected = [weight.clone().requires_grad_() for weight in weights]
    torch_adam = torch.optim.Adam(expected, lr=0.1, betas=(0.8, 0.9), eps=1e-8)
    moments = [(torch.zeros_like(weight), torch.zeros_like(weight)) for weight in weights]
    for step in (1, 2, 3):
        grads = [random(*weight.shape, seed=10 * step + i) for i, weight in enumerate(weights)]
        for weight, grad, other in zip(weights, grads, expected, strict=True):
            other.grad = clip * grad
            if on_sphere and weight.ndim == 2:
                along = (other.grad * weight).sum(1, keepdim=True) * weight
                other.grad = other.grad - along
                loops.project(grad, weight)
        torch_adam.step()
        for i, weight in enumerate(weights):
            options = {"step": step, "learning_rate": 0.1, "betas": (0.8, 0.9), "clip": clip}
            is_unit = on_sphere and i == 0
            loops.update(weight, grads[i], moments[i], on_sphere=is_unit, **options)
            if is_unit:
                with torch.no_grad():
                    expected[i] /= expected[i].norm(dim=1, keepdim=True)
            torch.testing.assert_close(weight, expected[i].detach())


@each_case("n_threads, max_norm", [(1, 0.5), (3, 0.5), (3, 1e9)])
def test_weights_updated_at_once_are_those_updated_in_turn(n_threads, max_norm, monkeypatch):
    """Two matrices and a vector, of which threads take rows without regard to where one ends."""
    from sksae.kernels.compiled import _row_loops

    monkeypatch.setattr(_row_loops, "_SHARED", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: n_threads)
    shapes = (7, 3), (5, 3), (4,)
    expected = [random(*shape, seed=i) for i, shape in enumerate(shapes)]
    expected[0] /= expected[0].norm(dim=1, keepdim=True)
    grads = [random(*shape, seed=10 + i) for i, shape in enumerate(shapes)]
    moments = [[(torch.ones(shape), torch.ones(shape)) for shape in shapes] for _ in range(2)]
    options, unit_norm = {"step": 2, "betas": (0.8, 0.9)}, [True, False, False]
    rates, found = [0.1, 0.2, 0.3], [weight.clone() for weight in expected]
    loops.update_at_once(
        found,
        [grad.clone() for grad in grads],
        moments[0],
        learning_rates=rates,
        unit_norm=unit_norm,
        max_norm=max_norm,
        **options,
    )
    loops.project(grads[0], expected[0])
    clip = min(1.0, max_norm / float(torch.cat([grad.flatten() for grad in grads]).norm()))
    for i, weight in enumerate(expected):
        more = {"learning_rate": rates[i], "on_sphere": unit_norm[i], "clip": clip}
        loops.update(weight, grads[i], moments[1][i], **options, **more)
    for one, other in zip((*found, *moments[0]), (*expected, *moments[1]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


KINDS = {
    "float64": lambda X: X,
    "float32": lambda X: X.astype(np.float32),
    "a tensor": torch.from_numpy,
    "a tensor of bfloat16": lambda X: torch.from_numpy(X).bfloat16(),
    "rows that do not lie one after another": lambda X: np.asfortranarray(X),
    "bytes in the other order": lambda X: X.astype(">f8"),
    "a file": None,
    "subnormal numbers": lambda X: (X * 1e-41).astype(np.float32),
}


@each_case("kind", list(KINDS))
def test_rows_of_batches(kind, monkeypatch, tmp_path):
    """Rows of all kinds, read by the loop where it can, are what torch reads."""
    X = 5 + random(50, 6).numpy()
    if kind == "a file":
        np.save(tmp_path / "rows.npy", X)
        X = np.load(tmp_path / "rows.npy", mmap_mode="r")
    else:
        X = KINDS[kind](X)
    found = []
    for used in (None, loops):
        monkeypatch.setattr(_active, "_compiled_loops", lambda used=used: used)
        rows = Batches(X, None, 7, torch.float32, "cpu", generator=torch.Generator())
        rows.normalize(Normalization.from_rows(rows, "rms"))
        rows._n_entries = np.inf  # as of many rows, which are not prepared once for all
        found.append([x for x, _ in rows])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
    assert torch.cat(found[0]).square().mean() == pytest.approx(1, rel=1e-3)


def test_moments_that_vanish_are_zero():
    """Numbers close to underflow cost a processor as much as a hundred others."""
    weight, grad = torch.zeros(1, 2), torch.zeros(1, 2)
    moments = torch.tensor([[1e-29, 2.0]]), torch.ones(1, 2)
    options = {"learning_rate": 0.1, "betas": (0.01, 0.999), "clip": 1.0, "on_sphere": False}
    loops.update(weight, grad, moments, step=1, **options)
    np.testing.assert_allclose(moments[0], [[0.0, 0.02]], rtol=1e-6)


def make_run(sae, X, w, *, plain):
    fit = Fit(sae.set_params(batch_size=20, random_state=0), X, sample_weight=w)
    run = fit.run
    run.engine = Engine(fit.objective, plain=plain)
    run.dead_window = 30
    run.weights["encoder_intercept"][:4] -= 100  # dead latents, which the auxiliary loss revives
    return run, fit.rows


@each_case(
    "sae, weighted, is_small",
    [
        (TopKSAE(14, k=3, k_aux=2), True, True),
        (TopKSAE(14, k=3, k_aux=9, auxk_alpha=0.5), False, True),
        (TopKSAE(14, k=14), False, True),
        (TopKSAE(14, k=3, max_grad_norm=None), False, False),
        (BatchTopKSAE(14, k=2.5, k_aux=2), True, True),
        (BatchTopKSAE(14, k=2.5), False, False),
        (MatryoshkaSAE(14, k=2.5, widths=(4, 14)), False, True),
    ],
)
def test_steps_are_those_of_the_definition(sae, weighted, is_small, in_use, monkeypatch):
    """Six steps, two of them with dead latents; small batches and active entries of large ones."""
    if not is_small:
        monkeypatch.setattr("sksae.training._engine._SMALL", 0)
        monkeypatch.setattr("sksae.training._run._AT_ONCE", 0)
    X = random(40, 5).numpy()
    w = torch.rand(40, generator=torch.Generator().manual_seed(0)) + 0.5 if weighted else None
    losses, weights = [], []
    for plain in (True, False):
        run, rows = make_run(sae, X, w, plain=plain)
        losses.append([float(run.step(x, v)) for _ in range(3) for x, v in rows])
        assert int(run.dead().sum()) >= 4
        weights.append(run.weights)
    assert losses[1] == pytest.approx(losses[0], rel=1e-9)
    for name, expected in weights[0].items():
        torch.testing.assert_close(weights[1][name], expected, rtol=1e-8, atol=1e-9)


def test_a_transcoder_reads_one_side_and_writes_the_other(in_use):
    from sksae import Transcoder

    X, Y = random(60, 4).numpy(), random(60, 3, seed=1).numpy()
    for skip in (False, True):
        estimator = Transcoder(TopKSAE(9, k=2, max_iter=3, random_state=0), skip=skip)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_active, "_compiled_loops", lambda: None)
            expected = estimator.fit(X, Y).predict(X)
        np.testing.assert_allclose(estimator.fit(X, Y).predict(X), expected, rtol=1e-8, atol=1e-9)


def test_threads_do_not_change_results(monkeypatch, in_use):
    """Rows are divided among threads, each row has one owner."""
    from sksae.kernels.compiled import _row_loops

    z = random(30, 40)
    expected = loops.top_k(z, 5)
    monkeypatch.setattr(_row_loops, "_SHARED", 0)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for found, one in zip(loops.top_k(z, 5), expected, strict=True):
            assert torch.equal(found, one)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("openmp", [True, False])
def test_work_is_shared_with_the_threads_of_torch(openmp, monkeypatch):
    from sksae.kernels.compiled import _torch_threads

    if not openmp:
        monkeypatch.setattr(_torch_threads, "_openmp", lambda: None)
    elif _torch_threads._openmp() is None:
        pytest.skip("torch's OpenMP is not GNU's")
    work, done, both = iter(range(100)), [], Barrier(2)

    def take_all():
        both.wait(timeout=60)  # no thread begins before there are two
        done.extend(work)

    _torch_threads.on_threads(take_all, 2)
    assert sorted(done) == list(range(100))

    def fail():
        both.wait(timeout=60)
        raise KeyboardInterrupt("by the user")

    with pytest.raises(KeyboardInterrupt, match="by the user"):
        _torch_threads.on_threads(fail, 2)


def test_the_whole_run_is_small(in_use):
    """A fit through the estimator, beside the same one by torch."""
    X = random(50, 6).numpy()
    sae = TopKSAE(12, k=2, max_iter=4, random_state=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_active, "_compiled_loops", lambda: None)
        expected = sae.fit(X).transform(X)
    np.testing.assert_allclose(sae.fit(X).transform(X), expected, rtol=1e-8, atol=1e-9)
