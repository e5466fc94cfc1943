import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sksae.kernels import (
    _selection,
    keep_top_k,
    threshold_codes,
    top_k,
    where_positive,
    where_top_k,
)
from tests.cases import tries


@settings(max_examples=tries(200), deadline=None)
@given(
    z=arrays(
        np.float64, st.tuples(st.integers(1, 6), st.integers(1, 12)), elements=st.integers(-3, 3)
    ),
    data=st.data(),
)
def test_top_k_is_a_stable_sort(z, data):
    """Small integers make ties common: the lowest column wins each of them."""
    k = data.draw(st.integers(1, z.shape[1]))
    values, columns = top_k(torch.from_numpy(z), k)
    for row in range(len(z)):
        expected = np.argsort(-z[row], kind="stable")[:k]
        np.testing.assert_array_equal(np.sort(columns[row].numpy()), np.sort(expected))
        np.testing.assert_array_equal(np.sort(values[row].numpy()), np.sort(z[row][expected]))


def test_gradient_passes_through_the_support():
    z = torch.tensor([[1.0, -2.0, 3.0], [-1.0, -2.0, -3.0]], requires_grad=True)
    codes = keep_top_k(z, 2)
    assert codes.tolist() == [[1, 0, 3], [0, 0, 0]]
    codes.sum().backward()
    assert z.grad.tolist() == [[1, 0, 1], [0, 0, 0]]


def test_selection_by_magnitude_keeps_signs():
    """Equal magnitudes by lowest column, and gradients at the support alone."""
    z = torch.tensor([[1.0, -3.0, 3.0, 2.0], [-1.0, 0.0, 0.5, 1.0]], requires_grad=True)
    values, columns = top_k(z.detach(), 2, magnitude=True)
    assert values.sort(1).values.tolist() == [[-3, 3], [-1, 1]]
    assert columns.sort(1).values.tolist() == [[1, 2], [0, 3]]
    codes = keep_top_k(z, 2, magnitude=True)
    assert codes.tolist() == [[0, -3, 3, 0], [-1, 0, 0, 1]]
    codes.sum().backward()
    assert z.grad.tolist() == [[0, 1, 1, 0], [1, 0, 0, 1]]


def test_threshold_is_strict_and_gives_no_negative_zero():
    z = torch.tensor([[-1.0, 0.0, 0.5, 0.6]])
    codes = threshold_codes(z, torch.tensor([-5.0, 0.0, 0.5, 0.5]))
    assert codes.tolist() == [[0, 0, 0, 0.6000000238418579]]
    assert not torch.signbit(codes).any()
    assert threshold_codes(z, -1.0).tolist() == [[0, 0, 0.5, 0.6000000238418579]]


def test_selection_by_numpy_is_that_of_torch():
    """With ties, zeros of both signs, denormals and infinities."""
    z = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
    odd = z.clone()
    odd[:, :200] = 0.0
    odd[:, 100:150] = -0.0
    odd[:, 200:210] = 1e-42
    infinite = z.clone()
    infinite[0, :3], infinite[1, :253] = torch.inf, -torch.inf
    for matrix in (z, odd, -odd, infinite, z.round()):
        assert matrix.numel() >= _selection._PACKED
        values, columns = _selection._packed_top_k(matrix, 9)
        assert torch.equal(values, torch.topk(matrix, 9).values)
        assert torch.equal(values, matrix.gather(1, columns))
        assert all(len(set(row)) == 9 for row in columns.tolist())


@settings(max_examples=tries(200), deadline=None)
@given(
    arrays(
        np.float32, (3, 7), elements=st.sampled_from([-np.inf, -1.5, -0.0, 0.0, 0.5, 2.0, np.inf])
    ),
    st.integers(1, 9),
    st.booleans(),
)
def test_values_at_the_largest_entries(z, k, magnitude):
    """The entries of `top_k`, which a stable sort orders, whatever stands at the border."""
    z = torch.from_numpy(z)
    values = torch.arange(1.0, 22).view(3, 7)
    kept = where_top_k(z, k, values, magnitude=magnitude)
    sizes = z.abs() if magnitude else z
    order = torch.sort(sizes, dim=1, descending=True, stable=True).indices[:, :k]
    expected = torch.zeros(3, 7).scatter(1, order, values.gather(1, order))
    assert torch.equal(kept, expected)


def test_entries_that_are_no_numbers_count_as_the_largest():
    z = torch.tensor([[0.0, torch.nan, 3.0, 1.0]])
    assert where_top_k(z, 2, torch.ones(1, 4)).tolist() == [[0, 1, 1, 0]]


def test_gradients_of_what_is_kept():
    z = torch.tensor([[3.0, -1.0, 2.0], [0.5, 4.0, 1.0]], requires_grad=True)
    where_top_k(z, 2, z * z).sum().backward()
    assert z.grad.tolist() == [[6, 0, 4], [0, 8, 2]]
    gate = torch.tensor([-1.0, -0.0, 0.0, 1e-45, torch.inf])
    values = torch.full((5,), -2.0, requires_grad=True)
    where_positive(gate, values).sum().backward()
    assert values.grad.tolist() == [0, 0, 0, 1, 1]
