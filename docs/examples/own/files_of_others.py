"""
Reading the files of another library
====================================

A sparse autoencoder that was trained with another library becomes a fitted estimator. The file
here is in the format of EleutherAI's sparsify, and is written with plain torch, as if a colleague
had trained it. ``read`` knows the formats of SAELens, Gemma Scope, dictionary_learning, OpenAI and
Llama Scope as well, and ``from_pretrained`` loads them from the hub.
"""

import json
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits

from sksae import TopKSAE
from sksae.displays import ComponentImagesDisplay
from sksae.formats import read, save_card, write_saelens

X = load_digits().data.astype(np.float32)

# %%
# The colleague
# -------------
# A training loop in torch: the eight largest pre-activations of each row are kept.

torch.manual_seed(0)
rows = torch.from_numpy(X)
decoder = torch.nn.functional.normalize(torch.randn(128, 64), dim=1).requires_grad_()
encoder = decoder.detach().clone().requires_grad_()
bias = torch.zeros(128, requires_grad=True)
center = rows.mean(0).clone().requires_grad_()
optimizer = torch.optim.Adam([decoder, encoder, bias, center], lr=3e-2)
for _ in range(400):
    batch = rows[torch.randint(len(rows), (256,))]
    values, places = ((batch - center) @ encoder.T + bias).relu().topk(8, dim=1)
    codes = torch.zeros(len(batch), 128).scatter(1, places, values)
    loss = ((codes @ decoder + center - batch) ** 2).sum(1).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

folder = Path(tempfile.mkdtemp()) / "layers.0"
folder.mkdir()
weights = {
    "encoder.weight": encoder,
    "encoder.bias": bias,
    "W_dec": decoder,
    "b_dec": center,
}
save_file(
    {name: w.detach().contiguous() for name, w in weights.items()}, folder / "sae.safetensors"
)
config = {"num_latents": 128, "k": 8, "d_in": 64, "activation": "topk"}
(folder / "cfg.json").write_text(json.dumps(config))

# %%
# The estimator
# -------------
# ``read`` recognises the format by the names of the files. No code of the file is run.

sae = read(folder)
print(sae)
print(f"explained variance {sae.score(X):.3f}")
with torch.no_grad():
    values, places = ((rows - center) @ encoder.T + bias).relu().topk(8, dim=1)
    theirs = torch.zeros(len(rows), 128).scatter(1, places, values).numpy()
print(f"largest difference of the codes: {abs(sae.transform(X) - theirs).max():.1e}")

# %%
# From here on it is an estimator as any other: displays, atlas, contrasts, pipelines.

ComponentImagesDisplay.from_estimator(sae, (8, 8), n_components=16)

# %%
# Beside one that sksae fitted
# ----------------------------
# The directions that both found are the ones to trust first.

ours = TopKSAE(128, k=8, random_state=0).fit(X)
theirs = sae.components_ / np.linalg.norm(sae.components_, axis=1, keepdims=True)
nearest = (ours.components_ @ theirs.T).max(axis=1)
figure, ax = plt.subplots(figsize=(6.5, 3), layout="constrained")
ax.hist(nearest, 30, color="#0072b2")
ax.set(xlabel="cosine with the nearest component of the other", ylabel="components", xlim=(0, 1))
ax.spines[["top", "right"]].set_visible(False)

# %%
# And back, for a library that reads SAELens' files:

written = write_saelens(folder.parent / "for_saelens", ours)
print(sorted(path.name for path in Path(written).iterdir()))

# %%
# A model card says what the dictionary is. ``push_to_hub(ours, "me/digits", X=X)`` would publish it
# with the files.

print(save_card(folder.parent / "card.md", ours, X=X, dataset="digits of scikit-learn").read_text())
