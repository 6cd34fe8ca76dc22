"""What goes wrong on demand, as a client sees it."""

import json
import time

import pytest
import urllib3

READ_S = 0.5


@pytest.fixture
def once(cluster, connect):
    """A client that tries each request once."""
    client = connect(cluster.kubeconfig)
    client.api.configuration.retries = False
    client.api.rest_client.pool_manager.connection_pool_kw["retries"] = False
    return client


def test_an_answer_of_a_server_in_trouble(cluster, once, refused):
    """500 and 503, as often as was said, for the requests that were chosen."""
    cluster.faults.fail(500, method="GET", path="/secrets", times=2)
    cluster.faults.fail(503, message="apiserver is shutting down", path="/secrets")

    assert once.core.list_namespaced_config_map("default").kind == "ConfigMapList"
    codes = [refused(once.core.list_namespaced_secret, "default").status for _ in range(3)]
    assert codes == [500, 500, 503]
    assert once.core.list_namespaced_secret("default").items == []


def test_too_many_requests(cluster, once, refused):
    """429 with the time after which to come again."""
    cluster.faults.throttle(7)
    error = refused(once.core.list_namespaced_secret, "default")

    assert (error.status, error.headers["Retry-After"]) == (429, "7")
    assert json.loads(error.body)["details"]["retryAfterSeconds"] == 7


def test_a_connection_that_breaks(cluster, once):
    """Before anything was done, or after: the client cannot tell."""
    body = {"metadata": {"name": "s"}}
    cluster.faults.reset(method="POST")
    with pytest.raises(urllib3.exceptions.HTTPError):
        once.core.create_namespaced_secret("default", body)
    assert cluster.objects("Secret") == []

    cluster.faults.reset(method="POST", after=True)
    with pytest.raises(urllib3.exceptions.HTTPError):
        once.core.create_namespaced_secret("default", body)
    assert [one["metadata"]["name"] for one in cluster.objects("Secret")] == ["s"]


def test_a_server_that_does_not_answer(cluster, once):
    """It hangs until the client's own limit, and the double ends all the same."""
    cluster.faults.hang()
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        once.core.list_namespaced_secret("default", _request_timeout=READ_S)


def test_a_slow_answer(cluster, once):
    """It is right, and late."""
    cluster.faults.slow(READ_S)
    began = time.monotonic()
    once.core.list_namespaced_secret("default")

    assert time.monotonic() - began >= READ_S


def test_what_was_asked_is_listed(cluster, once, deployment):
    """With method and code, so that a test can say that a settled endpoint is only read."""
    once.apply(deployment())
    del cluster.asked[:]
    once.apps.read_namespaced_deployment("web", "default")
    once.apps.patch_namespaced_deployment("web", "default", {"metadata": {"labels": {"a": "b"}}})

    assert [(one.method, one.code, one.writes) for one in cluster.asked] == [("GET", 200, False), ("PATCH", 200, True)]
