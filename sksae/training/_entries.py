"""What an objective is written on: the entries of a batch's code matrix.

An objective sees pre-activations, codes and penalties entry by entry, and does not know whether
the entries are all ``n x m`` of them (`AllEntries`: the definition, plain autograd) or only those
that can have a code or a gradient (`ActiveEntries`: the fast form). Both answer to the same names.
"""

import torch

from sksae.kernels import pooled_cut, top_k


class AllEntries:
    """Every entry of the matrix: tensors of shape (n, m) under plain autograd.

    Parameters
    ----------
    x : Tensor of shape (n, d) or (n, d + t)
        Rows, each followed by its target if that is not the row itself.
    w : Tensor of shape (n,)
        Weights of the rows.
    weights : dict of Tensor
        "components" (m, t), "encoder_coef" (m, d), "intercept" (t,), "skip_coef" (t, d) if targets
        are predicted from the rows as well, and what else the variant has.
    rule : Rule
        Which entries can have a code.
    pre_bias : bool
        Whether the decoder's bias is subtracted before encoding (Bricken et al. 2023).

    Attributes
    ----------
    x : Tensor of shape (n, t)
        What is to be reconstructed: the rows, or their targets.
    z : Tensor of shape (n, m)
        Pre-activations ``x_c E^T + b``, where b is the rule's bias.
    """

    def __init__(self, x, w, weights, rule, *, pre_bias=True):
        d, t = weights["encoder_coef"].shape[1], weights["components"].shape[1]
        inputs = x[:, :d].contiguous()  # no copy where x has nothing else
        self.x, self.w, self.weights, self.rule = x[:, -t:].contiguous(), w, weights, rule
        self.centred = inputs - weights["intercept"] if pre_bias else inputs
        self.z = self._encode()

    def _encode(self):
        z = self.centred @ self.weights["encoder_coef"].T
        return z if self.rule.bias is None else z + self.weights[self.rule.bias]

    def at(self, vector):
        """Values of a vector of shape (m,) at the entries."""
        return vector

    def kept(self, values):
        """`values` at the entries that a top-k rule selects, 0 elsewhere."""
        with torch.no_grad():
            if self.rule.pooled:
                mask = self.z > pooled_cut(self.z, self.rule.k, self.w)
            else:
                _, columns = top_k(self.z, min(int(self.rule.k), self.z.shape[1]))
                mask = torch.zeros_like(self.z, dtype=torch.bool).scatter(1, columns, True)
        return torch.where(mask, values, 0.0)

    def decode(self, codes, *, frozen=False):
        """``codes D + intercept``; `frozen` keeps gradients from the dictionary and its bias."""
        components = self.weights["components"]
        return codes @ (components.detach() if frozen else components) + self._offset(frozen)

    def _offset(self, frozen):
        """What a reconstruction has without any code: the intercept, and what skips the codes."""
        offset = self.weights["intercept"]
        if "skip_coef" in self.weights:
            offset = offset + self.centred @ self.weights["skip_coef"].T
        return offset.detach() if frozen else offset

    def norms(self):
        """Norms of the decoder rows, at the entries."""
        return self.weights["components"].norm(dim=1)

    def row_mean(self, values):
        """Weighted mean over rows of the sum of `values` over latents."""
        return (self.w @ values.sum(1)) / self.w.sum()

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
        kept = self.z[self.z > dropped]
        return (float(kept.min()) + dropped) / 2 if len(kept) else dropped

    def fired(self, codes):
        """Mask of shape (m,) of the latents with a positive code."""
        return (codes.detach() > 0).any(0)

    def counts(self, codes):
        """Number of positive codes of every row, shape (n,)."""
        return (codes.detach() > 0).sum(1)
