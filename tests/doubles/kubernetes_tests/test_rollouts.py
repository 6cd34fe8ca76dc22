"""Deployments and their pods: rolled over in steps, and every way in which a pod does not become ready."""

import json

import pytest

# The simulated controllers change seldom; whoever changes them runs these.
pytestmark = pytest.mark.long


def pods(cluster, **labels):
    return cluster.objects("Pod", **labels)


def main(pod):
    return next(one for one in pod["status"]["containerStatuses"] if one["name"] == "main")


def condition(thing, kind):
    return next((one for one in thing["status"].get("conditions", []) if one["type"] == kind), None)


def events(client, reason):
    found = client.core.list_namespaced_event("default", field_selector=f"reason={reason}").items
    return [one.message for one in found]


def web(cluster):
    return cluster.object("Deployment", "web")


def test_a_pod_becomes_ready_in_steps(cluster, client, deployment):
    """Made, scheduled, created, running, ready: one thing a step, and nothing without one."""
    client.apply(deployment(replicas=1))
    assert pods(cluster) == []

    seen = []
    for _ in range(8):
        cluster.step()
        for pod in pods(cluster):
            state = next(iter(main(pod)["state"])) if "containerStatuses" in pod["status"] else ""
            seen.append((pod["status"]["phase"], state, (condition(pod, "Ready") or {}).get("status")))

    assert list(dict.fromkeys(seen)) == [
        ("Pending", "waiting", "False"),
        ("Running", "running", "False"),
        ("Running", "running", "True"),
    ]


def test_the_status_of_a_rollout(cluster, client, deployment):
    """Replicas are counted, and conditions say that it is available and done; the generation was observed."""
    client.apply(deployment())
    cluster.step()
    early = web(cluster)["status"]
    cluster.settle()

    got = client.apps.read_namespaced_deployment_status("web", "default")

    assert early.get("availableReplicas", 0) == 0
    assert condition({"status": early}, "Available")["status"] == "False"
    assert (got.status.replicas, got.status.ready_replicas, got.status.updated_replicas) == (2, 2, 2)
    assert got.status.observed_generation == got.metadata.generation
    assert got.metadata.annotations == {"deployment.kubernetes.io/revision": "1"}
    assert condition(web(cluster), "Available")["status"] == "True"
    assert condition(web(cluster), "Progressing")["reason"] == "NewReplicaSetAvailable"


