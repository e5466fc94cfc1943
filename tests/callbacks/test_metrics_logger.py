"""Measures of a fit, as trackers of experiments and files receive them."""

import csv

import numpy as np
import pytest

from sksae import GatedSAE, TopKSAE, Transcoder
from sksae.autoencoders import _fit
from sksae.callbacks import Checkpoint, MetricsLogger
from sksae.datasets import make_superposition
from tests.cases import each_case

NAMES = ["pass", "loss", "explained_variance", "l0", "dead_latents", "learning_rate"]


def rows():
    return make_superposition(300, 8, 24, random_state=0)[0]


def small(**settings):
    options = {"k": 3, "max_iter": 4, "batch_size": 100, "learning_rate_decay": 0.5}
    return TopKSAE(24, random_state=0, **{**options, **settings})


class Recorded:
    """An object with a method of a given name, which keeps what it is called with."""

    def __init__(self, method):
        self.calls = []
        setattr(self, method, self.receive)

    def receive(self, *args, **kwargs):
        self.calls.append((args, kwargs))


def test_the_measures_are_those_of_the_fit():
    X, seen = rows(), {}
    sae = small().set_callbacks(MetricsLogger(lambda metrics, step: seen.update({step: metrics})))
    sae.fit(X)
    assert list(seen) == [3, 6, 9, 12]
    assert [list(metrics) for metrics in seen.values()] == [NAMES] * 4
    assert [metrics["pass"] for metrics in seen.values()] == [1, 2, 3, 4]
    assert [metrics["loss"] for metrics in seen.values()] == sae.loss_curve_
    last = seen[12]
    # 300 rows are all measured, and by the same weights as those of the fitted estimator
    assert last["explained_variance"] == pytest.approx(sae.score(X), abs=1e-5)
    assert last["l0"] == pytest.approx((sae.transform(X) > 0).sum(axis=1).mean(), abs=0.02)
    assert last["dead_latents"] == (sae.activation_frequency_ == 0).sum() == 0
    # the rate is constant in the first half, then it falls linearly
    rate = sae.learning_rate_
    assert seen[6]["learning_rate"] == rate
    assert seen[12]["learning_rate"] == pytest.approx(rate / 6)


def test_dead_latents_are_counted():
    X, seen = np.repeat([[1.0, 0, 0, 0], [0, 1, 0, 0]], 50, axis=0), []
    sae = small(k=1, dead_window=1, max_iter=3).set_callbacks(
        MetricsLogger(lambda metrics, step: seen.append(metrics["dead_latents"]))
    )
    with pytest.warns(UserWarning, match="learns"):
        sae.set_params(n_components=200).fit(X)
    # two kinds of rows with one code each: all latents but two are dead
    assert seen[-1] >= 190


@each_case("every, steps", [(1, range(1, 13)), (5, [5, 10, 12]), (100, [12])])
def test_steps_between_measurements(every, steps):
    seen = []
    logger = MetricsLogger(lambda metrics, step: seen.append(step), every=every)
    small().set_callbacks(logger).fit(rows())
    assert seen == list(steps)


def test_a_fit_with_it_ends_in_the_same_bits():
    X = rows()
    plain = small().fit(X)
    watched = small().set_callbacks(MetricsLogger(lambda metrics, step: None, every=1)).fit(X)
    assert (plain.components_ == watched.components_).all()
    assert plain.loss_curve_ == watched.loss_curve_


def test_the_rows_that_are_measured_are_made_once(monkeypatch):
    made = []

    class Counted(_fit.HeldOut):
        def __init__(self, *args):
            made.append(args)
            super().__init__(*args)

    monkeypatch.setattr(_fit, "HeldOut", Counted)
    X, _, _ = make_superposition(5000, 8, 16, random_state=0)
    lines = []
    logger = MetricsLogger(lambda metrics, step: lines.append(metrics), every=1)
    TopKSAE(16, k=2, max_iter=2, batch_size=1000).set_callbacks(logger).fit(X)
    assert len(lines) == 10
    ((_, rows),) = made
    assert rows.n_samples == 2048


def test_validation_scores_are_sent_after_every_pass():
    seen = []
    sae = GatedSAE(24, max_iter=4, early_stopping=True, random_state=0)
    sae.set_callbacks(MetricsLogger(lambda metrics, step: seen.append(metrics))).fit(rows())
    assert [metrics["validation_score"] for metrics in seen] == sae.validation_scores_


