"""Endpoints as a target is asked to bring them about, of modules that nobody has to run."""

from fleet.targets.contract import Module, Wanted, WantedVersion
from fleet.targets.settings import Settings
from tests.doubles import release

KEYS = ("primary-key-of-the-endpoint", "secondary-key-of-the-endpoint")


def version(name="v1", ref="acme/digits:1", *, weight=0, replicas=1, **parts):
    made = release.make(ref, **parts)
    return WantedVersion(name=name, module=Module(made.digest, made.manifest), weight=weight, replicas=replicas)


def wanted(*versions, name="digits", port=0, certificate_key="", **settings):
    """The first version is the default; without any there is one."""
    return Wanted(
        name=name,
        versions=versions or (version(),),
        settings=Settings(**settings),
        keys=KEYS,
        token_secret=b"s" * 32,
        certificate_key=certificate_key,
        port=port,
    )
