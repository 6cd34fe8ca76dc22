"""A cluster, and the official client that speaks to it; its controllers are stepped by the tests."""

import copy
import functools

import kubernetes
import pytest
from kubernetes.client import ApiException
from kubernetes.dynamic import DynamicClient

from tests.doubles.kubernetes import kinds
from tests.doubles.kubernetes.cluster import ClusterDouble

_DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "labels": {"app": "web"}},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "containers": [
                    {
                        "name": "main",
                        "image": "registry.example/web:1",
                        "ports": [{"containerPort": 8080}],
                        "readinessProbe": {"httpGet": {"port": 8080, "path": "/ready"}},
                    }
                ]
            },
        },
    },
}
_JOB = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "batch"},
    "spec": {
        "template": {
            "spec": {"restartPolicy": "Never", "containers": [{"name": "work", "image": "registry.example/work:1"}]}
        }
    },
}


class Client:
    """The official client with one kubeconfig; ``refused`` gives what a call is refused with."""

    def __init__(self, kubeconfig):
        self.api = kubernetes.config.new_client_from_config(str(kubeconfig))
        self.core = kubernetes.client.CoreV1Api(self.api)
        self.apps = kubernetes.client.AppsV1Api(self.api)
        self.batch = kubernetes.client.BatchV1Api(self.api)
        self._discovered = f"{kubeconfig}.discovery"

    @functools.cached_property
    def dynamic(self):
        return DynamicClient(self.api, cache_file=self._discovered)

    def of(self, kind):
        """Any kind, found by discovery."""
        known = kinds.of(kind)
        return self.dynamic.resources.get(api_version=known.api_version, kind=known.name)

    def apply(self, body, *, manager="ours", force=False, namespace="default"):
        """Server-side apply; what comes back, as a dictionary."""
        resource = self.of(body["kind"])
        made = resource.server_side_apply(
            body, body["metadata"]["name"], namespace, field_manager=manager, force_conflicts=force
        )
        return made.to_dict()

    def create(self, body, namespace="default"):
        return self.of(body["kind"]).create(body, namespace=namespace).to_dict()


@pytest.fixture
def cluster():
    with ClusterDouble() as double:
        yield double


@pytest.fixture
def connect():
    """A client for a kubeconfig, closed after the test."""
    made = []

    def connected(kubeconfig):
        made.append(Client(kubeconfig))
        return made[-1]

    yield connected
    for client in made:
        client.api.close()


@pytest.fixture
def client(cluster, connect):
    return connect(cluster.kubeconfig)


@pytest.fixture
def deployment():
    """A whole one, to be changed: ``container`` and ``spec`` are put over its own."""

    def made(container=None, **spec):
        body = copy.deepcopy(_DEPLOYMENT)
        body["spec"] |= spec
        body["spec"]["template"]["spec"]["containers"][0] |= container or {}
        return body

    return made


@pytest.fixture
def job():
    def made(**spec):
        body = copy.deepcopy(_JOB)
        body["spec"] |= spec
        return body

    return made


@pytest.fixture
def refused():
    """What a call is refused with: the code, and the Status object."""

    def called(call, *args, **options):
        with pytest.raises(ApiException) as caught:
            call(*args, **options)
        return caught.value

    return called
