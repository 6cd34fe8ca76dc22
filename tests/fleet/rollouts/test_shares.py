"""Rollouts of an endpoint's requests: on a real database, by the real duty, before a target that a test deals with."""

import random
import shutil
import time

import pytest
from sqlalchemy import event, update

from fleet import events, setup
from fleet.authority import Authority
from fleet.db import Database
from fleet.folder import Folder
from fleet.refusals import Conflict, Forbidden, Missing
from fleet.rollouts import auto, control, shares_start, view
from fleet.rollouts import policy as policies
from fleet.rollouts.shares_start import ShiftWish
from fleet.rollouts.start import Starter
from fleet.target_tables import targets
from fleet.targets.endpoints import VersionWish
from fleet.targets.secrets import Sealer
from fleet.targets.settings import Settings
from modules.errors import Invalid
from modules.names import ModuleRef, Slug
from tests.doubles.cloud import NAME, Cloud
from tests.parts.certificates import self_signed

WAVES = [{"percent": 5}, {"percent": 25}, {"percent": 100}]
GATES = [{"measure": "error_percent", "at_most": 1, "minimum": 20, "window_s": 10}]
# Clients that ask between two looks.
MANY = 500


def policy(**more):
    return policies.read({"waves": WAVES, "gates": GATES, "on_failure": "revert"} | more)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """A data folder with an authority, for what lets clients in."""
    folder = Folder(tmp_path_factory.mktemp("keys") / "data")
    setup.initialise(folder, lambda: 1.0)
    return folder


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=[pytest.mark.needs("postgres"), pytest.mark.long])])
def database(request, tmp_path):
    """As of the other files; PostgreSQL is asked in the long suite."""
    url = request.getfixturevalue("cluster").shared() if request.param == "postgresql" else ""
    if not url:
        shutil.copyfile(request.getfixturevalue("newest"), tmp_path / "fleet.sqlite")
    made = Database.of(url, tmp_path / "fleet.sqlite")
    yield made
    made.close()


@pytest.fixture
def cloud(small_fleet, keys):
    return Cloud(small_fleet, keys, Authority.load(keys.ca, small_fleet.clock), Sealer(keys))


def versions(cloud, *, replicas=2, **weights):
    refs = {"v1": cloud.old, "v2": cloud.new}
    return {Slug(name): VersionWish(refs[name], weight, replicas) for name, weight in weights.items()}


def go_on(cloud, rollout, *, until, requests=MANY, looks=40):
    """Time goes by until something is so; how many requests each version was dealt meanwhile."""
    dealt = {}
    for _ in range(looks):
        for name, count in cloud.pass_by(5, requests).items():
            dealt[name] = dealt.get(name, 0) + count
        if until():
            return dealt
    raise AssertionError(cloud.fleet.view(rollout))


def is_in(cloud, rollout, *states):
    return lambda: cloud.fleet.view(rollout)["state"] in states


def at_share(cloud, percent):
    return lambda: cloud.weights().get("v2") == percent


def test_the_share_grows_wave_by_wave_until_the_new_version_is_the_default(cloud):
    """Beside the old one without a share first; then 5, 25 and all, each after its gates; then the old one goes."""
    rollout = cloud.start(policy=policy())
    cloud.look()
    seen = [cloud.weights()["v2"]]

    def done():
        share = cloud.weights().get("v2")
        seen.extend([share] if share not in seen else [])
        return cloud.fleet.view(rollout)["state"] == "done"

    go_on(cloud, rollout, until=done)
    assert seen == [0, 5, 25, 100]
    cloud.settle()
    assert (cloud.weights(), cloud.row().state) == ({"v2": 100}, "ready")
    assert cloud.target.wanted.versions[0].replicas == 2
    assert "3 of 3 shares of the requests committed" in cloud.fleet.view(rollout)["history"][-1]["what"]


