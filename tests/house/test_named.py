"""The search for what must be documented finds what there is."""

from tests.house import named


def test_finds_error_codes():
    """The codes of the error tree are found, its root's aside."""
    assert {"link-lost", "untrusted", "no-space"} <= named.error_codes()
    assert "error" not in named.error_codes()


def test_finds_topics():
    """Topics are found by their fixed levels."""
    assert {"down/order", "up/report", "up/blob/get", "down/cmd", "down/ack"} <= named.topics()
