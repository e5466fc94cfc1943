import base64
import hashlib
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

import sksae.report
from sksae._signs import visible
from sksae.interpret import FeatureAtlas
from sksae.report import _page, write_page
from tests.cases import each_case, tries
from tests.report.decoding import blocks_of, read_features, read_index
from tests.report.planted_images import COLOURS, PATCH, planted_atlas
from tests.report.synthetic_atlas import SyntheticAtlas

EVIL = [
    '<script>alert("1")</script>',
    "</style><img src=x onerror=alert(1)>",
    "\x00\u202e& '\"",
    "\ud800$title",
    "</script><!--",
]
SHOWN = [visible(text) for text in EVIL]


class Outline(HTMLParser):
    """The tags of a page with their attributes, and the text of each script and style."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.content = [], {}
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        tag, attributes = self.tags[-1] if self.tags else (None, {})
        if tag in ("script", "style") and "type" not in attributes:
            self.content.setdefault(tag, data)


class Prompt:
    text, tokens = EVIL[0], EVIL
    codes = sparse.csr_array(np.array([[0, 1.25], [0, 0], [2, 0], [0, 0], [0, 0.5]]))


class Scored(str):
    scores = {"detection": {"value": 0.9, "low": 0.8, "high": np.nan, "n": 7}, EVIL[1]: 0.25}
    source = EVIL[2]


@pytest.fixture
def hostile(tmp_path):
    codes = np.array([[0, 1.0], [2, 0], [1, 0], [3, 0], [0, 0]])
    table = {"text": [0] * 5, "string": EVIL}
    atlas = FeatureAtlas().fit(codes, tokens=table)
    return write_page(
        tmp_path / "index.html",
        atlas,
        title=EVIL[0],
        explanations={1: Scored(EVIL[1])},
        prompts=[Prompt()],
        facts={EVIL[0]: EVIL[1], "seed": 3, "policy": {"a": 1, "b": "<b>"}, "unset": None},
        table=[{"": EVIL[0], "rows": 4}],
    )


def test_text_is_data(hostile):
    page = hostile.read_bytes().decode("utf-8")
    outline = Outline(page)
    kinds = [attributes.get("type") for tag, attributes in outline.tags if tag == "script"]
    assert kinds == ["application/octet-stream", "application/octet-stream", None]
    assert not {tag for tag, _ in outline.tags} & {"img", "link", "iframe", "b", "object"}
    assert not [name for _, attributes in outline.tags for name in attributes if name[:2] == "on"]
    assert "<title>&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;</title>" in page


def test_the_page_says_what_it_was_given(hostile):
    index = read_index(hostile.read_text(encoding="utf-8"))
    assert index["title"] == SHOWN[0]
    assert index["table"] == [["", "rows"], [SHOWN[0], "4"]]
    facts = dict(index["facts"])
    assert facts[SHOWN[0]] == SHOWN[1]
    assert (facts["seed"], facts["policy"]) == ("3", "a: 1, b: <b>")
    assert "unset" not in facts
    assert index["columns"]["label"] == [None, SHOWN[1]]
    assert index["columns"]["density"] == [0.6, 0.2]
    assert index["columns"]["largest"] == [3.0, 1.0]
    assert index["columns"]["score"] == [None, 0.9]
    assert index["columns"]["tokens"] == [[SHOWN[3], SHOWN[1], SHOWN[2]], [SHOWN[0]]]
    assert index["score_names"] == ["detection"]
    assert (index["n_components"], index["n_rows"], index["n_texts"]) == (2, 5, 1)
    (prompt,) = index["prompts"]
    assert prompt["tokens"] == SHOWN
    places = zip(prompt["token"], prompt["feature"], prompt["value"], strict=True)
    assert sorted(places) == [(0, 1, 1.25), (2, 0, 2.0), (4, 1, 0.5)]


def test_the_details_of_features(hostile):
    first, second = read_features(hostile)
    assert first["feature"] == 0
    assert (first["active"], first["texts"]) == (3, 1)
    strongest = first["groups"][0]
    assert strongest["kind"] == "strongest"
    example = strongest["examples"][0]
    assert example["tokens"] == SHOWN
    assert example["levels"] == [0, 170, 85, 255, 0]
    assert (example["peak"], example["cut"], example["activation"]) == (3, 0, 3.0)
    assert first["tokens"][0] == (SHOWN[3], 0.5)
    assert first["scores"] == []
    assert [score["name"] for score in second["scores"]] == ["detection", SHOWN[1]]
    assert [score["value"] for score in second["scores"]] == [0.9, 0.25]
    assert second["scores"][0]["high"] is None
    assert second["source"] == SHOWN[2]


def test_only_the_pages_own_script_and_style_may_run(hostile):
    outline = Outline(hostile.read_text(encoding="utf-8"))
    (policy,) = [a["content"] for tag, a in outline.tags if tag == "meta" and "http-equiv" in a]
    hashes = {
        name: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for name, text in outline.content.items()
    }
    assert policy == (
        f"default-src 'none'; script-src 'sha256-{hashes['script']}'; "
        f"style-src 'sha256-{hashes['style']}'; base-uri 'none'; form-action 'none'"
    )


def test_the_sources_make_no_markup_of_data_and_ask_nobody():
    folder = Path(sksae.report.__file__).parent / "page"
    scripts = {file.name: file.read_text(encoding="utf-8") for file in folder.glob("*.js")}
    assert len(scripts) >= 5
    for name, text in scripts.items():
        lines = len(text.splitlines())
        assert lines <= 300, name
        markup = r"innerHTML|outerHTML *\+?=|insertAdjacentHTML|document\.write|</script"
        code = r"\beval\b|new Function|fetch\(|XMLHttp|sendBeacon|WebSocket"
        assert not re.search(f"{markup}|{code}", text), name
        assert re.findall(r"https?:[^\"']*", text) in ([], ["http://www.w3.org/2000/svg"]), name
    for file in [*folder.glob("*.css"), *folder.glob("*.html")]:
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"url\(|@import|https?:", text), file.name


def test_a_page_of_images_has_each_once_and_where_it_fires(tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    atlas, places = planted_atlas()
    path = write_page(tmp_path / "index.html", atlas)
    page = path.read_text(encoding="utf-8")
    index, blocks = read_index(page), blocks_of(page)
    assert index["image_grid"] == [3, 4]
    assert index["columns"]["crops"][0] == [[i, places[i, 0]] for i in range(23, 17, -1)]
    assert "; img-src data:" in page.split("Content-Security-Policy")[1].split(">")[0]
    for feature, colour in COLOURS.items():
        (strongest, *_) = read_features(path)[feature]["groups"]
        assert [example["text"] for example in strongest["examples"]] == [*range(23, 3, -1)]
        for example in strongest["examples"]:
            patch = places[example["text"], feature]
            assert (example["patch"], example["n_known"]) == (patch, 12)
            share = (1 + example["text"] / 24) / (1 + 23 / 24)
            levels = [round(255 * share), *[0] * 12]
            levels[1 + patch] = levels[0]
            assert example["levels"] == levels
            png = base64.b64decode(blocks[f"image-{example['text']}"], validate=True)
            pixels = np.asarray(pillow.open(io.BytesIO(png)))
            row, column = np.array(divmod(patch, 4)) * PATCH
            assert (pixels[row : row + PATCH, column : column + PATCH] == colour).all()
    only = write_page(tmp_path / "one.html", atlas, features=[1])
    shown = {name for name in blocks_of(only.read_text(encoding="utf-8")) if "image" in name}
    groups = read_features(only)[0]["groups"]
    assert shown == {f"image-{example['text']}" for g in groups for example in g["examples"]}


@pytest.mark.slow
def test_a_thousand_features_fit_into_five_megabytes(tmp_path):
    path = write_page(tmp_path / "index.html", SyntheticAtlas(1000, period=550))
    assert [file.name for file in tmp_path.iterdir()] == ["index.html"]
    assert path.stat().st_size <= 5e6
    features = read_features(path)
    assert [feature["feature"] for feature in features] == list(range(1000))
    alive = [feature for feature in features if feature["active"]]
    assert {len(f["groups"][0]["examples"]) for f in alive} == {20}
    assert {sum(len(g["examples"]) for g in f["groups"][1:]) for f in alive} == {25}


def small_atlas(n_components, cls=SyntheticAtlas, **known):
    return cls(n_components, n_examples=1, n_sampled=2, period=22, **known)


@pytest.fixture
def many_are_201(monkeypatch):
    """A tenth of the sizes above which a page has parts."""
    monkeypatch.setattr(_page, "ONE_FILE", 200)
    monkeypatch.setattr(_page, "PART", 26)


def test_many_features_are_an_index_and_parts(tmp_path, many_are_201):
    atlas = small_atlas(201)
    path = write_page(tmp_path / "a b.html", atlas)
    page = path.read_text(encoding="utf-8")
    index = read_index(page)
    assert index["folder"] == "a%20b-features"
    assert len(index["parts"]) == 8
    assert {file.stem for file in (tmp_path / "a b-features").iterdir()} == set(index["parts"])
    assert list(blocks_of(page)) == ["index"]
    policies = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert len(policies) == 2
    assert "'strict-dynamic'" in policies[0]
    assert policies[1] == "script-src 'unsafe-inline' 'self' file:"


def read_folder(path):
    index = read_index(path.read_text(encoding="utf-8"))
    folder = path.with_name(f"{path.stem}-features")
    return index, {file.name for file in folder.iterdir()} if folder.exists() else None


def test_parts_of_an_older_page_are_removed_and_nothing_else(tmp_path, many_are_201):
    path = tmp_path / "index.html"
    write_page(path, small_atlas(201, seed=1))
    (tmp_path / "index-features" / "notes.txt").write_text("mine")
    (tmp_path / "index-features" / "script.js").write_text("mine too")
    write_page(path, small_atlas(201, seed=2))
    index, files = read_folder(path)
    assert files == {*(f"{name}.js" for name in index["parts"]), "notes.txt", "script.js"}
    write_page(path, SyntheticAtlas(3))
    assert read_folder(path)[1] == {"notes.txt", "script.js"}


def test_a_page_that_shrinks_leaves_no_folder(tmp_path, many_are_201):
    path = write_page(tmp_path / "index.html", small_atlas(201))
    write_page(path, SyntheticAtlas(3))
    assert [file.name for file in tmp_path.iterdir()] == ["index.html"]


def test_after_a_failure_the_old_page_is_as_it_was(tmp_path, many_are_201):
    class Failing(SyntheticAtlas):
        def feature(self, i):
            if i == 70:
                raise RuntimeError("out of patience")
            return super().feature(i)

    path = tmp_path / "index.html"
    with pytest.raises(RuntimeError, match="patience"):
        write_page(path, small_atlas(201, Failing))
    assert list(tmp_path.iterdir()) == []
    write_page(path, small_atlas(201))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(RuntimeError, match="patience"):
        write_page(path, small_atlas(201, Failing, seed=5))
    with pytest.raises(RuntimeError, match="patience"):  # the first two parts are those there
        write_page(path, small_atlas(201, Failing))
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_some_features_in_the_order_asked_for(tmp_path):
    atlas = SyntheticAtlas(40)
    path = write_page(tmp_path / "index.html", atlas, features=np.array([7, 3]))
    index = read_index(path.read_text(encoding="utf-8"))
    assert index["columns"]["feature"] == [7, 3]
    assert [feature["feature"] for feature in read_features(path)] == [7, 3]
    assert len(index["map"][0]) == 40  # the others are there, as dots


@each_case(
    "features, error, message",
    [
        ([3, 40], ValueError, "features must be an int in .0, 39"),
        ([-1], ValueError, "features must be an int"),
        ([1.5], ValueError, "features must be an int"),
        ([2, 3, 2], ValueError, "names 2 more than once"),
    ],
)
def test_features_that_are_not_there(tmp_path, features, error, message):
    with pytest.raises(error, match=message):
        write_page(tmp_path / "index.html", SyntheticAtlas(40), features=features)
    assert not list(tmp_path.iterdir())


def test_an_atlas_that_is_none(tmp_path):
    with pytest.raises(TypeError, match=r"fitted FeatureAtlas.*Got list instead"):
        write_page(tmp_path / "index.html", [1, 2])
    with pytest.raises(TypeError, match=r"fitted FeatureAtlas.*Got one that is not fitted"):
        write_page(tmp_path / "index.html", FeatureAtlas())


@each_case("name", ["", "page", "page.txt", "folder.html"])
def test_paths_that_are_no_page(tmp_path, name):
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(ValueError, match=r"ends in \.html\. Got"):
        write_page(tmp_path / name, SyntheticAtlas(4))


def test_explanations_and_prompts_of_another_atlas(tmp_path):
    path = tmp_path / "index.html"
    with pytest.raises(ValueError, match=r"each key of explanations must be an int in .0, 3"):
        write_page(path, SyntheticAtlas(4), explanations={4: "rivers"})
    with pytest.raises(ValueError, match=r"4 features of the atlas\. Got one with 2"):
        write_page(path, SyntheticAtlas(4), prompts=[Prompt()])
    assert not list(tmp_path.iterdir())


def test_a_page_without_features(tmp_path):
    path = write_page(tmp_path / "index.html", SyntheticAtlas(5), features=[])
    assert read_index(path.read_text(encoding="utf-8"))["columns"]["feature"] == []


def test_the_same_input_gives_the_same_page(tmp_path):
    pages = [
        write_page(tmp_path / run / "index.html", SyntheticAtlas(30)).read_bytes() for run in "ab"
    ]
    assert pages[0] == pages[1]


TEXTS = st.text(st.characters(exclude_categories=()), max_size=8)


@settings(max_examples=tries(15), deadline=None)
@given(tokens=st.lists(TEXTS, min_size=1, max_size=12), label=TEXTS, title=TEXTS)
def test_any_text_survives_as_it_can_be_shown(tmp_path_factory, tokens, label, title):
    codes = np.arange(1, len(tokens) + 1, dtype=float)[:, None]
    table = {"text": [0] * len(tokens), "string": tokens}
    atlas = FeatureAtlas(before=20, after=20).fit(codes, tokens=table)
    path = tmp_path_factory.mktemp("page") / "index.html"
    write_page(path, atlas, title=title, explanations={0: label})
    index = read_index(path.read_bytes().decode("utf-8"))
    assert index["title"] == visible(title)
    assert index["columns"]["label"] == [visible(label).strip()]
    (feature,) = read_features(path)
    assert feature["groups"][0]["examples"][0]["tokens"] == [visible(token) for token in tokens]


@each_case(
    "options, message",
    [
        ({"explanations": ["rivers"]}, "explanations must be a dict. Got list"),
        ({"facts": "mine"}, "facts must be a dict. Got str"),
        ({"prompts": ["hello"]}, "list of PromptCodes"),
        ({"prompts": Prompt()}, "list of PromptCodes"),
        ({"features": 3}, "features must be a list of features. Got 3"),
        ({"table": pd.DataFrame({"a": [1]})}, "to_dict"),
    ],
)
def test_arguments_of_another_type_are_refused_before_anything_is_read(tmp_path, options, message):
    atlas = SyntheticAtlas(4)
    atlas.feature = None  # a feature that is read would fail
    with pytest.raises(TypeError, match=message):
        write_page(tmp_path / "index.html", atlas, **options)
    assert not list(tmp_path.iterdir())
