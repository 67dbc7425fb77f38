"""Jobs forked from one process that has torch loaded: on one machine, without GPUs, for as long as one run takes.

Most jobs of a small run take less time than the imports of their process. So the run's main process starts this one,
which imports what scripts import and waits; a job's `python` is then `gigraph.running.forked`, which hands its command
line, environment and open files over and waits for the exit status. Whatever is in the way (no server yet, none any
more, another number of threads), it starts an ordinary process instead.

A job ends with its caller, which hangs up when it dies; and the server with the process that started it.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from gigraph import orphans
from gigraph.running import forked, launched

IMPORTS = ("numpy", "pyarrow.parquet", "torch", "numba", "PIL.Image", "gigraph.pair", "gigraph.exemplars")
"""What scripts import that takes time; none of it may start a thread."""

FEWEST = 6
"""Jobs that load torch from which on a server is worth its own start."""
FORKABLE = {"jemalloc_bg_thd"}
"""Threads that a fork may leave behind, since their library sees to it: Arrow's allocator."""


def start(jobs: int, devices: bool) -> list[str]:
    """Start a server that ends with this process; return the commands that say what a shell's `python` is.

    Parameters
    ----------
    jobs : int
        That load torch.
    devices : bool
        Whether jobs may use a GPU. Then each needs a process of its own, which sees no GPU but its own.

    Returns
    -------
    list of str
        A forked process; an ordinary one (`gigraph.running.launched`) with ``GIGRAPH_FORKS=0`` in the environment, and
        where there are few.
    """
    if jobs < FEWEST or devices or sys.platform != "linux" or os.environ.get("GIGRAPH_FORKS") == "0":
        return [_python(launched.__file__)]
    folder = Path(tempfile.mkdtemp(prefix="gigraph-"))  # for nobody else
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "forks"
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), forked.THREADS)
    subprocess.Popen(
        [sys.executable, "-m", __name__, path, str(os.getpid())], env=environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return [_python("-I", "-S", forked.__file__, str(path), launched.__file__)]


def _python(*arguments: str) -> str:
    """Return a shell's function that takes the place of its `python`."""
    return f'python() {{ {shlex.join(["command", "python", *arguments])} "$@"; }}'


def serve(path: Path, starter: int) -> None:
    """Answer callers at a socket, until the process that started this one ends."""
    orphans.die_with_parent(starter)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the jobs too, which end by it
    for name in IMPORTS:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    threads = {
        one.joinpath("comm").read_text().strip()
        for one in Path("/proc/self/task").iterdir()
        if one.name != str(os.getpid())
    }
    if threads - FORKABLE:
        return  # a fork would lose them, and keep their locks
    with socket.socket(socket.AF_UNIX) as listener:
        named = path.with_suffix(".new")  # it has its own name only once it listens
        listener.bind(str(named))
        listener.listen(64)
        named.rename(path)
        _answer(listener)


def _answer(listener: socket.socket) -> None:
    wakeup, bell = socket.socketpair()
    for end in (wakeup, bell):
        end.setblocking(False)
    signal.set_wakeup_fd(bell.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    events = selectors.DefaultSelector()
    events.register(listener, selectors.EVENT_READ)
    events.register(wakeup, selectors.EVENT_READ)
    callers: dict[int, socket.socket] = {}
    while True:
        for key, _ in events.select():
            if key.fileobj is listener:
                caller = listener.accept()[0]
                call, files = _asked(caller)
                if call is None:
                    caller.close()
                    continue
                child = _fork(call, files, [caller, listener, wakeup, bell, *callers.values()])
                for file in files:
                    os.close(file)
                callers[child] = caller
                events.register(caller, selectors.EVENT_READ, child)
            elif key.fileobj is wakeup:
                wakeup.recv(4096)
            else:  # it hung up: its job goes with it
                os.kill(key.data, signal.SIGKILL)
                events.unregister(key.fileobj)
        while callers:
            child, status = os.waitpid(-1, os.WNOHANG)
            if not child:
                break
            caller = callers.pop(child)
            if caller in (key.fileobj for key in events.get_map().values()):
                events.unregister(caller)
            code = os.waitstatus_to_exitcode(status)
            with suppress(OSError):  # it hung up
                caller.sendall(bytes([code if code >= 0 else 128 - code]))
            caller.close()


def _asked(caller: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """Read what a caller wants, and the files that it shares; None if it hung up."""
    caller.settimeout(10)
    try:
        given, files, _, _ = socket.recv_fds(caller, 4, 3)
        size, text = int.from_bytes(given, "big"), b""
        while len(text) < size and (more := caller.recv(size - len(text))):
            text += more
        return (json.loads(text), files) if len(text) == size > 0 else (None, files)
    except OSError:
        return None, []


def _fork(call: dict[str, Any], files: list[int], others: list[socket.socket]) -> int:
    """Fork a job; return its process."""
    server = os.getpid()
    child = os.fork()
    if child:
        return child
    orphans.die_with_parent(server)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN if call["ignores"] else signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for one in others:
        one.close()
    _become(call, files)


def _become(call: dict[str, Any], files: list[int]) -> NoReturn:
    """Run the script that a caller asks for, as a process of its own would."""
    code = 1
    try:
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.chdir(call["folder"])
        os.environ.clear()
        os.environ.update(call["environment"])
        sys.argv = call["arguments"]
        sys.path[0] = str(Path(sys.argv[0]).parent)
        runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
