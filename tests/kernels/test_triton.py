"""The Triton kernels against plain torch: on a GPU where there is one, else in the interpreter."""

import importlib
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sksae.kernels
from sksae import JumpReLUSAE, TopKSAE
from sksae.kernels import _active, _selection, _update
from sksae.training import Batches, Engine, TrainingRun
from tests.cases import each_case, tries

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
HALVES = [torch.float16, torch.bfloat16]
SORTED = [*HALVES, torch.float32]
SUMMED = [*SORTED, torch.float64]
WIDTHS = [1, 3, 127, 128, 129, 300]
NEEDED = {"minversion": "3.7", "reason": "needs Triton 3.7, which comes with torch for CUDA"}
RATES = {"learning_rate": 1e-2, "betas": (0.8, 0.95)}

COMPILE = """
import re
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

class Absent:
    get_current_device = get_current_stream = lambda self, *_: 0
    get_current_target = lambda self: GPUTarget("cuda", 90, 32)

def compiled(function, *args, grid, warmup, **sizes):
    code = run(function, *args, grid=grid, warmup=True, **sizes).asm["ptx"]
    assert not re.search(r"(atom|red)[.]\\S*[.]b?f(16|32|64)", code), function.__name__
    floats = 4 if function.__name__ == "_update_kernel" else 0
    assert code.count(".param .f64") == floats, function.__name__
    print(function.__name__)

triton.runtime.driver.set_active(Absent())
run, JITFunction.run = JITFunction.run, compiled

from sksae.kernels import _triton

at, by = torch.tensor([0, 2]), torch.tensor([0, 1])
for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
    x, w = torch.ones(2, 300, dtype=dtype), torch.ones(1, 300)
    if dtype != torch.float64:
        _triton.top_k(x, 5)
    _triton.dots(x[:1], x, at, by)
    _triton.segment_sums(x[0, :2], at, by, x)
    _triton.update_latents(
        w, (w, w), (x[0, :2], at, by, x), step=1, learning_rate=0.1, betas=(0.9, 0.9),
        extra=w if dtype == torch.float32 else None, unit_norm=dtype != torch.float64,
    )
"""


def modules_of_triton():
    """Triton as loaded, without its compiled part, which a process loads once."""
    return {
        name: module
        for name, module in sys.modules.items()
        if name.split(".")[0] == "triton" and not name.startswith("triton._C")
    }


@pytest.fixture(scope="module")
def kernels():
    """`sksae.kernels._triton`; without a GPU a copy that interprets, gone after these tests.

    Triton decides as it is imported: the variable must be there first, and not for others.
    """
    name, before = "sksae.kernels._triton", modules_of_triton()
    if DEVICE.type == "cuda":
        pytest.importorskip("triton", **NEEDED)
        yield importlib.import_module(name)
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        patch.delitem(sys.modules, name, raising=False)
        patch.setattr(sksae.kernels, "_triton", None, raising=False)
        for module in before:
            del sys.modules[module]
        try:
            pytest.importorskip("triton", **NEEDED)
            yield importlib.import_module(name)
        finally:
            for module in [*modules_of_triton(), name]:
                sys.modules.pop(module, None)
            sys.modules.update(before)


def random(*shape, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(DEVICE, dtype)


def segments(counts, n_indices, seed=0):
    """``(pointer, indices, owner)`` of as many entries a segment as `counts` says."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.tensor(counts, dtype=torch.int64)
    pointer = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    indices = torch.randint(n_indices, (int(counts.sum()),), generator=generator)
    owner = torch.repeat_interleave(torch.arange(len(counts)), counts)
    return pointer.to(DEVICE), indices.to(DEVICE), owner.to(DEVICE)


def bits(tensor):
    """What tells -0.0 from 0.0."""
    kinds = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.contiguous().view(kinds[tensor.element_size()])


def assert_same_bits(first, second):
    assert first.dtype == second.dtype
    assert torch.equal(bits(first), bits(second))


def assert_near(sums, exact, size):
    """Off by no more than rounding: a few units in the last place of the terms' total `size`."""
    assert sums.shape == exact.shape
    assert bool(((sums - exact).abs() <= 8 * torch.finfo(sums.dtype).eps * size).all())


def assert_largest(kernels, z, k):
    values, columns = kernels.top_k(z, k)
    order = torch.sort(z.double(), dim=1, descending=True, stable=True).indices[:, :k]
    expected = order.sort(dim=1).values
    assert columns.dtype == torch.int64
    assert torch.equal(columns, expected)
    assert_same_bits(values, z.gather(1, expected))


# Selection ----------------------------------------------------------------------------------------

SPECIAL = [float("-inf"), -1.0, -1e-40, -0.0, 0.0, 1e-40, 6e-8, 1.0, 1.0009765625, float("inf")]
NUMBERS = st.sampled_from(SPECIAL) | st.floats(width=16, allow_nan=False)


@settings(max_examples=tries(25), deadline=None)
@given(data=st.data(), dtype=st.sampled_from(SORTED))
def test_top_k_is_a_stable_sort(kernels, data, dtype):
    """Ties, zeros of both signs, subnormal numbers and infinities; k from 1 to m."""
    n, m = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 12))
    k = data.draw(st.integers(1, m))
    entries = data.draw(st.lists(NUMBERS, min_size=n * m, max_size=n * m))
    z = torch.tensor(entries, dtype=torch.float64).view(n, m).to(DEVICE, dtype)
    assert_largest(kernels, z, k)


