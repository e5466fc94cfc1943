"""Check of the built pages: every link within the site leads to a page and a place that exist."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sphinx.util import logging

logger = logging.getLogger(__name__)


class _Page(HTMLParser):
    """Names of places in a page, and the links of the page."""

    def __init__(self, text):
        super().__init__()
        self.places, self.links = {"", "top"}, set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.places |= {values[key] for key in ("id", "name") if values.get(key)}
        self.links |= {values[key] for key in ("href", "src") if values.get(key)}


def broken_links(folder):
    """Return the links within a folder of HTML pages that lead nowhere.

    Parameters
    ----------
    folder : pathlib.Path
        A built site.

    Returns
    -------
    broken : list of (str, str)
        Pages, relative to `folder`, and their broken links.
    """
    folder = Path(folder).resolve()
    names = [name for name in folder.rglob("*.html") if "_static" not in name.parts]
    pages = {name: _Page(name.read_text(encoding="utf-8")) for name in names}
    broken = []
    for name, page in pages.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            path = (name.parent / unquote(parts.path)).resolve() if parts.path else name
            place = unquote(parts.fragment)
            if not path.exists() or (path in pages and place not in pages[path].places):
                broken.append((str(name.relative_to(folder)), link))
    return broken


def check(app, exception):
    """Warn of every broken link of a site that was built."""
    if exception is None and app.builder.format == "html":
        for page, link in broken_links(Path(app.outdir)):
            logger.warning("%s links to %s, which does not exist", page, link)


def setup(app):
    app.connect("build-finished", check)
    return {"parallel_read_safe": True}
