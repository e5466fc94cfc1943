"""
What a reconstruction keeps of a model
======================================

Explained variance says how well activations are reconstructed. Whether the language model still
works with the reconstruction is another question: put it in the place of the activations, and
measure how much worse the model predicts the next token.
"""

import matplotlib.pyplot as plt

from sksae import ActivationExtractor, TopKSAE
from sksae.datasets import load_corpus, load_tiny_lm
from sksae.language_models import downstream_metrics

model, tokenizer = load_tiny_lm()
texts = load_corpus().data
extractor = ActivationExtractor(model, layer=3, tokenizer=tokenizer)
rows = extractor.transform(texts[::6])
held_out = texts[1::40]
held_out_rows = extractor.transform(held_out)

# %%
# One autoencoder per sparsity, and the loss of the model with each of them in place:

numbers = (2, 4, 8, 16, 32)
explained, added, error = [], [], []
for k in numbers:
    sae = TopKSAE(384, k=k, max_iter=5, random_state=0).fit(rows)
    kept = downstream_metrics(extractor, sae, held_out)
    explained.append(sae.score(held_out_rows))
    added.append(kept["delta_ce"])
    error.append(kept["delta_ce_se"])
    print(
        f"k = {k:2}: explained variance {explained[-1]:.2f}; cross-entropy {kept['ce_clean']:.2f} "
        f"becomes {kept['ce_patched']:.2f}; recovered {kept['ce_recovered_mean']:.0%} of the mean"
    )

# %%
# The two measures
# ----------------
# A reconstruction of most of the variance still costs the model much. The loss added, in nats per
# token, is the one to report.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
axes[0].plot(numbers, explained, "o-", color="#0072b2")
axes[0].set_ylabel("explained variance of held-out tokens")
axes[1].errorbar(numbers, added, error, fmt="o-", color="#d55e00", capsize=3)
axes[1].axhline(kept["ce_mean"] - kept["ce_clean"], color="0.3", linestyle="--", linewidth=1)
axes[1].text(
    32,
    kept["ce_mean"] - kept["ce_clean"],
    "site set to its mean ",
    ha="right",
    va="bottom",
    fontsize=9,
)
axes[1].set(ylabel="loss added, nats per token", ylim=0)
for ax in axes:
    ax.set_xscale("log", base=2)
    ax.set_xticks(numbers, map(str, numbers))
    ax.set_xlabel("codes per token")
    ax.spines[["top", "right"]].set_visible(False)
