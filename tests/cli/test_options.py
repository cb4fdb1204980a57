import pytest
import typer

from maskgit import __version__
from maskgit.cli import app
from maskgit.cli.options import Sampling, check_out, set_words
from tests.conftest import cli


def test_sampling_options_are_those_of_a_pipeline():
    sampling = Sampling(
        sampler="{name: remask, eta: 0.1}", guidance="2", negative="coat", temperature="1.2,0.8"
    )
    wanted = {"sampler": {"name": "remask", "eta": 0.1}, "guidance": 2, "temperature": (1.2, 0.8)}
    assert sampling.options() == {**wanted, "negative": "coat"}
    assert sampling.options({"coat": 1}.get) == {**wanted, "negative": 1}
    assert Sampling().options() == {}


def test_words_set_any_option_on_top_of_the_others():
    words = ["sampler.temperature=.8", "guidance.schedule=linear", "sampler.eta=1e-1"]
    found = set_words({"guidance": 3, "temperature": 1.0, "steps": 4}, words)
    assert found == {
        "guidance": {"scale": 3, "schedule": "linear"},
        "temperature": 0.8,
        "eta": 0.1,
        "steps": 4,
    }
    assert set_words({}, ["sampler.name=halton"]) == {"sampler": "halton"}


@pytest.mark.parametrize(
    ("word", "message"),
    {
        "smpler.eta=1": "unknown section of --set 'smpler', did you mean 'sampler'",
        "sampler.negative=coat": "unknown option of a sampler 'negative'",
        "sampler=halton": "--set is written sampler.option=value, not sampler=halton",
        "sampler.eta": "an override is written section.key=value",
        "sampler.eta=${oc.env:HOME}": "interpolation is not allowed",
    }.items(),
)
def test_a_wrong_word_is_refused(word, message):
    with pytest.raises(ValueError) as error:
        set_words({}, [word])
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["x.tiff", "x.JPG", "x.npz", "x.zip", "x.svg"])
def test_a_file_of_a_kind_that_is_not_written_does_not_become_a_folder(name, tmp_path):
    with pytest.raises(ValueError, match="this is written to a folder"):
        check_out(tmp_path / name)


def test_folders_and_what_is_written_pass(tmp_path):
    for name in ("out", "v1.2", "x.png", "X.PNG"):
        check_out(tmp_path / name, (".png",))
    check_out(None)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"written to a \.png, or a folder"):
        check_out(tmp_path / "file", (".png",))


COMPUTING = {"train", "tokenize", "sample", "edit", "evaluate", "tune", "compare", "benchmark"}
COMPUTING |= {"quickstart", "import", "share", "serve", "inspect"}


@pytest.mark.parametrize("name", sorted(typer.main.get_command(app).commands))
def test_the_commands_that_compute_keep_the_memory_that_they_free(name, monkeypatch):
    told = []
    monkeypatch.setattr("maskgit.cli.options._check_there", lambda given: None)
    monkeypatch.setattr("maskgit.machine.keep_freed_memory", lambda: told.append(name))
    command = typer.main.get_command(app).commands[name]
    words = {"edit": ["x", "nowhere", "nothing"], "train": ["x"], "tokenize": ["x", "--out", "y"],
             "sample": ["x", "--out", "y"], "info": ["x"], "inspect": ["x"], "serve": ["x"], "tune": ["x"], "compare": ["x"],
             "import": ["x", "y", "--out", "z"], "share": ["x", "--out", "y"]}  # fmt: skip
    context = command.make_context(name, words.get(name, []))
    monkeypatch.setattr(context.command, "callback", lambda **values: None)
    context.command.invoke(context)
    assert bool(told) == (name in COMPUTING)


def test_the_version_is_told(capsys):
    assert cli("--version") == 0 and capsys.readouterr().out == f"maskgit {__version__}\n"


@pytest.mark.parametrize("name", sorted(typer.main.get_command(app).commands))
def test_each_help_has_an_example_that_is_read(name, capsys, monkeypatch):
    assert cli(name, "--help") == 0
    told = capsys.readouterr().out.split("Example: maskgit ")[1].split("\n\n")[0]
    command = typer.main.get_command(app).commands[name]
    first, *words = told.split()
    assert first == name and command.make_context(name, words)


def test_a_shell_is_given_its_completion(monkeypatch, capsys):
    monkeypatch.setenv("_MASKGIT_COMPLETE", "source_bash")
    monkeypatch.setattr("sys.argv", ["maskgit"])
    assert cli() == 0 and "_MASKGIT_COMPLETE=complete_bash" in capsys.readouterr().out
    words = {"_MASKGIT_COMPLETE": "complete_bash", "COMP_WORDS": "maskgit ev", "COMP_CWORD": "1"}
    for key, value in words.items():
        monkeypatch.setenv(key, value)
    assert cli() == 0 and capsys.readouterr().out.strip() == "evaluate"
