"""The rows of a text are those that it has alone, whatever the model does with padding."""

import numpy as np
import pytest
import torch
import transformers

from sksae import TopKSAE
from sksae.language_models import ActivationExtractor, downstream_metrics
from sksae.language_models.extraction import ActivationReader, batching_of
from tests.cases import each_case
from tests.language_models.families import SMALL

# Two pairs of one length, and one text that is much longer than the others.
IDS = [list(range(3, 3 + n)) for n in (4, 11, 7, 11, 2, 7, 24)]


def batching(extractor):
    """Which windows the extractor reads together."""
    return ActivationReader(extractor).batching()


def assert_independent(extractor):
    """Rows of all texts are those of each alone and, at this size, those of any batch size."""
    alone = np.concatenate([extractor.transform([ids]) for ids in IDS])
    scale = np.abs(alone).mean()
    for batch_tokens in (1, 30, 4096):
        together = extractor.set_params(batch_tokens=batch_tokens).transform(IDS)
        np.testing.assert_allclose(together, alone, atol=1e-5 * scale)


def model_of(kind, **settings):
    """A random model whose class transformers knows as `kind`."""
    if kind != "xlnet":  # which has no limit of positions
        settings = {**SMALL, **settings}
    config = transformers.AutoConfig.for_model(kind, **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModel.from_config(config).eval()
        for parameter in model.parameters():
            parameter.data.add_(0.2 * torch.randn_like(parameter))
    return model


class DroppedMask(torch.nn.Module):
    """A bidirectional block that looks at its neighbours, padding or not."""

    def forward(self, x, *args, **kwargs):
        return x + 0.1 * x.mean(1, keepdim=True)


class MixedBatch(torch.nn.Module):
    """A block that takes the sequences for the positions."""

    def forward(self, x, *args, **kwargs):
        return x + 0.5 * x.cumsum(0)


@each_case("kind", ["gpt2", "llama", "bert", "roberta", "modernbert", "bloom"])
def test_masks_keep_padding_away(kind, tiny, bpe):
    extractor = ActivationExtractor(tiny(kind), 1, tokenizer=bpe, drop_first_position=False)
    assert batching(extractor) == "padded"
    assert_independent(extractor)


@each_case(
    "kind, settings, layer",
    [
        ("fnet", {}, 1),  # a Fourier transform over all positions
        ("convbert", {"embedding_size": 16, "head_ratio": 1}, 1),  # a convolution over padding
        ("mamba", {"state_size": 4}, 1),
        ("rwkv", {"attention_hidden_size": 16}, 1),
    ],
)
def test_other_ways_to_mix_positions(kind, settings, layer, bpe):
    extractor = ActivationExtractor(
        model_of(kind, **settings), layer, tokenizer=bpe, drop_first_position=False
    )
    leaks = kind in ("fnet", "convbert")
    assert batching(extractor) == ("equal lengths" if leaks else "padded")
    assert_independent(extractor)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_blocks_that_see_padding_or_other_sequences(dtype, tiny, bpe):
    for block, expected in ((DroppedMask(), "equal lengths"), (MixedBatch(), "alone")):
        model = tiny("gpt2")
        model.h[1] = block
        model.to(dtype)
        extractor = ActivationExtractor(model, site="h.1", tokenizer=bpe, drop_first_position=False)
        assert batching(extractor) == expected
        if dtype == torch.float32:
            assert_independent(extractor)
        # Before that block nothing reaches a neighbour.
        assert batching(extractor.set_params(site="h.0")) == "padded"


def test_frequencies_chosen_by_the_longest_sequence(tiny, bpe):
    # More than 16 tokens get other frequencies, all of a batch. The trial is too short to tell.
    rope = {"rope_type": "longrope", "rope_theta": 10000.0}
    rope |= {"short_factor": [1.0] * 4, "long_factor": [9.0] * 4}
    model = tiny("phi3", rope_parameters=rope, original_max_position_embeddings=16)
    extractor = ActivationExtractor(model, 1, tokenizer=bpe, drop_first_position=False)
    assert batching(extractor) == "equal lengths"
    assert_independent(extractor)


def test_a_forward_pass_without_a_mask(tiny, bpe):
    class Bare(type(tiny("gpt2"))):
        def forward(self, input_ids=None, use_cache=None):
            return super().forward(input_ids=input_ids, use_cache=use_cache)

    model, bare = tiny("gpt2"), tiny("gpt2")
    bare.__class__ = Bare
    rows = [ActivationExtractor(m, 1, tokenizer=bpe).transform(IDS) for m in (model, bare)]
    np.testing.assert_allclose(*rows, atol=1e-5)


def test_predictions_that_padding_reaches(tiny, bpe):
    # Padding reaches the last block only, behind the rows.
    model = tiny("gpt2", head=True)
    model.transformer.h[2] = DroppedMask()
    extractor = ActivationExtractor(model, site="transformer.h.0", tokenizer=bpe)
    assert batching(extractor) == "padded"
    rows = extractor.transform(IDS)
    sae = TopKSAE(16, k=4, max_iter=2, random_state=0).fit(rows)
    mean = rows.mean(0)
    together = downstream_metrics(extractor, sae, IDS, mean=mean)
    one_by_one = [downstream_metrics(extractor, sae, [ids], mean=mean) for ids in IDS]
    n_tokens = [one["n_tokens"] for one in one_by_one]
    for name in ("ce_clean", "ce_patched", "ce_zero", "kl"):
        expected = np.average([one[name] for one in one_by_one], weights=n_tokens)
        assert together[name] == pytest.approx(expected, rel=1e-4)


def test_streams_that_are_transposed_are_refused(bpe):
    model = model_of("xlnet", vocab_size=384, d_model=16, n_layer=2, n_head=2, d_inner=24)
    extractor = ActivationExtractor(model, 1, tokenizer=bpe)
    for X in (IDS, IDS[:1], [[3]]):
        with pytest.raises(ValueError, match=r"shape \(11, 1, 16\) for 1 sequences of 11 tokens"):
            extractor.transform(X)


def test_attention_that_depends_on_what_was_read_before_is_refused(bpe):
    sizes = {"block_size": 4, "num_random_blocks": 1}
    extractor = ActivationExtractor(
        model_of("big_bird", **sizes), 1, tokenizer=bpe, drop_first_position=False
    )
    with pytest.raises(ValueError, match="attention_type='original_full'"):
        extractor.transform(IDS)
    model = model_of("big_bird", attention_type="original_full", **sizes)
    assert_independent(extractor.set_params(model=model))


def test_a_module_that_runs_several_times_is_refused(bpe):
    model = model_of("albert", embedding_size=8)
    path = "encoder.albert_layer_groups.0.albert_layers.0"
    for site in (path, f"{path}.attention.dense", f"{path}.input"):
        with pytest.raises(ValueError, match=r"runs 3 times in one forward pass of AlbertModel"):
            ActivationExtractor(model, site=site, tokenizer=bpe).transform(IDS)
    once = ActivationExtractor(model, site="encoder.embedding_hidden_mapping_in", tokenizer=bpe)
    assert once.transform(IDS).shape[1] == 16


def test_a_block_that_stands_in_two_places_is_refused(tiny, bpe):
    model = tiny("gpt2")
    model.h[2] = model.h[1]
    for site in ("h.1", "h.1.mlp"):
        with pytest.raises(ValueError, match="runs 2 times"):
            ActivationExtractor(model, site=site, tokenizer=bpe).transform(IDS)
    assert len(ActivationExtractor(model, site="h.0", tokenizer=bpe).transform(IDS))


def test_encoders_with_a_decoder_behind_them(bpe):
    # The decoder has no input here: what comes behind the site need not run.
    model = model_of("t5", d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2)
    extractor = ActivationExtractor(
        model, site="encoder.block.1", tokenizer=bpe, drop_first_position=False
    )
    assert batching(extractor) == "padded"
    assert_independent(extractor)


def test_decoders_that_read_shifted_tokens_are_refused(bpe):
    sizes = {"encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "d_model": 16}
    sizes |= {f"{part}_layers": 2 for part in ("encoder", "decoder")}
    sizes |= {f"{part}_attention_heads": 2 for part in ("encoder", "decoder")}
    model = model_of("bart", **sizes)
    encoder, decoder = (
        ActivationExtractor(
            model, site=f"{part}.layers.1", tokenizer=bpe, drop_first_position=False
        )
        for part in ("encoder", "decoder")
    )
    assert_independent(encoder)
    with pytest.raises(ValueError, match="in a decoder that reads other tokens than those given"):
        decoder.transform(IDS)


def test_images_are_tried_as_well(tiny):
    class Mixed(torch.nn.Module):
        def forward(self, x, *args, **kwargs):
            return x + 0.5 * x.cumsum(0)

    images = [np.random.default_rng(i).normal(size=(3, 12, 12)).astype("f4") for i in range(3)]
    for mixes in (False, True):
        model = tiny("vit")
        if mixes:
            model.layers[1] = Mixed()
        path = next(name for name, one in model.named_modules() if one is model.layers[1])
        extractor = ActivationExtractor(model, site=path)
        alone = np.concatenate([extractor.transform([image]) for image in images])
        np.testing.assert_allclose(extractor.transform(images), alone, atol=1e-4)
        assert batching(extractor) == ("alone" if mixes else "padded")


def test_each_place_is_tried_once(tiny, bpe):
    model = tiny("gpt2")
    extractor = ActivationExtractor(model, 1, tokenizer=bpe)
    extractor.transform(IDS)
    (point,) = ActivationReader(extractor).points.values()

    def never(*_):
        raise AssertionError("tried again")

    assert batching_of(model, point, None, never, key=False) == "padded"
