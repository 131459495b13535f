"""Child processes: JSON lines in on stdin, JSON lines out on a pipe of their own, and no orphan ever.

The child's stdout goes to stderr, because libraries print there. The parent's first line to the child
names the pipe, the parent, the niceness and the memory limit; all that follows are requests.

What the child runs may be hostile: no line, flood of lines, silence or refusal to end holds the parent up.
"""

import contextlib
import ctypes
import json
import os
import queue
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from host.errors import ChildError
from host.logs import say

MAX_LINE_BYTES = 1 << 20
KEPT_LINES = 5
# A child that closed its pipe is about to end; one that does not is killed.
ENDING_S = 5.0
HINTS: Mapping[int, str] = {
    signal.SIGKILL: " (out of memory?)",
    signal.SIGABRT: " (out of memory, or a fault in native code?)",
}
# Between two messages: a child that talks without end fills its pipe and waits, instead of keeping us busy.
PAUSE_S = 0.005
# And so many lines of what it prints are read in one go.
LINES_IN_A_ROW = 64
# Of what a child prints, this much is passed on at once, and this much a second from then on.
PRINTED_BYTES = 256 << 10
PRINTED_BYTES_PER_S = 4 << 10
PRINTED_LINE_BYTES = 8 << 10
PR_SET_PDEATHSIG = 1

Json = dict[str, Any]
Emit = Callable[[Mapping[str, Any]], None]


class Child:
    """`python -m module` in its own session; it starts at once and ends with us, whatever happens.

    `memory_bytes` limits what it can allocate. An `on_message` that raises ChildError ends the child.
    Start it from a thread that outlives it: the kernel kills the child when that thread ends. Raises OSError
    when the machine cannot start a process now. The callbacks are called from a thread of the child's own,
    one at a time.
    """

    def __init__(
        self,
        module: str,
        *,
        arguments: Sequence[str] = (),
        nice: int = 0,
        memory_bytes: int | None = None,
        on_message: Callable[[Json], object],
        on_exit: Callable[[str], object],
    ) -> None:
        self._module, self._on_message, self._on_exit = module, on_message, on_exit
        self._last_lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._ending = threading.Lock()
        self._killed = False
        answers, answer_end = _pipe()
        output, output_end = _pipe()
        with answer_end, output_end:
            try:
                self._process = _start(module, arguments, answer_end, output_end)
            except OSError:
                answers.close()
                output.close()
                raise
            here = {"pipe": answer_end.fileno(), "parent": os.getpid()}
            self.send({**here, "nice": nice, "memory_bytes": memory_bytes})
        self.pid = self._process.pid
        self._forwarder = _begin(self._forward, output)
        self._reader = _begin(self._read, answers)
        self._writer = _begin(self._write)
        _begin(self._sweep)

    @property
    def alive(self) -> bool:
        """Whether the process is still there."""
        return self._process.poll() is None

    def send(self, message: Mapping[str, Any]) -> None:
        """Hand the child a request, without waiting until it reads; raises ValueError for one too long.

        That the child is gone already is not an error here, `on_exit` tells. Wait for the answer before
        sending more: what the child does not read is kept here.
        """
        self._requests.put(_line(message))

    def kill(self) -> None:
        """End the child and all it started, now, and wait for that a little; `on_exit` is then not called."""
        with self._ending:
            self._killed = True
        self._end()
        # What fled from the group may hold our pipes open, and a thread with each.
        until = time.monotonic() + ENDING_S
        for thread in (self._reader, self._forwarder, self._writer):
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))

    def _end(self) -> None:
        if self._process.poll() is None:
            self._kill_group()
        # In the middle of a disk's or a driver's fault not even SIGKILL ends a process at once.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(ENDING_S)
        self._requests.put(None)

    def _write(self) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        # Closing sends what the child did not take, to nobody when it is gone.
        with contextlib.suppress(BrokenPipeError), stdin:
            while line := self._requests.get():
                stdin.write(line)
                stdin.flush()

    def _sweep(self) -> None:
        """End what the child leaves behind, which may hold our pipes open.

        While nobody has asked for the child's status, its number stays that of its group.
        """
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            self._kill_group()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def _read(self, answers: IO[bytes]) -> None:
        with answers:
            try:
                for message in _messages(answers):
                    if self._killed:
                        return
                    self._on_message(message)
                    time.sleep(PAUSE_S)
            except ChildError as error:
                self._end()
                self._report(str(error))
                return
        self._report(self._how_it_ended())

    def _how_it_ended(self) -> str:
        try:
            status = self._process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            self._end()
            return "closed its pipe but did not end; killed"
        # The sweep may have come too late to look: a group outlives its first process while others are in it.
        self._kill_group()
        self._requests.put(None)
        self._forwarder.join(ENDING_S)
        if status < 0:
            return f"killed by {_signal_name(-status)}{HINTS.get(-status, '')}"
        last = f": {self._last_lines[-1]}" if status and self._last_lines else ""
        return f"exit status {status}{last}"

    def _report(self, how: str) -> None:
        with self._ending:
            if self._killed:
                return
        self._on_exit(how)

    def _forward(self, output: IO[bytes]) -> None:
        allowance = _Allowance(PRINTED_BYTES, PRINTED_BYTES_PER_S)
        with output:
            for number, line in enumerate(iter(lambda: output.readline(PRINTED_LINE_BYTES), b""), 1):
                if number % LINES_IN_A_ROW == 0 and not self._killed:
                    time.sleep(PAUSE_S)
                text = line.decode(errors="replace")
                if text.strip():
                    self._last_lines.append(text.strip()[:300])
                if not allowance.takes(len(line)):
                    continue
                if allowance.left_out:
                    text = f"[{allowance.left_out} bytes of output left out]\n{text}"
                    allowance.left_out = 0
                say(text, event="child-output", child=self._module)


