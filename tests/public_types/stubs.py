"""Type stubs of the public packages, made from their docstrings.

``python -m tests.public_types.stubs`` writes them. The types of parameters, attributes and results
are stated once, in the docstrings. The stubs beside the packages repeat them for type checkers and
editors; `test_stubs.py` fails where they differ.
"""

import ast
import importlib
import inspect
import itertools
import re
import textwrap
from dataclasses import is_dataclass
from pathlib import Path

from numpydoc.docscrape import ClassDoc, FunctionDoc
from sklearn.base import BaseEstimator

import sksae
from tests.test_docstrings import public_packages

HEADER = "# Made by python -m tests.public_types.stubs from the docstrings; do not edit."
IMPORTED = {
    "collections.abc": ("Callable", "Iterable", "Iterator", "Mapping", "Sequence"),
    "contextlib": ("AbstractContextManager",),
    "numpy": ("memmap", "random"),
    "numpy.typing": ("ArrayLike", "NDArray"),
    "pathlib": ("Path",),
    "typing": ("Any", "Literal", "NamedTuple", "Self"),
}
WIDTH = 100
PROTOCOLS = (
    "_get_support_mask",
    "__call__",
    "__enter__",
    "__exit__",
    "__getitem__",
    "__iter__",
    "__len__",
)
KNOWN = {
    "int": "int",
    "float": "float",
    "scalar": "float",
    "bool": "bool",
    "str": "str",
    "dict": "dict[Any, Any]",
    "tuple": "tuple[Any, ...]",
    "None": "None",
    "Path": "Path",
    "array-like": "ArrayLike",
    "ndarray": "NDArray[Any]",
    "array": "NDArray[Any]",
    "memmap": "memmap[Any, Any]",
    "callable": "Callable[..., Any]",
    "iterable": "Iterable[Any]",
    "iterator": "Iterator[Any]",
    "context manager": "AbstractContextManager[Any]",
    "RandomState instance": "random.RandomState",
    "RandomState": "random.RandomState",
}
CONTAINERS = {
    "list": "list",
    "sequence": "Sequence",
    "iterable": "Iterable",
    "iterator": "Iterator",
}
MAPPINGS = {"dict": "dict", "mapping": "Mapping"}
DETAILS = re.compile(
    r",? of (shape|length) (\([^)]*\)|\w+)( or \([^)]*\))?|,? dtype[ =]\S+|, on the CPU|, optional"
)


class Types:
    """Annotations of the types that docstrings name.

    Attributes
    ----------
    homes : dict of str to str
        The package that defines each public class.
    """

    def __init__(self, packages):
        self.homes = {}
        for package in packages:
            for name in package.__all__:
                if defines(package, name):
                    self.homes[name] = package.__name__

    def of(self, text, default=inspect.Parameter.empty):
        """Return the annotation of a type in a docstring; what it does not say is Any."""
        text = DETAILS.sub("", text.partition(", default")[0]).strip()
        parts = [self._single(part) for part in alternatives(text)]
        if default is None:
            parts.append("None")
        if not text or "Any" in parts:
            return "Any"
        return " | ".join(dict.fromkeys(parts))

    def _single(self, text):
        text = text.strip()
        if text in KNOWN:
            return KNOWN[text]
        if text in self.homes:
            return text
        if text[:1] in ("'", '"'):
            return f"Literal[{text}]"
        if text.startswith("{") and text.endswith("}"):
            options = alternatives(text[1:-1])
            if all(option[0] in "\"'" or option == "None" for option in options):
                return f"Literal[{', '.join(options)}]"
            return self.of(", ".join(options))
        if text.startswith("(") and text.endswith(")"):
            inside = text[1:-1]
            if " or " in inside:
                return self.of(inside)
            return f"tuple[{', '.join(self.of(part) for part in inside.split(', '))}]"
        return self._container(text)

    def _container(self, text):
        kind, _, inside = text.partition(" of ")
        inside = inside.strip()
        if kind in MAPPINGS and " to " in inside:
            key, _, value = inside.partition(" to ")
            return f"{MAPPINGS[kind]}[{self.of(key)}, {self.of(value)}]"
        if kind in MAPPINGS and inside:
            return f"{MAPPINGS[kind]}[str, {self.of(inside)}]"
        if kind == "tuple" and inside.startswith("two "):
            one = self.of(inside.removeprefix("two ").removesuffix("s"))
            return f"tuple[{one}, {one}]"
        if kind == "tuple" and inside:
            return f"tuple[{self.of(inside)}, ...]"
        if kind in CONTAINERS and inside:
            return f"{CONTAINERS[kind]}[{self.of(inside)}]"
        if kind in ("array-like", "ndarray", "array"):
            return KNOWN[kind]
        return "Any"


