"""Who may ask an endpoint: bearers of a key, or of a token that has not expired.

The file is read again when it changes, so a key is renewed without a restart::

    {"keys": ["primary", "secondary"], "token_secret": "base64"}

``"open": true`` lets anybody score, and ``"cors_origins": ["https://..."]`` names the web pages that may read the
answers (``*``: all). ``"devices": {"ca": "PEM", "revoked": ["serial number"], "only": ["name"]}`` lets in who has a
certificate that this authority gave to a device, over TLS, if it is one of those; only the gateway does.
"""

import hmac
import logging
import time
from pathlib import Path
from typing import Final

import msgspec

from modules import access_tokens
from modules.canonical import UNREADABLE
from modules.endpoint import looks
from modules.endpoint.stamp import Stamp, stamp
from modules.errors import BadSettings, Untrusted

log = logging.getLogger(__name__)

MIN_KEY: Final = 16
_BEARER: Final = b"bearer "


class DeviceCertificates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose certificates let a device in, and which of them hold no more, by serial number in hexadecimal.

    ``only`` are the names of the devices that come in; None: all of the fleet's.
    """

    ca: str
    revoked: frozenset[str] = frozenset()
    only: frozenset[str] | None = None


class _Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keys: tuple[str, ...] = ()
    token_secret: bytes = b""
    open: bool = False
    cors_origins: tuple[str, ...] = ()
    devices: DeviceCertificates | None = None


class EndpointKeys:
    """The keys in a file.

    Attributes:
        open: anybody may score.
        origins: the web pages that may read the answers.
        devices: whose certificates let devices in; None: none do.

    Raises:
        BadSettings: it cannot be read, or has no key that is long enough.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stamp: Stamp | None = None
        self._keys: tuple[bytes, ...] = ()
        self._secret = b""
        self.open = False
        self.origins: frozenset[str] = frozenset()
        self.devices: DeviceCertificates | None = None
        self._read()

    def refresh(self) -> None:
        """Read the file again if it has changed; what it held stays in force if it cannot be used."""
        try:
            if stamp(self._file) != self._stamp:
                self._read()
                log.info("the keys in %s are in force", self._file.name)
        except (OSError, BadSettings) as error:
            log.error("the old keys stay in force: %s", error)  # noqa: TRY400 - a defect of the file, not of ours

    def check(self, authorization: bytes) -> None:
        """Let in whoever sends this header field ``Authorization``; empty where there is none.

        Raises:
            Untrusted: it is no key and no token of this endpoint, or one that has expired.
        """
        if authorization[: len(_BEARER)].lower() != _BEARER:
            raise Untrusted("send a key or a token: Authorization: Bearer ...")
        bearer = authorization[len(_BEARER) :].strip()
        # Every key is compared, so that the time tells nothing about which one came close.
        if sum(hmac.compare_digest(key, bearer) for key in self._keys):
            return
        if not self._secret:
            raise Untrusted("this is not a key of this endpoint")
        access_tokens.check(self._secret, bearer.decode("latin-1"), now=time.time())

    def check_look(self, shown: bytes) -> None:
        """Let in whoever only wants to see the index, and shows this.

        Raises:
            Untrusted: it was not made with the keys of this endpoint, or has expired.
        """
        looks.check(self._keys, shown, now=time.time())

    def _read(self) -> None:
        try:
            seen = stamp(self._file)
            found = msgspec.json.decode(self._file.read_bytes(), type=_Keys)
        except (OSError, *UNREADABLE) as error:
            raise BadSettings(str(error), element=str(self._file), remedy='write {"keys": ["..."]}') from error
        if not found.keys and not found.token_secret:
            raise BadSettings("there is no key in it", element=str(self._file))
        if any(len(key) < MIN_KEY for key in found.keys):
            raise BadSettings(f"a key is shorter than {MIN_KEY} characters", element=str(self._file))
        if found.token_secret and len(found.token_secret) < access_tokens.MIN_SECRET:
            raise BadSettings(f"token_secret is shorter than {access_tokens.MIN_SECRET} bytes", element=str(self._file))
        self._stamp, self._secret = seen, found.token_secret
        self._keys = tuple(key.encode() for key in found.keys)
        self.open, self.origins, self.devices = found.open, frozenset(found.cors_origins), found.devices
