"""Batch jobs in a namespace, from nothing to nothing: a Job whose pods go on from each other, and why one does not."""

import json

import msgspec
import pytest

from fleet.refusals import TargetTrouble
from fleet.targets.contract import Job, JobStanding, Module
from fleet.targets.settings import BatchSettings
from modules.errors import Invalid
from modules.protocol.content import REFUSED, UNREACHED
from tests.doubles import release
from tests.doubles.kubernetes import kinds
from tests.doubles.kubernetes.managed import Writer
from tests.doubles.wishes import wanted

PLACES = "data,answers,share/in,share/out"
DONE = json.dumps({"state": "finished", "items": 9, "answered": 7, "set_aside": 2, "seconds": 1.0})
HALF = json.dumps({"state": "running", "items": 9, "answered": 4, "set_aside": 0, "seconds": 1.0})


def wish(mark="m" * 16, inputs="data", outputs="answers", starts=0, **settings):
    made = release.make("acme/digits:1")
    return Job(
        name="night", mark=mark, module=Module(made.digest, made.manifest), inputs=inputs, outputs=outputs,
        settings=BatchSettings(**settings), starts=starts,
    )  # fmt: skip


@pytest.fixture
def batch(place):
    """The target, attached for batch jobs, with the claims that it names."""
    for name in ("data", "answers", "share"):
        spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}, "volumeName": name}
        metadata = {"name": name, "namespace": "models"}
        place.cluster.make({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})
    place.target = place.attach(batch_places=PLACES)
    return place


def passes(batch, job, state, most=40, seconds=1.0):
    """Looks, and the cluster's own work between them, as the duty has it, until the job is in this state."""
    stands = JobStanding()
    for _ in range(most):
        stands = batch.target.bring_job(msgspec.structs.replace(job, starts=stands.starts))
        if stands.state == state:
            return stands
        assert stands.state not in {"done", "failed"}, stands  # the duty asks for no more then
        batch.cluster.step(seconds=seconds)
    raise AssertionError(f"not {state} after {most} passes: {stands}")


def ended(batch, name="night"):
    for _ in range(10):
        if batch.target.end_job(name):
            return
        batch.cluster.step()
    raise AssertionError(f"something is left: {batch.everything()}")


def pods(batch):
    return batch.of("Pod", "job")


def test_from_nothing_to_answers(batch):
    """It starts, runs, says how far it is, is done, and leaves nothing but the claims."""
    before = batch.everything()
    batch.cluster.images.behave(container="batch", exits=0, after=4, log=f"INFO ready\n{HALF}\nINFO x", message=DONE)
    job = wish(workers=3)
    assert passes(batch, job, "running").starts == 1
    batch.cluster.step()
    stands = batch.target.bring_job(job)
    assert (stands.items, stands.answered, stands.set_aside, stands.why) == (9, 4, 0, "")
    stands = passes(batch, job, "done")
    assert (stands.items, stands.answered, stands.set_aside, stands.starts) == (9, 7, 2, 1)
    assert stands.log == "INFO ready\nINFO x"
    ended(batch)
    assert batch.everything() == before
    assert batch.names("PersistentVolumeClaim") == {"data", "answers", "share"}


def test_its_pod_is_confined(batch):
    """One place is read, the other written, by no root and without a token, a port, or another way out."""
    batch.target.bring_job(wish(workers=2, cpu_cores=1.5, memory_mb=300))
    (job,) = batch.of("Job")
    spec = job["spec"]["template"]["spec"]
    assert (job["spec"]["backoffLimit"], job["spec"]["parallelism"], spec["restartPolicy"]) == (9, 1, "Never")
    assert spec["automountServiceAccountToken"] is False
    (container,) = spec["containers"]
    assert "--workers=2" in container["args"]
    assert "--outputs=/outputs/night" in container["args"]
    assert container["resources"]["limits"] == {"cpu": "1500m", "memory": "300Mi"}
    assert "@sha256:" in container["image"]
    mounts = {one["mountPath"]: one for one in container["volumeMounts"]}
    assert mounts["/inputs"]["readOnly"] is True
    volumes = {one["name"]: one.get("persistentVolumeClaim") for one in spec["volumes"]}
    assert (volumes["inputs"], volumes["outputs"]) == (
        {"claimName": "data", "readOnly": True}, {"claimName": "answers"}
    )  # fmt: skip
    (policy,) = batch.of("NetworkPolicy", "job")
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in policy["spec"]
    assert [one["port"] for rule in policy["spec"]["egress"] for one in rule["ports"]] == [53, 53, 8443]
    batch.cluster.step(3)
    assert len(pods(batch)) == 1  # in a namespace that takes restricted pods alone


def test_folders_of_one_claim(batch):
    """The claim is mounted once, and each place is its folder."""
    batch.target.bring_job(wish(inputs="share/in", outputs="share/out"))
    (job,) = batch.of("Job")
    spec = job["spec"]["template"]["spec"]
    assert [one["persistentVolumeClaim"] for one in spec["volumes"] if "persistentVolumeClaim" in one] == [
        {"claimName": "share"}
    ]
    mounts = {one["mountPath"]: one for one in spec["containers"][0]["volumeMounts"]}
    assert (mounts["/inputs"]["subPath"], mounts["/inputs"]["readOnly"]) == ("in", True)
    assert (mounts["/outputs"]["subPath"], mounts["/outputs"].get("readOnly")) == ("out", None)


