import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator

from sksae import TopKSAE
from sksae.datasets import load_corpus, load_tiny_lm
from sksae.language_models import ActivationExtractor, describe_behaviour, logit_lens
from sksae.language_models.model import base_of, find_hook_point, visiting
from tests.cases import each_case, tries
from tests.language_models.conftest import byte_level
from tests.language_models.families import CAUSAL, build

PROMPT = "The cat sat on the mat"
N = 20


class Rectified(BaseEstimator):
    """An autoencoder with given weights: codes are ``relu((x - b) @ W.T)``."""

    def __init__(self, seed=0, width=16, n_components=N):
        draws = np.random.default_rng(seed)
        self.seed, self.width, self.n_components = seed, width, n_components
        self.components_ = draws.normal(size=(n_components, width)).astype(np.float32) / 4
        self.intercept_ = draws.normal(size=width).astype(np.float32) / 4
        self.activation_frequency_ = np.linspace(0, 0.38, n_components)

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return np.maximum((X - self.intercept_) @ self.components_.T, 0)

    def inverse_transform(self, Z):
        return Z @ self.components_ + self.intercept_


SAE = Rectified()


@pytest.fixture(scope="module")
def llama():
    return build("llama", head=True)


def run(model, ids, site, visit):
    """The logits of a prompt, (n_tokens, n_vocabulary), while `visit` sees the site."""
    base = base_of(model)
    with visiting(base, [(find_hook_point(base, *site), visit)]):
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]


def ids_of(tokenizer, text=PROMPT):
    return torch.tensor([tokenizer(text)["input_ids"]])


@torch.no_grad()
def activations(model, ids, site):
    kept = []
    run(model, ids, site, lambda x: kept.append(x.clone()))
    return kept[0][0]


def by_token(table, column):
    return np.bincount(table.position, getattr(table, column), minlength=len(table.tokens))


def total(table, kind):
    """What all parts of each token contribute together."""
    tokens = table.tokens
    shown = by_token(table, {"direct": "direct_logit", "gradient": "gradient"}[kind])
    parts = (getattr(tokens, f"{part}_{kind}") for part in ("error", "intercept", "dense", "rest"))
    return shown + sum(parts)


@pytest.mark.parametrize("kind", CAUSAL)
def test_behind_the_last_block_the_direct_parts_sum_to_the_logit(kind, bpe):
    model = build(kind, head=True)
    table = describe_behaviour(
        model, (-1, "resid_post"), SAE, PROMPT, tokenizer=bpe, n_features=2, target=5
    )
    with torch.no_grad():
        logits = model(input_ids=ids_of(bpe)).logits[0].numpy()
    predicted = [*logits.argmax(-1)[:-1], 5]
    assert table.tokens.predicted_id.tolist() == predicted
    logit = logits[range(len(logits)), predicted]
    np.testing.assert_allclose(table.tokens.logit, logit, rtol=1e-5)
    if kind == "gemma2":
        logit = 30 * np.arctanh(logit / 30)
    np.testing.assert_allclose(total(table, "direct") + table.tokens.constant, logit, atol=1e-4)


def test_the_gradients_sum_to_the_logit_where_the_rest_is_linear(bpe):
    model = build("opt_post_norm", head=True)
    options = {"tokenizer": bpe, "metric": "logit", "verify": 5, "n_features": 3}
    table = describe_behaviour(model, "2.resid_post", SAE, PROMPT, **options)
    gradient = total(table, "gradient")
    assert gradient[-1] == pytest.approx(table.value, abs=1e-5)
    assert (gradient[:-1] == 0).all()
    last = table[table.position == len(gradient) - 1]
    np.testing.assert_allclose(last.gradient, last.direct_logit, atol=1e-6)
    np.testing.assert_allclose(table.exact[:5], table.gradient[:5], atol=1e-5)


