"""Hands the routing table to the gateway whenever the rows make another one."""

import asyncio
import importlib
import logging
from pathlib import Path
from typing import Final

import msgspec

from agent import answering
from agent import identity as identities
from agent.gateway import table as gateway_table
from agent.identity import CERTIFICATE, KEY
from agent.routes import authorities_file, elsewhere, table, token_file
from agent.slots import Slot
from agent.store import ORDER, Store
from modules.errors import EdgefleetError
from modules.names import DeviceId
from modules.protocol.order import SEALED_AS
from modules.protocol.routing import Table

_log = logging.getLogger(__name__)

# A module that is down waits for this answer before it is started again.
_LOST_WITHIN_S: Final = 2.0


class Router:
    """Writes the table; called after each change that moves traffic, before the next side effect."""

    def __init__(self, path: Path, store: Store, identity: Path, gateway: str = "", *, device: DeviceId) -> None:
        self._device = device
        self._gateway = gateway
        self._path = path
        self._store = store
        self._identity = identity
        self._last: Table | None = None
        #: of the table that was written last
        self.generation = 0

    def __call__(self) -> None:
        slots = self._store.slots()
        if not slots and self._store.document(ORDER) is None and self._path.exists():
            return  # the database was lost, and what the gateway was told last still serves
        draft = table(slots, generation=0, identity=self._path.parent)
        if draft == self._last and self._path.exists():
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if any(route.fallback for route in draft.slots.values()):
            self._share_identity()
        files = {name for slot in slots for name in self._share_terms(slot)}
        numbered = msgspec.structs.replace(draft, generation=self._store.count("generation"))
        gateway_table.write(self._path, numbered)
        self._last, self.generation = draft, numbered.generation
        for old in self._path.parent.glob("cloud-*"):
            if old.name not in files:
                old.unlink()

    def renewed(self) -> None:
        """The device has another certificate: the gateway gets it, and the next table, by which it learns that."""
        self._last = None
        self()

    def relieves(self) -> bool:
        """Whether the gateway was told of an endpoint that takes what is too much for a slot."""
        routes = self._last.slots.values() if self._last is not None else ()
        return any(route.fallback is not None and route.fallback.overload is not None for route in routes)

    async def untaken(self) -> str:
        """Why the gateway does not use yet what was written last; empty: it does."""
        try:
            told = await asyncio.to_thread(answering.gateway, self._gateway)
        except OSError as error:
            return f"the gateway does not answer at {self._gateway} ({error})"
        if told.generation < self.generation:
            return f"the gateway uses routing table {told.generation} and not yet {self.generation}"
        return ""

    async def lost(self, instance: str) -> bool:
        """Whether the gateway was waiting for this instance's answer to a client's request when it lost it.

        No, where the gateway does not say: without a gateway no client's request reaches a module.
        """
        try:
            told = await asyncio.to_thread(answering.gateway, self._gateway, timeout_s=_LOST_WITHIN_S)
        except OSError:
            return False
        return any(instance in (one.get("lost") or ()) for one in told.slots)

    async def told(self) -> answering.Told | None:
        """What the gateway says of itself; None where it does not."""
        try:
            return await asyncio.to_thread(answering.gateway, self._gateway)
        except OSError:
            return None

    def _share_identity(self) -> None:
        """Put the device's certificate and key where the gateway's group can read them, and nobody else.

        The identity's own folder is the agent's alone; the gateway, another user, shows the certificate to fallbacks.
        """
        pair = identities.present(self._identity)
        certificate = identities.certificate_of(pair.certificate.read_bytes())
        for name, data in ((CERTIFICATE, certificate), (KEY, identities.key_of(pair.key.read_bytes()))):
            shared = self._path.parent / name
            if not shared.exists() or shared.read_bytes() != data:
                gateway_table.replace(shared, data)

    def _share_terms(self, slot: Slot) -> list[str]:
        """Put what a slot's endpoint in the cloud needs beside the table: its authorities, and the token for it.

        A token that cannot be opened is left out: then the gateway says that it is not there, and asks nobody.
        """
        cloud = elsewhere(slot)
        wanted = {authorities_file(cloud): cloud.ca.encode()} if cloud and cloud.ca else {}
        if cloud and cloud.token:
            name = token_file(slot, cloud.token.version)
            if (self._path.parent / name).exists():
                return [*self._written(wanted), name]
            files = importlib.import_module("agent.secret_files")
            try:
                opened = files.opened(self._identity, self._device, slot.slot, {SEALED_AS: cloud.token})
                wanted[name] = opened[SEALED_AS]
            except (EdgefleetError, OSError) as error:
                _log.warning("%s: the token for its endpoint in the cloud cannot be used: %s", slot.slot, error)
        return self._written(wanted)

    def _written(self, files: dict[str, bytes]) -> list[str]:
        for name, data in files.items():
            if not (self._path.parent / name).exists():
                gateway_table.replace(self._path.parent / name, data)
        return list(files)
