"""What reads like a failure, in the forms in which scripts return it, and what only looks a little like one."""

import pytest

from fleet.client.models.failed_answers import reads_like_failure


@pytest.mark.parametrize(
    "answer",
    [
        b'{"error": "bad input"}',
        b'{"result": [], "Error_Message": "no column age"}',
        b'{"status": "failed"}',
        b"\"could not convert string to float: 'a'\"",
        b'"{\\"error\\": \\"bad input\\"}"',
        b'{"result": "ValueError: wrong shape"}',
        b"\"'str' object has no attribute 'shape'\"",
        b'["error: no such model"]',
        b"Traceback (most recent call last):",
    ],
)
def test_failures(answer):
    """An error's key, an error's name, and the words of Python's usual errors are noticed."""
    assert reads_like_failure(answer)


@pytest.mark.parametrize(
    "answer",
    [
        b'{"y": [[1.0, 2.0]]}',
        b'{"error": null, "y": [1]}',
        b'{"error": 0, "y": 1}',
        b'{"squared_error": 0.2}',
        b'["setosa", "error"]',
        b'"a sentence about errors in forecasts"',
        b'{"status": "ok"}',
        b"7",
        b"\x89PNG\r\n",
    ],
)
def test_answers(answer):
    """Numbers, labels, and a key that says that there was no error are answers."""
    assert not reads_like_failure(answer)
