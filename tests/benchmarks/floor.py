"""The least time of a training step of TopK: what its parts take alone, beside whole steps.

From the root of the repository, with sparsify installed for its column::

    python -m tests.benchmarks.floor --config C

Whatever a library does, an exact step of TopK with Adam multiplies all rows with the encoder,
looks at every product, decodes the codes and takes their gradients, and updates both matrices. The
parts use the fastest operation of this package for each; no step is faster than their sum unless
one of them is made faster.
"""

import argparse
import itertools

import torch

from sksae.kernels import ActiveSet
from tests.benchmarks.data import CONFIGS, superposition
from tests.benchmarks.libraries import installed
from tests.benchmarks.ours import OURS
from tests.benchmarks.tables import markdown, publish
from tests.benchmarks.task import STILL, Task
from tests.benchmarks.timing import interleave


def parts(shape, x):
    """Return the parts of a step as callables, by name."""
    n, d, m, k = shape.rows, shape.features, shape.width, shape.k
    generator = torch.Generator().manual_seed(0)
    encoder, decoder = torch.randn(2, m, d, generator=generator)
    x = x[:n].contiguous()
    halves = x.bfloat16(), encoder.bfloat16()
    products = halves[0] @ halves[1].T
    latents = torch.stack([torch.randperm(m, generator=generator)[:k] for _ in range(n)])
    active = ActiveSet.from_rows(latents, m)
    codes = torch.rand(n * k, generator=generator)
    order, rows, pointer = active.by_latent
    by_latent = ActiveSet(pointer, rows, n)
    moments = [torch.zeros_like(encoder) for _ in range(4)]
    gradients = [torch.randn_like(encoder) for _ in range(2)]
    rates = {"lr": STILL, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.0}

    def product():
        if n * d * m >= 2**25:
            torch.mm(x.bfloat16(), encoder.bfloat16().T)
        else:
            torch.mm(x, encoder.T)

    def update():
        torch._fused_adam_(
            [encoder, decoder],
            gradients,
            moments[:2],
            moments[2:],
            [],  # largest second moments, which AMSGrad keeps
            [torch.tensor(1.0)] * 2,
            amsgrad=False,
            maximize=False,
            **rates,
        )

    return {
        "product of rows and encoder": product,
        "one look at the products": lambda: products.amax(1),
        "decoding": lambda: active.row_sums(codes, decoder),
        "gradient of the codes": lambda: active.dots(x, decoder),
        "gradients of both matrices": lambda: [by_latent.row_sums(codes[order], x) for _ in "ED"],
        "Adam's update": update,
    }


def measure(options):
    """Print the time of whole steps and of their parts."""
    shape = CONFIGS[options.config]
    x, _ = superposition(4 * shape.rows, shape.features, shape.width)
    task = Task("topk", shape, x, rate=STILL)
    classes = {"sksae": OURS["sksae"], **installed(options.libraries)}
    libraries = {name: cls(task) for name, cls in classes.items()}
    batches = itertools.cycle(x.split(shape.rows))
    calls = {
        name: lambda library=library: library.step(next(batches))
        for name, library in libraries.items()
    }
    pieces = parts(shape, x)
    timings = interleave(
        {**calls, **pieces}, repeats=options.repeats, limit=options.seconds, guard=options.guard
    )
    floor = sum(timings[name].median for name in pieces)
    lines = [[name, f"{1e3 * timing.median:.3g}", ""] for name, timing in timings.items()]
    lines.append(["sum of the parts", f"{1e3 * floor:.3g}", ""])
    for line in lines[: len(calls)]:
        line[2] = f"{timings[line[0]].median / floor:.2f}"
    table = markdown(["", "ms", "times the sum of the parts"], lines)
    publish(f"A step of TopK and its parts: {shape}", table, [])
    return timings


def main(arguments=None):
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", default="C", choices=CONFIGS)
    parser.add_argument("--libraries", nargs="*", default=["sparsify", "sparsify-adam"])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--no-guard", dest="guard", action="store_false")
    return measure(parser.parse_args(arguments))


if __name__ == "__main__":
    main()
