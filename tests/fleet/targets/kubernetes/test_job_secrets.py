"""Secrets of a batch job's module on a cluster: a Secret as an endpoint's pods have, from its first pod to its end."""

import base64
import json

import msgspec
import pytest

from fleet.targets.contract import Module
from fleet.targets.kubernetes import front
from fleet.targets.secret_files import MOUNT
from modules.manifest import SecretFile
from tests.doubles import release
from tests.doubles.kubernetes import kinds
from tests.fleet.targets.kubernetes.test_namespace_jobs import DONE, batch, ended, passes, pods, wish

__all__ = ["batch"]

VALUES = {"token": b"planted-value", "feed": b"planted-feed"}


def secretive(**more):
    made = release.make("acme/reader:1", secrets=(SecretFile(name="token"), SecretFile(name="feed", required=False)))
    return msgspec.structs.replace(wish(**more), module=Module(made.digest, made.manifest), secrets=VALUES)


def held(batch):
    return [front.data(one) for one in batch.of("Secret", "secrets")]


def test_its_pods_have_them_as_files_and_nothing_else_does(batch):
    """The scoring container alone mounts the Secret, which cannot be changed; it goes with the job."""
    before = batch.everything()
    passes(batch, secretive(), "running")
    (secret,) = batch.of("Secret", "secrets")
    assert (held(batch), secret["immutable"]) == ([VALUES], True)
    (job,) = batch.of("Job")
    spec = job["spec"]["template"]["spec"]
    (volume,) = (one for one in spec["volumes"] if one["name"] == "secrets")
    assert volume["secret"] == {"secretName": secret["metadata"]["name"], "defaultMode": 0o440}
    mounts = {
        container["name"]: [one for one in container["volumeMounts"] if one["name"] == "secrets"]
        for container in (*spec["initContainers"], *spec["containers"])
    }
    assert mounts == {"content": [], "batch": [{"name": "secrets", "mountPath": MOUNT, "readOnly": True}]}
    rest = json.dumps([batch.of(kind) for kind in ("Job", "Pod", "NetworkPolicy", "ServiceAccount", "Event")])
    for value in VALUES.values():
        assert value.decode() not in rest
        assert base64.b64encode(value).decode() not in rest
    batch.cluster.images.ends(container="batch", message=DONE)
    passes(batch, secretive(), "done")
    ended(batch)
    assert batch.everything() == before


def test_who_follows_a_killed_pod_has_them_again(batch):
    """Even where somebody took the Secret away, or put another one in its place, meanwhile."""
    job = secretive()
    passes(batch, job, "running")
    (first,), (secret,) = pods(batch), batch.of("Secret", "secrets")
    name = secret["metadata"]["name"]
    batch.cluster.api.delete(kinds.of("Secret"), "models", name)
    batch.target.bring_job(job)
    assert held(batch) == [VALUES]
    batch.cluster.api.delete(kinds.of("Secret"), "models", name)
    clean = {key: secret["metadata"][key] for key in ("name", "namespace", "labels")}
    theirs = {key: secret[key] for key in ("apiVersion", "kind", "type")} | {"metadata": clean}
    batch.cluster.make(theirs | {"data": {"token": base64.b64encode(b"theirs").decode()}, "immutable": True})
    batch.cluster.api.delete(kinds.POD, "models", first["metadata"]["name"])
    batch.cluster.step()
    passes(batch, job, "running")
    assert held(batch) == [VALUES]
    (second,) = pods(batch)
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    assert len(batch.of("Job")) == 1


@pytest.mark.long
def test_another_run_has_its_own(batch):
    """Those of a run that was left behind go with its pods; the next run's pods see none of them."""
    passes(batch, secretive(), "running")
    other = msgspec.structs.replace(secretive(mark="n" * 16), secrets={"token": b"other"})
    passes(batch, other, "running")
    assert held(batch) == [{"token": b"other"}]
    plain = msgspec.structs.replace(secretive(mark="o" * 16), secrets={})
    passes(batch, plain, "running")
    (job,) = batch.of("Job")
    assert "secrets" not in json.dumps(job["spec"]["template"]["spec"]["volumes"])
    ended(batch)
    assert held(batch) == []
