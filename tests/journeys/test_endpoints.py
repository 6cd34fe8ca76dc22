"""A module in the cloud: on a real container host, by the commands that an engineer types."""

import json
import socket
import ssl
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.parts import digits
from tests.parts import docker as docker_parts
from tests.parts.certificates import self_signed
from tests.parts.presence import engine_socket
from tests.parts.programs import until
from tests.parts.system import TEAM
from tests.parts.traffic import Traffic

NAME = "digits"
REPLICAS = ["edgefleet.cloud.part=replica", f"edgefleet.cloud.endpoint={NAME}"]
STEADY = 50


@pytest.fixture(scope="module")
def engine():
    client = docker_parts.client()
    yield client
    client.close()


@pytest.fixture(scope="module")
def target(system, engine):
    """This machine's engine, attached."""
    image = docker_parts.gateway_image(engine)
    said = system.cli("targets", "attach", "here", "--docker", f"unix://{engine_socket()}",
                      "--gateway-image", image)  # fmt: skip
    assert said["is"]["platform"].startswith("linux/")
    return "here"


@pytest.fixture(scope="module")
def successor(system, digits_module, tmp_path_factory):
    """A second version, whose answers are as right."""
    folder = tmp_path_factory.mktemp("successor")
    return system.sign(system.register(digits.trained_on(folder), "digits", *digits.samples(folder)))


@pytest.fixture(scope="module")
def endpoint(system, target, digits_module):
    """The first version, deployed and waited for; removed at the end."""
    found = system.cli("endpoints", "deploy", NAME, "--target", target, "--module", digits_module, "--wait")
    assert found["state"] == "ready", found
    yield found
    if any(one["name"] == NAME for one in system.api("endpoints")):
        system.cli("endpoints", "remove", NAME, "--wait")


def ask(url, bearer="", body=digits.QUESTIONS[0].body, context=None, **headers):
    """Status, headers and body of one request."""
    auth = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"} | auth | headers)
    try:
        with urllib.request.urlopen(request, timeout=30, context=context) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def key(system, which="primary"):
    return system.cli("endpoints", "keys", NAME)[which]


def settled(system, name=NAME, **wanted):
    """The endpoint, once it is ready and as it should be."""

    def done():
        found = system.api(f"endpoints/{name}")
        return found["state"] == "ready" and all(found[part] == value for part, value in wanted.items())

    until(done, f"endpoint {name} is ready", within_s=90, said=lambda: json.dumps(system.api(f"endpoints/{name}")))
    return system.api(f"endpoints/{name}")


def made(engine, name=NAME):
    """Everything on the host that is an endpoint's, by kind."""
    label = {"label": f"edgefleet.cloud.endpoint={name}"}
    return {
        "containers": [one.name for one in engine.containers.list(all=True, filters=label)],
        "volumes": [one.name for one in engine.volumes.list(filters=label)],
        "networks": [one.name for one in engine.networks.list(filters=label)],
    }


def test_a_key_lets_in_and_nothing_else_does(system, endpoint):
    """With either key the digit is recognised by the signed module; without one the answer is 401."""
    for which in ("primary", "secondary"):
        status, headers, body = ask(endpoint["url"], key(system, which))
        assert (status, digits.QUESTIONS[0].wrong(body)) == (200, "")
        assert headers["x-edgefleet-module"] == endpoint["versions"][endpoint["default"]]["module"]
    assert ask(endpoint["url"])[0] == 401
    assert ask(endpoint["url"], "x" * 43)[0] == 401


def test_one_key_is_changed_while_the_other_goes_on(system, endpoint):
    """The primary key is made anew: the old one ends, the new one and the secondary let in."""
    old, other = key(system), key(system, "secondary")
    new = system.cli("endpoints", "keys", NAME, "--regenerate", "primary")["primary"]
    until(lambda: ask(endpoint["url"], new)[0] == 200, "the new key lets in", within_s=30)
    assert (ask(endpoint["url"], old)[0], ask(endpoint["url"], other)[0]) == (401, 200)


def test_replicas_are_confined(engine, endpoint):
    """A replica has no way out of its endpoint's network, no capability, a read-only root, and its limits."""
    (replica,) = engine.containers.list(
        filters={"label": ["edgefleet.cloud.part=replica", f"edgefleet.cloud.endpoint={NAME}"]}
    )
    host = replica.attrs["HostConfig"]
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["SecurityOpt"]) == (True, ["ALL"], ["no-new-privileges"])
    assert host["Memory"] == host["MemorySwap"] > 0
    assert host["NanoCpus"] == 10**9
    (network,) = replica.attrs["NetworkSettings"]["Networks"]
    assert engine.networks.get(network).attrs["Internal"]
    assert not any(replica.attrs["NetworkSettings"]["Ports"].values())


def test_the_gateway_has_no_network_but_its_replicas(engine, endpoint):
    """What reads clients' requests has no way out and publishes nothing; who holds the port alone has."""
    labels = [f"edgefleet.cloud.endpoint={NAME}", "edgefleet.cloud.part=gateway"]
    (gateway,) = engine.containers.list(filters={"label": labels})
    (network,) = gateway.attrs["NetworkSettings"]["Networks"]
    assert engine.networks.get(network).attrs["Internal"]
    assert not any(gateway.attrs["NetworkSettings"]["Ports"].values())


def test_a_replica_reaches_nobody_on_the_host(engine, endpoint):
    """Something that listens at every address of the host does not answer in there."""
    (replica,) = engine.containers.list(filters={"label": REPLICAS})
    (network,) = replica.attrs["NetworkSettings"]["Networks"].values()
    with socket.create_server(("0.0.0.0", 0)) as listener:
        hosts = [network["Gateway"] or network["IPAddress"].rpartition(".")[0] + ".1", "172.17.0.1"]
        tried = (
            "import socket, sys\n"
            "try:\n    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2)\n"
            "except OSError:\n    print('nobody')\n"
        )
        for host in hosts:
            code, said = replica.exec_run(["python", "-c", tried, host, str(listener.getsockname()[1])])
            assert (code, said.strip()) == (0, b"nobody"), host


