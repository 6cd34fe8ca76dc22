"""Which fleet server this user works with: a config file that only they can read, and the environment above it."""

import os
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from fleet.client.new_file import replace_file
from modules import canonical
from modules.errors import BadSettings, Invalid

LIMIT: Final = 1 << 20
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_LOG_IN: Final = "run: edgefleet login URL --token TOKEN --ca FILE"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The server's address, the operator's token, and the PEM text of the CA that the server's certificate must have.

    Without ``ca`` the machine's own certificate authorities decide.
    """

    url: str
    token: str
    ca: str | None = None


def home() -> Path:
    """The folder of this user's configuration and workspace: ``EDGEFLEET_HOME``, or ``~/.config/edgefleet``.

    Raises:
        BadSettings: this user has no home folder.
    """
    named = os.environ.get("EDGEFLEET_HOME") or "~/.config/edgefleet"
    try:
        return Path(named).expanduser()
    except RuntimeError as error:
        remedy = "set EDGEFLEET_HOME to a folder that this user may write to"
        raise BadSettings("there is no such home folder", element=named, remedy=remedy) from error


def path() -> Path:
    return home() / "config.json"


def load() -> Config:
    """The configuration in force: the file's, with ``EDGEFLEET_URL``, ``EDGEFLEET_TOKEN``, ``EDGEFLEET_CA`` above it.

    ``EDGEFLEET_CA`` names a PEM file. A config file is not needed where the environment says all.

    Raises:
        BadSettings: no server is known, or the file or the address cannot be used.
    """
    stored = _stored()
    url = os.environ.get("EDGEFLEET_URL") or (stored.url if stored else "")
    token = os.environ.get("EDGEFLEET_TOKEN") or (stored.token if stored else "")
    if not url or not token:
        missing = "address" if not url else "token"
        raise BadSettings(f"no fleet server's {missing} is known", element=str(path()), remedy=_LOG_IN)
    ca_file = os.environ.get("EDGEFLEET_CA")
    ca = read_ca(Path(ca_file)) if ca_file else (stored.ca if stored else None)
    return Config(url=check_url(url), token=check_token(token), ca=ca)


def _stored() -> Config | None:
    file = path()
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadSettings(f"cannot be read: {error.strerror}", element=str(file), remedy=_LOG_IN) from error
    try:
        return canonical.decode(data, Config, limit=LIMIT, what=str(file))
    except Invalid as error:
        raise BadSettings(error.message, element=str(file), remedy=_LOG_IN) from error


def save(config: Config) -> Path:
    """Write the config file, readable by this user alone; replaced in one step."""
    file = path()
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    replace_file(file, canonical.encode(config))
    return file


def check_url(url: str) -> str:
    """The server's address without a trailing slash.

    Raises:
        BadSettings: no http(s) address, or one that would send the token in clear over a network.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"https", "http"} and bool(parts.hostname) and parts.port != 0 and not parts.username
    except ValueError:  # half an IPv6 address, or a port that is none
        usable = False
    if not usable or not url.isascii() or not url.isprintable() or " " in url:
        raise BadSettings("this is not a web address", element=url, remedy="write https://host:port")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise BadSettings("the token would travel in clear", element=url, remedy="use https://")
    return url.rstrip("/")


def on_this_machine(url: str) -> bool:
    """Whether the address is one that only this machine has."""
    return urlsplit(url).hostname in _LOOPBACK


def check_token(token: str) -> str:
    """The token without what was copied around it.

    Raises:
        BadSettings: it cannot be sent: tokens are letters, digits and signs of ASCII.
    """
    token = token.strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise BadSettings(
            "this is not a token: it has spaces, or letters that no token has", element="token",
            remedy="copy it again, from where the server or another operator wrote it",
        )  # fmt: skip
    return token


def read_ca(file: Path) -> str:
    """The PEM text of a CA file.

    Raises:
        BadSettings: it cannot be read or holds no certificate.
    """
    try:
        text = file.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"cannot be read: {error}", element=str(file), remedy="name the fleet's CA file") from error
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise BadSettings("there is no PEM certificate in it", element=str(file), remedy="name the fleet's CA file")
    return text
