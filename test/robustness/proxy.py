"""A small proxy whose network can be cut."""

import os
import select
import socket
import threading
from typing import Union

from log import now

CHUNK = 65536


class Proxy(threading.Thread):
    """Passes connections on to a Unix socket or to a TCP address, in a thread of its own.

    stall(seconds): nothing passes for a while
    cut(): all connections end, on both sides
    closed = True: the proxy ends
    vanish(seconds): clients see their connections end; the server sees nothing for a while
    """

    def __init__(self, target: Union[str, tuple[str, int]]):
        super().__init__(daemon=True)
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.peers: dict[socket.socket, socket.socket] = {}
        self.unsent: dict[socket.socket, bytearray] = {}  # what is still to be sent to an end
        self.ghosts: list[tuple[float, socket.socket]] = []
        self.stalled_until = 0.0
        self.closed = False
        self.lock = threading.Lock()

    def stall(self, seconds: float) -> None:
        self.stalled_until = now() + seconds

    def cut(self) -> None:
        with self.lock:
            for end in list(self.peers):
                end.close()
            self.forget()

    def forget(self) -> None:
        self.peers.clear()
        self.unsent.clear()

    def vanish(self, seconds: float) -> None:
        with self.lock:
            for end, peer in list(self.peers.items()):
                if end.family == socket.AF_UNIX:
                    self.ghosts.append((now() + seconds, end))
                    peer.close()
            self.forget()

    def accept(self) -> None:
        client = self.listener.accept()[0]
        unix = isinstance(self.target, str)
        server = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        try:
            server.connect(self.target)
        except OSError:
            client.close()
            server.close()
            return
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.peers[client] = server
        self.peers[server] = client
        for end in (client, server):
            end.setblocking(False)
            self.unsent[end] = bytearray()

    def forward(self, end: socket.socket) -> None:
        """Reads from one end for the other."""
        peer = self.peers.get(end)
        if peer is None:
            return
        try:
            data = end.recv(CHUNK)
        except OSError:
            data = b""
        self.unsent[peer] += data
        self.flush(peer)
        if not data and end in self.peers:
            self.close(end)

    def flush(self, end: socket.socket) -> None:
        try:
            if self.unsent.get(end):
                del self.unsent[end][: end.send(self.unsent[end])]
        except BlockingIOError:
            pass
        except OSError:
            self.close(end)

    def close(self, end: socket.socket) -> None:
        for socket_ in (end, self.peers.pop(end)):
            self.peers.pop(socket_, None)
            del self.unsent[socket_]
            socket_.close()

    def bury_ghosts(self) -> None:
        for until, end in list(self.ghosts):
            if until <= now():
                end.close()
                self.ghosts.remove((until, end))

    def run(self) -> None:
        while not self.closed:
            if now() < self.stalled_until:
                select.select([], [], [], 0.01)
                continue
            try:
                readers = [end for end, peer in self.peers.items() if len(self.unsent[peer]) < CHUNK]
                writers = [end for end, unsent in self.unsent.items() if unsent]
                ready, writable, _ = select.select([self.listener, *readers], writers, [], 0.1)
            except (KeyError, OSError, RuntimeError, ValueError):
                continue  # cut meanwhile
            with self.lock:
                self.bury_ghosts()
                for end in writable:
                    self.flush(end)
                for end in ready:
                    if end is self.listener:
                        self.accept()
                    else:
                        self.forward(end)
        self.cut()
        self.listener.close()
