"""Reading and writing through the official client: answers, lists, pages, watches, and how each 'no' looks."""

import json
import threading

import kubernetes
import pytest

from tests.parts.pace import stretched


def config_map(name, labels=None, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels or {}}, "data": data}


def said(error):
    return json.loads(error.body)


def test_an_object_has_what_the_server_gives_it(client):
    """A uid, a version, a time; a Deployment a generation too, which counts changes of its spec alone."""
    got = client.core.create_namespaced_config_map("default", config_map("a", x="1")).metadata

    assert got.uid
    assert int(got.resource_version) > 0
    assert got.creation_timestamp is not None
    assert got.generation is None


def test_the_generation_counts_what_is_wanted(client, deployment):
    """Labels and status change the version; the spec changes the generation."""
    first = client.create(deployment())["metadata"]
    client.apps.patch_namespaced_deployment("web", "default", {"metadata": {"labels": {"a": "b"}}})
    labelled = client.apps.read_namespaced_deployment("web", "default").metadata
    client.apps.patch_namespaced_deployment("web", "default", {"spec": {"replicas": 3}})
    scaled = client.apps.read_namespaced_deployment("web", "default").metadata

    assert (first["generation"], labelled.generation, scaled.generation) == (1, 1, 2)
    assert int(first["resourceVersion"]) < int(labelled.resource_version) < int(scaled.resource_version)


def test_names_are_made_of_a_prefix(client):
    """generateName gets a random end."""
    body = config_map("")
    body["metadata"] = {"generateName": "made-"}
    names = {client.core.create_namespaced_config_map("default", body).metadata.name for _ in range(3)}

    assert len(names) == 3
    assert all(name.startswith("made-") and len(name) == 10 for name in names)


def test_what_is_not_there(client, refused):
    """404 names resource and object, with the details that clients read."""
    error = refused(client.apps.read_namespaced_deployment, "web", "default")

    assert error.status == 404
    assert said(error) == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'deployments.apps "web" not found',
        "reason": "NotFound",
        "details": {"name": "web", "group": "apps", "kind": "deployments"},
        "code": 404,
    }


def test_what_is_there_already(client, refused):
    """A second create is 409 AlreadyExists."""
    client.core.create_namespaced_config_map("default", config_map("a"))
    error = refused(client.core.create_namespaced_config_map, "default", config_map("a"))

    assert (error.status, said(error)["reason"]) == (409, "AlreadyExists")
    assert said(error)["message"] == 'configmaps "a" already exists'


def test_a_namespace_that_is_not_there(client, refused):
    """Nothing is made in it."""
    error = refused(client.core.create_namespaced_config_map, "nowhere", config_map("a"))

    assert (error.status, said(error)["message"]) == (404, 'namespaces "nowhere" not found')


def test_who_has_seen_an_old_version_does_not_replace(client, refused):
    """A replace with a version that is no longer the last is 409 Conflict."""
    old = client.core.create_namespaced_config_map("default", config_map("a", x="1"))
    client.core.patch_namespaced_config_map("a", "default", {"data": {"x": "2"}})
    error = refused(client.core.replace_namespaced_config_map, "a", "default", old)

    assert (error.status, said(error)["reason"]) == (409, "Conflict")
    assert "the object has been modified; please apply your changes to the latest version" in said(error)["message"]


def test_some_are_replaced_only_by_who_names_the_version(client, refused):
    """A disruption budget without a version is not taken."""
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"}}
    budget["spec"] = {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}
    client.create(budget)
    error = refused(client.of("PodDisruptionBudget").replace, budget, namespace="default")

    assert error.status == 422
    assert "must be specified for an update" in said(error)["message"]


@pytest.mark.parametrize(
    ("kind", "body", "data"),
    [
        ("application/merge-patch+json", {"data": {"a": None, "c": "3"}}, {"b": "2", "c": "3"}),
        ("application/strategic-merge-patch+json", {"data": {"a": "9"}}, {"a": "9", "b": "2"}),
        ("application/json-patch+json", [{"op": "remove", "path": "/data/a"}], {"b": "2"}),
    ],
)
def test_patches(client, kind, body, data):
    """Merge patch, strategic merge patch and JSON patch."""
    client.core.create_namespaced_config_map("default", config_map("m", a="1", b="2"))
    got = client.core.patch_namespaced_config_map("m", "default", body, _content_type=kind)

    assert got.data == data


