"""The commands that begin a run: `run`, `layers`, `init`."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from gigraph import cli
from gigraph.commands import run
from gigraph.commands.layers import opened, table, written
from gigraph.model.network import Layer
from gigraph.model.proposing import judged, proposed
from gigraph.planning.config import PROJECT, configfiles, load, read


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder that the commands are called in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def became(monkeypatch):
    """What the process would have become."""
    calls = []
    monkeypatch.setattr(os, "execv", lambda program, command: calls.append((program, command)))
    return calls


def called(*arguments):
    return cli.main([*arguments])


# ---- run -------------------------------------------------------------------------------------------------------


PROFILE = ["--workflow-profile=none", "--cores=all", "--logger=gigraph", "--rerun-incomplete", "--keep-going"]


def test_everything_given_to_run_goes_to_snakemake_in_its_order(here, became):
    given = ["evaluation", "--cores", "3", "-n", "--workflow-profile", "slurm", "--config", 'images={"shards": 3}']
    assert called("run", *given) == 0
    assert became == [
        (sys.executable, [sys.executable, "-P", "-m", "snakemake", "--snakefile", f"{PROJECT}/Snakefile", *given])
    ]


def test_run_takes_the_folders_own_configuration_unless_another_is_given(here, became):
    (here / "gigraph.yaml").write_text("output: mine\n")
    (here / "other.yaml").write_text("output: other\n")
    for given in ([], ["all"], ["--configfile", "other.yaml"], ["--configfile=other.yaml", "-n"]):
        called("run", *given)
        own = [] if any("config" in one for one in given) else ["--configfile=gigraph.yaml"]
        assert became.pop()[1][6:] == [*PROFILE, *own, *given]


def test_run_takes_the_profile_that_snakemake_would_and_leaves_others_to_it(here, became, monkeypatch):
    shipped = yaml.safe_load((PROJECT / "profiles/default/config.yaml").read_text())
    assert {one[2:].split("=")[0] for one in PROFILE[1:]} == {
        key for key, value in shipped.items() if value is not False
    }
    for given, taken in (([], True), (["--profile", "x"], False), (["--workflow-profile=slurm"], False)):
        called("run", *given)
        assert (became.pop()[1][6:] == PROFILE) is taken
    (here / "profiles" / "default").mkdir(parents=True)  # the user's own
    called("run")
    assert became.pop()[1][6:] == []
    called("run", "--workflow-prof", "x")
    assert became.pop()[1][6:] == ["--workflow-prof", "x"]
    for own in ("set-threads: {sample: 2}", "retries:", "quiet: [rules]"):  # Snakemake knows how these are read
        (here / "config.yaml").write_text(own)
        assert run._profile(here, []) == []
    monkeypatch.chdir(PROJECT)  # in a clone it is the one that is shipped
    called("run")
    assert became.pop()[1][6:] == PROFILE


def test_a_configuration_file_that_is_missing_is_said_in_a_line(here, became, capsys):
    (here / "one.yaml").touch()
    assert called("run", "--configfile", "one.yaml", "two.yaml", "-n") == 1 and not became
    assert capsys.readouterr().err == (
        "gigraph: error: --configfile: there is no file two.yaml; correct the path, and name targets before it\n"
    )


def test_the_configuration_files_among_snakemakes_arguments():
    for given, files in (
        (["a", "--configfile", "b", "c", "-n", "d"], ["b", "c"]),
        (["--configfiles=b", "c"], ["b"]),
        (["--config", "a=1", "--cores", "2"], []),
    ):
        assert [str(one) for one in configfiles(given)] == files


def test_what_comes_with_the_workflow_is_found_from_everywhere(here, became):
    traffic, network = "workflow/configs/traffic.yaml", "workflow/configs/efficientnet_lite0.py:model"
    for given in (["--configfile", traffic, "-n"], [f"--configfile={traffic}"], ["--configfile", f"./{traffic}"]):
        called("run", *given)
        told = became.pop()[1][6 + len(PROFILE) :]
        assert [one.replace(f"{PROJECT}/", "") for one in told] == [one.replace("./", "") for one in given] != told
    assert read([Path(traffic)])["images"]["source"] == "traffic"
    config = load({"layers": ["a"], "images": {"source": "."}, "model": {"source": network}})
    assert config.model.source == f"{PROJECT}/{network}"
    (here / "workflow" / "configs").mkdir(parents=True)
    (here / traffic).write_text("images: {source: mine}\n")
    assert read([Path(traffic)])["images"]["source"] == "mine"
    assert called("run", "--configfile", "configs/traffic.yaml") == 1


def test_other_commands_refuse_what_they_do_not_know(capsys):
    with pytest.raises(SystemExit) as end:
        called("plan", "--nonsense")
    assert end.value.code == 2 and "unrecognized arguments: --nonsense" in capsys.readouterr().err


# ---- layers ----------------------------------------------------------------------------------------------------


def a_layer(name, side, channels=8):
    return Layer(name, name, channels, side, side, "map")


def test_the_last_layer_of_each_resolution_is_proposed_four_at_most():
    layers = [a_layer(f"{side}.{i}", side) for side in (32, 16, 8, 4, 2) for i in range(3)]
    assert [*proposed(layers)] == ["16.2", "8.2", "4.2", "2.2"]


def test_where_the_resolution_stays_layers_are_proposed_by_depth():
    assert [*proposed([a_layer(str(i), 14) for i in range(12)])] == ["2", "5", "8", "11"]
    assert [*proposed([a_layer("a", 14), a_layer("b", 14)])] == ["a", "b"]
    assert proposed([]) == {}


def test_the_demos_network_and_why_its_layers_are_good():
    found = {one.layer.name: one for one in judged(opened("menagerie", None, 3, {}))}
    assert [name for name, one in found.items() if one.good] == ["layer1.0", "layer2.1", "layer4.0"]
    assert found["layer4.0"].why == "the last of 6 x 6"
    assert found["avgpool"].why == "one position: says what, not where"
    assert found["bn1"].why == "inside a block, or before the first"


def test_every_proposed_layer_can_be_written_into_a_configuration():
    shown = table(opened("torchvision:alexnet", 64, 3, {"num_classes": 5})).splitlines()
    assert shown[0].startswith("torchvision:alexnet: 3 x 64 x 64 in, 5 outputs")
    layers = yaml.safe_load(shown[-1])["layers"]
    assert layers and {f"* {name}" for name in layers} == {
        " ".join(one.split()[:2]) for one in shown if one[0:1] == "*"
    } - {"* good"}


@pytest.mark.parametrize(
    "value", ["0", "no", "a b", "a: b", "layer1.0", "torchvision:resnet50", "", "null", None, [1, 2], "1e-3", "#"]
)
def test_what_is_written_is_read_as_the_same(value):
    assert yaml.safe_load(f"key: {written(value)}") == {"key": value}


@pytest.mark.parametrize(
    ("given", "words"),
    [(["torchvision:resnet5"], "did you mean resnet50"), (["nothing"], "is none of menagerie"),
     (["menagerie", "--arguments", "3"], "--arguments: '3' is no JSON object"),
     (["menagerie", "--task", "clases"], "did you mean classes"), (["menagerie", "--size", "0"], "at least 1")],
)  # fmt: skip
def test_mistakes_in_what_the_model_is(capsys, given, words):
    assert called("layers", *given) == 1
    said = capsys.readouterr()
    assert not said.out and said.err.startswith("gigraph: error: ") and words in said.err and said.err.count("\n") == 1


def test_an_interruption_is_no_traceback(monkeypatch, capsys):
    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr("gigraph.commands.layers.main", interrupted)
    assert called("layers", "menagerie") == 130 and capsys.readouterr().err == "gigraph: interrupted\n"


def test_who_reads_no_further_is_told_of_no_defect():
    """`gigraph layers MODEL | head -1`; it was a traceback, and a second one when Python flushed."""
    read, write = os.pipe()
    os.close(read)
    run = subprocess.run(
        [sys.executable, "-m", "gigraph", "layers", "menagerie"], stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert run.returncode == 1 and not run.stderr


# ---- init ------------------------------------------------------------------------------------------------------

NET = """
import torch
import torch.nn as nn

