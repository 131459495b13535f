from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator

from host.errors import ConfigError
from host.settings import MAX_FILE_BYTES, load_settings


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Broker(_Table):
    url: str
    keepalive_s: int = Field(default=15, ge=1)

    @field_validator("url")
    @classmethod
    def _mqtt(cls, url: str) -> str:
        if not url.startswith("mqtt"):
            raise ValueError(f"url {url!r} must begin with mqtt")
        return url


class Csv(_Table):
    kind: Literal["csv"] = "csv"
    target: str


class Npz(_Table):
    kind: Literal["npz"] = "npz"
    path: Path = Path("x.npz")


class Task(_Table):
    file: Path
    settings: dict[str, int | str] = Field(default_factory=dict)


class Example(_Table):
    device: str
    broker: Broker
    data: Annotated[Csv | Npz, Field(discriminator="kind")] = Npz()
    tags: tuple[str, ...] = ()
    warm: bool = True
    state: Path | None = None
    tasks: dict[str, Task] = Field(default_factory=dict)


GOOD = 'device = "pi"\n[broker]\nurl = "mqtt://file"\n'


def load(
    tmp_path: Path,
    text: str,
    overrides: dict[str, Any] | None = None,
    environment: dict[str, str] | None = None,
) -> Example:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    return load_settings(Example, path, overrides or {}, environment or {})


def faults(tmp_path: Path, text: str, *sources: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, *sources)
    return str(caught.value).replace(f"{tmp_path}/", "").splitlines()


def test_the_command_line_wins_over_the_environment_over_the_file_over_the_default(tmp_path: Path) -> None:
    environment = {"MIDGE_BROKER__URL": "mqtt://environment"}
    overrides = {"broker.url": "mqtt://line"}
    assert load(tmp_path, GOOD).broker == Broker(url="mqtt://file", keepalive_s=15)
    assert load(tmp_path, GOOD, {}, environment).broker.url == "mqtt://environment"
    assert load(tmp_path, GOOD, overrides, environment).broker.url == "mqtt://line"


def test_sources_are_merged_key_by_key(tmp_path: Path) -> None:
    loaded = load(tmp_path, GOOD, {"broker.keepalive_s": "7"}, {"MIDGE_DEVICE": "pi-2"})
    assert loaded == Example(device="pi-2", broker=Broker(url="mqtt://file", keepalive_s=7))


def test_text_from_outside_becomes_numbers_flags_lists_and_unions(tmp_path: Path) -> None:
    environment = {"MIDGE_TAGS": '["a", "b"]', "MIDGE_WARM": "false", "MIDGE_DATA__KIND": "csv", "HOME": "/"}
    loaded = load(tmp_path, GOOD, {"data.target": "price"}, environment)
    assert (loaded.tags, loaded.warm, loaded.data) == (("a", "b"), False, Csv(target="price"))


def test_overrides_of_a_program_keep_their_types(tmp_path: Path) -> None:
    loaded = load(tmp_path, GOOD, {"tags": ["x"], "broker.keepalive_s": 3, "warm": False})
    assert (loaded.tags, loaded.broker.keepalive_s, loaded.warm) == (("x",), 3, False)


def test_no_file_is_needed_when_all_is_said_elsewhere() -> None:
    loaded = load_settings(Example, None, {"device": "pi"}, {"MIDGE_BROKER__URL": "mqtt://e"})
    assert loaded.broker.url == "mqtt://e"


def test_variables_of_other_programs_do_no_harm(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD, {}, {"MIDGE_CONFIG": "x", "BROKER__URL": "y"}) == load(tmp_path, GOOD)


def test_relative_paths_in_a_file_count_from_its_folder(tmp_path: Path) -> None:
    text = GOOD + '[data]\npath = "d.npz"\n[tasks.a]\nfile = "a.py"\n[tasks.b]\nfile = "/b.py"\n'
    loaded = load(tmp_path, 'state = "s"\ntags = ["t"]\n' + text.replace("[data]", '[data]\nkind = "npz"'))
    assert loaded.data == Npz(path=tmp_path / "d.npz")
    assert (loaded.state, loaded.tags) == (tmp_path / "s", ("t",))
    assert [task.file for task in loaded.tasks.values()] == [tmp_path / "a.py", Path("/b.py")]


