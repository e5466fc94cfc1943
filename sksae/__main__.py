"""Command line ``python -m sksae``: a thin layer over the public API."""

import os
import re
import sys
import time
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
from sklearn.model_selection import train_test_split

import sksae
from sksae._files import replacing
from sksae._hook_names import IN_BLOCKS
from sksae._threads import threads_for
from sksae.command_line import (
    AskedStatements,
    check_options,
    kind_of_target,
    make_autoencoder,
    make_parser,
    read_file,
    read_text_table,
    read_texts,
    split_table,
    statement_cells,
    statements_of_file,
    tested_statements,
)
from sksae.datasets import TINY_LM_PATH
from sksae.interpret import (
    CachedClient,
    FeatureAtlas,
    OpenAIClient,
    choose_features,
    explain,
    read_prompt,
    score_explanations,
)
from sksae.language_models import ActivationExtractor, SAEVectorizer
from sksae.metrics import dead_fraction, l0
from sksae.report import feature_lines, table_lines, write_page

HELD_OUT, N_FEATURES, N_EXAMPLES = 0.2, 12, 5
FOR_WORDS = {"n_examples": 50, "n_per_octave": 100}  # words are written from more than is shown
N_PROMPTS, LENGTH = 6, 600  # of the texts that the page shows whole; characters
LAYER = 3  # of the packaged model: readable features in about a minute on two cores


def main(argv=None):
    """Run the command line `argv` and return its exit code: 2 after an error, else 0 or 130."""
    parser = make_parser()
    options = parser.parse_args(argv)
    if hasattr(sys.stdout, "reconfigure"):
        # Signs that an old terminal lacks; progress that a pipe shows at once.
        sys.stdout.reconfigure(errors="replace", line_buffering=True)
    try:
        check_options(options)
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


def _run(options):
    """Fit an autoencoder to activations of texts; write the table, the features and the page."""
    started = time.perf_counter()
    texts = read_texts(options.texts, options.max_texts, options.seed)
    train, held_out = train_test_split(texts, test_size=HELD_OUT, random_state=options.seed)
    print(counts := f"{len(train):,} texts to fit, {len(held_out):,} held out")
    where = (options.model or TINY_LM_PATH, _layer(options), options.site)
    extractor = ActivationExtractor(*where, device=options.device, verbose=1)
    X = extractor.transform(train)
    X_held_out, tokens = extractor.extract(held_out)
    sae, fit_seconds = _timed(make_autoencoder(options).fit, X)
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


class _Coded(NamedTuple):
    """Codes of the texts of both sides, and the atlas of the first."""

    sae: object
    codes: tuple  # of two sparse matrices, one row per text
    atlas: FeatureAtlas
    extractor: object = None  # None for embeddings


def _run_statements(options):
    """Find statements about a target on half of the texts, and test them on the other half."""
    started = time.perf_counter()
    table = _text_table(options)
    client = _client(options)
    finding, testing, contrast = split_table(table, options.target_type or "auto", options.seed)
    counts = f"{len(finding.texts):,} texts to find statements, {len(testing.texts):,} to test them"
    print(f"{counts}; {options.target} is {kind_of_target(contrast)}")
    coded = (_coded_rows if options.embeddings else _coded_tokens)(options, finding, testing)
    explanations = score_explanations(coded.atlas, explain(coded.atlas))
    if client is None:
        statements = tested_statements(finding, testing, coded.codes, explanations, contrast)
    else:
        asking = AskedStatements(finding, testing, coded.codes, coded.atlas, contrast)
        if not _is_agreed(options, asking):
            return
        client = CachedClient(client, options.out / "answers.jsonl")
        words, statements = asking.test(client)
        explanations = {**explanations, **words}
    cells = statement_cells(statements)
    n_survive = sum(cell["survives"] == "yes" for cell in cells)
    print("", *table_lines(cells), "", sep="\n")
    print(f"{n_survive} of {len(cells)} statements survive; effects are at equal length of texts.")
    path = options.out / "statements.csv"
    with replacing(path) as part:
        statements_of_file(statements, testing).to_csv(part)
    page = write_page(
        options.out / "index.html",
        coded.atlas,
        explanations=explanations,
        title=f"What goes along with {options.target}",
        facts=_facts(options, coded.extractor, coded.sae, f"{counts}; examples are of the first"),
        table=cells,
        columns=finding.columns,
        statements=statements,
        tested_on={"text": testing.texts, **_without_text(testing.columns)},
    )
    _save(options, coded.sae, coded.extractor, explanations)
    print(f"Wrote {path} and {page} after {time.perf_counter() - started:.0f} s.")


