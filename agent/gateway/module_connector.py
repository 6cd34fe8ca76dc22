"""aiohttp's connections to a module's Unix socket, opened the careful way of agent/module_socket.py."""

import asyncio
from typing import Any

import aiohttp
from aiohttp.client_exceptions import UnixClientConnectorError
from aiohttp.client_proto import ResponseHandler

from agent import module_socket


class ModuleConnector(aiohttp.UnixConnector):
    """Follows nothing below the folder of the socket, and speaks with a module's user alone."""

    async def _create_connection(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - as the base class has it
    ) -> ResponseHandler:
        del traces
        try:
            async with asyncio.timeout(timeout.sock_connect):
                opened = await module_socket.connect(self._path)
                made = await self._loop.create_unix_connection(self._factory, sock=opened)
        except OSError as error:  # TimeoutError is one, too
            raise UnixClientConnectorError(self._path, req.connection_key, error) from error
        protocol: ResponseHandler = made[1]
        return protocol
