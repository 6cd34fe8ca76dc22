"""A double of a Kubernetes cluster (1.34): its API server over real HTTPS, and its controllers in steps.

    with ClusterDouble() as cluster:
        api = kubernetes.config.new_client_from_config(str(cluster.kubeconfig))
        ...
        cluster.images.broken("registry.example/model*")
        cluster.settle()
        assert cluster.objects("Pod")

PyPI's kmock was looked at first: it keeps objects and serves lists and watches, but merges every patch as plain JSON
(no server-side apply, no managed fields), validates and defaults nothing, and knows neither selectors nor who asks; it
says so itself. What a target for Kubernetes gets wrong lies in just that.
"""

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from tests.doubles.kubernetes import deployments, garbage, kinds, replica_sets, scheduler, services
from tests.doubles.kubernetes.access import MASTERS, Access, User
from tests.doubles.kubernetes.api import Api
from tests.doubles.kubernetes.autoscaling import Autoscalers
from tests.doubles.kubernetes.credentials import Authority
from tests.doubles.kubernetes.faults import Faults
from tests.doubles.kubernetes.images import Images
from tests.doubles.kubernetes.jobs import Jobs
from tests.doubles.kubernetes.kinds import Kind
from tests.doubles.kubernetes.kubelet import Kubelet
from tests.doubles.kubernetes.logs import Logs
from tests.doubles.kubernetes.managed import Writer
from tests.doubles.kubernetes.proxying import Proxying
from tests.doubles.kubernetes.routes import Routes
from tests.doubles.kubernetes.server import Asked, Server
from tests.doubles.kubernetes.store import Store
from tests.doubles.kubernetes.watches import Reading
from tests.doubles.kubernetes.world import KUBELET, Thing, World

_SYSTEM = Writer("kube-apiserver")
_MACHINE = {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}


