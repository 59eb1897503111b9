"""How the reference reads the source: shapes stay as they are written, arguments told of together are taken apart."""

import re
from dataclasses import fields
from typing import Any

from griffe import Attribute, Docstring, Expr, ExprSubscript, ExprTuple, Extension, Function, Object

# "first, count: the part of the items ...", indented below "Args:".
_TOGETHER = re.compile(r"(?m)^([ ]{4,})(\w+(?:, \w+)+): (.*(?:\n\1[ ]+.*)*)")


class House(Extension):
    """Called by the handler of Python for every object that it loads."""

    def on_function(self, *, func: Function, **_: Any) -> None:
        for annotated in (func.returns, *(parameter.annotation for parameter in func.parameters)):
            _write_shapes(annotated)

    def on_attribute(self, *, attr: Attribute, **_: Any) -> None:
        _write_shapes(attr.annotation)

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if isinstance(obj.docstring, Docstring):
            obj.docstring.value = _TOGETHER.sub(_apart, obj.docstring.value)


def _write_shapes(node: object) -> None:
    """In `Float[Tensor, "b c"]` the shape is a string; a parser of types takes some shapes for names."""
    if isinstance(node, list | tuple):
        for inner in node:
            _write_shapes(inner)
    if not isinstance(node, Expr):
        return
    if isinstance(node, ExprSubscript) and isinstance(node.slice, ExprTuple) and _is_array(node):
        *kind, shape = node.slice.elements
        node.slice.elements = [*kind, '"' + str(shape).strip("\"'") + '"']
        return
    for field in fields(node):
        if field.name != "parent":
            _write_shapes(getattr(node, field.name))


def _is_array(node: ExprSubscript) -> bool:
    return node.canonical_path.startswith("jaxtyping.")


def _apart(found: re.Match[str]) -> str:
    indent, names, text = found.groups()
    return "\n".join(f"{indent}{name}: {text}" for name in names.split(", "))
