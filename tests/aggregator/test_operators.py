from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.coordinator import effects as do
from aggregator.coordinator import events as on
from aggregator.coordinator.core import Coordinator
from aggregator.coordinator.phases import Phase
from aggregator.exclusions import Exclusions
from aggregator.ledger import Ledger
from aggregator.operators import Operators
from aggregator.settings import AggregatorSettings, TaskSettings
from broker.contract import DataContract
from broker.control import Reply, Request, SettingValue, Verb
from broker.messages import BlobRef
from broker.settings import BrokerSettings
from broker.wire import decode

BLOB = BlobRef(digest="1" * 64, size=4000, chunk_bytes=1024)


class Office:
    """Operators with a coordinator and a ledger; `handle` does what the service does."""

    def __init__(self, folder: Path) -> None:
        self.settings = AggregatorSettings(
            folder=folder,
            broker=BrokerSettings(url="mqtt://broker"),
            tasks={
                "mnist": TaskSettings(
                    file=Path("mnist.py"), settings={"rounds": 7, "epochs": 2, "batch_size": 8}
                ),
                "a-task-with-a-very-long-name": TaskSettings(file=Path("long.py")),
            },
        )
        self.ledger = Ledger(folder / "ledger.sqlite")
        self.core = Coordinator(5.0)
        self.sent: list[tuple[str, bytes]] = []
        self.fails_at_once = ""
        self.begin()

    def begin(self) -> None:
        """As a process does that finds the ledger of an earlier one."""
        self.cleared: list[str] = []
        self.exclusions = Exclusions(
            self.ledger, self.tell, self.cleared.append, lambda _: None, self.ledger.forget_device_key
        )
        self.operators = Operators(
            self.settings,
            self.ledger,
            self.handle,
            self.state,
            lambda *reply: self.sent.append(reply),
            self.exclusions,
        )

    def state(self) -> str:
        run = self.core.run
        return f"{run.run} {'paused' if run.paused else run.phase}" if run else "- idle"

    def handle(self, event: on.Event) -> list[do.Effect]:
        effects = self.core.handle(event, 1.0)
        for effect in effects:
            if isinstance(effect, do.Persist):
                self.ledger.commit(effect.records, effect.snapshot)
            elif isinstance(effect, do.Prepare) and self.fails_at_once:
                self.handle(on.PrepareFailed(effect.run, self.fails_at_once))
        if isinstance(event, on.Prepared):
            self.operators.prepared(event.run, ok=True, text="1,000 parameters")
        elif isinstance(event, on.PrepareFailed):
            self.operators.prepared(event.run, ok=False, text=event.reason)
        return effects

    def tell(self, event: on.Event) -> None:
        self.handle(event)

    def ask(self, verb: Verb, number: int = 1, user: str = "ann", **arguments: object) -> None:
        request = Request.model_validate({"id": f"{number:016x}", "verb": verb, **arguments})
        self.operators.request(user, request)

    def start(self, number: int = 1, user: str = "ann", **settings: SettingValue) -> None:
        self.ask(Verb.START, number, user, task="mnist", settings=settings)

    def prepared(self) -> None:
        contract = DataContract(shape=(4,))
        self.handle(on.Prepared(self.run, BLOB, BLOB, "2" * 64, "keras", contract, 1000))

    @property
    def run(self) -> str:
        assert self.core.run is not None
        return self.core.run.run

    def replies(self) -> list[tuple[str, bool, str]]:
        """To whom, whether it went well, and what is said."""
        told = [(user, decode(Reply, payload)) for user, payload in self.sent]
        return [(user, reply.ok, reply.text) for user, reply in told]


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    yield made
    made.ledger.close()


def test_start_is_answered_when_the_task_is_built(office: Office) -> None:
    office.start()
    assert office.sent == []
    office.prepared()
    assert office.replies() == [("ann", True, "1,000 parameters")]
    assert decode(Reply, office.sent[0][1]).run == office.run
    assert office.run.startswith("mnist-")


def test_a_start_repeated_to_the_next_process_is_answered_when_that_has_built_the_task(
    office: Office,
) -> None:
    office.start(1)
    office.begin()
    office.start(1)
    assert office.sent == []
    office.prepared()
    office.begin()
    office.start(1)
    assert office.replies() == [("ann", True, "1,000 parameters")] * 2