def gradient_by_hand(model, ids, site, token, metric):
    leaves = []

    def visit(x):
        leaves.append(x.detach().clone().requires_grad_())
        return leaves[0] * 1

    logits = run(model, ids, site, visit)[-1]
    value = logits[token] if metric == "logit" else logits.log_softmax(0)[token]
    return torch.autograd.grad(value, leaves[0])[0][0], value.item(), leaves[0].detach()[0]


@each_case("metric", ["logit", "log_probability"])
@each_case(
    "kind, site",
    [
        ("llama", (0, "resid_post")),
        ("llama", (1, "resid_mid")),
        ("granite", (1, "attn_out")),
        ("falcon", (1, "mlp_out")),
        ("opt", (1, "mlp_out")),
        ("bloom", (2, "attn_out")),
        ("gpt2", (None, "embeddings")),
    ],
)
def test_gradients_are_those_of_the_model(kind, site, metric, bpe):
    model, ids = build(kind, head=True), ids_of(bpe)
    table = describe_behaviour(
        model, site, SAE, PROMPT, target=9, metric=metric, tokenizer=bpe, max_density=None,
        n_features=N,
    )  # fmt: skip
    g, value, x = gradient_by_hand(model, ids, site[:2], 9, metric)
    codes = SAE.transform(x.numpy())
    assert table.value == pytest.approx(value, abs=1e-5)
    assert len(table) == (codes > 0).sum()
    wanted = codes * (g.numpy() @ SAE.components_.T)
    np.testing.assert_allclose(table.gradient, wanted[table.position, table.feature], atol=1e-5)
    np.testing.assert_allclose(table.activation, codes[table.position, table.feature], atol=1e-5)
    assert (np.diff(np.abs(table.gradient)) <= 0).all()
    error = x.numpy() - SAE.inverse_transform(codes)
    tokens = table.tokens
    np.testing.assert_allclose(tokens.error_gradient, (error * g.numpy()).sum(1), atol=1e-5)
    norms = np.linalg.norm(x.numpy(), axis=1)
    np.testing.assert_allclose(tokens.unexplained, np.linalg.norm(error, axis=1) / norms, atol=1e-5)
    np.testing.assert_allclose(total(table, "gradient"), (x * g).sum(1).numpy(), atol=2e-5)


@each_case(
    "kind, site",
    [
        ("llama", (0, "resid_post")),
        ("falcon", (1, "mlp_out")),
        ("granite", (1, "resid_mid")),
        ("gpt2", (2, "attn_out")),
    ],
)
def test_what_is_verified_is_an_ablation(kind, site, bpe):
    model, ids = build(kind, head=True), ids_of(bpe)
    options = {"tokenizer": bpe, "max_density": None, "n_features": N}
    table = describe_behaviour(model, site, SAE, PROMPT, verify=20, **options)
    assert np.isfinite(table.exact[:20]).all()
    assert np.isnan(table.exact[20:]).all()
    token = int(table.tokens.predicted_id[-1])
    for i in (0, 7, 18):
        away = torch.from_numpy(SAE.components_[table.feature[i]]) * table.activation[i]

        def visit(x, i=i, away=away):
            new = x.clone()
            new[0, table.position[i]] -= away
            return new

        with torch.no_grad():
            value = run(model, ids, site, visit)[-1].log_softmax(0)[token].item()
        assert table.exact[i] == pytest.approx(table.value - value, abs=1e-5)


@settings(max_examples=tries(15), deadline=None)
@given(
    n_features=st.integers(1, N),
    max_density=st.none() | st.floats(0, 1),
    layer=st.integers(0, 2),
)
def test_nothing_is_lost_whatever_is_shown(llama, bpe, n_features, max_density, layer):
    options = {"n_features": n_features, "max_density": max_density}
    table = describe_behaviour(llama, (layer, "resid_post"), SAE, PROMPT, tokenizer=bpe, **options)
    g, _, x = gradient_by_hand(
        llama, ids_of(bpe), (layer, "resid_post"), table.tokens.predicted_id[-1], "log_probability"
    )
    np.testing.assert_allclose(total(table, "gradient"), (x * g).sum(1).numpy(), atol=2e-5)
    assert (table.density <= (1 if max_density is None else max_density)).all()
    counts = np.bincount(table.position)
    assert counts.max() <= 2 * n_features
    pairs = set(zip(table.position.tolist(), table.feature.tolist(), strict=True))
    assert len(pairs) == len(table)


