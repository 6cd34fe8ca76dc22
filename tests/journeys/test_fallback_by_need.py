"""Endpoints that run only while a device needs one, what they may cost, and tokens that end in the middle."""

import json
import ssl
import urllib.error
import urllib.request
from contextlib import ExitStack

import pytest

from agent.identity import present
from tests.journeys.test_fallback import HOST, REGION, answered, by, edge, from_cloud, huge, score, small
from tests.parts import digits
from tests.parts import docker as docker_parts
from tests.parts.certificates import self_signed
from tests.parts.presence import engine_socket
from tests.parts.programs import until
from tests.parts.proxy import Proxy
from tests.parts.traffic import Traffic

pytestmark = pytest.mark.long

__all__ = ["edge", "huge", "small"]

ENDPOINT, MODULE = "by-need", "acme/digits"
TOKEN_LIFE_S = 60
# An overload is noticed within a quarter of a minute, and its end after two minutes; the server takes seconds.
SOON_S, CALM_S = 30, 120


@pytest.fixture(scope="module")
def target(system):
    """This machine's engine, where a replica costs one a second."""
    with docker_parts.engine() as _:
        client = docker_parts.client()
        image = docker_parts.gateway_image(client)
        client.close()
    attached = ("--docker", f"unix://{engine_socket()}", "--gateway-image", image, "--region", REGION)
    system.cli("targets", "attach", "needed", *attached, "--price-per-hour", "3600", "--price-per-1000", "1")
    return "needed"


@pytest.fixture
def endpoint(system, small, target):
    """It stands there and is wanted on demand: ready once, for its address, and removed at the end."""
    found = system.cli("endpoints", "deploy", ENDPOINT, "--target", target, "--module", small,
                       "--set", "devices=true", "--wait")  # fmt: skip
    assert found["state"] == "ready", found
    yield found
    system.cli("fallback", "remove", MODULE)
    system.cli("endpoints", "remove", ENDPOINT, "--wait")


def state(system):
    return system.api(f"endpoints/{ENDPOINT}")["state"]


def left(engine):
    """What there is of the endpoint on the engine."""
    label = {"label": f"edgefleet.cloud.endpoint={ENDPOINT}"}
    found = (engine.containers.list(all=True, filters=label), engine.volumes.list(filters=label))
    return [one.name for some in (*found, engine.networks.list(filters=label)) for one in some]


