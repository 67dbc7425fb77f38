"""A job's `python`, where jobs are forked (`gigraph.running.forks`): it imports nothing that takes time.

python -I -S forked.py SOCKET LAUNCHER SCRIPT ARGUMENTS...
"""

import os
import socket
import sys

THREADS = "1"
"""Of the server's libraries, and so of every job that it forks: they are told before they are loaded."""


def call(path: str, arguments: list[str]) -> int | None:
    """Have a script run by the server at a socket; return its exit status, or None where the server cannot be asked."""
    if os.environ.get("OMP_NUM_THREADS") != THREADS:
        return None
    server = socket.socket(socket.AF_UNIX)
    try:
        server.connect(path)
    except OSError:
        return None
    import json
    import signal

    folder = os.getcwd()  # noqa: PTH109 (pathlib takes as long to import as all else)
    ignores = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # as a run in the background does
    what = {"arguments": arguments, "folder": folder, "environment": dict(os.environ), "ignores": ignores}
    text = json.dumps(what).encode("utf-8", "surrogateescape")
    socket.send_fds(server, [len(text).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(text)
    parent = os.getppid()
    server.settimeout(0.5)
    while True:
        try:
            answer = server.recv(1)
        except TimeoutError:
            if os.getppid() != parent:
                return 1
            continue
        return answer[0] if answer else 1


if __name__ == "__main__":
    _, place, launcher, *given = sys.argv
    try:
        status = call(place, given)
    except KeyboardInterrupt:  # the job ends by it, too
        status = 130
    if status is None:
        os.execvp("python", ["python", launcher, *given])
    sys.exit(status)
