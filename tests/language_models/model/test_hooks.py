import threading

import pytest
import torch

from sksae.language_models.model import HookPoint, capture, find_hook_point, visiting
from tests.cases import each_case

IDS = torch.tensor([[5, 9, 30, 7], [8, 8, 2, 11]])
INPUTS = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}


def count_runs(modules):
    runs = []
    handles = [
        module.register_forward_hook(lambda *_, i=i: runs.append(i)) for i, module in modules
    ]
    return runs, handles


def hooks_of(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_later_blocks_do_not_run(gpt2):
    runs, handles = count_runs(enumerate(gpt2.h))
    try:
        capture(gpt2, {"x": HookPoint("h.1")}, INPUTS)
        assert runs == [0, 1]
        runs.clear()
        capture(gpt2, {"x": HookPoint("h.1", "input")}, INPUTS)
        assert runs == [0]
    finally:
        for handle in handles:
            handle.remove()


def test_several_places_in_one_pass(gpt2):
    points = {
        "late": HookPoint("h.2"),
        "early": HookPoint("h.0", "input"),
        "mlp": HookPoint("h.1.mlp"),
    }
    found = capture(gpt2, points, INPUTS)
    assert sorted(found) == ["early", "late", "mlp"]
    for name, point in points.items():
        torch.testing.assert_close(capture(gpt2, {"x": point}, INPUTS)["x"], found[name])


def test_keyword_inputs_are_seen(tiny):
    # Llama calls its attention with keywords only.
    llama = tiny("llama")
    seen = capture(llama, {"x": HookPoint("layers.0.self_attn", "input")}, INPUTS)["x"]
    normed = llama.layers[0].input_layernorm(llama.embed_tokens(IDS))
    torch.testing.assert_close(seen, normed.detach())


def test_tuples_give_their_first_tensor(gpt2):
    assert isinstance(gpt2.h[0].attn, torch.nn.Module)
    found = capture(gpt2, {"attn": HookPoint("h.0.attn"), "block": HookPoint("h.0")}, INPUTS)
    assert found["attn"].shape == found["block"].shape == (2, 4, 16)


def test_captures_are_copies():
    class Inplace(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = torch.nn.Identity(), torch.nn.Identity()

        def forward(self, x):
            return self.second(self.first(x * 1).add_(1))

    found = capture(
        Inplace(), {"a": HookPoint("first"), "b": HookPoint("second")}, {"x": torch.zeros(2)}
    )
    assert found["a"].tolist() == [0, 0]
    assert found["b"].tolist() == [1, 1]


def test_hooks_are_removed_when_the_model_fails(gpt2):
    before = hooks_of(gpt2)
    with pytest.raises(IndexError):
        capture(gpt2, {"x": HookPoint("h.2")}, {"input_ids": torch.tensor([[100_000]])})
    assert hooks_of(gpt2) == before


def test_a_module_that_never_runs_is_named(gpt2):
    before = hooks_of(gpt2)
    with pytest.raises(RuntimeError, match=r"GPT2Model never ran the output of the module 'h'"):
        capture(gpt2, {"x": HookPoint("h")}, INPUTS)
    assert hooks_of(gpt2) == before


def test_evaluation_mode_without_gradients_and_flags_put_back(tiny):
    model = tiny("gpt2")
    expected = capture(model, {"x": HookPoint("h.2")}, INPUTS)["x"]
    model.train()
    model.h[1].eval()
    flags = [module.training for module in model.modules()]
    found = capture(model, {"x": HookPoint("h.2")}, INPUTS)["x"]
    assert torch.equal(found, expected)  # dropout was off
    assert not found.requires_grad
    assert [module.training for module in model.modules()] == flags


def test_threads_do_not_see_each_others_passes(gpt2):
    alone = [
        capture(gpt2, {"x": HookPoint("h.2")}, {"input_ids": IDS[i : i + 1]})["x"] for i in (0, 1)
    ]
    wrong = []

    def work(i):
        for _ in range(20):
            found = capture(gpt2, {"x": HookPoint("h.2")}, {"input_ids": IDS[i : i + 1]})["x"]
            if not torch.equal(found, alone[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# Changing what passes


@torch.no_grad()
def logits(model):
    return model(**INPUTS).logits


def test_visits_that_change_nothing_change_nothing(tiny):
    for kind in ("gpt2", "granite", "bloom", "falcon_serial", "opt", "olmo2"):
        model = tiny(kind, head=True)
        before = logits(model)
        for site in ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"):
            point = find_hook_point(model, 1, site)
            with visiting(model.base_model, [(point, lambda _: None)]):
                assert torch.equal(logits(model), before)
            with visiting(model.base_model, [(point, lambda x: x.clone())]):
                assert torch.equal(logits(model), before)


def test_what_is_added_to_a_part_is_added_to_the_stream(tiny):
    for kind in ("gpt2", "granite", "bloom", "falcon", "falcon_serial", "opt", "gemma2", "olmo2"):
        model = tiny(kind)
        post = find_hook_point(model, 1, "resid_post")
        before = capture(model, {"x": post}, INPUTS)["x"]
        with visiting(model, [(find_hook_point(model, 1, "mlp_out"), lambda x: x + 0.5)]):
            after = capture(model, {"x": post}, INPUTS)["x"]
        torch.testing.assert_close(after - before, torch.full_like(before, 0.5), atol=1e-4, rtol=0)


def test_the_middle_of_the_stream_can_be_changed(tiny):
    for kind in ("gpt2", "granite", "bloom", "falcon_serial", "opt", "gemma2", "olmo2"):
        model = tiny(kind)
        parts = {
            name: find_hook_point(model, 1, name) for name in ("resid_mid", "mlp_out", "resid_post")
        }
        with visiting(model, [(parts["resid_mid"], lambda x: torch.ones_like(x))]):
            found = capture(model, parts, INPUTS)
        torch.testing.assert_close(
            found["resid_mid"], torch.ones_like(found["resid_mid"]), atol=1e-5, rtol=0
        )
        # The stream is one everywhere before the MLP adds to it.
        torch.testing.assert_close(found["resid_post"], 1 + found["mlp_out"], atol=1e-4, rtol=1e-4)


def test_visits_run_in_their_order_and_come_off(gpt2):
    before = hooks_of(gpt2)
    point = HookPoint("h.1")
    visits = [(point, lambda x: x * 0), (point, lambda x: x + 3)]
    with visiting(gpt2, visits):
        assert capture(gpt2, {"x": point}, INPUTS)["x"].unique().tolist() == [3]
    assert hooks_of(gpt2) == before
    with pytest.raises(KeyError), visiting(gpt2, visits):
        raise KeyError
    with (
        pytest.raises(AttributeError, match="nothing"),
        visiting(gpt2, [*visits, (HookPoint("nothing"), None)]),
    ):
        pass
    assert hooks_of(gpt2) == before


# Code that looks at no hooks


class Steps(torch.nn.Module):
    """Adds one, twice."""

    def __init__(self):
        super().__init__()
        self.steps = torch.nn.ModuleList([One(), One()])

    def forward(self, x):
        for step in self.steps:
            x = step(x)
        return x


class One(torch.nn.Module):
    def forward(self, x):
        return x + 1


def compiled(how):
    """`Steps`, compiled in one of the usual ways, and what a user calls."""
    model = Steps()
    options = {"backend": "eager"}
    call = model
    if how == "model.compile":
        model.compile(**options)
    elif how == "torch.compile":
        call = torch.compile(model, **options)
    elif how == "forward":
        model.forward = torch.compile(model.forward, **options)
    elif how == "modules":
        model.steps[0].compile(**options)
        model.steps[1] = torch.compile(model.steps[1], **options)
    else:
        call = torch.compile(lambda x: model(x), **options)
    return model, call


COMPILED = ("model.compile", "torch.compile", "forward", "modules", "function")


@each_case("how", COMPILED)
def test_compiled_code_is_visited(how):
    model, call = compiled(how)
    x = torch.zeros(2)
    assert call(x).tolist() == [2, 2]
    for path in ("steps.0", "steps.1"):
        with visiting(model, [(HookPoint(path), lambda x: x + 9)]):
            assert call(x).tolist() == [11, 11]
        assert call(x).tolist() == [2, 2]


@each_case("how", COMPILED)
def test_what_is_compiled_while_visited_is_not_visited_later(how):
    model, call = compiled(how)
    x = torch.zeros(2)
    with visiting(model, [(HookPoint("steps.0"), lambda x: x * 5)]):
        assert call(x).tolist() == [6, 6]
    assert call(x).tolist() == [2, 2]


def test_passes_of_other_threads_are_not_visited():
    model, x = Steps(), torch.zeros(2)
    before = threading.Barrier(2)

    def plain():
        before.wait(20)
        found.append(model(x).tolist())

    found = []
    thread = threading.Thread(target=plain)
    thread.start()
    with visiting(model, [(HookPoint("steps.0"), lambda x: x * 5)]):
        before.wait(20)
        thread.join()
        assert model(x).tolist() == [6, 6]
    assert found == [[2, 2]]


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")  # from torch 2.14 on
def test_scripted_code_is_refused():
    model = Steps()
    model.steps[0] = torch.jit.trace(model.steps[0], torch.zeros(2))
    with visiting(model, [(HookPoint("steps.0"), lambda x: x * 5)]):
        assert model(torch.zeros(2)).tolist() == [6, 6]
    traced = torch.jit.trace(Steps(), torch.zeros(2))
    with (
        pytest.raises(ValueError, match=r"scripted or traced by torch.jit.*'steps.0'"),
        visiting(traced, [(HookPoint("steps.0"), lambda x: x * 5)]),
    ):
        pass
