"""The server: one feed, the pages, and what guards them."""

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI, HTTPException

from broker.names import ID_PATTERN
from deploy.dashboard.door import Door
from deploy.dashboard.guard import Guard
from deploy.dashboard.listening import Listening
from deploy.dashboard.watcher import Watcher
from deploy.viewing.feed import Feed

# Each open page holds one connection, and opens more for a moment.
MAX_CONNECTIONS = 200
MAX_PAGES = 60
KEPT_MESSAGES = 100
RECONNECT_S = 10.0
GRACE_S = 2


def serve(
    feed: Feed,
    listening: Listening,
    door: Door | None,
    announce: Callable[[str], None],
) -> None:
    """Serve what a feed shows until interrupted; `announce` gets the address. Raises ConfigError."""
    with feed, listening.bound() as bound:
        server = uvicorn.Server(_config(_application(Watcher(feed), door), listening))
        announce(listening.url(bound.getsockname()[1]))
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[bound])


def _config(application: Guard, listening: Listening) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        ssl_certfile=listening.certificate,
        ssl_keyfile=listening.key,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=GRACE_S,
        # NiceGUI's messages are small and many.
        ws_max_size=1 << 20,
    )


def _application(watcher: Watcher, door: Door | None) -> Guard:
    @asynccontextmanager
    async def watching(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(watcher.watch())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    application = FastAPI(lifespan=watching, docs_url=None, redoc_url=None, openapi_url=None)
    _add_pages(application, watcher, login=door is not None)
    return Guard(application, door)


def _add_pages(application: FastAPI, watcher: Watcher, *, login: bool) -> None:
    # NiceGUI would keep its own storage in the working folder, and looks there as it is imported.
    os.environ.setdefault("NICEGUI_STORAGE_PATH", os.devnull)
    from nicegui import Client, ui  # noqa: PLC0415

    from deploy.dashboard.device_page import show_device  # noqa: PLC0415
    from deploy.dashboard.overview import show_overview  # noqa: PLC0415

    def check_room() -> None:
        if len(Client.instances) > MAX_PAGES:
            raise HTTPException(503, f"{MAX_PAGES} pages are open: close some")

    @ui.page("/", title=f"midge: {watcher.topics.federation}")
    def overview() -> None:
        check_room()
        show_overview(watcher, login=login)

    @ui.page("/device/{device}")
    def device_page(device: str) -> None:
        check_room()
        if re.fullmatch(ID_PATTERN, device) is None:
            raise HTTPException(404, "that is no device's id")
        ui.page_title(f"midge: {device}")
        show_device(watcher, device, login=login)

    ui.run_with(
        application,
        title="midge",
        favicon=Path(__file__).with_name("favicon.svg"),
        dark=None,
        language="en-GB",
        tailwind=False,
        binding_refresh_interval=None,
        reconnect_timeout=RECONNECT_S,
        message_history_length=KEPT_MESSAGES,
        show_welcome_message=False,
    )