def test_a_start_that_an_earlier_process_carried_out_is_not_done_again(office: Office) -> None:
    office.start(1)
    office.begin()
    office.prepared()
    office.start(1)
    assert office.replies() == [("ann", True, f"run {office.run} was started")]


def test_steps_of_a_request_take_the_place_of_the_tasks_epochs(office: Office) -> None:
    office.start(1, steps=5)
    office.prepared()
    assert office.core.run is not None
    assert (office.core.run.settings.steps, office.core.run.settings.batch_size) == (5, 8)


def test_start_is_answered_when_the_task_fails(office: Office) -> None:
    office.start()
    office.handle(on.PrepareFailed(office.run, "no such layer"))
    assert office.replies() == [("ann", False, "no such layer")]


def test_start_is_answered_when_the_task_fails_at_once(office: Office) -> None:
    office.fails_at_once = "there is no strategy 'best'"
    office.start(1, strategy="best")
    assert office.replies() == [("ann", False, "there is no strategy 'best'")]
    office.fails_at_once = ""
    office.start(2)
    office.prepared()
    assert office.replies()[1:] == [("ann", True, "1,000 parameters")]


def test_a_request_asked_again_gets_the_same_reply_and_is_done_once(office: Office) -> None:
    office.start()
    office.prepared()
    run = office.run
    office.start()
    office.start()
    assert len({payload for _, payload in office.sent}) == 1
    assert len(office.sent) == 3
    assert office.run == run


def test_a_start_asked_again_while_the_task_is_built_is_done_once(office: Office) -> None:
    office.start()
    run = office.run
    office.start()
    assert office.sent == []
    office.prepared()
    assert office.replies() == [("ann", True, "1,000 parameters")]
    assert office.run == run


def test_a_reply_outlives_the_process(office: Office) -> None:
    office.ask(Verb.STOP, 5)
    office.begin()
    office.start()
    office.ask(Verb.STOP, 5)
    assert office.replies() == [("ann", False, "no run is active")] * 2
    assert office.core.phase is Phase.PREPARING, "the stop was not done again"


def test_settings_of_the_request_stand_above_those_of_the_task(office: Office) -> None:
    office.start(rounds=3, learning_rate=0.5)
    assert office.core.run is not None
    settings = office.core.run.settings
    assert (settings.rounds, settings.batch_size, settings.learning_rate) == (3, 8, 0.5)


def test_a_run_is_named_after_its_task_within_the_length_of_a_name(office: Office) -> None:
    office.ask(Verb.START, task="a-task-with-a-very-long-name")
    assert len(office.run) <= 32
    assert office.run.startswith("a-task-with-a-very-l-")


@pytest.mark.parametrize("task", [None, "cifar"])
def test_an_unknown_task_is_refused_with_those_that_are_known(office: Office, task: str | None) -> None:
    office.ask(Verb.START, task=task)
    text = f"no task {task!r} is configured here; there are: mnist, a-task-with-a-very-long-name"
    assert office.replies() == [("ann", False, text)]
    assert office.core.phase is Phase.IDLE


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"roundz": 3}, "roundz is not a setting of a run; did you mean rounds?"),
        ({"rounds": 0}, "rounds: input should be greater than or equal to 1, not 0"),
        ({"epochs": 1, "steps": 2}, "give epochs or steps, not both"),
        (
            {"fraction": 2.0, "xyz": 1},
            "fraction: input should be less than or equal to 1, not 2.0; xyz is not a setting of a run",
        ),
    ],
)
def test_bad_settings_are_refused_with_what_is_wrong(
    office: Office, settings: dict[str, SettingValue], text: str
) -> None:
    office.start(1, "ann", **settings)
    assert office.replies() == [("ann", False, text)]
    assert office.core.phase is Phase.IDLE


def test_a_long_explanation_is_cut_to_what_a_reply_holds(office: Office) -> None:
    office.start(1, "ann", **{f"unknown-{number}": 1 for number in range(30)})
    ((_, ok, text),) = office.replies()
    assert (ok, len(text)) == (False, 300)


def test_a_second_start_is_refused_and_the_first_is_still_answered(office: Office) -> None:
    office.start(1, "ann")
    run = office.run
    office.start(2, "bob")
    office.prepared()
    assert office.replies() == [
        ("bob", False, f"run {run} is active: stop it first"),
        ("ann", True, "1,000 parameters"),
    ]


