"""A language model that has learnt nothing, and everything that stays as it was."""

import numpy as np
import pytest
import torch

from sksae.datasets import TINY_LM_PATH
from sksae.language_models import ActivationExtractor, randomized_model


@pytest.mark.usefixtures("unchanged_world")
def test_weights_have_their_size_and_nothing_else(tiny):
    trained = tiny("gpt2", head=True).train()
    before = {name: weight.clone() for name, weight in trained.named_parameters()}
    model, tokenizer = randomized_model(trained, "a tokenizer", random_state=0)
    again, _ = randomized_model(trained, random_state=0)
    other, _ = randomized_model(trained, random_state=1)
    assert tokenizer == "a tokenizer"
    assert model.config == trained.config
    assert not model.training
    assert trained.training
    drawn, repeated = dict(model.named_parameters()), dict(again.named_parameters())
    others = dict(other.named_parameters())
    assert list(drawn) == list(before)
    n_drawn = 0
    for name, weight in trained.named_parameters():
        assert torch.equal(weight, before[name])
        assert torch.equal(drawn[name], repeated[name])
        if weight.std() == 0:
            assert torch.allclose(drawn[name], weight)
            continue
        n_drawn += 1
        assert not torch.equal(drawn[name], others[name])
        error = 5 / weight.numel() ** 0.5  # five standard errors
        assert drawn[name].std().item() == pytest.approx(weight.std().item(), rel=error), name
        pair = torch.stack([drawn[name].detach().flatten(), weight.detach().flatten()])
        assert abs(torch.corrcoef(pair)[0, 1].item()) < error
    assert n_drawn > 5
    assert model.lm_head.weight is model.transformer.wte.weight


def test_embeddings_can_be_kept(tiny):
    trained = tiny("gpt2")
    model, tokenizer = randomized_model(trained, keep_embeddings=True, random_state=0)
    assert tokenizer is None
    assert torch.equal(model.wte.weight, trained.wte.weight)
    assert not torch.equal(model.wpe.weight, trained.wpe.weight)


def test_the_packaged_model_loses_what_it_learnt():
    model, tokenizer = randomized_model(TINY_LM_PATH, random_state=0)
    text = "Compute the mean of the values along the given axis."
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert model(ids, labels=ids).loss > np.log(4096) - 0.5  # a guess among 4096 tokens
    rows = ActivationExtractor(model, 2, tokenizer=tokenizer).transform([text])
    assert rows.shape[1] == 192
    assert np.isfinite(rows).all()


def test_what_cannot_be_drawn():
    with pytest.raises((TypeError, ValueError), match="model"):
        randomized_model(3)
    quantised = torch.nn.Linear(2, 2)
    quantised.weight = torch.nn.Parameter(torch.ones(2, 2, dtype=torch.int8), requires_grad=False)
    with pytest.raises(ValueError, match="quantisation"):
        randomized_model(quantised)
