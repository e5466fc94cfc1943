"""`BatchTopKSAE` (Bussmann, Leask and Nanda 2024, arXiv 2412.06410)."""

from sksae._params import Float
from sksae.autoencoders._resolved_parameters import auxk_options, default_k
from sksae.autoencoders._topk_sae import TopKSAE
from sksae.objectives import BatchTopK


class BatchTopKSAE(TopKSAE):
    """Sparse autoencoder that keeps k codes per row on average: more where a row needs more.

    In training, codes are the ``k n`` largest positive entries of ``Z = X E^T + b`` among all n
    rows of a batch; the objective is that of `TopKSAE`. After the fit a last pass over the data
    finds the threshold that does the same row by row: the mean over batches of the point midway
    between the smallest entry kept and the largest one dropped. `transform` keeps what exceeds it,
    so that a row's codes do not depend on the rows beside it.

    Parameters
    ----------
    n_components : int, default=None
        Number of latents, the rows of the dictionary. None takes `expansion_factor` times the
        number of features; if that is None too, 4 to 8 times it, by the number of rows, but at
        most half the rows, or all of up to 512.
    k : float, default=None
        Codes kept per row, on average; need not be whole, and is clipped to the width. None takes
        32 from 512 features on and an eighth of the features below.
    expansion_factor : float, default=None
        Latents per feature of X, where `n_components` is None.
    auxk_alpha : float, default=1/32
        Weight of the auxiliary loss that revives dead latents; 0 turns it off.
    k_aux : int, default=None
        Dead latents used per row by the auxiliary loss. None takes half the number of features.
    dead_window : int, default=None
        Rows without firing after which a latent counts as dead during training. None takes
        a tenth of the rows of all passes, at least ten batches and at most 10 million.
    max_iter : int, default=None
        Passes over the data. None makes 200 to 2000 steps, by the numbers of rows and
        latents; with ``k=1``, 1000.
    batch_size : int, default=None
        Rows per step. None takes the power of two nearest to the square root of the number of
        rows, from 32 (with ``k=1``, 512) to 4096; in `partial_fit`, 512.
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
    k_ : float
        Codes kept per row in training, on average.
    threshold_ : ndarray of shape (n_components_,)
        Pre-activations above it are codes.
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
    TopKSAE : The same number of codes in every row.
    JumpReLUSAE : A learnt threshold per latent.

    References
    ----------
    Bussmann, Leask and Nanda, "BatchTopK sparse autoencoders", 2024, arXiv:2412.06410.

    Examples
    --------
    >>> from sksae import BatchTopKSAE
    >>> from sksae.datasets import make_superposition
    >>> X, _, _ = make_superposition(2000, 8, 16, random_state=0)
    >>> sae = BatchTopKSAE(16, k=1.5, max_iter=5, random_state=0).fit(X)
    >>> counts = (sae.transform(X) > 0).sum(axis=1)
    >>> bool(abs(counts.mean() - 1.5) < 0.1), int(counts.min()) < int(counts.max())
    (True, True)
    """

    _param_rules = {**TopKSAE._param_rules, "k": Float(0, open_="low", none=True)}

    def _make_objective(self, n_features, n_components, n_targets):
        k = min(float(self.k or default_k(n_features)), float(n_components))
        return BatchTopK(k, **auxk_options(self, n_targets))
