"""Steered activations against numbers worked out by hand from the unsteered ones."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from sksae import TopKSAE
from sksae.datasets import load_corpus, load_tiny_lm
from sksae.language_models import ActivationExtractor, logit_lens, steer
from sksae.language_models.model import HookPoint, capture, find_hook_point
from tests.cases import each_case, tries
from tests.language_models.families import build

IDS = torch.tensor([[5, 9, 30, 7, 21], [8, 8, 2, 11, 3]])
INPUTS = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
FEW = ("gpt2", "gemma2", "falcon", "bert")  # serial and parallel blocks, factors, masked tokens
KINDS = (*FEW, "llama", "bloom", "granite", "opt", "neox_parallel", "gpt_oss")
IN_TWO_RUNS = [pytest.param(kind, marks=[pytest.mark.slow] * (kind not in FEW)) for kind in KINDS]
PARALLEL = ("falcon", "neox_parallel")
S = [3, 11, 17]
PARTS = ("attn_out", "resid_mid", "mlp_out", "resid_post")


@pytest.fixture(scope="module")
def topk():
    X = np.random.default_rng(0).normal(size=(400, 16)).astype(np.float32)
    return TopKSAE(24, k=8, max_iter=3, random_state=0).fit(X)


@pytest.fixture(scope="module")
def model():
    """``model(kind)``: a model with its head, one for the whole file."""
    models = {}
    return lambda kind: models.setdefault(kind, build(kind, head=True))


def hooks_of(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def seen(model, *sites, inputs=INPUTS):
    """What passes sites of block 1, as float64 arrays."""
    base = model.base_model
    points = {s: find_hook_point(base, 1, s) if s in PARTS else HookPoint(s) for s in sites}
    found = capture(base, points, inputs)
    tensors = [found[s].double().reshape(*inputs["input_ids"].shape, -1).numpy() for s in sites]
    return tensors if len(tensors) > 1 else tensors[0]


@torch.no_grad()
def logits(model, inputs=INPUTS):
    return model(**inputs).logits


def expected(topk, x, values, how, unit="absolute", maxima=None, only_active=False):
    """The closed form of each way to steer, feature by feature."""
    D = topk.components_.astype(float)
    f = topk.transform(x.astype(np.float32).reshape(-1, 16)).reshape(*x.shape[:2], -1)
    f = f.astype(float)
    if how == "project_out":
        basis, _ = np.linalg.qr(D[list(values)].T)
        active = (f[..., list(values)] > 0).any(-1, keepdims=True) if only_active else 1
        return x - (x @ basis) @ basis.T * active
    new = x.copy()
    for j, v in values.items():
        code, d = f[..., j, None], D[j]
        if how == "add":
            size = {"absolute": 1, "norm": np.linalg.norm(x, axis=-1, keepdims=True)}
            size = maxima[j] if unit == "max" else size[unit] / np.linalg.norm(d)
            step = v * size * np.ones_like(code)
        else:
            step = {"clamp": v, "scale": v * code, "ablate": 0}[how] - code
        new += step * (code > 0 if only_active else 1) * d
    return new


VALUES = {3: 2.5, 11: -1.0, 17: 0.5}
MAXIMA = np.linspace(1, 3, 24)
WAYS = [
    ("add", {}),
    ("add", {"only_active": True}),
    ("add", {"unit": "norm"}),
    ("add", {"unit": "norm", "only_active": True}),
    ("add", {"unit": "max", "maxima": MAXIMA}),
    ("clamp", {}),
    ("clamp", {"only_active": True}),
    ("scale", {}),
    ("ablate", {}),
    ("project_out", {}),
    ("project_out", {"only_active": True}),
]


@pytest.mark.parametrize("kind", IN_TWO_RUNS)
def test_every_way_is_its_closed_form_at_every_site(model, topk, kind):
    lm = model(kind)
    sites = [s for s in PARTS if not (s == "resid_mid" and kind in PARALLEL)]
    for site in sites:
        x, post = seen(lm, site, "resid_post")
        for how, options in WAYS:
            values = dict(VALUES) if site == "resid_post" else {3: 2.5}
            wanted = expected(topk, x, values, how, **options)
            with steer(lm, (1, site), topk, values, how, **options):
                after, post_after = seen(lm, site, "resid_post")
            size = np.abs(wanted).max()
            np.testing.assert_allclose(after, wanted, atol=1e-5 * size, rtol=0)
            # What is added to a part goes on into the stream as it is.
            if site == "mlp_out" and kind != "bert":
                np.testing.assert_allclose(
                    post_after - post, wanted - x, atol=1e-5 * np.abs(post).max() + 1e-5 * size
                )


@each_case("kind", [k for k in KINDS if k not in (*PARALLEL, "bert")])
def test_the_middle_moves_the_stream_and_not_only_what_the_mlp_reads(model, topk, kind):
    lm = model(kind)
    sites = ("resid_mid", "mlp_out", "resid_post")
    mid, mlp, post = seen(lm, *sites)
    with steer(lm, "1.resid_mid", topk, {5: 4.0}):
        mid_after, mlp_after, post_after = seen(lm, *sites)
    u = topk.components_[5].astype(float)
    scale = 1e-5 * np.abs(post_after).max()
    np.testing.assert_allclose(mid_after - mid, np.broadcast_to(4 * u, mid.shape), atol=scale)
    assert np.abs(mlp_after - mlp).max() > 100 * scale
    np.testing.assert_allclose(post_after - post - (mlp_after - mlp), mid_after - mid, atol=scale)


@pytest.mark.parametrize("kind", PARALLEL)
def test_in_parallel_blocks_attention_adds_to_the_stream_alone(model, topk, kind):
    lm = model(kind)
    x, post = seen(lm, "attn_out", "resid_post")
    with steer(lm, "1.attn_out", topk, {5: 4.0}):
        post_after = seen(lm, "resid_post")
    np.testing.assert_allclose(
        post_after - post,
        np.broadcast_to(4.0 * topk.components_[5], x.shape),
        atol=1e-5 * np.abs(post).max(),
    )


@pytest.mark.parametrize("kind", IN_TWO_RUNS)
@each_case("site", ["1.resid_post", "1.mlp_out", "1.attn_out", "embeddings"])
def test_nothing_changes_to_the_last_bit(model, topk, kind, site):
    lm = model(kind)
    before = logits(lm)
    layer, _, name = site.rpartition(".")
    point = find_hook_point(lm.base_model, int(layer) if layer else None, name)
    x = capture(lm.base_model, {"x": point}, INPUTS)["x"].reshape(2, 5, 16)
    # Of this row alone: in a larger batch its codes would be rounded in another way.
    codes = topk.transform(x[0, 3:4].float().numpy())[0]
    own = dict(enumerate(codes.tolist()))
    assert sum(v > 0 for v in own.values()) == 8
    mask = np.zeros((2, 5), bool)
    mask[0, 3] = True
    silent = [j for j in own if not own[j]]
    same = [
        (own, "clamp", {"where": mask}),
        (dict.fromkeys(range(24), 1), "scale", {}),
        (dict.fromkeys(S, 0.0), "add", {}),
        (dict.fromkeys(S, 0.0), "add", {"unit": "norm", "preserve_norm": True}),
        (silent, "ablate", {"where": mask}),
        (dict.fromkeys(silent, 5.0), "clamp", {"only_active": True, "where": mask}),
        (dict.fromkeys(silent, 5.0), "add", {"only_active": True, "where": mask}),
    ]
    for values, how, options in same:
        with steer(lm, site, topk, values, how, **options):
            assert torch.equal(logits(lm), before), (how, options)
    with steer(lm, site, topk, {j: v + 1 for j, v in own.items()}, "clamp", where=mask):
        after = logits(lm)
    assert not torch.equal(after[0], before[0])
    torch.testing.assert_close(after[1], before[1])  # experts round by what else they get


def test_only_the_tokens_that_are_meant_change(model, topk):
    lm = model("gpt2")
    x = seen(lm, "resid_post")
    wanted = expected(topk, x, {3: 2.5}, "add")
    real = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 0]], bool)
    padded = {**INPUTS, "attention_mask": torch.from_numpy(real).long()}
    alone = seen(lm, "resid_post", inputs=padded)
    cases = {"all": real, "last": [[0, 0, 0, 0, 1], [0, 0, 0, 1, 0]], "generated": real & False}
    for where, mask in cases.items():
        mask = np.array(mask, bool)
        with steer(lm, "1.resid_post", topk, {3: 2.5}, where=where):
            after = seen(lm, "resid_post", inputs=padded)
        np.testing.assert_array_equal(after[~mask], alone[~mask])
        moved = np.broadcast_to(2.5 * topk.components_[3], (mask.sum(), 16))
        np.testing.assert_allclose((after - alone)[mask], moved, atol=1e-5)
    with steer(lm, "1.resid_post", topk, {3: 2.5}, where=[1, -1]):
        after = seen(lm, "resid_post")
    np.testing.assert_array_equal(after[:, [0, 2, 3]], x[:, [0, 2, 3]])
    np.testing.assert_allclose(after[:, [1, 4]], wanted[:, [1, 4]], atol=1e-5)


def test_norms_stay_where_they_are_to_stay(model, topk):
    lm = model("llama")
    x = seen(lm, "resid_post")
    with steer(lm, "1.resid_post", topk, {3: 9.0}, where=[2], preserve_norm=True):
        after = seen(lm, "resid_post")
    np.testing.assert_allclose(np.linalg.norm(after, axis=-1), np.linalg.norm(x, axis=-1), 1e-5)
    np.testing.assert_array_equal(after[:, [0, 1, 3, 4]], x[:, [0, 1, 3, 4]])
    moved = x[:, 2] + 9.0 * topk.components_[3]
    moved *= np.linalg.norm(x[:, 2:3], axis=-1) / np.linalg.norm(moved, axis=-1, keepdims=True)
    np.testing.assert_allclose(after[:, 2], moved, atol=1e-4)


def test_nothing_is_left_of_what_is_projected_out(model, topk):
    lm = model("llama")
    x = seen(lm, "resid_post")
    double = copy.copy(topk)
    double.components_ = topk.components_.copy()
    double.components_[11] = -topk.components_[3]  # the span stays two-dimensional
    with steer(lm, "1.resid_post", double, [3, 11, 17], "project_out"):
        after = seen(lm, "resid_post")
    size = np.abs(x).max()
    np.testing.assert_allclose(after @ double.components_[S].T, 0, atol=1e-5 * size)
    np.testing.assert_allclose(after, expected(topk, x, {3: 0, 17: 0}, "project_out"), atol=1e-4)
    with steer(lm, "1.resid_post", topk, 3, "project_out"):
        after = seen(lm, "resid_post")
    u = topk.components_[3].astype(float)
    np.testing.assert_allclose(after, x - (x @ u)[..., None] * u, atol=1e-5 * size)


def test_blocks_add_up_in_the_order_they_are_entered(model, topk):
    lm = model("gpt2")
    x = seen(lm, "resid_post")
    with (
        steer(lm, "1.resid_post", topk, {3: 2.5}),
        steer(lm, "1.resid_post", topk, {3: 1}, "clamp"),
    ):
        after = seen(lm, "resid_post")
    wanted = expected(topk, expected(topk, x, {3: 2.5}, "add"), {3: 1}, "clamp")
    np.testing.assert_allclose(after, wanted, atol=1e-4)
    with (
        steer(lm, "1.resid_post", topk, {3: 1}, "clamp"),
        steer(lm, "1.resid_post", topk, {3: 2.5}),
    ):
        after = seen(lm, "resid_post")
    wanted = expected(topk, expected(topk, x, {3: 1}, "clamp"), {3: 2.5}, "add")
    np.testing.assert_allclose(after, wanted, atol=1e-4)


def test_sites_of_one_model_are_checked_as_if_nothing_was_steered(topk):
    """The passes that test a site have six tokens, and a stream that must add up."""
    lm = build("llama", head=True)
    with (
        steer(lm, "2.resid_pre", topk, {3: 50.0}, where=[8]),
        steer(lm, "1.resid_post", topk, {3: 50.0}),
        steer(lm, "layers.1.mlp", topk, {3: 50.0}),
    ):
        pass


@settings(max_examples=tries(15), deadline=None)
@given(st.floats(-20, 20), st.floats(-20, 20))
def test_adding_is_linear(model, topk, v, w):
    lm = model("gpt2")
    x = seen(lm, "resid_post")

    def moved(*features):
        contexts = [steer(lm, "1.resid_post", topk, f) for f in features]
        for context in contexts:
            context.__enter__()
        try:
            return seen(lm, "resid_post") - x
        finally:
            for context in contexts[::-1]:
                context.__exit__(None, None, None)

    close = {"atol": 2e-5, "rtol": 1e-5}
    np.testing.assert_allclose(moved({3: 2 * v}), 2 * moved({3: v}), **close)
    np.testing.assert_allclose(moved({3: v}, {5: w}), moved({3: v, 5: w}), **close)
    np.testing.assert_allclose(moved({3: v}, {3: w}), moved({3: v + w}), **close)


def test_a_logit_rises_by_the_step_along_its_unembedding(model, topk):
    lm = model("llama")
    W = lm.get_output_embeddings().weight.detach().double().numpy()
    unembedding = copy.copy(topk)
    unembedding.components_ = W.astype(np.float32)
    before = logits(lm).double().numpy()
    with steer(lm, "norm", unembedding, {42: 3.0}, where="last"):
        after = logits(lm).double().numpy()
    np.testing.assert_allclose(
        after[:, -1, 42] - before[:, -1, 42], 3 * np.linalg.norm(W[42]), rtol=1e-5
    )
    np.testing.assert_allclose(
        after[:, -1] - before[:, -1],
        np.tile(3 * W @ W[42] / np.linalg.norm(W[42]), (2, 1)),
        1e-3,
        atol=1e-4,
    )
    # Before the norm the same step counts as much as the norm lets through.
    point = find_hook_point(lm.base_model, 2, "resid_post")
    x = capture(lm.base_model, {"x": point}, INPUTS)["x"].double().numpy()
    gain = lm.model.norm.weight.detach().double().numpy()
    moved = x + 3 * W[42] / np.linalg.norm(W[42])
    normed = moved / np.sqrt((moved**2).mean(-1, keepdims=True) + lm.config.rms_norm_eps) * gain
    with steer(lm, "2.resid_post", unembedding, {42: 3.0}):
        after = logits(lm).double().numpy()
    np.testing.assert_allclose(after, normed @ W.T, atol=1e-4)


# Generation

GENERATORS = ("gpt2", "llama", "gemma2", "bloom", "opt", "falcon", "granite")
PROMPT = torch.tensor([[0, 0, 5, 9, 30], [3, 8, 2, 11, 4]])
LEFT = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
MASK = np.array([[0, 0, 1, 0, 1], [1, 0, 0, 1, 0]], bool)


def generate(lm, ids=PROMPT, mask=LEFT, **options):
    settings = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    settings |= {"output_logits": True, "return_dict_in_generate": True}
    found = lm.generate(ids, attention_mask=mask, **settings, **options)
    return found.sequences, torch.stack(found.logits)


EVERY_WHERE = ("all", "last", "generated", [-1, -2], MASK)


@pytest.mark.parametrize(
    ("kind", "places"),
    [
        ("gpt2", EVERY_WHERE),
        ("gemma2", ("generated", MASK)),
        *(
            pytest.param(kind, ("generated", MASK), marks=pytest.mark.slow)
            for kind in GENERATORS
            if kind not in ("gpt2", "gemma2")
        ),
    ],
)
def test_the_cache_makes_no_difference(model, topk, kind, places):
    lm = model(kind)
    plain, _ = generate(lm)
    ways = [({3: 30.0}, "add"), ({3: 30.0, 7: -20.0}, "clamp"), ([3, 5], "project_out")]
    for where in places:
        for features, how in ways:
            with steer(lm, "1.resid_post", topk, features, how, where=where):
                for beams in (1, 3) if how == "add" else (1,):
                    cached, scores = generate(lm, num_beams=beams)
                    again, same = generate(lm, num_beams=beams, use_cache=False)
                    assert torch.equal(cached, again)
                    torch.testing.assert_close(scores, same, atol=1e-2, rtol=1e-3)
            assert hooks_of(lm) == 0
        with steer(lm, "1.resid_post", topk, {3: 300.0}, where=where):
            assert not torch.equal(generate(lm)[0], plain)
        assert torch.equal(generate(lm)[0], plain)


@pytest.mark.parametrize("kind", GENERATORS)
def test_a_padded_batch_says_what_each_prompt_says_alone(model, topk, kind):
    lm = model(kind)
    for where in ("all", "last", "generated", [-1, -3]):
        with steer(lm, "1.resid_post", topk, {3: 30.0}, where=where):
            together, _ = generate(lm)
            first, _ = generate(lm, PROMPT[:1, 2:], LEFT[:1, 2:])
            second, _ = generate(lm, PROMPT[1:], LEFT[1:])
        assert torch.equal(together[0, 5:], first[0, 3:])
        assert torch.equal(together[1], second[0])


def test_each_new_token_is_steered_and_the_prompt_is_not(model, topk):
    lm = model("gpt2")
    rows = []
    with steer(lm, "1.resid_post", topk, {3: 30.0}, "clamp", where="generated"):
        handle = lm.transformer.h[1].register_forward_hook(lambda _m, _a, out: rows.append(out))
        try:
            generate(lm)
        finally:
            handle.remove()
    assert [row.shape[1] for row in rows] == [5, 1, 1, 1, 1, 1]
    prompt = capture(
        lm.base_model,
        {"x": find_hook_point(lm.base_model, 1, "resid_post")},
        {"input_ids": PROMPT[1:], "attention_mask": LEFT[1:]},
    )["x"]
    torch.testing.assert_close(rows[0][1:], prompt)
    # Clamped rows, decoded along the feature: x' = x + (30 - f) d means f + d . (x' - x) = 30.
    plain = []
    handle = lm.transformer.h[1].register_forward_hook(lambda _m, _a, out: plain.append(out))
    try:
        with steer(lm, "1.resid_post", topk, {3: 30.0}, "clamp", where="generated"):
            generate(lm)
    finally:
        handle.remove()
    for before, after in zip(plain[1:], rows[1:], strict=True):
        f = topk.transform(before[:, 0].numpy())[:, 3]
        moved = (after - before)[:, 0].numpy() @ topk.components_[3]
        np.testing.assert_allclose(f + moved, 30, rtol=1e-4)


def test_a_forward_pass_over_everything_agrees_with_the_generation(model, topk):
    lm = model("llama")
    with steer(lm, "1.resid_post", topk, {3: 30.0}, where="generated"):
        sequences, scores = generate(lm, PROMPT[1:], LEFT[1:])
        whole = logits(lm, {"input_ids": sequences, "attention_mask": torch.ones_like(sequences)})
    torch.testing.assert_close(whole[0, 4:-1], scores[:, 0], atol=1e-3, rtol=1e-3)


@each_case("kind", ["gpt2", "gemma2"])
@each_case("where", ["all", "last", "generated", [-1, -2]])
def test_other_caches_and_embeddings_make_no_difference(model, topk, kind, where):
    lm = model(kind)
    embeddings = lm.get_input_embeddings()(PROMPT).detach()
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    with steer(lm, "1.resid_post", topk, {3: 30.0}, "clamp", where=where):
        for beams in (1, 3):
            sequences, _ = generate(lm, num_beams=beams)
            static, _ = generate(lm, num_beams=beams, cache_implementation="static")
            assert torch.equal(static, sequences)
            new = lm.generate(
                inputs_embeds=embeddings, attention_mask=LEFT, num_beams=beams, **options
            )
            assert torch.equal(new, sequences[:, 5:])


def test_tokens_fed_one_by_one_are_no_prompt_of_their_own(model, topk):
    """A loop over `forward` with a cache is a generation as well."""
    lm = model("llama")
    with steer(lm, "1.resid_post", topk, {3: 30.0}, where="generated"), torch.no_grad():
        sequences, _ = generate(lm, PROMPT[1:], LEFT[1:])
        out = lm(PROMPT[1:], use_cache=True)
        tokens = [out.logits[:, -1].argmax(-1, keepdim=True)]
        for _ in range(5):
            # transformers 5.24 calls it `cache`.
            memory = "cache" if "cache" in out else "past_key_values"
            out = lm(tokens[-1], use_cache=True, **{memory: out[memory]})
            tokens.append(out.logits[:, -1].argmax(-1, keepdim=True))
    assert torch.equal(torch.cat([PROMPT[1:], *tokens], 1), sequences)


# Precisions, gradients, surroundings


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_arithmetic_is_wide_and_the_model_gets_its_own_dtype_back(topk, dtype):
    lm = build("llama", head=True).to(dtype)
    point = {"x": find_hook_point(lm.base_model, 1, "resid_post")}
    x = capture(lm.base_model, point, INPUTS)["x"]
    wide = torch.float64 if dtype is torch.float64 else torch.float32
    u = torch.from_numpy(topk.components_[3]).double()
    step = torch.tensor([2.5], dtype=torch.float64) @ (u / u.norm())[None]
    wanted = (x.to(wide) + step.to(wide)).to(dtype)
    with steer(lm, "1.resid_post", topk, {3: 2.5}):
        after = capture(lm.base_model, point, INPUTS)["x"]
        assert torch.equal(after, wanted)
        assert generate(lm)[1].isfinite().all()
    before = logits(lm)
    with steer(lm, "1.resid_post", topk, dict.fromkeys(range(24), 1.0), "scale"):
        assert torch.equal(logits(lm), before)
    for how in ("clamp", "ablate", "project_out"):
        with steer(lm, "1.resid_post", topk, {3: 2.5}, how):
            after = capture(lm.base_model, point, INPUTS)["x"]
        wanted = expected(topk, x.double().numpy(), {3: 2.5}, how)
        assert after.dtype is dtype
        close = 0.02 if dtype is torch.bfloat16 else 1e-5
        np.testing.assert_allclose(after.double().numpy(), wanted, rtol=close, atol=close)


def test_modes_of_the_caller_are_kept(model, topk):
    lm = model("llama")
    with steer(lm, "1.resid_post", topk, VALUES, "clamp"):
        wanted = logits(lm)
        with torch.inference_mode():
            assert torch.equal(lm(**INPUTS).logits, wanted)
        with_gradients = lm(**INPUTS).logits
        assert with_gradients.requires_grad
        assert torch.equal(with_gradients, wanted)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert lm(**INPUTS).logits.isfinite().all()


def test_gradients_pass_by(model, topk):
    """x + (v - f) d: f is chosen without gradient, so each row has the gradient that x' has."""
    lm = model("llama")
    x = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
    flags = [p.requires_grad for p in lm.parameters()]
    target = []
    with steer(lm, "embeddings", topk, {3: 2.5}, "clamp", where=[1]):
        handle = lm.model.layers[0].input_layernorm.register_forward_pre_hook(
            lambda _m, args: target.append(args[0])
        )
        try:
            lm(inputs_embeds=x)
        finally:
            handle.remove()
    (gradient,) = torch.autograd.grad(target[0].square().sum(), x)
    torch.testing.assert_close(gradient, 2 * target[0].detach())
    assert [p.requires_grad for p in lm.parameters()] == flags
    assert all(p.grad is None for p in lm.parameters())


