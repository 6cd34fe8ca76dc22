"""Each extra brings what its place needs, and nothing of the others."""

import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.house.installed import closure, extras, imported_with_only, project
from tests.house.tree import ROOT, sources

SERVER = {"fastapi", "pydantic", "pydantic-settings", "sqlalchemy", "alembic", "nicegui", "kubernetes"}
SCREEN = {"typer", "rich", "click"}
CONVERT = {"lightgbm", "onnxmltools", "pandas", "scikit-learn", "skl2onnx", "tensorflow", "tf2onnx", "xgboost"}
MODEL = {"numpy", "onnx", "onnxruntime"} | CONVERT
WIRE = {"paho-mqtt", "aiomqtt"}
TRUST = {"tuf", "securesystemslib", "cryptography"}
WEB = {"httpx", "requests", "docker"}

# typer itself stands on pydantic.
NOT_IN = {
    "agent": SERVER | SCREEN | MODEL | WEB | {"uvicorn"},
    "broker": SERVER | TRUST | WEB | MODEL | {"typer", "rich", "aiohttp", "uvicorn"},
    "client": SERVER - {"pydantic"} | WIRE | CONVERT | {"onnxruntime", "aiohttp", "uvicorn"},
    "export": SERVER | WIRE | TRUST | WEB | MODEL | {"typer", "rich", "aiohttp", "uvicorn"},
    # the console's library brings aiohttp
    "fleet": MODEL | {"typer", "rich"},
    "grpc": SERVER | WIRE | TRUST | WEB | MODEL | {"typer", "rich", "aiohttp", "tritonclient"},
    "hsm": SERVER | WIRE | TRUST | WEB | MODEL | {"typer", "rich", "aiohttp"},
    # its client brings aiohttp, requests and pydantic
    "kubernetes": SERVER - {"kubernetes", "pydantic"} | WIRE | TRUST | MODEL | {"typer", "rich", "uvicorn", "docker"},
    "postgres": SERVER | WIRE | TRUST | WEB | MODEL | {"typer", "rich", "aiohttp"},
    "scoring": SERVER | WIRE | TRUST | WEB | CONVERT | {"typer", "rich", "aiohttp"},
}
# Added to client, to scoring or to fleet: no programs of their own.
ADDITIONS = ("broker", "export", "grpc", "hsm", "kubernetes", "postgres")
# Other libraries with what converts their models: installed by whoever has such models, not for the tests.
CONVERTERS = ("boosting", "sklearn", "tensorflow")
ENTRIES = {
    "agent": [
        *("agent.__main__", "agent.wiring", "agent.loop", "agent.gateway.__main__", "agent.content.__main__"),
        *("agent.simulate.__main__", "agent.doctor", "agent.enroll", "agent.halt", "agent.side_load", "agent.status"),
    ],
    "client": ["fleet.client", "fleet.client.__main__", "fleet.client.cli", "fleet.client.sdk"],
    "fleet": ["fleet.__main__", "fleet.app"],
    "scoring": ["modules.scoring.__main__", "modules.scoring.http.app", "modules.scoring.prove"],
}


def locked(path):
    """Names and versions of a lock; a package may have one version for each of several Pythons."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z0-9._-]+)(?:\[[a-z0-9,_-]+\])?==(\S+)", text, re.MULTILINE))


def existing(entries):
    paths = set(sources())
    return [
        name for name in entries if {f"{name.replace('.', '/')}.py", f"{name.replace('.', '/')}/__init__.py"} & paths
    ]


def test_every_extra_has_its_rule():
    """An extra that is added says here what it must not bring along."""
    assert set(NOT_IN) == {*ENTRIES, *ADDITIONS}
    assert set(extras()) == {*NOT_IN, *CONVERTERS}


@pytest.mark.parametrize("extra", NOT_IN)
def test_brings_nothing_of_the_others(extra):
    """Installing one extra does not pull in what another one is for."""
    assert closure(extra) & NOT_IN[extra] == set()


@pytest.mark.parametrize("extra", ENTRIES)
def test_runs_where_nothing_else_is_installed(extra):
    """The programs of an extra import with that extra's packages alone."""
    imported_with_only(extra, *existing(ENTRIES[extra]))


@pytest.mark.parametrize("extra", NOT_IN)
def test_lock_is_complete_and_agrees(extra):
    """An extra's lock holds all that it installs, at the versions of constraints.txt, within pyproject's bounds."""
    lock, everything = locked(f"deploy/locks/{extra}.txt"), locked("constraints.txt")
    versions = {}
    for name, version in lock:
        versions.setdefault(name, set()).add(version)

    assert lock <= everything
    assert closure(extra) <= set(versions)
    for requirement in map(Requirement, [*project()["dependencies"], *project()["optional-dependencies"][extra]]):
        found = versions[canonicalize_name(requirement.name)]
        assert all(requirement.specifier.contains(version) for version in found), f"{requirement} but locked {found}"


@pytest.mark.parametrize("extra", CONVERTERS)
def test_a_converter_is_locked_and_brings_nothing_of_ours(extra):
    """A converter's lock has all that it names, and no part of a program of ours."""
    names = {name for name, _ in locked(f"deploy/locks/{extra}.txt")}

    assert {canonicalize_name(Requirement(text).name) for text in project()["optional-dependencies"][extra]} <= names
    assert names & (SERVER | WIRE | TRUST | {"docker", "httpx", "onnxruntime"}) == set()


@pytest.mark.parametrize(
    "path", ["constraints.txt", *(f"deploy/locks/{extra}.txt" for extra in [*NOT_IN, *CONVERTERS])]
)
def test_lock_names_packages_by_hash_and_no_place(path):
    """Every pin carries sha256 digests, and no lock says where packages come from."""
    text = (ROOT / path).read_text(encoding="utf-8")
    pins = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]

    assert [pin.split()[0] for pin in pins if "--hash=sha256:" not in pin] == []
    assert not re.search(r"://|--index|--find-links|--extra-index|--trusted", text)
