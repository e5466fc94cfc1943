"""What a notebook echoes: short whatever it holds, and safe to show."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from sksae import ActivationExtractor, SAEVectorizer, TopKSAE
from sksae._signs import SHOWN
from sksae.datasets import load_tiny_lm
from sksae.formats import RowNormalizer
from sksae.interpret import Example, FeatureAtlas, FeatureContrast, PromptCodes
from sksae.language_models import LogitLens, TokenBehaviour, TokenTable
from sksae.model_selection import SparsityPathCV
from tests.cases import each_case
from tests.estimators import FAMILY, OTHERS, unfitted
from tests.test_site import extension

HOSTILE = "<b>\x1b[2J\n" + "x" * 10_000


def token_table(n_rows, string=" a"):
    rows = np.arange(n_rows)
    words = np.full(n_rows, string, dtype=object)
    return TokenTable(rows // 100, rows % 100, rows, words, rows, rows + 1, rows, [string] * n_rows)


def logit_lens(n_features, string=" a"):
    words = np.full((n_features, 50), string, dtype=object)
    ids, numbers = np.zeros((n_features, 50), dtype=int), np.zeros((n_features, 50))
    features, kurtosis = np.arange(n_features), np.ones(n_features)
    return LogitLens(features, ids, ids, words, words, numbers, numbers, kurtosis)


def behaviour_of_tokens(n_tokens, string=" a"):
    words, numbers = np.full(n_tokens, string, dtype=object), np.zeros(n_tokens)
    position = np.arange(n_tokens)
    return TokenBehaviour(position, words, position, words, *[numbers] * 11)


TABLES = [token_table, logit_lens, behaviour_of_tokens]


@pytest.fixture(scope="module")
def tiny():
    return load_tiny_lm()


def test_a_token_table_shows_its_size_and_its_first_rows():
    assert repr(token_table(2)).splitlines() == [
        "TokenTable: 2 rows of 1 texts",
        "text  position  id  start  end  group  string",
        "   0         0   0      0    1      0  ␣a",
        "   0         1   1      1    2      1  ␣a",
    ]
    lines = repr(token_table(1000)).splitlines()
    assert lines[0] == "TokenTable: 1,000 rows of 10 texts"
    assert len(lines) == 2 + SHOWN + 1
    assert set(lines[-1].split()) == {"…"}


def test_an_empty_table_has_a_heading():
    assert repr(token_table(0)).splitlines()[0] == "TokenTable: 0 rows of 0 texts"
    assert token_table(0)._repr_html_().count("<tr>") == 1


@each_case("make", TABLES)
def test_tables_are_short_and_safe_whatever_they_hold(make):
    table = make(300, HOSTILE)
    shown, page = repr(table), table._repr_html_()
    assert len(shown) < 4000
    assert len(page) < 5000
    assert len(shown.splitlines()) <= SHOWN + 3
    assert "\x1b" not in shown + page
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
    assert page.count("<tr>") == page.count("</tr>") <= SHOWN + 2


@each_case("make", TABLES)
def test_tables_of_what_is_no_string_are_shown(make):
    assert "None" in repr(make(2, None))


def test_the_html_of_a_table_is_its_text():
    table = token_table(1)
    assert table._repr_html_() == (
        "<p>TokenTable: 1 rows of 1 texts</p><table><thead><tr><th>text</th><th>position</th>"
        "<th>id</th><th>start</th><th>end</th><th>group</th><th>string</th></tr></thead>"
        "<tbody><tr><td>0</td><td>0</td><td>0</td><td>0</td><td>1</td><td>0</td><td>␣a</td></tr>"
        "</tbody></table>"
    )


def test_estimators_name_their_models(tiny):
    model, tokenizer = tiny
    extractor = ActivationExtractor(model, layer=1, tokenizer=tokenizer, batch_tokens=99)
    sae = TopKSAE(8, k=2)
    where = f"LlamaForCausalLM({model.name_or_path!r})"
    for estimator in (
        extractor,
        SAEVectorizer(extractor, sae),
        FeatureAtlas(sae, extractor=extractor, language_model=model, tokenizer=tokenizer),
    ):
        shown = repr(estimator)
        assert where in shown
        assert "Linear(" not in shown
        assert "batch_tokens=99" in shown
        assert len(shown) < 600 + 5 * len(where)
        assert estimator._repr_mimebundle_()["text/plain"] == shown
        assert f"<pre>{type(estimator).__name__}(" in estimator._repr_html_()


def test_estimators_show_as_scikit_learn_does_otherwise():
    extractor = ActivationExtractor("a-model", layer=3)
    assert repr(extractor) == "ActivationExtractor(layer=3, model='a-model')"
    assert repr(SAEVectorizer(extractor, TopKSAE(8))) == (
        "SAEVectorizer(extractor=ActivationExtractor(layer=3, model='a-model'),\n"
        "              sae=TopKSAE(n_components=8))"
    )
    assert repr(FeatureAtlas()) == "FeatureAtlas()"
    assert repr(FeatureAtlas(object())) == "FeatureAtlas(sae=<object>)"


def test_examples_prompts_and_features_are_one_line_each():
    tokens = np.array(["a", HOSTILE, "b"], dtype=object)
    example = Example(1, HOSTILE, 2.0, tokens, np.array([0, 2.0, 0]), peak=1)
    prompt = PromptCodes(HOSTILE, tokens, sparse.csr_array(np.eye(3)))
    feature = FeatureAtlas().fit([[0], [2]], tokens=["Ada", HOSTILE]).feature(0)
    for one in (example, prompt, feature, replace(feature, examples=[example] * 1000)):
        assert len(repr(one)) < 300
        assert "\n" not in repr(one)
        assert "\x1b" not in repr(one)
    assert repr(FeatureAtlas().fit([[0], [2]], tokens=["Ada", "Bo"]).feature(0)) == (
        "Feature(feature=0, density=0.5, n_texts=1, max_activation=2, flags=('rare', 'dense'), "
        "top_tokens=['Bo'], n_examples=1)"
    )


def test_representations_link_to_the_pages_of_the_documentation():
    paths = set(extension("api_pages").paths_of_names().values())
    estimators = [unfitted(cls) for cls in (*FAMILY, *OTHERS)]
    estimators += [
        RowNormalizer(),
        FeatureAtlas(),
        FeatureContrast(),
        SparsityPathCV(TopKSAE(), [2]),
    ]
    for estimator in estimators:
        link = estimator._get_doc_link()
        site, _, page = link.rpartition("/")
        assert page.removesuffix(".html") in paths
        assert site == "https://sksae.readthedocs.io/en/stable/generated/api"
        assert f'href="{link}"' in estimator._repr_html_()
    # with a link come the descriptions of the parameters
    assert "Codes kept per row, at most" in TopKSAE()._repr_html_()


def test_to_show_an_extractor_does_not_load_its_model():
    extractor = ActivationExtractor("a model that is nowhere", layer=3)
    assert "get_feature_names_out" in dir(extractor)
    assert "a model that is nowhere" in extractor._repr_html_()


def test_a_users_own_estimator_has_no_page():
    class Own(TopKSAE):
        """A variant of one's own."""

    assert Own()._get_doc_link() == ""
    assert "readthedocs" not in Own()._repr_html_()
