"""A batch job of several pods: an Indexed Job, each pod with its share, and what they say together."""

import json

from tests.doubles.kubernetes import kinds
from tests.fleet.targets.kubernetes.test_namespace_jobs import DONE, HALF, batch, ended, passes, pods, wish

__all__ = ["batch"]

INDEX = "batch.kubernetes.io/job-completion-index"


def shares(batch):
    return sorted((one["metadata"]["annotations"][INDEX], one["metadata"]["uid"]) for one in pods(batch))


def test_each_pod_has_its_share(batch):
    """All run side by side, on different nodes where there are; how far they are is added up, and each has its log."""
    before = batch.everything()
    job = wish(pods=3, workers=2)
    batch.cluster.images.behave(container="batch", log=f"INFO here\n{HALF}")
    passes(batch, job, "running")
    batch.cluster.step(3)
    (made,) = batch.of("Job")
    assert [made["spec"][key] for key in ("completionMode", "completions", "parallelism")] == ["Indexed", 3, 3]
    (container,) = made["spec"]["template"]["spec"]["containers"]
    assert {"--parts=3", "--workers=2"} <= set(container["args"])
    assert made["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert [index for index, _ in shares(batch)] == ["0", "1", "2"]
    stands = batch.target.bring_job(job)
    assert (stands.items, stands.answered, stands.set_aside, stands.why) == (9, 12, 0, "")
    found = batch.target.job_logs("night", lines=5)
    assert (len(found), set(found.values())) == (3, {"INFO here"})
    batch.cluster.images.ends(container="batch", message=DONE)
    stands = passes(batch, job, "done")
    assert (stands.items, stands.answered, stands.set_aside) == (9, 21, 6)
    ended(batch)
    assert batch.everything() == before


def test_a_pod_that_is_killed_is_followed_by_one_of_its_share(batch):
    """The others go on as they are, and it is said what happened."""
    job = wish(pods=2)
    batch.cluster.images.behave(container="batch", log=HALF)
    passes(batch, job, "running")
    batch.cluster.step(3)
    first, second = shares(batch)
    evicted = next(one for one in pods(batch) if one["metadata"]["uid"] == first[1])
    batch.cluster.evict(evicted["metadata"]["name"], namespace="models")
    batch.cluster.step()
    said = batch.target.bring_job(job).why
    assert "low on resource: memory" in said
    assert "it is started again" in said
    batch.cluster.api.delete(kinds.POD, "models", evicted["metadata"]["name"])
    batch.cluster.step(12, seconds=5)
    again = shares(batch)
    assert [index for index, _ in again] == ["0", "1"]
    assert (second in again, first in again) == (True, False)
    assert batch.target.bring_job(job).state == "running"


def test_one_of_its_own_ends_is_the_end_of_all(batch):
    """Too many inputs of one share have failed: the words and the log are that pod's."""
    said = "edgefleet-scoring: over-limit: 3 inputs failed, and 1 may"
    batch.cluster.images.crashes(container="batch", code=4, log=f"INFO a\n{HALF}\n{said}", message=said)
    stands = passes(batch, wish(pods=2), "failed")
    assert (stands.why, stands.log) == (said, f"INFO a\n{said}")
    ended(batch)


def test_of_one_pod_it_is_what_it_was(batch):
    """A Job that was begun by an earlier server goes on as it is."""
    batch.target.bring_job(wish())
    (made,) = batch.of("Job")
    text = json.dumps(made["spec"])
    assert (made["spec"]["completionMode"], "--parts" in text, "topologySpread" in text) == ("NonIndexed", False, False)
