"""Extractors in pickles read the model that they were pickled with, or say that they cannot."""

import pickle

import accelerate
import numpy as np
import pytest
import torch
import transformers

from sksae import TopKSAE
from sksae.language_models import ActivationExtractor, make_downstream_scorer, steer
from sksae.language_models._pickling import fingerprint_of

TEXTS = ["The cat sat on the mat.", "hello world"]


@pytest.fixture(scope="module")
def folders(tiny, bpe, tmp_path_factory):
    """Paths of saved models with a head, by family."""
    paths = {}
    for kind in ("bert", "gpt2", "llama"):
        paths[kind] = tmp_path_factory.mktemp(kind)
        tiny(kind, head=True).save_pretrained(paths[kind])
        bpe.save_pretrained(paths[kind])
    return paths


@pytest.fixture
def loaded(folders):
    """``loaded(kind)``: a model with its head, as a user loads it."""

    def load(kind):
        auto = "AutoModelForMaskedLM" if kind == "bert" else "AutoModelForCausalLM"
        return getattr(transformers, auto).from_pretrained(folders[kind])

    return load


def there(extractor):
    """The extractor as another process gets it."""
    return pickle.loads(pickle.dumps(extractor))


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama"])
def test_a_model_that_is_as_its_files_are_comes_back(kind, loaded, bpe):
    model = loaded(kind)
    # Neither a forward pass, hidden states, training mode nor these settings change the rows.
    model(torch.tensor([[1, 2, 3]]), output_hidden_states=True)
    model.train()
    model.config.use_cache = False
    model.config.pad_token_id = 3
    extractor = ActivationExtractor(model, 1, tokenizer=bpe)
    again = there(extractor)
    assert isinstance(again.model, str)
    np.testing.assert_array_equal(again.transform(TEXTS), extractor.transform(TEXTS))
    # Also from a pickle of the copy.
    np.testing.assert_array_equal(there(again).transform(TEXTS), extractor.transform(TEXTS))


def no_positions(model):
    model.transformer.wpe.weight.data.zero_()


def an_ablated_neuron(model):
    model.model.layers[0].mlp.down_proj.weight.data[:, 7] = 0


def one_number(model):
    model.model.layers[2].self_attn.q_proj.weight.data[3, 5] += 1e-3


def one_token(model):
    model.get_input_embeddings().weight.data[5] = 3.0


def final_norm(model):
    model.model.norm.weight.data.mul_(2)


def other_frequencies(model):
    model.model.rotary_emb.inv_freq[-1] *= 1.01


def other_base_of_positions(model):
    model.config.rope_parameters["rope_theta"] = 10.0
    model.model.rotary_emb.__init__(model.config)


def low_rank_update(model):
    model.model.layers[0].mlp.down_proj.weight.data += 0.5 * torch.ones(16, 1) @ torch.ones(1, 24)


def a_setting(model):
    model.config.num_hidden_layers = 2


def fewer_blocks(model):
    del model.model.layers[2]


def another_epsilon(model):
    model.model.layers[0].input_layernorm.variance_epsilon = 0.5


def another_activation(model):
    model.model.layers[0].mlp.act_fn = torch.nn.ReLU()


def token_types(model):
    model.bert.embeddings.token_type_embeddings.weight.data[0] = 1


