"""A module in the cloud, on whatever cluster KUBECONFIG names: a plain one will do.

It needs no registry and no load balancer. ``python -m tests.parts.side_loaded FOLDER`` writes the two images that each
node has to have, nodes are reached at a NodePort of their internal address, and pods reach this machine at the address
that it has on the way to the cluster. CONTRIBUTING.md says it step by step.
"""

import base64
import hashlib
import json
import os
import secrets
import tempfile
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from modules.images import archive_tag
from tests.house.tree import ROOT
from tests.parts import cluster, digits, halves, side_loaded, slow_script
from tests.parts import docker as docker_parts
from tests.parts.programs import CommandFailed, until
from tests.parts.system import System
from tests.parts.traffic import Traffic

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]
NAME = "digits"
STEADY = 50
_READY_S = 300
# Five pods of a replica at a time, gateways and the cluster's own pods have to find room on one node of two cores.
_CPU = "cpu_cores=0.2"
# A node is asked itself, whatever proxy leads out of here.
_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture(scope="module")
def api():
    """The cluster, with the rights of whoever runs the tests."""
    kubernetes = pytest.importorskip("kubernetes")
    with kubernetes.config.new_client_from_config(os.environ["KUBECONFIG"]) as client:
        yield kubernetes.client.CoreV1Api(client)


@pytest.fixture(scope="module")
def nodes(api):
    """Where pods may run; nothing is made for a cluster that has no such node."""
    return cluster.nodes(api)


@pytest.fixture(scope="module")
def own_address(api, nodes):
    return cluster.own_address(api, nodes)


@pytest.fixture(scope="module")
def system(own_address):
    """A fleet whose server pods reach, with the scoring image that nodes have."""
    with (
        tempfile.TemporaryDirectory(prefix="efk-") as folder,
        docker_parts.engine(),
        closing(docker_parts.client()) as engine,
    ):
        fleet = System(Path(folder), names=[own_address], host="0.0.0.0", allowed_hosts=own_address)
        try:
            fleet.found(docker_parts.scoring_image(engine))
            yield fleet
        finally:
            fleet.close()


@pytest.fixture(scope="module")
def namespace(api):
    """Where the fleet server may make things: held to the restricted pod security standard."""
    with cluster.namespace(api, standard="restricted") as name:
        yield name


@pytest.fixture(scope="module")
def beside(api):
    """Where the tests run what looks at nodes, which no restricted pod may."""
    with cluster.namespace(api, standard="privileged") as name:
        yield name


@pytest.fixture(scope="module")
def loaded(system, api, nodes, beside):
    """The images are on each node: said before anything waits for a pod that will never start."""
    (scoring,) = system.workspace.images()
    cluster.check_images(api, nodes, beside, [archive_tag(scoring), side_loaded.GATEWAY_NAME])


@pytest.fixture(scope="module")
def kubeconfig(api, namespace, tmp_path_factory):
    """What the fleet server has: a service account with the rights of deploy/kubernetes/rbac.yaml, and no more."""
    kubernetes = pytest.importorskip("kubernetes")
    for name in ("rbac.yaml", "rbac-gateway.yaml"):
        text = (ROOT / "deploy/kubernetes" / name).read_text().replace("edgefleet-endpoints", namespace)
        for one in yaml.safe_load_all(text):
            kubernetes.utils.create_from_dict(api.api_client, one)
    token = api.create_namespaced_service_account_token("edgefleet", namespace, {"spec": {"expirationSeconds": 7200}})
    return cluster.kubeconfig(api, token.status.token, tmp_path_factory.mktemp("kubeconfig") / "config")


@pytest.fixture(scope="module")
def attached(system, nodes, loaded, namespace, kubeconfig, own_address):
    """Attaches the namespace under a name; endpoints are reached at a node's own address."""
    port = urlsplit(system.server.url).port
    tolerated = [word for one in nodes.tolerated for word in ("--tolerate", one)]

    def attach(name, *more):
        said = system.cli(
            "targets", "attach", name, "--kubeconfig", kubeconfig, "--namespace", namespace, "--content-url",
            f"https://{own_address}:{port}", "--platform", f"linux/{nodes.machine}", "--gateway-image",
            side_loaded.GATEWAY_NAME, *tolerated, *more,
            *(() if "--gateway" in more else ("--expose", "NodePort", "--address", nodes.address)),
        )  # fmt: skip
        assert said["is"]["engine"].startswith("Kubernetes v")
        return name

    return attach


