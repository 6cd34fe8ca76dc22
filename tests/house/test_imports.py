"""Imports point one way. Each rule says why, and a breach names the line."""

import importlib.util
import re
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.house.tree import ROOMS, ROOT, imports, sources

CORE = r"modules/(trust/)?\w+\.py"


class Rule(NamedTuple):
    """Files whose path matches ``files`` import nothing below ``banned``, except those in ``allowed``."""

    files: str
    banned: tuple[str, ...]
    why: str
    allowed: tuple[str, ...] = ()


_MQTT_DOORS = (
    "agent/link.py",
    "agent/claim.py",
    "agent/mqtt_client.py",
    "agent/simulate/session.py",
    "agent/triggers/mqtt.py",
    "fleet/broker.py",
    "fleet/client/broker/session.py",
    "modules/triggers/topic.py",
)
# The rooms of the client, and the other rooms that each may stand on.
_CLIENT = {
    "broker": set(),
    "commands": {"broker", "deployments", "environments", "images", "local", "models", "publishing", "sdk", "signing"},
    "deployments": set(),
    "environments": {"images"},
    "images": set(),
    "local": {"images", "models"},
    "models": set(),
    "publishing": {"local", "models"},
    "sdk": {"deployments", "environments", "images", "local", "models", "publishing", "signing"},
    "signing": {"publishing"},
}
# The address of Environment that docs give.
_DOORS = ("fleet/client/environment.py",)
_TALK = ("asyncio", "http", "socket", "ssl", "subprocess", "urllib.request", "sqlite3")

RULES = [
    Rule("modules/.*", ("hardware", "agent", "fleet", "deploy"), "everything stands on modules"),
    Rule("hardware/.*", ("agent", "fleet", "deploy"), "hardware tells facts and knows no program that uses them"),
    Rule("agent/.*", ("fleet", "deploy"), "agent and fleet meet on the wire only, so that each ships alone"),
    Rule("fleet/.*", ("agent", "deploy"), "agent and fleet meet on the wire only, so that each ships alone"),
    Rule("fleet/.*", ("hardware",), "the server plans with reported facts, never with its own machine's"),
    Rule(
        CORE,
        ("modules.protocol", "modules.scoring", "modules.triggers"),
        "what a module is does not depend on who moves or serves it",
    ),
    Rule(CORE, _TALK, "the core is pure: bytes in, values out"),
    Rule(
        r"modules/\w+\.py|modules/(protocol|scoring)/.*",
        ("modules.trust",),
        "trust metadata names modules, not they it",
    ),
    Rule("modules/protocol/.*", ("modules.scoring",), "the wire and the scoring server do not meet"),
    Rule("modules/protocol/.*", _TALK, "wire documents are values; links carry them"),
    Rule(
        "modules/triggers/.*",
        ("modules.protocol", "modules.scoring"),
        "a trigger asks the scoring server over HTTP, as anybody does",
    ),
    Rule(
        "modules/scoring/.*",
        ("modules.protocol", "modules.triggers"),
        "a module's container knows nothing of the fleet",
    ),
    Rule(
        "(agent|hardware|modules|fleet/(?!client/)).*", ("fleet.client",), "the client is on the other side of the API"
    ),
    Rule(
        r"fleet/console/(?!mount\.py).*",
        ("fleet.app", "fleet.api", "fleet.db", "fleet.tables", "fleet.services", "fleet.devices", "fleet.rollouts"),
        "a page knows the fleet by the API alone, with the rights of whoever looks",
    ),
    Rule(
        "fleet/client/.*",
        ("fleet.app", "fleet.db", "fleet.tables", "fleet.api", "fleet.rollouts", "fleet.broker", "fleet.publisher"),
        "edgefleet[client] has no server in it",
    ),
    *(
        Rule(
            f"fleet/client/{room}/.*",
            (
                *(f"fleet.client.{other}" for other in sorted(_CLIENT.keys() - may - {room})),
                "fleet.client.cli",
                "fleet.client.environment",
            ),
            "the client's rooms stand on each other in one direction",
        )
        for room, may in _CLIENT.items()
    ),
    Rule(
        r"fleet/client/\w+\.py",
        tuple(f"fleet.client.{room}" for room in sorted(_CLIENT)),
        "every room stands on these files, so they stand on no room",
        _DOORS,
    ),
    Rule("fleet/client/models/converters/.*", ROOMS, "it runs in a Python where edgefleet is not installed"),
    Rule(
        ".*",
        ("aiomqtt", "paho"),
        "one file per process holds the MQTT client: its next major renames it all",
        _MQTT_DOORS,
    ),
    Rule("(agent|hardware|modules).*", ("docker",), "the agent speaks to the engine's socket with http.client"),
    Rule(
        "(agent|hardware|modules/protocol).*|" + CORE,
        (
            "pydantic",
            "httpx",
            "requests",
            "fastapi",
            "sqlalchemy",
            "sqlite_utils",
            "typer",
            "rich",
            "numpy",
            "onnxruntime",
        ),
        "the agent idles in tens of MB",
    ),
    Rule(r"agent/(?!simulate/).*", ("agent.simulate",), "no program of a device loads the simulator"),
    Rule(
        "agent/simulate/.*",
        ("agent.store", "agent.shelf", "agent.supply", "agent.engines", "agent.execute", "agent.loop", "agent.gateway"),
        "thousands of devices in one process have no store and no engine each",
    ),
    Rule("agent/simulate/plan.py", ("asyncio", "time", "socket", "os", "paho"), "who plays what is pure"),
    Rule("agent/plan.py", ("sqlite3", "asyncio", "pathlib", "os", "time", "socket"), "the decision is pure"),
    Rule("agent/verdict.py", ("sqlite3", "asyncio", "pathlib", "os", "time", "socket"), "the decision is pure"),
    Rule("fleet/rollouts/(judge|planner).py", ("sqlalchemy", "asyncio", "time", "fleet.db"), "the decision is pure"),
]


