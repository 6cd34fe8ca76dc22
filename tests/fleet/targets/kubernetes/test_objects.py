"""What a namespace is asked to have for an endpoint: pure, and held against the official schemas."""

import json

import kubernetes_validate
import msgspec
import pytest

from fleet.targets import door
from fleet.targets.groups import Seen
from fleet.targets.kubernetes import front, observed, pods, replicas
from fleet.targets.kubernetes.attached import Attached, Toleration
from fleet.targets.kubernetes.cluster import Namespace
from fleet.targets.kubernetes.names import TABLE_OF, Names
from fleet.targets.kubernetes.observed import Look
from modules.errors import Unfit
from modules.protocol.endpoint import CERTIFICATE, CERTIFICATE_KEY, Said
from tests.doubles.wishes import version, wanted

NAMES = Names("f" * 12, "digits")
REGISTRY = {"registry": "registry.example/models", "content_url": "https://fleet.example:8443"}


def attached(**more):
    return Attached(**({"namespace": "models"} | REGISTRY | more))


def group(wish, seen=None, **more):
    """The objects of the only group, by kind."""
    (made,) = replicas.made(attached(**more), wish)
    return {one["kind"]: one for one in replicas.objects(NAMES, made, wish.settings, seen=seen)}


def everything(wish, **more):
    to = attached(**more)
    yield from front.always(NAMES, to)
    for made in replicas.made(to, wish):
        yield from replicas.objects(NAMES, made, wish.settings, seen=None)
    secret = front.secret(NAMES, {"table.json": b"{}"})
    yield secret
    yield from front.gateway(NAMES, to, wish.settings, secret_name=secret["metadata"]["name"])
    yield from front.exposed(NAMES, to, wish.name, wish.settings, 30080)


@pytest.mark.parametrize("expose", ["ClusterIP", "NodePort", "LoadBalancer", "Ingress"])
def test_all_of_it_is_what_the_cluster_knows(expose):
    """Each object keeps to its official schema, and has the fleet's mark and the endpoint's name."""
    more = {"name": "{endpoint}.example" if expose == "Ingress" else "node.example"}
    wish = wanted(version(replicas=2), version("next", weight=10), autoscale_max=4)
    for one in everything(wish, expose=expose, image_pull_secret="pull", runtime_class="gvisor", **more):
        kubernetes_validate.validate(one, "1.34", strict=True)
        assert one["metadata"]["labels"].items() >= NAMES.labels.items()


def containers(wish, **more):
    for one in everything(wish, **more):
        if one["kind"] == "Deployment":
            spec = one["spec"]["template"]["spec"]
            yield from ((spec, each) for each in (*spec.get("initContainers", ()), *spec["containers"]))


def test_every_pod_is_confined():
    """No root, no capability, no way up, a read-only root, no token of the cluster, and bounds for what it uses."""
    seen = list(containers(wanted()))
    assert [one["name"] for _, one in seen] == ["content", "scoring", "gateway"]
    for spec, one in seen:
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        context = one["securityContext"]
        assert (context["readOnlyRootFilesystem"], context["allowPrivilegeEscalation"]) == (True, False)
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert one["resources"]["limits"]["memory"]
        assert one["resources"]["requests"].keys() >= {"cpu", "memory"}
        assert all("sizeLimit" in volume["emptyDir"] for volume in spec["volumes"] if "emptyDir" in volume)


def test_a_replica_starts_by_its_samples_alone():
    """Its startup probe asks them all, and has as long as the manifest gives it; a slow one is not ended for it."""
    (one,) = group(wanted(version(ready_within_s=90)))["Deployment"]["spec"]["template"]["spec"]["containers"]
    probe = one["startupProbe"]
    assert probe["exec"]["command"][:3] == ["python", "-m", "modules.scoring.prove"]
    assert probe["timeoutSeconds"] == 90
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 90


