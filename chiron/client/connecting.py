"""A connection to the gateway that is opened while the rest of a command is still being loaded.

A command imports for most of a second before it can speak: NumPy, the models, HTTP. The address needs none of
that, so the connection can be there by then.
"""

import socket
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import aiohttp

CONNECT_S = 15.0
FRESH_S = 10.0
"""A server ends connections on which nothing is asked; an older one than this is not used."""


class Connecting:
    """A TCP connection to a URL's host, opened in the background. Nothing is sent, and a failure is no error:
    whoever needs the connection then opens another, and says what is wrong. Use as a context manager.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connected: _Connected | None = None
        self._since = 0.0
        self._wanted = True
        self._lock = threading.Lock()
        threading.Thread(target=self._connect, name="chiron-connecting", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            self._wanted = False
            if self._connected is not None:
                self._connected.close()

    def connector(self) -> "aiohttp.TCPConnector":
        """A connector for an HTTP session, whose first connection to that address is this one."""
        import aiohttp

        return aiohttp.TCPConnector(socket_factory=self._socket)

    def _connect(self) -> None:
        try:
            parts = urlsplit(self._url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
            opened = socket.create_connection((parts.hostname or "", port), CONNECT_S)
        except (OSError, ValueError):
            return
        with self._lock:
            if not self._wanted:
                opened.close()
                return
            self._connected = _Connected(opened.family, opened.type, opened.proto, opened.detach())
            self._since = time.monotonic()

    def _socket(self, address: tuple[Any, ...]) -> socket.socket:
        """The connected socket, once, where it leads to this address; otherwise a new one."""
        with self._lock:
            self._wanted = False
            connected, self._connected = self._connected, None
        if connected is not None:
            if connected.leads_to(address[4]) and time.monotonic() - self._since < FRESH_S:
                return connected
            connected.close()
        return socket.socket(*address[:3])


class _Connected(socket.socket):
    """A socket that is connected already: connecting it again does nothing."""

    def connect(self, address: Any) -> None:
        pass

    def leads_to(self, address: Any) -> bool:
        """Whether the other end is at this address."""
        try:
            return bool(self.getpeername() == address)
        except OSError:
            return False
