"""`MetricsLogger`: the measures of a fit, sent to a tracker of experiments or to a file."""

import csv
import math
from functools import partial
from pathlib import Path

from sksae._callbacks import GivenTheFit
from sksae._params import Int, check_option
from sksae._processes import is_first

_COLUMNS = (
    "step",
    "pass",
    "loss",
    "explained_variance",
    "l0",
    "dead_latents",
    "learning_rate",
    "validation_score",
)


class MetricsLogger(GivenTheFit):
    """Callback that sends the measures of a fit to a tracker of experiments, or to a CSV file.

    Give it to `set_callbacks` and call `fit`. A fit without it measures nothing.

    Parameters
    ----------
    target : str, Path, object or callable
        Where the measures go:

        - a str or Path is a CSV file with a line per measurement; lines are added to a file that
          exists;
        - an object with ``log(metrics, step=...)``: a run of Weights & Biases, `trackio`, `wandb`;
        - an object with ``log_metrics(metrics, step=...)``: `mlflow`, the loggers of Lightning;
        - an object with ``add_scalar(name, value, step)``: a `SummaryWriter` of TensorBoard;
        - a callable is called with a dict and the step.
    every : int, default=None
        Steps of the optimiser between two measurements. None measures after every pass.
    prefix : str, default=""
        Put before the names of the measures, such as ``"train/"``. Not for CSV files.

    See Also
    --------
    Checkpoint : The state of a fit in a file.
    sksae.displays.TrainingCurveDisplay : The loss of a fitted estimator as a plot.

    Notes
    -----
    The measures are ``pass``; ``loss``, the mean per row over the pass so far;
    ``explained_variance`` and ``l0``, on up to 2048 of the training rows; ``dead_latents``, the
    number that have not fired within the dead window; ``learning_rate``, with its schedule; and,
    with early stopping, after every pass ``validation_score``. The step counts steps of the
    optimiser from 1. To measure costs about as much as to transform these rows twice. The same bits
    come out of a fit with or without this callback. `partial_fit` calls no callbacks. With
    several processes of `torch.distributed` every process needs it; the first one sends.

    Examples
    --------
    >>> from sksae import TopKSAE
    >>> from sksae.callbacks import MetricsLogger
    >>> from sksae.datasets import make_superposition
    >>> X, _, _ = make_superposition(500, 8, 16, random_state=0)
    >>> measured = {}
    >>> logger = MetricsLogger(lambda metrics, step: measured.update({step: metrics}))
    >>> sae = TopKSAE(16, k=2, max_iter=5, batch_size=250, random_state=0)
    >>> sae = sae.set_callbacks(logger).fit(X)
    >>> list(measured)
    [2, 4, 6, 8, 10]
    >>> measured[10]["l0"], measured[10]["loss"] == sae.loss_curve_[-1]
    (2.0, True)
    """

    def __init__(self, target, *, every=None, prefix=""):
        self.target, self.every, self.prefix = target, every, prefix
        check_option("every", every, Int(1, none=True))
        self._send = _sender(target)
        if prefix and isinstance(target, str | Path):
            raise ValueError("A CSV file has columns without a prefix. Leave prefix empty.")

    # What a fit calls --------------------------------------------------------------------------

    def watch(self, fit, stopping):
        """Measure `fit` from now on.

        Parameters
        ----------
        fit : sksae.autoencoders.Fit
            A fit that has made no step yet.
        stopping : Stopping
            Its rule of early stopping.
        """

        def after_step(run):
            if run.n_steps % self.every == 0 or run.n_steps == fit.n_steps:
                self._log(fit)

        if self.every is None:
            fit.after_pass.append(self._log)
        else:
            fit.run.after_step.append(after_step)

    def _log(self, fit):
        run, scores = fit.run, fit.scores
        explained, l0 = fit.measures()
        # Learning rate of the last step, relative to the highest.
        _, factor = run.schedule(run.n_steps - 1)
        metrics = {
            "pass": math.ceil(run.n_steps / len(fit.rows)),
            "loss": run.mean_loss,
            "explained_variance": explained,
            "l0": l0,
            "dead_latents": int(run.dead().sum()),
            "learning_rate": run.learning_rate * factor,
        }
        if scores and self.every is None:  # a validation score belongs to the end of a pass
            metrics["validation_score"] = scores[-1]
        if not is_first():  # of several processes, which measure together
            return
        self._send({self.prefix + name: value for name, value in metrics.items()}, run.n_steps)


def _sender(target):
    """Return ``send(metrics, step)`` of a target, or raise a TypeError."""
    if isinstance(target, str | Path):
        return partial(_append_to_csv, Path(target))
    if hasattr(target, "log_metrics"):
        return lambda metrics, step: target.log_metrics(metrics, step=step)
    if hasattr(target, "add_scalar"):
        return partial(_add_scalars, target)
    if hasattr(target, "log"):
        return lambda metrics, step: target.log(metrics, step=step)
    if callable(target):
        return target
    raise TypeError(
        f"target must be the path of a CSV file, a callable, or have a method log, log_metrics or "
        f"add_scalar. Got {type(target).__name__}."
    )


def _add_scalars(writer, metrics, step):
    for name, value in metrics.items():
        writer.add_scalar(name, value, step)


def _append_to_csv(path, metrics, step):
    """Add a line; a file that is not such a table is refused."""
    row = {"step": step, **metrics}
    header = ",".join(_COLUMNS)
    new = not path.exists() or path.stat().st_size == 0
    if not new:
        with path.open(encoding="utf-8") as file:
            if file.readline().rstrip("\r\n") != header:
                raise ValueError(f"{path} is no table of a MetricsLogger. Give another path.")
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow(row)
