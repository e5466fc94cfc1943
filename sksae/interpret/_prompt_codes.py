"""The codes of one text, piece by piece."""

import reprlib
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from sksae._coding import as_csr, sparse_coder, sparse_codes
from sksae._runs import run_starts
from sksae.interpret._token_cells import read_cells


@dataclass(frozen=True, eq=False, repr=False)
class PromptCodes:
    """A text, cut into pieces, and the codes of each piece.

    The page of :func:`~sksae.report.write_page` shows it as a heat map of features and pieces.

    Parameters
    ----------
    text : str
        The text.
    tokens : ndarray of shape (n_pieces,), dtype=object
        One string per piece of whole characters.
    codes : csr_array of shape (n_pieces, n_components)
        The largest codes of the rows that make up each piece.

    See Also
    --------
    read_prompt : Makes it.
    sksae.report.write_page : Shows it.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> from sksae.interpret import PromptCodes
    >>> tokens = np.array(["cold", " tea"], dtype=object)
    >>> prompt = PromptCodes("cold tea", tokens, sparse.csr_array([[0, 2.0], [1.0, 0]]))
    >>> prompt.strongest(n_features=1)
    array([1])
    """

    text: str
    tokens: np.ndarray
    codes: sparse.csr_array

    def __repr__(self):
        n_tokens, n_features = self.codes.shape
        text = reprlib.repr(self.text)
        return f"PromptCodes({text}, {n_tokens} tokens, {n_features} features)"

    def strongest(self, n_features=10):
        """Return the features that fire most, by their largest code.

        Parameters
        ----------
        n_features : int, default=10
            Largest number of features returned.

        Returns
        -------
        features : ndarray of shape (n_active,)
            Columns of the codes, the strongest first.
        """
        codes = as_csr(self.codes)
        largest = np.zeros(codes.shape[1])
        np.maximum.at(largest, codes.indices, codes.data)
        order = np.argsort(-largest, kind="stable")[:n_features]
        return order[largest[order] > 0]


def read_prompt(extractor, sae, text):
    """Compute the codes of a text, piece by piece.

    Tokens that share a character are one piece, with the largest of their codes.

    Parameters
    ----------
    extractor : ActivationExtractor
        Gives the activations that `sae` was fitted on.
    sae : estimator
        A fitted sparse autoencoder, or another transformer with codes that are not negative.
    text : str
        The text.

    Returns
    -------
    prompt : PromptCodes
        Its pieces, of whole characters each, and their codes.

    Raises
    ------
    TypeError
        If `text` is no string, or `extractor` is no extractor.
    ValueError
        If no token of the text is read.

    See Also
    --------
    max_activating_examples : The texts on which a feature fires most.
    sksae.language_models.describe_behaviour : Effects of features on the logits of a prompt.

    Examples
    --------
    >>> from sksae import TopKSAE
    >>> from sksae.datasets import TINY_LM_PATH
    >>> from sksae.interpret import read_prompt
    >>> from sksae.language_models import ActivationExtractor
    >>> extractor = ActivationExtractor(TINY_LM_PATH, layer=3)
    >>> sae = TopKSAE(16, k=4, max_iter=1, random_state=0)
    >>> sae = sae.fit(extractor.transform(["The river ran past the mill."] * 9))
    >>> prompt = read_prompt(extractor, sae, "a mill, 방앗간")
    >>> prompt.codes.shape == (len(prompt.tokens), 16)
    True
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a string. Got {type(text).__name__} instead.")
    if not hasattr(extractor, "extract"):
        raise TypeError(
            "extractor must be an ActivationExtractor, and comes first: read_prompt(extractor, "
            f"sae, text). Got {type(extractor).__name__} instead."
        )
    coder = sparse_coder(sae)
    width = len(coder.get_feature_names_out())
    rows, tokens = extractor.extract([text])
    if not len(tokens):
        raise ValueError("No token of this text is read; it is empty, or the extractor skips all.")
    cells = read_cells(tokens, len(tokens))
    codes = sparse_codes(coder, rows, width)
    return PromptCodes(text, cells.string, _largest_per_cell(codes, cells))


def _largest_per_cell(codes, cells):
    """Return the largest codes of the rows of each cell, as CSR."""
    codes = codes.tocoo()
    shape = (len(cells.string), codes.shape[1])
    key = cells.cell[codes.row].astype(np.int64) * shape[1] + codes.col  # cell and feature
    order = np.argsort(key, kind="stable")
    key, data = key[order], codes.data[order]
    starts = run_starts(key)
    largest = np.maximum.reduceat(data, starts) if len(starts) else data
    cell, feature = np.divmod(key[starts], shape[1])
    return sparse.csr_array((largest, (cell, feature)), shape=shape)
