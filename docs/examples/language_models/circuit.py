"""
The circuit behind a prediction
===============================

Which features does a prediction rest on, at which tokens, and which earlier features feed them?
``describe_behaviour`` and ``attribute`` answer for one layer, ``feature_circuit`` for several.
"""

from sksae import ActivationExtractor, TopKSAE
from sksae.datasets import load_corpus, load_tiny_lm
from sksae.displays import AttributionDisplay
from sksae.language_models import attribute, describe_behaviour, feature_circuit

model, tokenizer = load_tiny_lm()
texts = load_corpus().data
train, background = texts[::4], texts[1:41:4]
saes = {}
for layer in (2, 3):
    extractor = ActivationExtractor(model, layer=layer, tokenizer=tokenizer)
    rows = extractor.transform(train)
    saes[f"{layer}.resid_post"] = TopKSAE(512, k=16, max_iter=4, random_state=0).fit(rows)
site, sae = list(saes.items())[-1]

# %%
# One layer
# ---------
# The features that fire on the prompt, with their effect on the log-probability of the predicted
# token.

prompt = "Return the mean of the"
table = describe_behaviour(model, site, sae, prompt, tokenizer=tokenizer)
print(*table.lines(8), sep="\n")
AttributionDisplay.from_attribution(table, n_features=10)

# %%
# Effects relative to ordinary texts. ``verify`` computes the strongest ones exactly, by removing
# the feature and running the model.

options = {"background": background, "tokenizer": tokenizer}
print(attribute(model, site, sae, prompt, verify=5, **options))

# %%
# Two layers
# ----------
# The circuit keeps the strongest features of both layers and adds the effects of the earlier on
# the later ones. Its faithfulness says how much of the prediction these features reproduce by
# themselves.

circuit = feature_circuit(model, list(saes), list(saes.values()), prompt, **options)
print(circuit)
circuit.plot()

# %%
# The same graph for other programs, such as Gephi or Cytoscape:

circuit.to_graphml("circuit.graphml")
circuit.to_json("circuit.json")
