"""Reconstructions in the place of activations, against what the estimator itself makes of them."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sksae import TopKSAE
from sksae.language_models import patch, steer
from sksae.language_models.model import capture, find_hook_point
from tests.cases import each_case
from tests.language_models.families import build

IDS = torch.tensor([[5, 9, 30, 7, 21], [8, 8, 2, 11, 3]])
INPUTS = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
KINDS = (
    "gpt2",
    "llama",
    "gemma2",
    "falcon",
    "bloom",
    "granite",
    "opt",
    "neox_parallel",
    "gpt_oss",
    "bert",
)
SITES = ("embeddings", "attn_out", "resid_mid", "mlp_out", "resid_post")
X = np.random.default_rng(0).normal(size=(400, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def topk():
    return TopKSAE(24, k=8, max_iter=3, random_state=0).fit(X)


@pytest.fixture(scope="module")
def model():
    models = {}
    return lambda kind: models.setdefault(kind, build(kind, head=True))


def sites_of(kind):
    return [s for s in SITES if not (s == "resid_mid" and kind in ("falcon", "neox_parallel"))]


def written(site):
    return site if site == "embeddings" else (1, site)


def seen(model, site, inputs=INPUTS):
    base = model.base_model
    point = find_hook_point(base, None if site == "embeddings" else 1, site)
    shape = (*inputs["input_ids"].shape, -1)
    return capture(base, {"x": point}, inputs)["x"].reshape(shape)


@torch.no_grad()
def logits(model, inputs=INPUTS):
    return model(**inputs).logits


def hooks_of(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def reconstruction(estimator, x):
    rows = x.float().reshape(-1, 16).numpy()
    made = estimator.inverse_transform(estimator.transform(rows))
    return np.asarray(made).reshape(x.shape)


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_goes_on_with_the_reconstruction(model, topk, kind):
    lm = model(kind)
    for site in sites_of(kind):
        x = seen(lm, site)
        wanted = reconstruction(topk, x)
        assert np.abs(wanted - x.numpy()).max() > 0.1
        with patch(lm, written(site), topk):
            after = seen(lm, site)
        size = max(np.abs(wanted).max(), float(x.abs().max()))
        np.testing.assert_allclose(after.numpy(), wanted, atol=2e-5 * size, rtol=0)
    assert hooks_of(lm) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_with_its_error_it_is_the_model_itself(model, topk, kind):
    lm = model(kind)
    before = logits(lm)
    for site in sites_of(kind):
        with patch(lm, written(site), topk, with_error=True):
            exact = logits(lm)
        with patch(lm, written(site), topk):
            patched = logits(lm)
        torch.testing.assert_close(exact, before, atol=2e-3, rtol=1e-3)
        assert (patched - before).abs().max() > 0.05
    assert torch.equal(logits(lm), before)


def test_a_reconstruction_without_loss_changes_nothing(model):
    whole = PCA(16).fit(X)
    pipeline = make_pipeline(StandardScaler(), PCA(16)).fit(X)
    lm = model("llama")
    before = logits(lm)
    for estimator in (whole, pipeline, FrozenEstimator(whole)):
        with patch(lm, "1.resid_post", estimator):
            torch.testing.assert_close(logits(lm), before, atol=1e-4, rtol=1e-4)


def test_a_pipeline_and_sparse_codes_reconstruct_as_themselves(model, topk):
    lm = model("gpt2")
    x = seen(lm, "resid_post")
    pipeline = make_pipeline(StandardScaler(), TopKSAE(24, k=4, max_iter=2, random_state=0)).fit(X)
    sparse = TopKSAE(24, k=8, max_iter=3, random_state=0, sparse_output=True).fit(X)
    for estimator, wanted in (
        (pipeline, reconstruction(pipeline, x)),
        (sparse, reconstruction(topk, x)),
    ):
        with patch(lm, "1.resid_post", estimator):
            np.testing.assert_allclose(seen(lm, "resid_post").numpy(), wanted, atol=1e-4)


def test_patching_the_codes_one_by_one_is_the_same_as_steering(model, topk):
    """Ablating every feature of x leaves intercept and error; patching leaves out the error."""
    lm = model("llama")
    x = seen(lm, "resid_post")
    made = reconstruction(topk, x)
    with steer(lm, "1.resid_post", topk, range(24), "ablate"):
        ablated = seen(lm, "resid_post").numpy()
    np.testing.assert_allclose(ablated, topk.intercept_ + (x.numpy() - made), atol=1e-4)


def test_only_the_tokens_that_are_meant_are_patched(model, topk):
    lm = model("gpt2")
    x = seen(lm, "resid_post")
    wanted = reconstruction(topk, x)
    mask = np.array([[0, 1, 0, 0, 1], [1, 0, 0, 0, 0]], bool)
    last = np.zeros((2, 5), bool)
    last[:, -1] = True
    for where, meant in ((mask, mask), ("last", last), ([-1], last), ("generated", last & False)):
        with patch(lm, "1.resid_post", topk, where=where):
            after = seen(lm, "resid_post").numpy()
        np.testing.assert_array_equal(after[~meant], x.numpy()[~meant])
        np.testing.assert_allclose(after[meant], wanted[meant], atol=1e-5)


@each_case("where", ["all", "last", "generated", [-1]])
def test_generation_is_the_same_with_and_without_a_cache(model, topk, where):
    ids = torch.tensor([[0, 0, 5, 9, 30], [3, 8, 2, 11, 4]])
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    for kind in ("gpt2", "llama", "bloom"):
        lm = model(kind)
        with patch(lm, "1.resid_post", topk, where=where):
            for beams in (1, 3):
                one = lm.generate(ids, attention_mask=mask, num_beams=beams, **options)
                other = lm.generate(
                    ids, attention_mask=mask, num_beams=beams, use_cache=False, **options
                )
                assert torch.equal(one, other)
            alone = lm.generate(ids[:1, 2:], attention_mask=mask[:1, 2:], **options)
            together = lm.generate(ids, attention_mask=mask, **options)
        assert torch.equal(alone[0], together[0, 2:])


def test_half_precision(topk):
    lm = build("llama", head=True).to(torch.bfloat16)
    x = seen(lm, "resid_post")
    wanted = torch.from_numpy(reconstruction(topk, x)).to(torch.bfloat16)
    with patch(lm, "1.resid_post", topk):
        assert torch.equal(seen(lm, "resid_post"), wanted)
    before = logits(lm)
    with patch(lm, "1.resid_post", topk, with_error=True):
        assert torch.equal(logits(lm), before)  # float32 rounds less than bfloat16 can tell


def test_weights_that_are_elsewhere_until_they_are_needed(topk):
    import accelerate

    lm = build("llama", head=True)
    with patch(lm, "1.resid_mid", topk), steer(lm, "2.mlp_out", topk, {3: 4.0}, "clamp"):
        wanted = logits(lm)
    accelerate.cpu_offload(lm, execution_device="cpu")
    assert lm.model.layers[1].mlp.up_proj.weight.is_meta
    with patch(lm, "1.resid_mid", topk), steer(lm, "2.mlp_out", topk, {3: 4.0}, "clamp"):
        torch.testing.assert_close(logits(lm), wanted)
    assert lm.model.layers[1].mlp.up_proj.weight.is_meta


def test_the_hooks_are_gone_after_an_error(model):
    class Failing(PCA):
        def inverse_transform(self, X):
            raise ArithmeticError

    lm = model("gpt2")
    before = logits(lm)
    with pytest.raises(ArithmeticError), patch(lm, "1.resid_post", Failing(3).fit(X)):
        logits(lm)
    assert hooks_of(lm) == 0
    assert torch.equal(logits(lm), before)


def test_what_is_wrong_is_named(model, topk):
    lm = model("gpt2")
    narrow = PCA(3).fit(X[:, :5])
    wrong = [
        (ValueError, "with_error must be a bool", ("1.resid_post", topk), {"with_error": 1}),
        (ValueError, "where must be one of", ("1.resid_post", topk), {"where": "here"}),
        (ValueError, "3 layers", ("7.resid_post", topk), {}),
        (ValueError, r"PCA was fitted on 5 columns.*have 16", ("1.resid_post", narrow), {}),
        (ValueError, r"TopKSAE was fitted on 16 columns.*have 64", ("h.1.mlp.act", topk), {}),
        (ValueError, "not fitted", ("1.resid_post", TopKSAE(24)), {}),
        (TypeError, "list has no transform", ("1.resid_post", [topk]), {}),
        (RuntimeError, "never ran", ("h", topk), {}),
    ]
    for error, message, arguments, options in wrong:
        with pytest.raises(error, match=message):
            patch(lm, *arguments, **options)
    with pytest.raises(TypeError, match="a PreTrainedModel, not str"):
        patch("gpt2", "1.resid_post", topk)
    assert hooks_of(lm) == 0
