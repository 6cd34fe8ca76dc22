"""What goes with what is deleted, and when."""

import json

import pytest

# The simulated controllers change seldom; whoever changes them runs these.
pytestmark = pytest.mark.long


def owned(cluster):
    return len(cluster.objects("ReplicaSet")), len(cluster.objects("Pod"))


def test_in_the_background(cluster, client, deployment):
    """The Deployment is gone at once, with a Status; its ReplicaSets and pods follow."""
    client.apply(deployment())
    cluster.settle()
    answer = client.of("Deployment").delete("web", "default").to_dict()

    assert (answer["kind"], answer["status"], answer["details"]["kind"]) == ("Status", "Success", "deployments")
    assert cluster.object("Deployment", "web") is None
    assert owned(cluster) == (1, 2)
    cluster.settle()
    assert owned(cluster) == (0, 0)


def test_in_the_foreground(cluster, client, deployment, refused):
    """It stays until what it owns has gone."""
    client.apply(deployment())
    cluster.settle()
    client.apps.delete_namespaced_deployment("web", "default", propagation_policy="Foreground")

    waiting = client.apps.read_namespaced_deployment("web", "default").metadata
    assert waiting.finalizers == ["foregroundDeletion"]
    assert waiting.deletion_timestamp is not None
    left = []
    while cluster.object("Deployment", "web"):
        left.append(owned(cluster))
        cluster.step()
    assert left[0] == (1, 2)
    assert owned(cluster) == (0, 0)


def test_orphans_stay(cluster, client, deployment):
    """With Orphan what it owned goes on without an owner."""
    client.apply(deployment())
    cluster.settle()
    client.apps.delete_namespaced_deployment("web", "default", propagation_policy="Orphan")
    cluster.settle()

    assert cluster.object("Deployment", "web") is None
    assert owned(cluster) == (1, 2)
    assert "ownerReferences" not in cluster.objects("ReplicaSet")[0]["metadata"]


@pytest.mark.parametrize(("policy", "left"), [(None, 1), ("Background", 0), ("Foreground", 0)])
def test_pods_of_a_deleted_job_stay_unless_one_asks(cluster, client, job, policy, left):
    """batch/v1 orphans by default: who forgets the policy leaves pods behind."""
    client.create(job())
    cluster.settle()
    client.batch.delete_namespaced_job("batch", "default", propagation_policy=policy)
    cluster.settle()

    assert cluster.object("Job", "batch") is None
    assert len(cluster.objects("Pod")) == left


def test_many_at_once(cluster, client):
    """deletecollection takes those that the selector meets."""
    for name, labels in {"a": {"of": "x"}, "b": {"of": "x"}, "c": {}}.items():
        client.core.create_namespaced_secret("default", {"metadata": {"name": name, "labels": labels}})
    client.core.delete_collection_namespaced_secret("default", label_selector="of=x")

    assert [one["metadata"]["name"] for one in cluster.objects("Secret")] == ["c"]


def test_only_the_one_that_was_meant(cluster, client, refused):
    """A precondition by uid protects what has the same name."""
    client.core.create_namespaced_secret("default", {"metadata": {"name": "s"}})
    body = {"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}}
    error = refused(client.core.delete_namespaced_secret, "s", "default", body=body)

    assert error.status == 409
    assert "Precondition failed: UID in precondition" in json.loads(error.body)["message"]
    assert cluster.object("Secret", "s") is not None


def test_a_namespace_goes_with_all_that_is_in_it(cluster, client, deployment, refused):
    """While it ends nothing new is made in it; then it is gone."""
    client.core.create_namespace({"metadata": {"name": "models"}})
    cluster.step()
    client.apply(deployment(), namespace="models")
    cluster.settle()
    client.core.delete_namespace("models")

    assert client.core.read_namespace("models").status.phase == "Terminating"
    error = refused(client.core.create_namespaced_secret, "models", {"metadata": {"name": "s"}})
    assert error.status == 403
    assert json.loads(error.body)["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    cluster.settle()
    assert refused(client.core.read_namespace, "models").status == 404
    assert cluster.objects("Pod", "models") == []


def test_a_finalizer_holds(cluster, client, refused):
    """Deleted and still there, until somebody takes the finalizer off."""
    client.core.create_namespaced_secret("default", {"metadata": {"name": "s", "finalizers": ["example.org/hold"]}})
    client.core.delete_namespaced_secret("s", "default")
    assert client.core.read_namespaced_secret("s", "default").metadata.deletion_timestamp is not None
    client.core.patch_namespaced_secret(
        "s", "default", {"metadata": {"finalizers": None}}, _content_type="application/merge-patch+json"
    )

    assert refused(client.core.read_namespaced_secret, "s", "default").status == 404
