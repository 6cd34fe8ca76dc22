"""Who may ask for what: certificates, tokens, roles; and what clients are told of their own rights."""

import json

import kubernetes
import pytest
import yaml

from tests.doubles.kubernetes import kinds

EDIT = {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "patch"]}


def said(error):
    return json.loads(error.body)


def test_an_administrator_comes_with_a_certificate(client):
    """The kubeconfig's certificate makes him one of system:masters, who may all."""
    assert {one.metadata.name for one in client.core.list_namespace().items} == {"default", "kube-system"}


def test_a_stranger_may_ask_for_the_version_and_nothing_else(cluster, connect, refused):
    """Without credentials: 403 for objects; with a token that is none: 401."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["users"][0]["user"] = {}
    nobody = cluster.kubeconfig.with_name("nobody")
    nobody.write_text(yaml.safe_dump(config))
    stranger = connect(nobody)
    assert kubernetes.client.VersionApi(stranger.api).get_code().major == "1"
    error = refused(stranger.core.list_namespaced_secret, "default")
    assert error.status == 403
    assert 'User "system:anonymous" cannot list resource "secrets"' in said(error)["message"]

    config["users"][0]["user"] = {"token": "forged"}
    nobody.write_text(yaml.safe_dump(config))
    error = refused(connect(nobody).core.list_namespaced_secret, "default")
    assert (error.status, said(error)["message"], said(error)["reason"]) == (401, "Unauthorized", "Unauthorized")


def test_a_service_account_may_what_its_role_says(cluster, connect, refused, deployment):
    """Each verb, group, resource and namespace by itself; what is missing is named in the answer."""
    ours = connect(cluster.account("ours", [EDIT]))
    cluster.make(deployment() | {"metadata": {"name": "web", "namespace": "default"}})

    assert ours.apps.read_namespaced_deployment("web", "default").spec.replicas == 2
    error = refused(ours.apps.delete_namespaced_deployment, "web", "default")
    assert (error.status, said(error)["reason"]) == (403, "Forbidden")
    assert said(error)["message"] == (
        'deployments.apps "web" is forbidden: User "system:serviceaccount:default:ours" cannot delete resource '
        '"deployments" in API group "apps" in the namespace "default"'
    )
    for call in (
        lambda: ours.apps.list_namespaced_deployment("default"),
        lambda: ours.core.list_namespaced_pod("default"),
        lambda: ours.apps.read_namespaced_deployment("web", "kube-system"),
        lambda: ours.apps.read_namespaced_deployment_scale("web", "default"),
        ours.apps.list_deployment_for_all_namespaces,
        ours.core.list_namespace,
    ):
        assert refused(call).status == 403


def test_an_apply_that_makes_something_needs_create(cluster, connect, refused, deployment):
    """patch is enough for what is there, and not for what is not."""
    ours = connect(cluster.account("ours", [EDIT]))
    body, name = deployment(), ("web", "default")
    options = {"field_manager": "ours", "_content_type": "application/apply-patch+yaml"}

    error = refused(ours.apps.patch_namespaced_deployment, *name, body, **options)
    assert 'cannot create resource "deployments"' in said(error)["message"]
    cluster.make(deployment() | {"metadata": {"name": "web", "namespace": "default"}})
    assert ours.apps.patch_namespaced_deployment(*name, body, **options, force=True).metadata.labels == {"app": "web"}


def test_a_rule_may_name_objects(cluster, connect, refused):
    """resourceNames bound a rule; lists and creates have no name, so they are out."""
    rule = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["one"], "verbs": ["get", "list", "create"]}
    ours = connect(cluster.account("ours", [rule]))
    for name in ("one", "two"):
        cluster.make({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}})

    assert ours.core.read_namespaced_secret("one", "default").metadata.name == "one"
    assert refused(ours.core.read_namespaced_secret, "two", "default").status == 403
    assert refused(ours.core.list_namespaced_secret, "default").status == 403
    assert refused(ours.core.create_namespaced_secret, "default", {"metadata": {"name": "x"}}).status == 403


def test_subresources_have_rights_of_their_own(cluster, connect, client, refused, deployment):
    """pods does not give pods/log."""
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]
    ours = connect(cluster.account("ours", rules))
    client.apply(deployment(replicas=1))
    cluster.settle()
    name = ours.core.list_namespaced_pod("default").items[0].metadata.name

    error = refused(ours.core.read_namespaced_pod_log, name, "default")
    assert 'cannot get resource "pods/log" in API group ""' in said(error)["message"]


def test_a_token_ends(cluster, connect, refused):
    """One that was taken back, or whose service account is gone, is 401."""
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}
    ours = connect(cluster.account("ours", [rule]))
    assert ours.core.list_namespaced_config_map("default").items
    cluster.access.tokens.clear()
    assert refused(ours.core.list_namespaced_config_map, "default").status == 401

    other = connect(cluster.account("other", [rule]))
    cluster.api.delete(kinds.SERVICE_ACCOUNT, "default", "other")
    assert refused(other.core.list_namespaced_config_map, "default").status == 401


def test_nobody_grants_what_he_has_not_got(cluster, connect, refused):
    """A role with more than its author has is refused."""
    roles = {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["create", "get"]}
    ours = connect(cluster.account("ours", [EDIT, roles]))
    rbac = kubernetes.client.RbacAuthorizationV1Api(ours.api)

    assert (
        rbac.create_namespaced_role("default", {"metadata": {"name": "same"}, "rules": [EDIT]}).metadata.name == "same"
    )
    more = {"metadata": {"name": "more"}, "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]}
    error = refused(rbac.create_namespaced_role, "default", more)
    assert error.status == 403
    assert "is attempting to grant RBAC permissions not currently held" in said(error)["message"]


@pytest.mark.parametrize(
    ("verb", "namespace", "allowed"),
    [("patch", "default", True), ("delete", "default", False), ("patch", "kube-system", False)],
)
def test_a_client_can_ask_what_it_may(cluster, connect, verb, namespace, allowed):
    """SelfSubjectAccessReview answers as the request itself would be."""
    ours = connect(cluster.account("ours", [EDIT]))
    asked = {"group": "apps", "resource": "deployments", "verb": verb, "namespace": namespace}
    review = kubernetes.client.AuthorizationV1Api(ours.api)
    got = review.create_self_subject_access_review({"spec": {"resourceAttributes": asked}})

    assert got.status.allowed is allowed


def test_a_client_can_ask_for_all_its_rights(cluster, connect):
    """SelfSubjectRulesReview lists the rules of a namespace."""
    ours = connect(cluster.account("ours", [EDIT]))
    review = kubernetes.client.AuthorizationV1Api(ours.api)
    got = review.create_self_subject_rules_review({"spec": {"namespace": "default"}})

    assert [(one.resources, one.verbs) for one in got.status.resource_rules] == [(["deployments"], ["get", "patch"])]
