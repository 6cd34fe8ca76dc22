"""The routing table that the rows make, and when it is written."""

import stat
from pathlib import Path

import msgspec
import pytest

from agent import sealing_key
from agent.gateway import table as gateway_table
from agent.router import Router
from agent.routes import table
from agent.slots import Placed, Routing
from agent.store import Store
from modules import sealing
from modules.protocol.order import SEALED_AS, Cloud, Secret
from modules.protocol.phases import Phase
from modules.protocol.routing import Overload
from tests.doubles.release import make
from tests.doubles.rows import slot_row

CLOUD = "https://cloud.example/digits"
NEW, OLD = make("acme/digits:2").wanted(), make("acme/digits:1").wanted()
TO_CLOUD = Routing(fallback=CLOUD)
CANDIDATE = Placed(wanted=NEW, routing=TO_CLOUD, instance="new", socket="/new", provider="CPUExecutionProvider")
CURRENT = Placed(wanted=OLD, instance="old", socket="/old")


def route(folder, **values):
    slot = slot_row(NEW, **({"routing": TO_CLOUD} | values))
    return table((slot,), generation=3, identity=folder).slots.get("main")


def test_the_committed_module_has_the_traffic(tmp_path):
    """Until the candidate is on probation, the committed one alone is routed to."""
    for phase in (Phase.ACCEPTED, Phase.FETCHING, Phase.STARTING, Phase.REVERTING, Phase.REVERTED):
        found = route(tmp_path, phase=phase, current=CURRENT, candidate=CANDIDATE)
        assert (found.current.instance, found.previous, found.fallback) == ("old", None, None)


def test_a_candidate_on_probation_has_the_committed_one_behind_it(tmp_path):
    """The gateway falls back to the committed module within a request."""
    found = route(tmp_path, phase=Phase.PROBATION, current=CURRENT, candidate=CANDIDATE)

    assert (found.current.instance, found.previous.instance) == ("new", "old")
    assert (found.current.module, found.current.provider) == ("acme/digits:2", "CPUExecutionProvider")
    assert found.fallback.url == CLOUD


def test_with_nothing_here_the_ordered_modules_cloud_serves(tmp_path):
    """A device that runs nothing yet forwards to the ordered module's endpoint, with its own certificate."""
    found = route(tmp_path, phase=Phase.REJECTED)

    assert found.current is None
    assert found.fallback.url == CLOUD
    assert found.fallback.cert == str(tmp_path / "certificate.pem")
    assert found.fallback.key == str(tmp_path / "key.pem")


def test_a_slot_that_is_removed_has_no_route(tmp_path):
    """Its requests are refused before its module is stopped."""
    assert route(tmp_path, phase=Phase.REMOVING, current=CURRENT) is None


def test_the_table_is_written_when_it_changes(tmp_path):
    """Each change gets the next generation; no change writes nothing; a lost file is written again."""
    store, path = Store(tmp_path), tmp_path / "gateway" / "table.json"
    router = Router(path, store, tmp_path, device="dev-1")
    row = store.save(slot_row(OLD, phase=Phase.COMMITTED, current=CURRENT))
    router()
    router()
    assert gateway_table.read(path).generation == 1

    store.save(row.with_(current=msgspec.structs.replace(CURRENT, instance="newer")))
    router()
    assert gateway_table.read(path).generation == 2
    assert gateway_table.read(path).slots["main"].current.instance == "newer"

    path.unlink()
    router()
    assert gateway_table.read(path).generation == 3
    store.close()


def test_the_gateway_can_read_the_certificate_that_it_shows(tmp_path):
    """Certificate and key lie beside the table, for the gateway's group alone, and are renewed with the identity's."""
    identity = tmp_path / "identity"
    identity.mkdir(mode=0o700)
    for name in ("certificate.pem", "key.pem"):
        (identity / name).write_text(f"first {name}")
        (identity / name).chmod(0o600)
    store, path = Store(tmp_path), tmp_path / "gateway" / "table.json"
    router = Router(path, store, identity, device="dev-1")
    row = store.save(slot_row(NEW, routing=TO_CLOUD, phase=Phase.REJECTED))
    router()

    fallback = gateway_table.read(path).slots["main"].fallback
    assert (fallback.cert, fallback.key) == (str(path.parent / "certificate.pem"), str(path.parent / "key.pem"))
    assert (path.parent / "key.pem").read_text() == "first key.pem"
    assert (path.parent / "key.pem").stat().st_mode & 0o777 == 0o640
    (identity / "key.pem").write_text("renewed")
    store.save(row.with_(phase=Phase.REVERTED))
    store.save(slot_row(NEW, "other", phase=Phase.REJECTED))
    router()
    assert (path.parent / "key.pem").read_text() == "renewed"
    store.close()