def make():
    torch.manual_seed(5)  # as good as weights of its own
    return drawn()

def drawn():
    layers = [nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 16, 3, 2), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2))
"""


@pytest.fixture
def own(here):
    """A folder with a model's file and images of two classes."""
    (here / "net.py").write_text(NET)
    for name in ("a", "b"):
        (here / "images" / name).mkdir(parents=True)
        Image.new("RGB", (40, 40)).save(here / "images" / name / "1.png")
    return here


def test_options_alone_write_a_configuration_that_runs(own, capsys):
    assert called("init", "--model", "net.py:make", "--images", "images", "--size", "32") == 0
    config = load(read([own / "gigraph.yaml"]))
    assert config.images.source == "images" and config.model.source == "net.py:make" and config.names == ["0", "2"]
    assert config.preprocessing.crop == 32 and config.preprocessing.mean == [0.485, 0.456, 0.406]
    assert config.coefficients.penalty == "decision" and config.output == "results"
    keys = [line for line in (own / "gigraph.yaml").read_text().splitlines() if line.strip().startswith("#")]
    assert len(keys) > 20
    assert "next: gigraph run -n" in capsys.readouterr().out


def test_a_models_channels_are_found_where_no_option_says_them(own, capsys):
    """A remedy that named a key of a file that was yet to be written."""
    (own / "deep.py").write_text(NET.replace("nn.Conv2d(3,", "nn.Conv2d(5,"))
    assert called("layers", "deep.py:make", "--size", "32") == 0 and "5 x 32 x 32 in" in capsys.readouterr().out
    assert called("init", "--model", "deep.py:make", "--images", "images", "--size", "32") == 0
    config = load(read([own / "gigraph.yaml"]))
    assert config.preprocessing.channels == 5 and config.preprocessing.mean is None
    (own / "folded.py").write_text(NET.replace("[nn.Conv2d(3,", "[nn.PixelUnshuffle(2), nn.Conv2d(12,"))
    capsys.readouterr()
    assert called("layers", "folded.py:make", "--size", "32") == 0 and "3 x 32 x 32 in" in capsys.readouterr().out
    assert called("layers", "deep.py:make", "--channels", "3") == 1
    assert "channels: 5 (--channels)" in capsys.readouterr().err


