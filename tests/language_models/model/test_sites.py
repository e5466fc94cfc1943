import pytest
import torch
import transformers
from torch.testing import assert_close

from sksae import TopKSAE
from sksae.language_models import (
    ActivationExtractor,
    attribute,
    describe_behaviour,
    downstream_metrics,
    patch,
    steer,
)
from sksae.language_models.model import (
    HookPoint,
    base_of,
    capture,
    checked_hook_point,
    find_blocks,
    find_hook_point,
    short_inputs,
    split_site,
    visiting,
)
from tests.cases import each_case
from tests.language_models.families import HEADLESS, IMAGES, KINDS, MASKED, PARALLEL, POST_NORM

PARTS = ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")

# Where the parts are, read off the sources of transformers 5.23: the sum attn_out + resid_pre and
# the sum mlp_out + resid_mid are the inputs of these, or the output of the block.
SUMS = {
    "bert": ("attention.output.LayerNorm", "output.LayerNorm"),
    "roberta": ("attention.output.LayerNorm", "output.LayerNorm"),
    "distilbert": ("sa_layer_norm", "output_layer_norm"),
    "opt_post_norm": ("self_attn_layer_norm", "final_layer_norm"),
}


# Attention and MLP share a norm there, or the norms come after the parts.
NO_NORM_OF_THE_MLP = (
    *(kind for kind in PARALLEL if kind != "neox_parallel"),
    *POST_NORM,
    "olmo2",
)


def sites(model, layer, *names):
    base = base_of(model)
    points = {name: find_hook_point(model, layer, name) for name in names}
    return capture(base, points, short_inputs(base))


def seen(model, path, side="output"):
    base = base_of(model)
    return capture(base, {"x": HookPoint(path, side)}, short_inputs(base))["x"]


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def model(kind, tiny):
    return tiny(kind, head=True)


@torch.no_grad()
def test_stream_is_the_hidden_states(kind, model):
    base = base_of(model)
    states = base(**short_inputs(base), output_hidden_states=True).hidden_states
    if kind != "gpt_oss" or states[0] is not None:
        assert_close(sites(model, None, "embeddings")["embeddings"], states[0])
    for layer in range(3):
        found = sites(model, layer, "resid_pre", "resid_post")
        assert_close(found["resid_pre"], states[layer])
        # The last of the hidden states of a decoder is after the final norm.
        if layer < 2 or kind in IMAGES + POST_NORM[:3]:
            assert_close(found["resid_post"], states[layer + 1])


def test_parts_add_up(kind, model):
    if kind in POST_NORM:
        found = sites(model, 1, *PARTS)
        block = f"{find_blocks(base_of(model))}.1"
        first, second = (seen(model, f"{block}.{norm}", "input") for norm in SUMS[kind])
        assert_close(found["resid_pre"] + found["attn_out"], first, atol=1e-5, rtol=1e-5)
        assert_close(found["resid_mid"] + found["mlp_out"], second, atol=1e-5, rtol=1e-5)
        assert_close(seen(model, f"{block}.{SUMS[kind][0]}"), found["resid_mid"])
        return
    found = sites(model, 1, *(name for name in PARTS if name != "resid_mid"))
    total = found["resid_pre"] + found["attn_out"] + found["mlp_out"]
    assert_close(total, found["resid_post"], atol=1e-5, rtol=1e-5)
    if kind not in PARALLEL:
        middle = sites(model, 1, "resid_mid")["resid_mid"]
        assert_close(found["resid_pre"] + found["attn_out"], middle, atol=1e-5, rtol=1e-5)
        assert_close(middle + found["mlp_out"], found["resid_post"], atol=1e-5, rtol=1e-5)


