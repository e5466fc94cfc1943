"""
Texts that are streamed
=======================

A stream of texts, such as a data set of the Hugging Face hub with ``streaming=True``, is read once
and never held: the model reads a few texts, their rows are mixed, the autoencoder learns from them,
and they are gone.
"""

import matplotlib.pyplot as plt
import numpy as np

from sksae import ActivationExtractor, TopKSAE
from sksae.datasets import load_corpus, load_tiny_lm

corpus = load_corpus()
order = np.random.default_rng(0).permutation(len(corpus.data))


def stream():
    """Yield rows as ``datasets.load_dataset(name, split="train", streaming=True)`` does."""
    for number in order[:80]:
        yield {"text": corpus.data[number]}


# %%
# One pass over the stream
# ------------------------
# ``stream`` of the extractor reads mappings with a text as well as texts. It keeps a buffer of
# rows, from which chunks are drawn at random, so that a chunk has rows of many texts.
# ``partial_fit`` learns from each chunk. The held-out rows are those of texts that come later.

model, tokenizer = load_tiny_lm()
extractor = ActivationExtractor(model, layer=3, tokenizer=tokenizer)
held_out = extractor.transform([corpus.data[number] for number in order[80:92]])
sae = TopKSAE(512, k=16, batch_size=256, random_state=0)
seen, scores = [], []
for rows in extractor.stream(stream(), chunk_rows=1024, random_state=0):
    sae.partial_fit(rows)
    seen.append(len(rows))
    scores.append(sae.score(held_out))
print(f"{sum(seen):,} tokens in chunks of {max(seen):,}; at the end {scores[-1]:.3f}")

figure, ax = plt.subplots(figsize=(7, 3.8), layout="constrained")
ax.plot(np.cumsum(seen), scores, "o-", color="#0072b2")
ax.set(xlabel="tokens seen", ylabel="explained variance of held-out texts")
ax.spines[["top", "right"]].set_visible(False)

# %%
# More than one pass
# ------------------
# Where the rows fit on the disk, ``extractor.to_memmap(texts, folder)`` writes them once, and
# ``fit`` makes as many passes as it needs, with a learning rate that falls to zero at their end.
# That gives better dictionaries than one pass over a stream of the same length.
