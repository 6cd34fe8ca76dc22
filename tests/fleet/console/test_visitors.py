"""A page hears the browser that it was given to, and nobody else, whoever knows its id."""

import html
import json
import re
from contextlib import contextmanager

import pytest
from websockets.sync.client import connect

from fleet.people.identify import COOKIE
from tests.doubles.publisher import checked
from tests.fleet.console.conftest import as_person, person
from tests.parts.fleet_server import trusting

pytestmark = pytest.mark.needs("mosquitto")
OPEN, REFUSED = "40{", "44"


def page_of(http, address):
    """A page's id, and what is in it."""
    text = checked(http.get(f"/console{address}")).text
    return re.search(r"client_id\W+([0-9a-f-]{36})", text)[1], text


@contextmanager
def socket(server, page, session):
    """A connection as browsers make it, and its answer."""
    asked = f"EIO=4&transport=websocket&client_id={page}&tab_id=t&document_id=d&implicit_handshake=true"
    there = f"{server.url.replace('https', 'wss')}/console/_nicegui_ws/socket.io/?{asked}"
    cookie = {"Cookie": f"{COOKIE}={session}"} if session else {}
    with connect(there, origin=server.url, ssl=trusting(server.data.ca), additional_headers=cookie) as made:
        made.recv(timeout=10)
        made.send("40")
        yield made, made.recv(timeout=10)


def click(page, text, words):
    """What a browser says when somebody clicks the element that is written so."""
    before, after = text.split(words, 1)
    element = re.findall(r'"(\d+)":\{"tag"', before)[-1]
    listener = re.search(r'"listener_id":"([0-9a-f-]{36})","type":"click"', after)[1]
    event = {"client_id": page, "id": int(element), "listener_id": listener, "args": ["{}"]}
    return "42" + json.dumps(["event", event])


def test_a_page_does_what_its_own_browser_asks_alone(server):
    """Not for a connection without its cookie, nor for somebody else's page; nor does anybody write into the log."""
    person(server.data, "stranger", "viewer")
    with as_person(server, "admin") as http, as_person(server, "stranger") as other:
        page, text = page_of(http, "/settings")
        mine = http.cookies[COOKIE]
        for session in ("", other.cookies[COOKIE]):
            with socket(server, page, session) as (_, answer):
                assert answer.startswith(REFUSED)
        asked = click(page, text, '"label":"New token"')
        theirs, _ = page_of(other, "/settings")
        with socket(server, page, mine) as (own, answer), socket(server, theirs, other.cookies[COOKIE]) as (foreign, _):
            assert answer.startswith(OPEN)
            foreign.send(asked)
            foreign.send("42" + json.dumps(["log", {"client_id": theirs, "level": "error", "message": "forged " * 9}]))
            foreign.send('420["handshake",{"client_id":"x"}]')
            while not foreign.recv(timeout=10).startswith("430"):
                pass
            # What is done for one is told before what is done for whoever comes next.
            own.send(click(page, text, '"aria-label":"Menu"'))
            heard = ""
            while "q-drawer" not in heard:
                heard += own.recv(timeout=10)
            assert "Make it" not in heard
            own.send(asked)
            while "Make it" not in heard:
                heard = own.recv(timeout=10)
    assert "forged" not in server.log()


def test_a_file_is_dropped_by_a_pages_own_browser_and_is_not_endless(server):
    with as_person(server, "admin") as http, server.client("none") as other:
        del other.headers["Authorization"]
        page, _ = page_of(http, "/settings")
        there = f"/console/_nicegui/client/{page}/upload/1"
        assert other.post(there, content=b"x").status_code == 403
        assert http.post(there, content=iter([b"x"])).status_code == 413
        assert http.post(there, content=b"x").status_code == 404  # this page takes none


def test_an_address_that_somebody_made_up_leads_to_no_other_route_and_breaks_nothing(server):
    """A name with a slash, a question mark or a null in it is a name; what is copied stays one word for a shell."""
    with as_person(server, "admin") as http:
        for name in ("press%252Fcertificates", "%253Flimit=1", "%23", "%00", "a%0Ab"):
            answer = http.get(f"/console/devices/{name}")
            assert answer.status_code in (200, 404), name
            assert answer.status_code == 404 or "No such device" in answer.text, name
        for place in ("rollouts/$(id)", "endpoints/$(id)", "modules/acme/x/$(id)", "devices?sort=$(id)"):
            _, text = page_of(http, f"/{place}")
            assert re.search(r""""data-copy":"[^"]*'[^"]*\$\(id\)'""", html.unescape(text)), place
        for place in ("rollouts?before=x", "modules/acme/x/1/compare"):
            assert http.get(f"/console/{place}").headers["content-type"].startswith("text/html"), place
