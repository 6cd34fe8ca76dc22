"""The Helm chart, rendered and linted by the real helm, and held against Kubernetes' own schemas and kubectl."""

import copy
import json
import re

import kubernetes_validate
import pytest
import yaml

from fleet.settings import Settings
from modules import __version__
from tests.house.tree import ROOT
from tests.parts import helm

CHART = ROOT / "deploy/helm/edgefleet"
RELEASE = "fleet"
NAMESPACE = "edge"
CA = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
LEAST = {
    "images": {"server": "images.example/edgefleet-server:0.1.0", "broker": "images.example/mosquitto:2.0.18"},
    "server": {"host": "fleet.example.org"},
}
LARGE = {
    "images": {
        "server": f"images.example:5000/edgefleet/server@sha256:{'a' * 64}",
        "broker": "images.example:5000/mosquitto:2.0.18",
        "pullSecrets": ["pull"],
    },
    "server": {
        "host": "fleet.example.org",
        "names": ["10.0.0.7"],
        "replicas": 3,
        "publicCa": CA,
        "trustedProxies": "10.0.0.1",
        "settings": {"order_life_s": 86400, "four_eyes": True},
        "secret": "oidc",
        "service": {"type": "ClusterIP", "port": 8443},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "edge", "operator": "Exists"}],
    },
    "blobs": {"host": "blobs.example.org", "service": {"type": "NodePort", "port": 9445}},
    "broker": {"host": "mqtt.example.org", "service": {"type": "LoadBalancer", "port": 443}},
    "database": {"secret": "database"},
    "persistence": {"accessMode": "ReadWriteMany", "storageClass": "shared"},
    "ingress": {"enabled": True, "className": "nginx", "annotations": {"backend": "HTTPS"}, "tlsSecret": "web"},
    "cloudEndpoints": {"enabled": True, "namespaces": ["models", "more-models"]},
    "networkPolicy": {
        "from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
        "serverEgress": [{"ports": [{"port": 443, "protocol": "TCP"}]}],
    },
}
BARE = LEAST | {
    "server": {"host": "fleet.example.org", "tls": False, "publicCa": "system"},
    "blobs": {"enabled": False},
    "persistence": {"existingClaim": "kept"},
    "ingress": {"enabled": True},
    "networkPolicy": {"enabled": False},
}
EACH = pytest.mark.parametrize("values", [LEAST, LARGE, BARE], ids=["least", "large", "bare"])
POD_MAKERS = ("Deployment", "Job")


def asked(values, folder, *command):
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    return helm.run("helm", *command, CHART, "--namespace", NAMESPACE, "--values", file)


def rendered(values, folder):
    done = asked(values, folder, "template", RELEASE)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def of_kind(objects, *kinds):
    return [one for one in objects if one["kind"] in kinds]


def pods(objects):
    """Every pod's template, by the name of what makes it."""
    return {one["metadata"]["name"]: one["spec"]["template"] for one in of_kind(objects, *POD_MAKERS)}


def containers(objects):
    for name, pod in pods(objects).items():
        for one in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]:
            yield f"{name}/{one['name']}", one


def server(objects):
    """The server's container, and its environment."""
    one = next(one for name, one in containers(objects) if name.endswith("/server"))
    return one, {entry["name"]: entry["value"] for entry in one["env"]}


@EACH
def test_helm_finds_no_fault(values, tmp_path):
    """`helm lint --strict` with the smallest values, with all of them, and with what can be turned off turned off."""
    done = asked(values, tmp_path, "lint", "--strict")
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout


@EACH
def test_each_object_is_what_kubernetes_takes(values, tmp_path):
    """Held against the official schemas, where no field may be unknown, and read by kubectl; no two have one name."""
    objects = rendered(values, tmp_path)
    for one in objects:
        kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)
    read = helm.run("kubectl", "label", "--local", "-f", "-", "a=b", "-o", "name", said=yaml.safe_dump_all(objects))
    assert read.returncode == 0, read.stderr
    assert len(read.stdout.splitlines()) == len(objects)
    named = [(one["kind"], one["metadata"]["namespace"], one["metadata"]["name"]) for one in objects]
    assert len(set(named)) == len(named)


