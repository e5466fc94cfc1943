"""
Two models compared
===================

What did fine-tuning add to a model? A crosscoder describes both versions with one set of features:
each has a direction in the one and a direction in the other, and the norms of the two say which
features both have and which only one. Here the packaged model, which has read documentation, is
taught to answer a user.
"""

from copy import deepcopy

import matplotlib.pyplot as plt
import numpy as np
import torch

from sksae import ActivationExtractor, BatchTopKSAE, Crosscoder
from sksae.datasets import load_corpus, load_tiny_lm
from sksae.language_models import extract_paired
from sksae.metrics import latent_scaling

model, tokenizer = load_tiny_lm()
summaries = [" ".join(text.partition("\n\n")[0].split())[:100] for text in load_corpus().data]
chats = [f"User: {text}\nAssistant: Of course. {text}" for text in summaries]

# %%
# Fine-tuning is a few steps on some of the conversations.

tuned, rng = deepcopy(model), np.random.default_rng(0)
optimizer = torch.optim.AdamW(tuned.parameters(), lr=2e-3)
losses = []
for _ in range(20):
    batch = rng.choice(240, 8, replace=False)
    inputs = tokenizer([chats[i] for i in batch], padding=True, return_tensors="pt")
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    loss = tuned(**inputs, labels=labels).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    losses.append(loss.item())
print(f"loss in nats per token: {losses[0]:.2f} at first, {losses[-1]:.2f} at last")

# %%
# Both models read the same conversations. Each token has a row, with the activations of the one
# model and then those of the other.

readers = {
    name: ActivationExtractor(version, layer=3, tokenizer=tokenizer)
    for name, version in {"base": model, "tuned": tuned}.items()
}
rows, tokens, blocks = extract_paired(readers, chats)
estimator = BatchTopKSAE(384, k=12, max_iter=8, random_state=0)
crosscoder = Crosscoder(estimator, blocks=blocks).fit(rows)
print("explained variance:", {b: round(s, 2) for b, s in crosscoder.block_scores(rows).items()})

# %%
# Which features changed
# ----------------------
# Norms are alike in the two models: no feature is of one alone, because both have activations at
# every token. But some features have another direction in the tuned model. Few of them are about
# documentation: most fire on the words that all conversations share, the template.

scaling = latent_scaling(crosscoder, rows)
print(*np.unique(scaling.kinds(), return_counts=True))
share = crosscoder.relative_norms()[:, list(blocks).index("tuned")]
cosine = scaling.cosine.min(axis=1)
codes = crosscoder.transform(rows)
# A token is of the template if it begins in "User:", or within "Assistant: Of course."
text_of = [tokens.texts[i] for i in tokens.text]
answer = np.array([text.index("\nAssistant") for text in text_of])
within = tokens.start - answer
template = (tokens.start < 5) | ((within >= 0) & (within < len("\nAssistant: Of course.")))
on_template = codes[template].sum(axis=0) / codes.sum(axis=0).clip(min=1e-9)

figure, (top, ax) = plt.subplots(
    2, 1, figsize=(7, 5.6), height_ratios=(1, 3), sharex=True, layout="constrained"
)
edges = np.linspace(share.min(), share.max(), 41)
groups = {
    "documentation": (on_template < 0.5, "#0072b2"),
    "template": (on_template >= 0.5, "#d55e00"),
}
members = [share[mask] for mask, _ in groups.values()]
top.hist(members, edges, stacked=True, color=[color for _, color in groups.values()])
top.set(ylabel="features")
for name, (mask, color) in groups.items():
    size = 4 + 120 * crosscoder.activation_frequency_[mask] ** 0.5
    ax.scatter(
        share[mask], cosine[mask], size, color=color, alpha=0.6, lw=0, label=f"fires on the {name}"
    )
ax.axvline(0.5, color="0.7", lw=0.8, zorder=0)
ax.set(
    xlabel="relative norm: 0 in the base model alone, 1 in the tuned one alone",
    ylabel="cosine of the directions in the two models",
)
ax.legend(frameon=False, loc="lower left")
for axes in (top, ax):
    axes.spines[["top", "right"]].set_visible(False)

# %%
# The features whose direction changed most, with the text that ends where they fire most:

fires = np.flatnonzero((codes > 0).sum(axis=0) >= 100)
for feature in fires[cosine[fires].argsort()][:12]:
    strongest = codes[:, feature].argsort()[::-1][:50]
    ends = [text_of[i][max(0, tokens.end[i] - 12) : tokens.end[i]] for i in strongest]
    common, counts = np.unique(ends, return_counts=True)
    measures = f"cosine {cosine[feature]:5.2f}, template {on_template[feature]:4.0%}"
    print(f"{feature:4}  {measures}  {str(common[counts.argmax()])!r}")
