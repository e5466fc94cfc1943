"""Entries without the products that are zero: active ones alone, or all of a chunk of rows.

The encoder and the dictionary are outside of autograd, which runs over vectors and entries alone.
The pre-activations are a leaf of its graph. What autograd leaves in their gradient, and in those of
the decoded rows, is all that the gradients of the two matrices are made of; `ActiveEntries`
computes them per block of latents, `ChunkEntries` per chunk of rows.
"""

import torch

from sksae.kernels import ActiveSet, compiled_for
from sksae.training._entries import (
    MATRICES,
    AllEntries,
    midway,
    norm_gradients,
    offset_backward,
    row_norms,
)


class _Decode(torch.autograd.Function):
    """Codes times dictionary; ``owner._decoded`` receives the gradient of the decoded rows."""

    @staticmethod
    def forward(ctx, codes, owner, frozen):
        ctx.save_for_backward(codes)
        ctx.owner, ctx.frozen = owner, frozen
        return owner._mix(codes.detach())

    @staticmethod
    def backward(ctx, grad):
        (codes,) = ctx.saved_tensors
        grad = grad.contiguous()
        # For R = C D: the gradient of D is C^T G, which the owner adds up; that of C is G D^T.
        if not ctx.frozen:
            ctx.owner.take_decoded(codes.detach(), grad)
        return ctx.owner._unmix(grad), None, None


class _LeafEntries(AllEntries):
    """Entries of which autograd sees the vectors, the pre-activations and the codes alone."""

    def __init__(self, x, w, weights, rule, *, pre_bias, search, **options):
        self._search, self._pre_bias = search, pre_bias
        # Pairs (codes, gradient of the decoded rows), one per call of `decode`.
        self._terms = []
        self._matrices = {name: weights[name] for name in MATRICES}
        self._vectors = {
            name: weight.detach().requires_grad_()
            for name, weight in weights.items()
            if name not in MATRICES
        }
        # Leaves for the norms of the dictionary's rows and for the mean pre-activations, made when
        # an objective asks for them.
        self._norms = self._mean_z = None
        super().__init__(
            x,
            w,
            {**self._matrices, **self._vectors},
            rule,
            pre_bias=pre_bias,
            **options,
        )

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
            norms = row_norms(self._matrices["components"], self._blocks)
            self._norms = norms.requires_grad_()
        return self._norms

    def norms(self):
        """Norms of the decoder rows, at the entries."""
        return self.at(self._all_norms())

    def decode_backward(self, codes, grad, *, frozen=False):
        """Take the gradient of ``decode(codes, frozen=frozen)``; return that of the codes."""
        if not frozen:
            self.take_decoded(codes, grad)
            offset_backward(self, grad)
        return self._unmix(grad)

    def take_decoded(self, codes, grad):
        """Take the gradient of decoded rows, for that of the dictionary alone."""
        self._terms.append((codes, grad))

    def norms_backward(self, grad):
        """Take the gradient of ``norms()``, per entry."""
        self._norms.grad = self.per_latent(grad)

    def vector_backward(self, name, grad):
        """Take the gradient of ``at(weights[name])``, per entry."""
        self._add(name, self.per_latent(grad))

    def encode_backward(self, z):
        """Take the gradient of the pre-activations."""
        self.z.grad = z

    def _add(self, name, grad):
        vector = self._vectors[name]
        vector.grad = grad if vector.grad is None else vector.grad + grad

    def gradient_vectors(self):
        """Gradients of the vectors by weight name, after the backward pass."""
        grads = {
            name: torch.zeros_like(v) if v.grad is None else v.grad
            for name, v in self._vectors.items()
        }
        totals = self.per_latent(self.z.grad)
        if self.rule.bias is not None:
            grads[self.rule.bias] = grads[self.rule.bias] + totals
        # Pre-activations are (x - intercept) E^T + b: the intercept receives their gradient through
        # the encoder, with the opposite sign.
        if self._pre_bias:
            shared = totals if self._mean_z is None else totals + self._mean_z.grad
            grads["intercept"] = grads["intercept"] - shared @ self._matrices["encoder_coef"]
        return grads

    def _add_pull(self, grad, start, stop):
        """Add the gradient that reaches rows ``start : stop`` of the dictionary by their norms."""
        if self._norms is not None and self._norms.grad is not None:
            gradients = norm_gradients(self._matrices["components"][start:stop], self._blocks)
            grad.addcmul_(self._norms.grad[start:stop, None], gradients)


