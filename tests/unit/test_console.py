"""What a run says on the screen: stages, one live line, failures, the end; and what a session listens to."""

import io
import logging
import os
import sys
import termios
import threading
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from gigraph.running import console, session
from gigraph.running.console import WORDS, LogHandler, clipped, folded
from gigraph.running.ending import causes
from gigraph.running.results import last_error, said, summary

LOGS = {
    "a": "10:00:00 rows: 4 of 7, 8 s left\n10:00:01 32 concepts of 7272 PFVs\n10:00:01 concepts done in 0.5 s, 5 MB\n",
    "b": "10:00:02 note: few\n10:00:02 256 concepts of 7272 PFVs\n10:00:02 concepts done in 0.6 s, 572 MB\n",
    "c": "10:00:03 gigraph: error: layer 'x' does not exist\n",
}


@pytest.fixture
def logs(tmp_path):
    for name, text in LOGS.items():
        (tmp_path / f"{name}.log").write_text(text)
    return {name: tmp_path / f"{name}.log" for name in LOGS}


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Watched:
    """A console that is fed by hand."""

    def __init__(self, monkeypatch, stream, **asked):
        monkeypatch.setattr(sys, "stderr", stream)
        given = dict.fromkeys(("verbose", "dryrun", "debug_dag", "printshellcmds", "stdout", "nocolor"), False)
        given |= {"quiet": set(), "show_failed_logs": False, **asked}
        self.stream, self.now = stream, 0.0
        self.handler = LogHandler(SimpleNamespace(**given), None)
        self.handler.clock = lambda: self.now

    def tell(self, event="", msg="", name="snakemake.logging", level=logging.INFO, **more):
        record = {"name": name, "levelno": level, "levelname": logging.getLevelName(level), "msg": msg, **more}
        self.handler.handle(logging.makeLogRecord(record | ({"event": event} if event else {})))

    def begin(self, names=(), **stats):
        self.tell("run_info", "Job stats:", stats={**stats, "all": 1, "total": sum(stats.values()) + 1})
        known = {"names": dict(names), "targets": ["all"], "logs": Path("nowhere")}
        self.tell(msg="gigraph begins", name=WORDS.name, gigraph=known)

    def job(self, number, rule, log=None, **wildcards):
        given = {"rule_msg": "", "local": False, "is_checkpoint": False, "input": [], "output": [], "benchmark": None}
        given |= {"reason": "", "priority": 0, "threads": 1, "resources": {}}
        self.tell("job_info", jobid=number, rule_name=rule, wildcards=wildcards, log=[str(log)] if log else [], **given)

    @property
    def lines(self):
        return self.stream.getvalue().splitlines()


@pytest.fixture
def watched(monkeypatch):
    return Watched(monkeypatch, io.StringIO())


def test_each_stage_says_its_result_once_when_all_of_its_jobs_are_done(watched, logs):
    for noise in ("Building DAG of jobs...", "Provided cores: 2"):
        watched.tell(msg=noise)
    watched.begin(concepts=2)
    watched.job(1, "concepts", logs["a"])
    watched.job(2, "concepts", logs["b"])
    watched.tell("shellcmd", "python ...")
    watched.tell("job_finished", "Finished jobid: 1", job_id=1)
    assert watched.lines == ["gigraph begins"]
    watched.now = 30
    watched.tell("job_finished", "Finished jobid: 2", job_id=2)
    watched.tell("progress", "2 of 3 steps", done=2, total=3)
    watched.job(0, "all")
    watched.tell("job_finished", "Finished jobid: 0", job_id=0)
    watched.tell(msg="gigraph: done", name=WORDS.name)
    watched.handler.close()
    head, stage, end = watched.lines
    assert stage.split() == [
        "concepts",
        "2",
        "jobs,",
        "sum",
        "30",
        "s",
        "32",
        "to",
        "256",
        "concepts",
        "of",
        "7272",
        "PFVs",
    ]
    assert (head, end) == ("gigraph begins", "gigraph: done")


