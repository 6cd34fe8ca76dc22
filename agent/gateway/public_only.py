"""Names of fallbacks to addresses, none of which lies on this device or in a network behind it.

The publisher allows a name, and whoever owns the name says where it points: to the device's own services, a metadata
address of a cloud, a printer. So the addresses are looked at, and the connection is made to what was looked at.
"""

import ipaddress
import socket
from collections.abc import Collection
from urllib.parse import urlsplit
from urllib.request import getproxies

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver


def is_public(address: str) -> bool:
    """Whether this address is anybody's on the Internet; IPv4 addresses inside IPv6 ones are looked at themselves."""
    found = ipaddress.ip_address(address.partition("%")[0])
    inner = getattr(found, "ipv4_mapped", None) or getattr(found, "sixtofour", None)
    return (inner or found).is_global and not (inner or found).is_multicast


class PublicOnly(AbstractResolver):
    """Resolves names; for hosts of ``private`` any address will do, which the device's own settings allow."""

    def __init__(self, private: Collection[str]) -> None:
        # A proxy is the operator's own choice, and mostly lies in the operator's own network.
        proxies = {urlsplit(address).hostname or "" for address in getproxies().values()}
        self._private = {*private, *proxies}
        self._inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a host.

        Raises:
            OSError: it has none, or one that is not public.
        """
        found = await self._inner.resolve(host, port, family)
        if host not in self._private:
            for one in found:
                if not is_public(one["host"]):
                    raise OSError(None, f"{host} leads to {one['host']}, which is not a public address")
        return found

    async def close(self) -> None:
        await self._inner.close()
