"""Loss and gradients of a batch, by the cheapest form of its entries that is exact."""

from functools import partial
from typing import NamedTuple

import torch

from sksae._arrays import rows_per_chunk
from sksae._processes import NEGLIGIBLE, n_processes, sum_over_processes
from sksae.kernels import Search, compiled_for, runs_on
from sksae.training._active_entries import ActiveEntries, ChunkEntries
from sksae.training._entries import MATRICES, AllEntries, DenseEntries

# Shares of active entries above which dense products are faster than sparse ones: exact, and with
# products in bfloat16.
_DENSE = 0.15
_DENSE_HALVED = 0.06
# Entries of a batch, and multiplications of its product with the encoder, up to which to find the
# active entries costs more than it saves; the latter also where loops are compiled for it.
_SMALL, _SMALL_PRODUCT, _SMALL_COMPILED = 2**17, 2**24, 2**26


class Gradient(NamedTuple):
    """Loss and gradients of a batch.

    Parameters
    ----------
    loss : Tensor, scalar
    fired : Tensor of bool of shape (m,)
        Latents with a code other than 0.
    vectors : dict of Tensor
        Gradients by weight name, of all weights but the two matrices.
    rows : callable
        ``rows(name, start, stop)``: gradient of these rows of a matrix.
    segments : callable
        ``segments(name)``: the gradient of a matrix as a sum over active entries, or None.
    n_rows : Tensor of int, scalar
        Rows of the batch in all processes; None where there is one process.
    """

    loss: torch.Tensor
    fired: torch.Tensor
    vectors: dict
    rows: object
    segments: object = lambda name: None
    n_rows: torch.Tensor | None = None


