"""Atlases of images: what is highlighted is where a pattern was planted."""

import io

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.datasets import load_digits

from sksae import TopKSAE
from sksae.formats import write_neuronpedia
from sksae.interpret import (
    ExampleImage,
    FeatureAtlas,
    ImagePatches,
    explain,
    max_activating_examples,
    score_explanations,
)
from sksae.interpret.atlas import _images
from sksae.language_models import ActivationExtractor, TokenTable
from sksae.language_models.extraction import _activation_reader
from tests.cases import each_case, tries
from tests.interpret.atlas.test_atlas_files import rewritten

GRID, N_IMAGES = (3, 4), 12  # not square: rows are not columns


@pytest.fixture(scope="module")
def planted():
    """Codes of one feature that fires on one patch of each image, and on its neighbour half."""
    rng = np.random.default_rng(0)
    images = rng.random((N_IMAGES, 24, 32, 3)) / 4
    patch = rng.integers(0, 11, N_IMAGES)
    codes = np.zeros((N_IMAGES, 12, 2))
    codes[:, :, 1] = rng.random((N_IMAGES, 12)) * (rng.random((N_IMAGES, 12)) < 0.3)
    for image, number in enumerate(patch):
        row, column = divmod(int(number), 4)
        images[image, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 1
        codes[image, number, 0] = 1 + image
        codes[image, number + 1, 0] = (1 + image) / 2
    return images, codes, patch


@pytest.fixture(scope="module")
def atlas(planted):
    images, codes, _ = planted
    return FeatureAtlas().fit(codes.reshape(-1, 2), images=ImagePatches(images, GRID))


def everywhere(feature):
    silent = [example for examples in feature.silent.values() for example in examples]
    return [*feature.examples, *feature.sampled, *silent]


def test_the_planted_patch_is_the_peak_in_every_image(atlas, planted):
    images, codes, patch = planted
    feature = atlas.feature(0)
    assert [e.image.number for e in feature.examples] == [*range(N_IMAGES)][::-1]
    assert [e.activation for e in feature.examples] == [*range(N_IMAGES, 0, -1)]
    assert (feature.n_texts, feature.n_unique, feature.n_active) == (12, 24, 24)
    for example in feature.examples:
        image = example.image
        assert image.peak == divmod(patch[image.number], 4)
        row, column = image.peak
        lit = image.pixels[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        assert lit.min() == 255
        assert (image.pixels == 255).sum() == lit.size  # and nowhere else
        assert example.row == 12 * image.number + patch[image.number]
        assert str(example) == f"image {image.number}: [[row {row}, column {column}]]"
    for number in (0, 1):
        for example in everywhere(atlas.feature(number)):
            expected = codes[example.image.number, :, number].reshape(GRID)
            np.testing.assert_allclose(example.image.heat, expected, rtol=1e-6)
            kept = np.rint(images[example.image.number] * 255)
            np.testing.assert_array_equal(example.image.pixels, kept)
    assert atlas.image_grid_ == GRID
    assert atlas.facts_["images"] == "12 of 12 kept, at most 128 pixels a side"


def test_a_file_has_the_images(atlas, tmp_path):
    file = atlas.save(tmp_path / "atlas.npz")
    loaded = FeatureAtlas.load(file)
    assert loaded.image_grid_ == GRID
    for one, other in zip(everywhere(atlas.feature(0)), everywhere(loaded.feature(0)), strict=True):
        assert (one.image.number, one.image.peak) == (other.image.number, other.image.peak)
        np.testing.assert_array_equal(one.image.heat, other.image.heat)
        np.testing.assert_array_equal(one.image.pixels, other.image.pixels)


@each_case(
    "changed",
    [
        {"image_grid": np.array([3, 4, 1])},
        {"image_grid": np.array([0, 4])},
        {"image_grid": np.array([3, 2])},
        {"image_grid": None},
        {"image_pixels": np.zeros(7, dtype=np.uint8)},
        {"image_number": np.arange(12)[::-1]},
        {"image_shape": np.full((12, 2), -24)},
        {"cell_patch": np.zeros(3, dtype=np.int16)},
        {"sources": np.frombuffer(b'["a"]', dtype=np.uint8)},
    ],
)
def test_files_whose_images_do_not_fit_are_refused(atlas, tmp_path, changed):
    file = rewritten(atlas.save(tmp_path / "a.npz"), tmp_path / "b.npz", **changed)
    with pytest.raises(ValueError, match="no whole file of an atlas"):
        FeatureAtlas.load(file)


def test_rows_in_any_order_are_where_they_are_said_to_be(planted):
    images, codes, _ = planted
    rows = np.random.default_rng(1).permutation(12 * N_IMAGES)[:100]
    image, number = np.divmod(rows, 12)
    placed = ImagePatches(images, GRID, image=image, patch=number)
    atlas = FeatureAtlas().fit(codes.reshape(-1, 2)[rows], images=placed)
    for example in atlas.feature(0).examples:
        at = rows[example.row]
        assert (example.image.number, example.image.peak) == (at // 12, divmod(at % 12, 4))
        known = np.isfinite(example.image.heat)
        assert known[example.image.peak]
        expected = codes[example.image.number, :, 0].reshape(GRID)
        np.testing.assert_allclose(example.image.heat[known], expected[known], rtol=1e-6)
        assert known.sum() < 12  # patches that are no rows are not taken for silent ones


def test_whole_images():
    digits = load_digits()
    labels = [f"digit {target}" for target in digits.target[:50]]
    codes = digits.data[:50, 2:4]
    images = ImagePatches(digits.images[:50] / 16)
    example = FeatureAtlas().fit(codes, images=images).feature(0).examples[0]
    row = int(codes[:, 0].argmax())
    assert (example.row, example.image.number, example.image.peak) == (row, row, (0, 0))
    assert example.image.is_whole
    assert str(example) == f"image {row}: [[{row}]]"
    grey = np.rint(digits.images[row] / 16 * 255)
    np.testing.assert_array_equal(example.image.pixels, np.dstack([grey] * 3))
    labelled = FeatureAtlas().fit(codes, tokens=labels, images=images)
    assert str(labelled.feature(0).examples[0]) == f"image {row}: [[{labels[row]}]]"
    assert len(labelled.row_sample(0).label) == 50


@pytest.fixture(scope="module")
def vit():
    """A model with a class token and two registers before the nine patches."""
    config = transformers.Dinov2WithRegistersConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=12,
        patch_size=4,
        num_register_tokens=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return transformers.AutoModel.from_config(config).eval()


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).normal(size=(6, 3, 12, 12)).astype(np.float32)


def test_positions_that_are_no_patches_shift_nothing(vit, pixels):
    extractor = ActivationExtractor(vit, 0, include_special_tokens=True)
    rows, tokens = extractor.extract(pixels)
    assert tokens.policy["grid"] == "3 x 3"
    codes = np.maximum(rows, 0)
    codes[:, 0] = tokens.string == "[REG1]"
    shown = np.linspace(0, 1, 6)[:, None, None] * np.ones((6, 12, 12))
    atlas = FeatureAtlas().fit(codes, tokens=tokens, images=ImagePatches(shown))
    for number in (1, 2, 3):
        for example in atlas.feature(number).examples:
            of_image = codes.reshape(6, 12, 16)[example.image.number, :, number]
            np.testing.assert_allclose(example.image.heat.ravel(), of_image[3:], rtol=1e-6)
            place = example.row % 12 - 3
            assert example.image.peak == (divmod(place, 3) if place >= 0 else None)
            level = round(255 * example.image.number / 5)
            assert np.unique(example.image.pixels).tolist() == [level]
    registers = atlas.feature(0).examples
    assert len(registers) == 6
    assert {e.image.peak for e in registers} == {None}
    assert {str(e).split("[[")[1] for e in registers} == {"[REG1]]]"}
    assert {e.image.heat.max() for e in registers} == {0}


def test_an_extractor_that_reads_in_chunks_gives_the_same(vit, pixels, monkeypatch):
    extractor = ActivationExtractor(vit, 0)
    rows, tokens = extractor.extract(pixels)
    sae = TopKSAE(16, k=2, max_iter=2, random_state=0).fit(rows)
    images = ImagePatches((pixels.transpose(0, 2, 3, 1) / 10 + 0.5).clip(0, 1))
    whole = FeatureAtlas(sae).fit(rows, tokens=tokens, images=images)
    monkeypatch.setattr(_activation_reader, "CHUNK_TOKENS", 20)
    chunked = FeatureAtlas(sae, extractor=extractor).fit(list(pixels), images=images)
    assert whole.n_active_.tolist() == chunked.n_active_.tolist()
    for number in np.flatnonzero(whole.n_active_).tolist():
        features = (atlas.feature(number) for atlas in (whole, chunked))
        one, other = ([*feature.examples, *feature.sampled] for feature in features)
        assert [(e.row, e.image.peak) for e in one] == [(e.row, e.image.peak) for e in other]
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a.image.heat, b.image.heat, rtol=1e-4)
            np.testing.assert_array_equal(a.image.pixels, b.image.pixels)


def test_patches_at_the_same_place_of_different_images_are_different(vit, pixels):
    _, tokens = ActivationExtractor(vit, 0).extract(pixels)
    codes = (tokens.position == 4).astype(float)[:, None]
    examples = max_activating_examples(codes, tokens, n_examples=9)[0]
    assert sorted(example.text for example in examples) == [*range(6)]
    assert len(FeatureAtlas().fit(codes, tokens=tokens).feature(0).examples) == 6


def test_what_is_kept_is_bounded_and_strong_examples_come_first(planted, monkeypatch):
    images, codes, patch = planted
    rows = codes.reshape(-1, 2)[:, :1]
    monkeypatch.setattr(_images, "PIXEL_BYTES", 12 * 3 * 24**2)
    assert {e.image.pixels.shape for e in kept(rows, images, side=24)} == {(18, 24, 3)}
    monkeypatch.setattr(_images, "PIXEL_BYTES", 5 * 3 * 32**2)
    examples = kept(rows, images)
    assert [e.image.pixels is not None for e in examples] == [True] * 5 + [False] * 7
    assert examples[-1].image.peak == divmod(patch[0], 4)
    with pytest.raises(ValueError, match="Image 0 was not kept"):
        examples[-1].image.png()


def kept(rows, images, **options):
    atlas = FeatureAtlas(n_silent=0).fit(rows, images=ImagePatches(images, GRID, **options))
    return atlas.feature(0).examples


def test_reduced_images_have_the_means_of_their_pixels():
    image = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    tall = np.vstack([image, image])  # 16 x 8
    atlas = FeatureAtlas().fit([[1.0]], images=ImagePatches([tall], side=8))
    example = atlas.feature(0).examples[0]
    expected = np.rint(tall.reshape(8, 2, 4, 2).mean(axis=(1, 3)))
    np.testing.assert_array_equal(example.image.pixels[:, :, 0], expected)


@settings(max_examples=tries(30), deadline=None)
@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
def test_a_png_has_the_pixels(pixels):
    pillow = pytest.importorskip("PIL.Image")
    image = ExampleImage(0, pixels, np.zeros((1, 1)), (0, 0))
    read = pillow.open(io.BytesIO(image.png()))
    assert read.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(read), pixels)


