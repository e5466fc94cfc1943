"""Links that hold in the repository and on the site, and links to the documentation of others.

The Markdown pages link to examples and scripts by their files, so that the links work where the
pages are read as files. On the site, a link to an example leads to its page in the gallery. Names
of other packages are linked by the rule by which those packages name their pages, so that a build
fetches no inventories.
"""

import re

from docutils import nodes

EXAMPLE = re.compile(r"\]\((?:\.\./)?(?:docs/)?examples/([\w/]+)\.py\)")
EXAMPLES = re.compile(r"\]\((?:\.\./)?(?:docs/)?examples\)")
SCRIPT = re.compile(r"\[([^\]]*)\]\((?:\.\./)?(?:experiments|tiny_lm)/[\w./]+\)")

PAGES_OF_OTHERS = {
    "sklearn": "https://scikit-learn.org/stable/modules/generated/{path}.html",
    "numpy": "https://numpy.org/doc/stable/reference/generated/{path}.html",
    "scipy": "https://docs.scipy.org/doc/scipy/reference/generated/{path}.html",
    "matplotlib": "https://matplotlib.org/stable/api/_as_gen/{path}.html",
}


def rewrite_links(app, docname, source):
    """Lead links to examples into the gallery, as a Markdown page is read."""
    if docname.startswith(("gallery", "generated")):
        return
    text = EXAMPLE.sub(r"](gallery/\1.rst)", source[0])
    text = EXAMPLES.sub("](gallery/index.rst)", text)
    source[0] = SCRIPT.sub(r"\1", text)


def link_to_others(app, env, node, contnode):
    """Link a name of another package to the page that the package gives it."""
    path = node.get("reftarget", "")
    package = path.partition(".")[0]
    if node.get("refdomain") != "py" or package not in PAGES_OF_OTHERS or path == package:
        return None
    page = PAGES_OF_OTHERS[package].format(path=path)
    return nodes.reference("", "", contnode, internal=False, refuri=page)


def setup(app):
    app.connect("source-read", rewrite_links)
    app.connect("missing-reference", link_to_others)
    return {"parallel_read_safe": True}
