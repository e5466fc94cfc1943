"""Blocks in threads, tasks, models that were compiled, and again: each has what it has alone."""

import asyncio
import contextvars
import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import transformers

from sksae import TopKSAE
from sksae.language_models import (
    ActivationExtractor,
    attribute,
    describe_behaviour,
    downstream_metrics,
    feature_circuit,
    logit_lens,
    patch,
    steer,
)
from tests.language_models.families import build

IDS = torch.tensor([[5, 9, 30, 7, 21]])
INPUTS = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
TEXTS = ["The cat sat on the mat.", "hello world, hello again"]
SITE = "1.resid_post"
STRENGTHS = (0.0, 10.0, 20.0, 30.0)


@pytest.fixture(scope="module")
def lm():
    return build("llama", head=True)


@pytest.fixture(scope="module")
def topk():
    X = np.random.default_rng(0).normal(size=(400, 16)).astype(np.float32)
    return TopKSAE(24, k=8, max_iter=3, random_state=0).fit(X)


@torch.no_grad()
def logits(model):
    return model(**INPUTS).logits


@pytest.fixture(scope="module")
def alone(lm, topk):
    """The logits of each strength, with nothing else going on."""
    found = {}
    for strength in STRENGTHS:
        with steer(lm, SITE, topk, {3: strength}):
            found[strength] = logits(lm)
    assert torch.equal(found[0.0], logits(lm))
    assert not torch.equal(found[10.0], found[20.0])
    return found


# Threads and tasks


def test_threads_have_blocks_of_their_own(lm, topk, alone):
    together = threading.Barrier(len(STRENGTHS))

    def steered(strength):
        with steer(lm, SITE, topk, {3: strength}):
            together.wait(20)
            found = logits(lm)
            together.wait(20)
        return found

    with ThreadPoolExecutor(len(STRENGTHS)) as pool:
        found = dict(zip(STRENGTHS, pool.map(steered, STRENGTHS), strict=True))
    for strength in STRENGTHS:
        assert torch.equal(found[strength], alone[strength])


def test_other_threads_are_left_alone(lm, topk, alone, bpe):
    extractor = ActivationExtractor(lm, 1, tokenizer=bpe)
    rows = extractor.transform(TEXTS)
    prompt = {"counterfactual": TEXTS[0].replace("cat", "dog"), "tokenizer": bpe, "verify": 2}
    effects = attribute(lm, SITE, topk, TEXTS[0], **prompt).effect
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        for context in (steer(lm, SITE, topk, {3: 30.0}), patch(lm, SITE, topk)):
            with context:
                assert not torch.equal(logits(lm), alone[0.0])
                assert torch.equal(pool.submit(logits, lm).result(), alone[0.0])
                np.testing.assert_array_equal(
                    pool.submit(extractor.transform, TEXTS).result(), rows
                )
                found = pool.submit(attribute, lm, SITE, topk, TEXTS[0], **prompt).result()
                np.testing.assert_array_equal(found.effect, effects)
                # With the context, they are part of the block.
                run = contextvars.copy_context().run
                assert not torch.equal(pool.submit(run, logits, lm).result(), alone[0.0])


def test_readers_refuse_a_thread_that_was_started_inside_of_a_block(lm, topk, alone, bpe):
    extractor = ActivationExtractor(lm, 1, tokenizer=bpe)
    rows = extractor.transform(TEXTS)

    def nested():
        with steer(lm, SITE, topk, {3: 10.0}):
            return logits(lm)

    with steer(lm, SITE, topk, {3: 10.0}), ThreadPoolExecutor(1) as pool:
        assert torch.equal(pool.submit(logits, lm).result(), alone[10.0])
        torch.testing.assert_close(pool.submit(nested).result(), alone[20.0], atol=1e-4, rtol=1e-4)
    with steer(lm, SITE, topk, {3: 10.0}), ThreadPoolExecutor(1) as pool:
        steered = extractor.transform(TEXTS)
        assert not np.array_equal(steered, rows)
        with pytest.raises(RuntimeError, match="started inside of a block"):
            pool.submit(extractor.transform, TEXTS).result()
        run = contextvars.copy_context().run
        np.testing.assert_array_equal(
            pool.submit(run, extractor.transform, TEXTS).result(), steered
        )


def test_a_thread_that_only_holds_a_block_changes_no_other(lm, topk, alone, bpe):
    opened, done = threading.Event(), threading.Event()

    def hold():
        with steer(lm, SITE, topk, {3: 30.0}):
            opened.set()
            done.wait(20)

    rows = ActivationExtractor(lm, 1, tokenizer=bpe).transform(TEXTS)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(hold)
        opened.wait(20)
        assert torch.equal(logits(lm), alone[0.0])
        found = ActivationExtractor(lm, 1, tokenizer=bpe).transform(TEXTS)
        np.testing.assert_array_equal(found, rows)
        done.set()
        assert held.result() is None


