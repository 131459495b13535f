"""`midge-aggregator check`: build every task, look at folder and broker, and say what is wrong."""

import sys
import tempfile
from pathlib import Path

from aggregator.evaluator import MODULE
from aggregator.ledger import Ledger, in_use
from aggregator.outlets.webhook import Target
from aggregator.requests import BuildRequest
from aggregator.run_settings import read_run_settings
from aggregator.settings import AggregatorSettings
from broker.probe import probe
from broker.signing import Signer
from host.children import ask_once
from host.errors import ConfigError, MidgeError
from host.exits import ExitCode

BUILD_TIMEOUT_S = 300.0


def check(settings: AggregatorSettings) -> ExitCode:
    """Print a line for each part; the first fault decides the exit status."""
    parts = {"folder": _folder, "signing key": _key, "sealing": _sealing, "broker": _broker}
    if settings.webhook_url is not None:
        parts["webhook"] = _webhook
    looks = {f"task {name}": _task for name in settings.tasks} | parts
    outcome = ExitCode.OK
    for name, look in looks.items():
        try:
            code, text = look(settings, name.removeprefix("task "))
        except ConfigError as error:
            code, text = ExitCode.BAD_CONFIG, str(error)
        except (MidgeError, OSError) as error:
            code, text = ExitCode.FAILED, str(error)
        sys.stdout.write(f"{'WRONG' if code else 'ok   '} {name}: {text}\n")
        outcome = outcome or code
    return outcome


def _task(settings: AggregatorSettings, name: str) -> tuple[ExitCode, str]:
    """Build the task's model as a run would, with the task's own settings."""
    task = settings.tasks[name]
    with tempfile.TemporaryDirectory(prefix="midge-check-") as folder:
        request = BuildRequest.of(task.file, Path(folder), read_run_settings(task.settings), None)
        answer = ask_once(MODULE, request.to_json(), BUILD_TIMEOUT_S)
    if answer["event"] == "failed":
        return ExitCode.BAD_CONFIG, str(answer["detail"])
    return ExitCode.OK, f"{answer['parameters']:,} parameters, {answer['test_examples']:,} test examples"


def _folder(settings: AggregatorSettings, _name: str) -> tuple[ExitCode, str]:
    settings.folder.mkdir(parents=True, exist_ok=True)
    Ledger(settings.folder / "ledger.sqlite").close()
    return ExitCode.OK, f"{settings.folder} can be used"


def _key(settings: AggregatorSettings, _name: str) -> tuple[ExitCode, str]:
    if not settings.signing_key.exists():
        return ExitCode.OK, "there is none yet: the first start makes it"
    return ExitCode.OK, f"devices pin {Signer(settings.signing_key).public_key}"


def _sealing(settings: AggregatorSettings, _name: str) -> tuple[ExitCode, str]:
    if settings.seals:
        return ExitCode.OK, "what devices tell of their data is sealed to our key"
    return (
        ExitCode.OK,
        "not sealed: whoever reads the broker reads updates and metrics",
    )


def _webhook(settings: AggregatorSettings, _name: str) -> tuple[ExitCode, str]:
    target = Target.of(settings)
    signed = "with a signature" if target.key is not None else "without a signature"
    return ExitCode.OK, f"notices go out {signed}; nothing was sent"


def _broker(settings: AggregatorSettings, _name: str) -> tuple[ExitCode, str]:
    client_id = settings.broker.client_id
    if client_id is not None and in_use(settings.folder / "ledger.sqlite"):
        return ExitCode.OK, f"not tried: as {client_id} we would end the session of the aggregator that runs"
    return probe(settings.broker, "midge-check")
