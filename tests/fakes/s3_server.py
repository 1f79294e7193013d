"""A small S3 in memory that has one oddity of a store that is not Amazon's, for the clients that have to live with it.

Each oddity names where it is described or was seen. Everything else answers as SeaweedFS and Amazon do.
"""

import hashlib
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

HOST = "127.0.0.1"
WRITTEN = "2026-01-01T00:00:00.000Z"


@dataclass(frozen=True)
class Oddities:
    """What is different. The defaults are Amazon's ways."""

    # kms: API_Object of Amazon's reference, SSE-KMS; random: S3 Express One Zone; upper; none (but for writes)
    etag: str = "md5"
    encryption: str = ""  # the value of x-amz-server-side-encryption
    is_truncated: bool = True  # whether a listing says that it is complete
    newest_first: bool = False  # the order of a listing
    conditions: str = "kept"  # ignored: stores before conditional writes; refused: 501, as older Ceph
    checksum: str = ""  # a CRC32 in base64 that is told with every object, whatever its bytes
    error: tuple[int, str] | None = None  # status and code of every answer
    busy_every: int = 0  # each so many-th request is asked to come again: 503 SlowDown


@dataclass
class OddStore:
    """A running store: its address, its objects by `bucket/key`, and the headers of each request."""

    endpoint: str
    objects: dict[str, bytes] = field(default_factory=dict)
    headers: list[dict[str, str]] = field(default_factory=list)


def given_keys(identity: str) -> dict[str, str]:
    """Temporary keys for whoever shows this token."""
    return {
        "AccessKeyId": f"of-{identity}",
        "SecretAccessKey": "secret",
        "SessionToken": f"session-of-{identity}",
        "Expiration": "2099-01-01T00:00:00Z",
    }


@contextmanager
def pod_identity() -> Iterator[str]:
    """An agent that gives pods keys for their token, as EKS Pod Identity and ECS do at a link-local address."""

    class Agent(_Handler):
        def do_GET(self) -> None:
            keys = given_keys(self.headers["Authorization"])
            told = {**keys, "Token": keys["SessionToken"]}
            self._answer(json.dumps(told).encode(), {"Content-Type": "application/json"})

    with _serving(ThreadingHTTPServer((HOST, 0), Agent)) as port:
        yield f"http://{HOST}:{port}/v1/credentials"


