"""What is written for Neuronpedia: field by field, from features made by hand."""

import gzip
import json
from datetime import UTC, datetime

import numpy as np
import pytest
from sklearn.base import BaseEstimator

from sksae import TopKSAE
from sksae.formats import write_neuronpedia
from sksae.interpret import Example, Feature, FeatureAtlas, Related

# The lists of the public exports, typed from them and not from the package.
FEATURE = """modelId layer index creatorId createdAt maxActApprox hasVector vector vectorLabel
vectorDefaultSteerStrength hookName topkCosSimIndices topkCosSimValues neuron_alignment_indices
neuron_alignment_values neuron_alignment_l1 correlated_neurons_indices correlated_neurons_pearson
correlated_neurons_l1 correlated_features_indices correlated_features_pearson
correlated_features_l1 neg_str neg_values pos_str pos_values frac_nonzero
freq_hist_data_bar_heights freq_hist_data_bar_values logits_hist_data_bar_heights
logits_hist_data_bar_values decoder_weights_dist sourceSetName"""
ACTIVATION = """id tokens values index layer modelId maxValue maxValueTokenIndex minValue creatorId
createdAt dataIndex dataSource dfaValues dfaTargetIndex dfaMaxValue lossValues logitContributions
binMin binMax binContains qualifyingTokenIndex"""
EXPLANATION = """id modelId layer index description authorId typeName explanationModelName notes
scoreV1 scoreV2 umap_x umap_y umap_cluster umap_log_feature_sparsity scores"""
SCORE = """value explanationId explanationScoreTypeName explanationScoreModelName jsonDetails"""
SOURCE = """id modelId setName creatorId hfRepoId hfFolderId saelensConfig saelensRelease
saelensSaeId num_prompts num_tokens_in_prompt dataset notes visibility inferenceEnabled"""


def example(row, activation, tokens=("a", " cold", " day"), peak=1):
    values = np.zeros(len(tokens))
    values[peak] = activation
    return Example(row, 0, activation, np.array(tokens, dtype=object), values, peak=peak)


def feature(number, **known):
    first = {
        "n_active": 4,
        "density": 0.25,
        "n_texts": 2,
        "max_activation": 2.0,
        "mean_activation": 1.0,
        "n_unique": 3,
        "flags": (),
        "top_tokens": [(" cold", 1.0)],
        "examples": [example(1, 2.0), example(7, 1.5)],
    }
    return Feature(feature=number, **{**first, **known})


RICH = feature(
    1,
    sampled=[example(1, 2.0), example(5, 0.25), example(6, 0.125)],
    weights=np.array([2.0, 1.0, 1.0]),
    histogram=(np.array([3, 1]), np.array([0.5, 1.0, 2.0])),
    promoted=[(f" t{i}", 3.0 - i / 10) for i in range(12)],
    suppressed=[(" warm", -2.5)],
    nearest=[Related(2, 0.5, 0.1, 0.2), Related(0, float("nan"), 0.1, 0.2)],
)


class Atlas(BaseEstimator):
    """As much of an atlas as is read."""

    def __init__(self, features=()):
        self.features = features

    def fit(self, _):
        self.n_components_, self.n_texts_ = len(self.features), 12
        self.facts_ = {"layer": 6, "site": "resid_pre"}
        return self

    def feature(self, number):
        return self.features[number]


@pytest.fixture
def atlas():
    return Atlas([feature(0), RICH, feature(2, examples=[], max_activation=0.0)]).fit(None)


NAMES = {"model_id": "gpt2-small", "set_name": "res-jb"}


def lines(file):
    data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    return [json.loads(line) for line in data.decode().splitlines()]


