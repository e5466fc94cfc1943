"""Dead latents: the auxiliary loss, resampling and revival that bring them back.

A latent is dead once it has not fired within the dead window of a `TrainingRun`. `auxiliary_k_loss`
is a term of a loss; `Resampling` and `Revival` are events, called after every step of the run.
"""

import torch

from sksae._processes import NEGLIGIBLE, n_processes, sum_over_processes
from sksae.kernels import where_positive, where_top_k
from sksae.training._entries import row_norms, squared_norms

_NO_DIRECTION = 1e-12  # norm up to which a row has no direction
_RESAMPLING_FRACTIONS = (0.1, 0.2, 0.3, 0.4)  # of the steps of a fit
_RESAMPLING_ROWS = 8192  # among which the badly reconstructed ones are drawn
_REVIVALS = 40  # parts of a fit, with a revival after each until `last`
_REVIVAL_ROWS = 4096
_REVIVING = 2**17  # pre-activations; the auxiliary loss looks at fewer than twice as many
_SHORT = 200  # steps of a fit that leaves a revived latent no time to learn


def row_mean(values, w):
    """Weighted mean over rows, ``sum w v / sum w``."""
    return (w @ values) / w.sum()


def auxiliary_k_loss(entries, reconstruction, *, dead, k_aux):
    """Let dead latents explain what the living ones leave (AuxK, Gao et al. 2024, appendix A.2).

    The `k_aux` largest pre-activations among the dead latents decode, without bias, an estimate of
    the detached residual ``e``; the loss is its squared error over the variance of ``e``, so that
    it is 1 for latents that explain nothing.

    Where dead latents have 2^18 pre-activations or more in the batch, the squared error is
    estimated on every second row, every third and so on, so that these are fewer.

    Parameters
    ----------
    entries : AllEntries or ActiveEntries
    reconstruction : Tensor of shape (n, d)
    dead : Tensor of bool of shape (m,)
    k_aux : int
        Upper bound; at most all dead latents are used.

    Returns
    -------
    loss : Tensor, scalar
        0 without dead latents.
    """
    latents = dead.nonzero().flatten()
    if len(latents) == 0:
        return reconstruction.new_zeros(())
    residual = (entries.x - reconstruction).detach()
    step = _step(len(residual), len(latents))
    components, z = entries.rows_of(latents, step)
    error = _strongest(z, k_aux) @ components - residual[::step]
    return row_mean(error.square().sum(1), entries.w[::step]) / _spread(residual, entries)


def auxiliary_k_backward(entries, error, *, dead, k_aux, factor):
    """Hand `factor` times the gradients of `auxiliary_k_loss` to the entries.

    Parameters
    ----------
    entries : DenseEntries or ActiveEntries
    error : Tensor of shape (n, d)
        Reconstructions less their rows.
    dead : Tensor of bool of shape (m,)
    k_aux : int
    factor : float or Tensor, scalar

    Returns
    -------
    loss : Tensor, scalar, or float
        `factor` times the loss.
    """
    latents = dead.nonzero().flatten()
    if len(latents) == 0:
        return 0.0
    step = _step(len(error), len(latents))
    components, z = entries.rows_of(latents, step)
    # The gradient of  factor / spread * sum_i w_i |error_i|^2 / sum w  with respect to its parts.
    factor = factor / _spread(error, entries)
    codes = _strongest(z, k_aux)
    # The residual is the error with the opposite sign.
    share = entries.share[::step]
    error = torch.addmm(error[::step], codes, components)
    loss, pull = squared_norms(error, factor * share / share.sum())
    z = where_positive(codes, pull @ components.T)
    entries.rows_backward(latents, codes.T @ pull, z, step)
    return loss


