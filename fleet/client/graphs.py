"""Graphs as the server tells of them, for people."""

from typing import Any

from fleet.client.screen import Screen
from modules.errors import Invalid
from modules.names import ModuleRef


def place(ref: ModuleRef) -> str:
    return f"/api/v1/modules/{ref.team}/{ref.name}/{ref.version}/graph"


def show(screen: Screen, graph: dict[str, Any]) -> None:
    """What goes in and out, and the operators."""
    if graph["problem"]:
        screen.say(f"The graph is not shown: {graph['problem']}")
        return
    rows = [("in", *_value(one)) for one in graph["inputs"]] + [("out", *_value(one)) for one in graph["outputs"]]
    screen.table(("", "NAME", "TYPE", "SHAPE"), rows, empty="It takes nothing and gives nothing.")
    screen.table(("OPERATOR", "NODES"), ((name, str(count)) for name, count in graph["operators"].items()), empty="")
    screen.say(
        f"{graph['count']} nodes, {graph['parameters']} parameters, made by {graph['producer'] or 'nobody said'}"
    )


def expect_one(found: dict[str, Any], ref: ModuleRef) -> dict[str, Any]:
    """The graph of an answer.

    Raises:
        Invalid: the module has none.
    """
    graph: dict[str, Any] | None = found["graph"]
    if graph is None:
        raise Invalid("the module has no graph", element=str(ref))
    return graph


def _value(value: dict[str, Any]) -> tuple[str, str, str]:
    shape = value["shape"]
    return value["name"], value["type"], "any" if shape is None else " x ".join(map(str, shape)) or "one value"
