"""Everything that the monitor topics tell now, as one JSON document for scripts."""

from typing import Any

from pydantic import BaseModel

from broker.monitor import SCHEMA_VERSION
from deploy.viewing.standing import Standing
from deploy.viewing.view import View


def picture(view: View, found: Standing) -> dict[str, Any]:
    """The documents as the aggregator wrote them; within one `schema_version` keys are only added."""
    run = view.run
    return {
        "schema_version": SCHEMA_VERSION,
        "believed": found.believed.value,
        "trouble": found.text,
        "aggregator": _plain(view.aggregator),
        "federation": _plain(view.federation),
        "incidents": _plain(view.incidents),
        "run": _plain(run),
        "runs": [_plain(one) for one in view.runs],
        "rounds": [_plain(one) for one in view.rounds(run.run)] if run is not None else [],
        "history": _plain(view.history(run.run)) if run is not None else None,
        "devices": [_plain(one) for one in view.devices.values()],
        "events": [_plain(one) for one in view.events],
    }


def _plain(document: BaseModel | None) -> dict[str, Any] | None:
    return None if document is None else document.model_dump(mode="json")