@pytest.mark.parametrize(("surge", "missing"), [(1, 0), (0, 1), ("50%", "25%")])
def test_a_rolling_update_keeps_its_bounds(cluster, client, deployment, surge, missing):
    """Never more pods than maxSurge allows, never fewer available than maxUnavailable does, until all are new."""
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": missing}}
    client.apply(deployment(replicas=4, strategy=strategy))
    cluster.settle()
    most, least = 4 + (2 if surge == "50%" else surge), 4 - (1 if missing == "25%" else missing)

    client.apply(deployment({"image": "registry.example/web:2"}, replicas=4, strategy=strategy))
    both = False
    for _ in range(40):
        cluster.step()
        living = [one for one in pods(cluster) if "deletionTimestamp" not in one["metadata"]]
        both = both or len({one["spec"]["containers"][0]["image"] for one in living}) == 2
        assert len(living) <= most
        assert sum((condition(one, "Ready") or {}).get("status") == "True" for one in living) >= least

    assert both
    assert {one["spec"]["containers"][0]["image"] for one in pods(cluster)} == {"registry.example/web:2"}
    assert sorted(one["spec"]["replicas"] for one in cluster.objects("ReplicaSet")) == [0, 4]
    assert web(cluster)["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"


def test_recreate_stops_first(cluster, client, deployment):
    """With Recreate old and new pods never live together, however slowly the old ones stop."""
    cluster.kubelet.stops = False
    body = deployment(strategy={"type": "Recreate"})
    body["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 4
    client.apply(body)
    cluster.settle()
    body["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.example/web:2"
    client.apply(body)
    for _ in range(20):
        cluster.step()
        assert len({one["spec"]["containers"][0]["image"] for one in pods(cluster)}) <= 1

    assert [one["spec"]["containers"][0]["image"] for one in pods(cluster)] == ["registry.example/web:2"] * 2


def test_a_broken_update_leaves_the_old_pods(cluster, client, deployment):
    """A new image that cannot be pulled takes no old pod below the bound, and the deadline says that it failed."""
    client.apply(deployment(replicas=4, progressDeadlineSeconds=60))
    cluster.settle()
    cluster.images.broken("registry.example/web:2")
    client.apply(deployment({"image": "registry.example/web:2"}, replicas=4, progressDeadlineSeconds=60))
    cluster.step(20)
    before = condition(web(cluster), "Progressing")["status"]
    cluster.step(20, seconds=5)

    assert web(cluster)["status"]["availableReplicas"] >= 3
    assert before == "True"
    assert condition(web(cluster), "Progressing")["reason"] == "ProgressDeadlineExceeded"


def test_going_back_takes_the_old_replica_set(cluster, client, deployment):
    """The former template is not rolled out by a third ReplicaSet: it is revision three of the first."""
    client.apply(deployment())
    cluster.settle()
    client.apply(deployment({"image": "registry.example/web:2"}))
    cluster.settle()
    client.apply(deployment())
    cluster.settle()

    assert len(cluster.objects("ReplicaSet")) == 2
    assert web(cluster)["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"
    assert {one["spec"]["containers"][0]["image"] for one in pods(cluster)} == {"registry.example/web:1"}


def test_an_image_that_cannot_be_pulled(cluster, client, deployment, refused):
    """ErrImagePull, then ImagePullBackOff, with the runtime's words in state, events and log."""
    cluster.images.broken("registry.example/web*")
    client.apply(deployment(replicas=1))
    cluster.step(2)
    first = main(pods(cluster)[0])["state"]["waiting"]
    cluster.step()
    second = main(pods(cluster)[0])["state"]["waiting"]

    assert (first["reason"], second["reason"]) == ("ErrImagePull", "ImagePullBackOff")
    assert "registry.example/web*: not found" in first["message"]
    assert second["message"].startswith('Back-off pulling image "registry.example/web:1": ErrImagePull: ')
    assert any(one.startswith("Failed to pull image") for one in events(client, "Failed"))
    error = refused(client.core.read_namespaced_pod_log, pods(cluster)[0]["metadata"]["name"], "default")
    assert error.status == 400
    assert json.loads(error.body)["message"].endswith("is waiting to start: trying and failing to pull image")
    cluster.images.works("registry.example/web*")
    cluster.step(10, seconds=60)
    assert web(cluster)["status"]["readyReplicas"] == 1


def test_side_loaded_and_private_images(cluster, client, deployment):
    """An image that lies on the nodes starts unless a pull is asked for; a private one needs its secret."""
    cluster.images.behave("registry.example/*", only_here=True)
    client.apply(deployment(replicas=1))
    cluster.settle()
    assert web(cluster)["status"]["readyReplicas"] == 1
    client.apply(deployment({"imagePullPolicy": "Always"}, replicas=1))
    cluster.step(10)
    assert web(cluster)["status"].get("updatedReplicas") == 1
    assert {main(one)["state"].get("waiting", {}).get("reason") for one in pods(cluster)} & {
        "ErrImagePull",
        "ImagePullBackOff",
    }

    client.apply(deployment({"image": "registry.example/elsewhere:1", "imagePullPolicy": "Never"}, replicas=1))
    cluster.images.works()
    cluster.step(5)
    assert "is not present with pull policy of Never" in json.dumps([one["status"] for one in pods(cluster)])

    cluster.images.behave("registry.example/*", private=True)
    body = deployment({"image": "registry.example/private:1"}, replicas=1)
    client.apply(body)
    cluster.step(5)
    assert "401 Unauthorized" in json.dumps([one["status"] for one in pods(cluster)])
    cluster.make({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pull"}})
    body["spec"]["template"]["spec"]["imagePullSecrets"] = [{"name": "pull"}]
    client.apply(body)
    cluster.settle()
    assert web(cluster)["status"]["readyReplicas"] == 1


def test_a_pod_that_no_node_has_room_for(cluster, client, deployment):
    """It stays pending, and its condition says what is lacking on how many nodes, until there is a node that has it."""
    client.apply(deployment({"resources": {"limits": {"nvidia.com/gpu": 1}}}, replicas=1))
    cluster.settle()

    (pod,) = pods(cluster)
    scheduled = condition(pod, "PodScheduled")
    assert pod["status"]["phase"] == "Pending"
    assert (scheduled["status"], scheduled["reason"]) == ("False", "Unschedulable")
    assert scheduled["message"].startswith("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")
    assert events(client, "FailedScheduling") == [scheduled["message"]]
    cluster.add_node("gpu", {"nvidia.com/gpu": "1"})
    cluster.settle()
    assert pods(cluster)[0]["spec"]["nodeName"] == "gpu"


def test_nodes_fill_up(cluster, client, deployment):
    """What is requested is taken from a node: the thirteenth CPU is not there."""
    client.apply(deployment({"resources": {"requests": {"cpu": "2"}}}, replicas=7))
    cluster.settle()

    assert web(cluster)["status"]["readyReplicas"] == 6
    assert "3 Insufficient cpu" in json.dumps(pods(cluster))


def test_killed_for_memory(cluster, client, deployment):
    """lastState says OOMKilled and 137, restarts are counted, and the pauses between them grow."""
    cluster.images.out_of_memory(log="loading the model")
    client.apply(deployment(replicas=1))
    cluster.step(9)

    state = main(pods(cluster)[0])
    ended = state["lastState"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)
    assert state["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert state["state"]["waiting"]["message"].startswith("back-off 10s restarting failed container=main pod=web-")
    assert state["restartCount"] >= 1
    before = state["restartCount"]
    cluster.step(5)
    assert main(pods(cluster)[0])["restartCount"] == before
    cluster.step(5, seconds=30)
    assert main(pods(cluster)[0])["restartCount"] > before


def test_a_crash_leaves_its_log(cluster, client, deployment):
    """The log of the container before is there with ``previous``, and its end by ``tailLines``."""
    cluster.images.crashes(code=3, log="one\ntwo\nthree\n")
    client.apply(deployment(replicas=1))
    cluster.step(7)
    name = pods(cluster)[0]["metadata"]["name"]

    read = client.core.read_namespaced_pod_log
    assert main(pods(cluster)[0])["lastState"]["terminated"]["exitCode"] == 3
    assert read(name, "default", previous=True) == "one\ntwo\nthree\n"
    assert read(name, "default", previous=True, tail_lines=2, container="main") == "two\nthree\n"
    stamped = client.of("Pod").path(name=name, namespace="default") + "/log"
    said = client.dynamic.request("get", stamped, query_params=[("timestamps", "true"), ("previous", "true")])
    assert [line.partition("Z ")[2] for line in str(said).splitlines()] == ["one", "two", "three"]
    assert web(cluster)["status"].get("readyReplicas", 0) == 0


def test_a_probe_that_fails(cluster, client, deployment):
    """The pod runs and is not ready, an event says what the probe said; without a probe nobody would know."""
    cluster.images.never_ready(log="waiting for a model\n")
    client.apply(deployment(replicas=1))
    cluster.step(10)

    (pod,) = pods(cluster)
    assert pod["status"]["phase"] == "Running"
    assert condition(pod, "Ready")["reason"] == "ContainersNotReady"
    assert condition(pod, "Ready")["message"] == "containers with unready status: [main]"
    assert events(client, "Unhealthy") == ["Readiness probe failed: HTTP probe failed with statuscode: 503"]
    assert client.core.read_namespaced_pod_log(pod["metadata"]["name"], "default") == "waiting for a model\n"
    blind = deployment(replicas=1)
    del blind["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]
    client.apply(blind)
    cluster.settle()
    assert web(cluster)["status"]["readyReplicas"] == 1


@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe"])
def test_probes_that_end_a_container(cluster, client, deployment, probe):
    """A startup or liveness probe that failed long enough restarts the container."""
    said = {"startupProbe": {"probe": "connection refused"}, "livenessProbe": {"liveness": "connection refused"}}[probe]
    cluster.images.behave(**said)
    client.apply(deployment({probe: {"tcpSocket": {"port": 8080}, "failureThreshold": 2}}, replicas=1))
    cluster.step(15)
    early = main(pods(cluster)[0])["restartCount"]
    cluster.step(15, seconds=5)

    assert early == 0
    assert main(pods(cluster)[0])["restartCount"] >= 1
    assert any(one.startswith("Container main failed") for one in events(client, "Killing"))


def with_init(body):
    init = {"name": "verify", "image": "registry.example/verify:1"}
    body["spec"]["template"]["spec"]["initContainers"] = [init]
    return body


def test_the_init_step_comes_first(cluster, client, deployment):
    """The main container waits for it as PodInitializing, and runs once it has ended well."""
    client.apply(with_init(deployment(replicas=1)))
    seen = set()
    for _ in range(8):
        cluster.step()
        for pod in pods(cluster):
            init = pod["status"].get("initContainerStatuses", [{"state": {}}])[0]["state"]
            seen.add((*init, *(main(pod)["state"] if init else ())))
            if "running" in init:
                assert main(pod)["state"]["waiting"]["reason"] == "PodInitializing"

    assert ("running", "waiting") in seen
    assert ("running", "running") not in seen
    assert web(cluster)["status"]["readyReplicas"] == 1


def test_an_init_step_that_fails(cluster, client, deployment):
    """Its code and log can be read, the main container never starts, and the pod is not initialised."""
    cluster.images.crashes(container="verify", code=4, log="the signature is not the publisher's")
    client.apply(with_init(deployment(replicas=1)))
    cluster.step(8)

    (pod,) = pods(cluster)
    state = pod["status"]["initContainerStatuses"][0]
    assert pod["status"]["phase"] == "Pending"
    assert state["lastState"]["terminated"]["exitCode"] == 4
    assert state["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert condition(pod, "Initialized")["message"] == "containers with incomplete status: [verify]"
    log = client.core.read_namespaced_pod_log(pod["metadata"]["name"], "default", container="verify", previous=True)
    assert log == "the signature is not the publisher's\n"


def test_logs_name_their_container(cluster, client, deployment, refused):
    """With several containers one must be chosen, and it must be there."""
    body = with_init(deployment(replicas=1))
    body["spec"]["template"]["spec"]["containers"].append({"name": "side", "image": "registry.example/side:1"})
    client.apply(body)
    cluster.settle()
    name = pods(cluster)[0]["metadata"]["name"]

    error = refused(client.core.read_namespaced_pod_log, name, "default")
    assert "choose one of: [main side] or one of the init containers: [verify]" in json.loads(error.body)["message"]
    assert refused(client.core.read_namespaced_pod_log, name, "default", container="x").status == 400


def test_pods_that_may_not_be_made(cluster, client, deployment):
    """In a restricted namespace a Deployment of privileged pods is taken, has none, and says why."""
    label = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    client.core.patch_namespace("default", label)
    client.apply(deployment(replicas=1))
    cluster.step(3)

    assert pods(cluster) == []
    failure = condition(web(cluster), "ReplicaFailure")
    assert failure["reason"] == "FailedCreate"
    for word in ("PodSecurity", "allowPrivilegeEscalation", "capabilities", "runAsNonRoot", "seccompProfile"):
        assert word in failure["message"]
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    body = deployment({"securityContext": security}, replicas=1)
    body["spec"]["template"]["spec"]["securityContext"] = {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    client.apply(body)
    cluster.settle()
    assert web(cluster)["status"]["readyReplicas"] == 1
    assert condition(web(cluster), "ReplicaFailure") is None


@pytest.mark.parametrize(
    ("spec", "container", "words"),
    [
        ({"volumes": [{"name": "v", "secret": {"secretName": "gone"}}]}, {}, 'secret "gone" not found'),
        ({}, {"env": [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "gone", "key": "k"}}}]}, 'secret "gone"'),
        ({}, {"envFrom": [{"configMapRef": {"name": "gone"}}]}, 'configmap "gone" not found'),
        ({"securityContext": {"runAsNonRoot": True, "runAsUser": 0}}, {}, "container has runAsNonRoot"),
        ({"serviceAccountName": "gone"}, {}, 'serviceaccount "gone" not found'),
        ({"nodeSelector": {"zone": "x"}}, {}, "didn't match Pod's node affinity/selector"),
    ],
)  # fmt: skip
def test_what_else_keeps_a_pod_from_starting(cluster, client, deployment, spec, container, words):
    """What it refers to is not there, or it may not run so; somewhere it is said."""
    body = deployment(container, replicas=1)
    body["spec"]["template"]["spec"] |= spec
    client.apply(body)
    cluster.step(6)

    assert web(cluster)["status"].get("readyReplicas", 0) == 0
    assert words in json.dumps([cluster.objects("Pod"), cluster.objects("Event")]).replace('\\"', '"')


def test_a_lost_pod_is_made_again(cluster, client, deployment):
    """A pod that somebody deletes ends after its grace period, and another one takes its place."""
    cluster.kubelet.stops = False
    client.apply(deployment(replicas=1))
    cluster.settle()
    (old,) = pods(cluster)
    gone = client.core.delete_namespaced_pod(old["metadata"]["name"], "default", grace_period_seconds=5)
    cluster.step(3)
    during = [one["metadata"]["uid"] for one in pods(cluster)]
    cluster.settle()

    assert gone.metadata.deletion_timestamp is not None
    assert old["metadata"]["uid"] in during
    (new,) = pods(cluster)
    assert new["metadata"]["uid"] != old["metadata"]["uid"]


def test_a_quota_bounds_the_pods(cluster, client, deployment):
    """The third of two pods is not made, and the Deployment says why."""
    cluster.quota(2)
    client.apply(deployment(replicas=3))
    cluster.step(6)

    assert len(pods(cluster)) == 2
    assert (
        "exceeded quota: pods, requested: pods=1, used: pods=2" in condition(web(cluster), "ReplicaFailure")["message"]
    )
    cluster.quota(3)
    cluster.settle()
    assert web(cluster)["status"]["readyReplicas"] == 3


def test_an_evicted_pod_is_replaced(cluster, client, deployment):
    """It has failed with the node's reason, and another one is made beside it."""
    client.apply(deployment(replicas=1))
    cluster.settle()
    (old,) = pods(cluster)
    cluster.evict(old["metadata"]["name"])
    cluster.settle()

    told = {one["status"]["phase"]: one["status"].get("reason") for one in pods(cluster)}
    assert told == {"Failed": "Evicted", "Running": None}
    assert web(cluster)["status"]["readyReplicas"] == 1


def test_it_runs_by_itself(cluster, client, deployment):
    """In a thread, a client that only looks sees the rollout end."""
    client.apply(deployment())
    with cluster.automatic():
        for _ in range(2000):
            if client.apps.read_namespaced_deployment("web", "default").status.ready_replicas == 2:
                break

    assert web(cluster)["status"]["readyReplicas"] == 2
