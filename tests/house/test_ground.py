"""The ground that conftest gives every test, tried on tests that break its rules."""

import os
import subprocess
import sys

import pytest

from tests.house.tree import ROOT


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
            timeout=60,
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
