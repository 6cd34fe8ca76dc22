"""A secret on its way to a module on a container host, its renewal under load, and a restart of the host."""

import json
import secrets

import pytest

from tests.journeys.test_endpoints import made, target
from tests.journeys.test_endpoints import settled as ready
from tests.journeys.test_secrets import spellings, where
from tests.parts import digits
from tests.parts import docker as docker_parts
from tests.parts.programs import CommandFailed, until
from tests.parts.traffic import Traffic

pytestmark = pytest.mark.long

__all__ = ["target"]

NAME = "reader"
READ = "import pathlib; print(pathlib.Path('/run/secrets/..data/token').read_text(), end='')"


@pytest.fixture(scope="module")
def engine():
    client = docker_parts.client()
    yield client
    client.close()


def parts(engine, part):
    return engine.containers.list(
        filters={"label": [f"edgefleet.cloud.part={part}", f"edgefleet.cloud.endpoint={NAME}"]}
    )


def read(engine):
    """What the module of the only replica finds, or how that fails."""
    found = parts(engine, "replica")
    return found[0].exec_run(["python", "-c", READ]).output.decode() if len(found) == 1 else f"{len(found)} replicas"


def test_a_secret_is_in_its_replica_and_nowhere_else(system, target, engine, tmp_path):
    """Missing it is one sentence; set, it is in memory alone; a new value costs no request; after a restart of the host
    it comes again; it is in no log, variable, answer, label or file of a disk, and goes with the endpoint."""
    values = [f"planted-{secrets.token_hex(16)}" for _ in range(2)]
    ref = system.sign(system.register(digits.GRAPH, "with-secret", *digits.samples(tmp_path), "--secret", "token"))
    system.cli("endpoints", "deploy", NAME, "--target", target, "--module", ref, "--set", "auth=none")

    def lacking():
        found = system.api(f"endpoints/{NAME}")
        return found["state"] == "failed" and f"edgefleet secrets set token --endpoint {NAME}" in found["why"]

    until(lacking, "it says what is missing", within_s=60, said=lambda: json.dumps(system.api(f"endpoints/{NAME}")))
    assert made(engine, NAME)["volumes"] == [f"{made(engine, NAME)['networks'][0]}.door"]
    file = tmp_path / "token"
    file.write_text(values[0])
    seen = [json.dumps(system.cli("secrets", "set", "token", "--endpoint", NAME, "--file", file))]
    found = ready(system, NAME)
    assert read(engine) == values[0]
    (replica,) = parts(engine, "replica")
    mounts = replica.exec_run(["cat", "/proc/mounts"]).output.decode()
    (line,) = (one for one in mounts.splitlines() if " /run/secrets " in one)
    assert line.split()[2] == "tmpfs"
    assert line.split()[3].startswith("ro,")
    assert replica.exec_run(["python", "-c", "open('/run/secrets/other', 'w')"]).exit_code != 0
    assert replica.exec_run(["python", "-c", "open('/run/secrets/..1/token', 'w')"]).exit_code != 0

    port = int(found["url"].split(":")[2].split("/")[0])
    with Traffic(port, f"/{NAME}/score", digits.QUESTIONS) as traffic:
        until(lambda: len(traffic.answers) > 50, "answers come", within_s=30)
        file.write_text(values[1])
        seen.append(json.dumps(system.cli("secrets", "set", "token", "--endpoint", NAME, "--file", file)))
        until(lambda: read(engine) == values[1], "the module reads the new value", within_s=90)
        asked = len(traffic.answers)
        until(lambda: len(traffic.answers) > asked + 50, "answers come", within_s=30)
    assert traffic.failed == []
    ready(system, NAME)
    until(lambda: len(parts(engine, "secrets")) == 1, "nothing of the old value is left", within_s=60)

    # As after a power cut: all containers end, and the memory is empty; the engine starts the replicas alone.
    for one in (*parts(engine, "secrets"), *parts(engine, "replica")):
        one.kill()
    until(lambda: read(engine) == values[1], "the module reads it again", within_s=90)
    ready(system, NAME)

    for part in ("secrets", "replica", "gateway"):
        (one,) = parts(engine, part)
        seen += [json.dumps(engine.api.inspect_container(one.id)), one.logs().decode()]
    seen.append(json.dumps([one.attrs for one in engine.volumes.list()]))
    seen.append(replica_environment(engine))
    seen += [json.dumps(system.api(path)) for path in (f"endpoints/{NAME}", "endpoints", "events", "modules")]
    listed = system.cli("secrets", "list", "--endpoint", NAME)
    assert [(one["name"], one["state"], one["version"]) for one in listed] == [("token", "set", 2)]
    with pytest.raises(CommandFailed, match="requires it") as refusal:
        system.cli("secrets", "remove", "token", "--endpoint", NAME)
    seen += [json.dumps(listed), str(refusal.value)]
    file.unlink()
    for value in values:
        assert [one for one in spellings(value) if one in "".join(seen).encode()] == []
        assert where(system, value) == []
    system.cli("endpoints", "remove", NAME, "--wait")
    assert made(engine, NAME) == {"containers": [], "volumes": [], "networks": []}


def replica_environment(engine):
    (one,) = parts(engine, "replica")
    return one.exec_run(["python", "-c", "print(open('/proc/1/environ').read())"]).output.decode()
