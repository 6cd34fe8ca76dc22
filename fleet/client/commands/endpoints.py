"""``edgefleet endpoints``: signed modules, served in the cloud."""

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer

from fleet.client import arguments, config
from fleet.client.answers import Endpoint
from fleet.client.api import Fleet
from fleet.client.deployments.configuration_file import read_deployment_configuration
from fleet.client.deployments.endpoint_wish import EndpointWish, elsewhere, wished
from fleet.client.endpoint_view import CostsByDay, ready_of, show_costs, show_endpoint, watch
from fleet.client.screen import Json, Screen, when
from modules.errors import BadSettings, Invalid
from modules.names import slot_name, slug

app = typer.Typer(
    no_args_is_help=True, help="Serve modules in the cloud: deploy, change, split, scale, keys, tokens, logs, remove."
)
Name = Annotated[str, typer.Argument(help="The endpoint's name, which is part of its address.")]
Setting = Annotated[list[str] | None, typer.Option("--set", help="key=value of docs/endpoints.md; may be repeated.")]
Certificate = Annotated[Path | None, typer.Option(help="Speak TLS: the certificate with its chain, in PEM.")]
Key = Annotated[Path | None, typer.Option("--certificate-key", help="The certificate's key, in PEM.")]
Wait = Annotated[bool, typer.Option("--wait", help="Watch until it is ready; exit code 1 if it fails.")]

_ALL = 100
_TEXTS = frozenset({"certificate", "description", "host_name", "namespace"})
_LISTS = frozenset({"cors_origins"})


