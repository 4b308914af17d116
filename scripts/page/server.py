"""Serves the game to a browser on the same machine, and to nobody else."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from classifiers.files import json_text
from scripts.page.game import Game
from scripts.page.templates import fill_page

_LARGEST_REQUEST = 1000  # bytes


class GameServer(ThreadingHTTPServer):
    """A server of one game; `serve_forever` returns once enough images are finished.

    Args:
        game: to play.
        port: on the loopback address; 0 takes a free one.
        images: how many images are played; None serves until `shutdown`.

    Raises:
        ValueError: if the port can't be used, as it is taken, for example.
    """

    def __init__(self, game: Game, port: int = 0, images: int | None = None) -> None:
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except (OSError, OverflowError) as error:
            raise ValueError(f"port {port} can't be used ({error}); pass another, or 0 for a free one") from error
        self._game = game
        self._images = images
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://127.0.0.1:{self.server_address[1]}/"

    @property
    def hosts(self) -> tuple[str, ...]:
        """What a browser on this machine may call us; a foreign page that points its own name at us is refused."""
        return tuple(f"{name}:{self.server_address[1]}" for name in ("127.0.0.1", "localhost"))

    @property
    def is_over(self) -> bool:
        """Whether enough images are finished."""
        return self._images is not None and self._game.finished_images >= self._images

    def page(self) -> str:
        """The page, with the game as it stands."""
        with self._lock:
            return fill_page("play", "play", self._game.state(), asks_server=True)

    def move(self, path: str, place: dict[str, Any]) -> dict[str, Any]:
        """Makes a move.

        Args:
            path: `/look` or `/next`.
            place: of a look: `row` and `col`, see `Game.look`.

        Returns:
            See `Game.state`.

        Raises:
            ValueError: if the move can't be made.
        """
        with self._lock:
            if path == "/look":
                try:
                    row, col = float(place["row"]), float(place["col"])
                except (KeyError, TypeError, ValueError):
                    raise ValueError(f"{place!r} is not a place; pass row and col from 0 to 1") from None
                self._game.look(row, col)
            elif path == "/next":
                self._game.next_image()
            else:
                raise ValueError(f"{path} is no move; pass /look or /next")
            return self._game.state()


class _Handler(BaseHTTPRequestHandler):
    server: GameServer
    timeout = 60  # seconds; browsers open connections that they never use

    def do_GET(self) -> None:
        if self._is_refused():
            return
        if self.path != "/":
            self._answer(404, "text/plain", "there is only /")
            return
        self._answer(200, "text/html", self.server.page())

    def do_POST(self) -> None:
        if self._is_refused():
            return
        try:
            length = int(self.headers.get("Content-Length", "0"))
            if self.headers.get_content_type() != "application/json" or not 0 < length <= _LARGEST_REQUEST:
                raise ValueError("a move is a JSON object of at most 1,000 bytes")
            place = json.loads(self.rfile.read(length))
            answer = self.server.move(self.path, place if isinstance(place, dict) else {})
        except ValueError as error:
            self._answer(400, "application/json", json_text({"error": str(error)}))
            return
        self._answer(200, "application/json", json_text(answer))
        if self.server.is_over:
            self.server.shutdown()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing of each request."""

    def _is_refused(self) -> bool:
        if self.headers.get("Host") in self.server.hosts:
            return False
        self._answer(403, "text/plain", f"open {self.server.url}")
        return True

    def _answer(self, status: int, kind: str, text: str) -> None:
        body = text.encode("utf-8")
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)
