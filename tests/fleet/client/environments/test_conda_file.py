"""conda's environment file, as people have written it for Azure ML, becomes what pip can install."""

import pytest

from fleet.client.environments.conda_file import LIMIT, read_conda
from fleet.client.environments.conda_names import CHANNELS_ONLY, INCLUDED, LEFT_OUT, RENAMED
from modules.errors import Invalid

# As their documentation shows it.
THEIRS = b"""
name: project_environment
dependencies:
  # The python interpreter version.
  - python=3.6.2

  - pip:
    - azureml-defaults>=1.0.45
    - inference-schema[numpy-support]
    - joblib
    - numpy==1.16.4
  - scikit-learn=0.22.1
  - pandas
"""


def read(*dependencies, pip=()):
    lines = [f"  - {one!r}" for one in dependencies]
    if pip:
        lines += ["  - pip:", *(f"    - {one!r}" for one in pip)]
    return read_conda("\n".join(["dependencies:", *lines]).encode(), where="env.yml")[1]


def test_their_own_example():
    """The file of their documentation is read: its name, its Python, its packages, and what is left out."""
    name, requirements = read_conda(THEIRS, where="env.yml")

    assert name == "project_environment"
    assert requirements.python == "==3.6.2.*"
    assert requirements.packages == (
        "scikit-learn==0.22.1.*", "pandas", "inference-schema[numpy-support]", "joblib", "numpy==1.16.4",
    )  # fmt: skip
    assert [one.text for one in requirements.entries if not one.became] == ["azureml-defaults>=1.0.45"]


@pytest.mark.parametrize(
    ("conda", "pip"),
    [
        ("numpy", "numpy"),
        ("numpy=1.26", "numpy==1.26.*"),
        ("numpy=1.26.*", "numpy==1.26.*"),
        ("numpy==1.26.4", "numpy==1.26.4"),
        ("numpy=1.26.4=py311h64a7726_0", "numpy==1.26.4"),
        ("numpy 1.26.4 py311h64a7726_0", "numpy==1.26.4"),
        ("numpy 1.26.*", "numpy==1.26.*"),
        ("numpy >=1.20,<2", "numpy>=1.20,<2"),
        ("numpy[version='>=1.20']", "numpy>=1.20"),
        ("conda-forge::numpy=1.26", "numpy==1.26.*"),
        ("pytorch::pytorch", "torch"),
        ("PyTorch=2.4", "torch==2.4.*"),
        ("py-xgboost", "xgboost"),
        ("opencv", "opencv-python-headless"),
        ("python-dateutil=2.8", "python-dateutil==2.8.*"),
        ("librosa", "librosa"),
    ],
)
def test_a_package(conda, pip):
    """Names and versions of conda's are written as pip's."""
    assert read(conda).packages == (pip,)


def test_what_became_what_is_listed():
    """Every entry of the file stands in the list, with what it became and why."""
    entries = read("pytorch=2.4", "mkl", "pandas", pip=["azureml-defaults"]).entries

    assert [str(one) for one in entries] == [
        "pytorch=2.4 -> torch==2.4.* (from pip)",
        "mkl -> left out (comes with the image's Python or inside the wheels that need it)",
        "pandas",
        "azureml-defaults -> left out (edgefleet's own import-compatible modules stand in its place)",
        "added -> inference-schema (which a package that was left out brings along)",
    ]


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("r-base", "conda's channels only"),
        ("r-ggplot2", "conda's channels only"),
        ("cudatoolkit=11.8", "conda's channels only"),
        ("graphviz", "conda's channels only"),
        ("libgdal", "conda's channels only"),
        ("acme::forecasts", "only the channel acme"),
        ("numpy=1.2|1.3", "no counterpart in pip"),
        ("http://somewhere/numpy.tar.bz2", "no counterpart in pip"),
    ],
)
def test_what_pip_has_not_got_is_refused_by_name(entry, says):
    """A package of a channel is never guessed at: the error names the entry and what to do."""
    with pytest.raises(Invalid, match=says) as refused:
        read("numpy", entry)

    assert entry in refused.value.element
    assert refused.value.remedy


@pytest.mark.parametrize(
    "text",
    [
        "[1, 2]",
        "dependencies: numpy",
        "dependencies: [{pip: numpy}]",
        "dependencies: [[numpy]]",
        "{",
        "a: !!python/object:x {}",
    ],
)
def test_what_is_no_environment_file(text):
    """Another file is refused with what its lines should be, and nothing in it is executed."""
    with pytest.raises(Invalid, match="not a conda environment file"):
        read_conda(text.encode(), where="env.yml")


def test_a_file_that_is_too_large():
    """A file beyond every environment is refused before it is parsed."""
    with pytest.raises(Invalid, match="more than"):
        read_conda(b"#" * (LIMIT + 1), where="env.yml")


def test_a_list_that_is_not_pips():
    """Only pip's list may stand among the entries."""
    with pytest.raises(Invalid, match="not pip's"):
        read_conda(b"dependencies: [{npm: [left-pad]}]", where="env.yml")


def test_the_tables_do_not_contradict_each_other():
    """A name is renamed, included, left out or refused, and never two of these."""
    tables = [set(RENAMED), set(INCLUDED), set(CHANNELS_ONLY), set(LEFT_OUT)]

    assert sum(map(len, tables)) == len(set.union(*tables))