@app.command()
def deploy(
    name: Name,
    target: Annotated[str, typer.Option(help="Where: see edgefleet targets list.")],
    module: Annotated[str, typer.Option(help="team/name:version, signed.")],
    version: Annotated[str | None, typer.Option(help="The version's name at the endpoint (v and its number).")] = None,
    replicas: Annotated[int | None, typer.Option(help="How many of it run (1, unless the file says it).")] = None,
    auth: Annotated[
        Literal["key", "token", "none"] | None, typer.Option(help="What clients need (key, unless the file says it).")
    ] = None,
    deployment: Annotated[
        Path | None,
        typer.Option("--dc", "--deployment-config", help="Azure ML's deploymentconfig.json, of an ACI or AKS service."),
    ] = None,
    setting: Setting = None,
    certificate: Certificate = None,
    certificate_key: Key = None,
    *,
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Serve a module at a new endpoint."""
    ref = arguments.module_ref(module)
    called = version or f"v{ref.version}".replace(".", "-")
    wish = EndpointWish(settings={"auth": "key"})
    if deployment is not None:
        wish = wished(elsewhere(read_deployment_configuration(deployment)), where=str(deployment))
    settings = wish.settings | ({"auth": auth} if auth else {}) | _settings(setting)
    request: dict[str, Any] = {
        "name": slot_name(name),
        "target": slug(target, what="target"),
        "versions": {slug(called, what="version"): {"module": str(ref), "replicas": replicas or wish.replicas or 1}},
        "settings": settings | ({"certificate": _text(certificate)} if certificate else {}),
        "certificate_key": _text(certificate_key) if certificate_key else wish.certificate_key or "",
        "primary_key": wish.primary_key,
        "secondary_key": wish.secondary_key,
    }
    with Fleet(config.load()) as fleet:
        _show(fleet, fleet.create_endpoint(request), wait=wait, as_json=as_json)


@app.command("list")
def list_endpoints(*, as_json: Json = False) -> None:
    """List the endpoints."""
    with Fleet(config.load()) as fleet:
        found = fleet.endpoints()
    rows = [
        (
            one.name,
            one.target,
            one.state,
            ready_of(one),
            one.url,
            one.why,
        )
        for one in found
    ]
    Screen(as_json=as_json).show(
        found,
        lambda it: it.table(
            ("ENDPOINT", "TARGET", "STATE", "READY", "SCORE AT", "WHY"),
            rows,
            empty="No endpoints: edgefleet endpoints deploy",
        ),
    )


@app.command()
def show(name: Name, *, wait: Wait = False, as_json: Json = False) -> None:
    """Show how an endpoint stands."""
    with Fleet(config.load()) as fleet:
        _show(fleet, _found(fleet, name), wait=wait, as_json=as_json)


@app.command("version")
def change_version(
    name: Name,
    version: Annotated[str, typer.Argument(help="The version's name at the endpoint; a new one is added.")],
    module: Annotated[str | None, typer.Option(help="team/name:version that it serves from now on.")] = None,
    weight: Annotated[int | None, typer.Option(help="Its share of the requests, in percent.")] = None,
    replicas: Annotated[int | None, typer.Option(help="How many of it run.")] = None,
    *,
    default: Annotated[bool, typer.Option("--default", help="It has what the others leave over.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take it away.")] = False,
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Add, change, scale or remove a version; no request fails meanwhile."""
    with Fleet(config.load()) as fleet:
        found = _found(fleet, name)
        versions = _versions(found)
        if remove:
            if versions.pop(version, None) is None:
                raise _no_version(found, version)
        elif version not in versions and module is None:
            raise _no_version(found, version)
        else:
            new: dict[str, Any] = {"module": str(arguments.module_ref(module)) if module else None}
            new |= {"weight": weight, "replicas": replicas}
            versions[version] = versions.get(version, {}) | {key: one for key, one in new.items() if one is not None}
        request: dict[str, Any] = {"versions": versions, "generation": found.generation}
        if default:
            request["default"] = version
        _show(fleet, fleet.change_endpoint(found.name, request), wait=wait, as_json=as_json)


@app.command()
def split(
    name: Name,
    shares: Annotated[list[str], typer.Argument(help="VERSION=PERCENT, each; the default has what is left over.")],
    *,
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Share the requests out between versions."""
    with Fleet(config.load()) as fleet:
        found = _found(fleet, name)
        versions = _versions(found)
        given = arguments.pairs(shares, option="share")
        for version, share in given.items():
            if version not in versions:
                raise _no_version(found, version)
            if not share.isdecimal():
                raise Invalid(f"{share[:20]!r} is not a percentage", element=version, remedy="write 0 to 100")
            versions[version]["weight"] = int(share)
        if set(versions) == set(given) and (total := sum(map(int, given.values()))) != _ALL:
            raise Invalid(f"the shares are {total} percent together", element="share", remedy="make them 100")
        request = {"versions": versions, "generation": found.generation}
        _show(fleet, fleet.change_endpoint(found.name, request), wait=wait, as_json=as_json)


@app.command("set")
def change_settings(
    name: Name,
    setting: Annotated[list[str] | None, typer.Argument(help="key=value of docs/endpoints.md.")] = None,
    certificate: Certificate = None,
    certificate_key: Key = None,
    *,
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Change an endpoint's settings, or its certificate."""
    request: dict[str, Any] = {"settings": _settings(setting)}
    if certificate is not None:
        request["settings"]["certificate"] = _text(certificate)
    if certificate_key is not None:
        request["certificate_key"] = _text(certificate_key)
    with Fleet(config.load()) as fleet:
        _show(fleet, fleet.change_endpoint(slot_name(name), request), wait=wait, as_json=as_json)


@app.command()
def keys(
    name: Name,
    regenerate: Annotated[
        Literal["primary", "secondary"] | None, typer.Option(help="Make this one anew; the other goes on.")
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Show the two keys that let clients in, or make one of them anew."""
    with Fleet(config.load()) as fleet:
        found = (
            fleet.change_endpoint_key(slot_name(name), regenerate)
            if regenerate
            else fleet.endpoint_keys(slot_name(name))
        )
    Screen(as_json=as_json).show(found, lambda it: it.fields(list(found.items())))


@app.command()
def token(name: Name, *, as_json: Json = False) -> None:
    """Fetch a token that lets its bearer in until it expires."""
    with Fleet(config.load()) as fleet:
        found = fleet.endpoint_token(slot_name(name))
    Screen(as_json=as_json).show(
        found,
        lambda it: it.fields(
            [
                ("token", found["token"]),
                ("expires", when(found["expires"])),
                ("fetch a new one after", when(found["refresh_after"])),
            ]
        ),
    )


@app.command()
def logs(
    name: Name,
    lines: Annotated[int, typer.Option(help="So many of the last lines of each.")] = 100,
    *,
    as_json: Json = False,
) -> None:
    """Show the last lines of each replica and of the gateway."""
    with Fleet(config.load()) as fleet:
        found = fleet.endpoint_logs(slot_name(name), lines=lines)
    told = [f"{part}: {line}" for part, text in found.items() for line in text.rstrip("\n").split("\n")]

    def show_lines(screen: Screen) -> None:
        for line in told:
            screen.line(line)

    Screen(as_json=as_json).show(found, show_lines)


@app.command()
def costs(
    name: Name,
    days: Annotated[int, typer.Option(min=1, max=100, help="So many days back, by UTC.")] = 30,
    *,
    as_json: Json = False,
) -> None:
    """Show what an endpoint has cost day by day, by its target's prices."""
    with Fleet(config.load()) as fleet:
        found = msgspec.convert(fleet.answer("GET", f"endpoints/{slot_name(name)}/costs?days={days}"), CostsByDay)
    Screen(as_json=as_json).show(found, lambda it: show_costs(it, found))


@app.command()
def remove(name: Name, *, wait: Wait = False, as_json: Json = False) -> None:
    """Take an endpoint away, and all that was made for it."""
    screen = Screen(as_json=as_json)
    with Fleet(config.load()) as fleet:
        done = fleet.remove_endpoint(slot_name(name))
        if wait and watch(fleet, slot_name(name), screen) is None:
            done = done | {"state": "removed"}
    screen.show(done, lambda it: it.say(f"{name} is {'removed' if done['state'] == 'removed' else 'being removed'}"))


def _show(fleet: Fleet, endpoint: Endpoint, *, wait: bool, as_json: bool) -> None:
    screen = Screen(as_json=as_json)
    found = watch(fleet, endpoint.name, screen) if wait else endpoint
    if found is None:
        raise Invalid("it was removed meanwhile", element=f"endpoint {endpoint.name}")
    screen.show(found, lambda it: show_endpoint(it, found))
    if wait and found.state != "ready":
        raise typer.Exit(1)


def _found(fleet: Fleet, name: str) -> Endpoint:
    found = fleet.endpoint(slot_name(name))
    if found is None:
        raise Invalid("there is no such endpoint", element=name, remedy="see: edgefleet endpoints list")
    return found


def _versions(endpoint: Endpoint) -> dict[str, dict[str, Any]]:
    """The versions as the API takes them; the default's share follows from the others'."""
    return {
        name: {
            "module": one.module,
            "weight": 0 if name == endpoint.default else one.weight,
            "replicas": one.replicas,
        }
        for name, one in endpoint.versions.items()
    }


def _no_version(endpoint: Endpoint, version: str) -> Invalid:
    return Invalid(
        f"there is no version {version[:63]!r}: there are {', '.join(endpoint.versions)}",
        element=f"endpoint {endpoint.name}",
        remedy="say --module to add one",
    )


def _settings(words: list[str] | None) -> dict[str, Any]:
    """``key=value``; lists are written with commas between."""
    found: dict[str, Any] = {}
    for key, text in arguments.pairs(words or (), option="--set").items():
        one: Any = arguments.value(text)
        if key in _TEXTS:
            one = text
        elif key in _LISTS:
            one = [part for part in text.split(",") if part]
        elif isinstance(one, float) and one.is_integer():
            one = int(one)
        found[key] = one
    return found


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"cannot be read: {error}", element=str(file), remedy="name a file in PEM") from error
