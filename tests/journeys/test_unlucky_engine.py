"""A container host whose engine fails in the middle: its disk is full, or it is killed at each step and comes back."""

import json
import shutil
from contextlib import closing

import docker
import docker.errors
import pytest
import requests

from tests.parts import docker as docker_parts
from tests.parts.dockerd import dockerd
from tests.parts.pace import stretched
from tests.parts.programs import until

pytestmark = [pytest.mark.long, pytest.mark.needs("dockerd")]

NAME = "unlucky"
TARGET = "unluckyhost"
LABEL = "edgefleet.cloud."
MINE = {"label": f"{LABEL}endpoint={NAME}"}
#: of the engine's disk; and what it has left when its image comes, which is much larger
DISK_MB, LEFT_MB = 2500, 40
WITHIN_S = stretched(120)
# Its engine has no bridge, so no port of it is free by itself.
SETTINGS = ("auth=none", "port=18080")


@pytest.fixture(scope="module")
def own():
    with dockerd(disk_mb=DISK_MB) as one:
        yield one


@pytest.fixture(scope="module")
def engine(own):
    with closing(docker.DockerClient(base_url=f"unix://{own.socket}", timeout=120)) as client:
        yield client


@pytest.fixture(scope="module")
def host(system, own, engine, tmp_path_factory):
    """The engine, attached, with the gateway's image alone."""
    with closing(docker_parts.client()) as ours:
        image = docker_parts.gateway_image(ours)
        archive = docker_parts.saved(ours, image, tmp_path_factory.mktemp("gateway") / "image.tar")
    with archive.open("rb") as data:
        (loaded,) = engine.images.load(data)
    system.cli("targets", "attach", TARGET, "--docker", f"unix://{own.socket}", "--gateway-image", loaded.id)
    yield loaded.id
    system.cli("targets", "detach", TARGET)


def deploy(system, module):
    system.cli("endpoints", "deploy", NAME, "--target", TARGET, "--module", module, "--replicas", "2")
    system.cli("endpoints", "set", NAME, *SETTINGS)


def stands(system):
    return next((one for one in system.api("endpoints") if one["name"] == NAME), None)


def wait(system, look, what):
    until(look, what, within_s=WITHIN_S, said=lambda: json.dumps(stands(system)))


def test_a_disk_that_is_full_while_the_image_comes(system, host, own, engine, digits_module):
    """It is said in the engine's words, nothing is half there, and once there is room the endpoint gets ready."""
    balloon = own.data / "balloon"
    free = shutil.disk_usage(own.data).free - (LEFT_MB << 20)
    with balloon.open("wb") as file:
        for _ in range(free >> 20):
            file.write(bytes(1 << 20))
    deploy(system, digits_module)
    wait(system, lambda: "no space left" in (stands(system) or {}).get("why", ""), "the full disk is said")
    assert stands(system)["state"] == "failed"
    balloon.unlink()
    wait(system, lambda: stands(system)["state"] == "ready", "it is ready once there is room")
    assert len(engine.containers.list(filters={"label": [*MINE.values(), f"{LABEL}part=replica"]})) == 2
    # The gateway's image was brought without a name.
    assert [one.id for one in engine.images.list(filters={"dangling": True})] == [host]


@pytest.mark.parametrize("part", ["content", "replica", "gateway", "end"])
def test_an_engine_that_is_killed_in_a_step_and_comes_back(system, host, own, engine, digits_module, part):
    """While the files are brought, a replica or the gateway is made, or all of it ends: then it is whole, or gone."""
    if stands(system) is None:
        deploy(system, digits_module)
    if part == "end":
        wait(system, lambda: stands(system)["state"] == "ready", "it is ready")
        system.cli("endpoints", "remove", NAME)
        wait(system, lambda: len(found(engine)) < 7, "its end has begun")
    else:
        wait(system, lambda: any(one.labels[f"{LABEL}part"] == part for one in found(engine)), f"{part} is there")
    own.program.kill()
    own.start()
    if part == "end":
        wait(system, lambda: stands(system) is None, "nothing of it is left")
        assert (found(engine), engine.volumes.list(filters=MINE), engine.networks.list(filters=MINE)) == ([], [], [])
        return
    wait(system, lambda: stands(system)["state"] == "ready", "it is ready all the same")
    names = sorted(one.labels[f"{LABEL}part"] for one in found(engine))
    assert names == ["content", "gateway", "keeper", "replica", "replica"]
    system.cli("endpoints", "remove", NAME, "--wait")


def found(engine):
    try:
        return engine.containers.list(all=True, filters=MINE, ignore_removed=True)
    except (docker.errors.DockerException, requests.RequestException):
        return []