def test_only_places_that_it_was_attached_with(batch):
    """Whatever the row says: another claim, or a claim of which only folders were named."""
    for more in ({"inputs": "secrets"}, {"outputs": "share"}, {"inputs": "data/../x"}):
        with pytest.raises(Invalid, match="lets no batch job use it"):
            batch.target.bring_job(wish(**more))
    assert batch.of("Job") == []


def test_another_pass_changes_nothing(batch):
    """To the version of each object; and what somebody changed is put back."""
    job = wish()
    passes(batch, job, "running")
    before = batch.everything()

    def versions():
        return {one: batch.cluster.object(one[0], one[1], "models")["metadata"]["resourceVersion"] for one in before}

    seen = versions()
    assert batch.target.bring_job(job).state == "running"
    assert versions() == seen
    (made,) = batch.of("Job")
    change = {"spec": {"parallelism": 0}, "metadata": {"labels": {"edgefleet.cloud.part": "other"}}}
    how = "application/strategic-merge-patch+json"
    batch.cluster.api.patch(kinds.JOB, "models", made["metadata"]["name"], how, change, Writer("kubectl-edit"))
    batch.target.bring_job(job)
    (now,) = batch.of("Job", "job")
    assert now["spec"]["parallelism"] == 1


@pytest.mark.long
def test_a_pod_that_is_killed_is_followed_by_another(batch):
    """Deleted, evicted, out of memory: the next one goes on, and what happened is said; counts stay meanwhile."""
    job = wish(memory_mb=200)
    batch.cluster.images.behave(container="batch", log=HALF)
    passes(batch, job, "running")
    (first,) = pods(batch)
    batch.cluster.api.delete(kinds.POD, "models", first["metadata"]["name"])
    batch.cluster.step(3)
    assert passes(batch, job, "running").starts >= 1
    (second,) = pods(batch)
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    batch.cluster.evict(second["metadata"]["name"], namespace="models")
    waits = passes(batch, job, "starting")
    assert "low on resource: memory" in waits.why
    assert "started again" in waits.why
    again = passes(batch, job, "running")
    assert "goes on where it was" in again.why
    batch.cluster.images.out_of_memory(container="batch")
    batch.cluster.step(5)
    assert "more than 200Mi of memory" in passes(batch, job, "starting").why
    batch.cluster.images.ends(container="batch", message=DONE)
    stands = passes(batch, job, "done", seconds=10)
    assert stands.starts >= 3
    assert len(batch.of("Job")) == 1


def test_its_own_word_for_an_end_is_the_end(batch):
    """Too many inputs have failed: it is not started again for that, and its words are the reason."""
    said = "edgefleet-scoring: over-limit: 3 inputs failed, and 1 may"
    batch.cluster.images.crashes(container="batch", code=4, log=f"INFO a\n{HALF}\n{said}", message=said)
    stands = passes(batch, wish(), "failed")
    assert (stands.why, stands.answered, stands.starts) == (said, 4, 1)
    assert stands.log == f"INFO a\n{said}"
    ended(batch)


def test_a_module_that_is_refused_is_the_end(batch):
    """What was not signed never will be; a server that is away is waited for."""
    batch.cluster.images.crashes(container="content", code=UNREACHED, message="link-lost: no answer")
    stands = passes(batch, wish(), "starting")
    batch.cluster.step(4)
    stands = batch.target.bring_job(wish())
    assert stands.state == "starting"
    assert "did not get its module: link-lost: no answer" in stands.why
    batch.cluster.images.crashes(container="content", code=REFUSED, message="untrusted: not signed")
    stands = passes(batch, wish(), "failed", seconds=10)
    assert stands.why == "a pod did not get its module: untrusted: not signed"


@pytest.mark.long
def test_after_ten_ends_it_has_failed(batch):
    """It says how it ended last, and how often it was started."""
    batch.cluster.images.crashes(container="batch", code=137, log="INFO so far")
    stands = passes(batch, wish(), "failed", most=200, seconds=400)
    assert "ended (exit code 137): INFO so far" in stands.why
    assert "started 10 times" in stands.why
    assert stands.starts == 10


@pytest.mark.parametrize("what", ["claim", "image", "quota", "suspended"])
def test_why_it_does_not_start(batch, what):
    """In one sentence, with the cluster's own words."""
    job, words = wish(), ""
    if what == "claim":
        batch.cluster.api.delete(kinds.CLAIM, "models", "data")
        words = 'no node can take a pod: 0/3 nodes are available: persistentvolumeclaim "data" not found'
    if what == "image":
        batch.cluster.images.broken(container="batch")
        words = "cannot be pulled"
    if what == "quota":
        batch.cluster.quota(0, "models")
        words = "the cluster takes no pod of it: Error creating: "
    batch.target.bring_job(job)
    if what == "suspended":
        (made,) = batch.of("Job")
        how = "application/strategic-merge-patch+json"
        suspend = {"spec": {"suspend": True}}
        batch.cluster.api.patch(kinds.JOB, "models", made["metadata"]["name"], how, suspend, Writer("kubectl-edit"))
        words = "somebody has suspended its Job"
    batch.cluster.step(5)
    stands = batch.target.bring_job(job)
    assert stands.state == "starting"
    assert words in stands.why


