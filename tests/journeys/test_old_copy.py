"""A device's whole state folder from an old backup: its numbers were given before, and it is heard all the same."""

import shutil

import pytest

from agent.store import Store
from modules.digests import sha256
from modules.protocol.report import Reason, Refusal
from tests.parts import digits

SLOT = "digits"
NEWS = 3


def put_back(device, copy):
    shutil.rmtree(device.state)
    shutil.copytree(copy, device.state)


def events(system, device):
    """What the server tells of a device, the kinds alone."""
    return [one["kind"] for one in system.api("events?limit=1000") if one["device"] == device.name]


def tells(system, device, name):
    """Let the device have news, which it reports: an order that nobody signed."""
    with system.wiretap(device.name) as tap:

        def heard():
            tap.say("order", name.encode(), retain=False)  # again, until it is there to hear it; it is news but once
            return hears(system, device, f"order {sha256(name.encode())[7:19]}")

        device.until(heard, f"the server has heard of {name}")


def refuses(device, words):
    """Let a device that does not run have news."""
    store = Store(device.state)
    store.refuse(Refusal(what="command", reason=Reason("invalid", words), at=1.0))
    store.close()


def hears(system, device, words):
    told = system.report(device.name).get("refusals", ())
    return any(words in f"{one['what']}: {one['reason']['message']}" for one in told)


def online(system, device):
    return system.api(f"devices/{device.name}")["online"]


@pytest.fixture
def edge(system, device, digits_module):
    """A device that serves the digits."""
    made = device("dev-copied")
    system.ended(system.start_rollout(digits_module, made.name, slot=SLOT), said=made.said)
    return made


@pytest.fixture
def backup(edge, tmp_path):
    """Its state folder as it was before it told the server some more."""
    edge.agent.stop()
    copy = tmp_path / "backup"
    shutil.copytree(edge.state, copy)
    edge.agent.start()
    return copy


@pytest.mark.long
@pytest.mark.parametrize("later", [1, NEWS], ids=["one report later", "some reports later"])
def test_a_state_folder_put_back_from_a_backup_is_heard_again(system, edge, backup, later):
    """The agent finds that its numbers were given before, and begins a new epoch: the server knows it as online, takes
    its facts and reports, and is told once; what serves goes on in the same container throughout."""
    for number in range(later):
        tells(system, edge, f"news-{number}")
    with edge.containers() as containers:
        before = [one.id for one in containers]
    was = system.api(f"devices/{edge.name}")["facts"]["epoch"]
    edge.agent.stop()
    put_back(edge, backup)
    if later == 1:  # it has news before it is heard: the very next number comes twice, with other words
        refuses(edge, "before it connects")
    edge.agent.start()
    edge.until(lambda: system.report(edge.name)["epoch"] != was, "its reports are taken again")
    tells(system, edge, "at-last")
    edge.until(lambda: online(system, edge), "the server knows it as online")
    assert system.api(f"devices/{edge.name}")["facts"]["epoch"] == system.report(edge.name)["epoch"]
    assert events(system, edge).count("new-epoch") == 1
    assert "old copy" in edge.agent.said()
    assert edge.score(SLOT, digits.QUESTIONS[0].body).status == 200
    with edge.containers() as containers:
        assert [one.id for one in containers] == before

    edge.agent.kill()
    edge.until(lambda: not online(system, edge), "the new session's will is believed")


def test_a_clone_is_told_apart_from_a_copy_put_back(system, edge, backup):
    """A copy that speaks beside the device is heard in an epoch of its own; when the device itself speaks again, the
    operator is told of two agents, and each of them has been told in its log."""
    for number in range(NEWS):
        tells(system, edge, f"news-{number}")
    original = edge.folder / "original"
    edge.agent.stop()
    shutil.copytree(edge.state, original)
    put_back(edge, backup)
    edge.agent.start()
    edge.until(lambda: "new-epoch" in events(system, edge), "the copy is heard")
    assert "another agent" in edge.agent.said()
    edge.agent.stop()

    put_back(edge, original)
    refuses(edge, "from the first")
    edge.agent.start()
    edge.until(lambda: "cloned-identity" in events(system, edge), "the operator is told")
    assert not hears(system, edge, "from the first")
