"""A blob's bytes on their way out: a piece at a time, read outside the event loop, no faster than the limits say."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from anyio import to_thread

from fleet.limits import Limits
from fleet.meters import Meters
from modules.bucket import Bucket
from modules.digests import BLOCK

# What is read from the disk and handed to TLS at once.
CHUNK: Final = 256 << 10


async def paced(
    path: Path, part: range, *, limits: Limits, meters: Meters, limit: Bucket | None = None
) -> AsyncIterator[bytes]:
    """The bytes of ``part``; ``limit`` is that of whoever asks, beside the one for all.

    Raises:
        OSError: the file cannot be read, or has become shorter.
    """
    most = CHUNK if limit is None else BLOCK
    descriptor = await to_thread.run_sync(os.open, path, os.O_RDONLY)
    try:
        at = part.start
        while at < part.stop:
            piece = await to_thread.run_sync(os.pread, descriptor, min(most, part.stop - at), at)
            if not piece:
                raise OSError(f"{path} is shorter than it was")
            if limit is not None:
                await asyncio.sleep(limit.take(len(piece)))
            await limits.pass_on(len(piece))
            meters.block(len(piece), "https")
            at += len(piece)
            yield piece
    finally:
        os.close(descriptor)
