"""Who is asked, in which order: the local module, its predecessor, the cloud, and else 503 with Retry-After."""

import asyncio
import logging
from collections import Counter
from typing import Any, Final

import msgspec
from aiohttp import hdrs, web
from multidict import CIMultiDict
from yarl import URL

from agent.gateway.bodies import Body, Budget
from agent.gateway.choice import Choice, choose, left_out, next_choice
from agent.gateway.cloud import Way
from agent.gateway.counts import Counts
from agent.gateway.current_table import CurrentTable
from agent.gateway.door import Door
from agent.gateway.headers import GENERATION, MODULE, PROVIDER, REQUEST_ID, SERVED_BY, VERSION, request_id
from agent.gateway.index import described, instances
from agent.gateway.load import Load
from agent.gateway.losses import Losses, now
from agent.gateway.origin import check as check_origin
from agent.gateway.places import Places
from agent.gateway.pools import Peer, Pools
from agent.gateway.refusals import refusal, unavailable
from agent.gateway.relay import Errand, Silence, headers_for, relay
from agent.gateway.routes import Destination, destination
from agent.gateway.settings import Settings
from agent.gateway.shares import Asking, Shares
from agent.gateway.spent import Spent
from modules.endpoint.looks import EACH, INDEX
from modules.errors import BadSettings
from modules.protocol.routing import Bounds, Fallback, Replica, Route, Table, Upstream

logger = logging.getLogger(__name__)

# The table is another process's file: while requests are held, it is looked at this often (seconds).
_HOLD_LOOK: Final = 0.02
_SERVERS_FAULT: Final = 500
# A request at which a replica of an endpoint ends may be why: it is tried at one other, and not at each of them.
_MAY_BREAK: Final = 1
_BROKE_OFF: Final = Silence("it ended, or hung up, in the middle of this very request", absent=False)