def test_of_each_token_the_strongest_by_either_measure(llama, bpe):
    whole = describe_behaviour(
        llama, "1.resid_post", SAE, PROMPT, tokenizer=bpe, n_features=N, max_density=None
    )
    some = describe_behaviour(
        llama, "1.resid_post", SAE, PROMPT, tokenizer=bpe, n_features=2, max_density=None
    )
    for t in range(len(whole.tokens)):
        mine = whole.strongest(t)
        assert (np.diff(mine.activation) <= 0).all()
        by_gradient = mine.feature[np.argsort(-np.abs(mine.gradient))]
        wanted = {*mine.feature[:2].tolist(), *by_gradient[:2].tolist()}
        assert set(some.strongest(t).feature.tolist()) == wanted
    assert np.array_equal(whole.strongest(-1).feature, mine.feature)
    with pytest.raises(IndexError, match=f"no position {len(whole.tokens)}"):
        whole.strongest(len(whole.tokens))


def test_direct_is_the_logit_lens_at_the_scale_of_the_token(llama, bpe):
    table = describe_behaviour(llama, "1.mlp_out", SAE, PROMPT, tokenizer=bpe, max_density=None)
    x = activations(llama, ids_of(bpe), (2, "resid_post"))
    scale = x.square().mean(1).sqrt().numpy()
    n = len(bpe)
    lens = logit_lens(llama, SAE, n_tokens=n, tokenizer=bpe)
    logits = np.empty((N, n))
    np.put_along_axis(logits, lens.promoted_ids, lens.promoted_logits, axis=1)
    gain = llama.model.norm.weight.detach().numpy()
    mean = (SAE.components_ * gain) @ llama.lm_head.weight.detach().numpy()[:n].mean(0)
    logits += mean[:, None]
    known = table.tokens.predicted_id[table.position] < n
    some = table[known]
    token = some.tokens.predicted_id[some.position]
    wanted = some.activation * logits[some.feature, token] / scale[some.position]
    assert known.any()
    np.testing.assert_allclose(some.direct_logit, wanted, atol=1e-4)


def test_the_target(llama, bpe):
    with torch.no_grad():
        logs = llama(input_ids=ids_of(bpe)).logits[0, -1].log_softmax(0)
    plain = describe_behaviour(llama, "0.resid_post", SAE, PROMPT, tokenizer=bpe)
    best = int(logs.argmax())
    assert plain.tokens.predicted_id[-1] == best
    assert plain.predicted == plain.target == plain.tokens.predicted[-1]
    assert plain.value == pytest.approx(logs.max().item(), abs=1e-5)
    assert plain.target_log_probability == plain.predicted_log_probability
    (number,) = bpe(" the", add_special_tokens=False)["input_ids"]
    text = describe_behaviour(llama, "0.resid_post", SAE, PROMPT, tokenizer=bpe, target=" the")
    same = describe_behaviour(llama, "0.resid_post", SAE, PROMPT, tokenizer=bpe, target=number)
    assert text.target == same.target == " the"
    assert text.predicted == plain.predicted
    assert text.value == text.target_log_probability == pytest.approx(logs[number].item(), abs=1e-5)
    assert np.array_equal(text.gradient, same.gradient)
    assert text.metric == "log-probability of ' the'"
    assert np.array_equal(text.tokens.predicted_id[:-1], plain.tokens.predicted_id[:-1])


