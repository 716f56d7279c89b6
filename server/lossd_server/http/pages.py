"""Pages: files of the package, the same on every server, and who may see them is everybody."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FOLDER = Path(__file__).parent / "static"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
PAGES = {"/": "status.html", "/playground": "playground.html"}
# Paths of all that a page is made of; nothing else is ever read.
FILES = PAGES | {f"/static/{path.name}": path.name for path in sorted(FOLDER.iterdir()) if path.suffix != ".html"}


def page_routes() -> list[Route]:
    """Raises OSError where a file is not there."""
    return [_route(path, (FOLDER / name).read_bytes(), TYPES[Path(name).suffix]) for path, name in FILES.items()]


def _route(path: str, content: bytes, kind: str) -> Route:
    async def answer(_: Request) -> Response:
        return Response(content, headers={"content-type": kind})

    return Route(path, answer)