def test_a_failed_job_says_why_and_where_its_log_lies(watched, logs):
    watched.begin({"mine_network": "network"}, mine_network=1, sample=1)
    watched.job(1, "mine_network", logs["c"], layer="x")
    watched.tell("job_error", "Error", level=logging.ERROR, jobid=1, rule_name="mine_network", log=[str(logs["c"])])
    watched.tell("error", "RuleException:\nCalledProcessError in file", level=logging.ERROR, exception="RuleException")
    watched.job(2, "sample", "gone.log")
    watched.tell("job_error", "Error", level=logging.ERROR, jobid=2, rule_name="sample", log=["gone.log"])
    watched.tell(msg="Exiting because a job execution failed. Look below", level=logging.ERROR)
    assert watched.lines[1:] == [
        "gigraph: error: layer 'x' does not exist",
        f"  in network (x); its log: {logs['c']}",
        "gigraph: error: sample ended without a word: cancelled, killed, or out of memory; its log: gone.log",
    ]


@pytest.mark.parametrize(
    "said",
    [
        "Terminating processes on user request, this might take some time.",
        "InputFunctionException in rule graph in file graph.smk, line 9:\nError:\n  KeyboardInterrupt",
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_who_interrupts_a_run_is_told_of_no_failures(watched, monkeypatch, said, late):
    """Also where the interrupted job is known to have ended before its interruption is."""
    monkeypatch.setattr(console, "HELD", 600.0)
    watched.begin(sample=3)
    watched.job(1, "sample", "gone.log")
    if late:
        watched.job(2, "sample", "other.log")
        watched.tell("job_error", "Error", level=logging.ERROR, jobid=1, rule_name="sample", log=["gone.log"])
        watched.tell(msg="CalledProcessError in line 4", level=logging.ERROR)
        watched.tell("job_finished", job_id=2)
    watched.tell(msg=said, level=logging.ERROR)
    watched.tell("job_error", "Error", level=logging.ERROR, jobid=1, rule_name="sample", log=["gone.log"])
    watched.tell(msg="gigraph: the run is not complete", name=WORDS.name, level=logging.ERROR)
    watched.handler.close()
    for timer in timers():
        timer.cancel()
        timer.join()
    assert watched.lines[1:] == ["gigraph: interrupted; the same command goes on from here"]


def timers():
    return [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


def test_who_is_not_interrupted_is_told_of_a_job_without_a_word_before_long(watched, monkeypatch):
    monkeypatch.setattr("gigraph.running.console.HELD", 0.0)
    watched.begin(sample=1)
    watched.job(1, "sample", "gone.log")
    watched.tell(msg="an outer workflow's own words: KeyboardInterrupt")
    watched.tell("job_error", "Error", level=logging.ERROR, jobid=1, rule_name="sample", log=["gone.log"])
    for timer in timers():
        timer.join()
    assert watched.lines[-1].startswith("gigraph: error: sample ended without a word")


@pytest.mark.parametrize(("begun", "stopped"), [(False, False), (True, False), (True, True)])
def test_an_interruption_without_a_job_to_end_is_one_line_and_no_traceback(watched, monkeypatch, begun, stopped):
    shown = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: shown.append(error))
    for noise in ("Assuming unrestricted shared filesystem usage.", "Building DAG of jobs..."):
        watched.tell(msg=noise)
    if begun:
        watched.begin(sample=1)
        watched.job(1, "sample", "gone.log")  # and then it is said by Snakemake, or not
        if stopped:
            watched.tell(msg="Terminating processes on user request, this might take some time.", level=logging.ERROR)
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        watched.handler.close()
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    told = ["gigraph: interrupted; the same command goes on from here"]
    assert watched.lines[begun:] == (told if begun else ["gigraph: interrupted before the first job"]) and not shown


def test_warnings_and_other_errors_are_shown(watched):
    watched.begin(concepts=1)
    watched.tell(msg="Missing files after 5 seconds", level=logging.ERROR)
    watched.tell(msg="The disk is slow", level=logging.WARNING)
    assert watched.lines[1:] == ["Missing files after 5 seconds", "The disk is slow"]


def test_where_no_run_begins_snakemake_has_its_say(monkeypatch):
    for told, shown in (
        (["Building DAG of jobs...", "Nothing to be done (all is there)."], ["Nothing to be done (all is there)."]),
        (["Unlocked working directory."], ["Unlocked working directory."]),
    ):
        watched = Watched(monkeypatch, io.StringIO())
        for message in told:
            watched.tell(msg=message)
        watched.handler.close()
        assert watched.lines == shown


@pytest.mark.parametrize("asked", [{"verbose": True}, {"verbose": True, "dryrun": True}, {"printshellcmds": True}])
def test_who_asks_for_snakemakes_own_words_gets_them(monkeypatch, asked, logs):
    watched = Watched(monkeypatch, io.StringIO(), **asked)
    assert not watched.handler.muted
    watched.tell(msg="Building DAG of jobs...")
    watched.begin(concepts=2)
    watched.job(1, "concepts", logs["a"])
    watched.tell("job_finished", "Finished jobid: 1", job_id=1)
    watched.handler.close()
    assert "Building DAG of jobs..." in watched.lines and "gigraph begins" in watched.lines
    assert ("gigraph: 1 of 2 jobs done in 0 s, about 0 s left" in watched.lines) == (not asked.get("dryrun"))


@pytest.mark.parametrize(
    ("quiet", "shown"),
    [({"rules", "progress"}, ["gigraph begins", "slow", "bad", "gigraph: done"]), ({"all"}, ["bad"])],
)
def test_quiet_leaves_the_stages_out_and_all_everything_but_errors(monkeypatch, logs, quiet, shown):
    for stream in (io.StringIO(), Terminal()):
        watched = Watched(monkeypatch, stream, quiet=quiet)
        watched.tell(msg="Building DAG of jobs...")
        watched.begin(concepts=1)
        watched.job(1, "concepts", logs["a"])
        watched.tell(msg="slow", level=logging.WARNING)
        watched.tell(msg="bad", level=logging.ERROR)
        watched.tell("job_finished", "Finished jobid: 1", job_id=1)
        watched.tell(msg="gigraph: done", name=WORDS.name)
        watched.handler.close()
        assert watched.handler.muted and watched.lines == shown
    idle = Watched(monkeypatch, io.StringIO(), quiet={"all"})
    idle.tell(msg="Nothing to be done")
    idle.handler.close()
    assert idle.lines == []


def test_a_job_that_is_tried_again_is_no_error(watched, logs):
    watched.begin(network=1)
    watched.tell(name=WORDS.name, gigraph={"retries": {"network": 1}})
    for _ in range(2):
        watched.job(3, "network", logs["c"])
        watched.tell("job_error", "Error", level=logging.ERROR, jobid=3, rule_name="network", log=[str(logs["c"])])
        watched.tell("group_error", "Error in group 1", level=logging.ERROR, groupid=1)
        watched.tell(msg="Trying to restart job 3.")
    assert [line for line in watched.lines[1:] if line] == [
        f"  network is tried again: layer 'x' does not exist; its log: {logs['c']}",
        "gigraph: error: layer 'x' does not exist",
        f"  in network; its log: {logs['c']}",
    ]


def test_why_nothing_runs_stands_on_a_line_of_its_own_and_last(monkeypatch):
    watched = Watched(monkeypatch, Terminal())
    watched.tell(msg="Building DAG of jobs...")
    watched.tell("run_info", "Job stats:", stats={"sample": 2, "total": 2})
    watched.handler.fail("gigraph: error: no")
    watched.handler.close()
    lines = [line.split("\r\x1b[2K")[-1] for line in watched.stream.getvalue().split("\n")]
    assert lines == ["gigraph: error: no", ""]


def test_lines_are_as_wide_as_the_terminal_that_they_are_written_to(monkeypatch, capsys):
    """Also where another stream goes elsewhere."""
    leader, follower = os.openpty()
    termios.tcsetwinsize(follower, (24, 41))
    with os.fdopen(follower, "w") as stream:
        watched = Watched(monkeypatch, stream)
        assert watched.handler.screen.live and watched.handler.screen.width == 40
        for said in ((24, 0), (24, 3)):  # none, and one that nothing fits
            termios.tcsetwinsize(follower, said)
            assert watched.handler.screen.width >= 19
            watched.handler.fail("gigraph: error: what is wrong")
        assert not capsys.readouterr().err and "what is" in os.read(leader, 999).decode()
    os.close(leader)


def test_a_dry_run_says_what_the_workflow_says_and_no_more(monkeypatch):
    watched = Watched(monkeypatch, io.StringIO(), dryrun=True)
    watched.tell(msg="Building DAG of jobs...")
    watched.begin(concepts=2)
    watched.job(1, "concepts")
    watched.tell(msg="This was a dry-run (flag -n).")
    watched.handler.close()
    assert watched.lines == ["gigraph begins"]


def test_without_a_terminal_a_line_now_and_then_says_how_far_a_long_run_is(watched, logs):
    watched.begin(concepts=200)
    for number in range(199):
        watched.job(number, "concepts", logs["a"])
        watched.now += 10
        watched.tell("job_finished", job_id=number)
    told = [line for line in watched.lines if "jobs done" in line]
    assert 10 < len(told) < 20 and told[0] == "gigraph: 6 of 200 jobs done in 1 min 0 s, about 32 min 20 s left"


def test_a_terminal_has_one_live_line_below_what_stays(monkeypatch, logs):
    monkeypatch.setattr(console.shutil, "get_terminal_size", lambda: SimpleNamespace(columns=50))
    watched = Watched(monkeypatch, Terminal())
    watched.begin(concepts=1, sample=2)
    watched.job(1, "concepts", logs["b"])
    watched.job(2, "sample")
    watched.job(3, "sample")
    watched.tell("job_finished", job_id=1)
    watched.handler.close()
    # What a terminal shows: text after the last "clear this line" of each line.
    shown = [line.split("\r\x1b[2K")[-1] for line in watched.stream.getvalue().split("\n")]
    assert shown[0] == "gigraph begins" and shown[1].split()[:3] == ["concepts", "0", "s"]
    assert len(shown[1]) <= 49 and shown[-1] == ""
    assert any("sample x 2" in part for part in watched.stream.getvalue().split("\r\x1b[2K"))
    parts = watched.stream.getvalue().split("\r\x1b[2K")
    assert max(len(part.split("\n")[-1]) for part in parts) == 49


@pytest.mark.parametrize(
    ("width", "shown"),
    [(60, "graph  3 s  8 of 9 nodes (12 concepts), all of it; no more"),
     (50, "graph  3 s  8 of 9 nodes (12 concepts), all of it"),
     (40, "graph  3 s  8 of 9 nodes (12 concepts)"), (36, "graph  3 s  8 of 9 nodes"), (20, "graph  3 s  8 of ...")],
)  # fmt: skip
def test_what_does_not_fit_ends_with_a_clause(width, shown):
    line = "graph  3 s  8 of 9 nodes (12 concepts), all of it; no more"
    assert clipped(line, width, 12) == shown and len(shown) <= width


@pytest.mark.parametrize(
    ("line", "shown"),
    [("  short  line", "  short  line"),
     ("  log: /a/folder/that/is/longer-than-a-line.log; of each job in logs/",
      "  log:\n    /a/folder/that/is/longer-than-a-line.log;\n    of each job in logs/"),
     ("gigraph 0.2.0: a network on 2,000 images of a folder, to results: 55 jobs",
      "gigraph 0.2.0: a network on 2,000\n  images of a folder, to results: 55\n  jobs")],
)  # fmt: skip
def test_a_long_line_goes_on_below_between_words(line, shown):
    assert folded(line, 36) == shown


def test_only_a_terminal_folds_lines(monkeypatch):
    monkeypatch.setattr("shutil.get_terminal_size", lambda: SimpleNamespace(columns=30))
    for stream, lines in ((Terminal(), 3), (io.StringIO(), 1)):
        watched = Watched(monkeypatch, stream)
        watched.handler.screen.say("gigraph: some words that do not fit a line of thirty columns")
        assert len(watched.lines) == lines


def test_a_configuration_that_is_no_yaml_is_named_with_its_line(monkeypatch, tmp_path):
    """Snakemake, which reads it before the workflow can, says neither."""
    path = tmp_path / "mine.yaml"
    path.write_text("images:\n  source: a\n   shards: 2\n")
    monkeypatch.setattr(sys, "argv", ["snakemake", f"--configfile={path}"])
    watched = Watched(monkeypatch, io.StringIO())
    watched.tell(msg="Assuming unrestricted shared filesystem usage.")
    watched.tell(msg="WorkflowError:\nConfig file is not valid JSON or YAML. In case of YAML, ...", level=logging.ERROR)
    watched.handler.close()
    (line,) = watched.lines
    assert line.startswith(f"gigraph: error: --configfile: {path}, line 3 is no YAML: ")


def test_a_target_that_there_is_none_of_is_named(monkeypatch):
    watched = Watched(monkeypatch, io.StringIO())
    said = "MissingRuleException:\nNo rule to produce evaluaton (if you use input functions make sure that they ..."
    watched.tell(msg="Building DAG of jobs...")
    watched.tell(msg=said, level=logging.ERROR)
    watched.handler.close()
    (line,) = watched.lines
    assert line.startswith("gigraph: error: there is no target evaluaton: targets are rules, ")


def test_on_the_accuracy_it_is_remarked_at_once(watched, logs, tmp_path):
    log = tmp_path / "images.log"
    log.write_text("10:00:00 accuracy 28.67% on 600 images\n10:00:00 note: accuracy 28.7%: preprocessing\n")
    watched.begin(images=1, sample=1)
    watched.job(1, "images", log)
    watched.tell("job_finished", job_id=1)
    assert [line.split()[0] for line in watched.lines[-2:]] == ["images", "note:"]


def test_a_defect_of_the_screen_is_said_once_and_snakemakes_words_go_on(watched, monkeypatch):
    watched.begin(concepts=1)
    monkeypatch.setattr(watched.handler, "_job", lambda record: 1 / 0)
    watched.job(1, "concepts")
    watched.tell(msg="Shutting down")
    told = "gigraph: the progress cannot be shown any more: ZeroDivisionError: division by zero"
    assert watched.lines[1:] == [told, "Shutting down"]


# ---- results of stages ---------------------------------------------------------------------------------------------


def test_what_a_log_says_of_its_result(logs, tmp_path):
    assert said(logs["a"]) == ["32 concepts of 7272 PFVs"] and said(logs["c"]) == said(tmp_path / "none") == []
    assert last_error(logs["c"]) == "gigraph: error: layer 'x' does not exist" and last_error(logs["a"]) == ""


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], ""),
        (["2000 images, 0 rejected"], "2000 images, 0 rejected"),
        (["bee: 47 of 70 (3 left)", "moth: 5 of 70 (10 left)"], "5 to 47 of 70 (3 to 10 left)"),
        (["error 1.0e-02, 5%;", "error 2.5e-03, 15%;"], "error 2.5e-03 to 1.0e-02, 5 to 15%;"),
        (["one thing", "layer1.0: 3", "layer2.0: 1,000"], "3 to 1,000"),
        (["x: -2 of 3", "y: +1 of 3"], "-2 to +1 of 3"),
    ],
)
def test_lines_that_are_alike_but_for_numbers_are_one(tmp_path, lines, expected):
    log = tmp_path / "job.log"
    log.write_text("".join(f"12:00:00 {line}\n" for line in lines))
    assert summary([log]) == expected


