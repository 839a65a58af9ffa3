"""Every call in the code that logs something: its event, levels, logger and the names of its fields."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "receiver"
LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "critical": "critical"} | {
    "exception": "error"
}


@dataclass(frozen=True)
class Logged:
    """One call. Names that can't be read from the code are a failure of the test that asks."""

    where: str
    logger: str
    events: tuple[str, ...]
    levels: tuple[str, ...]
    fields: tuple[str, ...]


def logged() -> Iterator[Logged]:
    """Every call of a module's `log`."""
    for module in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(module.read_text(encoding="utf-8"))
        scopes = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "log"
            ):
                where = f"{module.relative_to(PACKAGE)}:{node.lineno}"
                scope: ast.AST = node
                while not isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef | ast.Module):
                    scope = scopes[scope]
                yield _read(node, tree, scope, where)


def _read(call: ast.Call, tree: ast.Module, scope: ast.AST, where: str) -> Logged:
    assert isinstance(call.func, ast.Attribute)
    arguments = list(call.args)
    if call.func.attr == "log":
        levels = tuple(_level(option) for option in _options(arguments.pop(0)))
    else:
        levels = (LEVELS[call.func.attr],)
    assert len(arguments) == 1, f"{where}: values go into extra, not into the name"
    events = tuple(event for option in _options(arguments[0]) for event in _texts(option, tree, where))
    fields: list[str] = []
    for keyword in call.keywords:
        assert keyword.arg in ("extra", "exc_info"), f"{where}: {keyword.arg}"
        if keyword.arg == "extra":
            fields += _fields(keyword.value, scope, where)
    return Logged(where, _logger(tree, where), events, levels, tuple(dict.fromkeys(fields)))


def _options(node: ast.expr) -> list[ast.expr]:
    return [node.body, node.orelse] if isinstance(node, ast.IfExp) else [node]


def _level(node: ast.expr) -> str:
    assert isinstance(node, ast.Attribute)
    return node.attr.lower()


def _texts(node: ast.expr, tree: ast.Module, where: str) -> list[str]:
    """A constant, or any value of a table of constants that the module has."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        for assigned in tree.body:
            if (
                isinstance(assigned, ast.Assign)
                and isinstance(assigned.value, ast.Dict)
                and ast.unparse(assigned.targets[0]) == node.value.id
            ):
                return [str(ast.literal_eval(value)) for value in assigned.value.values]
    raise AssertionError(f"{where}: the name of an event is a constant")


def _fields(node: ast.expr, scope: ast.AST, where: str) -> list[str]:
    """The keys of a dict that stands there, or was made in the same function."""
    if isinstance(node, ast.Name):
        made = [
            assigned.value
            for assigned in ast.walk(scope)
            if isinstance(assigned, ast.Assign)
            and [target.id for target in assigned.targets if isinstance(target, ast.Name)] == [node.id]
        ]
        assert made, f"{where}: where is {node.id} made?"
        return [name for one in made for name in _fields(one, scope, where)]
    assert isinstance(node, ast.Dict), f"{where}: the fields of an event are a dict of constant names"
    names = []
    for key, value in zip(node.keys, node.values, strict=True):
        if key is None:
            names += _fields(value, scope, where)
        else:
            assert isinstance(key, ast.Constant), f"{where}: a field's name is a constant"
            names.append(str(key.value))
    return names


def _logger(tree: ast.Module, where: str) -> str:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "log" and isinstance(node.value, ast.Call):
            [name] = node.value.args
            assert isinstance(name, ast.Constant), where
            return str(name.value)
    raise AssertionError(f"{where}: the module has no logger of its own")
