"""Which genuine orders a device still refuses, and what time it goes by."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.digests import sha256
from modules.errors import Untrusted
from modules.names import DeviceId, Version
from modules.order_rules import LONGEST_LEAP, LONGEST_STEP, Ordered, accept, believed_time, learned_time, objections
from modules.trust import roles

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
BUILT = datetime(2026, 1, 1, tzinfo=UTC)
PATH = "modules/acme/digits/3.json"
DIGEST = sha256(b"manifest")


def against(**changes):
    """The codes of the objections to a good order with these changes."""
    order = {
        "own": DeviceId("press-4"),
        "device": DeviceId("press-4"),
        "counter": 7,
        "last_counter": 6,
        "issued": NOW - timedelta(hours=1),
        "expires": NOW + timedelta(days=7),
        "now": NOW,
        "modules": [Ordered(PATH, DIGEST)],
        "published": {PATH: DIGEST},
        "floors": {"acme/digits": Version("2")},
    }
    return [reason.code for reason in objections(**(order | changes))]


@pytest.mark.parametrize(
    ("changes", "codes"),
    [
        pytest.param({}, [], id="when all is well"),
        pytest.param({"modules": [], "published": {}}, [], id="when it orders nothing at all"),
        pytest.param({"last_counter": 7}, [], id="when it comes again after a reconnect"),
        pytest.param({"floors": {}}, [], id="when there is no floor"),
        pytest.param({"floors": {"acme/digits": Version("3.0")}}, [], id="when it is exactly at the floor"),
        pytest.param({"floors": {"acme/other": Version("9")}}, [], id="when another module has a higher floor"),
        pytest.param({"device": DeviceId("press-5")}, ["other-device"], id="when it is for another device"),
        pytest.param({"last_counter": 8}, ["old-order"], id="when a newer one was accepted"),
        pytest.param({"counter": 6 + LONGEST_STEP}, [], id="when as many orders were made as there may be"),
        pytest.param({"counter": 7 + LONGEST_STEP}, ["counter-leap"], id="when its number is far above the last one"),
        pytest.param({"counter": 2**53 - 1, "last_counter": 0}, ["counter-leap"], id="when the first one leaps"),
        pytest.param({"now": NOW + timedelta(days=7)}, ["expired"], id="when its time is up"),
        pytest.param({"issued": NOW + timedelta(days=8)}, ["expired"], id="when it ended before it began"),
        pytest.param({"published": {}}, ["not-published"], id="when nobody published the release"),
        pytest.param(
            {"published": {PATH: sha256(b"x")}}, ["digest-mismatch"], id="when the publisher signed other bytes"
        ),
        pytest.param({"floors": {"acme/digits": Version("10")}}, ["below-floor"], id="when it is below the floor"),
        pytest.param(
            {"modules": [Ordered("trust/director.json", DIGEST)], "published": {"trust/director.json": DIGEST}},
            ["not-published"],
            id="when it names a target that is no module",
        ),
        pytest.param(
            {"device": DeviceId("press-5"), "last_counter": 9, "published": {}},
            ["other-device", "old-order", "not-published"],
            id="when several things are wrong",
        ),
    ],
)
def test_objections(changes, codes):
    """Every reason is found, and no other."""
    assert against(**changes) == codes


def test_accept_raises_with_every_reason():
    """The refusal holds all reasons, so that nobody mends them one at a time."""
    found = objections(
        own=DeviceId("press-4"), device=DeviceId("press-5"), counter=1, last_counter=2, issued=NOW,
        expires=NOW, now=NOW, modules=[], published={}, floors={},
    )  # fmt: skip
    with pytest.raises(Untrusted, match=r"press-5.*other-device.*old-order.*expired"):
        accept(found)
    accept(())


class TestTime:
    @pytest.mark.parametrize(
        ("clock", "known", "believed"),
        [
            pytest.param(NOW, None, NOW, id="when the clock is set"),
            pytest.param(datetime(1970, 1, 1, tzinfo=UTC), None, BUILT, id="when there is no clock"),
            pytest.param(datetime(1970, 1, 1, tzinfo=UTC), NOW, NOW, id="when an order told the time"),
            pytest.param(NOW - timedelta(days=9), NOW, NOW, id="when the clock went back"),
        ],
    )
    def test_believed(self, clock, known, believed):
        """A device never believes in a time before its build or before what it has learned."""
        assert believed_time(clock=clock, built=BUILT, known=known) == believed

    def test_an_order_teaches_the_time(self):
        """A device without a clock takes the time from the order it accepts."""
        issued = BUILT + timedelta(hours=10)
        unset = datetime(1970, 1, 1, tzinfo=UTC)
        assert learned_time(clock=unset, built=BUILT, known=None, issued=issued) == issued

    @given(st.lists(st.integers(min_value=-4000, max_value=400_000), max_size=20))
    def test_a_stolen_key_cannot_push_time(self, days):
        """However many orders it signs, a stolen director key moves a device with a clock one leap ahead at most."""
        known = None
        for day in days:
            issued = NOW + timedelta(days=day)
            before, known = known, learned_time(clock=NOW, built=BUILT, known=known, issued=issued)

            assert before is None or known >= before
            assert believed_time(clock=NOW, built=BUILT, known=known) <= NOW + LONGEST_LEAP

    def test_a_bad_hour_of_the_server_locks_nobody_out(self):
        """After an order from a year ahead, honest metadata and orders are still far from expired."""
        year_ahead = NOW + timedelta(days=365)
        known = learned_time(clock=NOW, built=BUILT, known=None, issued=year_ahead)

        assert believed_time(clock=NOW, built=BUILT, known=known) < NOW + roles.life(roles.TIMESTAMP) / 7

    def test_one_leap_without_a_clock(self):
        """Without a clock each order moves the time by one leap at most."""
        unset, far = datetime(1970, 1, 1, tzinfo=UTC), NOW + timedelta(days=3650)
        first = learned_time(clock=unset, built=BUILT, known=None, issued=far)
        assert first == BUILT + LONGEST_LEAP
        assert learned_time(clock=unset, built=BUILT, known=first, issued=far) == BUILT + 2 * LONGEST_LEAP

    def test_a_clock_put_right_is_believed_again(self):
        """A clock that was once far ahead leaves nothing behind when it is put right."""
        ahead = NOW + timedelta(days=3650)
        known = learned_time(clock=ahead, built=BUILT, known=None, issued=NOW)
        assert believed_time(clock=NOW, built=BUILT, known=known) == NOW
