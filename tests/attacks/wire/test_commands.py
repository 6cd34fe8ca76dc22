"""Commands to the real agent through a real broker: honest ones are followed once, and whatever else comes is not.

Each attack asks what runs (the same process, of the same state), what the report says, and what is on the disk.
"""

import json
import secrets
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent.commands.wipe import EX_CONFIG
from modules import canonical, signing
from modules.protocol.commands import ANSWER_LIMIT, ENDS, LIMIT, Answer, Command
from modules.signing import ORDER_TYPE, sign, signer_from_pem
from tests.doubles.bad_values import BAD, spoilt
from tests.parts.on_device import OnDevice
from tests.parts.system import TEAM, System
from tests.parts.wiretap import Wiretap

pytestmark = [pytest.mark.long, pytest.mark.needs("mosquitto"), pytest.mark.timeout(300)]
VALUES = BAD | {"1 MB": '"' + "x" * 200_000 + '"'}


class Broker(Wiretap):
    """The broker's owner, who also hears what a device answers to commands, the retained left out."""

    def __init__(self, data, broker, device) -> None:
        super().__init__(data, broker, device)
        self._lock = threading.Lock()
        self._heard: list[bytes] = []

    def _on_connect(self, client, *more):
        client.subscribe(self._topics.answer(self._device), qos=1)
        super()._on_connect(client, *more)

    def _on_message(self, client, userdata, message):
        if message.topic == self._topics.answer(self._device):
            with self._lock:
                self._heard.append(bytes(message.payload))
            return
        super()._on_message(client, userdata, message)

    def heard(self):
        """Every answer, to whatever command."""
        with self._lock:
            return list(self._heard)


@pytest.fixture(scope="module")
def system():
    """Broker, server and keys; without an engine, for nothing is started here."""
    with tempfile.TemporaryDirectory(prefix="efc-") as folder:
        fleet = System(Path(folder))
        try:
            fleet.cli("login", fleet.server.url, "--token", fleet.server.token, "--ca", fleet.data.ca)
            fleet.cli("keys", "init", fleet.folder / "keys", "--team", TEAM, "--insecure-demo-keys")
            yield fleet
        finally:
            fleet.close()


class Commanded:
    """A device whose real agent runs, and the test as server and as broker."""

    def __init__(self, system, parts) -> None:
        self.system = system
        self.device = OnDevice(system, f"dev-{secrets.token_hex(3)}", engine="/nonexistent.sock")
        self.director = signer_from_pem(system.data.online_key("director").read_bytes())
        self.device.enroll()
        self.start()
        parts.callback(self.device.agent.stop)
        self.tap = parts.enter_context(Broker(system.data, system.broker, self.device.name))
        certificate = self.device.state / "identity" / "key.pem"
        self.key = signer_from_pem(certificate.read_bytes()).public_key

    def start(self) -> None:
        path = f"devices/{self.device.name}"
        self.device.agent.start(ready=lambda: self.system.api(path)["online"])
        self.pid = self.device.agent.pid

    def command(self, name="ping", **more) -> Command:
        now = int(time.time())
        fields = {"id": secrets.token_hex(16), "device": self.device.name, "issued": now, "expires": now + 600}
        return Command(**{**fields, "name": name, **more})

    def gets(self, command, *, signer=None, kind=signing.COMMAND_TYPE, payload=None, topic=None) -> None:
        envelope = sign(payload or canonical.encode(command), payload_type=kind, signers=[signer or self.director])
        self.tap.say(topic or f"cmd/{command.name}/{command.id}", envelope, retain=False)

    def answers(self, command) -> list[Answer]:
        said = [
            canonical.decode(
                signing.verify(heard, payload_type=signing.ANSWER_TYPE, keys=[self.key], limit=ANSWER_LIMIT),
                Answer,
                limit=ANSWER_LIMIT,
                what="answer",
            )
            for heard in self.tap.heard()
        ]
        return [one for one in said if (one.name, one.id) == (command.name, command.id)]

    def ended(self, command) -> Answer | None:
        return next((one for one in self.answers(command) if one.state in ENDS), None)

    def answer(self, command) -> Answer:
        return self.device.until(lambda: self.ended(command), f"{command.name} has its last answer")

    def refusals(self):
        return [one["reason"]["message"] for one in self.system.report(self.device.name).get("refusals", [])]

    def reports(self, says) -> None:
        self.device.until(lambda: any(says in one for one in self.refusals()), f"the report says: {says}")

    def lives(self) -> None:
        """The same process, with the identity that it had, follows an honest command."""
        command = self.command()
        self.device.until(lambda: (self.gets(command), time.sleep(0.2), self.ended(command))[2], "it answers a ping")
        assert self.answer(command).state == "done"
        assert self.device.agent.runs
        assert self.device.agent.pid == self.pid
        assert (self.device.state / "identity" / "device.json").exists()
        assert not (self.device.state / "decommission.json").exists()
        assert "defect" not in self.device.agent.said()


@pytest.fixture
def commanded(system):
    with ExitStack() as parts:
        yield Commanded(system, parts)


def test_a_command_is_answered_and_its_repetition_does_nothing_again(commanded):
    """Said again and again by the broker, unchanged: one answer in its time, and nothing in the report."""
    command = commanded.command("collect-now")
    for _ in range(5):
        commanded.gets(command)
    assert commanded.answer(command).state == "done"
    time.sleep(0.5)

    assert len(commanded.answers(command)) == 1
    assert commanded.device.said().count("command collect-now") == 1
    assert commanded.refusals() == []