@pytest.fixture(scope="module")
def target(attached):
    return attached("cluster")


def registered(system, folder, graph):
    return system.sign(system.register(graph, "digits", *digits.samples(folder)))


@pytest.fixture(scope="module")
def module(system, tmp_path_factory):
    return registered(system, tmp_path_factory.mktemp("first"), digits.GRAPH)


@pytest.fixture(scope="module")
def successor(system, tmp_path_factory):
    """A second version, whose answers are as right."""
    folder = tmp_path_factory.mktemp("successor")
    return registered(system, folder, digits.trained_on(folder))


@pytest.fixture(scope="module")
def endpoint(system, target, module):
    """The first version, deployed and waited for; removed at the end."""
    system.cli("endpoints", "deploy", NAME, "--target", target, "--module", module, "--set", _CPU)
    yield settled(system)
    if any(one["name"] == NAME for one in system.api("endpoints")):
        system.cli("endpoints", "remove", NAME)


def settled(system, name=NAME):
    """The endpoint, once it is ready."""

    def found():
        return system.api(f"endpoints/{name}")

    until(lambda: found()["state"] == "ready", f"endpoint {name} is ready", within_s=_READY_S,
          said=lambda: json.dumps(found()))  # fmt: skip
    return found()


def ask(url, bearer="", body=digits.QUESTIONS[0].body):
    """Status, headers and body of one request."""
    auth = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"} | auth)
    try:
        with _DIRECTLY.open(request, timeout=30) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def key(system):
    return system.cli("endpoints", "keys", NAME)["primary"]


def pods(api, namespace, part):
    labels = f"edgefleet.cloud.endpoint={NAME},edgefleet.cloud.part={part}"
    return [one for one in api.list_namespaced_pod(namespace, label_selector=labels).items
            if one.metadata.deletion_timestamp is None]  # fmt: skip


def test_a_key_lets_in_and_nothing_else_does(system, endpoint):
    """With it the digit is recognised by the signed module; without one the answer is 401."""
    status, headers, body = ask(endpoint["url"], key(system))
    assert (status, digits.QUESTIONS[0].wrong(body)) == (200, "")
    assert headers["x-edgefleet-module"] == endpoint["versions"][endpoint["default"]]["module"]
    assert ask(endpoint["url"])[0] == 401


def test_one_key_is_changed_while_the_other_goes_on(system, endpoint):
    """The gateways are rolled: the new key lets in, the old one ends."""
    old, other = key(system), system.cli("endpoints", "keys", NAME)["secondary"]
    new = system.cli("endpoints", "keys", NAME, "--regenerate", "primary")["primary"]
    settled(system)
    assert [ask(endpoint["url"], one)[0] for one in (new, other, old)] == [200, 200, 401]


def test_a_split_is_what_was_asked_for(system, endpoint, successor):
    """Of 1 000 requests one in ten reaches the second version, whichever gateway takes each."""
    first = endpoint["default"]
    system.cli("endpoints", "version", NAME, "next", "--module", successor)
    settled(system)
    system.cli("endpoints", "split", NAME, f"{first}=90", "next=10")
    settled(system)
    bearer = key(system)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(endpoint["url"], bearer), range(1000)))
    assert Counter(status for status, _, _ in answers) == {200: 1000}
    shares = Counter(headers["x-edgefleet-version"] for _, headers, _ in answers)
    # Each gateway deals out exactly, and each begins anew.
    assert abs(shares["next"] - 100) <= 2


def test_scaling_adds_and_takes_away(system, endpoint, api, namespace):
    """The pods that are there stay."""
    before = {one.metadata.name for one in pods(api, namespace, "replica")}
    for count, delta in (("2", 1), ("1", 0)):
        system.cli("endpoints", "version", NAME, endpoint["default"], "--replicas", count)
        settled(system)
        until(lambda wanted=delta: len(pods(api, namespace, "replica")) == len(before) + wanted, "as many as asked for",
              within_s=120)  # fmt: skip