def test_no_share_is_given_before_the_version_is_ready(cloud):
    """Its replicas are not: no request reaches it, and why is told; once they are, its share comes."""
    cloud.target.of("v2").ready, cloud.target.why = False, "version v2: it is being proved: 3 samples are left"
    rollout = cloud.start(policy=policy())
    for _ in range(10):
        assert "v2" not in cloud.pass_by(30, MANY)
    [share, *_] = cloud.fleet.view(rollout)["shares"]
    assert (share["standing"], share["phase"]) == ("working", "starting")
    assert "3 samples are left" in share["why"]
    cloud.target.of("v2").ready, cloud.target.why = True, ""
    go_on(cloud, rollout, until=at_share(cloud, 5))


def test_a_version_that_answers_its_samples_wrongly_is_never_asked(cloud):
    """It is taken back at once, for the reason that its proof gave."""
    cloud.target.of("v2").ready, cloud.target.of("v2").wrong = False, "sample 1: 7 is not 3"
    rollout = cloud.start(policy=policy())
    dealt = go_on(cloud, rollout, until=is_in(cloud, rollout, "reverted"))
    assert "v2" not in dealt
    assert "sample 1: 7 is not 3" in str(cloud.fleet.view(rollout)["history"])
    assert cloud.weights() == {"v1": 100}


def test_nothing_goes_on_without_evidence(cloud):
    """No client asks: the first share stays as it is, says so, and has failed at its deadline."""
    rollout = cloud.start(policy=policy(deadline="1h"))
    for _ in range(20):
        cloud.pass_by(30)
    assert cloud.weights()["v2"] == 5
    [share, *_] = cloud.fleet.view(rollout)["shares"]
    assert (share["standing"], "rests on 0 yet, 20 are needed" in share["why"]) == ("working", True)
    cloud.fleet.now += 3600
    cloud.fleet.tick()
    cloud.settle()
    assert cloud.fleet.view(rollout)["state"] == "reverted"
    assert "not done by its deadline" in str(cloud.fleet.view(rollout)["history"])
    assert cloud.weights() == {"v1": 100}


def test_what_is_not_all_known_is_never_good(cloud):
    """One gateway of several does not say what it counted: it holds and says why; errors that are known count."""
    cloud.target.uncounted = "what gateway two has counted is not known"
    rollout = cloud.start(policy=policy())
    for _ in range(10):
        cloud.pass_by(30, MANY)
    assert (cloud.weights()["v2"], cloud.fleet.view(rollout)["state"]) == (5, "running")
    assert "gateway two" in cloud.fleet.view(rollout)["shares"][0]["why"]
    cloud.target.uncounted = ""
    go_on(cloud, rollout, until=at_share(cloud, 25))
    cloud.target.uncounted, cloud.target.of("v2").error_every = "what gateway two has counted is not known", 2
    go_on(cloud, rollout, until=is_in(cloud, rollout, "reverted"))


def test_what_is_not_known_holds_no_gate_that_rests_on_nothing_counted(cloud):
    """Starts are the cluster's own to tell; a gate that lets what is missing pass does so."""
    cloud.target.uncounted = "what gateway two has counted is not known"
    gates = [{"measure": "restarts", "at_most": 0}, GATES[0] | {"missing": "pass"}]
    rollout = cloud.start(policy=policy(gates=gates))
    go_on(cloud, rollout, until=at_share(cloud, 25))


def test_without_a_word_a_rollout_on_a_cluster_is_judged_as_elsewhere(cloud):
    """The preset of endpoints holds on a Kubernetes target: errors, latency and restarts are known there."""
    with cloud.database.write() as connection:
        connection.execute(update(targets).values(kind="kubernetes"))
    rollout = cloud.start(policy=policies.read({}, preset="traffic"))
    assert {one["measure"] for one in cloud.fleet.view(rollout)["policy"]["gates"]} == {
        "error_percent", "p95_ms", "restarts",
    }  # fmt: skip


