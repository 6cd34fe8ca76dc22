"""A device that was decommissioned: everything of edgefleet goes, the identity last, whenever the power is cut."""

import asyncio
import json
import os
import shutil
from pathlib import Path

import msgspec
import pytest

from agent import running, sealing_key, wiring
from agent.commands import wipe
from agent.commands.wipe import Order, begin
from agent.enroll import enroll
from agent.gateway import table as gateway_table
from agent.identity import CA, DEVICE, KEY, ROOT, Identity
from agent.occupied import LOCK
from agent.running import DECOMMISSION, DECOMMISSIONED
from agent.settings import Settings
from modules import canonical, signing
from modules.errors import BadSettings, EngineBusy, LinkLost
from modules.protocol.commands import ANSWER_LIMIT, Answer
from modules.protocol.enrollment import Broker
from modules.protocol.topics import Topics
from tests.agent.crashing import Dead
from tests.agent.workbench import Bench
from tests.doubles.keys import device_pem
from tests.doubles.release import make

GOOD = make("acme/digits:1")
ID = "a" * 32
# What strikes: each of these of the os module is one thing that a power cut may come after.
CALLS = ("unlink", "rmdir", "replace", "rename")


class Link:
    """Has the interface of ``agent.link.Link`` that wiping uses; ``works`` says whether there is a broker."""

    works = True
    said: tuple = ()
    boots: tuple = ()
    identity_there: tuple = ()

    def __init__(self, identity, folder, *, on_connect, next_boot, **_) -> None:
        self.topics, self._folder = Topics(), folder
        self._on_connect, self._next_boot = on_connect, next_boot

    async def run(self):
        while True:
            Link.boots = (*Link.boots, self._next_boot())
            await self._on_connect()
            await asyncio.sleep(0.01)

    async def publish(self, topic, payload):
        if not Link.works:
            raise LinkLost("there is no session with the broker", element="double")
        Link.said = (*Link.said, (topic, payload))
        Link.identity_there = (*Link.identity_there, (self._folder / KEY).exists())


class Retired:
    """A device with a committed module that is to be wiped; ``beside`` is what is somebody else's."""

    def __init__(self, folder, patch) -> None:
        self.folder = folder
        self.settings = Settings(state=str(folder / "state"), runtime=str(folder / "run"), stop_grace_s=0.1)
        self.state = folder / "state"
        self.patch = patch
        self.private, public = device_pem()
        self.key = signing.key_from_pem(public)
        Link.works, Link.said, Link.boots, Link.identity_there = True, (), (), ()
        patch.setattr(wipe, "Link", Link)
        patch.setattr(wiring, "engines", lambda *_: {"docker": self.engine})

    async def prepare(self):
        """What an agent that ran has left there."""
        self.state.mkdir(parents=True)
        self.bench = bench = Bench(self.state)
        bench.start()
        await bench.committed(GOOD)
        await bench.stop()
        bench.store.close()
        self.engine, self.clock = bench.engine, bench.clock
        shutil.rmtree(self.state / "i")
        (self.folder / "run").mkdir()
        shutil.move(self.state / "gateway", self.folder / "run" / "gateway")
        for name in ("key.pem", "certificate.pem"):
            (self.folder / "run" / "gateway" / name).write_text("a copy for the gateway")
        identity = Identity(device=bench.device, fleet="https://f", broker=Broker(host="h", port=1))
        for name, data in ((KEY, self.private), (CA, b"ca"), (ROOT, b"{}"), (DEVICE, msgspec.json.encode(identity))):
            (self.state / "identity" / name).write_bytes(data)
        for name in ("telemetry.db", "telemetry.db-journal", "commands.db", "installation", "agent.db.damaged-1"):
            (self.state / name).write_text("x")
        for name in ("trust/metadata", "processes/one"):
            (self.state / name).mkdir(parents=True)
            (self.state / name / "file").write_text("x")
        sealing_key.ensure(self.state / "identity")
        (self.settings.secrets / "1").mkdir(parents=True)
        (self.settings.secrets / "1" / "token").write_text("a module's secret")
        (self.settings.instances / "1").mkdir(parents=True)
        (self.settings.instances / "1" / "left").write_text("by a module")
        (self.state / LOCK).touch()
        (self.folder / "of-the-host").mkdir()
        (self.folder / "of-the-host" / "file").write_text("untouched")
        begin(self.state, Order(id=ID, device=bench.device, part=2, boot=7, epoch="0123456789abcdef"))
        return self

    async def wipe(self):
        await wipe.wipe(self.settings, self.clock)

    def answers(self):
        assert {topic for topic, _ in Link.said} <= {Topics().answer(self.bench.device)}
        return [
            canonical.decode(
                signing.verify(payload, payload_type=signing.ANSWER_TYPE, keys=[self.key], limit=ANSWER_LIMIT),
                Answer,
                limit=ANSWER_LIMIT,
                what="answer",
            )
            for _, payload in Link.said
        ]

    def left(self):
        return sorted(path.name for path in self.state.iterdir())