def alternatives(text):
    """Split ``"a, {b, c} or d"`` into its alternatives; brackets hold together."""
    parts, depth, start = [], 0, 0
    for found in re.finditer(r"[{(\[]|[})\]]|, or |, | or ", text):
        if found[0] in "{([":
            depth += 1
        elif found[0] in "})]":
            depth -= 1
        elif depth == 0:
            parts.append(text[start : found.start()])
            start = found.end()
    return [part for part in [*parts, text[start:]] if part]


def defines(package, name):
    """Whether a package defines what it exports, rather than pass it on."""
    thing = getattr(package, name)
    return getattr(thing, "__module__", package.__name__).startswith(package.__name__ + "._") or (
        package is not sksae and getattr(thing, "__module__", "").startswith(package.__name__)
    )


def described(sections):
    """Return the types of a section by name; one entry can have several names."""
    return {
        name.strip().lstrip("*"): entry.type for entry in sections for name in entry.name.split(",")
    }


def signature_lines(name, function, types, *, indent="", doc=None, result=None, first=None):
    """Return the lines of a function's or method's stub."""
    doc = doc or FunctionDoc(function)
    kinds = described(doc["Parameters"])
    parameters = list(inspect.signature(function).parameters.values())
    lines, keyword_only = [], False
    if first is not None:
        lines.append(first)
        parameters = parameters[1:] if parameters and parameters[0].name == first else parameters
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            if not lines or not lines[-1].startswith("*"):
                lines.append("*")
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        keyword_only |= stars == "*"
        kind = kinds.get(parameter.name, "")
        annotation = "Any" if kind == "None" else types.of(kind, parameter.default)
        default = "" if parameter.default is parameter.empty else " = ..."
        lines.append(f"{stars}{parameter.name}: {annotation}{default}")
    result = result or result_of(doc, types, function)
    whole = f"{indent}def {name}({', '.join(lines)}) -> {result}: ..."
    if len(whole) <= WIDTH:
        return [whole]
    inner = [f"{indent}    {line}," for line in lines]
    return [f"{indent}def {name}(", *inner, f"{indent}) -> {result}: ..."]


def result_of(doc, types, function):
    """Return the annotation of what a function returns."""
    returned = doc["Returns"]
    if function.__name__ == "__len__":
        return "int"
    if not returned:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        gives = (ast.Return, ast.Yield, ast.YieldFrom)
        gives_something = any(isinstance(n, gives) and n.value for n in ast.walk(tree))
        return "Any" if gives_something else "None"
    if returned[0].name == "self":
        return "Self"
    if any(" if " in entry.type for entry in returned):
        return "Any"
    kinds = [types.of("" if entry.type == "object" else entry.type) for entry in returned]
    return kinds[0] if len(kinds) == 1 else f"tuple[{', '.join(kinds)}]"


def class_lines(cls, types):
    """Return the lines of the stub of a class."""
    doc = ClassDoc(cls)
    parents = [base for base in cls.__mro__[1:] if types.homes.get(base.__name__)]
    kinds = described(doc["Parameters"])
    lines = []
    if hasattr(cls, "_fields"):
        lines += [f"    {name}: {types.of(kinds.get(name, ''))}" for name in cls._fields]
        base = "NamedTuple"
    else:
        base = parents[0].__name__ if parents else None
        lines += attribute_lines(cls, doc, types)
        if cls.__init__ is not object.__init__:
            lines += signature_lines(
                "__init__", cls.__init__, types, indent="    ", doc=doc, result="None", first="self"
            )
    inherited = set(dir(parents[0])) if parents else set()
    for name, member in inspect.getmembers_static(cls):
        public = name in PROTOCOLS or name[0] != "_"
        if public and (name in vars(cls) or name not in inherited):
            lines += member_lines(name, member, types)
    if base is None:
        base = ", ".join(name for _, name in bases_of_scikit_learn(cls))
    head = f"class {cls.__name__}({base}):" if base else f"class {cls.__name__}:"
    return [head, *(lines or ["    ..."])]


