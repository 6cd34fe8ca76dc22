"""The server's real application in this process, asked without a network; its clock is the test's."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from argon2 import PasswordHasher

from fleet.app import create_app
from fleet.folder import Folder
from fleet.people.passwords import Passwords
from fleet.settings import Settings
from tests.parts.mosquitto import free_port

# A hash of the real kind that costs next to nothing: the real one takes half a second, and most tests make some.
CHEAP = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
# The last tasks that a server which leads begins.
_LEADS = {"blocks-3", "partings"}


@asynccontextmanager
async def application(
    folder: Folder, clock: Callable[[], float], *, passwords: Passwords = CHEAP, **settings: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server on this data folder, which has no broker."""
    given = Settings(data=folder.root, broker_host="127.0.0.1", broker_service_port=free_port(), **settings)
    app = create_app(given, clock=clock, passwords=passwords)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="https://localhost") as http,
    ):
        # It leads a moment after its start; the tasks of its duties are the server's, not the test's.
        while not {task.get_name() for task in asyncio.all_tasks()} >= _LEADS:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        yield http
    # Threads of duties that were cancelled end with what they were at; their connections with them.
    await asyncio.get_running_loop().shutdown_default_executor()