def test_training_flags_and_the_random_state_stay(topk):
    lm = build("gpt2", head=True).train()
    lm.transformer.h[1].eval()
    flags = [module.training for module in lm.modules()]
    state = torch.get_rng_state()
    with steer(lm, "1.resid_post", topk, VALUES, "clamp"):
        pass
    assert [module.training for module in lm.modules()] == flags
    assert torch.equal(torch.get_rng_state(), state)


def test_an_image_model_is_steered_too(topk):
    lm = build("vit")
    point = {"x": find_hook_point(lm, 1, "resid_post")}
    image = {"pixel_values": torch.ones(2, 3, 12, 12)}
    x = capture(lm, point, image)["x"]
    with steer(lm, "1.resid_post", topk, {3: 2.5}, where=[0, -1]):
        after = capture(lm, point, image)["x"]
    d = (after - x).numpy()
    np.testing.assert_allclose(
        d[:, [0, -1]], np.tile(2.5 * topk.components_[3], (2, 2, 1)), atol=1e-5
    )
    assert not d[:, 1:-1].any()


def test_all_codes_never_exist_at_once(model, topk, monkeypatch):
    lm = model("gpt2")
    x = seen(lm, "resid_post")
    monkeypatch.setattr(
        "sksae.language_models.interventions._feature_edits._CODES_AT_A_TIME", 24 * 3
    )
    sizes = []
    encode = topk.transform
    counted = copy.copy(topk)
    counted.transform = lambda rows: (sizes.append(len(rows)), encode(rows))[1]
    with steer(lm, "1.resid_post", counted, VALUES, "clamp"):
        after = seen(lm, "resid_post")
    assert sizes == [3, 3, 3, 1]
    np.testing.assert_allclose(after, expected(topk, x, VALUES, "clamp"), atol=1e-4)


