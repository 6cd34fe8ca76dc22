"""Rollouts under whatever happens in whatever order, on a real database, and what holds after each step.

Devices report late, twice, and out of turn, one joins late and is taken out; operators start hotfixes, pause, approve,
retry, skip, cancel, revert and empty slots; the engine ticks when it likes, and is killed in the middle; orders wait
for a broker that forgets them. What must hold is written from what was asked for and from the rows, without planner or
judge:

- no device gets an order that its rollout's selector does not name, and no wave has more devices than it was to have;
- no wave opens without evidence, and no rollout is finished with a device that is not accounted for;
- no more devices are at work than the policy allows;
- what is taken back goes to exactly what was decided before, and an older rollout takes no device from a newer one;
- what happened stays as it was.

A new kind of event is a rule, a new promise a check in ``holds``. A failure is printed as the calls that lead to it,
as few as were found.
"""

import math
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import event, select

from fleet import orders
from fleet.db import Database
from fleet.refusals import Conflict, Missing
from fleet.removal import remove_device
from fleet.rollouts import control
from fleet.rollouts.model import Budget, Policy, Wave
from fleet.rollouts.start import Wish, start
from fleet.tables import devices, events, history, members, rollouts, slot_revisions, slots
from modules import canonical
from modules.errors import Invalid
from modules.names import ModuleRef, Slug
from modules.protocol.report import Health, Report, SlotReport
from modules.signing import REPORT_TYPE
from tests.doubles.fleet_rows import SmallFleet

SITES = {"dev-a": "north", "dev-b": "north", "dev-c": "south", "dev-d": "south", "dev-e": "south"}
*DEVICES, LATE = SITES
# What an operator says of who is meant, and who is.
MEANT = (
    ({}, (*DEVICES, LATE)),
    ({"devices": DEVICES[:2]}, DEVICES[:2]),
    ({"devices": DEVICES[1:]}, DEVICES[1:]),
    ({"devices": DEVICES[2:3]}, DEVICES[2:3]),
    ({"selector": "site=south"}, (*DEVICES[2:], LATE)),
    ({"selector": "id in (dev-a,dev-d)"}, (DEVICES[0], DEVICES[3])),
)
SLOT = Slug("digits")
POLICIES = (
    Policy(),
    Policy(waves=(Wave(count=1),)),
    Policy(waves=(Wave(count=1), Wave(count=1), Wave(count=1))),
    Policy(waves=(Wave(percent=50.0),), success_percent=50.0, failure_percent=50.0),
    Policy(waves=(Wave(count=2),), success_percent=0.0, failure_percent=100.0),
    Policy(waves=(Wave(label="site=south"), Wave(count=1))),
    Policy(waves=(Wave(count=1), Wave(count=2)), on_failure="revert", concurrency=1),
    Policy(waves=(Wave(count=2),), on_failure="revert-wave", soak="12h", deadline="18h"),
    Policy(waves=(Wave(count=1), Wave(percent=100.0, approval=True)), late_joiners=True),
    Policy(budget=Budget(label="site"), late_joiners=True, on_failure="revert"),
)
# Rollouts of one walk: of more, none would get far.
MOST = 6
# Good news more often than bad, or no walk would come far.
PHASES = (*["committed"] * 6, "fetching", "probation", "reverted", "rejected", "degraded", "new-phase")
HEALTHS = (None, "up", "up", "up", "restarting", "degraded", "new-health")
FAILED = {"reverting", "reverted", "rejected", "degraded"}
ENDED = {"done", "partial", "reverted"}
# What a device says that runs again what it ran before.
GONE_BACK = {"reverting", "reverted", "rejected"}
TAKEN_BACK = {"recalled", "returning", "returned", "unreturned"}
# Standings in which a device is accounted for, and nobody waits for it.
ACCOUNTED = {"succeeded", "failed", "unreached", "skipped", "gone", "stopped", "returned", "unreturned"}


class Killed(BaseException):
    """Nobody catches it, as nobody catches a SIGKILL."""


def good(row):
    """Committed and, as far as the device says, up."""
    return row.current and row.phase == "committed" and row.health in {"", "up"}