def test_an_update_costs_no_request(system, endpoint, successor):
    """While clients post all the time, the module is replaced: every answer is right, the last ones are new."""
    at = urlsplit(endpoint["url"])
    system.cli("endpoints", "set", NAME, "auth=none")
    settled(system)
    with Traffic(at.port, f"/{NAME}/score", digits.QUESTIONS, host=at.hostname) as traffic:
        until(lambda: len(traffic.answers) > STEADY, "answers come", within_s=30)
        system.cli("endpoints", "version", NAME, endpoint["default"], "--module", successor)
        settled(system)
        seen = len(traffic.answers)
        until(lambda: len(traffic.answers) > seen + STEADY, "answers come", within_s=30)
    assert traffic.failed == []
    assert traffic.answers[-1].module == successor
    system.cli("endpoints", "set", NAME, "auth=key")
    settled(system)


def test_what_somebody_took_away_comes_back(system, endpoint, api, namespace):
    """Pods that are deleted, and a Service, are there again."""
    for one in pods(api, namespace, "replica"):
        api.delete_namespaced_pod(one.metadata.name, namespace)
    labels = f"edgefleet.cloud.endpoint={NAME},edgefleet.cloud.part=replica"
    for one in api.list_namespaced_service(namespace, label_selector=labels).items:
        # What the server answers is an object or a status, by its age; the client's model takes one of them.
        api.delete_namespaced_service(one.metadata.name, namespace, _preload_content=False)
    bearer = key(system)
    until(lambda: ask(endpoint["url"], bearer)[0] == 200, "it answers again", within_s=120)


def test_an_autoscaler_is_taken(system, endpoint, api, namespace):
    """It, budgets and policies are there by the stable API; without a metrics server the endpoint serves on."""
    kubernetes = pytest.importorskip("kubernetes").client
    chosen = {"label_selector": f"edgefleet.cloud.endpoint={NAME}"}
    client, scaling = api.api_client, kubernetes.AutoscalingV2Api(api.api_client)

    def scalers():
        return scaling.list_namespaced_horizontal_pod_autoscaler(namespace, **chosen).items

    system.cli("endpoints", "set", NAME, "autoscale_max=2")
    settled(system)
    (one,) = {each.spec.max_replicas for each in scalers()}
    assert one == 2
    assert len(kubernetes.PolicyV1Api(client).list_namespaced_pod_disruption_budget(namespace, **chosen).items) >= 2
    assert len(kubernetes.NetworkingV1Api(client).list_namespaced_network_policy(namespace, **chosen).items) == 2
    assert ask(endpoint["url"], key(system))[0] == 200
    system.cli("endpoints", "set", NAME, "autoscale_max=0")
    settled(system)
    until(lambda: not scalers(), "it has gone again", within_s=60)


def test_logs_are_shown(system, endpoint, api, namespace):
    """Each pod has its last lines, by its name; one that has just begun may have none yet."""
    found = {}

    def told():
        found.update(system.cli("endpoints", "logs", NAME))
        names = [one.metadata.name for part in ("gateway", "replica") for one in pods(api, namespace, part)]
        return names and all(found.get(name) for name in names)

    until(told, "each pod's lines are shown", within_s=60, said=lambda: json.dumps(found))


def test_why_it_cannot_be_is_said(system, endpoint):
    """More CPU than any node has: the cluster's own words, and the old pods answer."""
    system.cli("endpoints", "set", NAME, "cpu_cores=1000")

    def failed():
        found = system.api(f"endpoints/{NAME}")
        return found["state"] == "failed" and "Insufficient cpu" in found["why"]

    until(failed, "it is said", within_s=120, said=lambda: json.dumps(system.api(f"endpoints/{NAME}")))
    assert ask(endpoint["url"], key(system))[0] == 200
    system.cli("endpoints", "set", NAME, _CPU)
    settled(system)


def test_a_setting_of_another_kind_of_target_is_refused(system, endpoint):
    """Another namespace than the target's has no meaning there."""
    with pytest.raises(CommandFailed, match="namespace"):
        system.cli("endpoints", "set", NAME, "namespace=elsewhere")


def test_removal_leaves_nothing(system, endpoint, api, namespace):
    """No object of the endpoint is left, and what was there before still is."""
    system.cli("endpoints", "remove", NAME)
    until(lambda: not any(one["name"] == NAME for one in system.api("endpoints")), "it is gone", within_s=180)
    labels = f"edgefleet.cloud.endpoint={NAME}"
    for listed in (api.list_namespaced_pod, api.list_namespaced_service, api.list_namespaced_secret,
                   api.list_namespaced_service_account):  # fmt: skip
        assert listed(namespace, label_selector=labels).items == []
    assert "edgefleet" in {one.metadata.name for one in api.list_namespaced_service_account(namespace).items}