@pytest.mark.slow
@each_case("dtype", SORTED)
def test_top_k_across_tiles(kernels, dtype):
    check_top_k(kernels, dtype, 1025)


@pytest.mark.slow
def test_top_k_at_and_beyond_the_ends_of_tiles(kernels):
    for m in (1023, 1024, 2500):
        check_top_k(kernels, torch.float32, m)


def check_top_k(kernels, dtype, m):
    tied = random(1, m, dtype=dtype).round()
    z = torch.cat([random(1, m, dtype=dtype, seed=1), tied, torch.ones_like(tied)])
    for k in (1, 40, 1023, m):
        assert_largest(kernels, z, k)


@pytest.mark.slow
@each_case("dtype", SORTED)
def test_top_k_of_views_and_of_nothing(kernels, dtype):
    z = random(8, 6, dtype=dtype)
    for view in (z.T, z[::2], z[:, ::2], z[:1].expand(3, 6), z[:, 1:2]):
        assert_largest(kernels, view, (view.shape[1] + 1) // 2)
    assert [t.shape for t in kernels.top_k(z[:0], 2)] == [(0, 2), (0, 2)]


@each_case("k", [0, 7, -1, 2.0, None])
def test_top_k_refuses_k(kernels, k):
    with pytest.raises(ValueError, match="k must be an integer from 1 to 6"):
        kernels.top_k(random(2, 6, dtype=torch.float32), k)


def test_top_k_refuses_what_it_cannot_sort(kernels):
    with pytest.raises(ValueError, match="z must be of shape"):
        kernels.top_k(random(6, dtype=torch.float32), 2)
    for dtype in (torch.float64, torch.int32):
        with pytest.raises(ValueError, match="z must be one of"):
            kernels.top_k(random(2, 6, dtype=dtype), 2)


# Products and sums --------------------------------------------------------------------------------


@st.composite
def problems(draw):
    """Entries a segment, rows to choose from, columns, a dtype and a seed."""
    counts = draw(st.lists(st.sampled_from([0, 1, 2, 8, 9, 17, 33]), min_size=1, max_size=4))
    chosen = draw(st.integers(1, 5)), draw(st.sampled_from(WIDTHS)), draw(st.sampled_from(SUMMED))
    return counts, *chosen, draw(st.integers(0, 2**31))


@settings(max_examples=tries(25), deadline=None)
@given(problem=problems())
def test_dots(kernels, problem):
    counts, m, d, dtype, seed = problem
    pointer, latents, rows = segments(counts, m, seed)
    left = random(len(counts), d, dtype=dtype, seed=seed)
    right = random(m, d, dtype=dtype, seed=seed + 1)
    values = kernels.dots(left, right, pointer, latents)
    terms = left.double()[rows] * right.double()[latents]
    assert values.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert_near(values, terms.sum(1), terms.abs().sum(1))


@settings(max_examples=tries(25), deadline=None)
@given(problem=problems())
def test_segment_sums(kernels, problem):
    counts, n_rows, d, dtype, seed = problem
    pointer, indices, owner = segments(counts, n_rows, seed)
    values = random(len(indices), dtype=dtype, seed=seed)
    matrix = random(n_rows, d, dtype=dtype, seed=seed + 1)
    sums = kernels.segment_sums(values, pointer, indices, matrix)
    terms = values.double()[:, None] * matrix.double()[indices]
    nothing = torch.zeros(len(counts), d, dtype=torch.float64, device=DEVICE)
    assert sums.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    exact, size = nothing.index_add(0, owner, terms), nothing.index_add(0, owner, terms.abs())
    assert_near(sums, exact, size)


def test_views_and_short_indices_change_nothing(kernels):
    pointer, latents, _ = segments([3, 0, 20], 5)
    left, right = random(3, 70, dtype=torch.float32), random(5, 70, dtype=torch.float32)
    values = random(23, dtype=torch.float32)
    dots = kernels.dots(left, right, pointer, latents)
    sums = kernels.segment_sums(values, pointer, latents, right)
    for kind in (torch.int32, torch.int64):
        at, by = (index.to(kind).repeat_interleave(2)[::2] for index in (pointer, latents))
        sides = left.T.contiguous().T, right.repeat_interleave(2, dim=1)[:, ::2]
        assert_same_bits(kernels.dots(*sides, at, by), dots)
        assert_same_bits(
            kernels.segment_sums(values.repeat_interleave(2)[::2], at, by, sides[1]), sums
        )


def test_dtypes_may_differ(kernels):
    pointer, latents, rows = segments([3, 4], 5)
    left, right = random(2, 9, dtype=torch.float32), random(5, 9, dtype=torch.bfloat16)
    terms = left.double()[rows] * right.double()[latents]
    assert_near(kernels.dots(left, right, pointer, latents), terms.sum(1), terms.abs().sum(1))


def test_segments_without_entries(kernels):
    pointer, nothing, _ = segments([0, 0], 1)
    matrix, values = random(3, 4, dtype=torch.float32), random(0, dtype=torch.float32)
    assert kernels.dots(matrix[:2], matrix, pointer, nothing).shape == (0,)
    assert_same_bits(
        kernels.segment_sums(values, pointer, nothing, matrix), torch.zeros_like(matrix[:2])
    )
    for none in (pointer[:1], pointer[:0]):
        assert kernels.segment_sums(values, none, nothing, matrix).shape == (0, 4)
    assert kernels.segment_sums(values, pointer, nothing, matrix[:, :0]).shape == (2, 0)


@each_case(
    "name, wrong",
    [
        ("left", random(2, dtype=torch.float32)),
        ("left", random(2, 4, dtype=torch.int64)),
        ("right", random(5, 3, dtype=torch.float32)),
        ("pointer", torch.tensor([0, 3], device=DEVICE)),
        ("pointer", torch.tensor([0.0, 1.0, 3.0], device=DEVICE)),
        ("latents", torch.tensor([[0, 1, 2]], device=DEVICE)),
        ("right", torch.empty(5, 4, device="meta")),
    ],
)
def test_dots_names_what_does_not_fit(kernels, name, wrong):
    pointer, latents, _ = segments([1, 2], 5)
    left, right = random(2, 4, dtype=torch.float32), random(5, 4, dtype=torch.float32)
    right_ones = {"left": left, "right": right, "pointer": pointer, "latents": latents}
    with pytest.raises(ValueError, match=f"^{name} must be"):
        kernels.dots(**{**right_ones, name: wrong})


@each_case(
    "name, wrong",
    [
        ("values", random(4, dtype=torch.float32)),
        ("values", torch.arange(3, device=DEVICE)),
        ("pointer", torch.tensor([[0, 3]], device=DEVICE)),
        ("indices", random(3, dtype=torch.float32)),
        ("matrix", random(5, dtype=torch.float32)),
    ],
)
def test_segment_sums_names_what_does_not_fit(kernels, name, wrong):
    pointer, indices, _ = segments([1, 2], 5)
    values, matrix = random(3, dtype=torch.float32), random(5, 4, dtype=torch.float32)
    right_ones = {"values": values, "pointer": pointer, "indices": indices, "matrix": matrix}
    with pytest.raises(ValueError, match=f"^{name} must be"):
        kernels.segment_sums(**{**right_ones, name: wrong})


# The update ---------------------------------------------------------------------------------------


def unit_rows(w):
    return w / w.norm(dim=1, keepdim=True)


def batches(counts, d, dtype, seed):
    """Three gradients, each of other latents: what one leaves out moves by its momentum."""
    for turn in range(3):
        pointer, rows, owner = segments([*counts[turn:], *counts[:turn]], 4, seed + turn)
        values = random(len(rows), dtype=dtype, seed=seed + turn)
        yield (values, pointer, rows, random(4, d, dtype=dtype, seed=seed + 10 + turn)), owner


class PlainAdam:
    """What `update_latents` means."""

    def __init__(self, weights):
        self.weights = weights.clone().requires_grad_()
        self.adam = torch.optim.Adam(
            [self.weights], lr=RATES["learning_rate"], betas=RATES["betas"]
        )

    def step(self, gradient, owner, extra, clip, unit_norm):
        (values, _, rows, matrix), w = gradient, self.weights.detach()
        terms = (values[:, None].double() * matrix[rows].double()).to(w.dtype)
        g = torch.zeros_like(w).index_add(0, owner, terms)
        g = g if extra is None else g + extra
        g = g - (g * w).sum(1, keepdim=True) * w if unit_norm else g
        self.weights.grad = g * clip
        self.adam.step()
        if unit_norm:
            w.copy_(unit_rows(w))

    def moments(self):
        state = self.adam.state[self.weights]
        return state["exp_avg"], state["exp_avg_sq"]


@settings(max_examples=tries(15), deadline=None, derandomize=True)
@given(
    counts=st.lists(st.sampled_from([0, 1, 7, 30]), min_size=1, max_size=4),
    d=st.sampled_from(WIDTHS),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    half=st.booleans(),
    unit_norm=st.booleans(),
    with_extra=st.booleans(),
)
def test_update_is_adam(kernels, counts, d, dtype, half, unit_norm, with_extra):
    w = unit_rows(random(len(counts), d, dtype=dtype, seed=3))
    plain, moments = PlainAdam(w), (torch.zeros_like(w), torch.zeros_like(w))
    extra = random(*w.shape, dtype=dtype, seed=4) if with_extra else None
    given = torch.bfloat16 if half and dtype == torch.float32 else dtype
    for i, (gradient, owner) in enumerate(batches(counts, d, given, seed=5)):
        plain.step(gradient, owner, extra, 0.5, unit_norm)
        kernels.update_latents(
            w, moments, gradient, step=i + 1, **RATES, extra=extra, clip=0.5, unit_norm=unit_norm
        )
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(moments, plain.moments(), rtol=200 * eps, atol=200 * eps)
    # Where gradients almost cancel, Adam makes a whole step of what rounding left of them.
    torch.testing.assert_close(w, plain.weights.detach(), rtol=8 * eps, atol=100 * eps)
    if unit_norm:
        assert bool(((w.norm(dim=1) - 1).abs() <= 8 * eps).all())


def test_update_of_views_is_in_place(kernels):
    gradient, _ = next(batches([2, 0, 9], 50, torch.float32, seed=0))
    first = [random(3, 50, dtype=torch.float32, seed=seed).abs() for seed in range(3)]
    second = [tensor.T.contiguous().T for tensor in first]
    buffer = torch.zeros(6, 50, device=DEVICE)
    second[1] = buffer[::2].copy_(first[1])
    for w, *moments in (first, second):
        kernels.update_latents(w, moments, gradient, step=2, **RATES)
    for one, other in zip(first, second, strict=True):
        assert_same_bits(one, other)
    assert not buffer[1::2].any()


def test_clip_may_live_on_the_device(kernels):
    gradient, _ = next(batches([2, 0, 9], 50, torch.float32, seed=0))
    results = []
    for clip in (0.25, torch.tensor(0.25, device=DEVICE), torch.tensor(0.25).double().to(DEVICE)):
        w = random(3, 50, dtype=torch.float32, seed=1).requires_grad_()
        moments = torch.zeros_like(w), torch.zeros_like(w)
        kernels.update_latents(w, moments, gradient, step=1, **RATES, clip=clip, extra=w.detach())
        results.append(w.detach())
    assert_same_bits(results[0], results[1])
    assert_same_bits(results[0], results[2])


@each_case(
    "name, wrong",
    [
        ("weights", random(2, 4, dtype=torch.float32)),
        ("weights", random(3, 5, dtype=torch.float32)),
        ("moments", [random(3, 4, dtype=torch.float32), random(3, 1, dtype=torch.float32)]),
        ("extra", random(4, dtype=torch.float32)),
        ("clip", torch.ones(1, device=DEVICE)),
        ("step", 0),
        ("step", 1.0),
    ],
)
def test_update_names_what_does_not_fit(kernels, name, wrong):
    gradient, _ = next(batches([2, 0, 9], 4, torch.float32, seed=0))
    w = random(3, 4, dtype=torch.float32)
    right_ones = {"weights": w, "moments": (w.clone(), w.clone()), "gradient": gradient, "step": 1}
    with pytest.raises(ValueError, match=f"^{name} must be"):
        kernels.update_latents(**{**right_ones, name: wrong}, **RATES)


@each_case(
    "name, place, wrong",
    [
        ("values", 0, random(4, dtype=torch.float32)),
        ("indices", 2, random(11, dtype=torch.float32)),
        ("matrix", 3, random(4, dtype=torch.float32)),
    ],
)
def test_update_names_the_part_of_the_gradient(kernels, name, place, wrong):
    gradient, _ = next(batches([2, 0, 9], 4, torch.float32, seed=0))
    gradient = (*gradient[:place], wrong, *gradient[place + 1 :])
    w = random(3, 4, dtype=torch.float32)
    with pytest.raises(ValueError, match=f"^{name} must be"):
        kernels.update_latents(w, (w.clone(), w.clone()), gradient, step=1, **RATES)


# All of them --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_same_bits_twice(kernels, dtype):
    def results():
        pointer, indices, _ = segments([40, 0, 25], 6)
        matrix, values = random(6, 130, dtype=dtype), random(65, dtype=dtype)
        w = random(3, 130, dtype=torch.float32)
        moments = torch.zeros_like(w), torch.zeros_like(w)
        gradient = values, pointer, indices, matrix
        kernels.update_latents(w, moments, gradient, step=1, **RATES, unit_norm=True)
        yield from kernels.top_k(matrix, 20)
        yield kernels.dots(matrix[:3], matrix, pointer, indices)
        yield kernels.segment_sums(*gradient)
        yield from (w, *moments)

    for once, again in zip(results(), results(), strict=True):
        assert_same_bits(once, again)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or DEVICE.type == "cuda", reason="or they run anyway")
