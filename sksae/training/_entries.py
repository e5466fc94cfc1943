"""The entries of a batch's code matrix, on which an objective is written.

An objective sees pre-activations, codes and penalties entry by entry, and does not know which form
the entries have:

======================= ===================================================================
`AllEntries`            all ``n x m`` entries under autograd: the definition
`DenseEntries`          the same without autograd, for objectives that know their gradients
`ActiveEntries`         the entries that can have a code or a gradient, as vectors
`ChunkEntries`          all entries, per chunk of rows, while codes are dense
======================= ===================================================================

The first two are here, the others in `sksae.training._active_entries`.
"""

import math

import torch

from sksae._processes import NEGLIGIBLE, lowest_over_processes, n_processes
from sksae.kernels import pooled_cut, where_positive, where_top_k

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


def squared_norms(error, share):
    """Return ``sum_i share_i |error_i|^2``, and its gradient by `error`."""
    return share @ torch.linalg.vecdot(error, error), error * (2 * share)[:, None]


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

    def squared_error(self, codes, *, frozen=False):
        """Decode, and take the gradients of the mean squared error, as `decode_backward` does.

        Parameters
        ----------
        codes : Tensor
            Codes, one per entry.
        frozen : bool, default=False
            Whether the dictionary and its bias are left without gradients.

        Returns
        -------
        loss : Tensor, scalar
        error : Tensor of shape (n, t)
            Reconstructions less targets.
        pulls : Tensor
            Gradient of the codes, one per entry.
        """
        error = self.decode(codes, frozen=frozen) - self.x
        loss, pull = squared_norms(error, self.share)
        return loss, error, self.decode_backward(codes, pull, frozen=frozen)

    def norms(self):
        """Norms of the decoder rows, at the entries."""
        return row_norms(self.weights["components"], self._blocks)

    def row_mean(self, values):
        """Weighted mean over rows of the sum of `values` over latents."""
        return (self.of_rows(self.share) * values).sum()

    def shortfall(self, threshold):
        """Weighted mean over rows of ``sum_j |D_j| relu(threshold_j - z_j)``."""
        return self.row_mean(torch.relu(threshold - self.z) * self.norms())

    def rows_of(self, latents, step=1):
        """The dictionary rows of these latents, and their pre-activations in every step-th row."""
        z = self.centred[::step] @ self.weights["encoder_coef"][latents].T
        if self.rule.bias is not None:
            z = z + self.weights[self.rule.bias][latents]
        return self.weights["components"][latents], z

    def cut(self):
        """Midway between the smallest entry that a pooled rule keeps and the largest it drops."""
        dropped = pooled_cut(self.z, self.rule.k, self.w)
        selected = self.z > dropped
        weights = self.of_rows(self.w).expand_as(self.z)
        return midway(dropped, self.z[selected], weights[selected])

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

    def rows_of(self, latents, step=1):
        """The dictionary rows of these latents, and their pre-activations in every step-th row."""
        return self.weights["components"][latents], self.z[::step, latents]

    def fired(self, codes):
        """Mask of shape (m,) of the latents with a code other than 0."""
        return codes.abs().sum(0) > 0

    def decode_backward(self, codes, grad, *, frozen=False):
        """Take the gradient of ``decode(codes, frozen=frozen)``; return that of the codes."""
        # For R = C D + b: the gradient of D is C^T G, that of C is G D^T.
        if not frozen:
            self._add("components", codes.T @ grad)
            offset_backward(self, grad)
        return grad @ self.weights["components"].T

    def norms_backward(self, grad):
        """Take the gradient of ``norms()``, per entry."""
        gradients = norm_gradients(self.weights["components"], self._blocks)
        self._add("components", grad.sum(0)[:, None] * gradients)

    def vector_backward(self, name, grad):
        """Take the gradient of ``at(weights[name])``, per entry."""
        self._add(name, grad.sum(0))

    def rows_backward(self, latents, components, z, step=1):
        """Take the gradients of what ``rows_of(latents, step)`` returned."""
        self.gradients["components"].index_add_(0, latents, components)
        self._restricted.append((latents, z, step))

    def encode_backward(self, z):
        """Take the gradient of the pre-activations, after all others."""
        for latents, restricted, step in self._restricted:
            z = z.clone()
            z[::step].index_add_(1, latents, restricted)
        self._encoded_backward(z.T @ self.centred, z.sum(0))

    def _encoded_backward(self, grad, totals):
        """Take the gradient of the encoder, and sums of those of the pre-activations."""
        self._add("encoder_coef", grad)
        if self.rule.bias is not None:
            self._add(self.rule.bias, totals)
        # Pre-activations are (x - intercept) E^T + b.
        if self._pre_bias:
            self._add("intercept", -(totals @ self.weights["encoder_coef"]))

    def _add(self, name, grad):
        before = self.gradients.get(name)
        self.gradients[name] = grad if before is None else before + grad


def midway(dropped, selected, weights):
    """Midway between a number and the smallest of those selected in any process, if there are."""
    if n_processes() > 1:
        selected = selected[weights > NEGLIGIBLE]
    lowest = lowest_over_processes(float(selected.min()) if len(selected) else math.inf)
    return (lowest + dropped) / 2 if lowest < math.inf else dropped


def offset_backward(entries, grad):
    """Hand on the gradient of decoded rows to what is decoded without any code."""
    entries._add("intercept", grad.sum(0))
    for name in entries.linear_maps:
        entries._add(name, grad.T @ entries.inputs)
