"""The package as its source has it: modules in reading order, and which objects have a place in the reference."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2] / "src" / "inkwash"


@cache
def modules(package: str) -> list[str]:
    """The public modules in `inkwash.package`, each after those of them that it imports."""
    home = ROOT / package
    files = [home.with_suffix(".py")] if home.with_suffix(".py").is_file() else sorted(home.rglob("*.py"))
    names = {_name(file): file for file in files if not file.stem.startswith("_")}
    found: dict[str, None] = {}

    def take(module: str) -> None:
        for inner in sorted(_imports(names[module]) & set(names), key=_depth):
            if inner not in found:
                take(inner)
        found[module] = None

    for name in sorted(names, key=_depth):
        if name not in found:
            take(name)
    return list(found)


def _depth(module: str) -> tuple[int, str]:
    """The files of a floor before those of its folders, and by name."""
    return module.count("."), module


def documented(code: str) -> str | None:
    """The innermost object of `module:object.attribute` that the reference shows, dotted; None if there is none."""
    module, _, path = code.partition(":")
    parts = path.split(".")
    if module.split(".")[:1] != ["inkwash"] or not (file := _file(module)).is_file():
        return None
    found = None
    node: ast.AST = _parsed(module)
    for place, part in enumerate(parts):
        inner = [n for n in ast.iter_child_nodes(node) if getattr(n, "name", None) == part]
        if not inner or part.startswith("_") or not ast.get_docstring(inner[0]):  # type: ignore[arg-type]
            break
        node = inner[0]
        found = ".".join([_name(file), *parts[: place + 1]])
    return found


def _file(module: str) -> Path:
    path = ROOT.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def _parsed(module: str) -> ast.Module:
    return ast.parse(_file(module).read_text(encoding="utf-8"))


def _name(file: Path) -> str:
    parts = file.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return found
