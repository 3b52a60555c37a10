"""The explorer's host on the own machine: a server that only this machine reaches, and only who knows its token."""

import html
import json
import secrets
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from jax4dstem.errors import InputError
from jax4dstem.explore.assets import SERVED, asset
from jax4dstem.explore.subject import Subject
from jax4dstem.explore.wire import unpacked

HOST = "127.0.0.1"
LONGEST = 256 * 2**20  # bytes of a question: a mask of the largest detector or scan
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "connect-src 'self'; img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class ExplorerServer(ThreadingHTTPServer):
    """Serves the explorer of one subject on the loopback interface.

    Every address begins with a random token; behind it are the page's three files and the subject's questions, by name, from
    tables: nothing of an address becomes a path.

    Example:
        >>> import numpy as np
        >>> from jax4dstem import Dataset
        >>> from jax4dstem.explore import Subject
        >>> scan = Dataset.from_array(np.ones((2, 3, 16, 16), np.uint16))
        >>> with ExplorerServer(Subject.of(scan)) as server:
        ...     server.url.startswith("http://127.0.0.1:")
        True
    """

    daemon_threads = True

    def __init__(self, subject: Subject, port: int = 0) -> None:
        """Bind, without serving yet: `serve_forever` does.

        Args:
            subject: What is explored.
            port: To listen at; 0 takes a free one.

        Raises:
            InputError: The port is in use.
        """
        self.subject = subject
        self.token = secrets.token_urlsafe(24)
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise InputError(f"port {port} cannot be used: {error.strerror}") from error

    @property
    def url(self) -> str:
        """Where the page is, token included."""
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of pages that are closed while an answer is on its way."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # one connection for all questions of a page
    server: ExplorerServer

    def do_GET(self) -> None:
        """The page's files."""
        name = self._asked()
        title = html.escape(f"{self.server.subject.name} - jax4dstem")
        files = {
            "": ("text/html", lambda: SERVED.format(title=title)),
            "explorer.js": ("text/javascript", lambda: asset("explorer.js")),
            "explorer.css": ("text/css", lambda: asset("explorer.css")),
        }
        if name not in files:
            self._send(404, "text/plain", b"there is nothing here")
            return
        kind, text = files[name]
        self._send(200, f"{kind}; charset=utf-8", text().encode())

    def do_POST(self) -> None:
        """The subject's questions."""
        name = self._asked()
        size = int(self.headers.get("Content-Length") or 0)
        if name is None or not 0 < size <= LONGEST:
            self.close_connection = True  # what was sent is not read
            self._send(404, "text/plain", b"there is nothing here")
            return
        try:
            args = unpacked(json.loads(self.rfile.read(size)))
            answer = self.server.subject.answer(name, args).packed()
        except (InputError, json.JSONDecodeError) as error:
            self._send(400, "text/plain; charset=utf-8", str(error).encode())
            return
        self._send(200, "application/octet-stream", answer)

    def _asked(self) -> str | None:
        """What stands behind the token; None without it, or where another name leads to this machine."""
        port = self.server.server_port
        host = self.headers.get("Host", "")
        token, slash, name = self.path.removeprefix("/").partition("/")
        known = secrets.compare_digest(token.encode(), self.server.token.encode())
        return name if known and slash and host in (f"{HOST}:{port}", f"localhost:{port}") else None

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        for header, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        }.items():
            self.send_header(header, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the terminal quiet; addresses hold the token."""