class ActiveEntries(_LeafEntries):
    """The active entries alone, as vectors of length nnz.

    Parameters
    ----------
    x, w, weights, rule, pre_bias, linear_maps, blocks
        As for `AllEntries`.
    search : Search
        The search for them.
    """

    def __init__(self, x, w, weights, rule, **options):
        # Pairs (latents, rows of both matrices), one per call of `rows_of`.
        self._restricted = []
        super().__init__(x, w, weights, rule, **options)

    def _encode(self):
        coef, centred = self._matrices["encoder_coef"], self.centred.detach()
        # A leaf: all that the encoder's gradient needs is what autograd leaves on it.
        self.active, z = self._search(centred, coef, self._bias(), self.rule, self.w)
        return z.requires_grad_()

    def at(self, vector):
        """Values of a vector of shape (m,) at the entries, shape (nnz,)."""
        return vector.index_select(0, self.active.latents)

    def of_rows(self, vector):
        """Values of a vector of shape (n,) at the entries, shape (nnz,)."""
        return vector.index_select(0, self.active.rows)

    def kept(self, values):
        """`values` unchanged: only selected entries are here."""
        return values

    def shortfall(self, threshold):
        """Weighted mean over rows of ``sum_j |D_j| relu(threshold_j - z_j)``.

        ``relu(t - z) = t - z + relu(z - t)``: the first part needs only the mean row, the second
        is zero outside of the active set.
        """
        # The mean of t - z over rows is t - (mean row) E^T - b.
        self._mean = self.share @ self.centred.detach()
        self._mean_z = (self._matrices["encoder_coef"] @ self._mean).requires_grad_()
        below = threshold - (self._mean_z + self.weights[self.rule.bias])
        above = torch.relu(self.z - self.at(threshold)) * self.norms()
        return self._all_norms() @ below + self.row_mean(above)

    def rows_of(self, latents, step=1):
        """The dictionary rows of these latents, and their pre-activations in every step-th row."""
        # Latents that may have no active entry: a dense product with their rows alone.
        rows = {name: matrix[latents].requires_grad_() for name, matrix in self._matrices.items()}
        self._restricted.append((latents, rows))
        z = self.centred[::step] @ rows["encoder_coef"].T
        if self.rule.bias is not None:
            z = z + self.weights[self.rule.bias].index_select(0, latents)
        return rows["components"], z

    def rows_backward(self, latents, components, z, step=1):
        """Take the gradients of what ``rows_of(latents, step)`` returned."""
        _, rows = self._restricted[-1]
        totals = z.sum(0)
        rows["components"].grad, rows["encoder_coef"].grad = components, z.T @ self.centred[::step]
        if self.rule.bias is not None:
            bias = self.weights[self.rule.bias]
            self._add(self.rule.bias, torch.zeros_like(bias).index_add_(0, latents, totals))
        if self._pre_bias:
            self._add("intercept", -(totals @ rows["encoder_coef"]))

    def squared_error(self, codes, *, frozen=False):
        """Decode, and take the gradients of the mean squared error."""
        loops = None if self.linear_maps else compiled_for(codes)
        if loops is None:
            return super().squared_error(codes, frozen=frozen)
        active, offset = self.active, self.weights["intercept"].detach()
        error, pulls, scaled, losses = loops.error_and_pulls(
            codes,
            active.latents,
            active.pointer,
            self._matrices["components"],
            offset=offset,
            x=self.x,
            share=self.share,
        )
        if not frozen:
            self.take_decoded(scaled, error)
            self._add("intercept", (2 * self.share) @ error)
        return losses.sum(), error, pulls

    def cut(self):
        """Midway between the smallest entry that a pooled rule keeps and the largest it drops."""
        return midway(self._search.cut, self.z, self.of_rows(self.w))

    def per_row(self, values):
        """Sum of `values` over the latents of every row, shape (n,)."""
        return values.new_zeros(len(self.x)).index_add_(0, self.active.rows, values)

    def _mix(self, codes):
        return self.active.row_sums(codes, self._matrices["components"])

    def _unmix(self, grad):
        return self.active.dots(grad, self._matrices["components"])

    def per_latent(self, values):
        """Sum of `values` over the rows of every latent, shape (m,)."""
        return self.active.latent_totals(values)

    def segments(self, name):
        """The gradient of `name` as one sum over entries by latent; None if it has other terms."""
        encoder = name == "encoder_coef"
        extra = self._mean_z if encoder else self._norms
        if self._restricted or extra is not None or (not encoder and len(self._terms) != 1):
            return None
        order, rows, pointer = self.active.by_latent
        # Row j of the encoder's gradient is the sum of dz x over the entries of latent j; of the
        # dictionary's, the sum of codes times the gradient of the decoded rows.
        values, matrix = (self.z.grad, self.centred.detach()) if encoder else self._terms[0]
        return values[order], pointer, rows, matrix

    def gradient_rows(self, name, start, stop):
        """Gradient of rows ``start : stop`` of the matrix `name`, after the backward pass."""
        encoder = name == "encoder_coef"
        terms = [(self.z.grad, self.centred.detach())] if encoder else self._terms
        # Entries in the order of their latents; those of latents start : stop are first : last.
        order, rows, pointer = self.active.by_latent
        first, last = int(pointer[start]), int(pointer[stop])
        # Transposed: rows of this set are latents start : stop, its columns are rows of the batch.
        block = ActiveSet(pointer[start : stop + 1] - first, rows[first:last], len(self.x))
        order = order[first:last]
        grad, *further_terms = (
            block.row_sums(values.index_select(0, order), matrix) for values, matrix in terms
        )
        for term in further_terms:
            grad += term
        if not encoder:
            self._add_pull(grad, start, stop)
        elif self._mean_z is not None:  # one outer product for the mean row
            grad.addr_(self._mean_z.grad[start:stop], self._mean)
        # Rows of dead latents have a gradient of their own, from the auxiliary loss.
        for latents, restricted in self._restricted:
            within = ((latents >= start) & (latents < stop)).nonzero().flatten()
            grad[latents[within] - start] += restricted[name].grad[within]
        return grad


