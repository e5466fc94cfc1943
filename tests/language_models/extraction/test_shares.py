"""A folder of activations that several processes write: the folder of one process."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sksae.language_models import ActivationExtractor, TokenTable, load_activations
from sksae.language_models.extraction import _activation_reader, _store
from sksae.language_models.extraction._shards import MANIFEST, STRINGS, TEXTS, TOKENS, read_facts
from tests.cases import tries
from tests.processes import needs_processes, together

pytestmark = needs_processes

TEXTS_OF_X = [
    "The cat sat on the mat.",
    "",
    "희소 특징 👩",
    "a dog and a log",
    "hello world",
    "a",
    "b",
]


@pytest.fixture(autouse=True, scope="module")
def _small_parts():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_activation_reader, "CHUNK_TOKENS", 8)
        patch.setattr(_store, "_COPIED_ROWS", 8)
        yield


@pytest.fixture(scope="module")
def extractor(gpt2, bpe):
    return ActivationExtractor(gpt2, [0, 1], tokenizer=bpe, drop_first_position=False)


def written(rank, extractor, texts, folder, fails=False):
    """What each process gets; with `fails` the first one fails while it merges, and tries again."""
    original = _store._merged

    def failing(shares, first, last):
        if first > 2:
            raise KeyError(first)
        return original(shares, first, last)

    if fails:
        _store._merged = failing
        try:
            extractor.to_memmap(iter(texts), folder)
        except (KeyError, RuntimeError):
            return "failed"
        finally:
            _store._merged = original
    rows, _ = extractor.to_memmap(iter(texts), folder)
    return {site: np.array(block) for site, block in rows.items()}


def assert_written_as_one(folder, expected):
    """Tokens, texts and strings byte by byte, rows but for the rounding of other batches."""
    for name in (TOKENS, STRINGS, TEXTS):
        assert (folder / name).read_bytes() == (expected / name).read_bytes()
    facts, known = (read_facts(place / MANIFEST) for place in (folder, expected))
    assert facts["sha256"] == known["sha256"]
    rows, _ = load_activations(folder)
    for site, block in load_activations(expected)[0].items():
        np.testing.assert_allclose(rows[site], block, rtol=2e-3, atol=2e-3)
    assert not list(folder.glob("share-*"))


def test_two_processes_write_the_folder_of_one(extractor, tmp_path):
    expected, folder = tmp_path / "one", tmp_path / "two"
    extractor.to_memmap(TEXTS_OF_X, expected)
    first, second = together(written, extractor, TEXTS_OF_X, folder)
    assert list(first) == list(second) == ["0.resid_post", "1.resid_post"]
    assert_written_as_one(folder, expected)
    for site, block in load_activations(folder)[0].items():
        np.testing.assert_array_equal(first[site], block)
        np.testing.assert_array_equal(second[site], block)
    # A complete folder is opened by any number of processes, and is that of these texts.
    extractor.to_memmap(TEXTS_OF_X, folder)
    for result in together(written, extractor, TEXTS_OF_X, folder):
        np.testing.assert_array_equal(result["0.resid_post"], first["0.resid_post"])
    with pytest.raises(ValueError, match="first 7 are not those of X"):
        extractor.to_memmap(TEXTS_OF_X[::-1], folder)


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 9])
def test_a_merge_that_was_interrupted_goes_on(extractor, tmp_path, n):
    """More processes than texts included: some have none."""
    expected, folder = tmp_path / "one", tmp_path / "several"
    extractor.to_memmap(TEXTS_OF_X, expected)
    assert together(written, extractor, TEXTS_OF_X, folder, True, n=n) == ["failed"] * n
    with pytest.raises(ValueError, match=rf"was begun by {n} process\(es\), not by 1"):
        extractor.to_memmap(TEXTS_OF_X, folder)
    together(written, extractor, TEXTS_OF_X, folder, n=n)
    assert_written_as_one(folder, expected)


@settings(max_examples=tries(60))
@given(
    n_tokens=st.lists(st.integers(0, 4), min_size=1, max_size=12),
    n_shares=st.integers(1, 5),
    bounds=st.tuples(st.integers(0, 12), st.integers(0, 12)).map(sorted),
)
def test_shares_are_merged_in_the_order_of_the_texts(n_tokens, n_shares, bounds):
    first, last = (min(bound, len(n_tokens)) for bound in bounds)
    texts = [f"text {i}" for i in range(len(n_tokens))]
    text = np.repeat(np.arange(len(n_tokens)), n_tokens)

    def table(text, texts):
        numbers = np.arange(len(text))
        columns = dict.fromkeys(("id", "string", "start", "end", "group"), numbers)
        return TokenTable(text=text, position=numbers, texts=texts, **columns)

    whole = np.arange(len(text))[:, None]  # a row is its number
    shares = [
        (whole[own], table(text[own] // n_shares, texts[i::n_shares]))
        for i in range(n_shares)
        for own in [text % n_shares == i]
    ]
    (rows,), merged = _store._merged(shares, first, last)
    chosen = (text >= first) & (text < last)
    assert rows.tolist() == whole[chosen].tolist()
    assert merged.text.tolist() == (text[chosen] - first).tolist()
    assert merged.texts == texts[first:last]


def other_texts(rank, extractor, folder):
    try:
        extractor.to_memmap(["a", "b", f"text {rank}"], folder)
    except ValueError as error:
        return str(error)


def test_processes_with_other_texts_are_told_so(extractor, tmp_path):
    for message in together(other_texts, extractor, tmp_path / "folder"):
        assert message.startswith("The processes of torch.distributed do this together, but X is ")
