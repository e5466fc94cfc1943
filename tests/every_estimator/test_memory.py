"""Rows that do not fit in memory: a file is read a batch at a time, codes come out sparse."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import numpy as np
from sksae import {cls}

path, n = sys.argv[1], {n}
rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(n, 256))
rng = np.random.default_rng(0)
block = rng.normal(size=(20_000, 256)).astype(np.float16)
for start in range(0, n, 20_000):
    rows[start : start + 20_000] = block
del rows
warm = {cls}(16, {own}max_iter=1, batch_size=4096, sparse_output=True, random_state=0, device="cpu")
warm.fit(block[:5000]).transform(block)

X = np.load(path, mmap_mode="r")
mapped = [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize")]
limit = mapped[0] * 1024 + {headroom}
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
assert X.nbytes > {headroom}
try:
    X.astype(np.float32)
except MemoryError:
    print("a copy does not fit")
sae = {cls}(16, {own}max_iter=1, batch_size=4096, sparse_output=True, random_state=0, device="cpu")
codes = sae.fit(X).transform(X)
assert codes.shape == (n, 16) and codes.has_sorted_indices
assert codes.indices.dtype == np.int32
last = sae.transform(X[-50:])
np.testing.assert_allclose(codes[-50:].toarray(), last.toarray(), rtol=1e-5, atol=1e-6)
print("done")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits its own address space")
@pytest.mark.slow  # test_a_half_precision_file_is_never_copied_whole is the quick twin
@pytest.mark.parametrize(("cls", "own"), [("TopKSAE", "k=2, "), ("JumpReLUSAE", "")])
def test_rows_larger_than_memory(cls, own, tmp_path):
    """A float16 file of 123 MB with 115 MB of memory to spare: neither it nor a cast of it fits.

    The allocator has one arena and gives large blocks back, and loops are compiled before the limit
    is set, so that no more than what is in use counts against it.
    """
    script = SCRIPT.format(cls=cls, own=own, n=240_000, headroom=110 * 2**20)
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "rows.npy")],
        capture_output=True,
        text=True,
        check=False,
        env={
            "OMP_NUM_THREADS": "1",
            "PATH": "",
            "MALLOC_MMAP_THRESHOLD_": str(2**20),
            "MALLOC_ARENA_MAX": "1",
        },
    )
    assert run.stdout.split("\n")[:2] == ["a copy does not fit", "done"], run.stderr[-2000:]
