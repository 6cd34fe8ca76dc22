"""Whole runs, as processes: what they answer and set aside, and that no end of them loses or doubles anything."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.parts.pace import stretched

# Dies at "die", hangs at "hang", fails twice at "flaky"; slow enough to be killed in the middle.
SCRIPT = """
import json, os, pathlib, sys, time
def init(): pass
def run(data):
    body = json.loads(data)
    time.sleep(float(os.environ.get("PAUSE", "0")))
    if body["x"] == "die": os.kill(os.getpid(), 9)
    if body["x"] == "end": os.kill(os.getppid(), 9)
    if body["x"] == "hang": time.sleep(600)
    if body["x"] == "wrong": raise ValueError("never")
    if body["x"] == "flaky":
        marks = pathlib.Path(os.environ["MARKS"])
        marks.write_bytes(marks.read_bytes() + b"." if marks.exists() else b".")
        if marks.stat().st_size < 3: raise ValueError("not yet")
    return {"twice": body["x"] * 2}
"""
LISTED = """
import os, pathlib
def run(mini_batch):
    assert isinstance(mini_batch, list)
    texts = [pathlib.Path(one).read_text() if isinstance(one, str) else one["x"] for one in mini_batch]
    if "wrong" in texts: raise ValueError("one of them is wrong")
    return [f"{one} of {len(mini_batch)}" for one in texts if one != "none"]
"""
STRANGE = """
from azureml.contrib.services.aml_response import AMLResponse
def run(data):
    body = b'"\\xff"' if "bytes" in data else b"[" * 20_000 + b"]" * 20_000
    answer = AMLResponse(body, 200)
    answer.headers["content-type"] = "application/json"
    return answer
"""


MARKING = """
import os, pathlib, time
def run(data):
    pathlib.Path(os.environ["MARKS"]).write_text(f"{os.getpid()} {os.getppid()}")
    time.sleep(60)
"""


def test_a_graph_answers_files_and_lines_in_order(batch, relu):
    """One line for each input, ordered by name; what the graph does not take is set aside with its reason."""
    batch.write(b__json={"x": [[1, -2, 3, -4]]}, c__json=b"nonsense")
    lines = [json.dumps({"x": [[n, -n, 0, 1]]}) for n in range(25)]
    (batch.inputs / "a.jsonl").write_text("\n".join(lines) + "\n")
    told, _ = batch.run("--model", relu, "--mini-batch", 4, "--workers", 2)
    assert told | {"seconds": 0} == {"state": "finished", "items": 27, "answered": 26, "set_aside": 1, "seconds": 0}
    expected = [{"input": "a.jsonl", "line": n + 1, "answer": {"y": [[n, 0, 0, 1]]}} for n in range(25)]
    assert batch.answers() == [*expected, {"input": "b.json", "answer": {"y": [[1, 0, 3, 0]]}}]
    (aside,) = batch.aside()
    assert (aside["input"], aside["kind"], aside["status"]) == ("c.json", "refused", 400)


def test_run_again_it_is_finished(batch, relu):
    """A second start asks nothing, and leaves the same."""
    batch.write(b__json={"x": [[1, -2, 3, -4]]})
    batch.run("--model", relu)
    before = (batch.outputs / "answers.jsonl").read_bytes()
    told, _ = batch.run("--model", relu)
    assert told["answered"] == 1
    assert (batch.outputs / "answers.jsonl").read_bytes() == before


def test_poison_is_set_aside_and_the_rest_goes_on(batch, script, tmp_path):
    """A worker that dies or hangs, a server that ends, what always fails: each with its reason; the others answer."""
    xs = ["a", "die", "b", "hang", "flaky", "c", "wrong", "end", "d"]
    batch.write(**{f"{n}__json": {"x": x} for n, x in enumerate(xs)})
    batch.run("--script", script(SCRIPT), "--mini-batch", 3, "--timeout", 1, MARKS=str(tmp_path / "marks"))
    assert [one["answer"]["twice"] for one in batch.answers()] == ["aa", "bb", "flakyflaky", "cc", "dd"]
    found = {xs[int(one["input"][0])]: one for one in batch.aside()}
    assert {x: one["kind"] for x, one in found.items()} == {
        "die": "poison", "hang": "poison", "wrong": "failed", "end": "poison",
    }  # fmt: skip
    # Nobody else was blamed for an end on the way.
    assert (batch.state / "worker-0.jsonl").read_bytes().count(b'"died"') == 3
    assert "SIGKILL" in found["die"]["reason"]
    assert "1 s" in found["hang"]["reason"]
    assert "never" in found["wrong"]["reason"]


def test_a_script_of_azures_parallel_runs_gets_lists(batch, script):
    """``run(mini_batch)`` gets paths of files and what stands in lines; one that spoils its list is found out."""
    for n, text in enumerate(["p", "q", "wrong", "none", "r"]):
        (batch.inputs / f"{n}.txt").write_text(text)
    (batch.inputs / "9.jsonl").write_text('{"x": "s"}\n')
    batch.run("--script", script(LISTED), "--mini-batch", 2, "--retries", 0)
    answers = {one["input"]: one["answer"] for one in batch.answers()}
    assert answers == {"0.txt": "p of 2", "1.txt": "q of 2", "4.txt": "r of 2", "9.jsonl": "s of 2"}
    assert {one["input"]: one["kind"] for one in batch.aside()} == {"2.txt": "failed", "3.txt": "failed"}


def test_no_answer_and_no_name_ends_a_run(batch, script):
    """What is called JSON and is no UTF-8, or is nested without end, is kept as text; a file whose name is no text is
    found by the script."""
    (batch.inputs / "0.json").write_bytes(b'"bytes"')
    (batch.inputs / "1.json").write_bytes(b'"deep"')
    batch.run("--script", script(STRANGE))
    deep = "[" * 20_000 + "]" * 20_000
    assert [one["text"] for one in batch.answers()] == ['"\N{REPLACEMENT CHARACTER}"', deep]


def test_a_name_that_is_no_text_reaches_the_script(batch, script):
    """It opens the file by what it was given."""
    (batch.inputs / os.fsdecode(b"n\xffme.txt")).write_bytes(b"p")
    batch.run("--script", script(LISTED))
    assert [one["answer"] for one in batch.answers()] == ["p of 1"]


def test_where_kubernetes_reads_how_it_ended(batch, relu, tmp_path):
    """The file that it makes has the counts at the end, or the one line that says why not; nobody else's is made."""
    batch.write(a__json={"x": [[1, 1, 1, 1]]})
    said = tmp_path / "said"
    batch.run("--model", relu, "--termination-log", said)
    assert not said.exists()
    said.touch()
    batch.run("--model", relu, "--termination-log", said)
    assert json.loads(said.read_text())["answered"] == 1
    batch.write(b__json={})
    batch.run("--model", relu, "--termination-log", said, code=5)
    assert "other inputs" in said.read_text()


