"""What this server can see of its broker by itself: is it there, whom does it let in, are its rules ours.

It looks from outside, as a stranger, and reads the rules where they lie on this machine. Whether a broker enforces
them is tried with devices' certificates: ``edgefleet broker check``.
"""

import socket
import ssl
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509

from fleet.authority import read_authorities
from fleet.broker_config import access_rules
from fleet.doors import Place, enters, enters_plain
from fleet.folder import Folder
from fleet.settings import Settings

WITHIN_S: Final = 5.0
_STRANGER: Final = "edgefleet-broker-look"
_PROBES: Final = "edgefleet-fleet broker-probes FOLDER, then: edgefleet broker check FOLDER"


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at: ``ok`` is None where it could not be seen from here; ``says`` is a sentence.

    ``ends`` is when the certificate that was shown ends, in Unix seconds.
    """

    name: str
    ok: bool | None
    says: str
    ends: float | None = None


def look(settings: Settings, *, session: str, connected: bool) -> list[Look]:
    """Everything, in the order in which one would mend it; connects to both listeners. Blocking.

    Args:
        settings: where the broker is.
        session: what this server says of its own session.
        connected: whether it has one.
    """
    folder = Folder(settings.data)
    ca = settings.broker_ca or folder.ca
    service_host = settings.broker_service_host or settings.broker_host
    return [
        Look(name="the server's session", ok=connected, says=session),
        *_listener("devices' listener", Place(settings.broker_host, settings.broker_port, ca)),
        *_listener("services' listener", Place(service_host, settings.broker_service_port, ca)),
        _rules(folder, settings.broker_prefix),
    ]


def _listener(name: str, place: Place) -> list[Look]:
    where = f"{place.host}:{place.port}"
    try:
        context = ssl.create_default_context(cadata=read_authorities(place.ca))
        with (
            socket.create_connection((place.host, place.port), WITHIN_S) as plain,
            context.wrap_socket(plain, server_hostname=place.host) as secure,
        ):
            version, shown = secure.version(), secure.getpeercert(binary_form=True)
    except ssl.SSLCertVerificationError as error:
        says = f"{where} shows a certificate that devices refuse: {error.verify_message}"
        return [Look(name=name, ok=False, says=says)]
    except OSError as error:  # ssl.SSLError is one
        return [Look(name=name, ok=False, says=f"{where} cannot be reached: {error.strerror or error}")]
    ends = x509.load_der_x509_certificate(shown or b"").not_valid_after_utc.timestamp()
    inside = enters(place, _STRANGER)
    plainly = enters_plain(place, _STRANGER)
    closed = "lets in who has no certificate" if inside else "lets in nobody without a certificate"
    over = "speaks without TLS, too" if plainly else "speaks TLS alone"
    return [
        Look(name=name, ok=True, says=f"{where} answers with {version}", ends=ends),
        Look(name=f"{name}: certificates", ok=not inside, says=f"{where} {closed}"),
        Look(name=f"{name}: TLS", ok=not plainly, says=f"{where} {over}"),
    ]


def _rules(folder: Folder, prefix: str) -> Look:
    name = "access rules"
    if not folder.broker_place.exists():
        says = f"the broker is on another machine, where they cannot be read; try them: {_PROBES}"
        return Look(name=name, ok=None, says=says)
    place = Path(folder.broker_place.read_text(encoding="utf-8").strip())
    for file, ours in access_rules(prefix).items():
        try:
            same = (place / file).read_text(encoding="utf-8") == ours
        except OSError as error:
            says = f"{place / file} cannot be read ({error.strerror}); try them: {_PROBES}"
            return Look(name=name, ok=None, says=says)
        if not same:
            says = f"{place / file} is not what this version writes; write it anew: edgefleet-fleet broker-config"
            return Look(name=name, ok=False, says=says)
    return Look(name=name, ok=True, says=f"those in {place} are this version's own")
