"""No command is followed twice: not in any order of deliveries, deaths and losses, and however few are remembered."""

import asyncio
import shutil
import sqlite3
import stat
from collections import Counter
from contextlib import closing

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.commands import collect_now
from agent.commands.kept import FILE, MOST_REFUSED, OPEN, Kept
from agent.store import Store
from modules.errors import NoSpace
from modules.protocol.commands import Answer
from tests.agent.commands.commanding import Commanded
from tests.agent.conftest import short_folder

HOW_MANY = 6
EVENTS = st.lists(
    st.one_of(
        st.integers(0, HOW_MANY - 1),
        st.sampled_from(["killed", "killed in the middle", "file lost", "database lost", "time passes", "flood"]),
    ),
    max_size=25,
)


class Few(Commanded):
    most = 2


@settings(max_examples=60, deadline=None)
@given(EVENTS)
def test_no_order_of_deliveries_follows_a_command_twice(events):
    """Whatever a broker repeats and whenever the agent dies, each command is followed once at most."""
    with pytest.MonkeyPatch.context() as patch:
        asyncio.run(_played(events, patch))


async def _played(events, patch):
    followed: Counter[str] = Counter()
    hold: list[asyncio.Event] = []

    async def run(command, _parts, saying):
        followed[command.id] += 1
        saying.began()
        if hold:
            await hold[0].wait()
        return "done"

    patch.setattr(collect_now, "run", run)
    folder = short_folder()
    device = Few(folder)
    try:
        device.start()
        now = int(device.clock.now())
        commands = [device.command("collect-now", issued=now + n, expires=now + 500_000) for n in range(HOW_MANY)]
        for event in events:
            await _happens(event, device, commands, hold)
        await device.settled()
    finally:
        await device.close()
        device.store.close()
        device.engine.close()
        shutil.rmtree(folder)
    assert max(followed.values(), default=0) <= 1


async def _happens(event, device, commands, hold):
    match event:
        case int():
            device.gets(commands[event])
            await device.settled()
        case "killed in the middle":
            hold.append(asyncio.Event())
            device.gets(commands[0])
            await device.until(lambda: not device.desk._queue)
            await _killed(device)
            hold.clear()
        case "killed":
            await _killed(device)
        case "file lost":
            await _killed(device, FILE)
        case "database lost":
            await _killed(device, "agent.db")
        case "time passes":
            device.clock.advance(4000.0)
        case "flood":
            for command in (*commands, *commands):
                device.gets(command)
            await device.settled()


async def _killed(device, lost=""):
    await device.close()
    device.store.close()
    if lost:
        for path in device.folder.glob(f"{lost}*"):
            path.unlink()
    device.build()
    device.open_desk()
    device.start()


async def test_the_events_do_make_the_device_follow(device):
    """The walk above would see a second time: without what is remembered, a repetition is followed again."""
    command = device.command("collect-now")
    device.gets(command)
    await device.answer(command)
    device.desk._kept.known = lambda _: None
    device.desk._kept.floor = lambda _: 0
    device.desk._kept.begin = lambda *_, **__: None
    device.desk._answers.say = lambda known, *_: known
    device.gets(command)
    await device.settled()

    assert device.telemetry.collected == 2


def test_what_is_forgotten_leaves_a_floor(folder):
    """The longest issued of those that ended goes first; what is issued no later is not known any more, of that key."""
    kept, store, command = made(folder, most=1)
    first, second = (command(issued=1_800_000_000 + n, expires=1_800_009_000) for n in (5, 3))
    for one in (first, second):
        kept.begin(one, digest="d", keys={"key-a"})
        kept.say([(answered(one), b"x")])
    third = command(issued=1_800_000_009, expires=1_800_009_000)
    kept.begin(third, digest="d", keys={"key-b"})

    assert kept.floor(["key-a"]) == first.issued
    assert kept.floor(["key-b"]) == 0
    assert [one.id for one in kept.all()] == [third.id]
    assert kept.parts(first.id) == kept.parts(second.id) == []
    store.close()


def made(folder, most=9):
    """What is remembered in a folder, with the store beside it, and commands for it."""
    device = Commanded.__new__(Commanded)
    device.clock, device.device = type("Clock", (), {"now": lambda _: 1_800_000_000.0})(), "bench-1"
    store = Store(folder)
    return Kept(folder, store, most=most), store, device.command


def test_a_starting_agent_looks_for_commands_as_long_as_one_has_no_last_answer(folder):
    """From before the first is followed until the last has ended; not again after that."""
    kept, store, command = made(folder)
    first, second = command(), command()
    for one in (first, second):
        kept.begin(one, digest="d", keys={"key-a"})
    assert store.document(OPEN) is not None
    kept.say([(answered(first), b"x")])
    assert store.document(OPEN) is not None
    kept.say([(answered(second), b"x")])
    assert store.document(OPEN) is None
    store.close()