@EACH
def test_every_pod_is_restricted(values, tmp_path):
    """As Kubernetes' own standard "restricted" asks, and more: no root, no privilege, no capability, a read-only root,
    no token where none is needed, and bounds of memory and CPU for each container."""
    objects = rendered(values, tmp_path)
    for name, pod in pods(objects).items():
        spec = pod["spec"]
        asked_for = spec["securityContext"]
        assert asked_for["runAsNonRoot"] is True, name
        assert asked_for["runAsUser"] not in {0, 10001}, name
        assert asked_for["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert asked_for["fsGroupChangePolicy"] == "OnRootMismatch", name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), name
        assert {kind for volume in spec["volumes"] for kind in volume} <= {
            "name", "persistentVolumeClaim", "emptyDir", "projected", "configMap",
        }, name  # fmt: skip
        may_ask = name.endswith("-server") and values.get("cloudEndpoints", {}).get("enabled", False)
        assert spec["automountServiceAccountToken"] is may_ask, name
    for name, one in containers(objects):
        asked_for = one["securityContext"]
        assert asked_for == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }, name  # fmt: skip
        assert one["resources"]["limits"].keys() == one["resources"]["requests"].keys() == {"cpu", "memory"}, name


@EACH
def test_images_are_the_values_own(values, tmp_path):
    """No image comes from anywhere but where the values say, and none is `latest`."""
    wanted = {values["images"]["server"], values["images"]["broker"]}
    assert {one["image"] for _, one in containers(rendered(values, tmp_path))} == wanted


@EACH
def test_no_secret_is_in_a_variable_or_a_configmap(values, tmp_path):
    """The database's address and a provider's secret are files that the pods mount; the chart makes no Secret."""
    objects = rendered(values, tmp_path)
    assert of_kind(objects, "Secret") == []
    for one in of_kind(objects, "ConfigMap"):
        assert set(one["data"]) == {"ca.pem"}
        assert "PRIVATE KEY" not in one["data"]["ca.pem"]
    for name, one in containers(objects):
        given = {entry["name"] for entry in one.get("env", [])}
        assert not {entry for entry in given if re.search("DATABASE|SECRET$|PASSWORD|TOKEN|_KEY", entry)}, name
        assert all("valueFrom" not in entry for entry in one.get("env", [])), name


def test_the_database_is_a_file_for_those_who_need_it(tmp_path):
    """Server and init mount it where their settings look; the broker does not."""
    objects = rendered(LARGE, tmp_path)
    for name, pod in pods(objects).items():
        sources = [
            source for volume in pod["spec"]["volumes"] for source in volume.get("projected", {}).get("sources", [])
        ]
        files = [(one["secret"]["name"], one["secret"].get("items")) for one in sources]
        there = [("database", [{"key": "url", "path": "edgefleet_fleet_database"}]), ("oidc", None)]
        assert files == ([] if name.endswith("-broker") else there), name
    for name, one in containers(objects):
        if name.endswith(("/server", "/init")):
            folder = next(entry["value"] for entry in one["env"] if entry["name"] == "EDGEFLEET_FLEET_SECRETS_DIR")
            assert folder in {mount["mountPath"] for mount in one["volumeMounts"]}


@EACH
def test_what_belongs_together_finds_each_other(values, tmp_path):
    """Each Service, policy and budget selects pods, by ports that these have; each mount has its volume; what the
    server is told is a setting of its, and the broker that it asks is a Service."""
    objects = rendered(values, tmp_path)
    labels = {name: pod["metadata"]["labels"] for name, pod in pods(objects).items()}

    def selected(selector):
        return [name for name, have in labels.items() if selector.items() <= have.items()]

    ports = {
        name: {port["name"] for one in pod["spec"]["containers"] for port in one.get("ports", [])}
        for name, pod in pods(objects).items()
    }
    for one in of_kind(objects, "Service"):
        (name,) = selected(one["spec"]["selector"])
        assert {port["targetPort"] for port in one["spec"]["ports"]} <= ports[name]
    for one in of_kind(objects, "NetworkPolicy"):
        assert len(selected(one["spec"]["podSelector"]["matchLabels"])) == 1
    for one in of_kind(objects, "Deployment", "PodDisruptionBudget"):
        assert len(selected(one["spec"]["selector"]["matchLabels"])) == 1
    for pod in pods(objects).values():
        have = {volume["name"] for volume in pod["spec"]["volumes"]}
        for one in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]:
            assert {mount["name"] for mount in one["volumeMounts"]} <= have
    _, given = server(objects)
    names = {name.removeprefix("EDGEFLEET_FLEET_").lower() for name in given} - {"secrets_dir"}
    assert names <= Settings.model_fields.keys()
    assert given["EDGEFLEET_FLEET_BROKER_SERVICE_HOST"] in {
        one["metadata"]["name"] for one in of_kind(objects, "Service")
    }