class ChunkEntries(_LeafEntries):
    """All entries of a chunk of rows, for codes that are still dense.

    Gradients of the matrices are added to the buffers `sums` during the backward pass. The other
    parameters are those of `ActiveEntries`.
    """

    def __init__(self, x, w, weights, rule, *, sums, **options):
        self._sums = sums
        super().__init__(x, w, weights, rule, **options)

    def _encode(self):
        coef = self._matrices["encoder_coef"]
        return self._search.product(self.centred.detach(), coef.T, self._bias()).requires_grad_()

    def _mix(self, codes):
        return self._search.product(codes, self._matrices["components"])

    def _unmix(self, grad):
        return self._search.product(grad, self._matrices["components"].T)

    def take_decoded(self, codes, grad):
        """Take the gradient of decoded rows for the dictionary alone."""
        # (m, n) times (n, t): the chunk's part of the dictionary's gradient.
        self._search.add_product(self._sums["components"], codes.T, grad)

    def n_active(self):
        """Number of entries that the rule keeps."""
        return int((self.z.detach() > self.rule.bound).sum())

    def finish(self):
        """Add the encoder's gradient and the pull of the norms, after the backward pass."""
        self._search.add_product(self._sums["encoder_coef"], self.z.grad.T, self.centred.detach())
        self._add_pull(self._sums["components"], 0, len(self._sums["components"]))