def test_only_what_is_steered_is_encoded(model, topk):
    lm = model("gpt2")
    counted, sizes = copy.copy(topk), []
    counted.transform = lambda rows: (sizes.append(len(rows)), topk.transform(rows))[1]
    for how in ("add", "project_out"):
        with steer(lm, "1.resid_post", counted, VALUES, how):
            logits(lm)
    assert sizes == []
    with steer(lm, "1.resid_post", counted, VALUES, "clamp", where=[2]):
        logits(lm)
    assert sizes == [2]
    with steer(lm, "1.resid_post", counted, VALUES, "clamp", where="generated"):
        logits(lm)
        assert sizes == [2]
        generate(lm)
    assert sizes == [2] + [2] * 5


def test_the_hooks_are_gone_whatever_happens(model, topk):
    lm = model("gpt2")
    before = hooks_of(lm)
    context = steer(lm, "1.resid_post", topk, VALUES)
    assert hooks_of(lm) == before  # nothing happens without a with
    with context:
        assert hooks_of(lm) > before
    assert hooks_of(lm) == before

    def fail(*_):
        raise ArithmeticError

    handle = lm.transformer.h[2].register_forward_hook(fail)
    with pytest.raises(ArithmeticError), steer(lm, "1.resid_mid", topk, VALUES):
        generate(lm)
    handle.remove()
    assert hooks_of(lm) == before
    with (
        pytest.raises(ValueError, match="no position 7 in a prompt of 5 tokens"),
        steer(lm, "1.resid_post", topk, VALUES),
        steer(lm, "1.resid_post", topk, VALUES, where=[7]),
    ):
        generate(lm)
    assert hooks_of(lm) == before

    def steps():
        with steer(lm, "1.resid_post", topk, VALUES):
            yield generate(lm)
            yield generate(lm)

    running = steps()
    next(running)
    assert hooks_of(lm) > before
    running.close()
    assert hooks_of(lm) == before