class Gateway:
    """The handler of every request."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pools = Pools(settings)
        self._door = None if settings.access is None else Door(settings.access)
        self._table = CurrentTable(settings.table, self._changed)
        self._bounds = Bounds(concurrent=settings.concurrent, waiting=settings.waiting, wait_s=settings.wait_s)
        self._places: dict[str, Places] = {}
        self._shares: dict[str, Shares] = {}
        self._loads: dict[str, Load] = {}
        self._ways: dict[str, Way] = {}
        self._spent = Spent(settings.spent)
        self._held: Counter[str] = Counter()
        self._losses = Losses()
        self._counts = Counts()
        self._serving: dict[str, str] = {}
        # Requests of each slot by who answered them, since this gateway knows it.
        self._answered: dict[str, Counter[str]] = {}
        self._budget = Budget(settings.replay_total)
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.draining = False
        # Connections that have sent a request; the others have only said that they will. The server forgets the closed.
        self.asked: set[web.RequestHandler] = set()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; the low-level server's handler."""
        mark = request_id(request.headers)
        door = self._door
        self._in_flight += 1
        self._idle.clear()
        try:
            self.asked.add(request.protocol)
            if door is None:
                check_origin(request.headers, self._settings.hosts)
            elif (early := door.preflight(request)) is not None:
                return early
            else:
                door.admit(request, _path(request))
            return await self._answer(request, mark)
        except web.HTTPError as error:
            error.headers[REQUEST_ID] = mark
            if door is not None:
                error.headers.update(door.shared(request))
            if self.draining:
                error.force_close()
            raise
        finally:
            self._in_flight -= 1
            if self._in_flight == 0:
                self._idle.set()

    async def idle(self) -> None:
        """Wait until no request is being answered."""
        await self._idle.wait()

    def look(self) -> None:
        """Read the table and the keys if they are new: connections to what is forgotten close without a request."""
        self._table.get()
        if self._door is not None:
            self._door.refresh()

    @property
    def authority(self) -> str:
        """Whose certificates devices may show at an endpoint; empty: nobody's."""
        return self._door.authority if self._door is not None else ""

    async def close(self) -> None:
        self._spent.close()
        await self._pools.close()

    async def _answer(self, request: web.BaseRequest, mark: str) -> web.StreamResponse:
        table = self._known_table()
        if (path := _path(request)) == (INDEX if self._door else "/"):
            return await self._index(request, table)
        if path == "/":
            return self._health(request, table)
        to = destination(request.raw_path, table.slots)
        with Body(request, self._settings, self._budget) as body:
            if (first := table.slots[to.slot].current) is not None:
                body.check(first.memory_mb)  # before any of it is read
            await body.receive()
            return await self._forward(request, to, body, mark)

    async def _forward(self, request: web.BaseRequest, to: Destination, body: Body, mark: str) -> web.StreamResponse:
        # A request is sent a second time only where no byte of an answer had come. Even a POST: scoring has no effect
        # that anybody keeps, so working on it twice harms nobody, while failing it during a swap breaks a promise.
        silent: set[Peer] = set()
        reason, may_hold, broken = "nothing is running for it", True, 0
        places = self._places_of(to.slot, self._route(to).bounds or self._bounds)
        load = self._loads.setdefault(to.slot, Load())
        relief = self._relief(to, load, places)
        if relief is not None and body.replayable:
            outcome = await self._ask_afar(request, relief, to, body, mark, once=False)
            if not isinstance(outcome, Silence):
                self._count(to.slot, "fallback")
                return outcome
            silent.add(relief)  # then this slot answers, though it has much to do
        shares = self._shares.setdefault(to.slot, Shares())
        asking = Asking(shares, self._pools.users, request.headers.get(VERSION, ""))
        with load.inside():
            while True:
                async with places.place():
                    # Looked up again for each try, and after waiting: the table may have moved on meanwhile.
                    route = self._route(to)
                    held = route.hold and may_hold
                    choice = None if held else next_choice(route, silent | self._pools.silent, asking)
                    if choice is not None and not isinstance(choice.peer, Fallback) and body.replayable:
                        spare = isinstance(choice.peer, Upstream) and choose(route, {*silent, choice.peer}) is not None
                        outcome = await self._ask(request, choice, to, body, mark, spare=spare)
                        if not isinstance(outcome, Silence):
                            self._note(to.slot, choice.served_by, reason)
                            return outcome
                        silent.add(choice.peer)
                        broken += not outcome.absent
                        if broken > _MAY_BREAK and isinstance(choice.peer, Replica):
                            self._note(to.slot, "nobody", outcome.reason)
                            raise unavailable(f"{broken} replicas broke off at this very request; do not send it again")
                        reason = f"{choice.served_by}: {outcome.reason}"
                        continue
                if not held:
                    break
                may_hold = await self._hold(to)
                reason = "the module is being replaced"
        reason = "its replicas give no sign of life" if choice is None and left_out(route, silent, asking) else reason
        # The way to the cloud takes no place here.
        if choice is not None and isinstance(choice.peer, Fallback) and body.replayable:
            outcome = await self._ask_afar(request, choice.peer, to, body, mark, once=bool(broken), reason=reason)
            if not isinstance(outcome, Silence):
                self._note(to.slot, choice.served_by, reason)
                return outcome
            reason = f"{choice.served_by}: {outcome.reason}"
        raise self._nobody(to, reason)

    def _nobody(self, to: Destination, reason: str) -> web.HTTPError:
        """The answer where nobody could answer."""
        self._note(to.slot, "nobody", reason)
        shut = self._route(to).fallback
        if shut is not None and shut.closed:
            reason = f"{reason}; {shut.closed}"
        return unavailable(f"slot {to.slot} has nobody who can answer now ({reason}); try again")

    def _relief(self, to: Destination, load: Load, places: Places) -> Fallback | None:
        """The endpoint in the cloud to which this request goes because there is too much to do here."""
        fallback = self._route(to).fallback
        if fallback is None or fallback.overload is None:
            return None
        over = load.over(fallback.overload, waiting=places.waiting, room=places.bounds.waiting)
        return fallback if over and self._way(to.slot, fallback).is_free else None

    async def _ask_afar(
        self, request: web.BaseRequest, fallback: Fallback, to: Destination, body: Body, mark: str, *, once: bool,
        reason: str = "",
    ) -> web.StreamResponse | Silence:  # fmt: skip
        """Ask the cloud; ``once``: this very request broke something already, so it is sent no second time.

        Raises:
            web.HTTPError: 503 where the endpoint is left alone, or the day's requests are spent.
        """
        way = self._way(to.slot, fallback)
        if (why := way.closed()) is not None:
            self._note(to.slot, "nobody", reason)
            raise why
        async with way.trip():
            outcome = await self._ask(request, Choice("fallback", fallback), to, body, mark, once=once)
            way.ended(outcome)
            return outcome

    def _way(self, slot: str, fallback: Fallback) -> Way:
        way = self._ways.get(slot)
        if way is None or way.fallback != fallback:
            way = self._ways[slot] = Way(slot, fallback, self._settings, self._spent)
        return way

    async def _ask(
        self, request: web.BaseRequest, choice: Choice, to: Destination, body: Body, mark: str, *, once: bool = False,
        spare: bool = False,
    ) -> web.StreamResponse | Silence:  # fmt: skip
        peer = choice.peer
        if not isinstance(peer, Fallback):
            body.check(peer.memory_mb)
        headers = headers_for(request, (REQUEST_ID, mark), length=body.length)
        marks = {REQUEST_ID: mark, **_marks(choice), **(self._door.shared(request) if self._door else {})}
        instance = "" if isinstance(peer, Fallback) else peer.instance
        attempt = self._counts.attempt(instance, to.path)

        def lost() -> None:
            self._losses.lost(instance)
            attempt.lost()

        errand = Errand(
            request,
            body,
            headers,
            marks,
            self._settings.whole_answer,
            self.draining,
            lost=lost,
            heard=attempt.heard,
            afar=isinstance(peer, Fallback),
            spare=spare,
        )
        try:
            with self._pools.lease(peer) as pool:
                url = _addressed(peer, to, headers)
                if pool.token:
                    headers[hdrs.AUTHORIZATION] = f"Bearer {pool.token}"
                began = now()
                outcome = await relay(errand, pool.session, url, pool.watch)
                again = isinstance(outcome, Silence) and not (outcome.absent or outcome.final or once)
                if again and body.replayable:
                    # Most likely a kept connection that the server was just closing.
                    began = now()
                    attempt.begin()
                    outcome = await relay(errand, pool.fresh, url, pool.watch)
                    if isinstance(outcome, Silence) and not outcome.final:
                        outcome = _BROKE_OFF
                if not isinstance(outcome, Silence):
                    self._losses.answered(instance, began)
                attempt.ended(0 if isinstance(outcome, Silence) else outcome.status)
                return outcome
        except BadSettings as error:
            return Silence(str(error), absent=True)
        except web.HTTPError as error:
            # The others are the client's own: its body was too large, or stopped coming.
            if error.status >= _SERVERS_FAULT:
                attempt.ended(error.status)
            raise

    async def _hold(self, to: Destination) -> bool:
        """Wait for the end of a swap; False where that takes too long or too many wait already."""
        if self._held[to.slot] >= self._settings.held:
            return False
        self._held[to.slot] += 1
        try:
            async with asyncio.timeout(self._settings.hold_s):
                while self._route(to).hold:  # noqa: ASYNC110 - another process's file sets no Event
                    await asyncio.sleep(_HOLD_LOOK)
        except TimeoutError:
            return False
        finally:
            self._held[to.slot] -= 1
        return True

    def _known_table(self) -> Table:
        table = self._table.get()
        if table is None:
            raise unavailable("edgefleet-agent has not said yet what serves here; see whether it runs")
        return table

    def _route(self, to: Destination) -> Route:
        slots = self._known_table().slots
        route = slots.get(to.slot)
        if route is None:
            raise refusal(web.HTTPNotFound, f"slot {to.slot} was removed from this device")
        return route

    def _places_of(self, slot: str, bounds: Bounds) -> Places:
        places = self._places.get(slot)
        if places is None or places.bounds != bounds:
            # Who holds a place of before keeps it to the end.
            places = self._places[slot] = Places(bounds)
        return places

    def _changed(self, table: Table) -> None:
        self._pools.keep_only(table)
        named = [name for route in table.slots.values() for name in instances(route)]
        self._losses.keep_only(named)
        self._counts.keep_only(named)
        for slot in self._places.keys() - table.slots.keys():
            del self._places[slot]
            self._serving.pop(slot, None)
            self._answered.pop(slot, None)
            self._shares.pop(slot, None)
            self._loads.pop(slot, None)
        for slot in self._ways.keys() - table.slots.keys():
            del self._ways[slot]
        for way in self._ways.values():
            way.renewed()

    def _count(self, slot: str, served_by: str) -> None:
        self._answered.setdefault(slot, Counter())[served_by] += 1

    def _note(self, slot: str, served_by: str, reason: str) -> None:
        self._count(slot, served_by)
        before = self._serving.get(slot, "local")
        if served_by == before:
            return
        self._serving[slot] = served_by
        if served_by == "local":
            logger.warning("slot %s: served locally again", slot)
        else:
            logger.warning("slot %s: served by %s (%s)", slot, served_by, reason)

    def _health(self, request: web.BaseRequest, table: Table) -> web.Response:
        """As a scoring server answers, for load balancers, orchestrators and clients that look before they ask."""
        if request.method not in {"GET", "HEAD"}:
            raise refusal(web.HTTPNotFound, "/ only says whether this endpoint is healthy; post to /score")
        if not any(instances(route) for route in table.slots.values()):
            raise unavailable("nothing is running behind this endpoint yet")
        return web.Response(text="Healthy", headers={GENERATION: str(table.generation)})

    async def _index(self, request: web.BaseRequest, table: Table) -> web.Response:
        if request.method not in {"GET", "HEAD"}:
            names = ", ".join(f"/{slot}/score" for slot in sorted(table.slots)) or "no slot yet"
            raise refusal(web.HTTPNotFound, f"/ only lists the slots; post to {names}")
        ordered, each = sorted(table.slots.items()), self._door is not None and EACH in request.query
        shown = await asyncio.gather(*(self._described(slot, route, each=each) for slot, route in ordered))
        headers = {GENERATION: str(table.generation)}
        return web.Response(body=msgspec.json.encode(shown), content_type="application/json", headers=headers)

    async def _described(self, slot: str, route: Route, *, each: bool) -> dict[str, Any]:
        shown = await described(slot, route, self._losses, self._counts, self._pools.users, each=each)
        more = {
            "refused": self._table.refused.get(slot),
            "answered": self._answered.get(slot),
            "pressed": self._loads[slot].shown() if slot in self._loads else None,
            "cloud": self._ways[slot].shown() if slot in self._ways else None,
        }
        return shown | {name: value for name, value in more.items() if value}


def _addressed(peer: Peer, to: Destination, headers: CIMultiDict[str]) -> URL:
    """Where the peer is asked; what the headers say of who asks whom becomes what it is to know."""
    if isinstance(peer, Upstream):
        return URL(f"http://module{to.path}", encoded=True)
    if isinstance(peer, Fallback):
        headers.popall(hdrs.HOST, None)
        return URL(peer.url.rstrip("/") + to.path, encoded=True)
    # What lets a client in here is no business of the module's.
    headers.popall(hdrs.AUTHORIZATION, None)
    if peer.key:
        headers[hdrs.AUTHORIZATION] = f"Bearer {peer.key}"
    return URL(peer.url + to.path, encoded=True)


def _marks(choice: Choice) -> dict[str, str]:
    """How the client is told who answers."""
    peer = choice.peer
    marks: dict[str, str] = {SERVED_BY: choice.served_by}
    if peer.module:
        marks[MODULE] = peer.module
    if not isinstance(peer, Fallback):
        marks[PROVIDER] = peer.provider
    if choice.version:
        marks[VERSION] = choice.version
    return marks


def _path(request: web.BaseRequest) -> str:
    return request.raw_path.partition("?")[0]
