"""``edgefleet models register`` against a real fleet server: what it refuses, shows, warns of and understands."""

from typer.testing import CliRunner

from fleet.client.cli import app
from tests.parts import dividing


def test_a_graph_with_a_declaration(run, draft, tmp_path):
    """``--serve`` puts what an engineer declares into the manifest."""
    declared = tmp_path / "serve.yaml"
    declared.write_text("{kind: models, main: one, models: {one: {kind: onnx, file: linear.onnx}}}")

    serve = run("models", "show", draft("declared", "--serve", declared))["manifest"]["serve"]

    assert (serve["main"], serve["models"]["one"]["file"]) == ("one", "model/linear.onnx")


def test_a_team_that_the_fleet_has_not_got_is_refused_at_once(run, linear_file):
    """A module that nobody could ever sign is not registered; the error names the teams that can."""
    words = ("models", "register", linear_file, "-n", "orphan", "--team", "nobody", "--engine", "process")

    error = run(*words, code=1)["error"]

    assert "acme, other" in error["message"]
    assert not [one for one in run("modules", "list") if "orphan" in one["ref"]]


def test_each_sample_is_shown_with_its_answer(run, linear_file):
    """Whoever registers a model sees what devices will be held to."""
    words = ("models", "register", linear_file, "-n", "shown", "--team", "acme", "--engine", "process")

    done = CliRunner().invoke(app, [*map(str, words)])

    assert done.exit_code == 0
    assert "random-3" in done.stdout
    assert '{"y":[[' in done.stdout
    assert [one["name"] for one in run(*words)["samples"]] == ["random-1", "random-2", "random-3"]


def test_an_answer_that_reads_like_a_failure_is_warned_of(user, tmp_path, monkeypatch):
    """A script that catches every exception and answers with its text is registered, and not silently."""
    for name, value in user.environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "score.py").write_text(
        "def init():\n    pass\n\n\ndef run(data):\n    return {'error': 'could not convert string to float'}\n"
    )
    (tmp_path / "weights.bin").write_bytes(b"w")
    (tmp_path / "one.json").write_text('{"data": ["a"]}')
    words = (
        "models", "register", tmp_path / "weights.bin", "-n", "failing", "--team", "acme", "--engine", "process",
        "--entry-script", tmp_path / "score.py", "--sample", tmp_path / "one.json",
    )  # fmt: skip

    done = CliRunner().invoke(app, [*map(str, words)])

    assert done.exit_code == 0
    assert "Warning: the answer to sample one reads like a failure" in done.stderr


def test_a_division_by_which_a_request_ends_the_server_is_warned_of(user, tmp_path, monkeypatch):
    """The graph is registered, and whoever does it reads which node is meant, and what to do."""
    for name, value in user.environment.items():
        monkeypatch.setenv(name, value)
    graph = dividing.graph(tmp_path)
    words = ("models", "register", graph, "-n", "divided", "--team", "acme", "--engine", "process", "--prove")

    done = CliRunner().invoke(app, [*map(str, words), "ready-only"])

    assert done.exit_code == 0, done.output
    assert f"Warning: model/{graph.name}: Div ratio divides whole numbers" in done.stderr


def test_names_and_options_of_az_ml(run, linear_file, tmp_path):
    """A name as Azure ML has it becomes one of ours, which can be asked for either way; its options are understood."""
    words = ("models", "register", "-p", linear_file, "-n", "Onnx_mnist.v2", "--team", "acme", "--engine", "process")

    assert run(*words)["ref"] == "acme/onnx-mnist-v2:1"
    assert run("models", "show", "acme/Onnx_mnist.v2:1")["ref"] == "acme/onnx-mnist-v2:1"
    run("models", "download", "--model-id", "Onnx_mnist.v2:1", "--target-dir", tmp_path / "got")
    assert (tmp_path / "got/model/linear.onnx").is_file()
    assert "no such model" in run("models", "download", "--model-id", "other:1", code=1)["error"]["message"]


def test_what_only_azure_ml_has_is_told_how_it_gets_here(run):
    """Files of a run cannot be named; the error says to fetch them first."""
    words = (
        "models",
        "register",
        "--asset-path",
        "outputs/model.onnx",
        "--run-id",
        "run_7",
        "-n",
        "a",
        "--team",
        "acme",
    )

    assert "--path" in run(*words, code=1)["error"]["remedy"]


def test_the_same_model_again_uploads_nothing(run, linear_file, draft):
    """A second version of the same files moves no bytes."""
    draft("again")
    words = ("models", "register", linear_file, "-n", "again", "--team", "acme", "--engine", "process")
    second = run(*words)

    assert (second["ref"], second["uploaded"]) == ("acme/again:2", 0)


def test_a_confidential_module_says_so(run, draft, user, monkeypatch):
    """``--confidential`` stands in the manifest that is signed, and people see it; other modules have no such field."""
    for name, value in user.environment.items():
        monkeypatch.setenv(name, value)
    secret, open_ = draft("secret", "--confidential"), draft("open")

    assert run("models", "show", secret)["manifest"]["confidential"] is True
    assert "confidential" not in run("models", "show", open_)["manifest"]
    for command in ("models", "modules"):
        shown = [CliRunner().invoke(app, [command, "show", ref]).stdout for ref in (secret, open_)]
        assert ["never broadcast" in one for one in shown] == [True, False]