def tree(folder):
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_the_layout_is_that_of_an_export(atlas, tmp_path):
    folder = write_neuronpedia(tmp_path, atlas, **NAMES, explanations={1: "cold"}, batch_size=2)
    assert folder == tmp_path / "gpt2-small" / "6-res-jb"
    assert sorted(tree(tmp_path)) == [
        "gpt2-small/6-res-jb/activations/batch-0.jsonl.gz",
        "gpt2-small/6-res-jb/explanations/batch-0.jsonl.gz",
        "gpt2-small/6-res-jb/features/batch-0.jsonl.gz",
        "gpt2-small/6-res-jb/features/batch-1.jsonl.gz",
        "gpt2-small/6-res-jb/model.jsonl",
        "gpt2-small/6-res-jb/release.jsonl",
        "gpt2-small/6-res-jb/source.jsonl",
        "gpt2-small/6-res-jb/sourceset.jsonl",
    ]
    assert [len(lines(folder / f"features/batch-{i}.jsonl.gz")) for i in (0, 1)] == [2, 1]
    named = write_neuronpedia(tmp_path, atlas, **NAMES, layer=3, suffix="x")
    assert named.name == "3-res-jb__x"


def test_every_line_has_the_fields_of_its_kind(atlas, tmp_path):
    explained = {0: "zero", 1: "one"}
    folder = write_neuronpedia(tmp_path, atlas, **NAMES, explanations=explained)
    for kind, fields in (("features", FEATURE), ("activations", ACTIVATION)):
        for row in lines(folder / kind / "batch-0.jsonl.gz"):
            assert sorted(row) == sorted(fields.split())
    for row in lines(folder / "explanations" / "batch-0.jsonl.gz"):
        assert sorted(row) == sorted(EXPLANATION.split())
    assert set(SOURCE.split()) <= lines(folder / "source.jsonl")[0].keys()
    for kind, fields in {
        "release": "name description creatorName creatorId",
        "model": "id instruct creatorId layers neuronsPerLayer owner",
        "sourceset": "modelId name description creatorName creatorId releaseName",
    }.items():
        (row,) = lines(folder / f"{kind}.jsonl")
        assert [name for name in fields.split() if row[name] is None] == []


def test_a_feature_is_what_the_atlas_says(atlas, tmp_path):
    folder = write_neuronpedia(tmp_path, atlas, **NAMES)
    row = lines(folder / "features/batch-0.jsonl.gz")[1]
    expected = {
        "modelId": "gpt2-small",
        "layer": "6-res-jb",
        "index": "1",
        "sourceSetName": "res-jb",
        "createdAt": "1970-01-01T00:00:00.000Z",
        "maxActApprox": 2.0,
        "frac_nonzero": 0.25,
        "hasVector": False,
        "vector": [],
        "hookName": None,
        "topkCosSimIndices": [2],
        "topkCosSimValues": [0.5],
        "freq_hist_data_bar_heights": [3, 1],
        "freq_hist_data_bar_values": [0.75, 1.5],
        "pos_str": [f" t{i}" for i in range(10)],
        "neg_str": [" warm"],
        "neg_values": [-2.5],
    }
    assert {name: row[name] for name in expected} == expected
    assert row["pos_values"] == pytest.approx([3.0 - i / 10 for i in range(10)])


def test_examples_come_in_groups(atlas, tmp_path):
    folder = write_neuronpedia(tmp_path, atlas, **NAMES, n_quantiles=2)
    rows = [r for r in lines(folder / "activations/batch-0.jsonl.gz") if r["index"] == "1"]
    groups = [(r["binMin"], r["binMax"], r["binContains"], r["maxValue"]) for r in rows]
    assert groups == [
        (-1.0, 2.0, -1.0, 2.0),
        (-1.0, 2.0, -1.0, 1.5),
        (2.0, 2.0, 0.5, 2.0),
        (0.125, 0.25, 0.5, 0.25),
        (0.125, 0.25, 0.5, 0.125),
    ]
    assert rows[0]["tokens"] == ["a", " cold", " day"]
    assert rows[0]["values"] == [0.0, 2.0, 0.0]
    assert (rows[0]["maxValueTokenIndex"], rows[0]["qualifyingTokenIndex"]) == (1, 1)
    assert (rows[0]["minValue"], rows[0]["dataIndex"]) == (0.0, "1")


def test_ids_are_unique_and_have_the_form_of_theirs(atlas, tmp_path):
    folder = write_neuronpedia(tmp_path, atlas, **NAMES, explanations={0: "a", 1: "b"})
    ids = [
        row["id"]
        for kind in ("activations", "explanations")
        for row in lines(folder / kind / "batch-0.jsonl.gz")
    ]
    assert len(set(ids)) == len(ids) == 2 + 5 + 2
    assert all(len(name) == 25 and name[0] == "c" and name.isalnum() for name in ids)


