"""What is refused beyond its types, what may never change, and what the server gives out by itself."""

import base64
import json

import pytest

LABEL_64, LABEL_63 = "a" * 64, "a" * 63


def said(error):
    return json.loads(error.body)


def service(**spec):
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}
    return body | {"spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]} | spec}


def secret(name="s", **others):
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}} | others


def metadata(**given):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"} | given}


def scaler(**spec):
    body = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"}}
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    return body | {"spec": {"scaleTargetRef": reference, "maxReplicas": 3} | spec}


def policy(**spec):
    body = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "web"}}
    return body | {"spec": {"podSelector": {}} | spec}


def ingress(**path):
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend} | path]
    body = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "web"}}
    return body | {"spec": {"rules": [{"host": "web.example", "http": {"paths": paths}}]}}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (metadata(name="Upper"), "a lowercase RFC 1123 subdomain must consist of"),
        (metadata(name="a" * 254), "must be no more than 253 characters"),
        (metadata(name=""), "metadata.name: Required value: name or generateName is required"),
        (metadata(labels={"k": LABEL_64}), "must be no more than 63 characters"),
        (metadata(labels={"k": "sha256:abc"}), "a valid label must be an empty string or consist of"),
        (metadata(labels={"bad key": "x"}), "name part must consist of"),
        (metadata(labels={"UPPER.example/k": "x"}), "prefix part"),
        (metadata(annotations={"k": "x" * 262145}), "Too long: may not be more than 262144 bytes"),
        ({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "with.dot"}}, "RFC 1123 label"),
        (service() | {"metadata": {"name": "1web"}}, "a DNS-1035 label must consist of"),
        (service() | {"metadata": {"name": LABEL_64}}, "must be no more than 63 characters"),
        (service(ports=[{"port": 0}]), "must be between 1 and 65535, inclusive"),
        (service(ports=[{"port": 1}, {"port": 2}]), "spec.ports[0].name: Required value"),
        (service(ports=[]), "spec.ports: Required value"),
        (service(type="Balanced"), "Unsupported value"),
        (service(type="NodePort", ports=[{"port": 80, "nodePort": 80}]), "The range of valid ports is 30000-32767"),
        (service(ports=[{"port": 80, "nodePort": 30080}]), "may not be used when `type` is 'ClusterIP'"),
        (secret(data={"k": base64.b64encode(bytes(1024 * 1024 + 1)).decode()}), "Too long"),
        (secret(data={"a/b": ""}), "a valid config key must consist of"),
        (secret(type="kubernetes.io/tls", data={"tls.crt": ""}), "data[tls.key]: Required value"),
        (scaler(minReplicas=5), "must be greater than or equal to `minReplicas`"),
        (scaler(metrics=[{"type": "Resource"}]), "must populate information for the given metric source"),
        (policy(ingress=[{"from": [{"ipBlock": {"cidr": "10.0.0.1/8"}}]}]), "must be a valid CIDR value"),
        (policy(policyTypes=["Both"]), "Unsupported value"),
        (ingress(path="x"), "must be an absolute path"),
        (ingress(pathType="Regex"), "Unsupported value"),
    ],
)
def test_refused_objects(client, refused, body, words):
    """422 Invalid, with what is wrong, where, in words and as causes."""
    error = refused(client.create, body)

    assert error.status == 422
    assert said(error)["reason"] == "Invalid"
    assert words in said(error)["message"]
    assert said(error)["details"]["causes"][0]["field"]


@pytest.mark.parametrize(
    ("container", "words"),
    [
        ({"image": ""}, "image: Required value"),
        ({"name": "Main"}, "RFC 1123 label"),
        ({"ports": [{"containerPort": 8080, "name": "a-name-of-16-chr"}]}, "must be no more than 15 characters"),
        ({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}, 'Not found: "v"'),
        ({"env": [{"name": "A=B", "value": "x"}]}, "a valid environment variable name"),
        ({"resources": {"limits": {"cpu": "lots"}}}, "quantities must match the regular expression"),
        ({"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}}, "must be less than or equal to cpu limit"),
        ({"resources": {"requests": {"nvidia.com/gpu": 1}}}, "Limit must be set for non overcommitable resources"),
        ({"resources": {"limits": {"nvidia.com/gpu": "500m"}}}, "must be an integer"),
        ({"resources": {"limits": {"gpu": 1}}}, "must be a standard resource for containers"),
        ({"readinessProbe": {"periodSeconds": 5}}, "must specify a handler type"),
        ({"livenessProbe": {"tcpSocket": {"port": 80}, "successThreshold": 2}}, "must be 1"),
        ({"imagePullPolicy": "Sometimes"}, "Unsupported value"),
    ],
)
def test_refused_containers(client, refused, deployment, container, words):
    """In a template as in a pod."""
    error = refused(client.create, deployment(container))

    assert error.status == 422
    assert words in said(error)["message"]
    assert said(error)["details"]["causes"][0]["field"].startswith("spec.template.spec.containers[0]")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"selector": {"matchLabels": {"app": "other"}}}, "`selector` does not match template `labels`"),
        ({"replicas": -1}, "must be greater than or equal to 0"),
        ({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}}, "may not be 0 when `maxSurge` is 0"),
        ({"strategy": {"rollingUpdate": {"maxSurge": "half"}}}, "a valid percent string"),
        ({"strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}}, "may not be specified when strategy"),
        ({"progressDeadlineSeconds": 10, "minReadySeconds": 10}, "must be greater than minReadySeconds"),
    ],
)
def test_refused_deployments(client, refused, deployment, spec, words):
    """A Deployment that could never work is not taken."""
    error = refused(client.create, deployment(**spec))

    assert error.status == 422
    assert words in said(error)["message"]