def asked_as(device, url):
    """What the endpoint says to a device itself."""
    trusted = ssl.create_default_context(cafile=device.system.data.ca)
    pair = present(device.state / "identity")
    trusted.load_cert_chain(pair.certificate, pair.key)
    asked = urllib.request.Request(url, digits.QUESTIONS[0].body, {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(asked, timeout=30, context=trusted)
    return refused.value.code, json.load(refused.value)["message"]


def wanted(system, *more):
    return system.cli("fallback", "set", MODULE, "--endpoint", ENDPOINT, "--on-demand", "--linger", "3s", *more)


def test_it_runs_for_a_rollout_of_misfits_and_no_longer(system, edge, endpoint, huge):
    """Nothing of it is there before; a server that is killed meanwhile goes on; nothing of it is there afterwards."""
    engine = docker_parts.client()
    status, said = asked_as(edge, endpoint["url"])
    assert (status, f"this endpoint is not for {edge.name}" in said) == (403, True), said
    wanted(system)
    until(lambda: state(system) == "stopped", "nobody needs it", within_s=60)
    assert left(engine) == []
    assert [(one["endpoint"], one["state"]) for one in system.cli("fallback", "list")] == [(ENDPOINT, "stopped")]

    rollout = system.start_rollout(huge, edge.name, slot="need")
    system.kill_server()
    system.start_server()
    done = system.ended(rollout, said=edge.said, within_s=120)
    assert (done["state"], state(system)) == ("done", "ready"), done
    edge.until(lambda: score(edge, "need").status != 404, "the gateway knows the slot")
    assert from_cloud(score(edge, "need"))
    assert "1 device that the module does not fit" in system.cli("fallback", "show", MODULE)["why"]

    system.cli("devices", "empty", edge.name, "need")
    until(lambda: state(system) == "stopped", "nobody needs it any more", within_s=60)
    assert left(engine) == []
    engine.close()


def test_it_is_started_for_a_device_that_has_too_much_to_do(system, device, endpoint, small):
    """It stands still, and the device turns clients away; then it runs, takes what is too much, and counts it."""
    wanted(system, "--when", "overloaded")
    few = ("--concurrent", "1", "--waiting", "1", "--cloud-longest-pause-s", "2")
    busy = device("dev-busy", fallback_hosts=HOST, telemetry_every_s="1", telemetry_send_s="1", gateway=few)
    assert system.ended(system.start_rollout(small, busy.name, slot="busy"), said=busy.said)["state"] == "done"
    busy.until(lambda: score(busy, "busy").status != 404, "the gateway knows the slot")
    until(lambda: state(system) == "stopped", "nobody needs it", within_s=60)
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(Traffic(busy.port, "/busy/score", digits.QUESTIONS))
        until(lambda: state(system) == "ready", "it is started for who has too much to do", within_s=90)
        told = [one["message"] for one in system.api("events?kind=endpoint-scaled")]
        assert any("more to do than it can" in one for one in told), told
        busy.until(lambda: answered(busy, "busy")["answered"].get("fallback"), "the cloud takes some")
        until(
            lambda: system.cli("fallback", "show", MODULE)["costs"]["requests_today"], "they are counted", within_s=60
        )
    until(lambda: state(system) == "stopped", "nobody needs it any more", within_s=90)


def test_an_overload_waits_for_no_telemetry(system, device, endpoint, small):
    """The device looks once an hour: the endpoint is asked for in seconds, while the overload lasts and no longer."""
    wanted(system, "--when", "overloaded")
    few = ("--concurrent", "1", "--waiting", "1", "--cloud-longest-pause-s", "2")
    rare = device("dev-rare", fallback_hosts=HOST, telemetry_every_s="3600", telemetry_send_s="3600", gateway=few)
    assert system.ended(system.start_rollout(small, rare.name, slot="rare"), said=rare.said)["state"] == "done"
    rare.until(lambda: score(rare, "rare").status != 404, "the gateway knows the slot")
    until(lambda: state(system) == "stopped", "nobody needs it", within_s=60)
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(Traffic(rare.port, "/rare/score", digits.QUESTIONS))
        until(lambda: state(system) != "stopped", "it is started", within_s=SOON_S)
        until(lambda: state(system) == "ready", "it is ready", within_s=90)
        rare.until(lambda: answered(rare, "rare")["answered"].get("fallback"), "the cloud takes some")
    until(lambda: state(system) == "stopped", "the device says that it has caught up", within_s=CALM_S + SOON_S)


def test_a_days_money_is_a_bound(system, edge, endpoint, huge):
    """It serves until then; then its clients hear a 503, it stops, and what it cost is shown."""
    wanted(system, "--money-a-day", "1000000")
    done = system.ended(system.start_rollout(huge, edge.name, slot="dear"), said=edge.said, within_s=120)
    assert done["state"] == "done", done
    edge.until(lambda: score(edge, "dear").status != 404, "the gateway knows the slot")
    assert from_cloud(score(edge, "dear"))
    wanted(system, "--money-a-day", "1")
    until(lambda: state(system) == "stopped", "its money is spent", within_s=60)
    edge.until(lambda: b"is spent; it is asked again from 00:00 UTC on" in score(edge, "dear").body, "it is said")
    assert score(edge, "dear").status == 503
    shown = system.cli("fallback", "show", MODULE)
    assert (shown["spent"], shown["costs"]["today"] > 1, "money of today is spent" in shown["why"]) == (
        True,
        True,
        True,
    )
    system.cli("devices", "empty", edge.name, "dear")


def test_a_token_ends_in_the_middle(system, device, small, huge, target, tmp_path):
    """With another in time no request fails; who is cut off hears a 503 that says why, and comes back by itself."""
    self_signed(tmp_path / "a.pem", tmp_path / "a.key", HOST, address=HOST)
    pair = ("--certificate", tmp_path / "a.pem", "--certificate-key", tmp_path / "a.key")
    system.cli("endpoints", "deploy", "by-token", "--target", target, "--module", small, *pair, "--set", "auth=token",
               "--set", f"token_life_s={TOKEN_LIFE_S}", "--wait")  # fmt: skip
    terms = ("--fallback", "endpoint:by-token", "--fallback-ca", str(tmp_path / "a.pem"))
    try:
        with Proxy(system.broker.device_port) as link:
            kept, lost = (
                device("dev-kept", fallback_hosts=HOST),
                device("dev-cut", fallback_hosts=HOST, through=link.port),
            )
            rollout = system.start_rollout(huge, kept.name, lost.name, slot="big", more=terms)
            assert system.ended(rollout, said=kept.said)["state"] == "done"
            for one in (kept, lost):
                one.until(lambda one=one: from_cloud(score(one, "big")), "it is let in")
            first = system.api(f"devices/{kept.name}")["order"]["counter"]
            link.cut()
            with Traffic(kept.port, "/big/score", digits.QUESTIONS, every_s=0.1) as traffic:
                lost.until(lambda: score(lost, "big").status == 503, "its token ends", within_s=2 * TOKEN_LIFE_S)
                told = score(lost, "big").body
                kept.until(lambda: system.api(f"devices/{kept.name}")["order"]["counter"] > first + 1, "two more",
                           within_s=2 * TOKEN_LIFE_S)  # fmt: skip
                seen = len(traffic.answers)
                kept.until(lambda: len(traffic.answers) > seen + 100, "answers come")
            assert traffic.failed == []
            assert b"the token has expired" in told, told
            link.mend()
            lost.until(lambda: by(score(lost, "big")) == (200, "fallback"), "it is let in again")
    finally:
        system.cli("endpoints", "remove", "by-token", "--wait")
