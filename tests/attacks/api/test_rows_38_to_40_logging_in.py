"""Rows 38 to 40: pages of other sites, what devices say to browsers, guessed passwords, and ID tokens that are none."""

import asyncio
import threading
from pathlib import Path

import httpx
import pytest

from fleet.people.roles import Grant
from modules.protocol.commands import Answer
from modules.signing import ANSWER_TYPE
from tests.attacks.api.site import PASSWORD
from tests.doubles.device import Device, join
from tests.doubles.forged_tokens import FORGED

SESSION = "/api/v1/session"
SCRIPT = "<script>alert(document.cookie)</script>"
AT_ONCE = 40
MIB = 1 << 20


def log_in(http, name, password=PASSWORD):
    return http.post(SESSION, json={"user": name, "password": password})


def test_row_38_csrf(site, edge):
    """A page of another site has the browser send the session's cookie along, as SameSite=Strict should have kept it
    from: each changing route refuses it, with the header that a page of ours sends and without; and a page of ours that
    lost the header is refused, too. Nothing is changed, it is in the audit log, and with both the change is made."""
    site.operator("anna", Grant("admin"))
    with site.client() as http:
        entered = log_in(http, "anna")
        assert entered.status_code == 201
        assert "samesite=strict" in entered.headers["set-cookie"].lower()
        right = {"X-Edgefleet-Csrf": entered.json()["csrf"]}
        path, labels = f"/api/v1/devices/{edge.name}", {"site": "quagga", "by": "anna"}
        before = site.everything()
        tried = []
        for origin in ("https://evil.example", "null", "https://127.0.0.1.evil.example"):
            for headers in ({"Origin": origin}, {"Origin": origin} | right):
                tried.append(http.patch(path, json={"labels": labels}, headers=headers))
                tried.append(http.post(f"{path}/revoke", headers=headers))
        assert {(one.status_code, one.json()["code"]) for one in tried} == {(403, "foreign-origin")}
        for headers in ({}, {"Origin": site.system.server.url}, {"X-Edgefleet-Csrf": right["X-Edgefleet-Csrf"][::-1]}):
            answer = http.patch(path, json={"labels": labels}, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        # A form of another site can send text, and no JSON.
        answer = http.patch(path, content='{"labels": {}}', headers=right | {"Content-Type": "text/plain"})
        assert answer.status_code == 422
        assert site.everything() == before
        rows, _ = site.told("")
        # Of nobody known twenty a minute are written, all together.
        assert 0 < sum(row.code == "foreign-origin" for row in rows) <= len(tried)
        foreign = http.get(path, headers={"Origin": "https://evil.example"})
        assert not [one for one in foreign.headers if one.lower().startswith("access-control-")]
        done = http.patch(path, json={"labels": labels}, headers=right | {"Origin": site.system.server.url})
        assert done.status_code == 200
        assert site.system.api(f"devices/{edge.name}")["labels"] == labels
        http.patch(path, json={"labels": {"site": "quagga"}}, headers=right)
    site.works(edge)


async def test_row_38_what_devices_say_is_no_page(site, edge, tmp_path):
    """A device answers a command with a page and its script, under that very media type, and says the same as why: the
    result is a file that a browser saves and neither shows nor guesses, everything else is JSON. There is no console
    yet that could put any of it into a page; whoever builds one has its escaping and policy to prove here."""
    http = site.system.server.client()
    device = Device(tmp_path, join(http), "berlin-page")
    assert device.enrol().is_success
    async with device.connected():
        await device.send_facts()
        await device.acknowledgement(await device.report([], order=0))
        given = site.answered(site.ask("POST", "/api/v1/commands", json={"name": "diagnose", "device": device.name}))
        ident = given["commands"][0]["id"]
        name, _, _ = await device.arrived_command()
        said = {"id": ident, "device": device.name, "name": name, "part": 1, "content": "text/html"}
        answer = Answer(**said, state="done", note=SCRIPT, data=SCRIPT.encode())
        await device.client.publish(device.topics.answer(device.name), device.signed(answer, ANSWER_TYPE), qos=1)
        followed = await asyncio.to_thread(site.ask, "GET", f"/api/v1/commands/{ident}?wait_s=20")
        assert site.answered(followed)["state"] == "done"
    result = site.ask("GET", f"/api/v1/commands/{ident}/result")
    assert result.content == SCRIPT.encode()
    assert result.headers["content-disposition"].startswith("attachment; ")
    assert result.headers["x-content-type-options"] == "nosniff"
    assert result.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert "html" not in result.headers["content-type"]
    pages = []
    for path in (f"/api/v1/commands/{ident}", "/api/v1/commands", f"/api/v1/devices/{SCRIPT}", "/api/v1/events"):
        found = site.ask("GET", path)
        if found.headers["content-type"].partition(";")[0] not in {"application/json", "application/problem+json"}:
            pages.append((path, found.headers["content-type"]))
    assert pages == []
    site.answered(site.ask("DELETE", f"/api/v1/devices/{device.name}"))
    http.close()
    site.works(edge)


def memory(pid, name):
    """KiB, as the kernel says."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(one.split()[1]) for one in lines if one.startswith(f"{name}:"))


def test_row_39_password_brute_force_and_argon2_memory(site, edge):
    """Forty log-ins at once, each of which asks for 64 MiB: two are computed at a time, eight wait, the others are told
    to come again, and the server's memory grows by two hashes. Whoever goes on has to wait, longer each time, and their
    address alone; the owner of the name that was tried gets in from another one when the name's minute is over, and
    nobody was let in meanwhile."""
    site.operator("otto", Grant("viewer"))
    pid = site.system.server.process.pid
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak from here on
    before, sessions, answers = memory(pid, "VmRSS"), site.everything()["sessions"], []

    def tries(number):
        with site.client("127.0.0.9") as http:
            answers.append(log_in(http, f"name-{number}", "wrong password"))

    threads = [threading.Thread(target=tries, args=(number,)) for number in range(AT_ONCE)]
    for one in threads:
        one.start()
    with site.client("127.0.0.8") as beside:
        assert beside.get("/healthz").status_code in {200, 503}
        for one in threads:
            one.join()
        codes = [one.status_code for one in answers]
        assert set(codes) <= {401, 429, 503}, codes
        assert codes.count(503) + codes.count(429) >= 1
        assert all(int(one.headers["retry-after"]) > 0 for one in answers if one.status_code != 401)
        assert memory(pid, "VmHWM") - before < (2 * 64 + 32) * 1024

        with site.client("127.0.0.9") as http:
            refused = log_in(http, "otto")  # the right one
        assert (refused.status_code, refused.json()["code"]) == (429, "too-many")
        assert int(refused.headers["retry-after"]) > 1
        entered = log_in(beside, "otto")
        assert entered.status_code == 201
        csrf = {"X-Edgefleet-Csrf": entered.json()["csrf"]}
        assert beside.delete(SESSION, headers=csrf).status_code == 200
    assert site.everything()["sessions"] == sessions
    rows, _ = site.told("")
    assert [row for row in rows if row.origin == "127.0.0.9" and row.outcome < 400] == []
    site.works(edge)


def from_provider(site, address):
    """A browser's way to the provider and back; the answer, and whether there is a session."""
    with site.client(address) as http, httpx.Client(trust_env=False) as browser:
        left = http.get("/api/v1/oidc/login")
        assert left.status_code == 303, left.text
        there = browser.get(left.headers["location"])
        answer = http.get("/api/v1/oidc/callback", params=dict(httpx.URL(there.headers["location"]).params))
        return answer, http.get(SESSION).status_code


@pytest.mark.parametrize("forge", list(FORGED), ids=list(FORGED))
def test_row_40_jwt_confusion(site, edge, forge):
    """An ID token with no signature, one that is signed with the provider's public key as a secret, and nine others
    that are none open nothing: no operator, no session, an event; the provider's own word then lets the person in."""
    number = list(FORGED).index(forge)
    before = site.everything()
    site.provider.forge = lambda nonce: FORGED[forge](site.provider, nonce)
    try:
        answer, who = from_provider(site, f"127.0.1.{number + 1}")
    finally:
        site.provider.forge = site.provider.honest
    assert (answer.status_code, answer.json()["code"], who) == (401, "unauthorised", 401)
    assert site.everything() == before
    _, told = site.told("", "login-refused")
    assert f"127.0.1.{number + 1}" in told[-1].message
    answer, who = from_provider(site, f"127.0.2.{number + 1}")
    assert (answer.status_code, who) == (200, 200), answer.text
    site.works(edge)
