import io
import json
from contextlib import closing
from itertools import pairwise

import pytest

from fleet.client.images import base_image, image_build
from fleet.client.images.image_build import SCORING, Inside, build_image
from modules.errors import NeedsOperator
from tests.parts import docker as parts

pytestmark = pytest.mark.needs("docker")

LOOK = """
import importlib.metadata, importlib.util, json, os, pathlib, pwd
import httptools, numpy, onnxruntime, orjson, modules.scoring
print(json.dumps({
    "user": pwd.getpwuid(os.getuid()).pw_name, "uid": os.getuid(),
    "environment": dict(os.environ), "cached": numpy.__cached__, "compiled": os.path.exists(numpy.__cached__),
    "packages": sorted(one.name.lower() for one in importlib.metadata.distributions()),
    "wheels": [str(path) for path in pathlib.Path("/").glob("*/*.whl")],
    "from": modules.scoring.__file__,
}))
"""


@pytest.fixture(scope="module")
def client():
    with parts.engine(), closing(parts.client()) as made:
        yield made


@pytest.fixture(scope="module")
def seen(client):
    """What Python sees inside the image."""
    image = parts.scoring_image(client)
    answer = client.containers.run(
        image, ["-c", LOOK], entrypoint=["python"], remove=True, network_mode="none", read_only=True
    )
    return json.loads(answer)


@pytest.mark.timeout(600)
def test_what_is_in_it(seen):
    """The image has the scoring server and what it imports, and nothing of agent, fleet server or client."""
    assert {"edgefleet", "msgspec", "numpy", "onnxruntime", "orjson", "httptools"} <= set(seen["packages"])
    assert not {"docker", "fastapi", "aiomqtt", "tuf", "cryptography", "sqlalchemy"} & set(seen["packages"])
    assert seen["from"].startswith("/opt/edgefleet/")
    assert seen["wheels"] == []


def test_how_it_runs(seen):
    """It runs as a user of its own, sends no telemetry, and starts from byte code made beforehand."""
    assert (seen["user"], seen["uid"]) == ("edgefleet", 10001)
    assert seen["environment"]["ORT_DISABLE_TELEMETRY"] == "1"
    assert seen["environment"]["PYTHONDONTWRITEBYTECODE"] == "1"
    assert seen["compiled"]


def test_what_it_starts(client, seen):
    """Started as it is, it serves the module at its place on the socket at its place."""
    config = client.images.get(parts.scoring_image(client)).attrs["Config"]

    assert config["Entrypoint"] == ["python", "-m", "modules.scoring"]
    assert config["Cmd"] == ["--module", "/module", "--unix", "/run/edgefleet/s.sock"]
    assert config["User"] == "10001:10001"


def test_what_is_there_already_is_not_built_again(client):
    """Asked for an image that the engine has from the same sources, it gives that one its name, and builds nothing."""
    name = "edgefleet-test/again:1"
    parts.scoring_image(client)
    first = build_image(SCORING, client=client, name=name, progress=print)
    told = []

    try:
        assert build_image(SCORING, client=client, name=name, progress=told.append) == first
        assert client.images.get(name).id == first
    finally:
        client.images.remove(name)
    assert told == [f"{name} is there already, built from the same sources and base image"]


def test_what_was_built_upon_it_is_not_taken_for_it(client):
    """An image that somebody built upon the scoring image has its labels too, and is never given out as it."""
    scoring = parts.scoring_image(client)
    name, upon = "edgefleet-test/again:1", "edgefleet-test/upon:1"
    recipe = io.BytesIO(f"FROM {scoring}\nUSER 0:0\n".encode())
    other = client.images.build(fileobj=recipe, tag=upon, rm=True, pull=False)[0]

    try:
        assert build_image(SCORING, client=client, name=name, progress=print) == scoring
        assert other.id != scoring
    finally:
        client.images.remove(upon)
        client.images.remove(name)


def test_base_that_is_nowhere(client, monkeypatch):
    """Without a base image, here or at a registry, the operator is told how to bring one in."""
    monkeypatch.setattr(image_build, "BASE", "127.0.0.1:1/no-such-base:1")
    told = []

    with pytest.raises(NeedsOperator, match="docker load"):
        build_image(SCORING, client=client, name="edgefleet-test/never:1", progress=told.append)

    assert told == ["pulling 127.0.0.1:1/no-such-base:1"]


def test_base_without_glibc(client, monkeypatch):
    """A base image for which there are no wheels of onnxruntime is refused before anything is fetched."""
    parts.python_slim(client)
    monkeypatch.setattr(base_image, "_ASK", """print('{"python":"3.11","libc":"","version":"","machine":"x86_64"}')""")

    with pytest.raises(NeedsOperator, match="glibc only"):
        build_image(
            SCORING,
            client=client,
            name="edgefleet-test/never:1",
            extra_requirements=["not-built-before"],
            progress=print,
        )


@pytest.mark.long
def test_package_that_cannot_be_had(client):
    """A package that pip cannot find stops the build with pip's own words."""
    parts.python_slim(client)

    with pytest.raises(NeedsOperator) as refusal:
        build_image(
            SCORING,
            client=client,
            name="edgefleet-test/never:1",
            extra_requirements=["msgspec==0.0.0.dev0"],
            progress=print,
        )

    assert refusal.value.element == "pip download"
    assert "msgspec==0.0.0.dev0" in refusal.value.message


def test_without_its_dockerfile(client, tmp_path):
    """Where edgefleet was copied, and not installed, that is what the message says."""
    copied = SCORING._replace(dockerfile=tmp_path / "scoring.Dockerfile")

    with pytest.raises(NeedsOperator, match="without the image's Dockerfile"):
        build_image(copied, client=client, name="edgefleet-test/never:1", progress=print)


def test_wheels_for_the_image_not_for_this_machine():
    """pip is asked for wheels of the image's Python, processor and C library, newest form first."""
    options = Inside(python="3.12", libc="glibc", version="2.28", machine="aarch64").pip_options

    platforms = [value for option, value in pairwise(options) if option == "--platform"]
    assert platforms[0] == "manylinux_2_28_aarch64"
    assert platforms[-2:] == ["manylinux_2_17_aarch64", "manylinux2014_aarch64"]
    assert "--python-version=3.12" in options
    assert "--only-binary=:all:" in options
