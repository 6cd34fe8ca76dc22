"""Names of fallbacks to addresses, none of which lies on this device or in a network behind it.

The publisher allows a name, and whoever owns the name says where it points: to the device's own services, a metadata
address of a cloud, a printer. So the addresses are looked at, and the connection is made to what was looked at.
"""

import ipaddress
import socket
from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

# Of IPv6, only these are anybody's on the Internet (RFC 4291): all else is local, old, or stands for an IPv4 address.
_GLOBAL: Final = ipaddress.IPv6Network("2000::/3")
# How a network without IPv4 reaches an IPv4 address, which stands in the last four bytes (RFC 6052).
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether this address is anybody's on the Internet; IPv4 addresses inside IPv6 ones are looked at themselves."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if found in _NAT64:
            inner = ipaddress.IPv4Address(found.packed[-4:])
        if inner is None:
            return found in _GLOBAL and found.is_global and not _is_isatap(found)
        found = inner
    return found.is_global and not found.is_multicast


def _is_isatap(address: ipaddress.IPv6Address) -> bool:
    """An IPv4 address of a network's own, behind any prefix (RFC 5214)."""
    return address.packed[8:12] in {b"\0\0\x5e\xfe", b"\x02\0\x5e\xfe"}


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
