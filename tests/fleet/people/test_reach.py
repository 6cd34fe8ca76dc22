"""What a path or a wish names, held against somebody's rights: there, or as if it did not exist."""

import pytest

from fleet import devices, removal, selectors
from fleet.people import reach
from fleet.people.scope import EVERYTHING, Area, Scope
from fleet.refusals import Forbidden, Missing
from fleet.rollouts.start import Wish
from modules.errors import Invalid
from modules.names import ModuleRef, Slug, Version
from tests.doubles.device import HOST_FACTS


def scope(*areas):
    return Scope(
        tuple(Area(selectors.parse(one), frozenset(teams) if teams else None) for one, *teams in areas),
    )


BERLIN = scope(("site=berlin",))
# With rights for another team there, and for the module's team elsewhere.
MIXED = scope(("site=berlin", "zebra"), ("site=paris", "acme"))


@pytest.fixture
def fleet(small_fleet):
    """Two devices in Berlin, one in Paris and one that was removed; rollouts to each site and to both."""
    for name in ("berlin-1", "berlin-2", "paris-1", "berlin-gone"):
        small_fleet.add_device(name, labels={"site": name.partition("-")[0]})
    ref = small_fleet.ref = small_fleet.add_module("linear")
    small_fleet.rollouts = {
        name: small_fleet.start(ref, slot=Slug(name), selector=selector)
        for name, selector in (("berlin", "site=berlin,id!=berlin-gone"), ("paris", "site=paris"), ("all", "*"))
    }
    small_fleet.commands_of = small_fleet.give("ping", selector="*")[0]
    with small_fleet.database.write() as connection:
        removal.remove_device(connection, small_fleet.now, "berlin-gone")
    return small_fleet


def check(fleet, mine, *, changes=False, **named):
    with fleet.database.read() as connection:
        reach.check_path(connection, mine, named, changes=changes)


@pytest.mark.parametrize("changes", [False, True])
def test_what_lies_inside_is_there(fleet, changes):
    """A device, its commands, a team and a rollout of one's own; and what names nothing."""
    mine = scope(("site=berlin", "acme"))
    rollout = str(fleet.rollouts["berlin"])
    command = fleet.commands_of["berlin-1"]
    check(fleet, mine, changes=changes, device="berlin-1", command=command, team="acme", rollout=rollout)
    check(fleet, Scope(()), changes=changes)
    check(fleet, Scope(()), changes=changes, table="devices", slot="x")


@pytest.mark.parametrize("mine", [scope(("site=berlin", "acme")), Scope(())], ids=["berlin", "none"])
def test_what_lies_outside_or_is_not_there_is_missing(fleet, mine):
    """A device that was removed, too, and each of a path's names alone."""
    for device in ("paris-1", "berlin-gone", "nobody"):
        with pytest.raises(Missing, match="no such device"):
            check(fleet, mine, device=device)
    for command in (fleet.commands_of["paris-1"], "0" * 32):
        with pytest.raises(Missing, match="no such command"):
            check(fleet, mine, command=command)
    with pytest.raises(Missing, match="no such team"):
        check(fleet, mine, team="zebra")
    numbers = (fleet.rollouts["paris"], 999, "9" * 18, "9" * 19, "9" * 400, "", "-1", "1.0", "x", "\u0661", "\u00b2")
    for rollout in numbers:
        with pytest.raises(Missing, match="no such rollout"):
            check(fleet, mine, rollout=str(rollout))


@pytest.mark.parametrize(("named", "most"), [("device", 63), ("team", 63), ("command", 40), ("rollout", 40)])
def test_no_more_of_a_name_is_said_back_than_a_name_may_have(fleet, named, most):
    """Whatever was sent."""
    with pytest.raises(Missing) as caught:
        check(fleet, Scope(()), **{named: "x" * 1000})
    assert caught.value.element == "x" * most


@pytest.mark.parametrize(
    ("mine", "rollout", "changed"),
    [
        (BERLIN, "berlin", True),
        (BERLIN, "all", False),
        (scope(("site=berlin",), ("site=paris",)), "all", False),  # and the device that was removed is nobody's
        (scope(("site=berlin", "acme"), ("*", "zebra")), "all", False),
        (scope(("*", "acme"), ("site=berlin",)), "all", True),
        (MIXED, "paris", True),
        (MIXED, "all", False),
    ],
)
def test_a_rollout_is_changed_by_who_may_see_all_of_its_devices(fleet, mine, rollout, changed):
    """With its module's team; one that reaches further is only read."""
    number = fleet.rollouts[rollout]
    check(fleet, mine, rollout=str(number))
    if changed:
        check(fleet, mine, changes=True, rollout=str(number))
    else:
        with pytest.raises(Forbidden, match="devices outside"):
            check(fleet, mine, changes=True, rollout=str(number))
    with fleet.database.read() as connection:
        assert reach.beyond(connection, mine, number, str(fleet.ref)) is not changed