def test_forged_foreign_and_stale_commands_decommission_nobody(commanded):
    """The worst command there is, in every wrong way: reported, answered as refused where it can be, and not done."""
    honest = commanded.command("decommission")
    now = honest.issued
    stranger = signer_from_pem(commanded.system.data.online_key("timestamp").read_bytes())
    own = signer_from_pem((commanded.device.state / "identity" / "key.pem").read_bytes())
    expired = commanded.command("decommission", issued=now - 1000, expires=now - 10)
    other = commanded.command("decommission", device="dev-elsewhere")
    ping = commanded.command()
    commanded.gets(ping)
    commanded.answer(ping)
    tries = [
        (honest, {"signer": stranger}, "0 of 1 signatures hold"),
        (commanded.command("decommission"), {"signer": own}, "0 of 1 signatures hold"),
        (commanded.command("decommission"), {"kind": ORDER_TYPE}, "the payload type is"),
        (expired, {}, "it expired at"),
        (other, {}, "the command is for dev-elsewhere"),
        (commanded.command("decommission", id=ping.id), {}, "this id came before"),
        (commanded.command("decommission"), {"topic": f"cmd/ping/{secrets.token_hex(16)}"}, "it came as ping/"),
        (commanded.command("decommission", slot="main"), {}, "takes no slot"),
    ]
    for command, how, says in tries:
        commanded.gets(command, **how)
        commanded.reports(says)
    for command, how, _ in tries:
        states = [one.state for one in commanded.answers(command)]
        assert states == ([] if command.id == ping.id or "topic" in how else ["refused"])
    commanded.lives()


def test_no_command_ends_the_agent(commanded):
    """A flood of bad values in every field, signed by the director, and of noise: the agent follows the next one.

    Most of a flood is dropped unread; tests/agent/commands/test_refused.py has each value looked at.
    """
    honest = json.loads(canonical.encode(commanded.command("logs", slot="main", arguments={"lines": 5.0})))
    topic = f"cmd/logs/{honest['id']}"
    for value in VALUES.values():
        for payload in spoilt(honest, value):
            if len(payload) < 250_000:
                commanded.gets(None, payload=payload, topic=topic)
    for level in ("cmd", "cmd/x", "cmd/\u00e9/1", "cmd/ping/1/2", topic):
        commanded.tap.say(level, b"\xff" * 1000, retain=False)
    commanded.tap.say(topic, b"x" * (signing.envelope_limit(LIMIT) + 1), retain=False)
    commanded.lives()


def test_an_agent_that_is_asked_to_starts_again_and_answers(commanded):
    """Where no service manager would start it, it becomes a new process of its own; once, however often it is told."""
    command = commanded.command("restart-agent")
    commanded.gets(command)
    said = commanded.answer(command)
    commanded.gets(command)
    commanded.lives()

    assert (said.state, said.part) == ("done", 2)
    assert [one.state for one in commanded.answers(command)][:2] == ["running", "done"]
    log = commanded.device.agent._log.read_text()
    assert log.count("edgefleet-agent 0") + log.count("edgefleet-agent 1") == 2, log


def test_an_agent_that_was_killed_answers_for_what_it_followed(commanded):
    """SIGKILL in the middle: the next one says that it failed, and does not begin it again."""
    command = commanded.command("logs", slot="main", arguments={"follow_s": 600})
    commanded.gets(command)
    assert commanded.answer(command).state == "failed", "there is no such slot"
    restart = commanded.command("restart-agent")
    commanded.gets(restart)
    commanded.device.until(lambda: commanded.answers(restart), "it says that it ends")
    commanded.device.agent.kill()
    commanded.start()
    commanded.gets(restart)
    assert commanded.answer(restart).state == "done"
    commanded.lives()


def test_a_decommissioned_device_is_empty_and_stays_so(commanded):
    """*running*, then *done* before the identity is gone; killed on the way it goes on; then it says why it ended.

    The fleet's server is away all the while: a command needs the broker, and trust metadata of before.
    """
    device = commanded.device
    commanded.lives()
    command = commanded.command("decommission")
    commanded.system.stop_server()
    try:
        commanded.gets(command)
        device.until(lambda: commanded.answers(command), "it says that it begins")
        device.agent.kill()
        device.agent.start()
        said = commanded.answer(command)
        device.until(lambda: not device.agent.runs, "it ends")
    finally:
        commanded.system.start_server()

    assert said.state == "done", said
    assert said.part == 2
    assert sorted(path.name for path in device.state.iterdir()) == ["agent.lock", "decommissioned.json"]
    with pytest.raises(AssertionError, match=rf"ended with {EX_CONFIG}"):
        device.agent.start(ready=lambda: False)
    assert "this device was decommissioned on" in device.said()
    assert "enrol it anew" in device.said()


def test_a_decommissioned_device_can_join_again(system):
    """A new bundle, and it is a device like any other."""
    with ExitStack() as parts:
        one = Commanded(system, parts)
        command = one.command("decommission")
        one.gets(command)
        one.device.until(lambda: not one.device.agent.runs, "it ends")
        bundle = one.device.folder / "again.json"
        system.cli("devices", "join", "--out", bundle)
        one.device.command("enroll", bundle, "--name", f"{one.device.name}-again")
        one.device.agent.start(ready=lambda: system.api(f"devices/{one.device.name}-again")["online"])

        identity = json.loads((one.device.state / "identity" / "device.json").read_bytes())
        assert identity["device"] == f"{one.device.name}-again"
        assert not (one.device.state / "decommissioned.json").exists()
