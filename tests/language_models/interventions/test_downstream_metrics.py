import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Binarizer, FunctionTransformer, StandardScaler
from torch.nn import functional

from sksae import TopKSAE
from sksae.language_models import ActivationExtractor, downstream_metrics
from sksae.language_models.interventions import _downstream_passes
from sksae.language_models.interventions._downstream_metrics import ratio
from sksae.language_models.interventions._downstream_passes import divergence
from sksae.language_models.model import base_of, find_hook_point, visiting
from tests.cases import each_case

TEXTS = [
    "The cat sat on the mat and the dog sat on the log.",
    "hello world, hello  again",
    "A sparse autoencoder",
    "the log",
]


class Made(TransformerMixin, BaseEstimator):
    """Reconstructs every row as one vector, or as it is; remembers what it saw."""

    def __init__(self, vector=None):
        self.vector = vector
        self.seen = []

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        self.seen.append(X)
        return X

    def inverse_transform(self, X):
        return X if self.vector is None else np.broadcast_to(self.vector, X.shape)

    def __sklearn_is_fitted__(self):
        return True


@pytest.fixture(scope="module")
def llama(tiny):
    return tiny("llama", head=True)


@pytest.fixture(scope="module")
def extractor(llama, bpe):
    return ActivationExtractor(llama, 1, tokenizer=bpe)


@pytest.fixture(scope="module")
def topk(extractor):
    return TopKSAE(24, k=3, max_iter=20, random_state=0).fit(extractor.transform(TEXTS))


def changed(extractor, **parameters):
    return ActivationExtractor(**{**extractor.get_params(), **parameters})


