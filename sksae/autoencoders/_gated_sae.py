"""`GatedSAE` (Rajamanoharan et al. 2024, Google DeepMind, arXiv 2404.16014)."""

from sksae._params import Option
from sksae.autoencoders._base import BaseSAE
from sksae.autoencoders._resolved_parameters import PENALTY_RULES, typical_code
from sksae.objectives import Gated


class GatedSAE(BaseSAE):
    """Sparse autoencoder that decides which latents fire apart from how strongly.

    With ``U = (X - b_dec) W^T``, a gate ``G = U + b_gate`` and magnitudes ``M = e^r U + b_mag``,
    codes are ``F = relu(M)`` where ``G > 0`` and 0 elsewhere. Training minimises, in the internal
    unit and averaged over rows,

    ``|x - x^(f)|^2 + alpha sum_i relu(g_i) + |x - x^(relu(g))|^2``

    with the dictionary frozen in the last term, so that only the gate learns from it. After the fit
    the two heads fold exactly into one encoder with a threshold per latent.

    Parameters
    ----------
    n_components : int, default=None
        Number of latents, the rows of the dictionary. None takes `expansion_factor` times the
        number of features; if that is None too, 4 to 8 times it, by the number of rows, but at
        most half the rows.
    alpha : float, default=None
        Weight of the sparsity penalty in the internal unit (lambda in the papers). None takes
        ``1.2 sqrt(n_features / K)``, where K is `target_l0`, or 32 from 512 features on and an
        eighth of the features below.
    target_l0 : float, default=None
        Mean number of non-zero codes per row to aim at: the penalty is moved during training
        until held-out rows have it.
    decoder_norm : {"unit", "free"}, default="unit"
        Norm of the dictionary's rows during training. "unit": 1, and the dictionary is frozen in
        the last term (the paper). "free": any, the penalty is weighted by it, and nothing is frozen
        (the reparametrisation-invariant form, RI-L1).
    expansion_factor : float, default=None
        Latents per feature of X, where `n_components` is None.
    alpha_warm_up : float, default=0.05
        Share of the steps over which the penalty rises from 0.
    dead_window : int, default=None
        Rows without firing after which a latent counts as dead during training. None takes
        a tenth of the rows of all passes, at least ten batches and at most 10 million.
    max_iter : int, default=None
        Passes over the data. None makes 2000 steps.
    batch_size : int, default=None
        Rows per step. None takes the power of two nearest to the square root of the number of
        rows, from 32 (with ``target_l0=1``, 512) to 4096; in `partial_fit`, 512.
    learning_rate : float, default=None
        Adam's step size, halved for the encoder. None takes ``3e-3 sqrt(2^14 / n_components)``,
        at most 6e-3; up to 400 steps of a fit of 32 768 rows or more, at most
        ``6e-3 sqrt(batch_size / 256)``.
    learning_rate_warm_up : float, default=0.0
        Share of the steps over which the learning rate rises from 0.
    learning_rate_decay : float, default=0.4
        Share of the steps, at the end, over which the learning rate falls to 0.
    betas : tuple of two floats, default=None
        Adam's decay rates of the running mean and the running square. None takes (0.9, 0.99); up
        to 400 steps of a fit of 32 768 rows or more, in batches of 256 or more, take (0.8, 0.97).
    max_grad_norm : float, default=1.0
        Bound on the norm of the whole gradient. None does not clip.
    normalize : {"rms", "anthropic", "unit", None}, default="rms"
        Internal unit of training; fitted attributes and codes are in the unit of X whatever it
        is. "rms" centres and scales to a mean squared norm of `n_features_in_`, "anthropic"
        scales to a mean norm of its square root, "unit" to a mean squared norm of 1.
    tol : float, default=0.0
        Improvement of the loss (of the validation score, with `early_stopping`) that counts.
        0 does not stop on the training loss.
    n_iter_no_change : int, default=10
        Passes without such an improvement after which training stops.
    early_stopping : bool, default=False
        Whether to hold out rows, to score them after every pass and to keep the best weights.
    validation_fraction : float, default=0.1
        Share of the rows held out, where rows are held out.
    warm_start : bool, default=False
        Whether `fit` continues from the previous fit.
    sparse_output : bool, default=False
        Whether `transform` returns a CSR matrix. Of a wide dictionary on many rows, the dense
        codes may not fit in memory.
    device : str, default="auto"
        Where to compute: "auto" takes CUDA or MPS if there is one, else the CPU. A tensor X
        stays where it is.
    precision : {"auto", "float32", "float64", "bfloat16"}, default="auto"
        Arithmetic of the training. "auto" is float64 for X of float64 and a dictionary of at most
        8192 entries, float32 otherwise. "bfloat16" is faster and leaves values off by about a
        part in 300, in `transform` as well, which otherwise computes in the dtype of X.
    random_state : int, RandomState instance or None, default=None
        Seeds the initial weights and the order of the rows.
    verbose : int or bool, default=0
        Whether to print the progress of the passes.

    Attributes
    ----------
    components_ : ndarray of shape (n_components_, n_features_in_)
        The dictionary; rows have norm 1.
    intercept_ : ndarray of shape (n_features_in_,)
        ``inverse_transform(F) = F @ components_ + intercept_``.
    encoder_coef_ : ndarray of shape (n_components_, n_features_in_)
        Encoder; pre-activations are ``Z = X @ encoder_coef_.T + encoder_intercept_``.
    encoder_intercept_ : ndarray of shape (n_components_,)
        Bias of the encoder.
    threshold_ : ndarray of shape (n_components_,)
        Pre-activation above which a latent fires.
    gate_intercept_ : ndarray of shape (n_components_,)
        Bias of the gate, which opens where
        ``X @ (encoder_coef_ / gain_[:, None]).T + gate_intercept_ > 0``.
    gain_ : ndarray of shape (n_components_,)
        Ratio of the magnitude's to the gate's weights, ``e^r``.
    alpha_ : float
        Penalty used; with `target_l0`, where it ended.
    activation_frequency_ : ndarray of shape (n_components_,)
        Share of the training rows on which each latent fires; 0 for a dead one. After
        `partial_fit`, of the rows of its last call.
    n_components_ : int
        Number of latents.
    batch_size_ : int
        Rows per step.
    learning_rate_ : float
        Step size used.
    n_iter_ : int
        Passes made.
    n_steps_ : int
        Optimiser steps made.
    loss_curve_ : list of float of length n_iter_
        Mean training loss of every pass, in the internal unit.
    validation_scores_ : list of float
        Explained variance of the held-out rows after every pass; only with `early_stopping`.
    n_features_in_ : int
        Number of features of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features; only if X has string column names.

    See Also
    --------
    SparseAutoencoder : Sparsity by an L1 penalty.
    TopKSAE : A fixed number of codes per row.
    JumpReLUSAE : A learnt threshold per latent.

    References
    ----------
    Rajamanoharan et al., "Improving dictionary learning with gated sparse autoencoders", 2024,
    arXiv:2404.16014.

    Examples
    --------
    >>> from sksae import GatedSAE
    >>> from sksae.datasets import make_superposition
    >>> X, _, _ = make_superposition(2000, 8, 16, random_state=0)
    >>> sae = GatedSAE(16, alpha=4.0, max_iter=5, random_state=0).fit(X)
    >>> sae.transform(X).shape, sae.threshold_.shape
    ((2000, 16), (16,))
    """

    _param_rules = {
        **BaseSAE._param_rules,
        **PENALTY_RULES,
        "decoder_norm": Option("unit", "free"),
    }

    def __init__(
        self,
        n_components=None,
        *,
        alpha=None,
        target_l0=None,
        decoder_norm="unit",
        expansion_factor=None,
        alpha_warm_up=0.05,
        dead_window=None,
        max_iter=None,
        batch_size=None,
        learning_rate=None,
        learning_rate_warm_up=0.0,
        learning_rate_decay=0.4,
        betas=None,
        max_grad_norm=1.0,
        normalize="rms",
        tol=0.0,
        n_iter_no_change=10,
        early_stopping=False,
        validation_fraction=0.1,
        warm_start=False,
        sparse_output=False,
        device="auto",
        precision="auto",
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
            precision=precision,
            random_state=random_state,
            verbose=verbose,
        )
        self.alpha = alpha
        self.alpha_warm_up = alpha_warm_up
        self.target_l0 = target_l0
        self.decoder_norm = decoder_norm

    def _make_objective(self, n_features, n_components, n_targets):
        alpha = self.alpha
        if alpha is None:
            # A penalty on codes themselves is relative to the size of a code.
            alpha = 1.2 * typical_code(n_features, n_targets, self.target_l0)
        return Gated(
            float(alpha), self.alpha_warm_up, self.target_l0, unit_norm=self.decoder_norm == "unit"
        )