def test_another_image_than_was_signed_is_the_end(batch):
    """A node that has something else under the name that it looks for."""
    batch.cluster.images.behave(container="batch", only_here=True)
    batch.cluster.images.behave(container="content", only_here=True)
    batch.target = batch.attach(batch_places=PLACES, images="present", registry="", gateway_image="gateway:1")
    stands = passes(batch, wish(), "failed")
    assert "not the one that was signed" in stands.why


@pytest.mark.parametrize("more", [{"mark": "n" * 16}, {"memory_mb": 700}], ids=["another run", "another form"])
def test_what_was_there_before_ends_first(batch, more):
    """They would go on from the same state: at no moment are there pods of both."""
    passes(batch, wish(), "running")
    (old,) = batch.of("Job")
    batch.cluster.kubelet.stops = False  # a pod takes its time to end
    names = set()
    for _ in range(14):
        stands = batch.target.bring_job(wish(**more))
        batch.cluster.step(seconds=6)
        owners = {one["metadata"]["ownerReferences"][0]["name"] for one in pods(batch)}
        assert len(owners) <= 1
        names |= owners
    assert stands.state == "running"
    assert len(names) == 2
    assert old["metadata"]["name"] not in {one["metadata"]["name"] for one in batch.of("Job")}


@pytest.mark.long
def test_an_ended_pod_that_somebody_keeps_is_in_nobodys_way(batch):
    """Its Job was deleted without it: another one is made, and only that one's pods say how it stands."""
    batch.cluster.images.crashes(container="batch", code=4, message="of before")
    batch.target.bring_job(wish())
    batch.cluster.step(5)
    (old,), (pod,) = batch.of("Job"), pods(batch)
    assert pod["status"]["phase"] == "Failed"
    batch.cluster.api.delete(kinds.JOB, "models", old["metadata"]["name"], {"propagationPolicy": "Orphan"})
    batch.cluster.step()
    batch.cluster.images.ends(container="batch", message=DONE)
    stands = passes(batch, wish(), "done")
    assert (stands.answered, stands.why) == (7, "")
    assert pod["metadata"]["name"] in {one["metadata"]["name"] for one in pods(batch)}


@pytest.mark.long
def test_cancelled_it_leaves_nothing_and_touches_nothing_else(batch):
    """An endpoint of its name, and another fleet's job of its name, go on."""
    batch.settle(wanted(name="night"))
    theirs = batch.attach(fleet="e" * 12, batch_places=PLACES)
    theirs.bring_job(wish())
    others = batch.everything()
    passes(batch, wish(), "running")
    assert batch.everything() > others
    ended(batch)
    batch.cluster.settle()
    assert others <= batch.everything()
    assert [one["metadata"]["labels"]["edgefleet.cloud.fleet"] for one in batch.of("Job")] == ["e" * 12]
    batch.target.remove("night")
    batch.cluster.settle()
    assert len(batch.of("Job")) == 1


def test_logs_are_its_newest_pods(batch):
    """Without what it says of how far it is; of one that waits for its module, the init program's."""
    assert batch.target.job_logs("night", lines=5) == {}
    batch.cluster.images.crashes(container="content", code=UNREACHED, log="no answer")
    passes(batch, wish(), "starting")
    batch.cluster.step(4)
    (text,) = batch.target.job_logs("night", lines=5).values()
    assert text == "no answer"
    batch.cluster.images.works(container="content")
    batch.cluster.images.behave(container="batch", log=f"one\n{HALF}\ntwo\nthree")
    passes(batch, wish(), "running", seconds=10)
    (text,) = batch.target.job_logs("night", lines=3).values()
    assert text == "one\ntwo\nthree"
    newest = max(pods(batch), key=lambda one: one["metadata"]["creationTimestamp"])
    assert batch.target.job_logs("night", lines=1) == {newest["metadata"]["name"]: "three"}


def test_another_namespace_of_the_name_is_not_taken_for_it(batch):
    """As for endpoints."""
    target = batch.attach(engine="another", batch_places=PLACES)
    for act in (lambda: target.bring_job(wish()), lambda: target.end_job("night")):
        with pytest.raises(TargetTrouble, match="another namespace"):
            act()


def test_with_no_more_rights_than_are_written_down(batch):
    """All that a job does is done with deploy/kubernetes/rbac.yaml."""
    job = wish()
    passes(batch, job, "running")
    batch.target.job_logs("night", lines=1)
    ended(batch)
    assert [one for one in batch.cluster.asked if one.code == 403] == []