def test_a_transcoder_is_measured_on_what_it_predicts():
    X, seen = rows(), []
    transcoder = Transcoder(small())
    transcoder.set_callbacks(MetricsLogger(lambda metrics, step: seen.append(metrics)))
    transcoder.fit(X, 2 * X)
    assert seen[-1]["explained_variance"] == pytest.approx(transcoder.score(X, 2 * X), abs=1e-5)


def test_trackers_are_called_as_they_want():
    trackers = {name: Recorded(name) for name in ("log", "log_metrics", "add_scalar")}
    loggers = [MetricsLogger(tracker, prefix="train/") for tracker in trackers.values()]
    small().set_callbacks(*loggers).fit(rows())
    for name in ("log", "log_metrics"):
        (metrics,), options = trackers[name].calls[-1]
        assert list(metrics) == [f"train/{measure}" for measure in NAMES]
        assert options == {"step": 12}
    calls = trackers["add_scalar"].calls
    assert [args[0] for args, _ in calls[:6]] == [f"train/{measure}" for measure in NAMES]
    assert calls[-1][0][2] == 12


def test_a_table_grows_by_a_line_per_measurement(tmp_path):
    path = tmp_path / "fit.csv"
    sae = small().set_callbacks(MetricsLogger(path)).fit(rows())
    with path.open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [line["step"] for line in table] == ["3", "6", "9", "12"]
    assert [float(line["loss"]) for line in table] == sae.loss_curve_
    assert table[0]["validation_score"] == ""
    small(max_iter=1).set_callbacks(MetricsLogger(str(path))).fit(rows())
    assert len(path.read_text().splitlines()) == 6  # a header and five lines


def test_a_fit_that_goes_on_measures_the_rest(tmp_path):
    def stop(metrics, step):
        if step == 6:
            raise RuntimeError

    checkpoint, seen = Checkpoint(tmp_path / "fit.checkpoint", interval=0), []
    with pytest.raises(RuntimeError):
        small().set_callbacks(MetricsLogger(stop), checkpoint).fit(rows())
    logger = MetricsLogger(lambda metrics, step: seen.append((step, metrics["pass"])))
    small().set_callbacks(logger, checkpoint).fit(rows())
    assert seen == [(6, 2), (9, 3), (12, 4)]


@each_case(
    "arguments, error, message",
    [
        ({"target": 3}, TypeError, "must be the path of a CSV file"),
        ({"target": print, "every": 0}, ValueError, "every must be"),
        ({"target": "a.csv", "prefix": "train/"}, ValueError, "Leave prefix empty"),
    ],
)
def test_arguments_are_checked_at_once(arguments, error, message):
    with pytest.raises(error, match=message):
        MetricsLogger(**arguments)


def test_another_file_is_not_changed(tmp_path):
    path = tmp_path / "notes.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no table of a MetricsLogger"):
        small().set_callbacks(MetricsLogger(path)).fit(rows())
    assert path.read_text() == "a,b\n1,2\n"


# The trackers themselves, where they are installed ------------------------------------------------

THEIRS = pytest.mark.filterwarnings("ignore")


@THEIRS
@pytest.mark.slow
def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path) as writer:
        sae = small().set_callbacks(MetricsLogger(writer)).fit(rows())
    events = EventAccumulator(str(tmp_path)).Reload()
    assert sorted(events.Tags()["scalars"]) == sorted(NAMES)
    loss = events.Scalars("loss")
    assert [event.step for event in loss] == [3, 6, 9, 12]
    assert [event.value for event in loss] == pytest.approx(sae.loss_curve_)


@THEIRS
@pytest.mark.slow
def test_mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(f"sqlite:///{(tmp_path / 'runs.db').as_posix()}")
    with mlflow.start_run() as run:
        sae = small().set_callbacks(MetricsLogger(mlflow)).fit(rows())
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
    assert [entry.step for entry in history] == [3, 6, 9, 12]
    assert [entry.value for entry in history] == pytest.approx(sae.loss_curve_)


@THEIRS
@pytest.mark.slow
def test_trackio(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    trackio = pytest.importorskip("trackio")
    trackio.init(project="sksae", name="a-fit")
    sae = small().set_callbacks(MetricsLogger(trackio)).fit(rows())
    trackio.finish()
    (run,) = trackio.Api().runs("sksae")
    assert run is not None
    assert sae.n_steps_ == 12
