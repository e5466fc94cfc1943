"""Tables of the features active on a prompt: one line per feature and token, and per token."""

from dataclasses import dataclass

import numpy as np

from sksae._signs import SHOWN, aligned, edges_visible, visible
from sksae.language_models.extraction import ColumnTable


@dataclass(frozen=True, eq=False, repr=False)
class TokenBehaviour(ColumnTable):
    """Sums over the features of each token, and the part left out, one line per token.

    `Behaviour.tokens` has it. Columns that end in `direct` are logits of the token in `predicted`
    at this position, columns that end in `gradient` are in units of the metric; see
    `describe_behaviour`.

    Parameters
    ----------
    position : ndarray of shape (n_tokens,)
        Index of the token in the prompt as the model reads it, special tokens included.
    token : ndarray of shape (n_tokens,), dtype=object
        The characters of the token.
    predicted_id : ndarray of shape (n_tokens,)
        The token that is most probable behind this position; at the last position the target.
    predicted : ndarray of shape (n_tokens,), dtype=object
        What it stands for.
    logit : ndarray of shape (n_tokens,)
        Its logit, as the model has it.
    unexplained : ndarray of shape (n_tokens,)
        Euclidean norm of what the autoencoder leaves out over that of the activation.
    error_direct, error_gradient : ndarray of shape (n_tokens,)
        Contributions of the part left out.
    intercept_direct, intercept_gradient : ndarray of shape (n_tokens,)
        The same for the intercept, with what the skip connection of a transcoder adds.
    dense_direct, dense_gradient : ndarray of shape (n_tokens,)
        The sum over active features that are too dense to be shown.
    rest_direct, rest_gradient : ndarray of shape (n_tokens,)
        The sum over the other active features that are not in the table.
    constant : ndarray of shape (n_tokens,)
        The part of the logit that no activation changes: the biases of the final norm and of the
        unembedding.

    See Also
    --------
    Behaviour : Has it, next to the features themselves.

    Examples
    --------
    >>> import numpy as np
    >>> from sksae.language_models import TokenBehaviour
    >>> zero, word = np.zeros(1), np.array([" a"], dtype=object)
    >>> tokens = TokenBehaviour(
    ...     np.array([0]), word, np.array([5]), word, zero, zero + 0.25, *[zero] * 9
    ... )
    >>> len(tokens), tokens.unexplained.tolist()
    (1, [0.25])
    """

    position: np.ndarray
    token: np.ndarray
    predicted_id: np.ndarray
    predicted: np.ndarray
    logit: np.ndarray
    unexplained: np.ndarray
    error_direct: np.ndarray
    error_gradient: np.ndarray
    intercept_direct: np.ndarray
    intercept_gradient: np.ndarray
    dense_direct: np.ndarray
    dense_gradient: np.ndarray
    rest_direct: np.ndarray
    rest_gradient: np.ndarray
    constant: np.ndarray

    def __len__(self):
        return len(self.position)

    def _shown(self):
        heading = ("position", "token", "logit", "unexplained", "predicted")
        lines = [
            (
                self.position[i],
                edges_visible(str(self.token[i])),
                f"{self.logit[i]:.3g}",
                f"{self.unexplained[i]:.2%}",
                edges_visible(str(self.predicted[i])),
            )
            for i in range(min(len(self), SHOWN))
        ]
        return [f"TokenBehaviour: {len(self):,} tokens"], heading, lines

    def to_frame(self):
        """Return the columns as a data frame.

        Returns
        -------
        frame : pandas.DataFrame of shape (n_tokens, 15)
            The table.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        return self._frame()


@dataclass(frozen=True, eq=False, repr=False)
class Behaviour(ColumnTable):
    """Effects of features on a prompt, one line per feature and token.

    `describe_behaviour` makes it; the largest `gradient` comes first, whatever its sign. Indexing
    with a slice, a mask or an array of line numbers gives the table of those lines.

    Parameters
    ----------
    position : ndarray of shape (n,)
        Index of the token in the prompt as the model reads it, special tokens included.
    token : ndarray of shape (n,), dtype=object
        The characters of the token.
    feature : ndarray of shape (n,)
        Column of the codes.
    activation : ndarray of shape (n,)
        The code.
    share_of_max : ndarray of shape (n,)
        The code over the largest that the feature is known to have; NaN if that is not known.
    density : ndarray of shape (n,)
        Share of the rows the autoencoder was fitted on that the feature fires on; NaN if not known.
    direct_logit : ndarray of shape (n,)
        What the feature adds, directly, to the logit of `tokens.predicted` at its own position.
    gradient : ndarray of shape (n,)
        What it contributes to the metric, estimated from the gradient.
    exact : ndarray of shape (n,)
        The same, measured by taking it away; NaN where it was not.
    name : ndarray of shape (n,), dtype=object
        The name of the feature, ``""`` if it has none.
    tokens : TokenBehaviour
        The part left out and the features not shown, one line per token.
    metric : str
        The quantity that is explained.
    value : float
        The metric on this prompt.
    target, predicted : str
        The token that the metric is about and the one that is most probable.
    target_log_probability, predicted_log_probability : float
        Their log-probabilities behind the prompt, in nats.

    See Also
    --------
    describe_behaviour : Makes it.
    Attribution : Effects measured from a baseline, at several sites.

    Examples
    --------
    >>> from sksae import TopKSAE
    >>> from sksae.datasets import TINY_LM_PATH, load_corpus
    >>> from sksae.language_models import ActivationExtractor, Behaviour, describe_behaviour
    >>> rows = ActivationExtractor(TINY_LM_PATH, layer=4).transform(load_corpus().data[:5])
    >>> sae = TopKSAE(64, k=8, max_iter=3, random_state=0).fit(rows)
    >>> table = describe_behaviour(
    ...     TINY_LM_PATH, "4.resid_post", sae, "Return the mean of", max_density=None
    ... )
    >>> isinstance(table, Behaviour), set(table.strongest(2).position.tolist())
    (True, {2})
    """

    position: np.ndarray
    token: np.ndarray
    feature: np.ndarray
    activation: np.ndarray
    share_of_max: np.ndarray
    density: np.ndarray
    direct_logit: np.ndarray
    gradient: np.ndarray
    exact: np.ndarray
    name: np.ndarray
    tokens: TokenBehaviour
    metric: str
    value: float
    target: str
    predicted: str
    target_log_probability: float
    predicted_log_probability: float

    def __len__(self):
        return len(self.position)

    def _shown(self, n_rows=SHOWN):
        median = float(np.median(self.tokens.unexplained))
        sentences = [
            f"{self.metric} = {self.value:.4g}; most probable: {edges_visible(self.predicted)} "
            f"(log-probability {self.predicted_log_probability:.3g})",
            f"{len(self.tokens)} tokens; the autoencoder leaves out {median:.0%} of the median one",
        ]
        return sentences, _HEADING, [self._cells(i) for i in range(min(len(self), n_rows))]

    def strongest(self, position):
        """Return the features of one token, the largest activation first.

        Parameters
        ----------
        position : int
            Index of the token in the prompt, from the end if negative.

        Returns
        -------
        table : Behaviour
            Its lines.

        Raises
        ------
        IndexError
            If the prompt has no such token.
        """
        n = len(self.tokens)
        if not -n <= position < n:
            raise IndexError(f"There is no position {position}: the prompt has {n} tokens.")
        rows = np.flatnonzero(self.position == position % n)
        return self[rows[np.argsort(-self.activation[rows], kind="stable")]]

    def to_frame(self):
        """Return the columns as a data frame.

        Returns
        -------
        frame : pandas.DataFrame of shape (n, 10)
            One line per feature and token; `tokens` has a frame of its own.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        return self._frame()

    def lines(self, n_rows=20):
        """Return lines for a terminal: the prediction, then the first lines of the table.

        Parameters
        ----------
        n_rows : int, default=20
            The most lines of the table.

        Returns
        -------
        lines : list of str
            Two sentences, a heading and the lines.
        """
        sentences, heading, cells = self._shown(n_rows)
        return [*sentences, *aligned([heading, *cells])]

    def _cells(self, i):
        numbers = (f"{x[i]:+.3g}" for x in (self.gradient, self.exact, self.direct_logit))
        shares = (f"{x[i]:.2%}" for x in (self.share_of_max, self.density))
        return (
            *("" if cell == "+nan" else cell for cell in numbers),
            str(self.position[i]),
            edges_visible(self.token[i]),
            str(self.feature[i]),
            f"{self.activation[i]:.3g}",
            *("" if cell == "nan%" else cell for cell in shares),
            visible(str(self.name[i])),
        )


_HEADING = (
    *("gradient", "exact", "direct", "position", "token"),
    *("feature", "activation", "of max", "density", "name"),
)
