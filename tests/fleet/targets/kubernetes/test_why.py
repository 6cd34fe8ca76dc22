"""Why a pod is not ready, from what clusters really say of one: one sentence, and whether time may mend it."""

import pytest

from fleet.targets.kubernetes import why

SPEC = {
    "initContainers": [{"name": "content", "image": "gateway"}],
    "containers": [{"name": "scoring", "image": "scoring@sha256:1", "resources": {"limits": {"memory": "128Mi"}}}],
}
RUNNING = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}


def pod(*, scoring=None, content=None, **status):
    found = dict(status)
    if content:
        found["initContainerStatuses"] = [{"name": "content", "restartCount": 0, "ready": False} | content]
    if scoring:
        found["containerStatuses"] = [
            {"name": "scoring", "restartCount": 0, "ready": False, "image": "scoring"} | scoring
        ]
    return {"metadata": {"name": "p"}, "spec": SPEC, "status": found}


def waiting(reason, message=""):
    return {"state": {"waiting": {"reason": reason, "message": message}}}


def ended(code, reason="Error", message=""):
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


def event(reason, message, kind="Warning"):
    return {"type": kind, "reason": reason, "message": message}


def said(one, *events, log=""):
    return why.of_pod(one, events, lambda _container, _previous: f"2026-01-01T00:00:00.1Z {log}\n" if log else "")


@pytest.mark.parametrize(
    ("one", "events", "log", "lasting", "words"),
    [
        (
            pod(scoring=waiting("ImagePullBackOff", 'Back-off pulling image "scoring"')),
            [event("Failed", 'Failed to pull image "scoring": not found')],
            "",
            True,
            'the image scoring cannot be pulled: Failed to pull image "scoring": not found',
        ),
        (
            pod(scoring=waiting("ErrImageNeverPull", "not present with pull policy of Never")),
            [],
            "",
            True,
            "not present with pull policy of Never",
        ),
        (
            pod(conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                             "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."}]),
            [],
            "",
            True,
            "no node can take a pod: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
        ),
        (
            pod(scoring=waiting("CrashLoopBackOff") | {"lastState": ended(137, "OOMKilled"), "restartCount": 2}),
            [],
            "",
            True,
            "its scoring server was ended by the kernel for using more than 128Mi of memory",
        ),
        (
            pod(scoring={"state": RUNNING}),
            [event("Unhealthy", "Startup probe failed: sample one: expected 1, got 2")],
            "INFO listening",
            False,
            "Startup probe failed: sample one: expected 1, got 2; its log ends: INFO listening",
        ),
        (
            pod(content=waiting("CrashLoopBackOff") | {"lastState": ended(1), "restartCount": 1}),
            [],
            "acme/digits:1: nobody signed it",
            True,
            "a pod did not get its module: acme/digits:1: nobody signed it",
        ),
        (
            pod(content={"state": ended(2, message="https://fleet: connection refused")}),
            [],
            "INFO trying",
            False,
            "a pod did not get its module: https://fleet: connection refused",
        ),
        (
            pod(scoring=waiting("CrashLoopBackOff") | {"lastState": ended(3), "restartCount": 4}),
            [],
            "the manifest is none",
            True,
            "its scoring server ended (exit code 3): the manifest is none",
        ),
        (
            pod(scoring=waiting("CreateContainerConfigError", 'secret "s" not found')),
            [],
            "",
            True,
            'cannot be started: secret "s" not found',
        ),
        (
            pod(content=waiting("PodInitializing")),
            [event("FailedMount", 'MountVolume.SetUp failed: secret "s" not found')],
            "",
            False,
            'a pod waits: MountVolume.SetUp failed: secret "s" not found',
        ),
        (
            pod(content={"state": RUNNING}, scoring=waiting("PodInitializing")),
            [],
            "tried again in 9.9 s: fleet server: it cannot be reached: Connection refused",
            False,
            "a pod has not got its module yet: tried again in 9.9 s: fleet server: it cannot be reached",
        ),
        (
            pod(scoring=waiting("PodInitializing")),
            [event("Failed", 'Failed to pull image "scoring": no such host'), event("Failed", "Error: ErrImagePull")],
            "",
            False,
            'a pod waits: Failed to pull image "scoring": no such host',
        ),
        (
            pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory."),
            [],
            "",
            False,
            "a pod was ended by its node (Evicted): The node was low on resource: memory.",
        ),
    ],
)  # fmt: skip
def test_the_sentence(one, events, log, lasting, words):
    """Each has what an operator needs to act, and says whether to wait."""
    found = said(one, *events, log=log)
    assert words in found.why
    assert found.lasting is lasting
    assert "\n" not in found.why


@pytest.mark.parametrize(
    "one",
    [
        pod(),
        pod(scoring=waiting("ContainerCreating")),
        pod(content={"state": RUNNING}, scoring=waiting("PodInitializing")),
        pod(scoring={"state": RUNNING}),
        pod(content={"state": ended(0, "Completed")}, scoring={"state": RUNNING}),
        pod(scoring={"state": RUNNING, "ready": True, "lastState": ended(137), "restartCount": 7}),
    ],
)
def test_who_is_only_starting_is_in_no_trouble(one):
    """Nothing is said while all goes its way, and nothing of what is over."""
    assert said(one, event("Scheduled", "assigned", "Normal")) is None
    over = event("FailedMount", "failed to sync secret cache"), event("Started", "Started container content", "Normal")
    assert said(one, *over, log="acme/digits:1: 3 files are here") is None


def test_a_quota_is_said_by_what_makes_pods():
    """The Deployment has it from the cluster."""
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
                 "message": "pods is forbidden: exceeded quota: small"}  # fmt: skip
    found = why.of_deployment({"status": {"conditions": [condition]}})
    assert found == why.Trouble(
        "the cluster takes no more pods: pods is forbidden: exceeded quota: small", lasting=True
    )
    assert why.of_deployment({"status": {}}) is None


def test_another_image_than_was_signed_is_seen():
    """By the digest that the node runs, of the manifest or of the configuration; nothing while it says none."""
    signed = ("sha256:" + "a" * 64, "sha256:" + "b" * 64)
    for same in ("registry.example/m@sha256:" + "a" * 64, "sha256:" + "b" * 64, "docker://sha256:" + "b" * 64, ""):
        assert why.not_signed(pod(scoring={"imageID": same}), signed) == ""
    assert why.not_signed(pod(scoring={"imageID": "x@sha256:" + "c" * 64}), signed) == "sha256:" + "c" * 64
