"""Checks the laws of the house that linters cannot see; prints each breach and exits 1 if any.

    python tools/house.py [FOLDER]        by default src/manyhands

Knows nothing of imports between folders: import-linter checks those.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 60
PURE = frozenset({"errors.py", "domain", "trust", "plan", "codec", "wire", "families"})
"""Floors 0-2, by the first part of a path inside the package."""

IMPURE_CALLS = frozenset({"open", "print", "input"})
UNSAFE_CALLS = frozenset({"eval", "exec", "__import__"})
UNSAFE_MODULES = frozenset(
    {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve"}
)
UNSAFE_NAMES = frozenset({"torch.load", "numpy.load", "np.load"})


def breaches(source: str, path: str) -> list[str]:
    """What breaks a law in one file; `path` is relative to the package, with forward slashes."""
    tree = ast.parse(source)
    pure = path.split("/")[0] in PURE
    found = list(_of_the_file(tree, source))
    for node in ast.walk(tree):
        found += [(node.lineno, law) for law in _of_a_node(node, pure)]  # type: ignore[attr-defined]
    return [f"{path}:{line}: {law}" for line, law in sorted(found)]


def _of_the_file(tree: ast.Module, source: str) -> Iterator[tuple[int, str]]:
    lines = source.count("\n")
    if lines > MOST_LINES:
        yield lines, f"{lines} lines; a file has {MOST_LINES} at most: give the second job a file"
    if ast.get_docstring(tree) is None:
        yield 1, "a file starts with a docstring that says its one job"


def _of_a_node(node: ast.AST, pure: bool) -> Iterator[str]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MOST_LINES_OF_A_FUNCTION:
                yield f"{node.name} has {lines} lines; {MOST_LINES_OF_A_FUNCTION} at most"
        case ast.Assert():
            yield "assert vanishes under -O: raise an error of errors.py"
        case ast.Import(names=names):
            yield from (_unsafe_module(alias.name) for alias in names if _is_unsafe(alias.name))
            if pure and any(alias.name == "numpy.random" for alias in names):
                yield "floors 0-2 know no chance: numpy.random"
        case ast.ImportFrom(module=str(module), names=names):
            if _is_unsafe(module):
                yield _unsafe_module(module)
            for alias in names:
                yield from _of_a_name(f"{module}.{alias.name}", pure)
        case ast.Attribute():
            yield from _of_a_name(ast.unparse(node), pure)
        case ast.Call(func=ast.Name(id=name)):
            if name in UNSAFE_CALLS:
                yield f"{name}() runs what it is given: nothing from a peer or a file is executed"
            if pure and name in IMPURE_CALLS:
                yield f"floors 0-2 do no input or output: {name}()"


def _of_a_name(name: str, pure: bool) -> Iterator[str]:
    if name in UNSAFE_NAMES:
        yield f"{name} may unpickle: weights are safetensors"
    if pure and name in {"numpy.random", "np.random"}:
        yield f"floors 0-2 know no chance: {name}"


def _is_unsafe(module: str) -> bool:
    return module.split(".")[0] in UNSAFE_MODULES


def _unsafe_module(module: str) -> str:
    return f"{module}: nothing is ever unpickled"


def check(folder: Path) -> list[str]:
    """The breaches of every Python file under a package folder."""
    return [
        told
        for path in sorted(folder.rglob("*.py"))
        for told in breaches(path.read_text(encoding="utf-8"), path.relative_to(folder).as_posix())
    ]


def main(arguments: list[str]) -> int:
    """Print breaches; the exit status."""
    root = Path(__file__).parent.parent / "src" / "manyhands"
    told = check(Path(arguments[0]) if arguments else root)
    print("\n".join(told) or "the house stands")
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
