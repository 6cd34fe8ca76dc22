"""An endpoint in a namespace, from nothing to nothing: made, changed without a gap, put back, taken away."""

import json

import msgspec
import pytest

from fleet.refusals import TargetTrouble
from fleet.targets.contract import Found
from fleet.targets.kubernetes import front
from modules.protocol import content
from modules.protocol.endpoint import TABLE
from tests.doubles.kubernetes import kinds
from tests.doubles.kubernetes.managed import Writer
from tests.doubles.wishes import version, wanted


def table(place):
    """The table that the gateway is to use now."""
    (deployment,) = place.of("Deployment", "gateway")
    name = deployment["spec"]["template"]["metadata"]["annotations"]["edgefleet.cloud.secret"]
    (secret,) = (one for one in place.of("Secret", "door") if one["metadata"]["name"] == name)
    return json.loads(front.data(secret)[TABLE])


def asked(place):
    """The addresses of the replicas in it, by version."""
    versions = table(place)["slots"]["digits"]["versions"]
    return {one["name"]: {each["url"] for each in one["replicas"]} for one in versions}


def test_from_nothing_to_an_endpoint_that_serves(place):
    """It is ready, clients are told where, and the gateway asks the version's pods alone."""
    stands = place.settle(wanted(version(replicas=2)))
    assert (stands.state, stands.why) == ("ready", "")
    (service,) = place.of("Service", "gateway")
    assert stands.url == f"http://node:{service['spec']['ports'][0]['nodePort']}"
    assert (stands.versions["v1"].ready, stands.versions["v1"].wanted) == (2, 2)
    (replicas,) = place.of("Service", "replica")
    assert asked(place) == {"v1": {f"http://{replicas['metadata']['name']}:5001"}}
    assert len(place.of("Pod", "replica")) == len(place.of("Pod", "gateway")) == 2


@pytest.mark.long
def test_any_share_of_a_processor_is_taken(place):
    """However small it is: nothing in the pod asks for more than it may have."""
    assert place.settle(wanted(cpu_cores=0.01)).state == "ready"


@pytest.mark.long
def test_another_pass_changes_nothing(place):
    """What is there is as it was, to the version of each object."""
    wish = wanted(version(), version("next", "acme/digits:2", weight=10))
    place.settle(wish)
    before = {(kind, name): place.cluster.object(kind, name, "models")["metadata"]["resourceVersion"]
              for kind, name in place.everything()}  # fmt: skip
    place.target.bring(wish)
    place.target.bring(wish)
    after = {(kind, name): place.cluster.object(kind, name, "models")["metadata"]["resourceVersion"]
             for kind, name in place.everything()}  # fmt: skip
    assert after == before


@pytest.mark.long
def test_nobody_is_asked_before_it_is_ready(place):
    """While its samples are not answered it is in no route, and the endpoint says why it is not ready."""
    place.cluster.images.never_ready(container="scoring", message="sample one: expected 1, got 2", log="INFO loaded")
    wish = wanted()
    for _ in range(3):
        stands = place.target.bring(wish)
        place.cluster.step(4)
    assert asked(place) == {"v1": set()}
    assert stands.state != "ready"
    assert "sample one: expected 1, got 2" in stands.why
    assert "INFO loaded" in stands.why
    place.cluster.images.works(container="scoring")
    assert place.settle(wish).state == "ready"


@pytest.mark.long
def test_the_old_module_serves_until_the_gateways_ask_the_new_one(place):
    """New pods ready, then each gateway, then nothing of the old ones: nobody is ever asked who is not there."""
    place.settle(wanted())
    (old,) = place.names("Service", "replica")
    wish = wanted(version(ref="acme/digits:2"))
    gone_over = 0
    for _ in range(40):
        place.target.bring(wish)
        # Whoever any gateway may still ask is there, and has a pod that answers.
        secrets = {one["metadata"]["name"]: one for one in place.of("Secret", "door")}
        for pod in place.of("Pod", "gateway"):
            read = json.loads(front.data(secrets[pod["metadata"]["annotations"]["edgefleet.cloud.secret"]])[TABLE])
            for one in read["slots"]["digits"]["versions"]:
                hosts = {each["url"].split("/")[2].split(":")[0] for each in one["replicas"]}
                assert hosts <= place.names("Service", "replica")
                for host in hosts:
                    status = place.cluster.object("Deployment", host, "models")["status"]
                    assert status.get("availableReplicas"), host
                gone_over += old not in hosts
        place.cluster.step()
    assert gone_over
    assert old not in place.names("Service", "replica") | place.names("Deployment", "replica")
    assert len(place.of("Secret", "content")) == len(place.of("Secret", "door")) == 1
    assert place.settle(wish).versions["v1"].module == "acme/digits:2"


