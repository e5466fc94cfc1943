"""What is read from Neuronpedia's files: what was written, what others wrote, and no nonsense."""

import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sksae.formats import read_neuronpedia, read_neuronpedia_features, write_neuronpedia
from sksae.interpret import Explanation, FeatureAtlas
from tests.cases import each_case, tries


@pytest.fixture
def file(tmp_path):
    """A function that writes rows, or raw lines, to a file and returns its path."""

    def write(*rows, name="batch-0.jsonl.gz", under=""):
        path = tmp_path / under / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = b"".join(
            row + b"\n" if isinstance(row, bytes) else json.dumps(row).encode() + b"\n"
            for row in rows
        )
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write


def row(index, description, **known):
    return {"modelId": "m", "layer": "6-res", "index": index, "description": description, **known}


def score(value, kind="eleuther_recall", model="gpt-4o-mini"):
    return {
        "value": value,
        "explanationScoreTypeName": kind,
        "explanationScoreModelName": model,
        "jsonDetails": "[]",
    }


def texts(path, **options):
    return {i: str(e) for i, e in read_neuronpedia(path, **options).items()}


@each_case("name", ["batch-0.jsonl.gz", "batch-0.jsonl", "mine.json", "mine.json.gz"])
def test_a_single_file(file, name):
    rows = [row("7", "days 요일 📅", explanationModelName="gpt-4o-mini"), row(3, "cold")]
    path = (
        file(rows, name=name)
        if "json" in name[4:9] and "jsonl" not in name
        else file(*rows, name=name)
    )
    found = read_neuronpedia(path)
    assert list(found) == [3, 7]
    assert found[7] == Explanation(feature=7, text="days 요일 📅", source="gpt-4o-mini", scores={})
    assert found[3].source == "neuronpedia"


def test_a_folder_of_a_source(file, tmp_path):
    for i in (10, 2, 0):
        file(row(str(i), f"text {i}"), name=f"batch-{i}.jsonl.gz", under="s/explanations")
    file({"index": "0", "frac_nonzero": 0.5}, under="s/features")
    file({"id": "6-res"}, name="source.jsonl", under="s")
    expected = {0: "text 0", 2: "text 2", 10: "text 10"}
    assert texts(tmp_path / "s") == texts(tmp_path / "s/explanations") == expected
    assert read_neuronpedia_features(tmp_path / "s") == {0: {"index": "0", "frac_nonzero": 0.5}}


def test_the_answer_about_a_feature(file):
    answer = {
        "modelId": "m",
        "layer": "6-res",
        "index": "5",
        "pos_str": ["a"],
        "explanations": [{"description": "one", "scores": [score(0.7)]}, {"description": "two"}],
    }
    path = file(answer, name="5.json")
    assert texts(path) == {5: "one"}
    assert read_neuronpedia_features(path)[5]["pos_str"] == ["a"]


def test_of_several_the_best_is_kept(file):
    path = file(
        row("1", "first"),
        row("1", "second", scores=[score(0.4), score(0.9, "fuzz")]),
        row("1", "third", scores=[score(0.5), score(0.7, "fuzz")]),
        row("2", "a"),
        row("2", "b"),
    )
    assert texts(path) == {1: "second", 2: "a"}  # mean 0.65 beats mean 0.6; the first of equals
    assert texts(path, score="eleuther_recall") == {1: "third", 2: "a"}
    assert texts(path, score="unheard of") == {1: "first", 2: "a"}
    assert read_neuronpedia(path)[1].scores == {
        "eleuther_recall": {"value": 0.4, "model": "gpt-4o-mini"},
        "fuzz": {"value": 0.9, "model": "gpt-4o-mini"},
    }


def test_explanations_without_text_are_left_out(file):
    assert texts(file(row("1", " "), row("1", "said"), row("2", ""))) == {1: "said"}


def test_blank_lines_and_a_byte_order_mark_do_no_harm(file):
    line = json.dumps(row("1", "a")).encode()
    assert texts(file(b"\xef\xbb\xbf" + line, b"", b"  ", name="mine.jsonl")) == {1: "a"}


def test_halves_of_characters_are_replaced(file):
    assert texts(file(rb'{"index": "1", "description": "\ud83d \ud83d\ude00"}')) == {1: "\ufffd 😀"}


GOOD = row("1", "good")