def test_density_names_and_maxima(llama, bpe):
    maxima = np.arange(N, dtype=float)
    options = {"tokenizer": bpe, "maxima": maxima, "names": {3: "cats"}, "n_features": N}
    table = describe_behaviour(llama, "0.resid_post", SAE, PROMPT, **options)
    assert table.feature.max() == 5  # of densities 0, 0.02, ...: 0.1 is the sixth
    np.testing.assert_array_equal(table.density, SAE.activation_frequency_[table.feature])
    assert set(table.name[table.feature == 3]) == {"cats"}
    assert set(table.name[table.feature != 3]) == {""}
    known = table.feature > 0
    np.testing.assert_allclose(
        table.share_of_max[known], table.activation[known] / table.feature[known]
    )
    assert np.isnan(table.share_of_max[~known]).all()
    assert (table.tokens.rest_gradient == 0).all()
    same = csr_array(maxima[None]).max(axis=0)
    same = describe_behaviour(llama, "0.resid_post", SAE, PROMPT, **{**options, "maxima": same})
    np.testing.assert_array_equal(same.share_of_max, table.share_of_max)
    unknown = Rectified()
    del unknown.activation_frequency_
    table = describe_behaviour(llama, "0.resid_post", unknown, PROMPT, tokenizer=bpe)
    assert np.isnan(table.density).all()
    assert (table.tokens.dense_gradient == 0).all()


def test_special_tokens_in_front_have_no_lines(llama):
    tokenizer = byte_level(bos=True)
    options = {"tokenizer": tokenizer, "n_features": N, "max_density": None}
    table = describe_behaviour(llama, "0.resid_post", SAE, PROMPT, **options)
    assert table.tokens.token[0] == "<|endoftext|>"
    assert table.position.min() == 1
    assert table.tokens.rest_gradient[0] != 0
    assert (table.tokens.rest_gradient[1:] == 0).all()
    (only,) = ids_of(tokenizer, "")
    alone = describe_behaviour(llama, "0.resid_post", SAE, only.numpy(), **options)
    assert set(alone.position) == {0}


def test_a_module_has_no_direct_effect(llama, bpe):
    wide = Rectified(width=24)
    table = describe_behaviour(llama, "model.layers.1.mlp.act_fn", wide, PROMPT, tokenizer=bpe)
    for column in (table.direct_logit, table.tokens.error_direct, table.tokens.constant):
        assert np.isnan(column).all()
    assert np.isfinite(table.gradient).all()
    assert (table.gradient != 0).any()


def test_nothing_stays_behind(bpe):
    model = build("gpt2", head=True).train()
    model.lm_head.weight.requires_grad_(False)
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    state = torch.get_rng_state()
    first = describe_behaviour(model, "1.resid_post", SAE, PROMPT, tokenizer=bpe, verify=2)
    assert {name: p.requires_grad for name, p in model.named_parameters()} == before
    assert all(p.grad is None for p in model.parameters())
    hooks = [(m._forward_hooks, m._forward_pre_hooks) for m in model.modules()]
    assert not any(map(any, hooks))
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            again = describe_behaviour(model, "1.resid_post", SAE, PROMPT, tokenizer=bpe, verify=2)
        assert np.array_equal(again.gradient, first.gradient)
        assert np.array_equal(again.exact, first.exact, equal_nan=True)
    model.requires_grad_(False)
    frozen = describe_behaviour(model, "1.resid_post", SAE, PROMPT, tokenizer=bpe, verify=2)
    assert np.array_equal(frozen.gradient, first.gradient)


def test_bfloat16_models(llama, bpe):
    half = build("llama", head=True).bfloat16()
    options = {"tokenizer": bpe, "max_density": None, "n_features": N, "target": 9}
    table = describe_behaviour(half, "2.resid_post", SAE, PROMPT, **options)
    full = total(table, "direct") + table.tokens.constant
    np.testing.assert_allclose(full, table.tokens.logit, atol=0.05)


