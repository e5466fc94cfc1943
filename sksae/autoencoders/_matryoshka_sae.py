"""`MatryoshkaSAE` (Bussmann, Nabeshima, Karvonen and Nanda 2025, arXiv 2503.17547)."""

from copy import deepcopy
from itertools import pairwise

from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from sksae._params import Int, check_option
from sksae._saved_layout import FREQUENCY
from sksae.autoencoders._batch_topk_sae import BatchTopKSAE
from sksae.autoencoders._fitted_arrays import fitted
from sksae.autoencoders._resolved_parameters import auxk_options, default_k
from sksae.objectives import Matryoshka, Weight


class _Widths:
    """Rule of the `widths` parameter."""

    def accepts(self, value):
        """Whether `value` is None or increasing numbers of latents."""
        if value is None:
            return True
        if not isinstance(value, (list, tuple)) or not all(Int(1).accepts(v) for v in value):
            return False
        return len(value) > 0 and all(a < b for a, b in pairwise(value))

    def __str__(self):
        return "None or a sequence of increasing int >= 1"


class MatryoshkaSAE(BatchTopKSAE):
    """Sparse autoencoder whose first latents are dictionaries of their own.

    Codes are those of `BatchTopKSAE`. The loss is summed over nested dictionaries, which are the
    first ``m_1 < m_2 < ... < m`` latents: ``sum_g |x - x^_g|^2``, where ``x^_g`` is reconstructed
    from the codes of the first ``m_g`` latents alone. Early latents thus learn what explains most,
    and stay general where later ones are specific. `prefix` returns the autoencoder of the first
    latents.

    Parameters
    ----------
    n_components : int, default=None
        Number of latents, the rows of the dictionary. None takes `expansion_factor` times the
        number of features; if that is None too, 4 to 8 times it, by the number of rows, but at
        most half the rows, or all of up to 512.
    k : float, default=None
        Codes kept per row, on average; need not be whole, and is clipped to the width. None takes
        32 from 512 features on and an eighth of the features below.
    widths : sequence of int, default=None
        Numbers of latents of the nested dictionaries, increasing; those from `n_components` on are
        left out, and `n_components` itself is the last. None takes 1/16, 1/8, 1/4, 1/2 and all of
        the latents.
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
    widths_ : tuple of int
        Numbers of latents of the nested dictionaries.
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
    BatchTopKSAE : One dictionary of all latents.

    References
    ----------
    Bussmann, Nabeshima, Karvonen and Nanda, "Learning multi-level features with Matryoshka sparse
    autoencoders", 2025, arXiv:2503.17547.

    Examples
    --------
    >>> from sksae import MatryoshkaSAE
    >>> from sksae.datasets import make_superposition
    >>> X, _, _ = make_superposition(2000, 8, 16, random_state=0)
    >>> sae = MatryoshkaSAE(16, k=1.5, widths=(4, 8), max_iter=5, random_state=0).fit(X)
    >>> sae.widths_
    (4, 8, 16)
    >>> sae.prefix(4).transform(X).shape
    (2000, 4)
    """

    _param_rules = {**BatchTopKSAE._param_rules, "widths": _Widths()}

    def __init__(
        self,
        n_components=None,
        *,
        k=None,
        widths=None,
        expansion_factor=None,
        auxk_alpha=1 / 32,
        k_aux=None,
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
            k=k,
            expansion_factor=expansion_factor,
            auxk_alpha=auxk_alpha,
            k_aux=k_aux,
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
        self.widths = widths

    def _make_objective(self, n_features, n_components, n_targets):
        m = n_components
        widths = [m // 16, m // 8, m // 4, m // 2] if self.widths is None else self.widths
        # In order, without repetitions, and all latents last.
        nested = sorted({int(width) for width in widths if 1 <= width < m} | {m})
        k = min(float(self.k or default_k(n_features)), float(m))
        return Matryoshka(k, **auxk_options(self, n_targets), widths=tuple(nested))

    def prefix(self, n_components):
        """Return the autoencoder of the first latents alone, fitted.

        Parameters
        ----------
        n_components : int
            Number of latents to keep, such as one of `widths_`.

        Returns
        -------
        sae : MatryoshkaSAE
            A new estimator, whose codes are the first columns of those of this one.

        Raises
        ------
        ValueError
            If there are not so many latents.
        """
        check_is_fitted(self)
        check_option("n_components", n_components, Int(1, self.n_components_))
        weights = {}
        declared = {**self._objective.declared, FREQUENCY: Weight("m")}
        for name, weight in declared.items():  # arrays with a row or an entry per latent
            array = getattr(self, name + "_", None)
            if array is not None:
                by_latent = weight.axes[0] == "m"
                weights[name] = deepcopy(array[:n_components] if by_latent else array)
        # No more latents can be active than there are.
        sae = clone(self).set_params(n_components=int(n_components), k=min(self.k_, n_components))
        return fitted(sae, weights, source=getattr(self, "source_", None))
