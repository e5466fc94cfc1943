"""Settings of the documentation site: ``python -m sphinx -W docs docs/_build``.

A build needs no network. It runs the examples; ``SKSAE_GALLERY=none`` leaves them out, and
``SKSAE_GALLERY=digits`` runs those whose path contains the word, or matches the regular expression.
"""

import os
import sys
import tomllib
import warnings
from pathlib import Path

from transformers.utils import logging

import sksae

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_extensions"))

metadata = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
project = metadata["name"]
version = release = sksae.__version__
author = "the authors of sksae"
copyright = f"2026, {author}"  # noqa: A001 - Sphinx reads this name

extensions = [
    "sphinx.ext.autodoc",
    "numpydoc",
    "myst_parser",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "api_pages",
    "page_links",
    "link_check",
]
root_doc = "index"
exclude_patterns = [
    "_build",
    "_extensions",
    "examples",
    "experiments",
    "tiny_lm",
    "gallery/**/*.ipynb",
    "gallery/**/*.py",
]
suppress_warnings = ["config.cache"]  # the settings of the gallery hold functions

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

html_theme = "pydata_sphinx_theme"
html_title = f"{project} {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": project},
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 6,
    "show_nav_level": 1,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": {"**": ["page-toc"], "coming_from": []},
}
html_sidebars = {"index": [], "coming_from": []}  # code in two columns needs the width

GALLERY = os.environ.get("SKSAE_GALLERY", "")
sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": GALLERY or r"\.py$",
    "plot_gallery": GALLERY != "none",
    "subsection_order": "gallery_order.section_order",
    "within_subsection_order": "gallery_order.ExampleOrder",
    "backreferences_dir": "generated/examples",
    "doc_module": ("sksae",),
    "capture_repr": ("_repr_html_",),
    "image_srcset": ["2x"],
    "matplotlib_animations": False,
    "min_reported_time": 1,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "remove_config_comments": True,
    "abort_on_example_error": False,
    "only_warn_on_example_error": False,
}
logging.disable_progress_bar()  # of weights that are loaded, which is no output of an example
# The fits of examples are short, and hold few rows on purpose.
warnings.filterwarnings("ignore", message=".*learns \\d+ components from", category=UserWarning)
