"""Patches of images, for models that read pixels."""

import numpy as np
import pytest
import torch
import transformers
from sklearn.base import clone

from sksae.language_models import ActivationExtractor
from sksae.language_models.extraction import ActivationReader, _activation_reader

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 12,
    "patch_size": 4,
}
# What stands before the patches.
KINDS = {
    "vit": (transformers.ViTConfig, {}, ["[CLS]"]),
    "deit": (transformers.DeiTConfig, {}, ["[CLS]", "[REG1]"]),
    "dinov2": (transformers.Dinov2Config, {}, ["[CLS]"]),
    "registers": (
        transformers.Dinov2WithRegistersConfig,
        {"num_register_tokens": 2},
        ["[CLS]", "[REG1]", "[REG2]"],
    ),
    "clip": (transformers.CLIPVisionConfig, {}, ["[CLS]"]),
    "siglip": (transformers.SiglipVisionConfig, {}, []),
}
PLACES = [f"row {i}, column {j}" for i in range(3) for j in range(3)]


def build(kind):
    config, own, _ = KINDS[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModel.from_config(config(**SMALL, **own)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def vit():
    return build("vit")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(5, 3, 12, 12)).astype(np.float32)


@pytest.fixture(scope="module")
def processor():
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    return ViTImageProcessorPil(size={"height": 12, "width": 12})


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_the_hidden_states_of_the_patches(kind, images):
    model, before = build(kind), KINDS[kind][2]
    with torch.no_grad():
        states = model(torch.from_numpy(images), output_hidden_states=True).hidden_states[2]
    assert states.shape == (5, len(before) + 9, 16)
    extractor = ActivationExtractor(model, 1, batch_tokens=25)
    rows, tokens = extractor.extract(images)
    patches = states[:, len(before) :].reshape(-1, 16).numpy()
    np.testing.assert_allclose(rows, patches, atol=1e-5)
    assert tokens.text.tolist() == [i for i in range(5) for _ in range(9)]
    assert tokens.position.tolist() == tokens.group.tolist() == [*range(9)] * 5
    assert tokens.string.tolist() == PLACES * 5
    assert tokens.texts == [f"image {i}" for i in range(5)]
    assert set(tokens.id) == set(tokens.start) == set(tokens.end) == {-1}
    assert len(tokens.merged()[0]) == 45
    assert tokens.merged()[0].string.tolist() == PLACES * 5
    assert tokens.policy["input"] == "image"
    everything = clone(extractor).set_params(include_special_tokens=True)
    rows, tokens = everything.extract(images)
    np.testing.assert_allclose(rows, states.reshape(-1, 16).numpy(), atol=1e-5)
    assert tokens.string.tolist() == [*before, *PLACES] * 5
    assert tokens.position[: len(before)].tolist() == [-1] * len(before)


def test_pooling_chunks_streams_and_files(vit, images, tmp_path, monkeypatch):
    extractor = ActivationExtractor(vit, 1)
    rows, tokens = extractor.extract(images)
    mean = clone(extractor).set_params(pooling="mean").transform(images)
    np.testing.assert_allclose(mean, rows.reshape(5, 9, 16).mean(1), atol=1e-5)
    monkeypatch.setattr(_activation_reader, "CHUNK_TOKENS", 20)
    chunks = list(ActivationReader(extractor).chunks(iter(images), table=True))
    assert [chunk.n_texts for chunk in chunks] == [2, 2, 1]
    assert chunks[1].tokens.texts == ["image 2", "image 3"]
    np.testing.assert_allclose(np.concatenate([c.rows for c in chunks]), rows, atol=1e-5)
    stored, table = extractor.to_memmap(images, tmp_path, "float32")
    np.testing.assert_allclose(stored, rows, atol=1e-5)
    assert table.string.tolist() == tokens.string.tolist()
    assert table.texts == tokens.texts
    extractor.to_memmap(images, tmp_path, "float32")
    drawn = np.concatenate(list(extractor.stream(images, chunk_rows=10, random_state=0)))
    np.testing.assert_allclose(np.sort(drawn, 0), np.sort(rows, 0), atol=1e-5)


def test_images_go_through_the_processor(vit, processor):
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 255, size=(3, 20, 30, 3), dtype=np.uint8)
    expected = processor(list(pixels), return_tensors="pt")["pixel_values"].numpy()
    extractor = ActivationExtractor(vit, 1, image_processor=processor)
    rows = ActivationExtractor(vit, 1).transform(expected)
    np.testing.assert_allclose(extractor.transform(pixels), rows, atol=1e-5)
    pictures = [image.fromarray(one) for one in pixels]
    np.testing.assert_allclose(extractor.transform(pictures), rows, atol=1e-5)
    data = [{"image": one, "label": 0} for one in pictures]
    np.testing.assert_allclose(extractor.transform(data), rows, atol=1e-5)
    # Grey pictures become colourful ones; float arrays are passed as they are.
    grey = extractor.transform([pictures[0].convert("L")])
    same = extractor.transform([pictures[0].convert("L").convert("RGB")])
    np.testing.assert_array_equal(grey, same)
    np.testing.assert_array_equal(extractor.transform(expected), rows)


