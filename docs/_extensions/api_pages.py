"""One page per public name, in the groups of ``docs/api.md``.

The names come from the packages' ``__all__``. ``api.md`` stays a plain table; the site links its
names to the pages, and adds the pages to the navigation.
"""

import importlib
import inspect
import re
from pathlib import Path

import sksae

PACKAGES = ["sksae", *(f"sksae.{name}" for name in dir(sksae) if name in sksae._SUBMODULES)]
FOLDER = "generated/api"
SECTION = re.compile(r"^## .*`(sksae[.\w]*)`$")
FIRST_CELL = re.compile(r"^\| `(\w+)` \|")
SHAPE = re.compile(r"of (?:shape \([^)]*\)(?: or \([^)]*\))*|length \w+)")


def paths_of_names():
    """Return the path by which each name of each package is documented.

    Returns
    -------
    paths : dict of (str, str) to str
        By package and name. What two packages export has one page, that of the first.
    """
    first, paths = {}, {}
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            path = f"{package}.{name}"
            thing = getattr(module, name)
            documented = inspect.isclass(thing) or inspect.isfunction(thing)
            paths[package, name] = first.setdefault(thing, path) if documented else path
    return paths


def own_members(thing):
    """Return the public methods and properties of a class that sksae wrote.

    Returns
    -------
    members : list of (str, bool)
        Names, and whether each is a property.
    """
    members = []
    for name, member in inspect.getmembers(thing):
        is_property = isinstance(member, property)
        function = member.fget if is_property else member
        is_ours = (getattr(function, "__module__", None) or "").startswith("sksae")
        if name[0] != "_" and (is_property or inspect.isroutine(member)) and is_ours:
            members.append((name, is_property))
    return members


def page_of(path):
    """Return the page of a name, in reStructuredText."""
    package, _, name = path.rpartition(".")
    thing = getattr(importlib.import_module(package), name)
    lines = [name, "=" * len(name), "", f".. currentmodule:: {package}", ""]
    if inspect.isclass(thing):
        lines += [f".. autoclass:: {name}"]
        for member, is_property in own_members(thing):
            kind = "property" if is_property else "method"
            lines += ["", f"   .. auto{kind}:: {member}"]
    elif inspect.isfunction(thing):
        lines += [f".. autofunction:: {name}"]
    else:
        lines += [f".. data:: {name}"]
    if inspect.isclass(thing) or inspect.isfunction(thing):
        lines += ["", f".. minigallery:: {path}", "   :add-heading: Examples in the gallery"]
    return "\n".join([*lines, ""])


def write_pages(app):
    """Write the pages that changed; remove those of names that are gone."""
    folder = Path(app.srcdir) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    paths = set(paths_of_names().values())
    for page in folder.glob("*.rst"):
        if page.stem not in paths:
            page.unlink()
    for path in paths:
        page, text = folder / f"{path}.rst", page_of(path)
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")


def link_names(app, docname, source):
    """Link the names of ``api.md`` to their pages, as the page is read."""
    if docname != "api":
        return
    paths, package, lines, pages = paths_of_names(), None, [], {}
    for line in source[0].splitlines():
        if section := SECTION.match(line):
            package = section[1]
        cell = FIRST_CELL.match(line)
        if cell and (package, cell[1]) in paths:
            path = paths[package, cell[1]]
            pages[f"{FOLDER}/{path}"] = None
            line = line.replace(f"`{cell[1]}`", f"[`{cell[1]}`]({FOLDER}/{path}.rst)", 1)
        lines.append(line)
    source[0] = "\n".join([*lines, "", "```{toctree}", ":hidden:", "", *pages, "```", ""])


def escape_shapes(app, what, name, thing, options, lines):
    """Escape the last underscore of names in shapes, which would make links of them."""
    for i, line in enumerate(lines):
        lines[i] = SHAPE.sub(lambda found: re.sub(r"_(?=\W|$)", r"\\_", found[0]), line)


def setup(app):
    app.connect("autodoc-process-docstring", escape_shapes, priority=900)
    app.connect("builder-inited", write_pages, priority=100)
    app.connect("source-read", link_names)
    return {"parallel_read_safe": True}
