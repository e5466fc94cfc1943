"""Array namespaces and devices of inputs and results, and checks of rows of numbers."""

import os
import reprlib
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from sklearn import get_config
from sklearn.utils import _align_api_if_sparse

CHUNK_ENTRIES = 2**22
"""Entries of a (rows, latents) buffer: 16 MiB in float32, about the size of a shared cache."""

_SMALL_MATRIX = 2**13  # entries up to which float64 costs little more than float32

_DEVICES = ("cpu", "cuda", "mps", "xpu")

_TIMES = (
    "date",
    "time",
    "duration",
    "period",
    "<m8",
    ">m8",
)  # how their dtypes begin, in small letters

_FLOATS = {"float16": torch.float32, "float32": torch.float32, "float64": torch.float64}


class Space(NamedTuple):
    """An array namespace (None for numpy) and the device of its arrays."""

    namespace: object = None
    device: object = None


NUMPY = Space()


def space_of(X):
    """Return the `Space` that results follow: X's own under array API dispatch, numpy otherwise."""
    if not get_config()["array_api_dispatch"] or isinstance(X, np.ndarray):
        return NUMPY
    if isinstance(X, torch.Tensor):
        return Space(torch, X.device)
    if hasattr(X, "__array_namespace__"):
        return Space(X.__array_namespace__(), X.device)
    return NUMPY


def float_dtypes(X):
    """Return the dtypes that X may keep, in its own namespace; others are cast to the first.

    float16 is kept, so that a half-precision file is read a batch at a time instead of copied.
    float64 stays float64 also in forms that scikit-learn does not recognise as such: lists,
    polars, tensors without array API dispatch, foreign byte order.
    """
    namespace = space_of(X).namespace
    if namespace is not None:
        return [namespace.float32, namespace.float64]
    # Float16 stays: the arithmetic is in float32.
    first = [np.float64, np.float32] if _holds_doubles(X) else [np.float32, np.float64]
    return [*first, np.float16]


def _holds_doubles(X):
    dtypes = getattr(X, "dtypes", None)  # of a frame; a series has one, by both names
    if not hasattr(dtypes, "__iter__"):
        dtypes = [getattr(X, "dtype", "float64")]
    return any(str(dtype).lower().endswith(("float64", "f8")) for dtype in dtypes)


def as_input(X, name="X"):
    """Return X as scikit-learn can validate it: a tensor detached, and float32 for bfloat16.

    Raises
    ------
    ValueError
        If X is None, holds texts, dates or masked values, or has more than two axes.
    TypeError
        If X is no array, such as an iterator or a dict.
    """
    check_rows(X, name)
    if not isinstance(X, torch.Tensor):
        return X
    return X.detach().float() if X.dtype is torch.bfloat16 else X.detach()


def check_rows(X, name):
    """Raise an error that names the remedy if X cannot be rows of numbers.

    Of a list only the first rows are checked; scikit-learn checks all of them.
    """
    if X is None:
        raise ValueError(f"{name} is None; rows of numbers are needed, (n_samples, n_features).")
    _check_container(X, name)
    _check_kind(X, name)
    if hasattr(X, "get_params") and not isinstance(X, type):
        raise ValueError(f"{name} is an estimator, {type(X).__name__}; rows of numbers are needed.")
    for text in _first_values(X):
        if isinstance(text, (str, bytes)) and not _is_number(text):
            raise ValueError(
                f"{name} holds texts, such as {reprlib.repr(text)}; rows of numbers are needed. "
                "SAEVectorizer takes texts, and ActivationExtractor makes rows of them."
            )
    shape = np.shape(X[0]) if isinstance(X, (list, tuple)) and len(X) else ()
    shape = (len(X), *shape) if shape else getattr(X, "shape", ())
    if len(shape) > 2:
        raise ValueError(f"{name} has shape {tuple(shape)}; {name}{two_axes(shape)}.")


def _check_container(X, name):
    """Raise a TypeError if X has no rows of its own, or has them elsewhere."""
    if isinstance(X, (Mapping, Set, Iterator, Path)) and not sparse.issparse(X):  # dok is a dict
        raise TypeError(
            f"{name} is a {type(X).__name__}; rows of numbers are needed, (n_samples, n_features): "
            "an array, a data frame or a list. partial_fit learns from one such batch at a time."
        )
    if type(X).__name__ == "LazyFrame":
        raise TypeError(f"{name} is a LazyFrame, which is not read yet; {name}.collect() reads it.")


