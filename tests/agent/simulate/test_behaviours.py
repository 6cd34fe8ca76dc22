"""Each behaviour does to a rollout what it would do in the field: gates, reverts, absences, forged orders."""

import time
from contextlib import closing

import paho.mqtt.client as mqtt
import pytest

from fleet.broker import tls_context
from modules.protocol.topics import Topics
from tests.agent.simulate.rolling import QUICK, WITHIN_S, names, of_kind, profiles, published, roll_out, until
from tests.doubles.device import join
from tests.doubles.publisher import Publisher, checked
from tests.parts.mosquitto import HOST
from tests.parts.simulator import enroll, simulator
from tests.parts.system import System, blob_path

pytestmark = [pytest.mark.long, pytest.mark.needs("mosquitto")]
GATES = [
    {"measure": "p95_ms", "at_most": 100},
    {"measure": "nan_percent", "at_most": 0},
    {"measure": "memory_growth_mb_h", "at_most": 100},
    {"measure": "provider", "is": "CPUExecutionProvider"},
]
BAD = ["slow", "nan", "leaks", "wrong-provider"]


def test_gates_see_what_is_measured(fleet, tmp_path):
    """Slow, nonsensical, leaking and misplaced modules fail by their gates; good ones are measured, and done."""
    _, http, owner = fleet
    plan = profiles(tmp_path, behaviours=[{"kind": kind} for kind in [*BAD, "good"]])
    enroll(tmp_path, join(http, uses=5), 5, "--prefix", "gates")
    with simulator(tmp_path, 5, "--prefix", "gates", "--window", "1", *QUICK, *plan):
        rollout = roll_out(
            http, published(owner, "gates"), names("gates", 5), policy={"gates": GATES, "failure_percent": 99}
        )
        shown = until(
            http, rollout, lambda shown: (shown["counts"].get("failed"), shown["counts"].get("succeeded")) == (4, 1)
        )
    why = " ".join(one["why"] for one in shown["devices"])
    for gate in ("p95_ms is 500", "nan_percent is 20", "memory_growth_mb_h is 600", "it runs on SimulatedProvider"):
        assert gate in why


def test_what_goes_wrong_later_counts_later(fleet, tmp_path):
    """A module that reverts or degrades after its commit makes its device a failure then; who was away comes back."""
    _, http, owner = fleet
    behaviours = [
        {"kind": "reverts-later", "after_s": 1},
        {"kind": "degrades-later", "after_s": 1},
        {"kind": "offline", "for_s": 2},
    ]
    plan = profiles(tmp_path, behaviours=behaviours)
    enroll(tmp_path, join(http, uses=3), 3, "--prefix", "later")
    with simulator(tmp_path, 3, "--prefix", "later", *QUICK, *plan) as running:
        rollout = roll_out(http, published(owner, "later"), names("later", 3), policy={"failure_percent": 99})
        shown = until(
            http, rollout, lambda shown: (shown["counts"].get("failed"), shown["counts"].get("succeeded")) == (2, 1)
        )
    assert {one["phase"] for one in shown["devices"]} == {"reverted", "degraded", "committed"}
    assert running.summary["done"]["broke off"] == 1
    assert running.summary["connected"] == 0


def test_an_order_that_is_not_for_it_is_refused(system, tmp_path):
    """A genuine order that a hostile broker gives to another device is followed by nobody, and told to the server."""
    server, http, owner, running_broker = system
    enroll(tmp_path, join(http, uses=2), 2, "--prefix", "given")
    with simulator(tmp_path, 2, "--prefix", "given", *QUICK) as running:
        rollout = roll_out(http, published(owner, "given"), ["given-00001"])
        until(http, rollout, lambda shown: shown["state"] == "done")
        _give_on(server.data, running_broker.service_port, "given-00001", "given-00002")
        ends = time.monotonic() + WITHIN_S
        while not of_kind(http, "given-00002")["device-refused"]:
            assert time.monotonic() < ends, of_kind(http, "given-00002")
            time.sleep(0.1)
        report = checked(http.get("/api/v1/devices/given-00002")).json()["report"]
    assert report["slots"] == []
    assert "the order is for given-00001" in report["refusals"][0]["reason"]["message"]
    assert running.summary["done"]["refused"] == 1


def test_a_wrong_block_is_not_taken(fleet, tmp_path):
    """Whose blocks are not those that the publisher signed asks for them again, and never goes on."""
    server, http, owner = fleet
    module = published(owner, "damaged")
    (graph,) = checked(http.get(f"/api/v1/modules/{module.replace(':', '/')}")).json()["manifest"]["files"]
    path = blob_path(server.data, graph["sha256"])
    path.chmod(0o600)
    path.write_bytes(b"X" + path.read_bytes()[1:])
    enroll(tmp_path, join(http, uses=2), 2, "--prefix", "wrong")
    with simulator(tmp_path, 2, "--prefix", "wrong", *QUICK) as running:
        roll_out(http, module, names("wrong", 2))
        ends = time.monotonic() + WITHIN_S
        while len({one["device"] for one in running.record() if one["what"] == "stalled"}) < 2:
            assert time.monotonic() < ends, running.record()
            time.sleep(0.1)
    assert running.summary["phases"] == {"fetching": 2}


def test_they_come_back_with_the_broker(tmp_path):
    """A broker that was killed and started again has all of them back, and they take the next order."""
    with closing(System(tmp_path)) as system, system.server.client() as http:
        owner = Publisher(http)
        owner.found()
        state = tmp_path / "devices"
        enroll(state, join(http, uses=5), 5, "--prefix", "back")
        with simulator(state, 5, "--prefix", "back", *QUICK) as running:
            system.kill_broker()
            system.start_broker()
            rollout = roll_out(http, published(owner, "back"), names("back", 5))
            until(http, rollout, lambda shown: shown["state"] == "done")
        assert running.summary["phases"] == {"committed": 5}


def _give_on(data, port, owner, other):
    """What stands on one device's order topic, to the other device, with the service's rights."""
    topics = Topics()
    context = tls_context(ca=data.ca, certificate=data.service, key=data.key(data.service))
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="hostile")
    client.tls_set_context(context)
    given = []

    def arrived(_client, _data, message):
        info = client.publish(topics.order(other), message.payload, qos=1)
        given.append(info)

    client.on_connect = lambda *_: client.subscribe(topics.order(owner), qos=1)
    client.on_message = arrived
    client.on_publish = lambda *_: client.disconnect()
    client.connect(HOST, port)
    client.loop_forever()
    assert given
