import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sksae import BatchTopKSAE, GatedSAE, JumpReLUSAE, SparseAutoencoder, TopKSAE
from sksae.datasets import load_tiny_lm
from sksae.language_models import ActivationExtractor, Attribution, attribute
from sksae.language_models.attribution._attribution_nodes import along_features
from sksae.language_models.attribution._decomposed_prompt import decompose
from sksae.language_models.attribution._logit_metrics import read_metric
from sksae.language_models.attribution._splicing import in_order
from sksae.language_models.model import TorchDictionary, base_of, find_hook_point, visiting
from tests.cases import each_case, tries

PROMPT, OTHER = [5, 9, 30, 7, 44, 12], [5, 9, 31, 7, 40, 12]
KINDS = ("gpt2", "llama", "gemma2", "neox_parallel")
STREAM = ["0.resid_post", "1.resid_post", "2.resid_post"]
PAIR = (17, 20)


def hooks_of(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def pair_metric(logits):
    return logits[:, -1, PAIR[0]] - logits[:, -1, PAIR[1]]


def fit(model, site, cls=TopKSAE, **settings):
    """An autoencoder fitted on activations of some random tokens."""
    ids = torch.from_numpy(np.random.default_rng(0).integers(1, 300, size=(20, 16)))
    layer, _, name = site.partition(".")
    point = (
        find_hook_point(model, int(layer), name)
        if layer.isdigit()
        else find_hook_point(model, None, site)
    )
    rows = []
    with torch.no_grad(), visiting(base_of(model), [(point, lambda x: rows.append(x.clone()))]):
        model(input_ids=ids)
    rows = rows[0].reshape(-1, rows[0].shape[-1]).float().numpy()
    settings = settings or {"k": 4}
    return cls(24, max_iter=2, random_state=0, **settings).fit(rows)


@pytest.fixture(scope="module")
def models(tiny):
    """Each family with a head, in double precision, and an autoencoder a site of the stream."""
    found = {}
    for kind in KINDS:
        model = tiny(kind, head=True)
        saes = [fit(model, site) for site in STREAM]
        found[kind] = model.double(), saes
    return found


@pytest.fixture(scope="module")
def go(bpe):
    """``go(model, sites, saes, **options)``: an attribution in which only the rest is named."""

    def run(model, sites, saes, prompt=PROMPT, metric=PAIR, **options):
        if not {"baseline", "background", "counterfactual"} & set(options):
            options["counterfactual"] = OTHER
        return attribute(model, sites, saes, prompt, metric, tokenizer=bpe, **options)

    return run


@pytest.fixture(scope="module")
def prepared(models, bpe):
    """``prepared(kind)``: the study of the prompt at three sites."""

    def run(kind):
        model, saes = models[kind]
        options = {"baseline": None, "background": None, "names": None, "tokenizer": bpe}
        return decompose(model, STREAM, saes, PROMPT, PAIR, counterfactual=OTHER, **options)

    return run


@torch.no_grad()
def metric_of(model, visits=(), ids=PROMPT):
    with visiting(base_of(model), list(visits)):
        return float(pair_metric(model(input_ids=torch.tensor([ids])).logits)[0])


@torch.no_grad()
def at(model, point, ids):
    """What passes a place, (n_tokens, width)."""
    read = []
    with visiting(base_of(model), [(point, lambda x: read.append(x[0].clone()))]):
        model(input_ids=torch.tensor([ids]))
    return read[0]


def effects_by_node(table):
    keys = zip(table.site, table.position, table.feature, strict=True)
    return dict(zip(keys, table.effect, strict=True))


# Splicing


@pytest.mark.parametrize("kind", KINDS)
def test_splices_leave_the_logits_as_they_are(models, prepared, kind):
    one, (model, _) = prepared(kind), models[kind]
    whole = {
        i: (n.site.dictionary.decode(n.site.dictionary.encode(n.x)) + n.error)[None]
        for i, n in enumerate(one.nodes)
    }
    expected = metric_of(model)
    assert one.clean == pytest.approx(expected, abs=1e-12)
    assert float(one.splicer.metric(one.metric, whole)) == pytest.approx(expected, abs=1e-11)
    for nodes in one.nodes:
        codes = torch.zeros(len(nodes.x), nodes.site.dictionary.n_features, dtype=torch.float64)
        codes[nodes.position, nodes.feature] = nodes.code
        assert torch.equal(codes, nodes.site.dictionary.encode(nodes.x))


def test_splices_are_exact_in_single_precision(tiny, bpe):
    model = tiny("llama", head=True)
    saes = [fit(model, site) for site in STREAM]
    options = {"baseline": None, "background": None, "names": None, "tokenizer": bpe}
    one = decompose(model, STREAM, saes, PROMPT, PAIR, counterfactual=OTHER, **options)
    visits = [(n.site.point, lambda x, n=n: n.x[None]) for n in one.nodes]
    assert metric_of(model, visits) == pytest.approx(one.clean, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_codes_errors_and_the_untouched_model(models, prepared, kind):
    """Against leaves f and e in plain autograd, as in the paper."""
    one, (model, _) = prepared(kind), models[kind]
    found = one.gradients()
    leaves, embedded = [], []
    visits = [(find_hook_point(model, None, "embeddings"), lambda x: embedded.append(x) or None)]
    for nodes in one.nodes:
        codes = nodes.site.dictionary.encode(nodes.x).requires_grad_()
        error = nodes.error.clone().requires_grad_()
        leaves += [codes, error]

        def visit(x, nodes=nodes, codes=codes, error=error):
            return nodes.site.dictionary.decode(codes) + error + (x - x.detach())

        visits.append((nodes.site.point, visit))
    with visiting(base_of(model), visits):
        value = pair_metric(model(**one.prompt.inputs).logits).sum()
    # These norms compute in single precision.
    close = (
        {"rtol": 1e-4, "atol": 1e-5}
        if kind in ("gemma2", "llama")
        else {"rtol": 1e-7, "atol": 1e-10}
    )
    *expected, upstream = torch.autograd.grad(value, [*leaves, embedded[0]])
    for i, nodes in enumerate(one.nodes):
        along = along_features(nodes.site.dictionary, found[i], nodes.position, nodes.feature)
        torch.testing.assert_close(along, expected[2 * i][nodes.position, nodes.feature], **close)
        torch.testing.assert_close(found[i], expected[2 * i + 1], **close)
    embedded.clear()
    with visiting(base_of(model), visits[:1]):
        value = pair_metric(model(**one.prompt.inputs).logits).sum()
    torch.testing.assert_close(torch.autograd.grad(value, embedded[0])[0], upstream, **close)


def test_held_places_let_nothing_through(prepared):
    one = prepared("gpt2")
    values = one.clean_values()
    direct = one.splicer.gradients(one.metric, values, hold=True)
    # Each stream is made of the one before it alone.
    assert not direct[0].any()
    assert not direct[1].any()
    torch.testing.assert_close(direct[2][0], one.gradients()[2])


def test_places_are_put_in_the_order_of_the_pass(models):
    model, _ = models["gpt2"]
    sites = ["resid_post", "resid_mid", "mlp_out", "attn_out", "resid_pre"]
    points = [find_hook_point(model, 1, site) for site in sites]
    order = in_order(model, points, {"input_ids": torch.tensor([PROMPT])})
    assert [sites[i] for i in order] == [
        "resid_pre",
        "attn_out",
        "resid_mid",
        "mlp_out",
        "resid_post",
    ]


@settings(max_examples=tries(20), deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 150), st.integers(0, 40))
def test_derivatives_along_features_are_a_product(seed, n_tokens, n):
    rng = np.random.default_rng(seed)
    sae = TopKSAE(9, k=2, max_iter=1, random_state=0).fit(rng.normal(size=(20, 6)))
    gradient = torch.from_numpy(rng.normal(size=(2, n_tokens, 6)))
    position = torch.from_numpy(rng.integers(0, n_tokens, n))
    feature = torch.from_numpy(rng.integers(0, 9, n))
    dense = gradient @ torch.from_numpy(np.asarray(sae.components_, dtype=np.float64)).T
    found = along_features(TorchDictionary(sae), gradient, position, feature)
    torch.testing.assert_close(found, dense[:, position, feature])


# Effects


@pytest.mark.parametrize("kind", KINDS)
def test_integrated_gradients_are_complete(models, go, kind):
    model, saes = models[kind]
    some, more = (go(model, STREAM, saes, n_steps=n) for n in (10, 100))
    for site in STREAM:
        mine = some.site == site
        assert some.effect[mine].sum() / some.total[site] == pytest.approx(some.completeness[site])
        assert abs(some.completeness[site] - 1) < 2e-2
        assert abs(more.completeness[site] - 1) < 2e-4
    # All sites of the stream together decide everything that follows: the counterfactual's metric.
    assert some.clean - metric_of(model, ids=OTHER) == pytest.approx(some.total["2.resid_post"])


def test_all_methods_agree_where_the_model_is_linear(tiny, go):
    model = tiny("gpt2", head=True).double()
    model.transformer.ln_f = torch.nn.Identity()
    sae = fit(model.float(), "2.resid_post")
    model.double()
    integrated = go(model, "2.resid_post", sae, verify=1000)
    patched = go(model, "2.resid_post", sae, method="attribution_patching", n_steps=1)
    np.testing.assert_allclose(integrated.effect, integrated.exact, atol=1e-9)
    one, other = effects_by_node(integrated), effects_by_node(patched)
    assert one.keys() == other.keys()
    for node, effect in one.items():
        assert other[node] == pytest.approx(effect, abs=1e-9)
    assert integrated.completeness["2.resid_post"] == pytest.approx(1, abs=1e-9)
    # Only the last position reaches the metric.
    assert not integrated.effect[integrated.position < len(PROMPT) - 1].any()
    # And the effect of a feature is the change of its code times its direct effect on the logits.
    head = model.get_output_embeddings().weight.detach()
    logits = TorchDictionary(sae).components(head) @ (head[PAIR[0]] - head[PAIR[1]])
    for i in np.flatnonzero((integrated.feature >= 0) & (integrated.effect != 0)):
        change = integrated.activation[i] - integrated.baseline_activation[i]
        expected = change * float(logits[integrated.feature[i]])
        assert integrated.effect[i] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_verified_effects_are_those_of_patches_one_by_one(models, go, kind):
    model, saes = models[kind]
    table = go(model, STREAM, saes, verify=40, batch_size=7)
    assert np.isnan(table.exact[40:]).all()
    clean = metric_of(model)
    for i in range(40):
        point = find_hook_point(model, int(table.site[i][0]), "resid_post")
        dictionary, t = TorchDictionary(saes[int(table.site[i][0])]), table.position[i]
        read = {name: at(model, point, ids)[t] for name, ids in (("x", PROMPT), ("other", OTHER))}
        codes = dictionary.encode(read["x"])
        others = dictionary.encode(read["other"])
        if table.feature[i] < 0:
            new = dictionary.decode(codes) + read["other"] - dictionary.decode(others)
        else:
            assert table.activation[i] == pytest.approx(float(codes[table.feature[i]]))
            assert table.baseline_activation[i] == pytest.approx(float(others[table.feature[i]]))
            error = read["x"] - dictionary.decode(codes)
            codes[table.feature[i]] = others[table.feature[i]]
            new = dictionary.decode(codes) + error

        def patch(x, t=t, new=new):
            x = x.clone()
            x[0, t] = new
            return x

        assert table.exact[i] == pytest.approx(clean - metric_of(model, [(point, patch)]), abs=1e-9)


@pytest.mark.parametrize("method", ["integrated_gradients", "attribution_patching"])
def test_several_sites_at_once_are_one_at_a_time(models, go, method):
    model, saes = models["llama"]
    together = effects_by_node(go(model, STREAM[::-1], saes[::-1], method=method))
    alone = {}
    for site, sae in zip(STREAM, saes, strict=True):
        alone |= effects_by_node(go(model, site, [sae], method=method))
    assert together.keys() == alone.keys()
    for node, effect in alone.items():
        assert together[node] == pytest.approx(effect, abs=1e-12)


def test_batches_do_not_matter(models, go):
    model, saes = models["gpt2"]
    one, other = (go(model, STREAM, saes, verify=9, batch_size=b) for b in (1, 32))
    np.testing.assert_allclose(one.effect, other.effect, atol=1e-12)
    np.testing.assert_allclose(one.exact, other.exact, atol=1e-12)


def test_the_same_prompt_as_counterfactual_has_no_effects(models, go):
    model, saes = models["gpt2"]
    table = go(model, STREAM, saes, counterfactual=PROMPT)
    assert not table.effect.any()
    assert table.total == dict.fromkeys(STREAM, 0)
    assert all(np.isnan(share) for share in table.completeness.values())


@each_case(
    "cls, settings",
    [
        (SparseAutoencoder, {"alpha": 0.1}),
        (BatchTopKSAE, {"k": 4}),
        (JumpReLUSAE, {"alpha": 0.1}),
        (GatedSAE, {"alpha": 0.1}),
    ],
)
def test_every_variant_is_complete(models, go, cls, settings):
    model, _ = models["gpt2"]
    sae = fit(model.float(), "1.resid_post", cls, **settings)
    model.double()
    table = go(model, "1.resid_post", sae, n_steps=100)
    assert table.completeness["1.resid_post"] == pytest.approx(1, abs=1e-3)


# Baselines


def test_the_mean_baseline_is_the_mean_of_the_background(models, go, bpe):
    model, saes = models["gpt2"]
    texts = ["The cat sat on the mat.", "hello world"]
    table = go(model, "1.resid_post", saes[1], background=texts, n_steps=50)
    extractor = ActivationExtractor(model, 1, tokenizer=bpe)
    codes = saes[1].transform(extractor.transform(texts)).mean(0)
    features = table[(table.feature >= 0) & (table.position == 2)]
    order = np.argsort(features.feature)
    active = np.flatnonzero(codes)
    assert set(active) <= set(features.feature)
    found = dict(zip(features.feature[order], features.baseline_activation[order], strict=True))
    np.testing.assert_allclose([found[j] for j in active], codes[active], rtol=1e-5)
    assert table.completeness["1.resid_post"] == pytest.approx(1, abs=0.03)
    # The whole site at its baseline: every position but the first has the mean activation.
    mean = torch.from_numpy(extractor.transform(texts).mean(0, dtype=np.float64))
    point = find_hook_point(model, 1, "resid_post")
    first = table[table.position == 0]
    assert not first.effect.any()
    np.testing.assert_allclose(first.baseline_activation, first.activation, rtol=1e-6)

    def to_mean(x):
        return torch.cat([x[:, :1], mean.expand_as(x[:, 1:])], dim=1)

    there = metric_of(model, [(point, to_mean)])
    assert table.total["1.resid_post"] == pytest.approx(table.clean - there, abs=1e-5)


def test_the_zero_baseline_leaves_the_intercept(models, go):
    model, _ = models["gpt2"]
    sae = fit(model.float(), "1.mlp_out")
    model.double()
    table = go(model, "1.mlp_out", sae, baseline="zero", n_steps=50)
    assert not table.baseline_activation.any()
    point = find_hook_point(model, 1, "mlp_out")
    intercept = torch.from_numpy(np.asarray(sae.intercept_, dtype=np.float64))
    there = metric_of(model, [(point, lambda x: intercept.expand_as(x).clone())])
    assert table.total["1.mlp_out"] == pytest.approx(table.clean - there, abs=1e-9)
    assert table.completeness["1.mlp_out"] == pytest.approx(1, abs=1e-2)


def test_module_paths_are_sites(models, go):
    model, _ = models["gpt2"]
    sae = fit(model.float(), "h.1.mlp.act")
    model.double()
    for site in ("h.1.mlp.act", (None, "transformer.h.1.mlp.act")):
        table = go(model, site, sae, baseline="zero")
        assert table.completeness[table.site[0]] == pytest.approx(1, abs=1e-2)


# Metrics


def test_metrics_by_any_name(models, go, bpe):
    model, saes = models["gpt2"]
    logits = model(input_ids=torch.tensor([PROMPT])).logits[0, -1].detach()
    best = int(logits.argmax())
    predicted = go(model, "1.resid_post", saes[1], metric=None)
    assert predicted.clean == pytest.approx(float(logits.log_softmax(-1)[best]), abs=1e-12)
    assert predicted.metric == f"log-probability of {bpe.decode([best])!r}"
    (letter,) = bpe.encode("e", add_special_tokens=False)
    for metric in ("e", letter, np.int64(letter)):
        named = go(model, "1.resid_post", saes[1], metric=metric)
        assert named.metric == "log-probability of 'e'"
        assert named.clean == pytest.approx(float(logits.log_softmax(-1)[letter]), abs=1e-12)
    pair, function = (go(model, "1.resid_post", saes[1], metric=m) for m in (PAIR, pair_metric))
    assert function.metric == "pair_metric"
    np.testing.assert_allclose(pair.effect, function.effect, atol=1e-12)
    swapped = go(model, "1.resid_post", saes[1], metric=list(PAIR[::-1]))
    np.testing.assert_allclose(swapped.effect, -pair.effect, atol=1e-12)


@each_case(
    "metric, error, match",
    [
        ("mathematics", ValueError, r"'mathematics' is \d+: '"),
        ("", ValueError, "'' is 0"),
        (384, ValueError, "no token 384: the model has 384"),
        (-1, ValueError, "no token -1"),
        ((1, 2, 3), ValueError, "between 2 tokens, got 3"),
        ((4, 4), ValueError, "the same token"),
        (1.5, TypeError, "A metric is None"),
        (True, TypeError, "A metric is None"),
    ],
)
def test_what_is_no_metric(bpe, metric, error, match):
    with pytest.raises(error, match=match):
        read_metric(metric, bpe, torch.zeros(384))


@each_case(
    "function, match",
    [
        (lambda logits: logits[:, -1], "one number per prompt"),
        (lambda logits: float(logits.sum()), "it returned float"),
        (lambda logits: logits[:, -1].argmax(-1), "must be differentiable"),
    ],
)
def test_functions_that_are_no_metric(models, go, function, match):
    model, saes = models["gpt2"]
    with pytest.raises(ValueError, match=match):
        go(model, "1.resid_post", saes[1], metric=function)


# The table


def test_the_table(models, go, bpe):
    model, saes = models["gpt2"]
    names = [{3: "three"}, None, {5: "five"}]
    table = go(model, STREAM, saes, names=names)
    assert (np.diff(np.abs(table.effect)) <= 0).all()
    assert (table.name[table.feature < 0] == "error").all()
    third, first = (table.site == site for site in (STREAM[2], STREAM[0]))
    assert set(table.name[third & (table.feature == 5)]) <= {"five"}
    assert set(table.name[first & (table.feature == 5)]) <= {""}
    errors = table[table.feature < 0]
    assert len(errors) == 3 * len(PROMPT)
    expected = [bpe.decode([PROMPT[t]]) for t in table.position]
    assert table.token.tolist() == expected
    assert table.to_frame().columns.tolist()[:4] == ["site", "position", "token", "feature"]
    assert len(table[:5]) == 5
    assert len(table[2]) == 1
    assert isinstance(table[table.effect > 0], Attribution)
    lines = repr(table).splitlines()
    assert lines[0].startswith(f"Attribution: {len(table)} nodes, logit of ")
    assert len(lines) == 1 + 3 + 1 + 10
    short = go(model, STREAM, saes, max_nodes=4)
    assert short.completeness == table.completeness
    np.testing.assert_array_equal(short.effect, table.effect[:4])


def test_the_packaged_model_by_name_and_in_bfloat16():
    model, tokenizer = load_tiny_lm()
    texts = ["Return the mean of the array along the given axis.", "Sort a list of numbers."] * 4
    sae = TopKSAE(64, k=8, max_iter=3, random_state=0).fit(
        ActivationExtractor(model, 2, tokenizer=tokenizer).transform(texts)
    )
    call = ["2.resid_post", sae, "Return the mean of the array", (" of", " to")]
    options = {"counterfactual": "Return the mean to the array", "tokenizer": tokenizer}
    table = attribute(model, *call, **options)
    assert table.token[table.position == 0][0] == "<s>"
    assert not table.effect[table.position < 4].any()  # the prompts begin alike
    assert table.completeness["2.resid_post"] == pytest.approx(1, abs=0.01)
    half = attribute(model.to(torch.bfloat16), *call, **options, verify=3)
    assert half.clean == pytest.approx(table.clean, abs=0.2)
    assert half.completeness["2.resid_post"] == pytest.approx(1, abs=0.1)
    assert np.isfinite(half.exact[:3]).all()


# What stays as it is, and what is refused


def test_the_model_stays_as_it_is(models, go):
    model, saes = models["gpt2"]
    model.train()
    model.transformer.h[1].eval()
    flags = [module.training for module in model.modules()]
    wanted = [p.requires_grad for p in model.parameters()]
    before, state = hooks_of(model), torch.random.get_rng_state()
    weights = {name: w.clone() for name, w in model.state_dict().items()}
    with torch.no_grad():
        table = go(model, STREAM, saes, verify=5)
    with torch.inference_mode():
        again = go(model, STREAM, saes, verify=5)
    with pytest.raises(ZeroDivisionError):
        go(model, STREAM, saes, metric=lambda logits: 1 / 0)
    np.testing.assert_array_equal(table.effect, again.effect)
    assert [module.training for module in model.modules()] == flags
    assert [p.requires_grad for p in model.parameters()] == wanted
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(w, weights[name]) for name, w in model.state_dict().items())
    assert hooks_of(model) == before
    assert torch.equal(torch.random.get_rng_state(), state)
    model.eval()
    np.testing.assert_array_equal(go(model, STREAM, saes).effect, table.effect)  # no dropout


