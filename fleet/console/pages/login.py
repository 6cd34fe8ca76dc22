"""Logging in, and changing a password: forms that the browser itself sends to the API, which gives it its session."""

from nicegui import ui

from fleet.console import visit
from fleet.console.frame import head
from fleet.console.parts import ROOT


@ui.page("/login")
def log_in(next: str = "") -> None:  # noqa: A002 - the word in the address
    """Name and password. ``next`` is where one wanted to go: a path of the console, or it is not followed."""
    head("Log in")
    there = next if next.startswith(f"{ROOT}/") and "\\" not in next else f"{ROOT}/"
    with _card("Log in"), ui.element("form").props("method=post data-login") as form:
        form.props["data-next"] = there
        _field("Name", "user", "username")
        _field("Password", "password", "current-password", hidden=True)
        ui.button("Log in").props("type=submit no-caps").classes("ef-submit")
        ui.label("").props('role="alert" data-said').classes("ef-said")


@visit.page("/login/password")
async def change_password(who: visit.Visit) -> None:
    """A new password; every session of theirs ends, and they log in again."""
    head("Change password")
    with _card("Change your password"):
        if who.must_change_password:
            ui.label("The password that was given to you has to be changed first.")
        with ui.element("form").props("method=post data-password"):
            _field("Current password", "old", "current-password", hidden=True)
            _field("New password", "new", "new-password", hidden=True)
            ui.button("Change password").props("type=submit no-caps").classes("ef-submit")
            ui.label("").props('role="alert" data-said').classes("ef-said")


def _card(title: str) -> ui.card:
    with ui.element("div").classes("ef-login").props("id=content"):
        ui.label("edgefleet").classes("ef-name")
        ui.label(title).classes("ef-title").props('role="heading" aria-level="1"')
        return ui.card()


def _field(label: str, name: str, kind: str, *, hidden: bool = False) -> None:
    with ui.element("label").classes("ef-field"):
        ui.label(label)
        ui.element("input").props(
            f"name={name} autocomplete={kind} required maxlength=1000" + (" type=password" if hidden else "")
        )