def test_the_address_outlives_a_restart_of_the_host(system, endpoint, engine):
    """The engine starts the gateway, and what holds its port, again at the same port, without the fleet server."""
    bearer = key(system)
    for part in ("gateway", "keeper"):
        labels = [f"edgefleet.cloud.endpoint={NAME}", f"edgefleet.cloud.part={part}"]
        (found,) = engine.containers.list(filters={"label": labels})
        found.restart(timeout=0)
        until(lambda: answers(endpoint["url"], bearer), "it answers where it did", within_s=30)


@pytest.mark.long
def test_a_certificate_comes_and_goes(system, endpoint, tmp_path):
    """With one the endpoint speaks TLS, at the same port; without it plain HTTP again; both times it gets ready."""
    self_signed(tmp_path / "a.pem", tmp_path / "a.key", "lab")
    found = system.cli("endpoints", "set", NAME, "host_name=localhost", "--certificate", tmp_path / "a.pem",
                       "--certificate-key", tmp_path / "a.key", "--wait")  # fmt: skip
    assert found["url"] == endpoint["url"].replace("http://127.0.0.1", "https://localhost")
    trusted = ssl.create_default_context(cafile=tmp_path / "a.pem")
    assert ask(found["url"], key(system), context=trusted)[0] == 200
    found = system.cli("endpoints", "set", NAME, "certificate=", "host_name=", "--wait")
    assert found["url"] == endpoint["url"]
    assert ask(found["url"], key(system))[0] == 200


def answers(url, bearer):
    try:
        return ask(url, bearer)[0] == 200
    except OSError:
        return False


def test_a_split_is_what_was_asked_for(system, endpoint, successor):
    """With ten percent for the second version, of 1 000 requests one in ten reaches it."""
    first = endpoint["default"]
    system.cli("endpoints", "version", NAME, "next", "--module", successor, "--wait")
    system.cli("endpoints", "split", NAME, f"{first}=90", "next=10", "--wait")
    bearer = key(system)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(endpoint["url"], bearer), range(1000)))

    assert Counter(status for status, _, _ in answers) == {200: 1000}
    assert Counter(headers["x-edgefleet-version"] for _, headers, _ in answers) == {first: 900, "next": 100}


def test_scaling_adds_and_takes_away(system, endpoint, engine):
    """Two replicas share the work; back at one, the other is gone."""
    system.cli("endpoints", "version", NAME, endpoint["default"], "--replicas", "2", "--wait")
    parts = ["edgefleet.cloud.part=replica", f"edgefleet.cloud.endpoint={NAME}"]
    before = len(engine.containers.list(filters={"label": parts}))
    system.cli("endpoints", "version", NAME, endpoint["default"], "--replicas", "1", "--wait")
    until(lambda: len(engine.containers.list(filters={"label": parts})) == before - 1, "a replica is gone", within_s=60)


def test_an_update_costs_no_request(system, endpoint, successor):
    """While clients post all the time, the module is replaced: every answer is right, the last ones are new."""
    port = int(endpoint["url"].split(":")[2].split("/")[0])
    system.cli("endpoints", "set", NAME, "auth=none", "--wait")
    with Traffic(port, f"/{NAME}/score", digits.QUESTIONS) as traffic:
        until(lambda: len(traffic.answers) > STEADY, "answers come", within_s=30)
        system.cli("endpoints", "version", NAME, endpoint["default"], "--module", successor, "--wait")
        seen = len(traffic.answers)
        until(lambda: len(traffic.answers) > seen + STEADY, "answers come", within_s=30)

    assert traffic.failed == []
    assert traffic.answers[-1].module == successor
    system.cli("endpoints", "set", NAME, "auth=key", "--wait")


@pytest.mark.long
def test_what_somebody_took_away_comes_back(system, endpoint, engine):
    """Replicas that are removed by hand are there again."""
    for one in engine.containers.list(
        filters={"label": ["edgefleet.cloud.part=replica", f"edgefleet.cloud.endpoint={NAME}"]}
    ):
        one.remove(force=True)
    bearer = key(system)
    until(lambda: ask(endpoint["url"], bearer)[0] == 200, "it answers again", within_s=60)


def test_logs_are_shown(system, endpoint):
    """The gateway and each replica have their last lines in the answer."""
    found = system.cli("endpoints", "logs", NAME)
    assert "gateway" in found
    assert len(found) > 1
    assert all(found.values())


@pytest.mark.long
def test_a_version_that_does_not_start_takes_nothing_away(system, endpoint, engine):
    """With too little memory the new replicas are ended by the kernel: that is said, and the old ones answer."""
    system.cli("endpoints", "set", NAME, "memory_mb=16")

    def failed():
        found = system.api(f"endpoints/{NAME}")
        return found["state"] == "failed" and "memory" in found["why"]

    until(failed, "it is said to have failed", within_s=90, said=lambda: json.dumps(system.api(f"endpoints/{NAME}")))
    assert ask(endpoint["url"], key(system))[0] == 200
    system.cli("endpoints", "set", NAME, "memory_mb=256", "--wait")


def test_removal_leaves_nothing(system, endpoint, engine):
    """No container, volume or network of the endpoint is left on the host, and the address answers nobody."""
    system.cli("endpoints", "remove", NAME, "--wait")
    assert made(engine) == {"containers": [], "volumes": [], "networks": []}
    assert TEAM not in json.dumps(system.api("endpoints"))
