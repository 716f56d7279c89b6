"""An HTTP server that answers as Serve's proxy does for lossd's application."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

AGAIN_S = 0.5


@contextmanager
def ray_head(servers: Callable[[], Sequence[str]]) -> Iterator[str]:
    """Its address. servers: those of now."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path not in ("", "/", "/losses"):
                self.send_error(404)
                return
            body = json.dumps({"servers": list(servers()), "again_s": AGAIN_S}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"ray://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
