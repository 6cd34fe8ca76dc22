"""The trust roles' versions that were seen while an order is looked at: written together with its adoption.

The store keeps them at once, with a sync, unless they are held: then a refused order writes them alone, and an accepted
one in the transaction that adopts it. So a device of slow storage syncs once and not at each step.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from modules.trust.device import RoleMark, RoleVersions


class SeenRoles:
    """What trust reads and writes instead of the store."""

    def __init__(self, store: RoleVersions) -> None:
        self._store = store
        self._held: dict[str, RoleMark] | None = None

    def marks(self) -> Mapping[str, RoleMark]:
        return {**self._store.marks(), **(self._held or {})}

    def keep(self, marks: Mapping[str, RoleMark]) -> None:
        if self._held is None:
            self._store.keep(marks)
        else:
            self._held.update(marks)

    @contextmanager
    def held(self) -> Iterator[dict[str, RoleMark]]:
        """What is seen inside is in the mapping: the caller keeps it, unless this ends by an exception."""
        seen: dict[str, RoleMark] = {}
        self._held = seen
        try:
            yield seen
        except BaseException:
            if seen:
                self._store.keep(seen)
            raise
        finally:
            self._held = None