def next_token_losses(model, ids):
    """Cross-entropy of each token but the first, in float64."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0, :-1].double()
    return functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none"), logits


# Known in advance


@each_case("kind", ["gpt2", "bloom", "falcon", "gemma2", "granite", "mixtral", "opt"])
@each_case("site", ["resid_post", "mlp_out", "attn_out"])
def test_a_perfect_autoencoder_changes_nothing(kind, site, tiny, bpe):
    model = tiny(kind, head=True)
    extractor = ActivationExtractor(model, 1, site, tokenizer=bpe, max_length=16)
    perfect = downstream_metrics(extractor, Made(), TEXTS)
    assert perfect["ce_patched"] == perfect["ce_clean"]
    assert perfect["delta_ce"] == perfect["delta_ce_se"] == perfect["kl"] == perfect["kl_se"] == 0
    assert perfect["ce_recovered"] == perfect["ce_recovered_mean"] == perfect["kl_recovered"] == 1
    assert perfect["top1_agreement"] == 1
    assert perfect["ce_recovered_se"] == 0
    assert perfect["l0"] == 16
    assert perfect["kl_zero"] > 1e-4
    assert perfect["kl_mean"] > 1e-4


@each_case("kind", ["gpt2", "bloom", "granite"])
def test_zeros_are_the_ablation_by_zero(kind, tiny, bpe):
    extractor = ActivationExtractor(tiny(kind, head=True), 1, tokenizer=bpe)
    zeros = downstream_metrics(extractor, Made(np.zeros(16, np.float32)), TEXTS)
    assert zeros["ce_patched"] == zeros["ce_zero"]
    assert zeros["kl"] == zeros["kl_zero"] > 0
    assert zeros["ce_recovered"] == zeros["kl_recovered"] == 0
    assert zeros["ce_zero"] != zeros["ce_mean"]


def test_means_are_the_ablation_by_the_mean(extractor):
    mean = extractor.transform(TEXTS).mean(0, dtype=np.float64)
    given_mean = downstream_metrics(extractor, Made(mean.astype(np.float32)), TEXTS, mean=mean)
    assert given_mean["ce_patched"] == given_mean["ce_mean"]
    assert given_mean["kl"] == given_mean["kl_mean"]
    assert given_mean["ce_recovered_mean"] == 0
    own_mean = downstream_metrics(extractor, Made(mean.astype(np.float32)), TEXTS)
    for name, value in given_mean.items():
        assert own_mean[name] == pytest.approx(value, abs=1e-6)
    other = downstream_metrics(extractor, Made(), TEXTS, mean=np.ones(16))
    ones = downstream_metrics(extractor, Made(np.ones(16, np.float32)), TEXTS)
    assert other["ce_mean"] == ones["ce_patched"]


@pytest.mark.parametrize("bos", [False, True])
def test_clean_loss_is_that_of_transformers(bos, llama, trained):
    tokenizer = trained(bos=bos)
    total, n = 0.0, 0
    for text in TEXTS:
        inputs = tokenizer([text], return_tensors="pt")
        labels = inputs["input_ids"].clone()
        if bos:
            labels[:, :2] = -100  # what the special token in front predicts is not scored
        n_labels = int((labels[:, 1:] != -100).sum())
        with torch.no_grad():
            total += float(llama(**inputs, labels=labels).loss) * n_labels
        n += n_labels
    extractor = ActivationExtractor(llama, 1, tokenizer=tokenizer)
    found = downstream_metrics(extractor, Made(), TEXTS)
    assert found["n_tokens"] == n
    assert found["n_texts"] == len(TEXTS)
    assert found["ce_clean"] == pytest.approx(total / n, abs=1e-5)


def test_numbers_of_a_pass_by_hand(llama, bpe, extractor, topk):
    """One text, hooks of our own: position 0 stays, the others are replaced."""
    ids = bpe(TEXTS[0])["input_ids"]
    clean, clean_logits = next_token_losses(llama, ids)
    rows = extractor.transform(TEXTS[:1])
    assert len(rows) == len(ids) - 1
    made = {
        "patched": topk.inverse_transform(topk.transform(rows)),
        "zero": np.zeros_like(rows),
        "mean": np.broadcast_to(rows.mean(0), rows.shape),
    }
    found = downstream_metrics(extractor, topk, TEXTS[:1])
    assert found["ce_clean"] == pytest.approx(clean.mean().item(), abs=1e-5)
    for name, values in made.items():

        def replace(_module, _args, output, values=values):
            return torch.cat([output[:, :1], torch.tensor(values.copy())[None]], 1)

        handle = llama.model.layers[1].register_forward_hook(replace)
        loss, logits = next_token_losses(llama, ids)
        handle.remove()
        kl = functional.kl_div(
            logits.log_softmax(-1), clean_logits.log_softmax(-1), log_target=True, reduction="none"
        )
        assert found[f"ce_{name}"] == pytest.approx(loss.mean().item(), abs=1e-5)
        key = "kl" if name == "patched" else f"kl_{name}"
        assert found[key] == pytest.approx(kl.sum(-1).mean().item(), abs=1e-5)
        if name == "patched":
            same = (logits.argmax(-1) == clean_logits.argmax(-1)).double().mean().item()
            assert found["top1_agreement"] == same
    assert found["delta_ce"] == pytest.approx(found["ce_patched"] - found["ce_clean"])
    assert found["kl_recovered"] == pytest.approx(1 - found["kl"] / found["kl_zero"])
    for suffix, ablated in (("", "ce_zero"), ("_mean", "ce_mean")):
        share = (found[ablated] - found["ce_patched"]) / (found[ablated] - found["ce_clean"])
        assert found[f"ce_recovered{suffix}"] == pytest.approx(share)
    assert all(math.isnan(found[name]) for name in found if name.endswith("_se"))


def test_a_site_that_does_nothing_has_nothing_to_recover(tiny, bpe):
    model = tiny("gpt2", head=True)
    with torch.no_grad():
        model.transformer.h[1].mlp.c_proj.weight.zero_()
        model.transformer.h[1].mlp.c_proj.bias.zero_()
    extractor = ActivationExtractor(model, 1, "mlp_out", tokenizer=bpe)
    found = downstream_metrics(extractor, Made(), TEXTS)
    assert found["ce_zero"] == found["ce_clean"]
    for name in ("ce_recovered", "ce_recovered_mean", "kl_recovered"):
        assert math.isnan(found[name])
        assert math.isnan(found[f"{name}_se"])
    assert found["delta_ce"] == 0


# What is replaced and what is scored


@each_case(
    "parameters",
    [
        {},
        {"drop_first_position": False},
        {"include_special_tokens": True},
        {"prepend_bos": True},
        {"max_norm_ratio": 1.2},
        {"max_length": 6, "max_norm_ratio": 1.1},
        {"batch_tokens": 9},
        {"site": "mlp_out", "layer": 0},
    ],
)
@each_case("bos", [False, True])
def test_exactly_the_rows_of_the_extractor_are_replaced(parameters, bos, llama, trained):
    extractor = ActivationExtractor(
        **{"model": llama, "layer": 1, "tokenizer": trained(bos=bos), **parameters}
    )
    texts, spy = TEXTS[:3], Made()
    found = downstream_metrics(extractor, spy, texts)
    rows, seen = extractor.transform(texts), np.concatenate(spy.seen)
    if "max_length" in parameters:
        # The last window of a text may have a single token, after which nothing is scored.
        assert 0 <= len(rows) - len(seen) <= 3
    else:
        assert len(seen) == len(rows)
        order = [np.lexsort(X.round(3).T) for X in (rows, seen)]
        np.testing.assert_allclose(seen[order[1]], rows[order[0]], atol=1e-5)
    assert found["ce_recovered"] == 1
    if parameters.get("max_norm_ratio"):
        assert len(rows) < len(changed(extractor, max_norm_ratio=None).transform(texts))


def test_windows_are_scored_by_themselves(llama, bpe, extractor):
    ids = bpe(TEXTS[0])["input_ids"]
    losses = [next_token_losses(llama, ids[i : i + 6])[0] for i in range(0, len(ids), 6)]
    found = downstream_metrics(changed(extractor, max_length=6), Made(), TEXTS[:1])
    assert found["n_tokens"] == sum(map(len, losses)) == len(ids) - math.ceil(len(ids) / 6)
    assert found["ce_clean"] == pytest.approx(torch.cat(losses).mean().item(), abs=1e-5)


def test_special_tokens_inside_of_a_text_predict_nothing_that_counts(llama, bpe, extractor):
    ids = [17, 40, 0, 33, 50]  # 0 ends a text
    loss, _ = next_token_losses(llama, ids)
    found = downstream_metrics(extractor, Made(), [ids])
    assert found["n_tokens"] == 3
    assert found["ce_clean"] == pytest.approx(loss[[0, 1, 3]].mean().item(), abs=1e-5)


def test_texts_that_are_not_scored_do_not_count(extractor, topk):
    mean = extractor.transform(TEXTS).mean(0)
    alone = downstream_metrics(extractor, topk, TEXTS, mean=mean)
    more = downstream_metrics(extractor, topk, iter(["", *TEXTS, "a"]), mean=mean)
    assert more.keys() == alone.keys()
    assert more["n_texts"] == 4
    for name, value in alone.items():
        assert more[name] == pytest.approx(value, abs=1e-5), name


@each_case("batch_tokens", [1, 30, 60])
def test_batches_make_no_difference(batch_tokens, extractor, topk):
    expected = downstream_metrics(extractor, topk, TEXTS)
    found = downstream_metrics(changed(extractor, batch_tokens=batch_tokens), topk, TEXTS)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=2e-5), name


def test_long_texts_count_for_more(extractor, topk):
    mean = extractor.transform(TEXTS).mean(0)
    together = downstream_metrics(extractor, topk, TEXTS, mean=mean)
    apart = [downstream_metrics(extractor, topk, [text], mean=mean) for text in TEXTS]
    weights = [one["n_tokens"] for one in apart]
    assert together["n_tokens"] == sum(weights)
    for name in ("ce_clean", "ce_patched", "ce_zero", "ce_mean", "kl", "top1_agreement"):
        expected = np.average([one[name] for one in apart], weights=weights)
        assert together[name] == pytest.approx(expected, abs=1e-5)


# Standard errors


def test_standard_errors_are_those_of_the_texts(extractor, topk):
    texts = [TEXTS[0][i:] for i in range(0, 40, 2)] + TEXTS[1:]
    mean = extractor.transform(texts).mean(0)
    found = downstream_metrics(extractor, topk, texts, mean=mean)
    apart = [downstream_metrics(extractor, topk, [text], mean=mean) for text in texts]
    n = np.array([one["n_tokens"] for one in apart])
    sums = {
        name: n * np.array([one[name] for one in apart])
        for name in ("ce_clean", "ce_patched", "ce_zero", "delta_ce", "kl")
    }
    ratios = {name: (sums[name], n) for name in ("ce_clean", "ce_patched", "delta_ce", "kl")}
    ratios["ce_recovered"] = (
        sums["ce_zero"] - sums["ce_patched"],
        sums["ce_zero"] - sums["ce_clean"],
    )
    D = len(texts)
    for name, (a, b) in ratios.items():
        residuals = a - found[name] * b
        expected = np.sqrt(D / (D - 1) * (residuals**2).sum()) / b.sum()
        assert found[f"{name}_se"] == pytest.approx(expected, rel=1e-3), name
        without = (a.sum() - a) / (b.sum() - b)
        jackknife = np.sqrt((D - 1) * np.mean((without - without.mean()) ** 2))
        assert found[f"{name}_se"] == pytest.approx(jackknife, rel=0.15), name


def test_texts_of_one_length_have_the_usual_standard_error(extractor, topk):
    ids = np.random.default_rng(0).integers(1, 300, size=(9, 8))
    mean = np.zeros(16)
    found = downstream_metrics(extractor, topk, list(ids), mean=mean)
    apart = [downstream_metrics(extractor, topk, [row], mean=mean)["delta_ce"] for row in ids]
    assert found["delta_ce"] == pytest.approx(np.mean(apart), abs=1e-5)
    assert found["delta_ce_se"] == pytest.approx(np.std(apart, ddof=1) / 3, rel=1e-4)


numbers = st.floats(-5, 5).map(lambda x: round(x, 3))


@given(
    st.lists(st.tuples(numbers, st.integers(1, 20)), min_size=2, max_size=8),
    numbers,
    st.randoms(use_true_random=False),
)
def test_ratios(pairs, shift, random):
    a, b = np.array(pairs, dtype=float).T
    value, error = ratio(a, b)
    assert ratio(shift * b, b) == pytest.approx((shift, 0), abs=1e-12)
    # One shift for all tokens moves the mean and leaves its error as it is.
    assert ratio(a + shift * b, b) == pytest.approx((value + shift, error), abs=1e-9)
    assert ratio(3 * a, b) == pytest.approx((3 * value, 3 * error), abs=1e-9)
    random.shuffle(pairs)
    assert ratio(*np.array(pairs, dtype=float).T) == pytest.approx((value, error), abs=1e-9)


# Arithmetic and memory


def test_half_precision(tiny, bpe, extractor, topk):
    model = tiny("llama", head=True).to(torch.bfloat16)
    half = changed(extractor, model=model)
    perfect = downstream_metrics(half, Made(), TEXTS)
    assert perfect["ce_patched"] == perfect["ce_clean"]
    assert perfect["kl"] == 0
    full = downstream_metrics(extractor, topk, TEXTS)
    found = downstream_metrics(half, topk, TEXTS)
    for name in ("ce_clean", "ce_zero", "ce_mean"):
        assert found[name] == pytest.approx(full[name], rel=0.03)
    assert model.dtype is torch.bfloat16


def test_double_precision(tiny, bpe, extractor):
    model = tiny("llama", head=True).double()
    ids = bpe(TEXTS[0])["input_ids"]
    loss, _ = next_token_losses(model, ids)
    found = downstream_metrics(changed(extractor, model=model), Made(), TEXTS[:1])
    assert found["ce_clean"] == pytest.approx(loss.mean().item(), rel=1e-12)
    assert found["ce_patched"] == pytest.approx(loss.mean().item(), rel=1e-6)  # rows are float32


def test_logits_exist_for_a_few_tokens_at_a_time(llama, extractor, topk, monkeypatch):
    expected = downstream_metrics(extractor, topk, TEXTS)
    monkeypatch.setattr(_downstream_passes, "LOGITS_AT_ONCE", 5 * 384 + 10)
    rows = []
    handle = llama.lm_head.register_forward_hook(lambda _m, _a, out: rows.append(out.shape))
    found = downstream_metrics(extractor, topk, TEXTS)
    handle.remove()
    assert all(shape[-1] == 384 for shape in rows)
    sizes = [math.prod(shape[:-1]) for shape in rows]
    assert max(sizes) == 5
    # Four variants, and one token that tells how many logits there are.
    assert sum(sizes) == 4 * found["n_tokens"] + 1
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-5), name


def test_tokens_that_both_predictions_rule_out():
    p = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]).log()
    q = torch.tensor([[0.25, 0.75, 0.0], [0.5, 0.25, 0.25]]).log()
    expected = [0.5 * math.log(2) + 0.5 * math.log(2 / 3), math.log(2)]
    assert divergence(p, q).tolist() == pytest.approx(expected)


# Autoencoders of all kinds


def test_pipelines_frozen_ones_and_sparse_codes(extractor, topk):
    rows = extractor.transform(TEXTS)
    expected = downstream_metrics(extractor, topk, TEXTS)
    assert expected["l0"] == np.count_nonzero(topk.transform(rows)) / len(rows)
    sparse_one = TopKSAE(24, k=3, max_iter=20, random_state=0, sparse_output=True).fit(rows)
    assert sparse.issparse(sparse_one.transform(rows))
    for same in (FrozenEstimator(topk), sparse_one):
        found = downstream_metrics(extractor, same, TEXTS)
        assert found == pytest.approx(expected, abs=1e-5)
    whole = make_pipeline(StandardScaler(), PCA(16)).fit(rows)
    found = downstream_metrics(extractor, whole, TEXTS)
    assert found["ce_recovered"] == pytest.approx(1, abs=1e-4)
    plain = FunctionTransformer(lambda X: X, inverse_func=lambda X: X).fit(rows)
    assert downstream_metrics(extractor, plain, TEXTS)["ce_recovered"] == 1


def test_a_model_by_name_is_loaded_with_its_head(saved, gpt2, bpe):
    extractor = ActivationExtractor(saved, 1)
    rows = extractor.transform(TEXTS)  # without a head
    found = downstream_metrics(extractor, Made(), TEXTS)
    assert found["ce_recovered"] == 1
    np.testing.assert_allclose(extractor.transform(TEXTS), rows, atol=1e-5)
    # The head is the embedding, as in GPT-2.
    with torch.no_grad():
        ids = bpe(TEXTS[0])["input_ids"]
        logits = gpt2(torch.tensor([ids])).last_hidden_state[0] @ gpt2.wte.weight.T
        loss = functional.cross_entropy(logits[:-1], torch.tensor(ids[1:])).item()
    alone = downstream_metrics(extractor, Made(), TEXTS[:1])
    assert alone["ce_clean"] == pytest.approx(loss, abs=1e-4)


def test_what_is_open_around_stays(llama, bpe, extractor):
    """Hooks of others are part of the model."""
    point = find_hook_point(llama, 0, "resid_post")
    with visiting(base_of(llama), [(point, lambda x: x.flip(-1))]):
        loss, _ = next_token_losses(llama, bpe(TEXTS[0])["input_ids"])
        found = downstream_metrics(extractor, Made(), TEXTS[:1])
    assert found["ce_clean"] == pytest.approx(loss.mean().item(), abs=1e-5)


def test_nothing_is_left_behind(tiny, bpe):
    model = tiny("gpt2", head=True)
    model.transformer.h[0].train()
    extractor = ActivationExtractor(model, 1, tokenizer=bpe)
    flags = [module.training for module in model.modules()]
    state = torch.get_rng_state()

    class Broken(Made):
        def inverse_transform(self, X):
            raise ArithmeticError("broken")

    with pytest.raises(ArithmeticError):
        downstream_metrics(extractor, Broken(), TEXTS)
    downstream_metrics(extractor, Made(), TEXTS)
    assert [module.training for module in model.modules()] == flags
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert "forward" not in vars(model.transformer)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()


def test_progress(extractor, capsys):
    downstream_metrics(changed(extractor, verbose=1), Made(), TEXTS)
    assert capsys.readouterr().out.endswith(" tokens/s]\n")
    downstream_metrics(extractor, Made(), TEXTS)
    assert capsys.readouterr().out == ""


# Bad input


def test_bad_arguments(extractor, topk, llama):
    with pytest.raises(TypeError, match="extractor must be an ActivationExtractor"):
        downstream_metrics(llama, topk, TEXTS)
    with pytest.raises(NotFittedError):
        downstream_metrics(extractor, TopKSAE(8), TEXTS)
    with pytest.raises(TypeError, match="Binarizer has no inverse_transform"):
        downstream_metrics(extractor, Binarizer(), TEXTS)
    narrow = TopKSAE(8, max_iter=1, random_state=0).fit(np.eye(5, dtype=np.float32))
    with pytest.raises(ValueError, match="fitted on 5 columns, but the activations of this site"):
        downstream_metrics(extractor, narrow, TEXTS)
    with pytest.raises(ValueError, match="Made makes 3 columns of the 16"):
        downstream_metrics(extractor, type("Made", (Made,), {"inverse_transform": first3})(), TEXTS)
    for mean in (np.zeros((2, 16)), np.full(16, np.nan)):
        with pytest.raises(ValueError, match="mean must be a finite vector"):
            downstream_metrics(extractor, topk, TEXTS, mean=mean)
    with pytest.raises(ValueError, match="mean has 15 entries, but the site has 16 features"):
        downstream_metrics(extractor, topk, TEXTS, mean=np.zeros(15))


def first3(_self, X):
    return X[:, :3]


def test_texts_without_anything_to_score(extractor, topk):
    for texts in ([], ["", "a"], [[17], [0, 0, 0]]):
        with pytest.raises(ValueError, match=f"nothing to score in {len(texts)} texts"):
            downstream_metrics(extractor, topk, texts)
    with pytest.raises(ValueError, match="Got one text"):
        downstream_metrics(extractor, topk, "one text")
    # What is replaced after the last token that is scored changes no score.
    late = downstream_metrics(extractor, Made(np.ones(16)), [[17, 40]])
    assert late["n_tokens"] == 1
    assert late["delta_ce"] == late["kl"] == 0
    assert math.isnan(late["ce_recovered"])
    with pytest.raises(ValueError, match="No token of the texts has activations that become rows"):
        downstream_metrics(extractor, topk, [[17, 0]])


def test_models_that_predict_no_token(tiny, wordpiece, bpe, topk):
    bert = ActivationExtractor(tiny("bert", head=True), 1, tokenizer=wordpiece)
    headless = ActivationExtractor(tiny("llama"), 1, tokenizer=bpe)
    images = ActivationExtractor(tiny("vit"), 1)
    for extractor in (bert, headless, images):
        with pytest.raises(ValueError, match="does not predict the next token"):
            downstream_metrics(extractor, topk, TEXTS)


def test_sites_that_are_not_one_row_a_token(tiny, bpe, topk):
    extractor = ActivationExtractor(tiny("gpt2", head=True), site="h.1.attn.c_attn", tokenizer=bpe)
    with pytest.raises(ValueError, match="but the activations of this site have 48"):
        downstream_metrics(extractor, topk, TEXTS)
    with pytest.raises(ValueError, match="has 3 layers"):
        downstream_metrics(changed(extractor, site="resid_post", layer=3), topk, TEXTS)
