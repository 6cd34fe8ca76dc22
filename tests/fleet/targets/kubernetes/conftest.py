"""A namespace of a cluster as a target, spoken to by the real client with no more rights than it is to have."""

import contextlib

import pytest

from fleet.targets.kubernetes import rights
from fleet.targets.kubernetes.attached import Attached
from fleet.targets.kubernetes.cluster import Namespace
from modules.protocol.content import Content
from tests.doubles.kubernetes.cluster import ClusterDouble

NAMESPACE = "models"
FLEET = "f" * 12
_PASSES = 12


class Contents:
    """Writes what pods are told; nobody reads it here. ``half`` is which half of a token's life it is."""

    half = 0

    def of(self, endpoint, token_secret, module, *, keys, url="", room_bytes=0):
        return Content(
            url=f"{url}/api/v1/content/{endpoint}/{module.digest}",
            ca="the fleet's own",
            token=f"token-of-half-{self.half}",
            module=str(module.manifest.ref),
            digest=module.digest,
            root=b"root",
            keys=keys,
            room_bytes=room_bytes,
        )

    def of_job(self, job, *, url="", room_bytes=0):
        return self.of(job.name, b"", job.module, keys=(f"key-of-the-job-{job.mark}",), url=url, room_bytes=room_bytes)


class Place:
    """The target, and the cluster behind it as a person with all rights sees it."""

    def __init__(self, cluster):
        self.cluster, self.contents = cluster, Contents()
        self.kubeconfig = cluster.account("edgefleet", role(), NAMESPACE)
        self._open = []
        self.target = self.attach()

    def attach(self, kubeconfig=None, fleet=FLEET, **more):
        known = {"namespace": NAMESPACE, "registry": "registry.example/models", "expose": "NodePort", "name": "node"}
        known |= {"content_url": "https://10.0.0.1:8443", "kubeconfig": str(kubeconfig or self.kubeconfig)}
        target = Namespace(Attached(**(known | more)), fleet=fleet, contents=self.contents)
        self._open.append(target)
        return target

    def close(self):
        for one in self._open:
            one.close()

    def settle(self, wish, target=None):
        """Passes, and the cluster's own work between them, until nothing is left to do."""
        target = target or self.target
        for _ in range(_PASSES):
            stands = target.bring(wish)
            self.cluster.settle()
            if stands.state == "ready" and target.bring(wish) == stands and self.cluster.settle() == 0:
                return stands
        raise AssertionError(f"not ready after {_PASSES} passes: {stands}")

    def of(self, kind, part="", namespace=NAMESPACE):
        found = self.cluster.objects(kind, namespace)
        return [
            one for one in found if not part or one["metadata"].get("labels", {}).get("edgefleet.cloud.part") == part
        ]

    def names(self, kind, part=""):
        return {one["metadata"]["name"] for one in self.of(kind, part)}

    def everything(self):
        """Whatever lies in the namespace, but for what the cluster and the operator have there, and events."""
        kinds = (*rights.OURS, "ReplicaSet", "Job", "Pod")
        found = {(kind, name) for kind in kinds for name in self.names(kind)}
        return found - {("ServiceAccount", "edgefleet"), ("ServiceAccount", "default")}

    @contextlib.contextmanager
    def asked(self):
        """The requests that are answered within, oldest first."""
        before, found = len(self.cluster.asked), []
        yield found
        found += self.cluster.asked[before:]


def role():
    (found,) = (one for one in rights.manifest(NAMESPACE) if one["kind"] == "Role")
    return found["rules"]


@pytest.fixture
def simulated():
    with ClusterDouble() as found:
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        found.make({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}})
        yield found


@pytest.fixture
def place(simulated):
    found = Place(simulated)
    yield found
    found.close()
