"""Sources of a data set's files: folders and web addresses; `packages` has those inside packages.

A source is opened once for all missing files and then returns them one by one. It is not trusted: `datasets` verifies
each file's SHA-256 before the file is used or stored.
"""

import gzip
import http.client
import io
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trackdl.errors import FileError
from trackdl.system.paths import content_of

_IDLE_SECONDS = 10.0  # without a network the error comes soon, not after the system's minutes
_DOWNLOAD_SECONDS = 600.0  # for one file: a slow server never reaches the idle limit
GZIP_OVERHEAD = 1 << 16  # a gzip file of these data sets is at most this much longer than its content


class SourceError(Exception):
    """The source cannot provide any file."""


@dataclass(frozen=True)
class File:
    """One file of a data set.

    Attributes:
        name: Its path inside the data set's folder, with forward slashes.
        size: Its uncompressed length in bytes.
        sha256: SHA-256, hex, of its uncompressed content.
    """

    name: str
    size: int
    sha256: str


class Source(Protocol):
    """A source of files; its `str` is its name in messages."""

    def open(self, files: Sequence[File], scratch: Path, /) -> Callable[[File], bytes]:
        """Return a function that returns a file's uncompressed, unverified content.

        Args:
            files: The files to get.
            scratch: An empty folder to work in, removed after the last file.

        Raises:
            SourceError: No file is available; the returned function raises it too, or `FileError`.
        """


@dataclass(frozen=True)
class Folder:
    """Files in a folder of this machine; with the suffix `.gz` they are gzipped."""

    path: Path
    suffix: str = ""

    def __str__(self) -> str:
        return f"the folder {self.path}"

    def open(self, _files: Sequence[File], _scratch: Path) -> Callable[[File], bytes]:
        """See `Source.open`."""
        if not self.path.is_dir():
            raise SourceError("there is no such folder")
        return self._get

    def _get(self, file: File) -> bytes:
        content = content_of(self.path / f"{file.name}{self.suffix}", file.size + GZIP_OVERHEAD)
        return _gunzip(content, file.size) if self.suffix else content


@dataclass(frozen=True)
class Mirror:
    """Files on the web at `address` (with its closing slash) + name + `suffix`; with `.gz` they are gzipped."""

    address: str
    suffix: str = ""

    def __str__(self) -> str:
        return self.address

    def open(self, _files: Sequence[File], _scratch: Path) -> Callable[[File], bytes]:
        """See `Source.open`; an unreachable server shows only at the first file."""
        return self._get

    def _get(self, file: File) -> bytes:
        address = f"{self.address}{file.name}{self.suffix}"
        try:
            # The address is a constant of `datasets` or torchvision: never a user's file: or ftp: address.
            with urllib.request.urlopen(address, timeout=_IDLE_SECONDS) as response:  # noqa: S310
                content = _receive(response, file.size + GZIP_OVERHEAD)
        except urllib.error.HTTPError as error:
            raise FileError(f"is refused by the server: {error.code} {error.reason}") from error
        except urllib.error.URLError as error:
            raise SourceError(f"cannot be reached ({error.reason})") from error
        except TimeoutError as error:
            raise SourceError(f"does not answer in time ({error})") from error
        except (OSError, http.client.HTTPException) as error:
            raise FileError(f"broke off in transfer ({type(error).__name__}: {error})") from error
        return _gunzip(content, file.size) if self.suffix else content


def _gunzip(content: bytes, size: int) -> bytes:
    """Unpack at most one byte more than `size`, enough to detect a longer content."""
    try:
        with gzip.open(io.BytesIO(content)) as file:
            unpacked = file.read(size + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FileError(f"is not a complete gzip file ({error})") from error
    if len(unpacked) > size:
        raise FileError(f"unpacks to more than its {size} bytes")
    return unpacked


def _receive(response: http.client.HTTPResponse, most: int) -> bytes:
    """Return a response's body of at most `most` bytes, within `_DOWNLOAD_SECONDS`."""
    ends = time.monotonic() + _DOWNLOAD_SECONDS
    announced = response.length  # counts down as the body is read; None if the server does not announce it
    body = bytearray()
    while chunk := response.read1(1 << 20):
        body += chunk
        if len(body) > most:
            raise FileError(f"is sent with more than {most} bytes")
        if time.monotonic() > ends:
            raise TimeoutError(f"{len(body)} bytes in {_DOWNLOAD_SECONDS:.0f} s")
    if announced is not None and len(body) < announced:
        raise FileError(f"broke off in transfer after {len(body)} of {announced} bytes")
    return bytes(body)
