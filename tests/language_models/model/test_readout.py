import copy

import accelerate
import numpy as np
import pytest
import torch
import transformers
from torch import nn
from transformers.modeling_outputs import CausalLMOutput

from sksae import TopKSAE
from sksae.language_models import steer
from sksae.language_models.model import (
    HookPoint,
    base_of,
    capture,
    find_blocks,
    find_readout,
    short_inputs,
)
from tests.cases import each_case
from tests.language_models.families import CAUSAL, build

CENTRED = (
    *("bloom", "bloom_post_norm", "cohere", "falcon", "falcon_new", "falcon_serial", "gpt2"),
    *("gpt_neo", "gptj", "neox_parallel", "neox_serial", "opt", "phi"),
    *("stablelm", "stablelm_parallel"),
)
IDS = torch.tensor([3, 50, 383])


def stream_of(model):
    """What leaves the last block on a few tokens."""
    base = base_of(model)
    path = find_blocks(base)
    last = HookPoint(f"{path}.{len(base.get_submodule(path)) - 1}")
    return capture(base, {"x": last}, short_inputs(base))["x"]


@torch.no_grad()
def logits_of(model):
    return model(**short_inputs(base_of(model))).logits


@pytest.mark.parametrize("kind", CAUSAL)
def test_the_norm_is_what_the_probes_say(kind):
    model = build(kind, head=True)
    readout, x = find_readout(model), stream_of(model)
    hidden = base_of(model)(**short_inputs(base_of(model))).last_hidden_state
    made = readout.direction(x) / readout.scale(x)[..., None] + readout.bias
    torch.testing.assert_close(made, hidden.detach(), atol=1e-5, rtol=0)
    assert readout.centred == (kind in CENTRED)
    assert (readout.norm is None) == (kind == "opt_post_norm")


@pytest.mark.parametrize("kind", CAUSAL)
def test_a_row_makes_the_logit_of_its_token(kind):
    model = build(kind, head=True)
    readout, x = find_readout(model), stream_of(model)
    made = x @ readout.rows(IDS).T / readout.scale(x)[..., None] + readout.constants()[IDS]
    if readout.softcap:
        made = readout.softcap * torch.tanh(made / readout.softcap)
    torch.testing.assert_close(made, logits_of(model)[..., IDS], atol=1e-5, rtol=0)
    assert readout.rows(IDS).requires_grad is False


@each_case("kind", ["llama", "gemma", "gpt2", "cohere", "phi"])
def test_rows_and_unembed_are_one_map(kind):
    readout = find_readout(build(kind, head=True))
    eye = torch.eye(readout.width)
    rows = readout.unembed(readout.direction(eye))[:, IDS].T
    torch.testing.assert_close(readout.rows(IDS), rows, atol=2e-6, rtol=0)
    assert readout.rows(IDS.repeat(50)).shape == (150, readout.width)


def test_gains_are_the_weights_or_one_more():
    gemma, llama = build("gemma", head=True), build("llama", head=True)
    torch.testing.assert_close(find_readout(gemma).gain, 1 + gemma.model.norm.weight.detach())
    torch.testing.assert_close(find_readout(llama).gain, llama.model.norm.weight.detach())


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("gpt2", {"n_embd": 15, "n_head": 3}),
        ("llama", {"hidden_size": 15, "num_attention_heads": 3, "head_dim": 8}),
    ],
)
def test_odd_widths(kind, changed):
    model = build(kind, head=True, **changed)
    norm = model.transformer.ln_f if kind == "gpt2" else model.model.norm
    readout = find_readout(model)
    torch.testing.assert_close(readout.gain, norm.weight.detach())
    torch.testing.assert_close(
        readout.bias, norm.bias.detach() if kind == "gpt2" else torch.zeros(15)
    )


def test_factors_and_bends():
    assert find_readout(build("cohere", head=True)).factor == pytest.approx(0.0625)
    assert find_readout(build("granite", head=True)).factor == pytest.approx(0.25)
    assert find_readout(build("gemma2", head=True)).softcap == 30.0
    llama = find_readout(build("llama", head=True))
    assert (llama.factor, llama.softcap, llama.tail) == (1.0, None, ())


@pytest.mark.parametrize("before", [True, False])
def test_a_map_between_norm_and_unembedding(before):
    model = build("opt", head=True, word_embed_proj_dim=8, do_layer_norm_before=before)
    readout, x = find_readout(model), stream_of(model)
    assert readout.tail == (model.model.decoder.project_out,)
    assert (readout.norm is None) == (not before)
    made = x @ readout.rows(IDS).T / readout.scale(x)[..., None] + readout.constants()[IDS]
    torch.testing.assert_close(made, logits_of(model)[..., IDS], atol=1e-5, rtol=0)