def test_relative_paths_from_elsewhere_stay_as_they_are(tmp_path: Path) -> None:
    loaded = load(tmp_path, GOOD, {"state": "s"}, {"MIDGE_TASKS__A__FILE": "a.py"})
    assert (loaded.state, loaded.tasks["a"].file) == (Path("s"), Path("a.py"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["agent.toml: device: is missing", "agent.toml: broker: is missing"]),
        ('device = "pi"\n[broker]\n', ["agent.toml: broker.url: is missing"]),
        (
            'device = "pi"\n[broker]\nurl = "mqtt://b"\nkeepalives_s = 3\n',
            ["agent.toml: broker.keepalives_s: is not a setting; did you mean keepalive_s?"],
        ),
        (
            "zzz = 1\n" + GOOD,
            ["agent.toml: zzz: is not a setting; there are: broker, data, device, state, tags, tasks, warm"],
        ),
        (
            'device = "pi"\n[broker]\nurl = "mqtt://b"\nkeepalive_s = "often"\n',
            [
                (
                    "agent.toml: broker.keepalive_s: input should be a valid integer, "
                    "unable to parse string as an integer, not 'often'"
                )
            ],
        ),
        (
            'device = "pi"\n[broker]\nurl = "mqtt://b"\nkeepalive_s = 0\n',
            ["agent.toml: broker.keepalive_s: input should be greater than or equal to 1, not 0"],
        ),
        (
            'device = "pi"\n[broker]\nurl = "http://b"\n',
            ["agent.toml: broker.url: url 'http://b' must begin with mqtt"],
        ),
        (
            GOOD + '[data]\nkind = "csv"\ntagret = "x"\n',
            [
                "agent.toml: data.target: is missing",
                "agent.toml: data.tagret: is not a setting; did you mean target?",
            ],
        ),
        (
            GOOD + '[data]\nkind = "xls"\n',
            [
                (
                    "agent.toml: data: input tag 'xls' found using 'kind' "
                    "does not match any of the expected tags: 'csv', 'npz'"
                )
            ],
        ),
        (
            'device = "pi"\nbroker = "mqtt://b"\n',
            ["agent.toml: broker: input should be a valid dictionary or instance of Broker, not 'mqtt://b'"],
        ),
        ("device = pi\n", ["agent.toml: is no valid TOML: Invalid value (at line 1, column 10)"]),
        (
            "a = 1\na = 2\n",
            ["agent.toml: is no valid TOML: Cannot overwrite a value (at line 2, column 6)"],
        ),
    ],
)
def test_a_bad_file_is_told_by_key_fault_and_remedy(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert faults(tmp_path, text) == expected


def test_a_fault_names_the_source_that_had_the_last_word(tmp_path: Path) -> None:
    wrong = "broker.keepalive_s: input should be greater than or equal to 1, not '0'"
    assert faults(tmp_path, GOOD, {}, {"MIDGE_BROKER__KEEPALIVE_S": "0"}) == [f"environment: {wrong}"]
    assert faults(tmp_path, GOOD, {"broker.keepalive_s": "0"}) == [f"--set: {wrong}"]


def test_unknown_keys_of_the_command_line_are_faults(tmp_path: Path) -> None:
    assert faults(tmp_path, GOOD, {"brokre.url": "x"}) == [
        "--set: brokre: is not a setting; did you mean broker?"
    ]
    assert faults(tmp_path, GOOD, {"broker.ulr": "x"}) == [
        "--set: broker.ulr: is not a setting; did you mean url?"
    ]


def test_a_list_that_is_no_json_is_a_fault(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, GOOD, {"tags": "a,b"})
    assert fault.startswith("--set: tags: is no valid JSON: ")


def test_a_missing_file_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file.*with --config$"):
        load_settings(Example, tmp_path / "none.toml", {}, {})


def test_a_file_of_another_kind_is_not_read_to_its_end(tmp_path: Path) -> None:
    assert faults(tmp_path, "#" * (MAX_FILE_BYTES + 1)) == [
        f"agent.toml: is larger than {MAX_FILE_BYTES} bytes; that is no settings file"
    ]
    (tmp_path / "agent.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is no valid TOML"):
        load_settings(Example, tmp_path / "agent.toml", {}, {})


def test_a_long_wrong_value_is_cut(tmp_path: Path) -> None:
    (fault,) = faults(
        tmp_path, 'device = "pi"\n[broker]\nurl = "mqtt://b"\nkeepalive_s = "' + "9x" * 500 + '"\n'
    )
    assert len(fault) < 250
