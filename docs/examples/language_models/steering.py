"""
Steering with a feature
=======================

A feature that is made stronger while the model writes changes what it writes. The feature is
chosen by the tokens that its direction promotes, and its strength is given in units of the largest
activation that it has on ordinary texts.
"""

import matplotlib.pyplot as plt
import torch

from sksae import ActivationExtractor, TopKSAE
from sksae.datasets import load_corpus, load_tiny_lm
from sksae.language_models import logit_lens, steer

model, tokenizer = load_tiny_lm()
texts = load_corpus().data
site = "3.resid_post"
extractor = ActivationExtractor(model, layer=3, tokenizer=tokenizer)
rows = extractor.transform(texts[::4])
sae = TopKSAE(512, k=16, max_iter=6, random_state=0).fit(rows)

# %%
# The feature that promotes " shape" most:

lens = logit_lens(model, sae, tokenizer=tokenizer)
logits = ((lens.promoted == " shape") * lens.promoted_logits).max(axis=1)
row = logits.argmax()
feature = int(lens.feature[row])
print(f"Feature {feature} promotes {', '.join(map(repr, lens.promoted[row, :6]))}.")

# %%
# What the model writes
# ---------------------

prompt = "The function returns the"
inputs = tokenizer(prompt, return_tensors="pt")
maxima = sae.transform(rows).max(axis=0)
for strength in (0.0, 1.0, 2.0):
    with steer(model, site, sae, {feature: strength}, unit="max", maxima=maxima):
        ids = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0]
    print(f"{strength:3.1f} x its maximum: {tokenizer.decode(ids, skip_special_tokens=True)!r}")

# %%
# How the next token changes
# --------------------------
# The probability of the tokens that are likeliest at some strength, while the feature becomes
# stronger.

strengths = torch.linspace(-1, 3, 17).tolist()
probabilities = []
for strength in strengths:
    with steer(model, site, sae, {feature: strength}, unit="max", maxima=maxima), torch.no_grad():
        probabilities.append(model(**inputs).logits[0, -1].softmax(-1))
probabilities = torch.stack(probabilities)
likeliest = probabilities.max(dim=0).values.topk(6).indices
figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
for token, color in zip(
    likeliest, ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"], strict=True
):
    ax.plot(
        strengths, probabilities[:, token], color=color, label=repr(tokenizer.decode([int(token)]))
    )
ax.axvline(0, color="0.6", linewidth=1)
ax.set(
    xlabel="strength added, in units of the feature's maximum",
    ylabel="probability of the next token",
    title=f"{prompt!r} ...",
)
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)
