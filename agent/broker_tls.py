"""How this device shows who it is, and knows its broker and its fleet server: mutual TLS."""

import ssl
from pathlib import Path

from agent.identity import CA, CERTIFICATE, KEY, Identity
from modules.errors import BadSettings


def broker_context(identity: Identity, folder: Path) -> ssl.SSLContext:
    """For the session and its diagnosis: the broker is believed under the authorities that the bundle named for it.

    Raises:
        BadSettings: as :func:`mutual`.
    """
    return mutual(folder, authorities=identity.broker.ca)


def mutual(folder: Path, *, authorities: str = "") -> ssl.SSLContext:
    """Mutual TLS, version 1.2 or newer, with the other side believed under these authorities, else the fleet's own CA.

    Raises:
        BadSettings: certificate, key or authorities cannot be read or do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if authorities:
            context.load_verify_locations(cadata=authorities)
        else:
            context.load_verify_locations(cafile=folder / CA)
        context.load_cert_chain(folder / CERTIFICATE, folder / KEY)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise BadSettings(
            f"the files for TLS cannot be used: {error}", element=str(folder), remedy="enrol again"
        ) from error
    return context
