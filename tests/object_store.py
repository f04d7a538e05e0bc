"""A real S3 server from a package, on a loopback port: moto's, as a process of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

__all__ = ["bucket", "object_store"]

SERVER = """
import sys, threading
from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

class Exactly:
    # Werkzeug crashes the process where a chunk breaks off: it tells Python's RawIOBase of
    # more bytes than there are.
    def __init__(self, file):
        self.file, self.readline, self.close = file, file.readline, file.close
    def read(self, size):
        data = self.file.read(size)
        if len(data) < size:
            raise OSError("the request breaks off")
        return data

class Handler(MotoRequestHandler):
    def setup(self):
        super().setup()
        self.rfile = Exactly(self.rfile)

moto = DomainDispatcherApplication(create_backend_app)
server = make_server("127.0.0.1", 0, moto, threaded=True, request_handler=Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
sys.stdin.read()  # until who started us closes it, or is gone
server.shutdown()
"""
KEY, SECRET = "AKIALOOPBACK", "the-secret-of-the-store"
REGION = "us-east-1"


@dataclass(frozen=True)
class Bucket:
    """An empty bucket of its own; `environment` is what makes a program find it."""

    port: int
    name: str
    system: Any

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def url(self, name: str = "") -> str:
        return f"s3://{self.name}/{name}"

    def put(self, name: str, content: bytes) -> str:
        with self.system.open_output_stream(f"{self.name}/{name}", compression=None) as stream:
            stream.write(content)
        return self.url(name)

    def get(self, name: str) -> bytes:
        with self.system.open_input_file(f"{self.name}/{name}") as file:
            return file.read()

    def names(self) -> list[str]:
        from pyarrow import fs  # heavy, and these fixtures are everybody's

        found = self.system.get_file_info(fs.FileSelector(self.name, recursive=True))
        files = [each.path for each in found if each.type == fs.FileType.File]
        return sorted(path.partition("/")[2] for path in files)


@pytest.fixture(scope="session")
def object_store() -> Iterator[int]:
    """The port of a server."""
    environment = {"PATH": os.defpath, "AWS_DEFAULT_REGION": REGION}
    with subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    ) as server:
        yield int(server.stdout.readline())
        server.stdin.close()


@pytest.fixture
def bucket(object_store, request, monkeypatch) -> Bucket:
    from pyarrow import fs

    system = fs.S3FileSystem(
        access_key=KEY,
        secret_key=SECRET,
        region=REGION,
        scheme="http",
        endpoint_override=f"127.0.0.1:{object_store}",
        allow_bucket_creation=True,
    )
    name = f"bucket-{os.getpid()}-{abs(hash(request.node.nodeid))}"
    system.create_dir(name)
    made = Bucket(object_store, name, system)
    for variable, value in made.environment.items():
        monkeypatch.setenv(variable, value)
    return made
