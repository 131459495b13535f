from aggregator.intake import Intake, Offered, Open
from tests.aggregator.test_intake import ref


def test_an_upload_whose_part_file_is_still_being_opened_is_granted_nothing_by_a_new_connection() -> None:
    intake = Intake()
    intake.connected(0.0)
    blob = ref(2)
    assert intake.offered("a", "run", 1, blob, 0.0) == [Open(Offered("a", "run", 1, blob))]
    intake.disconnected()
    assert intake.connected(5.0) == []
    assert intake.next_deadline() is None
