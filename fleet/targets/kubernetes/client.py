"""The official client of one cluster, as a kubeconfig or the server's own service account says.

It brings how a cluster is reached (kubeconfig with its plugins, service account, TLS), and is loaded where a target
needs it, for it is an extra of its own (``edgefleet[kubernetes]``).
"""

import importlib
import ipaddress
from types import ModuleType
from typing import Any, Final
from urllib.parse import urlsplit

from fleet.targets.kubernetes.attached import Attached
from modules.errors import BadSettings
from modules.words import printable

# A plugin of a kubeconfig, which may have to ask somebody far away.
_PLUGIN_S: Final = 20
_NAME: Final = 200
_WORDS: Final = 500


def client(attached: Attached) -> Any:
    """The official client for one cluster; nothing of it is shared with other targets.

    Raises:
        BadSettings: it is not installed, or how the cluster is reached cannot be used.
    """
    official, config = _library("kubernetes.client"), _library("kubernetes.config")
    configuration = official.Configuration()
    try:
        if attached.kubeconfig:
            _load(attached, configuration)
        else:
            config.load_incluster_config(client_configuration=configuration)
    # A plugin of the kubeconfig is a program, and its words may be anything.
    except (config.ConfigException, _library("yaml").YAMLError, *failures(), ValueError, KeyError, TypeError) as error:
        where = attached.kubeconfig or "the server's own service account"
        raise BadSettings(
            f"it cannot be used: {printable(str(error), _WORDS)}",
            element=where,
            remedy="name a kubeconfig that the fleet server can read; without one the server has to be a pod there",
        ) from error
    _check_door(configuration, attached.kubeconfig)
    # A kept connection that was just closed costs no pass: everything that we ask can be asked twice.
    configuration.retries = _library("urllib3").Retry(
        total=1, redirect=0, status=0, allowed_methods=None, respect_retry_after_header=False
    )
    return official.ApiClient(configuration)


def _load(attached: Attached, configuration: Any) -> None:
    """What a kubeconfig says; its plugin, a program that may hang or fail, is bounded, and its failure is one of ours.

    Raises:
        BadSettings: the plugin brought nothing, or it is of the old kind, which nothing bounds.
    """
    library = _library("kubernetes.config.kube_config")
    merged = library.KubeConfigMerger(attached.kubeconfig).config
    if merged is None:
        raise ValueError("there is no such file")
    plugins = {}
    for user in merged.value.get("users") or ():
        # The library's own view of it, by which it calls the plugin now, and again whenever a token has ended.
        if plugin := (user.value.get("user") or {}).get("exec"):
            plugins[user.value["name"]] = name = str(plugin["command"])
            words = (str(_PLUGIN_S), name, *map(str, plugin.get("args") or ()))
            plugin |= {"command": "timeout", "args": ["--kill-after=2", *words]}
    loader = library.KubeConfigLoader(
        config_dict=merged, config_base_path=None, active_context=attached.context or None
    )
    who = loader.current_context["context"].get("user")
    for user in merged.value.get("users") or ():
        if user.value.get("name") == who and "auth-provider" in (user.value.get("user") or {}):
            # The library would run a program of its, or ask at an address of its, for as long as that takes.
            raise BadSettings(
                "it names an auth-provider, which Kubernetes gave up in 1.26",
                element=attached.kubeconfig,
                remedy="write exec with the cloud's own plugin, a token or a client certificate instead",
            )
    loader.load_and_set(configuration)
    asked = plugins.get(who)
    if asked and not configuration.api_key and not configuration.cert_file:
        raise BadSettings(
            f"its plugin {printable(asked, _NAME)} brought no credentials within {_PLUGIN_S} s",
            element=attached.kubeconfig,
            remedy="run it as the account of the fleet server; what it complained of stands in the server's log",
        )


def _check_door(configuration: Any, kubeconfig: str) -> None:
    url = urlsplit(configuration.host)
    try:
        own = ipaddress.ip_address(url.hostname or "").is_loopback
    except ValueError:
        own = False
    if not configuration.verify_ssl or (url.scheme != "https" and not own):
        raise BadSettings(
            "it reaches the cluster without knowing that it is this cluster, and would show it its credentials",
            element=kubeconfig,
            remedy="write https:// and certificate-authority-data into it, and no insecure-skip-tls-verify",
        )


def failures() -> tuple[type[Exception], ...]:
    """What it raises where a cluster does not answer."""
    return (OSError, _library("urllib3.exceptions").HTTPError, _library("kubernetes.client").ApiException)


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BadSettings(
            "the client for Kubernetes is not installed",
            element="fleet server",
            remedy="install edgefleet[fleet,kubernetes]",
        ) from error
