"""Tokens per second of an ActivationExtractor, against bare forward passes of the same model.

From the root of the repository::

    python -m tests.benchmarks.extraction

A bare pass runs the same padded batches, tokenised beforehand, through the same blocks and no
further: the blocks behind the layer are cut off, as is the norm behind them, and nothing is hooked
or kept. The extractor starts from the texts. Both are timed in turns in one process.
"""

import argparse
import copy
import tempfile

import torch
import transformers
from torch import nn

from sksae.datasets import load_corpus, load_tiny_lm
from sksae.language_models import ActivationExtractor
from tests.benchmarks.tables import markdown, publish, save
from tests.benchmarks.timing import interleave

WAYS = ("transform", "to_memmap", "stream")


def tiny():
    """The packaged language model: 5 blocks of width 192."""
    model, _ = load_tiny_lm()
    return model.model, 3, 300


def small():
    """A model of the size of GPT-2 small, with random weights: 12 blocks of width 768."""
    config = transformers.GPT2Config(
        vocab_size=4096, n_positions=256, bos_token_id=0, eos_token_id=1
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return transformers.GPT2Model(config).eval(), 7, 24


MODELS = {"packaged": tiny, "GPT-2 small": small}


def cut_behind(model, layer):
    """Return a copy of a model that ends with a block."""
    model = copy.deepcopy(model)
    blocks, norm = ("h", "ln_f") if hasattr(model, "h") else ("layers", "norm")
    setattr(model, blocks, getattr(model, blocks)[: layer + 1])
    setattr(model, norm, nn.Identity())
    model.config.num_hidden_layers = layer + 1
    return model


def bare(model, layer, inputs):
    """Return a call that runs all batches."""
    model = cut_behind(model, layer)

    def run():
        with torch.no_grad():
            for batch in inputs:
                model(**batch, use_cache=False)

    return run


def batches_of(model, extractor, texts):
    """Return the padded batches that the extractor runs the model on."""
    inputs = []

    def keep(module, args, kwargs):
        names = {"input_ids", "attention_mask", "position_ids"} & set(kwargs)
        inputs.append({name: kwargs[name] for name in names if kwargs[name] is not None})

    handle = model.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        extractor.transform(texts)
    finally:
        handle.remove()
    return inputs


def write(extractor, texts):
    """Write a folder and forget it."""
    with tempfile.TemporaryDirectory() as folder:
        extractor.to_memmap(texts, folder)


def measure(name, options):
    """Time all ways over one model; return a record."""
    model, layer, n_texts = MODELS[name]()
    texts = load_corpus().data[: options.texts or n_texts]
    _, tokenizer = load_tiny_lm()
    settings = {"tokenizer": tokenizer, "batch_tokens": options.batch_tokens}
    extractor = ActivationExtractor(model, layer, **settings)
    inputs = batches_of(model, extractor, texts)
    n_tokens = int(sum(batch["attention_mask"].sum() for batch in inputs))
    ways = {
        "bare": bare(model, layer, inputs),
        "transform": lambda: extractor.transform(texts),
        "to_memmap": lambda: write(extractor, texts),
        "stream": lambda: [len(rows) for rows in extractor.stream(texts)],
    }
    kept = {"repeats": options.repeats, "limit": options.seconds, "guard": options.guard}
    timings = interleave(ways, warm_up=1, **kept)
    return {
        "model": name,
        "tokens": n_tokens,
        "rate": {way: n_tokens / timing.median for way, timing in timings.items()},
        "ratio": {way: timings["bare"].median / timings[way].median for way in WAYS},
        "seconds": {way: timing.seconds for way, timing in timings.items()},
    }


def _table(records):
    header = ["model", "tokens", "bare, tokens/s", *(f"{way}, of bare" for way in WAYS)]
    rows = [
        [
            record["model"],
            f"{record['tokens']:,}",
            f"{record['rate']['bare']:,.0f}",
            *(f"{record['ratio'][way]:.2f}" for way in WAYS),
        ]
        for record in records
    ]
    return markdown(header, rows)


def _options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--texts", type=int, help="of the packaged corpus")
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=5, help="undisturbed samples of each")
    parser.add_argument("--seconds", type=float, default=300, help="of a model, at most")
    parser.add_argument("--no-guard", dest="guard", action="store_false")
    parser.add_argument("--threads", type=int, default=0, help="0 leaves torch's number")
    parser.add_argument("--json", metavar="FILE", help="where the raw numbers go")
    return parser.parse_args()


def main():
    """Measure, print the table, keep the raw numbers."""
    options = _options()
    if options.threads:
        torch.set_num_threads(options.threads)
    records = [measure(name, options) for name in options.models]
    packages = ["sksae", "transformers", "tokenizers"]
    publish("Extraction against bare forward passes", _table(records), packages)
    save(options.json, records, packages)


if __name__ == "__main__":
    main()
