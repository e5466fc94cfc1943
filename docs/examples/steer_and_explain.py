"""Downstream loss, steering and attribution with the features of a language model.

The script takes about a minute on two cores and writes ``circuit.png``, ``circuit.graphml`` and
``circuit.json``.
"""

from sksae import ActivationExtractor, TopKSAE
from sksae.datasets import load_corpus, load_tiny_lm
from sksae.language_models import (
    attribute,
    describe_behaviour,
    downstream_metrics,
    feature_circuit,
    logit_lens,
    steer,
)

model, tokenizer = load_tiny_lm()
texts = load_corpus().data
train, held_out = texts[:120], texts[120:130]

# Fit an autoencoder to each of two layers, and measure the loss with its reconstruction.
saes = {}
for layer in (2, 3):
    extractor = ActivationExtractor(model, layer=layer, tokenizer=tokenizer)
    rows = extractor.transform(train)
    sae = TopKSAE(768, k=16, max_iter=8, random_state=0).fit(rows)
    kept = downstream_metrics(extractor, sae, held_out)
    print(
        f"layer {layer}: explained variance {sae.score(rows):.3f}; cross-entropy of held-out texts "
        f"{kept['ce_clean']:.3f}, on the reconstruction {kept['ce_patched']:.3f} "
        f"(recovered {kept['ce_recovered']:.1%} of zeros, {kept['ce_recovered_mean']:.1%} of means)"
    )
    saes[f"{layer}.resid_post"] = sae
site = "3.resid_post"

# Choose the feature that promotes " shape" most, and steer with it.
lens = logit_lens(model, sae, tokenizer=tokenizer)
logits = ((lens.promoted == " shape") * lens.promoted_logits).max(axis=1)
row = logits.argmax()
feature = int(lens.feature[row])
print(f"\nFeature {feature} promotes {', '.join(map(repr, lens.promoted[row, :6]))}.")

prompt = "The function returns the"
inputs = tokenizer(prompt, return_tensors="pt")
maxima = sae.transform(rows).max(axis=0)
for strength in (0.0, 1.0, 2.0):
    with steer(model, site, sae, {feature: strength}, unit="max", maxima=maxima):
        ids = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0]
    print(f"{strength:3.1f} x its maximum: {tokenizer.decode(ids, skip_special_tokens=True)!r}")

# Attribute a prediction to features, and write the circuit.
prompt = "Return the mean of the"
print("", *describe_behaviour(model, site, sae, prompt, tokenizer=tokenizer).lines(8), sep="\n")
options = {"background": held_out, "tokenizer": tokenizer}
print("", attribute(model, site, sae, prompt, verify=5, **options), sep="\n")
circuit = feature_circuit(model, list(saes), list(saes.values()), prompt, **options)
print("", circuit, sep="\n")
circuit.to_graphml("circuit.graphml")
circuit.to_json("circuit.json")
circuit.plot().figure.savefig("circuit.png", dpi=120, bbox_inches="tight")