def test_frozen_parameters_make_no_difference(tiny, go):
    model = tiny("llama", head=True)
    sae = fit(model, "1.attn_out")
    table = go(model, "1.attn_out", sae)
    frozen = go(model.requires_grad_(False), "1.attn_out", sae)
    np.testing.assert_array_equal(frozen.effect, table.effect)


@each_case(
    "options, match",
    [
        ({"baseline": None}, "give a counterfactual prompt"),
        ({"baseline": "median"}, "baseline must be one of patch, mean, zero"),
        ({"baseline": "patch"}, "baseline='patch' needs counterfactual"),
        ({"baseline": "mean"}, "baseline='mean' needs background"),
        (
            {"background": ["a b"], "counterfactual": "the dog"},
            "background is for baseline='mean', but the baseline is 'patch'",
        ),
        ({"baseline": "zero"}, "residual stream .'1.resid_post'."),
        ({"counterfactual": OTHER[:4]}, "the prompt has 6, the counterfactual 4"),
        ({"background": []}, "The background has no tokens"),
        ({"method": "guess"}, "method must be one of"),
        ({"n_steps": 0}, "n_steps must be an int >= 1"),
        ({"verify": -1}, "verify must be"),
        ({"batch_size": 1.5}, "batch_size must be"),
        ({"max_nodes": 0}, "max_nodes must be"),
        ({"names": [{}, {}]}, "names for 2 sites, but 1 sites"),
    ],
)
def test_bad_options(models, go, options, match):
    model, saes = models["gpt2"]
    with pytest.raises(ValueError, match=match):
        go(model, "1.resid_post", saes[1], **options)


def test_bad_sites(models, go):
    model, saes = models["gpt2"]
    with pytest.raises(ValueError, match="got 2 sites and 1 autoencoders"):
        go(model, STREAM[:2], saes[0])
    with pytest.raises(ValueError, match="is there twice"):
        go(model, ["1.resid_post", "-2.resid_post"], saes[:2])
    with pytest.raises(TypeError, match="sites must be one site or a list"):
        go(model, 3, saes[0])
    with pytest.raises(TypeError, match="names must map"):
        go(model, "1.resid_post", saes[0], names="three")
    with pytest.raises(ValueError, match="has 3 layers"):
        go(model, "7.resid_post", saes[0])
    with pytest.raises(ValueError, match="columns"):
        go(model, "h.1.mlp.act", saes[0])
    with pytest.raises(ValueError, match="does not predict the next token"):
        go(model.base_model, "1.resid_post", saes[0])