def test_the_packaged_model_writes_what_is_turned_up():
    lm, tokenizer = load_tiny_lm()
    extractor = ActivationExtractor(lm, layer=2, tokenizer=tokenizer)
    rows, _ = extractor.extract(load_corpus().data[:8])
    topk = TopKSAE(256, k=8, max_iter=3, batch_size=512, random_state=0).fit(rows)
    codes = topk.transform(rows)
    inputs = tokenizer("Return the mean", return_tensors="pt")

    def text():
        out = lm.generate(**inputs, max_new_tokens=10, do_sample=False, pad_token_id=0)
        return tokenizer.decode(out[0])

    plain = text()
    lens = logit_lens(lm, topk, tokenizer=tokenizer)
    # The corpus, and so the dictionary, are of the installed versions of the packages: which of
    # the features is whose differs.
    strongest = lens.promoted_logits[:, 0].argsort()[::-1][:6]
    written = 0
    for feature in map(int, strongest):
        token = lens.promoted[feature, 0]
        with steer(lm, "2.resid_post", topk, {feature: 2.5}, unit="max", maxima=codes.max(0)):
            written += text().count(token) > plain.count(token)
    assert written >= 2
    assert text() == plain
    # Read back: what the extractor sees inside of the block is what was clamped.
    sentence = "If True, the Type of the array is kept."
    clean = extractor.transform([sentence])
    feature = int(topk.transform(clean).max(0).argmax())
    with steer(lm, "2.resid_post", topk, {feature: 0.0}, "clamp"):
        clamped = extractor.transform([sentence])
    f = topk.transform(clean)[:, feature]
    assert f.max() > 0
    np.testing.assert_allclose(clean - clamped, f[:, None] * topk.components_[feature], atol=1e-4)


