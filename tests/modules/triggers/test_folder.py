"""A watched folder: the program as it is, a real scoring server, files as people and programs write them."""

import json
import os
import time

import pytest

from tests.parts.programs import until

pytestmark = pytest.mark.timeout(180)

FOLDER = {
    "EDGEFLEET_TRIGGER": "folder",
    "EDGEFLEET_TRIGGER_INPUT": "input/{name}.json",
    "EDGEFLEET_TRIGGER_OUTPUT": "output/{name}_out.json",
}


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    (folder / "input").mkdir(parents=True)
    return folder


@pytest.fixture
def watching(trigger):
    program = trigger(**FOLDER)
    program.start(lambda: "watching input/" in program.said())
    return program


def come(place, program):
    return until(place.is_file, f"{place.name} is there", within_s=30, said=program.said)


def test_each_file_has_its_answer_once(data, watching, counts):
    """Those that were there, those that come, and a file that is written anew; nothing is left half done."""
    (data / "input/first.json").write_text("[1, 2]")
    (data / "input/note.txt").write_text("[3]")
    come(data / "output/first_out.json", watching)
    assert json.loads((data / "output/first_out.json").read_bytes()) == [2, 4]

    (data / "input/first.json").write_text("[5, 6]")
    until(
        lambda: json.loads((data / "output/first_out.json").read_bytes()) == [10, 12],
        "the changed file is scored",
        within_s=30,
        said=watching.said,
    )
    (data / "input/link.json").symlink_to(data / "input/note.txt")
    (data / "input/last.json").write_text("[7]")
    come(data / "output/last_out.json", watching)

    assert counts() == ["[1, 2]", "[5, 6]", "[7]"]
    assert sorted(one.name for one in (data / "output").iterdir()) == ["first_out.json", "last_out.json"]


def test_no_file_ends_the_program(data, watching, counts):
    """Brackets without end, bytes that are no UTF-8 and a name that is none are set aside or answered; the others are
    answered meanwhile, also by the next program that looks there."""
    unnamed = os.fsdecode(b"n\xffme")
    for name, content in {
        "deep": b"[" * 200_000 + b"]" * 200_000,
        "bytes": b'["\xff"]',
        unnamed: b"[1]",
        "good": b"[2]",
    }.items():
        (data / f"input/{name}.json").write_bytes(content)
    for name in ("output/good_out.json", f"output/{unnamed}_out.json"):
        come(data / name, watching)
    for name in ("deep", "bytes"):
        come(data / f"poison/input/{name}.json", watching)

    assert {"[1]", "[2]"} <= set(counts())


def test_a_half_written_file_is_not_read(data, watching, counts):
    """Not while it grows, and not while it is no JSON yet, though nobody writes for longer than it takes to settle."""
    with (data / "input/slow.json").open("w") as file:
        for part in ("[1", ", 2", ", 3"):
            file.write(part)
            file.flush()
            time.sleep(0.2)
        until(lambda: "is not whole yet" in watching.said(), "it was looked at", within_s=30, said=watching.said)
        assert counts() == []
        file.write("]")
    come(data / "output/slow_out.json", watching)

    assert counts() == ["[1, 2, 3]"]


@pytest.mark.long
def test_a_file_that_is_still_written_is_left_alone(data, trigger, counts):
    """As text is a whole input at any moment, the time in which nothing changes decides."""
    program = trigger(
        **FOLDER
        | {"EDGEFLEET_TRIGGER_INPUT": "input/{name}.txt", "EDGEFLEET_TRIGGER_OUTPUT": "output/{name}.json"}
        | {"EDGEFLEET_TRIGGER_SETTLE_S": "1.5"}
    )
    program.start(lambda: "watching input/" in program.said())
    with (data / "input/text.txt").open("w") as file:
        for part in ("[1]", " ", " ", " ", " ", " "):
            file.write(part)
            file.flush()
            time.sleep(0.5)
    come(data / "output/text.json", program)

    assert counts() == ["[1]     "]