def test_too_many_failures_stop_it_and_nothing_is_lost(batch, script):
    """Exit code 4 above the threshold; with a higher one it goes on to the end."""
    batch.write(**{f"{n}__json": {"x": "wrong" if n % 2 else "a"} for n in range(8)})
    source = script(SCRIPT)
    told, log = batch.run("--script", source, "--retries", 0, "--mini-batch", 2, "--error-threshold", 1, code=4)
    assert told["state"] == "stopped"
    assert "inputs failed, and 1 may" in log
    assert not (batch.outputs / "answers.jsonl").exists()
    assert len(batch.aside()) == 2
    batch.run("--script", source, "--retries", 0)
    assert (len(batch.answers()), len(batch.aside())) == (4, 4)


def test_what_cannot_be_read_is_said(batch, relu):
    """An input that nobody may read is set aside; a folder that is not there, or another run's, ends it at once."""
    batch.write(a__json={"x": [[1, 1, 1, 1]]})
    (batch.inputs / "b.json").symlink_to(batch.inputs / "nowhere")
    batch.run("--model", relu)
    assert [(one["input"], one["kind"]) for one in batch.aside()] == [("b.json", "unreadable")]
    batch.write(c__json={"x": [[1, 1, 1, 1]]})
    assert "other inputs" in batch.run("--model", relu, code=5)[1]
    batch.state = batch.state.with_name("other")
    assert "the answers of another run" in batch.run("--model", relu, code=5)[1]
    batch.inputs = batch.inputs.with_name("nowhere")
    assert "cannot be read" in batch.run("--model", relu, code=5)[1]


def test_two_runs_never_write_to_one_state(batch, script):
    """The second is refused at once, or waits for as long as it may and goes on where the first was."""
    batch.write(**{f"{n:03}__json": {"x": "a"} for n in range(40)})
    source = script(SCRIPT)
    first = batch.start("--script", source, "--mini-batch", 2, "--progress", 1, PAUSE="0.3")
    while json.loads(first.stdout.readline())["answered"] < 5:
        pass
    assert "another run uses this folder" in batch.run("--script", source, code=5)[1]
    second = batch.start("--script", source, "--patience", 60)
    assert b"it waits" in second.stderr.readline()
    assert first.poll() is None
    first.kill()
    first.communicate()
    out, log = second.communicate(timeout=stretched(60))
    assert second.returncode == 0, log
    assert json.loads(out.splitlines()[0])["answered"] >= 5
    assert len(batch.answers()) == 40