class Shrinking(transformers.PhiForCausalLM):
    """A model that gives its unembedding half of what the norm puts out."""

    def forward(self, **inputs):
        hidden = self.model(**inputs).last_hidden_state
        return CausalLMOutput(logits=self.lm_head(0.5 * hidden))


def test_what_hooks_add_to_the_norm_is_its_bias():
    model = build("llama", head=True)
    model.model.norm.register_forward_hook(lambda module, args, out: out + 1)
    assert torch.equal(find_readout(model).bias, torch.ones(16))


def test_a_factor_before_the_unembedding():
    plain = build("phi", head=True)
    model = Shrinking(plain.config).eval()
    model.load_state_dict(plain.state_dict())
    readout, x = find_readout(model), stream_of(model)
    made = x @ readout.rows(IDS).T / readout.scale(x)[..., None] + readout.constants()[IDS]
    torch.testing.assert_close(made, logits_of(model)[..., IDS], atol=1e-5, rtol=0)
    with torch.no_grad():
        constants = model.lm_head(0.5 * model.model.final_layernorm.bias)
    torch.testing.assert_close(readout.constants(), constants)


@each_case("kind", ["gpt2", "gemma", "phi", "llama"])
def test_bfloat16_is_computed_in_float32(kind):
    model = build(kind, head=True)
    full, half = find_readout(model), find_readout(copy.deepcopy(model).bfloat16())
    assert half.gain.dtype is half.rows(IDS).dtype is torch.float32
    torch.testing.assert_close(half.gain, full.gain, rtol=0.01, atol=0.01)
    torch.testing.assert_close(half.rows(IDS), full.rows(IDS), rtol=0.02, atol=0.02)


def test_offloaded_weights_are_fetched(tmp_path):
    model = build("gpt2", head=True)
    wanted = find_readout(model)
    away = accelerate.disk_offload(copy.deepcopy(model), tmp_path, execution_device="cpu")
    assert away.transformer.ln_f.weight.device.type == "meta"
    readout = find_readout(away)
    assert torch.equal(readout.gain, wanted.gain)
    assert torch.equal(readout.rows(IDS), wanted.rows(IDS))
    assert torch.equal(readout.unembed(readout.gain), wanted.unembed(wanted.gain))


def test_nothing_stays_behind():
    model = build("gpt2", head=True).train()
    model.transformer.wte.weight.requires_grad_(False)
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    state = torch.get_rng_state()
    find_readout(model).rows(IDS)
    assert {name: p.requires_grad for name, p in model.named_parameters()} == before
    assert all(p.grad is None for p in model.parameters())
    assert all(module.training and not module._forward_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)


def test_the_model_is_read_as_if_nothing_was_steered():
    model = build("llama", head=True)
    sae = TopKSAE(9, k=2, max_iter=1, random_state=0)
    sae.fit(np.random.default_rng(0).normal(size=(50, 16)))
    gain, rows = find_readout(model).gain, find_readout(model).rows(IDS)
    for where in ("all", [40]):
        with steer(model, "2.resid_post", sae, {3: 1e3}, where=where):
            readout = find_readout(model)
            assert torch.equal(readout.gain, gain)
            assert torch.equal(readout.rows(IDS), rows)


def test_modes_of_the_caller_do_not_matter():
    model = build("llama", head=True)
    wanted = find_readout(model).rows(IDS)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            readout = find_readout(model)
        assert torch.equal(readout.rows(IDS), wanted)


class Squared(nn.Module):
    def forward(self, x):
        return x / x.square().mean(-1, keepdim=True)


class Bent(nn.Linear):
    def forward(self, x):
        return super().forward(x).exp()


def test_what_is_neither_norm_nor_linear_is_refused():
    model = build("llama", head=True)
    model.model.norm = Squared()
    with pytest.raises(ValueError, match="final norm is no LayerNorm and no RMSNorm"):
        find_readout(model)
    model = build("llama", head=True)
    model.lm_head = Bent(16, 384)
    with pytest.raises(ValueError, match=r"LlamaForCausalLM.*unembedding is not linear"):
        find_readout(model)


class Squaring(Shrinking):
    def forward(self, **inputs):
        return CausalLMOutput(logits=super().forward(**inputs).logits.square())


class Adding(Shrinking):
    def forward(self, **inputs):
        hidden = self.model(**inputs).last_hidden_state
        return CausalLMOutput(logits=self.lm_head(hidden + 1))


def test_what_happens_around_the_unembedding_has_to_be_a_factor():
    config = build("phi").config
    with pytest.raises(ValueError, match="not a multiple of its unembedding's"):
        find_readout(Squaring(config))
    with pytest.raises(ValueError, match="unembedding does not read the final norm"):
        find_readout(Adding(config))