PREPARE = """
import pathlib, sys
for name in ("in", "out"):
    pathlib.Path(sys.argv[1], name).mkdir(parents=True)
    pathlib.Path(sys.argv[1], name).chmod(0o777)
pathlib.Path(sys.argv[1], "in/a.jsonl").write_text(sys.argv[2])
"""
READ = "import pathlib, sys; print(pathlib.Path(sys.argv[1], sys.argv[2]).read_text())"


@pytest.fixture(scope="module")
def disk(api, nodes, namespace, beside):
    found = cluster.Disk(api, nodes.every[0], namespace, beside, image=side_loaded.GATEWAY_NAME)
    yield found
    found.remove()


def of_job(api, namespace, name):
    """What is there of a batch job."""
    kubernetes = pytest.importorskip("kubernetes")
    jobs, chosen = kubernetes.client.BatchV1Api(api.api_client), {"label_selector": f"edgefleet.cloud.job={name}"}
    listed = (jobs.list_namespaced_job, api.list_namespaced_pod, api.list_namespaced_secret,
              api.list_namespaced_service_account)  # fmt: skip
    return [f"{each.__name__} {one.metadata.name}" for each in listed for one in each(namespace, **chosen).items]


def test_a_batch_job_outlives_its_pod(system, attached, api, namespace, disk, tmp_path_factory):
    """Its pod is deleted in the middle: each input counts once, poison is set aside, and nothing of it is left."""
    attached("batch", "--batch-place", "share/in", "--batch-place", "share/out")
    disk.run(PREPARE, slow_script.lines(400))
    slow = slow_script.registered(system, tmp_path_factory.mktemp("slow"))
    words = ("--target", "batch", "--module", slow, "--inputs", "share/in", "--outputs", "share/out", "--cpus", "0.3")

    def shown(name):
        return system.api(f"batch-jobs/{name}")

    system.cli("batch", "start", "night", *words, "--mini-batch", "2")
    until(lambda: shown("night")["answered"] >= 100, "it has begun", within_s=_READY_S,
          said=lambda: json.dumps(shown("night")))  # fmt: skip
    assert "job" not in system.cli("batch", "logs", "night")
    labels = {"label_selector": "edgefleet.cloud.job=night"}
    (before,) = api.list_namespaced_pod(namespace, **labels).items
    api.delete_namespaced_pod(before.metadata.name, namespace, grace_period_seconds=0, _preload_content=False)
    done = system.cli("batch", "show", "night", "--wait")
    assert (done["state"], done["items"], done["answered"], done["set_aside"]) == ("done", 400, 399, 1), done
    until(lambda: not of_job(api, namespace, "night"), "nothing is left of it", within_s=90,
          said=lambda: of_job(api, namespace, "night"))  # fmt: skip
    answers = [json.loads(line)["answer"] for line in disk.run(READ, "out/night/answers.jsonl").split("\n") if line]
    assert answers == slow_script.answers(400)
    assert json.loads(disk.run(READ, "out/night/set-aside.jsonl"))["kind"] == "poison"

    system.cli("batch", "start", "again", *words)
    until(lambda: shown("again")["state"] == "running", "it runs", within_s=_READY_S,
          said=lambda: json.dumps(shown("again")))  # fmt: skip
    system.cli("batch", "cancel", "again")
    until(lambda: not of_job(api, namespace, "again"), "nothing is left of it", within_s=90,
          said=lambda: of_job(api, namespace, "again"))  # fmt: skip
    assert shown("again")["state"] == "cancelled"


BY_SHARES = {"preset": "traffic", "waves": [{"percent": 10}, {"percent": 100}], "soak": "0s", "deadline": "8m"}


@pytest.fixture(scope="module")
def halved(system, target, tmp_path_factory):
    """An endpoint of a script, for everybody; removed at the end. Where it is, and its module."""
    first = halves.registered(system, tmp_path_factory.mktemp("first"))
    system.cli("endpoints", "deploy", halves.NAME, "--target", target, "--module", first, "--auth", "none",
               "--set", "cpu_cores=0.4")  # fmt: skip
    yield urlsplit(settled(system, halves.NAME)["url"]), first
    system.cli("endpoints", "remove", halves.NAME)


