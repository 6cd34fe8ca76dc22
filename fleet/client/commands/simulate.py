"""``edgefleet simulate``: a fleet of simulated devices against this fleet server, in a process of their own.

The simulator is the device's side and is not in edgefleet[client]; here an operator's rights are used for what devices
cannot do themselves: the join bundle, and labels.
"""

import importlib.util
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import msgspec
import typer
import yaml

from fleet.client import arguments, config
from fleet.client.api import Fleet
from fleet.client.screen import Json, Screen
from modules import canonical
from modules.errors import BadSettings, Invalid, Refused

app = typer.Typer()
LIMIT: Final = 1 << 20
# What every simulated device is labelled with, so that a selector means them, or leaves them out.
SIMULATED: Final = {"simulated": "true"}
_NEEDED: Final = ("aiomqtt", "paho")
_AT_ONCE: Final = 8
_BUNDLE_LIFE_S: Final = 3600


@app.command()
def simulate(
    devices: Annotated[int, typer.Option(min=1, max=100_000, help="How many devices.")] = 100,
    *,
    profiles: Annotated[
        Path | None, typer.Option(help="YAML or JSON file: what they are and how they behave (all alike, all good).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Which device gets what; the same seed gives the same.")] = 0,
    prefix: Annotated[str, typer.Option(help="How their names begin.")] = "sim",
    state: Annotated[
        Path | None, typer.Option(help="Folder with their keys (default: below the configuration's).")
    ] = None,
    pull: Annotated[bool, typer.Option("--pull/--no-pull", help="Fetch and check modules' files.")] = True,
    pace: Annotated[float, typer.Option(min=0, help="Seconds that a phase takes on average.")] = 0.2,
    probation: Annotated[float, typer.Option(min=0, help="At most so many seconds of a module's probation.")] = 5.0,
    window: Annotated[float, typer.Option(min=0.1, help="At most so many seconds of a window of measurements.")] = 60.0,
    load_every: Annotated[float, typer.Option(min=0, help="Seconds from telemetry to telemetry; 0: none.")] = 0.0,
    load_bytes: Annotated[int, typer.Option(min=1, max=60000, help="Bytes of such a message, about.")] = 200,
    plain: Annotated[str | None, typer.Option(help="HOST:PORT of a broker's listener without TLS.")] = None,
    lasts: Annotated[
        str | None, typer.Option("--for", help="End after so long: 90s, 10m (when it is stopped).")
    ] = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="Written when all are connected and the server has heard them.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Let simulated devices join this fleet and do what they are ordered, until Ctrl-C."""
    _check_installed()
    screen = Screen(as_json=as_json)
    settings = config.load()
    folder = state or config.home() / "simulate" / urlsplit(settings.url).netloc.replace(":", "_")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    common = ["--devices", str(devices), "--prefix", prefix, "--seed", str(seed)]
    if profiles:
        common += ["--profiles", str(_as_json(profiles, folder / "profiles.json"))]
    with Fleet(settings) as fleet:
        _join(fleet, folder, devices)
        labels = _enroll(folder, common, as_json=as_json)
        _label(fleet, labels, screen)
    options = ["--pace", str(pace), "--probation", str(probation), "--window", str(window)]
    options += ["--load-every", str(load_every), "--load-bytes", str(load_bytes)]
    options += [] if pull else ["--no-pull"]
    options += ["--plain", plain] if plain else []
    options += ["--for", str(arguments.seconds(lasts, option="--for"))] if lasts else []
    options += ["--ready-file", str(ready_file)] if ready_file else []
    status = _run([*_program("run", folder), *common, *options, *(["--json"] if as_json else [])])
    if status:
        raise typer.Exit(status)


def _check_installed() -> None:
    """See that the simulator can run here.

    Raises:
        BadSettings: what it needs is not installed.
    """
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise BadSettings(
            f"the package {missing[0]} is not installed, and simulated devices need it",
            element="edgefleet simulate",
            remedy=f"pip install 'edgefleet[agent,client]', into {sys.prefix}",
        )


def _as_json(written: Path, place: Path) -> Path:
    """The profiles as the simulator reads them.

    Raises:
        Invalid: the file is too large, or no YAML.
    """
    data = written.read_bytes()
    if len(data) > LIMIT:
        raise Invalid(f"{len(data)} bytes is more than the {LIMIT} allowed", element=str(written))
    try:
        place.write_bytes(msgspec.json.encode(yaml.safe_load(data)))
    except (yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
        raise Invalid(
            f"the profiles cannot be read: {error}", element=str(written), remedy="write it as docs/simulate.md shows"
        ) from error
    return place


def _join(fleet: Fleet, folder: Path, devices: int) -> None:
    """A bundle for all of them; a key that this server does not know, of a server before it, is forgotten.

    One that was removed gets a bundle of its own, for its name is closed to all others.
    """
    known = {one.id for one in fleet.devices()}
    for path in (folder / "devices").glob("*.pem"):
        if path.stem not in known:
            path.unlink()
            _readmit(fleet, folder, path.stem)
    bundle = folder / "join.json"
    bundle.touch(mode=0o600)
    bundle.write_bytes(canonical.encode(fleet.join_bundle(uses=devices, expires_s=_BUNDLE_LIFE_S, approve=False)))


def _readmit(fleet: Fleet, folder: Path, name: str) -> None:
    bundle = folder / f"{name}.json"
    try:
        joins = fleet.readmit_device(name, expires_s=_BUNDLE_LIFE_S, approve=False)
    except Refused as error:
        if error.code != "missing":  # this server never had such a device
            raise
        return
    bundle.touch(mode=0o600)
    bundle.write_bytes(canonical.encode(joins))


def _enroll(folder: Path, common: list[str], *, as_json: bool) -> dict[str, dict[str, str]]:
    """Enrol those that are not; the labels that the profiles give to each. Its errors are shown as it says them."""
    done = subprocess.run(  # noqa: S603 - this very interpreter
        [*_program("enroll", folder), *common, "--json"], stdout=subprocess.PIPE, check=False
    )
    if done.returncode:
        if as_json:
            sys.stdout.write(done.stdout.decode())
        raise typer.Exit(done.returncode)
    found: dict[str, Any] = msgspec.json.decode(done.stdout)
    return {name: SIMULATED | labels for name, labels in found["labels"].items()}


def _label(fleet: Fleet, labels: dict[str, dict[str, str]], screen: Screen) -> None:
    present = {one.id: one.labels for one in fleet.devices() if one.id in labels}
    wanted = {name: present[name] | own for name, own in labels.items() if name in present}
    changed = {name: all_ for name, all_ in wanted.items() if all_ != present[name]}
    if not changed:
        return
    screen.remark(f"labelling {len(changed)} devices")
    with ThreadPoolExecutor(_AT_ONCE) as workers:
        list(workers.map(lambda one: fleet.label_device(*one), changed.items()))


def _run(command: list[str]) -> int:
    """The simulator to its end, which Ctrl-C asks it for as well as us: it says goodbye to the broker first."""
    with subprocess.Popen(command) as process:  # noqa: S603 - this very interpreter
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: process.terminate())
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue


def _program(verb: str, folder: Path) -> list[str]:
    return [sys.executable, "-m", "agent.simulate", verb, str(folder)]
