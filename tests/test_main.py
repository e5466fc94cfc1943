import csv
import io
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from sklearn.model_selection import train_test_split
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import sksae
import sksae.__main__ as command
from sksae import JumpReLUSAE, TopKSAE
from sksae.command_line import (
    ESTIMATORS,
    check_options,
    make_autoencoder,
    make_parser,
    split_pieces,
)
from sksae.language_models import ActivationExtractor
from sksae.metrics import dead_fraction, explained_variance, l0
from tests.cases import each_case
from tests.estimators import SAES
from tests.report.decoding import read_features, read_index

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
WORDS = ["the", "cat", "sat", "on", "a", "mat", "while", "<script>alert(1)</script>", "&"]
WORDS += ["birds", "희소", "특징", "ran", "home"]


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, size=12)) for _ in range(30)]


@pytest.fixture(scope="module")
def model(tmp_path_factory, texts):
    """The folder of a model with random weights and of its tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>"],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    folder = tmp_path_factory.mktemp("model")
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="<s>"
    ).save_pretrained(folder)
    config = transformers.LlamaConfig(
        vocab_size=384,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.LlamaModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def file(tmp_path, texts):
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def run(*arguments):
    return command.main([str(argument) for argument in arguments])


def test_the_main_job(model, file, texts, tmp_path, capsys):
    out, saved = tmp_path / "report", tmp_path / "sae.safetensors"
    small = ("--n-components", 48, "--k", 4, "--max-iter", 4)
    code = run(
        "--model", model, "--layer", 1, "--texts", file, *small, "--out", out, "--save", saved
    )
    shown, page = capsys.readouterr().out, (out / "index.html").read_text(encoding="utf-8")
    assert code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report", "sae.safetensors", "texts.txt"]
    assert [p.name for p in out.iterdir()] == ["index.html"]

    sae = sksae.load(saved)
    assert isinstance(sae, TopKSAE)
    assert sae.source_["layer"] == 1
    assert sae.source_["model"] == str(model)
    assert sae.explanations_.keys() == sae.feature_names_.keys() <= set(range(48))
    assert sae.feature_names_
    index = read_index(page)
    train, held_out = train_test_split(texts, test_size=0.2, random_state=0)
    extractor = ActivationExtractor(model, 1)
    X, H = extractor.transform(train), extractor.transform(held_out)
    for name, rows in (("training", X), ("held out", H)):
        codes = sae.transform(rows)
        expected = [
            f"{len(rows):,}",
            "48",
            f"{explained_variance(rows, sae.inverse_transform(codes)):.4f}",
            f"{l0(codes):.1f}",
            f"{dead_fraction(codes):.4f}",
        ]
        line = re.search(rf"^ *{name} +(.*)$", shown, re.M).group(1).split()
        assert line[:5] == expected
        assert any(set(line) <= set(cells) for cells in index["table"])
    assert 0 < shown.count("Feature ") <= 12
    assert len(read_features(out / "index.html")) == 48
    assert re.search(r"\[\[.+\]\]", shown)
    features = shown.split("Feature", 1)[1].split("Saved")[0]
    assert max(map(len, features.splitlines())) <= 100
    assert "<script>alert" not in page
    assert "pass 4/4" in shown
    assert f"sksae.load('{saved}')" in shown


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    """The path of a CSV file whose rating is larger with cats, and smaller with birds."""
    rng = np.random.default_rng(0)
    has = rng.random((400, 3)) < 0.4
    names = np.array(["cat", "birds", "mat"])
    texts = [" ".join(rng.permutation([*names[row], "the", "sat", "on", "a"])) for row in has]
    rating = np.round(3 + has[:, 0] - has[:, 1] + rng.normal(size=400)).astype(int)
    path = tmp_path_factory.mktemp("reviews") / "reviews.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        lines = csv.writer(stream, delimiter=";")
        lines.writerow(["rating", "what, and how", "author"])
        lines.writerows(
            zip(rating, (f"{t} {i}" for i, t in enumerate(texts)), range(400), strict=True)
        )
        lines.writerow(["4", "", "nobody"])
    return path


def test_statements_about_a_column_of_a_csv(model, reviews, tmp_path, capsys):
    small = ("--n-components", 48, "--k", 4, "--max-iter", 12, "--layer", 1)
    given = ("--texts", reviews, "--target", "rating", "--text-column", "what, and how")
    out, saved = tmp_path / "out", tmp_path / "saved" / "sae.safetensors"
    assert run("--model", model, *given, *small, "--out", out, "--save", saved) == 0
    shown = capsys.readouterr().out
    assert "Rows left out, for an empty cell: 1\n" in shown
    assert "200 texts to find statements, 200 to test them; rating is ordinal" in shown
    assert sorted(p.name for p in out.iterdir()) == ["index.html", "statements.csv"]

    with (out / "statements.csv").open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    survived = [line for line in lines if line["survives"] == "True"]
    effects = {line["text"]: float(line["effect"]) for line in survived}
    assert {text: effect > 0 for text, effect in effects.items()} == {
        '"cat"': True,
        '"rds" in "birds"': False,
    }
    assert {int(line["feature"]) for line in lines} <= set(sksae.load(saved).explanations_)
    assert (
        f"{len(survived)} of {len(lines)} statements survive; effects are at equal length" in shown
    )
    index = read_index((out / "index.html").read_text(encoding="utf-8"))
    assert index["table"][0][0] == "statement"
    assert [cells[0] for cells in index["table"][1:]] == [line["text"] for line in lines]


def test_another_estimator_from_standard_input(model, texts, tmp_path, capsys, monkeypatch):
    paragraphs = "\n \n".join(text.replace(" on ", "\non ") for text in texts)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(paragraphs.encode())))
    saved = tmp_path / "deep" / "sae.safetensors"
    code = run(
        "--model",
        model,
        "--texts",
        "-",
        "--estimator",
        "JumpReLUSAE",
        "--alpha",
        0.01,
        "--n-components",
        32,
        "--max-iter",
        1,
        "--max-texts",
        20,
        "--seed",
        3,
        "--out",
        tmp_path,
        "--save",
        saved,
    )
    assert code == 0
    sae = sksae.load(saved)
    assert isinstance(sae, JumpReLUSAE)
    assert (sae.alpha, sae.n_components_) == (0.01, 32)
    assert "16 texts to fit, 4 held out" in capsys.readouterr().out
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert dict(read_index(page)["facts"])["layer"] == "2"  # two thirds of three blocks


def test_the_same_seed_gives_the_same_page(model, file, tmp_path, capsys):
    pages = []
    for name in "ab":
        arguments = ("--n-components", 32, "--k", 4, "--max-iter", 1, "--out", tmp_path / name)
        assert run("--model", model, "--texts", file, *arguments) == 0
        page = tmp_path / name / "index.html"
        pages.append(
            (read_features(page), read_index(page.read_text(encoding="utf-8"))["histogram"])
        )
    assert pages[0] == pages[1]


@each_case(
    "text, pieces",
    [
        ("a\nb\n\n", ["a", "b"]),
        ("a\r\nb\r\n", ["a", "b"]),
        ("a\nb\n\n  c\n \t\n\nd", ["a\nb", "  c", "d"]),
        ("one", ["one"]),
        ("\n\n", []),
    ],
)
def test_what_separates_texts(text, pieces):
    assert split_pieces(text) == pieces


@each_case("cls", SAES)
def test_every_estimator_has_a_short_name(cls):
    (short,) = (name for name, made in ESTIMATORS.items() if made is cls)
    for name in (short, short.upper(), cls.__name__, cls.__name__.lower()):
        options = make_parser().parse_args(["--estimator", name, "--model", "m"])
        assert options.estimator == short
        assert type(make_autoencoder(options)) is cls


def test_options_of_the_sparsity_reach_the_estimator(tmp_path):
    def estimator(*arguments):
        options = make_parser().parse_args(["--model", "m", "--out", str(tmp_path), *arguments])
        check_options(options)
        return make_autoencoder(options)

    assert estimator("--estimator", "l1", "--target-l0", "7.5").target_l0 == 7.5
    assert estimator("--estimator", "gated", "--alpha", "0.5").get_params()["target_l0"] is None
    assert estimator("--estimator", "batchtopk", "--k", "3").k == 3


def failing(tmp_path, name):
    (tmp_path / "latin").write_bytes("é\nè".encode("latin-1"))
    (tmp_path / "empty").write_text("\n\n")
    (tmp_path / "two").write_text("a cat\na dog\n")
    (tmp_path / "taken").write_text("a file")
    (tmp_path / "rated.csv").write_text("text,stars\n" + "good,5\n" * 9)
    rated = ["--texts", str(tmp_path / "rated.csv")]
    path = str(tmp_path)
    return {
        "missing": (["--texts", f"{path}/nope"], "cannot read .*nope: No such file"),
        "folder": (["--texts", path], "cannot read .*: Is a directory"),
        "latin": (["--texts", f"{path}/latin"], "not UTF-8 text: byte 0"),
        "empty": (["--texts", f"{path}/empty"], "0 different texts in .*empty, but at least 2"),
        "estimator": (["--estimator", "pca"], "unknown estimator 'pca'; there are topk"),
        "k of l1": (["--estimator", "l1", "--k", "4"], "--k is for topk; l1 takes --alpha"),
        "alpha of topk": (["--alpha", "1"], "--alpha is for penalised"),
        "target of batchtopk": (
            ["--estimator", "batch-topk", "--target-l0", "9"],
            "--target-l0 is for penalised estimators; batchtopk takes --k",
        ),
        "target": (["--estimator", "gated", "--target-l0", "0"], "must be a number > 0"),
        "transcoder": (["--estimator", "Transcoder"], "needs sksae.Transcoder"),
        "k": (["--k", "0"], "--k: must be at least 1"),
        "alpha": (["--estimator", "l1", "--alpha", "-1"], "must be a number >= 0"),
        "word": (["--k", "many"], "--k: invalid"),
        "option": (["--what"], "unrecognized arguments: --what"),
        "model": (["--model", f"{path}/none"], "there is no folder .*none"),
        "no model": (["--model", path, "--texts", f"{path}/two"], "."),
        "layer": (["--layer", "9", "--texts", f"{path}/two"], "has 5 layers.*Got 9"),
        "site": (["--site", "nowhere", "--texts", f"{path}/two"], "nowhere"),
        "no texts": (["--target", "stars"], "--target needs the CSV file"),
        "no target": ([*rated, "--groups", "x"], "--groups is for texts with a --target"),
        "column": ([*rated, "--target", "rating"], "has no column 'rating'; there are text, stars"),
        "one value": ([*rated, "--target", "stars"], "'stars' of .* has one value, 5, in 9 rows"),
        "out": (["--out", f"{path}/taken/x"], "cannot write to .*taken"),
        "save": (["--save", f"{path}"], "needs the name of a file"),
        "device": (["--device", "abacus", "--texts", f"{path}/two"], "abacus"),
    }[name]


@each_case(
    "name",
    [
        "missing",
        "folder",
        "latin",
        "empty",
        "estimator",
        "k of l1",
        "alpha of topk",
        "k",
        "alpha",
        "target of batchtopk",
        "target",
        "transcoder",
        "word",
        "option",
        "model",
        "no model",
        "layer",
        "site",
        "no texts",
        "no target",
        "column",
        "one value",
        "out",
        "save",
        "device",
    ],
)
def test_an_error_is_one_line_and_exit_code_2(name, tmp_path, capsys):
    arguments, message = failing(tmp_path, name)
    if "--out" not in arguments:
        arguments += ["--out", str(tmp_path / "report")]
    try:
        code = run(*arguments)
    except SystemExit as leaving:
        code = leaving.code
    captured = capsys.readouterr()
    errors = [e for e in captured.err.splitlines() if e.strip() and "Loading weights" not in e]
    assert code == 2
    assert len(errors) == 1
    assert re.match(r"python -m sksae: error: ", errors[0])
    assert re.search(message, errors[0])
    assert not list(tmp_path.glob("report/*"))


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as leaving:
        run("--help")
    assert leaving.value.code == 0
    shown = capsys.readouterr().out
    for option in ("--model", "--layer", "--site", "--texts", "--target", "--estimator", "--k",
                   "--alpha", "--target-l0", "--n-components", "--out", "--save"):  # fmt: skip
        assert option in shown
    assert "your own model and text" in shown


def test_an_interruption_is_no_traceback(monkeypatch, tmp_path, capsys):
    def interrupted(*options):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "read_texts", interrupted)
    assert run("--out", tmp_path) == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.fixture
def run_example(tmp_path, monkeypatch, capsys):
    """Run an example of the gallery in a folder of its own, and return what it prints."""
    plt = pytest.importorskip("matplotlib.pyplot")
    before = plt.get_backend()
    plt.switch_backend("Agg")
    monkeypatch.chdir(tmp_path)

    def run_and_read(name):
        runpy.run_path(str(ROOT / "docs" / "examples" / "language_models" / name))
        return capsys.readouterr().out

    yield run_and_read
    plt.close("all")
    plt.switch_backend(before)


@pytest.mark.slow
def test_the_example_of_steering_ends_well(run_example):
    shown = run_example("steering.py")
    plain, _, strong = re.findall(r"x its maximum: (.*)$", shown, re.M)
    assert strong.count(" shape") > plain.count(" shape")


@pytest.mark.slow
def test_the_example_of_a_circuit_ends_well(run_example, tmp_path):
    shown = run_example("circuit.py")
    assert 0.8 < float(re.search(r"faithfulness (\S+),", shown).group(1)) < 1.2
    for name in ("circuit.graphml", "circuit.json"):
        assert (tmp_path / name).stat().st_size > 10_000


@pytest.mark.slow
def test_the_example_of_features_shows_a_dozen(run_example, tmp_path):
    shown = run_example("language_model_features.py")
    assert len(re.findall(r"^Feature \d+: ", shown, re.M)) == 12
    assert len(read_features(tmp_path / "sksae-report" / "index.html")) == 512


@pytest.mark.slow
def test_the_default_shows_a_dozen_features(tmp_path):
    """``python -m sksae``, or what it left in a folder, where .ci/run has run it already."""
    folder = Path(os.environ.get("SKSAE_DEFAULT_RUN", tmp_path))
    if folder == tmp_path:
        with (folder / "printed").open("wb") as printed:
            command = [sys.executable, "-m", "sksae"]
            subprocess.run(command, cwd=folder, stdout=printed, check=True, env=ENVIRONMENT)
    shown = (folder / "printed").read_text(encoding="utf-8", errors="replace")
    assert len(re.findall(r"^Feature \d+: ", shown, re.M)) == 12
    assert len(read_features(folder / "sksae-report" / "index.html")) == 1536
    values = re.search(r"held out +(.*)$", shown, re.M).group(1).split()
    assert float(values[2]) > 0.75
    assert float(values[4]) < 0.05