def test_generation_streamed_from_a_thread_is_steered(lm, topk, bpe):
    settings = {**INPUTS, "max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    plain = bpe.decode(lm.generate(**settings)[0, 5:])
    for where in ("all", "generated"):
        streamer = transformers.TextIteratorStreamer(bpe, skip_prompt=True, timeout=60)
        with steer(lm, SITE, topk, {3: 30.0}, where=where):
            here = bpe.decode(lm.generate(**settings)[0, 5:])
            thread = threading.Thread(target=lm.generate, kwargs={**settings, "streamer": streamer})
            thread.start()
            streamed = "".join(streamer)
            thread.join()
        assert streamed == here != plain


def test_tasks_have_blocks_of_their_own(lm, topk, alone):
    async def steered(strength):
        with steer(lm, SITE, topk, {3: strength}):
            await asyncio.sleep(0.01)
            found = logits(lm)
            # Not the one that was entered last leaves first.
            await asyncio.sleep(0.001 * strength)
        return found, torch.equal(logits(lm), alone[0.0])

    async def main():
        return await asyncio.gather(*map(steered, STRENGTHS))

    for strength, (found, after) in zip(STRENGTHS, asyncio.run(main()), strict=True):
        assert torch.equal(found, alone[strength])
        assert after


def test_plain_passes_during_downstream_metrics_are_plain(lm, topk, alone, bpe):
    extractor = ActivationExtractor(lm, 1, tokenizer=bpe)
    expected = downstream_metrics(extractor, topk, TEXTS)
    done = threading.Event()

    def measure():
        try:
            return [downstream_metrics(extractor, topk, TEXTS) for _ in range(3)]
        finally:
            done.set()

    with ThreadPoolExecutor(1) as pool:
        measured = pool.submit(measure)
        while not done.is_set():
            assert torch.equal(logits(lm), alone[0.0])
        assert measured.result() == [expected] * 3


# Again


def test_a_context_can_be_entered_again(lm, topk, alone):
    context = steer(lm, SITE, topk, {3: 10.0})
    with context:
        assert torch.equal(logits(lm), alone[10.0])
    assert torch.equal(logits(lm), alone[0.0])
    with context:
        with context:
            # Two steps are one of twice the length.
            torch.testing.assert_close(logits(lm), alone[20.0], atol=1e-4, rtol=1e-4)
        assert torch.equal(logits(lm), alone[10.0])
    assert torch.equal(logits(lm), alone[0.0])

    @context
    def decorated():
        return logits(lm)

    for _ in range(2):
        assert torch.equal(decorated(), alone[10.0])


def test_a_context_entered_by_several_threads_is_open_in_each(lm, topk, alone):
    context, together = steer(lm, SITE, topk, {3: 10.0}), threading.Barrier(2)

    def enter(first):
        with context:
            together.wait(20)
            if first:
                together.wait(20)
                return logits(lm)
        left = logits(lm)
        together.wait(20)
        return left

    with ThreadPoolExecutor(2) as pool:
        stayed, left = pool.map(enter, (True, False))
    assert torch.equal(stayed, alone[10.0])
    assert torch.equal(left, alone[0.0])


def test_a_context_keeps_no_prompt_of_the_last_time(lm, topk):
    context = steer(lm, SITE, topk, {3: 30.0}, where="generated")
    longer = torch.cat([IDS, IDS], 1)
    with torch.no_grad():
        clean = lm(longer).logits
        with context:
            lm(IDS, use_cache=False)
            assert not torch.equal(lm(longer, use_cache=False).logits, clean)
        with context:
            assert torch.equal(lm(longer, use_cache=False).logits, clean)


def test_patching_can_be_entered_again(lm, topk, alone):
    context = patch(lm, SITE, topk)
    with context:
        once = logits(lm)
    with context:
        assert torch.equal(logits(lm), once)
    assert torch.equal(logits(lm), alone[0.0])
    assert not torch.equal(once, alone[0.0])


# Compiled models


def test_a_compiled_model_is_changed_and_read_as_the_plain_one_is(lm, topk, alone, bpe):
    torch._dynamo.reset()
    model = copy.deepcopy(lm)
    model.compile(backend="eager")
    torch.testing.assert_close(logits(model), alone[0.0])
    with steer(model, SITE, topk, {3: 30.0}):
        assert torch.equal(logits(model), alone[30.0])
    with patch(model, SITE, topk), patch(lm, SITE, topk):
        torch.testing.assert_close(logits(model), logits(lm))
    torch.testing.assert_close(logits(model), alone[0.0])

    both = (torch.compile(model, backend="eager"), lm)
    prompt = {"counterfactual": TEXTS[0].replace("cat", "dog"), "tokenizer": bpe, "verify": 2}
    tables = [attribute(one, SITE, topk, TEXTS[0], **prompt) for one in both]
    assert tables[0].completeness == pytest.approx(tables[1].completeness)
    np.testing.assert_allclose(tables[0].exact, tables[1].exact, atol=1e-5)

    extractors = [ActivationExtractor(one, 1, tokenizer=bpe) for one in both]
    np.testing.assert_allclose(*(one.transform(TEXTS) for one in extractors), atol=1e-5)
    kept = [downstream_metrics(one, topk, TEXTS) for one in extractors]
    assert kept[0] == pytest.approx(kept[1], nan_ok=True, abs=1e-5)
    promoted = [logit_lens(one, topk, tokenizer=bpe).promoted_logits for one in both]
    np.testing.assert_allclose(*promoted, atol=1e-4)


def test_the_stance_of_the_compiler_is_put_back(lm, topk):
    from torch._dynamo import eval_frame

    with torch.compiler.set_stance("eager_on_recompile"):
        first, second = (steer(lm, SITE, topk, {3: 1.0}) for _ in range(2))
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert eval_frame._stance.stance == "force_eager"
        second.__exit__(None, None, None)
        assert eval_frame._stance.stance == "eager_on_recompile"


# What would do nothing


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")  # from torch 2.14 on
def test_scripted_modules_are_refused(topk):
    model = build("gpt2")
    model.h[1].mlp = torch.jit.trace(model.h[1].mlp, torch.zeros(1, 2, 16))
    with pytest.raises(ValueError, match=r"'h.1.mlp' was scripted or traced by torch.jit"):
        steer(model, "h.1.mlp.c_proj", topk, {3: 1.0})
    clean = model(IDS)[0].detach()
    with steer(model, "h.1.mlp", topk, {3: 1.0}):
        assert not torch.equal(model(IDS)[0], clean)


def test_wrappers_are_refused(lm, topk):
    with pytest.raises(TypeError, match="DataParallel is a wrapper around a model"):
        steer(torch.nn.DataParallel(lm), SITE, topk, {3: 1.0})


def test_gradient_checkpointing_is_refused_where_it_acts(lm, topk):
    model = copy.deepcopy(lm)
    for layer in model.model.layers:
        layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = lambda forward, *args: forward(*args)
    inputs = {**INPUTS, "use_cache": False}
    with steer(model, SITE, topk, {3: 30.0}):
        evaluated = model(**inputs).logits.detach()
        model.train()
        with torch.no_grad():
            assert torch.equal(model(**inputs).logits, evaluated)
        with pytest.raises(RuntimeError, match="gradient checkpointing on"):
            model(**inputs)


def test_a_block_in_which_nothing_passes_the_site_is_refused(lm, topk, bpe):
    model, other = copy.deepcopy(lm), copy.deepcopy(lm)

    def swapped():
        with steer(model, SITE, topk, {3: 1.0}):
            model.model.layers[1] = other.model.layers[1]
            logits(model)
            logits(model)

    with pytest.raises(RuntimeError, match=r"ran 2 times in the block, and never .*'layers.1'"):
        swapped()
    # Passes that end before the site are no such case, and an error is shown as it is.
    with steer(lm, "2.resid_post", topk, {3: 1.0}):
        ActivationExtractor(lm, 0, tokenizer=bpe).transform(TEXTS)
    with pytest.raises(KeyError), steer(lm, SITE, topk, {3: 1.0}):
        raise KeyError


def test_parts_of_a_model_are_not_called_alone(lm, topk, alone):
    with steer(lm.model, SITE, topk, {3: 30.0}):
        with pytest.raises(RuntimeError, match="call the model itself"):
            lm.model.forward(**INPUTS)
        assert torch.equal(logits(lm), alone[30.0])


def test_modules_that_run_several_times_are_refused(bpe, topk):
    model = build("gpt2", head=True)
    blocks = model.transformer.h
    blocks[2] = blocks[1]  # whatever is done to one layer would be done to both
    tail = {"baseline": "mean", "background": TEXTS, "tokenizer": bpe}
    for site in ("h.1", "h.1.mlp"):
        for refused in (
            lambda site=site: steer(model, site, topk, {3: 1.0}),
            lambda site=site: patch(model, site, topk),
            lambda site=site: attribute(model, site, topk, TEXTS[0], **tail),
            lambda site=site: feature_circuit(model, [site], [topk], TEXTS[0], **tail),
            lambda site=site: describe_behaviour(model, site, topk, TEXTS[0], tokenizer=bpe),
        ):
            with pytest.raises(ValueError, match=r"runs 2 times in one forward pass of GPT2Model"):
                refused()
    with steer(model, "0.resid_post", topk, {3: 10.0}):
        steered = logits(model)
    assert not torch.equal(steered, logits(model))


def test_layers_that_share_their_modules_are_said_to(topk):
    config = transformers.AlbertConfig(
        vocab_size=384, embedding_size=8, hidden_size=16, num_hidden_layers=4,
        num_attention_heads=2, intermediate_size=24, max_position_embeddings=32,
    )  # fmt: skip
    model = transformers.AlbertModel(config)
    with pytest.raises(ValueError, match=r"4 layers of AlbertModel share their modules"):
        steer(model, SITE, topk, {3: 1.0})
    with pytest.raises(ValueError, match=r"runs 4 times in one forward pass"):
        steer(model, "encoder.albert_layer_groups.0.albert_layers.0", topk, {3: 1.0})
    with torch.no_grad():
        plain = model(**INPUTS).last_hidden_state
        with steer(model, "encoder.embedding_hidden_mapping_in", topk, {3: 10.0}):
            assert not torch.equal(model(**INPUTS).last_hidden_state, plain)
