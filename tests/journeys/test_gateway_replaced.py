"""The gateway of an endpoint is replaced on a real container host, while clients ask and one of them takes its time."""

import http.client
import io
import time

import pytest

from tests.parts import digits
from tests.parts import docker as docker_parts
from tests.parts.presence import engine_socket
from tests.parts.programs import until
from tests.parts.traffic import Traffic

pytestmark = pytest.mark.long

NAME = "doorway"
STEADY = 50
# So long answers that were owed had before, whatever the endpoint's settings said.
LONG_S = 40


@pytest.fixture(scope="module")
def engine():
    client = docker_parts.client()
    yield client
    client.close()


@pytest.fixture
def other_image(engine):
    """A gateway's image with another id, as a new release has one."""
    dockerfile = f"FROM {docker_parts.gateway_image(engine)}\nLABEL release=next\n"
    image, _ = engine.images.build(
        fileobj=io.BytesIO(dockerfile.encode()), tag="edgefleet-test/gateway-next:1", rm=True
    )
    yield image.id
    engine.images.remove(image.id, force=True)


def attach(system, image):
    system.cli("targets", "attach", "doorhost", "--docker", f"unix://{engine_socket()}", "--gateway-image", image)


@pytest.fixture
def port(system, engine, digits_module, other_image):
    """Of an endpoint that lets everybody in."""
    attach(system, docker_parts.gateway_image(engine))
    system.cli("endpoints", "deploy", NAME, "--target", "doorhost", "--module", digits_module)
    found = system.cli("endpoints", "set", NAME, "auth=none", "answer_s=90", "--wait")
    yield int(found["url"].split(":")[2].split("/")[0])
    system.cli("endpoints", "remove", NAME, "--wait")
    system.cli("targets", "detach", "doorhost")


def parts(engine, part):
    labels = [f"edgefleet.cloud.part={part}", f"edgefleet.cloud.endpoint={NAME}"]
    return engine.containers.list(filters={"label": labels}, ignore_removed=True)


class Slow:
    """A request whose end is awaited: the gateway has its head and half of its body."""

    def __init__(self, port):
        self._body = digits.QUESTIONS[0].body
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._connection.putrequest("POST", f"/{NAME}/score")
        self._connection.putheader("Content-Type", "application/json")
        self._connection.putheader("Content-Length", str(len(self._body)))
        self._connection.endheaders()
        self._sent = 0
        self.goes_on()

    def goes_on(self):
        self._connection.send(self._body[self._sent : self._sent + 1])
        self._sent += 1

    def ends(self):
        self._connection.send(self._body[self._sent :])
        answer = self._connection.getresponse()
        return answer.status, digits.QUESTIONS[0].wrong(answer.read())


@pytest.mark.parametrize("stays_s", [0, pytest.param(LONG_S, marks=pytest.mark.long)])
def test_another_gateway_costs_no_request(system, engine, port, other_image, stays_s):
    """Whoever asks meanwhile is answered, and who had begun at the old one has its answer, however long it takes."""
    with Traffic(port, f"/{NAME}/score", digits.QUESTIONS) as traffic:
        until(lambda: len(traffic.answers) > STEADY, "answers come", within_s=30)
        (old,) = parts(engine, "gateway")
        slow = Slow(port)
        attach(system, other_image)
        until(lambda: b"told to stop" in old.logs(), "another gateway serves", within_s=60)
        begun = time.monotonic()
        while time.monotonic() - begun < stays_s:
            slow.goes_on()
            time.sleep(2)
        seen = len(traffic.answers)
        until(lambda: len(traffic.answers) > seen + STEADY, "answers come", within_s=30)
        assert slow.ends() == (200, "")
        until(lambda: [one.id != old.id for one in parts(engine, "gateway")] == [True], "it has gone", within_s=60)

    assert traffic.failed == []
