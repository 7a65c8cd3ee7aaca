"""Objects below a URI, read and written through obstore; what it raises becomes OSError.

Credentials, region and endpoint come from the environment, by the names that the stores' own tools use:
`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL`; `GOOGLE_SERVICE_ACCOUNT_KEY`;
`AZURE_STORAGE_ACCOUNT_NAME`, `AZURE_STORAGE_ACCOUNT_KEY`; or from the identity of the pod.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import obstore
from obstore import exceptions
from obstore.store import AzureStore, GCSStore, LocalStore, S3Store

from windward_worker.control import Refused

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Backend

READ_BYTES = 64 << 20  # of one request
MOST_PARTS = 5000  # of one upload; S3 takes 10,000
LEAST_PART_BYTES = 8 << 20
# A request that moves READ_BYTES may take long; one that a store refuses is tried again for less than a grace period.
# As `config`: `client_options` would replace what the environment says of the client, such as AWS_ALLOW_HTTP.
_CONFIG = {"timeout": "120s", "connect_timeout": "10s"}
_RETRY = {"max_retries": 10, "retry_timeout": timedelta(seconds=60)}
_STATUS = re.compile(r"status code: ([0-9]{3})")
_QUERY = re.compile(r"\?\S*")
_REMOTE: Mapping[str, Any] = {"s3": S3Store, "gs": GCSStore, "azblob": AzureStore}


class Objects:
    """The objects below a URI: `s3://`, `gs://`, `azblob://`, or `file://` for tests and laptops.

    Methods raise OSError where the store fails, PermissionError where it refuses, FileNotFoundError where an object
    is absent.
    """

    def __init__(self, uri: str) -> None:
        """Raises Refused for a URI or a credential that cannot be used."""
        self.uri = uri.rstrip("/")
        self._store = _open(self.uri)

    def create(self, path: str, data: bytes) -> bool:
        """Put an object where there is none, in one step; returns whether what is there now is `data`.

        A request that was answered too late and sent again finds its own object: that is a success.
        """
        while True:
            try:
                with self._errors(path):
                    obstore.put(self._store, path, data, mode="create", use_multipart=False)
                return True
            except FileExistsError:
                with contextlib.suppress(FileNotFoundError):  # refused for one that was then not put: again
                    return self.get(path) == data

    def put(self, path: str, data: bytes) -> None:
        """Put an object, whatever was there; whole or not at all."""
        with self._errors(path):
            obstore.put(self._store, path, data, chunk_size=max(LEAST_PART_BYTES, len(data) // MOST_PARTS + 1))

    def get(self, path: str) -> bytes:
        """The content of an object."""
        with self._errors(path):
            size = int(obstore.head(self._store, path)["size"])
            begins = range(0, size, READ_BYTES)
            return b"".join(
                obstore.get_range(self._store, path, start=begin, end=min(size, begin + READ_BYTES)).to_bytes()
                for begin in begins
            )

    def list(self, prefix: str) -> dict[str, int]:
        """Path -> size in bytes of all objects below a folder."""
        with self._errors(prefix):
            return {o["path"]: o["size"] for chunk in obstore.list(self._store, prefix) for o in chunk}

    def delete(self, paths: Sequence[str]) -> None:
        """Remove objects; an absent one is none the worse."""
        for path in paths:
            with contextlib.suppress(FileNotFoundError), self._errors(path):
                obstore.delete(self._store, path)

    @contextlib.contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        """What obstore raises, as OSError with where it happened."""
        try:
            yield
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{self.uri}/{path} is not there") from error
        except exceptions.AlreadyExistsError as error:
            raise FileExistsError(f"{self.uri}/{path} is there already") from error
        except (exceptions.BaseError, ValueError) as error:
            raise self._translated(path, error) from error

    def _translated(self, path: str, error: Exception) -> Exception:
        answer = _first_line(error)
        code = _STATUS.search(answer)  # of requests for which obstore has no error of its own, such as a listing
        forbidden = isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError)
        if forbidden or (code and code[1] in ("401", "403")):
            return PermissionError(
                f"{self.uri}/{path}: credentials refused ({answer}); give them the right to list, read, "
                "write and delete there"
            )
        if isinstance(error, exceptions.NotSupportedError) or (code and code[1] == "501"):
            return _no_condition(self.uri, answer)
        return OSError(f"{self.uri}/{path}: {answer}")


def _no_condition(uri: str, why: str) -> Refused:
    return Refused(
        f"the object store of {uri} does not write on condition ({why}), so that two runs could overwrite each other; "
        "use one that honours If-None-Match, such as S3, GCS or Azure, or a volume in spec.storage.claimName"
    )


def refuse_unconditional(uri: str) -> Refused:
    """Returns the refusal of a store that overwrites what it was told to create."""
    return _no_condition(uri, "it put an object twice that was to be put only where there is none")


def _first_line(error: Exception) -> str:
    """What an error says, without queries: Azure's shared access signatures stand in them, and a report is public."""
    return _QUERY.sub("", str(error).strip().split("\n", 1)[0])[:300]


def _open(uri: str) -> Backend:
    scheme, _, rest = uri.partition("://")
    bucket, _, prefix = rest.partition("/")
    try:
        if scheme == "file" and not bucket and prefix:
            return LocalStore(prefix=f"/{prefix}", mkdir=True)
        if scheme in _REMOTE and bucket:
            store: Backend = _REMOTE[scheme](bucket, prefix=prefix or None, config=_CONFIG, retry_config=_RETRY)
            return store
    except (exceptions.BaseError, ValueError, OSError) as error:
        raise Refused(f"{uri} cannot be opened: {_first_line(error)}; correct it, or its credentials") from error
    raise Refused(f"{uri!r} is no object store: give s3://, gs:// or azblob:// with a bucket, or file:// with a folder")
