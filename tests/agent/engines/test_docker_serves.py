import asyncio
import http.client
import json
import os
from contextlib import closing

import pytest

from agent.unix_http import UnixConnection
from modules.digests import measure_bytes, sha256
from modules.manifest import EntryScript, File, Image, Manifest, Proof, Runtime, encode
from tests.parts import docker as parts
from tests.parts.pace import stretched

pytestmark = [pytest.mark.needs("docker"), pytest.mark.timeout(600)]

SCRIPT = b"""
import os, tempfile

def init():
    with tempfile.NamedTemporaryFile() as scratch:
        scratch.write(b"scripts may use /tmp")

def run(data):
    return {"length": len(data), "uid": os.getuid()}
"""


@pytest.fixture(scope="module")
def scoring(engine_client):
    """The scoring image, as a manifest names it; the engine has it already."""
    image = engine_client.images.get(parts.scoring_image(engine_client))
    config = measure_bytes(b"")
    held = type(config)(image.id, 1, config.blocks)
    return Image(name="scoring", manifest=config, config=held, layers=())


@pytest.fixture
def served(launch, scoring, tmp_path):
    """A module with an entry script, and the launch of it."""
    blob = measure_bytes(SCRIPT)
    manifest = encode(
        Manifest(
            team="acme", name="echo", version="1", serve=EntryScript(script="source/score.py"),
            files=(File(path="source/score.py", sha256=blob.sha256, length=blob.length, blocks=blob.blocks),),
            runtimes=(Runtime(image=scoring),), proof=Proof(prove="ready-only"),
        )
    )  # fmt: skip
    wanted = launch("", runtime=Runtime(image=scoring), digest=sha256(manifest), memory_mb=256, group=os.getgid())
    module = tmp_path / wanted.instance / "module"
    (module / "manifest.json").write_bytes(manifest)
    (module / "files/source").mkdir()
    (module / "files/source/score.py").write_bytes(SCRIPT)
    return wanted


def ask(socket_path: str, body: bytes) -> tuple[int, bytes]:
    with closing(UnixConnection(socket_path, 10)) as connection:
        connection.request("POST", "/score", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()


async def test_a_module_serves_from_its_container(docker_engine, served):
    """The scoring server, locked in as every module is, answers on its socket and ends when it is asked to."""
    await docker_engine.start(served)

    async with asyncio.timeout(stretched(60)):
        while True:
            try:
                status, answer = await asyncio.to_thread(ask, served.socket, b'{"data": 7}')
            except (OSError, http.client.HTTPException):
                status = 0
            if status == http.client.OK:
                break
            (instance,) = await docker_engine.list()
            assert instance.state == "running", await docker_engine.logs(served.instance, tail_bytes=4000)
            await asyncio.sleep(0.05)

    assert json.loads(answer) == {"length": 11, "uid": 10001}
    usage = await docker_engine.usage(served.instance)
    assert usage.memory_mb < served.memory_mb
    await docker_engine.stop(served.instance, grace_s=10)
