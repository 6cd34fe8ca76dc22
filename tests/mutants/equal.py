"""Mutants that make no difference, each with the reason: they are counted apart, and not tried.

An argument holds for one change of one line of one function, by their words: whoever changes that line argues anew, or
writes the test. "It is hard to test" is no argument.
"""

from typing import Final, NamedTuple


class Equal(NamedTuple):
    """A change that is as good as the code: the file, function and line, the change as a run prints it, and why.

    ``times``: in how many places of the line, which all come to the same.
    """

    file: str
    where: str
    change: str
    why: str
    times: int = 1


_WORDS: Final = (
    'varied.made: words = [f"word{number}" + " text" * (number % 4) '
    "for number in generator.integers(0, 99, math.prod(shape))]"
)

EQUAL: Final = (
    Equal(
        "agent/engines/docker_images.py",
        "_plan_space: most = max(spare, 0) if signed is msgspec.UNSET else min(max(spare, 0), signed)",
        "0  =>  1",
        "where nothing is to spare the first file of a layer ends the reading: it takes more than one byte",
        times=2,
    ),
    Equal(
        "agent/execute.py",
        ": _RETRY_MOST_S: Final = 300.0",
        "300.0  =>  301.0",
        "the longest pause is a guess, and has a jitter of a fifth",
    ),
    Equal(
        "agent/execute.py",
        'Executor._arm: raise RuntimeError(f"no arm for {step}")',
        'raise RuntimeError(f"no arm for {step}")  =>  pass',
        "every step has an arm above, which mypy and the crash points hold; this is for a step that is added",
    ),
    Equal(
        "agent/execute.py",
        "Executor._remove: self._hands.routed()",
        "self._hands.routed()  =>  pass",
        "the pass that decides on a removal has begun with the same call, and ends there if it fails",
    ),
    Equal(
        "agent/execute.py",
        "Executor._start: self._hands.routed()",
        "self._hands.routed()  =>  pass",
        "a step that ends wakes the loop, and each pass begins with the same call",
    ),
    Equal(
        "agent/health.py",
        "ready: if looks % 10 == 0 and (ended := await _ended(engine, instance)) is not None:",
        "0  =>  1",
        "the engine is asked at every tenth look, from the first one on or from the tenth",
    ),
    Equal(
        "agent/health.py",
        "ready: if looks % 10 == 0 and (ended := await _ended(engine, instance)) is not None:",
        "10  =>  11",
        "whether the engine is asked twice in a second or a little less often is a guess either way",
    ),
    Equal(
        "agent/inbox.py",
        "Inbox.run: await self._clock.sleep(backoff(tries, first_s=1.0, most_s=60.0))",
        "60.0  =>  61.0",
        "the longest pause is a guess, and has a jitter of a fifth",
    ),
    Equal(
        "agent/health.py",
        ": _ANSWERS_WITHIN_S: Final = 5.0",
        "5.0  =>  6.0",
        "how long one look at a module that starts may take is a guess: the end of all of them is the manifest's",
    ),
    Equal(
        "agent/health.py",
        ": _LOG_TAIL: Final = 2000",
        "2000  =>  2001",
        "how much of a log a reason shows is a guess, and the report cuts it again",
    ),
    Equal(
        "agent/health.py",
        'ready: looks, wrong = 0, ""',
        "0  =>  1",
        "the engine is asked at every tenth look, from the tenth one on or from the ninth",
    ),
    Equal(
        "agent/inbox.py",
        ": AGAIN_S: Final = 600.0",
        "600.0  =>  601.0",
        "how soon a clock is set or metadata renewed nobody knows: ten minutes are a guess",
    ),
    Equal(
        "agent/inbox.py",
        "Inbox.run: self._refused = None",
        "self._refused = None  =>  pass",
        "what has been followed is the device's own order, which each further look finds and passes over",
    ),
    Equal(
        "agent/inbox.py",
        "Inbox.run: self._newest = None",
        "self._newest = None  =>  pass",
        "what was refused is looked at again, or replaced by the next order, under whichever of the two names",
    ),
    Equal(
        "agent/inbox.py",
        "Inbox._another: self._refused = None",
        "self._refused = None  =>  pass",
        "whoever wakes it has named a newest order, which is looked at instead, then and later",
    ),
    Equal(
        "agent/keep.py",
        "Keeper._held_back: return self._unwritten.get(slot.slot, (0, 0.0))[1] > self._hands.clock.monotonic()",
        "self._unwritten.get(slot.slot, (0, 0.0))[1] > self._hands.clock.monotonic()  =>  "
        "(self._unwritten.get(slot.slot, (0, 0.0))[1] >= self._hands.clock.monotonic())",
        "they differ for one instant of a clock that counts nanoseconds, and the next pass looks again",
    ),
    Equal(
        "agent/supply.py",
        "Supply.fetch: total = sum(blob.length for blob in missing) or 1",
        "1  =>  2",
        "where nothing is missing but empty blobs no bytes are gained: of one or of two, they are the same share",
    ),
    Equal(
        "agent/supply.py",
        "Supply.fetch.progress: tell(min(gained / total, 1.0))",
        "1.0  =>  2.0",
        "a pull gains each missing byte once, so that the bound is never met",
    ),
    Equal(
        "agent/verify.py",
        ": _ANSWER_S: Final = 900.0",
        "900.0  =>  901.0",
        "how long the worker waits for a puller that gives up by itself is a guess",
    ),
    Equal(
        "agent/verify.py",
        "Verifier._check: last_counter=int(max((self._store.number(self._counter(key)) for key in keys), default=0)),",
        "0  =>  1",
        "without any key no signature holds, and an order does not come so far",
    ),
    Equal(
        "agent/verify.py",
        "_time: return datetime.fromtimestamp(min(max(seconds, 0.0), MAX_TIME), UTC)",
        "0.0  =>  1.0",
        "each time is held against times after the agent was built: of 1970, one second is as old as the next",
    ),
    Equal(
        "agent/window.py",
        "Window.__init__: self._request = 0",
        "0  =>  1",
        "requests are told apart by their numbers, whichever is the first",
    ),
    Equal(
        "agent/window.py",
        "Window.flight: self._request += 1",
        "1  =>  2",
        "requests are told apart by their numbers, and two of them differ by one or by two",
    ),
    Equal(
        "agent/window.py",
        "Window.__init__: self.heard = 0.0",
        "0.0  =>  1.0",
        "before a block came only the later of this and the request's own begin counts: no agent begins in the first "
        "second of its machine",
    ),
    Equal(
        "agent/window.py",
        "Flight.next: async with asyncio.timeout(max(left, 0.0)):",
        "0.0  =>  1.0",
        "where no time is left a block is there, and comes at once; a second more of many makes no difference",
    ),
    Equal(
        "fleet/ingest.py",
        "Ingest._take: if gathered.now - row.removed > PARTING_S:",
        "gathered.now - row.removed > PARTING_S  =>  (gathered.now - row.removed >= PARTING_S)",
        "a minute's grace is a guess: its last microsecond belongs to either side",
    ),
    Equal(
        "fleet/rollouts/judge.py",
        "_needed: return max(1, math.ceil(round(wave.reached * asked.success_percent / 100, 6)))",
        "6  =>  7",
        "the error of a product of so many devices is far below either digit, and nobody writes so fine a percent",
    ),
    Equal(
        "modules/scoring/graphs/batch_trial.py",
        _WORDS,
        "0  =>  1",
        "any words do, as long as they differ",
    ),
    Equal(
        "modules/scoring/graphs/batch_trial.py",
        _WORDS,
        "99  =>  100",
        "any words do, as long as they differ",
    ),
    Equal(
        "modules/scoring/graphs/batch_trial.py",
        _WORDS,
        "4  =>  5",
        "any lengths do, as long as they differ",
    ),
    Equal(
        "modules/trust/client.py",
        "Client.__init__: max_root_rotations=128,",
        "128  =>  129",
        "a root is replaced once a year, and a device that is further behind goes on with the next contact",
    ),
    Equal(
        "modules/trust/client.py",
        "Client.__init__: max_delegations=8,",
        "8  =>  9",
        "a repository has one level of teams, and they end the search: eight is a bound that nothing honest meets",
    ),
    Equal(
        "modules/trust/device.py",
        ": _LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)",
        "2000  =>  2001",
        "any time before edgefleet signed its first metadata does",
    ),
    Equal(
        "modules/trust/device.py",
        ": _LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)",
        "1  =>  2",
        "any time before edgefleet signed its first metadata does",
        times=2,
    ),
    Equal(
        "modules/trust/publication.py",
        "published: named = {roles.file_name(roles.TIMESTAMP, 0): online.timestamp}",
        "0  =>  1",
        "the timestamp is the one file whose name has no version",
    ),
    Equal(
        "fleet/ingest.py",
        ": TURN: Final = 50",
        "50  =>  51",
        "how many messages one thread reads at a time is a guess",
    ),
    Equal(
        "fleet/ingest.py",
        ": PARTING_S: Final = 60.0",
        "60.0  =>  61.0",
        "how long a device that was taken out may say its goodbye is a guess",
    ),
    Equal(
        "fleet/ingest.py",
        "Ingest._take: if gathered.now - row.revoked > PARTING_S:",
        "gathered.now - row.revoked > PARTING_S  =>  (gathered.now - row.revoked >= PARTING_S)",
        "a minute's grace is a guess: its last microsecond belongs to either side",
    ),
    Equal(
        "fleet/ingest.py",
        "_known: elif said.number < row.report_number and row.report and said.issued > _issued(row.report):",
        "said.number < row.report_number  =>  (said.number <= row.report_number)",
        "the very same number with the same bytes is as old as itself, and with others it is a clone above",
    ),
    Equal(
        "fleet/rights.py",
        ": TOGETHER: Final = 500",
        "500  =>  501",
        "how many devices one look is for is a guess: one more or less changes no answer",
    ),
    Equal(
        "fleet/rights.py",
        ": LOOK_UP_S: Final = 5.0",
        "5.0  =>  6.0",
        "how long a look may take before it is given up is a guess",
    ),
    Equal(
        "fleet/rights.py",
        ": KEPT_S: Final = 600.0",
        "600.0  =>  601.0",
        "how long what is known of a device is kept without an order is a guess",
    ),
    Equal(
        "fleet/rights.py",
        ": SURE_S: Final = 5.0",
        "5.0  =>  6.0",
        "how soon a no is looked up again is a guess",
    ),
    Equal(
        "fleet/rights.py",
        ": EVENT_EVERY_S: Final = 3600.0",
        "3600.0  =>  3601.0",
        "how often a refused device is told of is a guess",
    ),
    Equal(
        "fleet/rights.py",
        ": _DEVICES: Final = 50_000",
        "50_000  =>  50001",
        "how many devices are remembered is a guess, and bounds the memory",
    ),
    Equal(
        "fleet/rights.py",
        ": _DIGESTS: Final = 400_000",
        "400_000  =>  400001",
        "how many digests are remembered is a guess, and bounds the memory",
    ),
    Equal(
        "fleet/rights.py",
        "Rights.__init__: self._digests = 0",
        "0  =>  1",
        "it counts digests towards a bound that is a guess",
    ),
)