@pytest.mark.long
def test_a_version_that_does_not_start_takes_nothing_away(place):
    """The old one goes on, and why the new one does not come is said; back at the old one, nothing of it is left."""
    before = wanted()
    place.settle(before)
    old = place.names("Deployment", "replica")
    wish = wanted(version(ref="acme/digits:2"))
    new = wish.versions[0].module.manifest.runtimes[0].image.manifest.sha256
    place.cluster.images.crashes(f"*@{new}", code=3, log="the graph is broken")
    for _ in range(4):
        stands = place.target.bring(wish)
        place.cluster.step(30)
    stands = place.target.bring(wish)
    assert stands.state == "failed"
    assert "the graph is broken" in stands.why
    assert old < place.names("Deployment", "replica")
    assert asked(place)["v1"] == {f"http://{name}:5001" for name in old}
    place.settle(before)
    assert place.names("Deployment", "replica") == old


@pytest.mark.long
def test_what_somebody_changed_is_put_back(place):
    """Fewer pods, another image, an open network policy, a label of a service, objects that are gone: all as it was."""
    wish = wanted(version(replicas=2))
    place.settle(wish)
    before = place.everything()
    (deployment,), (service,) = place.of("Deployment", "replica"), place.of("Service", "replica")
    (policy,) = (one for one in place.of("NetworkPolicy", "replica"))
    image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    kubectl(place, "Deployment", deployment, {"spec": {"replicas": 0}})
    containers = [{"name": "scoring", "image": "evil.example/x"}]
    kubectl(place, "Deployment", deployment, {"spec": {"template": {"spec": {"containers": containers}}}})
    kubectl(place, "NetworkPolicy", policy, {"spec": {"ingress": [{}]}})
    kubectl(place, "Service", service, {"spec": {"selector": {"edgefleet.cloud.part": "other"}}})
    for kind in ("PodDisruptionBudget", "ServiceAccount"):
        for one in place.of(kind):
            if one["metadata"]["name"].startswith("ef-"):
                place.cluster.api.delete(kind_of(kind), "models", one["metadata"]["name"])
    place.settle(wish)
    name = deployment["metadata"]["name"]
    now = place.cluster.object("Deployment", name, "models")
    assert now["spec"]["replicas"] == 2
    assert now["spec"]["template"]["spec"]["containers"][0]["image"] == image
    assert place.cluster.object("NetworkPolicy", policy["metadata"]["name"], "models")["spec"] == policy["spec"]
    assert place.cluster.object("Service", name, "models")["spec"]["selector"] == service["spec"]["selector"]
    kept = {one for one in before if one[0] not in {"Pod", "ReplicaSet"}}
    assert kept <= place.everything()


@pytest.mark.long
def test_what_cannot_stand_beside_ours_goes(place):
    """A port in the place of ours, and another kind of probe, would be kept beside it, and both together refused."""
    wish = wanted()
    place.settle(wish)
    (service,), (deployment,) = place.of("Service", "gateway"), place.of("Deployment", "gateway")
    (had,) = (one["nodePort"] for one in service["spec"]["ports"])
    ports = [{"$patch": "replace"}, {"name": "score", "port": 81, "targetPort": 9999, "nodePort": had + 1}]
    kubectl(place, "Service", service, {"spec": {"ports": ports}})
    probe = {"tcpSocket": None, "httpGet": {"path": "/", "port": 1}}
    containers = [{"name": "gateway", "readinessProbe": probe}]
    kubectl(place, "Deployment", deployment, {"spec": {"template": {"spec": {"containers": containers}}}})
    place.settle(msgspec.structs.replace(wish, port=had))
    (now,) = place.of("Service", "gateway")
    assert [(one["port"], one["targetPort"], one["nodePort"]) for one in now["spec"]["ports"]] == [(80, 8700, had)]
    (now,) = place.of("Deployment", "gateway")
    assert now["spec"]["template"]["spec"] == deployment["spec"]["template"]["spec"]


def kind_of(name):
    return kinds.of(name)


def kubectl(place, kind, thing, change):
    """As somebody does it by hand."""
    how = "application/strategic-merge-patch+json"
    place.cluster.api.patch(kind_of(kind), "models", thing["metadata"]["name"], how, change, Writer("kubectl-edit"))


