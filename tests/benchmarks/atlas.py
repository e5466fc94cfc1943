"""Time and memory of a FeatureAtlas, against the transform that it cannot do without.

From the root of the repository::

    python -m tests.benchmarks.atlas --rows 2000000 --width 768 --n-components 16384 --k 32

Rows lie in a file of float16, as `ActivationExtractor.to_memmap` writes them: the mean of their
token, drawn as often as words are, and noise, in texts of 128 tokens. The autoencoder is trained
on some of them. Memory is what the process holds beyond what it held before `fit`, without pages
of the file.
"""

import argparse
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from sksae import TopKSAE
from sksae._arrays import objects
from sksae.interpret import FeatureAtlas
from tests.benchmarks.tables import markdown, publish

LENGTH, N_STRINGS, CHUNK = 128, 20_000, 2**16


def make_rows(folder, n_rows, width, seed=0):
    """Return rows in a file and their token table."""
    rng = np.random.default_rng(seed)
    means = rng.standard_normal((N_STRINGS, width)).astype(np.float32)
    rows = np.memmap(Path(folder) / "rows", np.float16, "w+", shape=(n_rows, width))
    number = np.minimum(rng.zipf(1.3, n_rows) - 1, N_STRINGS - 1)
    for start in range(0, n_rows, CHUNK):
        some = slice(start, start + CHUNK)
        drawn = means[number[some]]
        context = np.repeat(drawn[::8], 8, axis=0)[: len(drawn)]  # what neighbours share
        noise = rng.standard_normal(drawn.shape, dtype=np.float32)
        rows[some] = drawn + 0.5 * context + 0.5 * noise
    strings = objects(f" w{i}" for i in range(N_STRINGS))
    return rows, {"text": np.arange(n_rows) // LENGTH, "string": strings[number]}


def private_memory():
    """Return the bytes that the process holds, without pages of files."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


class PeakMemory:
    """Context that watches the memory of the process."""

    def __enter__(self):
        self.before = self.peak = private_memory()
        self._running = True
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._running = False
        self._thread.join()

    def _watch(self):
        while self._running:
            self.peak = max(self.peak, private_memory())
            time.sleep(0.02)


class Timed:
    """An autoencoder whose transform is timed, whatever else the machine is doing."""

    def __init__(self, autoencoder, seconds):
        self.autoencoder, self.seconds = autoencoder, seconds

    def __getattr__(self, name):
        if name.startswith("__"):  # copying asks before there is an autoencoder
            raise AttributeError(name)
        return getattr(self.autoencoder, name)

    def set_params(self, **params):
        """Change the autoencoder."""
        self.autoencoder.set_params(**params)
        return self

    def transform(self, X):
        """Code rows, and note how long it takes."""
        started = time.perf_counter()
        codes = self.autoencoder.transform(X)
        self.seconds.append(time.perf_counter() - started)
        return codes


def measure(rows, tokens, n_components, k):
    """Return one line of the table."""
    autoencoder = TopKSAE(n_components, k=k, max_iter=1, sparse_output=True, random_state=0)
    autoencoder.fit(rows[: 2 * n_components].astype(np.float32))
    seconds = []
    started = time.perf_counter()
    with PeakMemory() as memory:
        atlas = FeatureAtlas(Timed(autoencoder, seconds)).fit(rows, tokens=tokens)
    fit = time.perf_counter() - started
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        size = atlas.save(Path(folder) / "atlas.npz").stat().st_size
    return {
        "rows": f"{len(rows):,}",
        "width": rows.shape[1],
        "features": f"{n_components:,}",
        "L0": k,
        "transform (s)": f"{sum(seconds):.0f}",
        "atlas (s)": f"{fit:.0f}",
        "transform / atlas": f"{sum(seconds) / fit:.2f}",
        "memory (MB)": f"{(memory.peak - memory.before) / 1e6:.0f}",
        "file (MB)": f"{size / 1e6:.0f}",
        "save (s)": f"{time.perf_counter() - started:.0f}",
    }


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("rows", 2_000_000), ("width", 768), ("n-components", 16384), ("k", 32)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows, tokens = make_rows(folder, options.rows, options.width)
        line = measure(rows, tokens, options.n_components, options.k)
        table = markdown(list(line), [list(line.values())])
        publish("FeatureAtlas", table, ["scikit-learn", "scipy"])


if __name__ == "__main__":
    main()