def _without_text(columns):
    return {name: values for name, values in (columns or {}).items() if name != "text"}


def _coded_tokens(options, finding, testing):
    """Codes by an autoencoder of a language model's activations, the largest of each text."""
    where = (options.model or TINY_LM_PATH, _layer(options), options.site)
    extractor = ActivationExtractor(*where, device=options.device, verbose=1)
    X, tokens = extractor.extract(finding.texts)
    sae = make_autoencoder(options).fit(X)
    vectorizer = SAEVectorizer(extractor, sae)
    codes = vectorizer.transform(finding.texts), vectorizer.transform(testing.texts)
    return _Coded(sae, codes, FeatureAtlas(sae, **FOR_WORDS).fit(X, tokens=tokens), extractor)


def _coded_rows(options, finding, testing):
    """Codes by an autoencoder of embeddings, each of a whole text."""
    sae = make_autoencoder(options, len(finding.texts)).fit(finding.embeddings)
    codes = sae.transform(finding.embeddings), sae.transform(testing.embeddings)
    return _Coded(sae, codes, FeatureAtlas(**FOR_WORDS).fit(codes[0], tokens=finding.texts))


def _client(options):
    if options.client is None:
        return None
    key = None if options.client_key is None else os.environ[options.client_key]
    return OpenAIClient(options.client, base_url=options.client_url, api_key=key)


def _is_agreed(options, asking):
    """Show what will be asked, and return whether it may be sent."""
    cost = asking.cost(tuple(options.prices))
    price = f", {cost['price']:.2f} at the prices given" if any(options.prices) else ""
    print(
        f"{options.client} at {options.client_url or 'the address of OpenAI'} would get at most "
        f"{cost['calls']:,} questions about {len(asking.features)} features: about "
        f"{cost['tokens_in']:,} tokens sent and {cost['tokens_out']:,} received{price}."
    )
    if options.yes:
        return True
    if sys.stdin.isatty() and input("Send them? [y/N] ").strip().lower() in ("y", "yes"):
        return True
    print("Nothing was sent. With --yes, the questions are sent.")
    return False


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
    if options.embeddings is not None:
        table = table.with_embeddings(_embeddings(options.embeddings), options.embeddings)
    return table if options.max_texts is None else table.sample(options.max_texts, options.seed)


def _embeddings(path):
    try:
        embeddings = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise OSError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is no array that numpy.save has written") from error
    if not isinstance(embeddings, np.ndarray):
        raise ValueError(f"{path} holds several arrays; one .npy file is needed")
    return embeddings


def _save(options, sae, extractor, explanations):
    if options.save:
        sae.set_feature_names(explanations).save(options.save, extractor=extractor)
        print(f"Saved the estimator; load it with sksae.load({str(options.save)!r}).")


def _layer(options):
    """Return the layer of the options, or by default one past the middle."""
    if options.layer is not None or options.site not in IN_BLOCKS:
        return options.layer
    if options.model is None:
        return LAYER
    from transformers import AutoConfig

    return 2 * AutoConfig.from_pretrained(options.model).get_text_config().num_hidden_layers // 3


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
    """Return the facts that the page states about its origin, without paths of the package."""
    source = {"embeddings": str(options.embeddings)}
    if extractor is not None:
        source = {
            "model": options.model or "the small language model that comes with sksae",
            "layer": "none" if extractor.layer is None else extractor.layer,
            "site": extractor.site,
        }
    return {
        **source,
        "texts": f"{options.texts or 'the corpus that comes with sksae'}: {texts}",
        "estimator": re.sub(r"\s+", " ", repr(sae)),
        "sksae": sksae.__version__,
    }


if __name__ == "__main__":
    sys.exit(main())
