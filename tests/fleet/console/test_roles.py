"""Every page as every role: nothing that it loads is refused, and nothing on it would be.

Pages are read as the server sends them, without a browser: each is a tree of elements. A new button has to be named in
``ACTIONS``, with what the API wants for it.
"""

import html
import json
import re

import pytest
from sqlalchemy import select

from fleet.console import mount
from fleet.people.roles import PERMISSIONS, ROLES, Grant
from fleet.settings import Settings
from fleet.setup import opened as database_of
from fleet.tables import events
from tests.fleet.console.conftest import as_person, person
from tests.screenshots.__main__ import sights

pytestmark = pytest.mark.needs("mosquitto")
_TREE = re.compile(r"parseElements\(String\.raw`(.*?)`\)", re.DOTALL)
_BUTTONS = {"q-btn", "q-item", "nicegui-upload"}
CLOSED = "Not for your roles"
# What is pressed, by its page and its name, and what the API wants for it; nothing: it only changes what is shown.
ACTIONS = {
    r".+: (Menu|Search, or press /|Light or dark|Change password|Log out|Copy as command|is-.+|bounded)": (),
    r"overview: (a day|a week)": (),
    r"devices: (Saved|Filter|online|updating|degraded|offline|revoked|First page|Next page)": (),
    r"devices: (Keep this selector|Forget .+)": ("device:read",),
    r"devices: (Let it in|Reject)": ("device:approve",),
    r"devices: (All that fit|None)": (),
    r"(overview|devices|settings): Let a device join": ("device:enrol",),
    r"devices: Label": ("group:write",),
    r"devices: Command": ("command:write",),
    r"devices: Start a rollout": ("rollout:write",),
    r"devices: (More|Revoke their certificates|Take them out of the fleet)": ("device:write",),
    r"devices-device: (Send|Cancel)": ("command:write",),
    r"devices-device: (Follow|Stop)": ("command:write", "log:read"),
    r"devices-device: Answer": ("log:read",),
    r"devices-device: Labels": ("group:write",),
    r"devices-device: (Revoke its certificates|Take it out of the fleet)": ("device:write",),
    r"modules-team-name-version: Show the samples": ("blob:read",),
    r".+: (Draw all \d+ nodes|Smaller|Larger)": ("blob:read",),
    r"modules-team-name-version: Remove": ("module:write",),
    r"uploads(-team-digest)?: (Upload|Remove)": ("module:write",),
    r"rollouts-rollout: Approve": ("rollout:approve",),
    r"rollouts-rollout: (Pause|Resume|Retry|Cancel|Revert)": ("rollout:write",),
    r"rollouts-new: (Add a gate|Remove this gate)": (),
    r"rollouts-new: (Preview|Start it)": ("rollout:write",),
    r"endpoints-name: (Remove this endpoint|Change the shares)": ("endpoint:write",),
    r"endpoints-name: (New policy|Change it|Remove it)": ("fallback:write",),
    r"endpoints-name: (Show the keys|New primary key|New secondary key)": ("endpoint:key",),
    r"endpoints-name: Fetch the last lines": ("endpoint:log",),
    r"events(-audit)?: (Save as JSON|Older rows)": (),
    r"settings: (New token|Revoke)": ("token:write",),
    r"settings: Take it back": ("device:enrol",),
    r"settings: Look again": ("setting:read",),
    r"try: (Send|Fetch the form|)": (),
}
# Of what a page is about, by the page's path.
ABOUT = ("device", "rollout", "team", "endpoint")


@pytest.fixture(scope="module")
def fleet(showcase):
    """A fleet with one of each thing, and somebody with each role."""
    for role in ROLES:
        person(showcase[0].data, f"is-{role}", role)
    return showcase


class Element:
    def __init__(self, tree, ident, above):
        found = tree[str(ident)]
        self.tag, self.text, self.props = found["tag"], found.get("text", ""), found.get("props", {})
        self.hidden = (above is not None and above.hidden) or "hidden" in found.get("class", ())
        self.name = str(self.props.get("aria-label") or self.props.get("label") or self.text or "")
        inner = list(found.get("children", ()))
        for slot in found.get("slots", {}).values():
            inner += slot.get("ids", ())
        self.inner = [Element(tree, one, self) for one in dict.fromkeys(inner)]

    def all(self):
        yield self
        for one in self.inner:
            yield from one.all()

    @property
    def words(self):
        """Its name, or the text in it."""
        return self.name or " ".join(one.text for one in self.all() if one.text)


