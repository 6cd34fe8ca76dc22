"""Answers: the next part of a command's own device and no other, whatever comes in whatever order and how often."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, select

from fleet import events
from fleet.attempts import ALLOWED
from fleet.command_tables import command_parts, commands
from fleet.commands import view
from fleet.ingest import Ingest
from fleet.refusals import Missing
from fleet.tables import devices
from modules.names import DeviceId
from modules.protocol.commands import MAX_PARTS, PIECE, RESULT_LIMIT
from modules.protocol.report import Reason


@pytest.fixture
def fleet(small_fleet):
    for name in ("dev-a", "dev-b"):
        small_fleet.add_device(name)
    small_fleet.start(small_fleet.add_module("digits"))
    return small_fleet


@pytest.fixture
def command(fleet):
    return fleet.signed_command(fleet.give("diagnose", device=DeviceId("dev-a"))[0]["dev-a"])


def take(fleet, *messages):
    assert fleet.ingest.commit(messages) == []


def told(fleet):
    with fleet.database.read() as connection:
        return [(one["kind"], one["device"], one["message"]) for one in events.newest(connection)]


def refusals(fleet):
    return [message for kind, _, message in told(fleet) if kind in {"answer-refused", "forged-message", "bad-message"}]


def result(fleet, command, **part):
    with fleet.database.read() as connection:
        return view.result(connection, command.id, **part)


def everything(fleet):
    """All that is known of commands and their answers."""
    with fleet.database.read() as connection:
        seen = [devices.c.id, devices.c.last_seen]
        return [connection.execute(select(*one)).all() for one in ([commands], [command_parts], seen)]


def test_the_parts_of_an_answer_are_its_state_and_its_result(fleet, command):
    take(fleet, fleet.answer(command, 1, progress=0.5, note="half\nway", data=b"one ", content="text/plain"))
    found = fleet.command(command.id)
    assert {key: found[key] for key in ("state", "progress", "note", "answers", "bytes", "ended")} == {
        "state": "running", "progress": 0.5, "note": "half | way", "answers": 1, "bytes": 4, "ended": None,
    }  # fmt: skip
    take(fleet, fleet.answer(command, 2, "done", data=b"two"))
    found = fleet.command(command.id)
    assert (found["state"], found["ended"], found["bytes"]) == ("done", fleet.now, 7)
    assert [(one["part"], one["state"], one["bytes"]) for one in found["parts"]] == [(1, "running", 4), (2, "done", 3)]
    assert result(fleet, command).data == b"one two"
    assert result(fleet, command, first=2).data == b"two"
    assert result(fleet, command, last=1).data == b"one "
    assert refusals(fleet) == []


@pytest.mark.parametrize("state", ["failed", "refused"])
def test_why_a_device_did_not_do_it_is_shown_and_is_an_event(fleet, command, state):
    reason = Reason(code="invalid", message="no\x1b[2J such slot")
    take(fleet, fleet.answer(command, 1, state, reason=reason))
    found = fleet.command(command.id)
    assert (found["state"], found["reason"]["code"]) == (state, "invalid")
    assert "\x1b" not in found["reason"]["message"]
    (said,) = [one for one in told(fleet) if one[0] == f"command-{state}"]
    assert said[1] == "dev-a"
    assert "[invalid]" in said[2]


def forged(fleet, command):
    """What is not taken, and the reason that is given for it; before anything was taken."""
    other = fleet.signed_command(fleet.give("diagnose", device=DeviceId("dev-b"))[0]["dev-b"])
    mine = fleet.answer(command, 1)
    yield "another device's key", fleet.answer(command, 1, key="dev-b"), "0 of 1 signatures hold"
    yield (
        "another device's command",
        fleet.answer(other, 1, device=DeviceId("dev-a"), key="dev-a")._replace(device=DeviceId("dev-a")),
        "[other-command]",
    )
    yield "another device's topic", mine._replace(device=DeviceId("dev-b")), "signatures hold"
    yield "no such command", fleet.answer(command, 1, id="f" * 32), "[unknown-command]"
    yield "another name", fleet.answer(command, 1, name="ping"), "[other-command]"
    yield "another device's words", fleet.answer(command, 1, device=DeviceId("dev-b")), "the document is dev-b's"
    yield "a gap", fleet.answer(command, 2), "[gap]"
    yield "an order for an answer", mine._replace(payload=fleet.orders_envelope), "payload type"
    yield "no document", mine._replace(payload=b"{}"), "cannot be read|missing"
    yield "too large a piece", fleet.answer(command, 1, data=b"x" * (PIECE + 1)), "data"


@pytest.mark.parametrize("which", range(10))
def test_what_is_not_the_next_part_of_its_own_command_changes_nothing(fleet, command, which):
    """A forged, foreign, misplaced or broken answer is counted and an event with its reason, and nothing else."""
    with fleet.database.read() as connection:
        wanted = select(devices.c.order_envelope).where(devices.c.id == "dev-a")
        fleet.orders_envelope = connection.execute(wanted).scalar_one()
    _, message, reason = list(forged(fleet, command))[which]
    before = everything(fleet)
    take(fleet, message)
    assert everything(fleet) == before
    (said,) = refusals(fleet)
    assert any(word in said for word in reason.split("|")), said

    take(fleet, fleet.answer(command, 1, "done"))
    assert fleet.command(command.id)["state"] == "done"


def test_nothing_follows_the_end(fleet, command):
    """A further part, or another end, after the device itself has said that it is the end."""
    last = fleet.answer(command, 1, "done", data=b"x")
    take(fleet, last)
    before = everything(fleet)
    fleet.now += 5
    take(fleet, fleet.answer(command, 2, "failed"), fleet.answer(command, 1, "failed"), last)
    assert everything(fleet) == before
    assert sorted(one.rpartition("[")[2] for one in refusals(fleet)) == ["after-end]", "changed]"]


def test_a_part_that_comes_again_changes_nothing_and_is_no_event(fleet, command):
    """The same document signed anew has another signature and is the same word."""
    take(fleet, fleet.answer(command, 1, data=b"a"))
    before = everything(fleet)
    fleet.now += 5
    take(fleet, fleet.answer(command, 1, data=b"a"), fleet.answer(command, 1, data=b"a"))
    assert everything(fleet) == before
    take(fleet, fleet.answer(command, 1, data=b"b"))
    assert everything(fleet) == before
    assert [one.rpartition("[")[2] for one in refusals(fleet)] == ["changed]"]


def test_a_result_has_an_end(fleet, command):
    """4 MiB are taken and one byte more is not; nor are more answers than a command may have."""
    pieces = [b"x" * PIECE] * (RESULT_LIMIT // PIECE)
    take(fleet, *(fleet.answer(command, number, data=data) for number, data in enumerate(pieces, 1)))
    assert fleet.command(command.id)["bytes"] == RESULT_LIMIT
    before = everything(fleet)
    take(fleet, fleet.answer(command, len(pieces) + 1, data=b"x"))
    assert everything(fleet) == before
    assert "[too-large]" in refusals(fleet)[0]
    take(fleet, fleet.answer(command, len(pieces) + 1, "done"))
    assert fleet.command(command.id)["state"] == "done"
    assert len(result(fleet, command).data) == RESULT_LIMIT


def test_answers_without_pieces_have_an_end(fleet, command):
    with fleet.database.write() as connection:
        connection.execute(commands.update().values(answers=MAX_PARTS))
    take(fleet, fleet.answer(command, MAX_PARTS + 1))
    assert "[too-many]" in refusals(fleet)[0]
    assert fleet.command(command.id)["answers"] == MAX_PARTS


def test_a_flood_of_refused_answers_does_not_fill_the_database(fleet, command):
    for number in range(5):
        take(fleet, *(fleet.answer(command, 2 + number + one, "running") for one in range(20)))
    assert len(refusals(fleet)) == ALLOWED


def test_a_cancelled_command_takes_nothing_and_makes_no_noise(fleet, command):
    """The device does not know that nobody waits any more."""
    with fleet.database.write() as connection:
        fleet.commands.cancel(connection, command.id, by="")
    before = everything(fleet)
    take(fleet, fleet.answer(command, 1), fleet.answer(command, 2, "done"))
    assert everything(fleet) == before
    assert refusals(fleet) == []


def test_a_broken_answer_costs_no_other_message_anything(fleet, command, monkeypatch):
    """Nor does a defect: the others of the batch are taken, reports and answers."""
    other = fleet.signed_command(fleet.give("ping", device=DeviceId("dev-b"))[0]["dev-b"])
    honest = Ingest._answers

    def breaks(self, connection, read, *more):
        if any(document[0].id == command.id for _, document in read):
            raise ZeroDivisionError
        honest(self, connection, read, *more)

    monkeypatch.setattr(Ingest, "_answers", breaks)
    report = fleet.order("dev-a").counter
    message = fleet.answer(command, 1)
    take(fleet, message, fleet.answer(other, 1, "done"))
    assert report
    assert fleet.command(other.id)["state"] == "done"
    assert fleet.command(command.id)["answers"] == 0
    assert fleet.mishaps.counts == {"message": 1}


def test_answers_of_hundreds_are_taken_by_a_few_statements(fleet, command):
    """As many statements for two hundred parts as for ten."""
    said = []
    event.listen(fleet.database.engine, "before_cursor_execute", lambda *given: said.append(given[2]))

    def statements(first, last):
        messages = [fleet.answer(command, one, data=b"x") for one in range(first, last)]
        said.clear()
        take(fleet, *messages)
        return len(said)

    few = statements(1, 11)
    assert few <= 12
    assert statements(11, 211) <= few
    assert fleet.command(command.id)["answers"] == 210


def test_a_result_that_is_not_kept_is_missing(fleet, command):
    take(fleet, fleet.answer(command, 1, data=b"a"), fleet.answer(command, 2, "done", data=b"b"))
    with fleet.database.write() as connection:
        connection.execute(command_parts.delete().where(command_parts.c.part == 1))
    with pytest.raises(Missing, match="not kept any more"):
        result(fleet, command)
    assert result(fleet, command, first=2).data == b"b"
    before = everything(fleet)
    take(fleet, fleet.answer(command, 1, data=b"a"))
    assert everything(fleet) == before
    assert refusals(fleet) == []


PIECES = [b"one ", b"", b"two ", b"three ", b"four"]


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(seed=st.integers(0, 2**32), batches=st.lists(st.lists(st.integers(1, 5), max_size=6), max_size=5))
def test_in_any_order_and_repeated_the_parts_give_the_same(fleet, seed, batches):
    """What is taken is always the beginning of what was said; once the device has repeated itself it is all of it."""
    command = fleet.signed_command(fleet.give("diagnose", device=DeviceId("dev-a"))[0]["dev-a"])
    parts = {
        number: fleet.answer(command, number, "done" if number == len(PIECES) else "running", data=data)
        for number, data in enumerate(PIECES, 1)
    }
    whole = b"".join(PIECES)
    for batch in batches:
        take(fleet, *(parts[number] for number in batch))
        found = fleet.command(command.id)
        assert result(fleet, command).data == b"".join(PIECES[: found["answers"]])
        begun = "running" if found["answers"] else "waiting"
        assert found["state"] == ("done" if found["answers"] == len(PIECES) else begun)
    again = list(parts.values())
    random.Random(seed).shuffle(again)
    take(fleet, *again)
    assert result(fleet, command).data == whole
    assert fleet.command(command.id)["state"] == "done"