def test_pause_resume_and_stop_say_what_they_did(office: Office) -> None:
    office.start(1)
    office.prepared()
    run = office.run
    for number, verb in enumerate((Verb.PAUSE, Verb.PAUSE, Verb.RESUME, Verb.RESUME, Verb.STOP), 2):
        office.ask(verb, number)
    assert office.replies()[1:] == [
        ("ann", True, f"run {run} paused"),
        ("ann", False, f"run {run} is paused already"),
        ("ann", True, f"run {run} goes on"),
        ("ann", False, f"run {run} is not paused"),
        ("ann", True, f"run {run} stopped"),
    ]


def test_whoever_started_a_run_hears_that_it_was_stopped_before_it_was_prepared(office: Office) -> None:
    office.start(1, "ann")
    run = office.run
    office.ask(Verb.STOP, 2, "bob")
    assert office.replies() == [
        ("bob", True, f"run {run} stopped"),
        ("ann", False, "stopped before it was prepared"),
    ]


@pytest.mark.parametrize("verb", [Verb.STOP, Verb.PAUSE, Verb.RESUME])
def test_without_a_run_there_is_nothing_to_command(office: Office, verb: Verb) -> None:
    office.ask(verb)
    assert office.replies() == [("ann", False, "no run is active")]


def test_runs_are_listed_newest_first_and_every_time_anew(office: Office) -> None:
    office.ask(Verb.RUNS)
    office.start(2)
    first = office.run
    office.ask(Verb.STOP, 3)
    office.start(4)
    office.sent.clear()
    office.ask(Verb.RUNS)
    runs = decode(Reply, office.sent[0][1]).runs
    assert [(run.run, run.state) for run in runs] == [(office.run, "active"), (first, "stopped")]


def test_what_was_asked_is_recorded_with_the_state_before_and_after(office: Office) -> None:
    office.start(1, "ann", rounds=3)
    office.prepared()
    run = office.run
    office.ask(Verb.PAUSE, 2, "bob")
    rows = office.ledger._all('SELECT user, verb, arguments, "before", "after" FROM requests ORDER BY id')
    assert [tuple(row) for row in rows] == [
        ("ann", "start", '{"task": "mnist", "settings": {"rounds": 3}}', "- idle", f"{run} waiting"),
        ("bob", "pause", '{"task": null, "settings": {}}', f"{run} waiting", f"{run} paused"),
    ]


def test_nothing_but_a_list_is_done_while_the_ledger_cannot_note_it(office: Office) -> None:
    refused = Request.model_validate({"id": "1" * 16, "verb": Verb.START, "task": "mnist"})
    office.operators.request("ann", refused, refuse="the disk is full")
    office.operators.request(
        "ann", Request.model_validate({"id": "2" * 16, "verb": Verb.RUNS}), refuse="full"
    )
    assert office.replies() == [("ann", False, "the disk is full"), ("ann", True, "")]
    assert office.core.run is None


def test_what_was_done_but_could_not_be_noted_is_not_called_done(office: Office) -> None:
    office.start()
    office.prepared()
    office.sent.clear()
    office.ledger._connection.execute("PRAGMA max_page_count = 1")
    request, large = Request(id="3" * 16, verb=Verb.STOP), "before " * (1 << 16)
    office.operators._answer("ann", request, large, ok=True, text="stopped")
    ((_, ok, text),) = office.replies()
    assert not ok
    assert text.startswith("not noted: ledger")


def test_a_device_is_excluded_and_admitted_and_both_are_recorded(office: Office) -> None:
    office.ask(Verb.EXCLUDE, 1, device="pi-1", reason="stolen")
    office.ask(Verb.EXCLUDE, 1, device="pi-1", reason="stolen")
    assert office.cleared == ["pi-1"]
    assert "pi-1" in office.exclusions
    office.ask(Verb.ADMIT, 2, device="pi-1")
    assert "pi-1" not in office.exclusions
    said = "pi-1 is excluded: nothing of it is heard"
    assert office.replies() == [
        ("ann", True, said),
        ("ann", True, said),
        ("ann", True, "pi-1 is heard again"),
    ]
    assert office.ledger.reply(f"{2:016x}") is not None


@pytest.mark.parametrize("verb", [Verb.EXCLUDE, Verb.ADMIT])
def test_excluding_nobody_is_refused(office: Office, verb: Verb) -> None:
    office.ask(verb)
    assert office.replies() == [("ann", False, f"{verb} which device?")]
