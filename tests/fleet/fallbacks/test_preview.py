"""What a policy would change, told before it is set: for which slots another answers, and nothing is changed by it."""

import pytest

from fleet.fallbacks import policies, preview
from fleet.fallbacks.policies import Policy
from fleet.people.scope import EVERYTHING, Area, Scope
from fleet.selectors import parse
from modules.protocol.order import Cloud
from tests.fleet.fallbacks.conftest import URL

EVERY = ("dev-a", "dev-b", "dev-c")
OTHER = "https://other.example/x"
USUAL = "when unhealthy, unplaceable"


@pytest.fixture
def rolled(fleet):
    ref = fleet.module()
    fleet.endpoint(ref)
    fleet.start(ref, devices=EVERY)
    return fleet


def look(fleet, group="*", policy=None, scope=EVERYTHING, **given):
    wanted = None if policy == "none" else policy or Policy(**({"fallback": "endpoint:digits"} | given))
    with fleet.database.read() as connection:
        return preview.of(connection, fleet.registry, "acme", "digits", group, wanted, scope)


def changes(found):
    return {one["device"]: (one["before"], one["after"]) for one in found["named"]}


def test_it_says_what_setting_it_then_does(rolled):
    """The slots that it names are those whose orders name another afterwards; until then no order has changed."""
    counters = {device: rolled.order(device).counter for device in EVERY}
    found = look(rolled, "site=berlin")
    answers = ("nobody", f"endpoint digits {USUAL}")
    assert changes(found) == {"dev-a": answers, "dev-b": answers}
    assert (found["devices"], found["slots"], found["unchanged"]) == (2, 2, 0)
    rolled.renew()
    assert {device: rolled.order(device).counter for device in EVERY} == counters
    rolled.put("site=berlin")
    assert {device for device in EVERY if rolled.cloud(device)} == set(changes(found))
    assert rolled.cloud("dev-a").url == f"{URL}/digits"


def test_a_more_specific_policy_and_a_rollouts_own_word_stay(rolled):
    """Devices for which another policy holds are counted apart, and so are those whose rollout says it itself."""
    rolled.put("id=dev-b", OTHER)
    rolled.start(rolled.module(), devices=("dev-c",), cloud=Cloud(url=OTHER))
    found = look(rolled, terms={"requests_a_day": 5})
    assert changes(found) == {"dev-a": ("nobody", f"endpoint digits {USUAL}; requests_a_day 5")}
    assert found["unchanged"] == 2


def test_of_two_equals_the_new_one_holds(rolled):
    """As it will once it is set: a device in both groups goes over, and a changed one keeps its place."""
    rolled.put("site=berlin", OTHER)
    assert changes(look(rolled, "id=dev-a")) == {"dev-a": (f"{OTHER} {USUAL}", f"endpoint digits {USUAL}")}
    rolled.put("id=dev-a")
    assert set(changes(look(rolled, "site=berlin", terms={"when": ["overloaded"]}))) == {"dev-b"}


def test_a_changed_policy_and_one_that_is_removed(rolled):
    """The same terms change nothing; others do, and so does never; without it a less specific one holds again."""
    rolled.put(fallback=OTHER)
    rolled.put("site=berlin", terms={"when": ["overloaded"]})
    assert look(rolled, "site=berlin", terms={"when": ["overloaded"]})["slots"] == 0
    assert look(rolled, "site=berlin", terms={"when": ["overloaded"]}, linger_s=5)["slots"] == 0
    never = changes(look(rolled, "site=berlin", Policy(terms={"when": []})))
    assert never["dev-b"] == ("endpoint digits when overloaded", "nobody, ever")
    gone = changes(look(rolled, "site=berlin", "none"))
    assert gone == dict.fromkeys(("dev-a", "dev-b"), ("endpoint digits when overloaded", f"{OTHER} {USUAL}"))


def test_a_version_that_it_says_nothing_for_is_named(fleet):
    """One whose publisher does not allow the address: no order changes, and why is told."""
    ref = fleet.module(fallback_hosts=("lab.example",))
    fleet.start(ref, devices=("dev-a",))
    found = look(fleet, policy=Policy(fallback=OTHER))
    assert (found["slots"], found["unchanged"]) == (0, 1)
    assert "other.example" in found["refused"][str(ref)]
    fleet.put(fallback=OTHER)
    assert fleet.cloud("dev-a") is None


def test_a_policy_that_somebody_may_not_see_is_not_told(rolled):
    """Who has rights for some devices learns who would answer, and not what a policy of the whole fleet says."""
    rolled.put(fallback=OTHER)
    mine = Scope((Area(parse("site=berlin"), None),))
    found = look(rolled, "site=berlin", scope=mine)
    assert set(changes(found)) == {"dev-a", "dev-b"}
    assert "other.example" not in str(found)
    assert changes(found)["dev-a"][0].startswith("another policy")
    with rolled.database.read() as connection:
        assert policies.rows(connection, mine) == []
