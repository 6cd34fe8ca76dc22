"""The duty that brings endpoints about: when it looks, and what it notes of what it saw."""

import asyncio
import threading

import pytest
from sqlalchemy import select, update

from fleet import setup
from fleet.authority import Authority
from fleet.folder import Folder
from fleet.mishaps import Mishaps
from fleet.refusals import TargetTrouble
from fleet.target_tables import targets
from fleet.targets.attached import Line, Targets
from fleet.targets.contract import Standing
from fleet.targets.duty import Bringing, Found
from fleet.targets.kinds import Parts
from fleet.targets.scaling import standing_of
from fleet.targets.secrets import Sealer
from modules.names import Slug
from tests.doubles.cloud import Cloud
from tests.parts.pace import stretched


@pytest.fixture
def lab(small_fleet, tmp_path):
    """A ready endpoint on a target that answers at once."""
    folder = Folder(tmp_path / "keys")
    setup.initialise(folder, lambda: 1.0)
    return Cloud(small_fleet, folder, Authority.load(folder.ca, small_fleet.clock), Sealer(folder))


class Only:
    """The only target that there is."""

    def __init__(self, target):
        self.line = Line("", target)

    def of(self, connection, name):
        return self.line


async def lasting(work, *arguments):
    return work(*arguments)


def duty(lab, attached):
    database, clock = lab.database, lab.fleet.clock
    return Bringing(database=database, clock=clock, wished=lab.wished, attached=attached, mishaps=Mishaps(clock))


async def look(duty):
    """A round, and the looks that it began; at whom."""
    await duty._round(lasting, lambda: None)
    turns = dict(duty._turns)
    await asyncio.gather(*turns.values())
    return list(turns)


def found(lab, **more):
    return Found(lab.row(), lab.line, **({"revoked": [], "guests": [], "newest": 0, "measured": True} | more))


def test_what_was_wished_for_meanwhile_is_not_what_was_looked_at(lab):
    """It stays to be brought about, and is looked at again."""
    before = found(lab)
    seen = lab.duty._brought(before)
    lab.change({Slug("v1"): lab.wish(replicas=3)})
    lab.duty._note(before, *seen)
    row = lab.row()
    assert (seen[0].state, row.state, row.generation - row.seen_generation) == ("ready", "updating", 1)


def test_guests_are_let_in_once_it_is_ready(lab):
    """Until then nobody says that its gateway knows them."""
    for in_use, admitted in ((False, 0), (True, 7)):
        lab.target.in_use = in_use
        one = found(lab, newest=7)
        lab.duty._note(one, *lab.duty._brought(one))
        assert lab.row().admitted == admitted


def test_a_row_keeps_no_counts(lab):
    """They go to whoever adds them up; a row that kept them would be written anew with each look."""
    lab.target.ask(10)
    one = found(lab)
    standing, trouble = lab.duty._brought(one)
    assert standing.versions["v1"].lives
    lab.duty._note(one, standing, trouble)
    assert standing_of(lab.row()).versions["v1"].lives == {}


def test_a_targets_trouble_is_over_when_it_answers(lab):
    """As soon as one look comes through."""

    def told():
        with lab.database.read() as connection:
            return connection.scalar(select(targets.c.trouble))

    one = found(lab)
    lab.duty._note(one, *lab.duty._brought(one._replace(line=Line("", _Silent()))))
    assert (lab.row().state, "does not answer" in told()) == ("failed", True)
    lab.look()
    assert (lab.row().state, told()) == ("ready", "")


class _Silent:
    def bring(self, wanted):
        raise TargetTrouble("the engine does not answer", element="container host")


def test_who_asks_a_target_leaves_a_place_for_the_next():
    """However many come one after the other."""
    line = Line("", "the target")
    try:
        assert [line.ask(str) for _ in range(20)] == ["the target"] * 20
    finally:
        line.threads.shutdown()


def test_a_target_that_is_attached_anew_is_spoken_to_anew(lab):
    """Over one connection as long as it stays, and the old one is given up."""
    known = Targets(Parts(fleet="f" * 12, blobs=None, contents=None))
    try:
        with lab.database.write() as connection:
            first = known.of(connection, "lab")
            assert known.of(connection, "lab") is first
            connection.execute(update(targets).values(attached='{"docker": "unix:///other.sock"}'))
            assert known.of(connection, "lab") is not first
        with pytest.raises(RuntimeError, match="shutdown"):
            first.threads.submit(str)
    finally:
        known.close()


async def test_a_target_that_takes_long_is_asked_once_at_a_time(lab):
    """Whatever is wished for meanwhile."""
    asked, goes_on = [], threading.Event()

    class Slow:
        def bring(self, wanted):
            asked.append(wanted.name)
            goes_on.wait(stretched(10))
            return Standing(state="ready", url="http://lab:1")

    only = Only(Slow())
    bringing = duty(lab, only)
    try:
        for replicas in (3, 4, 5):
            lab.change({Slug("v1"): lab.wish(replicas=replicas)})
            await bringing._round(lasting, lambda: None)
        turns = list(bringing._turns.values())
        goes_on.set()
        await asyncio.gather(*turns)
    finally:
        goes_on.set()
        only.line.threads.shutdown()
    assert asked == ["digits"]


async def test_a_new_rollout_has_a_ready_endpoint_looked_at(lab):
    """It may bring the model to devices that are to be let in, and they wait for that."""
    only = Only(lab.target)
    bringing = duty(lab, only)
    try:
        assert await look(bringing) == ["digits"]
        assert await look(bringing) == []
        lab.fleet.add_device("dev-a")
        lab.fleet.start(lab.new)
        assert await look(bringing) == ["digits"]
        assert lab.row().admitted > 0
        assert await look(bringing) == []
    finally:
        only.line.threads.shutdown()
