"""Structure and budgets of the package, read from the sources."""

import ast
import functools
import inspect
import re
import tokenize
from graphlib import TopologicalSorter
from pathlib import Path

from sksae import objectives
from tests import estimators

PACKAGE = Path(__file__).parents[1] / "sksae"
FILES = sorted(p for p in PACKAGE.rglob("*.py") if "__pycache__" not in p.parts)
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}

# A package imports from lower levels only, and from itself. Packages that are not listed are above
# the estimators, and see them through what their package exports.
LOWEST = 0
LEVELS = {
    "_arrays": LOWEST,
    "_callbacks": LOWEST,
    "_coding": LOWEST,
    "_drafts": LOWEST,
    "_files": LOWEST,
    "_hook_names": LOWEST,
    "_modes": LOWEST,
    "_optional": LOWEST,
    "_params": LOWEST,
    "_processes": LOWEST,
    "_saved_layout": LOWEST,
    "_reprs": LOWEST,
    "_runs": LOWEST,
    "_signs": LOWEST,
    "_threads": LOWEST,
    "kernels": 1,
    "training": 2,
    "callbacks": 2,
    "objectives": 3,
    "autoencoders": 4,
}
UPPER, INIT, MAIN = 5, 6, 7
PRIVATE_ADAPTERS = {("_arrays.py", "sklearn.utils._align_api_if_sparse")}
VAGUE = {"utils", "util", "helpers", "helper", "core", "common", "manager", "misc", "tools", "base"}
PRINTERS = {"__main__.py", "autoencoders/_training_passes.py"}
MODULE_LINES, FUNCTION_LINES, DEPTH = 300, 40, 4  # lines of code
METHODS, BASE_METHODS, POSITIONAL = 15, 20, 5


def where(path):
    return path.relative_to(PACKAGE).as_posix()


def package_of(path):
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def level_of(package):
    return {"__init__": INIT, "__main__": MAIN, **LEVELS}.get(package, UPPER)


@functools.cache
def nodes(tree):
    return list(ast.walk(tree))