def test_a_strategic_patch_finds_containers_by_name(client, deployment):
    """The container that is named is changed, and keeps what is not said."""
    client.create(deployment())
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "registry.example/web:2"}]}}}}
    got = client.apps.patch_namespaced_deployment("web", "default", patch).spec.template.spec.containers

    assert [(one.image, one.ports[0].container_port) for one in got] == [("registry.example/web:2", 8080)]


def test_unknown_fields_are_refused(client, refused, deployment):
    """As with fieldValidation=Strict: 400, and the field is named."""
    error = refused(client.create, deployment({"imagePullPolici": "Always"}))

    assert error.status == 400
    assert (
        'strict decoding error: unknown field "spec.template.spec.containers[0].imagePullPolici"'
        in said(error)["message"]
    )


def test_fields_that_the_oldest_cluster_does_not_know(client, refused, deployment):
    """What only 1.34 has cannot be used: 1.30 is supported, too."""
    body = deployment()
    body["spec"]["template"]["spec"]["hostnameOverride"] = "x"

    assert 'unknown field "spec.template.spec.hostnameOverride"' in said(refused(client.create, body))["message"]
    assert refused(client.apply, body).status == 500


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("app=a", ["one", "two"]),
        ("app!=a", ["three", "zero"]),
        ("app in (a, b),!old", ["one", "three"]),
        ("app notin (a)", ["three", "zero"]),
        ("old", ["two"]),
    ],
)
def test_selected_by_labels(cluster, client, selector, names):
    """Equality, sets, presence."""
    for name, labels in {
        "zero": {},
        "one": {"app": "a"},
        "two": {"app": "a", "old": "1"},
        "three": {"app": "b"},
    }.items():
        client.core.create_namespaced_config_map("default", config_map(name, labels))
    found = client.core.list_namespaced_config_map("default", label_selector=selector)

    assert sorted(one.metadata.name for one in found.items if one.metadata.name != "kube-root-ca.crt") == sorted(names)


def test_selected_by_fields(client, refused):
    """By name; by what the kind cannot be selected by, not."""
    client.core.create_namespaced_config_map("default", config_map("a"))
    found = client.core.list_namespaced_config_map("default", field_selector="metadata.name=a")

    assert [one.metadata.name for one in found.items] == ["a"]
    error = refused(client.core.list_namespaced_config_map, "default", field_selector="data.x=1")
    assert (error.status, said(error)["message"]) == (400, 'field label not supported: "data.x"')


def test_items_of_a_list_do_not_name_their_kind(client):
    """As in the real answer; the list does."""
    client.core.create_namespaced_config_map("default", config_map("a"))
    found = client.core.list_namespaced_config_map("default")

    assert (found.kind, found.api_version) == ("ConfigMapList", "v1")
    assert {(one.kind, one.api_version) for one in found.items} == {(None, None)}


def test_a_list_in_pages(cluster, client, refused):
    """With limit and continue, until the history is forgotten."""
    for number in range(5):
        client.core.create_namespaced_secret("default", {"metadata": {"name": f"s{number}"}})
    first = client.core.list_namespaced_secret("default", limit=3)
    rest = client.core.list_namespaced_secret("default", limit=3, _continue=first.metadata._continue)
    cluster.expire_history()

    assert [one.metadata.name for one in (*first.items, *rest.items)] == ["s0", "s1", "s2", "s3", "s4"]
    assert (first.metadata.remaining_item_count, rest.metadata._continue) == (2, None)
    error = refused(client.core.list_namespaced_secret, "default", limit=3, _continue=first.metadata._continue)
    assert (error.status, said(error)["reason"]) == (410, "Expired")