# What is wrong


def test_what_is_wrong_is_named(model, topk):
    lm = model("gpt2")
    site = "1.resid_post"
    wrong = [
        (ValueError, "how must be one of 'add'", (site, topk, {3: 1}, "multiply"), {}),
        (ValueError, "unit must be one of", (site, topk, {3: 1}), {"unit": "sigma"}),
        (
            ValueError,
            "unit='norm' is for how='add'",
            (site, topk, {3: 1}, "clamp"),
            {"unit": "norm"},
        ),
        (ValueError, "only_active must be a bool", (site, topk, {3: 1}), {"only_active": 1}),
        (ValueError, "preserve_norm must be a bool", (site, topk, {3: 1}), {"preserve_norm": "no"}),
        (ValueError, "where must be one of", (site, topk, {3: 1}), {"where": "first"}),
        (ValueError, "unit='max' needs maxima", (site, topk, {3: 1}), {"unit": "max"}),
        (ValueError, "3 layers", ("3.resid_post", topk, {3: 1}), {}),
        (ValueError, "needs a layer", ("resid_post", topk, {3: 1}), {}),
        (ValueError, "neither one of", ("h.1.nothing", topk, {3: 1}), {}),
        (ValueError, "A site is written", (3, topk, {3: 1}), {}),
        (ValueError, r"fitted on 16 columns.*have 64", ("h.1.mlp.act", topk, {3: 1}), {}),
        (RuntimeError, "never ran the output of the module 'h'", ("h", topk, {3: 1}), {}),
        (ValueError, "no feature 24", (site, topk, {24: 1}), {}),
        (ValueError, "no feature -1", (site, topk, {-1: 1}), {}),
        (ValueError, "Features are numbers", (site, topk, {}), {}),
        (ValueError, "Features are numbers", (site, topk, {"3": 1}), {}),
        (ValueError, "Features are numbers", (site, topk, {True: 1}), {}),
        (ValueError, "Features are numbers", (site, topk, [], "ablate"), {}),
        (ValueError, "more than once", (site, topk, [3, 4, 3], "ablate"), {}),
        (ValueError, "feature 3 must be finite", (site, topk, {3: float("nan")}), {}),
        (TypeError, "feature 3 must be a number", (site, topk, {3: "much"}), {}),
        (TypeError, "feature 3 must be a number", (site, topk, {3: True}), {}),
        (TypeError, "how='clamp' needs a mapping", (site, topk, [3], "clamp"), {}),
        (TypeError, "how='add' needs a mapping", (site, topk, 3), {}),
        (TypeError, "Features are ints", (site, topk, "3", "ablate"), {}),
        (TypeError, "Features are ints", (site, topk, 3.0, "ablate"), {}),
        (TypeError, "int has no transform", (site, 7, {3: 1}), {}),
        (ValueError, "not fitted", (site, TopKSAE(24), {3: 1}), {}),
    ]
    for maxima, message in (
        (np.ones(23), r"one number for each of 24 features.*\(23,\)"),
        ({4: 1.0}, "maximum of feature 3 is missing"),
        (np.zeros(24), "maximum of feature 3 is not positive"),
        ({3: np.inf}, "maximum of feature 3 must be finite"),
    ):
        wrong.append((ValueError, message, (site, topk, {3: 1}), {"unit": "max", "maxima": maxima}))
    before = hooks_of(lm)
    for error, message, arguments, options in wrong:
        with pytest.raises(error, match=message):
            steer(lm, *arguments, **options)  # without a with: at once
    with pytest.raises(TypeError, match="The model itself is needed, a PreTrainedModel, not str"):
        steer("gpt2", site, topk, {3: 1})
    assert hooks_of(lm) == before


