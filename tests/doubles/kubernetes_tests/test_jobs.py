"""Jobs: completions, indexes, failures and their limits, deadlines."""

import pytest

from tests.doubles.kubernetes import kinds

# The simulated controllers change seldom; whoever changes them runs these.
pytestmark = pytest.mark.long

INDEX = "batch.kubernetes.io/job-completion-index"


def status(cluster):
    return cluster.object("Job", "batch")["status"]


def conditions(cluster):
    return {one["type"]: one["reason"] for one in status(cluster).get("conditions", []) if one["status"] == "True"}


def test_a_job_completes(cluster, client, job):
    """So many pods at a time, until as many have succeeded as are wanted."""
    cluster.images.ends(after=1, log="done")
    client.create(job(completions=5, parallelism=2))
    most = 0
    for _ in range(40):
        cluster.step()
        most = max(most, status(cluster).get("active", 0))

    got = client.batch.read_namespaced_job("batch", "default")
    assert most == 2
    assert (got.status.succeeded, got.status.active, got.status.failed) == (5, None, None)
    assert got.status.completion_time is not None
    assert conditions(cluster) == {"SuccessCriteriaMet": "CompletionsReached", "Complete": "CompletionsReached"}
    assert {one["status"]["phase"] for one in cluster.objects("Pod")} == {"Succeeded"}
    name = cluster.objects("Pod")[0]["metadata"]["name"]
    assert client.core.read_namespaced_pod_log(name, "default") == "done\n"


def test_each_index_has_its_pod(cluster, client, job):
    """Name, label, annotation, host name and environment say which; what is done is listed in ranges."""
    cluster.images.ends()
    cluster.images.behave(labels={INDEX: "1"})
    client.create(job(completions=4, parallelism=4, completionMode="Indexed"))
    cluster.settle()

    pods = cluster.objects("Pod")
    assert sorted(one["metadata"]["annotations"][INDEX] for one in pods) == ["0", "1", "2", "3"]
    one = next(one for one in pods if one["metadata"]["labels"][INDEX] == "2")
    assert one["metadata"]["name"].startswith("batch-2-")
    assert one["spec"]["hostname"] == "batch-2"
    assert one["spec"]["containers"][0]["env"][0]["name"] == "JOB_COMPLETION_INDEX"
    assert (status(cluster)["completedIndexes"], status(cluster)["active"]) == ("0,2-3", 1)
    cluster.images.ends(labels={INDEX: "1"})
    cluster.settle()
    assert status(cluster)["completedIndexes"] == "0-3"
    assert "Complete" in conditions(cluster)


def test_a_job_gives_up(cluster, client, job):
    """With more failures than backoffLimit it fails, and each pod stays for its log; the pauses between them grow."""
    cluster.images.crashes(code=2, log="poison")
    client.create(job(backoffLimit=2))
    cluster.step(8)
    early = status(cluster).get("failed", 0)
    cluster.step(30, seconds=10)

    assert early == 1
    assert status(cluster)["failed"] == 3
    assert conditions(cluster) == {"FailureTarget": "BackoffLimitExceeded", "Failed": "BackoffLimitExceeded"}
    assert len(cluster.objects("Pod")) == 3
    ended = cluster.objects("Pod")[0]["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (2, "Error")


def test_a_failure_is_tried_again(cluster, client, job):
    """A new pod after the pause, whose success is the job's."""
    cluster.images.crashes()
    client.create(job())
    cluster.step(4)
    cluster.images.ends()
    cluster.step(20)

    assert (status(cluster)["failed"], status(cluster)["succeeded"]) == (1, 1)
    assert "Complete" in conditions(cluster)


def test_a_pod_waits_for_its_claims(cluster, client, job):
    """While one is not there, or has no volume, no node takes the pod, and the scheduler says which."""
    cluster.images.ends()
    body = job()
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    body["spec"]["template"]["spec"]["volumes"] = [claim]
    client.create(body)

    def said():
        (pod,) = cluster.objects("Pod")
        return next(one["message"] for one in pod["status"]["conditions"] if one["type"] == "PodScheduled")

    cluster.step(4)
    assert 'persistentvolumeclaim "data" not found' in said()
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    made = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}}
    client.create(made | {"spec": spec})
    cluster.step(4)
    assert "unbound" in said()
    cluster.api.delete(kinds.CLAIM, "default", "data")
    cluster.make(made | {"spec": spec | {"volumeName": "disk"}})
    cluster.settle()
    assert "Complete" in conditions(cluster)


def test_what_a_container_leaves_at_its_end(cluster, client, job):
    """Its last word stands in the pod's status."""
    cluster.images.ends(message="42 done")
    client.create(job())
    cluster.settle()
    ended = cluster.objects("Pod")[0]["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["message"]) == (0, "42 done")


def test_one_index_that_fails_is_set_aside(cluster, client, job):
    """With backoffLimitPerIndex the others go on, and the job says which one failed."""
    cluster.images.ends()
    cluster.images.crashes(labels={INDEX: "1"})
    client.create(job(completions=3, parallelism=1, completionMode="Indexed", backoffLimitPerIndex=1))
    cluster.step(60, seconds=5)

    assert (status(cluster)["completedIndexes"], status(cluster)["failedIndexes"]) == ("0,2", "1")
    assert status(cluster)["failed"] == 2
    assert conditions(cluster)["Failed"] == "FailedIndexes"


def test_a_container_that_is_started_again_in_its_pod(cluster, client, job):
    """With OnFailure the pod stays, and its restarts count."""
    cluster.images.crashes(times=1)
    body = job()
    body["spec"]["template"]["spec"]["restartPolicy"] = "OnFailure"
    client.create(body)
    cluster.step(10)
    (pod,) = cluster.objects("Pod")

    assert pod["status"]["containerStatuses"][0]["restartCount"] == 1
    assert "Complete" not in conditions(cluster)


@pytest.mark.parametrize(("field", "reason"), [({"activeDeadlineSeconds": 20}, "DeadlineExceeded")])
def test_a_deadline(cluster, client, job, field, reason):
    """After it the pods are stopped, and the job has failed."""
    client.create(job(**field))
    cluster.step(10)
    assert conditions(cluster) == {}
    cluster.step(15)

    assert conditions(cluster)["Failed"] == reason
    assert cluster.objects("Pod") == []


def test_a_suspended_job_waits(cluster, client, job):
    """No pods, until it is resumed."""
    client.create(job(suspend=True))
    cluster.settle()
    waiting = cluster.objects("Pod")
    client.batch.patch_namespaced_job("batch", "default", {"spec": {"suspend": False}})
    cluster.settle()

    assert waiting == []
    assert status(cluster)["active"] == 1


def test_a_finished_job_goes_after_its_time(cluster, client, job):
    """ttlSecondsAfterFinished takes job and pods."""
    cluster.images.ends()
    client.create(job(ttlSecondsAfterFinished=60))
    cluster.settle()
    before = cluster.object("Job", "batch")
    cluster.step(5, seconds=20)

    assert before is not None
    assert cluster.object("Job", "batch") is None
    assert cluster.objects("Pod") == []