def read(http, address):
    """What is on a page, as far as it is to be seen."""
    answer = http.get(f"/console{address}", headers={"Accept": "text/html"}, follow_redirects=True)
    assert answer.status_code == 200, f"{address}: {answer.status_code}"
    tree = json.loads(html.unescape(_TREE.search(answer.text)[1]))
    inner = {str(one) for each in tree.values() for one in each.get("children", ())}
    tops = [Element(tree, ident, None) for ident in tree if ident not in inner]
    return [one for top in tops for one in top.all() if not one.hidden]


def may(http, sight, named):
    """What the API says that somebody may do with what a page is about."""
    values = named._asdict()
    about = {one: values[one] for one in ABOUT if values[one] in sight.address.split("/")}
    return set(http.get("/api/v1/session/permissions", params=about).json())


def needed(sight, name):
    """What the API wants for a button, by its page and its name."""
    for words, permissions in ACTIONS.items():
        if re.fullmatch(words, f"{sight.name}: {name}"):
            return set(permissions)
    return None


def walked(http, named):
    """Each page that somebody may go to, with what they may do there."""
    for sight in sights(named):
        if not sight.address.startswith("/login"):
            yield sight, read(http, sight.address), may(http, sight, named)


# The one that most people have; the others take as long.
_ALWAYS = ("operator",)


@pytest.mark.parametrize(
    "role", [one if one in _ALWAYS else pytest.param(one, marks=pytest.mark.long) for one in sorted(ROLES)]
)
def test_no_page_shows_a_role_what_the_api_would_refuse(fleet, role):
    (server, named), wrong, closed, linked, pressed = fleet, [], set(), [], 0
    with as_person(server, f"is-{role}") as http:
        for sight, found, granted in walked(http, named):
            if any(one.text == CLOSED for one in found):
                closed.add(sight.name)
            for one in found:
                if one.tag in _BUTTONS:
                    wants = needed(sight, one.words)
                    pressed += 1
                    if wants is None or not wants <= granted:
                        wrong.append(f"{sight.address}: {one.words!r} wants {wants}")
                if href := one.props.get("href"):
                    linked.append((sight.address, str(href)))
    for at, href in linked:
        place = place_of(href)
        if place in closed:
            wrong.append(f"{at}: leads to {href}, which is closed")
    assert not wrong, "\n".join(wrong)
    assert pressed > 3 * len(sights(named))  # pages have come whole
    assert refusals(server, f"is-{role}") == []


def place_of(href):
    """The name of the page that a link leads to."""
    path = href.removeprefix("/console").partition("?")[0].partition("#")[0]
    for one in sorted(mount.load(), key=lambda one: one.count("{")):
        if re.fullmatch(re.sub(r"{\w+}", "[^/]+", one), path):
            return re.sub(r"[^a-z]+", "-", one.lower()).strip("-") or "overview"
    return None


def refusals(server, name):
    """What was refused to somebody."""
    database = database_of(Settings(data=server.data.root))
    with database.read() as connection:
        mine = (events.c.kind == "request-denied") & (events.c.by == name)
        found = list(connection.scalars(select(events.c.message).where(mine)))
    database.close()
    return found


def test_what_is_bounded_to_some_is_not_offered_for_others(fleet):
    """Who may see all and change a part: pages of that part have its buttons, pages of the rest have none of them."""
    grants = (
        Grant("viewer"),
        Grant("operator", "site=lyon"),
        Grant("installer", "site=lyon"),
        Grant("rollout-manager", "site=lyon", ("acme",)),
        Grant("releaser", teams=("zebra",)),
    )
    server, named = fleet
    person(server.data, "bounded", *grants)
    with as_person(server, "bounded") as http:
        wrong = [
            f"{sight.address}: {one.words!r}"
            for sight, found, granted in walked(http, named)
            for one in found
            if one.tag in _BUTTONS and not (needed(sight, one.words) or set()) <= granted
        ]
        assert wrong == []
        theirs = {one.words for one in read(http, "/devices/lyon-press-01") if one.tag in _BUTTONS}
        others = {one.words for one in read(http, f"/devices/{named.device}") if one.tag in _BUTTONS}
        assert {"Send", "Labels", "Revoke its certificates"} <= theirs
        assert not {"Send", "Labels", "Revoke its certificates"} & others


def test_every_permission_that_is_named_here_is_one():
    assert {one for wants in ACTIONS.values() for one in wants} <= PERMISSIONS
