"""A rollout of an endpoint's requests, for people: each share, what was counted of it, and why it is not done."""

from typing import Final

from fleet.client.answers import Rollout, RolloutPlan, Share
from fleet.client.screen import Screen, when
from modules.protocol.measured import Measured

HEADINGS: Final = ("WAVE", "SHARE", "STATE", "MEASURED", "BEFORE", "WHY")


def where(rollout: Rollout) -> str:
    """The slot, or the endpoint and its versions."""
    if not rollout.endpoint:
        return rollout.slot
    return f"{rollout.endpoint}, {rollout.before} to {rollout.version}" if rollout.version else rollout.endpoint


def row(share: Share) -> tuple[str, str, str, str, str, str]:
    phase = f", {share.phase}" if share.standing == "working" else ""
    return (
        str(share.wave),
        f"{share.percent} %",
        share.standing + phase,
        _measured(share.measured),
        _measured(share.replaced),
        share.why,
    )


def show_shift_plan(screen: Screen, plan: RolloutPlan) -> None:
    """What a rollout would do: which share each wave gives."""
    screen.fields(
        [
            ("module", plan.module),
            ("from", plan.before),
            ("to", plan.version),
            ("starts", when(plan.starts) if plan.starts is not None else "at once"),
        ]
    )
    screen.table(("WAVE", "RULE", "SHARE"), ((one.wave, one.rule, f"{one.percent} %") for one in plan.waves), empty="")


def _measured(found: Measured | None) -> str:
    """``120 requests in 60 s, 2 errors, p95 14 ms``."""
    if found is None:
        return ""
    told = [f"{found.requests} requests in {found.seconds:.0f} s", f"{found.errors} errors"]
    if found.p95_ms is not None:
        told.append(f"p95 {found.p95_ms:.3g} ms")
    if found.memory_mb is not None:
        told.append(f"{found.memory_mb} MiB")
    return ", ".join(told)
