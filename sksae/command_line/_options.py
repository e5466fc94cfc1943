"""Options of ``python -m sksae``, checks of them, and the autoencoder that they ask for."""

import argparse
import os
import re
import tempfile
from pathlib import Path

from sksae._optional import needed
from sksae.autoencoders import (
    BatchTopKSAE,
    GatedSAE,
    JumpReLUSAE,
    MatryoshkaSAE,
    SparseAutoencoder,
    TopKSAE,
)

ESTIMATORS = {
    "topk": TopKSAE,
    "batchtopk": BatchTopKSAE,
    "l1": SparseAutoencoder,
    "gated": GatedSAE,
    "jumprelu": JumpReLUSAE,
    "matryoshka": MatryoshkaSAE,
}

K, PASSES = 16, 6  # what suits the packaged model and corpus: readable features in about a minute
# Features and active ones per text, up to so many texts, where each text is one row.
SIZES_BY_TEXTS = ((3_000, 64, 4), (30_000, 256, 8), (float("inf"), 1024, 8))

DESCRIPTION = """\
Fit a sparse autoencoder to the activations of a language model, print how good it is, and show
what its features stand for: in the terminal and on an HTML page that needs nothing else.

Without arguments it works on the small model and the texts that come with sksae. The options point
it at your own model and text. A fifth of the texts, at random, is held out: the features and their
examples are of those, and so is the last line of the table.

With --target, the texts are a column of a CSV file, and what is found are statements: which words
go along with the target? Half of the texts, at random, finds them; the other half tests them.
With --embeddings no language model is needed. With --client a language model on a server writes the
words and reads the texts: what that costs is shown first, and nothing is sent without --yes."""

EPILOG = """\
examples:
  python -m sksae
  python -m sksae --model openai-community/gpt2 --layer 8 --texts reviews.txt --k 32
  python -m sksae --model ./my-model --texts - --estimator jumprelu --save sae.st < notes.txt
  python -m sksae --estimator l1 --target-l0 20
  python -m sksae --texts reviews.csv --text-column text --target rating
  python -m sksae --texts reviews.csv --target rating --embeddings reviews.npy
  python -m sksae --texts reviews.csv --target rating --client llama3 \\
      --client-url http://localhost:11434/v1 --yes"""


class _Parser(argparse.ArgumentParser):
    def error(self, message):  # on one line
        self.exit(2, f"{self.prog}: error: {message}\n")


