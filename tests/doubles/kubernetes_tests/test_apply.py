"""Server-side apply: who owns what, what is kept of others, what is removed, and when it is a conflict."""

import json

import pytest


def container(thing):
    return thing["spec"]["template"]["spec"]["containers"][0]


def config_map(**data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data}


def owned(thing, manager, operation="Apply"):
    """The fields of one manager."""
    found = [
        one for one in thing["metadata"]["managedFields"] if (one["manager"], one["operation"]) == (manager, operation)
    ]
    return found[0]["fieldsV1"] if found else {}


def test_the_same_again_is_no_write(cluster, client, deployment):
    """What is applied again as it was, even in another notation, keeps its version, and no watcher is told."""
    body = deployment(
        {"resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}}, "env": [{"name": "EMPTY", "value": ""}]}
    )

    first = client.apply(body)
    cluster.settle()
    version = cluster.object("Deployment", "web")["metadata"]["resourceVersion"]
    again = client.apply(body)

    assert again["metadata"]["resourceVersion"] == version
    assert again["metadata"]["generation"] == first["metadata"]["generation"] == 1


def test_what_was_sent_is_not_what_is_read(client, deployment):
    """Defaults are filled in, amounts are written anew, and what is empty or false is left out."""
    sent = deployment(
        {
            "resources": {"limits": {"cpu": "0.5", "memory": "2048Mi"}, "requests": {"cpu": 1e-1}},
            "env": [{"name": "EMPTY", "value": ""}],
            "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": False}],
        }
    )
    sent["spec"]["template"]["spec"] |= {"volumes": [{"name": "v", "secret": {"secretName": "s"}}], "nodeSelector": {}}
    got = client.apply(sent)

    assert container(got)["resources"] == {"limits": {"cpu": "500m", "memory": "2Gi"}, "requests": {"cpu": "100m"}}
    assert container(got)["env"] == [{"name": "EMPTY"}]
    assert container(got)["volumeMounts"] == [{"name": "v", "mountPath": "/v"}]
    assert container(got)["ports"] == [{"containerPort": 8080, "protocol": "TCP"}]
    assert container(got)["imagePullPolicy"] == "IfNotPresent"
    assert container(got)["readinessProbe"]["periodSeconds"] == 10
    assert got["spec"]["template"]["spec"]["volumes"][0]["secret"]["defaultMode"] == 420
    assert "nodeSelector" not in got["spec"]["template"]["spec"]
    assert got["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"},
    }


def test_another_managers_fields_stay(client, deployment):
    """Labels, a container, a variable and an annotation of somebody else survive our next apply."""
    client.apply(deployment({"env": [{"name": "OURS", "value": "1"}]}))
    theirs = deployment({"env": [{"name": "THEIRS", "value": "2"}]})
    theirs["metadata"] |= {"labels": {"team": "x"}, "annotations": {"note": "theirs"}}
    theirs["spec"] = {"template": {"spec": {"containers": [
        {"name": "main", "env": [{"name": "THEIRS", "value": "2"}]}, {"name": "side", "image": "registry.example/s:1"},
    ]}}}  # fmt: skip
    client.apply(theirs, manager="theirs")

    got = client.apply(deployment({"env": [{"name": "OURS", "value": "3"}]}))

    assert container(got)["env"] == [{"name": "OURS", "value": "3"}, {"name": "THEIRS", "value": "2"}]
    assert [one["name"] for one in got["spec"]["template"]["spec"]["containers"]] == ["main", "side"]
    assert got["metadata"]["labels"] == {"app": "web", "team": "x"}
    assert got["metadata"]["annotations"] == {"note": "theirs"}


def test_what_we_no_longer_send_goes(client, deployment):
    """A variable, a port, a whole probe with its defaults and a label that our manager drops are removed."""
    body = deployment({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]})
    container(body)["ports"].append({"containerPort": 9090})
    body["metadata"]["labels"]["old"] = "yes"
    client.apply(body)

    less = deployment({"env": [{"name": "B", "value": "2"}]})
    del container(less)["readinessProbe"]
    got = client.apply(less)

    assert container(got)["env"] == [{"name": "B", "value": "2"}]
    assert container(got)["ports"] == [{"containerPort": 8080, "protocol": "TCP"}]
    assert "readinessProbe" not in container(got)
    assert got["metadata"]["labels"] == {"app": "web"}


def test_what_another_one_wants_too_stays_when_we_drop_it(client):
    """A field of two managers goes with the second one's word."""
    client.apply(config_map(shared="1", ours="1"))
    client.apply(config_map(shared="1"), manager="theirs")

    assert client.apply(config_map(other="1"))["data"] == {"shared": "1", "other": "1"}
    assert client.apply(config_map(), manager="theirs")["data"] == {"other": "1"}


def test_a_conflict_names_manager_and_field(client, deployment, refused):
    """Another manager's value is not changed without force, and the answer says whose and which."""
    client.apply(deployment())
    client.apps.patch_namespaced_deployment_scale("web", "default", {"spec": {"replicas": 5}}, field_manager="kubectl")

    error = refused(client.apply, deployment())

    said = json.loads(error.body)
    assert (error.status, said["reason"]) == (409, "Conflict")
    assert said["message"] == (
        'Apply failed with 1 conflict: conflict with "kubectl" with subresource "scale" using apps/v1: .spec.replicas'
    )
    assert said["details"]["causes"][0]["reason"] == "FieldManagerConflict"
    assert client.apps.read_namespaced_deployment("web", "default").spec.replicas == 5


