"""From texts to statements on planted data, alone and beside hypothesaes.

    python -m tests.benchmarks.statements planted
    python -m tests.benchmarks.statements hypothesaes

Texts mention some of twelve concepts, of which five drive a rating and three a label. Half of the
texts finds statements, the other half tests them. Every seed draws other texts and other vectors of
the words. The language model is a script that knows the concepts, the same for both libraries,
which are called as their guides show; the lines between ``# begin`` and ``# end`` are those that a
user writes. `hypothesaes` needs the package of that name, and statsmodels and tiktoken; what else
it imports is not needed here, and stood in for.
"""

import argparse
import contextlib
import functools
import inspect
import io
import re
import sys
import time

import numpy as np

from sksae import TopKSAE
from sksae.interpret import FeatureAtlas, FeatureContrast, explain, split_texts, validate
from tests.benchmarks.libraries import stand_ins
from tests.interpret.statements.planted_concepts import (
    DRIVING,
    Scripted,
    embeddings,
    judged,
    planted_texts,
)

N_FEATURES, K = 24, 4
NEEDED = {"rating": 4, "label": 3}  # driving concepts that a path has to find


def by_sksae(finding, testing, client, seed, *, n_features_to_select=None):
    """Surviving statements; both sides are texts, embeddings and a target."""
    # begin
    texts, X, y = finding
    sae = TopKSAE(N_FEATURES, k=K, max_iter=60, batch_size=64, random_state=seed).fit(X)
    codes = sae.transform(X)
    contrast = FeatureContrast(n_features_to_select=n_features_to_select, random_state=seed)
    contrast.fit(codes, y)
    atlas = FeatureAtlas(n_examples=50, n_per_octave=100).fit(codes, tokens=texts)
    words = explain(atlas, client, contrast.get_support(indices=True))
    texts, X, y = testing
    table = validate(texts, y, words, client, contrast=contrast, codes=sae.transform(X))
    return table.loc[table["survives"], "text"].tolist()
    # end


def by_hypothesaes(finding, testing, client, seed):
    """The same by hypothesaes with its defaults, but for the size of the autoencoder."""
    import hypothesaes
    import torch
    from hypothesaes import annotate, interpret_neurons

    reader = functools.partial(answer_hypothesaes, client)
    annotate.get_completion = interpret_neurons.get_completion = reader
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - it draws from numpy's own state
    # begin
    texts, X, y = finding
    sae = hypothesaes.train_sae(X, M=N_FEATURES, K=K)
    table = hypothesaes.generate_hypotheses(texts, y, X, sae)
    texts, X, y = testing
    _, table = hypothesaes.evaluate_hypotheses(table, texts, y)
    threshold = 0.1 / len(table)
    return table.loc[table["regression_pval"] < threshold, "hypothesis"].tolist()
    # end


def answer_hypothesaes(client, prompt, **_):
    """Answer a prompt of hypothesaes as the script does."""
    positive = re.search(r"POSITIVE SAMPLES:\n-+\n(.*?)\n-+\n", prompt, re.DOTALL)
    if positive:
        return client.concept_of(positive[1]) + '"'
    name, text = re.findall(r'PROPERTY: "(.*?)"\nTEXT: "(.*?)"\nOutput:', prompt, re.DOTALL)[-1]
    return "Yes." if client.has_concept(name, [text])[0] else "No."


def outcome(find, seed, target, client, **options):
    """What one path says about one target, and what that takes."""
    texts, targets = planted_texts(seed)
    X, y = embeddings(texts, seed), targets[target].astype(float)
    sides = split_texts(texts, random_state=seed)
    finding, testing = (([texts[i] for i in side], X[side], y[side]) for side in sides)
    started = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        surviving = find(finding, testing, client, seed, **options)
    seconds = time.process_time() - started
    named, false = judged(surviving, target)
    return {
        "named": len(named),
        "false": false,
        "statements": len(surviving),
        "questions": getattr(client, "n_asked", 0),
        "texts read": getattr(client, "n_read", 0),
        "seconds": seconds,
    }


def n_lines(find):
    """Lines that a user writes for a path."""
    source = inspect.getsource(find)
    lines = source[source.index("# begin") : source.index("# end")].splitlines()[1:-1]
    return sum(bool(line.strip()) for line in lines)


def is_right(outcomes):
    """Whether enough is found of both targets, and nothing false is said."""
    return all(
        outcomes[target]["named"] >= NEEDED[target] and not outcomes[target]["false"]
        for target in DRIVING
    )


def run(name, find, seeds, make_client, **options):
    """Print a line per seed and one of all; return the number of seeds that are right."""
    lines, n_right = [], 0
    for seed in seeds:
        outcomes = {
            target: outcome(find, seed, target, make_client(), **options) for target in DRIVING
        }
        n_right += is_right(outcomes)
        lines += outcomes.values()
        shown = ", ".join(
            f"{target}: {one['named']} of {len(DRIVING[target])}, {one['statements']} statements, "
            f"false {one['false']}"
            for target, one in outcomes.items()
        )
        print(f"{name}, seed {seed}: {shown}", flush=True)
    mean = {
        key: np.mean([line[key] for line in lines])
        for key in ("statements", "questions", "texts read", "seconds")
    }
    print(
        f"{name}: right in {n_right} of {len(seeds)} seeds; driving concepts "
        f"{sum(line['named'] for line in lines)} of {len(seeds) * 8}; false statements "
        f"{sum(len(line['false']) for line in lines)}; per target: "
        + ", ".join(f"{value:.4g} {key}" for key, value in mean.items())
        + f"; {n_lines(find)} lines",
        flush=True,
    )
    return n_right


def main(arguments=None):
    """Run one of the measurements; 2 where hypothesaes is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("measurement", choices=("planted", "hypothesaes"))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=100)
    options = parser.parse_args(arguments)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    if options.measurement == "planted":
        run("offline", by_sksae, seeds, lambda: None)
        run("scripted", by_sksae, seeds, Scripted)
        return 0
    try:
        with stand_ins(("sentence_transformers",)):
            import hypothesaes  # noqa: F401 - the first import, without what is not needed
    except ImportError as error:
        print(f"hypothesaes is skipped: {error} (pip install hypothesaes)", file=sys.stderr)
        return 2
    run("sksae", by_sksae, seeds, Scripted)
    run("sksae, greedy", by_sksae, seeds, Scripted, n_features_to_select=20)
    run("hypothesaes", by_hypothesaes, seeds, Scripted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