def test_images_of_pillow_and_of_other_kinds():
    pillow = pytest.importorskip("PIL.Image")
    grey = np.arange(16, dtype=np.uint8).reshape(4, 4)
    for image in (grey, grey[:, :, None], np.dstack([grey] * 3), pillow.fromarray(grey)):
        atlas = FeatureAtlas().fit([[1.0]], images=ImagePatches([image]))
        shown = atlas.feature(0).examples[0].image.pixels
        np.testing.assert_array_equal(shown, np.dstack([grey] * 3))


TABLE = {"text": [0, 0, 1, 1], "string": ["row 0, column 0", "row 1, column 0"] * 2}
PLACED = {**TABLE, "position": [0, 1, 0, 1]}
TWO = np.zeros((2, 4, 4))


def table(policy):
    ints = np.array(PLACED["position"])
    strings = np.array(PLACED["string"], dtype=object)
    text = np.array(PLACED["text"])
    return TokenTable(text, ints, ints, strings, ints, ints, ints, ["a", "b"], policy)


@each_case(
    "images, tokens, message",
    [
        (lambda: ImagePatches(TWO, (3, 1)), None, "have 6 rows. Got 4 instead"),
        (lambda: ImagePatches(TWO), None, "have 2 rows. Got 4 instead"),
        (lambda: ImagePatches(TWO, (2, 1)), TABLE, "needs the columns"),
        (lambda: ImagePatches(TWO), PLACED, "grid is needed"),
        (lambda: ImagePatches(TWO, (1, 2)), PLACED, "are not those of grid"),
        (lambda: ImagePatches(TWO, (1, 2)), table({"grid": "2 x 1"}), "of 2 x 1 in tokens"),
        (lambda: ImagePatches(TWO, (2, 1)), table({"cropped": True}), "cuts images to their mid"),
        (lambda: ImagePatches(TWO, (2, 1)), table({"input": "text"}), "a model that reads text"),
        (lambda: ImagePatches(TWO[:1], (2, 1)), PLACED, "image must be from 0 to 0. Got 0 to 1"),
        (lambda: ImagePatches([*TWO, 0], (2, 1)), PLACED, "3 images, but the rows are of 2"),
        (lambda: ImagePatches(TWO, (2, 1), image=[0] * 4), PLACED, "leave out image and patch"),
        (lambda: ImagePatches(TWO, (2, 1), image=[0] * 4), None, "image and patch go together"),
        (lambda: ImagePatches(TWO, image=[0, 1]), None, "There are 4 rows"),
        (lambda: ImagePatches(TWO, image=[0, 1, 2, 0]), None, "image must be from 0 to 1"),
        (lambda: ImagePatches(TWO, image=[0.5] * 4), None, "image must be one int per row"),
        (lambda: ImagePatches(TWO, (2, 1), image=[0] * 4, patch=[2] * 4), None, "patch must be"),
        (lambda: ImagePatches(TWO + 2, (2, 1)), None, "must be from 0 to 1, or uint8"),
        (lambda: ImagePatches(TWO - np.nan, (2, 1)), None, "must be from 0 to 1, or uint8"),
        (lambda: ImagePatches(TWO[:, None], (2, 1)), None, "of shape .height, width."),
        (lambda: ImagePatches(TWO.astype(int), (2, 1)), None, "Got int64 of shape"),
        (lambda: ImagePatches(TWO, (0, 1)), None, "grid must be"),
        (lambda: ImagePatches(TWO, 4), None, "grid must be"),
        (lambda: ImagePatches(TWO, (200, 200)), None, "of at most 16,384 patches"),
        (lambda: ImagePatches(TWO, side=4), None, "side"),
    ],
)
def test_what_does_not_fit_is_refused(images, tokens, message):
    with pytest.raises(ValueError, match=message):
        FeatureAtlas().fit(np.ones((4, 1)), tokens=tokens, images=images())


