"""What code that has taken over a step would try; run as a program: sandbox_attacks.py SCENE.json OUTCOMES.json.

SCENE has paths and processes to attack. Each attack ends as "did", as "refused" (no permission, or no such call), or with
the name of the error that the kernel gave it when it had got that far. All are harmless where they succeed: system calls that
would change the machine get arguments that mean nothing.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)
# EXDEV: what Landlock says to links and moves from where it gives no rights.
REFUSED = (errno.EACCES, errno.EPERM, errno.ENOSYS, errno.EXDEV)
# By name, x86-64's numbers: calls whose arguments here mean nothing.
_NUMBERS = """
    mount=165 umount2=166 pivot_root=155 chroot=161 setns=308 move_mount=429
    fsopen=430 bpf=321 perf_event_open=298 keyctl=250 add_key=248 request_key=249
    userfaultfd=323 init_module=175 finit_module=313 delete_module=176 kexec_load=246 reboot=169
    swapon=167 swapoff=168 settimeofday=164 clock_settime=227 sethostname=170 open_by_handle_at=304
    name_to_handle_at=303 fanotify_init=300 inotify_add_watch=254 io_uring_setup=425 kcmp=312 io_uring_enter=426
    io_uring_register=427 process_madvise=440 migrate_pages=256 execveat=322 shmget=29 semget=64
    msgget=68 mq_open=240 fchmodat2=452 modify_ldt=154 quotactl=179
