"""The entries of a batch's code matrix, on which an objective is written.

An objective sees pre-activations, codes and penalties entry by entry, and does not know which form
the entries have:

======================= ===================================================================
`AllEntries`            all ``n x m`` entries under autograd: the definition
`DenseEntries`          the same without autograd, for objectives that know their gradients
`ActiveEntries`         the entries that can have a code or a gradient, as vectors
`ChunkEntries`          all entries, per chunk of rows, while codes are dense
======================= ===================================================================

In the last two forms the encoder and the dictionary are outside of autograd, which runs over
vectors and entries alone. The pre-activations are a leaf of its graph. What autograd leaves in
their gradient, and in those of the decoded rows, is all that the gradients of the two matrices are
made of; `ActiveEntries` computes them per block of latents, `ChunkEntries` per chunk of rows.
"""

import math

import torch

from sksae._processes import NEGLIGIBLE, lowest_over_processes, n_processes
from sksae.kernels import ActiveSet, pooled_cut, where_positive, where_top_k

MATRICES = ("components", "encoder_coef")

_NO_NORM = 1e-30


def row_norms(rows, blocks=()):
    """Norms of the rows of a dictionary: of several blocks of columns, the sum of their norms.

    Parameters
    ----------
    rows : Tensor of shape (m, t)
    blocks : tuple of int, default=()
        Widths of the blocks; all columns are one block where there are not several.

    Returns
    -------
    norms : Tensor of shape (m,)
    """
    if len(blocks) < 2:
        return torch.linalg.vector_norm(rows, dim=1)
    return sum(part.norm(dim=1) for part in rows.split(blocks, dim=1))


def norm_gradients(rows, blocks=()):
    """Gradients of `row_norms` by the rows: in every block ``D_b / |D_b|``, 0 where it is 0."""
    # Of a part that is 0 it is 0: the bound only keeps it from being 0 / 0.
    units = [
        part / part.norm(dim=1, keepdim=True).clamp(min=_NO_NORM)
        for part in rows.split(blocks or rows.shape[1], dim=1)
    ]
    return units[0] if len(units) == 1 else torch.cat(units, 1)


