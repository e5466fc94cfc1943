"""Models whose weights are on the disk: everything is as it was, and nothing reads a weight."""

import accelerate
import numpy as np
import pytest
import torch

from sksae import TopKSAE
from sksae.language_models import (
    ActivationExtractor,
    attribute,
    describe_behaviour,
    downstream_metrics,
    logit_lens,
    steer,
)
from sksae.language_models.model import checked_hook_point

TEXTS = ["The cat sat on the mat.", "hello world, hello again"]
SITE = "1.resid_post"


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def near(kind, tiny):
    return tiny(kind, head=True)


@pytest.fixture(scope="module")
def away(kind, tiny, tmp_path_factory):
    model = tiny(kind, head=True)
    accelerate.disk_offload(model, str(tmp_path_factory.mktemp(kind)), torch.device("cpu"))
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    return model


@pytest.fixture(scope="module")
def rows(near, bpe):
    return ActivationExtractor(near, 1, tokenizer=bpe).transform(TEXTS)


@pytest.fixture(scope="module")
def dictionary(rows):
    return TopKSAE(32, k=4, max_iter=5, random_state=0).fit(rows)


def test_rows_at_every_site(near, away, bpe):
    for site in ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"):
        assert checked_hook_point(away, 1, site) == checked_hook_point(near, 1, site)
        both = [ActivationExtractor(m, 1, site, tokenizer=bpe) for m in (near, away)]
        np.testing.assert_array_equal(*(one.transform(TEXTS) for one in both))


def test_downstream(near, away, bpe, dictionary):
    kept = [
        downstream_metrics(ActivationExtractor(m, 1, tokenizer=bpe), dictionary, TEXTS)
        for m in (near, away)
    ]
    assert kept[0] == pytest.approx(kept[1], nan_ok=True)


def test_steering(near, away, bpe, dictionary):
    logits = []
    for model in (near, away):
        with steer(model, SITE, dictionary, {3: 2.0}), torch.no_grad():
            logits.append(model(**bpe(TEXTS[:1], return_tensors="pt")).logits)
    assert torch.equal(*logits)


def test_attribution_and_behaviour(near, away, bpe, dictionary):
    tables = [
        attribute(m, SITE, dictionary, TEXTS[0], background=TEXTS, tokenizer=bpe, verify=2)
        for m in (near, away)
    ]
    np.testing.assert_array_equal(tables[0].effect, tables[1].effect)
    np.testing.assert_array_equal(tables[0].exact, tables[1].exact)
    tables = [
        describe_behaviour(m, SITE, dictionary, TEXTS[0], tokenizer=bpe) for m in (near, away)
    ]
    np.testing.assert_array_equal(tables[0].direct_logit, tables[1].direct_logit)
    lenses = [logit_lens(m, dictionary, tokenizer=bpe) for m in (near, away)]
    np.testing.assert_array_equal(lenses[0].promoted_logits, lenses[1].promoted_logits)
