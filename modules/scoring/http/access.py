"""Who may ask, where the server listens on TCP: bearers of a key, or of a token that has not expired.

The file is read again when it changes, so a key is renewed without a restart::

    {"keys": ["primary", "secondary"], "token_secret": "base64"}
"""

import hmac
import logging
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from modules import access_tokens
from modules.errors import BadSettings, Untrusted
from modules.scoring.http.replies import Header, message

log = logging.getLogger(__name__)

# What load balancers and orchestrators ask without a key.
_SERVICE: Final = b"/inference.GRPCInferenceService/"
OPEN: Final = frozenset(
    {b"/", b"/v2/health/live", b"/v2/health/ready", _SERVICE + b"ServerLive", _SERVICE + b"ServerReady"}
)
MIN_KEY: Final = 16
_BEARER: Final = b"bearer "
_CHALLENGE: Final[tuple[Header, ...]] = ((b"www-authenticate", b"Bearer"),)


class _Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keys: tuple[str, ...] = ()
    token_secret: bytes = b""


class Access:
    """The keys in a file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stamp = 0
        self._keys: tuple[bytes, ...] = ()
        self._secret = b""
        self._read()

    def refresh(self) -> None:
        """Read the file again if it has changed; what it held stays in force if it cannot be used."""
        try:
            if self._file.stat().st_mtime_ns != self._stamp:
                self._read()
                log.info("the keys in %s are in force", self._file.name)
        except (OSError, BadSettings) as error:
            log.error("the old keys stay in force: %s", error)  # noqa: TRY400 - a defect of the file, not of ours

    def check(self, url: bytes, headers: Iterable[Header]) -> None:
        """Let a request in by its head.

        Raises:
            Reply: 401, which says what is missing.
        """
        if url.partition(b"?")[0] in OPEN:
            return
        given = next((value for name, value in headers if name == b"authorization"), b"")
        if given[: len(_BEARER)].lower() != _BEARER:
            raise message(401, "send a key or a token: Authorization: Bearer ...", _CHALLENGE)
        bearer = given[len(_BEARER) :].strip()
        # Every key is compared, so that the time tells nothing about which one came close.
        if sum(hmac.compare_digest(key, bearer) for key in self._keys):
            return
        if not self._secret:
            raise message(401, "this is not a key of this endpoint", _CHALLENGE)
        try:
            access_tokens.check(self._secret, bearer.decode("latin-1"), now=time.time())
        except Untrusted as error:
            raise message(401, str(error), _CHALLENGE) from error

    def _read(self) -> None:
        stamp = self._file.stat().st_mtime_ns
        try:
            found = msgspec.json.decode(self._file.read_bytes(), type=_Keys)
        except (OSError, msgspec.DecodeError) as error:
            raise BadSettings(str(error), element=str(self._file), remedy='write {"keys": ["..."]}') from error
        if not found.keys and not found.token_secret:
            raise BadSettings("there is no key in it", element=str(self._file))
        if any(len(key) < MIN_KEY for key in found.keys):
            raise BadSettings(f"a key is shorter than {MIN_KEY} characters", element=str(self._file))
        if found.token_secret and len(found.token_secret) < access_tokens.MIN_SECRET:
            raise BadSettings(f"token_secret is shorter than {access_tokens.MIN_SECRET} bytes", element=str(self._file))
        self._stamp, self._secret = stamp, found.token_secret
        self._keys = tuple(key.encode() for key in found.keys)