def make_parser():
    """Return the parser of all options."""
    parser = _Parser(
        prog="python -m sksae",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", metavar="NAME", help="a folder, or a name on the Hugging Face hub")
    add("--layer", type=int, help="block, from 0, or from -1 backwards (past the middle)")
    add("--site", default="resid_post", help="where in the block, or a module's path (%(default)s)")
    add("--texts", metavar="FILE", help="UTF-8, - for stdin; a text a paragraph, or else a line")
    add("--max-texts", type=_positive, metavar="N", help="use N of the texts, drawn at random")
    add("--target", metavar="COLUMN", help="of a CSV: find statements about it, and test them")
    add("--text-column", metavar="COLUMN", help="of the CSV: the texts (text)")
    add("--groups", metavar="COLUMN", help="of the CSV: whose texts depend on each other")
    add("--target-type", metavar="TYPE", help="binary, multiclass, ordinal, continuous or counts")
    rows = "numpy file with a row per line of the CSV, in place of a model"
    add("--embeddings", type=Path, metavar="FILE", help=rows)
    add("--client", metavar="NAME", help="model on a server that writes words and reads texts")
    add("--client-url", metavar="URL", help="of an OpenAI-compatible server (OpenAI's own)")
    add("--client-key", metavar="VARIABLE", help="of the environment, with the key for that server")
    prices = {"type": _weight, "nargs": 2, "default": (0.0, 0.0), "metavar": ("IN", "OUT")}
    add("--prices", **prices, help="of a million tokens sent and received, for the cost")
    add("--yes", action="store_true", help="send the questions whose cost was shown")
    kind = {"type": _estimator, "default": "topk", "metavar": "NAME"}
    add("--estimator", **kind, help=f"{', '.join(ESTIMATORS)}, or a class such as TopKSAE (topk)")
    add("--k", type=_positive, help="features active on each token, for topk and batchtopk")
    add("--alpha", type=_weight, help="weight of the sparsity penalty, for the others")
    add("--target-l0", type=_above_0, metavar="L0", help="active features to reach, for the others")
    add("--n-components", type=_positive, metavar="N", help="number of features (8 x the width)")
    add("--max-iter", type=_positive, metavar="N", help="passes over the activations")
    out = {"type": Path, "default": Path("sksae-report"), "metavar": "DIR"}
    add("--out", **out, help="of the page (%(default)s)")
    add("--save", type=Path, metavar="FILE", help="store the fitted estimator, for sksae.load")
    add("--seed", type=int, default=0, help="of the split and of the fit (%(default)s)")
    add("--device", default="auto", help="cpu, cuda or mps (%(default)s)")
    return parser


def _positive(string):
    if int(string) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {string}")
    return int(string)


def _weight(string):
    if not 0 <= float(string) < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number >= 0, got {string}")
    return float(string)


def _above_0(string):
    if not 0 < float(string) < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number > 0, got {string}")
    return float(string)


def _estimator(string):
    names = {cls.__name__.lower(): name for name, cls in ESTIMATORS.items()}
    spelling = re.sub("[-_ ]", "", string.lower())
    name = names.get(spelling, spelling)
    if name == "transcoder":
        raise argparse.ArgumentTypeError(
            "a transcoder predicts other activations than it reads, and needs sksae.Transcoder"
        )
    if name not in ESTIMATORS:
        choices = ", ".join(f"{name} ({cls.__name__})" for name, cls in ESTIMATORS.items())
        raise argparse.ArgumentTypeError(f"unknown estimator {string!r}; there are {choices}")
    return name


def _takes_k(options):
    return "k" in ESTIMATORS[options.estimator]().get_params()


def check_options(options):
    """Raise for options that cannot work, before minutes are spent."""
    if options.k is not None and not _takes_k(options):
        raise ValueError(
            f"--k is for topk; {options.estimator} takes --alpha or --target-l0 (--k is for "
            "batchtopk as well)"
        )
    for option in ("alpha", "target_l0"):
        if getattr(options, option) is not None and _takes_k(options):
            name = option.replace("_", "-")
            raise ValueError(f"--{name} is for penalised estimators; {options.estimator} takes --k")
    if options.target is None:
        for option in ("text_column", "groups", "target_type", "embeddings", "client"):
            if getattr(options, option) is not None:
                raise ValueError(f"--{option.replace('_', '-')} is for texts with a --target")
    else:
        needed("pandas", "--target")
        if options.texts is None:
            raise ValueError("--target needs the CSV file that it is a column of: --texts FILE")
    _check_sources(options)
    path = options.model or "."
    if path[0] in "./~" and not Path(path).expanduser().is_dir():
        raise ValueError(f"there is no folder {options.model} to load a model from")
    _check_writable(options.out)
    if options.save is not None:
        if options.save.is_dir():
            raise ValueError(f"--save needs the name of a file; {options.save} is a folder")
        _check_writable(options.save.parent)


def _check_sources(options):
    """Raise for options that embeddings or a client cannot honour."""
    for option in ("model", "layer", "save"):
        if options.embeddings is not None and getattr(options, option) is not None:
            raise ValueError(f"--{option} has no use with --embeddings, which need no model")
    for option in ("client_url", "client_key"):
        if options.client is None and getattr(options, option) is not None:
            raise ValueError(f"--{option.replace('_', '-')} is for a --client")
    if options.client_key is not None and not os.environ.get(options.client_key):
        raise ValueError(f"the environment has no variable {options.client_key} with a key")


def _check_writable(folder):
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"cannot write to {folder}: {error.strerror}") from error


def make_autoencoder(options, n_texts=None):
    """Return the estimator asked for, with sizes that suit the rows.

    Parameters
    ----------
    options : Namespace
    n_texts : int, default=None
        Number of rows where each is a whole text; None for rows of tokens.
    """
    n_components, k = None, (K if options.model is None else None)
    if n_texts is not None:
        n_components, k = next(size for most, *size in SIZES_BY_TEXTS if n_texts <= most)
    chosen = {
        "n_components": options.n_components or n_components,
        "max_iter": options.max_iter,
    }
    if _takes_k(options):
        chosen["k"] = options.k or k
    else:
        chosen |= {"alpha": options.alpha, "target_l0": options.target_l0}
    if options.model is None and options.texts is None:
        chosen["max_iter"] = options.max_iter or PASSES
    return ESTIMATORS[options.estimator](
        **chosen, sparse_output=True, device=options.device, random_state=options.seed, verbose=1
    )
