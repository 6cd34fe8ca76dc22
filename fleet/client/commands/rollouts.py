"""``edgefleet rollouts``: bring a signed module to devices or to an endpoint, watch it arrive, and steer it."""

from typing import Annotated, Any, Literal

import typer

from fleet.client import arguments, config, gate_view
from fleet.client.api import Fleet
from fleet.client.commands import fallback_options, policy_options
from fleet.client.rollout_view import show_plan, show_rollout, watch
from fleet.client.screen import Json, Screen, when
from fleet.client.shift_view import show_shift_plan, where
from modules.names import device_id, slot_name

app = typer.Typer(no_args_is_help=True, help="Bring a signed module to devices or an endpoint, and watch it arrive.")
Id = Annotated[str, typer.Argument(help="The rollout's id.")]


@app.command()
def start(
    module: Annotated[str, typer.Argument(help="team/name:version, signed.")],
    *,
    slot: Annotated[
        str | None, typer.Option(help="The slot on the device, which is part of its scoring address.")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="Instead of devices: the endpoint whose requests go over to it, share by share.")
    ] = None,
    version: Annotated[
        str | None, typer.Option("--as", help="The version's name at the endpoint (v and its number).")
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(help="How many of it run at the endpoint (as many as of the one before).")
    ] = None,
    selector: Annotated[
        str | None, typer.Option(help="Which devices by label: site=berlin,line=2; or * for all.")
    ] = None,
    device: Annotated[list[str] | None, typer.Option(help="A device by id; may be repeated.")] = None,
    engine: Annotated[Literal["docker", "process"], typer.Option(help="What runs it on the device.")] = "docker",
    setting: Annotated[list[str] | None, typer.Option(help="key=value that the manifest lets an order change.")] = None,
    fallback: fallback_options.Fallback = None,
    fallback_when: fallback_options.When = None,
    fallback_region: fallback_options.Region = None,
    fallback_ca: fallback_options.Authorities = None,
    fallback_waiting: fallback_options.Waiting = None,
    fallback_latency_ms: fallback_options.Latency = None,
    fallback_requests_a_day: fallback_options.Requests = None,
    waive: Annotated[bool, typer.Option("--waive", help="Try again where this content has failed before.")] = False,
    supersede: Annotated[
        bool, typer.Option("--supersede", help="Take devices from rollouts of this slot that are still open.")
    ] = False,
    policy: policy_options.PolicyFile = None,
    preset: policy_options.Preset = None,
    wave: policy_options.Waves = None,
    success: policy_options.Success = None,
    failure: policy_options.Failure = None,
    minimum: policy_options.Minimum = None,
    soak: policy_options.Soak = None,
    approval: policy_options.Approval = False,
    deadline: policy_options.Deadline = None,
    concurrency: policy_options.Concurrency = None,
    budget: policy_options.BudgetOption = None,
    starts: policy_options.Starts = None,
    late_joiners: policy_options.LateJoiners = False,
    on_failure: policy_options.OnFailure = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what it would do, and start nothing.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Watch until it is done; exit code 1 if it fails.")] = False,
    as_json: Json = False,
) -> None:
    """Start a rollout."""
    screen = Screen(as_json=as_json)
    asked = policy_options.combine(
        policy_options.read(policy),
        wave,
        preset=preset,
        success_percent=success,
        failure_percent=failure,
        minimum=minimum,
        soak=soak,
        approval=approval,
        deadline=deadline,
        concurrency=concurrency,
        budget=policy_options.budget(budget) if budget else None,
        starts=starts,
        late_joiners=late_joiners,
        on_failure=on_failure,
    )
    if endpoint is not None:
        if slot or selector or device or setting or fallback or waive:
            raise typer.BadParameter("an endpoint has no slot, devices, settings or fallback: say --endpoint alone")
        given: dict[str, Any] = {"module": str(arguments.module_ref(module)), "policy": asked, "supersede": supersede}
        given |= {"version": version, "replicas": replicas or 0}
        _start_on_endpoint(slot_name(endpoint), given, screen, dry_run=dry_run, wait=wait)
        return
    if slot is None:
        raise typer.BadParameter("say --slot, and which devices; or --endpoint")
    if (selector is None) == (not device):
        raise typer.BadParameter("say either --selector or --device; all devices are --selector '*'")
    settings = {key: arguments.value(text) for key, text in arguments.pairs(setting or (), option="--setting").items()}
    request = {
        "module": str(arguments.module_ref(module)),
        "slot": slot_name(slot),
        "selector": selector if selector is not None else "*",
        "devices": [device_id(one) for one in device] if device else None,
        "engine": engine,
        "settings": settings,
        "fallback": fallback,
        "fallback_terms": fallback_options.terms(
            when=fallback_when,
            region=fallback_region,
            ca=fallback_ca,
            waiting=fallback_waiting,
            latency_ms=fallback_latency_ms,
            requests_a_day=fallback_requests_a_day,
        ),
        "waive": waive,
        "supersede": supersede,
        "policy": asked,
    }
    with Fleet(config.load()) as fleet:
        if dry_run:
            planned = fleet.plan_rollout(request)
            screen.show(planned, lambda it: show_plan(it, planned))
            return
        rollout = fleet.start_rollout(request)
        if wait:
            rollout = watch(fleet, rollout.id, screen)
    screen.show(rollout, lambda it: show_rollout(it, rollout))
    if wait and rollout.state != "done":
        raise typer.Exit(1)


