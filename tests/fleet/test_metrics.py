"""What the server tells Prometheus: counts that are true, series that are bounded, for whoever may ask."""

import re
import time

import httpx
import pytest
from prometheus_client import REGISTRY, parser
from prometheus_client.openmetrics import parser as open_parser
from sqlalchemy import insert, update

from fleet import figures, selectors, setup, tokens
from fleet.app import create_app
from fleet.db import Database
from fleet.folder import Folder
from fleet.meters import Meters
from fleet.people.scope import Area, Scope
from fleet.rollouts import policy
from fleet.said import Inbound
from fleet.settings import Settings
from fleet.tables import devices
from modules.names import DeviceId
from modules.protocol.report import Health
from modules.protocol.telemetry import Sample
from tests.house.tree import ROOT
from tests.parts.mosquitto import free_port


def values(families):
    """Samples by name and labels."""
    return {
        (sample.name, *(f"{key}={value}" for key, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def told(fleet):
    with fleet.database.read() as connection:
        return values(figures.fleet(connection, fleet.now))


def told_of_each(fleet, chosen=None):
    with fleet.database.read() as connection:
        return values(figures.each(connection, chosen))


@pytest.fixture
def three(small_fleet):
    """Two devices of three have committed; the module of one does not stay up."""
    for name in ("dev-a", "dev-b", "dev-c"):
        small_fleet.add_device(name)
    small_fleet.start(small_fleet.add_module("digits"), policy=policy.read({"failure_percent": 60}))
    small_fleet.report("dev-a", "committed", current=Health(state="up"))
    small_fleet.report("dev-b", "committed", current=Health(state="degraded", restarts=4))
    return small_fleet


def test_devices_are_counted_by_health_and_session(three):
    """The worst module of a device counts for it; a device that has said nothing has none."""
    with three.database.write() as connection:
        connection.execute(update(devices).where(devices.c.id == "dev-a").values(online=True))
    found = told(three)
    assert found["edgefleet_devices", "online=true"] == 1
    assert found["edgefleet_devices", "online=false"] == 2
    healths = {key[1]: value for key, value in found.items() if key[0] == "edgefleet_devices_by_health"}
    assert healths == {
        "health=none": 1,
        "health=up": 1,
        "health=other": 0,
        "health=restarting": 0,
        "health=degraded": 1,
    }


def test_commands_are_counted_by_name_and_state(three):
    """Every state of each name that was given, so that no series ends; and one's own devices' alone."""
    assert not [key for key in told(three) if key[0] == "edgefleet_commands"]
    idents, _ = three.give("ping", selector="*")
    three.ingest.commit([three.answer(three.signed_command(idents["dev-a"]), 1, "done")])
    found = {key[1:]: value for key, value in told(three).items() if key[0] == "edgefleet_commands"}
    assert len(found) == 8
    assert {key: value for key, value in found.items() if value} == {
        ("name=ping", "state=waiting"): 2,
        ("name=ping", "state=done"): 1,
    }
    mine = Scope((Area(selectors.parse("id=dev-a"), None),))
    with three.database.read() as connection:
        bounded = values(figures.fleet(connection, three.now, mine))
    assert sum(value for key, value in bounded.items() if key[0] == "edgefleet_commands") == 1


def test_figures_of_devices_are_told_where_they_are_asked_for(three, monkeypatch):
    """The newest of each, of the devices that are named; never more series than one answer may have."""
    three.measured("dev-a", 1, cpu_percent=7.0)
    three.measured("dev-a", 2, stream="modules", samples=[Sample(at=1, slot="digits", figures={"up": 1.0})])
    three.measured("dev-b", 1, cpu_percent=9.0)

    def told_of(chosen):
        with three.database.read() as connection:
            return values(figures.telemetry(connection, chosen))

    name = "edgefleet_device_figure"
    mine = {
        (name, "device=dev-a", "figure=cpu_percent", "slot=", "stream=host"): 7.0,
        (name, "device=dev-a", "figure=up", "slot=digits", "stream=modules"): 1.0,
    }
    assert told_of(["dev-a"]) == mine | {("edgefleet_device_figures_not_shown",): 0}
    assert len(told_of(None)) == 4
    monkeypatch.setattr(figures, "FIGURES", 2)
    assert len(told_of(None)) == 3
    assert told_of(None)["edgefleet_device_figures_not_shown",] == 1
    assert not [key for key in {**told(three), **told_of_each(three)} if "figure" in key[0]]


@pytest.mark.parametrize(
    ("states", "health"),
    [
        ([], "none"),
        (["up", "degraded"], "degraded"),
        (["degraded", "up"], "degraded"),
        (["restarting", "up"], "restarting"),
        (["flying", "up"], "other"),
    ],
)
def test_the_worst_module_of_a_device_counts(three, states, health):
    """In whatever order the slots come; a word of a newer agent is neither well nor broken."""
    slots = ",".join(f'{{"slot":"s{place}","current":{{"state":"{state}"}}}}' for place, state in enumerate(states))
    with three.database.write() as connection:
        connection.execute(update(devices).values(report=f'{{"agent":"0","slots":[{slots}]}}'.encode()))
    assert told(three)["edgefleet_devices_by_health", f"health={health}"] == 3


def test_devices_of_yesterday_are_silent(three):
    """After a day without a sign; one that never gave any, too; one that was removed not."""
    assert told(three)["edgefleet_devices_silent",] == 0
    three.now += 86400
    assert told(three)["edgefleet_devices_silent",] == 3
    with three.database.write() as connection:
        connection.execute(update(devices).where(devices.c.id == "dev-a").values(removed=three.now))
    assert told(three)["edgefleet_devices_silent",] == 2


def test_members_are_counted_where_they_stand(three):
    """An open rollout has a series for each standing, a closed one none; states have one each."""
    found = {key: value for key, value in told(three).items() if key[0] == "edgefleet_rollout_devices" and value}
    assert {key[4].removeprefix("standing="): value for key, value in found.items()} == {
        "succeeded": 1,
        "failed": 1,
        "working": 1,
    }
    assert told(three)["edgefleet_rollouts", "state=running"] == 1
    three.report("dev-c", "committed", current=Health(state="up"))
    assert not [key for key in told(three) if key[0] == "edgefleet_rollout_devices"]


def test_orders_that_the_broker_has_not_taken_are_counted(three):
    """The engine has issued three and nobody has published them."""
    assert told(three)["edgefleet_orders_waiting",] == 3
    with three.database.write() as connection:
        connection.execute(update(devices).values(order_published=devices.c.order_counter))
    assert told(three)["edgefleet_orders_waiting",] == 0


def many(fleet, count, *, agent):
    with fleet.database.write() as connection:
        row = connection.execute(devices.select().where(devices.c.id == "dev-a")).one()._asdict()
        rows = [
            row | {"id": f"more-{number:05}", "report": b'{"agent":"%s"}' % agent(number).encode()}
            for number in range(count)
        ]
        connection.execute(insert(devices), rows)


def test_a_thousand_versions_are_twenty_and_the_rest(three):
    """Whatever devices call their agents, there are so many series and no more, and every device is in one."""
    many(three, 1000, agent=lambda number: f"v{number // 2}" if number > 100 else "common")
    many_other = {key[1]: value for key, value in told(three).items() if key[0] == "edgefleet_devices_by_agent"}
    assert len(many_other) == figures.VERSIONS + 1
    assert many_other["version=common"] == 101
    assert sum(many_other.values()) == 1003


@pytest.mark.parametrize("agent", ["other", "\\u0007", "unknown", '\\"} 1\\nfake 2'])
def test_no_series_comes_twice_whatever_an_agent_is_called(three, agent):
    """Prometheus refuses a whole scrape for one double series."""
    many(three, 60, agent=lambda number: agent if number % 2 else f"v{number}")
    with three.database.read() as connection:
        samples = [one for family in figures.fleet(connection, three.now) for one in family.samples]
    keys = [(one.name, tuple(sorted(one.labels.items()))) for one in samples]
    assert len(keys) == len(set(keys))


def test_series_do_not_grow_with_the_fleet(three):
    """Ten thousand devices are told in as many lines as three, within a second or so."""
    before = len(told(three))
    many(three, 10_000, agent=lambda _: "0")
    began = time.perf_counter()
    assert len(told(three)) == before
    assert time.perf_counter() - began < 3


def test_open_rollouts_are_bounded(three, monkeypatch):
    """The newest are told, the others counted by state alone."""
    monkeypatch.setattr(figures, "ROLLOUTS", 2)
    for name in ("one", "two", "three"):
        three.start(three.add_module(name), slot=name)
    shown = {key[2] for key in told(three) if key[0] == "edgefleet_rollout_devices"}
    assert shown == {"rollout=3", "rollout=4"}


def test_single_devices_are_told_where_asked_for(three, monkeypatch):
    """All or those that are named, up to a bound; what is beyond it is a number."""
    found = told_of_each(three)
    assert found["edgefleet_device_slot_up", "device=dev-a", "module=", "slot=digits"] == 1
    assert found["edgefleet_device_slot_up", "device=dev-b", "module=", "slot=digits"] == 0
    assert found["edgefleet_device_slot_restarts", "device=dev-b", "slot=digits"] == 4
    assert {key[1] for key in told_of_each(three, ["dev-c", "dev-none"])} == {"device=dev-c"}
    monkeypatch.setattr(figures, "DEVICES", 2)
    found = told_of_each(three)
    assert {key[1] for key in found if key[0] == "edgefleet_device_online"} == {"device=dev-a", "device=dev-b"}
    assert found["edgefleet_devices_not_shown",] == 1


def test_messages_are_counted_by_kind_and_refusals_apart(three):
    """What nobody enrolled has signed counts as refused."""
    with three.meters.batch(["report", "report", "facts"]):
        three.ingest.commit([Inbound(DeviceId("dev-a"), "report", b"x"), Inbound(DeviceId("nobody"), "facts", b"x")])
    found = values(three.meters.registry.collect())
    assert found["edgefleet_ingest_messages_total", "kind=report"] == 2
    assert found["edgefleet_ingest_refused_total", "kind=report"] == 1
    assert found["edgefleet_ingest_refused_total", "kind=facts"] == 1
    assert found["edgefleet_ingest_batch_seconds_count",] == 1


def test_two_servers_in_one_process_count_apart():
    """Nothing is global."""
    one, other = Meters(), Meters()
    one.refused("report")
    assert ("edgefleet_ingest_refused_total", "kind=report") not in values(other.registry.collect())
    assert not [family.name for family in REGISTRY.collect() if family.name.startswith("edgefleet")]


@pytest.fixture
async def served(tmp_path):
    """Starts an application; asks it as a role, or as nobody."""
    folder = Folder(tmp_path / "data")
    setup.initialise(folder, time.time)
    database = Database.at(folder.database)
    with database.write() as connection:
        held = {role: tokens.create(connection, time.time(), kind="api", role=role) for role in ("metrics", "analyst")}
    database.close()

    async def ask(path, role=None, *, accept="", broken=False, **settings):
        more = {"broker_host": "127.0.0.1", "broker_service_port": free_port()} | settings
        application = create_app(Settings(data=folder.root, **more))
        transport = httpx.ASGITransport(application, raise_app_exceptions=False)
        async with (
            application.router.lifespan_context(application),
            httpx.AsyncClient(transport=transport, base_url="https://localhost") as http,
        ):
            if broken:
                with application.state.services.database.write() as connection:
                    connection.exec_driver_sql("ALTER TABLE rollouts RENAME TO lost")
            headers = {"Authorization": f"Bearer {held[role]}"} if role else {}
            return await http.get(path, headers=headers | {"accept": accept})

    return ask


async def test_the_role_metrics_reads_them_and_nobody_else(served):
    """A scraper's token opens this and nothing else; without a token it is closed."""
    assert (await served("/metrics", "metrics")).status_code == 200
    assert (await served("/api/v1/devices", "metrics")).status_code == 403
    assert (await served("/metrics", "analyst")).status_code == 403
    assert (await served("/metrics")).status_code == 401


async def test_a_setting_opens_them(served):
    """``open_metrics`` is off unless somebody sets it, and opens nothing else."""
    assert (await served("/metrics", open_metrics=True)).status_code == 200
    assert (await served("/api/v1/devices", open_metrics=True)).status_code == 401


async def test_both_formats_are_what_prometheus_reads(served):
    """The old text and OpenMetrics, each by its own parser; the same names; all of them in docs/operate.md."""
    old = await served("/metrics", "metrics")
    new = await served("/metrics", "metrics", accept="application/openmetrics-text;version=1.0.0")
    found = {family.name: family for family in parser.text_string_to_metric_families(old.text)}
    assert new.text.count("# EOF") == 1
    assert {family.name for family in open_parser.text_string_to_metric_families(new.text)} >= {"edgefleet_mishaps"}
    assert {"edgefleet_broker_connected", "edgefleet_trouble", "process_resident_memory_bytes"} <= set(found)
    assert values([found["edgefleet_broker_connected"]]) == {("edgefleet_broker_connected",): 0}
    documented = (ROOT / "docs/operate.md").read_text(encoding="utf-8")
    names = {name for name in re.findall(r"^# TYPE (edgefleet_\w+)", old.text, re.MULTILINE) if "_created" not in name}
    assert {name for name in names if f"`{name}`" not in documented} == set()


async def test_a_database_that_fails_is_told(served):
    """What the process counts is still there, and the trouble is 1."""
    answer = await served("/metrics", open_metrics=True, broken=True)
    found = {family.name: family for family in parser.text_string_to_metric_families(answer.text)}
    assert values([found["edgefleet_trouble"]]) == {("edgefleet_trouble",): 1}
    assert "edgefleet_devices" not in found


async def test_figures_are_an_extra_wish(served):
    """Whoever scrapes devices gets no thousands of series more by itself."""
    for asked, there in (("devices=true", 0), ("devices=true&telemetry=true", 1), ("telemetry=true", 0)):
        answer = await served(f"/metrics?{asked}", "metrics")
        assert answer.text.count("# TYPE edgefleet_device_figure gauge") == there


@pytest.mark.parametrize("devices", ["no device", "a,,b", ",".join(f"dev-{number}" for number in range(1001))])
async def test_names_that_are_none_are_refused(served, devices):
    """And more of them than are shown."""
    assert (await served(f"/metrics?devices={devices}", "metrics")).status_code == 422