"""
MEANINGLESS = {name: int(number) for name, _, number in (pair.partition("=") for pair in _NUMBERS.split())}


def call(number: int, *arguments: object) -> int:
    values = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result = libc.syscall(ctypes.c_long(number), *values)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def outcome(attack: Callable[[], object]) -> str:
    try:
        attack()
    except OSError as error:
        return "refused" if error.errno in REFUSED else errno.errorcode[error.errno]
    return "did"


def attacks(scene: dict) -> dict[str, Callable[[], object]]:
    secret, source, hub, folder = (Path(scene[key]) for key in ("secret", "source", "hub", "folder"))
    victim, victims_thread = scene["victim"], scene["victim"]
    found: dict[str, Callable[[], object]] = {
        "read a secret": secret.read_bytes,
        "read another model": (folder / "models" / "other.bin").read_bytes,
        "read another hub": (folder / "intermediate" / "other" / "hub.json").read_bytes,
        "read the users": Path("/etc/passwd").read_bytes,
        "list the home": lambda: os.listdir(secret.parent),
        "list the models": lambda: os.listdir(source.parent),
        "list the root": lambda: os.listdir("/"),
        "list the temporary directory": lambda: os.listdir(scene["temporary"]),
        "read from where the secret lies": lambda: _in(secret.parent, lambda: Path(secret.name).read_bytes()),
        "read through a link": lambda: _through_link(hub, secret),
        "read through /proc/self/root": Path(f"/proc/self/root{secret}").read_bytes,
        "read through a descriptor of its path": lambda: _through_path(secret),
        "link it here": lambda: os.link(secret, hub / "taken"),
        "move it here": lambda: os.rename(secret, hub / "taken"),
        "write the source": lambda: _write(source),
        "append to the source": lambda: _write(source, os.O_APPEND),
        "truncate a file": lambda: os.truncate(secret, 6),
        "write another hub": lambda: _write(folder / "intermediate" / "other" / "hub.json"),
        "write a report": lambda: (folder / "reports" / "planted.json").write_text("{}"),
        "write a module of this program": lambda: _write(Path(scene["module"])),
        "write beside the source": lambda: (source.parent / "new").write_bytes(b""),
        "write to the temporary directory": lambda: Path(scene["temporary"], "new").write_bytes(b""),
        "write to shared memory": lambda: _write_shared(folder.name),
        "delete a file": lambda: os.unlink(folder / "models" / "third.bin"),
        "delete a folder": lambda: os.rmdir(folder / "empty"),
        "make a folder": lambda: (folder / "made").mkdir(),
        "make a symbolic link": lambda: os.symlink("/", folder / "symlink"),
        "make a pipe": lambda: os.mkfifo(folder / "pipe"),
        "make a device": lambda: os.mknod(folder / "device", 0o020600, os.makedev(1, 3)),
        "set rights": lambda: os.chmod(secret, 0o600),
        "set rights of what is open": lambda: _open(source, lambda number: os.fchmod(number, 0o644)),
        "set times": lambda: os.utime(secret),
        "set times of what is open": lambda: _open(source, os.utime),
        "set the owner": lambda: os.chown(secret, os.getuid(), os.getgid()),
        "set an attribute": lambda: os.setxattr(secret, "user.mine", b"1"),
        "set a file's flags": lambda: _open(source, lambda number: call(16, number, 0x40086602, 0)),
        "read another process's environment": Path(f"/proc/{victim}/environ").read_bytes,
        "read the parent's environment": Path(f"/proc/{os.getppid()}/environ").read_bytes,
        "read another process's command": Path(f"/proc/{victim}/cmdline").read_bytes,
        "open another process's memory": lambda: _write(Path(f"/proc/{victim}/mem")),
        "open another process's files": lambda: os.listdir(f"/proc/{victim}/fd"),
        "change the kernel's settings": lambda: _write(Path("/proc/sys/kernel/core_pattern")),
        "start a shell": lambda: subprocess.run(["/bin/sh", "-c", ":"], check=True),
        "become a shell": lambda: os.execv("/bin/sh-that-is-not-there", ["sh"]),
        "spawn a program": lambda: os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0),
        "fork": lambda: _fork(os.fork),
        "fork by clone": lambda: _fork(lambda: call(56, signal.SIGCHLD, 0, 0, 0, 0)),
        "fork by clone3": lambda: call(435, 0, 0),
        "fork into a user namespace": lambda: _fork(lambda: call(56, signal.SIGCHLD | 0x10000000, 0, 0, 0, 0)),
        "run from memory": lambda: os.execve(os.memfd_create("x"), ["x"], {}),
        "trace another process": lambda: (
            call(101, 16, victim, 0, 0),
            os.waitpid(victim, 0),
            call(101, 17, victim, 0, 0),
        ),
        "read another process's memory": lambda: call(310, victim, 0, 0, 0, 0, 0),
        "write another process's memory": lambda: call(311, victim, 0, 0, 0, 0, 0),
        "take another process's file": lambda: call(438, os.pidfd_open(victim), 0, 0),
        "signal by a descriptor": lambda: call(424, os.pidfd_open(victim), 0, 0, 0),
        "signal another process": lambda: os.kill(victim, 0),
        "signal the parent": lambda: os.kill(os.getppid(), 0),
        "signal everybody": lambda: os.kill(-1, 0),
        "signal the group": lambda: os.kill(0, 0),
        "signal a thread": lambda: call(234, victim, victims_thread, 0),
        "signal a thread by its number": lambda: call(200, victims_thread, 0),
        "queue a signal": lambda: call(129, victim, 0, ctypes.create_string_buffer(128)),
        "kill through a pipe": lambda: _signal_by_pipe(scene["second_victim"]),
        "raise a limit": lambda: resource.setrlimit(resource.RLIMIT_DATA, resource.getrlimit(resource.RLIMIT_DATA)),
        "set another process's limit": lambda: resource.prlimit(victim, resource.RLIMIT_CORE, (0, 0)),
        "slow another process": lambda: os.setpriority(
            os.PRIO_PROCESS, victim, os.getpriority(os.PRIO_PROCESS, victim)
        ),
        "become another machine": lambda: call(135, 0x8),
        "leave for new namespaces": lambda: call(272, 0x40000000),
        "leave for a user namespace": lambda: call(272, 0x10000000 | 0x04000000),
        "type into the terminal": lambda: fcntl.ioctl(0, 0x5412, b"\n"),
        "read from a new thread": lambda: _in_thread(secret.read_bytes),
        "read from a thread that was there": lambda: _in_watching_thread(secret.read_bytes),
    }
    families = ("INET", "INET6", "UNIX", "NETLINK", "PACKET", "VSOCK", "ALG")
    for family in families:
        found[f"socket {family}"] = lambda family=family: _socket(getattr(socket, f"AF_{family}"))
    for name, number in MEANINGLESS.items():
        found[f"call {name}"] = lambda number=number: call(number, -1, -1, -1, -1, -1)
    return found


def _in(folder: Path, action: Callable[[], object]) -> None:
    before = os.getcwd()
    os.chdir(folder)
    try:
        action()
    finally:
        os.chdir(before)


def _through_link(hub: Path, secret: Path) -> None:
    link = hub / "link"
    os.symlink(secret, link)
    try:
        link.read_bytes()
    finally:
        link.unlink()


def _through_path(secret: Path) -> None:
    number = os.open(secret, os.O_PATH)
    Path(f"/proc/self/fd/{number}").read_bytes()


def _open(path: Path, action: Callable[[int], object]) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        action(number)
    finally:
        os.close(number)


def _write(path: Path, flag: int = 0) -> None:
    os.close(os.open(path, os.O_WRONLY | flag))


def _write_shared(name: str) -> None:
    path = Path("/dev/shm", f"converter-{name}")
    path.write_bytes(b"")
    path.unlink()


def _fork(fork: Callable[[], int]) -> None:
    process = fork()
    if process == 0:
        os._exit(0)
    os.waitpid(process, 0)


def _socket(family: int) -> None:
    socket.socket(family, socket.SOCK_RAW if family in (socket.AF_PACKET, socket.AF_NETLINK) else socket.SOCK_STREAM)


def _signal_by_pipe(victim: int) -> None:
    """The kernel sends a pipe's owner a signal of one's choice when something can be read."""
    reader, writer = os.pipe()
    fcntl.fcntl(reader, fcntl.F_SETOWN, victim)
    fcntl.fcntl(reader, 10, signal.SIGKILL)  # F_SETSIG
    fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC)
    os.write(writer, b"x")
    if not select.select([os.pidfd_open(victim)], [], [], 0.5)[0]:
        raise PermissionError(errno.EPERM, "it lives")


def _in_thread(action: Callable[[], object]) -> None:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def _in_watching_thread(action: Callable[[], object]) -> None:
    """Steps have a thread that looks whether their run is still there: its functions are exchanged for others."""
    outcomes: list[BaseException | None] = []
    own = threading.get_ident()

    def exchanged(function: Callable) -> Callable:
        def run(*arguments: object) -> object:
            if threading.get_ident() != own and not outcomes:
                try:
                    action()
                    outcomes.append(None)
                except OSError as error:
                    outcomes.append(error)
            return function(*arguments)

        return run

    before = select.select, os.kill, time.sleep
    select.select, os.kill, time.sleep = map(exchanged, before)
    try:
        for _ in range(40):
            if outcomes:
                break
            before[2](0.1)
    finally:
        select.select, os.kill, time.sleep = before
    if not outcomes:
        raise TimeoutError(errno.ETIMEDOUT, "there is no such thread")
    if outcomes[0] is not None:
        raise outcomes[0]


def main() -> None:
    scene = json.loads(sys.argv[1])
    tempfile.gettempdir()
    results = {name: outcome(attack) for name, attack in attacks(scene).items()}
    Path(sys.argv[2]).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