def test_a_job_says_when_it_starts_again(client, refused, job):
    """Always, the default of a template, is none of its policies."""
    template = {"spec": {"containers": [{"name": "work", "image": "x"}]}}
    error = refused(client.create, job(template=template))

    assert 'spec.template.spec.restartPolicy: Unsupported value: "Always"' in said(error)["message"]
    indexed = refused(client.create, job(completionMode="Indexed", parallelism=2))
    assert "when completion mode is Indexed" in said(indexed)["message"]


def test_every_objection_is_listed(client, refused, deployment):
    """All at once, each with its field."""
    error = refused(client.create, deployment({"image": "", "ports": [{"containerPort": 0}]}))

    assert [one["field"] for one in said(error)["details"]["causes"]] == [
        "spec.template.spec.containers[0].image",
        "spec.template.spec.containers[0].ports[0].containerPort",
    ]
    assert said(error)["message"].startswith('Deployment.apps "web" is invalid: [')


def test_what_never_changes(client, refused, deployment, job):
    """A Deployment's selector, a Service's address, a Job's template, a Secret's type."""
    client.create(deployment())
    labels = {"app": "web", "more": "x"}
    changed = {"spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}}}}
    error = refused(client.apps.patch_namespaced_deployment, "web", "default", changed)
    assert error.status == 422
    assert "spec.selector: Invalid value" in said(error)["message"]
    assert "field is immutable" in said(error)["message"]

    client.create(service())
    error = refused(client.core.patch_namespaced_service, "web", "default", {"spec": {"clusterIP": "10.96.9.9"}})
    assert "may not change once set" in said(error)["message"]

    client.create(job())
    error = refused(
        client.batch.patch_namespaced_job,
        *["batch", "default"],
        {"spec": {"template": {"spec": {"containers": [{"name": "work", "image": "y"}]}}}},
    )
    assert "spec.template" in said(error)["message"]

    client.create(secret(immutable=True, data={"a": ""}))
    error = refused(client.core.patch_namespaced_secret, "s", "default", {"data": {"a": "eA=="}})
    assert "field is immutable when `immutable` is set" in said(error)["message"]
    assert refused(client.core.patch_namespaced_secret, "s", "default", {"type": "x/y"}).status == 422


def test_an_applied_job_is_immutable_too(client, refused, job):
    """A Job that is applied again with another image is refused, not replaced."""
    client.apply(job())
    body = job()
    body["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.example/work:2"

    assert client.apply(job())["metadata"]["name"] == "batch"
    assert refused(client.apply, body).status == 422


def test_data_that_is_no_base64(client, refused):
    """It cannot even be read: 400."""
    assert refused(client.create, secret(data={"k": "no base64!"})).status == 400


def test_plain_text_of_a_secret_is_encoded(client):
    """stringData is written, and never read back."""
    got = client.create(secret(stringData={"password": "x"}))

    assert got["data"] == {"password": "eA=="}
    assert "stringData" not in got
    assert got["type"] == "Opaque"


def test_a_service_gets_its_address(client):
    """An address within the cluster, kept by a write that does not name it; a NodePort gets a port, and keeps it."""
    node = service(type="NodePort") | {"metadata": {"name": "node"}}
    client.create(node)
    first = client.apply(service())["spec"]
    again = client.apply(service())["spec"]
    ported = client.core.patch_namespaced_service("node", "default", {"metadata": {"labels": {"a": "b"}}}).spec
    client.core.delete_namespaced_service("node", "default")
    replaced = client.core.replace_namespaced_service("web", "default", service()).spec

    assert first["clusterIP"] == again["clusterIP"] == replaced.cluster_ip
    assert first["clusterIPs"] == [first["clusterIP"]]
    assert first["internalTrafficPolicy"] == "Cluster"
    assert ported.cluster_ip != first["clusterIP"]
    assert 30000 <= ported.ports[0].node_port <= 32767


def test_a_load_balancer_stays_pending(cluster, client):
    """On a plain cluster nobody gives it an address; where a cloud does, it stands in the status."""
    client.create(service(type="LoadBalancer"))
    cluster.settle()
    pending = client.core.read_namespaced_service("web", "default").status.load_balancer.ingress
    cluster.give_address("web", "192.0.2.7")

    assert not pending
    assert client.core.read_namespaced_service("web", "default").status.load_balancer.ingress[0].ip == "192.0.2.7"


def test_an_object_that_is_too_large(client, refused):
    """etcd takes a megabyte and a half; a request body three."""
    body = metadata() | {"data": {"x": "y" * 900_000}}
    body["metadata"]["annotations"] = {"note": "z" * 200_000}
    client.create(body)
    assert refused(client.create, metadata(name="d") | {"data": {"x": "y" * 1_100_000}}).status == 422
    assert refused(client.create, metadata(name="e") | {"data": {"x": "y" * 3_200_000}}).status == 413
