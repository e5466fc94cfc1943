"""The passes of a fit: callbacks, progress lines, early stopping, interruption."""

import warnings
from functools import partial

from sklearn.exceptions import ConvergenceWarning

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
    """

    def __init__(self, sae, run, rows, held_out, max_iter, snapshot):
        self.sae, self.run, self.rows, self.held_out = sae, run, rows, held_out
        self.max_iter, self.snapshot = max_iter, snapshot
        self.losses, self.scores = [], []
        self._stopping = Stopping(sae.tol, sae.n_iter_no_change)

    def execute(self, X, y):
        """Run all passes; afterwards ``run.weights`` are the ones to keep."""
        sae, best = self.sae, self._stopping
        root = sae._init_callback_context(max_subtasks=self.max_iter)
        root.call_on_fit_task_begin(estimator=sae, X=X, y=y)
        ended = False
        try:
            for number in range(1, self.max_iter + 1):
                ended = self._one(number, root, X, y)
                if ended:
                    break
        except KeyboardInterrupt:
            if self.run.n_steps == 0:
                raise
            ended = True
            self.losses = self.losses or [float("nan")]
            warnings.warn("Training was interrupted; the model so far is kept.", stacklevel=5)
        if best.best_weights is not None:
            self.run.weights = best.best_weights
        if sae.tol > 0 and not ended:
            warnings.warn(
                f"Maximum number of passes ({self.max_iter}) reached before the loss or the "
                f"validation score stopped improving by tol={sae.tol}. Increase max_iter.",
                ConvergenceWarning,
                stacklevel=5,
            )
        root.call_on_fit_task_end(estimator=sae, X=X, y=y, reconstruction_attributes=dict)

    def _one(self, number, root, X, y):
        """One pass; return whether it was the last."""
        task = root.subcontext(task_name="pass")
        task.call_on_fit_task_begin(estimator=self.sae, X=X, y=y)
        loss = self.run.run_pass(self.rows, progress=bool(self.sae.verbose))
        stop = self._stop(loss)
        if self.sae.verbose:
            self._report(number)
        halted = task.call_on_fit_task_end(
            estimator=self.sae,
            X=X,
            y=y,
            reconstruction_attributes=partial(self.snapshot, self.run.weights),
        )
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
