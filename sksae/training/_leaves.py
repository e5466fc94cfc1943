"""Entries whose two matrices are outside of autograd: it runs over vectors and entries alone.

The pre-activations are a leaf of the graph. What autograd leaves in their gradient, and in those
of the decoded rows, is all that the gradients of the two matrices are made of; `ActiveEntries`
makes them a block of latents at a time, `ChunkEntries` a chunk of rows at a time.
"""

import torch

from sksae.kernels import ActiveSet
from sksae.training._entries import AllEntries

MATRICES = ("components", "encoder_coef")


class _Decode(torch.autograd.Function):
    """Codes times dictionary; ``owner._decoded`` is told the gradient of the decoded rows."""

    @staticmethod
    def forward(ctx, codes, owner, frozen):
        ctx.save_for_backward(codes)
        ctx.owner, ctx.frozen = owner, frozen
        return owner._mix(codes.detach())

    @staticmethod
    def backward(ctx, grad):
        (codes,) = ctx.saved_tensors
        grad = grad.contiguous()
        if not ctx.frozen:
            ctx.owner._decoded(codes.detach(), grad)
        return ctx.owner._unmix(grad), None, None


class _LeafEntries(AllEntries):
    def __init__(self, x, w, weights, rule, *, pre_bias, search):
        self._search, self._pre_bias = search, pre_bias
        self._matrices = {name: weights[name] for name in MATRICES}
        self._vectors = {
            name: weight.detach().requires_grad_()
            for name, weight in weights.items()
            if name not in MATRICES
        }
        self._norms = self._mean_z = None
        super().__init__(x, w, {**self._matrices, **self._vectors}, rule, pre_bias=pre_bias)

    def _bias(self):
        coef = self._matrices["encoder_coef"]
        return (
            coef.new_zeros(len(coef))
            if self.rule.bias is None
            else self.weights[self.rule.bias].detach()
        )

    def decode(self, codes, *, frozen=False):
        """``codes D + intercept``; `frozen` keeps gradients from the dictionary and its bias."""
        return _Decode.apply(codes, self, frozen) + self._offset(frozen)

    def _all_norms(self):
        if self._norms is None:
            self._norms = self._matrices["components"].norm(dim=1).requires_grad_()
        return self._norms

    def norms(self):
        """Norms of the decoder rows, at the entries."""
        return self.at(self._all_norms())

    def gradient_vectors(self):
        """Gradients of the vectors by weight name, after the backward pass."""
        grads = {
            name: torch.zeros_like(v) if v.grad is None else v.grad
            for name, v in self._vectors.items()
        }
        totals = self._totals()
        if self.rule.bias is not None:
            grads[self.rule.bias] = grads[self.rule.bias] + totals
        if self._pre_bias:  # every pre-activation has seen the intercept with the opposite sign
            shared = totals if self._mean_z is None else totals + self._mean_z.grad
            grads["intercept"] = grads["intercept"] - shared @ self._matrices["encoder_coef"]
        return grads

    def _add_pull(self, grad, start, stop):
        """Add what the norms of the decoder rows ask of rows ``start : stop``."""
        if self._norms is not None and self._norms.grad is not None:
            sizes = self._norms.detach()[start:stop]
            pull = torch.where(sizes > 0, self._norms.grad[start:stop] / sizes, 0.0)
            grad += pull[:, None] * self._matrices["components"][start:stop]


