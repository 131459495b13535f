import re
from collections.abc import Callable
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from aggregator.coordinator.phases import Decision
from aggregator.records import Decided, Declined, Incident, IncidentKind, RoundClosed, Transition
from broker.messages import DeclineReason
from deploy.report.facts import Course
from deploy.report.gantt import bars
from deploy.report.making import make_report
from deploy.viewing.steps import Stretch
from tests.deploy.report.history import THETA, Writer, devices_of, trained
from tests.deploy.test_deploy_command import midge

VOID = {"meta", "br", "hr", "img", "link", "input"}
HOSTILE = "<script>alert('1')</script><img src=x onerror=alert(2)>\"' $\\frac$ {{ 7 * 7 }} \x00\U0001f600"


class Page(HTMLParser):
    """What a page consists of; fails where tags are not balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.labels: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self._note(tag, dict(attrs))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._note(tag, dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def _note(self, tag: str, attributes: dict[str, str | None]) -> None:
        assert not [name for name in attributes if name.startswith("on")]
        self.ids += [str(attributes["id"])] if "id" in attributes else []
        self.addresses += [
            str(attributes[name]) for name in ("href", "src", "xlink:href") if name in attributes
        ]
        if tag == "svg":
            self.labels.append(str(attributes.get("aria-label", "")))


def check(path: Path) -> Page:
    """A page that is whole by itself."""
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert {"script", "link", "iframe", "object"} & set(page.tags) == set()
    assert [one for one in page.addresses if not one.startswith(("#", "data:image/png;base64,"))] == []
    assert re.findall(r"https?:|url\((?!#)|@import", text) == []
    assert len(page.ids) == len(set(page.ids))
    assert all(page.labels)
    return page


def report(folder: Path, output: Path, run: str = "digits-1") -> Page:
    make_report(folder, run, output)
    return check(output)


def section(page: Page, title: str) -> str:
    """The words between a heading and the next one."""
    titles = ["What was trained", "Metrics by round", "By whom", "Each device against", "Fairness"]
    titles += ["Stragglers and drop-outs", "Time and bytes", "What was taken", "Settings and versions"]
    following = [*titles[titles.index(title) + 1 :], "How to reproduce"]
    return page.text.split(title, 1)[1].split(following[0], 1)[0]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A page and its pictures, of a run with every trouble."""
    folder = tmp_path_factory.mktemp("written")
    trained(folder / "aggregator")
    output, pictures = folder / "report.html", folder / "new" / "pictures"
    return make_report(folder / "aggregator", "digits-1", output, pictures)


def test_a_run_with_every_trouble_is_told_whole(written: list[Path]) -> None:
    page = check(written[0])
    assert page.tags.count("svg") == 8
    assert "10\N{NARROW NO-BREAK SPACE}000 parameters" in section(page, "What was trained")
    assert "5 of 6" not in section(page, "Metrics by round")
    assert "abandoned" in section(page, "Metrics by round")
    assert "pi-012" in section(page, "By whom")
    assert "Jain" in section(page, "Fairness")
    troubles = section(page, "Stragglers and drop-outs")
    for said in (
        "the deadline came with 2 of 6 updates",
        "silent for 15 s",
        "2 MB left",
        "rejected: not-finite",
    ):
        assert said in troubles
    assert "1 of 6 rounds were abandoned" in troubles
    assert "no space left on device" in troubles
    assert "held-out examples" in section(page, "What was taken")
    assert "midge start digits --set rounds=6 --set epochs=3" in page.text
    assert "the run is older" not in page.text


def test_pictures_are_written_as_files_too(written: list[Path]) -> None:
    pictures = written[0].parent / "new" / "pictures"
    assert written[0].name == "report.html"
    assert {path.name for path in written[1:]} >= {"metric-1-accuracy.png", "confusion.png", "devices.png"}
    assert set(written[1:]) == set(pictures.iterdir())
    for path in written[1:]:
        with Image.open(path) as image:
            assert image.format == "PNG"


def hostile(writer: Writer) -> None:
    """Texts that would do something in a page, wherever a device or an operator can put one."""
    writer.begin()
    writer.metric = f"a {HOSTILE}"[:64]
    writer.train(1, devices_of(3))
    writer.open(2, devices_of(3))
    writer.write(
        Declined(writer.run, 2, "pi-001", DeclineReason.DISK, HOSTILE),
        Decided(writer.run, 2, None, Decision.GRACE, HOSTILE),
        Incident(IncidentKind.DAMAGED, writer.run, 2, HOSTILE, HOSTILE),
        RoundClosed(writer.run, 2, "abandoned", HOSTILE, THETA),
        Transition(writer.run, 2, "training", "waiting", HOSTILE),
    )
    writer.end("failed", HOSTILE)
    writer.files([HOSTILE, f"{HOSTILE}$"], confusion=1)


def test_what_devices_and_operators_say_stays_text(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "aggregator", task=HOSTILE, settings={"strategy": HOSTILE})
    with closing(writer.ledger):
        hostile(writer)
    make_report(tmp_path / "aggregator", "digits-1", tmp_path / "report.html", tmp_path / "pictures")
    page = check(tmp_path / "report.html")
    assert page.text.count("<script>alert('1')</script>") >= 8
    assert "49" not in section(page, "Stragglers and drop-outs")
    assert "img" not in page.tags
    assert "\x00" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def without_a_closed_round(writer: Writer) -> None:
    writer.begin()
    writer.open(1, devices_of(3))


