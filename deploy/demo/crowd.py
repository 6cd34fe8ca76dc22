"""``make demo ARGS="--devices 200"``: beside the real device simulated ones, of several sites and kinds.

A good rollout, one that is stopped, and one that waits for whoever looks at the console; some devices are not well.
"""

import json
import time
from collections import Counter
from typing import Any, Final

from rich.live import Live
from rich.table import Table

from deploy.demo.programs import Failed, python
from deploy.demo.steps import Demo, console
from fleet.client import config
from fleet.client.answers import Rollout
from fleet.client.api import Fleet

LEAST: Final = 3
# A rollout's page names so many devices.
MOST: Final = 500
_SELECTOR: Final = "simulated=true"
_WAVES: Final = ("5%", "50%", "100%")
# What the devices are, by share.
_KITS: Final = (
    (4, "berlin", {"cores": 8, "memory_mb": 16384}),
    (3, "lyon", {"cores": 4, "memory_mb": 4096}),
    (2, "porto", {"cores": 4, "memory_mb": 2048}),
    (1, "oslo", {"cores": 2, "memory_mb": 1024}),
)
# Of so many devices one is not well, and how: in a slot of its own, so that no other rollout waits for it.
_UNWELL_OF: Final = 25
_UNWELL: Final = (
    {"share": 2, "kind": "degrades-later", "after_s": 1},
    {"share": 1, "kind": "offline", "for_s": 864000},
)
_LOOK_S: Final = 0.3
_WITHIN_S: Final = 300.0
_BAR: Final = 32
_OVER: Final = frozenset({"done", "failed", "reverted", "cancelled", "partial"})


def story(demo: Demo, ref: str, devices: int) -> dict[str, Any]:
    """Start so many devices, bring them the module that the real one has, then a version that fails on all of them.

    A third version goes to the first wave, and waits there for somebody to approve the rest.

    Raises:
        Failed: one of the two rollouts did not end as it has to.
    """
    console.print(f"\n[bold]{devices} more devices, simulated[/]")
    more = "register and sign three more versions"
    bad, next_one, frail = demo.step(more, lambda: [_next_version(demo) for _ in range(3)])
    demo.step("let them join and connect", lambda: _start(demo, bad, frail, devices))
    settings = config.Config(
        url=demo.url, token=(demo.data / "operator-token").read_text().strip(), ca=(demo.data / "ca.pem").read_text()
    )
    with Fleet(settings) as fleet:
        console.print(f"\n[bold]{ref} to all of them, in {len(_WAVES)} waves[/]\n")
        good = _watched(fleet, _roll_out(demo, ref))
        _expect(good, "done", succeeded=devices)
        _fall_ill(demo, frail, good)
        console.print(f"\n[bold]{bad}, which gives wrong answers: it has to end in the first wave[/]\n")
        stopped = _watched(fleet, _roll_out(demo, bad))
        touched = sum(one.wave == 1 for one in stopped.devices)
        _expect(stopped, "reverted", skipped=devices - touched)
        for event in stopped.history[-3:]:
            console.print(f"    {event.what}", markup=False)

        console.print(f"\n  {devices - touched} of {devices} devices have never seen it")
        waits = _roll_out(demo, next_one, "--approval")
        demo.cli("rollouts", "approve", waits)  # the first wave; the second is for whoever looks
        _until_it_waits(fleet, waits)
        console.print(
            f"\n  [bold]{next_one}[/] is on its first devices: rollout {waits} waits for you to approve the next wave"
        )
        console.print(f"  look at it: {demo.url}/console/rollouts/{waits}")
    return {"devices": devices, "good": good.state, "bad": stopped.state, "touched_by_bad": touched, "waits": waits}


def _next_version(demo: Demo) -> str:
    ref = demo.register()
    demo.sign(ref)
    return ref