def test_a_module_that_cannot_be_served_blames_no_input(batch, script):
    """Its log says why, and no input is counted."""
    batch.write(a__json={"x": "a"})
    _, log = batch.run("--script", script("def init(): raise ValueError('no model')\ndef run(d): pass"), code=3)
    assert "no model" in log
    assert not batch.aside()


def test_a_full_disk_ends_it_with_what_to_do(batch, relu):
    """The state takes no more: an error, no traceback; with room it goes on."""
    batch.write(**{f"{n:03}__json": {"x": [[1, 1, 1, 1]]} for n in range(200)})
    process = batch.start("--model", relu, through=("prlimit", "--fsize=6000:unlimited"))
    _, log = process.communicate(timeout=stretched(60))
    assert process.returncode == 5, log
    assert b"make room" in log
    assert b"Traceback" not in log
    batch.run("--model", relu)
    assert len(batch.answers()) == 200


def test_ended_by_hand_it_goes_on_and_suspects_nobody(batch, script):
    """SIGTERM ends it soon, with what was answered kept."""
    batch.write(**{f"{n:03}__json": {"x": "a"} for n in range(40)})
    source = script(SCRIPT)
    process = batch.start("--script", source, "--mini-batch", 2, "--progress", 1, PAUSE="0.05")
    while json.loads(process.stdout.readline())["answered"] < 5:
        pass
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=stretched(20))
    assert process.returncode == 143
    assert b'"stopped":true' in (batch.state / "worker-0.jsonl").read_bytes()
    batch.run("--script", source)
    assert len(batch.answers()) == 40


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2))])
def test_killed_at_any_moment_each_input_counts_once(batch, script, seed):
    """SIGKILL, again and again: at the end every input stands once in the output, or is set aside with a reason."""
    chance = random.Random(seed)
    count = 60
    poison = set(chance.sample(range(count), 2))
    batch.write(**{f"{n:03}__json": {"x": "die" if n in poison else f"{n}-"} for n in range(count)})
    arguments = ("--script", script(SCRIPT), "--mini-batch", 3, "--workers", 2, "--progress", 1)
    for _ in range(2):
        process = batch.start(*arguments, PAUSE="0.02")
        # Wherever it is: loading, asking, writing.
        time.sleep(chance.uniform(0.2, 2.5))
        process.kill()
        process.communicate()
    told, _ = batch.run(*arguments)
    assert (told["answered"], told["set_aside"]) == (count - 2, 2)
    assert [one["answer"]["twice"] for one in batch.answers()] == [f"{n}-" * 2 for n in range(count) if n not in poison]
    assert {int(one["input"][:3]) for one in batch.aside()} == poison


def test_a_killed_run_leaves_no_server_behind(batch, script, tmp_path):
    """The servers end with it."""
    source = script(MARKING)
    batch.write(a__json={"x": "a"})
    marks = tmp_path / "marks"
    process = batch.start("--script", source, MARKS=str(marks))
    end = time.monotonic() + stretched(30)
    while not (marks.exists() and marks.read_text().count(" ")):
        assert time.monotonic() < end
        time.sleep(0.05)
    process.kill()
    process.communicate()
    while any(alive(int(one)) for one in marks.read_text().split()):
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_run_that_dies_of_an_input_sets_it_aside(batch, script):
    """The whole run ends each time that one alone is asked: after three times it is not asked any more."""
    batch.write(a__json={"x": "a"}, b__json={"x": "hang"}, c__json={"x": "c"})
    source = script(SCRIPT)
    # Interrupted among others first, then three times alone.
    for alone in (False, True, True, True):
        process = batch.start("--script", source)
        end = time.monotonic() + stretched(30)
        journal = batch.state / "worker-0.jsonl"
        before = journal.read_bytes().count(b"begun") if journal.exists() else 0
        while not (journal.exists() and hanging(journal.read_bytes(), before, alone)):
            assert time.monotonic() < end
            time.sleep(0.05)
        process.kill()
        process.communicate()
    batch.run("--script", source)
    assert [one["input"] for one in batch.answers()] == ["a.json", "c.json"]
    (aside,) = batch.aside()
    assert (aside["input"], aside["kind"]) == ("b.json", "poison")
    assert "whole run ended 3 times" in aside["reason"]


def hanging(journal, before, alone):
    lines = [json.loads(line) for line in journal.splitlines()]
    begun = [line for line in lines if "begun" in line]
    return len(begun) > before and 1 in begun[-1]["begun"] and begun[-1].get("alone", False) == alone
