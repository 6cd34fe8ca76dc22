"""Replicas by hand and by load, the addresses behind a Service, and how many pods may go."""

import pytest

# The simulated controllers change seldom; whoever changes them runs these.
pytestmark = pytest.mark.long


def scaler(**spec):
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web"},
        "spec": {"scaleTargetRef": reference, "minReplicas": 2, "maxReplicas": 5} | spec,
    }


def conditions(cluster):
    listed = cluster.object("HorizontalPodAutoscaler", "web")["status"]["conditions"]
    return {one["type"]: (one["status"], one["reason"]) for one in listed}


def replicas(cluster):
    return cluster.object("Deployment", "web")["spec"]["replicas"]


@pytest.fixture
def web(cluster, client, deployment):
    """A Deployment that leaves its replicas to the autoscaler."""
    body = deployment({"resources": {"requests": {"cpu": "100m"}}})
    del body["spec"]["replicas"]
    client.apply(body)
    return body


def test_without_metrics_only_the_bounds_hold(cluster, client, web):
    """A plain cluster has no metrics-server: the autoscaler says so, and still keeps the minimum."""
    client.apply(scaler())
    cluster.settle()

    assert replicas(cluster) == 2
    assert conditions(cluster)["ScalingActive"] == ("False", "FailedGetResourceMetric")
    assert conditions(cluster)["AbleToScale"][0] == "True"


def test_it_follows_the_load(cluster, client, web):
    """Up at once, no further than the maximum; down after the window; and it owns replicas by the scale."""
    client.apply(scaler())
    cluster.settle()
    cluster.load("web", cpu=160)
    cluster.step()
    up = replicas(cluster)
    cluster.load("web", cpu=400)
    cluster.step(2)
    most = (replicas(cluster), conditions(cluster)["ScalingLimited"])
    cluster.load("web", cpu=10)
    cluster.step(10)
    held = replicas(cluster)
    cluster.step(10, seconds=60)

    assert (up, most, held, replicas(cluster)) == (4, (5, ("True", "TooManyReplicas")), 5, 2)
    entries = cluster.object("Deployment", "web")["metadata"]["managedFields"]
    assert ("kube-controller-manager", "scale") in {(one["manager"], one.get("subresource")) for one in entries}
    version = cluster.object("Deployment", "web")["metadata"]["resourceVersion"]
    assert client.apply(web)["metadata"]["resourceVersion"] == version


def test_a_share_of_nothing_cannot_be_measured(cluster, client, deployment):
    """Without a request there is no utilisation, and the condition names the container."""
    client.apply(deployment(replicas=2))
    client.apply(scaler())
    cluster.load("web", cpu=200)
    cluster.settle()

    message = str(cluster.object("HorizontalPodAutoscaler", "web")["status"])
    assert "missing request for cpu in container main" in message
    assert replicas(cluster) == 2


def test_the_target_may_be_missing(cluster, client):
    """It is said in the autoscaler's condition."""
    client.apply(scaler())
    cluster.step()

    assert conditions(cluster)["AbleToScale"] == ("False", "FailedGetScale")


def test_scaled_by_hand(cluster, client, deployment):
    """The scale subresource reads and writes replicas, and nothing else."""
    client.apply(deployment())
    cluster.settle()
    client.apps.patch_namespaced_deployment_scale("web", "default", {"spec": {"replicas": 4}})
    cluster.settle()

    scale = client.apps.read_namespaced_deployment_scale("web", "default")
    assert (scale.spec.replicas, scale.status.replicas, scale.status.selector) == (4, 4, "app=web")
    assert len(cluster.objects("Pod")) == 4


def test_a_service_leads_to_ready_pods_only(cluster, client, deployment):
    """Addresses of pods that are ready; those that are not stand apart, and a named port is looked up."""
    body = deployment({"ports": [{"containerPort": 8080, "name": "http"}]})
    client.apply(body)
    ports = [{"port": 80, "targetPort": "http"}]
    client.create(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": ports},
        }
    )
    cluster.settle()
    ready = client.core.read_namespaced_endpoints("web", "default").subsets[0]
    cluster.images.never_ready()
    cluster.settle()
    waiting = client.core.read_namespaced_endpoints("web", "default").subsets[0]

    pods = {one["status"]["podIP"] for one in cluster.objects("Pod")}
    assert {one.ip for one in ready.addresses} == {one.ip for one in waiting.not_ready_addresses} == pods
    assert (ready.not_ready_addresses, waiting.addresses) == (None, None)
    assert ready.ports[0].port == 8080
    (part,) = cluster.objects("EndpointSlice")
    assert part["metadata"]["labels"]["kubernetes.io/service-name"] == "web"
    assert [one["conditions"]["ready"] for one in part["endpoints"]] == [False, False]


def test_a_budget_counts(cluster, client, deployment):
    """How many pods may be disrupted: none while too few are healthy."""
    client.apply(deployment())
    selector = {"matchLabels": {"app": "web"}}
    body = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"}}
    client.apply(body | {"spec": {"minAvailable": 1, "selector": selector}})
    cluster.step()
    early = cluster.object("PodDisruptionBudget", "web")["status"]
    cluster.settle()
    late = cluster.object("PodDisruptionBudget", "web")["status"]

    assert (early["disruptionsAllowed"], early["currentHealthy"]) == (0, 0)
    assert (late["disruptionsAllowed"], late["currentHealthy"], late["expectedPods"]) == (1, 2, 2)