def test_a_processor_goes_with_the_name(vit, processor, tmp_path):
    vit.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 255, size=(2, 20, 30, 3), dtype=np.uint8)
    expected = ActivationExtractor(vit, 1, image_processor=processor).transform(pixels)
    named = ActivationExtractor(tmp_path, 1)
    np.testing.assert_allclose(named.transform(pixels), expected, atol=1e-5)
    assert named.extract(pixels)[1].policy["model"] == str(tmp_path)
    apart = ActivationExtractor(vit, 1, image_processor=str(tmp_path))
    np.testing.assert_allclose(apart.transform(pixels), expected, atol=1e-5)


def test_other_sizes_of_models_that_interpolate(images):
    larger = np.random.default_rng(0).normal(size=(2, 3, 16, 20)).astype(np.float32)
    _, tokens = ActivationExtractor(build("dinov2"), 1).extract(larger)
    assert len(tokens) == 2 * 4 * 5
    assert tokens.string[-1] == "row 3, column 4"
    with pytest.raises(ValueError, match=r"must have one size: X\[2\] has shape \(3, 12, 12\)"):
        ActivationExtractor(build("dinov2"), 1).transform([*larger, images[0]])


def test_images_in_bfloat16(vit, images):
    extractor, pixels = ActivationExtractor(vit, 1), torch.from_numpy(images).bfloat16()
    expected = extractor.transform(pixels.float().numpy())
    np.testing.assert_array_equal(extractor.transform(pixels), expected)


def test_no_images(vit):
    rows, tokens = ActivationExtractor(vit, 1).extract([])
    assert rows.shape == (0, 16)
    assert len(tokens) == 0
    assert len(ActivationExtractor(vit, 1).get_feature_names_out()) == 16


def test_what_does_not_fit_a_model_of_images(vit, images):
    extractor = ActivationExtractor(vit, 1)
    with pytest.raises(ValueError, match=r"X\[0\] is a text, but ViTModel reads images"):
        extractor.transform(["a"])
    with pytest.raises(ValueError, match="'image_processor' parameter is needed"):
        extractor.transform(np.zeros((1, 12, 12, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"X\[0\] is an array of int64 and shape \(3, 12, 12\)"):
        extractor.transform(images.astype(np.int64))
    for channels in (1, 4):
        with pytest.raises(ValueError, match=r"An image is uint8 of shape \(height, width, 3\)"):
            extractor.transform(np.zeros((2, 12, 12, channels), dtype=np.uint8))
    for name in ("position_ids", "prepend_bos"):
        with pytest.raises(ValueError, match=f"{name}=True, but ViTModel reads images"):
            clone(extractor).set_params(**{name: True}).transform(images)


def test_outliers_of_an_image(vit, images):
    extractor = ActivationExtractor(vit, 1)
    rows, tokens = extractor.extract(images)
    norms = np.linalg.norm(rows, axis=1).reshape(5, 9)
    kept = (norms <= 1.2 * np.median(norms, axis=1, keepdims=True)).ravel()
    assert 0 < (~kept).sum() < 20
    some, table = extractor.set_params(max_norm_ratio=1.2).extract(images)
    np.testing.assert_allclose(some, rows[kept], atol=1e-5)
    assert table.string.tolist() == tokens.string[kept].tolist()
