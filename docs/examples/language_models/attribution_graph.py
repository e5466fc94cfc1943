"""
A prediction traced through transcoders
=======================================

A transcoder per layer turns the MLPs of a model into features that read the residual stream and
write to it. ``attribution_graph`` follows one prediction back through them: which features make it,
which earlier features make those, and how much is left unexplained.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

from sksae import ActivationExtractor, TopKSAE, Transcoder
from sksae.datasets import load_corpus, load_tiny_lm
from sksae.interpret import FeatureAtlas
from sksae.language_models import attribution_graph, steer
from sksae.report import write_graph_page

model, tokenizer = load_tiny_lm()
layers = range(model.config.num_hidden_layers)

# %%
# A transcoder per layer
# ----------------------
# One pass over the texts reads what goes into each MLP and what comes out. The tokens on which a
# feature fires most are a first name for it.

sites = [(layer, site) for layer in layers for site in ("resid_mid", "mlp_out")]
extractor = ActivationExtractor(model, site=sites, tokenizer=tokenizer)
rows, tokens = extractor.extract(load_corpus().data[::6])
blocks = extractor.split(rows)
transcoders, atlases, names = [], [], []
for layer in layers:
    X, Y = blocks[f"{layer}.resid_mid"], blocks[f"{layer}.mlp_out"]
    estimator = TopKSAE(512, k=16, max_iter=6, random_state=0)
    transcoders.append(Transcoder(estimator, skip=True).fit(X, Y))
    codes = transcoders[layer].transform(X)
    atlases.append(FeatureAtlas(n_neighbors=0, random_state=0).fit(codes, tokens))
    fire = np.flatnonzero(codes.any(axis=0)).tolist()
    records = [atlases[layer].feature(feature) for feature in fire]
    names.append({x.feature: " ".join(t.strip() for t, _ in x.top_tokens[:2]) for x in records})
    print(f"layer {layer}: explained variance {transcoders[layer].score(X, Y):.2f}")

# %%
# The graph
# ---------
# Attention patterns and the denominators of norms are constants, so the effect of one node on
# another is exact: the edges into a feature and what constants contribute sum to what the feature
# is.

prompt = "Return the mean of the"
graph = attribution_graph(model, "resid_mid", transcoders, prompt, names=names, tokenizer=tokenizer)
print(graph)
features = graph.kind == "feature"
sums = graph.adjacency.sum(axis=1) + graph.bias
print(f"largest deviation of a sum: {np.abs(sums - graph.activation)[features].max():.1e}")

# %%
# The scores say how much of the prediction runs through features rather than through errors. Most
# nodes matter little: ``prune`` keeps those that carry 80 % of the influence.

print({name: round(score, 2) for name, score in graph.scores().items()})
pruned = graph.prune(0.8, 0.95)
print(f"{len(pruned)} of {len(graph)} nodes")
pruned.plot(n_nodes=30, n_edges=100)

# %%
# Is it true?
# -----------
# The graph holds attention and norms still and lets features respond as linear functions. In the
# model itself nothing is held. Switch off the features with the most influence, one at a time, and
# compare what that does to the likely tokens, relative to each other, with what the graph says.
# The more layers lie between a feature and the logits, the more does the model respond in ways that
# the graph leaves out.

ends = np.flatnonzero(graph.kind == "logit")
inputs = tokenizer(prompt, return_tensors="pt")


@torch.no_grad()
def logits():
    """Return the logits of the graph's tokens."""
    return model(**inputs).logits[0, -1, graph.feature[ends]].numpy()


def relative(x):
    """Return logits relative to their mean."""
    return x - x.mean(axis=-1, keepdims=True)


strongest = np.argsort(-np.where(features, graph.influence, 0))[:60]
clean, said, measured = logits(), [], []
for node in strongest.tolist():
    layer, position = int(graph.layer[node]), int(graph.position[node])
    site, feature = f"{layer}.resid_mid", int(graph.feature[node])
    with steer(model, site, transcoders[layer], [feature], "ablate", where=[position]):
        measured.append(relative(logits() - clean))
    said.append(relative(graph.predicted_change([node])[ends]))
said, measured = np.array(said), np.array(measured)

figure, axes = plt.subplots(1, len(layers), figsize=(11, 2.8), layout="constrained")
for layer, ax in enumerate(axes):
    at_layer = graph.layer[strongest] == layer
    x, y = said[at_layer].ravel(), measured[at_layer].ravel()
    ax.axline((0, 0), slope=1, color="0.7", linewidth=1)
    ax.scatter(x, y, s=10, color="#0072b2")
    ax.set_title(f"layer {layer}: correlation {np.corrcoef(x, y)[0, 1]:.2f}", fontsize=9)
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set_ylabel("measured")
figure.supxlabel("change of a logit when a feature is switched off, as the graph says", fontsize=10)

# %%
# To look at
# ----------
# A page in one file, with sliders for pruning, the strongest inputs and outputs of a node, and
# examples of its feature; nodes that mean the same can be put into groups.

page = write_graph_page("sksae-report/graph.html", graph, atlas=atlases)
print(f"{page.stat().st_size / 1e6:.1f} MB")

# %%
# The same graph for the viewer of circuit-tracer; it reads back as it was.

pruned.to_json("sksae-report/graph.json")
