"""The worst night of a container host: replicas and the gateway paused and cut off by hand, while clients wait."""

import contextlib
import http.client
import json
import threading
import time

import docker.errors
import pytest

from tests.parts import digits
from tests.parts import docker as docker_parts
from tests.parts.pace import stretched
from tests.parts.presence import engine_socket
from tests.parts.programs import until

pytestmark = pytest.mark.long

NAME = "night"
SILENT_S = 2
#: a request waits for a second until its replica is asked for a sign of life, which may take so long; then for another
BOUND_S = stretched(1 + SILENT_S + 2)
#: the server looks at what is ready so often; what is paused by hand goes on then
LOOKS_S = stretched(15 + 10)


@pytest.fixture(scope="module")
def engine():
    client = docker_parts.client()
    yield client
    client.close()


@pytest.fixture(scope="module")
def door(system, engine, digits_module):
    """Port and secondary key of an endpoint with two replicas."""
    image = docker_parts.gateway_image(engine)
    system.cli("targets", "attach", "nighthost", "--docker", f"unix://{engine_socket()}", "--gateway-image", image)
    system.cli("endpoints", "deploy", NAME, "--target", "nighthost", "--module", digits_module, "--replicas", "2")
    found = system.cli("endpoints", "set", NAME, f"silent_s={SILENT_S}", "--wait")
    yield int(found["url"].split(":")[2].split("/")[0]), system.cli("endpoints", "keys", NAME)["secondary"]
    system.cli("endpoints", "remove", NAME, "--wait")
    system.cli("targets", "detach", "nighthost")


@pytest.fixture
def whole(system, door, engine):
    """Each night begins with two replicas that answer."""
    quiet(system)
    return parts(engine, "replica")


@pytest.fixture(scope="module")
def successor(system, digits_module, tmp_path_factory):
    """A second version, whose answers are as right."""
    folder = tmp_path_factory.mktemp("successor")
    return system.sign(system.register(digits.trained_on(folder), "digits", *digits.samples(folder)))


def parts(engine, part, **more):
    labels = [f"edgefleet.cloud.part={part}", f"edgefleet.cloud.endpoint={NAME}"]
    found = engine.containers.list(filters={"label": labels}, ignore_removed=True, **more)
    return sorted(found, key=lambda one: one.name)


def network(engine):
    (found,) = engine.networks.list(filters={"label": f"edgefleet.cloud.endpoint={NAME}"})
    return found


def quiet(system):
    def ready():
        found = system.api(f"endpoints/{NAME}")
        return found["state"] == "ready" and [one["ready"] for one in found["versions"].values()] == [2]

    said = lambda: json.dumps(system.api(f"endpoints/{NAME}"))  # noqa: E731 - once, where it fails
    until(ready, "both replicas answer", within_s=120, said=said)


def pause(container):
    """A kernel that is busy does not freeze a container at once, and says so."""

    def done():
        with contextlib.suppress(docker.errors.APIError):
            container.pause()
        container.reload()
        return container.status == "paused"

    until(done, "it is paused", within_s=30)


class Clients:
    """Some that ask all the time, each over its own connection; of every request the status, and how long it took."""

    def __init__(self, door, count=6):
        self._port, self._key = door
        self._over = threading.Event()
        self.answers = []
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(count)]

    def __enter__(self):
        for one in self._threads:
            one.start()
        until(lambda: len(self.answers) > 20, "answers come", within_s=30)
        return self

    def __exit__(self, *_):
        self._over.set()
        for one in self._threads:
            one.join(stretched(90))

    def _ask(self):
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=stretched(80))
        while not self._over.wait(0.02):
            began = time.monotonic()
            try:
                body = digits.QUESTIONS[0].body
                headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
                connection.request("POST", f"/{NAME}/score", body, headers)
                answer = connection.getresponse()
                answer.read()
                self.answers.append((answer.status, time.monotonic() - began))
            except OSError as error:
                connection.close()
                self.answers.append((repr(error), time.monotonic() - began))
        connection.close()

    def since(self, count):
        """Which statuses came, and how long the longest took."""
        some = self.answers[count:]
        return {status for status, _ in some}, max(took for _, took in some)


