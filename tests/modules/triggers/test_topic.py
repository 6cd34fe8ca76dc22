"""Messages in and out through a real broker, with TLS and a password, and whatever breaks on the way."""

import subprocess
import time

import pytest

from tests.parts.programs import until
from tests.parts.site_broker import Site

pytestmark = [pytest.mark.needs("mosquitto"), pytest.mark.timeout(180)]


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path / "site")
    (tmp_path / "data").mkdir()
    made.start()
    made.meet()
    yield made
    made.end()


def connected(program):
    return lambda: "answering what comes at" in program.said()


def arrived(site, program, wanted):
    return until(
        lambda: [one for one in site.got if one[:2] == wanted], f"{wanted} came", within_s=40, said=program.said
    )


def test_a_message_is_answered_and_acknowledged(site, trigger, counts):
    """Over TLS, with a password, the sender's mark carried over; what was answered does not come again."""
    program = trigger(**site.variables())
    program.start(connected(program))
    site.send("[1, 2]", mark=b"order-7")
    site.send("[3]")
    arrived(site, program, ("site/out", [6]))
    program.stop()
    again = trigger(**site.variables())
    again.start(connected(again))
    site.send("[4]")
    arrived(site, again, ("site/out", [8]))

    assert site.got == [("site/out", [2, 4], b"order-7"), ("site/out", [6], None), ("site/out", [8], None)]
    assert counts() == ["[1, 2]", "[3]", "[4]"]


def test_what_comes_while_it_is_away_is_answered(site, trigger):
    """The broker keeps the session and its messages."""
    program = trigger(**site.variables())
    program.start(connected(program))
    program.stop()
    site.send("[5]")
    site.send("[5]")
    again = trigger(**site.variables())
    again.start(connected(again))

    until(lambda: len(site.got) == 2, "both came", within_s=40, said=again.said)
    assert site.got == [("site/out", [10], None)] * 2


def test_it_goes_on_when_the_broker_is_back(site, trigger):
    """A broker that ends and starts again, with messages that nobody has acknowledged yet."""
    program = trigger(**site.variables())
    program.start(connected(program))
    site.broker.stop()
    site.start()
    until(lambda: program.said().count("connected to the broker") == 2, "again", within_s=60, said=program.said)
    until(site.client.is_connected, "the application, too", within_s=60)
    site.send("[6]")

    arrived(site, program, ("site/out", [12]))


@pytest.mark.long
def test_poison_goes_to_a_topic_of_its_own(site, trigger, counts):
    """With the reason and the message; what ends the server is tried three times, across starts, and then given up."""
    program = trigger(**site.variables())
    program.start(connected(program))
    site.send('"wrong"', mark=b"w")
    site.send('"ends"')
    site.send("[7]")
    until(lambda: not program.runs, "it ends", within_s=40, said=program.said)
    for _ in range(2):
        program = trigger(**site.variables())
        program.start(connected(program))
        until(lambda program=program: not program.runs, "it ends", within_s=40, said=program.said)
    program = trigger(**site.variables())
    program.start(connected(program))
    arrived(site, program, ("site/out", [14]))

    poison = [(one[1]["why"], one[1]["topic"], one[1]["message"], one[2]) for one in site.got if "poison" in one[0]]
    assert poison == [
        ("the model answers 400: not like this", "site/in/one", "Indyb25nIg==", b"w"),
        ("the scoring server ended while it worked on this, 3 times", "site/in/one", "ImVuZHMi", None),
    ]
    assert counts() == ['"wrong"', '"ends"', '"ends"', '"ends"', "[7]"]


@pytest.mark.long
def test_a_connection_that_breaks_over_an_answer_loses_nothing(site, trigger, counts):
    """The broker ends while a message is scored: its answer comes in the next connection, and nothing is done twice."""
    program = trigger(**site.variables())
    program.start(connected(program))
    site.send('"fails"')
    until(lambda: counts() == ['"fails"'], "it is worked on", within_s=30, said=program.said)
    site.broker.stop()
    time.sleep(3)  # the three tries pass while there is no broker
    site.start()
    until(site.client.is_connected, "the application is back", within_s=60)
    site.send("[8]")
    arrived(site, program, ("site/out", [16]))

    assert len([one for one in site.got if one[0] == "site/out/poison"]) == 1
    assert counts() == ['"fails"', '"fails"', '"fails"', "[8]"]


def test_what_the_broker_forbids_is_said(site, trigger):
    """A client that may not answer ends with what to do, and the message stays with the broker."""
    program = trigger(**site.variables())
    program.start(connected(program))
    (site.folder / "acl").write_text("user me\ntopic readwrite site/in/#\ntopic read site/out/#\n")
    subprocess.run(["kill", "-HUP", str(site.broker.pid)], check=True)
    until(lambda: "Reloading config" in site.broker.said(), "reloaded", within_s=20, said=site.broker.said)
    site.send("[9]")
    until(lambda: not program.runs, "it ends", within_s=40, said=program.said)
    assert "takes no answer of ours" in program.said()
    assert "Traceback" not in program.said()

    (site.folder / "acl").write_text("user me\ntopic readwrite site/#\n")
    subprocess.run(["kill", "-HUP", str(site.broker.pid)], check=True)
    again = trigger(**site.variables())
    again.start(connected(again))
    arrived(site, again, ("site/out", [18]))