def _fall_ill(demo: Demo, frail: str, good: Rollout) -> None:
    """A few get a version that they do not stand: they are not well before anybody opens the console."""
    last = sorted(good.devices, key=lambda one: (one.wave, one.device))[-max(2, len(good.devices) // _UNWELL_OF) :]
    selector = f"id in ({','.join(one.device for one in last)})"
    where = ("--slot", "trial", "--engine", "process", "--selector", selector)
    demo.cli("rollouts", "start", frail, *where, "--wave", "100%", "--on-failure", "pause")


def _start(demo: Demo, bad: str, frail: str, devices: int) -> None:
    plan = demo.folder / "profiles.json"
    fails = [{"module": bad, "behaviours": [{"kind": "fails-samples"}]}, {"module": frail, "behaviours": _UNWELL}]
    kits = [{"share": share, "labels": {"site": site}, **kit} for share, site, kit in _KITS]
    plan.write_text(json.dumps({"devices": kits, "modules": fails}))
    ready = demo.folder / "simulated-ready"
    command = python("-m", "fleet.client", "simulate", "--devices", str(devices), "--profiles", str(plan))
    command += ["--pace", "0.4", "--probation", "1", "--ready-file", str(ready)]
    environment = {"EDGEFLEET_HOME": str(demo.folder / "client")}
    demo.programs.start("simulated", command, ready=ready.exists, environment=environment, within_s=_WITHIN_S)


def _roll_out(demo: Demo, ref: str, *more: str) -> str:
    command = ["rollouts", "start", ref, "--slot", "digits", "--engine", "process", "--selector", _SELECTOR]
    command += [part for wave in _WAVES for part in ("--wave", wave)]
    return str(demo.cli(*command, "--on-failure", "revert", *more)["id"])


def _until_it_waits(fleet: Fleet, rollout: str) -> None:
    """Until the first wave is complete, and somebody is asked."""
    ends = time.monotonic() + _WITHIN_S
    while "approv" not in (shown := fleet.rollout(rollout)).waits_for or not shown.counts.get("succeeded"):
        if shown.state != "running" or time.monotonic() > ends:
            raise Failed(f"step failed: rollout {rollout} is {shown.state}: {shown.waits_for}")
        time.sleep(_LOOK_S)


def _watched(fleet: Fleet, rollout: str) -> Rollout:
    """Show the rollout as it goes, until it is over."""
    ends = time.monotonic() + _WITHIN_S
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while True:
            shown = fleet.rollout(rollout)
            live.update(_table(shown), refresh=True)
            if shown.state in _OVER:
                break
            if time.monotonic() > ends:
                raise Failed(f"step failed: rollout {rollout} is {shown.state}: {shown.waits_for}")
            time.sleep(_LOOK_S)
    console.print()
    return shown


def _table(shown: Rollout) -> Table:
    """A line for each wave: how many of its devices are done, failed, under way, and not begun."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for wave in range(1, shown.waves + 1):
        stand = Counter(_kind(one.phase, one.standing) for one in shown.devices if one.wave == wave)
        phases = Counter(one.phase for one in shown.devices if one.wave == wave)
        whole = stand.total()
        said = ", ".join(f"{phase} {count}" for phase, count in phases.most_common())
        table.add_row(f"    wave {wave}", _bar(stand, whole), f"{whole} devices", said)
    table.add_row("", "", "", f"[bold]{shown.state}[/]")
    return table


def _kind(phase: str, standing: str) -> str:
    if phase == "planned" or standing == "planned":
        return "planned"
    if standing == "succeeded":
        return "done"
    return "failed" if standing in {"failed", "returned", "unreturned", "returning"} else "under way"


def _bar(stand: Counter[str], whole: int) -> str:
    """Parts of one bar by rounding up their sums, so that they always fill it."""
    text, so_far, drawn = "", 0, 0
    for kind, style in (("done", "green"), ("failed", "red"), ("under way", "yellow"), ("planned", "dim")):
        so_far += stand[kind]
        until = -(-so_far * _BAR // max(whole, 1))
        text += f"[{style}]{('·' if kind == 'planned' else '█') * (until - drawn)}[/]"
        drawn = until
    return text


def _expect(shown: Rollout, state: str, **counts: int) -> None:
    found = {name: shown.counts.get(name, 0) for name in counts}
    if shown.state != state or found != counts:
        raise Failed(f"step failed: rollout {shown.id}\nit is {shown.state} with {shown.counts}, not {state}, {counts}")