@each_case(
    "kind, reader",
    [
        ("gpt2", "ln_2"),
        ("llama", "post_attention_layernorm"),
        ("gemma2", "pre_feedforward_layernorm"),
        ("granite", "post_attention_layernorm"),
        ("olmo2", "mlp"),
        ("bloom", "post_attention_layernorm"),
        ("opt", "final_layer_norm"),
        ("dinov2", "norm2"),
        ("siglip_vision", "layer_norm2"),
        ("modernbert", "mlp_norm"),
    ],
)
def test_the_middle_is_what_the_mlp_reads(kind, reader, tiny):
    model = tiny(kind)
    middle = sites(model, 1, "resid_mid")["resid_mid"]
    # OPT makes one sequence of all.
    there = seen(model, f"{find_blocks(model)}.1.{reader}", "input").reshape(middle.shape)
    assert torch.equal(middle, there)


@torch.no_grad()
def test_parts_by_hand(tiny):
    """Each of the four ways in which a family differs, against its modules called by hand."""
    gemma = tiny("gemma2")
    raw = seen(gemma, "layers.1.self_attn")
    found = sites(gemma, 1, "attn_out")["attn_out"]
    assert_close(found, gemma.layers[1].post_attention_layernorm(raw))
    granite = tiny("granite")
    assert_close(sites(granite, 1, "mlp_out")["mlp_out"], 0.3 * seen(granite, "layers.1.mlp"))
    bloom = tiny("bloom")
    dense = seen(bloom, "h.1.self_attention.dense")
    assert_close(sites(bloom, 1, "attn_out")["attn_out"], dense, atol=1e-5, rtol=1e-5)
    dense = seen(bloom, "h.1.mlp.dense_4h_to_h")
    assert_close(sites(bloom, 1, "mlp_out")["mlp_out"], dense, atol=1e-5, rtol=1e-5)
    falcon = tiny("falcon")
    # Falcon adds the attention to the MLP's output in place, after the hook.
    by_hand = falcon.h[1].mlp(falcon.h[1].input_layernorm(seen(falcon, "h.1", "input")))
    assert_close(sites(falcon, 1, "mlp_out")["mlp_out"], by_hand)


def test_head_changes_nothing(kind, model):
    base = base_of(model)
    assert kind in HEADLESS or base is not model
    assert find_hook_point(model, -1, "attn_out") == find_hook_point(base, 2, "attn_out")


@pytest.mark.parametrize("kind", MASKED, indirect=True)
def test_encoders_have_all_sites(model):
    assert sorted(sites(model, 0, *PARTS)) == sorted(PARTS)


def test_known_places(gpt2):
    assert find_hook_point(gpt2, 1, "resid_post") == HookPoint("h.1", "output")
    assert find_hook_point(gpt2, -3, "resid_mid") == HookPoint(
        "h.0.attn", earlier=HookPoint("h.0", "input"), sign=1
    )
    assert find_hook_point(gpt2, None, "embeddings") == HookPoint("h.0", "input")
    assert find_hook_point(gpt2, None, "h.2.mlp.act") == HookPoint("h.2.mlp.act", "output")
    assert find_hook_point(gpt2, None, "h.2.attn.c_proj.input") == HookPoint(
        "h.2.attn.c_proj", "input"
    )
    with_prefix = find_hook_point(gpt2, None, "transformer.h.2.attn.c_proj.input")
    assert with_prefix == HookPoint("h.2.attn.c_proj", "input")


def test_paths_work_with_and_without_the_prefix_of_the_head(gpt2, tiny):
    for model in (gpt2, tiny("gpt2", head=True)):
        assert find_hook_point(model, None, "transformer.h.2.mlp") == HookPoint("h.2.mlp")
        assert find_hook_point(model, None, "h.2.mlp") == HookPoint("h.2.mlp")


@each_case("kind", PARALLEL)
def test_parallel_blocks_have_no_middle(kind, tiny):
    with pytest.raises(ValueError, match=r"no 'resid_mid'.*both read the block's input"):
        find_hook_point(tiny(kind), 0, "resid_mid")


def test_the_flag_that_makes_blocks_parallel_is_named(tiny):
    with pytest.raises(ValueError, match=r"\(use_parallel_residual=True\)"):
        find_hook_point(tiny("neox_parallel"), 0, "resid_mid")


