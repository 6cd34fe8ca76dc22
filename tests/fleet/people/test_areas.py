"""Where rights hold, without a server: what a role grants, what lies in an area, and what two sets of roles share."""

import pytest
from sqlalchemy import and_, false, or_, select

from fleet import removal, selectors
from fleet.people import roles
from fleet.people.principal import Principal
from fleet.people.roles import MOST, MOST_TEAMS, NO_DEVICES, NO_TEAMS, PERMISSIONS, ROLES, WHOLE_FLEET, Grant
from fleet.people.scope import EVERYTHING, Area, Scope, of_labels
from fleet.tables import devices, modules, rollouts
from modules.errors import BadSettings, Invalid
from modules.names import Slug


def area(selector="*", *teams):
    return Area(selectors.parse(selector), frozenset(teams) if teams else None)


def scope(*areas):
    return Scope(tuple(area(*one) for one in areas))


@pytest.mark.parametrize("role", sorted(ROLES))
@pytest.mark.parametrize("bound", [{}, {"selector": "site=berlin"}, {"teams": ("acme",)}], ids=["all", "site", "team"])
def test_a_role_grants_its_own_permissions_and_with_a_bound_none_for_the_whole_fleet(role, bound):
    """Nothing else; no secrets where teams are named, no endpoints where devices are; of a newer server nothing."""
    granted = {one for one in PERMISSIONS if Grant(role, **bound).permits(one)}
    beyond = WHOLE_FLEET if bound else frozenset()
    beyond |= (NO_TEAMS if "teams" in bound else frozenset()) | (NO_DEVICES if "selector" in bound else frozenset())
    assert granted == ROLES[role] - beyond
    assert not any(Grant("of-a-newer-server", **bound).permits(one) for one in PERMISSIONS)


def test_as_many_roles_and_teams_as_are_allowed_and_no_more():
    """Each role once, however often it is said; none is refused, too."""
    many = [Grant("viewer", f"site=s{number}") for number in range(MOST + 1)]
    assert roles.check(many[:MOST] * 2) == tuple(many[:MOST])
    assert roles.check(many[:1]) == tuple(many[:1])
    for given in (many, []):
        with pytest.raises(Invalid, match="no roles, or more than"):
            roles.check(given)
    teams = tuple(f"t{number}" for number in range(MOST_TEAMS + 1))
    for some in (teams[:1], teams[:MOST_TEAMS]):
        assert roles.check([Grant("viewer", "*", some)])[0].teams == some
    for some in (teams, ()):
        with pytest.raises(Invalid, match="no teams, or more than"):
            roles.check([Grant("viewer", "*", some)])
    with pytest.raises(Invalid, match="no role 'root'"):
        roles.check([Grant("viewer"), Grant("root")])


@pytest.mark.parametrize(
    "term", ["host.arch=arm64", "agent.version=1", "ring>3", "ring<=3", "site=berlin,host.os=linux"]
)
def test_no_area_is_bounded_by_what_a_device_says_of_itself(term):
    """It could say itself into somebody's rights; nor by numbers, which no query compares."""
    with pytest.raises(Invalid, match="cannot bound what somebody may see"):
        area(term).check()
    area("site=berlin,ring!=canary,id in (a,b)").check()


def test_roles_by_a_claim_are_read_or_refused_with_the_name_of_the_setting():
    """JSON that is none, and a role or bound that is none."""
    found = roles.read_mapping('{"ops": [{"role": "operator", "selector": "site=berlin"}]}')
    assert found == {"ops": (Grant("operator", "site=berlin"),)}
    for text in ("", "[]", '{"ops": "operator"}', '{"ops": []}', '{"ops": [{"role": "root"}]}'):
        with pytest.raises(BadSettings, match="oidc_roles"):
            roles.read_mapping(text)


def test_roles_in_words():
    """With their bounds, where they have any."""
    given = (Grant("operator", "site=berlin"), Grant("releaser", "*", ("b", "a")), Grant("viewer", "x=y", ("a",)))
    assert roles.words((*given, Grant("admin"))) == (
        "operator (site=berlin), releaser (teams a, b), viewer (x=y; teams a), admin"
    )


@pytest.mark.parametrize(
    ("inner", "outer", "holds"),
    [
        (("*",), ("*",), True),
        (("site=berlin",), ("*",), True),
        (("*",), ("site=berlin",), False),
        (("site=berlin,ring=a",), ("site=berlin",), True),
        (("site=berlin",), ("site=berlin,ring=a",), False),
        (("site=paris",), ("site=berlin",), False),
        (("*", "a"), ("*",), True),
        (("*",), ("*", "a"), False),
        (("*", "a"), ("*", "a"), True),
        (("*", "a"), ("*", "a", "b"), True),
        (("*", "a", "b"), ("*", "a"), False),
        (("*", "a"), ("site=berlin", "a"), False),
        (("site=berlin", "b"), ("site=berlin", "a"), False),
    ],
)
def test_what_lies_within_an_area(inner, outer, holds):
    """All of its devices by their labels, and all of its teams."""
    assert area(*inner).within(area(*outer)) is holds


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (("*",), ("*",), ("*",)),
        (("site=berlin",), ("*", "a"), ("site=berlin", "a")),
        (("site=berlin", "a"), ("site=berlin,ring=x", "a", "b"), ("site=berlin,ring=x", "a")),
        (("*", "a", "b"), ("*", "b", "c"), ("*", "b")),
        (("*",), ("*", "a"), ("*", "a")),
    ],
)
def test_what_two_areas_share(one, other, both):
    """Devices that both mean, and teams that both have."""
    assert area(*one) & area(*other) == area(*both)
    assert scope(one) & scope(other) == scope(both)
    assert area(*both).unlimited is (both == ("*",))


