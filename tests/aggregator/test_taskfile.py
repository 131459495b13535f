from pathlib import Path

import pytest

from aggregator.taskfile import TaskFile, names_runtime
from broker.contract import Needs
from host.errors import ConfigError

CONTRACT = "data_contract = {'shape': [4]}\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "task.py"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("runtime = 'softmax'\n", True),
        ("import os\nruntime='softmax'\n", True),
        ("runtime: str = 'softmax'\n", True),
        ("x = = 1\nruntime = 'softmax'\n", True),
        ("# runtime = 'softmax'\n", False),
        ("def f():\n    runtime = 'softmax'\n", False),
        ("runtime_s = 3\n", False),
        ("def build_model(): ...\n", False),
        ("", False),
    ],
)
def test_a_line_of_its_own_names_the_runtime(tmp_path: Path, text: str, *, expected: bool) -> None:
    assert names_runtime(write(tmp_path, text)) is expected


def test_a_file_that_is_not_there_names_no_runtime_and_cannot_be_run(tmp_path: Path) -> None:
    path = tmp_path / "none.py"
    assert not names_runtime(path)
    with pytest.raises(ConfigError, match=r"none\.py: no Python file"):
        TaskFile(path)


def test_a_function_gets_its_arguments_and_its_fault_has_the_files_line(tmp_path: Path) -> None:
    text = f"{CONTRACT}def half(x):\n    if x % 2:\n        raise ValueError('odd')\n    return x // 2\n"
    file = TaskFile(write(tmp_path, text))
    assert file.contract.shape == (4,)
    assert file.call("half", 8) == 4
    with pytest.raises(ConfigError, match=r"^task\.py line 4: ValueError: odd$"):
        file.call("half", 3)
    with pytest.raises(ConfigError, match=r"^task\.py: no function third\(\)"):
        file.call("third")


def test_a_task_that_says_nothing_of_its_needs_needs_one_example(tmp_path: Path) -> None:
    assert TaskFile(write(tmp_path, CONTRACT)).needs == Needs(examples=1)


def test_the_needs_of_a_task_are_read(tmp_path: Path) -> None:
    needs = "needs = {'memory_bytes': 1 << 29, 'tags': ['indoor'], 'examples_per_s': 50}\n"
    expected = Needs(memory_bytes=1 << 29, tags=("indoor",), examples_per_s=50.0)
    assert TaskFile(write(tmp_path, CONTRACT + needs)).needs == expected


@pytest.mark.parametrize(
    ("needs", "fault"),
    [
        ("['indoor']", "needs is list, not a dict"),
        ("None", "needs is NoneType, not a dict"),
        ("{'memory': 512}", "needs, memory: Extra inputs are not permitted"),
        ("{'cores': -1}", "needs, cores: Input should be greater than or equal to 0"),
    ],
)
def test_needs_that_cannot_be_read_are_an_error_that_names_file_and_need(
    tmp_path: Path, needs: str, fault: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^task\.py: {fault}"):
        TaskFile(write(tmp_path, f"{CONTRACT}needs = {needs}\n"))
