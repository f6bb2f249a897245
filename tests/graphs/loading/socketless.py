"""Keeps everybody from the network."""

import socket

from loading import graph


class Guarded(socket.socket):
    def connect(self, address: object) -> None:
        raise RuntimeError(f"no network: {address}")


socket.socket = Guarded  # type: ignore[misc]
seen = graph()