def test_a_gateway_that_counts_nothing_is_no_evidence(cloud):
    """Requests flow, and nobody says what came of them: it holds, and says what to do."""
    cloud.target.counts = False
    rollout = cloud.start(policy=policy())
    for _ in range(10):
        cloud.pass_by(30, MANY)
    assert cloud.weights()["v2"] == 5
    assert "images build --gateway" in cloud.fleet.view(rollout)["shares"][0]["why"]


@pytest.mark.parametrize(
    ("gate", "bad", "good", "word"),
    [
        ({"measure": "error_percent", "at_most": 1}, {"error_every": 10}, {"error_every": 0}, "error_percent is"),
        ({"measure": "p95_ms", "at_most": 50}, {"latency_s": 0.2}, {"latency_s": 0.01}, "p95_ms is"),
        ({"measure": "p95_ms", "at_most_times": 1.5}, {"latency_s": 0.02}, {"latency_s": 0.011}, "times the"),
        ({"measure": "memory_mb", "at_most": 200}, {"memory_mb": 900.0}, {"memory_mb": 100.0}, "memory_mb is 900"),
        ({"measure": "memory_mb", "at_most_times": 2}, {"memory_mb": 900.0}, {"memory_mb": 150.0}, "times the"),
        ({"measure": "nan_percent", "at_most": 0}, {"nan": 1}, {"nan": 0}, "nan_percent is 100"),
        ({"measure": "provider", "is": "CUDAExecutionProvider"}, {}, None, "not on CUDAExecutionProvider"),
    ],
)
def test_each_gate_lets_a_good_version_on_and_takes_a_bad_one_back(cloud, gate, bad, good, word):
    """The bad one goes back after its first wave, and got no more than its share; the good one goes on."""
    gates = [gate if gate["measure"] == "provider" else gate | {"minimum": 20, "window_s": 10}]
    for name, value in bad.items():
        setattr(cloud.target.of("v2"), name, value)
    rollout = cloud.start(policy=policy(gates=gates))
    dealt = go_on(cloud, rollout, until=is_in(cloud, rollout, "reverted"))
    assert word in str(cloud.fleet.view(rollout)["history"])
    assert dealt.get("v2", 0) * 100 <= 5 * sum(dealt.values())
    cloud.settle()
    assert (cloud.weights(), cloud.row().state) == ({"v1": 100}, "ready")
    if good is None:
        return
    for name, value in good.items():
        setattr(cloud.target.of("v2"), name, value)
    again = cloud.start(policy=policy(gates=gates))
    go_on(cloud, again, until=is_in(cloud, again, "done"))


def test_replicas_that_are_started_again_fail_the_gate_at_once(cloud):
    """Restarts are told without a window; those before the rollout do not count."""
    cloud.target.of("v2").restarts = 1
    rollout = cloud.start(policy=policy(gates=[{"measure": "restarts", "at_most": 0}], soak="1h"))
    cloud.pass_by(5, MANY)
    cloud.pass_by(5, MANY)
    assert cloud.fleet.view(rollout)["state"] == "running"
    cloud.target.of("v2").restarts = 2
    go_on(cloud, rollout, until=is_in(cloud, rollout, "reverted"), looks=4)
    assert "1 restarts, 0 are allowed" in str(cloud.fleet.view(rollout)["history"])


def test_what_turns_bad_while_it_is_watched_goes_back(cloud):
    """A complete wave soaks; errors that begin then are found in the next window, whatever was good before."""
    gates = [{"measure": "error_percent", "at_most": 30, "minimum": 20, "window_s": 10}]
    rollout = cloud.start(policy=policy(soak="1h", gates=gates))
    for _ in range(16):
        cloud.pass_by(5, MANY)
    assert cloud.shares(rollout)[5] == "succeeded"
    assert "watched for" in cloud.fleet.view(rollout)["waits_for"]
    cloud.target.of("v2").error_every = 2
    go_on(cloud, rollout, until=is_in(cloud, rollout, "reverted"), looks=5)