def test_the_strongest_cause_of_each_class_and_its_share():
    rows = [(0, "b", 5, "classes", 0, 0.6), (0, "b", 7, "classes", 0, -0.2), (0, "b", -1, "classes", 0, 0.2),
            (1, "b", 5, "classes", 1, 0.1), (1, "b", 6, "classes", 1, 0.9), (1, "b", 6, "classes", 0, 9.0),
            (2, "b", -1, "classes", 2, 1.0), (0, "a", 5, "classes", 0, 9.0)]  # fmt: skip
    names = ["scope", "source_layer", "source", "target_layer", "target", "mean"]
    found = causes(pl.DataFrame(rows, names, orient="row"), "b")
    assert [(scope, source, pytest.approx(share)) for scope, source, share in found] == [(1, 6, 0.9), (0, 5, 0.6)]


# ---- sessions --------------------------------------------------------------------------------------------------


def a_workflow(jobs, imported, dryrun=False):
    made = [SimpleNamespace(jobid=i, rule=SimpleNamespace(name=name)) for i, name in enumerate(jobs)]
    return SimpleNamespace(
        dag=SimpleNamespace(jobs=made, needrun_jobs=lambda: made), dryrun=dryrun,
        modifier=SimpleNamespace(is_main_snakefile=lambda: not imported),
    )  # fmt: skip


