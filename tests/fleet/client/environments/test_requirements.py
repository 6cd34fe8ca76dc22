"""pip's requirements files, as far as an image can be made from them."""

import pytest

from fleet.client.environments.requirements import read_lines, read_requirements
from modules.errors import Invalid


def test_lines_as_pip_takes_them():
    """Comments, markers, extras and continued lines are kept or dropped as pip does."""
    lines = ["# all of it", "numpy >= 1.20  # fast", "", 'tomli; python_version < "3.11"', "uvicorn[standard]==0.30"]

    assert read_lines(lines, where="x").packages == (
        "numpy >= 1.20", 'tomli; python_version < "3.11"', "uvicorn[standard]==0.30",
    )  # fmt: skip


def test_files_include_each_other(tmp_path):
    """``-r`` is followed from the file in which it stands."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "numbers.txt").write_text("numpy\n-r ../last.txt\n")
    (tmp_path / "last.txt").write_text("pandas \\\n  >=2\n")
    (tmp_path / "requirements.txt").write_text("-r more/numbers.txt\nscipy\n")

    found = read_requirements(tmp_path / "requirements.txt")

    assert [one.split(">")[0].strip() for one in found.packages] == ["numpy", "pandas", "scipy"]


def test_a_file_that_includes_itself(tmp_path):
    """A circle ends with an error and not with the stack."""
    (tmp_path / "r.txt").write_text("-r r.txt\n")

    with pytest.raises(Invalid, match="include each other"):
        read_requirements(tmp_path / "r.txt")


def test_where_packages_come_from_is_passed_on():
    """Options that say where pip looks are kept for pip."""
    found = read_lines(["--extra-index-url https://wheels.example/cpu", "torch"], where="x")

    assert found.options == ("--extra-index-url https://wheels.example/cpu",)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("-e .", "no meaning for an image"),
        ("--no-binary :all:", "no meaning for an image"),
        ("git+https://example.org/x.git", "version control"),
        ("x @ git+https://example.org/x.git", "version control"),
        ("./folder", "not a requirement as pip writes it"),
        ("numpy=1.2", "not a requirement as pip writes it"),
        ("missing-1.0-py3-none-any.whl", "no such wheel"),
    ],
)
def test_what_no_lock_can_hold(line, says):
    """A line that could not be checked by digest is refused, by name."""
    with pytest.raises(Invalid, match=says) as refused:
        read_lines(["numpy", line], where="requirements.txt")

    assert line in refused.value.element


@pytest.mark.parametrize(
    "name",
    [
        "azureml-defaults",
        "azureml_core>=1",
        "azureml-contrib-services",
        "azureml-contrib-functions",
        "azureml-inference-server-http",
    ],
)
def test_what_ours_stand_in_for(name):
    """The packages of theirs that scripts import are left out, with a note."""
    (entry, *_) = read_lines([name], where="x").entries

    assert (entry.became, "import-compatible" in entry.note) == ("", True)


def test_inference_schema_comes_with_what_is_left_out():
    """A script that imports inference_schema without naming it still finds it, and a version of its own wins."""
    assert read_lines(["azureml-defaults"], where="x").packages == ("inference-schema",)
    assert read_lines(["azureml-defaults", "inference-schema==1.7"], where="x").packages == ("inference-schema==1.7",)
    assert read_lines(["azureml-core"], where="x").packages == ()


@pytest.mark.parametrize(
    ("asked", "python", "accepted"),
    [
        ("", "3.11", True),
        ("==3.11.*", "3.11", True),
        ("==3.11.4", "3.11", True),
        ("==3.8.*", "3.11", False),
        (">=3.8,<3.12", "3.11", True),
        (">=3.12", "3.11", False),
    ],
)
def test_which_python_will_do(asked, python, accepted):
    """A Python is accepted by its first two numbers."""
    found = read_lines([], where="x")

    assert type(found)(python=asked).accepts(python) is accepted