@each_case(
    "line, message",
    [
        (b"{", "line 2 is not valid JSON"),
        (b"\xff{}", "line 2 is not valid JSON"),
        (b'{"index": NaN}', "NaN is not a JSON number"),
        (b"[" * 100_000, "line 2 is not valid JSON"),
        (b"[1]", "line 2: expected an object, got a list"),
        (b"null", "line 2: expected an object, got null"),
        ({"description": "a"}, "line 2: index must be the number of a feature, got None"),
        (row("-1", "a"), "index must be the number of a feature, got '-1'"),
        (row(True, "a"), "got True"),
        (row(1.0, "a"), "got 1.0"),
        (row("9" * 30, "a"), "index must be"),
        (row("1", None), "line 2: description must be a string, got None"),
        (row("1", "a", explanationModelName=3), "explanationModelName must be a string, got 3"),
        (row("1", "a", scores={"value": 1}), "scores must be a list"),
        (row("1", "a", scores=["good"]), "scores must hold objects, got 'good'"),
        (row("1", "a", scores=[score("high")]), "value of a score must be a number, got 'high'"),
        (row("1", "a", scores=[score(10**400)]), "value of a score must be a number"),
        (row("1", "a", scores=[{"value": 1}]), "explanationScoreTypeName must be a string"),
        (row("1", "a", explanations="none"), "explanations must be a list"),
        ({**row("1", "a"), "layer": "7-res"}, "layer '7-res', those before have '6-res'"),
        ({**row("1", "a"), "modelId": "n"}, "modelId 'n', those before have 'm'"),
    ],
)
def test_a_line_that_is_wrong_is_named(file, line, message):
    path = file(GOOD, line)
    with pytest.raises(ValueError, match=message) as caught:
        read_neuronpedia(path)
    assert str(path) in str(caught.value)


@each_case(
    "name, value",
    [("frac_nonzero", "0.5"), ("pos_str", "a"), ("hasVector", 1), ("modelId", 3), ("vector", {})],
)
def test_a_field_of_a_feature_has_its_type(file, name, value):
    with pytest.raises(ValueError, match=f"line 1: {name} must be"):
        read_neuronpedia_features(file({"index": "1", name: value}))


@each_case("cut", [5, 30, -3])
def test_a_file_that_is_cut_off_is_named(file, cut):
    path = file(*[row(str(i), f"text {i}") for i in range(50)])
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"batch-0.jsonl.gz cannot be decompressed"):
        read_neuronpedia(path)


def test_a_file_that_is_not_compressed_is_named(file):
    path = file(GOOD, name="batch-0.jsonl")
    path = path.rename(path.with_name("batch-0.jsonl.gz"))
    with pytest.raises(ValueError, match="cannot be decompressed"):
        read_neuronpedia(path)


def test_what_is_not_there_is_said(tmp_path, file):
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        read_neuronpedia(tmp_path / "nowhere")
    file({"index": "0"}, under="s/features")
    with pytest.raises(FileNotFoundError, match=r"has no explanations: no files"):
        read_neuronpedia(tmp_path / "s")
    file({"index": "0"}, under="all/model/0-s/features")
    with pytest.raises(FileNotFoundError, match=r"has no features: .* such as .*0-s\.$"):
        read_neuronpedia_features(tmp_path / "all")
    with pytest.raises(ValueError, match="score must be a str or None"):
        read_neuronpedia(tmp_path / "s", score=3)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1, 1) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
SCORES = st.dictionaries(
    st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    st.builds(
        lambda value, rest: {**rest, "value": value},
        st.floats(allow_nan=False, allow_infinity=False),
        st.dictionaries(st.sampled_from(["n", "interval", "baseline"]), JSON, max_size=2),
    ),
    max_size=3,
)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


def clean(value):
    if isinstance(value, dict):
        return {clean(key): clean(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [clean(inner) for inner in value]
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


@given(
    found=st.dictionaries(
        st.integers(0, 3),
        st.tuples(TEXT.filter(str.strip), TEXT, SCORES),
        min_size=1,
    )
)
@settings(max_examples=tries(40), deadline=None)
def test_what_was_written_is_read(tmp_path_factory, found):
    atlas = FeatureAtlas().fit([[0, 1, 2, 0], [2, 0, 0, 0]])
    explanations = {
        i: Explanation(feature=i, text=text, source=source, scores=scores)
        for i, (text, source, scores) in found.items()
    }
    folder = write_neuronpedia(
        tmp_path_factory.mktemp("written"),
        atlas,
        model_id="m",
        set_name="s",
        layer=0,
        explanations=explanations,
        batch_size=2,
    )
    back = read_neuronpedia(folder)
    assert sorted(back) == sorted(explanations)
    for i, one in back.items():
        expected = explanations[i]
        assert (one.feature, one.text, one.source) == (i, expected.text, expected.source)
        assert one.scores == clean(expected.scores)
    assert list(read_neuronpedia_features(folder)) == [0, 1, 2, 3]


@given(data=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=tries(200), deadline=None)
def test_no_content_makes_it_fail_otherwise(tmp_path_factory, data):
    """Whatever a file holds, it is read or refused by name."""
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(data)
    for read in (read_neuronpedia, read_neuronpedia_features):
        assert "any.jsonl" in refusal(read, path)


def refusal(read, path):
    """The words with which a file is refused; its name if it is not."""
    try:
        read(path)
    except ValueError as error:
        return str(error)
    return path.name