@functools.cache
def imports(tree):
    """Every imported name with its dots: ``sksae._arrays.to_torch``, ``numpy``."""
    names = []
    for node in nodes(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def functions(tree):
    return [n for n in nodes(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def classes(tree):
    return [n for n in nodes(tree) if isinstance(n, ast.ClassDef)]


def own_imports():
    """``(file, package, imported package, parts below it)`` of every import within the package."""
    for path, tree in TREES.items():
        for name in imports(tree):
            parts = name.split(".")
            if parts[0] != "sksae":
                continue
            known = len(parts) > 1 and ((PACKAGE / parts[1]).exists() or parts[1] in LEVELS)
            yield path, package_of(path), parts[1] if known else "__init__", parts[2:]


def test_levels_list_existing_packages():
    packages = {package_of(path) for path in FILES}
    assert set(LEVELS) <= packages
    ground = {
        package for package in packages if package.startswith("_") and not package.startswith("__")
    }
    assert ground == {package for package, level in LEVELS.items() if level == LOWEST}


def test_imports_go_down_the_levels():
    for path, package, other, _ in own_imports():
        if package != other:
            down = level_of(other) < level_of(package)
            assert down or level_of(package) == level_of(other) == UPPER, f"{where(path)}: {other}"


def test_other_packages_are_imported_through_their_exports():
    """Never ``sksae.autoencoders._base`` from another package."""
    for path, package, other, parts in own_imports():
        if package != other and level_of(other) != LOWEST:
            assert len(parts) <= 1, f"{where(path)}: {'.'.join(parts)}"
            assert not any(part.startswith("_") for part in parts), f"{where(path)}: {parts}"


# The packages of language_models from left to right; imports go to the left only.
COLUMN = ("model", "extraction", "interventions", "attribution")


def test_language_models_are_a_column_of_packages():
    """Each imports from those before it, by what they export, and from itself."""

    def check(path):
        parts = path.relative_to(PACKAGE).parts
        if parts[0] != "language_models" or path.parent.name not in COLUMN:
            return
        for name in imports(TREES[path]):
            _, *within = name.split(".")
            if not name.startswith("sksae.language_models") or within[1] == path.parent.name:
                continue
            if within[1] not in COLUMN[: COLUMN.index(path.parent.name)]:
                yield f"{name} is not to the left"
            elif len(within) > 3 or within[2].startswith("_"):
                yield f"{name} is not an export"

    assert offences(check) == []
    package = PACKAGE / "language_models"
    assert {path.parent.name for path in package.rglob("*.py")} == {package.name, *COLUMN}
    assert [path.name for path in package.glob("*.py")] == ["__init__.py"]


def test_packages_have_no_import_cycle():
    graph = {}
    for _, package, other, _ in own_imports():
        if package != other:
            graph.setdefault(package, set()).add(other)
    list(TopologicalSorter(graph).static_order())


def test_modules_have_no_import_cycle():
    graph = {}
    for path, tree in TREES.items():
        for name in imports(tree):
            module = PACKAGE.parent.joinpath(*name.split("."))
            for candidate in (module.with_suffix(".py"), module.parent.with_suffix(".py")):
                if candidate in TREES and candidate != path:
                    graph.setdefault(path, set()).add(candidate)
    list(TopologicalSorter(graph).static_order())


def test_a_variant_knows_no_other_but_the_one_it_extends():
    """In ``objectives/`` and ``autoencoders/``: a file per variant, and no table of them."""
    known = {cls.__name__ for cls in (*variants(), *estimators.FAMILY)} - {"Objective"}

    def check(path):
        package = package_of(path)
        if package not in ("objectives", "autoencoders") or path.stem == "__init__":
            return
        bases = {ast.unparse(base) for cls in classes(TREES[path]) for base in cls.bases}
        for name in imports(TREES[path]):
            below = name.startswith(f"sksae.{package}.") and name.split(".")[-1] in known - bases
            if below:
                yield name

    assert offences(check) == []


def test_only_objectives_and_formats_name_the_weights_of_a_variant():
    """Training, the estimators' base and sksae's own files handle weights by declaration."""
    names = {name for cls in variants() for name in cls.weights}

    def check(path):
        own = where(path).startswith(("training/", "autoencoders/")) or path.stem == "_sksae"
        for node in nodes(TREES[path]):
            if own and isinstance(node, ast.Constant) and node.value in names:
                yield f"line {node.lineno}: {node.value}"

    assert len(names) >= 4
    assert offences(check) == []


def variants():
    """The classes of objectives that the package exports."""
    exported = [getattr(objectives, name) for name in objectives.__all__]
    return [c for c in exported if inspect.isclass(c) and issubclass(c, objectives.Objective)]


FORBIDDEN_CALLS = {
    "torch.manual_seed",
    "torch.use_deterministic_algorithms",
    "torch.set_float32_matmul_precision",
    "torch.set_default_dtype",
    "np.random.seed",
}


def offences(check):
    """All that ``check(path)`` yields, with the name of the file before it."""
    return [f"{where(path)}: {offence}" for path in FILES for offence in check(path)]


def test_only_the_public_part_of_scikit_learn_is_imported():
    def check(path):
        for name in imports(TREES[path]):
            first, *parts = name.split(".")
            private = first == "sklearn" and any(part.startswith("_") for part in parts)
            if private and (where(path), name) not in PRIVATE_ADAPTERS:
                yield name
            if name.startswith("sklearn.callback") and where(path) != "_callbacks.py":
                yield name
            if name.startswith("sklearn.externals"):
                yield name

    assert offences(check) == []


def test_module_names_say_what_they_contain():
    names = [where(path) for path in FILES if path.stem.strip("_") in VAGUE]
    assert [name for name in names if not name.endswith("/_base.py")] == []


def test_module_names_are_unique():
    """A name in a traceback or a search stands for one file of the package."""
    paths = {}
    for path in FILES:
        paths.setdefault(path.name, []).append(where(path))
    del paths["__init__.py"]
    assert [shared for shared in paths.values() if len(shared) > 1] == []


def test_module_docstrings_are_noun_phrases():
    """They name what a module holds, rather than ask for it."""
    interrogative = re.compile(r"(What|Which|Where|How|When|Who|Whether)\b")

    def check(path):
        docstring = ast.get_docstring(TREES[path]) or ""
        if interrogative.match(docstring):
            yield docstring.splitlines()[0]

    assert offences(check) == []


def test_sources_change_no_global_state_and_validate_without_assert():
    def check(path):
        for node in nodes(TREES[path]):
            if isinstance(node, ast.Assert):
                yield f"line {node.lineno}: assert"
            if isinstance(node, ast.Name | ast.Attribute):
                name = ast.unparse(node)
                allowed = where(path) == "_threads.py"
                if name in FORBIDDEN_CALLS or "TYPE_CHECKING" in name:
                    yield f"line {node.lineno}: {name}"
                if name == "torch.set_num_threads" and not allowed:
                    yield f"line {node.lineno}: {name}"
            if isinstance(node, ast.Assign):
                for target in map(ast.unparse, node.targets):
                    if target.startswith(("os.environ", "torch.backends")):
                        yield f"line {node.lineno}: {target}"

    assert offences(check) == []


def test_suppressions_give_a_reason_and_nothing_is_left_to_do():
    def check(path):
        text = path.read_text(encoding="utf-8")
        for suppressed in re.findall(r"#\s*(?:noqa|type: ignore).*", text):
            if not re.search(r"- \w+", suppressed):
                yield suppressed
        yield from re.findall(r"\b(?:TODO|FIXME|XXX)\b", text)

    assert offences(check) == []


def test_only_the_command_line_and_progress_print():
    def check(path):
        for node in nodes(TREES[path]):
            prints = isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
            if prints and where(path) not in PRINTERS:
                yield f"line {node.lineno}"

    assert offences(check) == []


@functools.cache
def code_lines(path):
    """Numbers of the lines that hold code: neither blank, comment nor docstring."""
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    lines = set()
    with tokenize.open(path) as stream:
        for token in tokenize.generate_tokens(stream.readline):
            if token.type not in skipped:
                lines.update(range(token.start[0], token.end[0] + 1))
    for node in nodes(TREES[path]):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines -= set(range(node.lineno, node.end_lineno + 1))
    return lines


def depth(node, level=0):
    """Levels of nested blocks within a function."""
    blocks = ast.If | ast.For | ast.While | ast.With | ast.Try
    below = [
        depth(child, level + isinstance(child, blocks) - is_elif(node, child))
        for child in ast.iter_child_nodes(node)
        if not isinstance(child, ast.FunctionDef | ast.ClassDef)
    ]
    return max(below, default=level)


def is_elif(node, child):
    return isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]


def test_modules_fit_their_budget():
    """Docstrings are not counted: they should be as long as a reader needs."""

    def check(path):
        lines = len(code_lines(path))
        if lines > MODULE_LINES:
            yield f"{lines} lines of code"

    assert offences(check) == []


def test_functions_fit_their_budget():
    def check(path):
        lines = code_lines(path)
        for function in functions(TREES[path]):
            if function.name == "__init__":
                continue  # as long as scikit-learn's introspection wants it
            own = sum(function.body[0].lineno <= line <= function.end_lineno for line in lines)
            if own > FUNCTION_LINES:
                yield f"{function.name} has {own} lines of code"
            if depth(function) > DEPTH:
                yield f"{function.name} is nested too deep"
            arguments = function.args.posonlyargs + function.args.args
            positional = [argument for argument in arguments if argument.arg != "self"]
            if len(positional) > POSITIONAL and not function.name.startswith("_"):
                yield f"{function.name} has {len(positional)} positional arguments"

    assert offences(check) == []


def test_classes_fit_their_budget():
    def check(path):
        for node in classes(TREES[path]):
            methods = [f for f in node.body if isinstance(f, ast.FunctionDef)]
            # Magic methods and properties answer to protocols and are not counted.
            counted = [f for f in methods if not f.name.startswith("__") and not f.decorator_list]
            if len(counted) > (BASE_METHODS if node.name == "BaseSAE" else METHODS):
                yield f"{node.name} has {len(counted)} methods"

    assert offences(check) == []


def test_constructors_of_estimators_spell_out_their_parameters():
    for cls in (*estimators.FAMILY, *estimators.OTHERS):
        kinds = {p.kind for p in inspect.signature(cls.__init__).parameters.values()}
        assert not kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}


def test_docs_are_imported_by_nobody():
    for path, tree in TREES.items():
        assert not any(name.split(".")[0] in ("docs", "tests") for name in imports(tree)), where(
            path
        )