def _step(n_rows, n_latents):
    """Distance of the rows on which the auxiliary loss is estimated; 1 takes all."""
    return max(1, min(n_rows, n_rows * n_latents // _REVIVING))


def _strongest(z, k_aux):
    """Codes of the `k_aux` largest pre-activations of every row, all of them dead latents'."""
    return where_top_k(z, k_aux, torch.relu(z))


def total_variance(x, entries):
    """Weighted total variance of rows `x` of a batch, those in other processes included."""
    share = entries.share
    if n_processes() > 1:
        # A row that stands for none has no share.
        w = torch.where(entries.w > NEGLIGIBLE, entries.w, 0.0)
        share = w / sum_over_processes(w.sum())
    mean = sum_over_processes(share @ x)
    return sum_over_processes(share @ (x - mean).square().sum(1))


def _spread(residual, entries):
    spread = total_variance(residual, entries)
    # A residual without variance (one row, say) has nothing to explain: infinity makes that 0.
    return torch.where(spread > 0, spread, torch.inf)


def resample(weights, moments, dead, directions, inputs=None, *, blocks=()):
    """Point dead latents at badly reconstructed rows, in place.

    The decoder row becomes the unit direction, the encoder row that of the inputs at a fifth of
    the mean norm of the living encoder rows, the encoder's bias zero; the optimiser forgets all of
    these entries, or its momentum would drag them back.

    Parameters
    ----------
    weights : dict of Tensor
    moments : dict of list of Tensor
        The optimiser's running moments by weight name, empty before the first step.
    dead : Tensor of int of shape (n_dead,)
        Latents to replace.
    directions : Tensor of shape (n_dead, d)
        Centred rows in the internal unit; a latent that is given a zero is left as it was.
    inputs : Tensor of shape (n_dead, d_in), default=None
        Where the decoder's rows are directions of other activations than the encoder's, those of
        the encoder.
    blocks : tuple of int, default=()
        Widths of the blocks over which norms of the decoder's rows are summed.
    """
    inputs = directions if inputs is None else inputs
    # A row without direction would be divided by its norm, about 0.
    has_direction = torch.minimum(directions.norm(dim=1), inputs.norm(dim=1)) > _NO_DIRECTION
    norm = alive_norm(weights["encoder_coef"], dead)
    dead = dead[has_direction]
    with torch.no_grad():
        rows, inputs = directions[has_direction], inputs[has_direction]
        weights["components"][dead] = rows / row_norms(rows, blocks)[:, None]
        weights["encoder_coef"][dead] = 0.2 * norm * inputs / row_norms(inputs)[:, None]
        weights["encoder_intercept"][dead] = 0
        for name in ("components", "encoder_coef", "encoder_intercept"):
            for moment in moments.get(name, ()):
                moment[dead] = 0


def draw_rows(losses, w, n_rows, generator):
    """Draw rows in proportion to their weighted squared loss, without repetition if that can be.

    Parameters
    ----------
    losses, w : Tensor of shape (n,)
        Loss and weight of each row.
    n_rows : int
    generator : torch.Generator

    Returns
    -------
    rows : Tensor of int of shape (n_rows,), on the CPU
    """
    chances = (w * losses.square()).cpu().double()
    if not bool(chances.any()):
        chances = w.cpu().double()
    # Without repetition there must be as many rows that can be drawn.
    enough = int((chances > 0).sum()) >= n_rows
    return torch.multinomial(chances, n_rows, replacement=not enough, generator=generator)


def alive_norm(encoder_coef, dead):
    """Mean norm of the encoder rows of the latents that are not `dead`; 1 if there are none."""
    norms = encoder_coef.detach().norm(dim=1)
    alive = torch.ones_like(norms, dtype=torch.bool)
    alive[dead] = False
    return float(norms[alive].mean()) if bool(alive.any()) else 1.0


class Resampling:
    """Event that points dead latents at badly reconstructed rows (Bricken et al. 2023).

    It acts at 10, 20, 30 and 40 % of the steps. Rows are drawn in proportion to their squared loss,
    which is that of an L1 penalty.

    Parameters
    ----------
    rows : Batches
    n_steps : int
        Steps of the whole fit.
    generator : torch.Generator
    """

    def __init__(self, rows, n_steps, generator):
        self.rows, self.generator = rows, generator
        self.steps = {round(fraction * n_steps) for fraction in _RESAMPLING_FRACTIONS}

    def __call__(self, run):
        """Act after a step of `run`, if it is time and there are dead latents."""
        dead = run.dead().nonzero().flatten() if run.n_steps in self.steps else ()
        if len(dead) == 0:
            return
        rows = self.rows
        x, w = rows.take(
            torch.randperm(rows.n_samples, generator=self.generator)[:_RESAMPLING_ROWS]
        )
        alpha, _ = run.schedule(run.n_steps)
        entries, codes = run.engine.coded(x, w, run.weights)
        residual = entries.decode(codes) - entries.x
        losses = residual.square().sum(1) + alpha * entries.per_row(codes)
        drawn = draw_rows(losses, w, len(dead), self.generator).to(x.device)
        directions = entries.x[drawn] - run.weights["intercept"]
        inputs = None if rows.inputs == rows.targets else entries.centred[drawn]
        resample(run.weights, run.moments, dead, directions, inputs, blocks=run.blocks)
        run.since_fired[dead] = 0


class Revival:
    """Event that starts dead latents anew after every fortieth of a fit, in its first 60 %.

    Each gets the direction of a residual, of a row drawn in proportion to its squared loss, and
    half the median threshold, so that it fires again. Short fits have no time for it.

    Parameters
    ----------
    rows : Batches
    n_steps : int
        Steps of the whole fit.
    generator : torch.Generator
    threshold : str
        Name of the weight that holds the thresholds.
    """

    def __init__(self, rows, n_steps, generator, *, threshold):
        self.rows, self.generator, self.threshold = rows, generator, threshold
        self.interval = max(1, n_steps // _REVIVALS)
        self.last = 0.6 * n_steps if n_steps >= _SHORT else 0

    def __call__(self, run):
        """Act after a step of `run`, if it is time and there are dead latents."""
        if run.n_steps >= self.last or run.n_steps % self.interval:
            return
        dead = run.dead().nonzero().flatten()
        if len(dead):
            self._revive(run, dead)

    @torch.no_grad()
    def _revive(self, run, dead):
        rows = self.rows
        x, w = rows.take(torch.randperm(rows.n_samples, generator=self.generator)[:_REVIVAL_ROWS])
        entries, codes = run.engine.coded(x, w, run.weights)
        residual = entries.x - entries.decode(codes)
        drawn = draw_rows(residual.square().sum(1), w, len(dead), self.generator).to(x.device)
        inputs = None if rows.inputs == rows.targets else entries.centred[drawn]
        resample(run.weights, run.moments, dead, residual[drawn], inputs, blocks=run.blocks)
        threshold = run.weights[self.threshold]
        threshold[dead] = 0.5 * threshold.median()
        for moment in run.moments[self.threshold]:
            moment[dead] = 0
        run.since_fired[dead] = 0