def not_even_prepared(writer: Writer) -> None:
    writer.begin()
    writer.end("failed", "the task's model cannot be built")


def without_validation(writer: Writer) -> None:
    writer.begin()
    writer.train(1, devices_of(3), validated=False)


def without_any_evaluation(writer: Writer) -> None:
    writer.begin()
    writer.train(1, devices_of(3), validated=False, held_out=False)


def of_values(writer: Writer) -> None:
    writer.metric = "mean_absolute_error"
    writer.begin()
    for number in (1, 2, 3):
        writer.train(number, devices_of(3))
    writer.files()


@pytest.mark.parametrize(
    ("history", "said"),
    [
        (
            without_a_closed_round,
            {
                "Metrics by round": "No round has closed yet.",
                "What was taken": "No round has closed yet.",
                "What was trained": "the run's folder has no run.toml",
            },
        ),
        (
            not_even_prepared,
            {"By whom": "No device was asked yet.", "Each device against": "Nothing was measured yet."},
        ),
        (
            without_validation,
            {"Each device against": "No device has validation data", "Fairness": "No device reported"},
        ),
        (without_any_evaluation, {"Metrics by round": "No round was evaluated"}),
        (
            of_values,
            {"What was taken": "The task has no classes.", "Metrics by round": "mean_absolute_error"},
        ),
    ],
    ids=["no closed round", "not prepared", "no validation", "no evaluation", "values"],
)
def test_a_section_without_content_says_why(
    tmp_path: Path, history: Callable[[Writer], None], said: dict[str, str]
) -> None:
    writer = Writer(tmp_path / "aggregator")
    with closing(writer.ledger):
        history(writer)
        page = report(tmp_path / "aggregator", tmp_path / "report.html")
    for title, words in said.items():
        assert words in section(page, title)


def test_a_ledger_without_steps_says_so(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "aggregator")
    with closing(writer.ledger):
        writer.begin()
        writer.open(1, devices_of(2))
        writer.close(1, {"accuracy": (1.0, 2.0)}, None)
    page = report(tmp_path / "aggregator", tmp_path / "report.html")
    assert "The ledger has no steps of participants" in section(page, "Time and bytes")


def test_damaged_files_of_the_folder_count_as_missing(tmp_path: Path) -> None:
    trained(tmp_path / "aggregator", rounds=2)
    run = tmp_path / "aggregator/runs/digits-1"
    (run / "run.toml").write_text("no = = toml")
    (run / "models/round-0002.confusion.json").write_text('{"classes": ["a", "b"], "counts": [[1, 2]]}')
    page = report(tmp_path / "aggregator", tmp_path / "report.html")
    assert "has no run.toml" in section(page, "What was trained")
    assert "No confusion matrix" in section(page, "What was taken")


def test_a_matrix_of_many_classes_is_a_picture(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "aggregator")
    with closing(writer.ledger):
        writer.begin()
        writer.train(1, devices_of(2))
        writer.files([f"class {number}" for number in range(60)], confusion=1)
    page = report(tmp_path / "aggregator", tmp_path / "report.html")
    assert [label for label in page.labels if "Confusion matrix of 60 classes" in label]


def test_many_rounds_of_many_devices_make_no_larger_a_page(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "aggregator")
    with closing(writer.ledger):
        writer.begin()
        writer.train(1, devices_of(500))
        writer.repeat(1, 120)
        writer.end()
    page = report(tmp_path / "aggregator", tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 600_000
    assert page.tags.count("tr") < 250
    assert "30 of 500 devices are shown" in page.text
    assert "42\N{NARROW NO-BREAK SPACE}000 of 60\N{NARROW NO-BREAK SPACE}000 updates" in page.text


def test_a_course_is_waiting_once_its_update_counts() -> None:
    course = Course("pi-1", (("training", 1.0), ("reported", 3.0), ("evaluating", 5.0), ("idle", 6.0)))
    assert list(bars(course, 7.0)) == [
        Stretch("training", 1.0, 2.0),
        Stretch("waiting", 3.0, 2.0),
        Stretch("evaluating", 5.0, 1.0),
        Stretch("waiting", 6.0, 1.0),
    ]
    assert list(bars(Course("pi-2", ()), 7.0)) == []


def test_the_verb_takes_the_aggregators_settings_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    trained(tmp_path / "state", rounds=2)
    config = tmp_path / "aggregator.toml"
    config.write_text('folder = "state"\n[broker]\nurl = "mqtt://localhost"\n')
    output = tmp_path / "report.html"
    assert midge(monkeypatch, "report", "digits-1", "--config", str(config), "-o", str(output)) == 0
    told = capsys.readouterr()
    assert (told.err, told.out) == ("", f"{output}\n")
    check(output)


def test_the_verb_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert midge(monkeypatch, "report", "digits-1") == 78
    assert "give --folder DIR, or --config FILE" in capsys.readouterr().err
    assert midge(monkeypatch, "report", "digits-1", "--folder", str(tmp_path)) == 78
    assert "there is no such file; name the aggregator's folder" in capsys.readouterr().err