def test_the_same_atlas_makes_the_same_bytes(atlas, tmp_path):
    one, other = (
        tree(write_neuronpedia(tmp_path / name, atlas, **NAMES, explanations={0: "a"}))
        for name in ("one", "other")
    )
    assert one == other


def test_directions_become_vectors(atlas, tmp_path):
    components = np.eye(3, 4, dtype=np.float32)
    sae = TopKSAE(3)
    sae.components_ = components
    folder = write_neuronpedia(tmp_path, atlas, **NAMES, sae=sae)
    rows = lines(folder / "features/batch-0.jsonl.gz")
    assert [row["vector"] for row in rows] == components.tolist()
    assert [row["vectorDefaultSteerStrength"] for row in rows] == [2.0, 2.0, 0.0]
    assert {row["hookName"] for row in rows} == {"blocks.6.hook_resid_pre"}
    assert all(row["hasVector"] for row in rows)
    assert lines(folder / "model.jsonl")[0]["dimension"] == 4
    sae.components_ = components[:2]
    with pytest.raises(ValueError, match="sae has 2 components, but the atlas was fitted on 3"):
        write_neuronpedia(tmp_path / "other", atlas, **NAMES, sae=sae)


def test_explanations_bring_their_scores(atlas, tmp_path):
    class Explained:
        source = "tokens"
        scores = {
            "detection": {"value": 0.75, "n": np.int64(10), "interval": (0.5, np.nan)},
            "simulation": {"value": float("nan"), "n": 3},
        }

        def __str__(self):
            return "cold things 차가운"

    folder = write_neuronpedia(tmp_path, atlas, **NAMES, explanations={1: Explained()})
    (row,) = lines(folder / "explanations/batch-0.jsonl.gz")
    assert row["description"] == "cold things 차가운"
    assert (row["index"], row["notes"], row["explanationModelName"]) == ("1", "tokens", None)
    (score,) = row["scores"]
    assert sorted(score) == sorted(SCORE.split())
    assert (score["value"], score["explanationScoreTypeName"]) == (0.75, "detection")
    assert score["explanationId"] == row["id"]
    details = {"sksae": {"n": 10, "interval": [0.5, None]}}
    assert json.loads(score["jsonDetails"]) == details


def test_further_fields_are_taken_by_file(atlas, tmp_path):
    further = {
        "model": {"layers": 12},
        "source": {"hfRepoId": "me/my-sae", "num_tokens_in_prompt": np.int64(128)},
        "release": {"name": "my-release"},
        "explanation": {"explanationModelName": "gpt-4o-mini"},
    }
    time = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    folder = write_neuronpedia(
        tmp_path, atlas, **NAMES, further=further, created_at=time, explanations={0: "a"}
    )
    (model,), (source,) = lines(folder / "model.jsonl"), lines(folder / "source.jsonl")
    assert (model["layers"], model["createdAt"]) == (12, "2026-01-02T03:04:05.000Z")
    assert (source["hfRepoId"], source["num_tokens_in_prompt"]) == ("me/my-sae", 128)
    assert (source["num_prompts"], source["id"]) == (12, "6-res-jb")
    assert lines(folder / "release.jsonl")[0]["name"] == "my-release"
    assert lines(folder / "sourceset.jsonl")[0]["releaseName"] == "my-release"
    (row,) = lines(folder / "explanations/batch-0.jsonl.gz")
    assert row["explanationModelName"] == "gpt-4o-mini"


def test_strings_that_no_file_or_database_takes_are_replaced(tmp_path):
    tokens = ("\ud83d", "nul\0", "한국어", "🥶", "\ud83d\ude00")
    strange = feature(0, examples=[example(0, 1.0, tokens)], promoted=[("\udc80", 1.0)])
    folder = write_neuronpedia(tmp_path, Atlas([strange]).fit(None), **NAMES)
    (row,) = lines(folder / "activations/batch-0.jsonl.gz")
    assert row["tokens"] == ["\ufffd", "nul\ufffd", "한국어", "🥶", "😀"]
    assert lines(folder / "features/batch-0.jsonl.gz")[0]["pos_str"] == ["\ufffd"]


