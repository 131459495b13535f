import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.blobstore import BlobStore
from aggregator.coordinator import events as on
from aggregator.coordinator.phases import Phase
from aggregator.coordinator.state import Carried, Model, Participant, Round, Run
from aggregator.inspection import Inspection
from aggregator.ledger import Ledger
from aggregator.records import Incident, RoundClosed, RoundOpened, RunPrepared, RunStarted
from aggregator.run_settings import RunSettings
from aggregator.runfolder import RunFolder
from aggregator.spool import Spool
from broker.contract import DataContract

RUN, UPDATE = "run-a", b"an update"


class Shop:
    """The folder of an aggregator in round 3 of a run; rounds 1 and 2 left their models."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: list[Incident] = []
        self.spool = Spool(folder / "spool", 1 << 20)
        self.blobs = BlobStore(folder / "blobs", 1024)
        self.ledger = Ledger(folder / "ledger.sqlite")
        self.files = RunFolder(folder / "runs", RUN)
        self.files.program.write_bytes(b"a program")
        for number in range(3):
            self.files.theta(number).write_bytes(bytes([number]) * 40)
        refs = [self.blobs.add(self.files.theta(number)) for number in range(3)]
        program = self.blobs.add(self.files.program)
        self.ledger.commit(
            [
                RunStarted(RUN, "task", {}, 0),
                RunPrepared(RUN, refs[0], program, "1" * 64, 10),
                *(RoundOpened(RUN, number, ("pi-1",), 1, 1) for number in (1, 2)),
                *(RoundClosed(RUN, number, "completed", "", refs[number]) for number in (1, 2)),
            ],
            None,
        )
        self.blobs.sweep([program, refs[2]])
        path = self.spool.path(RUN, 3, "pi-1")
        path.parent.mkdir(parents=True)
        path.write_bytes(UPDATE)
        part = Participant(accepted=hashlib.sha256(UPDATE).hexdigest(), examples=1, size=len(UPDATE))
        self.run = Run(
            run=RUN,
            task="task",
            settings=RunSettings(),
            phase=Phase.TRAINING,
            last_round=3,
            model=Model(
                theta=refs[2],
                program=program,
                layout="1" * 64,
                runtime="keras",
                contract=DataContract(shape=(4,)),
                parameters=10,
            ),
            round=Round(number=3, target=1, quorum=1, cohort={"pi-1": part, "pi-2": Participant()}),
        )
        self.inspection = Inspection(
            folder, self.ledger, self.spool, self.blobs, lambda: None, self.told.append
        )

    def look(self) -> list[on.Event]:
        return self.inspection.look(self.run)

    def blob(self, path: Path) -> Path:
        return self.folder / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()

    def quarantined(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "quarantine").glob("*"))


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.ledger.close()


def damage(path: Path) -> None:
    """One bit, as a card loses it; a hard link loses it too."""
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.write(bytes([content[0] ^ 1]))


def split(path: Path) -> None:
    """As on a file system without hard links: two files of one content."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


def test_sound_files_are_left_alone(shop: Shop) -> None:
    before = sorted(shop.folder.rglob("*"))
    assert shop.look() == []
    assert sorted(shop.folder.rglob("*")) == before
    assert shop.told == []


@pytest.mark.parametrize("how", ["changed", "cut short", "gone"])
def test_a_damaged_update_is_told_and_put_aside(shop: Shop, how: str) -> None:
    path = shop.spool.path(RUN, 3, "pi-1")
    if how == "changed":
        damage(path)
    elif how == "cut short":
        path.write_bytes(UPDATE[:-1])
    else:
        path.unlink()
    assert shop.look() == [on.UpdateDamaged(3, "pi-1", hashlib.sha256(UPDATE).hexdigest())]
    (incident,) = shop.told
    assert (incident.run, incident.round) == (RUN, 3)
    assert incident.subject == f"spool/{RUN}/3/pi-1.update"
    names = [] if how == "gone" else [f"0001--spool--{RUN}--3--pi-1.update"]
    assert (path.exists(), shop.quarantined()) == (False, names)


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.AGGREGATING])
def test_a_damaged_carried_update_is_told_whether_its_round_is_open_or_not(shop: Shop, phase: Phase) -> None:
    digest = hashlib.sha256(UPDATE).hexdigest()
    one = Carried(device="pi-3", round=2, models=1, examples=1, digest=digest, size=len(UPDATE))
    path = shop.spool.path(RUN, 2, "pi-3")
    path.parent.mkdir(parents=True)
    path.write_bytes(UPDATE)
    assert shop.run.round is not None
    if phase is Phase.WAITING:
        shop.run.round, shop.run.carried = None, [one]
    else:
        shop.run.round.carried = [one]
    shop.run.phase = phase
    assert shop.look() == []
    damage(path)
    assert shop.look() == [on.UpdateDamaged(2, "pi-3", digest)]


