"""What builds the documentation site, without building it."""

import ast
import importlib.util
import re

import pytest

from tests.test_docs import ROOT

EXTENSIONS = ROOT / "docs" / "_extensions"
EXAMPLES = sorted((ROOT / "docs" / "examples").rglob("*.py"))


def extension(name):
    specification = importlib.util.spec_from_file_location(name, EXTENSIONS / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_broken_links_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<p id="here"><a href="b.html#there"></a><a href="#here"></a><img src="no.png">'
        '<a href="b.html#nowhere"></a><a href="c.html"></a><a href="https://example.org/x"></a>'
    )
    (tmp_path / "b.html").write_text('<h1 id="there"></h1><a href="a.html"></a>')
    broken = extension("link_check").broken_links(tmp_path)
    assert sorted(broken) == [
        ("a.html", "b.html#nowhere"),
        ("a.html", "c.html"),
        ("a.html", "no.png"),
    ]


def test_the_gallery_lists_its_examples():
    order = extension("gallery_order").ORDER
    listed = {f"{folder}/{name}" for folder, names in order.items() for name in names}
    assert listed == {f"{path.parent.name}/{path.stem}" for path in EXAMPLES}


def test_examples_are_in_the_form_of_the_gallery():
    for path in EXAMPLES:
        text = path.read_text(encoding="utf-8")
        title, underline = ast.get_docstring(ast.parse(text)).splitlines()[:2]
        assert set(underline) == {"="}, path.name
        assert len(underline) == len(title), path.name
        for heading, line in re.findall(r"^# (.+)\n# (-+)$", text, re.M):
            assert len(heading) == len(line), f"{path.name}: {heading}"


def test_links_lead_to_where_the_site_has_them():
    links = extension("page_links")
    source = [
        "[a](examples/tables/digits.py), [all](docs/examples) and [how](experiments/tables.py)"
    ]
    links.rewrite_links(None, "index", source)
    assert source == ["[a](gallery/tables/digits.rst), [all](gallery/index.rst) and how"]
    unread = ["[a](examples/tables/digits.py)"]
    links.rewrite_links(None, "gallery/tables/digits", unread)
    assert unread == ["[a](examples/tables/digits.py)"]


def test_a_page_per_public_name_and_one_for_names_of_two_packages():
    pages = extension("api_pages")
    paths = pages.paths_of_names()
    assert paths["sksae.language_models", "SAEVectorizer"] == "sksae.SAEVectorizer"
    page = pages.page_of("sksae.TopKSAE")
    assert "   .. automethod:: partial_fit" in page
    assert "get_metadata_routing" not in page


@pytest.mark.parametrize(
    ("docstring", "escaped"),
    [
        ("x : ndarray of shape (n_iter_,)", r"x : ndarray of shape (n_iter\_,)"),
        (
            "names : list of str of length n_components_",
            r"names : list of str of length n_components\_",
        ),
        (
            "x : array of shape (n, n_in_) or (n_in_,)",
            r"x : array of shape (n, n_in\_) or (n_in\_,)",
        ),
        ("`n_components_` latents", "`n_components_` latents"),
    ],
)
def test_names_in_shapes_are_no_links(docstring, escaped):
    lines = [docstring]
    extension("api_pages").escape_shapes(None, "class", "X", None, None, lines)
    assert lines == [escaped]
