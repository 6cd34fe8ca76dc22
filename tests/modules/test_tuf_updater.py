"""python-tuf works without the HTTP client that it brings."""

import pytest

from modules.tuf_updater import Updater


def test_no_fetcher(tmp_path):
    """An updater that would use python-tuf's own HTTP client says what is missing, instead of opening connections."""
    with pytest.raises(RuntimeError, match="give the updater a fetcher"):
        Updater(str(tmp_path), "https://127.0.0.1/", bootstrap=b"")