@pytest.mark.long
def test_a_secret_in_the_place_of_the_gateways_goes(place):
    """Other keys under its name let nobody in: it is taken away, and made anew."""
    wish = wanted()
    place.settle(wish)
    (secret,) = place.of("Secret", "door")
    place.cluster.api.delete(kind_of("Secret"), "models", secret["metadata"]["name"])
    clean = {"name": secret["metadata"]["name"], "namespace": "models", "labels": secret["metadata"]["labels"]}
    place.cluster.make({"apiVersion": "v1", "kind": "Secret", "metadata": clean, "data": {"keys.json": "e30="}})
    place.settle(wish)
    (now,) = place.of("Secret", "door")
    assert now["data"]["keys.json"] == secret["data"]["keys.json"]
    assert now["immutable"] is True
    assert asked(place)["v1"]


@pytest.mark.long
def test_a_new_key_rolls_the_gateway(place):
    """Its pods come with it, one after the other; the replicas stay the very same pods."""
    place.settle(wanted())
    pods = place.names("Pod", "replica")
    wish = wanted()
    wish = type(wish)(**{name: getattr(wish, name) for name in wish.__struct_fields__} | {"keys": ("n" * 20, "m" * 20)})
    stands = place.target.bring(wish)
    assert stands.state == "updating"
    assert "gateway" in stands.why
    place.settle(wish)
    (secret,) = place.of("Secret", "door")
    assert b"n" * 20 in front.data(secret)["keys.json"]
    assert place.names("Pod", "replica") == pods


@pytest.mark.long
def test_scaling_keeps_the_pods_that_are_there(place):
    """More pods come, or some go, of the same group."""
    place.settle(wanted(version(replicas=1)))
    (first,) = place.names("Pod", "replica")
    place.settle(wanted(version(replicas=3)))
    assert first in place.names("Pod", "replica")
    assert len(place.names("Pod", "replica")) == 3
    place.settle(wanted(version(replicas=1)))
    assert len(place.names("Pod", "replica")) == 1


@pytest.mark.long
def test_versions_share_by_weight(place):
    """Both stand in the table, the default first; the second alone, once the first is gone."""
    place.settle(wanted(version(), version("next", "acme/digits:2", weight=10)))
    (first, second) = table(place)["slots"]["digits"]["versions"]
    assert (first["name"], second["name"], second["weight"]) == ("v1", "next", 10)
    place.settle(wanted(version("next", "acme/digits:2")))
    assert set(asked(place)) == {"next"}
    assert len(place.of("Deployment", "replica")) == 1


@pytest.mark.long
def test_what_the_autoscaler_says_counts(place):
    """The number that it sets is left alone, and comes and goes with the setting."""
    wish = wanted(autoscale_min=2, autoscale_max=5)
    assert place.settle(wish).versions["v1"].wanted == 2
    (deployment,) = place.of("Deployment", "replica")
    scale(place, deployment, 4)
    assert place.settle(wish).versions["v1"].ready == 4
    fixed = wanted(version(replicas=1))
    assert place.settle(fixed).versions["v1"].ready == 1
    assert place.of("HorizontalPodAutoscaler") == []


def scale(place, deployment, count):
    """As the autoscaler does it."""
    name = deployment["metadata"]["name"]
    thing = place.cluster.object("Deployment", name, "models") | {}
    thing["spec"]["replicas"] = count
    writer = Writer("kube-controller-manager", "Update", "scale")
    thing["metadata"].pop("managedFields", None)
    place.cluster.api.replace(kind_of("Deployment"), "models", name, thing, writer)


def told(place):
    (secret,) = place.of("Secret", "content")
    return content.decode(front.data(secret)["content.json"])


@pytest.mark.long
def test_pods_are_told_where_their_module_is(place, tmp_path):
    """The target's address of the fleet server, the group's own key, and whom to trust; renewed beside what runs."""
    place.settle(wanted())
    pods = place.names("Pod")
    first = told(place)
    assert first.url.startswith("https://10.0.0.1:8443/")
    (replica,) = table(place)["slots"]["digits"]["versions"][0]["replicas"][:1]
    assert (first.keys, first.ca) == ((replica["key"],), "the fleet's own")
    place.contents.half += 1
    place.target.bring(wanted())
    assert told(place).token != first.token
    kubectl(place, "Secret", place.of("Secret", "content")[0], {"data": {"content.json": "e30="}})
    (tmp_path / "ca.pem").write_text("another authority")
    place.settle(wanted(), place.attach(content_ca=str(tmp_path / "ca.pem")))
    assert told(place).ca == "another authority"
    place.settle(wanted(), place.attach(content_ca="system"))
    assert told(place).ca == ""
    assert place.names("Pod") == pods


