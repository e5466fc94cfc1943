"""Features for the viewer of circuit-tracer: fields, ranges, names of files, and reading back."""

import json

import numpy as np
import pytest

from sksae._hook_names import cantor
from sksae.formats import read_feature_json, write_feature_json
from sksae.interpret import FeatureAtlas


@pytest.fixture(scope="module")
def atlases():
    """Of three features: one that fires evenly from 1 to 200, a rare one, one that never fires."""
    codes = np.zeros((400, 3))
    codes[:200, 0] = np.arange(1, 201)
    codes[300, 1] = 2.5
    tokens = [f"t{i}" for i in range(400)]
    return [FeatureAtlas(n_examples=3, random_state=0).fit(codes, tokens=tokens)] * 2


def test_files_are_called_as_the_viewer_asks(tmp_path, atlases):
    folder = write_feature_json(tmp_path / "features", atlases)
    names = {int(file.stem) for file in folder.iterdir()}
    assert names == {cantor(layer, feature) for layer in (0, 1) for feature in (0, 1)}
    assert list(read_feature_json(folder)) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_fields_are_what_the_atlas_knows(tmp_path, atlases):
    folder = write_feature_json(
        tmp_path / "features", {1: atlases[1]}, features=[(1, 0)], transcoder_id="mine"
    )
    content = json.loads((folder / f"{cantor(1, 0)}.json").read_text(encoding="utf-8"))
    assert (content["transcoder_id"], content["index"]) == ("mine", 0)
    assert (content["act_min"], content["act_max"]) == (0, 200)
    assert content["activation_frequency"] == 0.5
    top = content["examples_quantiles"][0]
    assert (top["quantile_name"], len(top["examples"])) == ("Top", 3)
    example = top["examples"][0]
    assert example["tokens"][example["train_token_ind"]] == "t199"
    assert max(example["tokens_acts_list"]) == 200
    assert content["top_logits"] == content["bottom_logits"] == []


def test_histogram_and_quantiles_are_those_of_the_codes(tmp_path, atlases):
    """Up to the width of the atlas's own intervals, an eighth of an octave."""
    folder = write_feature_json(tmp_path / "features", atlases, features=[(0, 0), (0, 1)])
    even, rare = read_feature_json(folder).values()
    histogram = np.array(even["histogram"])
    assert histogram.sum() == pytest.approx(200, abs=1e-3)
    np.testing.assert_allclose(histogram[2:-3], 4, atol=1.5)
    np.testing.assert_allclose(even["quantile_values"], 2 * np.arange(1, 100), rtol=0.13, atol=2)
    assert sum(rare["histogram"]) == pytest.approx(1, abs=1e-5)  # of rounded numbers
    assert max(rare["quantile_values"]) <= 2.5 == rare["act_max"]


def test_files_read_back_exactly(tmp_path, atlases):
    folder = write_feature_json(tmp_path / "features", atlases[:1])
    for (layer, feature), content in read_feature_json(folder).items():
        file = folder / f"{cantor(layer, feature)}.json"
        assert json.loads(file.read_text(encoding="utf-8")) == content


def test_signs_that_utf8_cannot_hold_become_signs(tmp_path):
    atlas = FeatureAtlas().fit([[1.0], [0.0]], tokens=["\ud800", "b\0"])
    folder = write_feature_json(tmp_path / "features", [atlas])
    content = read_feature_json(folder)[0, 0]
    assert (
        content["examples_quantiles"][0]["examples"][0]["tokens"][0] == "\N{REPLACEMENT CHARACTER}"
    )


def test_what_cannot_be_written_is_refused(tmp_path, atlases):
    with pytest.raises(ValueError, match="no atlas for layer 2"):
        write_feature_json(tmp_path / "a", atlases, features=[(2, 0)])
    with pytest.raises(ValueError, match="no feature 3: the atlas of layer 1 has 3"):
        write_feature_json(tmp_path / "a", atlases, features=[(1, 3)])
    with pytest.raises(ValueError, match="n_quantiles"):
        write_feature_json(tmp_path / "a", atlases, n_quantiles=0)
    (tmp_path / "b").mkdir()
    with pytest.raises(FileExistsError, match="take another path"):
        write_feature_json(tmp_path / "b", atlases)
    assert [entry.name for entry in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[", r"12\.json"),
        ("[]", "no examples_quantiles"),
        ('{"examples_quantiles": {}}', "must be a list"),
        ('{"examples_quantiles": [], "act_max": "2"}', "act_max must be a number"),
        ('{"examples_quantiles": [], "index": true}', "index must be an integer"),
        (
            '{"examples_quantiles": [{"examples": [{"tokens": ["a"], "tokens_acts_list": []}]}]}',
            "more tokens than activations",
        ),
    ],
)
def test_files_that_are_none_are_refused(tmp_path, text, match):
    (tmp_path / "12.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=match):
        read_feature_json(tmp_path)


def test_folders_without_features_are_refused(tmp_path):
    (tmp_path / "notes.json").write_text("{}", encoding="utf-8")
    with pytest.raises(FileNotFoundError, match=r"such as 12\.json"):
        read_feature_json(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        read_feature_json(tmp_path / "nowhere")
