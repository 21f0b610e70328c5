"""The ways to come by a data set's files: a folder or a web address here, packages of data in `packages`.

A source opens once for all the files that are wanted and then gives them one by one. It is not trusted: `sources`
checks each file's SHA-256 before the file is used or placed.
"""

import http.client
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_IDLE_SECONDS = 10.0  # a machine without network is told so soon, not after the system's minutes
_DOWNLOAD_SECONDS = 600.0  # for one whole file: a server that drips never runs into the idle limit
GZIP_OVERHEAD = 1 << 16  # a gzip file is at most this much longer than its content, at the sizes found here


class SourceError(Exception):
    """The source can give no file at all: there is no use in asking it for the next one."""


class FileError(Exception):
    """The source cannot give this one file."""


@dataclass(frozen=True)
class File:
    """One file of a data set.

    Attributes:
        name: Its path inside the data set's folder, with forward slashes.
        size: Its length in bytes, uncompressed.
        sha256: The SHA-256 of its uncompressed content, in hexadecimal.
    """

    name: str
    size: int
    sha256: str


class Source(Protocol):
    """Where files come from; see the module's text."""

    @property
    def label(self) -> str:
        """What messages call the source."""

    def open(self, files: Sequence[File], scratch: Path, /) -> Callable[[File], bytes]:
        """Get ready to give `files`, and return the function that gives one file's uncompressed, unchecked content.

        Args:
            files: The files that will be asked for.
            scratch: An empty folder to work in, removed after the last file.

        Raises:
            SourceError: Nothing can be had here; the returned function raises it too, or `FileError`.
        """


@dataclass(frozen=True)
class Folder:
    """Files that lie in a folder of this machine, as they are or gzipped (then `suffix` is `.gz`)."""

    path: Path
    suffix: str = ""

    @property
    def label(self) -> str:
        """What messages call the source."""
        return f"the folder {self.path}"

    def open(self, _files: Sequence[File], _scratch: Path) -> Callable[[File], bytes]:
        """See `Source.open`."""
        if not self.path.is_dir():
            raise SourceError("there is no such folder")
        return self._get

    def _get(self, file: File) -> bytes:
        content = read_bounded(self.path / f"{file.name}{self.suffix}", file.size + GZIP_OVERHEAD)
        return _gunzip(content, file.size) if self.suffix else content


@dataclass(frozen=True)
class Mirror:
    """Files on the web: `address` (with its closing slash) + the file's name + `suffix`; `.gz` is unpacked."""

    address: str
    suffix: str = ""

    @property
    def label(self) -> str:
        """What messages call the source."""
        return self.address

    def open(self, _files: Sequence[File], _scratch: Path) -> Callable[[File], bytes]:
        """See `Source.open`; whether the server can be reached shows at the first file."""
        return self._get

    def _get(self, file: File) -> bytes:
        address = f"{self.address}{file.name}{self.suffix}"
        try:
            # The address is one of the constants in `sources` or torchvision's: never a user's file: or ftp: address.
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


def read_bounded(path: Path, most: int) -> bytes:
    """Return a file's content.

    Raises:
        FileError: It is not there, is not a file, is longer than `most` bytes, or cannot be read.
    """
    try:
        if not path.exists():
            raise FileError("is not there")
        if not path.is_file():
            raise FileError("is not a file")
        if (size := path.stat().st_size) > most:
            raise FileError(f"has {size} bytes, more than any file of this data set")
        return path.read_bytes()
    except OSError as error:
        raise FileError(f"cannot be read ({error.strerror})") from error


def _gunzip(content: bytes, size: int) -> bytes:
    """Unpack at most one byte more than `size`, which is enough to see that there is too much."""
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        unpacked = unpacker.decompress(content, size + 1)
    except zlib.error as error:
        raise FileError(f"is not a whole gzip file ({error})") from error
    if len(unpacked) > size:
        raise FileError(f"unpacks to more than its {size} bytes")
    if not unpacker.eof:
        raise FileError(f"is a gzip file that breaks off after {len(unpacked)} of {size} bytes")
    return unpacked


def _receive(response: http.client.HTTPResponse, most: int) -> bytes:
    """Return a response's body of at most `most` bytes, within `_DOWNLOAD_SECONDS`."""
    ends = time.monotonic() + _DOWNLOAD_SECONDS
    announced = response.length  # counted down as the body is read; None where the server does not say
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