def test_poison_is_set_aside_with_its_reason(data, watching, counts):
    """A wrong request at once, a failing one after three tries; the others go on, and moved back it is tried."""
    (data / "input/a-wrong.json").write_text('"wrong"')
    (data / "input/b-fails.json").write_text('"fails"')
    (data / "input/c-good.json").write_text("[1]")
    come(data / "output/c-good_out.json", watching)

    aside = data / "poison/input"
    assert "answers 400: not like this" in come_text(aside / "a-wrong.json.why.txt", watching)
    assert "answers 500" in come_text(aside / "b-fails.json.why.txt", watching)
    assert counts() == ['"wrong"', '"fails"', '"fails"', '"fails"', "[1]"]
    assert sorted(one.name for one in (data / "input").iterdir()) == ["c-good.json"]
    (aside / "a-wrong.json").replace(data / "input/a-wrong.json")
    until(lambda: counts().count('"wrong"') == 2, "it is tried again", within_s=30, said=watching.said)


def come_text(place, program):
    come(place, program)
    return place.read_text()


@pytest.mark.long
def test_what_ends_the_server_is_set_aside_after_three_starts(data, trigger, counts):
    """The program ends with it, for whoever starts containers again; the count outlives it."""
    (data / "input/b-bad.json").write_text('"ends"')
    (data / "input/c-good.json").write_text("[4]")
    for _ in range(3):
        program = trigger(**FOLDER)
        program.start(lambda program=program: "watching input/" in program.said())
        until(lambda program=program: not program.runs, "it ends", within_s=30, said=program.said)
        assert "the scoring server has ended" in program.said()

    program = trigger(**FOLDER)
    program.start()
    come(data / "output/c-good_out.json", program)

    assert "3 times" in (data / "poison/input/b-bad.json.why.txt").read_text()
    assert counts() == ['"ends"'] * 3 + ["[4]"]


def test_a_restart_goes_on_where_it_was(data, trigger, counts):
    """What was answered is not scored again; what came meanwhile is; what was taken away is forgotten."""
    first = trigger(**FOLDER)
    first.start(lambda: "watching input/" in first.said())
    (data / "input/one.json").write_text("[1]")
    (data / "input/gone.json").write_text("[9]")
    come(data / "output/one_out.json", first)
    come(data / "output/gone_out.json", first)
    first.stop()
    assert len(list((data / ".edgefleet").iterdir())) == 2
    (data / "input/gone.json").unlink()
    (data / "input/two.json").write_text("[2]")

    second = trigger(**FOLDER)
    second.start()
    come(data / "output/two_out.json", second)
    until(lambda: len(list((data / ".edgefleet").iterdir())) == 2, "one is forgotten", within_s=30, said=second.said)

    assert sorted(counts()) == ["[1]", "[2]", "[9]"]


@pytest.mark.long
def test_an_answer_that_cannot_be_written_waits(data, watching, counts):
    """Nothing is wrong with the input: it is not counted against it, and the answer comes once there is room."""
    (data / "output").write_text("in the way")
    (data / "input/one.json").write_text("[1]")
    until(lambda: "cannot be written" in watching.said(), "it is said", within_s=30, said=watching.said)
    (data / "output").unlink()
    come(data / "output/one_out.json", watching)

    assert counts() == ["[1]"]
    assert not (data / "poison").exists()


def test_wrong_settings_end_it_at_once(trigger):
    """With the variable's name, and no traceback."""
    program = trigger(**FOLDER | {"EDGEFLEET_TRIGGER_OUTPUT": "output/all.json"})
    with pytest.raises(AssertionError, match="ended with 1"):
        program.start(lambda: False)

    assert "output_path" in program.said()
    assert "Traceback" not in program.said()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_nobody_may_read_holds_up_nobody(data, watching):
    """It is said, and looked at again later."""
    (data / "input/a-closed.json").write_text("[1]")
    (data / "input/a-closed.json").chmod(0)
    (data / "input/b-open.json").write_text("[1]")
    come(data / "output/b-open_out.json", watching)

    assert "'a-closed.json' waits" in watching.said()