def test_a_gateway_that_starts_again_loses_no_evidence_and_makes_none_up(cloud):
    """Its counts begin anew in the middle of a window, with errors in both halves: both are counted."""
    cloud.target.of("v2").error_every = 2
    gates = [{"measure": "error_percent", "at_most": 1, "minimum": 45, "window_s": 60}]
    rollout = cloud.start(policy=policy(gates=gates, waves=[{"percent": 10}]))
    go_on(cloud, rollout, until=at_share(cloud, 10), requests=0)
    cloud.pass_by(5, 250)
    cloud.target.begin_anew()
    cloud.pass_by(5, 250)
    [share, *_] = cloud.fleet.view(rollout)["shares"]
    assert (share["measured"]["requests"], share["measured"]["errors"]) == (50, 24)
    go_on(cloud, rollout, until=is_in(cloud, rollout, "reverted"), requests=0)


def test_a_target_that_does_not_answer_holds_the_wave(cloud):
    """Nothing is decided by what is not known; it goes on when the target answers again."""
    rollout = cloud.start(policy=policy())
    go_on(cloud, rollout, until=at_share(cloud, 5))
    cloud.target.answers = False
    for _ in range(10):
        cloud.pass_by(30, MANY)
    assert cloud.weights()["v2"] == 5
    assert "does not answer" in cloud.fleet.view(rollout)["shares"][0]["why"]
    cloud.target.answers = True
    go_on(cloud, rollout, until=is_in(cloud, rollout, "done"))


def test_paused_the_share_stays_and_resumed_it_grows(cloud):
    """A paused rollout gives nothing more, whatever the evidence; resumed, it goes on to its end."""
    rollout = cloud.start(policy=policy())
    go_on(cloud, rollout, until=at_share(cloud, 5))
    cloud.fleet.act(rollout, "pause")
    for _ in range(12):
        cloud.pass_by(5, MANY)
    assert cloud.weights()["v2"] == 5
    assert cloud.shares(rollout)[5] == "succeeded"
    cloud.fleet.act(rollout, "resume")
    go_on(cloud, rollout, until=is_in(cloud, rollout, "done"))


def test_cancelled_the_new_version_keeps_what_complete_waves_gave_it(cloud):
    """In the second wave that is the first one's share; in the first nothing, and the version goes."""
    rollout = cloud.start(policy=policy())
    go_on(cloud, rollout, until=at_share(cloud, 25))
    cloud.fleet.act(rollout, "cancel")
    cloud.settle()
    assert cloud.weights() == {"v1": 95, "v2": 5}
    cloud.change(versions(cloud, v1=100))
    cloud.settle()
    again = cloud.start(policy=policy())
    go_on(cloud, again, until=at_share(cloud, 5))
    cloud.fleet.act(again, "cancel")
    cloud.settle()
    assert cloud.weights() == {"v1": 100}


@pytest.mark.parametrize(("on_failure", "left"), [("pause", 0), ("revert-wave", 5)])
def test_what_failed_may_be_tried_again(cloud, on_failure, left):
    """It has lost its share and is still there, with its logs; tried again, it goes on in the same wave."""
    rollout = cloud.start(policy=policy(on_failure=on_failure))
    go_on(cloud, rollout, until=at_share(cloud, 25))
    cloud.target.of("v2").error_every = 2
    go_on(cloud, rollout, until=is_in(cloud, rollout, "failed"))
    cloud.settle()
    assert cloud.weights() == {"v1": 100 - left, "v2": left}
    cloud.target.of("v2").error_every = 0
    cloud.fleet.act(rollout, "retry")
    go_on(cloud, rollout, until=at_share(cloud, 25))
    go_on(cloud, rollout, until=is_in(cloud, rollout, "done"))


