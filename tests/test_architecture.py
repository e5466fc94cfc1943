"""The house as docs/architecture.md draws it: read from the sources, not from good intentions."""

import ast
import inspect
import re
import subprocess
import sys
import tokenize
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "sksae"
FILES = sorted(p for p in PACKAGE.rglob("*.py") if "__pycache__" not in p.parts)
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}

# A room imports from lower floors only, and from its own. Rooms that are not listed live above
# the estimators, and see them through what the packages export.
GROUND = 0
FLOORS = {
    "_arrays": GROUND,
    "_callbacks": GROUND,
    "_coding": GROUND,
    "_files": GROUND,
    "_modes": GROUND,
    "_params": GROUND,
    "_signs": GROUND,
    "_threads": GROUND,
    "kernels": 1,
    "training": 2,
    "autoencoders": 3,
}
UPPER, INIT, MAIN = 4, 5, 6
PRIVATE_ADAPTERS = {("_arrays.py", "sklearn.utils._align_api_if_sparse")}
VAGUE = {"utils", "util", "helpers", "helper", "core", "common", "manager", "misc", "tools", "base"}
PRINTERS = {"__main__.py", "autoencoders/_passes.py"}
LINES, BASE_LINES, FUNCTION_LINES, LEVELS = 300, 400, 40, 4
METHODS, BASE_METHODS, POSITIONAL = 15, 20, 5


def where(path):
    return path.relative_to(PACKAGE).as_posix()


def room_of(path):
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def floor_of(room):
    return {"__init__": INIT, "__main__": MAIN, **FLOORS}.get(room, UPPER)


