"""Which instances were lost in the middle of a client's request: what an agent that finds one dead asks about it."""

import asyncio
from collections.abc import Collection


class Losses:
    """An instance is lost while the newest news of it is a request that it did not finish.

    A kept connection that the server was just closing looks the same for a moment, so whoever answers a request that
    began later was not lost.
    """

    def __init__(self) -> None:
        self._at: dict[str, float] = {}

    def lost(self, instance: str) -> None:
        """The connection broke, or the client left, before its answer was whole."""
        self._at[instance] = now()

    def answered(self, instance: str, began: float) -> None:
        """A request that began then (:func:`now`) was answered."""
        if self._at.get(instance, began) < began:
            del self._at[instance]

    def keep_only(self, instances: Collection[str]) -> None:
        """Forget the others: they end because somebody ended them."""
        for gone in self._at.keys() - set(instances):
            del self._at[gone]

    def among(self, instances: Collection[str]) -> list[str]:
        return sorted(self._at.keys() & set(instances))


def now() -> float:
    return asyncio.get_running_loop().time()