def test_a_rollout_that_a_device_outside_does_not_fit_reaches_further(fleet):
    """Its plan names that device."""
    small = HOST_FACTS.__class__(platform="linux/arm64", cores=1)
    for name, site in (("berlin-arm", "berlin"), ("rome-arm", "rome")):
        fleet.add_device(name, labels={"site": site}, host=small, formats=())
    within = fleet.start(fleet.ref, slot=Slug("within"), devices=["berlin-1", "berlin-arm"])
    further = fleet.start(fleet.ref, slot=Slug("further"), devices=["berlin-1", "berlin-arm", "rome-arm"])
    assert [one["device"] for one in fleet.view(further)["misfits"]] == ["berlin-arm", "rome-arm"]
    with fleet.database.read() as connection:
        assert not reach.beyond(connection, BERLIN, within, str(fleet.ref))
        assert reach.beyond(connection, BERLIN, further, str(fleet.ref))
        assert reach.beyond(connection, scope(("site=berlin", "zebra")), within, str(fleet.ref))


def test_of_hundreds_of_devices_each_is_looked_at(fleet):
    """The one that lies outside may be the last, or stand at either end of a look."""
    mine = [f"berlin-{number}" for number in range(1, 3)]
    with fleet.database.read() as connection:
        reach.check_devices(connection, BERLIN, mine * 600)
        for place in (0, 499, 500, 501, 999, 1000, 1199):
            named = mine * 600
            named[place] = "paris-1"
            with pytest.raises(Missing, match="paris-1"):
                reach.check_devices(connection, BERLIN, named)


def test_which_of_hundreds_of_devices_are_seen(fleet):
    """Of any number, those that lie inside, wherever they stand."""
    strangers = {f"a-{number:04}" for number in range(499)} | {f"c-{number:04}" for number in range(600)}
    with fleet.database.read() as connection:
        assert reach.seen_of(connection, BERLIN, strangers | {"berlin-1", "berlin-2", "paris-1"}) == {
            "berlin-1", "berlin-2",
        }  # fmt: skip
        assert reach.seen_of(connection, BERLIN, {"berlin-1", "paris-1", "berlin-gone"}) == {"berlin-1"}
        assert reach.seen_of(connection, BERLIN, set()) == set()


def test_labels_that_take_a_device_out_of_ones_rights_are_refused(fleet):
    """Those that keep it inside are not."""
    with fleet.database.write() as connection:
        devices.set_labels(connection, "berlin-1", {"site": "berlin", "ring": "a"})
        reach.check_kept(connection, BERLIN, "berlin-1")
        devices.set_labels(connection, "berlin-1", {"site": "rome"})
        with pytest.raises(Forbidden, match="outside of what your rights are for"):
            reach.check_kept(connection, BERLIN, "berlin-1")


def narrowed(fleet, mine, **wish):
    wish = Wish(module=ModuleRef(Slug("acme"), Slug("linear"), Version.parse("1")), slot=Slug("x"), **wish)
    with fleet.database.read() as connection:
        return reach.narrowed(connection, mine, wish)


@pytest.mark.parametrize(
    ("mine", "wanted", "becomes"),
    [
        (EVERYTHING, "*", "*"),
        (EVERYTHING, "site=rome", "site=rome"),
        (BERLIN, "*", "site=berlin"),
        (BERLIN, "ring=a", "ring=a,site=berlin"),
        (BERLIN, "ring=a,site=berlin", "ring=a,site=berlin"),
        (scope(("*", "acme"), ("site=berlin", "zebra")), "*", "*"),
        (MIXED, "*", "site=paris"),
        (scope(("site=berlin",), ("site=paris",)), "site=paris,ring=a", "site=paris,ring=a"),
    ],
)
def test_a_wish_is_cut_to_ones_rights_for_the_modules_team(fleet, mine, wanted, becomes):
    """Its selector says so, for devices that join later."""
    assert narrowed(fleet, mine, selector=wanted).selector == becomes


def test_a_wish_that_cannot_be_cut_is_refused(fleet):
    """For a team of which one has no rights, for devices outside, and where two groups could be meant."""
    with pytest.raises(Missing, match="no such module"):
        narrowed(fleet, scope(("*", "zebra")))
    with pytest.raises(Missing, match="berlin-1"):
        narrowed(fleet, MIXED, devices=("paris-1", "berlin-1"))
    assert narrowed(fleet, MIXED, devices=("paris-1",)).devices == ("paris-1",)
    two = scope(("site=berlin",), ("site=paris",))
    for wanted in ("*", "ring=a"):
        with pytest.raises(Invalid, match="one of them") as caught:
            narrowed(fleet, two, selector=wanted)
        assert caught.value.remedy == "begin the selector with site=berlin or site=paris"
