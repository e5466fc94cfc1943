import pytest
import torch
import transformers
from torch.testing import assert_close

from sksae.language_models._hooks import Place, capture
from sksae.language_models._sites import base_of, find_blocks, find_place

KINDS = (
    "gpt2",
    "gpt_neo",
    "neox_parallel",
    "neox_serial",
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "bert",
    "roberta",
)
POST_NORM = ("bert", "roberta")  # the LayerNorm comes after the sum
IDS = torch.tensor([[5, 9, 30, 7, 12], [8, 8, 3, 11, 4]])
INPUTS = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}


def sites(model, layer, *names):
    places = {name: find_place(model, layer, name) for name in names}
    return capture(base_of(model), places, INPUTS)


@pytest.fixture(scope="module", params=KINDS)
def model(request, tiny):
    return tiny(request.param, head=True)


@torch.no_grad()
def test_stream_is_the_hidden_states(model):
    states = base_of(model)(**INPUTS, output_hidden_states=True).hidden_states
    assert_close(sites(model, None, "embeddings")["embeddings"], states[0])
    for layer in range(3):
        found = sites(model, layer, "resid_pre", "resid_post")
        assert_close(found["resid_pre"], states[layer])
        # The last of the hidden states of a decoder is after the final norm.
        if layer < 2 or model.config.model_type in POST_NORM:
            assert_close(found["resid_post"], states[layer + 1])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in POST_NORM])
def test_parts_add_up_to_the_stream(kind, tiny):
    model = tiny(kind)
    found = sites(model, 1, "resid_pre", "resid_post", "attn_out", "mlp_out")
    total = found["resid_pre"] + found["attn_out"] + found["mlp_out"]
    assert_close(total, found["resid_post"], atol=1e-5, rtol=0)
    if not getattr(model.config, "use_parallel_residual", False):
        middle = sites(model, 1, "resid_mid")["resid_mid"]
        assert_close(found["resid_pre"] + found["attn_out"], middle, atol=1e-5, rtol=0)
        assert_close(middle + found["mlp_out"], found["resid_post"], atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("kind", POST_NORM)
def test_parts_add_up_before_the_layer_norm(kind, tiny):
    model = tiny(kind)
    found = sites(model, 1, "resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")
    block = model.encoder.layer[1]
    middle = block.attention.output.LayerNorm(found["resid_pre"] + found["attn_out"])
    assert_close(middle, found["resid_mid"], atol=1e-5, rtol=0)
    after = block.output.LayerNorm(found["resid_mid"] + found["mlp_out"])
    assert_close(after, found["resid_post"], atol=1e-5, rtol=0)


def test_head_changes_nothing(model):
    base = base_of(model)
    assert base is not model
    assert find_place(model, -1, "attn_out") == find_place(base, 2, "attn_out")


def test_known_places(gpt2):
    assert find_place(gpt2, 1, "resid_post") == Place("h.1", "output")
    assert find_place(gpt2, -3, "resid_mid") == Place("h.0.ln_2", "input")
    assert find_place(gpt2, None, "embeddings") == Place("h.0", "input")
    assert find_place(gpt2, None, "h.2.mlp.act") == Place("h.2.mlp.act", "output")


def test_paths_work_with_and_without_the_prefix_of_the_head(gpt2, tiny):
    for model in (gpt2, tiny("gpt2", head=True)):
        assert find_place(model, None, "transformer.h.2.mlp") == Place("h.2.mlp")
        assert find_place(model, None, "h.2.mlp") == Place("h.2.mlp")


def test_parallel_blocks_have_no_middle(tiny):
    with pytest.raises(ValueError, match=r"no 'resid_mid'.*use_parallel_residual=True"):
        find_place(tiny("neox_parallel"), 0, "resid_mid")


@pytest.mark.parametrize("layer", [3, -4, None])
def test_missing_layers(gpt2, layer):
    with pytest.raises(ValueError, match=r"GPT2Model has 3 layers.*from 0 to 2.*-3 to -1"):
        find_place(gpt2, layer, "resid_post")


def test_layer_without_meaning(gpt2):
    for site in ("embeddings", "h.0.mlp"):
        with pytest.raises(ValueError, match=f"layer must be None for site='{site}'"):
            find_place(gpt2, 0, site)


def test_unknown_sites_say_what_is_near(gpt2):
    with pytest.raises(ValueError, match=r"neither one of resid_pre.*Did you mean 'resid_post'"):
        find_place(gpt2, None, "resid_psot")
    with pytest.raises(ValueError, match=r"Did you mean 'h.1.mlp'"):
        find_place(gpt2, None, "h.1.mpl")


def test_families_that_are_not_known_still_have_a_stream():
    config = transformers.PhiConfig(
        vocab_size=384,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=32,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = transformers.PhiModel(config).eval()
    with torch.no_grad():
        states = model(**INPUTS, output_hidden_states=True).hidden_states
    assert_close(sites(model, 0, "resid_post")["resid_post"], states[1])
    with pytest.raises(ValueError, match=r"inside of 'phi' blocks.*self_attn, mlp"):
        find_place(model, 0, "attn_out")


def test_two_stacks_are_the_users_choice():
    config = transformers.T5Config(
        vocab_size=384, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2
    )
    model = transformers.T5Model(config).eval()
    with pytest.raises(ValueError, match=r"several: encoder.block, decoder.block"):
        find_blocks(model)
    # The pass stops in the encoder, before the decoder could miss its input.
    place = find_place(model, None, "encoder.block.1")
    assert capture(model, {"x": place}, INPUTS)["x"].shape == (2, 5, 16)
    with pytest.raises(ValueError, match="has none"):
        find_blocks(torch.nn.Linear(2, 2))


def test_one_block_is_a_stack():
    model = transformers.GPT2Model(
        transformers.GPT2Config(
            vocab_size=9, n_embd=4, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
        )
    )
    assert find_blocks(model) == "h"
