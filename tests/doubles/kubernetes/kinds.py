"""The resources that the double serves, under the names that the real API server gives them (Kubernetes 1.34)."""

import msgspec

from tests.doubles.kubernetes import gateway_api

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """``definition`` names its schema; ``verbs`` without any but ``create`` is a review, of which nothing is kept."""

    group: str
    version: str
    name: str
    plural: str
    definition: str
    namespaced: bool = True
    short: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ("status",)
    verbs: tuple[str, ...] = ALL_VERBS

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """As it stands in messages: ``deployments.apps``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def dotted(self) -> str:
        """As it stands before "is invalid": ``Deployment.apps``."""
        return f"{self.name}.{self.group}" if self.group else self.name

    @property
    def kept(self) -> bool:
        return self.verbs != ("create",)


def _core(name: str, plural: str, **others) -> Kind:
    return Kind(
        group="",
        version="v1",
        name=name,
        plural=plural,
        definition=f"io.k8s.api.core.v1.{name}",
        **({"subresources": ()} | others),
    )


def _grouped(group: str, name: str, plural: str, version: str = "v1", **others) -> Kind:
    definition = f"io.k8s.api.{group.split('.', maxsplit=1)[0]}.{version}.{name}"
    return Kind(group=group, version=version, name=name, plural=plural, definition=definition, **others)


_RBAC, _AUTHORIZATION, _NETWORK = "rbac.authorization.k8s.io", "authorization.k8s.io", "networking.k8s.io"
_REVIEW = {"verbs": ("create",), "subresources": ()}

NAMESPACE = _core("Namespace", "namespaces", namespaced=False, short=("ns",), subresources=("finalize", "status"))
NODE = _core("Node", "nodes", namespaced=False, short=("no",), subresources=("status",))
POD = _core("Pod", "pods", short=("po",), subresources=("log", "proxy", "status"))
SERVICE = _core("Service", "services", short=("svc",), subresources=("status",))
ENDPOINTS = _core("Endpoints", "endpoints", short=("ep",))
SECRET = _core("Secret", "secrets")
CONFIG_MAP = _core("ConfigMap", "configmaps", short=("cm",))
SERVICE_ACCOUNT = _core("ServiceAccount", "serviceaccounts", short=("sa",))
CLAIM = _core("PersistentVolumeClaim", "persistentvolumeclaims", short=("pvc",), subresources=("status",))
EVENT = _core("Event", "events", short=("ev",))
DEPLOYMENT = _grouped("apps", "Deployment", "deployments", short=("deploy",), subresources=("scale", "status"))
REPLICA_SET = _grouped("apps", "ReplicaSet", "replicasets", short=("rs",), subresources=("scale", "status"))
JOB = _grouped("batch", "Job", "jobs")
AUTOSCALER = _grouped("autoscaling", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "v2", short=("hpa",))
BUDGET = _grouped("policy", "PodDisruptionBudget", "poddisruptionbudgets", short=("pdb",))
NETWORK_POLICY = _grouped(_NETWORK, "NetworkPolicy", "networkpolicies", short=("netpol",), subresources=())
INGRESS = _grouped(_NETWORK, "Ingress", "ingresses", short=("ing",))
ENDPOINT_SLICE = _grouped("discovery.k8s.io", "EndpointSlice", "endpointslices", subresources=())
LEASE = _grouped("coordination.k8s.io", "Lease", "leases", subresources=())
ROLE = _grouped(_RBAC, "Role", "roles", subresources=())
ROLE_BINDING = _grouped(_RBAC, "RoleBinding", "rolebindings", subresources=())
CLUSTER_ROLE = _grouped(_RBAC, "ClusterRole", "clusterroles", namespaced=False, subresources=())
CLUSTER_ROLE_BINDING = _grouped(_RBAC, "ClusterRoleBinding", "clusterrolebindings", namespaced=False, subresources=())
SELF_ACCESS = _grouped(
    _AUTHORIZATION, "SelfSubjectAccessReview", "selfsubjectaccessreviews", namespaced=False, **_REVIEW
)
SELF_RULES = _grouped(_AUTHORIZATION, "SelfSubjectRulesReview", "selfsubjectrulesreviews", namespaced=False, **_REVIEW)

HTTP_ROUTE = Kind(
    group="gateway.networking.k8s.io", version="v1", name="HTTPRoute", plural="httproutes", definition=gateway_api.ROUTE
)

KINDS: tuple[Kind, ...] = (
    *(NAMESPACE, NODE, POD, SERVICE, ENDPOINTS, SECRET, CONFIG_MAP, SERVICE_ACCOUNT, EVENT, DEPLOYMENT, REPLICA_SET),
    *(JOB, AUTOSCALER, BUDGET, NETWORK_POLICY, INGRESS, ENDPOINT_SLICE, LEASE, ROLE, ROLE_BINDING, CLUSTER_ROLE),
    *(CLAIM, CLUSTER_ROLE_BINDING, SELF_ACCESS, SELF_RULES, HTTP_ROUTE),
)
_BY_PATH = {(kind.group, kind.version, kind.plural): kind for kind in KINDS}
_BY_NAME = {kind.name: kind for kind in KINDS}


def at_path(group: str, version: str, plural: str) -> Kind | None:
    return _BY_PATH.get((group, version, plural))


def of(name: str | Kind) -> Kind:
    """By the name of its kind, its plural, or as ``apiVersion Kind``; a KeyError says that the double has none."""
    if isinstance(name, Kind):
        return name
    for kind in KINDS:
        if name in {kind.name, kind.plural, *kind.short}:
            return kind
    raise KeyError(name)


def find(api_version: str, name: str) -> Kind | None:
    kind = _BY_NAME.get(name)
    return kind if kind and kind.api_version == api_version else None
