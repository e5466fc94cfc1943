"""`Checkpoint`: the state of a fit in a file, from which a fit that was killed goes on."""

import json
import math
import time
from numbers import Real

import numpy as np
import torch
from safetensors import safe_open

from sksae._callbacks import GivenTheFit
from sksae._files import as_path, damage_named, digest_of, regular, write_safetensors
from sksae._processes import from_first, is_first, n_processes

_HEADER, _VERSION = "sksae_checkpoint", 1
_COMPARED_ROWS = 256
# Parameters that change nothing in the weights.
_WITHOUT_EFFECT = {"verbose", "sparse_output"}
_DIGESTS = {"rows", "initial weights"}


class Checkpoint(GivenTheFit):
    """Callback that keeps the state of a fit in a file, from which a killed fit goes on.

    Give it to `set_callbacks` and call `fit`. If the process dies, do the same again: the fit
    continues at the last state that was written and ends in the same bits as one that was never
    interrupted. The state is also written at the last step, so that nothing is lost between the end
    of the fit and whatever keeps the estimator. Delete the file once that is done: another fit
    refuses it.

    Parameters
    ----------
    path : str or Path
        The file. It is replaced as a whole, so that it is never half written.
    interval : float, default=600
        Seconds between two writings. The file is three times as large as the weights.

    See Also
    --------
    sksae.TopKSAE.partial_fit : Training in pieces whose end is not known.
    sksae.TopKSAE.save : Writes a fitted estimator.

    Notes
    -----
    Weights, the moments of the optimiser, generators of random numbers, the place in the pass, the
    curves and the state of early stopping and of the steering to `target_l0` are kept as arrays and
    JSON; nothing is unpickled. A state belongs to a class, its parameters, the initial weights and
    a sample of the rows; where one of them differs, it is refused. With ``random_state=None`` the
    seed is kept as well.

    Of several processes that fit together each has this callback. The first one writes the file,
    and all of them read it. The fit goes on with as many processes.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from sksae import TopKSAE
    >>> from sksae.callbacks import Checkpoint
    >>> from sksae.datasets import make_superposition
    >>> X, _, _ = make_superposition(500, 8, 16, random_state=0)
    >>> sae = TopKSAE(16, k=2, max_iter=5, random_state=0)
    >>> with TemporaryDirectory() as folder:
    ...     checkpoint = Checkpoint(Path(folder) / "fit.checkpoint", interval=0)
    ...     n_steps = sae.set_callbacks(checkpoint).fit(X).n_steps_
    ...     checkpoint.path.stat().st_size > 0
    True
    """

    def __init__(self, path, *, interval=600.0):
        self.path, self.interval = as_path(path), interval
        if not (isinstance(interval, Real) and interval >= 0):
            raise ValueError(f"interval must be a number of seconds, at least 0. Got {interval!r}.")
        self._last = -math.inf

    # What a fit calls --------------------------------------------------------------------------

    @classmethod
    def of(cls, estimator):
        """Return the `Checkpoint` among the callbacks of an estimator, None if there is none."""
        checkpoints = [c for c in getattr(estimator, "_skl_callbacks", []) if isinstance(c, cls)]
        if len(checkpoints) > 1:
            raise ValueError("A fit has one Checkpoint at most. Remove the others from callbacks.")
        return checkpoints[0] if checkpoints else None

    def seed(self):
        """Return the seed of the fit in the file.

        Returns
        -------
        seed : int or None
            None if there is no file.
        """
        return self._read_header()["seed"] if from_first(self.path.exists) else None

    def watch(self, fit, stopping):
        """Continue `fit` where the file ends, if there is one, and write its state from now on.

        Parameters
        ----------
        fit : sksae.autoencoders.Fit
            A fit that has made no step yet.
        stopping : Stopping
            Its rule of early stopping.
        """
        identity = _identity(fit)
        if from_first(self.path.exists):
            header = self._read_header()
            self._check_identity(header["identity"], identity)
            arrays = self._read_arrays(header)
            with damage_named(self.path, "is damaged"):
                _restore(fit, stopping, header["state"], arrays)
        self._last = time.monotonic()

        def after_step(run):
            ended = run.n_steps == fit.n_steps  # after the last step whatever the interval
            due = ended or time.monotonic() - self._last >= self.interval
            if due and is_first():
                self._write(fit, stopping, identity)

        fit.run.after_step.append(after_step)

    # The file ----------------------------------------------------------------------------------

    def _write(self, fit, stopping, identity):
        state, arrays = _state(fit, stopping)
        header = {"version": _VERSION, "seed": fit.seed, "identity": identity, "state": state}
        header["digest"] = digest_of(header, arrays)
        write_safetensors(self.path, arrays, {_HEADER: json.dumps(header)})
        self._last = time.monotonic()

    def _read_header(self):
        with damage_named(self.path), safe_open(regular(self.path), "numpy") as file:
            text = (file.metadata() or {}).get(_HEADER)
            if text is None:
                raise ValueError("it is not a checkpoint of a fit")
            header = json.loads(text)
            if header["version"] != _VERSION:
                raise ValueError(f"it was written by another version ({header['version']})")
            return header

    def _read_arrays(self, header):
        """Return the arrays, if they and the header have the digest that the header says."""
        with damage_named(self.path, "is damaged"), safe_open(self.path, "numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - a file is no dict
            rest = {name: value for name, value in header.items() if name != "digest"}
            if header["digest"] != digest_of(rest, arrays):
                raise ValueError("its numbers are not those that were written")
        return arrays

    def _check_identity(self, written, identity):
        """Refuse the state of another fit, and say what differs."""
        names = sorted({*written, *identity})
        different = [name for name in names if written.get(name) != identity.get(name)]
        if different:
            values = [
                f"{name} is {identity.get(name)} here and {written.get(name)} there"
                for name in different
                if name not in _DIGESTS
            ]
            raise ValueError(
                f"{self.path} is the checkpoint of another fit, with other {', '.join(different)}"
                f"{f' ({values[0]})' if values else ''}. Delete the file, or give another path."
            )


def _identity(fit):
    """Return the facts that identify a fit, as JSON values by name."""
    parameters = {
        name: repr(value)
        for name, value in fit.estimator.get_params().items()
        if name.rpartition("__")[2] not in _WITHOUT_EFFECT and not hasattr(value, "get_params")
    }
    for name in parameters:
        if name.endswith("random_state"):  # an instance has no value of its own; the seed has
            parameters[name] = fit.seed
    sample = fit.rows.thinned(_COMPARED_ROWS)  # some rows stand for all of them
    x, w = sample.take(torch.arange(sample.n_samples))
    # Sums over other processes differ by rounding: a fit goes on with as many.
    processes = {} if n_processes() == 1 else {"number of processes": n_processes()}
    weights = {name: weight.cpu().numpy() for name, weight in fit.run.weights.items()}
    return {
        "class": type(fit.estimator).__name__,
        **parameters,
        **processes,
        "number of rows": fit.rows.n_samples,
        "rows": digest_of(None, {"x": x.cpu().numpy(), "w": w.cpu().numpy()}),
        "initial weights": digest_of(None, weights),
    }


def _state(fit, stopping):
    """Everything that the next step depends on, as JSON and as arrays by name."""
    run, rows = fit.run, fit.rows
    run_state = run.state()
    arrays = {f"weights/{name}": array for name, array in run_state["weights"].items()}
    for name, moments in run_state["moments"].items():
        arrays.update({f"moments/{name}/{i}": moment for i, moment in enumerate(moments)})
    best = stopping.best_weights or {}
    arrays.update({f"best/{name}": weight.cpu().numpy() for name, weight in best.items()})
    arrays["since_fired"] = run_state["since_fired"]
    # Running sums of the losses of the pass.
    arrays["sums"] = np.stack([total.cpu().numpy() for total in run.sums])
    # Of the generator at the start of the pass, and where it stands now.
    before, now = rows.generator_states()
    arrays.update({"generator/before": before.numpy(), "generator/now": now.numpy()})
    controller = run.schedule.controller
    state = {
        "n_steps": run_state["n_steps"],
        "density": run_state["density"],
        "position": rows.position,
        "losses": fit.losses,
        "scores": fit.scores,
        "stopping": stopping.state(),
        "factor": None if controller is None else controller.factor,
    }
    return state, arrays


def _restore(fit, stopping, state, arrays):
    """Continue from what `_state` returned."""
    run = fit.run

    def part(prefix):
        return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}

    for name, array in part("weights/").items():
        run.weights[name].copy_(torch.from_numpy(array))
    moments = part("moments/")
    names = {name.rpartition("/")[0] for name in moments}
    run.restore(
        {
            # First and second moment of Adam.
            "moments": {name: [moments[f"{name}/{i}"] for i in range(2)] for name in names},
            "since_fired": arrays["since_fired"],
            "n_steps": state["n_steps"],
            "density": state["density"],
        }
    )
    run.sums = torch.from_numpy(arrays["sums"]).to(fit.rows.device).unbind()
    states = [torch.from_numpy(arrays[f"generator/{when}"]) for when in ("before", "now")]
    fit.rows.resume(state["position"], *states)
    fit.losses, fit.scores = state["losses"], state["scores"]
    best = {name: torch.from_numpy(a).to(run.weights[name]) for name, a in part("best/").items()}
    stopping.restore(state["stopping"], best or None)
    if run.schedule.controller is not None:
        run.schedule.controller.factor = state["factor"]