def _check_kind(X, name):
    """Raise a ValueError if X has masked values, named fields, dates, or no columns."""
    if isinstance(X, np.ma.MaskedArray) and np.ma.is_masked(X):
        raise ValueError(
            f"{name} has masked values, which would be read as if nothing hid them. "
            f"{name}.filled(value) replaces them, as an imputer does with NaN."
        )
    columns = getattr(X, "dtypes", None)  # of a frame; a series has one, by both names
    columns = columns if hasattr(columns, "__iter__") else [getattr(X, "dtype", None)]
    if not len(columns):
        raise ValueError(f"{name} has no columns; rows of numbers are needed.")
    for dtype in columns:
        if getattr(dtype, "names", None):
            raise ValueError(
                f"{name} has named fields; numpy.lib.recfunctions.structured_to_unstructured"
                f"({name}) makes columns of them."
            )
        if str(dtype).lower().startswith(_TIMES):
            raise ValueError(
                f"{name} holds dates or times, {dtype}; rows of numbers are needed. Make numbers "
                "of them, such as days since the first, or leave these columns out."
            )


def two_axes(shape):
    """Return the remedy for an array that is not 2-D, as the end of a message."""
    if len(shape) > 2:
        return f".reshape(-1, {shape[-1]}) makes a row of each position"
    return " must be 2-D, with at least one row and one column"


def _first_values(X):
    """Return the values at the beginning of X that could be texts: a few, without a copy of X."""
    if isinstance(X, (str, bytes)):
        return [X]
    if hasattr(X, "columns") and hasattr(X, "head"):  # a frame: all of its columns
        return np.asarray(X.head(1), dtype=object).ravel()
    if isinstance(X, (list, tuple)):
        first = X[0] if X else None
        return list(first) if isinstance(first, (list, tuple)) else [first]
    dtype = getattr(X, "dtype", None)
    kind = getattr(dtype, "kind", "O" if str(dtype) == "String" else "f")  # polars has no kinds
    if kind not in "OSUT" or not len(X.shape):
        return []
    return np.asarray(X[:1], dtype=object).ravel()


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def check_same_space(estimator, method, fitted, given):
    """Raise when X's namespace differs from that of the arrays that `fit` stored."""
    names = [getattr(space.namespace, "__name__", "numpy") for space in (fitted, given)]
    if fitted.namespace is not given.namespace and names[0] != names[1]:
        raise ValueError(
            f"Inputs passed to {type(estimator).__name__}.{method}() must use the same namespace "
            f"as those passed to fit(); got {names[1]} after a fit on {names[0]}."
        )


def to_torch(array, device="cpu", dtype=None):
    """Return `array` (numpy, tensor, array API) as a detached tensor; never write to it."""
    if isinstance(array, torch.Tensor):
        tensor = array.detach()
    elif isinstance(array, np.ndarray):
        # torch has neither negative strides nor the byte order of other machines.
        native = array.dtype.isnative and array.flags.writeable
        contiguous = all(stride >= 0 for stride in array.strides)
        # from_numpy refuses or warns about anything else; chunks are small, so a copy is cheap.
        tensor = torch.from_numpy(array if native and contiguous else _plain_copy(array))
    elif hasattr(array, "__dlpack__"):
        tensor = torch.from_dlpack(array)
    else:
        tensor = torch.from_numpy(_plain_copy(np.asarray(array)))
    return tensor.to(device=device, dtype=dtype)


def _plain_copy(array):
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")


def from_torch(tensor, space):
    """Return `tensor` as an array of `space`."""
    tensor = tensor.detach()
    if space.namespace is None:
        return tensor.cpu().numpy()
    if space.namespace is torch:
        return tensor.to(space.device)
    return space.namespace.from_dlpack(tensor.cpu(), device=space.device)


def choose_device(name, space=NUMPY):
    """Return the torch device named by the `device` parameter for data that live in `space`.

    Raises
    ------
    ValueError
        If the name is unknown, the device absent, or at odds with that of a tensor X.
    """
    device_of_X = space.device if space.namespace is torch else None
    if name == "auto":
        return device_of_X or _best_device()
    try:
        device = torch.device(name)
        if device.type not in _DEVICES:
            raise RuntimeError(f"one of {', '.join(_DEVICES)} was expected")
        torch.empty(0, device=device)  # raises if the machine has no such device
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise ValueError(
            f"The 'device' parameter must be 'auto' or a torch device that this machine has, such "
            f"as 'cpu' or 'cuda'. Got {name!r}: {str(error).splitlines()[0]}"
        ) from error
    if device_of_X is not None and device_of_X.type != device.type:
        raise ValueError(f"X is a tensor on {device_of_X} but the 'device' parameter is {name!r}.")
    return device


