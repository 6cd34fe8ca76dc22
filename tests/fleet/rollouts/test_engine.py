"""Rollouts from start to end, on a real database."""

import pytest

from fleet.ingest import order_name
from fleet.refusals import Conflict, Missing
from fleet.rollouts import control
from fleet.rollouts.model import Count, Policy
from modules.errors import Invalid, Unfit
from modules.manifest import Adjustable, Needs
from modules.names import Slug
from modules.protocol.report import Reason, Refusal

TWO_WAVES = Policy(waves=(Count(1),))


@pytest.fixture
def fleet(small_fleet):
    for name in ("dev-a", "dev-b"):
        small_fleet.add_device(name)
    return small_fleet


def act(fleet, rollout, action):
    with fleet.database.write() as connection:
        control.act(connection, fleet.now, rollout, action)
    fleet.tick()


def test_a_wave_opens_only_when_the_one_before_has_committed(fleet):
    """The second device gets no order until the first one committed."""
    rollout = fleet.start(fleet.add_module("digits"), policy=TWO_WAVES)
    assert fleet.phases(rollout) == {"dev-a": "ordered", "dev-b": "planned"}
    assert fleet.order("dev-b") is None

    fleet.report("dev-a", "probation")
    assert fleet.order("dev-b") is None

    fleet.report("dev-a", "committed")
    assert fleet.phases(rollout)["dev-b"] == "ordered"

    fleet.report("dev-b", "committed")
    assert fleet.view(rollout)["state"] == "done"


def test_a_failure_ends_the_rollout_and_spares_the_next_wave(fleet):
    """A device that reverts stops everything behind it."""
    rollout = fleet.start(fleet.add_module("digits"), policy=TWO_WAVES)
    fleet.report("dev-a", "reverted")
    assert fleet.view(rollout)["state"] == "failed"
    assert fleet.order("dev-b") is None


def test_a_device_that_goes_back_later_reopens_a_rollout_that_was_done(fleet):
    """Done means healthy: a later reverted or degraded counts."""
    rollout = fleet.start(fleet.add_module("digits"))
    for name in ("dev-a", "dev-b"):
        fleet.report(name, "committed")
    assert fleet.view(rollout)["state"] == "done"

    fleet.report("dev-b", "degraded")
    view = fleet.view(rollout)
    assert view["state"] == "failed"
    assert any("open again" in entry["what"] for entry in view["history"])


def test_a_paused_rollout_opens_no_wave_until_it_is_resumed(fleet):
    """Devices keep their orders; the next wave waits."""
    rollout = fleet.start(fleet.add_module("digits"), policy=TWO_WAVES)
    act(fleet, rollout, "pause")
    fleet.report("dev-a", "committed")
    assert fleet.order("dev-b") is None

    act(fleet, rollout, "resume")
    assert fleet.order("dev-b") is not None


def test_a_cancelled_rollout_stays_so(fleet):
    """After a cancel nothing opens, and it cannot be resumed."""
    rollout = fleet.start(fleet.add_module("digits"), policy=TWO_WAVES)
    act(fleet, rollout, "cancel")
    fleet.report("dev-a", "committed")
    assert fleet.order("dev-b") is None
    with pytest.raises(Conflict, match="cancelled"):
        act(fleet, rollout, "resume")


def test_an_operator_cannot_reopen_what_is_done(fleet):
    """Only a device's report opens a rollout again."""
    rollout = fleet.start(fleet.add_module("digits"), devices=("dev-a",))
    fleet.report("dev-a", "committed")
    with pytest.raises(Conflict, match="done"):
        act(fleet, rollout, "resume")


def test_a_newer_rollout_takes_the_slot_over(fleet):
    """The older rollout's device counts as superseded, and its late reports move neither."""
    first = fleet.start(fleet.add_module("digits"), devices=("dev-a",))
    old = fleet.order("dev-a")
    second = fleet.start(fleet.add_module("digits"), devices=("dev-a",))
    assert fleet.phases(first) == {"dev-a": "superseded"}

    fleet.report("dev-a", "committed", order=old.counter)
    assert fleet.phases(second) == {"dev-a": "ordered"}


def test_going_back_to_a_version_waits_for_a_report_of_the_new_order(fleet):
    """An old "committed" of the same bytes, said before the new order came, is no evidence."""
    ref = fleet.add_module("digits")
    fleet.start(ref, devices=("dev-a",))
    before = fleet.order("dev-a").counter
    fleet.report("dev-a", "committed")
    again = fleet.start(ref, devices=("dev-a",))

    fleet.report("dev-a", "committed", order=before)
    assert fleet.view(again)["state"] == "running"

    fleet.report("dev-a", "committed")
    assert fleet.view(again)["state"] == "done"


