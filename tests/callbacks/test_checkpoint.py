"""Fits that are killed and go on: the same bits as fits that were not."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sksae import (
    BatchTopKSAE,
    DummySAE,
    GatedSAE,
    JumpReLUSAE,
    SparseAutoencoder,
    TopKSAE,
    Transcoder,
)
from sksae.callbacks import Checkpoint
from sksae.datasets import make_superposition
from tests.cases import each_case

FITS = [
    TopKSAE(24, k=3, max_iter=4, batch_size=50, dead_window=60),
    BatchTopKSAE(24, k=3, max_iter=4, batch_size=50),
    SparseAutoencoder(24, decoder_norm="unit", max_iter=6, batch_size=50, dead_window=60),
    SparseAutoencoder(24, target_l0=4, max_iter=6, batch_size=60),
    GatedSAE(24, max_iter=4, batch_size=60, early_stopping=True, n_iter_no_change=2),
    JumpReLUSAE(24, max_iter=50, batch_size=50, dead_window=60),
    *(
        DummySAE(24, strategy=strategy, k=3, max_iter=4, batch_size=50)
        for strategy in ("frozen_decoder", "soft_frozen_decoder", "frozen_encoder")
    ),
]
QUIET = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def rows():
    return make_superposition(300, 8, 24, random_state=0)[0]


class KilledError(Exception):
    """Stands for the end of the process."""


class KillAt:
    """A callback that ends the fit after some steps."""

    every_step = True

    def __init__(self, step):
        self.step, self.seen = step, 0

    def setup(self, estimator, context):
        self.seen = 0

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        self.seen += context.task_name == "step"
        if self.seen == self.step:
            raise KilledError


def assert_equal_fits(one, other):
    for name, value in vars(one).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, vars(other)[name], err_msg=name)
    assert one.loss_curve_ == other.loss_curve_
    assert (one.n_iter_, one.n_steps_) == (other.n_iter_, other.n_steps_)


@QUIET
@each_case("sae", FITS)
def test_a_fit_that_is_killed_again_and_again_ends_in_the_same_bits(sae, tmp_path):
    X = rows().astype(np.float32 if sae.batch_size == 60 else np.float64)
    sae.set_params(random_state=0)
    expected = sae.__class__(**sae.get_params()).fit(X)
    path = tmp_path / str(FITS.index(sae))
    # In the middle of a pass, at its last batch, right after the first step.
    for step in (1, 4, 6, 5):
        with pytest.raises(KilledError):
            sae.__class__(**sae.get_params()).set_callbacks(
                Checkpoint(path, interval=0), KillAt(step)
            ).fit(X)
    rare = Checkpoint(path, interval=1e6)
    resumed = sae.__class__(**sae.get_params()).set_callbacks(rare)
    assert_equal_fits(expected, resumed.fit(X))
    # Nothing is left to do for a third one.
    assert_equal_fits(expected, sae.set_callbacks(rare, KillAt(1)).fit(X))


def test_steps_between_two_writings_are_made_again(tmp_path, monkeypatch):
    X, now = rows(), iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    expected = TopKSAE(24, k=3, max_iter=4, batch_size=50, random_state=0).fit(X)
    checkpoint = Checkpoint(tmp_path / "fit", interval=5)
    with pytest.raises(KilledError):
        TopKSAE(24, k=3, max_iter=4, batch_size=50, random_state=0).set_callbacks(
            checkpoint, KillAt(13)
        ).fit(X)
    resumed = TopKSAE(24, k=3, max_iter=4, batch_size=50, random_state=0)
    assert_equal_fits(expected, resumed.set_callbacks(checkpoint).fit(X))


def test_a_transcoder_and_an_unknown_seed_go_on(tmp_path):
    X = rows()
    checkpoint = Checkpoint(tmp_path / "fit", interval=0)
    inner = TopKSAE(24, k=3, max_iter=3, batch_size=50)
    with pytest.raises(KilledError):
        Transcoder(inner).set_callbacks(checkpoint, KillAt(7)).fit(X, X[:, ::-1])
    half, fits = (tmp_path / "fit").read_bytes(), []
    for _ in range(2):
        (tmp_path / "fit").write_bytes(half)
        fits.append(Transcoder(inner).set_callbacks(checkpoint).fit(X, X[:, ::-1]))
    assert_equal_fits(*fits)
    assert fits[0].n_steps_ == 18
    assert fits[0].score(X, X[:, ::-1]) > 0


def test_checkpoints_of_other_fits_are_refused(tmp_path):
    X = rows()
    checkpoint = Checkpoint(tmp_path / "fit", interval=0)
    TopKSAE(24, k=3, max_iter=1, random_state=0).set_callbacks(checkpoint).fit(X)
    other = TopKSAE(24, k=4, max_iter=1, random_state=0).set_callbacks(checkpoint)
    with pytest.raises(
        ValueError, match=r"of another fit, with other k \(k is 4 here and 3 there\)"
    ):
        other.fit(X)
    with pytest.raises(ValueError, match="with other initial weights, rows"):
        other.set_params(k=3).fit(X + np.eye(300, 8))
    with pytest.raises(ValueError, match="class is BatchTopKSAE here and TopKSAE"):
        BatchTopKSAE(24, k=3, max_iter=1, random_state=0).set_callbacks(checkpoint).fit(X)
    with pytest.raises(ValueError, match="one Checkpoint at most"):
        other.set_callbacks(checkpoint, Checkpoint(tmp_path / "b")).fit(X)


def test_damaged_files_are_named(tmp_path):
    X, path = rows(), tmp_path / "fit"
    checkpoint = Checkpoint(path, interval=0)
    sae = TopKSAE(24, k=3, max_iter=1, random_state=0).set_callbacks(checkpoint)
    sae.fit(X)
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole[:-3] + b"abc", b"no checkpoint" * 9):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="fit "):
            sae.fit(X)
    save_file({"a": np.zeros(3)}, path)
    with pytest.raises(ValueError, match="it is not a checkpoint of a fit"):
        sae.fit(X)
    path.write_bytes(whole)
    sae.fit(X)


def test_a_full_disk_is_an_error_that_leaves_the_last_state(tmp_path, monkeypatch):
    X = rows()
    checkpoint = Checkpoint(tmp_path / "fit", interval=0)
    sae = TopKSAE(24, k=3, max_iter=2, batch_size=50, random_state=0)
    expected = TopKSAE(24, k=3, max_iter=2, batch_size=50, random_state=0).fit(X)
    with pytest.raises(KilledError):
        sae.set_callbacks(checkpoint, KillAt(4)).fit(X)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device", str(tmp_path / "fit"))

    with monkeypatch.context() as patch:
        patch.setattr("sksae._files.save_file", full)
        with pytest.raises(OSError, match="No space left"):
            sae.set_callbacks(checkpoint).fit(X)
    assert_equal_fits(expected, sae.fit(X))


def test_the_interval_is_checked(tmp_path):
    for wrong in (-1, "often", None):
        with pytest.raises(ValueError, match="interval must be a number of seconds"):
            Checkpoint(tmp_path / "fit", interval=wrong)


SCRIPT = """
import os, pathlib, random, signal, sys, time
from sksae import JumpReLUSAE
from sksae.callbacks import Checkpoint
from sksae.datasets import make_superposition

folder = pathlib.Path(sys.argv[1])
X, _, _ = make_superposition(3000, 16, 48, random_state=0)

def fit(checkpoint, result):
    sae = JumpReLUSAE(48, max_iter=30, batch_size=100, random_state=0)
    sae.set_callbacks(Checkpoint(folder / checkpoint, interval=0.02)).fit(X).save(folder / result)

random.seed(0)
kills = 0
for _ in range(8):
    child = os.fork()
    if not child:
        fit("fit", "result")
        os._exit(0)
    while not (folder / "fit").exists():
        time.sleep(0.005)
    time.sleep(random.uniform(0.02, 0.2))
    os.kill(child, signal.SIGKILL)
    kills += os.WIFSIGNALED(os.waitpid(child, 0)[1])
fit("fit", "result")
fit("other", "expected")
print(kills)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_killed_processes_go_on(tmp_path):
    """Kills at random moments, writing included."""
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, tmp_path]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=600)
    assert int(done.stdout) >= 1
    expected, resumed = (load_file(tmp_path / name) for name in ("expected", "result"))
    assert expected.keys() == resumed.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(array, resumed[name], err_msg=name)
