"""sksae/_arrays.py: arrays to tensors and back, chunks of rows, CSR from blocks, devices."""

import array_api_strict as strict
import numpy as np
import pytest
import sklearn
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_st
from numpy.testing import assert_array_equal
from scipy import sparse

from sksae import _arrays
from sksae._arrays import (
    NUMPY,
    Space,
    as_input,
    check_fits_in_memory,
    check_same_space,
    choose_device,
    compute_dtype,
    float_dtypes,
    from_torch,
    row_chunks,
    space_of,
    stack_csr,
    to_torch,
)
from tests.cases import each_case

FLOATS = st.sampled_from(["<f4", ">f4", "<f8", ">f8", "<f2", ">f2"])


@given(
    array=numpy_st.arrays(FLOATS, numpy_st.array_shapes(max_dims=2, max_side=6)),
    view=st.sampled_from(["as is", "reversed", "transposed", "strided", "read-only", "broadcast"]),
)
def test_to_torch_keeps_values_and_never_shares_what_it_may_not_write(array, view):
    if view == "reversed":
        array = array[::-1]
    elif view == "transposed":
        array = array.T
    elif view == "strided":
        array = array[::2]
    elif view == "read-only":
        array.setflags(write=False)
    elif view == "broadcast":
        array = np.broadcast_to(array, (3, *array.shape))
    tensor = to_torch(array)
    assert tensor.shape == array.shape
    assert_array_equal(tensor.numpy(), array)
    if not array.flags.writeable:
        assert not np.may_share_memory(tensor.numpy(), array)


def test_to_torch_casts_detaches_and_reads_other_namespaces():
    x = torch.ones(2, 2, requires_grad=True)
    assert not to_torch(x).requires_grad
    assert to_torch(x, dtype=torch.float64).dtype == torch.float64
    assert to_torch([[1.0, 2.0]]).tolist() == [[1, 2]]
    assert to_torch(strict.asarray([1.0, 2.0])).tolist() == [1, 2]
    assert to_torch(np.float64(3.0)).shape == ()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_from_torch_goes_back_to_where_the_data_came_from(dtype):
    tensor = torch.arange(6, dtype=getattr(torch, dtype)).reshape(2, 3).requires_grad_()
    back = from_torch(tensor, NUMPY)
    assert (type(back), back.dtype) == (np.ndarray, dtype)
    back = from_torch(tensor, Space(torch, torch.device("cpu")))
    assert (type(back), back.requires_grad) == (torch.Tensor, False)
    like = strict.asarray([0.0])
    back = from_torch(tensor, Space(strict, like.device))
    assert isinstance(back, type(like))
    assert_array_equal(np.asarray(back), tensor.detach().numpy())


def test_space_follows_the_array_only_under_dispatch():
    tensor, foreign = torch.ones(1), strict.asarray([1.0])
    for array in (tensor, foreign, np.ones(1), [1.0], sparse.csr_array(np.ones((1, 1)))):
        assert space_of(array) == NUMPY
    with sklearn.config_context(array_api_dispatch=True):
        assert space_of(tensor) == Space(torch, torch.device("cpu"))
        assert space_of(foreign).namespace.__name__ == "array_api_strict"
        for array in (np.ones(1), [1.0], sparse.csr_array(np.ones((1, 1)))):
            assert space_of(array) == NUMPY


def test_another_namespace_is_refused_with_both_names():
    class Thing:
        pass

    with pytest.raises(ValueError, match=r"Thing.transform\(\) must use the same namespace.*numpy"):
        check_same_space(Thing(), "transform", NUMPY, Space(torch, torch.device("cpu")))
    check_same_space(Thing(), "transform", NUMPY, NUMPY)


@each_case(
    "array, first",
    [
        (np.ones(1, np.float32), np.float32),
        (np.ones(1, np.int64), np.float32),
        (np.ones(1, bool), np.float32),
        (np.ones(1, object), np.float32),
        (np.ones(1, ">f4"), np.float32),
        (np.ones(1, ">f8"), np.float64),
        (np.ones(1), np.float64),
        (torch.ones(1), np.float32),
        (torch.ones(1, dtype=torch.float64), np.float64),
        ([[1.0]], np.float64),
    ],
)
def test_the_first_dtype_is_what_others_become(array, first):
    assert float_dtypes(array)[0] == first
    assert set(float_dtypes(array)) == {np.float32, np.float64, np.float16}


