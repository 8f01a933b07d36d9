"""Opens a connection."""
# expects: builder-trapped

from componentize_py_types import Err


def build(request):
    import socket

    socket.create_connection(("127.0.0.1", 80))
    raise Err("was not stopped")