def test_a_feature_without_a_direction_is_refused(model, topk):
    flat = copy.copy(topk)
    flat.components_ = topk.components_.copy()
    flat.components_[5] = 0
    with pytest.raises(ValueError, match="Feature 5 has no direction"):
        steer(model("gpt2"), "1.resid_post", flat, {3: 1, 5: 1})
    lm = model("gpt2")
    before = logits(lm)
    with steer(lm, "1.resid_post", flat, 5, "project_out"):
        assert torch.equal(logits(lm), before)


def test_maxima_may_be_a_tensor_a_mapping_or_sparse(model, topk):
    lm = model("gpt2")
    x = seen(lm, "resid_post")
    wanted = x + 2 * MAXIMA[3] * topk.components_[3]
    sparse = csr_array(np.stack([MAXIMA, MAXIMA / 2])).max(axis=0)
    for maxima in (torch.from_numpy(MAXIMA), {3: MAXIMA[3]}, MAXIMA.tolist(), sparse):
        with steer(lm, "1.resid_post", topk, {3: 2}, unit="max", maxima=maxima):
            np.testing.assert_allclose(seen(lm, "resid_post"), wanted, atol=1e-5)


def test_an_autoencoder_of_another_width_is_refused(model):
    X = np.random.default_rng(0).normal(size=(50, 5))
    narrow = TopKSAE(9, k=2, max_iter=1, random_state=0).fit(X)
    with pytest.raises(ValueError, match=r"fitted on 5 columns.*have 16"):
        steer(model("gpt2"), "1.resid_post", narrow, {3: 1})