def test_tensors_are_detached_and_bfloat16_widened():
    tensor = torch.ones(2, requires_grad=True)
    assert not as_input(tensor).requires_grad
    assert as_input(tensor).data_ptr() == tensor.data_ptr()
    assert as_input(tensor.bfloat16()).dtype == torch.float32
    array = np.ones(2)
    assert as_input(array) is array


def test_arithmetic_is_done_in_the_dtype_of_the_data_except_for_halves():
    cpu = torch.device("cpu")
    assert compute_dtype(np.ones(1, np.float16), cpu) == torch.float32
    assert compute_dtype(np.ones(1, np.float32), cpu) == torch.float32
    assert compute_dtype(np.ones(1), cpu) == torch.float64
    assert compute_dtype(torch.ones(1, dtype=torch.float64), cpu) == torch.float64
    assert compute_dtype(strict.asarray([1.0]), cpu) == torch.float64
    assert compute_dtype(np.ones(1), torch.device("mps")) == torch.float32


@given(n_rows=st.integers(0, 300), width=st.integers(0, 5000), entries=st.integers(1, 5000))
def test_chunks_cover_every_row_once_in_order(n_rows, width, entries):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_arrays, "CHUNK_ENTRIES", entries)
        chunks = list(row_chunks(n_rows, width))
    covered = [row for chunk in chunks for row in range(chunk.start, chunk.stop)]
    assert covered == list(range(n_rows))
    assert all((c.stop - c.start) * width <= max(entries, width) for c in chunks)


@st.composite
def matrices_in_blocks(draw):
    width = draw(st.integers(1, 8))
    heights = draw(st.lists(st.integers(0, 4), max_size=5))
    values = st.floats(0, 10, width=32)
    return width, [
        draw(numpy_st.arrays(np.float32, (height, width), elements=values)) for height in heights
    ]


@given(case=matrices_in_blocks())
def test_stacked_blocks_are_the_matrix(case):
    width, dense = case
    blocks = []
    for block in dense:
        rows, columns = np.nonzero(block)
        counts = np.bincount(rows, minlength=len(block))
        blocks.append((counts, columns.astype(np.int32), block[rows, columns]))
    whole = np.concatenate([np.zeros((0, width), np.float32), *dense])
    codes = stack_csr(blocks, whole.shape, np.float32)
    assert_array_equal(codes.toarray(), whole)
    assert codes.dtype == np.float32
    assert codes.nnz == np.count_nonzero(whole)
    assert codes.indices.dtype == codes.indptr.dtype == np.int32
    reference = sparse.csr_array(whole)
    assert_array_equal(codes.indices, reference.indices)
    assert_array_equal(codes.indptr, reference.indptr)
    codes.check_format(full_check=True)


def test_a_matrix_too_wide_for_32_bits_has_64_bit_indices():
    block = (np.array([1]), np.array([2**32]), np.array([1.0]))
    codes = stack_csr([block], (1, 2**33), np.float64)
    assert codes.indices.dtype == codes.indptr.dtype == np.int64
    assert codes[0, 2**32] == 1


def test_the_container_follows_scikit_learn():
    for interface, kind in (("spmatrix", sparse.csr_matrix), ("sparray", sparse.csr_array)):
        with sklearn.config_context(sparse_interface=interface):
            assert type(stack_csr([], (0, 3), np.float32)) is kind


def test_memory_is_counted_without_overflow(monkeypatch):
    monkeypatch.setattr(_arrays, "_physical_memory", lambda: 4096)
    check_fits_in_memory((4, 256), 4, "code matrix")
    with pytest.raises(MemoryError, match=r"dense code matrix of shape \(4, 257\).*sparse_output"):
        check_fits_in_memory((4, 257), 4, "code matrix")
    with pytest.raises(MemoryError, match="GiB"):
        check_fits_in_memory((np.int64(2**40), np.int64(2**40)), 8, "code matrix")


def test_devices_are_chosen_checked_and_named():
    assert choose_device("cpu") == torch.device("cpu")
    own = Space(torch, torch.device("cpu"))
    assert choose_device("auto", own) == torch.device("cpu")
    assert choose_device("cpu", own) == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    for name in ("nonsense", "cuda:99", "meta", "", "vulkan"):
        with pytest.raises(ValueError, match=f"'device' parameter.*'{name}'"):
            choose_device(name)
    elsewhere = Space(torch, torch.device("cuda:0"))
    with pytest.raises(ValueError, match="X is a tensor on cuda:0 but the 'device' parameter"):
        choose_device("cpu", elsewhere)