def bad(row):
    """It has failed with this rollout, as it says itself, or it was not done in time."""
    said = row.phase in FAILED or (row.phase == "committed" and row.health == "degraded")
    return row.standing == "failed" and (said or row.note != "")


def counted(row):
    return bad(row) or (row.current and row.standing in {"planned", "working", "succeeded"})


def waves_of(meant, policy, *, empty=False):
    """Who is to go with which wave: those that the rules leave over with the last one, and no wave is of nobody."""
    left, waves = list(meant), []
    for wanted in policy.waves:
        if wanted.label:
            some = [name for name in left if f"site={SITES[name]}" == wanted.label]
        elif wanted.count:
            some = left[: wanted.count]
        else:
            some = left[: max(0, math.ceil(len(meant) * wanted.percent / 100) - sum(map(len, waves)))]
        waves.append(some)
        left = [name for name in left if name not in some]
    return waves if empty else [wave for wave in (*waves, left) if wave]


class AnyOrder(RuleBasedStateMachine):
    """One fleet of four devices; ``opens`` is the test's: an empty database, in this folder or elsewhere."""

    opens: Callable[[Path], Database]

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.database = self.opens(self.folder)
        self.fleet = SmallFleet(self.folder, self.database)
        for name in DEVICES:
            self.fleet.add_device(name, labels={"site": SITES[name]})
        self.modules = [self.fleet.add_module("digits") for _ in range(3)]
        self.said = []
        self.orders = {name: [] for name in SITES}
        # What the broker keeps for each device, and who is in the fleet.
        self.retained = {}
        self.there = set(DEVICES)
        self.planned, self.late, self.approved = {}, {}, set()
        self.before = self.rows()

    def teardown(self):
        self.database.close()
        shutil.rmtree(self.folder)

    def rows(self):
        """Every table that the rules look at."""
        tables = (rollouts, members, slots, slot_revisions, history, events)
        with self.database.read() as connection:
            found = {one.name: connection.execute(select(one).order_by(*one.primary_key)).all() for one in tables}
            counters = dict(connection.execute(select(devices.c.id, devices.c.order_counter)).all())
        return found | {"counters": counters}

    @precondition(lambda self: len(self.planned) < MOST)
    @rule(
        module=st.integers(0, 2),
        who=st.sampled_from((MEANT[0], *MEANT)),
        policy=st.sampled_from((*POLICIES[-2:], *POLICIES, *POLICIES[-2:])),
        waive=st.booleans(),
    )
    def start(self, module, who, policy, waive):
        """A rollout, or a hotfix into the middle of another."""
        said, meant = who
        meant = [name for name in meant if name in self.there]
        said = said | {"policy": policy, "waive": waive, "supersede": True}
        wish = Wish(module=self.modules[module], slot=SLOT, engine="process", **said)
        try:
            with self.database.write() as connection:
                rollout = start(connection, self.fleet.now, self.fleet.registry, wish)
        except Invalid:  # a wave of a label that nobody of those has who are meant
            assert not all(len(one) for one in waves_of(meant, policy, empty=True))
            return
        self.planned[rollout] = waves_of(meant, policy)
        takes = policy.late_joiners and "devices" not in who[0] and LATE in who[1]
        self.late[rollout] = takes and LATE not in self.there

    @rule(
        number=st.integers(1, 4),
        action=st.sampled_from(("pause", "resume", "cancel", "revert", "retry", "approve")),
    )
    def steer(self, number, action):
        """What an operator does, allowed or not."""
        try:
            with self.database.write() as connection:
                getattr(control, action)(connection, self.fleet.now, number)
        except (Conflict, Missing):
            return
        if action == "approve":
            self.approved.add((number, next(one.approved for one in self.rows()["rollouts"] if one.id == number)))

    @precondition(lambda self: len(self.planned) < MOST // 2)
    @rule(module=st.integers(0, 2))
    def recall(self, module):
        """A rollout to everybody is ordered, and cancelled before any device has come to its end."""
        self.start(module, MEANT[0], POLICIES[0], waive=False)
        self.tick(1)
        with self.database.write() as connection:
            newest = max(one.id for one in self.rows()["rollouts"])
            control.cancel(connection, self.fleet.now, newest)
        self.tick(1)

    @rule(number=st.integers(1, 4), name=st.sampled_from(tuple(SITES)))
    def skip(self, number, name):
        """An operator leaves a device out, if it is in."""
        try:
            with self.database.write() as connection:
                control.skip(connection, self.fleet.now, number, name, "for a reason")
        except (Conflict, Missing):
            pass

    @precondition(lambda self: LATE not in self.there and not self.orders[LATE])
    @rule()
    def join(self):
        """A device that was not there before."""
        self.fleet.add_device(LATE, labels={"site": SITES[LATE]})
        self.there.add(LATE)

    @precondition(lambda self: LATE in self.there and self.orders[LATE])
    @rule()
    def remove(self):
        """It is taken out again, in the middle of whatever it does; what it says from now on moves nothing."""
        with self.database.write() as connection:
            remove_device(connection, self.fleet.now, LATE)
        self.there.remove(LATE)
        self.retained.pop(LATE, None)

    @rule(statement=st.integers(1, 60))
    def kill(self, statement):
        """The server is killed at this statement of a tick: nothing of it has happened, and the next one goes on."""
        before, left = self.rows(), [statement]

        def dies(*_):
            left[0] -= 1
            if left[0] == 0:
                raise Killed

        event.listen(self.database.engine, "before_cursor_execute", dies)
        try:
            self.fleet.engine.tick()
        except Killed:
            event.remove(self.database.engine, "before_cursor_execute", dies)
            assert self.rows() == before
        else:  # it was over before
            event.remove(self.database.engine, "before_cursor_execute", dies)
            self.looked_at(before, self.rows())

    @rule(which=st.sampled_from(("taken", "killed before", "killed after", "forgotten")))
    def publish(self, which):
        """The broker gets what is new; the server may be killed before, or after without having written that down.

        Or the broker loses what it kept, and is given everything again.
        """
        if which == "forgotten":
            self.retained.clear()
            with self.database.write() as connection:
                orders.forget_published(connection)
        with self.database.read() as connection:
            waiting = orders.unpublished(connection, limit=99)
        if which == "killed before":
            return
        self.retained |= {one.device: one.envelope for one in waiting}
        if which != "killed after":
            with self.database.write() as connection:
                orders.published(connection, waiting)

    @rule(name=st.sampled_from(DEVICES))
    def empty(self, name):
        """An operator empties a slot, if there is something in it."""
        try:
            with self.database.write() as connection:
                control.empty_slot(connection, self.fleet.now, self.fleet.orders, name, SLOT)
        except Missing:
            pass

    @rule(times=st.integers(1, 3))
    def tick(self, times):
        """The engine works; each tick is looked at by itself."""
        for _ in range(times):
            before = self.rows()
            self.fleet.engine.tick()
            self.looked_at(before, self.rows())

    def looked_at(self, before, after):
        """What one tick has done."""
        self.opened_with_evidence(before, after)
        self.finished_with_every_device(before, after)
        self.taken_back_to_exactly_what_was_before(before, after)
        self.no_more_at_work_than_allowed(before, after)
        self.no_more_of_a_place_than_the_budget_allows(before, after)

    @rule(days=st.floats(-0.5, 1.0))
    def later(self, days):
        """Orders are renewed at the next tick, deadlines end, and a clock may be set back."""
        self.fleet.now += days * 86400

    @rule()
    def receive(self):
        """Every device takes what the broker has for it."""
        for name, envelope in self.retained.items():
            order = self.fleet.opened(envelope)
            if order not in self.orders[name]:
                self.orders[name].append(order)

    @rule(phase=st.sampled_from(PHASES), health=st.sampled_from(HEALTHS))
    def work(self, phase, health):
        """The engine works, devices take their orders, and all report the same of them."""
        self.tick(1)
        self.publish("taken")
        self.receive()
        for name in sorted(self.there):
            self.report(name, 1, phase, health, same_number=False)
        self.tick(1)

    @precondition(lambda self: self.planned)
    @rule(times=st.integers(1, 4))
    def go_well(self, times):
        """All that are asked have good news: without this no walk would get far."""
        for _ in range(times):
            self.work("committed", "up")

    @precondition(lambda self: self.planned)
    @rule(module=st.integers(0, 2), policy=st.sampled_from(POLICIES))
    def go_well_from_the_start(self, module, policy):
        """A rollout to everybody that nobody disturbs for a while."""
        if len(self.planned) < MOST:
            self.start(module, MEANT[0], policy, waive=False)
        self.go_well(2)

    @rule(
        name=st.sampled_from(tuple(SITES)),
        which=st.integers(1, 3),
        phase=st.sampled_from(PHASES),
        health=st.sampled_from(HEALTHS),
        same_number=st.booleans(),
    )
    def report(self, name, which, phase, health, same_number):
        """A device speaks of its newest order, or of one before it; sometimes under a number that it has used."""
        if len(self.orders[name]) < which or SLOT not in self.orders[name][-which].slots:
            return
        order = self.orders[name][-which]
        slot = order.slots[SLOT]
        said = SlotReport(
            slot=SLOT,
            phase=phase,
            module=str(ModuleRef.from_target(slot.manifest)),
            digest=slot.digest,
            current=Health(state=health) if health else None,
        )
        number = self.fleet.numbers[name] = max(1, self.fleet.numbers.get(name, 0) + (not same_number))
        report = Report(device=name, number=number, issued=0, order=order.counter, agent="0", slots=(said,))
        self.said.append(self.fleet.said(name, "report", report, REPORT_TYPE))
        before = self.rows()["members"]
        self.fleet.ingest.commit([self.said[-1]])
        self.heard(before, name, order.counter)

    @precondition(lambda self: self.said)
    @rule(data=st.data())
    def repeat(self, data):
        """The broker brings something again, or late."""
        self.fleet.ingest.commit([data.draw(st.sampled_from(self.said))])

    def heard(self, before, name, counter):
        """A report moves this device's current member, or one on its way back, and none that a newer order carries."""
        for was, now in zip(before, self.rows()["members"], strict=True):
            if was != now:
                assert now.device == name
                assert was.current or was.standing == "returning"
                assert was.counter is not None
                assert was.counter <= counter

    def opened_with_evidence(self, before, after):
        """A wave opens only if each wave so far has a good device that is still its own, and not too many bad ones."""
        was = {one.id: one.wave for one in before["rollouts"]}
        for one in after["rollouts"]:
            if one.wave == was[one.id]:
                continue
            assert one.wave == was[one.id] + 1
            waves = self.policy_of(one).waves
            if one.wave <= len(waves) and waves[one.wave - 1].approval:
                assert (one.id, one.wave) in self.approved, f"rollout {one.id} opened wave {one.wave} unapproved"
            for wave in range(1, one.wave):
                # Of the moment after: what was overdue was seen before the wave was opened.
                mine = [row for row in after["members"] if row.rollout == one.id and row.wave == wave]
                assert any(good(row) for row in mine), f"rollout {one.id} opened wave {one.wave} without evidence"
                self.within_its_policy(one, mine)

    def finished_with_every_device(self, before, after):
        """A rollout ends only with its last wave, when each device is accounted for and enough of each wave are good.

        What a newer rollout took, or an operator emptied, is accounted for; what failed is so within the policy alone.
        """
        was = {one.id: one.state for one in before["rollouts"]}
        for one in after["rollouts"]:
            if one.state not in ENDED or was[one.id] in ENDED:
                continue
            mine = [row for row in after["members"] if row.rollout == one.id]
            assert all(row.standing in ACCOUNTED or not row.current for row in mine)
            if one.state == "reverted":
                assert not any(row.standing in {"recalled", "returning"} for row in mine)
                continue
            assert one.wave == one.waves == len(self.planned[one.id])
            assert any(good(row) for row in mine), f"rollout {one.id} is done, and nobody has committed"
            for wave in range(1, one.wave + 1):
                self.within_its_policy(one, [row for row in mine if row.wave == wave])

    def within_its_policy(self, rollout, mine):
        """Of the devices that are still its own, and those that failed with it, enough are good and few are bad."""
        policy = self.policy_of(rollout)
        heard = [row for row in mine if counted(row)]
        assert sum(map(bad, heard)) * 100 <= policy.failure_percent * len(heard)
        assert sum(map(good, heard)) * 100 >= policy.of(policy.waves[0]).success_percent * len(heard)

    @staticmethod
    def policy_of(rollout):
        return next(each for each in POLICIES if canonical.encode(each) == rollout.policy)

    def taken_back_to_exactly_what_was_before(self, before, after):
        """The order of a device that was just taken back says what was decided for its slot before, or nothing.

        What the device has gone back from by itself is not what it ran.
        """
        was = {(one.rollout, one.device): one.standing for one in before["members"]}
        decided = {(one.device, one.revision): one for one in after["slot_revisions"]}
        gone_back = {
            (one.rollout, one.device)
            for one in before["members"]
            if one.phase in GONE_BACK or one.standing in TAKEN_BACK
        }
        for one in after["members"]:
            if one.standing == "returning" and was.get((one.rollout, one.device)) != "returning":
                earlier = [decided.get((one.device, number)) for number in range(one.revision - 1, 0, -1)]
                ran = next((each for each in earlier if (each.rollout, one.device) not in gone_back), None)
                now = decided[one.device, one.revision + 1]
                assert now.document == (ran.document if ran else None)

    def no_more_at_work_than_allowed(self, before, after):
        """Whoever just got an order is one of so many at most."""
        orders = {(one.rollout, one.device): one.counter for one in before["members"]}
        for one in after["rollouts"]:
            policy = self.policy_of(one)
            mine = [row for row in after["members"] if row.rollout == one.id and row.current]
            working = [row for row in mine if row.standing == "working"]
            if policy.concurrency and any(row.counter != orders.get((one.id, row.device)) for row in working):
                assert len(working) <= policy.concurrency

    def no_more_of_a_place_than_the_budget_allows(self, before, after):
        """Whoever just got an order by a rollout with a budget is the only one at work at its place."""
        was = {(one.rollout, one.device): one for one in before["members"]}
        budgeted = {one.id for one in after["rollouts"] if self.policy_of(one).budget}
        for one in after["members"]:
            old = was.get((one.rollout, one.device))
            new = one.standing == "working" and (old is None or old.standing == "planned")
            if one.rollout in budgeted and one.current and new:
                there = [
                    row.device
                    for row in after["members"]
                    if row.place == one.place and row.current and row.standing == "working"
                ]
                assert there == [one.device], f"{there} are at work at {one.place}"

    @invariant()
    def holds(self):
        """What is true at every moment, and against the moment before."""
        before, after = self.before, self.rows()
        self.before = after
        self.history_never_shrinks(before, after)
        self.devices_go_with_the_waves_that_were_asked_for(after)
        self.nothing_is_ordered_beyond_the_open_wave(before, after)
        self.a_slot_belongs_to_the_newest_that_was_decided(after)
        self.nobody_waits_for_who_was_removed(after)
        assert self.fleet.mishaps.counts == {}

    def nobody_waits_for_who_was_removed(self, after):
        """It is accounted for everywhere, and no slot is its own."""
        for one in after["members"]:
            if one.device not in self.there:
                assert not one.current
                assert one.standing in ACCOUNTED | {"planned", "working"}
                assert one.standing not in {"planned", "working"} or one.superseded_by

    def history_never_shrinks(self, before, after):
        """Rows of the past stay as they are, numbers of orders only grow, and what ended does not begin again."""
        for name in ("history", "slot_revisions", "events"):
            assert set(before[name]) <= set(after[name])
        assert all(number <= after["counters"][name] for name, number in before["counters"].items())
        states = {one.id: one.state for one in after["rollouts"]}
        assert all(states[one.id] == "reverted" for one in before["rollouts"] if one.state == "reverted")
        waves = {one.id: one.wave for one in after["rollouts"]}
        assert all(waves[one.id] >= one.wave for one in before["rollouts"])

    def devices_go_with_the_waves_that_were_asked_for(self, after):
        """Each device that was meant is in one wave, none besides, and no wave has more than it was to have."""
        waves = {one.id: one.waves for one in after["rollouts"]}
        for one in after["members"]:
            if one.device == LATE and self.late[one.rollout]:
                # It joined: with the last wave that is not open yet, or with one of its own.
                self.late[one.rollout] = False
                assert one.wave == waves[one.rollout]
                last = self.planned[one.rollout][one.wave - 1 :]
                self.planned[one.rollout][one.wave - 1 :] = [[*(last[0] if last else ()), LATE]]
        found = {rollout: [[] for _ in waves] for rollout, waves in self.planned.items()}
        for one in after["members"]:
            found[one.rollout][one.wave - 1].append(one.device)
        assert found == self.planned

    def nothing_is_ordered_beyond_the_open_wave(self, before, after):
        """Neither by a rollout that runs nor by one that does not, whatever wave it had reached."""
        found = {one.id: one for one in after["rollouts"]}
        assert all(one.wave <= found[one.rollout].wave for one in after["members"] if one.counter is not None)
        open_before = {one.id: one.state for one in before["rollouts"]}
        ordered = {(one.rollout, one.device) for one in before["members"] if one.counter is not None}
        for one in after["members"]:
            if one.counter is not None and one.current and (one.rollout, one.device) not in ordered:
                assert open_before.get(one.rollout, "running") in {"running", "done", "partial", "failed"}

    def a_slot_belongs_to_the_newest_that_was_decided(self, after):
        """Of a device's rollouts one alone may be current, and its content stands in slot and order.

        It is the newest, or what was before those that were taken back.
        """
        held = {one.device: one for one in after["slots"]}
        assert set(held) <= self.there
        for name in sorted(self.there):
            mine = sorted((one for one in after["members"] if one.device == name), key=lambda one: one.rollout)
            current = [one for one in mine if one.current]
            assert len(current) <= 1
            assert current or name not in held, f"what {name} runs belongs to no rollout"
            if current:
                newer = [one for one in mine if one.rollout > current[0].rollout]
                over = TAKEN_BACK | {"skipped"}
                assert all(one.phase in GONE_BACK | {"withdrawn"} or one.standing in over for one in newer)
            if current and current[0].revision is not None and current[0].standing != "planned":
                assert held[name].rollout == current[0].rollout
            taken_back = {one.revision for one in mine if one.phase == "withdrawn"}
            assert name not in held or held[name].revision not in taken_back
            order = self.fleet.order(name)
            ordered = {} if order is None else {slot: one.digest for slot, one in order.slots.items()}
            digests = {one.rollout: one.digest for one in mine}
            assert ordered == ({SLOT: digests[held[name].rollout]} if name in held else {})


@pytest.fixture
def in_sqlite(newest):
    def opens(folder):
        shutil.copy(newest, folder / "fleet.sqlite")
        return Database.at(folder / "fleet.sqlite")

    return opens


@pytest.fixture
def in_postgres(cluster):
    return lambda folder: Database.of(cluster.shared(), folder / "none")


def tried(opens, **how):
    """Let hypothesis look for trouble. It is made smaller before it is shown, which may take a few minutes."""
    machine = type("FleetInAnyOrder", (AnyOrder,), {"opens": staticmethod(opens)})
    known = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck), "print_blob": True}
    run_state_machine_as_test(machine, settings=settings(**known, phases=[Phase.generate, Phase.shrink], **how))


@pytest.mark.timeout(900)
def test_nothing_that_happens_breaks_the_rules(in_sqlite):
    """Forty steps at a time, in orders that a search for trouble comes up with: the same each time, for this is a run
    of all tests, and no place to find out."""
    tried(in_sqlite, max_examples=8, stateful_step_count=40, derandomize=True)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.needs("postgres")
def test_nothing_that_happens_breaks_the_rules_in_postgresql(in_postgres):
    """The same machine, a few times, on the other database."""
    tried(in_postgres, max_examples=8, stateful_step_count=40, derandomize=True)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_nothing_that_happens_breaks_the_rules_whatever_it_is(in_sqlite):
    """Others each time, and many more of them."""
    tried(in_sqlite, max_examples=500, stateful_step_count=60)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.needs("postgres")
def test_nothing_that_happens_breaks_the_rules_in_postgresql_whatever_it_is(in_postgres):
    """There as well."""
    tried(in_postgres, max_examples=100, stateful_step_count=60)
