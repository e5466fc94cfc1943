"""The text and the tokenizer of the packaged language model."""

import ast

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from sksae.datasets._corpus import (
    SOURCES,
    drop_near_duplicates,
    drop_overlapping,
    find_modules,
    is_held_out,
    read_documents,
)

CONTEXT = 256
VOCABULARY = 4096
SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


def read_text():
    """Training docstrings, held-out docstrings and training sources, each without repetitions."""
    train, held_out, code = [], [], []
    for source in SOURCES:
        documents, files = [], []
        for module, path in find_modules(source).items():
            documents += read_documents(module, path)
            if not is_held_out(module) and not module.startswith("pydoc_data"):
                files.append((module, code_without_docstrings(path)))
        documents = drop_near_duplicates(documents)
        train += [pair for pair in documents if not is_held_out(pair[0])]
        held_out += [pair for pair in documents if is_held_out(pair[0])]
        code += drop_near_duplicates(files)
    return drop_overlapping(train, held_out), held_out, drop_overlapping(code, held_out)


def code_without_docstrings(path):
    """Source text of a file without the lines of its docstrings and other standing strings."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    for node in ast.walk(ast.parse(text)):
        value = node.value if isinstance(node, ast.Expr) else None
        attaches = isinstance(value, ast.Call) and "doc" in ast.unparse(value.func)
        if attaches or isinstance(value, ast.Constant):
            for number in range(node.lineno - 1, node.end_lineno):
                lines[number] = ""
    return "".join(lines)


def train_tokenizer(texts):
    """Byte-level BPE with `<s>` put before every text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    bos = SPECIAL_TOKENS["bos_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        **SPECIAL_TOKENS,
    )


def encode(tokenizer, texts):
    """One uint16 array a text: `<s>`, its tokens, `</s>`."""
    encodings = tokenizer.backend_tokenizer.encode_batch_fast(texts)
    return [np.array([*e.ids, tokenizer.eos_token_id], dtype=np.uint16) for e in encodings]