class Watching:
    """A watch in a thread; ``events`` grows, and ``ended`` is what it ended with."""

    def __init__(self, call, *args, **options):
        self.events, self.ended, self._more = [], None, threading.Condition()
        self._watch = kubernetes.watch.Watch()
        self._thread = threading.Thread(target=self._run, args=(call, args, options))
        self._thread.start()

    def _run(self, call, args, options):
        try:
            for event in self._watch.stream(call, *args, **options):
                name = getattr(event["object"], "metadata", None)
                with self._more:
                    self.events.append((event["type"], name.name if name else event["raw_object"]["metadata"]))
                    self._more.notify()
        except kubernetes.client.ApiException as error:
            self.ended = error

    def wait(self, count):
        with self._more:
            assert self._more.wait_for(lambda: len(self.events) >= count, stretched(10)), self.events

    def join(self):
        self._thread.join(stretched(10))
        assert not self._thread.is_alive()


@pytest.mark.long
def test_a_watch_goes_on_from_a_list(client):
    """What happens after the list's version is told, in order, and only what the selector meets."""
    client.core.create_namespaced_config_map("default", config_map("before", {"app": "a"}))
    version = client.core.list_namespaced_config_map("default").metadata.resource_version
    watching = Watching(
        client.core.list_namespaced_config_map,
        *["default"],
        resource_version=version,
        label_selector="app=a",
        timeout_seconds=4,
    )
    client.core.create_namespaced_config_map("default", config_map("a", {"app": "a"}))
    client.core.create_namespaced_config_map("default", config_map("b", {"app": "b"}))
    client.core.patch_namespaced_config_map("a", "default", {"data": {"x": "1"}})
    client.core.patch_namespaced_config_map("b", "default", {"metadata": {"labels": {"app": "a"}}})
    client.core.patch_namespaced_config_map("before", "default", {"metadata": {"labels": {"app": "z"}}})
    client.core.delete_namespaced_config_map("a", "default")
    watching.wait(5)
    watching.join()

    assert watching.events == [
        ("ADDED", "a"), ("MODIFIED", "a"), ("ADDED", "b"), ("DELETED", "before"), ("DELETED", "a"),
    ]  # fmt: skip


def test_a_watch_without_a_version_begins_with_what_is_there(client):
    """Each object is ADDED first, and a bookmark ends it where one was asked for."""
    client.core.create_namespaced_secret("default", {"metadata": {"name": "s"}})
    watching = Watching(client.core.list_namespaced_secret, *["default"], timeout_seconds=1, allow_watch_bookmarks=True)
    watching.wait(2)
    watching.join()

    assert watching.events[0] == ("ADDED", "s")
    assert watching.events[1][0] == "BOOKMARK"
    assert int(watching.events[1][1]["resourceVersion"]) > 1000


def test_a_watch_from_a_forgotten_version(cluster, client):
    """It is answered, and the first event says 410 Gone."""
    version = client.core.list_namespaced_secret("default").metadata.resource_version
    cluster.expire_history()
    watching = Watching(client.core.list_namespaced_secret, *["default"], resource_version=version, timeout_seconds=1)
    watching.join()

    assert watching.ended.status == 410
    assert f"too old resource version: {version}" in watching.ended.reason


def test_discovery_names_what_is_served(client):
    """Version, groups and resources, as dynamic clients and kubectl ask for them."""
    assert kubernetes.client.VersionApi(client.api).get_code().git_version == "v1.34.0"
    groups = {one.name for one in kubernetes.client.ApisApi(client.api).get_api_versions().groups}
    assert {"apps", "autoscaling", "batch", "networking.k8s.io", "policy", "rbac.authorization.k8s.io"} <= groups
    served = {one.name: one for one in client.apps.get_api_resources().resources}
    assert {"deployments", "deployments/scale", "deployments/status", "replicasets"} <= set(served)
    assert served["deployments"].namespaced
    assert "patch" in served["deployments"].verbs


def test_the_status_is_written_apart(client, deployment):
    """A status sent with the object is dropped; at its own address nothing else is taken."""
    client.create(deployment() | {"status": {"replicas": 9}})
    patched = client.apps.patch_namespaced_deployment_status(
        "web", "default", {"status": {"replicas": 7}, "spec": {"replicas": 5}}
    )

    assert (patched.status.replicas, patched.spec.replicas) == (7, 2)
    again = client.apps.patch_namespaced_deployment("web", "default", {"status": {"replicas": 1}})
    assert again.status.replicas == 7
