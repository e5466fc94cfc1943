"""``python -m sksae``: a thin skin over what ``docs/examples/language_model_features.py`` does."""

import argparse
import re
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from sklearn.model_selection import train_test_split

import sksae
from sksae._files import replacing
from sksae._hook_names import IN_BLOCKS
from sksae._optional import needed
from sksae._threads import threads_for
from sksae.command_line import (
    kind_of_target,
    read_file,
    read_text_table,
    read_texts,
    split_table,
    statement_cells,
    tested_statements,
)
from sksae.datasets import TINY_LM_PATH
from sksae.interpret import FeatureAtlas, choose_features, explain, read_prompt, score_explanations
from sksae.language_models import ActivationExtractor, SAEVectorizer
from sksae.metrics import dead_fraction, l0
from sksae.report import feature_lines, table_lines, write_page

ESTIMATORS = {
    "topk": sksae.TopKSAE,
    "batchtopk": sksae.BatchTopKSAE,
    "l1": sksae.SparseAutoencoder,
    "gated": sksae.GatedSAE,
    "jumprelu": sksae.JumpReLUSAE,
    "matryoshka": sksae.MatryoshkaSAE,
}
HELD_OUT, N_FEATURES, N_EXAMPLES = 0.2, 12, 5
FOR_WORDS = {"n_examples": 50, "n_per_octave": 100}  # words are written from more than is shown
N_PROMPTS, LENGTH = 6, 600  # of the texts that the page shows whole; characters

# What suits the packaged model and corpus: readable features in about a minute on two cores.
LAYER, K, PASSES = 3, 16, 6

DESCRIPTION = """\
Fit a sparse autoencoder to the activations of a language model, print how good it is, and show
what its features stand for: in the terminal and on an HTML page that needs nothing else.

Without arguments it works on the small model and the texts that come with sksae. The options point
it at your own model and text. A fifth of the texts, at random, is held out: the features and their
examples are of those, and so is the last line of the table.

With --target, the texts are a column of a CSV file, and what is found are statements: which words
go along with the target? Half of the texts, at random, finds them; the other half tests them."""

EPILOG = """\
examples:
  python -m sksae
  python -m sksae --model openai-community/gpt2 --layer 8 --texts reviews.txt --k 32
  python -m sksae --model ./my-model --texts - --estimator jumprelu --save sae.st < notes.txt
  python -m sksae --estimator l1 --target-l0 20
  python -m sksae --texts reviews.csv --text-column text --target rating"""


class _Parser(argparse.ArgumentParser):
    def error(self, message):  # on one line
        self.exit(2, f"{self.prog}: error: {message}\n")


def main(argv=None):
    """Run the command line `argv` and return its exit code: 2 after an error, else 0 or 130."""
    parser = _parser()
    options = parser.parse_args(argv)
    if hasattr(sys.stdout, "reconfigure"):
        # Signs that an old terminal lacks; progress that a pipe shows at once.
        sys.stdout.reconfigure(errors="replace", line_buffering=True)
    try:
        _check(options)
        # The packaged model is too small to share: on busy cores threads wait for each other.
        with threads_for(0) if options.model is None else nullcontext():
            (_run if options.target is None else _run_statements)(options)
    except KeyboardInterrupt:
        print(f"\n{parser.prog}: interrupted", file=sys.stderr)
        return 130
    except (ArithmeticError, ImportError, MemoryError, OSError, ValueError) as error:
        message = next(filter(str.strip, str(error).splitlines()), type(error).__name__)
        print(f"{parser.prog}: error: {message}", file=sys.stderr)
        return 2
    return 0


def _parser():
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


def _check(options):
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
        for option in ("text_column", "groups", "target_type"):
            if getattr(options, option) is not None:
                raise ValueError(f"--{option.replace('_', '-')} is for texts with a --target")
    else:
        needed("pandas", "--target")
        if options.texts is None:
            raise ValueError("--target needs the CSV file that it is a column of: --texts FILE")
    path = options.model or "."
    if path[0] in "./~" and not Path(path).expanduser().is_dir():
        raise ValueError(f"there is no folder {options.model} to load a model from")
    _check_writable(options.out)
    if options.save is not None:
        if options.save.is_dir():
            raise ValueError(f"--save needs the name of a file; {options.save} is a folder")
        _check_writable(options.save.parent)


def _check_writable(folder):
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"cannot write to {folder}: {error.strerror}") from error


def _run(options):
    """All of it: texts, activations, fit, table, features, page."""
    started = time.perf_counter()
    texts = read_texts(options.texts, options.max_texts, options.seed)
    train, held_out = train_test_split(texts, test_size=HELD_OUT, random_state=options.seed)
    print(counts := f"{len(train):,} texts to fit, {len(held_out):,} held out")
    where = (options.model or TINY_LM_PATH, _layer(options), options.site)
    extractor = ActivationExtractor(*where, device=options.device, verbose=1)
    X = extractor.transform(train)
    X_held_out, tokens = extractor.extract(held_out)
    sae, fit_seconds = _timed(_autoencoder(options).fit, X)
    codes, code_seconds = _timed(sae.transform, X_held_out)
    table = measure(sae, X, X_held_out, codes, (fit_seconds, code_seconds))
    print("", *table_lines(table), "", sep="\n")

    atlas = look(sae, X_held_out, tokens, options.model or TINY_LM_PATH)
    for feature in choose_features(atlas, n_features=N_FEATURES).tolist():
        print(*feature_lines(atlas.feature(feature), n_examples=N_EXAMPLES), "", sep="\n")
    extractor.set_params(verbose=0)  # prompts are short
    explanations = score_explanations(atlas, explain(atlas))
    page = write_page(
        options.out / "index.html",
        atlas,
        explanations=explanations,
        prompts=[read_prompt(extractor, sae, text[:LENGTH]) for text in held_out[:N_PROMPTS]],
        title="What the features stand for",
        facts=_facts(options, extractor, sae, f"{counts}; examples are of those held out"),
        table=table,
    )
    _save(options, sae, extractor, explanations)
    print(f"Wrote {page} after {time.perf_counter() - started:.0f} s; open it in a browser.")


