"""Logit lens: the tokens that the direction of a feature makes more or less probable."""

from dataclasses import dataclass

import numpy as np
import torch

from sksae._modes import own_modes
from sksae._optional import needed
from sksae._params import Int, check_option
from sksae._signs import SHOWN, TableRepr, edges_visible
from sksae._threads import threads_of_process
from sksae.language_models.model import TorchDictionary, find_readout, load_causal

_SHOWN_TOKENS = 3  # of a feature, in the `repr`


@dataclass(frozen=True, eq=False, repr=False)
class LogitLens(TableRepr):
    r"""The tokens that features promote and suppress most.

    `logit_lens` makes it. One row per feature, the strongest token first.

    Parameters
    ----------
    feature : ndarray of shape (n,)
        The features, columns of the codes.
    promoted_ids, suppressed_ids : ndarray of shape (n, n_tokens)
        Index in the vocabulary of the tokens whose logit goes up, and down, most.
    promoted, suppressed : ndarray of shape (n, n_tokens), dtype=object
        What the tokens stand for.
    promoted_logits, suppressed_logits : ndarray of shape (n, n_tokens)
        Change of their logits, less that of the mean token, for an activation of one where the
        final norm's scale is one.
    kurtosis : ndarray of shape (n,)
        Excess kurtosis of the changes over the vocabulary: 0 where they spread like a normal
        distribution, large where few tokens stand out. NaN for a direction without any effect.

    See Also
    --------
    logit_lens : Makes it.

    Examples
    --------
    >>> import numpy as np
    >>> from sksae.language_models import LogitLens
    >>> one = np.array([[1]])
    >>> lens = LogitLens(
    ...     np.array([7]), one * 5, one * 9, np.array([[" cat"]]), np.array([[" dog"]]),
    ...     one * 2.5, one * -0.5, np.array([12.0]),
    ... )
    >>> print(*lens.lines(), sep="\n")
    Feature 7: kurtosis 12
      up    ␣cat +2.5
      down  ␣dog -0.5
    """

    feature: np.ndarray
    promoted_ids: np.ndarray
    suppressed_ids: np.ndarray
    promoted: np.ndarray
    suppressed: np.ndarray
    promoted_logits: np.ndarray
    suppressed_logits: np.ndarray
    kurtosis: np.ndarray

    def __len__(self):
        return len(self.feature)

    def _shown(self):
        n = min(len(self), SHOWN)
        lines = [
            (
                self.feature[i],
                f"{self.kurtosis[i]:.3g}",
                *(
                    "  ".join(edges_visible(str(token)) for token in side[i][:_SHOWN_TOKENS])
                    for side in (self.promoted, self.suppressed)
                ),
            )
            for i in range(n)
        ]
        lines += [("…",) * 4] * (len(self) > n)
        heading = ("feature", "kurtosis", "promoted", "suppressed")
        return [f"LogitLens: {len(self):,} features"], heading, lines

    def to_frame(self):
        """Return a data frame with one line per feature and token.

        Returns
        -------
        frame : pandas.DataFrame of shape (2 * n * n_tokens, 7)
            Columns `feature`, `side` ("promoted" or "suppressed"), `rank` from 0, `id`, `token`,
            `logit` and `kurtosis`.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        pd = needed("pandas", "LogitLens.to_frame")
        n, k = self.promoted_ids.shape
        # (n, 2, n_tokens): the promoted tokens of a feature, then the suppressed ones
        ids, tokens, logits = (
            np.stack([getattr(self, f"{side}{ending}") for side in ("promoted", "suppressed")], 1)
            for ending in ("_ids", "", "_logits")
        )
        return pd.DataFrame(
            {
                "feature": np.repeat(self.feature, 2 * k),
                "side": np.tile(np.repeat(["promoted", "suppressed"], k), n),
                "rank": np.tile(np.arange(k), 2 * n),
                "id": ids.ravel(),
                "token": tokens.ravel(),
                "logit": logits.ravel(),
                "kurtosis": np.repeat(self.kurtosis, 2 * k),
            }
        )

    def lines(self):
        """Return lines for a terminal, three per feature.

        Returns
        -------
        lines : list of str
            The feature, the promoted tokens and the suppressed tokens.
        """
        lines = []
        for i, feature in enumerate(self.feature):
            up = _words(self.promoted[i], self.promoted_logits[i])
            down = _words(self.suppressed[i], self.suppressed_logits[i])
            lines += [f"Feature {feature}: kurtosis {self.kurtosis[i]:.3g}"]
            lines += [f"  up    {up}", f"  down  {down}"]
        return lines


@threads_of_process()
@own_modes()
def logit_lens(model, sae, features=None, *, n_tokens=10, block_size=256, tokenizer=None):
    """Find the tokens that features promote and suppress by their direct effect on the logits.

    A feature that adds ``a * d`` to the residual stream behind the last block changes the logits by
    ``(a / s) * W (gain * C d)``, with the unembedding `W`, the final norm's gain, `C` what takes
    the mean off in a LayerNorm and nothing in an RMSNorm, and `s` the scale that the norm divides
    the token by, held fixed [1]_, [2]_. Reported is ``W (gain * C d)`` less its mean over the
    vocabulary, which no probability depends on: logits for an activation of one at a scale of one.

    Parameters
    ----------
    model : str, Path or PreTrainedModel
        A model that predicts tokens, or the name or path of one.
    sae : estimator
        A sparse autoencoder fitted on the residual stream of the model, or on what attention or MLP
        add to it, or a `Transcoder` that predicts one of these.
    features : array-like of int, default=None
        The features of interest, columns of the codes. None takes all.
    n_tokens : int, default=10
        How many tokens to list on either side.
    block_size : int, default=256
        How many features to compute at a time; each takes four bytes for every token of the
        vocabulary.
    tokenizer : str, Path or tokenizer, default=None
        None takes the one that goes with the model's name or path. Needed with a model object.

    Returns
    -------
    lens : LogitLens
        The tokens of each feature, in the order of `features`.

    Raises
    ------
    TypeError
        If `sae` has no directions.
    ValueError
        If the model predicts no tokens, or makes its logits in a way that is not known; if the
        directions are not as wide as the stream; if a feature does not exist; if the tokenizer is
        missing.

    See Also
    --------
    describe_behaviour : What features do on a prompt, by the same equation and by gradients.

    Notes
    -----
    The picture is that of features of the last blocks. What a feature of an early block does goes
    through other blocks, of which nothing is seen here.

    The gain is measured by calling the norm, so that Gemma's, one plus its weight, is right. The
    norm is never applied to the directions themselves, which would add its bias to each. A factor
    of the logits (Cohere, Granite) is included. Gemma 2 bends its logits, ``c tanh(logits / c)``;
    this is left out: it keeps their order, but not their differences.

    Rows of the unembedding behind the last token of the tokenizer, which only make its size even,
    are neither listed nor in the mean. A token that stands for a part of a character has its name
    in the vocabulary.

    References
    ----------
    .. [1] Geva et al., "Transformer feed-forward layers build predictions by promoting concepts in
       the vocabulary space", EMNLP 2022.
    .. [2] Bloom and Lin, "Understanding SAE features with the logit lens", 2024.

    Examples
    --------
    >>> from sksae import TopKSAE
    >>> from sksae.datasets import load_corpus, load_tiny_lm
    >>> from sksae.language_models import ActivationExtractor, logit_lens
    >>> model, tokenizer = load_tiny_lm()
    >>> extractor = ActivationExtractor(model, layer=4, tokenizer=tokenizer)
    >>> X = extractor.transform(load_corpus().data[:5])
    >>> sae = TopKSAE(64, k=8, max_iter=3, random_state=0).fit(X)
    >>> lens = logit_lens(model, sae, [3, 5], n_tokens=4, tokenizer=tokenizer)
    >>> lens.promoted.shape, bool((lens.promoted_logits > lens.suppressed_logits).all())
    ((2, 4), True)
    """
    check_option("block_size", block_size, Int(1))
    check_option("n_tokens", n_tokens, Int(1))
    model, tokenizer = load_causal(model, tokenizer)
    if tokenizer is None:
        raise ValueError("With a model object the 'tokenizer' parameter is needed as well.")
    dictionary = TorchDictionary(sae)
    features = range(dictionary.n_features) if features is None else features
    features = dictionary.check_features(features)
    readout = find_readout(model)
    check_stream(dictionary, readout)
    n_known = min(len(tokenizer), readout.constants().shape[-1])
    check_option("n_tokens", n_tokens, Int(1, n_known))
    directions = dictionary.components(readout.gain)
    blocks = [
        _block(readout, directions[block.to(directions.device)], n_known, n_tokens)
        for block in features.split(block_size)
    ]
    up_ids, up, down_ids, down, kurtosis = (
        torch.cat(part).cpu().numpy() for part in zip(*blocks, strict=True)
    )
    return LogitLens(
        feature=features.numpy(),
        promoted_ids=up_ids,
        promoted=token_strings(tokenizer, up_ids),
        promoted_logits=up,
        suppressed_ids=down_ids,
        suppressed=token_strings(tokenizer, down_ids),
        suppressed_logits=down,
        kurtosis=kurtosis,
    )


@torch.no_grad()
def _block(readout, directions, n_known, n_tokens):
    """Return ids and logits of the top and the bottom, and the kurtosis, of some directions."""
    logits = readout.unembed(readout.direction(directions))[:, :n_known]
    logits = logits - logits.mean(1, keepdim=True)
    up, down = logits.topk(n_tokens), logits.topk(n_tokens, largest=False)
    squares = logits.square()
    kurtosis = squares.square().mean(1) / squares.mean(1).square() - 3
    return up.indices, up.values, down.indices, down.values, kurtosis


def check_stream(dictionary, readout):
    """Raise a ValueError unless the directions are as wide as the residual stream."""
    width = dictionary.components(readout.gain).shape[1]
    if width != readout.width:
        raise ValueError(
            f"{type(dictionary.sae).__name__} has directions of {width} features, but the residual "
            f"stream of the model has {readout.width}: the autoencoder must be of a site in the "
            f"stream, or of what attention or MLP add to it."
        )


def token_strings(tokenizer, ids):
    """Return the strings of tokens, an object array of the shape of `ids`.

    A token that is no text by itself, half a character or a row without a token, has its name.
    """
    strings = np.empty(ids.shape, dtype=object)
    string_of = {i: _string(tokenizer, i) for i in np.unique(ids).tolist()}
    strings.flat = [string_of[i] for i in ids.ravel().tolist()]
    return strings


def _string(tokenizer, token):
    name = tokenizer.convert_ids_to_tokens(token) if token < len(tokenizer) else None
    if name is None:
        return f"[{token}]"
    string = tokenizer.decode([token], clean_up_tokenization_spaces=False)
    if not string or "\ufffd" in string:
        return name
    # SentencePiece drops the space of what it takes for the first word of a text.
    return f" {string}" if name[:1] == "▁" and string[:1] != " " else string


def _words(tokens, logits):
    pairs = zip(tokens, logits, strict=True)
    return "   ".join(f"{edges_visible(token)} {logit:+.3g}" for token, logit in pairs)
