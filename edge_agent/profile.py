"""What a device tells about itself in its birth."""

import os
from importlib.metadata import version

from broker.messages import Presence
from edge_agent.runtimes.registry import available
from edge_agent.settings import AgentSettings
from edge_agent.training import MODULE, inspect_data
from edge_agent.vitals import machine, total_memory_bytes

NO_CONNECTION = "0" * 16


def birth(settings: AgentSettings, module: str = MODULE) -> Presence:
    """Look at the data and the machine; each connection puts its own id in.

    Raises DataError when there is nothing to train on, ChildError when the data's reader fails.
    """
    found = inspect_data(settings.data.model_dump(mode="json"), nice=settings.nice, module=module)
    return Presence(
        online=True,
        connection=NO_CONNECTION,
        version=version("midge"),
        machine=machine()[:300],
        cores=os.cpu_count() or 0,
        memory_bytes=total_memory_bytes(),
        runtimes=available()[:16],
        tags=settings.tags,
        examples=int(found["examples"]),
    )
