import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sksae import TopKSAE
from sksae.datasets import TINY_LM_PATH
from sksae.interpret import PromptCodes, read_prompt
from sksae.language_models import ActivationExtractor

TEXT = "sparse features: 희소 특징 🙂"


@pytest.fixture(scope="module")
def extractor():
    return ActivationExtractor(TINY_LM_PATH, layer=2)


@pytest.fixture(scope="module")
def topk(extractor):
    rows = extractor.transform([TEXT, "A list of numbers."] * 4)
    return TopKSAE(24, k=4, max_iter=1, random_state=0).fit(rows)


def test_pieces_are_whole_and_codes_their_largest(extractor, topk):
    prompt = read_prompt(extractor, topk, TEXT)
    rows, tokens = extractor.extract([TEXT])
    assert TEXT.endswith("".join(prompt.tokens))  # the first position may be left out
    assert "희" in "".join(prompt.tokens)
    _, firsts = tokens.merged()
    assert len(prompt.tokens) == len(firsts) < len(rows)
    expected = np.maximum.reduceat(topk.transform(rows), firsts)
    assert sparse.issparse(prompt.codes)
    np.testing.assert_allclose(prompt.codes.toarray(), expected)


def test_the_estimator_stays_as_it_is(extractor, topk):
    read_prompt(extractor, topk, TEXT)
    assert topk.sparse_output is False


def test_strongest_features():
    codes = sparse.csr_array(np.array([[0, 1.0, 0, 3], [2, 0, 0, 1]]))
    prompt = PromptCodes("ab", np.array(["a", "b"], dtype=object), codes)
    assert prompt.strongest().tolist() == [3, 0, 1]
    assert prompt.strongest(n_features=1).tolist() == [3]


def test_errors(extractor, topk):
    with pytest.raises(TypeError, match=r"text must be a string\. Got list"):
        read_prompt(extractor, topk, [TEXT])
    with pytest.raises(ValueError, match="No token of this text"):
        read_prompt(extractor, topk, "")
    with pytest.raises(NotFittedError):
        read_prompt(extractor, TopKSAE(4), TEXT)


def test_any_fitted_transformer_will_do(extractor, topk):
    expected = read_prompt(extractor, topk, TEXT).codes.toarray()
    scaler = StandardScaler(with_mean=False, with_std=False).fit(extractor.transform([TEXT]))
    pipeline = make_pipeline(scaler, topk)
    np.testing.assert_array_equal(read_prompt(extractor, pipeline, TEXT).codes.toarray(), expected)
