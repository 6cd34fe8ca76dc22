"""Three years of one device, as one life: everything that it stands on ends or is replaced, and what it runs does not.

Agent, gateway, module, server and broker are the real programs, with mutual TLS; their clock is moved on.
"""

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent import sealing_key
from agent.identity import PAIR
from modules.certificate_life import LAST
from modules.signing import decode_keys
from modules.trust import drafts, roles
from modules.trust.metadata import version
from tests.doubles.device import Device, join
from tests.doubles.publisher import checked
from tests.journeys.life import DAY_S, SOON_S, Life
from tests.journeys.owner import TEAM
from tests.parts import digits
from tests.parts.key_site import signed_by
from tests.parts.moved.moved_time import MovedTime

pytestmark = [pytest.mark.long, pytest.mark.needs("mosquitto", "faketime")]
YEARS = 3 * 365
# In longer ones than twelve days, what is signed for two weeks would end.
STEPS = [
    pytest.param(12, id="twelve days at a time", marks=pytest.mark.timeout(1200)),
    pytest.param(1, id="day by day", marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
]


@pytest.fixture(params=STEPS)
def life(request, monkeypatch):
    """A fleet, its owner and one device, on their first day; the folder is short, because sockets lie below it."""
    with tempfile.TemporaryDirectory(prefix="efl-") as folder, ExitStack() as stack:
        yield Life(Path(folder), MovedTime(Path(folder), monkeypatch), stack, step=request.param)


def test_three_years_of_one_device(life, tmp_path):
    """Whatever it stands on ends or is replaced while it is in touch, and once while it is offline for a month: it
    follows, its module never stops, and of all that people have to renew they were told before it ended."""
    first, second = life.draft(digits.GRAPH), life.draft(digits.trained_on(tmp_path))
    life.owner.publishes(first)
    life.rolls_out(first)
    beginning = named(life)

    life.reaches(100)
    life.owner.replaces_root()
    life.reaches(150)
    replaces_stolen_team(life)
    life.owner.publishes(second)
    life.owner.raises_floor(second)
    life.rolls_out(second)
    life.reaches(210)
    director_is_stolen(life, first, second)
    own_renewal_offline(life)
    life.reaches(420)
    list_of_revoked_changes_offline(life, tmp_path)
    life.reaches(530)
    servers_renew_offline(life)
    life.reaches(600)
    with life.month_offline() as halfway:
        halfway()
        life.owner.replaces_root()
    life.reaches(690)
    with life.month_offline() as halfway:
        halfway()
        replaces_stolen_team(life)
    life.reaches(780)
    director_is_stolen_offline(life, second)
    owner_is_away(life)
    life.reaches(YEARS)
    sees_the_newest(life)

    nothing_came_near_unnoticed(life)
    only_the_newest_is_left(life, beginning)


# What happens to it


def replaces_stolen_team(life):
    """What the thief of the team's key signs is nothing any more."""
    thief = life.owner.holder.team_signer
    life.owner.replaces_team()
    answer = life.http.post("/api/v1/tuf/teams/acme", content=signed_by(life.owner.file(TEAM), thief))
    assert "0 of 1 signatures hold" in answer.text


def director_is_stolen(life, first, second):
    """The thief's orders count, from the floor on, until another director is named; then none of them does."""
    thief = life.director()
    with life.system.wiretap(life.device.name) as tap:

        def given(release, counter):
            order = life.order(thief, release, counter=counter)
            tap.give_order(order)
            return life.verdict(order)

        assert "below-floor" in given(first, 1_000_000)
        assert given(second, 1_000_001) == ""
        life.holds()
        life.owner.replaces_director()
        life.catches_up()
        assert "0 of 1 signatures hold" in given(second, 1_000_002)
    life.holds()


def director_is_stolen_offline(life, release):
    """The thief has the broker, too: his order is the first that a device gets which was away."""
    thief = life.director()
    with life.month_offline() as halfway, life.system.wiretap(life.device.name) as tap:
        halfway()
        before = len(tap.orders)
        life.owner.replaces_director()
        life.until(lambda: len(tap.orders) > before, "the order by the new director")
        honest, his = tap.orders[-1], life.order(thief, release, counter=2_000_000)
        tap.say("order", his)
        life.network.mend()
        life.moved.advance(SOON_S)
        assert "0 of 1 signatures hold" in life.verdict(his)
        tap.say("order", honest)


def own_renewal_offline(life):
    """It goes shortly before its renewal is due, and comes back in the last tenth of its certificate's life."""
    ahead = max(1, life.step / 2)
    if life.due() < ahead + 1:
        life.passes(ahead + 1)  # which renews
    life.reaches(life.day + life.due() - ahead)
    before = life.serials[-1]
    with life.month_offline() as halfway:
        halfway()
    assert life.serials[-1] != before
    (words,) = {words for words in life.said("ends-soon") if life.device.name in words}
    assert words.startswith(f"the certificate of {life.device.name} ends on ")


def list_of_revoked_changes_offline(life, folder):
    """Somebody else's certificate is taken back meanwhile; the broker's list is another one, and lets it in."""
    lost = Device(folder / "lost", join(life.http), "dev-lost")
    checked(lost.enrol())
    with life.month_offline() as halfway:
        halfway()
        certificate = checked(life.http.get("/api/v1/devices/dev-lost")).json()["certificate"]
        checked(life.http.post("/api/v1/devices/dev-lost/revoke"))
        life.until(lambda: certificate["serial"] in life.revoked(), "it is on the list")


def servers_renew_offline(life):
    """The broker that it comes back to shows another certificate, and so does the server."""
    data = life.system.data
    files = (data.server, data.broker, data.service, life.system.folder / "broker" / "broker.pem")
    before = [path.read_bytes() for path in files]
    with life.month_offline() as halfway:
        halfway()
    after = [path.read_bytes() for path in files]
    assert not set(before) & set(after)
    assert after[1] == after[3]


def owner_is_away(life):
    """Nobody heeds the first words; there are others, each day of the last tenth."""
    life.owner.away = True
    while (left := min(life.ends()[role] for role in (roles.TARGETS, TEAM))) > 6 * DAY_S:
        life.passes(min(life.step, left / DAY_S - 5.5))
    ends = {role: life.moved.now() + left for role, left in life.ends().items()}

    def told_late(role):
        last = ends[role] - roles.life(role).total_seconds() * (1 - LAST)
        return any(at > last and kind == "ends-soon" and words.startswith(role) for at, kind, _, words in life.told)

    def told():
        life.listens()
        return told_late(roles.TARGETS) and told_late(TEAM)

    life.until(told, "somebody is told again of what nobody has heeded")
    life.owner.away = False
    life.owner.heeds(life.health()["warnings"])


def sees_the_newest(life):
    """A device asks for trust metadata when it gets an order: here is a last one, by another director again."""
    before = life.shown()["order"]["counter"]
    life.owner.replaces_director()
    life.until(lambda: life.shown()["order"]["counter"] > before, "the order by the new director")
    life.catches_up()


# What is seen at the end


def nothing_came_near_unnoticed(life):
    """Nothing has ended on any day (``Life.passes``). Of what renews itself only the device that was away came near its
    end; what people renew, they have renewed by the words of the server alone."""
    assert {words.partition(" ends ")[0] for words in life.said("ends-soon")} == {
        roles.ROOT,
        roles.TARGETS,
        TEAM,
        f"the certificate of {life.device.name}",
    }
    renewed = life.owner.renewed
    assert min(renewed.count(role) for role in (roles.ROOT, roles.TARGETS, TEAM)) >= 3, renewed
    renewals = life.said("certificate-renewed")
    for server in ("server", "broker", "service"):
        assert f"the certificate of the {server} was renewed" in renewals
    assert len(life.serials) >= YEARS // 70
    assert len(set(life.keys)) == len(life.serials), "with a new key each time"
    kinds = {kind for _, kind, _, _ in life.told}
    assert not kinds & {"forged-message", "renewal-refused", "upkeep-trouble", "cloned-identity"}, kinds


def only_the_newest_is_left(life, beginning):
    """One certificate and its key, the newest keys of every role, and nothing below what was seen."""
    shown = life.shown()
    assert shown["certificate"]["serial"] == life.serials[-1]
    said = json.loads(life.device.command("status", "--json"))
    assert said["certificate"]["ends"] == shown["certificate"]["ends"] > life.moved.now()
    assert sorted(path.name for path in life.identity.iterdir()) == sorted(
        ("ca.pem", "device.json", PAIR, "root.json", sealing_key.KEY, sealing_key.PUBLIC)
    )
    pair = (life.identity / PAIR).read_bytes()
    assert (pair.count(b"BEGIN CERTIFICATE"), pair.count(b"PRIVATE KEY-----\n")) == (1, 2)
    state = b"".join(path.read_bytes() for path in life.device.state.rglob("*") if path.is_file())
    for key in life.keys[:-1]:
        assert key.splitlines()[2] not in state
    holder, now = life.owner.holder, named(life)
    assert now["root"] == {one.public_key.keyid for one in holder.root_signers}
    assert now["team"] == {holder.team_signer.public_key.keyid}
    assert now["director"] == {life.director().public_key.keyid}
    assert all(not keys & beginning[role] for role, keys in now.items())
    with life.store() as store:
        marks = store.marks()
    assert {role: mark.version for role, mark in marks.items()} == {
        role: version(life.owner.file(role), role) for role in marks
    }
    assert not list(life.system.data.root.glob("*.next.key"))


def named(life):
    """The keys that the device's own files of trust name, by whose they are."""
    folder = life.device.state / "trust"
    newest = max((folder / "metadata" / "root_history").iterdir(), key=lambda path: int(path.name.split(".")[0]))
    root = drafts.keys_of(newest.read_bytes(), roles.ROOT)
    teams = drafts.keys_of((folder / "metadata" / "targets.json").read_bytes(), roles.TARGETS)
    directors = decode_keys((folder / "director.json").read_bytes())
    return {"root": set(root[roles.ROOT]), "team": set(teams[TEAM]), "director": set(directors)}