def test_without_a_fallback_nothing_of_the_identity_is_shared(tmp_path):
    """A gateway that shows the certificate to nobody does not get it."""
    store, path = Store(tmp_path), tmp_path / "gateway" / "table.json"
    store.save(slot_row(OLD, phase=Phase.COMMITTED, current=CURRENT))
    Router(path, store, tmp_path / "none", device="dev-1")()

    assert [one.name for one in path.parent.iterdir()] == ["table.json"]
    store.close()


def on_terms(folder, *when, serves=True, phase=Phase.COMMITTED):
    routing = Routing(cloud=Cloud(url=CLOUD, when=when, waiting=4, latency_ms=50.0, requests_a_day=9))
    current = msgspec.structs.replace(CURRENT, routing=routing) if serves else None
    return route(folder, routing=routing, phase=phase, current=current).fallback


def test_the_cloud_is_asked_when_the_order_says_so(tmp_path):
    """Never without a reason; a module that does not fit needs another one than a module that cannot be reached."""
    assert on_terms(tmp_path) is None
    assert on_terms(tmp_path, "unplaceable") is None
    assert on_terms(tmp_path, "unhealthy").stands_in
    assert on_terms(tmp_path, "unplaceable", serves=False, phase=Phase.REJECTED).stands_in
    assert on_terms(tmp_path, "unhealthy", serves=False, phase=Phase.REJECTED) is None
    assert on_terms(tmp_path, "unhealthy", serves=False, phase=Phase.FETCHING).stands_in
    relief = on_terms(tmp_path, "overloaded")
    assert (relief.stands_in, relief.overload, relief.requests_a_day) == (False, Overload(waiting=4, latency_ms=50), 9)
    assert on_terms(tmp_path, "overloaded", serves=False, phase=Phase.FETCHING) is None


@pytest.mark.parametrize(("when", "watched"), [("overloaded", True), ("unhealthy", False), (None, False)])
def test_an_overload_is_watched_for_where_an_endpoint_is_asked_for_it(tmp_path, when, watched):
    """Not before the table says so, and where no order does, nobody asks the gateway all the time."""
    store, path = Store(tmp_path), tmp_path / "gateway" / "table.json"
    routing = Routing(cloud=Cloud(url=CLOUD, when=(when,))) if when else Routing()
    identity = tmp_path / "identity"
    identity.mkdir()
    for name in ("certificate.pem", "key.pem"):
        (identity / name).write_text(name)
    router = Router(path, store, identity, device="dev-1")
    assert not router.relieves()
    store.save(slot_row(OLD, phase=Phase.COMMITTED, current=msgspec.structs.replace(CURRENT, routing=routing)))
    router()
    assert router.relieves() is watched
    store.close()


def test_the_gateway_gets_authorities_and_token_and_old_ones_go(tmp_path):
    """Both lie beside the table for the gateway's group; what no route needs any more is removed."""
    identity = tmp_path / "identity"
    identity.mkdir()
    for name in ("certificate.pem", "key.pem"):
        (identity / name).write_text(name)
    place = {"device": "dev-1", "slot": "main", "name": SEALED_AS, "version": 4}
    sealed = sealing.seal(b"et1.1.abc", sealing_key.ensure(identity), **place)
    cloud = Cloud(url=CLOUD, ca="PEM of an authority", token=Secret(version=4, sealed=sealed))
    store, path = Store(tmp_path), tmp_path / "gateway" / "table.json"
    router = Router(path, store, identity, device="dev-1")
    row = store.save(slot_row(NEW, phase=Phase.REJECTED, routing=Routing(cloud=cloud)))
    router()

    told = gateway_table.read(path).slots["main"].fallback
    assert Path(told.ca).read_text() == "PEM of an authority"
    assert (told.cert, Path(told.token).read_text()) == (None, "et1.1.abc")
    assert stat.S_IMODE(Path(told.token).stat().st_mode) == 0o640

    store.save(row.with_(routing=Routing(cloud=Cloud(url=CLOUD, ca="another"))))
    router()
    told = gateway_table.read(path).slots["main"].fallback
    assert Path(told.ca).read_text() == "another"
    assert sorted(one.name for one in path.parent.glob("cloud-*")) == [Path(told.ca).name]
    store.close()


def test_a_cloud_that_is_closed_is_asked_in_no_case_and_says_why(tmp_path):
    """Whatever the slot is like, the gateway is told the reason, and nothing by which it would ask there."""
    closed = Routing(cloud=Cloud(url=CLOUD, when=(), closed="the money is spent"))
    for phase in (Phase.REJECTED, Phase.FETCHING):
        found = route(tmp_path, phase=phase, routing=closed).fallback
        assert (found.closed, found.stands_in, found.overload) == ("the money is spent", False, None)