def test_several_conflicts_are_listed(client, refused):
    """Each field of each manager has a line."""
    client.apply(config_map(a="1", b="1"), manager="theirs")

    said = json.loads(refused(client.apply, config_map(a="2", b="2")).body)

    assert said["message"] == 'Apply failed with 2 conflicts: conflicts with "theirs":\n- .data.a\n- .data.b'
    assert [one["field"] for one in said["details"]["causes"]] == [".data.a", ".data.b"]


def test_force_takes_the_field_over(client, deployment):
    """With force the value is ours, and the other manager owns it no more."""
    client.apply(deployment())
    client.apps.patch_namespaced_deployment_scale("web", "default", {"spec": {"replicas": 5}}, field_manager="kubectl")

    got = client.apply(deployment(), force=True)

    assert got["spec"]["replicas"] == 2
    assert [one["manager"] for one in got["metadata"]["managedFields"]] == ["ours"]
    assert client.apply(deployment())["metadata"]["resourceVersion"] == got["metadata"]["resourceVersion"]


def test_who_does_not_send_replicas_leaves_them_to_the_autoscaler(client, deployment):
    """A manager that says nothing of replicas owns them not, and neither resets nor fights."""
    body = deployment()
    del body["spec"]["replicas"]
    assert client.apply(body)["spec"]["replicas"] == 1
    client.apps.patch_namespaced_deployment_scale("web", "default", {"spec": {"replicas": 4}})

    got = client.apply(body)

    assert got["spec"]["replicas"] == 4
    assert "f:replicas" not in owned(got, "ours")["f:spec"]


def test_handing_replicas_over(client, deployment):
    """Who sent replicas once and stops sending them gives them to whoever owns them; to nobody, they become one."""
    client.apply(deployment())
    body = deployment()
    del body["spec"]["replicas"]

    assert client.apply(body)["spec"]["replicas"] == 1


def test_atomic_lists_are_one_value(client, deployment, refused):
    """Arguments belong to one manager as a whole."""
    client.apply(deployment({"args": ["a", "b"]}))
    theirs = deployment()
    theirs["metadata"].pop("labels")
    theirs["spec"] = {"template": {"spec": {"containers": [{"name": "main", "args": ["c"]}]}}}

    assert "args" in json.loads(refused(client.apply, theirs, manager="theirs").body)["message"]
    assert container(client.apply(theirs, manager="theirs", force=True))["args"] == ["c"]


def test_managed_fields_are_written_as_the_real_ones(client):
    """Nested, with keys of lists, and without what nobody owns."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    got = client.apply(service)

    assert owned(got, "ours") == {
        "f:spec": {
            "f:ports": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}, "f:targetPort": {}}},
            "f:selector": {},
        }
    }


def test_a_plain_update_owns_what_it_changed(client, deployment):
    """By the field manager that is named, or by the program's name."""
    client.apply(deployment())
    client.apps.patch_namespaced_deployment("web", "default", {"metadata": {"annotations": {"note": "1"}}})
    got = client.of("Deployment").get("web", "default").to_dict()

    assert owned(got, "OpenAPI-Generator", "Update") == {"f:metadata": {"f:annotations": {".": {}, "f:note": {}}}}


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"spec": {"unknown": 1}}, 500, "(/web; apps/v1, Kind=Deployment): .spec.unknown: field not declared"),
        ({"spec": {"replicas": "two"}}, 500, ".spec.replicas"),
        ({"spec": {"template": {"spec": {"containers": [{"image": "x"}]}}}}, 500, 'omits key field "name"'),
        ({"spec": {"template": {"spec": {"containers": [{"name": "a"}, {"name": "a"}]}}}}, 500, "duplicate entries"),
        ({"apiVersion": "apps/v1beta1"}, 400, "does not match the expected API version"),
        ({"metadata": {"name": "web", "managedFields": []}}, 400, "metadata.managedFields must be nil"),
        ({"metadata": {"name": "other"}}, 400, "does not match the name on the URL (web)"),
        ({"spec": {"template": {}}}, 422, "spec.selector: Required value"),
    ],
)  # fmt: skip
def test_what_cannot_be_applied(client, deployment, refused, change, code, words):
    """A configuration that is none is refused, with the code of the real server: 500 for what has no such field."""
    body = deployment() | change
    call = client.of("Deployment").server_side_apply

    error = refused(call, body, "web", "default", field_manager="ours")

    assert error.status == code
    assert words in json.loads(error.body)["message"]


def test_an_apply_names_its_manager(client, deployment, refused):
    """Without a field manager an apply is refused."""
    options = {"_content_type": "application/apply-patch+yaml"}
    error = refused(client.apps.patch_namespaced_deployment, "web", "default", deployment(), **options)

    assert error.status == 422
    assert "fieldManager: Required value: is required for apply patch" in json.loads(error.body)["message"]


def test_a_trial_run_changes_nothing(cluster, client, deployment):
    """dryRun=All answers as if, and nothing is there."""
    options = {"_content_type": "application/apply-patch+yaml", "field_manager": "ours", "dry_run": "All"}
    got = client.apps.patch_namespaced_deployment("web", "default", deployment(), **options)

    assert got.spec.strategy.type == "RollingUpdate"
    assert cluster.objects("Deployment") == []
