"""A small S3 that errs at the wire: it forgets conditions, does not know them, or loses an answer."""

from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

CODES = {412: "PreconditionFailed", 501: "NotImplemented", 404: "NoSuchKey", 500: "InternalError", 403: "AccessDenied"}


class FaultyS3:
    """Objects in memory, by key.

    Attributes:
        fault: "": none.
            "forgets": `If-None-Match` is ignored.
            "unknown": it is answered with 501.
            "loses": the first conditional put is done, and answered with 500.
            "forbids": puts are answered with 403.
            "fails": reads of objects are answered with 500.
    """

    def __init__(self, fault: str = "") -> None:
        self.fault, self.objects, self.requests = fault, {}, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                outer.requests.append(("PUT", self.path))
                body = self.rfile.read(int(self.headers["content-length"]))
                self._answer(*outer.put(self._key(), body, self.headers.get("if-none-match")))

            def do_GET(self) -> None:
                outer.requests.append(("GET", self.path))
                query = parse_qs(urlsplit(self.path).query)
                if "list-type" in query:
                    return self._answer(200, outer.listing(query.get("prefix", [""])[0]))
                if outer.fault == "fails":
                    return self._answer(500)
                if (data := outer.objects.get(self._key())) is None:
                    return self._answer(404)
                first, last = re.match(r"bytes=(\d+)-(\d+)", self.headers.get("range", "bytes=0-999999999")).groups()
                part = data[int(first) : int(last) + 1]
                return self._answer(206, part, f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}")

            def do_HEAD(self) -> None:
                data = outer.objects.get(self._key())
                self.send_response(500 if outer.fault == "fails" else 404 if data is None else 200)
                self._headers(len(data or b""))

            def _key(self) -> str:
                return urlsplit(self.path).path.split("/", 2)[2]

            def _answer(self, code: int, body: bytes = b"", content_range: str = "") -> None:
                if code >= 300:
                    body = f"<Error><Code>{CODES[code]}</Code><Message>fault</Message></Error>".encode()
                self.send_response(code)
                self._headers(len(body), content_range)
                self.wfile.write(body)

            def _headers(self, size: int, content_range: str = "") -> None:
                self.send_header("content-length", str(size))
                self.send_header("etag", '"1"')
                self.send_header("last-modified", "Sat, 28 Nov 2026 12:00:00 GMT")
                if content_range:
                    self.send_header("content-range", content_range)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._lock = threading.Lock()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.environ = {
            "AWS_ACCESS_KEY_ID": "k",
            "AWS_SECRET_ACCESS_KEY": "s",
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._server.server_port}",
        }

    def put(self, key: str, body: bytes, condition: str | None) -> tuple[int]:
        with self._lock:
            if self.fault == "forbids":
                return (403,)
            if condition and self.fault == "unknown":
                return (501,)
            if condition and key in self.objects and self.fault != "forgets":
                return (412,)
            self.objects[key] = body
            if condition and self.fault == "loses":
                self.fault = ""
                return (500,)
            return (200,)

    def listing(self, prefix: str) -> bytes:
        entry = "<Contents><Key>{}</Key><Size>{}</Size><LastModified>2026-11-28T12:00:00.000Z</LastModified></Contents>"
        found = "".join(
            entry.format(escape(k), len(v)) for k, v in sorted(self.objects.items()) if k.startswith(prefix)
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>".encode()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
