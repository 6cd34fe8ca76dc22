"""A namespace as a target over the API: attached, refused, changed, shown; and settings that a place does not have."""

import asyncio
import base64

import pytest

from fleet.targets.kubernetes import rights
from modules.manifest import Runtime
from tests.doubles import release
from tests.doubles.kubernetes.cluster import ClusterDouble
from tests.doubles.publisher import Publisher
from tests.fleet.targets.conftest import cloud, house, made, passwords, refused_fixture

__all__ = ["cloud", "house", "made", "passwords", "refused_fixture"]
TARGETS, ENDPOINTS, JOBS = "/api/v1/targets", "/api/v1/endpoints", "/api/v1/batch-jobs"


@pytest.fixture
def simulated():
    with ClusterDouble(namespaces=("models", "others")) as found:
        yield found


def reached(simulated, *, namespace="models", **more):
    role = next(one for one in rights.manifest(namespace) if one["kind"] == "Role")
    kubeconfig = more.pop("kubeconfig", None) or simulated.account("edgefleet", role["rules"], namespace)
    known = {"kubeconfig": str(kubeconfig), "namespace": namespace, "registry": "registry.example/models"}
    return {"kind": "kubernetes", "attached": known | {"content_url": "https://fleet.example"} | more}


def wish(cloud, **more):
    return {"name": "digits", "target": "cluster", "versions": {"v1": {"module": cloud.refs[0]}}} | more


async def found_trust(cloud):
    """The fleet's root of trust, without which pods are told nothing."""
    owner = Publisher()
    owner.prepare((await cloud.ask("GET", "/api/v1/tuf-online-keys")).json())
    made = {name: getattr(owner.founded, name) for name in ("root", "targets", "director")}
    body = {name: base64.b64encode(data).decode() for name, data in made.items()}
    body["teams"] = {owner.team: base64.b64encode(owner.metadata).decode()}
    answer = await cloud.ask("POST", "/api/v1/tuf-bootstrap", json=body)
    assert answer.is_success, answer.text


async def test_an_endpoint_of_a_namespace_gets_ready(cloud, simulated):
    """Attached, deployed by the duty and waited for; its target says where it is, and is not let go meanwhile."""
    answer = await cloud.ask("PUT", f"{TARGETS}/cluster", json=reached(simulated, expose="NodePort", name="node"))
    assert answer.status_code == 200, answer.text
    uid = simulated.object("Namespace", "models", "")["metadata"]["uid"]
    assert answer.json()["attached"]["engine"] == answer.json()["is"]["id"] == uid
    assert (await cloud.ask("POST", f"{TARGETS}/cluster/check")).json()["engine"].endswith("namespace models")
    await found_trust(cloud)
    image, blobs = release.make_image("acme/digits")
    for data in blobs.values():
        cloud.fleet.blobs.put(data)
    module = str(cloud.fleet.add_module("digits", runtimes=(Runtime(image=image),)))
    with simulated.automatic():
        answer = await cloud.ask("POST", ENDPOINTS, json=wish(cloud, versions={"v1": {"module": module}}))
        assert answer.status_code == 201
        async with asyncio.timeout(90):
            while (await cloud.ask("GET", f"{ENDPOINTS}/digits")).json()["state"] != "ready":  # noqa: ASYNC110 - another task's row
                await asyncio.sleep(0.2)
        found = (await cloud.ask("GET", f"{ENDPOINTS}/digits")).json()
        assert found["url"].startswith("http://node:3")
        logs = await cloud.ask("GET", f"{ENDPOINTS}/digits/logs")
        assert logs.status_code == 200, logs.text
        shown = {one["name"]: one for one in (await cloud.ask("GET", TARGETS)).json()}
        assert shown["cluster"]["at"].startswith("models of ")
        assert shown["lab"]["at"] == "unix:///nonexistent.sock"
        assert (await cloud.ask("DELETE", f"{TARGETS}/cluster")).status_code == 409
        await cloud.ask("DELETE", f"{ENDPOINTS}/digits")
        async with asyncio.timeout(60):
            while (await cloud.ask("GET", ENDPOINTS)).json():  # noqa: ASYNC110 - another task's row
                await asyncio.sleep(0.2)
    assert simulated.objects("Deployment", "models") == []


@pytest.mark.long
async def test_a_batch_job_in_a_namespace_gets_done(cloud, simulated):
    """Started over the API, brought about by the duty, its counts and log kept, and nothing left but the claims."""
    for name in ("data", "answers"):
        spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}, "volumeName": name}
        meta = {"name": name, "namespace": "models"}
        simulated.make({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec})
    said = '{"state": "finished", "items": 3, "answered": 2, "set_aside": 1, "seconds": 1}'
    simulated.images.behave(container="batch", exits=0, after=3, log="INFO so", message=said)
    body = reached(simulated, batch_places="data,answers")
    answer = await cloud.ask("PUT", f"{TARGETS}/cluster", json=body)
    assert answer.status_code == 200, answer.text
    await found_trust(cloud)
    image, blobs = release.make_image("acme/digits")
    for data in blobs.values():
        cloud.fleet.blobs.put(data)
    module = str(cloud.fleet.add_module("digits", runtimes=(Runtime(image=image),)))
    asked = {"name": "night", "target": "cluster", "module": module, "inputs": "data", "outputs": "answers"}
    with simulated.automatic():
        answer = await cloud.ask("POST", JOBS, json=asked)
        assert answer.status_code == 201, answer.text
        async with asyncio.timeout(60):
            while (found := (await cloud.ask("GET", f"{JOBS}/night")).json())["state"] != "done":  # noqa: ASYNC110 - another task's row
                await asyncio.sleep(0.2)
            while simulated.objects("Job", "models") or simulated.objects("Secret", "models"):  # noqa: ASYNC110 - a cluster's
                await asyncio.sleep(0.2)
    assert (found["items"], found["answered"], found["set_aside"], found["starts"]) == (3, 2, 1, 1)
    assert found["outputs"] == "answers/night"
    assert (await cloud.ask("GET", f"{JOBS}/night/logs")).json() == {"job": "INFO so"}
    assert len(simulated.objects("PersistentVolumeClaim", "models")) == 2


