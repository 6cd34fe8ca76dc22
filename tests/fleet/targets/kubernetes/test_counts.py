"""What gateways have counted of each version, heard through the API server from the gateway's real program."""

import http.server
import threading

import msgspec
import pytest

from fleet.rollouts import windows
from fleet.rollouts.windows import Window
from fleet.targets.kubernetes import rights
from modules.counted import Looked
from tests.doubles.kubernetes import kinds
from tests.doubles.wishes import version, wanted
from tests.fleet.targets.kubernetes.gateways import PORT, Gateways
from tests.fleet.targets.kubernetes.test_rights import rules_without
from tests.parts.certificates import self_signed


@pytest.fixture
def gateways(place, tmp_path):
    found = Gateways(place, tmp_path)
    yield found
    found.close()


def split(**more):
    """Half of the requests to each of two versions, and what is counted is to be told."""
    return measured(wanted(version(), version("next", "acme/digits:2", weight=50), **more))


def measured(wish):
    return msgspec.structs.replace(wish, measured=True)


def settled(place, gateways, wish):
    """The two gateways of an endpoint that is as it should be, each with its program."""
    stands(place, wish)
    return gateways.follow()


def stands(place, wish):
    """An endpoint that is as it should be; at its gateways nobody listens."""
    place.settle(msgspec.structs.replace(wish, measured=False))
    return sorted(place.names("Pod", "gateway"))


class Watched:
    """One version's window, as a rollout takes it look by look."""

    def __init__(self, place, wish, name):
        self.target, self.wish, self.name, self.window = place.target, wish, name, Window()

    def look(self):
        found = self.target.bring(self.wish)
        assert found.state == "ready"
        self.window = windows.take(self.window, found.versions[self.name].lives, None)
        return found.uncounted


def test_what_clients_saw_of_each_version_is_told(place, gateways):
    """Requests, errors and latencies of both gateways, each version's its own; whole, so that they are evidence."""
    wish = split()
    one, two = settled(place, gateways, wish)
    both = Watched(place, wish, "next"), Watched(place, wish, "v1")
    assert [each.look() for each in both] == ["", ""]
    gateways.replica("next").status = 500
    assert sorted(gateways.ask(one, 10) + gateways.ask(two, 20)) == [200] * 15 + [500] * 15
    assert [each.look() for each in both] == ["", ""]
    new, old = (each.window for each in both)
    assert [(each.requests, each.errors, each.told) for each in (new, old)] == [(15, 15, True), (15, 0, True)]
    assert sum(old.latencies.values()) == 15


def told(place, gateways, version, pod, **says):
    """What the pod of a version says of itself, where the gateways find it."""
    gateways.replica(version).says = {"ready": True} | says
    place.cluster.world.status(kinds.POD, pod, pod["status"] | {"podIP": "127.0.0.1"})


def pod_of(place, version):
    """The only pod of a version."""
    pods = place.of("Pod", "replica")
    (pod,) = (one for one in pods if one["metadata"]["labels"]["edgefleet.cloud.group"].startswith(f"{version}-"))
    return pod


def test_what_each_replica_says_of_itself_is_told(place, gateways):
    """Its answers and its memory, each version's its own, heard by one gateway alone; restarts are told beside them."""
    wish = split()
    settled(place, gateways, wish)
    pods = {name: pod_of(place, name) for name in ("v1", "next")}
    told(place, gateways, "v1", pods["v1"], memory_mb=100.0, answers={"looked": 5})
    told(place, gateways, "next", pods["next"], memory_mb=900.5, answers={"looked": 9, "nan": 4, "empty": 1})
    with place.asked() as requests:
        found = place.target.bring(wish).versions
    assert len([one for one in requests if "each=true" in one.address]) == 1
    assert (found["v1"].memory_mb, found["next"].memory_mb) == (100.0, 900.5)
    life = found["next"].lives[pods["next"]["metadata"]["name"]]
    assert (life.answers, life.restarts) == (Looked(looked=9, nan=4, empty=1), 0)
    assert found["v1"].lives[pods["v1"]["metadata"]["name"]].answers == Looked(looked=5)


@pytest.mark.long
def test_what_comes_from_an_address_of_no_pod_of_the_version_is_nobodys(place, gateways):
    """A pod that has gone, or one of the group before: nothing is said of the version by it."""
    wish = measured(wanted())
    settled(place, gateways, wish)
    gateways.replica("v1").says = {"memory_mb": 900.0, "answers": {"looked": 9, "nan": 9}}
    found = place.target.bring(wish)
    assert (found.uncounted, found.versions["v1"].memory_mb) == ("", None)
    assert [one for one in found.versions["v1"].lives.values() if one.answers] == []


@pytest.mark.long
def test_nobody_is_asked_while_nothing_is_measured(place):
    """An endpoint without a rollout costs its gateways nothing."""
    stands(place, wanted())
    with place.asked() as requests:
        place.target.bring(wanted())
    assert [one for one in requests if "/proxy/" in one.address] == []


