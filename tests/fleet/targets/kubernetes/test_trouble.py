"""What goes wrong in a cluster, and how an endpoint says it: in one sentence, within a bounded time."""

import json
from pathlib import Path

import pytest
import yaml

from fleet.refusals import TargetTrouble
from fleet.targets.kubernetes import api, client
from modules.errors import BadSettings
from tests.doubles.wishes import version, wanted
from tests.fleet.targets.kubernetes.conftest import role


def fails(place, wish, passes=4, seconds=10.0):
    """How it stands after a while."""
    for _ in range(passes):
        place.target.bring(wish)
        place.cluster.step(6, seconds)
    return place.target.bring(wish)


@pytest.mark.parametrize(
    ("say", "settings", "words"),
    [
        (lambda images: images.broken("*models@*"), {}, "cannot be pulled: "),
        (lambda _: None, {"cpu_cores": 64}, "Insufficient cpu"),
        *(pytest.param(*case, marks=pytest.mark.long) for case in (
        (lambda images: images.crashes(container="content", code=1, log="acme/digits:1: nobody signed it"), {},
         "did not get its module: acme/digits:1: nobody signed it"),
        (lambda images: images.out_of_memory(container="scoring", after=1), {"memory_mb": 100},
         "was ended by the kernel for using more than 164Mi of memory"),
        (lambda images: images.broken("*gateway*"), {}, "gateway:latest cannot be pulled"),
        (lambda _: None, {"memory_mb": 40_000}, "Insufficient memory"),
        )),
    ],
)  # fmt: skip
def test_it_says_why_it_is_not_ready(place, say, settings, words):
    """Which image, what is lacking, whose words: as the cluster has them, and that waiting will not do."""
    say(place.cluster.images)
    stands = fails(place, wanted(**settings))
    assert words in stands.why
    assert stands.state == "failed"
    assert "\n" not in stands.why


@pytest.mark.long
def test_a_quota_is_said(place):
    """Which one it is, and what it allows."""
    place.cluster.quota(3, "models")
    stands = fails(place, wanted(version(replicas=4)))
    assert stands.state == "failed"
    assert "the cluster takes no more pods: " in stands.why
    assert "exceeded quota: pods" in stands.why


def test_a_node_that_has_another_image_under_the_name_serves_nobody(place):
    """Side-loaded images are not compared by the cluster, so the digest that the node runs is."""
    place.cluster.images.behave("edgefleet.local/*", only_here=True)
    target = place.attach(images="present")
    for _ in range(4):
        stands = target.bring(wanted())
        place.cluster.step(4)
    assert stands.state == "failed"
    assert "not the one that was signed" in stands.why
    assert stands.versions["v1"].ready == 0


@pytest.mark.parametrize(
    ("fault", "words", "silent_s"),
    [
        (lambda faults: faults.throttle(7, times=-1, method="PATCH"), "7 s of peace", api._READ_S),
        (lambda faults: faults.fail(500, times=-1, method="PATCH"), "in trouble itself", api._READ_S),
        (lambda faults: faults.reset(times=-1, method="PATCH"), "does not answer", api._READ_S),
        (lambda faults: faults.hang(times=-1, method="PATCH"), "does not answer", 0.3),
    ],
)
def test_trouble_of_the_cluster_is_said_at_once(place, fault, words, silent_s, monkeypatch):
    """In the middle of a pass one request meets it, and is sent once more where nobody answered; then nothing is."""
    fault(place.cluster.faults)
    # Less time is given only where all of it passes: who answers may be a busy machine.
    with monkeypatch.context() as patched:
        patched.setattr(api, "_READ_S", silent_s)
        with pytest.raises(TargetTrouble, match=words):
            place.target.bring(wanted())
    assert place.cluster.faults.met <= 2
    place.cluster.faults.clear()
    place.target.bring(wanted())


def test_credentials_that_end_are_said(place):
    """As what they are, not as trouble of an endpoint's."""
    place.cluster.access.tokens.clear()
    with pytest.raises(TargetTrouble, match="does not know who we are"):
        place.target.check()


