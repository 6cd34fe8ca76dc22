"""A run that several share: together they leave what one alone would, whichever of them is killed."""

import asyncio
import json
import signal
import time

from modules.scoring.batch.items import Items
from modules.scoring.batch.ledger import Plan
from modules.scoring.batch.parts import Part
from tests.parts.pace import stretched

SLOW = """
import json, time
def run(data):
    time.sleep(0.02)
    if json.loads(data) == 7: raise ValueError("never")
    return json.loads(data) * 2
"""
COUNT = 90


def part(number, of=3):
    return ("--parts", of, "--part", number, "--retries", 0, "--patience", 60)


def until(process, done):
    end = time.monotonic() + stretched(60)
    while not done():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)  # another process writes a file, which cannot be awaited


def test_they_leave_what_one_alone_would(batch, tmp_path):
    """One is killed in the middle and goes on last: nothing is lost or doubled, and nothing is there before."""
    script = tmp_path / "score.py"
    script.write_text(SLOW)
    (batch.inputs / "a.jsonl").write_text("".join(f"{number}\n" for number in range(COUNT)))
    first = batch.start("--script", script, *part(0))
    journal = batch.state / "part-0/worker-0.jsonl"
    until(first, lambda: journal.exists() and journal.read_bytes().count(b'{"item"') > 5)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    # Its number may come by the variable that a cluster sets.
    others = [
        batch.start("--script", script, *part(1)),
        batch.start("--script", script, "--parts", 3, "--retries", 0, "--patience", 60, JOB_COMPLETION_INDEX="2"),
    ]
    told = [json.loads(one.communicate(timeout=stretched(90))[0].splitlines()[-1]) for one in others]
    assert not (batch.outputs / "answers.jsonl").exists()
    before = journal.read_bytes().count(b'{"item"')
    told.append(batch.run("--script", script, *part(0))[0])
    assert journal.read_bytes().count(b'{"item"') == 30
    assert 5 < before < 30
    assert [(one["state"], one["items"], one["answered"], one["set_aside"]) for one in told] == [
        ("finished", COUNT, 29, 1), ("finished", COUNT, 30, 0), ("finished", COUNT, 30, 0),
    ]  # fmt: skip
    assert [one["answer"] for one in batch.answers()] == [2 * number for number in range(COUNT) if number != 7]
    assert [(one["line"], one["kind"]) for one in batch.aside()] == [(8, "failed")]
    batch.run("--script", script, *part(0, of=2), code=5)
    batch.run("--script", script, code=5)


async def test_two_that_end_at_once_wait_for_each_other(tmp_path):
    """Neither holds its own state while it waits, and one of them writes the answers."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jsonl").write_text("1\n2\n3\n4\n")
    items, outputs = Items(tmp_path / "in"), tmp_path
    plan = Plan(module="m", inputs=items.digest, items=len(items), parts=2)
    parts = [Part(number, plan, tmp_path / "state", 30.0) for number in range(2)]
    ledgers = [await one.ledger(1) for one in parts]
    assert [list(one.open_items()) for one in ledgers] == [[0, 2], [1, 3]]
    for ledger in ledgers:
        for item in list(ledger.open_items()):
            ledger.answered(0, item, str(item).encode())
    async with asyncio.timeout(stretched(20)):
        await asyncio.gather(*(one.finish(ledger, outputs, items) for one, ledger in zip(parts, ledgers, strict=True)))
    assert (outputs / "answers.jsonl").read_text().split() == ["0", "1", "2", "3"]