def test_a_refused_order_fails_the_rollout_with_the_devices_reason(fleet):
    """A device that does not accept its order says so, and nobody waits for ever."""
    rollout = fleet.start(fleet.add_module("digits"), devices=("dev-a",))
    with fleet.database.read() as connection:
        envelope = connection.exec_driver_sql("SELECT order_envelope FROM devices WHERE id = 'dev-a'").scalar_one()
    refusal = Refusal(what=order_name(envelope), reason=Reason("untrusted", "below the floor"), at=1.0)
    fleet.send("dev-a", [], refusals=(refusal,))
    view = fleet.view(rollout)
    assert (view["state"], view["devices"][0]["phase"]) == ("failed", "rejected")
    assert view["devices"][0]["reason"]["message"] == "below the floor"


def test_slots_of_one_device_move_alone_and_every_order_names_all(fleet):
    """A second slot's order keeps the first, and removing one keeps the other."""
    digits, faces = fleet.add_module("digits"), fleet.add_module("faces")
    fleet.start(digits, devices=("dev-a",))
    fleet.start(faces, devices=("dev-a",), slot=Slug("faces"))
    assert set(fleet.order("dev-a").slots) == {"digits", "faces"}

    with fleet.database.write() as connection:
        control.empty_slot(connection, fleet.now, fleet.orders, "dev-a", Slug("digits"))
    order = fleet.order("dev-a")
    assert (set(order.slots), order.counter) == ({"faces"}, 3)


def test_a_waiver_is_in_every_order_while_its_rollout_holds_the_slot(fleet):
    """Content that failed before is tried again only where an operator said so."""
    ref = fleet.add_module("digits")
    fleet.start(ref, devices=("dev-a",))
    assert fleet.order("dev-a").waivers == ()
    fleet.start(ref, devices=("dev-a",), waive=True)
    order = fleet.order("dev-a")
    assert order.waivers == (order.slots["digits"].digest,)


def test_devices_that_do_not_fit_are_listed_with_reasons_and_get_no_order(fleet):
    """The misfits are known before anything starts."""
    fleet.add_device("dev-silent", host=None)
    rollout = fleet.start(fleet.add_module("digits"))
    assert fleet.view(rollout)["misfits"] == [{"device": "dev-silent", "reasons": ["has sent no facts yet"]}]
    assert "dev-silent" not in fleet.phases(rollout)


@pytest.mark.parametrize(
    ("parts", "wish", "error", "says"),
    [
        ({"sign_it": False}, {}, Conflict, "nobody signed"),
        ({"needs": Needs(memory_mb=1 << 20)}, {}, Unfit, "MiB of memory"),
        ({}, {"selector": "site=nowhere"}, Unfit, "matches no device"),
        ({}, {"devices": ("dev-missing",)}, Missing, "no such device"),
        ({}, {"settings": {"log_level": "debug"}}, Invalid, "does not let this be set"),
        ({}, {"fallback": "https://evil.example/score"}, Invalid, "allows the host"),
        ({"fallback_hosts": ("good.example",)}, {"fallback": "http://good.example/"}, Invalid, "https"),
        ({"fallback_hosts": ("*.good.example",)}, {"fallback": "https://a.b.good.example/"}, Invalid, "host"),
        ({"fallback_hosts": ("good.example",)}, {"fallback": "https://user@good.example/"}, Invalid, "https"),
    ],
)
def test_what_could_not_work_is_refused_before_any_order(fleet, parts, wish, error, says):
    """Drafts, misfits, foreign settings and fallback hosts never reach a device."""
    ref = fleet.add_module("digits", **parts)
    with pytest.raises(error, match=says):
        fleet.start(ref, **wish)
    assert fleet.order("dev-a") is None


def test_settings_and_fallback_within_the_manifest_reach_the_device(fleet):
    """What the publisher declared adjustable is in the order as the operator set it."""
    ref = fleet.add_module(
        "digits",
        adjustable={"probation_s": Adjustable(default=60.0, minimum=1.0, maximum=600.0)},
        fallback_hosts=("*.good.example",),
    )
    fleet.start(ref, devices=("dev-a",), settings={"probation_s": 5.0}, fallback="https://x.good.example/score")
    slot = fleet.order("dev-a").slots["digits"]
    assert (slot.settings, slot.fallback) == ({"probation_s": 5.0}, "https://x.good.example/score")


def test_an_unknown_rollout_is_missing(fleet):
    """Looking at or steering what does not exist says so."""
    with pytest.raises(Missing):
        fleet.view(99)


def test_a_large_wave_is_ordered_in_bounded_steps(small_fleet):
    """One tick issues at most a hundred orders, and says that there is more."""
    for number in range(103):
        small_fleet.add_device(f"dev-{number:03}")
    ref = small_fleet.add_module("digits")
    small_fleet.tick, tick = lambda: None, small_fleet.tick
    rollout = small_fleet.start(ref)
    assert small_fleet.engine.tick() is True
    assert list(small_fleet.phases(rollout).values()).count("ordered") == 100
    tick()
    assert set(small_fleet.phases(rollout).values()) == {"ordered"}