def heard(workflow, *events):
    calls = []
    names = {"my_sample": "sample", "my_graph": "graph"}
    said = {name: lambda run, name=name: calls.append(name) for name in ("begin", "end", "rehearse")}
    own = logging.makeLogRecord({"name": WORDS.name, "levelno": logging.INFO, "msg": "Nothing to be done; open a page"})
    said["rest"] = lambda run: (calls.append("rest"), WORDS.handle(own))
    run = session.attend(workflow, "results", names, **said)
    try:
        for event, job in events:
            logging.getLogger("snakemake.logging").handle(
                logging.makeLogRecord({"levelno": logging.INFO, "event": event, "job_id": job, "msg": event})
            )
            calls.append(event)
    finally:
        logging.getLogger("snakemake.logging").removeHandler(run)
        logging.getLogger("snakemake.logging").removeFilter(run.foresee)
    return run, calls


def test_an_imported_workflow_begins_before_the_first_job_and_ends_with_its_own_last():
    workflow = a_workflow(["other", "my_sample", "my_graph"], imported=True)
    finished = [("job_finished", 1), ("job_finished", 2), ("job_finished", 0)]
    run, calls = heard(workflow, ("run_info", 0), *finished)
    assert calls == ["begin", "run_info", "job_finished", "end", "job_finished", "job_finished"]
    assert [run.stage(job) for job in run.due] == ["sample", "graph"]