def test_the_packaged_model():
    model, tokenizer = load_tiny_lm()
    rows = ActivationExtractor(model, layer=4, tokenizer=tokenizer).transform(
        load_corpus().data[:4]
    )
    sae = TopKSAE(64, k=8, max_iter=3, random_state=0, sparse_output=True).fit(rows)
    options = {"tokenizer": tokenizer, "max_density": None, "verify": 2}
    table = describe_behaviour(
        model, "4.resid_post", sae, "Compute the mean of the array", **options
    )
    assert (np.bincount(table.position, minlength=len(table.tokens))[1:] <= 8).all()
    np.testing.assert_allclose(total(table, "direct"), table.tokens.logit, rtol=1e-4)
    assert (table.position[:2] == len(table.tokens) - 1).all()
    ids = tokenizer("Compute the mean of the array")["input_ids"]
    assert table.tokens.token.tolist() == [
        "<s>",
        "Compute",
        " the",
        " mean",
        " of",
        " the",
        " array",
    ]
    same = describe_behaviour(model, (4, "resid_post"), sae, np.array(ids), **options)
    np.testing.assert_allclose(same.gradient, table.gradient, atol=1e-6)


def test_frames_and_lines(llama, bpe):
    table = describe_behaviour(
        llama, "0.resid_post", SAE, PROMPT, tokenizer=bpe, verify=1, names={4: "a\nname"}
    )
    frame = table.to_frame()
    assert frame.shape == (len(table), 10)
    assert frame.gradient.tolist() == table.gradient.tolist()
    tokens = table.tokens.to_frame()
    assert tokens.shape == (len(table.tokens), 15)
    assert "".join(tokens.token) == PROMPT
    lines = table.lines(3)
    assert len(lines) == 6
    assert lines[0].startswith(f"{table.metric} = {table.value:.4g}")
    assert lines[3].split()[:2] == [f"{table.gradient[0]:+.3g}", f"{table.exact[0]:+.3g}"]
    assert f"{np.median(table.tokens.unexplained):.0%}" in lines[1]
    assert repr(table) == "\n".join(table.lines(10))
    assert all("\n" not in line for line in table.lines(100))
    assert len(table[:0].lines()) == 3
    assert table[0].feature.tolist() == [table.feature[0]]
    with pytest.raises(dataclasses.FrozenInstanceError):
        table.metric = ""


def test_bad_input(llama, bpe, gpt2):
    def call(model=llama, site="0.resid_post", sae=SAE, prompt=PROMPT, tokenizer=bpe, **options):
        describe_behaviour(model, site, sae, prompt, tokenizer=tokenizer, **options)

    with pytest.raises(ValueError, match="'the cat sat' is "):
        call(target="the cat sat")
    with pytest.raises(ValueError, match="no token 384"):
        call(target=384)
    for target in (1.5, (1, 2), len):
        with pytest.raises(TypeError, match="target must be a token"):
            call(target=target)
    with pytest.raises(ValueError, match=r"fitted on 15 columns.*have 16"):
        call(sae=Rectified(width=15))
    with pytest.raises(ValueError, match="'tokenizer' parameter is needed"):
        call(tokenizer=None)
    with pytest.raises(ValueError, match="has 3 layers"):
        call(site="3.resid_post")
    with pytest.raises(ValueError, match="does not predict the next token"):
        call(model=gpt2)
    with pytest.raises(ValueError, match=r"maxima must have one number for each of 20.*\(3,\)"):
        call(maxima=[1, 2, 3])
    with pytest.raises(TypeError, match="names must map"):
        call(names=["a"])
    with pytest.raises(ValueError, match="metric must be one of 'log_probability', 'logit'"):
        call(metric="loss")
    for name, value in {"n_features": 0, "verify": -1, "max_density": 2}.items():
        with pytest.raises(ValueError, match=f"{name} must be"):
            call(**{name: value})
    with pytest.raises(TypeError, match="has no transform"):
        call(sae=3)