def bases_of_scikit_learn(cls):
    """Return the public bases of a class that scikit-learn wrote, ``(module, name)`` of each."""
    bases = []
    for base in cls.__mro__:
        package, *parts = base.__module__.split(".")
        module = ".".join([package, *itertools.takewhile(lambda part: part[0] != "_", parts)])
        public = package == "sklearn" and base.__name__[0] != "_"
        if public and hasattr(importlib.import_module(module), base.__name__):
            bases.append((module, base.__name__))
    return bases


def attribute_lines(cls, doc, types):
    """Return the attributes of a class; parameters of estimators and data classes are some."""
    kinds = described(doc["Attributes"])
    if issubclass(cls, BaseEstimator) or is_dataclass(cls):
        kinds = {**described(doc["Parameters"]), **kinds}
    defaults = inspect.signature(cls).parameters
    empty = inspect.Parameter.empty
    return [
        f"    {name}: {types.of(kind, getattr(defaults.get(name), 'default', empty))}"
        for name, kind in kinds.items()
        if kind and name.isidentifier() and not isinstance(getattr(cls, name, None), property)
    ]


def member_lines(name, member, types):
    """Return the lines of a method or a property that sksae wrote; none of another member."""
    indent, first, decorator, function = "    ", "self", [], member
    if isinstance(member, property):
        function, decorator = member.fget, ["    @property"]
    elif isinstance(member, classmethod):
        function, first, decorator = member.__func__, "cls", ["    @classmethod"]
    elif isinstance(member, staticmethod):
        function, first, decorator = member.__func__, None, ["    @staticmethod"]
    if not inspect.isfunction(function) or not function.__module__.startswith("sksae"):
        return []
    options = {"indent": indent, "first": first}
    if isinstance(member, property):
        options["result"] = result_of(FunctionDoc(function), types, function)
    return [*decorator, *signature_lines(name, function, types, **options)]


def stub_of(package, types):
    """Return the text of the stub of a package."""
    passed_on, lines = [], []
    for name in package.__all__:
        thing = getattr(package, name)
        if not defines(package, name):
            home = types.homes.get(name)
            passed_on.append(f"from {home} import {name} as {name}" if home else f"{name}: Any")
        elif inspect.isclass(thing):
            lines += ["", *class_lines(thing, types)]
        elif inspect.isfunction(thing):
            lines += ["", *signature_lines(name, thing, types)]
        else:
            lines += ["", f"{name}: {type(thing).__name__ if type(thing) is str else 'Any'}"]
    text = "\n".join(lines)
    imports = [
        f"from {home} import {name}"
        for name, home in types.homes.items()
        if home != package.__name__ and name[0].isupper() and re.search(rf"\b{name}\b", text)
    ]
    used = set(re.findall(r"(?<![.\w\"])\w+", "\n".join([*lines, *passed_on])))
    for home, names in IMPORTED.items():
        if needed := [name for name in names if name in used]:
            imports.append(f"from {home} import {', '.join(needed)}")
    for cls in (thing for thing in vars(package).values() if inspect.isclass(thing)):
        imports += [
            f"from {m} import {name}" for m, name in bases_of_scikit_learn(cls) if name in used
        ]
    if package is sksae:
        imports += [f"from sksae import {name} as {name}" for name in sksae._SUBMODULES]
        lines += ["", "__version__: str"]
    exported = "\n".join(["__all__ = [", *(f'    "{n}",' for n in sorted(package.__all__)), "]"])
    return "\n".join([HEADER, *sorted({*imports, *passed_on}), "", exported, *lines, ""])


def stubs():
    """Return the texts of all stubs by path."""
    packages = list(public_packages())
    types = Types(packages)
    return {
        Path(package.__file__).with_suffix(".pyi"): stub_of(package, types) for package in packages
    }


if __name__ == "__main__":
    for path, text in stubs().items():
        path.write_text(text, encoding="utf-8")
