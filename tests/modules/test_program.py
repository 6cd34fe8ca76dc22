"""No program of ours ends in a traceback at a shell: closed streams, full disks, lost readers, missing extras."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from modules import __version__
from tests.parts.pace import stretched
from tests.parts.warm import ROOT

PROGRAMS = {
    "edgefleet": ("edgefleet", "client"),
    "edgefleet-agent": ("edgefleet_agent", "agent"),
    "edgefleet-gateway": ("edgefleet_gateway", "agent"),
    "edgefleet-fleet": ("edgefleet_fleet", "fleet"),
}
# How each program is started, and its name in what it says of itself.
STARTED = {
    **{f"from modules.program import {function} as it; it()": name for name, (function, _) in PROGRAMS.items()},
    **{
        f"import runpy; runpy.run_module('{module}', run_name='__main__', alter_sys=True)": name
        for module, name in {
            "fleet.client": "edgefleet",
            "agent": "edgefleet-agent",
            "agent.gateway": "edgefleet-gateway",
            "fleet": "edgefleet-fleet",
            "hardware": "hardware",
            "modules.scoring": "edgefleet-scoring",
            "deploy.demo": "demo",
        }.items()
    },
}
SAYS = "from modules.program import run; run('it', lambda: print('x' * 100_000))"


def shell(code, redirection="", *options):
    """A program in Python, started by a shell with some redirection."""
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, *options]
    return subprocess.run(
        [*command, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=stretched(60), check=False
    )


@pytest.mark.parametrize("lines", [1, 100_000], ids=["in the last flush", "while it prints"])
def test_a_reader_that_goes_away_ends_it_by_the_usual_signal(lines):
    """``| head`` is no error: not a word, and the status that a shell gives to a program ended by SIGPIPE."""
    code = (
        "import sys; from modules.program import run\n"
        f"run('it', lambda: [print(sys.stdin.read()) for _ in range({lines})] and 0)"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        program.stdout.close()
        program.stdin.write("words")
        program.stdin.close()
        said = program.stderr.read()

    assert program.returncode == -signal.SIGPIPE
    assert said == ""


@pytest.mark.parametrize(
    "unbuffered", [pytest.param("", marks=pytest.mark.long, id="in the last flush"), pytest.param("1", id="at once")]
)
@pytest.mark.parametrize(
    "start",
    # Both ways of starting a program; the others wait for the long run.
    [one if place % 4 == 0 else pytest.param(one, marks=pytest.mark.long) for place, one in enumerate(STARTED)],
    ids=lambda start: start.split()[-3 if "runpy" in start else 3].strip("(',"),
)
def test_help_that_nobody_reads_or_that_cannot_be_written(start, unbuffered):
    """``--help | true`` ends every program by the usual signal; ``--help >/dev/full`` is told, and status 1."""
    code = f"import sys; sys.argv[1:] = ['--help']; {start}"
    command = [sys.executable, "-c", code]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    reading, writing = os.pipe()
    os.close(reading)

    unread = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=stretched(60),
        check=False,
    )
    with Path("/dev/full").open("w") as full:
        unwritten = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=stretched(60),
            check=False,
        )
    os.close(writing)

    assert (unread.returncode, unread.stderr) == (-signal.SIGPIPE, "")
    assert unwritten.returncode == 1
    assert unwritten.stderr == f"{STARTED[start]}: the output cannot be written: No space left on device\n"


def test_a_program_that_served_without_a_reader_of_its_log_has_not_failed():
    """What runs for months does not take a lost log for its own end."""
    code = (
        "import logging; from modules.program import run\n"
        "logging.raiseExceptions = False\n"
        "def main(): logging.basicConfig(); logging.warning('words'); print('served')\n"
        "run('it', main)"
    )
    reading, writing = os.pipe()
    os.close(reading)

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=writing,
        timeout=stretched(60),
        check=False,
    )
    os.close(writing)

    assert (done.returncode, done.stdout) == (0, b"served\n")


def test_another_pipe_that_ends_is_an_error_as_ever():
    """A connection that breaks is not taken for the reader of the output."""
    code = (
        "from modules.program import run\ndef main(): raise BrokenPipeError(32, 'the server hung up')\nrun('it', main)"
    )

    done = shell(code)

    assert done.returncode == 1
    assert "the server hung up" in done.stderr


@pytest.mark.parametrize(
    ("redirection", "why"),
    [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor"), ("<&- >&-", "Bad file descriptor")],
)
def test_output_that_cannot_be_written_is_one_line_and_status_1(redirection, why):
    """A full disk and a closed descriptor are told, and seen in the status."""
    done = shell(SAYS, redirection)

    assert (done.returncode, done.stderr) == (1, f"it: the output cannot be written: {why}\n")


def test_without_standard_error_it_works_as_ever():
    """Who wants no words gets none, and none lands in a file that was opened since."""
    code = (
        "import sys; from modules.program import run\n"
        "def main(): sys.stderr.write('words'); print(open('/dev/null').fileno() > 2); return 3\n"
        "run('it', main)"
    )

    done = shell(code, "2>&-")

    assert (done.returncode, done.stdout) == (3, "True\n")


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_says_its_version(name):
    """``--version`` needs nothing that is not installed with every part."""
    code = f"import sys; sys.argv[1:] = ['--version']; from modules.program import {PROGRAMS[name][0]} as it; it()"

    done = shell(code, "", "-S")

    assert (done.returncode, done.stdout) == (0, f"{name} {__version__}\n")


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_not_installed_is_named_with_its_extra(name):
    """Without its packages a program says in words what to install."""
    function, extra = PROGRAMS[name]

    done = shell(f"from modules.program import {function} as it; it()", "", "-S")

    assert done.returncode == 1
    assert "is not installed" in done.stderr
    assert f"edgefleet[{extra}]" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_disk_that_takes_no_more_is_told_with_what_to_do():
    """Wherever a program writes a file; its output works, and says so."""
    code = (
        "from modules.program import run\n"
        "def main():\n"
        "    print('begun')\n"
        "    with open('/dev/full', 'w') as file: file.write('words')\n"
        "run('it', main)"
    )

    done = shell(code)

    assert (done.returncode, done.stdout) == (1, "begun\n")
    assert done.stderr.startswith("it: No space left on device\n  what to do: make room")


@pytest.mark.parametrize("main", ["{}", "atexit.register(lambda: {}) and 0"], ids=["at work", "on its way out"])
def test_ctrl_c_ends_it_without_a_word(main):
    """Wherever a program is, and whatever it does not catch itself: no traceback, and the signal itself, which a shell
    shows as 130 and which ends a loop around the program."""
    told = main.format("print('on', flush=True) or time.sleep(60)")
    code = f"import atexit, time; from modules.program import run\nrun('it', lambda: {told})"

    assert ended(code, signal.SIGINT) == (-signal.SIGINT, "")


def ended(code, *signals):
    """How a program ends that gets these signals once it has said that it is at work."""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout.readline() == "on\n"
        for one in signals:
            program.send_signal(one)
        said = program.stderr.read()
    return program.returncode, said


WITH_A_FOLDER = (
    "import pathlib, signal, sys, tempfile, time; from modules.program import run, unwind\n"
    "def main():\n"
    "    {}\n"
    "    unwind()\n"
    "    with tempfile.TemporaryDirectory(dir={!r}):\n"
    "        print('on', flush=True); time.sleep(60)\n"
    "run('it', main)"
)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_program_that_is_told_to_end_takes_away_what_it_has_begun(tmp_path, number):
    """``timeout``, a CI job that is cancelled, a terminal that closes: as Ctrl-C, and then by that signal."""
    assert ended(WITH_A_FOLDER.format("pass", str(tmp_path)), number) == (-number, "")
    assert list(tmp_path.iterdir()) == []


def test_what_is_started_to_outlive_its_terminal_does(tmp_path):
    """``nohup``: a signal that is ignored stays so."""
    ignoring = "signal.signal(signal.SIGHUP, signal.SIG_IGN)"

    assert ended(WITH_A_FOLDER.format(ignoring, str(tmp_path)), signal.SIGHUP, signal.SIGTERM)[0] == -signal.SIGTERM


def test_letters_that_a_terminal_lacks_end_no_program():
    """In a locale that is not UTF-8 they are shown by their numbers, as in Python's own errors."""
    code = "from modules.program import run; run('it', lambda: print('gr\\xf6\\xdfe \\udce9'))"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "gr\\xf6\\xdfe \\udce9\n", "")
