"""How a namespace is reached, where its images come from, and how its endpoints are exposed: what an operator says."""

import re
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from fleet.targets.settings import Settings, only_on_a_host
from modules.bounds import Region
from modules.errors import Invalid
from modules.images import GATEWAY_IMAGE

File = Annotated[str, msgspec.Meta(pattern=r"^(/[^\x00-\x1f]{1,1000})?\Z")]
Authorities = Annotated[str, msgspec.Meta(pattern=r"^(system|/[^\x00-\x1f]{1,1000})?\Z")]
DnsName = Annotated[str, msgspec.Meta(pattern=r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?\Z")]
Namespace = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")]
Words = Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f]{0,300}\Z")]
Image = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,400}\Z")]
Prefix = Annotated[str, msgspec.Meta(pattern=r"^([a-z0-9][a-z0-9.-]{0,250}(:[0-9]{1,5})?(/[a-z0-9][a-z0-9._-]*)+)?\Z")]
GatewayName = Annotated[
    str, msgspec.Meta(pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?\Z")
]
Key = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,250}[A-Za-z0-9])?\Z")]
Value = Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?\Z")]

#: what stands before the gateways ends TLS, and tells endpoints apart by their host names
BY_HOST: Final = frozenset({"Ingress", "Gateway"})
#: for content_ca: the authorities that the gateway's image trusts
SYSTEM: Final = "system"
_HOST: Final = re.compile(r"(?:[a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_PLACE: Final = "{endpoint}"
_CLAIM: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(/[A-Za-z0-9_][A-Za-z0-9_. -]{0,200})*")


class Toleration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A taint of nodes that does not keep replicas away, in the cluster's own words."""

    key: Key | msgspec.UnsetType = msgspec.UNSET
    operator: Literal["Equal", "Exists"] = "Equal"
    value: Value | msgspec.UnsetType = msgspec.UNSET
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | msgspec.UnsetType = msgspec.UNSET


class Attached(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A namespace of a cluster.

    ``kubeconfig`` is a file of the fleet server, of which ``context`` is used (empty: its current one); empty: the
    server itself is a pod there, with a service account. ``images`` is where nodes find images: in a ``registry``, by
    digest, of this host and repository; or ``present``, put on each node by hand. ``expose`` says how clients
    reach an endpoint; ``name`` is what they find the nodes by (NodePort), or the pattern of host names (Ingress,
    Gateway), as ``{endpoint}.models.example``; ``ingress_class`` and ``tls_secret`` are the Ingress's. ``gateway`` is a
    Gateway of the cluster, as NAMESPACE/NAME, ``gateway_listener`` the one of its listeners that is meant (empty: any);
    ``gateway_plain`` says that this speaks no TLS. Pods run on nodes of
    ``platform``, with an accelerator of this kind where a module has a runtime for it. ``content_url`` is the fleet
    server's address as pods reach it, ``content_ca`` a file of the authorities that they trust for it (empty: the
    fleet's own). ``engine`` is the namespace's own id, so that another one is never taken for it.
    ``region`` is where it is, by which modules say whether their data may go there.
    ``batch_places`` are persistent volume claims there, or ``CLAIM/FOLDER``, that batch jobs may use, with commas
    between.
    """

    namespace: Namespace
    kubeconfig: File = ""
    context: Words = ""
    images: Literal["registry", "present"] = "registry"
    registry: Prefix = ""
    image_pull_secret: DnsName = ""
    gateway_image: Image = GATEWAY_IMAGE
    expose: Literal["ClusterIP", "NodePort", "LoadBalancer", "Ingress", "Gateway"] = "ClusterIP"
    name: Words = ""
    ingress_class: DnsName = ""
    tls_secret: DnsName = ""
    gateway: GatewayName = ""
    gateway_listener: DnsName = ""
    gateway_plain: bool = False
    node_selector: Annotated[dict[Key, Value], msgspec.Meta(max_length=16)] = {}
    tolerations: Annotated[tuple[Toleration, ...], msgspec.Meta(max_length=16)] = ()
    runtime_class: DnsName = ""
    platform: Literal["linux/amd64", "linux/arm64"] = "linux/amd64"
    accelerator: Literal["cpu", "nvidia"] = "cpu"
    content_url: Words
    content_ca: Authorities = ""
    engine: str = ""
    region: Region = ""
    batch_places: Annotated[str, msgspec.Meta(max_length=4000)] = ""


def check(attached: Attached) -> None:
    """Whether what was said belongs together.

    Raises:
        Invalid: it does not.
    """
    if attached.images == "registry" and not attached.registry:
        raise Invalid(
            "nodes need a registry to pull images from", element="registry",
            remedy="give its host and prefix; or images: present, if they are put on each node",
        )  # fmt: skip
    if attached.expose == "NodePort" and not _HOST.fullmatch(attached.name.lower()):
        raise Invalid(
            "a node's name or address is missing", element="name", remedy="give what clients find the nodes by"
        )
    host = attached.name.replace(_PLACE, "x")
    if attached.expose in BY_HOST and (attached.name.count(_PLACE) > 1 or not _HOST.fullmatch(host)):
        raise Invalid(
            f"{attached.name[:100]!r} is no pattern of host names", element="name",
            remedy=f"write a name with {_PLACE} in it, as {_PLACE}.models.example",
        )  # fmt: skip
    if attached.expose != "Ingress" and (attached.tls_secret or attached.ingress_class):
        raise Invalid("this is for an Ingress alone", element="tls_secret, ingress_class", remedy="expose: Ingress")
    for place in places(attached):
        if not _CLAIM.fullmatch(place):
            raise Invalid(
                f"{place[:100]!r} is no claim, nor a folder of one", element="batch_places",
                remedy="write a persistent volume claim's name, or CLAIM/FOLDER, commas between",
            )  # fmt: skip
    if (attached.expose == "Gateway") != bool(attached.gateway):
        raise Invalid(
            "a Gateway needs its name, and its name a Gateway", element="gateway",
            remedy="write NAMESPACE/NAME of it, with expose: Gateway",
        )  # fmt: skip
    if not attached.gateway and (attached.gateway_listener or attached.gateway_plain):
        raise Invalid("this is for a Gateway alone", element="gateway_listener, gateway_plain", remedy="leave it out")
    address(attached)


def places(attached: Attached) -> tuple[str, ...]:
    """Where batch jobs may find their inputs and leave their answers."""
    return tuple(filter(None, attached.batch_places.split(",")))


def address(attached: Attached) -> tuple[str, int]:
    """The host and the port of the fleet server as pods reach it.

    Raises:
        Invalid: the content's URL is none.
    """
    try:
        url = urlsplit(attached.content_url)
        host, port = url.hostname, url.port or 443
    except ValueError:
        url, host, port = urlsplit(""), None, 0
    if url.scheme != "https" or not host or url.username is not None or url.query or url.fragment:
        raise Invalid(
            f"{attached.content_url[:100]!r} is not the fleet server's address",
            element="content_url",
            remedy="write https://HOST[:PORT], as pods reach it",
        )
    return host, port


def suits(attached: Attached, settings: Settings) -> None:
    """Whether an endpoint can have these settings here.

    Raises:
        Invalid: one of them has no meaning here, or contradicts how the target was attached.
    """
    if settings.namespace not in {"", attached.namespace}:
        raise Invalid(
            f"endpoints of this target live in the namespace {attached.namespace}",
            element="namespace",
            remedy="leave it out, or attach a target for that namespace",
        )
    if names := only_on_a_host(settings):
        raise Invalid(
            "only a container host does this; a cluster has probe_period_s, probe_timeout_s and probe_failures",
            element=", ".join(names),
            remedy="leave it out, or choose another target",
        )
    if settings.port and attached.expose != "NodePort":
        raise Invalid(
            f"endpoints of this target are exposed by {attached.expose}, which has its own port",
            element="port",
            remedy="leave it out",
        )
    if settings.certificate and attached.expose == "Gateway":
        raise Invalid(
            "the Gateway ends TLS, with the certificate of its listener",
            element="certificate",
            remedy="leave it out, and give the listener the certificate",
        )
    if settings.devices and attached.expose in BY_HOST:
        raise Invalid(
            f"the {attached.expose} ends TLS, so devices cannot show their certificates to the gateway",
            element="devices",
            remedy="attach a target that exposes endpoints by NodePort or LoadBalancer",
        )
    if settings.devices and not (settings.host_name or attached.name):
        raise Invalid(
            "devices have to know under which name they ask", element="host_name", remedy="say a name that leads there"
        )


def host_of(attached: Attached, endpoint: str, settings: Settings) -> str:
    """The host name of an endpoint behind an Ingress or a Gateway."""
    return settings.host_name.lower() or attached.name.replace(_PLACE, endpoint)


def at(attached: Attached) -> str:
    """Where it is, for people."""
    return f"{attached.namespace} of {attached.context or attached.kubeconfig or 'the own cluster'}"


def tolerations(attached: Attached) -> list[dict[str, Any]]:
    return [msgspec.to_builtins(one) for one in attached.tolerations]
