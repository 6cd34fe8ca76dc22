"""The thread in which trust metadata is read, and how it asks for files: through the event loop, which pulls them."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from agent.fetch import Missing, Puller
from modules.errors import LinkLost, TransferStalled, Untrusted
from modules.names import Digest

T = TypeVar("T")


class TrustWorker:
    """One thread; ``fetch`` and ``read_target`` are for it alone, and wait ``answer_s`` seconds for each file.

    ``puller`` is whom it asks; it may be changed while nothing runs.
    """

    def __init__(self, puller: Puller | None, *, answer_s: float) -> None:
        self.puller = puller
        self._answer_s = answer_s
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="trust")
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, call: Callable[[], T]) -> T:
        """Call it in the thread."""
        return await self._loop.run_in_executor(self._threads, call)

    def fetch(self, name: str, limit: int) -> bytes | None:
        """A metadata file; None where the server says that there is none.

        Raises:
            Untrusted: it is longer than ``limit`` bytes.
            LinkLost: it did not come.
        """
        try:
            data = self._wait(self._asked().metadata(name))
        except Missing:
            return None
        if len(data) > limit:
            raise Untrusted(f"{len(data)} bytes are more than the {limit} allowed", element=name)
        return data

    def read_target(self, _path: str, digest: Digest, length: int) -> bytes:
        """A target of these bytes.

        Raises:
            Missing: the server has none.
            LinkLost: it did not come.
        """
        return self._wait(self._asked().small(digest, length, urgent=True))

    def _asked(self) -> Puller:
        assert self.puller is not None  # noqa: S101 - it is set before anything is asked
        return self.puller

    def _wait(self, call: Coroutine[None, None, bytes]) -> bytes:
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result(self._answer_s)
        except Missing:
            raise
        except (TransferStalled, TimeoutError) as error:
            future.cancel()
            raise LinkLost(f"trust metadata did not come: {error}", element="fleet server") from error