@app.command("list")
def list_rollouts(*, as_json: Json = False) -> None:
    """List all rollouts."""
    with Fleet(config.load()) as fleet:
        rollouts = fleet.rollouts()
    Screen(as_json=as_json).show(
        rollouts,
        lambda it: it.table(
            ("ROLLOUT", "MODULE", "WHERE", "STATE", "WAVE", "STARTED"),
            (
                (one.id, one.module, where(one), one.state, f"{one.wave}/{one.waves}", when(one.created))
                for one in rollouts
            ),
            empty="No rollouts yet: edgefleet rollouts start MODULE --slot SLOT --selector LABELS",
        ),
    )


@app.command()
def show(
    rollout: Id,
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Watch until it is done; exit code 1 if it fails.")] = False,
    as_json: Json = False,
) -> None:
    """Show one rollout, device by device."""
    screen = Screen(as_json=as_json)
    with Fleet(config.load()) as fleet:
        found = watch(fleet, rollout, screen) if wait else fleet.rollout(rollout)
    screen.show(found, lambda it: show_rollout(it, found))
    if wait and found.state != "done":
        raise typer.Exit(1)


@app.command()
def gates(rollout: Id, *, as_json: Json = False) -> None:
    """Show what each gate sees in each open wave, with the device that is furthest from it."""
    with Fleet(config.load()) as fleet:
        found = gate_view.ask(fleet, rollout)
    Screen(as_json=as_json).show(found, lambda it: gate_view.show(it, found))


@app.command()
def pause(rollout: Id, *, as_json: Json = False) -> None:
    """Give no more orders or shares for now; what devices have begun, they finish."""
    _steer(rollout, "pause", as_json=as_json)


@app.command()
def resume(rollout: Id, *, as_json: Json = False) -> None:
    """Go on with a paused rollout."""
    _steer(rollout, "resume", as_json=as_json)


@app.command()
def approve(rollout: Id, *, as_json: Json = False) -> None:
    """Let the next wave open, once those before it are complete."""
    _steer(rollout, "approve", as_json=as_json)


@app.command()
def cancel(rollout: Id, *, as_json: Json = False) -> None:
    """End a rollout where it is: devices on their way go back, an endpoint keeps the shares of complete waves."""
    _steer(rollout, "cancel", as_json=as_json)


@app.command()
def revert(rollout: Id, *, as_json: Json = False) -> None:
    """Take a rollout back: each device goes to exactly what it ran before, an endpoint to the version before."""
    _steer(rollout, "revert", as_json=as_json)


@app.command()
def retry(rollout: Id, *, as_json: Json = False) -> None:
    """Let the devices, or the share, that failed try the same content again."""
    _steer(rollout, "retry", as_json=as_json)


@app.command()
def skip(
    rollout: Id,
    device: Annotated[str, typer.Argument(help="The device's id.")],
    *,
    why: Annotated[str, typer.Option(help="The reason, for those who look later.")],
    as_json: Json = False,
) -> None:
    """Leave a device out: it gets no order, or goes back to what it had, and nobody waits for it."""
    with Fleet(config.load()) as fleet:
        found = fleet.skip_device(rollout, device_id(device), why)
    Screen(as_json=as_json).show(found, lambda it: it.say(f"rollout {found.id} goes on without {device}"))


def _start_on_endpoint(endpoint: str, request: dict[str, Any], screen: Screen, *, dry_run: bool, wait: bool) -> None:
    with Fleet(config.load()) as fleet:
        if dry_run:
            planned = fleet.plan_rollout(request, endpoint=endpoint)
            screen.show(planned, lambda it: show_shift_plan(it, planned))
            return
        rollout = fleet.start_rollout(request, endpoint=endpoint)
        if wait:
            rollout = watch(fleet, rollout.id, screen)
    screen.show(rollout, lambda it: show_rollout(it, rollout))
    if wait and rollout.state != "done":
        raise typer.Exit(1)


def _steer(rollout: str, verb: str, *, as_json: bool) -> None:
    with Fleet(config.load()) as fleet:
        found = fleet.steer_rollout(rollout, verb)
    Screen(as_json=as_json).show(found, lambda it: it.say(f"rollout {found.id} is {found.state}"))
