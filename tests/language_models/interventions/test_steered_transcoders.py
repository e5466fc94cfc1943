"""Transcoders in the place of an MLP: those that are the MLP, whose features are its neurons."""

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sksae import TopKSAE, Transcoder
from sksae.language_models import patch, steer
from sksae.language_models.model import capture, find_hook_point
from tests.cases import each_case
from tests.language_models.families import build
from tests.language_models.transcoders import (
    SOURCE,
    linear_gpt2,
    logits,
    neurons,
    relu_gpt2,
    skipping,
    zeroed,
)

IDS = torch.tensor([[5, 9, 30, 7, 21], [8, 8, 2, 11, 3]])
X = np.random.default_rng(0).normal(size=(80, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    return relu_gpt2()


@pytest.fixture(scope="module")
def exact(model):
    return neurons(model)


@pytest.fixture(scope="module")
def topk():
    estimator = TopKSAE(24, k=8, max_iter=2, random_state=0)
    return Transcoder(estimator).fit(X, X[:, ::-1])


def seen(model, site, layer=None):
    base = model.base_model
    point = find_hook_point(base, layer, site)
    return capture(base, {"x": point}, {"input_ids": IDS})["x"]


def test_the_mlp_as_a_transcoder_changes_nothing(model, exact):
    before = logits(model, IDS)
    piped = make_pipeline(FunctionTransformer(), exact)
    for estimator in (exact, FrozenEstimator(exact), piped):
        with patch(model, SOURCE, estimator):
            torch.testing.assert_close(logits(model, IDS), before, atol=1e-4, rtol=1e-4)
    linear = linear_gpt2()
    before = logits(linear, IDS)
    with patch(linear, SOURCE, skipping(linear), target_site="1.mlp_out"):
        torch.testing.assert_close(logits(linear, IDS), before, atol=1e-4, rtol=1e-4)


@each_case("kind", ["gpt2", "llama", "gemma2", "granite", "bloom", "opt"])
def test_the_prediction_from_one_site_replaces_the_other(kind, topk):
    model = build(kind, head=True)
    read = seen(model, "resid_mid", 1)
    wanted = topk.predict(read.reshape(-1, 16).numpy()).reshape(read.shape)
    before = logits(model, IDS)
    with patch(model, "1.resid_mid", topk):
        after = seen(model, "mlp_out", 1).numpy()
        assert torch.equal(seen(model, "resid_mid", 1), read)
        assert (logits(model, IDS) - before).abs().max() > 0.01
    np.testing.assert_allclose(after.reshape(read.shape), wanted, atol=1e-4 * np.abs(wanted).max())
    with patch(model, "1.resid_mid", topk, with_error=True):
        torch.testing.assert_close(logits(model, IDS), before, atol=2e-3, rtol=1e-3)
    assert torch.equal(logits(model, IDS), before)


def test_ablated_features_are_neurons_switched_off(model, exact):
    hook = zeroed(model, [3, 40])
    wanted = logits(model, IDS)
    hook.remove()
    with steer(model, SOURCE, exact, [3, 40], "ablate"):
        torch.testing.assert_close(logits(model, IDS), wanted, atol=1e-4, rtol=1e-4)
    with steer(model, (None, SOURCE), exact, range(64), "ablate", target_site=(1, "mlp_out")):
        torch.testing.assert_close(
            seen(model, "h.1.mlp"), torch.from_numpy(exact.intercept_).expand(2, 5, 16)
        )


def test_a_feature_at_its_mean_is_a_neuron_at_its_mean(model, exact):
    means = exact.transform(seen(model, SOURCE).reshape(-1, 16).numpy()).mean(0)
    act = model.transformer.h[1].mlp.act
    size = np.linalg.norm(model.transformer.h[1].mlp.c_proj.weight[7].detach().numpy())

    def at_mean(_module, _args, output):
        output = output.clone()
        output[..., 7] = float(means[7] / size)
        return output

    hook = act.register_forward_hook(at_mean)
    wanted = logits(model, IDS)
    hook.remove()
    with steer(model, SOURCE, exact, {7: means[7]}, "clamp"):
        torch.testing.assert_close(logits(model, IDS), wanted, atol=1e-4, rtol=1e-4)


def test_codes_are_of_the_one_site_and_steps_in_the_other(model, exact):
    before, codes = seen(model, "h.1.mlp"), exact.transform(seen(model, SOURCE).reshape(-1, 16))
    fires = torch.from_numpy(codes[:, 5] > 0).reshape(2, 5)
    assert 0 < fires.sum() < 10
    direction = torch.from_numpy(exact.components_[5])
    with steer(model, SOURCE, exact, {5: 2.0}, only_active=True):
        step = seen(model, "h.1.mlp") - before
    torch.testing.assert_close(step, 2 * fires[..., None] * direction, atol=1e-5, rtol=0)
    with steer(model, SOURCE, exact, {5: 2.0}, unit="norm", where="last"):
        step = seen(model, "h.1.mlp") - before
    norms = before[:, -1].norm(dim=-1, keepdim=True)
    torch.testing.assert_close(step[:, -1], 2 * norms * direction, atol=1e-3, rtol=1e-4)
    assert not step[:, :-1].any()
    with steer(model, SOURCE, exact, [5], "project_out"):
        assert (seen(model, "h.1.mlp") @ direction).abs().max() < 1e-4


def test_generation_is_the_same_with_and_without_a_cache(model, exact):
    mask = torch.tensor([[0, 1, 1, 1, 1], [1, 1, 1, 1, 1]])
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    with steer(model, SOURCE, exact, {5: 9.0}, "clamp"):
        one = model.generate(IDS, attention_mask=mask, **options)
        other = model.generate(IDS, attention_mask=mask, use_cache=False, **options)
    assert torch.equal(one, other)


def test_what_is_wrong_is_named(model, exact, topk):
    narrow = Transcoder(TopKSAE(8, k=2, max_iter=1, random_state=0)).fit(X, X[:, :5])
    plain = TopKSAE(24, k=8, max_iter=1, random_state=0).fit(X)
    wrong = [
        (ValueError, "for transcoders: TopKSAE rec", ("1.resid_mid", plain), "1.mlp_out"),
        (ValueError, "computed before", ("1.resid_post", topk), None),
        (ValueError, "computed before", ("1.resid_mid", topk), "0.mlp_out"),
        (ValueError, "in no block whose MLP", ("wte", topk), None),
        (ValueError, r"fitted on 16 columns.*have 64", ("h.1.mlp.act", topk), None),
        (ValueError, "makes 16 columns of the 64", ("1.resid_mid", topk), "h.1.mlp.act"),
        (ValueError, "makes 5 columns of the 16", ("1.resid_mid", narrow), None),
    ]
    for error, message, arguments, target_site in wrong:
        with pytest.raises(error, match=message):
            patch(model, *arguments, target_site=target_site)
    with pytest.raises(ValueError, match=r"directions of 5 columns.*target site have 16"):
        steer(model, "1.resid_mid", narrow, [0], "ablate")
