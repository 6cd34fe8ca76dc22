"""Rows 7 to 11: answers without end or without haste, targets and orders that are somebody else's, and old ones; and
18, all of it at once.
"""

import os
import random
import re
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from modules import canonical
from modules import manifest as manifests
from modules.digests import BLOCK
from modules.names import Slug
from modules.protocol import blobs as wire
from modules.protocol import commands
from modules.signing import COMMAND_TYPE, sign, unverified
from modules.trust import repository
from modules.trust.roles import TARGETS
from tests.attacks.forge import TEAM, changed, listing, tied
from tests.attacks.hostile import Message
from tests.attacks.scene import SLOT, digest, graph

pytestmark = pytest.mark.long

# What an agent may gain while it is sent hundreds of megabytes: what it takes of one answer, and what of the rest came
# in before it was looked at.
MIB = 1 << 20
GAIN = 96 * MIB
ENDLESS = 64 * MIB // BLOCK
# How long the broker rages, and how often it forges something of its own besides.
RAGES_S = 10.0
FORGES_EVERY_S = 0.3
# To repeat a run that failed; no test itself sees such settings.
SEED = int(os.environ.get("EDGEFLEET_SEED", "0"))


@pytest.fixture(scope="module")
def other(scene):
    """A second team, and the key of the first, which would like to sign for it."""
    now, team, key = datetime.now(UTC), Slug("other"), CryptoSigner.generate_ed25519()
    targets = repository.delegate_team(
        scene.file(TARGETS), team=team, keys=[key.public_key], signers=[scene.publisher.targets_signer], now=now
    )
    scene.adds_team(team, targets, repository.create_team(team=team, signers=[key], now=now))
    return team


def memory(pid):
    """The most that a process ever had of the machine's memory, in bytes."""
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(line) * 1024


def on_disk(scene):
    return sum(path.stat().st_size for path in scene.device.state.rglob("*") if path.is_file())


def is_get(message):
    return message.topic.endswith("/up/blob/get")


def answer(message, *blocks):
    """The device's own question with these blocks as answers: (number, length, bytes)."""
    get = wire.decode_get(message.payload)
    topic = message.topic.replace("/up/blob/get", f"/down/blob/{get.request}")
    for number, length, data in blocks:
        yield Message("down", topic, wire.encode(wire.Block(get.request, wire.OK, number, length, data)))