def test_torchvisions_weights_are_its_best_unless_others_are_named(own, capsys):
    assert called("init", "--model", "torchvision:resnet18", "--images", "images") == 0
    assert load(read([own / "gigraph.yaml"])).model.weights == "DEFAULT"
    assert "torchvision's DEFAULT weights" in capsys.readouterr().out


@pytest.mark.parametrize(("save", "count"), [(7, 7), (1000, None)])
def test_the_number_of_outputs_is_that_of_the_weights(own, capsys, save, count):
    """A network with a head of one's own: the constructor's argument is in the weights."""
    import torchvision

    torch.save(torchvision.models.resnet18(num_classes=save).state_dict(), "best.pth")
    given = ["--model", "torchvision:resnet18", "--weights", "best.pth", "--images", "images", "--size", "64"]
    assert called("init", *given) == 0
    config, said = load(read([own / "gigraph.yaml"])), capsys.readouterr().out
    assert config.model.arguments == ({"num_classes": count} if count else {})
    assert ("best.pth has 7 outputs" in said) == (count is not None)
    assert config.preprocessing.resize == 64 and "resized to 64 pixels and cropped to 64" in said


def test_a_head_of_ones_own_takes_no_weights_of_torchvisions(own, capsys):
    given = ["--model", "torchvision:resnet18", "--images", "images", "--arguments", '{"num_classes": 10}']
    assert called("init", *given) == 1 and not (own / "gigraph.yaml").exists()
    assert "give --weights, a checkpoint's file: those of torchvision:resnet18" in capsys.readouterr().err
    assert called("init", *given, "--weights", "random") == 0
    config = load(read([own / "gigraph.yaml"]))
    assert (config.model.weights, config.explorer.title) == ("random", "resnet18 on images")


def test_the_number_of_outputs_is_read_beside_other_arguments(own, capsys):
    import torchvision

    small = torchvision.models.mobilenet_v3_small(num_classes=7, width_mult=0.5)
    torch.save(small.state_dict(), "best.pth")
    given = ["--model", "torchvision:mobilenet_v3_small", "--weights", "best.pth", "--images", "images", "--size", "64"]
    assert called("init", *given, "--arguments", '{"width_mult": 0.5}') == 0
    assert load(read([own / "gigraph.yaml"])).model.arguments == {"width_mult": 0.5, "num_classes": 7}


def test_a_preset_is_left_to_the_weights(own):
    given = ["--model", "torchvision:resnet18", "--weights", "IMAGENET1K_V1", "--images", "images"]
    assert called("init", *given, "--file", "my.yaml") == 0
    config = load(read([own / "my.yaml"]))
    assert not any(getattr(config.preprocessing, key) for key in ("resize", "crop", "mean", "std"))
    assert config.names == ["layer1.1", "layer2.1", "layer3.1", "layer4.1"] and not (own / "gigraph.yaml").exists()


def test_class_folders_that_are_not_all_of_the_outputs_are_said(own, capsys):
    called("init", "--model", "torchvision:resnet18", "--images", "images")
    assert "note: 2 class folders, 1000 outputs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "words"),
    [([], "give --model and --images: there is no terminal to ask on"),
     (["--model", "net.py:make"], "give --images: "),
     (["--model", "net.py:make", "--images", "nowhere"], "there is no folder nowhere"),
     (["--model", "net.py:other", "--images", "images"], "net.py has no 'other'"),
     (["--model", "net.py:make", "--images", "images", "--layers", "7"], "layer '7' does not exist"),
     (["--model", "net.py:make", "--images", "images", "--mean", "120", "--std", "60"], "divide mean and std by 255"),
     (["--model", "net.py:make", "--images", "images", "--file", "no/such.yaml"], "there is no folder no"),
     (["--model", "net.py:make", "--images", "images", "--weights", "no.pth"], "there is no file no.pth")],
)  # fmt: skip
def test_a_mistake_is_one_line_and_writes_nothing(own, capsys, monkeypatch, given, words):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    assert called("init", *given) == 1
    error = capsys.readouterr().err
    assert words in error and error.startswith("gigraph: error: ") and error.count("\n") == 1
    assert not list(own.glob("*.yaml"))