def test_what_two_scopes_share():
    """Each area of one with each of the other; where teams have nothing in common nothing is left."""
    assert scope(("*", "a")) & scope(("*", "b")) == Scope(())
    assert scope(("*", "a"), ("x=y", "b")) & scope(("*", "b"), ("*", "a")) == scope(("*", "a"), ("x=y", "b"))
    assert scope(("x=y",), ("x=z",)) & scope(("*",), ("*",)) == scope(("x=y",), ("x=z",))
    assert EVERYTHING & Scope(()) == Scope(())
    assert scope(("x=y",), ("*",)).unlimited
    assert not scope(("x=y",), ("*", "a")).unlimited
    assert not Scope(()).unlimited


def test_the_areas_of_a_team():
    """Those of every team, too."""
    mine = scope(("x=y", "a"), ("x=z", "a", "b"), ("x=w",))
    assert mine.of_team("b") == scope(("x=z", "a", "b"), ("x=w",))
    assert mine.has_team("a")
    assert not scope(("*", "a"), ("x=z", "b")).has_team("c")


def test_a_token_may_do_what_its_own_roles_and_its_operators_both_grant():
    """Where both do, and nothing of what one of them lacks."""
    who = Principal(
        name="x",
        kind="token",
        rights=((Grant("operator"), Grant("viewer"), Grant("metrics")), (Grant("operator", "site=berlin"),)),
    )
    assert who.scope("command:write") == scope(("site=berlin",))
    assert who.scope("metrics:read") == Scope(())
    assert set(who.permissions) == ROLES["operator"] - NO_DEVICES
    assert who.roles == ["metrics", "operator", "viewer"]
    assert who.allows("command:write", scope(("site=berlin,ring=a",), ("site=berlin", "acme")))
    assert not who.allows("command:write", scope(("site=berlin",), ("site=paris",)))
    assert not who.allows("command:write", EVERYTHING)
    assert not who.allows("metrics:read", scope(("site=berlin",)))


@pytest.fixture
def planted(small_fleet):
    """Two devices in Berlin, one in Paris, one without a label and one that was removed; modules of two teams."""
    for name, labels in (
        ("berlin-1", {"site": "berlin", "ring": "a"}),
        ("berlin-2", {"site": "berlin"}),
        ("paris-1", {"site": "paris"}),
        ("plain-1", {}),
        ("gone-1", {"site": "berlin"}),
    ):
        small_fleet.add_device(name, labels=labels)
    ref = small_fleet.add_module("linear")
    small_fleet.numbered = {
        name: small_fleet.start(ref, slot=Slug(name), selector=selector)
        for name, selector in (("berlin", "site=berlin"), ("paris", "site=paris"), ("all", "*"))
    }
    with small_fleet.database.write() as connection:
        removal.remove_device(connection, small_fleet.now, "gone-1")
    return small_fleet


def those(fleet, column, condition):
    with fleet.database.read() as connection:
        return sorted(connection.scalars(select(column).where(condition)))


@pytest.mark.parametrize(
    ("areas", "seen"),
    [
        ((), []),
        ((("site=berlin",),), ["berlin-1", "berlin-2"]),
        ((("site=berlin,ring=a",), ("site=paris", "acme")), ["berlin-1", "paris-1"]),
        ((("site!=berlin",),), ["paris-1", "plain-1"]),
        ((("site in (paris,rome)",),), ["paris-1"]),
        ((("id=plain-1",),), ["plain-1"]),
        ((("id!=plain-1",),), ["berlin-1", "berlin-2", "paris-1"]),
        ((("site=berlin",), ("*", "other")), ["berlin-1", "berlin-2", "gone-1", "paris-1", "plain-1"]),
    ],
)
def test_the_devices_of_a_scope(planted, areas, seen):
    """By rows of devices, and by rows that name one; a bound by labels leaves out those that were removed."""
    mine = scope(*areas)
    assert those(planted, devices.c.id, mine.live_devices()) == seen
    assert those(planted, devices.c.id, mine.of_device(devices.c.id)) == seen
    by_labels = or_(false(), *(of_labels(one.selector) for one in mine.areas))
    assert those(planted, devices.c.id, and_(by_labels, mine.live_devices())) == seen


@pytest.mark.parametrize(
    ("areas", "seen"),
    [
        ((), set()),
        ((("*",),), {"berlin", "paris", "all"}),
        ((("*", "acme"),), {"berlin", "paris", "all"}),
        ((("*", "ac", "acm_", "other"),), set()),
        ((("site=paris",),), {"paris", "all"}),
        ((("site=paris", "acme"),), {"paris", "all"}),
        ((("site=paris", "other"),), set()),
        ((("site=paris", "other"), ("site=berlin", "acme")), {"berlin", "all"}),
        ((("site=rome",), ("site=paris",)), {"paris", "all"}),
        ((("id=gone-1",),), set()),
    ],
)
def test_the_rollouts_and_teams_of_a_scope(planted, areas, seen):
    """A rollout has a device and a module of one and the same area."""
    mine = scope(*areas)
    assert set(those(planted, rollouts.c.id, mine.some_rollouts())) == {planted.numbered[one] for one in seen}
    teams = {team for one in mine.areas for team in one.teams or ("acme",)}
    assert set(those(planted, modules.c.team, mine.of_team_column(modules.c.team))) == teams & {"acme"}
