import gc
import weakref

import pytest
import torch

from sksae.language_models.model import _readout, base_of, check_head, final_hidden, logits_of
from tests.cases import each_case
from tests.language_models.families import CAUSAL

IDS = torch.tensor([[5, 9, 3, 7, 2, 11], [8, 4, 0, 0, 0, 0]])
MASK = torch.tensor([[1] * 6, [1] * 2 + [0] * 4])
INPUTS = {"input_ids": IDS, "attention_mask": MASK}


def same(one, other):
    # The head reads the positions one behind the other instead of two sequences of them.
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", CAUSAL)
@torch.no_grad()
def test_logits_are_the_models(kind, tiny):
    model = tiny(kind, head=True)
    check_head(model)
    expected = model(**INPUTS).logits
    hidden = final_hidden(model, INPUTS)
    assert hidden.shape == (2, 6, 16)
    same(logits_of(model, hidden), expected)
    same(logits_of(model, hidden[1, 1]), expected[1, 1])
    assert logits_of(model, hidden[:0, 0]).shape == (0, 384)
    torch.testing.assert_close(model(**INPUTS).logits, expected, rtol=0, atol=0)


@torch.no_grad()
def test_what_only_the_code_of_a_model_says(tiny):
    softcapped, scaled = tiny("gemma2", head=True), tiny("granite", head=True)
    hidden = 1000 * final_hidden(softcapped, INPUTS)
    raw = softcapped.lm_head(hidden)
    assert raw.abs().max() > 1000
    same(logits_of(softcapped, hidden), 30 * torch.tanh(raw / 30))
    hidden = final_hidden(scaled, INPUTS)
    same(logits_of(scaled, hidden), scaled.lm_head(hidden) / 4)


@each_case("dtype", [torch.float64, torch.bfloat16, torch.float16])
@torch.no_grad()
def test_logits_have_the_dtype_of_the_model(dtype, tiny):
    model = tiny("llama", head=True).to(dtype)
    check_head(model)
    logits = logits_of(model, final_hidden(model, INPUTS))
    assert logits.dtype is dtype
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(logits, model(**INPUTS).logits, rtol=8 * eps, atol=8 * eps)


def test_the_model_stays_as_it_is(tiny):
    model = tiny("gpt2", head=True).train()
    model.transformer.h[1].eval()
    base = base_of(model)
    before = [module.training for module in model.modules()], set(vars(base))
    check_head(model)
    logits_of(model, torch.zeros(3, 16))
    assert ([module.training for module in model.modules()], set(vars(base))) == before
    with pytest.raises(RuntimeError):
        logits_of(model, torch.zeros(3, 17))
    assert ([module.training for module in model.modules()], set(vars(base))) == before
    assert all(parameter.requires_grad for parameter in model.parameters())


@torch.no_grad()
def test_a_forward_of_the_object_itself_is_put_back(tiny):
    model = tiny("gpt2", head=True)
    base = base_of(model)
    calls = []

    def counted(*args, forward=base.forward, **kwargs):
        calls.append(1)
        return forward(*args, **kwargs)

    base.forward = counted
    hidden = final_hidden(model, INPUTS)
    logits = logits_of(model, hidden)
    assert base.forward is counted
    assert len(calls) == 1
    same(logits, model(**INPUTS).logits)


@torch.no_grad()
def test_offloaded_weights(tiny, tmp_path):
    from accelerate import disk_offload

    model = tiny("llama", head=True)
    expected = model(**INPUTS).logits
    disk_offload(model, tmp_path, execution_device=torch.device("cpu"))
    assert model.lm_head.weight.device.type == "meta"
    check_head(model)
    same(logits_of(model, final_hidden(model, INPUTS)), expected)


def test_gradients_go_back_through_the_head(tiny):
    model = tiny("gpt2", head=True)
    hidden = torch.zeros(1, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(logits_of(model, hidden)[0, 7], hidden)
    same(gradient[0], model.lm_head.weight[7])


def test_models_without_a_head_are_refused(tiny):
    for model in (tiny("gpt2"), tiny("bert", head=True), tiny("vit")):
        with pytest.raises(ValueError, match="does not predict the next token"):
            check_head(model)


def test_a_head_that_reads_something_else_is_found(tiny):
    model = tiny("gpt2", head=True)
    plain = model.forward

    def forward(input_ids=None, **kwargs):
        output = plain(input_ids=input_ids, **kwargs)
        output.logits = output.logits + input_ids[..., None]
        return output

    model.forward = forward
    with pytest.raises(ValueError, match=r"GPT2LMHeadModel makes something else .* differ by 6 "):
        check_head(model)

    def needy(input_ids=None, **kwargs):
        output = model.transformer(input_ids=input_ids)
        return [plain(input_ids=input_ids, **kwargs).logits + output.hidden_states[-1][..., :1]]

    model.config.output_hidden_states = True
    model.forward = needy
    with pytest.raises(ValueError, match="TypeError: 'NoneType' object is not subscriptable"):
        check_head(model)


def test_a_model_is_tried_once_and_not_kept(tiny, monkeypatch):
    model = tiny("gpt2", head=True)
    check_head(model)
    monkeypatch.setattr(_readout, "final_hidden", None)
    check_head(model)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
