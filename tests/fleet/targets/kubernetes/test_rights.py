"""The rights that a target needs: with exactly these it works, and without any one of them it is not attached."""

import pytest
import yaml

from fleet.refusals import TargetTrouble
from fleet.targets.kubernetes import rights
from tests.doubles.wishes import version, wanted
from tests.house.tree import ROOT

EACH = [(rule, verb) for rule in rights.rules() for verb in rule.verbs]
# Each takes an attachment of its own: the ordinary run tries one of five.
TRIED = [pytest.param(*one, marks=[pytest.mark.long] if at % 5 else []) for at, one in enumerate(EACH)]


def rules_without(left, verb):
    for rule in rights.rules():
        verbs = [one for one in rule.verbs if (rule, one) != (left, verb)]
        if verbs:
            yield {"apiGroups": [rule.group], "resources": [rule.resource], "verbs": verbs}


def test_what_is_written_down_is_what_is_needed():
    """deploy/kubernetes/rbac.yaml has these rules, in the namespace that it names, and no other."""
    written = list(yaml.safe_load_all((ROOT / "deploy/kubernetes/rbac.yaml").read_text()))
    assert written == rights.manifest("edgefleet-endpoints")
    besides = list(yaml.safe_load_all((ROOT / "deploy/kubernetes/rbac-gateway.yaml").read_text()))
    assert besides == rights.manifest_of_gateway("edgefleet-endpoints")


def test_who_has_no_batch_jobs_gives_no_right_to_them(place):
    """A target that is attached without places for them does without."""
    less = [one for one in rights.rules() if one.group != "batch"]
    assert len(less) == len(rights.rules()) - 1
    role = [{"apiGroups": [one.group], "resources": [one.resource], "verbs": list(one.verbs)} for one in less]
    target = place.attach(place.cluster.account("less", role, "models"))
    assert target.check()["engine"].startswith("Kubernetes v1")


@pytest.mark.long
def test_it_works_with_no_more(place):
    """A whole life with them: made, scaled by itself and not, by an Ingress and not, changed, logged, removed."""
    said = place.target.check()
    assert said["engine"].startswith("Kubernetes v1")
    assert said["id"] == place.cluster.object("Namespace", "models", "")["metadata"]["uid"]
    target = place.attach(engine=said["id"], expose="Ingress", name="{endpoint}.example")
    place.settle(wanted(autoscale_max=2, certificate="pem", certificate_key="key"), target)
    place.settle(wanted(version(ref="acme/digits:2")))
    assert place.target.logs("digits", lines=1)
    for _ in range(4):
        gone = place.target.remove("digits")
        place.cluster.settle()
    assert gone
    assert [one for one in place.cluster.asked if one.code == 403] == []


@pytest.mark.parametrize(("rule", "verb"), TRIED, ids=[f"{verb} {rule.resource}" for rule, verb in EACH])
def test_without_any_one_of_them_it_is_not_attached(place, rule, verb):
    """It says which one is lacking, and where all of them are written."""
    kubeconfig = place.cluster.account("less", list(rules_without(rule, verb)), "models")
    with pytest.raises(TargetTrouble) as refused:
        place.attach(kubeconfig, batch_places="data").check()
    assert f"{verb} {rule.resource}" in str(refused.value)
    assert "rbac.yaml" in str(refused.value)
    assert ", and" not in str(refused.value)
