"""The passes of a fit: callbacks, progress lines, early stopping, interruption."""

import sys
import time
import warnings

from sklearn.exceptions import ConvergenceWarning

from sksae._callbacks import asked_for_steps, asked_to_watch, step_context
from sksae._processes import any_process, is_first, n_processes
from sksae.training import Stopping

_LINES = 100  # of verbose output, at most
_L0_TOLERANCE = 0.1
_DIVERGED = -100.0
_LEARNT = 0.5  # explained variance of the training rows from which on they count as learnt
_OVERFIT = 0.3  # and by which it exceeds that of the held-out rows
_OURS = ("sksae", "sklearn", "contextlib")


def warn_caller(message, category):
    """Warn with the line of the user's code that called the estimator."""
    frame, level = sys._getframe(1), 2
    # Up to the first frame outside of these packages.
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _OURS:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def described(fit):
    """Explained variance and L0 of a fit so far, in words."""
    explained, l0 = fit.measures()
    return f"explained variance = {explained:.4f}, L0 = {l0:.3g}"


class Passes:
    """The passes of one fit, with the callbacks of the estimator around them.

    Parameters
    ----------
    estimator : BaseSAE
        The estimator; its counts and curves follow the passes.
    fit : Fit
    X, y : array
        Passed on to callbacks, as is `weight`.
    weight : Tensor or None
    """

    def __init__(self, estimator, fit, X, y, weight):
        self.estimator, self.fit, self.settings = estimator, fit, fit.settings
        metadata = None if weight is None else {"sample_weight": weight.numpy()}
        self._task = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self._during = {**self._task, "reconstruction_attributes": fit.attributes}
        self._stopping = Stopping(self.settings.tol, self.settings.n_iter_no_change)
        self._root, self._first, self._started = None, 1, 0.0

    def make(self):
        """Make all passes; afterwards ``fit.run.weights`` are those to keep."""
        fit, settings = self.fit, self.settings
        for callback in asked_to_watch(self.estimator):
            callback.watch(fit, self._stopping)
        self._root = self.estimator._init_callback_context(max_subtasks=fit.max_iter)
        self._record()
        self._root.call_on_fit_task_begin(**self._during)
        ended = False
        self._first, self._started = len(fit.losses) + 1, time.monotonic()
        try:
            for number in range(self._first, fit.max_iter + 1):
                ended = self._pass(number)
                if ended:
                    break
        except KeyboardInterrupt:
            if fit.run.n_steps == 0 or n_processes() > 1:  # which do not stop at one step
                raise
            ended = True
            fit.losses = fit.losses or [fit.run.mean_loss]
            warn_caller("Training was interrupted; the model so far is kept.", UserWarning)
        if self._stopping.best_weights is not None:
            fit.run.weights = self._stopping.best_weights
        self._record()
        if settings.tol > 0 and fit.max_iter and not ended:
            warn_caller(
                f"Maximum number of passes ({fit.max_iter}) reached before the loss or the "
                f"validation score stopped improving by tol={settings.tol}. Increase max_iter.",
                ConvergenceWarning,
            )
        self._check_converged()
        fit.run.moments.clear()  # two thirds of the memory, before the fold needs some
        self._settle_penalty()

    def end(self):
        """Tell callbacks that the estimator is fitted."""
        self._root.call_on_fit_task_end(**self._task, reconstruction_attributes=dict)

    def _record(self, losses=None):
        vars(self.estimator).update(self.fit.progress(losses))

    def _pass(self, number):
        """Make one pass; return whether it was the last."""
        fit = self.fit
        callbacks = asked_for_steps(self.estimator)
        n_steps = len(fit.rows) if callbacks else 0
        task = self._root.subcontext(task_name="pass", max_subtasks=n_steps)
        task.call_on_fit_task_begin(**self._during)
        rows = _Steps(self, task, callbacks) if callbacks else fit.rows
        loss = fit.run.run_pass(rows, progress=fit.quality)
        stop = self._stop(loss)
        for hook in fit.after_pass:
            hook(fit)
        self._record()
        if fit.quality is not None:
            self._report(number)
        halted = task.call_on_fit_task_end(**self._during)
        return any_process(stop or bool(halted))

    def _stop(self, loss):
        """Extend the curves together, so that an interruption cannot come between them."""
        fit = self.fit
        if not self.settings.early_stopping:
            fit.losses.append(loss)
            return self.settings.tol > 0 and self._stopping.update(-loss)
        score = fit.held_out.explained_variance(fit.run.weights)
        fit.losses.append(loss)
        fit.scores.append(score)
        return self._stopping.update(score, fit.run.weights)

    def _report(self, number):
        """Print a line per pass, thinned out where passes are many and short."""
        fit = self.fit
        if number % max(1, fit.max_iter // _LINES) and number != fit.max_iter:
            return
        line = f"[{type(self.estimator).__name__}] pass {number}/{fit.max_iter}, {fit.quality()}"
        if not is_first():
            return
        if fit.scores:
            line += f", explained variance of held-out rows = {fit.scores[-1]:.4f}"
        # Of the passes that this process made; a fit may go on after others.
        seconds = (time.monotonic() - self._started) / (number - self._first + 1)
        print(f"{line}, {_duration(seconds * (fit.max_iter - number))} left")  # noqa: T201 - asked

    def _check_converged(self):
        explained, _ = self.fit.measures()
        if explained < _DIVERGED:
            warn_caller(
                f"{type(self.estimator).__name__} did not converge: its reconstructions are much "
                f"further from the rows than the mean is (explained variance {explained:.3g}). "
                f"Lower learning_rate.",
                ConvergenceWarning,
            )
        self._check_overfitting(explained)

    def _check_overfitting(self, explained):
        """Warn where held-out rows are explained much worse than those of the training."""
        if self.fit.held_out is None or explained < _LEARNT:
            return
        validated = self.fit.held_out.explained_variance(self.fit.run.weights)
        if validated < explained - _OVERFIT:
            warn_caller(
                f"{type(self.estimator).__name__} explains {explained:.3g} of the variance of the "
                f"training rows, but {validated:.3g} of that of held-out rows: it overfits. Lower "
                f"n_components or max_iter, or give more rows.",
                UserWarning,
            )

    def _settle_penalty(self):
        """Keep the penalty that a controller ended with; warn where the L0 is not as asked."""
        fit = self.fit
        controller, target = fit.run.schedule.controller, fit.objective.target_l0
        if controller is None:
            return
        fit.objective.alpha *= controller.factor
        l0 = fit.held_out.l0(fit.run.weights)
        if abs(l0 - target) > _L0_TOLERANCE * target:
            warn_caller(
                f"The codes of held-out rows have {l0:.3g} non-zeros per row, target_l0 asked for "
                f"{target:.3g}. Increase max_iter, or choose another n_components.",
                ConvergenceWarning,
            )


def _duration(seconds):
    """Seconds in words: ``"8 s"``, ``"3 min 20 s"``, ``"2 h 5 min"``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


class _Steps:
    """The batches of a pass, each between a callback's hooks; a hook that returns True ends it."""

    def __init__(self, passes, task, callbacks):
        self._passes, self._task, self._callbacks = passes, task, callbacks

    def __len__(self):
        return len(self._passes.fit.rows)

    def __iter__(self):
        passes, fit = self._passes, self._passes.fit
        for batch in fit.rows:
            context = step_context(self._task, self._callbacks)
            context.call_on_fit_task_begin(**passes._during)
            yield batch
            passes._record([*fit.losses, fit.run.mean_loss])
            if any_process(bool(context.call_on_fit_task_end(**passes._during))):
                return
