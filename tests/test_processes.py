"""Fits of several processes of torch.distributed: the fit of one process on all rows."""

import contextlib
import io
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.base import clone

from sksae import (
    BatchTopKSAE,
    DummySAE,
    GatedSAE,
    JumpReLUSAE,
    MatryoshkaSAE,
    SparseAutoencoder,
    TopKSAE,
    Transcoder,
    _processes,
)
from sksae._processes import RowShare, gathered, n_processes, sum_over_processes
from sksae.callbacks import Checkpoint
from tests.cases import each_case
from tests.estimators import name_of
from tests.processes import needs_processes, together

pytestmark = [
    needs_processes,
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

CUT = 290  # rows of the first of two processes, of 400
CUTS_OF_THREE = [0, 250, 251, 400]
SETTINGS = {"n_components": 32, "max_iter": 3, "batch_size": 50, "random_state": 0}
# Latents die early, so that they are revived in each way that there is.
FITS = [
    TopKSAE(**SETTINGS, k=3, dead_window=60),
    BatchTopKSAE(**SETTINGS, k=3, dead_window=60),
    SparseAutoencoder(**SETTINGS, decoder_norm="unit", dead_window=40, early_stopping=True),
]
MORE_FITS = [
    TopKSAE(random_state=0, max_iter=2, precision="float64"),
    # So few rows per step that a process often has none of them.
    TopKSAE(**{**SETTINGS, "batch_size": 3, "max_iter": 1}, k=3),
    BatchTopKSAE(**{**SETTINGS, "batch_size": 3, "max_iter": 1}, k=2.5, normalize="anthropic"),
    MatryoshkaSAE(**SETTINGS, k=3, dead_window=60),
    SparseAutoencoder(**SETTINGS, target_l0=4),
    GatedSAE(**SETTINGS, tol=1e-3, n_iter_no_change=1),
    JumpReLUSAE(**{**SETTINGS, "max_iter": 30}, dead_window=40),
    JumpReLUSAE(**SETTINGS, penalty="tanh"),
    DummySAE(n_components=20, k=2, strategy="pca", random_state=0),
    DummySAE(n_components=20, k=2, strategy="data", random_state=0),
]


def numbers_of(estimator):
    """What a fit leaves behind, by name, as arrays of float64."""
    return {
        name: np.asarray(value, dtype=np.float64)
        for name, value in vars(estimator).items()
        if name.endswith("_") and not name.startswith("_") and name != "estimator_"
    }


def parts(X, rank):
    return X[:CUT] if rank == 0 else X[CUT:]


def fitted_numbers(rank, estimators, X):
    return [numbers_of(clone(estimator).fit(parts(X, rank))) for estimator in estimators]


def assert_equal_to_one(there, here, label):
    """The processes have the same bits, and the numbers of one process but for rounding."""
    first, second = there
    assert set(first) == set(here), label
    for name, expected in here.items():
        np.testing.assert_array_equal(first[name], second[name], err_msg=f"{label}: {name}")
        np.testing.assert_allclose(
            first[name], expected, rtol=1e-6, atol=1e-9, err_msg=f"{label}: {name}"
        )


def check_fits(estimators, X):
    first, second = together(fitted_numbers, estimators, X)
    for estimator, *there in zip(estimators, first, second, strict=True):
        here = numbers_of(clone(estimator).fit(X))
        assert_equal_to_one(there, here, name_of(estimator))


def test_two_processes_make_the_fit_of_one_on_all_rows(X):
    check_fits(FITS, X)


@pytest.mark.slow
def test_every_variant_makes_the_fit_of_one_process(X):
    check_fits(MORE_FITS, X)


def fits_of_three(rank, X):
    own = X[slice(*CUTS_OF_THREE[rank : rank + 2])]
    return [numbers_of(clone(estimator).fit(own)) for estimator in FITS[:2]]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_process_may_have_a_single_row(X, dtype):
    X = X.astype(dtype)
    numbers = together(fits_of_three, X, n=3)
    for estimator, *there in zip(FITS[:2], *numbers, strict=True):
        here = numbers_of(clone(estimator).fit(X))
        for name, expected in here.items():
            tolerance = 1e3 * np.finfo(dtype).eps
            for other in there[1:]:
                np.testing.assert_array_equal(there[0][name], other[name])
            np.testing.assert_allclose(there[0][name], expected, rtol=tolerance, atol=tolerance)


def other_fits(rank, X, weight):
    """Fits with weights, with targets and in parts."""
    own, w = parts(X, rank), parts(weight, rank)
    stream = TopKSAE(**SETTINGS, k=3)
    for part in np.array_split(own, 2):
        stream.partial_fit(part)
    transcoder = Transcoder(TopKSAE(**SETTINGS, k=3), skip=True)
    return [
        numbers_of(BatchTopKSAE(**SETTINGS, k=3).fit(own, sample_weight=w)),
        numbers_of(transcoder.fit(own, own[:, ::-1])),
        numbers_of(stream),
    ]


@pytest.mark.slow
def test_weights_targets_and_streams(X):
    # The heaviest row is in one process: weights are relative to it in both.
    weight = np.random.default_rng(0).integers(0, 4, len(X)).astype(float)
    weight[-1] = 9.0
    first, second = together(other_fits, X, weight)
    stream = TopKSAE(**SETTINGS, k=3)
    halves = zip(np.array_split(X[:CUT], 2), np.array_split(X[CUT:], 2), strict=True)
    for pair in halves:
        stream.partial_fit(np.concatenate(pair))
    here = [
        numbers_of(BatchTopKSAE(**SETTINGS, k=3).fit(X, sample_weight=weight)),
        numbers_of(Transcoder(TopKSAE(**SETTINGS, k=3), skip=True).fit(X, X[:, ::-1])),
        numbers_of(stream),
    ]
    labels = ["weights", "targets", "stream"]
    for label, *there, expected in zip(labels, first, second, here, strict=True):
        assert_equal_to_one(there, expected, label)


def sums(rank):
    rows = np.arange(3.0 * (rank + 1)).reshape(rank + 1, 3) + 10 * rank

    return (
        n_processes(),
        sum_over_processes(rank + 0.5),
        gathered(torch.from_numpy(rows)).tolist(),
        tuple(RowShare.of(rank + 1)),
    )


def test_sums_and_rows_of_the_processes():
    rows = [[0.0, 1.0, 2.0], [10.0, 11.0, 12.0], [13.0, 14.0, 15.0]]
    assert together(sums) == [(2, 2.0, rows, (0, 1, 3)), (2, 2.0, rows, (1, 2, 3))]
    assert n_processes() == 1
    assert tuple(RowShare.of(7)) == (0, 7, 7)


@each_case(
    "backends, device, expected",
    [
        ("cpu:gloo,cuda:nccl", "cuda:1", "cuda:1"),
        ("cpu:gloo,cuda:nccl", "cpu", "cpu"),
        ("cpu:gloo,cuda:gloo", "cuda:1", "cpu"),
        ("cuda:nccl", "cpu", "cuda"),
        ("cpu:gloo,cuda:nccl", "mps", "cpu"),
    ],
)
def test_tensors_go_to_a_device_of_the_backend(backends, device, expected, monkeypatch):
    monkeypatch.setattr(_processes.distributed, "get_backend_config", lambda: backends)
    tensor = SimpleNamespace(device=torch.device(device))
    assert _processes._device_for(tensor) == torch.device(expected)


class EndsAt:
    """A callback that ends its process, or the fit, after the second pass."""

    def __init__(self, how):
        self.how, self.passes = how, 0

    def setup(self, estimator, context):
        pass

    teardown = on_fit_task_begin = setup

    def on_fit_task_end(self, estimator, context):
        self.passes += context.task_name == "pass"
        if self.passes == 2:
            self.how()


def dies_in_the_second_process(rank, X):
    callback = EndsAt(lambda: os._exit(1) if rank else None)
    return TopKSAE(**SETTINGS, k=3).set_callbacks(callback).fit(parts(X, rank))


def test_the_death_of_a_process_ends_the_others_with_an_error(X):
    first, second = together(dies_in_the_second_process, X)
    assert second is None
    assert isinstance(first, RuntimeError)
    assert "Another process of torch.distributed has ended" in str(first)


def unequal(rank, X):
    messages = []
    own = parts(X, rank)
    for estimator, rows in [
        (TopKSAE(**SETTINGS, k=2 + rank), own),
        (TopKSAE(**SETTINGS, k=2), own[:, : 5 + rank]),
    ]:
        try:
            estimator.fit(rows)
        except ValueError as error:
            messages.append(str(error))
    return messages


def test_processes_that_do_not_fit_together_are_told_so(X):
    first, second = together(unequal, X)
    assert first == second
    assert "k is 2 in process 0 and 3 in process 1" in first[0]
    assert "the number of features is 5 in process 0 and 6 in process 1" in first[1]


TALKS = BatchTopKSAE(**{**SETTINGS, "batch_size": 150}, k=3)


def talk_and_write(rank, X, folder):
    """Fit with verbose=1 in one process alone, die in the middle, and go on."""
    own, path = parts(X, rank), folder / f"{rank}.checkpoint"

    def fail():
        raise KeyError

    estimator = clone(TALKS).set_params(verbose=int(rank == 0))
    with contextlib.redirect_stdout(io.StringIO()) as text:
        plain = numbers_of(clone(estimator).fit(own))
    shared = folder / "shared.checkpoint"
    for callback in (EndsAt(fail), EndsAt(lambda: None)):
        with contextlib.suppress(KeyError), contextlib.redirect_stdout(io.StringIO()):
            again = clone(estimator).set_callbacks(Checkpoint(shared, interval=0), callback)
            again.fit(own)
    TopKSAE(**SETTINGS, k=3).set_callbacks(Checkpoint(path, interval=0)).fit(own)
    return text.getvalue(), plain, numbers_of(again), path.exists()


def test_the_first_process_alone_prints_and_writes(X, tmp_path):
    first, second = together(talk_and_write, X, tmp_path)
    for text, n_lines in ((first[0], 3), (second[0], 0)):
        assert text.count("explained variance") == n_lines
    assert (first[3], second[3]) == (True, False)
    alone = clone(TALKS).set_callbacks(Checkpoint(tmp_path / "shared.checkpoint"))
    with pytest.raises(ValueError, match="number of processes is None here and 2 there"):
        alone.fit(X)
    for _, plain, again, _ in (first, second):
        for name, expected in plain.items():
            np.testing.assert_array_equal(again[name], expected)


SCRIPT = """
import sys
import numpy as np
from torch import distributed
from sksae import TopKSAE

distributed.init_process_group("gloo")
rank, n = distributed.get_rank(), distributed.get_world_size()
rows = np.load(sys.argv[1], mmap_mode="r")
sae = TopKSAE(32, k=3, max_iter=2, random_state=0).fit(np.array_split(rows, n)[rank])
if rank == 0:
    np.save(sys.argv[2], sae.components_)
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_torchrun_runs_an_ordinary_script(X, tmp_path):
    np.save(tmp_path / "rows.npy", X)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    files = [str(tmp_path / name) for name in ("rows.npy", "components.npy")]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run([*command, str(script), *files], check=True, capture_output=True, timeout=300)
    expected = TopKSAE(32, k=3, max_iter=2, random_state=0).fit(X).components_
    np.testing.assert_allclose(np.load(files[1]), expected, rtol=1e-6, atol=1e-9)