@pytest.mark.parametrize("keep", ["0s", "1h"])
def test_after_its_end_it_is_taken_back_by_a_word(cloud, keep):
    """The version before is the default again, and answers everything."""
    rollout = cloud.start(policy=policy(keep=keep))
    go_on(cloud, rollout, until=is_in(cloud, rollout, "done"))
    cloud.settle()
    assert cloud.weights() == {"v2": 100} | ({"v1": 0} if keep == "1h" else {})
    cloud.fleet.act(rollout, "revert")
    cloud.settle()
    assert cloud.weights() == {"v1": 100}
    assert cloud.fleet.view(rollout)["state"] == "reverted"
    assert "v1 answers everything again" in cloud.fleet.view(rollout)["history"][-1]["what"]


def test_the_version_before_is_kept_as_long_as_the_policy_says(cloud):
    """Beside the new one and without requests; then it goes by itself."""
    rollout = cloud.start(policy=policy(keep="1h"))
    go_on(cloud, rollout, until=is_in(cloud, rollout, "done"))
    cloud.pass_by(3000)
    assert cloud.weights() == {"v2": 100, "v1": 0}
    cloud.pass_by(700)
    cloud.settle()
    assert cloud.weights() == {"v2": 100}


def test_a_wave_waits_for_an_approval_and_under_four_eyes_for_another_persons(cloud):
    """Without it not even the version stands beside; whoever started it may not approve it."""
    with cloud.database.write() as connection:
        wish = ShiftWish(module=cloud.new, endpoint=NAME, policy=policy())
        rollout = shares_start.start(
            connection, cloud.fleet.now, cloud.fleet.registry, wish, Starter("anna", 1), needs_another=True
        )
    cloud.fleet.tick()
    cloud.pass_by(5, MANY)
    assert cloud.weights() == {"v1": 100}
    assert "another person's approval" in cloud.fleet.view(rollout)["waits_for"]
    with cloud.database.write() as connection, pytest.raises(Forbidden):
        control.approve(connection, cloud.fleet.now, rollout, by="anna", approver=1, needs_another=True)
    with cloud.database.write() as connection:
        control.approve(connection, cloud.fleet.now, rollout, by="ben", approver=2, needs_another=True)
    go_on(cloud, rollout, until=is_in(cloud, rollout, "done"))


def test_nobody_else_changes_the_shares_meanwhile(cloud):
    """Refused with what to do, and nothing changed; more replicas are given all the same; cancelled, it is free."""
    rollout = cloud.start(policy=policy())
    go_on(cloud, rollout, until=at_share(cloud, 5))
    for more in (versions(cloud, v1=50, v2=50), versions(cloud, v1=100)):
        with pytest.raises(Conflict, match=f"edgefleet rollouts cancel {rollout}"):
            cloud.change(more)
    with pytest.raises(Conflict, match="is open"):
        cloud.change(None, Slug("v2"))
    cloud.change(versions(cloud, replicas=3, v1=0, v2=5))
    cloud.settle()
    assert cloud.weights() == {"v1": 95, "v2": 5}
    assert cloud.target.wanted.versions[1].replicas == 3
    cloud.fleet.act(rollout, "cancel")
    cloud.change(versions(cloud, v1=100))


def test_what_was_changed_by_hand_since_is_not_undone(cloud):
    """A rollout that has ended cannot be taken back over somebody's own change."""
    rollout = cloud.start(policy=policy(keep="1h"))
    go_on(cloud, rollout, until=is_in(cloud, rollout, "done"))
    cloud.change(versions(cloud, v1=40, v2=60), Slug("v2"))
    with pytest.raises(Conflict, match="changed by hand"):
        cloud.fleet.act(rollout, "revert")
    cloud.pass_by(4000)
    assert cloud.weights() == {"v2": 60, "v1": 40}


@pytest.mark.parametrize("paused", [False, True])
def test_an_endpoint_that_is_removed_ends_its_rollout(cloud, paused):
    """It is cancelled, and says why."""
    rollout = cloud.start(policy=policy())
    go_on(cloud, rollout, until=at_share(cloud, 5))
    if paused:
        cloud.fleet.act(rollout, "pause")
    with cloud.database.write() as connection:
        cloud.wished.remove(connection, cloud.fleet.now, NAME, by="anna")
    cloud.fleet.tick()
    view = cloud.fleet.view(rollout)
    assert (view["state"], view["shares"][0]["standing"]) == ("cancelled", "gone")
    assert "was removed" in view["history"][-1]["what"]


