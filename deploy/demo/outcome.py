"""What came out: each device alone against all together, as a table and as JSON."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from deploy.demo.shares import Share, spell
from deploy.results.confusion import Matrix, accuracy


@dataclass(frozen=True)
class Outcome:
    """Confusion matrices on the held-out examples, and what it took."""

    run: str
    rounds: int
    shares: tuple[Share, ...]
    alone: dict[str, Matrix]
    together: Matrix
    seconds: float
    bytes_up: int
    bytes_down: int
    model: Path

    def table(self) -> Table:
        """A row a device."""
        table = Table(title="right on examples that no device has seen", title_justify="left")
        table.add_column("device")
        table.add_column("never saw")
        for heading in (
            "all digits\nalone",
            "all digits\ntogether",
            "never saw\nalone",
            "never saw\ntogether",
        ):
            table.add_column(heading, justify="right")
        for share in self.shares:
            alone = self.alone[share.device]
            table.add_row(
                share.device,
                spell(share.lacking),
                _percent(accuracy(alone)),
                f"[bold green]{_percent(accuracy(self.together))}[/]",
                f"[red]{_percent(accuracy(alone, share.lacking))}[/]",
                f"[bold green]{_percent(accuracy(self.together, share.lacking))}[/]",
            )
        return table

    def document(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "run": self.run,
            "rounds": self.rounds,
            "devices": len(self.shares),
            "accuracy": accuracy(self.together),
            "accuracy_alone": {device: accuracy(matrix) for device, matrix in self.alone.items()},
            "accuracy_missing": {
                share.device: accuracy(self.together, share.lacking) for share in self.shares
            },
            "accuracy_missing_alone": {
                share.device: accuracy(self.alone[share.device], share.lacking) for share in self.shares
            },
            "seconds": round(self.seconds, 1),
            "bytes_up": self.bytes_up,
            "bytes_down": self.bytes_down,
        }


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
