"""The program in the image that pods start it from, confined as a pod is."""

import shutil
from datetime import UTC, datetime, timedelta

import pytest

from modules.protocol.content import DONE
from tests.agent.content.test_content import MODEL, Pod
from tests.parts import docker as docker_parts

USER = 10001


@pytest.mark.needs("docker")
def test_the_gateways_image_brings_a_pod_its_module(tmp_path):
    """Read-only root, no capability, an unprivileged user: all that it needs is in the image."""
    engine = docker_parts.client()
    image = docker_parts.gateway_image(engine)
    pod = Pod(tmp_path, datetime.now(UTC) - timedelta(hours=1))
    settings = tmp_path / "settings"
    settings.mkdir()
    shutil.chown(pod.to, USER, USER)
    with pod.door:
        pod.door.settings(settings)
        one = engine.containers.run(
            image, entrypoint=["python", "-m", "agent.content"],
            command=["--settings", "/settings/content.json", "--to", "/edgefleet"],
            volumes={str(settings): {"bind": "/settings", "mode": "ro"}, str(pod.to): {"bind": "/edgefleet"}},
            network_mode="host", read_only=True, cap_drop=["ALL"], security_opt=["no-new-privileges"],
            user=f"{USER}:{USER}", detach=True,
        )  # fmt: skip
        try:
            ended = one.wait(timeout=60)["StatusCode"]
            said = one.logs().decode()
        finally:
            one.remove(force=True)
            engine.close()
    assert ended == DONE, said
    assert (pod.to / "module/files/model.onnx").read_bytes() == MODEL
    assert (pod.to / "access.json").stat().st_uid == USER
