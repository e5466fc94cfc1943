import copy

import pytest
import torch

from sksae.language_models.model import HookPoint, _site_checks, checked_hook_point, short_inputs
from sksae.language_models.model._site_checks import check_identities
from tests.language_models.families import KINDS, PARALLEL

SITES = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")


@pytest.mark.parametrize("kind", KINDS)
def test_every_family_passes(kind, tiny):
    model = tiny(kind, head=True)
    for layer in (0, 2):
        for site in SITES:
            if site != "resid_mid" or kind not in PARALLEL:
                checked_hook_point(model, layer, site)


def test_half_precision_passes(tiny):
    for dtype in (torch.bfloat16, torch.float16):
        model = tiny("llama").to(dtype)
        for site in SITES:
            checked_hook_point(model, 1, site)


def test_a_block_that_changes_the_stream_is_found(tiny):
    model = tiny("gpt2")
    # Between blocks 0 and 1 something happens that is in no block.
    handle = model.h[1].register_forward_pre_hook(lambda _, args: (2 * args[0], *args[1:]))
    with pytest.raises(ValueError, match=r"in block 0 the output is not the input of the next"):
        checked_hook_point(model, 0, "resid_post")
    handle.remove()
    assert checked_hook_point(model, 0, "resid_post") == HookPoint("h.0")


def test_an_mlp_that_is_scaled_afterwards_is_found(tiny):
    class Scaled(torch.nn.Module):
        def __init__(self, block):
            super().__init__()
            self.attn, self.mlp, self.ln_2, self.block = block.attn, block.mlp, block.ln_2, block

        def forward(self, x, *args, **kwargs):
            return x + 1.5 * (self.block(x, *args, **kwargs) - x)

    model = tiny("gpt2")
    for i in range(3):
        model.h[i] = Scaled(model.h[i])
    model._no_split_modules = ["Scaled"]
    with pytest.raises(ValueError, match=r"GPT2Model.*block 1 resid_mid \+ mlp_out is not resid_p"):
        checked_hook_point(model, 1, "mlp_out")
    checked_hook_point(model, 1, "resid_post")  # which is what its name says


def test_a_wrong_row_of_the_table_is_found(tiny, monkeypatch):
    llama, granite = tiny("llama"), tiny("granite")
    wrong = _site_checks.family_of(llama.config)
    monkeypatch.setattr("sksae.language_models.model._sites.family_of", lambda _: wrong)
    monkeypatch.setattr(_site_checks, "family_of", lambda _: wrong)
    checked_hook_point(llama, 1, "attn_out")
    with pytest.raises(ValueError, match=r"does not read resid_mid|is not resid_mid"):
        checked_hook_point(granite, 1, "attn_out")
    parallel = wrong._replace(parallel=True, mlp_out="mlp.gate_proj")
    monkeypatch.setattr(_site_checks, "family_of", lambda _: parallel)
    with pytest.raises(ValueError, match="do not sum to the output"):
        check_identities(tiny("llama", intermediate_size=16), 1, inside=True)


def test_what_is_not_finite_is_said(tiny):
    model = tiny("gpt2")
    with torch.no_grad():
        model.wte.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        checked_hook_point(model, 1, "resid_post")


def test_each_site_is_tried_once(tiny):
    model = tiny("gpt2")
    runs = []
    model.wte.register_forward_hook(lambda *_: runs.append(1))
    for _ in range(3):
        checked_hook_point(model, 1, "resid_post")
        checked_hook_point(model, -2, "resid_post")
    assert len(runs) == 1
    checked_hook_point(model, 1, "mlp_out")
    assert len(runs) == 2
    # Paths say nothing about the stream, so there is nothing to try.
    checked_hook_point(model, None, "h.1.mlp.act")
    checked_hook_point(model, None, "embeddings")
    assert len(runs) == 2
    checked_hook_point(copy.deepcopy(model), 1, "resid_post")
    assert len(runs) == 3


def test_short_inputs_are_what_the_model_reads(tiny):
    assert short_inputs(tiny("vit"))["pixel_values"].shape == (1, 3, 12, 12)
    assert short_inputs(tiny("bert"))["input_ids"].tolist() == [[1, 2, 3, 4, 5, 6]]
