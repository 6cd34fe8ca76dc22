"""Rollouts to simulated devices, as an operator starts and watches them over HTTP."""

import json
import time
from collections import Counter

from modules.manifest import Proof
from tests.doubles.publisher import checked
from tests.parts.pace import stretched

WITHIN_S = stretched(60)
QUICK = ("--pace", "0.05", "--probation", "0.2")


def published(owner, name):
    """A signed module whose graph has four blocks."""
    manifest = owner.upload(name, {"model.onnx": name.encode() * 40_000}, proof=Proof(prove="ready-only"))
    owner.sign(manifest)
    return str(manifest.ref)


def roll_out(http, module, devices, slot="s", **more):
    body = {"module": module, "slot": slot, "engine": "process", "devices": devices} | more
    return checked(http.post("/api/v1/rollouts", json=body)).json()["id"]


def until(http, rollout, condition):
    ends = time.monotonic() + WITHIN_S
    while True:
        shown = checked(http.get(f"/api/v1/rollouts/{rollout}")).json()
        if condition(shown):
            return shown
        assert time.monotonic() < ends, json.dumps(shown, indent=1)[:3000]
        time.sleep(0.1)


def ended(shown):
    return shown["state"] not in {"running", "reverting"}


def names(prefix, count):
    return [f"{prefix}-{number:05}" for number in range(1, count + 1)]


def profiles(folder, **plan):
    path = folder / "profiles.json"
    path.write_text(json.dumps(plan))
    return ("--profiles", str(path))


def of_kind(http, prefix):
    """How many events of each kind the devices with this prefix have made."""
    found = checked(http.get("/api/v1/events", params={"limit": 500})).json()
    return Counter(one["kind"] for one in found if (one["device"] or "").startswith(prefix))