class Engine:
    """Gradients of one objective, batch after batch.

    Parameters
    ----------
    objective : Objective
        Its ``rule(weights)``, ``loss(entries, alpha, dead)``, ``pre_bias``, ``linear_maps`` and
        ``blocks``.
    precision : {"auto", "float32", "float64", "bfloat16"}, default="auto"
        "bfloat16" if products may be left in it where that is faster; otherwise values are exact.
    plain : bool, default=False
        Whether to compute by the definition, on the CPU too.

    Attributes
    ----------
    density : float
        Share of the entries that were active in the last batch.
    """

    def __init__(self, objective, *, precision="auto", plain=False):
        self.objective, self.plain, self.density = objective, plain, 1.0
        self._search = Search(exact=precision != "bfloat16")
        self._options = {
            "pre_bias": objective.pre_bias,
            "linear_maps": objective.linear_maps,
            "blocks": objective.widths_of_blocks,
        }

    def gradient(self, x, w, weights, alpha, dead):
        """Return the `Gradient` of rows `x` of weight `w`, and of those of other processes."""
        if n_processes() == 1:
            return self._own_gradient(x, w, weights, alpha, dead)
        # Of processes that have rows of the batch, and of those that have none of it.
        return self._summed(self._own_gradient(x, w, weights, alpha, dead), w)

    def _own_gradient(self, x, w, weights, alpha, dead):
        """Return the `Gradient` of the rows of this process."""
        args = x, w, weights, alpha, dead
        if self.plain or not runs_on(x.device):
            return self._plain(*args)
        rule = self.objective.rule(weights)
        # Processes have unequal numbers of rows, and a pooled rule has them take the same steps.
        if self._is_small(x, len(dead)) and n_processes() == 1:
            return self._small(*args, rule)
        # Top-k rules are sparse from the start; most entries may lie above a bound for a while.
        if rule.k is None and self.density > self._limit():
            return self._chunked(*args, rule)
        return self._active(*args, rule)

    def _is_small(self, x, n_latents):
        n_entries, on_cpu = len(x) * n_latents, x.device.type == "cpu"
        has_loops = self.objective.has_loops and compiled_for(x)
        product = _SMALL_COMPILED if has_loops else _SMALL_PRODUCT
        return on_cpu and n_entries <= _SMALL and n_entries * x.shape[1] <= product

    @torch.no_grad()
    def entries(self, x, w, weights):
        """Return the entries of rows outside of training: for measures, not for gradients."""
        rule = self.objective.rule(weights)
        if self.plain or not runs_on(x.device):
            return AllEntries(x, w, weights, rule, **self._options)
        return ActiveEntries(x, w, weights, rule, search=self._search, **self._options)

    @torch.no_grad()
    def coded(self, x, w, weights):
        """Return the entries of rows and their codes."""
        entries = self.entries(x, w, weights)
        # Codes depend neither on the penalty, which is 0 here, nor on which latents are dead.
        dead = torch.zeros(len(weights["components"]), dtype=torch.bool, device=x.device)
        return entries, self.objective.loss(entries, 0.0, dead)[1]

    def _limit(self):
        return _DENSE if self._search.exact else _DENSE_HALVED

    def _plain(self, x, w, weights, alpha, dead):
        """The whole batch under plain autograd."""
        # Leaves of this call, so that no gradient is left on the weights of the run.
        weights = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
        entries = AllEntries(x, w, weights, self.objective.rule(weights), **self._options)
        loss, codes = self.objective.loss(entries, alpha, dead)
        loss.backward()
        grads = {name: weight.grad for name, weight in weights.items()}
        return self._whole(loss.detach(), entries.fired(codes), grads, weights)

    @staticmethod
    def _whole(loss, fired, grads, weights):
        """Return a `Gradient` of whole matrices; weights that have none get zeros."""
        grads = {
            name: torch.zeros_like(weight) if grads.get(name) is None else grads[name]
            for name, weight in weights.items()
        }
        vectors = {name: grad for name, grad in grads.items() if name not in MATRICES}
        return Gradient(loss, fired, vectors, partial(_rows_of, grads))

    def _small(self, x, w, weights, alpha, dead, rule):
        """The whole batch without autograd, where the objective knows its gradients."""
        if not self.objective.knows_gradients:
            return self._plain(x, w, weights, alpha, dead)
        entries = DenseEntries(x, w, weights, rule, **self._options)
        if compiled := self.objective.compiled_backward(entries, dead):
            loss, gradients, fired = compiled
            return self._whole(loss, fired, gradients, weights)
        loss, codes = self.objective.backward(entries, alpha, dead)
        return self._whole(loss, entries.fired(codes), entries.gradients, weights)

    def _active(self, x, w, weights, alpha, dead, rule):
        """The active entries of the whole batch."""
        entries = ActiveEntries(x, w, weights, rule, search=self._search, **self._options)
        loss, codes = self.objective.backward(entries, alpha, dead)
        with torch.no_grad():
            self.density = len(entries.active) / (len(x) * len(dead))
            vectors, fired = entries.gradient_vectors(), entries.fired(codes)
        # The matrices' gradients are computed on demand, for a block of latents or not at all.
        rows, segments = map(torch.no_grad(), (entries.gradient_rows, entries.segments))
        return Gradient(loss, fired, vectors, rows, segments)

    def _chunked(self, x, w, weights, alpha, dead, rule):
        """Add up chunks of rows: the objectives of rules with a bound are means over rows."""
        sums = self._cleared(weights)
        options = {"search": self._search, "sums": sums, **self._options}
        loss, fired, vectors, n_active = 0.0, torch.zeros_like(dead), {}, 0
        size = rows_per_chunk(4 * len(dead))  # several such tensors are alive at once
        for x_part, w_part in zip(x.split(size), w.split(size), strict=True):
            entries = ChunkEntries(x_part, w_part, weights, rule, **options)
            part, codes = self.objective.loss(entries, alpha, dead)
            # The loss of a chunk is a mean over its rows: it counts by its share of the weight.
            part = part * (w_part.sum() / w.sum())
            part.backward()
            with torch.no_grad():
                entries.finish()
                loss = loss + part.detach()
                fired |= entries.fired(codes)
                n_active += entries.n_active()
                for name, grad in entries.gradient_vectors().items():
                    vectors[name] = vectors[name] + grad if name in vectors else grad
        # It decides the form of the next batch.
        self.density = n_active / (len(x) * len(dead))
        return Gradient(loss, fired, vectors, partial(_rows_of, sums))

    def _summed(self, own, w):
        """Return the gradient of the rows of all processes: each has the mean over its own."""
        weight, n_rows = w.sum(), (w > NEGLIGIBLE).sum()
        numbers = torch.stack([own.loss * weight, weight, n_rows, self.density * n_rows])
        vectors = [(grad * weight).flatten() for grad in own.vectors.values()]
        fired = (own.fired & (n_rows > 0)).to(weight.dtype)
        sizes = [len(numbers), len(fired), *(len(vector) for vector in vectors)]
        numbers, fired, *vectors = sum_over_processes(torch.cat([numbers, fired, *vectors])).split(
            sizes
        )
        loss, total, n_rows, n_dense = numbers
        # The same everywhere, so that all processes choose the same form of the next batch.
        self.density = float(n_dense / n_rows)
        matrices = {
            name: sum_over_processes(own.rows(name, 0, len(fired)).mul_(weight)).div_(total)
            for name in MATRICES
        }
        pairs = zip(own.vectors.items(), vectors, strict=True)
        return Gradient(
            loss / total,
            fired > 0,
            {name: (vector / total).view_as(grad) for (name, grad), vector in pairs},
            partial(_rows_of, matrices),
            n_rows=n_rows.long(),
        )

    def _cleared(self, weights):
        """Zeros like the two matrices, in memory that is used again."""
        like = {name: weights[name] for name in MATRICES}
        return {
            name: self._search.buffer(name, w.shape, w.dtype, w.device).zero_()
            for name, w in like.items()
        }


def _rows_of(matrices, name, start, stop):
    return matrices[name][start:stop]