def _best_device():
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def compute_dtype(X, device):
    """Return the dtype of the arithmetic: X's own; float32 for float16 and wherever MPS is used."""
    name = str(X.dtype).rpartition(".")[2]
    return torch.float32 if device.type == "mps" else _FLOATS[name]


def training_arithmetic(X, settings, n_entries):
    """Return device and dtype of weights under training, of matrices with `n_entries`.

    `settings` has the parameters ``device`` and ``precision``. Where "auto" is asked for, float64
    rows are trained on in float64 as long as this costs next to nothing: operations on small
    matrices cost more than their numbers.
    """
    device = torch.device(choose_device(settings.device, space_of(X)))
    if settings.precision == "float64":
        if device.type == "mps":
            raise ValueError(
                "precision='float64' needs another device: MPS has no float64. Set device='cpu'."
            )
        return device, torch.float64
    small = settings.precision == "auto" and n_entries <= _SMALL_MATRIX
    return device, compute_dtype(X, device) if small else torch.float32


def rows_per_chunk(width):
    """Return the number of rows of a (rows, width) buffer of about `CHUNK_ENTRIES` entries."""
    return max(1, CHUNK_ENTRIES // max(width, 1))


def row_chunks(n_rows, width):
    """Yield slices of `rows_per_chunk` rows."""
    step = rows_per_chunk(width)
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def check_fits_in_memory(shape, itemsize, what):
    """Raise a MemoryError that names the remedy if a dense array would exceed physical memory."""
    needed = int(np.prod(shape, dtype=object)) * itemsize
    if needed > _physical_memory():
        raise MemoryError(
            f"A dense {what} of shape {tuple(shape)} needs {needed / 2**30:.1f} GiB, more than "
            f"this machine has. Set sparse_output=True to get a sparse matrix instead."
        )


def _physical_memory():
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not a POSIX system: let numpy find out
        return float("inf")


def stack_csr(blocks, shape, dtype):
    """Return one CSR container from ``(counts, columns, values)`` blocks of consecutive rows.

    Columns come out sorted within each row; indices are int32 until they overflow.
    """
    counts = np.concatenate([block[0] for block in blocks]) if blocks else np.zeros(0, np.int64)
    indptr = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    # Scipy's choice as well: 32-bit indices as long as they suffice.
    index = np.int32 if max(indptr[-1], shape[1]) < np.iinfo(np.int32).max else np.int64
    columns = [block[1] for block in blocks]
    values = [block[2] for block in blocks]
    indices = np.concatenate(columns).astype(index, copy=False) if blocks else np.zeros(0, index)
    data = np.concatenate(values) if blocks else np.zeros(0, dtype)
    codes = sparse.csr_array((data, indices, indptr.astype(index)), shape=shape)
    codes.sort_indices()
    return _align_api_if_sparse(codes)


def check_sample_weight(sample_weight, n_samples):
    """Return the weights of `n_samples` rows as a float64 ndarray; None stays None.

    Raises
    ------
    ValueError
        If there is not one weight per row, or they are not finite, non-negative and not all zero.
    """
    if sample_weight is None:
        return None
    if hasattr(sample_weight, "__dlpack__") and not isinstance(sample_weight, np.ndarray):
        sample_weight = to_torch(sample_weight).cpu().numpy()
    weight = np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != (n_samples,):
        raise ValueError(f"sample_weight has shape {weight.shape}; ({n_samples},) is needed.")
    if not np.isfinite(weight).all() or (weight < 0).any() or not weight.any():
        raise ValueError("sample_weight must be finite, non-negative and not all zero.")
    return weight


def row_weights(sample_weight, n_samples, *, highest=float):
    """Return the weights as a float64 tensor, the largest 1; what float32 cannot hold is 0.

    ``highest(weight)`` is the largest of all, where there are more than these.
    """
    weight = check_sample_weight(sample_weight, n_samples)
    if weight is None:
        return None
    # Loss and gradients are means, so that the unit of weights does not matter.
    weight = weight / highest(weight.max())
    return torch.from_numpy(np.where(weight < np.finfo(np.float32).tiny, 0, weight))


def objects(values):
    """Return values as a column of objects, one each."""
    values = list(values)
    # np.array would make a 2-D array of values that are sequences of one length.
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column