def asking(at):
    """Applications that ask all the time."""
    return Traffic(at.port, f"/{halves.NAME}/score", halves.QUESTIONS, every_s=0.04, host=at.hostname)


def ended(system, module, file, *states):
    """A rollout of the requests by the gates that hold without a word, once it has ended."""
    file.write_text(json.dumps(BY_SHARES))
    rollout = system.cli("rollouts", "start", module, "--endpoint", halves.NAME, "--policy", file)["id"]

    def told():
        return json.dumps([system.api(f"rollouts/{rollout}"), system.api(f"endpoints/{halves.NAME}")], indent=1)

    until(lambda: system.api(f"rollouts/{rollout}")["state"] in states, f"it is {states}", within_s=540, said=told)
    return system.cli("rollouts", "show", rollout)


def test_requests_go_over_share_by_share_and_a_version_with_errors_goes_back(system, halved, tmp_path):
    """By 10 and 100 percent, judged by errors, latency and restarts as every gateway counts them: a good version
    arrives and costs no request; one that fails at what clients ask is taken back by itself, and harms its share."""
    at, first = halved
    good, bad = (halves.registered(system, folder, **how) for folder, how in (
        (made(tmp_path, "good"), {}), (made(tmp_path, "bad"), {"flaw": halves.FAILS})))  # fmt: skip
    with asking(at) as traffic:
        until(lambda: len(traffic.answers) > STEADY, "answers come", within_s=60)
        shown = ended(system, good, tmp_path / "policy", "done", "reverted", "failed")
        until(lambda: traffic.answers[-1].module == good, "the new one answers", within_s=60)
    assert traffic.failed == []
    assert [(one["percent"], one["standing"]) for one in shown["shares"]] == [(10, "succeeded"), (100, "succeeded")]
    assert all(one["measured"]["requests"] >= 100 for one in shown["shares"]), shown["shares"]
    # What the replicas alone know, through a gateway.
    told = [(one["measured"]["answers"], one["measured"]["memory_mb"]) for one in shown["shares"]]
    assert all(answers and memory > 1 for answers, memory in told), told

    with asking(at) as traffic:
        until(lambda: len(traffic.answers) > STEADY, "answers come", within_s=60)
        before = len(traffic.answers)
        shown = ended(system, bad, tmp_path / "policy", "reverted", "done", "failed")
        asked = len(traffic.answers) - before
        until(lambda: len(traffic.answers) > before + asked + STEADY, "answers come", within_s=60)
    assert "error_percent is 100" in json.dumps(shown["history"]), shown["history"]
    assert [one["standing"] for one in shown["shares"]] == ["returned", "skipped"]
    by = Counter(one.module for one in traffic.answers)
    # Each gateway deals out exactly, begins anew with each table, and two serve while one takes another's place.
    assert 0 < by[bad] <= asked / 10 + 10, f"{by[bad]} of {asked} requests reached it"
    assert {one.module for one in traffic.failed} <= {bad}
    assert {one.module for one in traffic.answers[-20:]} == {good}
    assert first not in by


def made(folder, name):
    (folder / name).mkdir()
    return folder / name


KEEPER = """
import hashlib, json, pathlib
def run(data):
    if json.loads(data) == "read":
        return hashlib.sha256(pathlib.Path("/run/secrets/token").read_bytes()).hexdigest()
    return "nothing"
"""


