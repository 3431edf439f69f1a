"""A small TCP proxy whose network can be cut."""

import os
import select
import socket
import threading

from log import now

CHUNK = 65536


class Proxy(threading.Thread):
    """Passes connections on to a Unix socket, in a thread of its own.

    stall(seconds): nothing goes through for a while
    cut(): all connections end, on both sides
    vanish(seconds): clients see their connections end; the server sees nothing for a while
    """

    def __init__(self, target: str):
        super().__init__(daemon=True)
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.peers: dict[socket.socket, socket.socket] = {}
        self.ghosts: list[tuple[float, socket.socket]] = []
        self.stalled_until = 0.0
        self.lock = threading.Lock()

    def stall(self, seconds: float) -> None:
        self.stalled_until = now() + seconds

    def cut(self) -> None:
        with self.lock:
            for end in list(self.peers):
                end.close()
            self.peers.clear()

    def vanish(self, seconds: float) -> None:
        with self.lock:
            for end, peer in list(self.peers.items()):
                if end.family == socket.AF_UNIX:
                    self.ghosts.append((now() + seconds, end))
                    peer.close()
            self.peers.clear()

    def accept(self) -> None:
        client = self.listener.accept()[0]
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(self.target)
        except OSError:
            client.close()
            server.close()
            return
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.peers[client] = server
        self.peers[server] = client

    def forward(self, end: socket.socket) -> None:
        peer = self.peers.get(end)
        if peer is None:
            return
        try:
            data = end.recv(CHUNK)
            if data:
                peer.sendall(data)
                return
        except OSError:
            pass
        del self.peers[end], self.peers[peer]
        end.close()
        peer.close()

    def bury_ghosts(self) -> None:
        for until, end in list(self.ghosts):
            if until <= now():
                end.close()
                self.ghosts.remove((until, end))

    def run(self) -> None:
        while True:
            if now() < self.stalled_until:
                select.select([], [], [], 0.01)
                continue
            try:
                ready = select.select([self.listener, *self.peers], [], [], 0.1)[0]
            except (OSError, ValueError):
                continue  # cut in the meantime
            with self.lock:
                self.bury_ghosts()
                for end in ready:
                    if end is self.listener:
                        self.accept()
                    else:
                        self.forward(end)
