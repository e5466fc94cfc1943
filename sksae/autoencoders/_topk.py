"""TopKSAE (Gao et al. 2024)."""

from sksae._params import Float, Int
from sksae.autoencoders._base import BaseSAE
from sksae.autoencoders._objective import auxiliary_k_loss, reconstruction_loss, row_mean
from sksae.autoencoders._penalised import default_k
from sksae.kernels import decode, keep_top_k, pre_activations


class TopKSAE(BaseSAE):
    """TODO."""

    _param_rules = {
        **BaseSAE._param_rules,
        "k": Int(1, none=True),
        "auxk_alpha": Float(0),
        "k_aux": Int(1, none=True),
    }

    def __init__(
        self,
        n_components=None,
        *,
        k=None,
        expansion_factor=8,
        auxk_alpha=1 / 32,
        k_aux=None,
        dead_window=None,
        max_iter=None,
        batch_size=None,
        learning_rate=None,
        learning_rate_warm_up=0.0,
        learning_rate_decay=0.2,
        betas=(0.9, 0.999),
        max_grad_norm=1.0,
        normalize="rms",
        tol=0.0,
        n_iter_no_change=10,
        early_stopping=False,
        validation_fraction=0.1,
        warm_start=False,
        sparse_output=False,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        super().__init__(
            n_components,
            expansion_factor=expansion_factor,
            dead_window=dead_window,
            max_iter=max_iter,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_warm_up=learning_rate_warm_up,
            learning_rate_decay=learning_rate_decay,
            betas=betas,
            max_grad_norm=max_grad_norm,
            normalize=normalize,
            tol=tol,
            n_iter_no_change=n_iter_no_change,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            warm_start=warm_start,
            sparse_output=sparse_output,
            device=device,
            random_state=random_state,
            verbose=verbose,
        )
        self.k = k
        self.auxk_alpha = auxk_alpha
        self.k_aux = k_aux

    def _hyperparameters(self, n_features, n_components):
        return {"k_": min(self.k or default_k(n_features), n_components)}

    def _objective(self, x, w, weights, alpha, dead):
        m, d = weights["components"].shape
        z = pre_activations(x, weights)
        codes = keep_top_k(z, self._hyperparameters(d, m)["k_"])
        reconstruction = decode(codes, weights)
        loss = reconstruction_loss(reconstruction, x, w)
        if self.auxk_alpha > 0:
            k_aux = self.k_aux or max(1, d // 2)
            auxiliary = auxiliary_k_loss(x, reconstruction, z, weights, w, dead, k_aux)
            loss = loss + self.auxk_alpha * self._variance(x, w) * auxiliary
        return loss, codes

    def _variance(self, x, w):
        """Total variance of the data in the internal unit: the auxiliary loss is relative to it."""
        known = {"rms": x.shape[1], "anthropic": x.shape[1], "unit": 1.0}.get(self.normalize)
        return row_mean((x - w @ x / w.sum()).square().sum(1), w) if known is None else known

    def _activation(self, z):
        return keep_top_k(z, self.k_)
