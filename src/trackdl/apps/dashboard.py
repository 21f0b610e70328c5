"""Optuna's dashboard for this machine only, a process of `trackdl ui`: python -m trackdl.apps.dashboard PORT.

The dashboard itself accepts any Host header, so a foreign page could read studies by DNS rebinding. Here requests with
a foreign Host header are refused.
"""

import os
import sys
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna_dashboard

from trackdl.studies.store import artifact_store

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def only_for(hosts: set[str], app: Wsgi) -> Wsgi:
    """Return an application that answers 403 unless the request's Host header is one of `hosts`."""

    def checked(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("HTTP_HOST", "").lower() not in hosts:
            start("403 Forbidden", [("Content-Type", "text/plain")])
            return [b"This dashboard answers under 127.0.0.1 and localhost only.\n"]
        return app(environ, start)

    return checked


def main() -> None:
    """Serve the storage of TRACKDL_STORAGE, and the images of its trials, at the given port until terminated."""
    port = int(sys.argv[1])
    hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
    app = only_for(hosts, optuna_dashboard.wsgi(os.environ["TRACKDL_STORAGE"], artifact_store()))
    with make_server("127.0.0.1", port, app, _Server, _Quiet) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