def test_a_change_in_the_middle_of_a_change(system, engine, door, whole, successor, digits_module):
    """An update, a limit, a key and the way back before any is done: the last wish holds, and no answer fails."""
    default = system.api(f"endpoints/{NAME}")["default"]
    with Clients(door, 2) as clients:
        count = len(clients.answers)
        system.cli("endpoints", "version", NAME, default, "--module", successor)
        until(lambda: len(parts(engine, "replica")) > 2, "the update is under way", within_s=60)
        system.cli("endpoints", "set", NAME, "memory_mb=300")
        system.cli("endpoints", "keys", NAME, "--regenerate", "primary")
        system.cli("endpoints", "version", NAME, default, "--module", digits_module)
        system.cli("endpoints", "set", NAME, "memory_mb=0")
        quiet(system)
        # Of what was made on the way, nothing is left.
        until(lambda: len(parts(engine, "replica")) == 2, "the others have ended", within_s=120)
        until(lambda: len(parts(engine, "content", all=True)) == 1, "and their files have gone", within_s=60)
    assert clients.since(count)[0] == {200}


@pytest.mark.parametrize("how", ["paused", "cut off"])
def test_a_replica_that_is_silent_costs_no_answer(system, engine, door, whole, how):
    """Who waits there has its answer from the other one, in a bounded time; it comes back by itself."""
    with Clients(door) as clients:
        one = whole[0]
        count = len(clients.answers)
        if how == "paused":
            pause(one)
        else:
            network(engine).disconnect(one, force=True)

        def comes_back():
            replicas = parts(engine, "replica")
            return [each.status for each in replicas] == ["running"] * 2 and (how == "paused" or one not in replicas)

        until(comes_back, "both are there again", within_s=LOOKS_S + 60)
        quiet(system)
        until(lambda: len(clients.answers) > count + 500, "answers come", within_s=60)
    statuses, longest = clients.since(count)
    assert (statuses, longest < BOUND_S) == ({200}, True), (statuses, longest)


def test_where_all_are_silent_clients_hear_so(system, engine, door, whole):
    """With 503, in a bounded time, until somebody has them go on: then they are answered again."""
    with Clients(door) as clients:
        count = len(clients.answers)
        for one in whole:
            pause(one)
        until(lambda: 503 in clients.since(count)[0] or running(engine), "it is said", within_s=LOOKS_S)
        until(lambda: running(engine), "they go on", within_s=LOOKS_S)
        again = len(clients.answers)
        until(lambda: 200 in {status for status, _ in clients.answers[again:]}, "answers come", within_s=30)
    statuses, longest = clients.since(count)
    # Who was sent from one silent replica to the other has waited for both.
    assert (statuses <= {200, 503}, longest < 2 * BOUND_S) == (True, True), (statuses, longest)


def running(engine):
    return [one.status for one in parts(engine, "replica")] == ["running"] * 2


def test_a_paused_gateway_goes_on_with_all_that_wait(system, engine, door, whole):
    """Nobody else could answer: they wait until the server has looked, and each has its answer."""
    with Clients(door) as clients:
        count = len(clients.answers)
        (gateway,) = parts(engine, "gateway")
        pause(gateway)
        until(lambda: [one.status for one in parts(engine, "gateway")] == ["running"], "it goes on", within_s=LOOKS_S)
        until(lambda: len(clients.answers) > count + 50, "answers come", within_s=60)
    statuses, longest = clients.since(count)
    assert (statuses, longest < LOOKS_S) == ({200}, True), (statuses, longest)


def test_a_gateway_that_is_cut_off_is_replaced(system, engine, door, whole):
    """Its clients hear 503 in a bounded time until another one is there."""
    with Clients(door) as clients:
        count = len(clients.answers)
        (gateway,) = parts(engine, "gateway")
        network(engine).disconnect(gateway, force=True)
        until(lambda: gateway not in parts(engine, "gateway"), "it is replaced", within_s=LOOKS_S + 60)
        quiet(system)
        again = len(clients.answers)
        until(lambda: len(clients.answers) > again + 50, "answers come", within_s=60)
    statuses, longest = clients.since(count)
    assert (statuses <= {200, 503}, longest < 2 * BOUND_S) == (True, True), (statuses, longest)
    assert clients.since(again)[0] == {200}
