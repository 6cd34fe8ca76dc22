"""Passwords: argon2id with the library's own parameters, and which of them nobody may choose.

One hash takes 64 MiB and some tenths of a second. Two are made at a time, few more wait for their turn, and others are
told to come again: whoever sends log-ins by the thousand neither fills the memory nor holds the server's threads.
"""

import base64
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from zxcvbn import zxcvbn

from fleet.refusals import Busy
from modules.errors import Invalid

SHORTEST: Final = 12
# Refused before anything is computed of it.
MOST_BYTES: Final = 1024
AT_ONCE: Final = 2
# Of the threads that answer requests, so many may wait for their turn, and for so long.
MAY_WAIT: Final = 8
WAIT_S: Final = 5.0
# Of 0 to 4, where 3 stands for a hundred million guesses and more.
_GOOD: Final = 3
# What the estimate reads of a long password; its time grows with the square.
_READ: Final = 64
_REMEDY: Final = "take four words that do not belong together, or what a password manager makes"


class Passwords:
    """Makes and checks hashes, a few at a time; how much work one is, the hasher says."""

    def __init__(
        self,
        hasher: PasswordHasher | None = None,
        *,
        at_once: int = AT_ONCE,
        may_wait: int = MAY_WAIT,
        wait_s: float = WAIT_S,
    ) -> None:
        self._hasher = hasher or PasswordHasher()
        self._turns = threading.BoundedSemaphore(at_once)
        self._places = threading.BoundedSemaphore(at_once + may_wait)
        self._wait_s = wait_s
        # What the password of somebody unknown is held against, so that it takes as long as anybody's.
        self._nobody = _of_no_password(self._hasher)

    def hashed(self, password: str) -> str:
        """What the database keeps of a password.

        Raises:
            Busy: as many are computed as may be, and as many wait.
        """
        with self._turn():
            return self._hasher.hash(password)

    def right(self, stored: str | None, password: str) -> bool:
        """Whether it is the password of this hash; without one it takes as long, and it is not.

        Raises:
            Invalid: it is too long to be anybody's.
            Busy: as many are computed as may be, and as many wait.
        """
        check_length(password)
        with self._turn():
            try:
                self._hasher.verify(stored or self._nobody, password)
            except (VerificationError, InvalidHashError):
                return False
        return stored is not None

    def renewed(self, stored: str, password: str) -> str | None:
        """The hash with today's parameters, where it was made with others."""
        return self.hashed(password) if self._hasher.check_needs_rehash(stored) else None

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise _busy()
        try:
            if not self._turns.acquire(timeout=self._wait_s):
                raise _busy()
            try:
                yield
            finally:
                self._turns.release()
        finally:
            self._places.release()


def _of_no_password(hasher: PasswordHasher) -> str:
    """A hash as this hasher makes them, but of random bytes: no password has it, and it costs nothing to make."""
    salt, digest = (
        base64.b64encode(secrets.token_bytes(length)).rstrip(b"=").decode()
        for length in (hasher.salt_len, hasher.hash_len)
    )
    work = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v=19${work}${salt}${digest}"


def _busy() -> Busy:
    return Busy("too many passwords are being checked", element="login", remedy="try again in some seconds")


def check_length(password: str) -> None:
    """Refuse what is longer than any password.

    Raises:
        Invalid: it is.
    """
    if len(password) > MOST_BYTES or len(password.encode()) > MOST_BYTES:
        raise Invalid(f"a password has at most {MOST_BYTES} bytes", element="password")


def check_choice(password: str, name: str) -> None:
    """Whether an operator of this name may choose a password.

    Raises:
        Invalid: it is too short or too long, or among those that are tried first: one that leaked often, the name, a
            row of keys, a date, or such things in a row.
    """
    check_length(password)
    if len(password) < SHORTEST:
        raise Invalid(f"a password has at least {SHORTEST} characters", element="password", remedy=_REMEDY)
    found = zxcvbn(password[:_READ], user_inputs=[name, "edgefleet"])
    if name.lower() in password.lower() or found["score"] < _GOOD:
        why = found["feedback"]["warning"] if found["score"] < _GOOD else "it has the operator's name in it"
        said = str(why).rstrip(".") or "it is guessed soon"
        raise Invalid(f"this password is not good enough: {said}", element="password", remedy=_REMEDY)


def made() -> str:
    """A random password to be given to somebody: 24 characters that are easily told apart."""
    letters = "abcdefghijkmnpqrstuvwxyzACDEFGHJKLMNPQRSTUVWXYZ2345679"
    return "-".join("".join(secrets.choice(letters) for _ in range(6)) for _ in range(4))
