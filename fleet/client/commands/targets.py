"""``edgefleet targets``: where endpoints in the cloud can live."""

from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from fleet.client import arguments, config
from fleet.client.api import Fleet
from fleet.client.screen import Json, Screen
from modules.errors import Invalid
from modules.images import GATEWAY_IMAGE
from modules.names import slug

app = typer.Typer(no_args_is_help=True, help="Attach, list, check and detach where endpoints in the cloud can live.")
LOOPBACK: Final = "127.0.0.1"
Name = Annotated[str, typer.Argument(help="The target's name.")]
Price = Annotated[
    float | None,
    typer.Option(min=0, help="What a replica costs there an hour, in your money; 0: not counted."),
]
RequestPrice = Annotated[
    float | None,
    typer.Option("--price-per-1000", min=0, help="What 1000 requests cost there, instead or besides; 0: not counted."),
]


@app.command()
def attach(
    name: Name,
    docker: Annotated[
        str | None,
        typer.Option(help="A container engine: unix:///var/run/docker.sock, ssh://user@host, tcp://host:2376."),
    ] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="A Kubernetes cluster: a file of the fleet server that reaches it.")
    ] = None,
    address: Annotated[
        str, typer.Option(help="Name or address of the host or the nodes, as clients find them; an Ingress's pattern.")
    ] = "",
    gateway_image: Annotated[str, typer.Option(help="The gateway's image there.")] = GATEWAY_IMAGE,
    bind: Annotated[str, typer.Option(help="For --docker: the host's address at which endpoints listen.")] = "",
    region: Annotated[
        str, typer.Option(help="Where it is (eu-west, berlin): modules say to which regions their data may go.")
    ] = "",
    batch_place: Annotated[
        list[str] | None,
        typer.Option(
            help="For batch jobs: folder or volume of the host, claim or CLAIM/FOLDER of the cluster; may be repeated."
        ),
    ] = None,
    ca: Annotated[Path | None, typer.Option(help="For tcp://: whom to trust; a file of the fleet server.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="For tcp://: the fleet server's certificate there.")] = None,
    key: Annotated[Path | None, typer.Option(help="For tcp://: the certificate's key there.")] = None,
    price_per_hour: Price = None,
    price_per_1000: RequestPrice = None,
    namespace: Annotated[
        str | None, typer.Option(help="For a cluster: where endpoints live. Without --kubeconfig: of the server's own.")
    ] = None,
    context: Annotated[str, typer.Option(help="For --kubeconfig: which of its contexts (its current one).")] = "",
    registry: Annotated[
        str, typer.Option(help="For a cluster: host/repository of modules' images; without, each node has them.")
    ] = "",
    pull_secret: Annotated[str, typer.Option(help="For a cluster: the Secret there that lets nodes pull.")] = "",
    expose: Annotated[
        Literal["ClusterIP", "NodePort", "LoadBalancer", "Ingress", "Gateway"] | None,
        typer.Option(help="For a cluster: how clients reach an endpoint (ClusterIP)."),
    ] = None,
    ingress_class: Annotated[str, typer.Option(help="For an Ingress: its class.")] = "",
    tls_secret: Annotated[str, typer.Option(help="For an Ingress: the Secret there with its certificate.")] = "",
    gateway: Annotated[
        str, typer.Option(help="For a cluster: a Gateway that exposes endpoints, as NAMESPACE/NAME; it has the TLS.")
    ] = "",
    gateway_listener: Annotated[str, typer.Option(help="For a Gateway: the listener that is meant (any).")] = "",
    content_url: Annotated[
        str, typer.Option(help="For a cluster: the fleet server's address as pods reach it (as this command does).")
    ] = "",
    content_ca: Annotated[
        str, typer.Option(help="Whom pods trust for it: a file of the fleet server, or system (the fleet's authority).")
    ] = "",
    node_selector: Annotated[
        list[str] | None, typer.Option(help="For a cluster: label=value of nodes; may be repeated.")
    ] = None,
    tolerate: Annotated[
        list[str] | None, typer.Option(help="For a cluster: key or key=value of a taint; may be repeated.")
    ] = None,
    runtime_class: Annotated[str, typer.Option(help="For a cluster: the pods' RuntimeClass.")] = "",
    platform: Annotated[Literal["linux/amd64", "linux/arm64"] | None, typer.Option(help="Of the nodes.")] = None,
    accelerator: Annotated[Literal["cpu", "nvidia"] | None, typer.Option(help="Of the nodes (cpu).")] = None,
    *,
    gateway_plain: Annotated[bool, typer.Option("--gateway-plain", help="For a Gateway: it speaks no TLS.")] = False,
    as_json: Json = False,
) -> None:
    """Attach a container host or a namespace of a cluster, if it has what endpoints need; or change how it is reached.

    A cluster needs deploy/kubernetes/rbac.yaml first.
    """
    files = {"ca": ca, "certificate": certificate, "key": key}
    host = {"bind": bind} | {option: str(file) for option, file in files.items() if file}
    cluster: dict[str, Any] = {
        "kubeconfig": str(kubeconfig or ""), "context": context, "registry": registry,
        "image_pull_secret": pull_secret, "expose": "Gateway" if gateway else expose,
        "ingress_class": ingress_class, "tls_secret": tls_secret,
        "gateway": gateway, "gateway_listener": gateway_listener, "gateway_plain": gateway_plain,
        "content_url": content_url, "content_ca": content_ca, "runtime_class": runtime_class, "platform": platform,
        "accelerator": accelerator, "node_selector": arguments.pairs(node_selector or (), option="--node-selector"),
        "tolerations": [_toleration(one) for one in tolerate or ()],
    }  # fmt: skip
    if (docker is None) == (namespace is None):
        raise Invalid("one place is needed", element="target", remedy="say --docker, or --namespace of a cluster")
    foreign = cluster if docker is not None else host
    if said := [f"--{option.replace('_', '-')}" for option, value in foreign.items() if value]:
        raise Invalid("this is for another kind of target", element=", ".join(said), remedy="leave it out")
    known = config.load()
    if docker is not None:
        kind, attached = "container", host | {"docker": docker, "bind": bind or LOOPBACK}
        attached |= {"name": address or bind or LOOPBACK}
    else:
        kind, attached = "kubernetes", cluster | {"namespace": namespace, "name": address}
        attached |= {"images": "registry" if registry else "present", "content_url": content_url or known.url}
    attached = {option: value for option, value in attached.items() if value}
    attached |= {"gateway_image": gateway_image, "region": region, "batch_places": ",".join(batch_place or ())}
    with Fleet(known) as fleet:
        done = fleet.attach_target(slug(name, what="target"), kind, attached)
        if prices := _prices(price_per_hour, price_per_1000):
            done |= fleet.answer("PATCH", f"targets/{name}", prices)
    said_of_it = done["is"]
    Screen(as_json=as_json).show(
        done, lambda it: it.say(f"{name} is attached: {said_of_it['engine']} on {said_of_it['platform']}")
    )


def _toleration(text: str) -> dict[str, str]:
    key, equal, value = text.partition("=")
    return {"key": key, "operator": "Equal", "value": value} if equal else {"key": key, "operator": "Exists"}


def _prices(per_hour: float | None, per_1000: float | None) -> dict[str, float]:
    said = {"price_per_hour": per_hour, "price_per_1000": per_1000}
    return {name: price for name, price in said.items() if price is not None}


@app.command("set")
def change(
    name: Name,
    price_per_hour: Price = None,
    price_per_1000: RequestPrice = None,
    team_cpu: Annotated[float | None, typer.Option(help="CPUs that each team may have there; 0: any.", min=0)] = None,
    team_memory: Annotated[
        str | None, typer.Option(help="Memory that each team may have there (4Gi, 512Mi); 0: any.")
    ] = None,
    team_replicas: Annotated[
        int | None, typer.Option(help="Replicas that each team may have there; 0: any.", min=0)
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Say what a target costs, or bound what each team may have there, of endpoints and batch jobs together.

    Of the bounds, what is not said beside one that is said is not bounded. Beyond them a team's deployments, changes,
    scaling and batch jobs are refused; what is there already stays. A price that is not said stays.
    """
    prices = _prices(price_per_hour, price_per_1000)
    bounds = (team_cpu, team_memory, team_replicas)
    if not prices and bounds == (None, None, None):
        raise Invalid("nothing is to be changed", element="targets set", remedy="say a price or a bound")
    target, done = slug(name, what="target"), dict[str, Any]()
    memory_mb = arguments.mebibytes(team_memory or "0", option="--team-memory")
    with Fleet(config.load()) as fleet:
        if prices:
            done |= fleet.answer("PATCH", f"targets/{target}", prices)
        if bounds != (None, None, None):
            done |= fleet.bound_target(
                target, {"cpu": team_cpu or 0.0, "memory_mb": memory_mb, "replicas": team_replicas or 0}
            )
    Screen(as_json=as_json).show(done, lambda it: it.say(f"{name} is changed"))


@app.command("list")
def list_targets(*, as_json: Json = False) -> None:
    """List the targets."""
    with Fleet(config.load()) as fleet:
        found = fleet.targets()
    shown = ("name", "kind", "region", "state", "endpoints", "at", "trouble")
    rows = [tuple(one.get(column, "") for column in shown) for one in found]
    Screen(as_json=as_json).show(
        found,
        lambda it: it.table(
            ("TARGET", "KIND", "REGION", "STATE", "ENDPOINTS", "REACHED AT", "TROUBLE"),
            rows,
            empty="No targets: edgefleet targets attach",
        ),
    )


@app.command()
def check(name: Name, *, as_json: Json = False) -> None:
    """Say whether a target answers now, and what it is."""
    with Fleet(config.load()) as fleet:
        said = fleet.check_target(slug(name, what="target"))
    Screen(as_json=as_json).show(said, lambda it: it.fields(list(said.items())))


@app.command()
def detach(
    name: Name,
    *,
    abandon: Annotated[
        bool, typer.Option("--abandon", help="With its endpoints, of a place that will never answer again.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Let a target go that has no endpoints."""
    with Fleet(config.load()) as fleet:
        done = fleet.detach_target(slug(name, what="target"), abandon=abandon)
    Screen(as_json=as_json).show(done, lambda it: it.say(f"{name} is detached"))
