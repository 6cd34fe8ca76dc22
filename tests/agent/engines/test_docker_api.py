import socket
import threading
from contextlib import closing
from pathlib import Path

import pytest

from agent.engines.docker import DockerEngine
from agent.engines.docker_api import ApiError, DockerApi, demultiplexed
from agent.installation import Installation
from modules.errors import EngineBusy, NoEngine
from modules.names import device_id

DEVICE = device_id("device-1")
INSTALLATION = Installation(id="0123456789ab", modules=Path("/nowhere/modules"))
LISTED = b'[{"Id":"c0","Labels":{"edgefleet.instance":"a","edgefleet.installation":"0123456789ab"}}]'


@pytest.fixture
def answering(tmp_path):
    """A socket whose listener gives each caller the next of these answers (None: never one); yields what was asked."""
    threads = []

    def serve(*answers: bytes | None):
        path, asked, held = str(tmp_path / "engine.sock"), [], []
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()

        def run():
            with closing(listener):
                for answer in answers:
                    connection, _ = listener.accept()
                    asked.append(connection.recv(65536).split(b"\r\n")[0].decode())
                    if answer is None:
                        held.append(connection)
                        continue
                    with connection:
                        connection.sendall(answer)
                for connection in held:
                    with connection:
                        connection.recv(1)

        thread = threading.Thread(target=run)
        thread.start()
        threads.append(thread)
        return path, asked

    yield serve
    for thread in threads:
        thread.join(timeout=10)
        assert not thread.is_alive()


def http(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def test_nobody_listens(tmp_path):
    """Without a socket the operator is told to start an engine."""
    with pytest.raises(NoEngine, match="install and start") as missing:
        await DockerEngine(DEVICE, INSTALLATION, DockerApi(str(tmp_path / "no.sock"))).facts()

    assert missing.value.element.endswith("no.sock")


async def test_dead_socket(tmp_path):
    """A socket file that its daemon left behind is no engine."""
    with closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(str(tmp_path / "dead.sock"))

    with pytest.raises(NoEngine):
        await DockerEngine(DEVICE, INSTALLATION, DockerApi(str(tmp_path / "dead.sock"))).facts()


async def test_silent_engine(answering):
    """An engine that takes the call and says nothing is busy, and costs a bounded time."""
    path, _ = answering(None)

    with pytest.raises(EngineBusy, match="in time"):
        await DockerEngine(DEVICE, INSTALLATION, DockerApi(path, call_s=0.2)).list()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="when it hangs up"),
        pytest.param(b"SSH-2.0-nonsense\r\n\r\n", id="when it speaks something else"),
        pytest.param(http(b"<html>"), id="when the answer is no JSON"),
    ],
)
async def test_nonsense(answer, answering):
    """An engine that answers nonsense is busy, never a crash of the agent."""
    path, _ = answering(answer)

    with pytest.raises(EngineBusy):
        await DockerEngine(DEVICE, INSTALLATION, DockerApi(path)).facts()


@pytest.mark.parametrize(
    ("version", "prefix"),
    [
        pytest.param(b'{"ApiVersion":"1.41","MinAPIVersion":"1.12"}', "/v1.41", id="Docker 20.10"),
        pytest.param(
            b'{"ApiVersion":"1.52","MinAPIVersion":"1.44"}', "/v1.44", id="Docker 29, which dropped old versions"
        ),
    ],
)
async def test_version_is_negotiated(version, prefix, answering):
    """We speak the version that we know, or the oldest that a newer engine still does."""
    path, asked = answering(http(version), http(b"[]"))

    assert await DockerEngine(DEVICE, INSTALLATION, DockerApi(path)).list() == []

    assert asked[1].split()[1].startswith(f"{prefix}/containers/json?")


async def test_engine_too_old(answering):
    """An engine older than we can speak with is the operator's to update."""
    path, _ = answering(http(b'{"ApiVersion":"1.24"}'))

    with pytest.raises(NoEngine, match="update it"):
        await DockerEngine(DEVICE, INSTALLATION, DockerApi(path)).facts()


