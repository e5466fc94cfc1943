"""The corpus: what it holds, how its texts are read, and that training never saw them."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

from sksae.datasets import _corpus, load_corpus
from sksae.datasets._corpus import (
    CORPUS_MODULES,
    DOCUMENTS_PER_SOURCE,
    MIN_CHARACTERS,
    SOURCES,
    drop_near_duplicates,
    drop_overlapping,
    find_modules,
    is_held_out,
    read_documents,
)

LABELS = ["numpy", "scipy", "scikit-learn", "torch", "transformers", "Python"]
LONG = "A sentence of documentation that is told again and again until it is long enough. "


@pytest.fixture
def read_anew(monkeypatch):
    """Read the installed packages at every call, which other tests do once."""
    monkeypatch.setattr(_corpus, "_corpus_documents", _corpus._corpus_documents.__wrapped__)


@pytest.fixture(scope="module")
def corpus():
    return load_corpus()


def words(start, stop):
    return " ".join(f"word{i}" for i in range(start, stop))


def test_labels_are_the_six_sources_in_order(corpus):
    assert corpus.target_names == LABELS == list(SOURCES) == list(CORPUS_MODULES)
    assert corpus.target.dtype == np.int64
    assert (np.diff(corpus.target) >= 0).all()
    assert len(corpus.data) == len(corpus.target) == len(corpus.module)


def test_a_few_hundred_documents_fairly_balanced(corpus):
    counts = np.bincount(corpus.target, minlength=6)
    assert counts.max() <= DOCUMENTS_PER_SOURCE
    assert counts.min() >= DOCUMENTS_PER_SOURCE // 2
    assert 250 <= counts.sum() <= 6 * DOCUMENTS_PER_SOURCE


def test_documents_are_long_clean_and_distinct(corpus):
    assert min(map(len, corpus.data)) >= MIN_CHARACTERS
    assert all(text == text.strip() for text in corpus.data)
    assert len(set(corpus.data)) == len(corpus.data)


def test_module_names_fit_the_labels(corpus):
    packages = [SOURCES[LABELS[label]] for label in corpus.target]
    for package, module in zip(packages, corpus.module, strict=True):
        top = module.split(".")[0]
        assert top == package if package else top not in SOURCES.values()


@pytest.mark.usefixtures("read_anew")
def test_two_calls_agree(corpus):
    again = load_corpus()
    assert again.data == corpus.data
    assert again.module == corpus.module


def test_return_X_y(corpus):
    data, target = load_corpus(return_X_y=True)
    assert data == corpus.data
    np.testing.assert_array_equal(target, corpus.target)


def test_description_ends_before_the_parameters(corpus):
    assert corpus.DESCR.startswith("Load documentation texts")
    assert "Parameters" not in corpus.DESCR


def test_every_document_is_held_out(corpus):
    assert all(map(is_held_out, corpus.module))
    modules = [m for group in CORPUS_MODULES.values() for m in group]
    assert all(is_held_out(module) for module in modules if module != "pydoc_data.topics")


def test_the_split_does_not_depend_on_the_process():
    held_out = [name for name in map("package.module{}".format, range(60)) if is_held_out(name)]
    assert held_out == ["package.module10", "package.module25", "package.module29"]


def test_one_module_in_ten_is_held_out():
    share = np.mean([is_held_out(f"package.module{i}") for i in range(5000)])
    assert 0.08 < share < 0.12


def test_packages_can_be_told_apart(corpus):
    classifier = make_pipeline(TfidfVectorizer(), LogisticRegression())
    scores = cross_val_score(classifier, corpus.data, corpus.target, cv=3)
    assert scores.mean() > 0.7


def test_near_duplicates_keep_the_first():
    first, second = ("a", words(0, 100)), ("b", words(200, 300))
    mostly_first = ("c", words(0, 90) + " " + words(400, 420))
    partly_first = ("d", words(0, 40) + " " + words(500, 600))
    kept = drop_near_duplicates([first, second, mostly_first, partly_first])
    assert kept == [first, second, partly_first]


def test_near_duplicates_ignore_case_and_line_breaks():
    text = words(0, 50)
    wrapped = text.replace(" ", "\n    ").upper()
    assert drop_near_duplicates([("a", text), ("b", wrapped)]) == [("a", text)]


def test_overlap_counts_the_shorter_text():
    held_out = [("held", words(0, 60))]
    contains_it = ("train", words(1000, 1400) + " " + words(0, 60))
    shares_little = ("train", words(40, 200))
    assert drop_overlapping([contains_it, shares_little], held_out) == [shares_little]


def test_files_are_read_and_never_run(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        f'"""{LONG * 3}"""\nraise RuntimeError\n'
        f'def f():\n    r"""First line.\n\n    {LONG * 3}\\d\n    """\n'
        f'class A:\n    """Too short."""\n'
    )
    assert read_documents("package.module", path) == [
        ("package.module", (LONG * 3).strip()),
        ("package.module", "First line.\n\n" + LONG * 3 + "\\d"),
    ]


@pytest.mark.parametrize("call", ["add_newdoc('package', 'f', {})", "torch._C._add_docstr(f, {})"])
def test_attached_docstrings_are_read(tmp_path, call):
    path = tmp_path / "docs.py"
    argument = 'r"""' + LONG * 3 + '\n    {input}\nReturns {{a}}.\n""".format(**args)'
    path.write_text(call.format(argument))
    ((module, text),) = read_documents("package.docs", path)
    assert module == "package.docs"
    assert text == LONG * 3 + "\nReturns {a}."


def test_a_help_topic_is_a_module_of_its_own(tmp_path):
    path = tmp_path / "topics.py"
    path.write_text(f"topics = {{'while': {LONG * 3!r}, 'if': {LONG * 4!r}, 'x': 'short'}}\n")
    documents = read_documents("pydoc_data.topics", path)
    assert [name for name, _ in documents] == ["pydoc_data.topics.if", "pydoc_data.topics.while"]


def test_tests_are_not_read():
    modules = find_modules("scikit-learn")
    assert "sklearn.decomposition" in modules
    assert not any("tests" in name.split(".") for name in modules)


@pytest.mark.usefixtures("read_anew")
def test_a_missing_module_is_skipped(monkeypatch):
    some = {**CORPUS_MODULES, "numpy": ("numpy.gone", *CORPUS_MODULES["numpy"][-1:])}
    monkeypatch.setattr(_corpus, "CORPUS_MODULES", some)
    corpus = load_corpus()
    assert {m for m in corpus.module if m.startswith("numpy")} == {"numpy.lib.recfunctions"}


@pytest.mark.usefixtures("read_anew")
def test_a_source_without_modules_is_an_error(monkeypatch):
    monkeypatch.setattr(_corpus, "CORPUS_MODULES", {**CORPUS_MODULES, "torch": ("torch.gone",)})
    with pytest.raises(ModuleNotFoundError, match="none of the torch modules"):
        load_corpus()


@pytest.mark.usefixtures("read_anew")
def test_a_missing_package_is_an_error(monkeypatch):
    from sksae.datasets import _corpus

    monkeypatch.setitem(_corpus.SOURCES, "torch", "no_such_package")
    with pytest.raises(ModuleNotFoundError, match="torch is not installed"):
        load_corpus()