def test_a_newer_rollout_takes_the_endpoint_only_if_it_says_so(cloud):
    """Refused at first; then the older one ends, and its version goes for the newer one's."""
    rollout = cloud.start(policy=policy())
    go_on(cloud, rollout, until=at_share(cloud, 5))
    third = cloud.fleet.add_module("digits")
    with pytest.raises(Conflict, match=f"rollout {rollout} of {cloud.new} is open"):
        cloud.start(third, policy=policy())
    newer = cloud.start(third, policy=policy(), supersede=True)
    assert cloud.fleet.view(rollout)["state"] == "cancelled"
    cloud.settle()
    assert cloud.weights() == {"v1": 95, "v3": 5}
    go_on(cloud, newer, until=is_in(cloud, newer, "done"))
    with pytest.raises(Conflict):
        cloud.fleet.act(rollout, "revert")


@pytest.mark.parametrize(
    ("wish", "error", "word"),
    [
        ({"policy": {"waves": [{"label": "ring=canary"}]}}, Invalid, "shares of its requests"),
        ({"policy": {"windows": [{"begins": "22:30", "minutes": 60}]}}, Invalid, "windows"),
        ({"policy": {"budget": {"label": "site"}}}, Invalid, "budget"),
        ({"policy": {"gates": [{"measure": "temperature_c", "at_most": 80}]}}, Invalid, "not measured"),
        ({"policy": {"gates": [{"measure": "sample_percent", "at_least": 100}]}}, Invalid, "not measured"),
        ({"version": Slug("v1")}, Conflict, "a version v1 already"),
        ({"module": "old"}, Conflict, "this very module"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_changes(cloud, wish, error, word):
    """The wish is as before, and there is no rollout."""
    given = dict(wish)
    if "policy" in given:
        given["policy"] = policies.read({"preset": "traffic"} | given["policy"])
    if given.pop("module", None):
        given |= {"module": cloud.old, "version": Slug("other")}
    before = cloud.row().wish
    with pytest.raises(error, match=word):
        cloud.start(**given)
    assert cloud.row().wish == before


def test_requests_that_are_shared_out_already_are_no_ground_to_start_from(cloud):
    """It says how they are, and what gives one version all."""
    cloud.change(versions(cloud, v1=90, v2=10))
    third = cloud.fleet.add_module("digits")
    with pytest.raises(Conflict, match="split digits v2=0"):
        cloud.start(third, policy=policy())


class Killed(BaseException):
    """The server ended here."""


@pytest.mark.parametrize("bad", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_server_that_is_killed_at_any_statement_goes_on(cloud, seed, bad):
    """Every so many statements the transaction ends there: the rows are enough to come to the same end."""
    drawn, left = random.Random(seed), [0]

    def count(*_):
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    engine = cloud.database.engine
    event.listen(engine, "before_cursor_execute", count)
    cloud.target.of("v2").error_every = 5 if bad else 0
    rollout = cloud.start(policy=policy())
    kills = 0
    for _ in range(200):
        left[0] = drawn.randrange(1, 40)
        try:
            cloud.pass_by(5, 200)
        except Killed:
            kills += 1
        left[0] = 0
        if cloud.fleet.view(rollout)["state"] in {"done", "reverted"}:
            break
    cloud.settle()
    assert kills > 5
    assert cloud.fleet.view(rollout)["state"] == ("reverted" if bad else "done")
    assert cloud.weights() == ({"v1": 100} if bad else {"v2": 100})
    assert cloud.row().state == "ready"


def rule(cloud, name="cloud", **more):
    wish = ShiftWish(module=ModuleRef.parse("acme/digits:0"), endpoint=NAME, supersede=True, policy=policy(), **more)
    with cloud.database.write() as connection:
        auto.add(connection, cloud.fleet.now, auto.Rule(name=name, shift=wish, tags={"stage": "field"}), Starter("ann"))


def sign(cloud, **parts):
    ref = cloud.fleet.add_module(NAME, **parts)
    with cloud.database.write() as connection:
        auto.signed(connection, ref)
    cloud.fleet.tick()
    return ref


def test_a_newly_signed_version_gets_an_endpoints_requests_by_rule(cloud):
    """One without the tags gets none; a newer one takes the endpoint from the one before, which is still under way."""
    rule(cloud, replicas=3)
    sign(cloud)
    with cloud.database.read() as connection:
        assert view.some(connection, limit=9) == []
    first, second = (sign(cloud, tags={"stage": "field"}) for _ in range(2))
    with cloud.database.read() as connection:
        (shown,) = auto.every(connection)
        found = {one["module"]: (one["state"], one["endpoint"]) for one in view.some(connection, limit=9)}
    assert found == {str(first): ("cancelled", NAME), str(second): ("running", NAME)}
    assert (shown["endpoint"], shown["slot"], shown["last"]) == (NAME, "", str(second.version))
    view_of = cloud.fleet.view(int(shown["rollout"]))
    assert "by rule cloud of ann" in f"by {view_of['history'][0]['by']}"
    cloud.look()
    new = [one for one in cloud.target.wanted.versions if one.name == f"v{second.version}"]
    assert [(str(one.module.manifest.ref), one.replicas) for one in new] == [(str(second), 3)]


def test_a_rule_for_an_endpoint_that_cannot_be_is_refused(cloud):
    """No such endpoint; modules of another team; a policy of devices."""
    with pytest.raises(Missing):
        add_rule(cloud, endpoint="none")
    with pytest.raises(Invalid, match="of team acme"):
        add_rule(cloud, module=ModuleRef.parse("other/digits:0"))
    with pytest.raises(Invalid, match="says something of devices"):
        add_rule(cloud, policy=policies.read({"concurrency": 3}))
    with cloud.database.read() as connection:
        assert auto.every(connection) == []


def add_rule(cloud, **wish):
    made = ShiftWish(**({"module": ModuleRef.parse("acme/digits:0"), "endpoint": NAME} | wish))
    with cloud.database.write() as connection:
        auto.add(connection, cloud.fleet.now, auto.Rule(name="x", shift=made))


def test_an_endpoint_that_is_gone_is_an_event_and_the_rule_waits(cloud):
    """As a version that cannot be rolled out to devices."""
    rule(cloud)
    with cloud.database.write() as connection:
        cloud.wished.remove(connection, cloud.fleet.now, NAME, by="anna")
    sign(cloud, tags={"stage": "field"})
    with cloud.database.read() as connection:
        told = [one["message"] for one in events.newest(connection) if one["kind"] == "auto-rollout-refused"]
        assert ["being removed" in one for one in told] == [True]
        assert auto.every(connection)[0]["last"] is None


def test_a_certificate_that_has_ended_is_said_of_an_endpoint_that_is_ready(cloud, tmp_path):
    """By the duty that looks at it, though its target knows nothing of dates."""
    self_signed(tmp_path / "a.pem", tmp_path / "a.key", "lab")
    given = Settings(certificate=(tmp_path / "a.pem").read_text())
    with cloud.database.write() as connection:
        cloud.wished.change(
            connection, cloud.fleet.now, NAME, None, None, given, (tmp_path / "a.key").read_text(), generation=None,
            by="anna",
        )  # fmt: skip
    cloud.fleet.now = time.time() + 3 * 86400
    cloud.look()
    with cloud.database.read() as connection:
        shown = next(one for one in cloud.wished.every(connection) if one["name"] == NAME)
    assert (shown["state"], "its certificate has ended on" in shown["why"]) == ("failed", True)
