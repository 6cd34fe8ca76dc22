"""Kept-open connections, one pool for each upstream of the table, closed when the table forgets it."""

import asyncio
import re
import ssl
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import aiohttp
from yarl import URL

from agent.gateway.bounded_answers import bounded
from agent.gateway.module_connector import ModuleConnector
from agent.gateway.public_only import PublicOnly, is_public
from agent.gateway.settings import Settings
from agent.gateway.watch import Watch
from modules.endpoint.stamp import Stamp, stamp
from modules.errors import BadSettings
from modules.protocol.routing import Fallback, Replica, Table, Upstream

Peer = Upstream | Replica | Fallback

# The gateway adds none of these: what the client did not say stays unsaid.
_NEVER_ADDED: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


_ENDS_IN_A_NUMBER: Final = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)\.?", re.IGNORECASE | re.ASCII)


class Pool:
    """The connections to one peer.

    ``session`` keeps them open between requests. ``fresh`` opens one for each request, for the second try after a kept
    connection turned out to be dead.
    """

    def __init__(self, peer: Peer, settings: Settings, silent: set[Replica]) -> None:
        self._peer = peer
        self.watch = Watch(peer, lambda: self.fresh, silent) if isinstance(peer, Replica) and peer.silent_s else None
        self._settings = settings
        self._tls = _tls(peer)
        self.token = _token(peer)
        self._stamps = _stamps(peer)
        if isinstance(peer, Fallback):
            _check_address(peer.url, settings.private_fallbacks)
        self._fresh: aiohttp.ClientSession | None = None
        self.session = self._open(keep=True)
        self.users = 0
        self.retired = False

    @property
    def fresh(self) -> aiohttp.ClientSession:
        if self._fresh is None:
            self._fresh = self._open(keep=False)
        return self._fresh

    @property
    def is_stale(self) -> bool:
        """Whether what it shows, or whom it believes, has been replaced since."""
        return self._stamps != _stamps(self._peer)

    async def close(self) -> None:
        if self.watch is not None:
            self.watch.close()
        await self.session.close()
        if self._fresh is not None:
            await self._fresh.close()

    def _open(self, *, keep: bool) -> aiohttp.ClientSession:
        # limit=0: how many may be in flight is decided by places.py, in one place.
        idle = self._settings.idle_s if keep else None
        connector: aiohttp.BaseConnector
        if isinstance(self._peer, Upstream):
            connector = ModuleConnector(self._peer.socket, limit=0, force_close=not keep, keepalive_timeout=idle)
        else:
            connector = aiohttp.TCPConnector(
                limit=0,
                force_close=not keep,
                keepalive_timeout=idle,
                ssl=self._tls,
                resolver=None if isinstance(self._peer, Replica) else PublicOnly(self._settings.private_fallbacks),
            )
        return aiohttp.ClientSession(
            connector=bounded(connector),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=_NEVER_ADDED,
            # A proxy of the environment is for the cloud; a module's socket has none.
            trust_env=isinstance(self._peer, Fallback),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self._settings.connect_s, sock_read=self._answer_s()
            ),
        )

    def _answer_s(self) -> float:
        if isinstance(self._peer, Fallback):
            return self._settings.cloud_answer_s
        own = self._peer.answer_s if isinstance(self._peer, Replica) else 0
        return own or self._settings.answer_s


def _check_address(url: str, private: Collection[str]) -> None:
    """An address instead of a name is never resolved, so it is looked at here; and what is neither is no host.

    Raises:
        BadSettings: it is not to be asked, or cannot be.
    """
    try:
        host = URL(url).host or ""
        if ":" not in host:
            host.encode("idna")  # as whoever looks it up does
    except ValueError as error:
        raise BadSettings(f"this address cannot be used: {error}", element=url, remedy="order another one") from error
    try:
        public = is_public(host)
    except ValueError:
        # As what ends like a number is read (inet(3)): 127.1, 2130706433, 0177.0.0.1 are all this device.
        if not _ENDS_IN_A_NUMBER.fullmatch(host):
            return  # a name
        public = False
    if not public and host not in private:
        raise BadSettings(
            f"{host} is not a public address", element=url, remedy="list it in fallback_hosts of the agent's settings"
        )


def _tls(peer: Peer) -> ssl.SSLContext | bool:
    if not isinstance(peer, Fallback) or not peer.url.startswith("https://"):
        return True
    try:
        context = ssl.create_default_context(cafile=peer.ca)
        if peer.cert is not None:
            context.load_cert_chain(peer.cert, peer.key)
    except OSError as error:
        raise BadSettings(
            f"the certificate files for it cannot be used: {error}",
            element=peer.url,
            remedy="let the gateway's group read them",
        ) from error
    return context


def _stamps(peer: Peer) -> list[Stamp | None]:
    """What changes with each file of a fallback's that is replaced."""
    if not isinstance(peer, Fallback):
        return []
    found: list[Stamp | None] = []
    for name in (peer.ca, peer.cert, peer.key, peer.token):
        try:
            found.append(stamp(Path(name)) if name is not None else None)
        except OSError:
            found.append(None)
    return found


def _token(peer: Peer) -> str:
    if not isinstance(peer, Fallback) or peer.token is None:
        return ""
    try:
        return Path(peer.token).read_text("ascii").strip()
    except (OSError, ValueError) as error:
        raise BadSettings(
            f"the token for it cannot be used: {error}", element=peer.url, remedy="set it anew with the next order"
        ) from error


class Pools:
    """All pools. Requests that run on a retired pool finish; its connections close with the last of them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pools: dict[Peer, Pool] = {}
        #: those that give no sign of life (agent/gateway/watch.py): nobody is to ask them
        self.silent: set[Replica] = set()
        self._closing: set[asyncio.Task[None]] = set()

    @contextmanager
    def lease(self, peer: Peer) -> Iterator[Pool]:
        """The peer's pool, which stays open at least until the ``with`` ends.

        Raises:
            BadSettings: a fallback's certificate files cannot be read or used.
        """
        pool = self._pools.get(peer)
        if pool is None:
            pool = self._pools[peer] = Pool(peer, self._settings, self.silent)
        pool.users += 1
        try:
            yield pool
        finally:
            pool.users -= 1
            self._close_if_done(pool)

    def users(self, peer: Peer) -> int:
        """How many requests run on its connections now."""
        pool = self._pools.get(peer)
        return 0 if pool is None else pool.users

    def keep_only(self, table: Table) -> None:
        """Retire the pools of peers that the table no longer has.

        Fallbacks of which a file is new are retired, too: the table's change is how one learns that. The others keep
        their connections, since the table changes just when a module is down and they are needed.
        """
        routes = table.slots.values()
        wanted: set[Peer | None] = {
            peer for route in routes for peer in (route.current, route.previous, route.fallback)
        }
        wanted |= {replica for route in routes for version in route.versions for replica in version.replicas}
        for peer in [peer for peer, pool in self._pools.items() if peer not in wanted or pool.is_stale]:
            pool = self._pools.pop(peer)
            pool.retired = True
            self._close_if_done(pool)

    async def close(self) -> None:
        """Close everything, running requests included."""
        for pool in self._pools.values():
            await pool.close()
        self._pools.clear()
        await asyncio.gather(*self._closing)

    def _close_if_done(self, pool: Pool) -> None:
        if pool.retired and pool.users == 0:
            task = asyncio.create_task(pool.close(), name="close-retired-pool")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