def test_what_devices_are_told_is_in_the_certificates(tmp_path):
    """The names of the addresses in bundles are those that the first run certifies, and so is the broker's own."""
    objects = rendered(LARGE, tmp_path)
    _, given = server(objects)
    init = next(one for name, one in containers(objects) if name.endswith("/init"))
    said = init["args"][0]
    assert given["EDGEFLEET_FLEET_PUBLIC_URL"] == "https://fleet.example.org"
    assert given["EDGEFLEET_FLEET_BLOB_URL"] == "https://blobs.example.org:9445"
    assert (given["EDGEFLEET_FLEET_BROKER_HOST"], given["EDGEFLEET_FLEET_BROKER_PORT"]) == ("mqtt.example.org", "443")
    for host in ("fleet.example.org", "blobs.example.org", "10.0.0.7"):
        assert f" --name {host} " in said
    for host in ("mqtt.example.org", given["EDGEFLEET_FLEET_BROKER_SERVICE_HOST"]):
        assert re.search(rf" --broker-name {re.escape(host)}\b", said)


def test_without_a_load_balancer_devices_are_told_the_nodes_ports(tmp_path):
    """Those that were chosen, on each Service; where none was, and behind an Ingress, the Service's own."""
    values = copy.deepcopy(LEAST)
    for number, part in enumerate(("server", "blobs", "broker")):
        values.setdefault(part, {})["service"] = {"type": "NodePort", "nodePort": 30443 + number}
    objects = rendered(values, tmp_path)
    _, given = server(objects)
    assert given["EDGEFLEET_FLEET_PUBLIC_URL"] == "https://fleet.example.org:30443"
    assert given["EDGEFLEET_FLEET_BLOB_URL"] == "https://fleet.example.org:30444"
    assert given["EDGEFLEET_FLEET_BROKER_PORT"] == "30445"
    ports = [one["spec"]["ports"][0] for one in of_kind(objects, "Service")]
    assert [(one["port"], one.get("nodePort")) for one in ports] == [
        (443, 30443), (8445, 30444), (8883, 30445), (8884, None),
    ]  # fmt: skip
    values["ingress"] = {"enabled": True, "annotations": {"backend": "HTTPS"}}
    values["blobs"]["service"] = {"type": "LoadBalancer", "nodePort": 30444}
    objects = rendered(values, tmp_path)
    _, given = server(objects)
    assert given["EDGEFLEET_FLEET_PUBLIC_URL"] == "https://fleet.example.org"
    assert given["EDGEFLEET_FLEET_BLOB_URL"] == "https://fleet.example.org:8445"
    assert [one["spec"]["ports"][0].get("nodePort") for one in of_kind(objects, "Service")][:2] == [None, 30444]


def test_the_broker_sees_its_own_folder_alone(tmp_path):
    """The program that strangers speak with has no way to the fleet's keys, which lie on the same volume."""
    broker = next(one for name, one in containers(rendered(LARGE, tmp_path)) if name.endswith("/mosquitto"))
    assert broker["volumeMounts"] == [{"name": "data", "mountPath": "/data/broker", "subPath": "broker"}]


def test_only_the_server_reaches_the_services_listener(tmp_path):
    """The broker's second port has no bound on connections, so nobody else gets there; the broker goes nowhere."""
    policies = {one["metadata"]["name"]: one["spec"] for one in of_kind(rendered(LEAST, tmp_path), "NetworkPolicy")}
    broker = policies["fleet-edgefleet-broker"]
    (rule,) = [rule for rule in broker["ingress"] if {"port": 8884, "protocol": "TCP"} in rule["ports"]]
    (peer,) = rule["from"]
    assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "server"
    assert broker["egress"] == []
    assert all(spec["policyTypes"] == ["Ingress", "Egress"] for spec in policies.values())


def test_rights_are_in_the_endpoints_namespaces_alone(tmp_path):
    """Roles, never ClusterRoles, with the rules of deploy/kubernetes/rbac.yaml, in the namespaces that were named; none
    where none was."""
    written = yaml.safe_load_all((ROOT / "deploy/kubernetes/rbac.yaml").read_text())
    (wanted,) = of_kind([one for one in written if one], "Role")
    routes = yaml.safe_load_all((ROOT / "deploy/kubernetes/rbac-gateway.yaml").read_text())
    (more,) = of_kind([one for one in routes if one], "Role")
    behind = copy.deepcopy(LARGE)
    behind["cloudEndpoints"]["gateway"] = True
    for values, rules in ((LARGE, wanted["rules"]), (behind, wanted["rules"] + more["rules"])):
        objects = rendered(values, tmp_path)
        assert [one["metadata"]["namespace"] for one in of_kind(objects, "Role")] == ["models", "more-models"]
        for one in of_kind(objects, "Role"):
            assert sorted(map(json.dumps, one["rules"])) == sorted(map(json.dumps, rules))
    for one in of_kind(objects, "RoleBinding"):
        assert one["subjects"] == [{"kind": "ServiceAccount", "name": "fleet-edgefleet-server", "namespace": NAMESPACE}]
    assert of_kind(rendered(LEAST, tmp_path), "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding") == []


