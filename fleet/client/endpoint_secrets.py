"""Secrets of modules at an endpoint in the cloud, for ``edgefleet secrets --endpoint``."""

import base64
from typing import Any

from fleet.client import config
from fleet.client.api import Fleet
from fleet.client.screen import Screen, when
from modules.names import slot_name


def change_secret(endpoint: str, name: str, value: bytes | None, *, as_json: bool) -> None:
    """Set one, or take it away (None), and say so."""
    body = {"name": name} | ({} if value is None else {"value": base64.b64encode(value).decode()})
    with Fleet(config.load()) as fleet:
        done = fleet.ask(dict[str, Any], "POST", _path(endpoint) + ("" if value is not None else "/remove"), json=body)
    told = f"is version {done['version']}" if value is not None else "is removed"
    Screen(as_json=as_json).show(done, lambda it: it.say(f"{name} of endpoint {endpoint} {told}"))


def show_secrets(endpoint: str, *, as_json: bool) -> None:
    """List those that are set, and those that its modules declare."""
    with Fleet(config.load()) as fleet:
        found = fleet.ask(list[dict[str, Any]], "GET", _path(endpoint))
    rows = [
        (
            one["name"],
            one["state"],
            "yes" if one["required"] else "no",
            str(one["version"] or ""),
            when(one["at"]) if one["at"] is not None else "",
        )
        for one in found
    ]
    Screen(as_json=as_json).show(
        found,
        lambda it: it.table(
            ("SECRET", "STATE", "REQUIRED", "VERSION", "SET"),
            rows,
            empty="No secrets: edgefleet secrets set",
        ),
    )


def _path(endpoint: str) -> str:
    return f"/api/v1/endpoints/{slot_name(endpoint)}/secrets"