@pytest.fixture
async def retired(folder, monkeypatch):
    one = await Retired(folder, monkeypatch).prepare()
    yield one
    one.engine.close()


async def test_everything_goes_and_the_answer_before_the_identity(retired):
    """Modules, images' names, routes, keys, secrets, blobs and databases; what is the host's stays as it was."""
    assert retired.engine.running() == {GOOD.digest}
    await retired.wipe()

    assert retired.engine.running() == set()
    assert retired.engine.named == set()
    assert retired.left() == [LOCK, DECOMMISSIONED]
    gateway = retired.folder / "run" / "gateway"
    assert gateway_table.read(gateway / "table.json").slots == {}
    assert gateway_table.read(gateway / "table.json").generation > 1
    assert [path.name for path in gateway.iterdir()] == ["table.json"]
    assert not retired.settings.secrets.exists()
    assert not retired.settings.instances.exists()
    assert (retired.folder / "of-the-host" / "file").read_text() == "untouched"
    (answer,) = retired.answers()
    assert (answer.state, answer.part, answer.id) == ("done", 2, ID)
    assert Link.identity_there == (True,)
    assert Link.boots[0] > 7


async def test_the_database_is_not_held_open_while_it_goes(retired):
    """What is removed and still open keeps its room on the disk."""
    assert wipe._used(retired.state, {}) == {"docker"}
    assert held(retired.state) == []


def held(folder):
    """Files of a folder that this process has open."""
    links = (str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink())
    return [one for one in links if one.startswith(str(folder))]


async def test_a_power_cut_at_any_moment_is_gone_on_from(folder, monkeypatch):
    """Cut after each file that goes: the next start wipes on; as long as nobody was told, there is an identity."""
    cuts, at = 0, 0
    while True:
        at += 1
        home = folder / str(at)
        home.mkdir()
        with monkeypatch.context() as patch:
            retired = await Retired(home, patch).prepare()
            power = Power(patch, at)
            try:
                await retired.wipe()
            except Dead:
                cuts += 1
            power.on()
            if not power.cut:
                break
            assert (retired.state / DECOMMISSION).exists() or (retired.state / DECOMMISSIONED).exists()
            if not Link.said:
                assert json.loads((retired.state / "identity" / DEVICE).read_bytes())
                assert (retired.state / "identity" / KEY).read_bytes() == retired.private
            if (retired.state / DECOMMISSION).exists():
                await retired.wipe()
            assert retired.left() == [LOCK, DECOMMISSIONED]
            assert not retired.settings.secrets.exists()
            assert retired.engine.running() == set()
            assert {one.state for one in retired.answers()} == {"done"}
            retired.engine.close()
    retired.engine.close()
    assert cuts > 25


class Power:
    """Cut after the ``at``-th call that removes or renames; then nothing of the agent's works any more."""

    def __init__(self, patch, at) -> None:
        self.left, self.cut = at, False
        self._on = False
        for name in CALLS:
            patch.setattr(os, name, self._struck(getattr(os, name)))

    def on(self):
        self._on = True

    def _struck(self, call):
        def called(*arguments, **more):
            if self._on:
                return call(*arguments, **more)
            if self.cut:
                raise Dead
            found = call(*arguments, **more)
            self.left -= 1
            if self.left == 0:
                self.cut = True
                raise Dead
            return found

        return called


async def test_an_engine_that_is_away_for_a_while_is_waited_for(retired, monkeypatch):
    """It has a module of ours: it is asked again until it answers, and nothing else goes before."""
    tries, listed = [], retired.engine.list

    async def away():
        tries.append((retired.state / "blobs").exists())
        if len(tries) < 5:
            raise EngineBusy("it does not answer")
        return await listed()

    monkeypatch.setattr(retired.engine, "list", away)
    await retired.wipe()

    assert tries == [True] * 5
    assert retired.engine.running() == set()
    assert [one.state for one in retired.answers()] == ["done"]


