"""Mutants of the fleet server that make no difference, as ``tests/mutants/equal.py`` has them of the rest."""

from typing import Final

from tests.mutants.argument import Equal

FLEET: Final = (
    Equal(
        "fleet/ingest.py",
        "Ingest._take: if gathered.now - row.removed > PARTING_S:",
        "gathered.now - row.removed > PARTING_S  =>  (gathered.now - row.removed >= PARTING_S)",
        "a minute's grace is a guess: its last microsecond belongs to either side",
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
        "fleet/pack.py",
        ": SPAN: Final = 32",
        "32  =>  33",
        "how far behind is late is a guess",
    ),
    Equal(
        "fleet/pack.py",
        ": OPEN_PER_DEVICE: Final = 64",
        "64  =>  65",
        "how many blocks a device may wait for at a time is a guess",
    ),
    Equal(
        "fleet/pack.py",
        ": SILENT_S: Final = 6.0",
        "6.0  =>  7.0",
        "how long a silence means that a device has left is a guess",
    ),
    Equal(
        "fleet/pack.py",
        ": GONE_S: Final = 60.0",
        "60.0  =>  61.0",
        "how long a blob that nobody asks for is remembered is a guess",
    ),
    Equal(
        "fleet/pack.py",
        "Member: last: int = 0",
        "0  =>  1",
        "it is set with the first request, before anything reads it",
    ),
    Equal(
        "fleet/pack.py",
        "Member: reached: int = -1",
        "1  =>  2",
        "any number below the first block does, and what is gained by it is bounded by a full patience",
    ),
    Equal(
        "fleet/pack.py",
        "Member: sent_before: int = 0",
        "0  =>  1",
        "it is set with the first request, before anything reads it",
    ),
    Equal(
        "fleet/pack.py",
        "Pack.__init__: self._count = 0",
        "0  =>  1",
        "blocks are counted from one request to the next, whichever the first number is",
    ),
    Equal(
        "fleet/pack.py",
        "Pack._begin: self._held = None",
        "self._held = None  =>  pass",
        "whoever is in a new wave has asked for its first block or a later one: nobody is behind, which clears it",
    ),
    Equal(
        "fleet/pack.py",
        "Pack.ask: if numbers[-1] * BLOCK >= max(self.length, 1):",
        "1  =>  2",
        "of an empty blob the second block is as far away as of one of a byte",
        times=2,
    ),
    Equal(
        "fleet/pack.py",
        "Pack.turn: continue",
        "continue  =>  pass",
        "the time of the block before stands there again, and is later than now",
    ),
    Equal(
        "fleet/pack.py",
        "Pack._due: if gathered > now:",
        "gathered > now  =>  (gathered >= now)",
        "for the first block nobody is behind: at that very moment it goes out either way",
    ),
    Equal(
        "fleet/pack.py",
        "Pack._due: and one.patience > 0",
        "one.patience > 0  =>  (one.patience >= 0)",
        "a device that has nothing left, to the last digit, is waited for until now",
    ),
    Equal(
        "fleet/pack.py",
        "Pack._due: behind = [one for one in behind if one.patience > 0]",
        "one.patience > 0  =>  (one.patience >= 0)",
        "a device that has nothing left, to the last digit, is waited for until now",
    ),
    Equal(
        "fleet/people/reach.py",
        ": _TOGETHER: Final = 500",
        "500  =>  501",
        "how many devices are asked for at a time is a guess",
    ),
    Equal(
        "fleet/people/reach.py",
        "_check_rollout: if named.isascii() and named.isdecimal() and len(named) <= _DIGITS:",
        "len(named) <= _DIGITS  =>  (len(named) < _DIGITS)",
        "no server counts to so many rollouts",
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
    Equal(
        "fleet/rollouts/engine.py",
        ": ORDERS_PER_TICK: Final = 100",
        "100  =>  101",
        "how much is done in one tick is a guess",
    ),
    Equal(
        "fleet/rollouts/engine.py",
        ": ROLLOUTS_PER_TICK: Final = 20",
        "20  =>  21",
        "how much is done in one tick is a guess",
    ),
    Equal(
        "fleet/rollouts/engine.py",
        ": AFTER_A_FAILURE_S: Final = 60.0",
        "60.0  =>  61.0",
        "how soon a rollout that could not be looked at is tried again is a guess",
    ),
    Equal(
        "fleet/rollouts/engine.py",
        "Engine.tick: return more or "
        "connection.execute(due.with_only_columns(rollouts.c.id).limit(1)).first() is not None",
        "1  =>  2",
        "whether there is one is asked, and the first of two says it as well",
    ),
    Equal(
        "fleet/rollouts/engine.py",
        "Engine._look: if recalled := recall.some(connection, row.id, limit=max(room, 1)):",
        "1  =>  2",
        "without room none of them is taken back: that there is one is all that is asked",
    ),
    Equal(
        "fleet/rollouts/engine.py",
        "Engine._run: chosen = ordering.due(connection, row.id, judged.wave, policy, limit=max(room, 1))",
        "1  =>  2",
        "without room none of them is ordered: that there is one is all that is asked",
    ),
    Equal(
        "fleet/rollouts/engine.py",
        "Engine._order_alone: connection.execute(update(member_rows).where(mine).values(counter=0))",
        "0  =>  1",
        "any number says that it waits for no order any more; what a device refuses is looked for by its phase, too",
    ),
    Equal(
        "fleet/rollouts/engine.py",
        "Engine._order_alone: members.fail(connection, mine, Reason(error.code, str(error)[:2000]))",
        "2000  =>  2001",
        "how much of a reason is kept is a guess",
    ),
    Equal(
        "fleet/rollouts/engine.py",
        "_soon: return now if room else now + 0.001",
        "0.001  =>  1.001",
        "how soon there may be room again is a guess, and what makes room wakes the engine",
    ),
    Equal(
        "fleet/rollouts/judge.py",
        "_needed: return max(1, math.ceil(round(wave.reached * asked.success_percent / 100, 6)))",
        "6  =>  7",
        "the error of a product of so many devices is far below either digit, and nobody writes so fine a percent",
    ),
)
