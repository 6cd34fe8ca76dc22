"""Endpoints behind a Gateway of the cluster: one HTTPRoute each, TLS by the Gateway, and what its controller says."""

import pytest

from fleet.refusals import TargetTrouble
from fleet.targets.kubernetes import attached as reached
from fleet.targets.kubernetes import front, rights
from fleet.targets.kubernetes.attached import Attached
from fleet.targets.kubernetes.names import Names
from modules.errors import Invalid
from tests.doubles.kubernetes import kinds
from tests.doubles.wishes import version, wanted
from tests.fleet.targets.kubernetes.conftest import NAMESPACE, role

BEHIND = {"expose": "Gateway", "gateway": "infra/public", "name": "{endpoint}.models.example"}


@pytest.fixture
def target(place):
    """The namespace, attached with the rights for routes besides."""
    (more,) = (one["rules"] for one in rights.manifest_of_gateway(NAMESPACE) if one["kind"] == "Role")
    place.kubeconfig = place.cluster.account("routes", role() + more, NAMESPACE)
    return place.attach(**BEHIND)


def answer(place, **changed):
    """What the Gateway's controller makes of the only route."""
    (route,) = place.of("HTTPRoute")
    said = {"type": "Accepted", "status": "True", "reason": "Accepted", "message": ""}
    said |= {"observedGeneration": route["metadata"]["generation"], "lastTransitionTime": "2026-01-01T00:00:00Z"}
    parent = {"parentRef": route["spec"]["parentRefs"][0], "controllerName": "example/it"}
    parents = [parent | {"conditions": [said | changed]}]
    place.cluster.world.status(kinds.HTTP_ROUTE, route, {"parents": parents})


def settle(place, target, wish):
    """Passes until nothing changes; whether the Gateway lets it in is the test's."""
    for _ in range(12):
        stands = target.bring(wish)
        place.cluster.settle()
    return stands


def test_it_is_ready_once_the_gateway_has_let_it_in(place, target):
    """One route to the endpoint's own gateway; before, and with what is said of an older route, there is no address."""
    wish = wanted(version(replicas=2))
    waits = settle(place, target, wish)
    assert (waits.state, waits.url, waits.why) == ("updating", "", "the cluster has given it no address yet")
    (route,) = place.of("HTTPRoute")
    (service,) = place.of("Service", "gateway")
    assert service["spec"]["type"] == "ClusterIP"
    assert route["spec"]["hostnames"] == ["digits.models.example"]
    (parent,) = route["spec"]["parentRefs"]
    assert (parent["namespace"], parent["name"], "sectionName" in parent) == ("infra", "public", False)
    (backend,) = route["spec"]["rules"][0]["backendRefs"]
    assert (backend["name"], backend["port"]) == (service["metadata"]["name"], service["spec"]["ports"][0]["port"])
    assert place.of("Ingress") == []
    answer(place)
    stands = target.bring(wish)
    assert (stands.state, stands.url) == ("ready", "https://digits.models.example")
    before = place.of("HTTPRoute")
    target.bring(wish)
    assert place.of("HTTPRoute") == before


@pytest.mark.long
def test_what_the_gateway_says_is_told(place, target):
    """A refusal is a failure, in its words; an answer to an older route is none."""
    wish = wanted()
    settle(place, target, wish)
    answer(place, status="False", reason="NotAllowedByListeners", message="no routes from this namespace")
    stands = target.bring(wish)
    assert stands.state == "failed"
    assert "the Gateway does not take its route: NotAllowedByListeners: no routes from this namespace" in stands.why
    answer(place)
    moved = wanted(host_name="mine.example")
    stands = target.bring(moved)
    assert (stands.state, stands.url) == ("updating", "")
    answer(place)
    assert target.bring(moved).url == "https://mine.example"


@pytest.mark.long
def test_what_somebody_changed_is_put_back_and_all_of_it_goes(place, target):
    """Another backend, another host name; and after its removal no route is left."""
    wish = wanted()
    settle(place, target, wish)
    (route,) = place.of("HTTPRoute")
    place.cluster.api.delete(kinds.HTTP_ROUTE, NAMESPACE, route["metadata"]["name"])
    settle(place, target, wish)
    (again,) = place.of("HTTPRoute")
    assert again["spec"] == route["spec"]
    for _ in range(4):
        gone = target.remove("digits")
        place.cluster.settle()
    assert gone
    assert place.of("HTTPRoute") == []


@pytest.mark.parametrize("verb", ["list", "create", "patch", "delete"])
def test_rights_for_routes_are_asked_for_where_they_are_needed(place, verb):
    """Without one of them a target behind a Gateway is not attached; one without a Gateway needs none."""
    assert place.target.check()
    (more,) = (one["rules"] for one in rights.manifest_of_gateway(NAMESPACE) if one["kind"] == "Role")
    less = [more[0] | {"verbs": [one for one in more[0]["verbs"] if one != verb]}]
    kubeconfig = place.cluster.account("less", role() + less, NAMESPACE)
    with pytest.raises(TargetTrouble) as refused:
        place.attach(kubeconfig, **BEHIND).check()
    assert f"{verb} httproutes.gateway.networking.k8s.io" in str(refused.value)
    assert "rbac-gateway.yaml" in str(refused.value)


def test_a_cluster_without_the_gateway_api_is_said(place, target, monkeypatch):
    """It has the rights and not the kind."""
    assert target.check()
    monkeypatch.delitem(kinds._BY_PATH, ("gateway.networking.k8s.io", "v1", "httproutes"))
    with pytest.raises(TargetTrouble, match="does not have the Gateway API"):
        target.check()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"gateway": ""}, "needs its name"),
        ({"expose": "NodePort", "name": "node"}, "needs its name"),
        ({"name": "node.example:80"}, "host names"),
        ({"tls_secret": "wild"}, "Ingress"),
        ({"gateway": "", "expose": "NodePort", "name": "node", "gateway_listener": "https"}, "Gateway alone"),
    ],
)
def test_what_does_not_belong_together(more, words):
    """Each is told, with what to write instead."""
    known = {"namespace": "models", "registry": "registry.example/x", "content_url": "https://fleet.example"}
    reached.check(Attached(**(known | BEHIND)))
    with pytest.raises(Invalid, match=words):
        reached.check(Attached(**(known | BEHIND | more)))


@pytest.mark.parametrize(
    ("settings", "words"), [({"certificate": "pem"}, "ends TLS, with"), ({"devices": True}, "devices cannot show")]
)
def test_tls_is_the_gateways(settings, words):
    """A certificate of the endpoint's own, and devices' certificates, would never be seen."""
    place = Attached(namespace="models", content_url="https://fleet.example", **BEHIND)
    with pytest.raises(Invalid, match=words):
        reached.suits(place, wanted(**settings).settings)


def test_a_listener_without_tls():
    """It is named in the route, and the address says http."""
    more = BEHIND | {"gateway_listener": "web", "gateway_plain": True}
    place, names = Attached(namespace="models", content_url="https://fleet.example", **more), Names("f" * 12, "digits")
    settings = wanted().settings
    (route,) = (one for one in front.exposed(names, place, "digits", settings, 0) if one["kind"] == "HTTPRoute")
    assert route["spec"]["parentRefs"][0]["sectionName"] == "web"
    route["status"] = {"parents": [{"conditions": [{"type": "Accepted", "status": "True"}]}]}
    assert front.url(place, "digits", settings, None, route) == "http://digits.models.example"
