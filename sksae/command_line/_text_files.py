"""Texts of a file, or of standard input, as the command line takes them."""

import random
import re
import sys
from pathlib import Path

from sksae.datasets import load_corpus


def read_texts(name, max_texts=None, seed=0):
    """Return the texts of a file, each once.

    Parameters
    ----------
    name : str or None
        The file, "-" for standard input, None for the corpus that comes with sksae.
    max_texts : int, default=None
        The largest number of texts, drawn at random; None takes all.
    seed : int, default=0
        Of the draw.

    Returns
    -------
    texts : list of str
        The texts.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not UTF-8, or has fewer than two texts.
    """
    if name is None:
        texts, source = load_corpus().data, "the corpus that comes with sksae"
    else:
        texts, source = split_pieces(read_file(name)), name
    texts = list(dict.fromkeys(texts))
    if max_texts is not None and max_texts < len(texts):
        texts = random.Random(seed).sample(texts, max_texts)
    if len(texts) < 2:
        raise ValueError(
            f"{len(texts)} different texts in {source}, but at least 2 are needed, one of them to "
            "hold out; separate texts by blank lines or put each on a line"
        )
    return texts


def read_file(name):
    """Return the content of a UTF-8 file, or of standard input, which is "-"."""
    try:
        raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise OSError(f"cannot read {name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8 text: byte {error.start} is invalid") from error


def split_pieces(text):
    """Return the paragraphs of a text where there are blank lines, else its lines."""
    text = text.replace("\r\n", "\n").strip("\n")
    pieces = re.split(r"\n(?:[ \t]*\n)+", text)
    return [piece for piece in (pieces if len(pieces) > 1 else text.split("\n")) if piece.strip()]