@contextmanager
def odd_store(oddities: Oddities | None = None, certificate: Path | None = None) -> Iterator[OddStore]:
    """Run the store for the length of the block; with a certificate (and key, in one PEM file) it speaks TLS."""
    server = ThreadingHTTPServer((HOST, 0), _Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "https" if certificate else "http"
    store = OddStore(f"{scheme}://localhost:{server.server_port}")
    server.store, server.oddities = store, oddities or Oddities()  # type: ignore[attr-defined]
    with _serving(server):
        yield store


@contextmanager
def _serving(server: ThreadingHTTPServer) -> Iterator[int]:
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
        """Say nothing."""

    @property
    def odd(self) -> Oddities:
        return self.server.oddities  # type: ignore[attr-defined]

    @property
    def store(self) -> OddStore:
        return self.server.store  # type: ignore[attr-defined]

    @property
    def error(self) -> tuple[int, str] | None:
        """What this request is refused with, if it is."""
        every = self.odd.busy_every
        return (503, "SlowDown") if every and len(self.store.headers) % every == 0 else self.odd.error

    def do_GET(self) -> None:
        self.store.headers.append(dict(self.headers))
        url = urlsplit(self.path)
        path, query = unquote(url.path).strip("/"), parse_qs(url.query)
        if self.error:
            self._refuse(*self.error)
        elif "/" not in path:
            self._list(path, query.get("prefix", [""])[0])
        elif path not in self.store.objects:
            self._refuse(404, "NoSuchKey")
        else:
            self._answer(self.store.objects[path], self._object_headers(path))

    do_HEAD = do_GET  # noqa: N815 - its name in the base class

    def do_PUT(self) -> None:
        self.store.headers.append(dict(self.headers))
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path).strip("/")
        conditional = self.headers.get("If-None-Match") == "*"
        if self.error:
            self._refuse(*self.error)
        elif conditional and self.odd.conditions == "refused":
            self._refuse(501, "NotImplemented")
        elif conditional and self.odd.conditions == "kept" and path in self.store.objects:
            self._refuse(412, "PreconditionFailed")
        else:
            self.store.objects[path] = data
            self._answer(b"", {"ETag": f'"{self._etag(path) or hashlib.sha256(data).hexdigest()}"'})

    def do_DELETE(self) -> None:
        self.store.headers.append(dict(self.headers))
        if self.error:
            self._refuse(*self.error)
            return
        self.store.objects.pop(unquote(urlsplit(self.path).path).strip("/"), None)
        self._answer(b"", {}, HTTPStatus.NO_CONTENT)

    def do_POST(self) -> None:
        """Give a web identity its keys, as MinIO does at the store's own address (its AssumeRoleWithWebIdentity)."""
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if form.get("Action") != ["AssumeRoleWithWebIdentity"]:
            self._refuse(400, "NotImplemented")
            return
        keys = "".join(f"<{name}>{value}</{name}>" for name, value in given_keys(form["WebIdentityToken"][0]).items())
        result = f"<AssumeRoleWithWebIdentityResult><Credentials>{keys}</Credentials></AssumeRoleWithWebIdentityResult>"
        namespace = "https://sts.amazonaws.com/doc/2011-06-15/"
        body = f'<AssumeRoleWithWebIdentityResponse xmlns="{namespace}">{result}</AssumeRoleWithWebIdentityResponse>'
        self._answer(body.encode(), {"Content-Type": "application/xml"})

    def _list(self, bucket: str, prefix: str) -> None:
        keys = sorted(path.partition("/")[2] for path in self.store.objects if path.startswith(f"{bucket}/{prefix}"))
        if self.odd.newest_first:
            keys.reverse()
        entries = "".join(self._entry(key, f"{bucket}/{key}") for key in keys)
        truncated = "<IsTruncated>false</IsTruncated>" if self.odd.is_truncated else ""
        namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
        body = f'<ListBucketResult xmlns="{namespace}"><Name>{bucket}</Name>{truncated}{entries}</ListBucketResult>'
        self._answer(body.encode(), {"Content-Type": "application/xml"})

    def _entry(self, key: str, path: str) -> str:
        etag = self._etag(path)
        told = f"<ETag>&quot;{etag}&quot;</ETag>" if etag else ""
        size = len(self.store.objects[path])
        return (
            f"<Contents><Key>{escape(key)}</Key><LastModified>{WRITTEN}</LastModified>{told}"
            f"<Size>{size}</Size></Contents>"
        )

    def _etag(self, path: str) -> str:
        plain = hashlib.md5(self.store.objects[path], usedforsecurity=False).hexdigest()
        other = hashlib.md5(path.encode() + self.store.objects[path], usedforsecurity=False).hexdigest()
        return {"md5": plain, "upper": plain.upper(), "kms": other, "random": other, "none": ""}[self.odd.etag]

    def _object_headers(self, path: str) -> dict[str, str]:
        etag = self._etag(path)
        told = {"ETag": f'"{etag}"'} if etag else {}
        encrypted = {"x-amz-server-side-encryption": self.odd.encryption} if self.odd.encryption else {}
        checked = {"x-amz-checksum-crc32": self.odd.checksum} if self.odd.checksum else {}
        return {"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT", **told, **encrypted, **checked}

    def _refuse(self, status: int, code: str) -> None:
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
        # Amazon names the bucket's own region in each answer.
        self._answer(body, {"Content-Type": "application/xml", "x-amz-bucket-region": "eu-central-1"}, status)

    def _answer(self, body: bytes, headers: dict[str, str], status: int = HTTPStatus.OK) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
