"""How this device knows its broker, and shows who it is: one context for the session and for the diagnosis."""

import ssl
from pathlib import Path

from agent.identity import CA, CERTIFICATE, KEY, Identity
from modules.errors import BadSettings


def broker_context(identity: Identity, folder: Path) -> ssl.SSLContext:
    """Mutual TLS, version 1.2 or newer; the broker is believed under the authorities that the join bundle named for it.

    Raises:
        BadSettings: certificate, key or authorities cannot be read or do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if identity.broker.ca:
            context.load_verify_locations(cadata=identity.broker.ca)
        else:
            context.load_verify_locations(cafile=folder / CA)
        context.load_cert_chain(folder / CERTIFICATE, folder / KEY)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise BadSettings(
            f"the files for the broker's TLS cannot be used: {error}", element=str(folder), remedy="enrol again"
        ) from error
    return context
