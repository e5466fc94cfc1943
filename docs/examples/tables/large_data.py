"""
Large data, interrupted and resumed
===================================

Rows need not fit into memory, and a fit need not end on the day that it began. Rows are read from
a file, one part at a time, the model is saved after each part, and a new process goes on from the
file.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy.sparse import issparse

import sksae
from sksae import TopKSAE
from sksae.callbacks import MetricsLogger
from sksae.datasets import make_superposition

folder = Path(tempfile.mkdtemp())
n_rows, n_features = 100_000, 32
path = folder / "rows.float16"
stored = np.memmap(path, dtype=np.float16, mode="w+", shape=(n_rows, n_features))
rows, dictionary, _ = make_superposition(
    n_rows, n_features, n_components=64, density=4 / 64, random_state=0
)
stored[:] = rows  # in practice, written part by part
stored.flush()
del rows
print(f"{path.stat().st_size / 1e6:.1f} MB on disk")

# %%
# The first process
# -----------------
# ``partial_fit`` makes one pass over the rows that it is given. ``save`` writes one file, of
# numbers and JSON, at once or not at all: an interruption leaves the last complete one.

X = np.memmap(path, dtype=np.float16, mode="r", shape=(n_rows, n_features))
held_out = np.asarray(X[-2000:], dtype=np.float32)
sae = TopKSAE(64, k=4, sparse_output=True, random_state=0)
scores = []
for start in range(0, 50_000, 5000):
    sae.partial_fit(X[start : start + 5000])
    scores.append(sae.score(held_out))
    sae.save(folder / "sae.safetensors")
print(f"after {sae.n_steps_} steps: {scores[-1]:.3f}")
del sae  # the process ends

# %%
# The second process
# ------------------
# The file holds the weights. A loaded model continues with ``partial_fit``: its optimiser begins
# anew, which a few batches make good.

sae = sksae.load(folder / "sae.safetensors")
for start in range(50_000, 95_000, 5000):
    sae.partial_fit(X[start : start + 5000])
    scores.append(sae.score(held_out))
print(f"at the end: {scores[-1]:.3f}")

figure, ax = plt.subplots(figsize=(7, 3.8), layout="constrained")
seen = 5 * np.arange(1, len(scores) + 1)
ax.plot(seen[:10], scores[:10], "o-", color="#0072b2", label="first process")
ax.plot(seen[9:], scores[9:], "o-", color="#d55e00", label="second process, from the file")
ax.set(xlabel="thousand rows seen", ylabel="explained variance of held-out rows")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)

# %%
# What a fit measures
# -------------------
# ``fit`` reads the file a batch at a time, as often as it needs. ``MetricsLogger`` writes a line
# per pass to a table, or sends it to trackio, Weights & Biases, TensorBoard or MLflow.

table = folder / "fit.csv"
fitted = TopKSAE(64, k=4, max_iter=3, random_state=0).set_callbacks(MetricsLogger(table))
fitted.fit(X[:20_000])
print(table.read_text())

# %%
# Codes of large data
# -------------------
# With ``sparse_output=True`` codes are a CSR matrix, computed in chunks. A dense matrix never
# exists.

codes = sae.transform(X)
dense = codes.shape[0] * codes.shape[1] * 4
held = codes.data.nbytes + codes.indices.nbytes + codes.indptr.nbytes
print(f"CSR: {issparse(codes)}; {held / 1e6:.1f} MB, dense {dense / 1e6:.1f} MB")