@each_case("images, tokens", [(TWO, None), (iter(TWO), None), (ImagePatches(TWO, (2, 1)), "text")])
def test_wrong_types_are_named(images, tokens):
    with pytest.raises(TypeError, match=r"must be|length"):
        FeatureAtlas().fit(np.ones((4, 1)), tokens=tokens, images=images)
    with pytest.raises(TypeError, match="must have a length and items"):
        ImagePatches(iter(TWO))


def test_a_processor_that_cuts_images_is_noticed(vit):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 12}, crop_size={"height": 12, "width": 12}
    )
    images = np.random.default_rng(0).integers(0, 255, size=(2, 20, 30, 3), dtype=np.uint8)
    extractor = ActivationExtractor(vit, 0, image_processor=processor)
    rows, tokens = extractor.extract(images)
    with pytest.raises(ValueError, match="cuts images to their middle"):
        FeatureAtlas().fit(np.abs(rows), tokens=tokens, images=ImagePatches(images))
    _, whole = ActivationExtractor(vit, 0).extract(np.zeros((1, 3, 12, 12), dtype=np.float32))
    assert "cropped" not in whole.policy


def test_what_reads_texts_only_refuses_patches(atlas, tmp_path):
    class Client:
        def complete(self, messages):
            raise AssertionError("nothing is asked")

    names = explain(atlas)  # without a client there are the numbers
    assert [str(names[number]) for number in (0, 1)] == ["component 0", "component 1"]
    with pytest.raises(ValueError, match="patches of images"):
        explain(atlas, Client())
    with pytest.raises(ValueError, match="patches of images"):
        score_explanations(atlas, names)
    with pytest.raises(ValueError, match="Neuronpedia's files have texts only"):
        write_neuronpedia(tmp_path, atlas, model_id="a", set_name="b", layer=0)