@pytest.mark.long
def test_removal_leaves_nothing_and_touches_nothing_else(place):
    """Another endpoint, another fleet's of the same name, and what is not ours stay as they are."""
    place.cluster.make({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "theirs", "namespace": "models"}})
    before = place.everything()
    place.settle(wanted(name="other"))
    theirs = place.attach(fleet="e" * 12)
    place.settle(wanted(), theirs)
    others = place.everything()
    place.settle(wanted())
    assert place.everything() > others
    until_gone(place, place.target, "digits")
    assert place.everything() == others
    until_gone(place, place.target, "other")
    until_gone(place, theirs, "digits")
    assert place.everything() == before
    assert place.target.remove("digits")


def until_gone(place, target, name):
    for _ in range(6):
        if target.remove(name):
            return
        place.cluster.settle()
    raise AssertionError(f"{name} is still there")


@pytest.mark.long
def test_what_is_not_ours_is_never_taken_over(place):
    """An object of somebody else under a name that we need is said, and stays as it is."""
    place.settle(wanted())
    (service,) = place.of("Service", "gateway")
    name = service["metadata"]["name"]
    place.cluster.api.delete(kind_of("Service"), "models", name)
    spec = {"ports": [{"name": "x", "port": 80, "targetPort": 1}], "selector": {"app": "theirs"}}
    metadata = {"name": name, "namespace": "models"}
    place.cluster.make({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    stands = place.target.bring(wanted())
    assert stands.state == "failed"
    assert "not of this endpoint" in stands.why
    assert place.cluster.object("Service", name, "models")["spec"]["selector"] == {"app": "theirs"}
    place.target.remove("digits")
    assert place.cluster.object("Service", name, "models")


@pytest.mark.long
def test_a_pass_that_is_broken_off_is_gone_on_with(place):
    """Whichever write is the last, done or not, the next server begins from what is there and gets to the end."""
    place.settle(wanted())
    for number, kind in enumerate(("secrets", "deployments", "services", "networkpolicies"), start=2):
        wish = wanted(version(ref=f"acme/digits:{number}"))
        # As often as the client tries it.
        place.cluster.faults.reset(method="PATCH", path=f"/{kind}/", times=2, after=number % 2 == 0)
        with pytest.raises(TargetTrouble, match="does not answer"):
            place.target.bring(wish)
        place.cluster.faults.clear()
        assert place.settle(wish, place.attach()).versions["v1"].module == f"acme/digits:{number}"


@pytest.mark.long
def test_logs_are_each_pods(place):
    """By the pod's name, its last lines; of one that is waiting for its module, its init program's."""
    place.cluster.images.behave(container="scoring", log="one\ntwo\nthree\n")
    place.cluster.images.behave(container="gateway", log="listening\n")
    place.settle(wanted())
    found = place.target.logs("digits", lines=2)
    assert found.keys() == place.names("Pod")
    (replica,) = (found[name] for name in place.names("Pod", "replica"))
    assert "three" in replica
    assert "one" not in replica


@pytest.mark.long
def test_an_ingress_comes_and_goes(place):
    """Attached to expose by an Ingress, endpoints get one, and lose it with the next kind of exposure."""
    by_ingress = place.attach(expose="Ingress", name="{endpoint}.example", tls_secret="wild")
    stands = place.settle(wanted(), by_ingress)
    assert stands.url == "https://digits.example"
    assert len(place.of("Ingress")) == 1
    place.settle(wanted())
    assert place.of("Ingress") == []


def test_another_namespace_of_the_name_is_not_taken_for_it(place):
    """Made anew, it is another place: nothing is done there until a person says so."""
    target = place.attach(engine="another")
    for act in (lambda: target.bring(wanted()), lambda: target.remove("digits")):
        with pytest.raises(TargetTrouble, match="another namespace"):
            act()
    assert place.everything() == set()


@pytest.mark.long
def test_what_stands_there_is_known_by_labels(place):
    """By this fleet's labels alone, whether a row speaks of it or not; removed, nothing of it is there."""
    place.settle(wanted(version()))
    assert place.target.present() == {Found("endpoint", "digits")}
    assert place.attach(fleet="e" * 12).present() == frozenset()
    while not place.target.remove("digits"):
        place.cluster.settle()
    assert place.target.present() == frozenset()
