"""Statements of the command line from embeddings, and with a language model on a server."""

import csv
import json
import re

import numpy as np
import pytest

import sksae.__main__ as command
from sksae.interpret.explanation import _explanation_prompts as prompts
from tests.cases import each_case
from tests.interpret.explanation.chat_server import chat_server, said
from tests.report.decoding import read_index

WORDS = {"drink": ("커피", "홍차"), "noise": ("소음", "음악"), "weather": ("비가", "눈이")}
FILLERS = ("우리는", "어제", "친구와", "함께", "갔다")


def reviews(n_texts=300, seed=0):
    """Korean texts, a rating that drinks raise and noise lowers, and embeddings of the words."""
    rng = np.random.default_rng(seed)
    has = rng.random((n_texts, 3)) < 0.3
    names = np.array(list(WORDS))
    chosen = [[rng.choice(WORDS[name]) for name in names[row]] for row in has]
    texts = [" ".join(rng.permutation([*c, *rng.choice(FILLERS, 3)])) for c in chosen]
    vectors = {word: rng.normal(size=16) for words in WORDS.values() for word in words}
    vectors |= {word: 0.1 * rng.normal(size=16) for word in FILLERS}
    X = np.array([sum(vectors[word] for word in text.split()) for text in texts])
    rating = np.round(3 + has[:, 0] - has[:, 1] + 0.7 * rng.normal(size=n_texts))
    return texts, rating, X.astype(np.float32)


@pytest.fixture
def rated(tmp_path):
    texts, rating, X = reviews()
    rows = [[text, int(rating[i]), ["서울", "부산"][i % 2]] for i, text in enumerate(texts)]
    rows.insert(3, ["", 5, "대구"])  # left out, and so is its embedding
    with (tmp_path / "reviews.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([["후기", "별점", "도시"], *rows])
    np.save(tmp_path / "rows.npy", np.insert(X, 3, 100, axis=0))
    return tmp_path


def run(folder, *arguments):
    given = ["--texts", folder / "reviews.csv", "--text-column", "후기", "--target", "별점"]
    given += ["--embeddings", folder / "rows.npy", "--n-components", 8, "--k", 2, "--max-iter", 60]
    return command.main([str(a) for a in [*given, "--out", folder / "out", *arguments]])


def statements_in(folder):
    with (folder / "out" / "statements.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_korean_texts_and_embeddings_without_any_language_model(rated, capsys, monkeypatch):
    monkeypatch.setattr(command, "ActivationExtractor", None)
    assert run(rated) == 0
    assert "Rows left out, for an empty cell: 1" in capsys.readouterr().out
    survived = [line for line in statements_in(rated) if line["survives"] == "True"]
    effects = {}
    for line in survived:
        concepts = {n for n, words in WORDS.items() if any(word in line["text"] for word in words)}
        assert len(concepts) == 1
        effects.setdefault(concepts.pop(), set()).add(float(line["effect"]) > 0)
    assert effects == {"drink": {True}, "noise": {False}}
    with (rated / "reviews.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    words = [word for words in WORDS.values() for word in words if word in survived[0]["text"]]
    for number in survived[0]["rows_for"].split():
        assert any(word in rows[int(number) - 1]["후기"] for word in words)
    assert "texts_for" not in survived[0]
    index = read_index((rated / "out" / "index.html").read_text(encoding="utf-8"))
    assert index["columns_of_texts"]["names"] == ["별점", "도시"]
    shown = [line["text"] for line in index["statements"]]
    assert shown == [line["text"] for line in statements_in(rated)]
    assert index["tested_on"]["names"] == ["별점", "도시"]
    assert dict(index["facts"])["embeddings"].endswith("rows.npy")


def answer(number, request):
    """A reader of Korean that knows the concepts, and nothing of features and targets."""
    system, user = (message["content"] for message in request["messages"])
    if system == prompts._EXPLAIN:
        counts = {name: sum(map(user.count, words)) for name, words in WORDS.items()}
        return said(f"EXPLANATION: {max(counts, key=counts.get)}")
    words = WORDS[re.match(r"Description: (\w+)", user)[1]]
    lines = re.findall(r"^\d+\. (.*)$", user, re.MULTILINE)
    return said(json.dumps([int(any(word in line for word in words)) for line in lines]))


def test_a_client_is_asked_after_its_cost_was_shown_and_agreed_to(rated, capsys):
    with chat_server(answer) as server:
        asked = ("--client", "reader", "--client-url", server.url, "--prices", 1, 4)
        assert run(rated, *asked) == 0
        shown = capsys.readouterr().out
        assert server.requests == []
        cost = re.search(
            r"reader at \S+ would get at most (\S+) questions about (\d+) features: about (\S+) "
            r"tokens sent and (\S+) received, (\S+) at the prices given\.",
            shown,
        )
        n_questions, n_features, sent, received, price = (
            float(n.replace(",", "")) for n in cost.groups()
        )
        assert price == pytest.approx((sent + 4 * received) / 1e6, abs=0.005)
        assert "Nothing was sent. With --yes, the questions are sent." in shown
        assert [path.name for path in (rated / "out").iterdir()] == []
        assert run(rated, *asked, "--yes") == 0
        assert n_features < len(server.requests) <= n_questions
        once = len(server.requests)
        lines = statements_in(rated)
        assert run(rated, *asked, "--yes") == 0  # the answers are kept
        assert len(server.requests) == once
    survived = [line for line in lines if line["survives"] == "True"]
    effects = {line["text"]: float(line["effect"]) > 0 for line in survived}
    assert effects == {"drink": True, "noise": False}
    assert len({line["text"] for line in lines}) == len(lines)
    assert sorted(path.name for path in (rated / "out").iterdir()) == [
        "answers.jsonl",
        "index.html",
        "statements.csv",
    ]


def test_a_key_comes_from_the_environment(rated, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sesame")
    with chat_server(answer) as server:
        run(rated, "--client", "r", "--client-url", server.url, "--client-key", "MY_KEY", "--yes")
    assert {headers["authorization"] for _, headers, _ in server.requests} == {"Bearer sesame"}


@each_case(
    "array, message",
    [
        (np.zeros((300, 3)), r"has 300 rows, and the CSV file 301 below the names"),
        (np.zeros(301), r"shape \(rows, dimensions\); it has float64 of shape \(301,\)"),
        (np.full((301, 2), np.nan), "numbers that are not finite"),
        (np.array(["a"] * 301)[:, None], "needs numbers of shape"),
        (None, "is no array that numpy.save has written"),
        ("missing", "cannot read .*rows.npy: No such file"),
    ],
)
def test_embeddings_that_do_not_fit(rated, array, message, capsys):
    path = rated / "rows.npy"
    if array is None:
        path.write_text("text")
    elif isinstance(array, str):
        path.unlink()
    else:
        np.save(path, array)
    assert run(rated) == 2
    assert re.search(message, capsys.readouterr().err)


@each_case(
    "arguments, message",
    [
        (["--model", "m"], "--model has no use with --embeddings"),
        (["--save", "x.st"], "--save has no use with --embeddings"),
        (["--client-url", "http://x"], "--client-url is for a --client"),
        (["--client", "m", "--client-key", "NO_SUCH_KEY"], "no variable NO_SUCH_KEY"),
    ],
)
def test_options_that_contradict_each_other(rated, arguments, message, capsys):
    assert run(rated, *arguments) == 2
    assert re.search(message, capsys.readouterr().err)
