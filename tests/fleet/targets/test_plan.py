"""What a container host is told to do: a host that is only simulated, walked by many random histories."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.targets import groups as rules
from fleet.targets.container import plan
from fleet.targets.container.plan import Front, Seen, SeenPart
from fleet.targets.groups import Group, SeenReplica, Terms
from modules.protocol.endpoint import Found, Said
from modules.protocol.routing import Bounds, Table

NAME = "digits"
BOUNDS = Bounds(concurrent=8, waiting=8, wait_s=1)
FRONT = Front(keeper="k1", gateway="g1")


def group(version, mark="a", *, count=1, weight=0):
    return Group(
        name=f"{version}-{mark}", version=version, module=f"acme/{mark}:1", count=count, weight=weight, memory_mb=64
    )


class Host:
    """A container host without containers: steps are carried out at once, or refused; the gateway lags behind."""

    def __init__(self):
        self.seen, self.said, self.made = Seen(), Said(), 0
        self.ready, self.wrong = set(), set()

    def replicas(self, **changes):
        self.seen = msgspec.structs.replace(self.seen, **changes)

    def carry_out(self, step, refused=frozenset()):
        if type(step) in refused:
            return
        seen = self.seen
        match step:
            case plan.MakeNetwork():
                self.replicas(network=True)
            case plan.Fill(group=one):
                self.replicas(filled=seen.filled | {one.name})
            case plan.MakeReplica(group=one, number=number):
                assert one.name in seen.filled, "a replica without its files"
                self.made += 1
                new = SeenReplica(name=f"c{self.made}", group=one.name, number=number, running=True)
                self.replicas(replicas=(*seen.replicas, new))
            case plan.StartAgain(name=name):
                again = (msgspec.structs.replace(one, running=one.running or one.name == name) for one in seen.replicas)
                self.replicas(replicas=tuple(again))
            case plan.MakeKeeper():
                self.replicas(keepers=(SeenPart(name="port", made="k1", running=True, port=30000),))
            case plan.MakeGateway():
                self.replicas(gateways=(SeenPart(name="gateway", made="g1", running=True),))
            case rules.Stop(name=name):
                assert name not in self.asked, "a replica is ended that the gateway asks"
                self.replicas(replicas=tuple(one for one in seen.replicas if one.name != name))
            case rules.Empty(group=name):
                assert name not in {one.group for one in seen.replicas}, "files are taken from a replica"
                self.replicas(filled=seen.filled - {name})

    @property
    def asked(self):
        """Whom the gateway may ask: by the table that it uses, and by the one that it will."""
        table = self.in_use
        tables = [one for one in (table, self.said.table) if one is not None]
        slots = [one.slots[NAME] for one in tables if NAME in one.slots]
        return {replica.instance for slot in slots for version in slot.versions for replica in version.replicas}

    in_use = None

    def one_pass(self, groups, *, refused=frozenset(), takes_table=True):
        """As ``host.py`` does it."""
        for step in plan.lacking(groups, FRONT, self.seen):
            self.carry_out(step, refused)
        if self.seen.gateway(FRONT) is None:
            return
        running = {one.name for one in self.seen.replicas if one.running}
        found = {name: Found(ready=name in self.ready, wrong=name in self.wrong, provider="CPU") for name in running}
        self.said = msgspec.structs.replace(self.said, replicas=found)
        keys = {one.name: "k" for one in groups}
        route = rules.route(NAME, groups, self.seen, self.said, Terms(BOUNDS, 1.0, keys))
        if self.said.table is None or self.said.table.slots != {NAME: route}:
            generation = (self.said.table.generation if self.said.table else 0) + 1
            self.said = msgspec.structs.replace(self.said, table=Table(generation=generation, slots={NAME: route}))
        if takes_table:
            self.in_use = self.said.table
            self.said = msgspec.structs.replace(self.said, generation=self.said.table.generation)
        for step in rules.surplus(NAME, groups, self.seen, self.said):
            self.carry_out(step, refused)

    def become_ready(self):
        self.ready |= {one.name for one in self.seen.replicas if one.running} - self.wrong

    def served(self):
        """The versions that clients are answered by, and how many replicas each has."""
        return {one.name: len(one.replicas) for one in self.in_use.slots[NAME].versions}


def settle(host, groups):
    for _ in range(5):
        host.one_pass(groups)
        host.become_ready()
    host.one_pass(groups)


def test_from_nothing_to_an_endpoint_that_serves():
    """What is asked for is there after a few passes, and another pass changes nothing."""
    host, groups = Host(), [group("blue", count=2), group("green", weight=10)]
    settle(host, groups)
    assert host.served() == {"blue": 2, "green": 1}
    assert list(plan.lacking(groups, FRONT, host.seen)) == []
    assert list(rules.surplus(NAME, groups, host.seen, host.said)) == []
    before = host.said.table
    host.one_pass(groups)
    assert host.said.table == before


def test_nobody_is_asked_before_it_is_ready():
    """Replicas that run and are not ready are in no route."""
    host = Host()
    host.one_pass([group("blue", count=2)])
    host.one_pass([group("blue", count=2)])
    assert host.served() == {"blue": 0}
    host.ready = {"c1"}
    host.one_pass([group("blue", count=2)])
    assert host.served() == {"blue": 1}


def test_the_old_group_serves_until_the_whole_new_one_is_ready():
    """Half of the new group ready is not enough; once all of it is, clients go over, and the old one ends."""
    host = Host()
    settle(host, [group("blue", "a", count=2)])
    new = [group("blue", "b", count=2)]
    host.one_pass(new)
    host.ready |= {"c3"}
    host.one_pass(new)
    assert host.asked == {"c1", "c2"}
    host.ready |= {"c4"}
    host.one_pass(new)
    assert host.asked == {"c3", "c4"}
    assert {one.name for one in host.seen.replicas} == {"c3", "c4"}
    host.one_pass(new)
    assert host.seen.filled == {"blue-b"}


def test_a_gateway_that_has_not_taken_the_table_loses_no_replica():
    """As long as the gateway uses the old table, what it names is not ended."""
    host = Host()
    settle(host, [group("blue", "a")])
    new = [group("blue", "b")]
    host.one_pass(new)
    host.become_ready()
    host.one_pass(new, takes_table=False)
    host.one_pass(new, takes_table=False)
    assert "c1" in {one.name for one in host.seen.replicas}
    host.one_pass(new)
    assert {one.name for one in host.seen.replicas} == {"c2"}


def test_a_new_version_waits_with_its_share_until_it_is_ready():
    """Ten percent for a version that does not answer would be ten percent of failures."""
    host = Host()
    settle(host, [group("blue")])
    both = [group("blue"), group("green", weight=10)]
    host.one_pass(both)
    assert host.served() == {"blue": 1}
    host.become_ready()
    host.one_pass(both)
    assert host.served() == {"blue": 1, "green": 1}


def test_a_version_takes_the_place_of_another():
    """Where the only version is replaced by one of another name, the old one serves until the new one is ready."""
    host = Host()
    settle(host, [group("blue")])
    host.one_pass([group("green")])
    assert host.served() == {"blue": 1}
    host.become_ready()
    host.one_pass([group("green")])
    assert host.served() == {"green": 1}


def test_what_served_is_kept_while_it_is_started_again():
    """In the middle of an update that fails, the old replica is away for a look: it is not ended, and serves again."""
    host = Host()
    settle(host, [group("blue", "a")])
    new = [group("blue", "b")]
    host.one_pass(new)
    away = [msgspec.structs.replace(one, running=one.group != "blue-a", restarting=True) for one in host.seen.replicas]
    host.replicas(replicas=tuple(away))
    host.one_pass(new)
    assert {one.group for one in host.seen.replicas} == {"blue-a", "blue-b"}
    host.replicas(replicas=tuple(msgspec.structs.replace(one, running=True) for one in host.seen.replicas))
    host.one_pass(new)
    assert host.asked == {"c1"}


def test_a_version_that_is_not_ready_holds_up_no_other():
    """While an update of one version hangs, another one loses its share, and goes."""
    host = Host()
    settle(host, [group("blue", "a"), group("green", weight=50)])
    host.one_pass([group("blue", "b"), group("green", weight=0)])
    assert [one.weight for one in host.in_use.slots[NAME].versions if one.name == "green"] == [0]
    host.one_pass([group("blue", "b")])
    assert host.served() == {"blue": 1}
    assert host.asked == {"c1"}


def test_a_replica_that_somebody_stopped_is_started_whatever_was_before():
    """One that ended once, and was stopped by hand now, runs again; one that the engine starts again is left alone."""
    host, groups = Host(), [group("blue")]
    settle(host, groups)
    (only,) = host.seen.replicas
    stopped = msgspec.structs.replace(only, running=False, restarts=1)
    assert plan.StartAgain("c1") in plan.lacking(groups, FRONT, msgspec.structs.replace(host.seen, replicas=(stopped,)))
    itself = msgspec.structs.replace(stopped, restarting=True)
    assert plan.StartAgain("c1") not in plan.lacking(
        groups, FRONT, msgspec.structs.replace(host.seen, replicas=(itself,))
    )


def test_what_was_begun_and_is_not_wanted_any_more_is_taken_away():
    """Files of which only some came keep no disk full."""
    host = Host()
    settle(host, [group("blue")])
    host.replicas(begun=frozenset({"blue-x"}))
    assert list(rules.surplus(NAME, [group("blue")], host.seen, host.said)) == [rules.Empty("blue-x")]


def test_a_replica_with_wrong_answers_is_asked_no_more():
    """One that was ready and does not answer a look stays; one whose answers are wrong goes."""
    host, groups = Host(), [group("blue", count=2)]
    settle(host, groups)
    host.ready = set()
    host.one_pass(groups)
    assert host.served() == {"blue": 2}
    host.wrong = {"c1"}
    host.one_pass(groups)
    assert host.served() == {"blue": 1}


def test_fewer_replicas_are_taken_from_the_route_before_they_end():
    """Scaled down, the last number goes: first from the table, then from the host."""
    host = Host()
    settle(host, [group("blue", count=3)])
    host.one_pass([group("blue", count=1)], takes_table=False)
    assert len(host.seen.replicas) == 3
    host.one_pass([group("blue", count=1)])
    assert [one.number for one in host.seen.replicas] == [0]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_is_asked_for_somebody_answers(data):
    """Once an endpoint served, it serves: through any changes, refused steps, and a gateway that lags.

    Only replicas that nobody ended by hand count; steps that would end one that is asked fail the walk itself.
    """
    host = Host()
    settle(host, [group("v0", "a")])
    for _ in range(data.draw(st.integers(1, 12))):
        names = data.draw(st.lists(st.sampled_from(["v0", "v1", "v2"]), min_size=1, max_size=3, unique=True))
        marks = st.sampled_from("abc")
        groups = [group(name, data.draw(marks), count=data.draw(st.integers(1, 3)), weight=5) for name in names]
        kinds = [plan.Fill, plan.MakeReplica, rules.Stop, rules.Empty]
        for _ in range(data.draw(st.integers(1, 3))):
            refused = frozenset(data.draw(st.lists(st.sampled_from(kinds), max_size=2)))
            if plan.Fill in refused:
                refused |= {plan.MakeReplica}
            host.one_pass(groups, refused=refused, takes_table=data.draw(st.booleans()))
            if data.draw(st.booleans()):
                host.become_ready()
            assert sum(host.served().values()) >= 1
            alive = {one.name for one in host.seen.replicas if one.running}
            assert host.asked <= alive
    settle(host, groups)
    assert host.served() == {one.version: one.count for one in groups}
    assert len(host.seen.replicas) == sum(one.count for one in groups)


def part(made, **more):
    return SeenPart(**{"name": f"c-{made}", "made": made, "running": True} | more)


THERE = {"keepers": (part("k1", port=30000),), "gateways": (part("g1"),)}
SERVES = Said(generation=7, table=Table(generation=7, slots={}))


def steps(seen, front=FRONT):
    return [type(one) for one in plan.lacking([], front, msgspec.structs.replace(seen, network=True))]


def test_a_gateway_ends_only_once_its_successor_serves():
    """Made of something else, the next gateway starts beside it, and it goes when the next has the newest table."""
    old, new, port = part("g0"), part("g1"), part("k1", port=30000)
    assert steps(Seen(keepers=(port,), gateways=(old,))) == [plan.MakeGateway]
    starting = Seen(keepers=(port,), gateways=(old, part("g1", running=False, restarting=True)))
    assert (steps(starting), starting.gateway(FRONT), plan.retired(FRONT, starting, SERVES)) == ([], old, [])
    both = Seen(keepers=(port,), gateways=(old, new))
    assert (both.gateway(FRONT), plan.retired(FRONT, both, SERVES)) == (new, ["c-g0"])
    assert plan.retired(FRONT, both, msgspec.structs.replace(SERVES, generation=6)) == []


def test_a_port_is_let_go_only_once_the_next_is_held():
    """With another port asked for, who holds the first goes on until the second is held."""
    first, gateway = part("k1", name="one", port=30000), part("g1")
    front = msgspec.structs.replace(FRONT, port=30001)
    seen = Seen(keepers=(first,), gateways=(gateway,))
    assert (steps(seen, front), plan.retired(front, seen, SERVES)) == ([plan.MakeKeeper], [])
    both = Seen(keepers=(first, part("k1", name="two", port=30001)), gateways=(gateway,))
    assert (steps(both, front), plan.retired(front, both, SERVES)) == ([], ["one"])


def test_gateways_that_still_owe_answers_are_not_heaped_up():
    """With four of them there, no fifth is made: somebody who changes the certificate all the time waits."""
    port = part("k1", port=30000)
    assert steps(Seen(keepers=(port,), gateways=tuple(part(f"x{n}") for n in range(4)))) == []
    assert steps(Seen(keepers=(port,), gateways=tuple(part(f"x{n}") for n in range(3)))) == [plan.MakeGateway]


def test_what_ended_by_itself_is_made_anew():
    """A dead keeper or gateway is made anew; one that the engine starts again is left to it."""
    seen = Seen(keepers=(part("k1", port=30000, running=False),), gateways=(part("g1", running=False),))
    assert steps(seen) == [plan.MakeKeeper, plan.MakeGateway]


def test_what_somebody_paused_or_changed_by_hand_is_put_back():
    """A keeper and a gateway as a replica; what does not run now has no limits to be put back."""
    paused = {"running": False, "paused": True}
    seen = Seen(keepers=(part("k1", port=30000, **paused),), gateways=(part("g1", **paused),))
    assert steps(seen) == [plan.StartAgain, plan.StartAgain]
    seen = Seen(keepers=(part("k1", port=30000, changed=True),), gateways=(part("g1", changed=True),))
    assert steps(seen) == [plan.PutBack, plan.PutBack]
    one = group("v1")
    changed = SeenReplica(name="c1", group=one.name, number=0, running=True, changed=True)
    seen = Seen(network=True, **THERE, filled=frozenset({one.name}), replicas=(changed,))
    assert list(plan.lacking([one], FRONT, seen)) == [plan.PutBack("c1")]


def test_secrets_are_there_before_a_replica_and_brought_again_when_they_are_lost():
    """Only of a group that has some; where they are, nothing is done."""
    one, other = group("v1"), group("next")
    made = [type(step) for step in plan.lacking([one, other], FRONT, Seen(network=True, **THERE), {one.name})]
    assert made == [plan.Fill, plan.Keep, plan.MakeReplica, plan.Fill, plan.MakeReplica]
    replica = SeenReplica(name="c1", group=one.name, number=0, running=True)
    seen = Seen(network=True, **THERE, filled=frozenset({one.name}), replicas=(replica,))
    assert list(plan.lacking([one], FRONT, seen, {one.name})) == [plan.Keep(one)]
    kept = msgspec.structs.replace(seen, kept=frozenset({one.name}))
    assert list(plan.lacking([one], FRONT, kept, {one.name})) == []
