"""A module that comes over HTTPS, and what happens when that way fails in the middle: it comes over MQTT."""

import pytest

from fleet.authority import Authority
from modules.digests import BLOCK
from modules.names import ModuleRef
from tests.doubles.range_server import HOST, RangeServer
from tests.parts import digits
from tests.parts.proxy import Proxy
from tests.parts.system import blob_path

SLOT = "digits"
MIB = 32
RATE = 8 << 20
# A range is read to its end, and some of it is on its way.
RANGE = 16 << 20


@pytest.fixture(scope="module")
def large(system, tmp_path_factory):
    """A module of some size, and the file that makes it large."""
    folder = tmp_path_factory.mktemp("large")
    ref = system.sign(system.register(digits.padded(folder, MIB), "https", *digits.samples(folder)))
    manifest, _ = system.workspace.manifest(ModuleRef.parse(ref))
    return ref, max(manifest.files, key=lambda file: file.length)


def rolled_out(system, device, ref):
    """The module is committed, and what it answers is right."""
    rollout = system.start_rollout(ref, device.name, slot=SLOT)
    assert system.ended(rollout, said=device.said)["state"] == "done"
    for question in digits.QUESTIONS:
        assert question.wrong(device.score(SLOT, question.body).body) == ""


def blocks_by_mqtt(tap, file):
    """The numbers of the blocks of a file that were asked for over MQTT."""
    return set(tap.blocks(file.sha256))


def test_a_module_comes_over_https(system, device, large):
    """From the address in the join bundle, with nothing set: no block of the large file goes through the broker."""
    ref, file = large
    quick = device("dev-https", pull_by="auto")
    assert f"over HTTPS from https://{HOST}:{system.blob_port}" in quick.command("doctor", "--json")
    with system.wiretap(quick.name) as tap:
        rolled_out(system, quick, ref)
        assert blocks_by_mqtt(tap, file) == set()
    assert "over MQTT" not in quick.agent.said()


@pytest.mark.long
def test_a_port_that_closes_in_the_middle_is_no_end(system, device, large):
    """The rest comes over MQTT, from where it was; the report says why while it does, and so does the log, once."""
    ref, file = large
    with Proxy(system.broker.device_port, rate=RATE) as broker, Proxy(system.blob_port, rate=RATE) as lane:
        url = f"https://{HOST}:{lane.port}"
        edge = device("dev-closed", through=broker.port, pull_by="auto", blob_url=url)
        with system.wiretap(edge.name) as tap:
            rollout = system.start_rollout(ref, edge.name, slot=SLOT)
            edge.until(lambda: lane.received > file.length // 3, "a third has come over HTTPS")
            lane.__exit__(None, None, None)
            edge.until(lambda: detour(system, edge), "the report says why it comes over MQTT")
            assert system.ended(rollout, said=edge.said)["state"] == "done"
            by_mqtt = tap.blocks(file.sha256)
    assert by_mqtt
    assert len(by_mqtt) < file.block_count - file.length // 4 // BLOCK
    assert max(by_mqtt) == file.block_count - 1
    assert edge.agent.said().count("blobs come over MQTT for now") == 1


def detour(system, edge):
    slots = system.report(edge.name).get("slots", [])
    return any((slot["reason"] or {}).get("code") == "detour" for slot in slots)


@pytest.mark.long
def test_an_agent_that_dies_goes_on_with_what_came_over_https(system, device, large):
    """SIGKILL in the middle: the next agent asks for ranges that are missing, and for no more."""
    ref, file = large
    with Proxy(system.blob_port, rate=RATE) as lane:
        edge = device("dev-killed", pull_by="auto", blob_url=f"https://{HOST}:{lane.port}")
        with system.wiretap(edge.name) as tap:
            rollout = system.start_rollout(ref, edge.name, slot=SLOT)
            edge.until(lambda: lane.received > file.length // 3, "a third has come")
            edge.agent.kill()
            edge.agent.start()
            assert system.ended(rollout, said=edge.said)["state"] == "done"
            assert blocks_by_mqtt(tap, file) == set()
        # What is in the sockets of proxy and kernel when it dies is lost.
        assert lane.received < file.length + (8 << 20)


@pytest.mark.long
def test_a_device_that_was_removed_gets_no_more_by_either_way(system, device, large):
    """Its certificate is revoked in the middle of a pull: the server answers 403, and the broker ends its session."""
    ref, file = large
    with Proxy(system.blob_port, rate=RATE / 2) as lane:
        edge = device("dev-removed", pull_by="auto", blob_url=f"https://{HOST}:{lane.port}")
        system.start_rollout(ref, edge.name, slot=SLOT)
        edge.until(lambda: lane.received > 1 << 20, "something has come")
        system.cli("devices", "remove", edge.name)
        edge.until(lambda: "answers 403" in edge.agent.said(), "the server refuses it")
        edge.until(lambda: "broker lost" in edge.agent.said(), "and the broker does")
        assert "this certificate is revoked" in edge.agent.said()
        assert lane.received < RANGE + (8 << 20) < file.length
        assert edge.phase(SLOT) in {"accepted", "fitted", "fetching"}


@pytest.mark.long
def test_a_man_in_the_middle_is_not_asked(system, device, large, tmp_path):
    """A certificate that is not of the fleet's CA: nothing is asked there, and everything comes over MQTT."""
    ref, file = large
    with RangeServer(tmp_path / "other", {}, other_ca=True) as other:
        edge = device("dev-middle", pull_by="auto", blob_url=other.url)
        with system.wiretap(edge.name) as tap:
            rolled_out(system, edge, ref)
            assert blocks_by_mqtt(tap, file) == set(range(file.block_count))
        assert other.asked == []
    assert "its certificate is not of this fleet" in edge.agent.said()


@pytest.mark.long
def test_a_wrong_block_is_refused_and_comes_over_mqtt(system, device, large, tmp_path):
    """The server's own key and another byte: that one block comes over MQTT, and no other."""
    ref, file = large
    blobs = {file.sha256: blob_path(system.data, file.sha256).read_bytes()}
    with RangeServer(tmp_path / "wrong", blobs, authority=Authority.load(system.data.ca)) as wrong:
        wrong.spoil = {3}
        edge = device("dev-wrong", pull_by="auto", blob_url=wrong.url)
        with system.wiretap(edge.name) as tap:
            rolled_out(system, edge, ref)
            assert blocks_by_mqtt(tap, file) == {3}