class AllEntries:
    """Every entry of the matrix: tensors of shape (n, m) under plain autograd.

    Parameters
    ----------
    x : Tensor of shape (n, d) or (n, d + t)
        Rows; each begins with its input (d columns) and ends with its target (t columns), which
        are the same columns where rows are their own targets.
    w : Tensor of shape (n,)
        Weights of the rows.
    weights : dict of Tensor
        "components" (m, t), "encoder_coef" (m, d), "encoder_intercept" (m,), "intercept" (t,), and
        those that the objective declares.
    rule : Rule
        Which entries can have a code.
    pre_bias : bool
        Whether the decoder's bias is subtracted before encoding (Bricken et al. 2023).
    linear_maps : sequence of str
        Names of weights of shape (t, d) that add a linear function of the input to every
        reconstruction.
    blocks : tuple of int
        Widths of the blocks of columns that are reconstructed, for `norms`.

    Attributes
    ----------
    x : Tensor of shape (n, t)
        The targets of the reconstruction.
    z : Tensor of shape (n, m)
        Pre-activations ``x_c E^T + b``, where b is the rule's bias.
    share : Tensor of shape (n,)
        Weights of the rows relative to their sum.
    """

    def __init__(self, x, w, weights, rule, *, pre_bias=True, linear_maps=(), blocks=()):
        d, t = weights["encoder_coef"].shape[1], weights["components"].shape[1]
        # The first d columns are the input, the last t the target; they may be the same.
        self.inputs = x[:, :d].contiguous()  # no copy where x has nothing else
        self.x, self.w, self.weights, self.rule = x[:, -t:].contiguous(), w, weights, rule
        self.share, self.linear_maps, self._blocks = w / w.sum(), linear_maps, blocks
        self.centred = self.inputs - weights["intercept"] if pre_bias else self.inputs
        self.z = self._encode()

    def _encode(self):
        z = self.centred @ self.weights["encoder_coef"].T
        return z if self.rule.bias is None else z + self.weights[self.rule.bias]

    def at(self, vector):
        """Values of a vector of shape (m,) at the entries."""
        return vector

    def of_rows(self, vector):
        """Values of a vector of shape (n,) at the entries."""
        return vector[:, None]

    def kept(self, values):
        """`values` at the entries that a top-k rule selects, 0 elsewhere."""
        z = self.z.detach()
        if self.rule.pooled:
            return where_positive(z - pooled_cut(z, self.rule.k, self.w), values)
        return where_top_k(z, int(self.rule.k), values, magnitude=self.rule.magnitude)

    def decode(self, codes, *, frozen=False):
        """``codes D + intercept``; `frozen` keeps gradients from the dictionary and its bias."""
        components = self.weights["components"]
        return codes @ (components.detach() if frozen else components) + self._offset(frozen)

    def _offset(self, frozen):
        """Reconstruction without any code: the intercept, and linear functions of the input."""
        offset = self.weights["intercept"]
        for name in self.linear_maps:
            offset = offset + self.inputs @ self.weights[name].T
        return offset.detach() if frozen else offset

    def norms(self):
        """Norms of the decoder rows, at the entries."""
        return row_norms(self.weights["components"], self._blocks)

    def row_mean(self, values):
        """Weighted mean over rows of the sum of `values` over latents."""
        return (self.of_rows(self.share) * values).sum()

    def shortfall(self, threshold):
        """Weighted mean over rows of ``sum_j |D_j| relu(threshold_j - z_j)``."""
        return self.row_mean(torch.relu(threshold - self.z) * self.norms())

    def rows_of(self, latents):
        """The dictionary rows of these latents, and their pre-activations (n, n_latents)."""
        z = self.centred @ self.weights["encoder_coef"][latents].T
        if self.rule.bias is not None:
            z = z + self.weights[self.rule.bias][latents]
        return self.weights["components"][latents], z

    def cut(self):
        """Midway between the smallest entry that a pooled rule keeps and the largest it drops."""
        dropped = pooled_cut(self.z, self.rule.k, self.w)
        selected = self.z > dropped
        weights = self.of_rows(self.w).expand_as(self.z)
        return _midway(dropped, self.z[selected], weights[selected])

    def fired(self, codes):
        """Mask of shape (m,) of the latents with a code other than 0."""
        return self.per_latent((codes.detach() != 0).float()) > 0

    def per_row(self, values):
        """Sum of `values` over the latents of every row, shape (n,)."""
        return values.sum(1)

    def per_latent(self, values):
        """Sum of `values` over the rows of every latent, shape (m,)."""
        return values.sum(0)


class DenseEntries(AllEntries):
    """Every entry of the matrix, without autograd: gradients are handed in.

    An objective that knows its gradients hands them to `decode_backward`, `rows_backward` and then
    `encode_backward`, which `ActiveEntries` has as well.

    Attributes
    ----------
    gradients : dict of Tensor
        Gradients so far by weight name.
    """

    def __init__(self, x, w, weights, rule, *, pre_bias=True, **options):
        self.gradients, self._pre_bias, self._restricted = {}, pre_bias, []
        super().__init__(x, w, weights, rule, pre_bias=pre_bias, **options)

    def _encode(self):
        coef = self.weights["encoder_coef"]
        if self.rule.bias is None:
            return self.centred @ coef.T
        return torch.addmm(self.weights[self.rule.bias], self.centred, coef.T)

    def decode(self, codes, *, frozen=False):
        """``codes D + intercept``."""
        return torch.addmm(self._offset(frozen), codes, self.weights["components"])

    def rows_of(self, latents):
        """The dictionary rows of these latents, and their pre-activations (n, n_latents)."""
        return self.weights["components"][latents], self.z[:, latents]

    def fired(self, codes):
        """Mask of shape (m,) of the latents with a code other than 0."""
        return codes.abs().sum(0) > 0

    def decode_backward(self, codes, grad, *, frozen=False):
        """Take the gradient of ``decode(codes, frozen=frozen)``; return that of the codes."""
        # For R = C D + b: the gradient of D is C^T G, that of C is G D^T.
        if not frozen:
            self._add("components", codes.T @ grad)
            _offset_backward(self, grad)
        return grad @ self.weights["components"].T

    def norms_backward(self, grad):
        """Take the gradient of ``norms()``, per entry."""
        gradients = norm_gradients(self.weights["components"], self._blocks)
        self._add("components", grad.sum(0)[:, None] * gradients)

    def vector_backward(self, name, grad):
        """Take the gradient of ``at(weights[name])``, per entry."""
        self._add(name, grad.sum(0))

    def rows_backward(self, latents, components, z):
        """Take the gradients of what ``rows_of(latents)`` returned."""
        self.gradients["components"].index_add_(0, latents, components)
        self._restricted.append((latents, z))

    def encode_backward(self, z):
        """Take the gradient of the pre-activations, after all others."""
        coef = self.weights["encoder_coef"]
        for latents, restricted in self._restricted:
            z = z.index_add(1, latents, restricted)
        totals = z.sum(0)
        self._add("encoder_coef", z.T @ self.centred)
        if self.rule.bias is not None:
            self._add(self.rule.bias, totals)
        # Pre-activations are (x - intercept) E^T + b.
        if self._pre_bias:
            self._add("intercept", -(totals @ coef))

    def _add(self, name, grad):
        before = self.gradients.get(name)
        self.gradients[name] = grad if before is None else before + grad