def test_a_file_that_is_there_is_written_over_by_force_only(own, capsys):
    (own / "gigraph.yaml").write_text("output: mine\n")
    given = ["init", "--model", "net.py:make", "--images", "images"]
    assert called(*given) == 1 and "--force" in capsys.readouterr().err
    assert (own / "gigraph.yaml").read_text() == "output: mine\n"
    assert called(*given, "--force") == 0 and "net.py:make" in (own / "gigraph.yaml").read_text()


@pytest.mark.parametrize(
    "given",
    [["--model", "torchvision:resnet18", "--weights", "gone.pth"], ["--output", "a b"], ["--weights", "gone.pth"]],
)
def test_a_wrong_option_is_not_asked_about(own, capsys, monkeypatch, given):
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: pytest.fail(question))
    assert called("init", *given) == 1 and capsys.readouterr().err.count("\n") == 1


def test_without_a_preset_pictures_are_not_enlarged(own, capsys):
    import torchvision

    torch.save(torchvision.models.resnet18(num_classes=7).state_dict(), "best.pth")
    given = ["--model", "torchvision:resnet18", "--weights", "best.pth", "--images", "images"]
    assert called("init", *given) == 0 and "resized to 40 pixels and cropped to 40" in capsys.readouterr().out
    assert load(read([own / "gigraph.yaml"])).preprocessing.crop == 40


def test_a_factory_whose_weights_are_drawn_needs_others(own, capsys):
    given = ["--model", "net.py:drawn", "--images", "images", "--size", "32"]
    assert called("init", *given) == 1 and not (own / "gigraph.yaml").exists()
    assert "net.py:drawn draws its own at random whenever it is called" in capsys.readouterr().err
    assert called("init", *given, "--weights", "random") == 0
    assert load(read([own / "gigraph.yaml"])).model.weights == "random"


def test_what_no_option_says_is_asked_on_a_terminal(own):
    """Model, weights, images, side, mean and layers; an empty line takes the default, a wrong answer asks again."""
    answers = ["resnet18", "no.py:make", "net.py:make", "none.pth", "", "nowhere", "images"]
    answers += ["", "no number", "48", "", "no", "1 2", "0.5, 0.4 0.3", "", "7", "2"]
    child, terminal = pty.fork()
    if not child:
        os.execv(sys.executable, [sys.executable, "-m", "gigraph", "init"])
    said, unanswered = "", ""
    while True:
        try:
            more = os.read(terminal, 4096).decode()
        except OSError:  # the child ended
            break
        if not more:
            break
        said, unanswered = said + more, unanswered + more
        if unanswered.endswith(": "):
            assert answers or os.kill(child, signal.SIGKILL), said
            os.write(terminal, f"{answers.pop(0)}\n".encode())
            unanswered = ""
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, said
    config = load(read([own / "gigraph.yaml"]))
    assert config.model.source == "net.py:make" and config.model.weights is None and config.names == ["2"]
    assert config.preprocessing.crop == config.preprocessing.resize == 48
    assert config.preprocessing.mean == [0.5, 0.4, 0.3] and config.preprocessing.std == [1, 1, 1]
    for mistake in ("no file no.py", "no file none.pth", "no folder nowhere"):
        assert said.count(f"there is {mistake}; correct the path") == 1
    for mistake in (
        "did you mean torchvision:resnet18?",
        "'no number' is no whole number",
        "'1 2' is no three numbers",
        "layer '7' does not exist",
    ):
        assert said.count(mistake) == 1  # fmt: skip
    asked = "Side in pixels of the pictures that it was trained on, after the crop (the first picture is 40 x 40): "
    assert said.count(asked) == 3 and not answers  # without a default


def test_weights_of_another_network_are_refused_at_once(own, capsys):
    import torchvision

    torch.save(torchvision.models.resnet34(num_classes=7).state_dict(), "other.pth")
    given = ["--model", "torchvision:resnet18", "--weights", "other.pth", "--images", "images", "--size", "64"]
    assert called("init", *given) == 1 and not (own / "gigraph.yaml").exists()
    assert "other.pth is of another architecture than torchvision:resnet18" in capsys.readouterr().err


def test_results_that_are_there_are_mentioned(own, capsys):
    (own / "results").mkdir()
    given = ["init", "--model", "net.py:make", "--images", "images", "--size", "32"]
    assert called(*given) == 0 and "what results holds of another run is made anew" in capsys.readouterr().out
