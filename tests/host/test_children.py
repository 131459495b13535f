import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from types import SimpleNamespace
from typing import Any

import pytest

from host import children
from host.children import LINES_IN_A_ROW, MAX_LINE_BYTES, PAUSE_S, PRINTED_BYTES, Child

WAIT_S = 30
OPEN_FILES = Path("/proc/self/fd")
PROJECT = Path(__file__).parents[2]

CHILD = """
import os, pathlib, resource, signal, subprocess, sys
from host.children import serve

def handle(request, emit):
    match request["verb"]:
        case "echo":
            emit(request)
        case "print":
            print(request["text"], flush=True)
            emit({"printed": True})
        case "state":
            stdin = sys.stdin.read()
            emit({"nice": os.nice(0), "session": os.getsid(0), "arguments": sys.argv[1:], "stdin": stdin})
        case "raise":
            raise RuntimeError("no such layer")
        case "exit":
            sys.exit(0)
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "spawn":
            child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            emit({"pid": child.pid})
            while True:
                pass
        case "flee":
            child = subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True)
            emit({"pid": child.pid})
        case "leave":
            child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            emit({"pid": child.pid})
            os._exit(4)
        case "fork":
            if os.fork() == 0:
                signal.pause()
            os._exit(5)
        case "limits":
            oom = pathlib.Path("/proc/self/oom_score_adj").read_text().strip()
            dump, memory = map(resource.getrlimit, (resource.RLIMIT_CORE, resource.RLIMIT_DATA))
            emit({"oom": oom, "dump": dump[1], "memory": memory[1]})
        case "chatter":
            os.write(2, b"y\\n" * request["lines"])
            sys.exit(7)
        case "take":
            try:
                bytearray(request["size"])
                emit({"fits": True})
            except MemoryError:
                emit({"fits": False})
        case "signal":
            os.kill(os.getpid(), request["number"])
        case "shout":
            os.write(2, b"x" * request["size"])
            os.write(2, b"\\nthe end\\n")
            sys.exit(7)
        case "spin":
            emit({"pid": os.getpid()})
            while True:
                pass

if __name__ == "__main__":
    serve(handle)
"""

ROUGH_CHILD = """
import json, sys

pipe = open(json.loads(sys.stdin.readline())["pipe"], "w")
request = json.loads(sys.stdin.readline())
pipe.write(request["text"] * request["times"])
pipe.flush()
sys.stdin.read()
"""

Start = Callable[..., Child]


class Seen:
    def __init__(self) -> None:
        self.messages: Queue[dict[str, Any]] = Queue()
        self.exits: Queue[str] = Queue()

    def message(self) -> dict[str, Any]:
        return self.messages.get(timeout=WAIT_S)

    def exit(self) -> str:
        return self.exits.get(timeout=WAIT_S)


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: Seen) -> Iterator[Start]:
    (tmp_path / "a_child.py").write_text(CHILD)
    (tmp_path / "rough_child.py").write_text(ROUGH_CHILD)
    (tmp_path / "deaf_child.py").write_text("import signal\nsignal.pause()\n")
    monkeypatch.syspath_prepend(tmp_path)
    started = []

    def start_child(module: str = "a_child", **options: Any) -> Child:  # noqa: ANN401
        child = Child(module, on_message=seen.messages.put, on_exit=seen.exits.put, **options)
        started.append(child)
        return child

    yield start_child
    for child in started:
        child.kill()


