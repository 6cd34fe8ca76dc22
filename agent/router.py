"""Hands the routing table to the gateway whenever the rows make another one."""

from pathlib import Path

import msgspec

from agent.gateway import table as gateway_table
from agent.routes import table
from agent.store import ORDER, Store


class Router:
    """Writes the table; called after each change that moves traffic, before the next side effect."""

    def __init__(self, path: Path, store: Store, identity: Path) -> None:
        self._path = path
        self._store = store
        self._identity = identity
        self._last: gateway_table.Table | None = None

    def __call__(self) -> None:
        slots = self._store.slots()
        if not slots and self._store.document(ORDER) is None and self._path.exists():
            return  # the database was lost, and what the gateway was told last still serves
        draft = table(slots, generation=0, identity=self._identity)
        if draft == self._last and self._path.exists():
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        numbered = msgspec.structs.replace(draft, generation=self._store.count("generation"))
        gateway_table.write(self._path, numbered)
        self._last = draft
