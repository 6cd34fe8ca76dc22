"""What failed in the suite is run once more, alone: each test here runs pytest on a file, and then that."""

import os
import subprocess
import sys

import pytest

from tests.house.tree import ROOT

CONFTEST = "from tests.conftest import pytest_collection_finish, pytest_runtest_makereport\n"
# Until the test is over, whatever is collected parses source, as a warning with its traceback does.
PARSES = """
import ast, gc

going_on = True

class Collected:
    def __init__(self):
        self.itself = self

    def __del__(self):
        ast.parse("a + b")
        if going_on:
            Collected()

def test_one():
    Collected()
    gc.set_threshold(1)
    assert False

def teardown_function():
    global going_on
    going_on = False
    gc.set_threshold(700)
    gc.collect()
"""
# Fails in the suite, and passes from the second time on.
UNSTEADY = """
import pathlib, pytest

@pytest.mark.parametrize("number", range({count}))
def test_one(number):
    before = pathlib.Path(__file__).with_name(f"ran-{{number}}")
    ran = before.exists()
    before.touch()
    assert ran or number >= {unsteady}
"""
BROKEN = "def test_two():\n    assert False\n"


@pytest.fixture
def suite(tmp_path):
    """Runs a file of tests, then the failed ones alone; returns the second exit status and what was printed."""

    def ran(text, *arguments):
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        (tmp_path / "conftest.py").write_text(CONFTEST)
        (tmp_path / "test_it.py").write_text(text)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))}
        environment |= {"PYTHONPATH": str(ROOT), "COVERAGE_FILE": str(tmp_path / "coverage")}

        def run(*command):
            return subprocess.run(
                [sys.executable, "-W", "ignore", "-m", *command],
                cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
            )  # fmt: skip

        first = run("pytest", "-q", "--no-cov", "--cache-clear", *arguments)
        assert first.returncode == pytest.ExitCode.TESTS_FAILED, first.stdout
        done = run("tests.parts.again")
        return done.returncode, done.stdout

    return ran


@pytest.mark.long
def test_one_in_four_hundred_may_be_unsteady_and_is_named(suite):
    """Of two thousand tests five fail once: the run is good, and says which they are; workers count as one run."""
    status, said = suite(UNSTEADY.format(count=2000, unsteady=5), "-n", "2")

    assert status == 0, said
    named = [line for line in said.splitlines() if line.startswith("UNSTEADY")]
    assert named == [
        f"UNSTEADY: test_it.py::test_one[{number}] failed in the suite and passed alone" for number in range(5)
    ]


@pytest.mark.long
def test_more_than_that_are_no_accident(suite):
    """Six of two thousand: none is tried again."""
    status, said = suite(UNSTEADY.format(count=2000, unsteady=6))

    assert status == 1
    assert "UNSTEADY" not in said


@pytest.mark.long
def test_of_a_short_run_three_may_be(suite):
    """One in four hundred of ten would be none."""
    assert suite(UNSTEADY.format(count=10, unsteady=3))[0] == 0


def test_what_fails_alone_fails_the_run(suite):
    """It stays so whatever else has passed."""
    status, said = suite(UNSTEADY.format(count=10, unsteady=1) + BROKEN)

    assert status == 1
    assert "UNSTEADY" not in said


@pytest.mark.long
def test_a_failure_is_told_whatever_is_collected_meanwhile(suite):
    """A warning of something unclosed, in the middle of a report, ended the whole run once."""
    status, said = suite(PARSES)

    assert status == 1
    assert "1 failed" in said