@pytest.mark.long
def test_a_gateway_that_starts_again_and_one_that_comes_are_counted_on(place, gateways):
    """A container that was killed in its pod, then a whole pod in the place of another: each request counts once."""
    wish = measured(wanted())
    one, two = settled(place, gateways, wish)
    watched = Watched(place, wish, "v1")
    gateways.ask(one, 50)
    watched.look()
    gateways.ask(one, 7)
    watched.look()
    gateways.end(one)
    gateways.follow()
    gateways.ask(one, 5)
    assert watched.look() == ""
    assert watched.window.requests == 12
    place.cluster.api.delete(kinds.POD, "models", two)
    place.cluster.settle()
    (three,) = {*gateways.follow()} - {one, two}
    gateways.ask(three, 4)
    gateways.ask(one, 1)
    assert watched.look() == ""
    assert (watched.window.requests, watched.window.errors) == (17, 0)


@pytest.mark.long
def test_a_gateway_that_does_not_say_is_no_whole_evidence(place, gateways):
    """It is named, and what the other one says is told; heard for the first time, it counts from there on."""
    wish = measured(wanted())
    one, two = settled(place, gateways, wish)
    gateways.ask(two, 100)
    port = place.cluster.proxying.listens.pop(("models", two, PORT))
    watched = Watched(place, wish, "v1")
    watched.look()
    gateways.ask(one, 3)
    said = watched.look()
    assert f"what gateway {two} has counted is not known" in said
    assert "connection refused" in said
    assert watched.window.requests == 3
    place.cluster.proxying.listens["models", two, PORT] = port
    assert watched.look() == ""
    gateways.ask(two, 2)
    watched.look()
    assert watched.window.requests == 5


@pytest.mark.long
def test_a_gateway_that_is_not_ready_is_not_waited_for(place, gateways):
    """No client is sent there; with none that is ready there is no evidence at all."""
    wish = measured(wanted())
    one, two = settled(place, gateways, wish)
    place.cluster.evict(two, namespace="models")
    assert place.target.bring(wish).uncounted == ""
    place.cluster.evict(one, namespace="models")
    assert "none of its gateways is ready" in place.target.bring(wish).uncounted


@pytest.mark.long
def test_an_api_server_that_reaches_no_pod_is_no_evidence(place):
    """One silence is waited for, not each; the endpoint stands as before, and why nothing is known is told."""
    wish = measured(wanted())
    stands(place, wish)
    # The one that is asked, and asked again: a third request would find nobody, and be answered at once.
    place.cluster.faults.hang(path="/proxy/", times=2)
    with place.asked() as requests:
        found = place.target.bring(wish)
    assert (found.state, "does not answer through the API server in time" in found.uncounted) == ("ready", True)
    assert [one for one in requests if "/proxy/" in one.address] == []


@pytest.mark.long
def test_a_missing_right_is_said(place):
    """The endpoint stands as before, and which file brings the right is told."""
    wish = measured(wanted())
    stands(place, wish)
    (rule,) = (one for one in rights.rules() if one.resource == "pods/proxy")
    found = place.attach(place.cluster.account("less", list(rules_without(rule, "get")), "models")).bring(wish)
    assert found.state == "ready"
    assert "the right pods/proxy is missing" in found.uncounted
    assert "rbac.yaml" in found.uncounted


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (200, b'[{"counts": {"x": {"requests": -1}}}]', "nonsense"),
        pytest.param(401, b'{"message": "send a key"}', "of before this version", marks=pytest.mark.long),
        pytest.param(200, b"[{]", "nonsense", marks=pytest.mark.long),
        pytest.param(502, b"", "it answers 502", marks=pytest.mark.long),
    ],
)
@pytest.mark.long
def test_what_a_gateway_of_another_kind_says_is_no_count(place, status, body, why):
    """An older image does not know us, and whatever answers there may say anything."""

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    wish = measured(wanted())
    pods = stands(place, wish)
    with http.server.HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        for pod in pods:
            place.cluster.proxying.listens["models", pod, PORT] = server.server_address[1]
        try:
            assert why in place.target.bring(wish).uncounted
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.long
@pytest.mark.parametrize("auth", ["key", "token", "none"])
def test_however_clients_come_in_counts_are_told(place, gateways, tmp_path, auth):
    """Over TLS too, by keys, by tokens and without either; no key is sent, only what opens the counts for a while."""
    certificate, key = tmp_path / "it.pem", tmp_path / "it.key"
    self_signed(certificate, key, "digits.example")
    wish = measured(wanted(auth=auth, certificate=certificate.read_text(), certificate_key=key.read_text()))
    one, _ = settled(place, gateways, wish)
    watched = Watched(place, wish, "v1")
    assert watched.look() == ""
    gateways.ask(one, 3, secure=True)
    assert watched.look() == ""
    assert watched.window.requests == (0 if auth == "token" else 3)