class ActiveEntries(_LeafEntries):
    """The active entries alone, as vectors of length nnz.

    Parameters
    ----------
    x, w, weights, rule, pre_bias
        As for `AllEntries`.
    search : Search
        Finds them.
    """

    def __init__(self, x, w, weights, rule, *, pre_bias, search):
        self._terms, self._restricted = [], []
        super().__init__(x, w, weights, rule, pre_bias=pre_bias, search=search)

    def _encode(self):
        coef, centred = self._matrices["encoder_coef"], self.centred.detach()
        self.active, z = self._search(centred, coef, self._bias(), self.rule, self.w)
        return z.requires_grad_()

    def at(self, vector):
        """Values of a vector of shape (m,) at the entries, shape (nnz,)."""
        return vector.index_select(0, self.active.latents)

    def kept(self, values):
        """`values`: only selected entries are here."""
        return values

    def row_mean(self, values):
        """Weighted mean over rows of the sum of `values` over latents."""
        return (self.w[self.active.rows] @ values) / self.w.sum()

    def shortfall(self, threshold):
        """Weighted mean over rows of ``sum_j |D_j| relu(threshold_j - z_j)``.

        ``relu(t - z) = t - z + relu(z - t)``: the first part needs only the mean row, the second
        is zero outside of the active set.
        """
        self._mean = (self.w @ self.centred.detach()) / self.w.sum()
        self._mean_z = (self._matrices["encoder_coef"] @ self._mean).requires_grad_()
        below = threshold - (self._mean_z + self.weights[self.rule.bias])
        above = torch.relu(self.z - self.at(threshold)) * self.norms()
        return self._all_norms() @ below + self.row_mean(above)

    def rows_of(self, latents):
        """The dictionary rows of these latents, and their pre-activations (n, n_latents)."""
        rows = {name: matrix[latents].requires_grad_() for name, matrix in self._matrices.items()}
        self._restricted.append((latents, rows))
        z = self.centred @ rows["encoder_coef"].T
        if self.rule.bias is not None:
            z = z + self.weights[self.rule.bias].index_select(0, latents)
        return rows["components"], z

    def cut(self):
        """Midway between the smallest entry that a pooled rule keeps and the largest it drops."""
        dropped = self._search.cut
        return (float(self.z.min()) + dropped) / 2 if len(self.z) else dropped

    def fired(self, codes):
        """Mask of shape (m,) of the latents with a positive code."""
        fired = torch.zeros(self.active.n_latents, dtype=torch.bool, device=codes.device)
        fired[self.active.latents[codes.detach() > 0]] = True
        return fired

    def counts(self, codes):
        """Number of positive codes of every row, shape (n,)."""
        positive = (codes.detach() > 0).to(torch.int64)
        return torch.zeros_like(self.active.pointer[1:]).index_add_(0, self.active.rows, positive)

    def _mix(self, codes):
        return self.active.row_sums(codes, self._matrices["components"])

    def _unmix(self, grad):
        return self.active.dots(grad, self._matrices["components"])

    def _decoded(self, codes, grad):
        self._terms.append((codes, grad))

    def _totals(self):
        return self.active.latent_totals(self.z.grad)

    def segments(self, name):
        """The sum over entries by latent that is the gradient of `name`; None if it is more."""
        encoder = name == "encoder_coef"
        extra = self._mean_z if encoder else self._norms
        if self._restricted or extra is not None or (not encoder and len(self._terms) != 1):
            return None
        order, rows, pointer = self.active.by_latent
        values, matrix = (self.z.grad, self.centred.detach()) if encoder else self._terms[0]
        return values[order], pointer, rows, matrix

    def gradient_rows(self, name, start, stop):
        """Gradient of rows ``start : stop`` of the matrix `name`, after the backward pass."""
        encoder = name == "encoder_coef"
        terms = [(self.z.grad, self.centred.detach())] if encoder else self._terms
        order, rows, pointer = self.active.by_latent
        first, last = int(pointer[start]), int(pointer[stop])
        block = ActiveSet(pointer[start : stop + 1] - first, rows[first:last], len(self.x))
        grad, *others = (
            block.row_sums(values[order[first:last]], matrix) for values, matrix in terms
        )
        for other in others:
            grad += other
        if not encoder:
            self._add_pull(grad, start, stop)
        elif self._mean_z is not None:
            grad.addr_(self._mean_z.grad[start:stop], self._mean)
        for latents, restricted in self._restricted:
            within = ((latents >= start) & (latents < stop)).nonzero().flatten()
            grad[latents[within] - start] += restricted[name].grad[within]
        return grad


class ChunkEntries(_LeafEntries):
    """All entries of a chunk of rows, for codes that are not sparse (yet).

    Gradients of the matrices are added to the buffers `sums` during the backward pass. The other
    parameters are those of `ActiveEntries`.
    """

    def __init__(self, x, w, weights, rule, *, pre_bias, search, sums):
        self._sums = sums
        super().__init__(x, w, weights, rule, pre_bias=pre_bias, search=search)

    def _encode(self):
        coef = self._matrices["encoder_coef"]
        return self._search.product(self.centred.detach(), coef.T, self._bias()).requires_grad_()

    def _mix(self, codes):
        return self._search.product(codes, self._matrices["components"])

    def _unmix(self, grad):
        return self._search.product(grad, self._matrices["components"].T)

    def _decoded(self, codes, grad):
        self._search.add_product(self._sums["components"], codes.T, grad)

    def _totals(self):
        return self.z.grad.sum(0)

    def n_active(self):
        """Number of entries that the rule keeps."""
        return int((self.z.detach() > self.rule.bound).sum())

    def finish(self):
        """Add the encoder's gradient and the pull of the norms, after the backward pass."""
        self._search.add_product(self._sums["encoder_coef"], self.z.grad.T, self.centred.detach())
        self._add_pull(self._sums["components"], 0, len(self._sums["components"]))
