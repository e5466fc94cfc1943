"""Features of transcoders that are an MLP, whose effects are those of its neurons."""

import numpy as np
import pytest
import torch

from sksae import TopKSAE, Transcoder
from sksae.language_models import attribute, describe_behaviour, feature_circuit, logit_lens
from sksae.language_models.model import capture, find_hook_point
from tests.language_models.transcoders import (
    SOURCE,
    linear_gpt2,
    logits,
    neurons,
    relu_gpt2,
    skipping,
)

PROMPT, OTHER = [5, 9, 30, 7, 44, 12], [5, 9, 31, 7, 40, 12]
PAIR = (17, 20)


@pytest.fixture(scope="module")
def model():
    return relu_gpt2()


@pytest.fixture(scope="module")
def exact(model):
    return neurons(model)


def metric_of(model, ids=PROMPT):
    last = logits(model, torch.tensor([ids]))[0, -1].double()
    return float(last[PAIR[0]] - last[PAIR[1]])


def rows_at(model, site, ids, layer=None):
    point = find_hook_point(model, layer, site)
    return capture(model.base_model, {"x": point}, {"input_ids": torch.tensor([ids])})["x"][0]


def test_effects_account_for_the_whole_target(model, exact, bpe):
    """Of the exact transcoder there is no error, and the features' effects are all there is."""
    options = {"counterfactual": OTHER, "tokenizer": bpe, "n_steps": 100}
    table = attribute(model, SOURCE, exact, PROMPT, PAIR, **options)
    assert set(table.site) == {"1.mlp_out"}
    assert table.completeness["1.mlp_out"] == pytest.approx(1, abs=0.02)
    errors = table.feature < 0
    assert np.abs(table.activation[errors]).max() < 1e-4
    codes = exact.transform(rows_at(model, SOURCE, PROMPT).numpy())
    others = exact.transform(rows_at(model, SOURCE, OTHER).numpy())
    t, j = table.position[~errors], table.feature[~errors]
    np.testing.assert_allclose(table.activation[~errors], codes[t, j], atol=1e-5)
    np.testing.assert_allclose(table.baseline_activation[~errors], others[t, j], atol=1e-5)


def test_a_measured_effect_is_that_of_the_neuron(model, exact, bpe):
    options = {"baseline": "zero", "tokenizer": bpe, "verify": 3}
    table = attribute(model, (None, SOURCE), exact, PROMPT, PAIR, **options)
    clean = metric_of(model)
    for i in range(3):
        act, neuron = model.transformer.h[1].mlp.act, int(table.feature[i])
        position = int(table.position[i])

        def off(_module, _args, output, position=position, neuron=neuron):
            output = output.clone()
            output[:, position, neuron] = 0
            return output

        hook = act.register_forward_hook(off)
        assert table.exact[i] == pytest.approx(clean - metric_of(model), abs=1e-4)
        hook.remove()


def test_means_over_a_background_are_of_both_sites(model, exact, bpe):
    texts = ["hello world, the cat sat", "the dog sat on the log"]
    options = {"background": texts, "tokenizer": bpe, "method": "attribution_patching"}
    table = attribute(model, SOURCE, exact, PROMPT, PAIR, target_sites="1.mlp_out", **options)
    rows = [rows_at(model, SOURCE, bpe(text)["input_ids"])[1:].numpy() for text in texts]
    mean = exact.transform(np.concatenate(rows)).mean(0)
    inner = (table.feature >= 0) & (table.position > 0)
    np.testing.assert_allclose(
        table.baseline_activation[inner], mean[table.feature[inner]], atol=1e-5
    )


def test_a_description_of_neurons(model, exact, bpe):
    table = describe_behaviour(
        model, SOURCE, exact, PROMPT, target=17, max_density=None, verify=3, tokenizer=bpe
    )
    assert table.tokens.unexplained.max() < 1e-4
    x, codes = rows_at(model, "h.1.mlp", PROMPT), exact.transform(rows_at(model, SOURCE, PROMPT))
    np.testing.assert_allclose(table.activation, codes[table.position, table.feature], atol=1e-5)
    direct = [table.tokens.rest_direct, table.tokens.error_direct, table.tokens.intercept_direct]
    total = np.bincount(table.position, table.direct_logit, 6) + np.sum(direct, axis=0)
    head, end = model.lm_head.weight.detach(), rows_at(model, "resid_post", PROMPT, 2)
    gain, scale = model.transformer.ln_f.weight.detach(), end.var(-1, unbiased=False).sqrt()
    centred = (x - x.mean(-1, keepdim=True)) / scale[:, None] * gain
    wanted = (centred * head[table.tokens.predicted_id]).sum(-1)
    np.testing.assert_allclose(total, wanted.numpy(), atol=1e-3)


def test_what_a_skip_connection_adds_counts_with_the_intercept(bpe):
    linear = linear_gpt2()
    table = describe_behaviour(linear, SOURCE, skipping(linear), PROMPT, target=17, tokenizer=bpe)
    assert len(table) == 0
    assert table.tokens.unexplained.max() < 1e-4
    assert np.abs(table.tokens.intercept_gradient).max() > 0.01


def test_directions_are_of_the_target(model, exact, bpe):
    lens = logit_lens(model, exact, [3, 5], n_tokens=4, tokenizer=bpe)
    rows = torch.from_numpy(exact.components_[[3, 5]])
    rows = (rows - rows.mean(1, keepdim=True)) * model.transformer.ln_f.weight.detach()
    effects = (rows @ model.lm_head.weight.detach().T)[:, : len(bpe)]
    assert lens.promoted_ids.tolist() == effects.topk(4).indices.tolist()


def test_what_is_wrong_is_named(model, exact, bpe):
    options = {"counterfactual": OTHER, "tokenizer": bpe}
    with pytest.raises(TypeError, match="reads another site than it writes to"):
        feature_circuit(model, SOURCE, exact, PROMPT, PAIR, **options)
    with pytest.raises(ValueError, match="target sites for 2 sites, but 1"):
        attribute(model, SOURCE, exact, PROMPT, PAIR, target_sites=["1.mlp_out"] * 2, **options)
    topk = TopKSAE(8, k=2, max_iter=1, random_state=0)
    narrow = Transcoder(topk).fit(np.eye(16), np.eye(16)[:, :5])
    with pytest.raises(ValueError, match=r"directions of 5 columns.*target site have 16"):
        attribute(model, SOURCE, narrow, PROMPT, PAIR, **options)
    layers = Transcoder(topk).fit(np.eye(16), np.eye(48)[:16])  # of three layers, side by side
    with pytest.raises(ValueError, match=r"directions of 48 columns.*16.*of 3 layers side by side"):
        attribute(model, SOURCE, layers, PROMPT, PAIR, baseline="zero", tokenizer=bpe)
    with pytest.raises(ValueError, match=r"directions of 5 columns.*target site have 16"):
        describe_behaviour(model, SOURCE, narrow, PROMPT, tokenizer=bpe)