async def test_a_target_with_endpoints_stays_where_it_is(cloud, simulated, refused):
    """Another namespace, or another kind of place, under its name is refused."""
    assert (await cloud.ask("PUT", f"{TARGETS}/cluster", json=reached(simulated))).status_code == 200
    await cloud.ask("POST", ENDPOINTS, json=wish(cloud))
    answer = await cloud.ask("PUT", f"{TARGETS}/cluster", json=reached(simulated, namespace="others"))
    assert "another place" in refused(answer, 409, "conflict")["detail"]


async def test_rights_that_are_lacking_are_said(cloud, simulated, refused):
    """It is not attached."""
    kubeconfig = simulated.account("nobody", [], "models")
    answer = await cloud.ask("PUT", f"{TARGETS}/cluster", json=reached(simulated, kubeconfig=kubeconfig))
    detail = refused(answer, 503, "target-trouble")["detail"]
    assert "rights are missing in this namespace: get namespaces, list pods, get pods/log, and" in detail


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"registry": ""}, "registry"),
        ({"registry": "no slash"}, "registry"),
        ({"namespace": "Models"}, "namespace"),
        ({"expose": "Everywhere"}, "expose"),
        ({"expose": "NodePort"}, "name"),
        ({"expose": "Ingress", "name": "{endpoint}{endpoint}"}, "host names"),
        ({"tls_secret": "wild"}, "Ingress"),
        ({"content_url": "http://fleet.example"}, "https"),
        ({"content_url": "https://"}, "https"),
        ({"content_url": "https://user@fleet.example"}, "https"),
        ({"kubeconfig": "relative"}, "kubeconfig"),
        ({"node_selector": {"pool": 1}}, "node_selector"),
        ({"tolerations": [{"effect": "Never"}]}, "effect"),
        ({"docker": "unix:///x"}, "docker"),
    ],
)
async def test_what_cannot_be_is_refused_before_anybody_is_asked(cloud, simulated, refused, more, word):
    """Each refusal names what is wrong, and no target is there afterwards."""
    body = reached(simulated, kubeconfig="/nowhere")
    body["attached"] |= more
    assert word in str(refused(await cloud.ask("PUT", f"{TARGETS}/cluster", json=body), 422, "invalid"))
    assert [one["name"] for one in (await cloud.ask("GET", TARGETS)).json()] == ["lab"]
    assert simulated.asked == []


@pytest.mark.parametrize(
    ("target", "settings", "word"),
    [
        ("lab", {"autoscale_max": 3}, "autoscale_max"),
        ("lab", {"probe_period_s": 5}, "probe_period_s"),
        ("lab", {"namespace": "models"}, "namespace"),
        ("cluster", {"namespace": "others"}, "models"),
        ("cluster", {"port": 30000}, "ClusterIP"),
        ("cluster", {"autoscale_min": 3, "autoscale_max": 2}, "autoscale_min"),
    ],
)
@pytest.mark.long
async def test_what_a_place_does_not_have_is_refused(cloud, simulated, refused, target, settings, word):
    """When an endpoint is made, and when it is changed."""
    await cloud.ask("PUT", f"{TARGETS}/cluster", json=reached(simulated))
    answer = await cloud.ask("POST", ENDPOINTS, json=wish(cloud, target=target, settings=settings))
    assert word in str(refused(answer, 422, "invalid"))
    assert (await cloud.ask("POST", ENDPOINTS, json=wish(cloud, target=target))).status_code == 201
    answer = await cloud.ask("PATCH", f"{ENDPOINTS}/digits", json={"settings": settings})
    assert word in str(refused(answer, 422, "invalid"))


async def test_a_gateway_is_not_left_behind_with_routes(cloud, simulated, refused):
    """While endpoints live there, another kind of exposure would leave their routes at the Gateway: it is refused."""
    granted = (*rights.manifest("models"), *rights.manifest_of_gateway("models"))
    rules = [rule for one in granted if one["kind"] == "Role" for rule in one["rules"]]
    kubeconfig = simulated.account("routes", rules, "models")
    behind = {"expose": "Gateway", "gateway": "infra/public", "name": "{endpoint}.example", "kubeconfig": kubeconfig}
    answer = await cloud.ask("PUT", f"{TARGETS}/cluster", json=reached(simulated, **behind))
    assert answer.status_code == 200, answer.text
    assert (await cloud.ask("POST", ENDPOINTS, json=wish(cloud))).status_code == 201
    other = reached(simulated, expose="NodePort", name="node", kubeconfig=kubeconfig)
    answer = await cloud.ask("PUT", f"{TARGETS}/cluster", json=other)
    assert "left at the Gateway" in refused(answer, 409, "conflict")["detail"]
    again = reached(simulated, **behind | {"gateway": "infra/other"})
    assert (await cloud.ask("PUT", f"{TARGETS}/cluster", json=again)).status_code == 200
