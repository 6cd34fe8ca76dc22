"""The models of a module by name: which are in memory, and which come into it when they are asked for."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, Protocol, TypeVar, cast, runtime_checkable

from modules.errors import EdgefleetError
from modules.scoring.graphs.shared_run import Feeds, Values
from modules.scoring.metrics import Figures
from modules.scoring.runtime import BadInput, ModelRuntime, Tensor, Unavailable

T = TypeVar("T")
_TRIES: Final = 10
READY: Final = "READY"
UNAVAILABLE: Final = "UNAVAILABLE"


@runtime_checkable
class Tensors(Protocol):
    """A runtime that can be asked in arrays."""

    figures: Figures
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def infer(
        self, size: int, decode: Callable[[], Feeds], encode: Callable[[Values, float], T]
    ) -> T | Awaitable[T]: ...


@runtime_checkable
class Scripted(Protocol):
    """A runtime with code that may want to know of a signal."""

    def hang_up(self) -> None: ...


class Entry:
    """A model and its runtime. ``on_demand``: it may be loaded by a request, and unloaded for another model's sake."""

    def __init__(
        self, name: str, version: str, make: Callable[[], ModelRuntime], *, on_demand: bool = False, memory: int = 0
    ) -> None:
        self.name, self.version, self.on_demand, self.memory = name, version, on_demand, memory
        self.make = make
        self.runtime = make()
        # Asked of each request; looking at the object's shape every time would cost more than a small model.
        self.takes_tensors = isinstance(self.runtime, Tensors)
        self.reason = ""
        self.turn = asyncio.Lock()

    @property
    def ready(self) -> bool:
        return self.runtime.ready

    @property
    def available(self) -> bool:
        """Whether a request is answered, if need be after loading."""
        return self.ready or self.on_demand

    @property
    def state(self) -> str:
        return READY if self.ready else UNAVAILABLE


class Models:
    """The models, the main one of which ``/score`` asks. ``memory``: bytes that those on demand may take together."""

    def __init__(self, *, memory: int = 0) -> None:
        self._entries: dict[str, Entry] = {}
        self._main = ""
        self._memory = memory
        self._used: OrderedDict[str, Entry] = OrderedDict()
        # Whoever takes memory on demand does it alone: two that looked for room at once would share the same.
        self._room = asyncio.Lock()

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def add(self, entry: Entry) -> None:
        """One more; the first is the main one until :meth:`lead` names another."""
        self._entries[entry.name] = entry
        self._main = self._main or entry.name

    def lead(self, name: str) -> None:
        self._main = name

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    @property
    def main(self) -> Entry:
        return self._entries[self._main]

    @property
    def ready(self) -> bool:
        return all(entry.available for entry in self._entries.values())

    def use(self, entry: Entry) -> Tensors | Awaitable[Tensors]:
        """The model's runtime; later where it has to be loaded first.

        Raises:
            BadInput: it is an entry script, which takes what its ``run`` takes.
            Unavailable: it is not loaded, and nobody but an operator loads it.
        """
        if entry.on_demand and entry.name in self._used:
            self._used.move_to_end(entry.name)
        runtime = entry.runtime
        if not entry.takes_tensors:
            raise BadInput("an entry script is asked at /score", element=entry.name)
        if runtime.ready:
            return cast("Tensors", runtime)
        if not entry.on_demand:
            raise Unavailable("the model is not loaded", element=entry.name, remedy="load it, or try again later")
        return self._loaded(entry)

    async def load(self, entry: Entry) -> None:
        """Bring it into memory, others out of it if there is no room.

        Raises:
            EdgefleetError: it cannot be loaded.
        """
        async with entry.turn:
            if entry.ready:
                return
            if not entry.on_demand:
                await self._load(entry)
                return
            async with self._room:
                await self._make_room(entry)
                await self._load(entry)
                self._used[entry.name] = entry

    async def unload(self, entry: Entry) -> None:
        """Take it out of memory, once what is in flight has been answered."""
        async with entry.turn:
            old, entry.runtime = entry.runtime, entry.make()
            entry.reason = "unloaded"
            await old.close()
            self._used.pop(entry.name, None)

    def hang_up(self) -> None:
        """SIGHUP came: the files of the module's secrets are new. A graph has none."""
        for entry in self._entries.values():
            if isinstance(entry.runtime, Scripted):
                entry.runtime.hang_up()

    async def close(self) -> None:
        for entry in self._entries.values():
            await entry.runtime.close()

    async def _load(self, entry: Entry) -> None:
        entry.runtime = entry.make()
        try:
            await entry.runtime.load()
        except EdgefleetError as error:
            entry.reason = str(error)
            raise
        entry.reason = ""

    async def _loaded(self, entry: Entry) -> Tensors:
        await self.load(entry)
        return cast("Tensors", entry.runtime)

    async def _make_room(self, entry: Entry) -> None:
        """Unload the models that were asked longest ago until this one fits.

        Raises:
            Unavailable: it is larger than the whole budget.
        """
        if self._memory and entry.memory > self._memory:
            raise Unavailable(
                f"it needs {entry.memory} bytes, and models share {self._memory}", element=entry.name,
                remedy="raise the module's memory budget",
            )  # fmt: skip
        while self._memory and sum(one.memory for one in self._used.values()) + entry.memory > self._memory:
            await self.unload(next(iter(self._used.values())))
