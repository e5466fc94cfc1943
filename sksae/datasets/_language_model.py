"""Tiny language model that is part of the package."""

from contextlib import contextmanager
from pathlib import Path

TINY_LM_PATH = Path(__file__).parent / "tiny_lm"


def load_tiny_lm():
    """Load the packaged language model and its tokenizer.

    A Llama of 3.0 million parameters (5 blocks, 192 features in the residual stream, a context of
    256 tokens), trained on the documentation of numpy, scipy, scikit-learn, torch, transformers and
    Python. It is part of the installation: nothing is downloaded. The folder it is loaded from is
    ``sksae.datasets.TINY_LM_PATH``, for everything that takes a model by path.

    Returns
    -------
    model : :class:`~transformers.LlamaForCausalLM`
        The model in float32 on the CPU, in evaluation mode.
    tokenizer : :class:`~transformers.PreTrainedTokenizerFast`
        Byte-level BPE of 4096 tokens. It puts ``<s>`` before each text; ``<pad>`` and ``</s>`` are
        tokens of their own.

    Examples
    --------
    >>> from sksae.datasets import load_tiny_lm
    >>> model, tokenizer = load_tiny_lm()
    >>> encoded = tokenizer(["Compute the mean"], return_tensors="pt")
    >>> model(**encoded).logits.shape[-1]
    4096
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with _silent_progress():
        tokenizer = AutoTokenizer.from_pretrained(TINY_LM_PATH, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(
            TINY_LM_PATH, dtype=torch.float32, local_files_only=True
        )
    return model.eval(), tokenizer


@contextmanager
def _silent_progress():
    """Hide the progress bars of transformers: the files have 6 MB."""
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    if enabled:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()
