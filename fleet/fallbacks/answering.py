"""What orders say of fallbacks: the policies', where the rollout says nothing of its own; and whom they cover."""

from collections.abc import Collection, Sequence
from typing import Final

import msgspec
from sqlalchemy import Connection, select

from fleet.fallbacks import policies
from fleet.fallbacks.policies import Known
from fleet.registry import Registry
from fleet.selectors import Labels
from fleet.tables import devices
from fleet.targets import standing_in
from fleet.targets.endpoints import Endpoints
from modules.adjustable import check_data, check_fallback
from modules.errors import Refused
from modules.manifest import Manifest
from modules.names import DeviceId, Digest, ModuleRef, Slug
from modules.protocol import order as order_wire
from modules.protocol.facts import FALLBACKS, Facts
from modules.protocol.order import Cloud, SlotOrder
from modules.signing import unverified

UNPLACEABLE: Final = "unplaceable"
# What clients of a device are told.
SPENT: Final = "the money that its endpoint in the cloud may cost today is spent; it is asked again from 00:00 UTC on"


def has_own_terms(document: SlotOrder) -> bool:
    """Whether a rollout has said itself who answers, or that nobody does; then no policy does."""
    return document.elsewhere is not None or document.alone is True


def cloud_of(connection: Connection, one: Known, module: ModuleRef, manifest: Manifest, authority: str = "") -> Cloud:
    """What an order for a module says by a policy.

    Raises:
        Refused: nobody can be asked there now, or the module's publisher does not let its data go there.
    """
    cloud = standing_in.placed(connection, module, one.policy.fallback, one.policy.terms, authority=authority)
    check_data(manifest, cloud.region)
    check_fallback(cloud.url, manifest.fallback_hosts)
    return cloud


class Completing:
    """Completes orders with the policies' fallbacks, and with the tokens that devices need there; for one transaction.

    Args:
        wished: the endpoints.
        registry: of signed modules.
        connection: of the transaction.
        now: Unix seconds.
        chosen: whose orders are made.
    """

    def __init__(
        self, wished: Endpoints, registry: Registry, connection: Connection, now: float, chosen: Sequence[DeviceId]
    ) -> None:
        self._registry, self._connection, self._now = registry, connection, now
        self._authority = wished.authority
        self._tokens = standing_in.Tokens(wished, connection, now, chosen)
        self._policies = policies.read(connection)
        self._labels = policies.labels_of(connection, chosen) if self._policies else {}
        self._made: dict[tuple[int, Digest], Cloud | None] = {}

    def given(self, device: DeviceId, documents: dict[str, SlotOrder]) -> tuple[dict[str, SlotOrder], float]:
        """The documents, and when they are to be made anew."""
        if self._policies:
            documents = {slot: self._completed(device, one) for slot, one in documents.items()}
        return self._tokens.given(device, documents)

    def _completed(self, device: DeviceId, document: SlotOrder) -> SlotOrder:
        if has_own_terms(document):
            return document
        module = ModuleRef.from_target(document.manifest)
        one = policies.winner(self._policies, module, self._labels.get(device, {}))
        if one is None or one.never:
            return document
        key = (one.id, document.digest)
        if key not in self._made:
            self._made[key] = self._cloud(one, module, document.digest)
        cloud = self._made[key]
        if cloud is not None and one.is_spent(self._now):
            # Without a case it is nobody that is asked; so an agent that does not know the reason does right, too.
            cloud = Cloud(url=cloud.url, region=cloud.region, when=(), closed=SPENT)
        return document if cloud is None else msgspec.structs.replace(document, cloud=cloud)

    def _cloud(self, one: Known, module: ModuleRef, digest: Digest) -> Cloud | None:
        try:
            return cloud_of(self._connection, one, module, self._registry.manifest(digest), self._authority)
        except Refused:
            return None  # why, ``edgefleet fallback show`` says


class Answering:
    """Which devices have somebody elsewhere to answer for a module that does not fit them.

    Args:
        connection: for the policies.
        document: what their orders say.
        manifest: the module's.
    """

    def __init__(self, connection: Connection, document: SlotOrder, manifest: Manifest) -> None:
        self._connection, self._document, self._manifest = connection, document, manifest
        self._policies = [] if has_own_terms(document) else policies.read(connection)
        self._allowed: dict[int, bool] = {}

    def for_device(self, device: DeviceId, labels: Labels) -> bool:
        """Whether a fallback answers for a device with these labels, which knows of fallbacks on terms."""
        return self._covered(labels) and reads_terms(self._connection, device)

    def _covered(self, labels: Labels) -> bool:
        if has_own_terms(self._document):
            return self._document.covers_misfits
        one = policies.winner(self._policies, self._manifest.ref, labels)
        return one is not None and UNPLACEABLE in one.when and self._allows(one)

    def _allows(self, one: Known) -> bool:
        if one.id not in self._allowed:
            self._allowed[one.id] = not why_not(self._connection, one, self._manifest)
        return self._allowed[one.id]


def why_not(connection: Connection, one: Known, manifest: Manifest) -> str:
    """Why a policy says nothing for a module; empty: it does."""
    try:
        cloud_of(connection, one, manifest.ref, manifest)
    except Refused as error:
        return str(error)
    return ""


def answered_elsewhere(connection: Connection, device: DeviceId, slot: str) -> bool:
    """Whether a device that says that its module does not fit has an order by which somebody answers all the same."""
    envelope = connection.scalar(select(devices.c.order_envelope).where(devices.c.id == device))
    if envelope is None:
        return False
    # It is the server's own.
    slots = order_wire.decode(unverified(envelope, limit=order_wire.LIMIT)).slots
    return slot in slots and slots[Slug(slot)].covers_misfits and reads_terms(connection, device)


def reads_terms(connection: Connection, device: DeviceId) -> bool:
    """Whether a device's agent follows the terms of a fallback: one of before skips them, and asks nobody."""
    facts = connection.scalar(select(devices.c.facts).where(devices.c.id == device))
    formats: Collection[str] = msgspec.json.decode(facts, type=Facts).formats if facts else ()
    return FALLBACKS in formats
