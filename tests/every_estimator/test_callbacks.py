"""Callbacks, interruptions and the lines that verbose prints."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sksae.metrics import sae_scorer
from sksae.training import TrainingRun
from tests.cases import each_case
from tests.estimators import PREDICTORS, arrays_of, fitted, wide

# Of code that all classes share: two of them stand for it in the default run.
pytestmark = [pytest.mark.usefixtures("unchanged_world"), pytest.mark.costly]


class Recorder:
    """Write down every hook; `on_end` is called at the end of every pass."""

    def __init__(self, on_end=lambda number: False):
        self.events, self.on_end = [], on_end

    def setup(self, estimator, context):
        self.events.append(("setup", context.task_name))

    def teardown(self, estimator, context):
        self.events.append(("teardown", context.task_name))

    def on_fit_task_begin(self, estimator, context):
        self.events.append(("begin", context.task_name))

    def on_fit_task_end(self, estimator, context):
        self.events.append(("end", context.task_name))
        return context.task_name != "fit" and self.on_end(self.count("end"))

    def count(self, event):
        return sum(kind == event and name != "fit" for kind, name in self.events)


class Transformer(Recorder):
    """Use the model as it is after every pass."""

    def __init__(self, rows):
        super().__init__()
        self.rows, self.codes, self.scores = rows, [], []

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        if context.task_name != "fit":
            self.codes.append(fitted_estimator.transform(self.rows))
            self.scores.append(fitted_estimator.score(self.rows))


def test_hooks_are_balanced(SAE, X):
    recorder = Recorder()
    wide(SAE, max_iter=3).set_callbacks(recorder).fit(X)
    name = recorder.events[2][1]
    assert recorder.events == [
        ("setup", "fit"),
        ("begin", "fit"),
        *[("begin", name), ("end", name)] * 3,
        ("end", "fit"),
        ("teardown", "fit"),
    ]


def test_a_callback_can_stop_and_changes_nothing_else(SAE, X):
    sae = wide(SAE, max_iter=10, learning_rate_decay=0).set_callbacks(Recorder(lambda n: n == 4))
    sae.fit(X)
    assert sae.n_iter_ == len(sae.loss_curve_) == 4
    watched = wide(SAE, max_iter=4).set_callbacks(Recorder()).fit(X)
    for name, value in arrays_of(fitted(SAE, X, max_iter=4)).items():
        assert_array_equal(getattr(watched, name), value)


def test_a_callback_is_torn_down_after_an_error(SAE, X):
    def fail(number):
        raise RuntimeError(f"failed on purpose after pass {number}")

    recorder = Recorder(fail)
    with pytest.raises(RuntimeError, match="after pass 1"):
        wide(SAE, max_iter=3).set_callbacks(recorder).fit(X)
    assert recorder.events[-1] == ("teardown", "fit")
    recorder = Recorder()
    with pytest.raises(FloatingPointError):
        wide(SAE, learning_rate=1e200).set_callbacks(recorder).fit(X)
    assert recorder.events[0] == ("setup", "fit")
    assert recorder.events[-1] == ("teardown", "fit")


def test_nothing_begins_before_the_input_is_known_to_be_good(SAE, X):
    recorder = Recorder()
    with pytest.raises(ValueError, match="NaN"):
        wide(SAE).set_callbacks(recorder).fit(np.full_like(X, np.nan))
    assert recorder.events == []


def test_a_callback_sees_a_working_model_after_every_pass(sae, X):
    watcher = Transformer(X)
    sae.set_params(max_iter=3).set_callbacks(watcher).fit(X)
    assert [codes.shape for codes in watcher.codes] == [(400, sae.n_components_)] * 3
    last, final = watcher.codes[-1], sae.transform(X)
    assert_array_equal(getattr(last, "data", last), getattr(final, "data", final))
    assert watcher.scores[-1] == sae.score(X)
    assert watcher.scores[0] != watcher.scores[-1]


def test_the_progress_bar_of_scikit_learn_works_alone_and_in_a_pipeline(SAE, X):
    wide(SAE, max_iter=2).set_callbacks(ProgressBar()).fit(X)
    pipeline = make_pipeline(StandardScaler(), wide(SAE, max_iter=2))
    pipeline.set_callbacks(ProgressBar()).fit(X)


def test_an_interruption_between_passes_keeps_the_model(SAE, X):
    def interrupt(number):
        if number == 3:
            raise KeyboardInterrupt

    recorder = Recorder(interrupt)
    sae = wide(SAE).set_callbacks(recorder)
    with pytest.warns(UserWarning, match="interrupted"):
        sae.fit(X)
    assert (sae.n_iter_, sae.n_steps_, len(sae.loss_curve_)) == (3, 12, 3)
    assert sae.transform(X).shape == (400, 64)
    assert recorder.events[-1] == ("teardown", "fit")
    assert recorder.events.count(("end", "fit")) == 1


@each_case("steps", [2, 6])
def test_an_interruption_within_a_pass_keeps_the_model(SAE, X, steps, monkeypatch):
    step = TrainingRun.step

    def interrupted(self, *rows):
        if self.n_steps == steps:
            raise KeyboardInterrupt
        return step(self, *rows)

    monkeypatch.setattr(TrainingRun, "step", interrupted)
    recorder = Recorder()
    sae = wide(SAE).set_callbacks(recorder)
    with pytest.warns(UserWarning, match="interrupted"):
        sae.fit(X)
    assert sae.n_steps_ == steps
    assert sae.n_iter_ == len(sae.loss_curve_) == 1
    assert np.isfinite(sae.transform(X)).all()
    assert sae.score(X) < 1
    assert recorder.events[-1] == ("teardown", "fit")
    assert recorder.events.count(("end", "fit")) == 1
    assert recorder.count("begin") == recorder.count("end") + 1 == steps // 4 + 1


def test_an_interruption_before_the_first_step_is_an_interruption(SAE, X, monkeypatch):
    def interrupted(self, *rows):
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainingRun, "step", interrupted)
    sae = wide(SAE)
    with pytest.raises(KeyboardInterrupt):
        sae.fit(X)
    assert not hasattr(sae, "components_")


def test_verbose_prints_a_line_a_pass_and_silence_is_the_default(SAE, X, capsys):
    wide(SAE, max_iter=3).fit(X)
    assert capsys.readouterr() == ("", "")
    wide(SAE, max_iter=3, verbose=1).fit(X)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"[{SAE.__name__}] pass ") for line in lines)
    wide(SAE, max_iter=400, n_components=8, batch_size=40, verbose=1).fit(X[:40])
    lines = capsys.readouterr().out.splitlines()
    assert 50 <= len(lines) <= 110
    assert lines[-1].startswith(f"[{SAE.__name__}] pass 400/400")


class Watcher:
    """Keep what the model is and what it has lost so far, at every hook of every task."""

    def __init__(self, rows, stop=lambda task, number: False, *, every_step=True):
        self.rows, self.stop, self.every_step, self.seen = rows, stop, every_step, []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context, *, fitted_estimator):
        self._keep("begin", context, fitted_estimator)

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        self._keep("end", context, fitted_estimator)
        return self.stop(context.task_name, context.task_id)

    def _keep(self, event, context, model):
        assert len(model.loss_curve_) == model.n_iter_
        found = event, context.task_name, model.n_steps_, model.loss_curve_, model.score(self.rows)
        self.seen.append(found)

    def of(self, event, task):
        return [rest for e, t, *rest in self.seen if (e, t) == (event, task)]


def test_every_hook_is_given_a_fitted_model_with_the_loss_so_far(SAE, X):
    watcher = Watcher(X)
    sae = wide(SAE, max_iter=3).set_callbacks(watcher).fit(X)
    plain = fitted(SAE, X, max_iter=3)
    assert sae.loss_curve_ == plain.loss_curve_
    assert_array_equal(sae.components_, plain.components_)
    [(steps, losses, score)] = watcher.of("end", "fit")
    assert (steps, losses, score) == (12, plain.loss_curve_, plain.score(X))
    assert watcher.of("end", "pass")[-1] == [steps, losses, score]
    assert [found[0] for found in watcher.of("begin", "step")] == list(range(12))
    assert [found[0] for found in watcher.of("end", "step")] == list(range(1, 13))
    for number, (_, losses, _) in enumerate(watcher.of("end", "step")):
        assert losses[:-1] == plain.loss_curve_[: number // 4]
    # At the end of a pass, the mean over its steps is that of the pass.
    assert watcher.of("end", "step")[3][1] == plain.loss_curve_[:1]
    assert watcher.of("begin", "fit")[0][:2] == [0, []]


def test_a_step_can_end_its_pass_and_a_pass_the_fit(SAE, X):
    def stop(task, number):
        return (task, number) in {("step", 1), ("pass", 2)}

    sae = wide(SAE, max_iter=9).set_callbacks(Watcher(X, stop)).fit(X)
    assert (sae.n_iter_, sae.n_steps_, len(sae.loss_curve_)) == (3, 6, 3)


def test_steps_are_for_callbacks_that_ask(SAE, X):
    asking, other = Watcher(X), Watcher(X, every_step=False)
    wide(SAE, max_iter=2).set_callbacks(other, asking, ProgressBar()).fit(X)
    assert len(asking.of("end", "step")) == 8
    assert {task for _, task, *_ in other.seen} == {"fit", "pass"}


def test_the_loss_of_an_interrupted_first_pass_is_that_so_far(SAE, X):
    def interrupt(task, number):
        if (task, number) == ("step", 1):
            raise KeyboardInterrupt

    watcher = Watcher(X, interrupt)
    sae = wide(SAE).set_callbacks(watcher)
    with pytest.warns(UserWarning, match="interrupted") as caught:
        sae.fit(X)
    assert caught[0].filename == __file__
    assert sae.loss_curve_ == watcher.of("end", "step")[-1][1]
    assert np.isfinite(sae.loss_curve_).all()


@each_case("weight", [None, np.arange(1.0, 401.0)])
def test_the_scoring_monitor_of_scikit_learn_works_with_a_target(SAE, X, weight):
    monitor = ScoringMonitor(scoring=sae_scorer)
    sae = wide(SAE, max_iter=3).set_callbacks(monitor)
    sae.fit(X, np.zeros(len(X)), sample_weight=weight)
    logs = monitor.get_logs().data
    assert [log["task_name"] for log in logs] == ["fit", "pass", "pass", "pass"]
    expected = sae_scorer(sae, X, sample_weight=weight)
    for name, value in expected.items():
        assert logs[0][name] == logs[-1][name] == pytest.approx(value, rel=1e-9), name


@pytest.mark.parametrize("Model", PREDICTORS)
@pytest.mark.parametrize("columns", [0, slice(0, 3)])
def test_the_scoring_monitor_follows_a_regressor(Model, columns, X):
    monitor, y = ScoringMonitor(scoring="r2"), X[:, columns]
    model = wide(Model, max_iter=3).set_callbacks(monitor).fit(X, y)
    logs = monitor.get_logs().data
    assert [log["task_name"] for log in logs] == ["fit", "pass", "pass", "pass"]
    assert logs[0]["r2"] == logs[-1]["r2"] > logs[1]["r2"]
    assert model.single_target_ == (columns == 0)
