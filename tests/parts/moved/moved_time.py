"""Programs whose clock a test moves on, by years: with the time that OpenSSL and the broker see, too.

libfaketime gives what is started meanwhile the time that a file says: OpenSSL and mosquitto have no other port.
It moves the wall's clock alone. What a program waits by is moved where the program has a port: ``agent.py`` starts the
agent with such a clock, ``server.py`` the fleet server. The test's own process stays where it is.
"""

import ssl
import time
from pathlib import Path

import pytest

from tests.parts.presence import faketime

AGENT, SERVER = "tests.parts.moved.agent", "tests.parts.moved.server"
# X509_V_FLAG_NO_CHECK_TIME of OpenSSL.
_WHATEVER_DATE = 0x200000


class MovedTime:
    """``moved_s`` seconds later than it is, for every program that is started from now on."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self._file, self.moved_s = folder / "moved-by", 0
        self.advance(0)
        library = faketime()
        assert library is not None, "libfaketime is not installed: mark the test with needs('faketime')"
        for name, value in {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # Its remedy for an old libc ends each wait for Python's lock at once, over and over: most of a core.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
            "PYTHONPATH": str(Path(__file__).with_name("everywhere")),
        }.items():
            patch.setenv(name, value)
        # This process is not moved: it looks at everything of a certificate but its dates. The programs look at those.
        patch.setattr(ssl, "create_default_context", _for_any_date(ssl.create_default_context))

    def now(self) -> float:
        return time.time() + self.moved_s

    def advance(self, seconds: float) -> None:
        self.moved_s += round(seconds)
        draft = self._file.with_suffix(".new")
        draft.write_text(f"+{self.moved_s}\n")
        draft.replace(self._file)  # a program that reads it meanwhile gets the one or the other


def _for_any_date(make):
    def made(*arguments, **more):
        context = make(*arguments, **more)
        context.verify_flags |= _WHATEVER_DATE
        return context

    return made