async def test_an_engine_that_stays_away_is_said(retired):
    """All else goes, and the last answer is *failed* and says what may run on."""
    retired.engine.down = True
    await retired.wipe()
    (answer,) = retired.answers()

    assert answer.state == "failed"
    assert "what ran on the docker engine" in answer.reason.message
    assert retired.left() == [LOCK, DECOMMISSIONED]


async def test_nobody_is_waited_for_for_ever(retired, monkeypatch):
    """Without any broker the identity goes after a while all the same."""
    Link.works = False
    monkeypatch.setattr(wipe, "BROKER_WITHIN_S", 0.2)
    await retired.wipe()

    assert retired.left() == [LOCK, DECOMMISSIONED]
    assert Link.said == ()


async def test_what_is_not_edgefleets_stays(retired):
    """A stranger's file in the state folder, and what a link leads to: neither is touched, and both are named."""
    elsewhere = retired.folder / "another-disk"
    shutil.move(retired.state / "blobs", elsewhere)
    (retired.state / "blobs").symlink_to(elsewhere)
    (retired.state / "notes.txt").write_text("somebody's")
    before = sorted(path.name for path in elsewhere.iterdir())
    await retired.wipe()
    (answer,) = retired.answers()

    assert (retired.state / "notes.txt").read_text() == "somebody's"
    assert sorted(path.name for path in elsewhere.iterdir()) == before
    assert answer.state == "failed"
    assert "notes.txt" in answer.reason.message
    assert "another-disk" in answer.reason.message


async def test_however_much_is_left_behind_the_answer_can_be_read(retired):
    """As much of it as an answer may say."""
    for number in range(40):
        (retired.state / f"{'long' * 20}-{number}").touch()
    await retired.wipe()
    (answer,) = retired.answers()

    assert answer.state == "failed"
    assert len(answer.reason.message) == 2000


async def test_such_a_device_says_so_and_is_not_started_again(retired, capsys, monkeypatch):
    """``edgefleet-agent run`` says what happened and what to do, with the exit code that systemd leaves alone."""
    monkeypatch.setattr(running, "act_as_owner", lambda *_, **__: None)
    await retired.wipe()
    assert running.run(retired.settings) == os.EX_CONFIG

    said = capsys.readouterr().err
    assert "this device was decommissioned on 2027-01-15" in said
    assert "enrol it anew" in said


def test_a_device_that_is_being_wiped_joins_no_fleet(tmp_path):
    """A new identity would be wiped with the rest."""
    begin(tmp_path, Order(id=ID, device="dev-1", part=2))
    with pytest.raises(BadSettings, match="is being decommissioned"):
        enroll(b"{}", tmp_path / "identity")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{}", id="no order"),
        pytest.param(json.dumps({"id": ID, "device": "dev-else", "part": 2}).encode(), id="another device's"),
        pytest.param(json.dumps({"id": ID, "device": "dev-1", "part": 2}).encode() + b" " * 20_000, id="too long"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param(None, id="a folder"),
    ],
)
async def test_what_is_no_order_to_wipe_this_device_takes_nothing(retired, monkeypatch, caplog, content):
    """Such a file is refused, said and set aside, and the agent goes on with all that it has."""
    monkeypatch.setattr(running, "act_as_owner", lambda *_, **__: None)
    monkeypatch.setattr(wiring, "run", lambda _: asyncio.sleep(0, result=False))
    monkeypatch.setattr(running.asyncio, "run", lambda going: going.close())
    (retired.state / DECOMMISSION).unlink()
    if content is None:
        (retired.state / DECOMMISSION).mkdir()
    else:
        (retired.state / DECOMMISSION).write_bytes(content)
    before = {path for path in retired.state.rglob("*") if path.name != DECOMMISSION}

    assert running.run(retired.settings) == 0
    assert f"nothing is removed for {retired.state / DECOMMISSION}" in caplog.text
    after = set(retired.state.rglob("*"))
    assert before <= after
    assert not (retired.state / DECOMMISSION).exists()
    assert (retired.state / wipe.REFUSED).exists()
    assert retired.engine.running() == {GOOD.digest}