def test_updates_of_a_round_that_was_aggregated_matter_no_more(shop: Shop) -> None:
    shop.run.phase = Phase.EVALUATING
    shop.spool.path(RUN, 3, "pi-1").unlink()
    assert shop.look() == []


@pytest.mark.parametrize("original", [True, False], ids=["original", "blob"])
def test_of_a_blob_and_its_original_the_sound_one_mends_the_other(shop: Shop, original: bool) -> None:  # noqa: FBT001 - a case
    for path in (shop.files.theta(2), shop.files.program):
        content, blob = path.read_bytes(), shop.blob(path)
        split(blob)
        damage(path if original else blob)
        assert shop.look() == []
        assert path.read_bytes() == blob.read_bytes() == content
    assert len(shop.told) == len(shop.quarantined()) == 2


def test_a_damaged_theta_falls_back_to_the_newest_sound_one(shop: Shop) -> None:
    for number in (1, 2):
        damage(shop.files.theta(number))
    (event,) = shop.look()
    assert isinstance(event, on.ModelDamaged)
    assert event.fallback == shop.ledger.first_theta(RUN)
    assert event.fallback is not None
    assert shop.blobs.path(event.fallback).read_bytes() == bytes(40)
    assert "from that of round 0" in event.reason
    assert event.lost_rounds == 2


def test_the_theta_of_a_round_that_is_being_evaluated_falls_back_too(shop: Shop) -> None:
    made = shop.files.theta(3)
    made.write_bytes(b"x" * 40)
    assert shop.run.model is not None
    shop.run.phase, shop.run.model.theta = Phase.EVALUATING, shop.blobs.add(made)
    damage(made)
    (event,) = shop.look()
    assert isinstance(event, on.ModelDamaged)
    assert event.fallback == shop.inspection.old_thetas(RUN)[0][1]
    assert event.lost_rounds == 0


def test_without_a_sound_theta_or_program_somebody_has_to_restore_a_file(shop: Shop) -> None:
    for path in (shop.files.program, *(shop.files.theta(number) for number in range(3))):
        damage(path)
    events = shop.look()
    reasons = [event.reason for event in events if isinstance(event, on.ModelDamaged)]
    assert [
        str(path) in text
        for path, text in zip((shop.files.program, shop.files.theta(2)), reasons, strict=True)
    ] == [True, True]
    assert all(isinstance(event, on.ModelDamaged) and event.fallback is None for event in events)


def test_an_old_model_is_only_reported(shop: Shop) -> None:
    damage(shop.files.theta(1))
    assert shop.look() == []
    faults = {
        number: shop.inspection.fault_of_old(RUN, number, theta)
        for number, theta in shop.inspection.old_thetas(RUN)
    }
    assert faults == {2: "", 1: "has another content than its digest says", 0: ""}
    shop.inspection.report_old(RUN, 1, faults[1])
    shop.inspection.report_old(RUN, 1, faults[1])
    assert [incident.subject for incident in shop.told] == [f"runs/{RUN}/theta/round-0001.f32"]
    assert shop.quarantined() == [f"0001--runs--{RUN}--theta--round-0001.f32"]


def test_a_pruned_model_is_not_missed(shop: Shop) -> None:
    theta = dict(shop.inspection.old_thetas(RUN))[1]
    shop.files.theta(1).unlink()
    assert shop.inspection.fault_of_old(RUN, 1, theta) == ""


def test_a_run_that_is_not_prepared_has_nothing_to_look_at(shop: Shop) -> None:
    fresh = Run(run=RUN, task="task", settings=RunSettings())
    assert shop.inspection.look(fresh) == []
