"""Tiny models with random weights and a tokenizer trained on a few sentences."""

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from tests.language_models.families import build

SENTENCES = [
    "The cat sat on the mat and the dog sat on the log.",
    "A sparse autoencoder takes activations apart.",
    "hello world, hello  again",
    "희소 오토인코더는 특징을 찾는다.",
]

END = "<|endoftext|>"


def byte_level(*, trim_offsets=False, bos=False):
    """A byte-level BPE like GPT-2's; `bos` puts a special token in front, as Llama's does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES[:3], trainer)
    trim = processors.ByteLevel(trim_offsets=trim_offsets)
    template = processors.TemplateProcessing(single=f"{END} $A", special_tokens=[(END, 0)])
    tokenizer.post_processor = processors.Sequence([trim, template]) if bos else trim
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, unk_token=END
    )


def word_piece():
    """A lower-casing WordPiece with [CLS] and [SEP], as BERT's is."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = ["the", "cat", "sat", "on", "mat", "##s", "hello", "world", ".", "특", "##징"]
    vocabulary = {word: i for i, word in enumerate([*specials, *words])}
    return transformers.BertTokenizer(vocab=vocabulary)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    # Threads that wait for each other cost more than these models do.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny():
    """``tiny(kind, head=False)``: a new model."""
    return build


@pytest.fixture(scope="session")
def trained():
    """``trained(trim_offsets=False, bos=False)``: a new byte-level tokenizer."""
    return byte_level


@pytest.fixture(scope="session")
def gpt2():
    return build("gpt2")


@pytest.fixture(scope="session")
def bert():
    return build("bert")


@pytest.fixture(scope="session")
def bpe():
    return byte_level()


@pytest.fixture(scope="session")
def wordpiece():
    return word_piece()


@pytest.fixture(scope="session")
def saved(tmp_path_factory, gpt2, bpe):
    """The path of a folder with the GPT-2 and its tokenizer."""
    path = tmp_path_factory.mktemp("gpt2")
    gpt2.save_pretrained(path)
    bpe.save_pretrained(path)
    return path