def _run_statements(options):
    """The same for texts with a target: statements, tested on the other half of the texts."""
    started = time.perf_counter()
    table = _text_table(options)
    *sides, contrast = split_table(table, options.target_type or "auto", options.seed)
    finding, testing = (side.texts for side in sides)
    counts = f"{len(finding):,} texts to find statements, {len(testing):,} to test them"
    print(f"{counts}; {options.target} is {kind_of_target(contrast)}")
    where = (options.model or TINY_LM_PATH, _layer(options), options.site)
    extractor = ActivationExtractor(*where, device=options.device, verbose=1)
    X, tokens = extractor.extract(finding)
    sae = _autoencoder(options).fit(X)
    codes = tuple(map(SAEVectorizer(extractor, sae).transform, (finding, testing)))
    atlas = FeatureAtlas(sae, **FOR_WORDS).fit(X, tokens=tokens)
    explanations = score_explanations(atlas, explain(atlas))
    statements = tested_statements(*sides, codes, explanations, contrast)
    cells = statement_cells(statements)
    n_survive = sum(cell["survives"] == "yes" for cell in cells)
    print("", *table_lines(cells), "", sep="\n")
    print(f"{n_survive} of {len(cells)} statements survive; effects are at equal length of texts.")
    path = options.out / "statements.csv"
    with replacing(path) as part:
        statements.to_csv(part)
    page = write_page(
        options.out / "index.html",
        atlas,
        explanations=explanations,
        title=f"What goes along with {options.target}",
        facts=_facts(options, extractor, sae, f"{counts}; examples are of the first"),
        table=cells,
    )
    _save(options, sae, extractor, explanations)
    print(f"Wrote {path} and {page} after {time.perf_counter() - started:.0f} s.")


def _text_table(options):
    table = read_text_table(
        read_file(options.texts),
        source=options.texts,
        text=options.text_column or "text",
        target=options.target,
        groups=options.groups,
    )
    if table.n_left_out:
        print(f"Rows left out, for an empty cell: {table.n_left_out:,}")
    return table if options.max_texts is None else table.sample(options.max_texts, options.seed)


def _save(options, sae, extractor, explanations):
    if options.save:
        sae.set_feature_names(explanations).save(options.save, extractor=extractor)
        print(f"Saved the estimator; load it with sksae.load({str(options.save)!r}).")


def _layer(options):
    """The block asked for, or one past the middle."""
    if options.layer is not None or options.site not in IN_BLOCKS:
        return options.layer
    if options.model is None:
        return LAYER
    from transformers import AutoConfig

    return 2 * AutoConfig.from_pretrained(options.model).get_text_config().num_hidden_layers // 3


def _autoencoder(options):
    """The estimator asked for; for the packaged model and corpus, with settings that suit them."""
    chosen = {"n_components": options.n_components, "max_iter": options.max_iter}
    if _takes_k(options):
        chosen["k"] = options.k or (K if options.model is None else None)
    else:
        chosen |= {"alpha": options.alpha, "target_l0": options.target_l0}
    if options.model is None and options.texts is None:
        chosen["max_iter"] = options.max_iter or PASSES
    return ESTIMATORS[options.estimator](
        **chosen, sparse_output=True, device=options.device, random_state=options.seed, verbose=1
    )


def _timed(work, X):
    """Return what `work` makes of X, and how many seconds it took."""
    started = time.perf_counter()
    made = work(X)
    return made, time.perf_counter() - started


def measure(sae, X, X_held_out, codes, seconds):
    """Return the table: a line for the rows that were fitted, one for those held out."""
    fired = sae.activation_frequency_
    lines = (
        ("training", X, sae.n_iter_, fired.sum(), (fired == 0).mean(), seconds[0]),
        ("held out", X_held_out, 1, l0(codes), dead_fraction(codes), seconds[1]),
    )
    return [
        {
            "": name,
            "rows": f"{len(rows):,}",
            "width": f"{sae.n_components_:,}",
            "explained variance": f"{sae.score(rows):.4f}",
            "L0": f"{active:.1f}",
            "dead fraction": f"{dead:.4f}",
            "seconds": f"{spent:.1f}",
            "rows/second": f"{len(rows) * passes / spent:,.0f}",
        }
        for name, rows, passes, active, dead, spent in lines
    ]


def look(sae, X, tokens, model):
    """Return the atlas of the features, with promoted tokens if the model predicts any."""
    try:
        return FeatureAtlas(sae, language_model=model).fit(X, tokens=tokens)
    except ValueError as error:
        print(f"No promoted tokens: {error}")
        return FeatureAtlas(sae).fit(X, tokens=tokens)


def _facts(options, extractor, sae, texts):
    """What the page says about how it came to be; no path of the package's own."""
    return {
        "model": options.model or "the small language model that comes with sksae",
        "layer": "none" if extractor.layer is None else extractor.layer,
        "site": extractor.site,
        "texts": f"{options.texts or 'the corpus that comes with sksae'}: {texts}",
        "estimator": re.sub(r"\s+", " ", repr(sae)),
        "sksae": sksae.__version__,
    }


if __name__ == "__main__":
    sys.exit(main())