def imports(tree):
    """Every imported name with its dots: ``sksae._arrays.to_torch``, ``numpy``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def functions(tree):
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def classes(tree):
    return [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef)]


def own_imports():
    """``(file, room, imported room, parts below it)`` of every import within the package."""
    for path, tree in TREES.items():
        for name in imports(tree):
            parts = name.split(".")
            if parts[0] != "sksae":
                continue
            known = len(parts) > 1 and ((PACKAGE / parts[1]).exists() or parts[1] in FLOORS)
            yield path, room_of(path), parts[1] if known else "__init__", parts[2:]


each_file = pytest.mark.parametrize("path", FILES, ids=where)


def test_the_floors_are_those_that_exist():
    rooms = {room_of(path) for path in FILES}
    assert set(FLOORS) <= rooms
    ground = {room for room in rooms if room.startswith("_") and not room.startswith("__")}
    assert ground == {room for room, floor in FLOORS.items() if floor == GROUND}


def test_imports_go_down_the_floors():
    for path, room, other, _ in own_imports():
        if room != other:
            down = floor_of(other) < floor_of(room)
            assert down or floor_of(room) == floor_of(other) == UPPER, f"{where(path)}: {other}"


def test_rooms_are_entered_by_the_door():
    """Across rooms, only what a package exports: never ``sksae.autoencoders._base``."""
    for path, room, other, parts in own_imports():
        if room != other and floor_of(other) != GROUND:
            assert len(parts) <= 1, f"{where(path)}: {'.'.join(parts)}"
            assert not any(part.startswith("_") for part in parts), f"{where(path)}: {parts}"


def test_no_room_imports_one_that_imports_it():
    graph = {}
    for _, room, other, _ in own_imports():
        if room != other:
            graph.setdefault(room, set()).add(other)
    list(TopologicalSorter(graph).static_order())


def test_no_file_imports_one_that_imports_it():
    graph = {}
    for path, tree in TREES.items():
        for name in imports(tree):
            module = PACKAGE.parent.joinpath(*name.split("."))
            for candidate in (module.with_suffix(".py"), module.parent.with_suffix(".py")):
                if candidate in TREES and candidate != path:
                    graph.setdefault(path, set()).add(candidate)
    list(TopologicalSorter(graph).static_order())


def test_variants_do_not_import_each_other():
    room = PACKAGE / "autoencoders"
    variants = {
        path.stem: path
        for path, tree in TREES.items()
        if path.parent == room
        and path.stem != "_base"
        and any(re.search("SAE$|Autoencoder$", c.name) for c in classes(tree))
        and any(f.name == "_objective" for f in functions(tree))
    }
    assert len(variants) >= 4
    for path in variants.values():
        names = {
            name.split(".")[2] for name in imports(TREES[path]) if "sksae.autoencoders." in name
        }
        assert not names & set(variants), where(path)


@each_file
def test_of_scikit_learn_only_the_public_part_is_imported(path):
    for name in imports(TREES[path]):
        if name.split(".")[0] == "sklearn" and (where(path), name) not in PRIVATE_ADAPTERS:
            assert not any(part.startswith("_") for part in name.split(".")), name
        if name.startswith("sklearn.callback"):
            assert where(path) == "_callbacks.py"
        assert not name.startswith("sklearn.externals"), name


@each_file
def test_modules_are_named_after_what_they_contain(path):
    assert path.stem.strip("_") not in VAGUE or path.name == "_base.py"


@each_file
def test_what_is_forbidden_is_not_there(path):
    tree, text = TREES[path], path.read_text(encoding="utf-8")
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Assert), f"line {node.lineno}: an assert is no validation"
        if isinstance(node, ast.Name | ast.Attribute):
            name = ast.unparse(node)
            assert "TYPE_CHECKING" not in name
            assert name not in (
                "torch.manual_seed",
                "torch.use_deterministic_algorithms",
                "torch.set_float32_matmul_precision",
                "torch.set_default_dtype",
                "np.random.seed",
            ), f"line {node.lineno}: {name} changes the user's world"
            assert name != "torch.set_num_threads" or where(path) == "_threads.py"
        if isinstance(node, ast.Assign):
            for target in map(ast.unparse, node.targets):
                assert not target.startswith(("os.environ", "torch.backends")), target
    for suppressed in re.findall(r"#\s*(?:noqa|type: ignore).*", text):
        assert re.search(r"- \w+", suppressed), f"no reason given: {suppressed}"
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", text)


@each_file
def test_nothing_prints_but_what_was_asked_to(path):
    calls = [n for n in ast.walk(TREES[path]) if isinstance(n, ast.Call)]
    prints = [n.lineno for n in calls if isinstance(n.func, ast.Name) and n.func.id == "print"]
    assert not prints or where(path) in PRINTERS, f"{where(path)}: {prints}"


@each_file
def test_a_module_fits_its_budget(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= (BASE_LINES if path.name == "_base.py" else LINES)


def code_lines(path):
    """Numbers of the lines that hold code: neither blank, comment nor docstring."""
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    lines = set()
    with tokenize.open(path) as stream:
        for token in tokenize.generate_tokens(stream.readline):
            if token.type not in skipped:
                lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(TREES[path]):
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


@each_file
def test_functions_fit_their_budget(path):
    lines = code_lines(path)
    for function in functions(TREES[path]):
        if function.name == "__init__":
            continue  # as long as scikit-learn's introspection wants it
        own = sum(function.body[0].lineno <= line <= function.end_lineno for line in lines)
        assert own <= FUNCTION_LINES, f"{function.name} has {own} lines of code"
        assert depth(function) <= LEVELS, f"{function.name} is nested too deep"
        arguments = [a for a in function.args.posonlyargs + function.args.args if a.arg != "self"]
        assert len(arguments) <= POSITIONAL or function.name.startswith("_"), function.name


@each_file
def test_classes_fit_their_budget(path):
    for node in classes(TREES[path]):
        methods = [f for f in node.body if isinstance(f, ast.FunctionDef)]
        # Magic methods and properties answer to protocols and are not counted.
        counted = [f for f in methods if not f.name.startswith("__") and not f.decorator_list]
        assert len(counted) <= (BASE_METHODS if node.name == "BaseSAE" else METHODS), node.name


def test_constructors_of_estimators_spell_out_their_parameters():
    from tests import estimators

    for cls in (*estimators.FAMILY, *estimators.OTHERS):
        kinds = {p.kind for p in inspect.signature(cls.__init__).parameters.values()}
        assert not kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}


def test_importing_is_light():
    """Every room, in one process: no transformers, no matplotlib, no CUDA, nothing said."""
    packages = [path.parent for path in FILES if path.name == "__init__.py"]
    rooms = [".".join(("sksae", *path.relative_to(PACKAGE).parts)) for path in packages]
    code = f"""
import os, sys
before = dict(os.environ)
import {", ".join(rooms)}, torch
heavy = [m for m in ("transformers", "matplotlib") if m in sys.modules]
assert not heavy, heavy
assert not torch.cuda.is_initialized()
assert dict(os.environ) == before
"""
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_docs_are_imported_by_nobody():
    for path, tree in TREES.items():
        assert not any(name.split(".")[0] in ("docs", "tests") for name in imports(tree)), where(
            path
        )