def test_the_workflow_that_is_called_ends_when_snakemake_says_so():
    run, calls = heard(a_workflow(["my_sample"], imported=False), ("run_info", 0), ("job_finished", 0))
    assert calls == ["begin", "run_info", "job_finished"]
    run.finish()
    run.finish()
    assert calls[3:] == ["end"]


def test_a_dry_run_and_one_without_own_jobs_begin_nothing():
    for dryrun in (False, True):
        assert heard(a_workflow(["other"], True, dryrun=dryrun), ("run_info", 0))[1] == ["run_info"]
    _, calls = heard(a_workflow(["my_sample"], True, dryrun=True), ("run_info", 0), ("run_info", 0))
    assert calls == ["rehearse", "run_info", "run_info"]


def test_where_nothing_is_to_be_done_a_session_says_so_itself():
    """Once: it does not answer itself."""
    idle = "Nothing to be done (all requested files are present and up to date)."
    for dryrun in (False, True):
        assert heard(a_workflow([], imported=False, dryrun=dryrun), (idle, 0))[1] == ["rest", idle]
    assert "rest" not in heard(a_workflow(["my_sample"], False), ("run_info", 0), (idle, 0))[1]


def test_another_interruption_is_provided_for_before_anybody_is_told_of_the_first(monkeypatch):
    """Who reads that a run is interrupted may interrupt it again at once, which ended in Snakemake's traceback."""
    order = []
    monkeypatch.setattr(session, "_pass_over_one", lambda: order.append("provided for"))
    screen = logging.Handler()
    screen.emit = lambda record: order.append(record.getMessage())
    logging.getLogger("snakemake.logging").addHandler(screen)
    try:
        heard(a_workflow(["my_sample"], imported=False), (console.STOPPED, 0), ("run_info", 0), (console.STOPPED, 0))
    finally:
        logging.getLogger("snakemake.logging").removeHandler(screen)
    assert order == [console.STOPPED, "run_info", "provided for", console.STOPPED]


def test_rules_that_are_read_twice_are_of_one_session():
    workflow = a_workflow(["my_sample"], imported=True)
    one, _ = heard(workflow)
    again = session.attend(workflow, "results", {"mine": "sample"}, begin=print, end=print)
    assert again is one and one.names["mine"] == "sample"
