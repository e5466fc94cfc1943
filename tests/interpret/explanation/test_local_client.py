import copy

import pytest
import torch

from sksae.datasets import load_tiny_lm
from sksae.interpret import CachedClient, LocalClient
from sksae.interpret.explanation._explanation_prompts import read_description
from tests.cases import each_case

QUESTION = [
    {"role": "system", "content": "Complete."},
    {"role": "user", "content": "Return the mean of the"},
]


@pytest.fixture(scope="module")
def tiny():
    return load_tiny_lm()


def test_an_answer_is_what_the_model_writes_next(tiny):
    model, tokenizer = tiny
    inputs = tokenizer("Complete.\n\nReturn the mean of the\n\nAnswer:", return_tensors="pt")
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    found = model.generate(**inputs, **options)
    expected = tokenizer.decode(found[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    client = LocalClient(model, tokenizer, max_new_tokens=6)
    assert client.complete(QUESTION) == expected.strip()
    assert client.complete(QUESTION) == expected.strip()


def test_a_chat_template_is_used_where_there_is_one(tiny, monkeypatch):
    model, tokenizer = tiny
    each = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    template = f"{each}{{% if add_generation_prompt %}}>>>{{% endif %}}"
    monkeypatch.setattr(tokenizer, "chat_template", template)
    read = []
    hook = model.get_input_embeddings().register_forward_pre_hook(
        lambda _, args: read.append(args[0])
    )
    try:
        LocalClient(model, tokenizer, max_new_tokens=1).complete(QUESTION)
    finally:
        hook.remove()
    assert "Complete.\nReturn the mean of the\n>>>" in tokenizer.decode(read[0][0])


TURNS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
WITHOUT_SYSTEM = {
    "raises": "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    + TURNS,
    "alternates": "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}" + TURNS,
    "drops": "{% for m in messages if m.role == 'user' %}<user>{{ m.content }}\n{% endfor %}",
}


@each_case("template", WITHOUT_SYSTEM.values())
def test_a_template_without_a_system_role_gets_its_text_from_the_user(tiny, monkeypatch, template):
    model, tokenizer = tiny
    monkeypatch.setattr(tokenizer, "chat_template", template)
    client = LocalClient(model, tokenizer, max_new_tokens=4)
    merged = [{"role": "user", "content": "Complete.\n\nReturn the mean of the"}]
    expected = "<user>Complete.\n\nReturn the mean of the\n"
    assert client._prompt(QUESTION) == client._prompt(merged) == expected
    assert client.complete(QUESTION) == client.complete(merged) != ""


def test_a_template_that_fails_for_another_reason_says_so(tiny, monkeypatch):
    monkeypatch.setattr(tiny[1], "chat_template", "{{ raise_exception('no luck') }}")
    for messages in (QUESTION, QUESTION[1:]):
        with pytest.raises(Exception, match="no luck"):
            LocalClient(*tiny).complete(messages)


def test_a_thought_that_the_template_begins_is_part_of_the_answer(tiny, monkeypatch):
    model, tokenizer = tiny
    monkeypatch.setattr(tokenizer, "chat_template", TURNS + "<think>\n")
    answer = LocalClient(model, tokenizer, max_new_tokens=4).complete(QUESTION)
    with pytest.raises(ValueError, match="breaks off within a thought"):
        read_description(answer)


def test_marks_of_thoughts_are_kept_though_they_are_special_tokens(tiny, monkeypatch):
    model, tokenizer = tiny
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[THINK]", "[/THINK]", "<|x|>"]})
    text = "<|x|>[THINK]boats[/THINK]EXPLANATION: rivers"
    written = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    monkeypatch.setattr(
        model, "generate", lambda input_ids, **_: torch.cat([input_ids, written], dim=1)
    )
    answer = LocalClient(model, tokenizer).complete(QUESTION)
    assert answer.replace(" ", "") == "[THINK]boats[/THINK]EXPLANATION:rivers"
    assert read_description(answer) == "rivers"


def test_a_model_in_training_mode_answers_as_in_evaluation_mode(tiny):
    model, tokenizer = tiny
    expected = LocalClient(model, tokenizer, max_new_tokens=12).complete(QUESTION)
    model = copy.deepcopy(model)
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.3
    model.train()
    model.lm_head.eval()
    client = LocalClient(model, tokenizer, max_new_tokens=12)
    assert {client.complete(QUESTION) for _ in range(3)} == {expected}
    assert model.training
    assert model.model.layers[0].self_attn.training
    assert not model.lm_head.training


def test_a_question_that_is_too_long_is_refused(tiny):
    with pytest.raises(ValueError, match=r"has \d+ tokens and tiny_lm reads 256: use fewer"):
        LocalClient(*tiny).complete([{"role": "user", "content": "mean " * 400}])


def test_the_answer_ends_where_the_context_does(tiny):
    model, tokenizer = tiny
    text = "mean " * 120
    question = [{"role": "user", "content": text}]
    n = len(tokenizer(f"{text}\n\nAnswer:")["input_ids"])
    assert 100 < n < 256
    answer = LocalClient(model, tokenizer, max_new_tokens=10_000).complete(question)
    assert len(tokenizer(answer)["input_ids"]) <= 256 - n + 2


def test_nothing_of_the_model_changes_and_it_can_be_cached(tiny, tmp_path):
    model, tokenizer = tiny
    state = torch.random.get_rng_state()
    client = CachedClient(LocalClient(model, tokenizer, max_new_tokens=2), tmp_path / "a")
    client.complete(QUESTION)
    client.complete(QUESTION)
    assert (client.n_asked, client.n_found, client.name) == (1, 1, "tiny_lm")
    assert torch.equal(state, torch.random.get_rng_state())
    assert not model.training


def test_wrong_input_is_refused(tiny):
    model, tokenizer = tiny
    with pytest.raises(TypeError, match=r"model must be the loaded model.*Got str"):
        LocalClient("gpt2", tokenizer)
    with pytest.raises(TypeError, match="tokenizer must be the loaded tokenizer"):
        LocalClient(model, None)
    with pytest.raises(ValueError, match="max_new_tokens"):
        LocalClient(model, tokenizer, max_new_tokens=0)


def test_a_client_says_what_it_asks(tiny, tmp_path):
    client = LocalClient(*tiny, max_new_tokens=6)
    assert repr(client) == "LocalClient('tiny_lm', max_new_tokens=6)"
    path = tmp_path / "answers.jsonl"
    assert repr(CachedClient(client, path)) == f"CachedClient({client!r}, {str(path)!r})"