def test_a_modules_secret_reaches_its_pods_and_no_other_place(system, target, api, namespace, tmp_path):
    """Missing it is said; set, the module reads it; a new value costs no request; no object but its Secret has it."""
    values = [f"planted-{secrets.token_hex(16)}" for _ in range(2)]
    source = made(tmp_path, "source")
    (source / "score.py").write_text(KEEPER)
    (tmp_path / "model.txt").write_text("none")
    (tmp_path / "one.json").write_text('{"body": "a"}')
    words = ("--entry-script", "score.py", "--source-dir", source, "--sample", tmp_path / "one.json")
    keeper = system.sign(system.register(tmp_path / "model.txt", "keeper", *words, "--secret", "token"))
    system.cli("endpoints", "deploy", "keeper", "--target", target, "--module", keeper, "--auth", "none", "--set", _CPU)

    def shown():
        return system.api("endpoints/keeper")

    until(lambda: "edgefleet secrets set token --endpoint keeper" in shown()["why"], "it says what is missing",
          within_s=60, said=lambda: json.dumps(shown()))  # fmt: skip
    file = tmp_path / "token"
    file.write_text(values[0])
    system.cli("secrets", "set", "token", "--endpoint", "keeper", "--file", file)
    url = settled(system, "keeper")["url"]

    def read():
        status, _, body = ask(url, body=b'"read"')
        return json.loads(body) if status == 200 else status

    chosen = {"label_selector": "edgefleet.cloud.endpoint=keeper"}

    def kept():
        return [one for one in api.list_namespaced_secret(namespace, **chosen).items
                if base64.b64encode(values[0].encode()).decode() in json.dumps(one.data)]  # fmt: skip

    assert read() == hashlib.sha256(values[0].encode()).hexdigest()
    assert len(kept()) == 1
    file.write_text(values[1])
    seen, wanted = [], hashlib.sha256(values[1].encode()).hexdigest()
    system.cli("secrets", "set", "token", "--endpoint", "keeper", "--file", file)
    until(lambda: seen.append(read()) or seen[-1] == wanted, "the module reads the new value", within_s=_READY_S)
    assert set(seen) <= {hashlib.sha256(one.encode()).hexdigest() for one in values}, set(seen)
    settled(system, "keeper")
    until(lambda: not kept(), "nothing of the old value is left", within_s=120)
    pods_now = json.dumps(api.api_client.sanitize_for_serialization(api.list_namespaced_pod(namespace, **chosen)))
    logs = json.dumps(system.cli("endpoints", "logs", "keeper"))
    answers = json.dumps([system.api(path) for path in ("endpoints/keeper", "events", "modules")])
    assert [value for value in values if value in pods_now + logs + answers] == []
    system.cli("endpoints", "remove", "keeper")
    until(lambda: not api.list_namespaced_secret(namespace, **chosen).items, "nothing is left of it", within_s=180)


@pytest.fixture(scope="module")
def routes(api):
    with cluster.routes(api):
        yield pytest.importorskip("kubernetes").client.CustomObjectsApi(api.api_client)


def test_an_endpoint_behind_a_gateway_is_one_route(system, attached, module, routes, namespace):
    """The cluster takes it as it is; what its Gateway says of it is said, and let in it has an address."""
    attached("behind", "--gateway", "nowhere/public", "--gateway-plain", "--address", "{endpoint}.models.example")
    system.cli("endpoints", "deploy", "routed", "--target", "behind", "--module", module, "--set", _CPU)

    def shown():
        return system.api("endpoints/routed")

    until(lambda: "no address yet" in shown()["why"], "it waits for its Gateway", within_s=_READY_S,
          said=lambda: json.dumps(shown()))  # fmt: skip
    there = ("gateway.networking.k8s.io", "v1", namespace, "httproutes")

    def found():
        return routes.list_namespaced_custom_object(*there, label_selector="edgefleet.cloud.endpoint=routed")["items"]

    (route,) = found()
    assert route["spec"]["hostnames"] == ["routed.models.example"]
    assert {one["manager"] for one in route["metadata"]["managedFields"]} == {"edgefleet"}

    def says(status, reason):
        """As the Gateway's controller would."""
        one = {"type": "Accepted", "status": status, "reason": reason, "message": "so it is"}
        one |= {"lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": route["metadata"]["generation"]}
        parent = {"parentRef": route["spec"]["parentRefs"][0], "controllerName": "example.com/it", "conditions": [one]}
        body = {"status": {"parents": [parent]}}
        routes.patch_namespaced_custom_object_status(*there, route["metadata"]["name"], body)

    says("False", "NotAllowedByListeners")
    until(lambda: "NotAllowedByListeners: so it is" in shown()["why"], "the refusal is said", within_s=60)
    says("True", "Accepted")
    assert settled(system, "routed")["url"] == "http://routed.models.example/routed/score"
    assert found()[0]["metadata"]["generation"] == route["metadata"]["generation"]
    system.cli("endpoints", "remove", "routed")
    until(lambda: not found(), "nothing is left of it", within_s=180)
