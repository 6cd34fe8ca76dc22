"""An environment's image, built by a real engine: what is in it, what it shares, and whose packages a script sees."""

import io
import json
import secrets

import pytest

from fleet.client.environments import environment_image
from fleet.client.environments.environment import Environment
from fleet.client.environments.environment_image import TAG_PREFIX, Recipe, build_environment_image
from fleet.client.environments.requirements import Requirements, read_lines
from fleet.client.images.base_image import BASE, Registry, make_sure_of_base
from modules.errors import Invalid, NeedsOperator
from tests.parts import docker as parts
from tests.parts import packages
from tests.parts.registry import PASSWORD, USER, registry

pytestmark = [pytest.mark.needs("docker"), pytest.mark.timeout(400)]

LOOK = """
import json, os, sys, alpha, numpy, onnxruntime
print(json.dumps({
    "alpha": alpha.version, "from": alpha.__file__, "numpy": numpy.__file__, "prefix": sys.prefix,
    "variable": os.environ.get("MODEL_KIND"), "stepped": os.path.exists("/stepped"), "uid": os.getuid(),
    "edgefleet": any("edgefleet/code" in path for path in sys.path),
}))
"""


@pytest.fixture(scope="module")
def engine():
    with parts.engine():
        client = parts.client()
        parts.scoring_image(client)
        yield client
        client.close()


def lines(*text, **more):
    found = read_lines(text, where="x")
    return Requirements(entries=found.entries, **more)


@pytest.fixture
def build(engine, tmp_path, monkeypatch):
    """Builds an environment that is removed at the end; steps of these tests fetch nothing."""
    monkeypatch.setattr(environment_image, "STEPS_NETWORK", "none")
    made = []

    def run(requirements, told=None, **more):
        more = {"name": f"edgefleet-test/env-{secrets.token_hex(4)}"} | more
        recipe = Recipe(requirements=requirements, **more)
        progress = (told if told is not None else []).append
        made.append(recipe.name)
        return build_environment_image(recipe, client=engine, store=tmp_path / "wheels", progress=progress)

    yield run
    for name in made:
        for image in engine.images.list(TAG_PREFIX + name):
            engine.images.remove(image.id, force=True)


def test_an_environment_takes_no_tag_of_somebody_else(engine, build):
    """An image of the same name stays what it is: the environment's has a name of ours."""
    name = f"edgefleet-test/theirs-{secrets.token_hex(4)}"
    theirs = engine.images.get(parts.scoring_image(engine))
    theirs.tag(name)
    try:
        made = build(lines(), name=name)

        assert engine.images.get(name).id == theirs.id != made.image_id
    finally:
        engine.images.remove(name)


def inside(engine, image):
    """What a script sees."""
    config = engine.images.get(image).attrs["Config"]
    python = dict(one.split("=", 1) for one in config["Env"])["EDGEFLEET_SCRIPT_PYTHON"]
    answer = engine.containers.run(
        image, ["-c", LOOK], entrypoint=[python], remove=True, network_mode="none", read_only=True
    )
    return json.loads(answer)


def test_a_script_sees_its_own_packages_before_the_servers(engine, build, shop):
    """The environment's packages, variables and steps are there; what it does not name comes from the server's."""
    packages.wheel(shop, "alpha", "1.0")
    told = []
    requirements = lines("alpha", variables={"MODEL_KIND": 'say "$x"'})

    built = build(requirements, told, steps="RUN touch /stepped\n")
    seen = inside(engine, built.image_id)

    assert (seen["alpha"], seen["stepped"], seen["uid"]) == ("1.0", True, 10001)
    assert seen["from"].startswith("/opt/environment/")
    assert seen["numpy"].startswith("/opt/edgefleet/")
    assert seen["variable"] == 'say "$x"'
    assert not seen["edgefleet"]
    assert built.python == "3.11"
    assert [one.name for one in built.wheels.wheels] == ["alpha"]


@pytest.mark.long
def test_only_its_own_layer_is_new(engine, build, shop):
    """The scoring image's layers lie below the environment's, the same for each, and it starts as that image does."""
    packages.wheel(shop, "alpha", "1.0")

    first = engine.images.get(build(lines("alpha")).image_id)
    second = engine.images.get(build(lines()).image_id)

    layers, others = first.attrs["RootFS"]["Layers"], second.attrs["RootFS"]["Layers"]
    assert layers[:-1] == others[:-1]
    assert layers[-1] != others[-1]
    assert first.attrs["Config"]["Entrypoint"] == ["python", "-m", "modules.scoring"]
    assert first.attrs["Config"]["User"] == "10001:10001"


def test_the_same_environment_is_not_built_again(build, shop):
    """Nothing is fetched or built for an environment that the engine has."""
    packages.wheel(shop, "alpha", "1.0")
    first = build(lines("alpha"))
    told = []

    assert build(lines("alpha"), told).image_id == first.image_id
    assert "there already, built from the same packages" in told[-1]


@pytest.mark.long
def test_a_base_image_with_packages_of_its_own(engine, build):
    """What a user's image has installed, a script may import; what is left out of the environment is not missing."""
    name = f"edgefleet-test/own-base-{secrets.token_hex(4)}:1"
    place = "/usr/local/lib/python3.11/site-packages"
    command = f"mkdir -p {place} && echo 'version = \"own\"' > {place}/alpha.py"
    recipe = io.BytesIO(f"FROM {BASE}\nRUN {command}\n".encode())
    engine.images.build(fileobj=recipe, tag=name, rm=True, pull=False, network_mode="none")
    try:
        built = build(lines(), base_image=name)

        assert inside(engine, built.image_id)["alpha"] == "own"
        assert built.base == name
    finally:
        engine.images.remove(name, force=True)


def test_a_python_that_the_image_has_not_got(build):
    """The error names both Pythons, and the way to go on without touching the file."""
    with pytest.raises(Invalid, match=r"asks for Python ==3\.12\.\*, this image has 3\.11") as refused:
        build(lines(python="==3.12.*"), base_image=BASE)

    assert "--python 3.11" in refused.value.remedy


def test_a_python_that_is_too_old_for_any(build):
    """A Python of 2019 cannot be had: the message says which can."""
    with pytest.raises(NeedsOperator, match=r"runs on 3\.11 to") as refused:
        build(lines(python="==3.6.2.*"))

    assert refused.value.element == "python==3.6.2.*"
    assert "--python 3.11" in refused.value.remedy


def test_a_step_that_fails(build):
    """The build's own words are in the error."""
    with pytest.raises(NeedsOperator, match="non-zero code: 7"):
        build(lines(), steps="RUN exit 7\n")


def test_a_private_registry(engine, home):
    """The base image is pulled with the credentials given; a wrong password is refused, and stands in no message."""
    name = f"team/base-{secrets.token_hex(4)}"
    with registry(name) as address:
        known = Registry(address=address, username=USER, password=PASSWORD)
        told = []
        try:
            image_id = make_sure_of_base(engine, f"{name}:1", told.append, known)

            assert engine.images.get(f"{address}/{name}:1").id == image_id
            assert told == [f"pulling {address}/{name}:1"]
        finally:
            engine.images.remove(f"{address}/{name}:1", force=True)
        for other in (Registry(address=address), Registry(address=address, username=USER, password="wrong-pass-8")):
            with pytest.raises(NeedsOperator, match="cannot be pulled") as refused:
                Environment(name="x", base_image=f"{name}:1", registry=other).build_local(progress=told.append)
            assert "user name and password" in refused.value.remedy
            assert "wrong-pass-8" not in str(refused.value) + repr(refused.value.__cause__)