def test_results_of_long_ago_go_and_their_last_answers_stay(folder, monkeypatch):
    """The newest are kept, as many bytes as there may be."""
    monkeypatch.setattr("agent.commands.kept.MOST_BYTES", 10)
    kept, store, command = made(folder)
    three = [command() for _ in range(3)]
    for one in three:
        kept.begin(one, digest="d", keys={"key-a"})
        result = msgspec.structs.replace(answered(one), state="running")
        kept.say([(result, b"four"), (msgspec.structs.replace(answered(one), part=2), b"1")])
    kept.begin(command(), digest="d", keys={"key-a"})

    assert [kept.parts(one.id) for one in three] == [[2], [1, 2], [1, 2]]
    store.close()


def damage(path):
    """Spoil all but the first page."""
    pages = bytearray(path.read_bytes())
    pages[4096:] = b"\xff" * (len(pages) - 4096)
    path.write_bytes(pages)


def made_by_another(path):
    """An agent of another version."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize("spoil", [damage, made_by_another])
def test_a_file_that_is_not_ours_to_the_last_page_is_made_anew(folder, spoil):
    """Which its first use finds; what was issued by then may have been followed."""
    kept, store, command = made(folder)
    first = command()
    kept.begin(first, digest="d", keys={"key-a"})
    spoil(folder / FILE)
    kept = Kept(folder, store)

    assert kept.floor(["key-a"]) == first.issued
    assert kept.all() == []
    store.close()


def test_what_cannot_be_kept_is_said_and_the_file_is_looked_at_anew(folder):
    """Whoever asked goes no further; a file that was damaged by then is found by the next use."""
    kept, store, command = made(folder)
    with pytest.raises(NoSpace, match="unable to open"):
        Kept(folder / "nowhere", store).all()
    first = command()
    kept.begin(first, digest="d", keys={"key-a"})
    kept.say([(answered(first), b"x")])
    with pytest.raises(NoSpace, match="no command can be followed") as held:
        kept.say([(answered(first), b"y")])
    assert kept.answer(first.id, 1) == b"x", f"whoever has the error does not keep the file locked: {held.value}"

    with pytest.raises(NoSpace):
        kept.say([(answered(first), b"y")])
    damage(folder / FILE)
    assert kept.all() == []
    store.close()


def test_a_file_that_cannot_be_read_for_a_while_is_not_thrown_away(folder):
    """Only a damaged one is."""
    kept, store, command = made(folder)
    first = command()
    kept.begin(first, digest="d", keys={"key-a"})
    other = sqlite3.connect(folder / FILE, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(NoSpace, match="locked"):
        kept.all()
    other.close()

    assert [one.id for one in kept.all()] == [first.id]
    store.close()


def test_a_file_is_looked_at_as_a_whole_only_once(folder):
    """That costs more than a use; what is damaged later is found when it is met."""
    kept, store, command = made(folder)
    kept.begin(command(), digest="d", keys={"key-a"})
    damage(folder / FILE)
    with pytest.raises(NoSpace):
        kept.all()

    assert kept.all() == []
    store.close()


def test_what_is_no_file_is_replaced_by_one_for_the_agent_alone(folder):
    """A folder of that name, say: nothing else on the device reads what commands answered."""
    (folder / FILE).mkdir()
    (folder / FILE / "inner").touch()
    kept, store, _ = made(folder)

    assert kept.all() == []
    assert stat.S_IMODE((folder / FILE).stat().st_mode) == 0o600
    store.close()


def test_the_file_is_synced_small_in_memory_and_shrinks(folder):
    """A power cut takes back nothing that was written; what is forgotten takes no room."""
    kept, store, _ = made(folder)
    db = kept._opened()
    asked = {name: db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "cache_size", "auto_vacuum")}
    db.close()

    assert asked == {"synchronous": 3, "cache_size": -256, "auto_vacuum": 1}
    store.close()


def test_what_was_refused_long_ago_is_forgotten_with_its_answer(folder):
    """Of refused commands a few are remembered, and of the others nothing stays on the disk."""
    kept, store, command = made(folder)
    refused = [command() for _ in range(MOST_REFUSED + 1)]
    for one in refused:
        kept.refuse(answered(one), b"x", digest="d")
    assert [one.id for one in kept.all()] == [one.id for one in refused[1:]]
    assert [kept.parts(one.id) for one in refused[:2]] == [[], [1]]
    store.close()


def answered(command):
    return Answer(id=command.id, device=command.device, name=command.name, part=1, state="done")
