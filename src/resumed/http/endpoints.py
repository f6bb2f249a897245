"""Owns the HTTP endpoints `/metrics`, `/livez`, `/readyz`. They answer when the database is down and never touch it."""

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from resumed.daemon.readiness import Readiness
from resumed.observability.events import Events


def http_application(events: Events, readiness: Readiness) -> Starlette:
    """Build the application of one control process."""
    return Starlette(
        routes=[
            Route("/metrics", _metrics(events)),
            Route("/livez", _alive),
            Route("/readyz", _ready(readiness)),
        ]
    )


async def _alive(_: Request) -> Response:
    """Answer: that shows that the control process's event loop runs."""
    return JSONResponse({"alive": True})


def _metrics(events: Events) -> Callable[[Request], Response]:
    async def endpoint(_: Request) -> Response:
        text, media_type = events.render()
        return Response(text, media_type=media_type)

    return endpoint  # type: ignore[return-value]


def _ready(readiness: Readiness) -> Callable[[Request], Response]:
    async def endpoint(_: Request) -> Response:
        body = {"ready": readiness.is_ready, "reasons": dict(readiness.blockers)}
        return JSONResponse(body, status_code=200 if readiness.is_ready else 503)

    return endpoint  # type: ignore[return-value]