def test_some_features_are_written_when_some_are_asked_for(atlas, tmp_path):
    folder = write_neuronpedia(tmp_path, atlas, **NAMES, features=np.array([2, 0]))
    rows = lines(folder / "features/batch-0.jsonl.gz")
    assert [row["index"] for row in rows] == ["2", "0"]


def test_a_failure_leaves_what_was_there(atlas, tmp_path):
    folder = write_neuronpedia(tmp_path, atlas, **NAMES)
    before = tree(tmp_path)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_neuronpedia(tmp_path, atlas, **NAMES)
    broken = Atlas([feature(0), feature(1, density=float("nan"))]).fit(None)
    with pytest.raises(ValueError, match="Feature 1 cannot be written"):
        write_neuronpedia(tmp_path, broken, **NAMES, overwrite=True)
    assert tree(tmp_path) == before
    assert sorted(p.name for p in folder.parent.iterdir()) == ["6-res-jb"]
    write_neuronpedia(tmp_path, Atlas([feature(0)]).fit(None), **NAMES, overwrite=True)
    assert len(lines(folder / "features/batch-0.jsonl.gz")) == 1
    assert sorted(p.name for p in folder.parent.iterdir()) == ["6-res-jb"]


def test_a_folder_of_something_else_is_never_replaced(atlas, tmp_path):
    folder = tmp_path / "gpt2-small" / "6-res-jb"
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="is not replaced"):
        write_neuronpedia(tmp_path, atlas, **NAMES, overwrite=True)
    assert (folder / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_id": "google/gemma"}, "model_id must be made of letters"),
        ({"model_id": ".."}, "model_id"),
        ({"set_name": ""}, "set_name"),
        ({"suffix": "a b"}, "suffix"),
        ({"layer": -1}, "layer must be given"),
        ({"layer": True}, "layer must be given"),
        ({"features": [3]}, "no feature 3: the atlas has 3"),
        ({"features": [0.5]}, "must be an int"),
        ({"explanations": {9: "a"}}, "no feature 9"),
        ({"explanations": ["a"]}, "must be a dict"),
        ({"further": {"sauce": {}}}, "'sauce', which is none of release, model"),
        ({"further": {"source": {"hfRepo": "a"}}}, "'hfRepo', which is none of"),
        ({"further": {"source": {"id": "a"}}}, "'id', which is none of"),
        ({"created_at": "today"}, "created_at must be a datetime"),
        ({"batch_size": 0}, "batch_size"),
        ({"n_quantiles": 0}, "n_quantiles"),
    ],
    ids=str,
)
def test_what_cannot_be_written_is_refused_before_anything_is(atlas, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        write_neuronpedia(tmp_path, atlas, **{**NAMES, **options})
    assert list(tmp_path.iterdir()) == []


def test_an_atlas_has_to_be_fitted(tmp_path):
    with pytest.raises(ValueError, match="not fitted"):
        write_neuronpedia(tmp_path, Atlas(), **NAMES)


def test_a_real_atlas_is_written(tmp_path):
    rng = np.random.default_rng(0)
    codes = rng.exponential(size=(200, 6)) * (rng.random((200, 6)) < 0.3)
    table = {"text": np.repeat(np.arange(20), 10), "string": rng.choice(list("abcdef"), 200)}
    atlas = FeatureAtlas(n_examples=4).fit(codes, tokens=table)
    folder = write_neuronpedia(tmp_path, atlas, **NAMES, layer=0)
    rows = lines(folder / "features/batch-0.jsonl.gz")
    assert [row["maxActApprox"] for row in rows] == pytest.approx(codes.max(0), rel=1e-5)
    assert [row["frac_nonzero"] for row in rows] == pytest.approx((codes > 0).mean(0), rel=1e-5)
    heights = [sum(row["freq_hist_data_bar_heights"]) for row in rows]
    assert heights == (codes > 0).sum(0).tolist()
    top = [r for r in lines(folder / "activations/batch-0.jsonl.gz") if r["binMin"] == -1]
    strongest = {int(r["index"]): r for r in reversed(top)}
    for number, row in strongest.items():
        peak = codes[:, number].argmax()
        assert int(row["dataIndex"]) == peak
        assert row["tokens"][row["qualifyingTokenIndex"]] == table["string"][peak]