def test_the_kernels_compile_for_a_gpu(tmp_path):
    """Which the interpreter does not show; in another process, which does not interpret."""
    pytest.importorskip("triton", **NEEDED)
    variables = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    variables.pop("TRITON_INTERPRET", None)
    command = [sys.executable, "-c", COMPILE]
    result = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    names = {"_top_k_kernel", "_dots_kernel", "_segment_sums_kernel", "_update_kernel"}
    assert set(result.stdout.split()) == names


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_selection_by_magnitude_goes_through_the_same_kernel(kernels, dtype, monkeypatch):
    """Ties of opposite signs included: the lowest columns, with their signs."""
    monkeypatch.setattr(_selection, "uses_triton", lambda tensor: True)
    z = random(9, 40, dtype=torch.float32).mul(4).round().to(DEVICE, dtype)
    values, columns = _selection.grouped_top_k(z, 6, magnitude=True)
    _, expected = _selection.top_k(z.float(), 6, magnitude=True)
    assert torch.equal(columns.sort(1).values, expected.sort(1).values)
    assert torch.equal(values, z.gather(1, columns))
    assert (values < 0).any()


@each_case(
    "variant, dtype, tolerance, max_grad_norm",
    [
        (TopKSAE(12, k=2), torch.float32, 1e-3, None),
        (JumpReLUSAE(12, threshold_init=0.4, bandwidth=0.4), torch.float64, 1e-9, 1.0),
    ],
)
def test_the_engine_on_these_kernels_takes_the_plain_steps(
    kernels, variant, dtype, tolerance, max_grad_norm, monkeypatch
):
    """Search, decode, gradients and update of whole steps."""
    used = []

    def counted(kernel):
        return lambda *args, **options: used.append(kernel.__name__) or kernel(*args, **options)

    for name in ("top_k", "dots", "segment_sums", "update_latents"):
        monkeypatch.setattr(kernels, name, counted(getattr(kernels, name)))
    monkeypatch.setattr("sksae.training._engine._SMALL", 0)  # also where dense is faster
    monkeypatch.setattr(_active, "uses_triton", lambda tensor: True)
    monkeypatch.setattr(_selection, "uses_triton", lambda tensor: True)
    monkeypatch.setattr(_update, "uses_triton", lambda tensor: True)
    X, w = random(10, 5, dtype=dtype), torch.ones(10, device=DEVICE, dtype=dtype)
    rows = Batches(X, None, 10, dtype, DEVICE)
    objective = variant._make_objective(5, 12, 5)
    start = objective.initial_weights(rows, 12, torch.Generator().manual_seed(0))
    start = {name: value.to(DEVICE, dtype) for name, value in start.items()}
    plain, fast = (
        TrainingRun(
            {name: value.clone() for name, value in start.items()},
            Engine(objective, plain=plain),
            learning_rate=1e-3,
            max_grad_norm=max_grad_norm,
            schedule=lambda step: (0.1, 1.0),
        )
        for plain in (True, False)
    )
    for step in range(3):
        fast.engine.density = 0.0
        x = X.roll(step, 1)
        fast_loss, plain_loss = fast.step(x, w), plain.step(x, w)
        assert float(fast_loss) == pytest.approx(float(plain_loss), rel=tolerance)
    for name, value in plain.weights.items():
        difference = float((fast.weights[name] - value).square().mean().sqrt())
        assert difference < tolerance * max(1.0, float(value.abs().max()))
    assert {"dots", "segment_sums"} <= set(used)
    assert used.count("update_latents") == 6
    assert ("top_k" in used) == isinstance(variant, TopKSAE)
