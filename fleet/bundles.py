"""What an operator hands to devices so that they join: bundles with a token; claims for sites that only have MQTT."""

import datetime as dt
import secrets
from dataclasses import replace

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from sqlalchemy import Connection, select

from fleet import events, joins, tokens
from fleet.authority import Authority
from fleet.joins import Terms
from fleet.refusals import Missing, NameRemoved, NameTaken
from fleet.tables import devices
from modules.names import DeviceId
from modules.protocol.enrollment import Broker, ClaimBundle, JoinBundle
from modules.protocol.topics import CLAIM


class Bundles:
    """Makes them; the tokens and keys in them are nowhere else."""

    def __init__(
        self,
        authority: Authority,
        *,
        fleet: str,
        broker: Broker,
        fleet_ca: str = "",
        blob_url: str = "",
        approve: bool = False,
    ) -> None:
        self._authority, self._broker, self._approve = authority, broker, approve
        self._fleet, self._fleet_ca, self._blob_url = fleet, fleet_ca, blob_url

    def join(self, connection: Connection, now: float, terms: Terms, *, root: bytes) -> JoinBundle:
        """A bundle with a new token.

        Raises:
            Invalid: a label that no selector could name.
            Missing: a device is to be readmitted that never was.
        """
        _see(connection, terms)
        token = tokens.make()
        join = self._add(connection, now, terms, hash=tokens.hashed(token))
        if terms.readmit:
            kind, text = "readmission", f"join {join} lets another key take this name"
        else:
            kind, text = "join-made", f"join {join} lets {terms.uses} device{'s' if terms.uses > 1 else ''} in"
        events.record(connection, now, kind, text, device=terms.name, by=terms.by)
        return JoinBundle(
            fleet=self._fleet,
            broker=self._broker,
            ca=self._authority.pem,
            root=root,
            token=token,
            fleet_ca=self._fleet_ca,
            blob_url=self._blob_url,
        )

    def claim(self, connection: Connection, now: float, terms: Terms, *, device: DeviceId, root: bytes) -> ClaimBundle:
        """A claim for one device, with a certificate that can ask for that device's and do nothing else.

        Raises:
            Invalid: a label that no selector could name.
            NameTaken: there is such a device, and it is not said that it comes back with another key.
            NameRemoved: there was one, and that is not said.
            Missing: it is said, and there never was such a device.
        """
        mine = replace(terms, name=device, uses=1)
        _see(connection, mine)
        claim = secrets.token_hex(8)
        issued = self._authority.service(f"{CLAIM}{claim}", life=dt.timedelta(seconds=terms.life_s))
        certificate = x509.load_pem_x509_certificate(issued.certificate)
        public = certificate.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        known = {"claim_key": public.decode(), "claim_serial": f"{certificate.serial_number:x}"}
        join = self._add(connection, now, mine, claim=claim, claim_state=joins.OPEN, **known)
        text = f"claim {join} lets this device join over MQTT"
        events.record(connection, now, "claim-made", text, device=device, by=terms.by)
        return ClaimBundle(
            claim=claim,
            device=device,
            fleet=self._fleet,
            broker=self._broker,
            ca=self._authority.pem,
            root=root,
            certificate=issued.certificate.decode(),
            key=issued.key.decode(),
            blob_url=self._blob_url,
        )

    def _add(self, connection: Connection, now: float, terms: Terms, **more: str) -> int:
        approve = self._approve if terms.approve is None else terms.approve
        return joins.add(connection, now, terms, approve=approve, **more)


def _see(connection: Connection, terms: Terms) -> None:
    """That the name is free, or that there is somebody to readmit."""
    name = terms.name
    if name is None:
        return
    known = connection.execute(select(devices.c.removed).where(devices.c.id == name)).one_or_none()
    if terms.readmit and known is None:
        raise Missing("there was never such a device", element=name, remedy="it joins with any bundle, or with a claim")
    if not terms.readmit and known is not None:
        kind, said = (NameTaken, "there is") if known.removed is None else (NameRemoved, "there was")
        raise kind(
            f"{said} a device of this name",
            element=name,
            remedy="where it comes back with another key, say so: --readmit; else choose another name",
        )
