"""The passes of a fit: callbacks, progress lines, early stopping, interruption."""

import warnings

from sklearn.exceptions import ConvergenceWarning

from sksae._callbacks import asked_for_steps, step_context
from sksae.training import Stopping

_LINES = 100


class Passes:
    """Run the passes that a plan asks for and keep their curves.

    Parameters
    ----------
    sae : BaseSAE
    run : TrainingRun
    rows : Batches
    held_out : HeldOut or None
    max_iter : int
    snapshot : callable
        Fitted attributes of the weights so far, for callbacks that ask for them.
    record : callable
        ``record(losses, scores)`` stores the curves so far in `sae`.
    """

    def __init__(self, sae, run, rows, held_out, max_iter, *, snapshot, record):
        self.sae, self.run, self.rows, self.held_out = sae, run, rows, held_out
        self.max_iter, self.record = max_iter, record
        self.losses, self.scores = [], []
        self._state = {"reconstruction_attributes": snapshot}
        self._stopping = Stopping(sae.tol, sae.n_iter_no_change)

    def execute(self, told):
        """Run all passes; afterwards ``run.weights`` are the ones to keep.

        Parameters
        ----------
        told : dict
            What callbacks are told at the beginning and at the end of every task.

        Returns
        -------
        root : CallbackContext
            The context of the whole fit, to be ended when the fit is.
        """
        sae, best = self.sae, self._stopping
        self._told = {**told, **self._state}
        root = sae._init_callback_context(max_subtasks=self.max_iter)
        self.record(self.losses, self.scores)
        root.call_on_fit_task_begin(**self._told)
        ended = False
        try:
            for number in range(1, self.max_iter + 1):
                ended = self._one(number, root)
                if ended:
                    break
        except KeyboardInterrupt:
            if self.run.n_steps == 0:
                raise
            ended = True
            self.losses = self.losses or [self.run.mean_loss]
            warnings.warn("Training was interrupted; the model so far is kept.", stacklevel=7)
        if best.best_weights is not None:
            self.run.weights = best.best_weights
        self.record(self.losses, self.scores)
        if sae.tol > 0 and not ended:
            warnings.warn(
                f"Maximum number of passes ({self.max_iter}) reached before the loss or the "
                f"validation score stopped improving by tol={sae.tol}. Increase max_iter.",
                ConvergenceWarning,
                stacklevel=7,
            )
        return root

    def _one(self, number, root):
        """One pass; return whether it was the last."""
        callbacks = asked_for_steps(self.sae)
        task = root.subcontext(task_name="pass", max_subtasks=len(self.rows) if callbacks else 0)
        task.call_on_fit_task_begin(**self._told)
        rows = _Steps(self, task, callbacks) if callbacks else self.rows
        loss = self.run.run_pass(rows, progress=bool(self.sae.verbose))
        stop = self._stop(loss)
        self.record(self.losses, self.scores)
        if self.sae.verbose:
            self._report(number)
        halted = task.call_on_fit_task_end(**self._told)
        return stop or bool(halted)

    def _stop(self, loss):
        """Extend the curves together, so that an interruption cannot come between them."""
        if not self.sae.early_stopping:
            self.losses.append(loss)
            return self.sae.tol > 0 and self._stopping.update(-loss)
        score = self.held_out.explained_variance(self.run.weights)
        self.losses.append(loss)
        self.scores.append(score)
        return self._stopping.update(score, self.run.weights)

    def _report(self, number):
        """Print a line a pass, thinned out where passes are many and short."""
        if number % max(1, self.max_iter // _LINES) and number != self.max_iter:
            return
        line = f"[{type(self.sae).__name__}] pass {number}/{self.max_iter}"
        line += f", loss = {self.losses[-1]:.6g}"
        if self.scores:
            line += f", validation explained variance = {self.scores[-1]:.4f}"
        print(line)  # noqa: T201 - what verbose asks for


class _Steps:
    """The batches of a pass, each between a callback's hooks; a hook that returns True ends it."""

    def __init__(self, passes, task, callbacks):
        self._passes, self._task, self._callbacks = passes, task, callbacks

    def __len__(self):
        return len(self._passes.rows)

    def __iter__(self):
        passes = self._passes
        for batch in passes.rows:
            context = step_context(self._task, self._callbacks)
            context.call_on_fit_task_begin(**passes._told)
            yield batch
            passes.record([*passes.losses, passes.run.mean_loss], passes.scores)
            if context.call_on_fit_task_end(**passes._told):
                return