def below(name, package):
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.files} not {rule.banned[0]}")
def test_direction(rule):
    """No file imports what its place in the house forbids."""
    breaches = [
        f"{path}:{found.line} imports {found.name}"
        for path in sources()
        if re.fullmatch(rule.files, path) and path not in rule.allowed
        for found in imports(path)
        if any(below(found.name, banned) for banned in rule.banned)
    ]

    assert not breaches, f"{rule.why}: {breaches}"


def test_every_room_of_the_client_has_its_rule():
    """A room that is added to the client says here what it may stand on."""
    assert {path.split("/")[2] for path in sources("fleet/client") if path.count("/") > 2} == set(_CLIENT)


def test_routing_table_is_light():
    """The routing table, which agent and gateway share, needs msgspec, our names, bounds and errors, and no more."""
    found = {one.name for path in ("agent/gateway/table.py", "modules/protocol/routing.py") for one in imports(path)}
    ours = ("msgspec", "modules.bounds", "modules.errors", "modules.names", "modules.protocol.routing")

    assert [
        name
        for name in found
        if name.split(".")[0] not in sys.stdlib_module_names and not any(below(name, one) for one in ours)
    ] == []


def test_worker_host_imports_nothing_of_ours():
    """What runs beside a user's script imports the standard library, and a serving library when asked: never us."""
    path = "modules/scoring/scripts/worker_host.py"
    found = imports(path) if path in sources() else ()

    assert [one for one in found if one.name.split(".")[0] in ROOMS] == []
    assert [one for one in found if one.at_top and one.name.split(".")[0] not in sys.stdlib_module_names] == []


def test_worker_packages_import_nothing_of_ours():
    """So do the packages that the worker puts beside a user's script, except each other."""
    places = [path for path in sources("modules") if path.startswith("modules/scoring/scripts/shims/")]
    allowed = {"azureml", "edgefleet_worker", "orjson", "werkzeug", *sys.stdlib_module_names}

    assert places
    assert [one for path in places for one in imports(path) if one.name.split(".")[0] not in allowed] == []


def test_first_party_imports_stand_at_the_top():
    """No function hides an import of ours: a cycle must show, not be dodged."""
    hidden = [
        f"{path}:{found.line} imports {found.name}"
        for path in sources(*ROOMS, "deploy")
        for found in imports(path)
        if not found.at_top and found.name.split(".")[0] in ROOMS
    ]

    assert not hidden


def test_imports_are_absolute():
    """An import says from where in the house it comes."""
    relative = [f"{path}:{found.line}" for path in sources(*ROOMS, "deploy") for found in imports(path) if found.level]

    assert not relative


def test_no_import_cycle():
    """Files import each other in one direction, so that each can be read after those it stands on."""
    files = {path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for path in sources()}

    def targets(path):
        for found in imports(path):
            name = found.name if found.name in files else found.name.rpartition(".")[0]
            if name in files and files[name] != path and not files[name].endswith("__init__.py"):
                yield files[name]

    state = {}

    def visit(path, trail):
        if state.get(path) == "done":
            return
        assert path not in trail, " -> ".join([*trail[trail.index(path) :], path])
        for target in targets(path):
            visit(target, [*trail, path])
        state[path] = "done"

    for path in files.values():
        visit(path, [])


@pytest.mark.parametrize("room", [room for room in ROOMS if sources(room)])
def test_rooms_resolve_to_this_tree(room):
    """Our generic folder names mean this tree and no other installed package."""
    spec = importlib.util.find_spec(room)

    assert {Path(place).resolve() for place in spec.submodule_search_locations} == {ROOT / room}