class ClusterDouble:
    """``kubeconfig`` is an administrator's, with a client certificate; ``account`` makes others, with less rights.

    ``images`` says how containers behave, ``faults`` what goes wrong with requests, ``proxying`` where pods' programs
    really listen. Nothing moves unless ``step`` or ``settle`` is called, or ``automatic`` runs.
    """

    def __init__(self, *, nodes: int = 3, node: dict[str, str] | None = None, namespaces: tuple[str, ...] = ()) -> None:
        self.store = Store()
        self.api = Api(self.store)
        self.images = Images()
        self.logs = Logs(self.store.time)
        self.faults = Faults()
        self.access = Access(self.store)
        self.world = World(self.api, self.images, self.logs)
        self.kubelet = Kubelet(self.world)
        self.jobs = Jobs(self.world)
        self.autoscalers = Autoscalers(self.world)
        self._folder = Path(tempfile.mkdtemp(prefix="kubernetes-double-"))
        self.authority = Authority(self._folder)
        self.proxying = Proxying(self.store)
        reading = Reading(self.store, self.faults.over.is_set)
        routes = Routes(self.api, self.access, reading, self.logs, self.proxying)
        self.server = Server(routes, self.faults, self.authority)
        self.address = f"https://{self.server.address}"
        for name in ("default", "kube-system", *namespaces):
            self.make({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        for number in range(nodes):
            self.add_node(f"node-{number + 1}", node)
        garbage.step(self.world)
        certificate, key = self.authority.issue("kubernetes-admin", (MASTERS,))
        self.kubeconfig = self.authority.kubeconfig(
            "admin", self.address, {"client-certificate": str(certificate), "client-key": str(key)}
        )

    def __enter__(self) -> Self:
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.faults.over.set()
        with self.store.lock:
            self.store.changed.notify_all()
        self.server.stop()
        shutil.rmtree(self._folder)
        for error in self.server.errors:
            raise error

    def step(self, times: int = 1, seconds: float = 1.0) -> None:
        """Every controller looks once at what is there, and does one thing; so much time passes for each."""
        for _ in range(times):
            with self.store.lock:
                self.store.pass_time(seconds)
                garbage.step(self.world)
                deployments.step(self.world)
                replica_sets.step(self.world)
                self.jobs.step()
                scheduler.step(self.world)
                self.kubelet.step()
                services.step(self.world)
                self.autoscalers.step()

    def settle(self, most: int = 60, seconds: float = 1.0) -> int:
        """Steps until nothing but the clock moves; the number of steps, of which ``most`` is a failure."""
        for number in range(most):
            before = self._state()
            self.step(seconds=seconds)
            if self._state() == before:
                return number
        raise AssertionError(f"the cluster still moves after {most} steps")

    @contextlib.contextmanager
    def automatic(self, every: float = 0.02, seconds: float = 1.0) -> Iterator[None]:
        """Steps in a thread for as long as the block, ``seconds`` of the cluster's time for ``every`` real one."""
        over, failures = threading.Event(), []

        def run() -> None:
            while not over.wait(every):
                try:
                    self.step(seconds=seconds)
                except BaseException as error:  # noqa: BLE001 - raised again below
                    failures.append(error)
                    return

        thread = threading.Thread(target=run, name="kubernetes controllers")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        for error in failures:
            raise error

    def objects(self, kind: str | Kind, namespace: str = "", **labels: str) -> list[Thing]:
        """What is there, as the API would show it."""
        found = self.store.all(kinds.of(kind), namespace)
        return [one for one in found if labels.items() <= one["metadata"].get("labels", {}).items()]

    def object(self, kind: str | Kind, name: str, namespace: str = "default") -> Thing | None:
        return self.store.get(kinds.of(kind), namespace, name)

    def make(self, thing: Thing) -> Thing:
        """As an administrator would with kubectl create."""
        kind = kinds.of(thing["kind"])
        return self.api.create(
            kind, thing.get("metadata", {}).get("namespace", "default" if kind.namespaced else ""), thing, _SYSTEM
        )

    def add_node(self, name: str, capacity: dict[str, str] | None = None, **spec: Any) -> None:
        """``capacity`` adds to 4 CPUs, 16 GiB and 110 pods."""
        amounts = {"cpu": "4", "memory": "16Gi", "ephemeral-storage": "100Gi", "pods": "110"} | (capacity or {})
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "message": "kubelet is posting ready status",
        }
        times = {"lastHeartbeatTime": self.store.time(), "lastTransitionTime": self.store.time()}
        self.make(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name} | _MACHINE},
                "spec": spec,
                "status": {"allocatable": amounts, "capacity": amounts, "conditions": [ready | times]},
            }
        )

    def account(self, name: str, rules: list[Thing] | None, namespace: str = "default") -> Path:
        """A kubeconfig of a service account that may do what the rules of a Role say, and nothing else."""
        common = {"name": name, "namespace": namespace}
        group, subject = "rbac.authorization.k8s.io", {"kind": "ServiceAccount", "name": name, "namespace": namespace}
        self.make({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": common})
        if rules is not None:
            self.make({"apiVersion": f"{group}/v1", "kind": "Role", "metadata": common, "rules": rules})
            reference = {"apiGroup": group, "kind": "Role", "name": name}
            binding = {"apiVersion": f"{group}/v1", "kind": "RoleBinding", "metadata": common}
            self.make(binding | {"subjects": [subject], "roleRef": reference})
        return self.authority.kubeconfig(
            f"{namespace}-{name}", self.address, {"token": self.token(name, namespace)}, namespace
        )

    def token(self, name: str, namespace: str = "default") -> str:
        """A bearer token of a service account."""
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        return self.access.token(User(f"system:serviceaccount:{namespace}:{name}", groups))

    def load(self, deployment: str, namespace: str = "default", **percent: float) -> None:
        """What its pods use of what they request, as metrics-server would say: ``cpu=90``."""
        self.autoscalers.loads[namespace, deployment] = percent

    def give_address(self, name: str, address: str, namespace: str = "default", kind: str = "Service") -> None:
        """What a cloud's load balancer or an ingress controller does, and a plain cluster never: it stays pending."""
        found = kinds.of(kind)
        thing = self.api.get(found, namespace, name)
        entry = {"ip": address} | ({"ipMode": "VIP"} if found is kinds.SERVICE else {})
        self.world.status(found, thing, {"loadBalancer": {"ingress": [entry]}})

    def quota(self, pods: int, namespace: str = "default") -> None:
        """How many pods there may be in a namespace, as a ResourceQuota says it."""
        self.api.quotas[namespace] = pods

    def evict(self, pod: str, why: str = "The node was low on resource: memory.", namespace: str = "default") -> None:
        """What a node under pressure does: the pod has failed, and stays to be read."""
        thing = self.api.get(kinds.POD, namespace, pod)
        ended = {"phase": "Failed", "reason": "Evicted", "message": why}
        self.world.status(kinds.POD, thing, thing["status"] | ended, KUBELET)

    def expire_history(self) -> None:
        """Whoever lists or watches from a version before now is told 410 Gone."""
        self.store.forget()

    @property
    def asked(self) -> list[Asked]:
        """Requests that were answered, oldest first."""
        return self.server.asked

    def _state(self) -> list[tuple[Kind, str]]:
        """Versions of all but events, which are counted for as long as something fails."""
        return [one for one in self.store.versions() if one[0] is not kinds.EVENT]
