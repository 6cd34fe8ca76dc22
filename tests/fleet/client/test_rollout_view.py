"""Watching a rollout: until it needs nobody any more, with every device's reason, and with the right exit code."""

import http.server
import json
import threading

import pytest
from typer.testing import CliRunner

from fleet.client.cli import app

REASON = {"code": "wrong-answer", "message": "sample one: 3 instead of 4"}
SERVING = {"module": "acme/digits:1", "digest": "sha256:" + "0" * 64, "provider": "CPUExecutionProvider"}
LOST = {"status": 503, "code": "link-lost", "detail": "the database is away"}


def rollout(state, phase, **more):
    device = {
        "device": "dev-1", "wave": 1, "phase": phase, "reason": None, "serving": None,
        "times": [["accepted", 100.0], ["fetching", 100.5], ["starting", 102.0]], "progress": None,
    }  # fmt: skip
    misfits = [{"device": "dev-2", "reasons": ["needs 512 MiB of memory, has 256"]}]
    return {
        "id": "7", "module": "acme/digits:2", "slot": "digits", "state": state, "wave": 1, "waves": 1, "created": 99.0,
        "devices": [device | more], "misfits": misfits, "history": [{"at": 99.0, "what": "started: 1 devices"}],
    }  # fmt: skip


@pytest.fixture
def answers(monkeypatch, tmp_path):
    """A server on loopback that gives these answers one after the other, the last one again and again."""
    script = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            document = script.pop(0) if len(script) > 1 else script[0]
            body = json.dumps(document).encode()
            self.send_response(document.get("status", 200) if isinstance(document, dict) else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("EDGEFLEET_HOME", str(tmp_path))
        monkeypatch.setenv("EDGEFLEET_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("EDGEFLEET_TOKEN", "token")
        yield script
        server.shutdown()
        thread.join()


def watch(*more):
    return CliRunner().invoke(app, ["rollouts", "show", "7", "--wait", *more])


def test_a_rollout_that_is_done_ends_the_watch_with_success(answers):
    """Exit code 0 says that every device committed; the phases' times are shown."""
    answers += [rollout("running", "fetching", progress=0.5), rollout("done", "committed", serving=SERVING)]

    done = watch()

    assert done.exit_code == 0
    assert "committed" in done.stdout
    assert "accepted 0.5 s, fetching 1.5 s" in done.stdout
    assert "acme/digits:1 on CPUExecutionProvider" in done.stdout


@pytest.mark.parametrize("state", ["failed", "paused", "cancelled"])
def test_any_other_end_is_exit_code_1_with_reasons(answers, state):
    """A pipeline stops, and its log says which device failed why, and which did not fit."""
    answers += [rollout(state, "reverted", reason=REASON)]

    done = watch()

    assert done.exit_code == 1
    assert "sample one: 3 instead of 4" in done.stdout
    assert "needs 512 MiB of memory, has 256" in done.stdout


def test_a_server_that_is_away_for_a_moment_is_waited_for(answers):
    """The watch outlives a restart of the server."""
    answers += [rollout("running", "starting"), LOST, rollout("done", "committed")]

    assert watch().exit_code == 0


def test_for_programs_there_is_one_document(answers):
    """With --json stdout holds the rollout's end and nothing else."""
    answers += [rollout("done", "committed", serving=SERVING | {"proved": False})]

    document = json.loads(watch("--json").stdout)

    assert (document["state"], document["devices"][0]["serving"]["proved"]) == ("done", False)


def test_an_answer_that_is_none_names_the_address(answers):
    """Something else than a fleet server at the address is an error, not a traceback."""
    answers += [{"hello": "world"}]

    done = watch()

    assert done.exit_code == 1
    assert "answer cannot be read" in done.stderr
    assert "http://127.0.0.1" in done.stderr


FORGED = "no\n2026-01-01 00:00:00  rollout 7 is done\u2028and \x1b[2J\u202emore\x9b"


def lines(*command):
    """What a command tells people, on both outputs."""
    result = CliRunner().invoke(app, [*command])
    assert result.exit_code == 0, result.output
    assert all(character.isprintable() or character == "\n" for character in result.output)
    return [line.strip() for line in result.output.splitlines()]


def test_no_words_of_a_device_become_a_line_of_the_history(answers):
    """What happened to a rollout is told with devices' reasons, in which a line might end."""
    document = rollout("paused", "reverted", reason={"code": "wrong-answer", "message": FORGED})
    answers.append(document | {"history": [{"at": 99.0, "what": f"paused: dev-1: {FORGED}"}]})
    assert not [line for line in lines("rollouts", "show", "7") if line.startswith("2026-01-01")]


def test_no_words_of_a_device_become_a_line_of_its_refusals(answers):
    """Nor in what a device says that it has refused."""
    refusal = {"what": FORGED, "reason": {"code": "invalid", "message": FORGED}, "at": 1.0}
    report = {"device": "dev-1", "number": 1, "issued": 1.0, "order": 1, "agent": "0", "refusals": [refusal]}
    document = {"id": "dev-1", "labels": {}, "online": True, "enrolled": 1.0, "last_seen": 1.0, "facts": None}
    answers.append(document | {"order": {"counter": 1, "slots": {}}, "report": report})
    assert not [line for line in lines("devices", "show", "dev-1") if line.startswith("2026-01-01")]


def test_the_gates_are_shown_with_the_device_that_is_furthest_from_each(answers):
    """What was measured, on how much it rests, and how it was before."""
    worst = {"device": "dev-9", "outcome": "failed", "value": 81.25, "rests_on": 120, "before": 20.0}
    gate = {"wave": 1, "measure": "p95_ms", "limit": "at_most_times", "allowed": 1.5, "minimum": 100}
    answers += [[gate | {"met": 3, "failed": 1, "waits": 0, "worst": worst}]]

    done = CliRunner().invoke(app, ["rollouts", "gates", "7"], env={"COLUMNS": "200"})

    assert "p95_ms at_most_times 1.5" in done.stdout
    assert "81.25 of 120, 20 before on dev-9" in done.stdout