def test_probes_are_as_they_were_set():
    """Each of the five settings is where it has its effect."""
    wish = wanted(probe_period_s=7, probe_delay_s=31, probe_timeout_s=3, probe_successes=2, probe_failures=9)
    (one,) = group(wish)["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert one["startupProbe"]["initialDelaySeconds"] == 31
    for probe in (one["readinessProbe"], one["livenessProbe"]):
        assert (probe["periodSeconds"], probe["timeoutSeconds"], probe["failureThreshold"]) == (7, 3, 9)
    assert one["readinessProbe"]["successThreshold"] == 2
    # The cluster knows no other for it.
    assert "successThreshold" not in one["livenessProbe"]


@pytest.mark.parametrize(
    "changed",
    [
        wanted(version(ref="acme/digits:2")),
        wanted(memory_mb=300),
        wanted(cpu_cores=2),
        wanted(probe_period_s=3),
    ],
)
def test_what_changes_a_pod_is_another_group(changed):
    """Module, memory, CPU and probes make a new group; count, weight and the gateway's settings do not."""
    before = group(wanted())["Deployment"]["metadata"]["name"]
    assert group(changed)["Deployment"]["metadata"]["name"] != before
    for same in (wanted(version(replicas=3, weight=4)), wanted(waiting=1), wanted(autoscale_max=3)):
        assert group(same)["Deployment"]["metadata"]["name"] == before


def test_a_target_attached_anew_makes_other_pods():
    """Another registry, node or pull secret is another group, so that it comes without a gap, too."""
    attachments = ({}, {"registry": "other.example/m"}, {"node_selector": {"pool": "gpu"}}, {"image_pull_secret": "s"})
    assert len({group(wanted(), **more)["Deployment"]["metadata"]["name"] for more in attachments}) == 4


def test_names_fit_whatever_the_endpoint_is_called():
    """The longest endpoint and version have names and labels that the cluster takes, and differ from their likes."""
    long = "9" * 63
    wish = wanted(version(long), name=long)
    names = Names("f" * 12, long)
    (made,) = replicas.made(attached(), wish)
    other = Names("f" * 12, "9" * 62)
    assert names.whole != other.whole
    for one in (names.group(made.group.name), names.content(made.group.name), names.gateway, names.replicas):
        assert len(one) <= 63
        assert one[0].isalpha()
    assert all(len(value) <= 63 for value in names.of("replica", made.group.name).values())


def test_a_module_for_an_accelerator_asks_for_one():
    """Where the target has it; elsewhere the module runs on its CPU, or not at all."""
    both = version(accelerators=("cpu", "nvidia"))
    spec = group(wanted(both), accelerator="nvidia")["Deployment"]["spec"]["template"]["spec"]
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    spec = group(wanted(both))["Deployment"]["spec"]["template"]["spec"]
    assert "nvidia.com/gpu" not in spec["containers"][0]["resources"]["limits"]
    with pytest.raises(Unfit, match="linux/amd64 nvidia"):
        group(wanted(version(accelerators=("nvidia",))))
    with pytest.raises(Unfit, match="linux/arm64"):
        group(wanted(), platform="linux/arm64")


def test_images_are_pulled_by_digest_or_lie_there_by_name():
    """From a registry nothing but the signed digest; a side-loaded one is never sought elsewhere."""
    wish = wanted()
    image = wish.versions[0].module.manifest.runtimes[0].image
    (one,) = group(wish)["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert one["image"] == f"registry.example/models@{image.manifest.sha256}"
    (one,) = group(wish, images="present")["Deployment"]["spec"]["template"]["spec"]["containers"]
    digits = image.config.sha256.removeprefix("sha256:")[:16]
    assert (one["image"], one["imagePullPolicy"]) == (f"edgefleet.local/image:{digits}", "Never")


def test_pods_go_where_the_operator_said():
    """Nodes, taints, runtime class and pull secret are those of the target, beside its platform."""
    more = {"node_selector": {"pool": "gpu"}, "tolerations": (Toleration(key="gpu", operator="Exists"),)}
    spec = group(wanted(), runtime_class="kata", image_pull_secret="s", **more)["Deployment"]["spec"]["template"][
        "spec"
    ]
    assert spec["nodeSelector"] == {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "pool": "gpu"}
    assert spec["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    assert (spec["runtimeClassName"], spec["imagePullSecrets"]) == ("kata", [{"name": "s"}])


def test_an_autoscaler_holds_what_was_set():
    """Least, most, use of CPU, and how often; without a most there is none."""
    wish = wanted(autoscale_min=2, autoscale_max=6, autoscale_target=55, autoscale_refresh_s=40)
    spec = group(wish)["HorizontalPodAutoscaler"]["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 6)
    assert spec["metrics"][0]["resource"]["target"]["averageUtilization"] == 55
    policies = [one for way in spec["behavior"].values() for one in way["policies"]]
    assert {one["periodSeconds"] for one in policies} == {40}
    assert "HorizontalPodAutoscaler" not in group(wanted())


def deployment(replicas_now, *managers):
    fields = [{"manager": one, "fieldsV1": {"f:spec": {"f:replicas": {}}}} for one in managers]
    return {"metadata": {"managedFields": fields}, "spec": {"replicas": replicas_now}}


def test_the_number_is_the_autoscalers_once_it_has_said_one():
    """At first it is ours, within its bounds, for a field that we drop falls to 1; then we say none."""
    wish = wanted(autoscale_min=2, autoscale_max=6)
    assert group(wish)["Deployment"]["spec"]["replicas"] == 2
    assert group(wish, deployment(1, "edgefleet"))["Deployment"]["spec"]["replicas"] == 2
    assert group(wish, deployment(5, "edgefleet"))["Deployment"]["spec"]["replicas"] == 5
    assert "replicas" not in group(wish, deployment(5, "edgefleet", "kube-controller-manager"))["Deployment"]["spec"]
    # Without one a number that somebody typed is put back.
    assert group(wanted(), deployment(5, "kubectl"))["Deployment"]["spec"]["replicas"] == 1


def policies(**more):
    return {one["metadata"]["name"]: one["spec"] for one in front.always(NAMES, attached(**more))
            if one["kind"] == "NetworkPolicy"}  # fmt: skip


def test_replicas_are_asked_by_their_gateway_alone():
    """Who reaches them, and where they may go: DNS, and the fleet server, by its address where it has one."""
    spec = policies()[NAMES.replicas]
    (way,) = spec["ingress"]
    assert way["from"] == [{"podSelector": {"matchLabels": NAMES.of("gateway")}}]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["egress"][1] == {"ports": [{"port": 8443, "protocol": "TCP"}]}
    spec = policies(content_url="https://10.1.2.3")[NAMES.replicas]
    assert spec["egress"][1]["to"] == [{"ipBlock": {"cidr": "10.1.2.3/32"}}]
    assert spec["egress"][1]["ports"] == [{"port": 443, "protocol": "TCP"}]


def test_the_gateway_reaches_its_replicas_alone():
    """And DNS; anybody may come to its own port."""
    spec = policies()[NAMES.gateway]
    assert spec["ingress"] == [{"ports": [{"port": 8700, "protocol": "TCP"}]}]
    assert [one.get("to") for one in spec["egress"]] == [None, [{"podSelector": {"matchLabels": NAMES.of("replica")}}]]


def test_other_files_are_another_secret():
    """A gateway's Secret is never changed, so that a pod that is told of a new table has it for sure."""
    first, second = (front.secret(NAMES, {"table.json": one}) for one in (b"1", b"2"))
    assert first["immutable"] is True
    assert first["metadata"]["name"] != second["metadata"]["name"]
    assert front.data(first) == {"table.json": b"1"}


def test_a_modules_secrets_are_its_users_alone():
    """As are the gateway's, whose files have no key of TLS where something before it speaks that."""
    one = msgspec.structs.replace(version(), secrets={"token": b"abc"})
    volumes = group(wanted(one))["Deployment"]["spec"]["template"]["spec"]["volumes"]
    modes = {each["name"]: each["secret"]["defaultMode"] for each in volumes if "secret" in each}
    assert modes == {"settings": 0o440, pods.SECRETS: 0o440}
    files = door.access(msgspec.structs.replace(wanted(certificate="pem"), certificate_key="key of it"))
    assert files.keys() - front.without_tls(files).keys() == {CERTIFICATE, CERTIFICATE_KEY}


def look(*pods, **groups):
    """What is there: the groups' Deployments with what the cluster says of them, and pods."""
    empty = {"Secret": {}, "Deployment": {}}
    for name, status in groups.items():
        meta = {"name": getattr(NAMES, name, name), "generation": 1}
        notes = {"metadata": {"annotations": {TABLE_OF: "newest"}}}
        made = {"metadata": meta, "spec": {"template": notes}, "status": {"observedGeneration": 1} | status}
        empty["Deployment"][meta["name"]] = made
    return Look(empty, pods)


def pod(part, secret="newest", image=""):
    meta = {"name": f"{part}-{secret}", "labels": NAMES.of(part), "annotations": {TABLE_OF: secret}}
    status = {"phase": "Running", "containerStatuses": [{"name": "scoring", "imageID": image}] if image else []}
    return {"metadata": meta, "status": status}


def test_a_table_is_in_use_once_every_gateway_has_it():
    """One of before still answers somebody, by the replicas of before."""
    ready = {"updatedReplicas": 2, "availableReplicas": 2}
    assert observed.rolled_out(NAMES, look(pod("gateway"), pod("gateway"), gateway=ready))
    assert not observed.rolled_out(NAMES, look(pod("gateway"), pod("gateway", "older"), gateway=ready))
    assert not observed.rolled_out(NAMES, look(gateway=ready))


def test_another_image_than_was_signed_is_never_ready():
    """Whatever its pods answer."""
    wish = wanted()
    (made,) = replicas.made(attached(), wish)
    name = NAMES.group(made.group.name)
    for digest, ready in ((made.runtime.image.manifest.sha256, True), ("sha256:" + "0" * 64, False)):
        one = pod("replica", image=f"registry.example/models@{digest}")
        one["metadata"]["labels"] = NAMES.of("replica", made.group.name)
        found = look(one, **{name: {"updatedReplicas": 1, "availableReplicas": 1}})
        said = observed.said(NAMES, [made], found).replicas
        assert {each.ready for each in said.values()} == {ready}


def test_gateways_let_in_what_their_replicas_take_together():
    """Each of them its part of it, and at least one request."""
    target = Namespace(attached(), fleet="f" * 12, contents=None)
    for concurrent, count, each in ((8, 3, 12), (1, 1, 1), (5, 1, 3)):
        wish = wanted(version(replicas=count), concurrent=concurrent)
        made = replicas.made(target._attached, wish)
        route = target._table(wish, made, Seen(), Said()).slots["digits"]
        assert route.bounds.concurrent == each


def test_a_gateway_is_rolled_without_a_gap():
    """Two of them, none ended before another is ready, each with time to finish what it has begun."""
    deployment, budget = front.gateway(NAMES, attached(), wanted().settings, secret_name="s")
    spec = deployment["spec"]
    assert (spec["replicas"], spec["strategy"]["rollingUpdate"]["maxUnavailable"]) == (2, 0)
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] == pods.LEAVES_S + 35
    assert "preStop" in json.dumps(spec["template"])
    assert budget["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize(
    ("more", "status", "url"),
    [
        ({"expose": "NodePort", "name": "node"}, {}, "http://node:30080"),
        ({"expose": "LoadBalancer"}, {}, ""),
        ({"expose": "LoadBalancer"}, {"loadBalancer": {"ingress": [{"ip": "10.9.9.9"}]}}, "http://10.9.9.9"),
        ({"expose": "ClusterIP"}, {}, "http://ef-digits-.*-gateway.models.svc"),
        ({"expose": "Ingress", "name": "{endpoint}.example"}, {}, "http://digits.example"),
        ({"expose": "Ingress", "name": "{endpoint}.example", "tls_secret": "wild"}, {}, "https://digits.example"),
    ],
)
def test_clients_are_told_where_it_is(more, status, url):
    """Its address, once there is one."""
    to = attached(**more)
    service = front.exposed(NAMES, to, "digits", wanted().settings, 30080)[0] | {"status": status}
    service["metadata"]["namespace"] = "models"
    found = front.url(to, "digits", wanted().settings, service)
    assert found == url or found == url.replace(".*", NAMES.whole.rpartition("-")[2])


def test_an_ingress_speaks_tls_and_the_gateway_behind_it_does_not():
    """With the endpoint's certificate, or else the target's; the gateway alone speaks it where there is no Ingress."""
    wish = wanted(certificate="pem")
    by_ingress = attached(expose="Ingress", name="{endpoint}.example", tls_secret="wild", ingress_class="nginx")
    service, ingress = front.exposed(NAMES, by_ingress, "digits", wish.settings, 0)
    assert ingress["spec"]["tls"] == [{"hosts": ["digits.example"], "secretName": NAMES.gateway}]
    assert ingress["spec"]["ingressClassName"] == "nginx"
    assert (service["spec"]["ports"][0]["port"], front.secure(by_ingress, wish.settings)) == (80, False)
    assert front.secure(attached(), wish.settings)
    args = pods.gateway(attached(), secret="s", secure=True)["spec"]["containers"][0]["args"]
    assert "--tls-certificate" in args


@pytest.mark.parametrize(("cores", "cpu"), [(0.25, "250m"), (0.01, "10m"), (2.0, "2000m")])
def test_a_replica_has_the_share_of_a_processor_that_was_asked_for(cores, cpu):
    """Asked for and bounded alike, to the thousandth."""
    ((_, one),) = [each for each in containers(wanted(cpu_cores=cores)) if each[1]["name"] == "scoring"]
    assert (one["resources"]["requests"]["cpu"], one["resources"]["limits"]["cpu"]) == (cpu, cpu)


@pytest.mark.parametrize(
    ("generation", "observed", "updated", "available", "ready"),
    [(3, 3, 2, 2, True), (4, 3, 2, 2, False), (3, 3, 1, 2, False), (3, 3, 2, 1, False)],
)
def test_a_deployment_is_ready_once_the_cluster_speaks_of_its_newest_form(
    generation, observed, updated, available, ready
):
    """What it says of the form before is no news of this one."""
    status = {"observedGeneration": observed, "updatedReplicas": updated, "availableReplicas": available}
    assert replicas.ready({"metadata": {"generation": generation}, "status": status}, 2) is ready
