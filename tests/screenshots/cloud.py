"""Where the showcase's endpoint lives: a simulated cluster, to which the server really speaks; its pods run nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from fleet.targets.kubernetes import rights
from tests.doubles.kubernetes.cluster import ClusterDouble

_NAMESPACE: Final = "models"
# The cluster's controllers look so often.
_EVERY_S: Final = 0.2


@contextmanager
def cluster() -> Iterator[dict[str, Any]]:
    """What the API is told to attach it; the cluster runs until the end of the context."""
    with ClusterDouble() as made:
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        made.make({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _NAMESPACE, "labels": labels}})
        (role,) = (one for one in rights.manifest(_NAMESPACE) if one["kind"] == "Role")
        attached = {
            "namespace": _NAMESPACE,
            "kubeconfig": str(made.account("edgefleet", role["rules"], _NAMESPACE)),
            "registry": "registry.example/models",
            "expose": "NodePort",
            "name": "models.example",
            "content_url": "https://fleet.example:8443",
            "region": "eu-north",
        }
        with made.automatic(_EVERY_S):
            yield {"kind": "kubernetes", "attached": attached}
