"""A module for several devices at once: sent once, whole on each of them, and never where others may read it."""

from contextlib import ExitStack

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from agent import identity as identities
from agent.broker_tls import broker_context
from modules.digests import BLOCK
from modules.names import ModuleRef
from modules.protocol import blobs as wire
from modules.protocol.topics import Topics
from tests.parts import digits
from tests.parts.on_device import OnDevice
from tests.parts.proxy import Proxy

pytestmark = pytest.mark.long

SLOT = "digits"
MIB = 16
# As quick as a device must be that takes part, and slow enough to be interrupted.
RATE = 4 << 20
# What else comes to a device: metadata, manifest, samples, TLS.
MORE = 1 << 20
IN_FLIGHT = 32
FARTHER = {"verified", "staged", "starting", "probation", "committed"}


class Module:
    """A signed module, its large file, and every blob that it names."""

    def __init__(self, system, ref):
        self.ref = ref
        manifest, digest = system.workspace.manifest(ModuleRef.parse(ref))
        self.file = max(manifest.files, key=lambda file: file.length)
        self.own = {digest, *(name for file in manifest.files for name in (file.sha256, file.blocks))}


@pytest.fixture
def module(system, tmp_path_factory):
    """Registers and signs modules of some size, each with bytes of its own."""

    def make(name, *options):
        folder = tmp_path_factory.mktemp(name)
        model = digits.padded(folder, MIB, seed=name)
        return Module(system, system.sign(system.register(model, name, *digits.samples(folder), *options)))

    return make


@pytest.fixture
def proxies(system):
    """Links to the broker that carry what a quick device takes."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(Proxy(system.broker.device_port, rate=RATE))


def sent(system, way):
    """Bytes of blobs and metadata that the server has published so."""
    with system.server.client() as http:
        lines = http.get("/metrics").text.splitlines()
    name = f'edgefleet_block_bytes_total{{way="{way}"}}'
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def answers_right(device):
    assert digits.QUESTIONS[0].wrong(device.score(SLOT, digits.QUESTIONS[0].body).body) == ""


def test_two_devices_get_a_module_by_one_broadcast(system, device, proxies, module):
    """Each block of it goes out once, to both, and next to nothing to each alone; both answer right."""
    wanted = module("broadcast")
    pair = [device(f"dev-pair-{letter}", through=proxies().port) for letter in "ab"]
    before = {way: sent(system, way) for way in ("asked", "to_all")}
    with system.wiretap(pair[0].name) as tap:
        rollout = system.start_rollout(wanted.ref, *(one.name for one in pair), slot=SLOT)
        assert system.ended(rollout, within_s=120, said=pair[0].said)["state"] == "done"
        seen = tap.broadcast(wanted.file.sha256)
    gained = {way: sent(system, way) - before[way] for way in before}
    assert set(seen) == set(range(wanted.file.block_count))
    assert wanted.file.length <= gained["to_all"] <= 1.2 * wanted.file.length
    assert gained["asked"] < MORE
    for one in pair:
        answers_right(one)


def test_a_device_that_is_cut_off_asks_for_what_it_missed_and_no_more(system, device, proxies, module):
    """Its agent dies in the middle: the others get the rest, and the next agent takes only what is not there yet."""
    wanted = module("cut-off")
    way = proxies()
    dies = device("dev-dies", through=way.port)
    stay = [device(f"dev-stays-{letter}", through=proxies().port) for letter in "ab"]
    with system.wiretap(dies.name) as tap:
        rollout = system.start_rollout(wanted.ref, dies.name, *(one.name for one in stay), slot=SLOT)
        dies.until(lambda: len(tap.broadcast(wanted.file.sha256)) > wanted.file.block_count // 3, "a third has come")
        dies.agent.kill()
        assert dies.phase(SLOT) == "fetching"
        for one in stay:
            one.until(lambda: one.phase(SLOT) in FARTHER, "it has all of it", within_s=120)  # noqa: B023 - at once
        assert set(tap.broadcast(wanted.file.sha256)) == set(range(wanted.file.block_count))
        had = tap.blocks(wanted.file.sha256)
        dies.agent.start()
        assert system.ended(rollout, within_s=120, said=dies.said)["state"] == "done"
        asked = tap.blocks(wanted.file.sha256) - had
    # Of the first third nothing is asked for again, but what was under way.
    assert len(asked) <= wanted.file.block_count * 2 // 3 + IN_FLIGHT
    assert way.received < wanted.file.length + IN_FLIGHT * BLOCK + MORE
    answers_right(dies)


def test_a_confidential_module_is_never_broadcast(system, device, module):
    """Two devices of one wave pull it, each for itself: not a block of any of its blobs is where others may read."""
    wanted = module("secret", "--confidential")
    assert system.cli("modules", "show", wanted.ref)["manifest"]["confidential"] is True
    pair = [device(f"dev-secret-{letter}") for letter in "ab"]
    with system.wiretap(pair[0].name) as tap:
        rollout = system.start_rollout(wanted.ref, *(one.name for one in pair), slot=SLOT)
        assert system.ended(rollout, within_s=120, said=pair[0].said)["state"] == "done"
        assert {blob for blob, _ in tap.shared} & wanted.own == set()
        assert set(tap.blocks(wanted.file.sha256)) == set(range(wanted.file.block_count))
    for one in pair:
        answers_right(one)


def test_no_device_can_broadcast(system, module):
    """With a device's own certificate and name, what it publishes on a shared topic reaches nobody."""
    wanted = module("forged")
    rogue = OnDevice(system, "dev-rogue")
    rogue.enroll()
    folder = rogue.state / "identity"
    identity = identities.load(folder)
    topics = Topics(identity.broker.prefix)
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=identity.device)
    client.tls_set_context(broker_context(identity, folder))
    with system.wiretap(rogue.name) as tap:
        client.connect(identity.broker.host, identity.broker.port)
        client.loop_start()
        forged = wire.encode(wire.Shared(0, wanted.file.length, b"forged"))
        client.publish(topics.shared_blob(wanted.file.sha256), forged, qos=1).wait_for_publish(20)
        request = wire.encode(wire.BlobGet(request=1, digest=wanted.file.sha256))
        client.publish(topics.blob_get(identity.device), request, qos=1).wait_for_publish(20)
        rogue.until(lambda: tap.blocks(wanted.file.sha256), "what it may say is heard")
        client.disconnect()
        client.loop_stop()
        assert tap.broadcast(wanted.file.sha256) == {}