@each_case("layer", [3, -4, None])
def test_missing_layers(gpt2, layer):
    with pytest.raises(ValueError, match=r"GPT2Model has 3 layers.*from 0 to 2.*-3 to -1"):
        find_hook_point(gpt2, layer, "resid_post")


def test_layer_without_meaning(gpt2):
    for site in ("embeddings", "h.0.mlp"):
        with pytest.raises(ValueError, match=f"layer must be None for site='{site}'"):
            find_hook_point(gpt2, 0, site)


def test_unknown_sites_say_what_is_near(gpt2):
    with pytest.raises(ValueError, match=r"neither one of resid_pre.*Did you mean 'resid_post'"):
        find_hook_point(gpt2, None, "resid_psot")
    with pytest.raises(ValueError, match=r"Did you mean 'resid_post'"):
        find_hook_point(gpt2, 1, "resid_psot")
    with pytest.raises(ValueError, match=r"Did you mean 'h.1.mlp'"):
        find_hook_point(gpt2, None, "h.1.mpl")


def test_families_that_are_not_known_still_have_a_stream():
    config = transformers.BioGptConfig(
        vocab_size=384,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=32,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = transformers.BioGptModel(config).eval()
    with torch.no_grad():
        states = model(**short_inputs(model), output_hidden_states=True).hidden_states
    assert_close(sites(model, 0, "resid_post")["resid_post"], states[1])
    with pytest.raises(ValueError, match=r"inside of 'biogpt' blocks.*self_attn"):
        find_hook_point(model, 0, "attn_out")


def test_two_stacks_are_the_users_choice():
    config = transformers.T5Config(
        vocab_size=384, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2
    )
    model = transformers.T5Model(config).eval()
    with pytest.raises(ValueError, match=r"several: encoder.block, decoder.block"):
        find_blocks(model)
    # The pass stops in the encoder, before the decoder could miss its input.
    point = find_hook_point(model, None, "encoder.block.1")
    assert capture(model, {"x": point}, short_inputs(model))["x"].shape == (1, 6, 16)
    with pytest.raises(ValueError, match="has none"):
        find_blocks(torch.nn.Linear(2, 2))


def test_models_of_images_and_text_are_read_in_text():
    text = {"vocab_size": 384, "hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 24}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    image = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    image |= {"intermediate_size": 24, "image_size": 16, "patch_size": 4}
    config = transformers.Gemma3Config(text_config=text, vision_config=image, mm_tokens_per_image=4)
    model = transformers.Gemma3ForConditionalGeneration(config).eval()
    assert find_hook_point(model, 1, "attn_out").path.endswith(
        "language_model.layers.1.post_attention_layernorm"
    )


def test_one_block_is_a_stack():
    model = transformers.GPT2Model(
        transformers.GPT2Config(
            vocab_size=9, n_embd=4, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
        )
    )
    assert find_blocks(model) == "h"


def test_sites_in_one_piece():
    assert split_site("3.resid_post") == split_site((3, "resid_post")) == (3, "resid_post")
    assert split_site("-1.mlp_out") == (-1, "mlp_out")
    assert split_site("embeddings") == (None, "embeddings")
    assert split_site("h.2.mlp") == (None, "h.2.mlp")
    with pytest.raises(ValueError, match=r"needs a layer: write '3.resid_mid'"):
        split_site("resid_mid")
    for wrong in (
        3,
        None,
        ("resid_post", 3),
        (1, "resid_post", 2),
        ("3", "resid_post"),
        (True, "resid_post"),
    ):
        with pytest.raises(ValueError, match="A site is written"):
            split_site(wrong)


def test_names_of_transformer_lens_are_the_sites_they_name(tiny):
    for kind in ("gpt2", "llama", "gemma2", "neox_serial"):
        model = tiny(kind, head=True)
        for site in ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"):
            hook = f"blocks.1.hook_{site}"
            assert split_site(hook) == split_site((None, hook)) == (1, site)
            for layer in (None, 1):
                assert find_hook_point(model, layer, hook) == find_hook_point(model, 1, site)
                assert checked_hook_point(model, layer, hook) == find_hook_point(model, 1, site)
        with pytest.raises(ValueError, match=r"layer must be None for site='blocks\.1\.hook"):
            find_hook_point(model, 2, "blocks.1.hook_mlp_out")
        with pytest.raises(ValueError, match=r"has 3 layers.* Got 7"):
            find_hook_point(model, None, "blocks.7.hook_resid_post")
        for hook in ("blocks.1.attn.hook_q", "hook_embed", "ln_final.hook_normalized"):
            with pytest.raises(ValueError, match=f"The hook '{hook}' of TransformerLens"):
                find_hook_point(model, None, hook)


@each_case(
    "kind, z, post",
    [
        ("gpt2", "h.1.attn.c_proj", "h.1.mlp.c_proj"),
        ("llama", "layers.1.self_attn.o_proj", "layers.1.mlp.down_proj"),
        ("neox_serial", "layers.1.attention.dense", "layers.1.mlp.dense_4h_to_h"),
    ],
)
def test_hooks_of_transformer_lens_are_what_the_last_weights_of_a_part_read(tiny, kind, z, post):
    base = tiny(kind)
    for hook, path in (("attn.hook_z", z), ("mlp.hook_post", post)):
        points = {"hook": find_hook_point(base, None, f"blocks.1.{hook}"), "made": HookPoint(path)}
        found = capture(base, points, short_inputs(base))
        with torch.no_grad():
            assert_close(base.get_submodule(path)(found["hook"]), found["made"])


def test_what_the_weights_of_a_norm_multiply(tiny):
    """By the formulas of LayerNorm and RMSNorm, and changed, by the product with the weights."""
    norms = {
        "gpt2": "h.1.ln_2",
        "llama": "layers.1.post_attention_layernorm",
        "gemma2": "layers.1.pre_feedforward_layernorm",
    }
    for kind, path in norms.items():
        base = tiny(kind)
        norm = base.get_submodule(path)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in norm.parameters():  # fresh weights are ones and zeros
                weight.copy_(torch.rand(weight.shape, generator=generator) + 0.5)
        hook = find_hook_point(base, None, "blocks.1.ln2.hook_normalized")
        assert hook == HookPoint(path, "normalized")
        assert hook == find_hook_point(base, None, f"{path}.normalized")
        read, made = HookPoint(path, "input"), HookPoint(path)
        points = {"hook": hook, "read": read, "made": made}
        found = capture(base, points, short_inputs(base))
        x = found["read"] - found["read"].mean(-1, keepdim=True) * (kind == "gpt2")
        eps = 1e-5 if kind == "gpt2" else 1e-6
        assert_close(found["hook"], x * (x.square().mean(-1, keepdim=True) + eps).rsqrt())
        gain = found["made"] - (norm.bias if kind == "gpt2" else 0)
        gain = (gain / found["hook"]).mean((0, 1))
        changed = []
        visits = [(hook, lambda x: x + 1), (made, changed.append)]
        with visiting(base, visits), torch.no_grad():
            base(**short_inputs(base))
        assert_close(changed[0], found["made"] + gain, rtol=1e-3, atol=1e-4)


def test_the_norm_of_every_family_that_has_one_before_its_mlp(kind, model):
    """Its mean square is that of a normalised row, v / (v + eps), whatever its weights."""
    hook = "blocks.1.ln2.hook_normalized"
    if kind in NO_NORM_OF_THE_MLP:
        with pytest.raises(ValueError, match=r"The hook 'blocks\.1\.ln2\.hook_normalized' of Tr"):
            find_hook_point(model, None, hook)
        return
    base = base_of(model)
    point = find_hook_point(base, None, hook)
    read = seen(model, point.path, "input")
    found = capture(base, {"x": point}, short_inputs(base))["x"].square().mean(-1)
    centred = torch.layer_norm(read, read.shape[-1:], eps=0) * read.std(
        -1, keepdim=True, correction=0
    )
    sizes = [x.square().mean(-1) for x in (read, centred)]
    norm = base.get_submodule(point.path)
    eps = getattr(norm, "eps", getattr(norm, "variance_epsilon", None))
    size = sizes[isinstance(norm, torch.nn.LayerNorm)]
    assert_close(found, size / (size + eps), rtol=1e-4, atol=1e-4)


def test_what_no_norm_reads_is_refused(tiny):
    """OLMo 2 has norms behind its parts only."""
    with pytest.raises(ValueError, match=r"The hook 'blocks\.1\.ln2\.hook_normalized' of Tr"):
        find_hook_point(tiny("olmo2"), None, "blocks.1.ln2.hook_normalized")
    base = tiny("gpt2")
    point = find_hook_point(base, None, "h.1.mlp.normalized")
    with pytest.raises(ValueError, match="GPT2MLP is no norm"):
        capture(base, {"x": point}, short_inputs(base))
    with torch.no_grad():
        base.get_submodule("h.1.ln_2").weight[0] = 0
    point = find_hook_point(base, None, "h.1.ln_2.normalized")
    with pytest.raises(ValueError, match="some of its weights are 0"):
        capture(base, {"x": point}, short_inputs(base))


def test_whatever_takes_a_site_takes_the_name_of_a_hook(tiny, bpe):
    model, text = tiny("gpt2", head=True), "The cat sat on the mat."
    site, hook, part = "1.mlp_out", "blocks.1.hook_mlp_out", "blocks.1.mlp.hook_post"
    rows = [
        ActivationExtractor(model, *where, tokenizer=bpe).transform([text])
        for where in ((1, "mlp_out"), (None, hook), (1, hook))
    ]
    assert (rows[0] == rows[1]).all()
    assert (rows[0] == rows[2]).all()
    sae = TopKSAE(24, k=4, max_iter=1, random_state=0).fit(rows[0])
    inputs = bpe(text, return_tensors="pt")
    options = {"counterfactual": text.replace("cat", "dog"), "tokenizer": bpe}
    for change in (lambda at: steer(model, at, sae, {3: 5.0}), lambda at: patch(model, at, sae)):
        logits = []
        for at in (site, hook, (None, hook)):
            with torch.no_grad(), change(at):
                logits.append(model(**inputs).logits)
        assert torch.equal(logits[0], logits[1])
        assert torch.equal(logits[0], logits[2])
    tables = [attribute(model, at, sae, text, **options) for at in (site, hook)]
    assert list(tables[0].completeness) == list(tables[1].completeness) == [site]
    assert (tables[0].effect == tables[1].effect).all()
    tables = [describe_behaviour(model, at, sae, text, tokenizer=bpe) for at in (site, hook)]
    assert (tables[0].direct_logit == tables[1].direct_logit).all()
    scores = [
        downstream_metrics(ActivationExtractor(model, *at, tokenizer=bpe), sae, [text] * 2)
        for at in ((1, "mlp_out"), (None, hook))
    ]
    assert scores[0] == scores[1]
    wide = ActivationExtractor(model, None, part, tokenizer=bpe).transform([text])
    assert wide.shape[1] == 64
    inner = TopKSAE(24, k=4, max_iter=1, random_state=0).fit(wide)
    assert list(attribute(model, part, inner, text, **options).completeness) == [part]


def test_blocks_of_several_classes_are_one_stack():
    config = transformers.AutoConfig.for_model(
        "jamba",
        vocab_size=64,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=24,
        attn_layer_period=2,
        attn_layer_offset=1,
        num_experts=2,
        mamba_d_state=4,
        use_mamba_kernels=False,
    )
    model = transformers.AutoModel.from_config(config)
    assert len({type(block) for block in model.layers}) == 2
    assert find_blocks(model) == "layers"
    assert find_hook_point(model, -1, "resid_post") == HookPoint("layers.2")
