"""How this device shows who it is, and knows its broker and its fleet server: mutual TLS."""

import ssl
from pathlib import Path

from agent import identity as identities
from agent.identity import CA, Identity, Pair
from modules.errors import BadSettings


def broker_context(identity: Identity, folder: Path, *, pair: Pair | None = None) -> ssl.SSLContext:
    """For the session and its diagnosis: the broker is believed under the authorities that the bundle named for it.

    With another certificate than the present one where ``pair`` names it.

    Raises:
        BadSettings: as :func:`mutual`.
    """
    return mutual(folder, authorities=identity.broker.ca, pair=pair)


def mutual(folder: Path, *, authorities: str = "", pair: Pair | None = None) -> ssl.SSLContext:
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
        context.load_cert_chain(*(pair or identities.present(folder)))
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise BadSettings(
            f"the files for TLS cannot be used: {error}", element=str(folder), remedy="enrol again"
        ) from error
    return context