@pytest.mark.parametrize(
    ("kind", "change", "what"),
    [
        ("gpt2", no_positions, r"the model \(wpe.weight\)"),
        ("llama", an_ablated_neuron, r"the model \(layers.0.mlp.down_proj.weight\)"),
        ("llama", one_number, r"the model \(layers.2.self_attn.q_proj.weight\)"),
        ("llama", one_token, r"the model \(embed_tokens.weight\)"),
        ("llama", final_norm, r"the model \(norm.weight\)"),
        ("llama", other_frequencies, r"the model \(rotary_emb.inv_freq\)"),
        ("llama", other_base_of_positions, r"the configuration \(rope_parameters.rope_theta\)"),
        ("llama", low_rank_update, r"the model \(layers.0.mlp.down_proj.weight\)"),
        ("llama", a_setting, r"the configuration \(num_hidden_layers\)"),
        ("llama", fewer_blocks, r"the model \(layers.2\(\), .* and \d+ more\)"),
        ("llama", another_epsilon, r"the model \(layers.0.input_layernorm\(\)\)"),
        ("llama", another_activation, r"the model \(layers.0.mlp.act_fn\(\)\)"),
        ("bert", token_types, r"the model \(embeddings.token_type_embeddings.weight\)"),
    ],
)
def test_every_change_of_a_model_is_found(kind, change, what, loaded, bpe):
    model = loaded(kind)
    change(model)
    again = there(ActivationExtractor(model, 0, tokenizer=bpe))
    with pytest.raises(ValueError, match=rf"{what} was changed after loading.*save_pretrained"):
        again.transform(TEXTS)


def test_rounding_of_a_derived_buffer_is_no_change(loaded):
    model, other = loaded("llama"), loaded("llama")
    other.model.rotary_emb.inv_freq *= 1 + 1e-7
    assert fingerprint_of(model).difference(fingerprint_of(other)) == ""


def test_frequencies_chosen_by_length_are_no_change(tiny, bpe, tmp_path):
    rope = {"rope_type": "longrope", "rope_theta": 10000.0}
    rope |= {"short_factor": [1.0] * 4, "long_factor": [9.0] * 4}
    longrope = {"rope_parameters": rope, "original_max_position_embeddings": 8}
    tiny("phi3", **longrope).save_pretrained(tmp_path)
    model = transformers.AutoModel.from_pretrained(tmp_path)
    extractor = ActivationExtractor(model, 1, tokenizer=bpe)
    before = model.rotary_emb.inv_freq.clone()
    rows = extractor.transform([list(range(3, 23))])
    assert not torch.equal(model.rotary_emb.inv_freq, before)
    np.testing.assert_array_equal(there(extractor).transform([list(range(3, 23))]), rows)


def test_a_changed_head_is_found_where_it_is_used(loaded, bpe):
    model = loaded("llama")
    model.lm_head.weight.data[3] += 1
    extractor = ActivationExtractor(model, 1, tokenizer=bpe)
    rows = extractor.transform(TEXTS)
    np.testing.assert_array_equal(there(extractor).transform(TEXTS), rows)
    sae = TopKSAE(16, k=4, max_iter=2, random_state=0).fit(rows)
    scorer = make_downstream_scorer(extractor, TEXTS)
    scorer(sae)
    with pytest.raises(ValueError, match=r"the head \(lm_head.weight\) was changed"):
        there(scorer)(sae)


def test_hooks_of_others_are_refused(loaded, bpe):
    model = loaded("llama")
    extractor = ActivationExtractor(model, 1, tokenizer=bpe)
    handle = model.model.layers[0].register_forward_hook(lambda module, args, output: output * 0)
    with pytest.raises(ValueError, match=r"'model.layers.0' of the LlamaForCausalLM has a hook"):
        pickle.dumps(extractor)
    handle.remove()
    rows = extractor.transform(TEXTS)
    sae = TopKSAE(16, k=4, max_iter=2, random_state=0).fit(rows)
    with steer(model, "0.resid_post", sae, {1: 2.0}), pytest.raises(ValueError, match="open `ste"):
        pickle.dumps(extractor)
    norm = model.model.norm
    norm.forward = lambda x: x
    with pytest.raises(ValueError, match=r"'model.norm' .* has a forward pass of its own"):
        pickle.dumps(extractor)
    del norm.forward
    np.testing.assert_array_equal(there(extractor).transform(TEXTS), rows)


def test_weights_on_the_disk_are_refused(loaded, bpe, tmp_path):
    model = loaded("gpt2")
    accelerate.disk_offload(model, str(tmp_path), torch.device("cpu"))
    extractor = ActivationExtractor(model, 1, tokenizer=bpe)
    assert len(extractor.transform(TEXTS))
    with pytest.raises(ValueError, match=r"not in memory.*name or path"):
        pickle.dumps(extractor)
