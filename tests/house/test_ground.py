"""The ground that conftest gives every test, tried on tests that break its rules."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import conftest
from tests.house.tree import ROOT
from tests.parts.pace import stretched


@pytest.fixture
def outcome(tmp_path):
    """Runs one test file on the same ground; returns pytest's output."""

    def run(source, **environment):
        path = tmp_path / "test_tried.py"
        path.write_text(f"import asyncio, os, pytest\n\n{source}")
        command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-c", str(ROOT / "pyproject.toml")]
        command += ["-p", "no:cacheprovider", "--no-header", "-q", str(path)]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=stretched(60),
            check=False,
        )
        return done.stdout + done.stderr

    return run


NEEDS_ENGINE = "@pytest.mark.needs('docker')\ndef test_it():\n    pass\n"
NOWHERE = "unix:///nowhere/docker.sock"


def test_missing_part_is_a_skip_that_says_what_to_install(outcome):
    """A test whose real part is missing is skipped, and the reason says how to get the part."""
    said = outcome(NEEDS_ENGINE, DOCKER_HOST=NOWHERE, EDGEFLEET_REQUIRE="")

    assert "1 skipped" in said
    assert "start a container engine" in said


def test_missing_part_is_a_failure_where_all_are_required(outcome):
    """Where every part is required, a missing one fails the test with the same reason."""
    said = outcome(NEEDS_ENGINE, DOCKER_HOST=NOWHERE, EDGEFLEET_REQUIRE="all")

    assert "1 error" in said
    assert "start a container engine" in said


def test_unknown_part_is_a_mistake(outcome):
    """A test cannot ask for a part that nobody knows how to look for."""
    assert "needs 'dokcer', which is none of" in outcome("@pytest.mark.needs('dokcer')\ndef test_it():\n    pass\n")


def test_settings_of_the_person_do_not_reach_tests(outcome):
    """A test does not see EDGEFLEET_ settings of the shell that it was started from."""
    said = outcome("def test_it():\n    assert 'EDGEFLEET_URL' not in os.environ\n", EDGEFLEET_URL="https://elsewhere")

    assert "1 passed" in said


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("await asyncio.sleep(0)", "tasks outlive the test: straggler"),
        ("task.cancel()", "1 passed"),
        ("await asyncio.wait([task], timeout=0)\n    task.cancel()", "1 passed"),
    ],
)
def test_no_task_outlives_its_test(outcome, rest, said):
    """A test that leaves a task running fails by the task's name; one that ends it passes."""
    body = f"    task = asyncio.create_task(asyncio.Event().wait(), name='straggler')\n    {rest}\n"

    assert said in outcome(f"async def test_it():\n{body}")


@pytest.mark.parametrize("own", ["", "@pytest.mark.timeout(300)\n"], ids=["the suite's limit", "a limit of its own"])
def test_what_a_test_may_take_is_for_the_usual_machine(outcome, own):
    """A slow machine has longer, and so has one on which several workers share the cores."""
    usual = 300 if own else 120
    body = f"    assert request.node.get_closest_marker('timeout').args[0] >= 3 * {usual}\n"

    assert "1 passed" in outcome(f"{own}def test_it(request):\n{body}", PYTEST_XDIST_WORKER_COUNT="3")


@pytest.mark.parametrize(
    ("file", "measured"),
    [("fleet/test_api.py", True), ("journeys/test_digits.py", False), ("attacks/rows/test_rows.py", False)],
)
def test_programs_of_whole_systems_are_not_measured(monkeypatch, file, measured):
    """Measuring takes almost half of their time; a program that another test starts is measured again."""
    monkeypatch.setenv("COVERAGE_PROCESS_CONFIG", "how")
    monkeypatch.setattr(conftest, "_measurement", lambda: "how")
    for path, has in ((ROOT / "tests" / file, measured), (Path(__file__), True)):
        conftest._measure(SimpleNamespace(path=path))

        assert ("COVERAGE_PROCESS_CONFIG" in os.environ) is has