def test_what_one_part_is_refused_holds_up_no_other(place):
    """Without the right to make budgets the rest is made, and which one is lacking is said."""
    rules = [one for one in role() if "poddisruptionbudgets" not in one["resources"]]
    rules.append({"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": ["list"]})
    stands = place.attach(place.cluster.account("less", rules, "models")).bring(wanted())
    assert stands.state == "failed"
    assert 'cannot patch resource "poddisruptionbudgets"' in stands.why
    assert place.of("Deployment", "gateway")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("https://", "http://").replace("127.0.0.1", "cluster.example"), "without knowing"),
        (lambda text: text.replace('"server"', '"insecure-skip-tls-verify": true, "server"'), "without knowing"),
        (lambda _: "nonsense: [", "cannot be used"),
        (lambda text: text.replace("double", "other", 1), "cannot be used"),
    ],
)
def test_a_kubeconfig_that_cannot_be_trusted_is_refused(place, tmp_path, change, words):
    """One without TLS, one that checks nobody, and one that is none: nothing is sent anywhere."""
    file = tmp_path / "config"
    file.write_text(change(place.kubeconfig.read_text()))
    with place.asked() as made, pytest.raises(BadSettings, match=words):
        place.attach(file).check()
    assert made == []


def test_a_server_outside_a_cluster_has_no_own(place):
    """Without a kubeconfig it must be a pod there."""
    target = place.attach()
    target._attached = type(target._attached)(namespace="models", registry="r/m", content_url="https://x")
    with pytest.raises(BadSettings, match="cannot be used"):
        target.check()


def with_plugin(place, tmp_path, does):
    """The kubeconfig, whose token is now brought by a plugin beside it; the file says which ids the plugin had."""
    found = yaml.safe_load(place.kubeconfig.read_text())
    token = found["users"][0]["user"].pop("token")
    credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": token}}
    (tmp_path / "plugin").write_text(
        f"#!/bin/sh\necho $$ >> {tmp_path}/asked\n{does}\necho '{json.dumps(credential)}'\n"
    )
    (tmp_path / "plugin").chmod(0o755)
    found["users"][0]["user"]["exec"] = {"apiVersion": credential["apiVersion"], "command": "./plugin", "args": ["a b"]}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(found))
    return tmp_path / "kubeconfig"


def test_a_plugin_brings_credentials(place, tmp_path):
    """A program beside the kubeconfig, named by it, says who we are; its arguments come as they were written."""
    target = place.attach(with_plugin(place, tmp_path, '[ "$1" = "a b" ] || exit 3'))
    assert target.check()["engine"].endswith("namespace models")


@pytest.mark.parametrize("does", ["sleep 600", "echo no >&2; exit 1"], ids=["it hangs", "it fails"])
def test_a_plugin_that_brings_nothing_is_said(place, tmp_path, monkeypatch, does):
    """After its time a plugin is ended, with what it started, and the sentence says whose fault it was."""
    monkeypatch.setattr(client, "_PLUGIN_S", 1)
    target = place.attach(with_plugin(place, tmp_path, does))
    with pytest.raises(BadSettings, match=r"its plugin \./plugin brought no credentials within 1 s"):
        target.check()
    assert not Path("/proc", (tmp_path / "asked").read_text().split()[0]).exists()


def with_provider(place, tmp_path, *, used):
    """The kubeconfig with a user by auth-provider, whose program would leave a file."""
    found = yaml.safe_load(place.kubeconfig.read_text())
    config = {"cmd-path": "/bin/sh", "cmd-args": f"-c 'touch {tmp_path}/ran; sleep 600'"}
    provider = {"name": "gcp", "config": config}
    user = found["users"][0] if used else {"name": "other", "user": {}}
    user["user"] = {"auth-provider": provider}
    found["users"] = [*found["users"], user] if not used else found["users"]
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(found))
    return tmp_path / "kubeconfig"


def test_an_auth_provider_is_refused_and_never_run(place, tmp_path):
    """Its program would have no bound; the sentence says what to write instead."""
    target = place.attach(with_provider(place, tmp_path, used=True))
    with place.asked() as made, pytest.raises(BadSettings, match=r"auth-provider.*write exec"):
        target.check()
    assert (made, (tmp_path / "ran").exists()) == ([], False)


def test_an_auth_provider_of_somebody_else_in_the_file_is_no_matter(place, tmp_path):
    """Only the user of the context that is used counts."""
    assert place.attach(with_provider(place, tmp_path, used=False)).check()["engine"].endswith("namespace models")