def ended(pid: int) -> bool:
    """Wait until a process that is not ours has ended."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    waiting = select.poll()
    waiting.register(process, select.POLLIN)
    try:
        return bool(waiting.poll(WAIT_S * 1000))
    finally:
        os.close(process)


def test_requests_are_answered_in_order(start: Start, seen: Seen) -> None:
    child = start()
    requests = [{"verb": "echo", "n": n, "text": "ü\n"} for n in range(3)]
    for request in requests:
        child.send(request)
    assert [seen.message() for _ in requests] == requests
    assert child.alive


def test_the_child_is_niced_in_its_own_session_and_its_stdin_is_empty(start: Start, seen: Seen) -> None:
    child = start(nice=3, arguments=["one", "two"])
    child.send({"verb": "state"})
    assert seen.message() == {
        "nice": os.nice(0) + 3,
        "session": child.pid,
        "arguments": ["one", "two"],
        "stdin": "",
    }


def test_what_the_child_prints_goes_to_stderr_and_does_not_disturb_the_answers(
    start: Start, seen: Seen, capfd: pytest.CaptureFixture[str]
) -> None:
    child = start()
    child.send({"verb": "print", "text": '{"event": "forged"}'})
    assert seen.message() == {"printed": True}
    child.send({"verb": "exit"})
    assert seen.exit() == "exit status 0"
    assert "forged" in capfd.readouterr().err


def test_an_exception_ends_the_child_with_its_last_line(start: Start, seen: Seen) -> None:
    child = start()
    child.send({"verb": "raise"})
    assert seen.exit() == "exit status 1: RuntimeError: no such layer"
    assert not child.alive


def test_a_missing_module_is_told_at_exit(start: Start, seen: Seen) -> None:
    start("no_such_module_here")
    assert "No module named no_such_module_here" in seen.exit()


def test_sending_to_a_dead_child_is_no_error(start: Start, seen: Seen) -> None:
    child = start()
    child.send({"verb": "die"})
    assert seen.exit() == "killed by SIGKILL (out of memory?)"
    child.send({"verb": "echo"})
    child.kill()
    assert seen.exits.empty()


def test_a_child_that_is_killed_calls_back_no_more_and_leaves_no_zombie(start: Start, seen: Seen) -> None:
    child = start()
    child.send({"verb": "spin"})
    seen.message()
    child.kill()
    assert not child.alive
    assert seen.exits.empty()
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


def test_kill_ends_what_the_child_started(start: Start, seen: Seen) -> None:
    child = start()
    child.send({"verb": "spawn"})
    grandchild = seen.message()["pid"]
    child.kill()
    assert ended(grandchild)


def test_a_child_is_killed_in_time_though_what_fled_from_it_holds_a_pipe(
    start: Start, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "ENDING_S", 0.2)
    child = start()
    child.send({"verb": "flee"})
    fled = seen.message()["pid"]
    child.kill()
    assert not child.alive
    os.kill(fled, signal.SIGKILL)
    assert ended(fled)


@pytest.mark.parametrize(
    ("text", "times", "complaint"),
    [
        ("no json\n", 1, "no JSON object"),
        ("[1, 2]\n", 1, "no JSON object"),
        ("[" * 1000 + "\n", 1, "no JSON object"),
        ("x", MAX_LINE_BYTES + 1, f"more than {MAX_LINE_BYTES} bytes"),
    ],
)
def test_nonsense_from_the_child_ends_it(
    start: Start, seen: Seen, text: str, times: int, complaint: str
) -> None:
    child = start("rough_child")
    child.send({"text": text, "times": times})
    assert complaint in seen.exit()
    assert not child.alive


def test_too_long_a_request_is_refused_here(start: Start) -> None:
    with pytest.raises(ValueError, match="at most"):
        start().send({"text": "x" * MAX_LINE_BYTES})


def test_requests_that_the_child_does_not_read_hold_nobody_up(start: Start) -> None:
    child = start("deaf_child")
    for _ in range(3):
        child.send({"text": "x" * (MAX_LINE_BYTES // 2)})
    child.kill()
    assert not child.alive


def test_the_memory_of_a_child_is_limited_and_it_is_the_first_to_go(start: Start, seen: Seen) -> None:
    child = start(memory_bytes=256 << 20)
    child.send({"verb": "limits"})
    assert seen.message() == {"oom": "1000", "dump": 0, "memory": 256 << 20}
    for size, fits in ((1 << 20, True), (256 << 20, False), (1 << 20, True)):
        child.send({"verb": "take", "size": size})
        assert seen.message() == {"fits": fits}


def test_a_lower_limit_that_the_system_sets_stays() -> None:
    program = (
        "from resource import RLIMIT_DATA, getrlimit, setrlimit\n"
        "from host.children import _confine\n"
        "setrlimit(RLIMIT_DATA, (1 << 30, 1 << 30))\n"
        "_confine(8 << 30)\n"
        "print(getrlimit(RLIMIT_DATA) == (1 << 30, 1 << 30))\n"
    )
    said = subprocess.check_output([sys.executable, "-c", program], cwd=PROJECT, text=True)
    assert said == "True\n"


@pytest.mark.parametrize(
    ("number", "how"),
    [
        (signal.SIGSEGV, "killed by SIGSEGV"),
        (signal.SIGABRT, "killed by SIGABRT (out of memory, or a fault in native code?)"),
        (signal.SIGRTMIN + 3, f"killed by signal {signal.SIGRTMIN + 3}"),
    ],
    ids=["segv", "abrt", "unnamed"],
)
def test_the_signal_that_ended_a_child_is_told(start: Start, seen: Seen, number: int, how: str) -> None:
    start().send({"verb": "signal", "number": number})
    assert seen.exit() == how


def test_of_what_a_child_prints_without_end_a_part_is_passed_on_and_its_end_is_told(
    start: Start, seen: Seen, capfd: pytest.CaptureFixture[str]
) -> None:
    start().send({"verb": "shout", "size": 100_000_000})
    assert seen.exit() == "exit status 7: the end"
    assert PRINTED_BYTES // 2 < len(capfd.readouterr().err) < 2 * PRINTED_BYTES


def test_a_child_that_prints_line_after_line_is_read_with_pauses(
    start: Start, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(children, "time", SimpleNamespace(monotonic=time.monotonic, sleep=pauses.append))
    start().send({"verb": "chatter", "lines": 50 * LINES_IN_A_ROW})
    assert seen.exit() == "exit status 7: y"
    assert pauses == [PAUSE_S] * 50


def test_the_child_of_a_killed_parent_ends_in_the_middle_of_its_work(start: Start) -> None:
    del start  # only its module is needed
    program = (
        "from host.children import Child\n"
        "child = Child('a_child', on_message=lambda m: print(m['pid'], flush=True), on_exit=print)\n"
        "child.send({'verb': 'spin'})\n"
        "while True: pass\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    assert ended(child)


def test_what_a_child_leaves_behind_is_ended(start: Start, seen: Seen) -> None:
    start().send({"verb": "leave"})
    left = seen.message()["pid"]
    assert seen.exit() == "exit status 4"
    assert ended(left)


def test_the_end_of_a_child_is_told_though_its_fork_holds_the_pipe(start: Start, seen: Seen) -> None:
    start().send({"verb": "fork"})
    assert seen.exit() == "exit status 5"


def test_a_child_that_cannot_be_started_leaves_nothing_open(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/no/python")
    before = sorted(OPEN_FILES.iterdir())
    with pytest.raises(FileNotFoundError):
        start()
    assert sorted(OPEN_FILES.iterdir()) == before


def test_children_one_after_the_other_leave_nothing_open(start: Start, seen: Seen) -> None:
    start().kill()
    before, threads = len(list(OPEN_FILES.iterdir())), threading.active_count()
    for how in ("die", "exit", "spin"):
        child = start()
        child.send({"verb": how})
        if how == "spin":
            seen.message()
        else:
            seen.exit()
        child.kill()
    assert len(list(OPEN_FILES.iterdir())) == before
    assert threading.active_count() <= threads