class _Allowance:
    """How much output may pass: a burst of bytes, refilled over time."""

    def __init__(self, burst: int, per_s: int) -> None:
        self._burst, self._per_s = burst, per_s
        self._room, self._filled = float(burst), time.monotonic()
        self.left_out = 0

    def takes(self, size: int) -> bool:
        """Whether so many bytes pass now; counts them as left out otherwise."""
        now = time.monotonic()
        self._room = min(self._burst, self._room + (now - self._filled) * self._per_s)
        self._filled = now
        fits = size <= self._room
        if fits:
            self._room -= size
        else:
            self.left_out += size
        return fits


def _begin(target: Callable[..., None], *args: object) -> threading.Thread:
    thread = threading.Thread(target=target, args=args, daemon=True)
    thread.start()
    return thread


def _signal_name(number: int) -> str:
    """Its name; most of the real-time signals have none."""
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def _pipe() -> tuple[IO[bytes], IO[bytes]]:
    reading, writing = os.pipe()
    return os.fdopen(reading, "rb"), os.fdopen(writing, "wb")


def _start(
    module: str, arguments: Sequence[str], answers: IO[bytes], output: IO[bytes]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603  the module is ours, the arguments are no shell's
        [sys.executable, "-P", "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        pass_fds=(answers.fileno(),),
        start_new_session=True,
        # The child imports what we can import, wherever it was started.
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},  # noqa: PTH109
    )


def ask_once(module: str, request: Mapping[str, Any], timeout_s: float, *, nice: int = 0) -> Json:
    """Start a child for one request and give its answer; raises ChildError when there is none."""
    answers: queue.SimpleQueue[Json | str] = queue.SimpleQueue()
    child = Child(module, nice=nice, on_message=answers.put, on_exit=answers.put)
    try:
        child.send(request)
        answer = answers.get(timeout=timeout_s)
    except queue.Empty:
        raise ChildError(f"{module} did not answer within {timeout_s:g} s") from None
    finally:
        child.kill()
    if isinstance(answer, str):
        raise ChildError(f"{module} ended before it answered: {answer}")
    return answer


def serve(handle: Callable[[Json, Emit], None]) -> None:
    """Run the child's side: call `handle(request, emit)` for each request, until stdin ends.

    An exception that `handle` lets through ends the child. `emit` may be called from any thread.
    """
    requests = _take_stdin()
    greeting = next(_messages(requests), None)
    if greeting is None:
        return
    _bind_to(greeting["parent"])
    _give_way(greeting["nice"])
    _confine(greeting["memory_bytes"])
    os.set_inheritable(greeting["pipe"], False)
    answering = threading.Lock()
    with requests, os.fdopen(greeting["pipe"], "wb") as answers:

        def emit(message: Mapping[str, Any]) -> None:
            line = _line(message)
            with answering:
                answers.write(line)
                answers.flush()

        for request in _messages(requests):
            handle(request, emit)


def _take_stdin() -> IO[bytes]:
    """Keep stdin to ourselves, so that nothing started here eats requests."""
    requests = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return requests


def _bind_to(parent: int) -> None:
    """Have the kernel end this process when its parent ends, even in the middle of a computation."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise ChildError(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        raise SystemExit(1)


def _give_way(nice: int) -> None:
    """Leave processor and memory to the parent: out of memory, the child is the one to end."""
    os.nice(nice)
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _confine(memory_bytes: int | None) -> None:
    """Limit what this process can allocate, and leave no dump of its memory on the disk when it crashes.

    Not its address space: TensorFlow reserves several times what it uses (docs/decisions/0010).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_bytes is not None:
        # Nobody can raise a limit that is lower already, such as LimitDATA= of a unit.
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        limit = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _line(message: Mapping[str, Any]) -> bytes:
    line = json.dumps(message, allow_nan=False).encode() + b"\n"
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"message of {len(line)} bytes, at most {MAX_LINE_BYTES} cross to a child")
    return line


def _messages(lines: IO[bytes]) -> Iterator[Json]:
    """Read JSON objects, one a line; raises ChildError at a line that is none or too long."""
    while line := lines.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES:
            raise ChildError(f"sent a line of more than {MAX_LINE_BYTES} bytes")
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise ChildError(f"sent a line that is no JSON object: {line[:80]!r}")
        yield message
