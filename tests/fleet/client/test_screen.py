"""What people see: counts as counts, digests that do not break rows, and values that can be copied whole."""

import io

import pytest
from rich.console import Console

from fleet.client.screen import Counted, Screen

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.fixture
def terminal():
    """A screen on a terminal of 60 columns."""
    screen = Screen(as_json=False)
    screen.out = Console(file=io.StringIO(), force_terminal=True, width=60, color_system=None)
    return screen


def test_a_digest_on_a_terminal_is_short_in_tables(terminal):
    """A row of a list stays one line; elsewhere the digest is whole."""
    assert terminal.digest(DIGEST) == DIGEST[:19]
    assert Screen(as_json=False).digest(DIGEST) == DIGEST


def test_a_long_value_is_written_in_one_piece(terminal):
    """What a terminal breaks at its edge is copied as one line."""
    terminal.fields([("digest", DIGEST), ("empty", ""), ("state", "[draft]")])

    assert terminal.out.file.getvalue().splitlines() == [f"digest  {DIGEST}", "state   [draft]"]


def test_samples_are_counted_and_bytes_measured(monkeypatch):
    """Three samples are 3, not 3 bytes."""
    screen = Screen(as_json=False)
    screen.err = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)

    with screen.progress() as step:
        step(Counted("samples"), 2, 3)
        step("uploading", 2048, 4096)

    shown = screen.err.file.getvalue()
    assert "2/3" in shown
    assert "2.0/4.1 kB" in shown
