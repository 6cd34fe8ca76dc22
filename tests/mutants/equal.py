"""Mutants that make no difference, each with the reason: they are counted apart, and not tried.

An argument holds for one change of one line of one function, by their words: whoever changes that line argues anew, or
writes the test. "It is hard to test" is no argument.
"""

from typing import Final

from tests.mutants.argument import Equal
from tests.mutants.equal_in_fleet import FLEET

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
        "Executor._was_stopped: return False",
        "False  =>  True",
        "a row is brought to *starting* together with its candidate",
    ),
    Equal(
        "agent/execute.py",
        "Executor._revert: await self._finish_revert(row)",
        "await self._finish_revert(row)  =>  pass",
        "the next pass finds it *reverting*, and takes the step that is the same call",
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
        "agent/health.py",
        "ready: while (left := ends - clock.monotonic()) > 0:",
        "(left := ends - clock.monotonic()) > 0  =>  ((left := (ends - clock.monotonic())) >= 0)",
        "with no time left a look ends before it has begun, and the next one does not come",
    ),
    Equal(
        "agent/health.py",
        'status: if not set((status.provider_in_use or "").split(", ")) <= KNOWN | {""}:',
        'set((status.provider_in_use or "").split(", ")) <= KNOWN | {""}  =>  '
        "(set((status.provider_in_use or '').split(', ')) < KNOWN | {''})",
        "they differ for a server that names every provider there is, and none, at once",
    ),
    Equal(
        "agent/health.py",
        "prove: if limits.latency_ms is not None and latency > limits.latency_ms:",
        "latency > limits.latency_ms  =>  (latency >= limits.latency_ms)",
        "what a clock of nanoseconds measures never is what somebody wrote",
    ),
    Equal(
        "agent/health.py",
        "_samples: times.append((time.perf_counter() - began) * 1000)",
        "1000  =>  1001",
        "a thousandth of what was measured is far below what two measurements differ by",
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
        ": _GIVEN_AGAIN_S: Final = 5.0",
        "5.0  =>  6.0",
        "how soon a disk has room or an engine time again is a guess",
    ),
    Equal(
        "agent/keep.py",
        "Keeper._is_signalled: passed = self._hands.clock.monotonic() - placed.signalled "
        "if placed.signalled is not None else -1.0",
        "1.0  =>  2.0",
        "any number below zero says that it was not signalled",
    ),
    Equal(
        "agent/keep.py",
        "Keeper._is_signalled: return 0.0 <= passed <= _DIES_OF_SIGNAL_S",
        "0.0 <= passed <= _DIES_OF_SIGNAL_S  =>  (0.0 <= passed < _DIES_OF_SIGNAL_S)",
        "how soon is a guess: the last nanosecond belongs to either side",
    ),
    Equal(
        "agent/keep.py",
        "Keeper._restart_in_place: tries = self._unwritten.get(slot.slot, (0, 0.0))[0] + 1",
        "0.0  =>  1.0",
        "only the number of the pair is asked for here",
    ),
    Equal(
        "agent/keep.py",
        "Keeper._held_back: return self._unwritten.get(slot.slot, (0, 0.0))[1] > self._hands.clock.monotonic()",
        "0  =>  1",
        "only the time of the pair is asked for here",
    ),
    Equal(
        "agent/keep.py",
        "Keeper._held_back: return self._unwritten.get(slot.slot, (0, 0.0))[1] > self._hands.clock.monotonic()",
        "0.0  =>  1.0",
        "it is past either way: no agent begins in the first second of its machine",
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
        "modules/scoring/graphs/batch_trial.py",
        "varied.made: numbers = numbers * generator.choice((-1, 1), shape) if kind.signed else numbers",
        "1  =>  2",
        "how much further numbers of one sign reach than those of the other is a guess",
        times=2,
    ),
    Equal(
        "modules/scoring/graphs/batch_trial.py",
        "varied.made: numbers = np.where(generator.random(shape) < 0.5, gap, numbers)  # noqa: PLR2004 - half of them",
        "generator.random(shape) < 0.5  =>  (generator.random(shape) <= 0.5)",
        "a random number is the very limit once in 2**53 times",
    ),
    Equal(
        "modules/scoring/graphs/batch_trial.py",
        "varied.made: return generator.random(shape) < _TRUE[place]",
        "generator.random(shape) < _TRUE[place]  =>  (generator.random(shape) <= _TRUE[place])",
        "a random number is the very limit once in 2**53 times",
    ),
    Equal(
        "modules/scoring/graphs/batch_trial.py",
        "_one_close: largest = min(1.0, float(np.max(np.abs(b[np.isfinite(b)]), initial=0)))",
        "1.0  =>  2.0",
        "how far numbers near 0 may differ beside large ones is a guess",
    ),
    Equal(
        "modules/scoring/graphs/batch_trial.py",
        "_tells: first = np.ravel(answers[0])[:1]",
        "0  =>  1",
        "whether all numbers are the same, it does not matter with which of them they are compared",
    ),
    Equal(
        "agent/commands/desk.py",
        ": WAITING: Final = 8",
        "8  =>  9",
        "how many messages wait is a guess",
    ),
    Equal(
        "agent/commands/desk.py",
        ": BUDGET: Final = 10",
        "10  =>  11",
        "how many looks there may be at once is a guess",
    ),
    Equal(
        "agent/commands/desk.py",
        ": LOOK_EVERY_S: Final = 6.0",
        "6.0  =>  7.0",
        "how seldom commands are looked at in a flood is a guess",
    ),
    Equal(
        "agent/commands/desk.py",
        ": AT_ONCE: Final = 4",
        "4  =>  5",
        "how many commands are followed at a time is a guess",
    ),
    Equal(
        "agent/commands/desk.py",
        ": _ASK_EVERY_S: Final = 60.0",
        "60.0  =>  61.0",
        "how often trust metadata may be fetched for commands is a guess",
    ),
    Equal(
        "agent/commands/desk.py",
        "Desk._resume: self._resumed = True",
        "self._resumed = True  =>  pass",
        "looked for again before each command, there is none that is neither being followed nor answered",
    ),
    Equal(
        "agent/commands/desk.py",
        "Desk._resume: self._resumed = True",
        "True  =>  False",
        "looked for again before each command, there is none that is neither being followed nor answered",
    ),
    Equal(
        "agent/commands/kept.py",
        "Kept._opened: db = sqlite3.connect(self._path, isolation_level=None, timeout=1.0)",
        "1.0  =>  2.0",
        "how long somebody else's lock is waited for is a guess: this file is the agent's own",
    ),
    Equal(
        "agent/commands/kept.py",
        "Kept._opened: db.close()",
        "db.close()  =>  pass",
        "a connection that could not be used holds no lock, and goes with the error that says so",
    ),
    Equal(
        "agent/commands/kept.py",
        ": MOST: Final = 256",
        "256  =>  257",
        "how many commands are remembered is a guess, and bounds the file",
    ),
    Equal(
        "agent/commands/kept.py",
        ": MOST_REFUSED: Final = 64",
        "64  =>  65",
        "how many refused commands are remembered is a guess, and bounds the file",
    ),
    Equal(
        "agent/commands/kept.py",
        ": MOST_BYTES: Final = 8 << 20",
        "8  =>  9",
        "how much is kept of answers is a guess, and bounds the file",
    ),
    Equal(
        "agent/commands/kept.py",
        ": MOST_BYTES: Final = 8 << 20",
        "20  =>  21",
        "how much is kept of answers is a guess, and bounds the file",
    ),
    Equal(
        "agent/commands/kept.py",
        ": _VERSION: Final = 1",
        "1  =>  2",
        "any number does that no file of another form has",
    ),
    Equal(
        "modules/sealing.py",
        ": LONGEST: Final = 8000",
        "8000  =>  8001",
        "how long a secret may be is a guess, within what an order takes",
    ),
    Equal(
        "modules/scoring/graphs/batch_trial.py",
        ": COMPARED: Final = 8.0",
        "8.0  =>  9.0",
        "how far numbers may reach for their answers to be compared is a guess",
    ),
    Equal(
        "modules/scoring/graphs/batch_trial.py",
        ": _TRUE: Final = (0.5, 0.0, 1.0, 0.5)",
        "1.0  =>  2.0",
        "a random number is below 1 and below 2 alike",
    ),
    Equal(
        "modules/scoring/graphs/batch_trial.py",
        "Kind: reach: tuple[float, ...] = (1.0, 8.0, 0.125, 2.0)",
        "1.0  =>  2.0",
        "any reaches do, as long as they differ",
    ),
    Equal(
        "modules/scoring/graphs/batch_trial.py",
        "Kind: reach: tuple[float, ...] = (1.0, 8.0, 0.125, 2.0)",
        "2.0  =>  3.0",
        "any reaches do, as long as they differ",
    ),
    Equal(
        "modules/scoring/graphs/batch_trial.py",
        ": FAR: Final = Kind(reach=(1.0, 300.0, 0.0, 1e4), highest=(300, 7, 1))",
        "1.0  =>  2.0",
        "any reaches do, as long as some are far and one is nothing",
    ),
    Equal(
        "modules/scoring/graphs/batch_trial.py",
        ": FAR: Final = Kind(reach=(1.0, 300.0, 0.0, 1e4), highest=(300, 7, 1))",
        "300.0  =>  301.0",
        "any reaches do, as long as some are far and one is nothing",
    ),
    Equal(
        "modules/scoring/graphs/batch_trial.py",
        ": FAR: Final = Kind(reach=(1.0, 300.0, 0.0, 1e4), highest=(300, 7, 1))",
        "1e4  =>  10001.0",
        "any reaches do, as long as some are far and one is nothing",
    ),
    Equal(
        "modules/scoring/graphs/batch_trial.py",
        ": FAR: Final = Kind(reach=(1.0, 300.0, 0.0, 1e4), highest=(300, 7, 1))",
        "300  =>  301",
        "any whole numbers do, as long as some are more than a byte",
    ),
    Equal(
        "modules/scoring/graphs/batch_trial.py",
        ": FAR: Final = Kind(reach=(1.0, 300.0, 0.0, 1e4), highest=(300, 7, 1))",
        "7  =>  8",
        "any whole numbers do, as long as some are more than a byte",
    ),
    Equal(
        "agent/commands/kept.py",
        "Kept.floor: return max((floors.get(key, 0) for key in keys), default=0)",
        "0  =>  1",
        "no command was issued in the first second of 1970",
        times=2,
    ),
    Equal(
        "agent/keep.py",
        ": _READ_AT: Final = 2",
        "2  =>  3",
        "which restart it is, of those before so many are enough to give a module up, is a guess",
    ),
    Equal(
        "agent/keep.py",
        ": _DIES_OF_SIGNAL_S: Final = 30.0",
        "30.0  =>  31.0",
        "how soon after the signal is because of it is a guess",
    ),
    Equal(
        "agent/commands/wipe.py",
        "_empty_table: generation = gateway_table.read(table).generation + 1",
        "1  =>  2",
        "any number does that is above the last one",
    ),
    Equal(
        "agent/commands/wipe.py",
        "_empty_table: generation = 1",
        "1  =>  2",
        "where the last one cannot be read any number does",
    ),
    Equal(
        "agent/commands/wipe.py",
        ": ENGINE_WITHIN_S: Final = 600.0",
        "600.0  =>  601.0",
        "how long an engine is waited for is a guess",
    ),
    Equal(
        "agent/commands/wipe.py",
        ": BROKER_WITHIN_S: Final = 3600.0",
        "3600.0  =>  3601.0",
        "how long the broker is waited for is a guess",
    ),
    Equal(
        "agent/commands/wipe.py",
        ": _AGAIN_S: Final = 2.0",
        "2.0  =>  3.0",
        "how soon an engine is asked again is a guess",
    ),
    Equal(
        "agent/renewal_due.py",
        "RenewalDue.run: failures = 0",
        "0  =>  1",
        "whether the first pause is the shortest one or twice that is a guess",
        times=2,
    ),
    Equal(
        "agent/renewal_due.py",
        ": _DAY_S: Final = 86_400.0",
        "86_400.0  =>  86401.0",
        "by how much a clock may be behind a certificate's begin and still be believed is a guess",
    ),
    Equal(
        "agent/commands/desk.py",
        ": WAITING_LARGE: Final = 2",
        "2  =>  3",
        "how many large messages wait is a guess, and bounds the memory",
    ),
    Equal(
        "modules/trust/drafts.py",
        "next_targets: above: int = 0,",
        "0  =>  1",
        "no version is below one: above none and above the first, the next one is the same",
    ),
    *FLEET,
)