def _midway(dropped, selected, weights):
    """Midway between a number and the smallest of those selected in any process, if there are."""
    if n_processes() > 1:
        selected = selected[weights > NEGLIGIBLE]
    lowest = lowest_over_processes(float(selected.min()) if len(selected) else math.inf)
    return (lowest + dropped) / 2 if lowest < math.inf else dropped


def _offset_backward(entries, grad):
    """Hand on the gradient of decoded rows to what is decoded without any code."""
    entries._add("intercept", grad.sum(0))
    for name in entries.linear_maps:
        entries._add(name, grad.T @ entries.inputs)


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
            ctx.owner._decoded(codes.detach(), grad)
        return ctx.owner._unmix(grad), None, None


class _LeafEntries(AllEntries):
    """Entries of which autograd sees the vectors, the pre-activations and the codes alone."""

    def __init__(self, x, w, weights, rule, *, pre_bias, search, **options):
        self._search, self._pre_bias = search, pre_bias
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
            self._decoded(codes, grad)
            _offset_backward(self, grad)
        return self._unmix(grad)

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
        # Pairs (codes, gradient of the decoded rows), one per call of `decode`, and pairs
        # (latents, rows of both matrices), one per call of `rows_of`.
        self._terms, self._restricted = [], []
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

    def rows_of(self, latents):
        """The dictionary rows of these latents, and their pre-activations (n, n_latents)."""
        # Latents that may have no active entry: a dense product with their rows alone.
        rows = {name: matrix[latents].requires_grad_() for name, matrix in self._matrices.items()}
        self._restricted.append((latents, rows))
        z = self.centred @ rows["encoder_coef"].T
        if self.rule.bias is not None:
            z = z + self.weights[self.rule.bias].index_select(0, latents)
        return rows["components"], z

    def rows_backward(self, latents, components, z):
        """Take the gradients of what ``rows_of(latents)`` returned."""
        _, rows = self._restricted[-1]
        totals = z.sum(0)
        rows["components"].grad, rows["encoder_coef"].grad = components, z.T @ self.centred
        if self.rule.bias is not None:
            bias = self.weights[self.rule.bias]
            self._add(self.rule.bias, torch.zeros_like(bias).index_add_(0, latents, totals))
        if self._pre_bias:
            self._add("intercept", -(totals @ rows["encoder_coef"]))

    def cut(self):
        """Midway between the smallest entry that a pooled rule keeps and the largest it drops."""
        return _midway(self._search.cut, self.z, self.of_rows(self.w))

    def per_row(self, values):
        """Sum of `values` over the latents of every row, shape (n,)."""
        return values.new_zeros(len(self.x)).index_add_(0, self.active.rows, values)

    def _mix(self, codes):
        return self.active.row_sums(codes, self._matrices["components"])

    def _unmix(self, grad):
        return self.active.dots(grad, self._matrices["components"])

    def _decoded(self, codes, grad):
        self._terms.append((codes, grad))

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
        grad, *further_terms = (
            block.row_sums(values[order[first:last]], matrix) for values, matrix in terms
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

    def _decoded(self, codes, grad):
        # (m, n) times (n, t): the chunk's part of the dictionary's gradient.
        self._search.add_product(self._sums["components"], codes.T, grad)

    def n_active(self):
        """Number of entries that the rule keeps."""
        return int((self.z.detach() > self.rule.bound).sum())

    def finish(self):
        """Add the encoder's gradient and the pull of the norms, after the backward pass."""
        self._search.add_product(self._sums["encoder_coef"], self.z.grad.T, self.centred.detach())
        self._add_pull(self._sums["components"], 0, len(self._sums["components"]))