def test_row_07_endless_data(scene):
    """An answer of a size that its role may not have is refused; one without an end fills neither memory nor disk."""
    release = scene.release()
    scene.hostile.files = {"timestamp.json": b" " * MIB}
    refusal = scene.verdict(scene.start(release))
    assert "more than the 8192 allowed" in refusal, refusal
    scene.unharmed("more than the 8192 allowed")

    def endless(message):
        if not is_get(message):
            return [message]
        length = lengths[len(scene.hostile.asked()) % 2]
        return answer(message, *((n % (length // BLOCK - 1), length, bytes(BLOCK)) for n in range(ENDLESS)))

    lengths = (16 * MIB, 1 << 40)
    before, disk = memory(scene.device.agent.pid), on_disk(scene)
    scene.hostile.files = {}
    scene.hostile.rule = endless
    release, asked = scene.release(), len(scene.hostile.asked())
    order = scene.start(release)
    scene.until(lambda: len(scene.hostile.asked()) >= asked + 4, "it has asked some times")

    assert scene.device.agent.runs
    assert memory(scene.device.agent.pid) < before + GAIN
    assert on_disk(scene) < disk + 4 * MIB
    assert not scene.judged(order)
    scene.unharmed()

    scene.hostile.honest()
    scene.serves(release)


@pytest.mark.parametrize("how", ["silent", "slow"])
def test_row_08_slow_retrieval(scene, how):
    """A server that says nothing, or sends the same block again and again, holds up the order and nothing else; when
    it answers, the order is followed without anybody's help."""

    def rule(message):
        if not is_get(message):
            return [message]
        return [] if how == "silent" else [one._replace(after_s=0.4 * n) for n in range(20) for one in first(message)]

    def first(message):
        return answer(message, (0, 2 * BLOCK, bytes(BLOCK)))

    scene.hostile.rule = rule
    release, asked = scene.release(), len(scene.hostile.asked())
    order, number = scene.start(release), scene.counter()
    # A slow one keeps it at its first question.
    times = 2 if how == "silent" else 1
    scene.until(lambda: len(scene.hostile.asked()) >= asked + times, "it has asked")
    began = time.monotonic()
    while time.monotonic() - began < 3.0:  # the slowness itself
        assert scene.answer() == scene.value
    assert not scene.judged(order)
    scene.unharmed()
    assert scene.system.report(scene.device.name)["order"] == number

    scene.hostile.honest()
    scene.serves(release)
    scene.unharmed()


def test_row_09_other_teams_path(scene, other):
    """A team lists a module of another team's, and a path that climbs out of its own: the server does not take that,
    and where the server is the thief's, too, the device finds no such release."""
    evil = scene.evil(team=other, version="1")
    for path in (evil.ref.target, f"modules/acme/../{other}/1.json"):
        metadata = changed(scene.file(TEAM), [scene.publisher.team_signer], listing(evil, path))
        reply = scene.http.post("/api/v1/tuf/teams/acme", content=metadata)
        assert reply.is_client_error, reply.text
        scene.hostile.files = tied(scene, {TEAM: metadata})

        refusal = scene.given(scene.order(evil, path=path))
        assert "no publisher has signed" in refusal or refusal.startswith("invalid"), refusal
        scene.unharmed(refusal.partition(": ")[2])
    scene.goes_on()


def test_row_10_order_for_another_device(scene):
    """The broker hands the device an order that the server's director signed for another: it is refused, whatever it
    says."""
    assert "other-device" in scene.given(scene.order(scene.current, device="dev-second"))
    scene.unharmed("other-device")
    scene.goes_on()


@pytest.mark.parametrize("part", ["manifest", "graph"])
def test_row_10_another_modules_bundle(scene, part):
    """The broker answers with another module's manifest or graph, which is as well published: it is not taken."""
    release, old = scene.release(), scene.current
    wanted, given = {
        "manifest": (digest(release), manifests.encode(old)),
        "graph": (release.files[0].sha256, graph(scene.value)),
    }[part]
    scene.hostile.blobs = {wanted: given}
    asked = len(scene.hostile.asked())
    scene.start(release)
    scene.until(
        lambda: sum(getattr(one, "digest", "") == wanted for one in scene.hostile.asked()[asked:]) > 2,
        "it has asked again",
    )
    scene.unharmed()
    assert not (scene.device.state / "blobs" / release.files[0].sha256.removeprefix("sha256:")).exists()

    scene.hostile.honest()
    scene.serves(release)
    scene.unharmed()


def test_row_11_replayed_order(scene):
    """An order of before, which the broker keeps in the newest one's place, is refused, and so is one that is over."""
    old = scene.hostile.last("down", "/down/order")
    scene.goes_on()
    scene.hostile.plant("order", old)
    assert "old-order" in scene.verdict(old)
    scene.unharmed("old-order")

    past = int(time.time()) - 60
    assert "expired" in scene.given(scene.order(scene.current, issued=past - 60, expires=past))
    scene.unharmed("expired")
    scene.goes_on()


def test_row_11_replayed_command(scene):
    """A command is followed once, however often it comes; the same id with other words, and one that is over, never."""
    restart = command(scene, "restart-module", slot=SLOT)
    (before,) = scene.processes()
    give(scene, restart)
    scene.until(lambda: (now := list(scene.processes())) and before not in now and scene.answer() is not None, "it ran")
    (after,) = scene.processes()
    for _ in range(3):
        give(scene, restart)
    give(scene, command(scene, "restart-module", slot=SLOT, id=restart.id, issued=restart.issued - 1))
    give(scene, command(scene, "restart-module", slot=SLOT, issued=restart.issued - 600, expires=restart.issued - 300))
    ping = command(scene, "ping")
    give(scene, ping)
    scene.until(lambda: answered(scene, ping), "it has looked at all of them")

    assert list(scene.processes()) == [after]
    scene.unharmed("this id came before", "expired")
    scene.goes_on()


def command(scene, name, **more):
    now = int(time.time())
    fields = {"id": secrets.token_hex(16), "device": scene.device.name, "issued": now, "expires": now + 600}
    return commands.Command(name=name, **fields | more)


def give(scene, command):
    envelope = sign(canonical.encode(command), payload_type=COMMAND_TYPE, signers=[scene.stolen("director")])
    scene.hostile.say(f"cmd/{command.name}/{command.id}", envelope)


def answered(scene, command):
    said = (m.payload for m in scene.hostile.heard if m.way == "up" and m.topic.endswith("/up/cmd"))
    answers = [unverified(envelope, limit=commands.ANSWER_LIMIT) for envelope in said]
    return any(command.id.encode() in one and b'"done"' in one for one in answers)


PASSING = ("passed", "passed", "dropped", "doubled", "late", "old", "flipped")
FORGED = ("order", "kept order", "old order", "metadata", "ack", "command", "block", "cut")


class Rage:
    """A broker's rule out of a seed: of all that passes some is dropped, doubled, late, an old thing instead, or has
    bits that are not as they were. ``forge`` says something of its own. Each comes up as often as the others. ``old``
    is a release that its team has signed and nobody has ordered."""

    def __init__(self, scene, seed) -> None:
        self._scene, self._chance = scene, random.Random(seed)
        self.evil, self.old = scene.evil(), scene.release()
        scene.hands_over(self.old)
        self.stranger = CryptoSigner.generate_ed25519()
        self._team = changed(scene.file(TEAM), [self.stranger], listing(self.evil))
        self.did = set()
        self._bags = {PASSING: [], FORGED: []}

    def _draw(self, kinds):
        self._bags[kinds] = self._bags[kinds] or self._chance.sample(kinds, len(kinds))
        self.did.add(drawn := self._bags[kinds].pop())
        return drawn

    def __call__(self, message):
        return {
            "passed": [message],
            "dropped": [],
            "doubled": [message, message],
            "late": [message._replace(after_s=self._chance.uniform(0.05, 1.0))],
            "old": [self._chance.choice(self._scene.hostile.heard)],
            "flipped": [message._replace(payload=self._flipped(message.payload))],
        }[self._draw(PASSING)]

    def _flipped(self, payload):
        changed = bytearray(payload)
        for _ in range(self._chance.randint(1, 4) if changed else 0):
            changed[self._chance.randrange(len(changed))] ^= 1 << self._chance.randrange(8)
        return bytes(changed)

    def forge(self):
        scene, hostile = self._scene, self._scene.hostile
        what = self._draw(FORGED)
        if what == "order":
            hostile.say("order", scene.order(self.evil, self.stranger))
        elif what == "kept order":
            hostile.plant("order", scene.order(self.evil, self.stranger))
        elif what == "old order":
            hostile.say("order", scene.order(self.old, self.stranger))
        elif what == "metadata":
            hostile.files = {} if hostile.files else tied(scene, {TEAM: self._team})
        elif what == "cut":
            hostile.cut()
        else:
            level = {"ack": "ack", "command": f"cmd/ping/{secrets.token_hex(16)}", "block": "blob/1"}[what]
            hostile.say(level, self._chance.randbytes(200))


def test_row_18_hostile_broker(scene):
    """A broker that drops, doubles, delays, replays, changes and forges whatever it likes, while the server orders one
    release after another: no moment at which anything runs that the server has not ordered, or answers or lies there
    that its team has not signed, and the old module serves throughout. Once it is honest again, the next order reaches
    the device and is followed. (Only the next one: an order that the broker keeps in the server's place is replaced by
    that alone, or when the server's session begins anew.)"""
    seed = SEED or random.randrange(1 << 30)
    rage = Rage(scene, seed)
    scene.hostile.rule = rage
    began, last, ordered = time.monotonic(), None, {digest(scene.current)}
    while (now := time.monotonic() - began) < RAGES_S:
        if last is None or now > RAGES_S / 2 > last:
            release = scene.release()
            ordered.add(digest(release))
            scene.start(release)
            last = now
        rage.forge()
        assert scene.running() <= ordered, f"EDGEFLEET_SEED={seed}\n{scene.device.said()}"
        assert scene.honest_answer(), f"EDGEFLEET_SEED={seed}\n{scene.device.said()}"
        time.sleep(FORGES_EVERY_S)  # the attack goes on by itself
    assert scene.unsigned() == [], f"EDGEFLEET_SEED={seed}"
    assert rage.did == {*PASSING, *FORGED}

    scene.goes_on()
    scene.unharmed()
    scene.hands_over(rage.old)  # and with nothing else in its way, no order of his is followed, either
    for release in (rage.old, scene.evil()):
        refusal = scene.given(scene.order(release, rage.stranger))
        assert "signatures hold" in refusal, refusal
        scene.unharmed("signatures hold")
    scene.goes_on()
