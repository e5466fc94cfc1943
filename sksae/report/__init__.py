"""Reports about features: a page for a browser, and lines for a terminal."""

from sksae.report._graph_page import write_graph_page
from sksae.report._page import write_page
from sksae.report._terminal import feature_lines, table_lines

__all__ = ["feature_lines", "table_lines", "write_graph_page", "write_page"]


def __dir__():
    return __all__