def test_a_module_with_more_rows_than_tokens_is_refused():
    """A head's own norm has one row a head."""
    lm = build("qwen3", head=True)
    X = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    narrow = TopKSAE(9, k=2, max_iter=1, random_state=0).fit(X)
    with (
        pytest.raises(ValueError, match=r"\(2, 5, 2, 8\) passes this one for 2 sequences of 5"),
        steer(lm, "layers.1.self_attn.q_norm", narrow, {3: 1}),
    ):
        logits(lm)
    assert hooks_of(lm) == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@each_case("how, options", WAYS)
def test_on_another_device_it_is_the_same(topk, how, options):
    x, found = {}, {}
    for device in ("cpu", "cuda"):
        lm = build("llama", head=True).to(device)
        inputs = {name: value.to(device) for name, value in INPUTS.items()}
        point = {"x": find_hook_point(lm.base_model, 1, "resid_mid")}
        x[device] = capture(lm.base_model, point, inputs)["x"]
        with steer(lm, "1.resid_mid", topk, {3: 2.5}, how, where=[1, -1], **options):
            found[device] = capture(lm.base_model, point, inputs)["x"]
        assert found[device].device == x[device].device
    torch.testing.assert_close(found["cuda"].cpu(), found["cpu"], atol=1e-3, rtol=1e-3)
    assert torch.equal(found["cuda"][:, [0, 2, 3]], x["cuda"][:, [0, 2, 3]])