def test_pods_of_endpoints_reach_the_server(tmp_path):
    """Whoever else may: they fetch their module there, under a name that is in its certificate."""
    policies = {one["metadata"]["name"]: one["spec"] for one in of_kind(rendered(LARGE, tmp_path), "NetworkPolicy")}
    peers = [peer for rule in policies["fleet-edgefleet-server"]["ingress"] for peer in rule["from"]]
    named = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["models", "more-models"]}
    assert {"namespaceSelector": {"matchExpressions": [named]}} in peers
    init = next(one for name, one in containers(rendered(LARGE, tmp_path)) if name.endswith("/init"))
    assert f" --name fleet-edgefleet-server.{NAMESPACE}.svc " in init["args"][0]


def test_an_upgrade_with_other_values_has_another_job(tmp_path):
    """A Job cannot be changed: where it would do something else, it is another one, and the same where not."""
    (before,) = of_kind(rendered(LEAST, tmp_path), "Job")
    changed = copy.deepcopy(LEAST) | {"broker": {"connections": 20000}}
    (after,) = of_kind(rendered(changed, tmp_path), "Job")
    (again,) = of_kind(rendered(LEAST | {"blobs": {"enabled": False}}, tmp_path), "Job")
    assert before["metadata"]["name"] == again["metadata"]["name"] != after["metadata"]["name"]


def test_the_keys_stay_when_the_release_goes(tmp_path):
    """What `helm uninstall` would take away with the volume nobody could make again."""
    (claim,) = of_kind(rendered(LEAST, tmp_path), "PersistentVolumeClaim")
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_where_pods_may_run_follows_from_the_volume(tmp_path):
    """A volume of one node keeps all that mount it on that node; one of several lets the servers spread."""
    for values, kind in ((LEAST, "podAffinity"), (LARGE, "podAntiAffinity")):
        for name, pod in pods(rendered(values, tmp_path)).items():
            assert list(pod["spec"]["affinity"]) == [kind], name
            assert pod["metadata"]["labels"]["edgefleet/volume"] == "data", name


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": {"server": "", "broker": "x:1"}}, "images"),
        ({"images": {"server": "server:latest", "broker": "x:1"}}, "images"),
        ({"images": {"server": "server", "broker": "x:1"}}, "images"),
        ({"server": {"host": ""}}, "host"),
        ({"server": {"host": "a; rm -rf /"}}, "host"),
        ({"server": {"host": "a", "names": ["$(id)"]}}, "names"),
        ({"server": {"host": "a", "settings": {"database": "postgresql://x"}}}, "'database'"),
        ({"server": {"host": "a", "settings": {"insecure_demo_keys": True}}}, "'insecure_demo_keys'"),
        ({"server": {"host": "a", "replicas": 2}}, "database.secret"),
        ({"server": {"host": "a", "tls": False}}, "no Ingress stands before"),
        ({"ingress": {"enabled": True}}, "HTTPS"),
        ({"cloudEndpoints": {"enabled": True}}, "names no namespace"),
        ({"cloudEndpoints": {"enabled": True, "namespaces": [NAMESPACE]}}, "may not be the release's own"),
        ({"servers": {}}, "servers"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_made(change, words, tmp_path):
    """Values that lack what has no default, would run in a shell, put a secret into a variable, or contradict."""
    done = asked(copy.deepcopy(LEAST) | change, tmp_path, "template", RELEASE)
    assert done.returncode != 0
    assert words in done.stderr


def test_its_version_is_ours_and_its_notes_name_what_is_there(tmp_path):
    """The chart's versions are the package's; the notes say where the CA and the first password are."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
    notes = (CHART / "templates/NOTES.txt").read_text()
    (job,) = of_kind(rendered(LEAST, tmp_path), "Job")
    said = job["spec"]["template"]["spec"]["containers"][0]["args"][0]
    assert "--password-file /data/first-password" in said
    assert "cat /data/first-password" in notes


def test_each_value_is_in_the_schema():
    """What values.yaml has, the schema allows by name, and the other way round."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())["properties"]
    assert schema.keys() - {"global"} == values.keys()
    for room, has in values.items():
        assert schema[room]["properties"].keys() == has.keys(), room
