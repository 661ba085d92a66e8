"""A process that has imported a framework once and forks a child for each step: start-up is paid per run, not per job.

    python -m converter.running.fork_server tensorflow DESCRIPTOR       (of a listening socket, inherited)

It speaks with workflow/bin/step over a Unix socket, one connection per step. The client sends its working directory,
environment and arguments as JSON together with its three standard streams; the answer is a "+" when the step begins
and its exit status when it ends. A client that goes away takes its child along; when standard input ends, because
Snakemake did, everything ends.

Forking is sound because nothing but imports has happened here: TensorFlow and torch start their threads with the first
operation, which only children run.
"""

from __future__ import annotations

import compileall
import contextlib
import ctypes
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import traceback
from pathlib import Path

from converter.installation import SCRIPTS
from converter.running.fast_import import load

__all__ = ["KINDS", "serve"]

# What writing and reading a torch.export program imports (2.13), a second's worth.
_EXPORTED_PROGRAMS = ("torch.export", "torch.export._trace", "torch.export.pt2_archive._package")
# What each kind imports before its first fork.
KINDS = {
    "tensorflow": ("tensorflow", "keras", "tf2onnx", "tf2onnx.tfonnx", "onnx", "onnxruntime"),
    "torch": ("torch", *_EXPORTED_PROGRAMS, "torch.onnx", "onnx", "onnxruntime"),
    "torch+tensorflow": ("tensorflow", "keras", "torch", *_EXPORTED_PROGRAMS),
}
_PR_SET_PDEATHSIG = 1
# Sent before the exit status: from here on the client must not run the step by itself.
_BEGUN = b"+"


def serve(kind: str, descriptor: int) -> None:
    """Answer at the listening socket until standard input ends. Clients may come while the imports run, and wait."""
    selector = selectors.DefaultSelector()
    with socket.socket(fileno=descriptor) as server:
        # Steps may not write beside this package, where Python keeps what it has compiled.
        compileall.compile_dir(Path(__file__).parents[1], quiet=2)
        load(*KINDS[kind])
        if kind == "torch":  # for the models' classes, which only imports meet
            from converter.torch.extensions.vision import import_torchvision

            import_torchvision()
        selector.register(server, selectors.EVENT_READ, "accept")
        selector.register(sys.stdin.buffer, selectors.EVENT_READ, "end")
        children: dict[int, tuple[int, socket.socket]] = {}
        try:
            while True:
                for key, _ in selector.select():
                    if key.data == "end":
                        return
                    if key.data == "accept":
                        _start(server, selector, children)
                    elif key.data[0] == "exited":
                        _answer(key, selector, children)
                    elif key.data[1] in children:  # the client is gone
                        _kill(children[key.data[1]][0])
                        selector.unregister(key.fileobj)
        finally:
            for pid, _ in children.values():
                _kill(pid)
            with contextlib.suppress(OSError):  # Snakemake removes it too, unless it was killed
                os.unlink(server.getsockname())
                os.rmdir(os.path.dirname(server.getsockname()))


def _start(server: socket.socket, selector: selectors.BaseSelector, children: dict) -> None:
    connection, _ = server.accept()
    try:
        data, streams, _, _ = socket.recv_fds(connection, 1 << 20, 3)
        length, _, body = data.partition(b"\n")
        while len(body) < int(length):
            body += connection.recv(1 << 20) or b"x" * int(length)
        request = json.loads(body)
    except (ValueError, OSError):  # a client that was killed while it spoke
        connection.close()
        return
    try:
        connection.sendall(_BEGUN)
    except OSError:
        connection.close()
        return
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        selector.close()
        server.close()
        connection.close()
        _run(request, streams)
    for stream in streams:
        os.close(stream)
    exited = os.pidfd_open(pid)
    children[exited] = (pid, connection)
    selector.register(exited, selectors.EVENT_READ, ("exited", exited))
    selector.register(connection, selectors.EVENT_READ, ("client", exited))


def _answer(key: selectors.SelectorKey, selector: selectors.BaseSelector, children: dict) -> None:
    pid, connection = children.pop(key.data[1])
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    selector.unregister(key.fileobj)
    os.close(key.data[1])
    with contextlib.suppress(KeyError):  # unregistered when the client went away
        selector.unregister(connection)
    with contextlib.suppress(OSError):  # nobody waits for it any more
        connection.sendall(str(code if code >= 0 else 128 - code).encode())
    connection.close()


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _run(request: dict, streams: list[int]) -> None:
    """The child: become the step. Never returns."""
    code = 1
    try:
        os.setsid()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(request["directory"])
        os.environ.clear()
        os.environ.update(request["environment"])
        script, *arguments = request["arguments"]
        path = SCRIPTS / f"{script}.py"
        sys.argv = [str(path), *arguments]
        # As in a process of its own, whose modules may lie where the user says.
        named = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        sys.path[:0] = [str(SCRIPTS), *map(os.path.abspath, named)]
        try:
            runpy.run_path(str(path), run_name="__main__")
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else (0 if end.code is None else 1)
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is Snakemake's to handle; its clients' ends reach us
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    serve(sys.argv[1], int(sys.argv[2]))


if __name__ == "__main__":
    main()