async def test_podman_forgets_why(answering):
    """On Podman, which keeps no mark of it, an instance that was killed is taken as killed for memory."""
    inspected = (
        b'{"Id":"c0","Image":"00","Config":{"Labels":{"edgefleet.device":"device-1","edgefleet.instance":"a","edgefleet.slot":"a",'
        b'"edgefleet.digest":"sha256:0"}},"State":{"Status":"exited","ExitCode":137,"OOMKilled":false,'
        b'"StartedAt":"2026-01-01T00:00:00.123456789Z"}}'
    )
    version = b'{"ApiVersion":"1.41","Version":"4.3.1","Components":[{"Name":"Podman Engine"}]}'
    path, _ = answering(http(version), http(b'{"Driver":"overlay"}'), http(LISTED), http(inspected))
    engine = DockerEngine(DEVICE, INSTALLATION, DockerApi(path))

    facts = await engine.facts()
    (instance,) = await engine.list()

    assert (facts.version, facts.detail.split(",")[0]) == ("4.3.1", "Podman")
    assert (instance.oom, instance.exit_code) == (True, 137)
    assert instance.started_at == pytest.approx(1767225600.123456)


async def test_podman_lists_no_mounts(answering):
    """On Podman, whose list may be without mounts, a container from before is known by its module all the same."""
    listed = b'[{"Id":"c0","Labels":{"edgefleet.instance":"a"}},{"Id":"c1","Labels":{"edgefleet.instance":"b"}}]'
    inspected = (
        b'{"Id":"c%d","Image":"00","Config":{"Labels":{"edgefleet.instance":"%c"}},"State":{"Status":"running"},'
        b'"Mounts":[{"Source":"/%s/modules/0","Destination":"/module"}]}'
    )
    ours, another = inspected % (0, b"a", b"nowhere"), inspected % (1, b"b", b"elsewhere")
    path, _ = answering(http(b'{"ApiVersion":"1.41"}'), http(listed), http(ours), http(another), http(ours))

    (instance,) = await DockerEngine(DEVICE, INSTALLATION, DockerApi(path)).list()

    assert instance.instance == "a"


async def test_podman_has_no_figures_of_the_ended(answering):
    """On Podman, which answers nothing about an instance that ends meanwhile, there is no usage, and no crash."""
    inspected = (
        b'{"Id":"c0","Image":"00","Config":{"Labels":{"edgefleet.device":"device-1","edgefleet.instance":"a","edgefleet.slot":"a",'
        b'"edgefleet.digest":"sha256:0"}},"State":{"Status":"running"}}'
    )
    path, _ = answering(http(b'{"ApiVersion":"1.41"}'), http(LISTED), http(inspected), http(b"null"))

    assert await DockerEngine(DEVICE, INSTALLATION, DockerApi(path)).usage("a") is None


def test_refusal_of_an_archive(answering):
    """What the engine says while it refuses an archive is kept, wherever it says so."""
    path, _ = answering(http(b'{"ApiVersion":"1.41"}'), http(b'{"stream":"a"}\n{"error":"invalid diffID"}\n'))

    with pytest.raises(ApiError, match="invalid diffID"):
        DockerApi(path).load(iter([b"archive"]))


def test_log_frames():
    """A log's frames of both streams come in order, and a frame that is not complete does no harm."""
    stream = b"\x01\0\0\0\0\0\0\x03one" + b"\x02\0\0\0\0\0\0\x03two" + b"\x01\0\0\0\0\0\0\x09cut"

    assert list(demultiplexed(stream)) == [b"one", b"two", b"cut"]


@pytest.mark.needs("docker")
async def test_a_real_engine(docker_engine):
    """A real engine says what it is."""
    facts = await docker_engine.facts()

    assert facts.name == "docker"
    assert facts.version
    assert "image store" in facts.detail


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("created", "created"),
        ("Configured", "created"),
        ("running", "running"),
        ("paused", "running"),  # it does not answer, which its probes will tell
        ("restarting", "running"),
        ("removing", "running"),
        ("exited", "exited"),
        ("dead", "exited"),
        ("whatever comes", "exited"),
    ],
)
def test_states(status, state):
    """What an engine may call a container is one of three, and what nobody knows does not count as running."""
    labels = {"edgefleet.instance": "main-1", "edgefleet.slot": "main", "edgefleet.digest": "sha256:" + "0" * 64}
    told = {"State": {"Status": status, "ExitCode": 1}, "Config": {"Labels": labels}, "Image": "sha256:1"}
    shown = DockerEngine(DEVICE, INSTALLATION, DockerApi("/no.sock"))._instance(told)

    assert shown.state == state
    assert (shown.exit_code is None) is (state != "exited")
