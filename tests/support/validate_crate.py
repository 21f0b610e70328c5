"""Run the public RO-Crate validator where there is no network: `python validate_crate.py CRATE`, in its environment.

The validator fetches the crate's JSON-LD context; the terms of it that a bundle uses are given here instead.
"""

import email.message
import io
import json
import sys
import urllib.request
import urllib.response
from typing import Any

import requests

ADDRESS = "https://w3id.org/ro/crate/1.1/context"
SCHEMA = "http://schema.org/"
TERMS = (
    *("Dataset", "CreativeWork", "CreateAction", "SoftwareApplication", "Organization", "name", "description", "about"),
    *("author", "publisher", "hasPart", "mentions", "license", "datePublished", "encodingFormat", "contentSize"),
    *("isBasedOn", "instrument", "result", "endTime", "version", "softwareVersion"),
)
CONTEXT = json.dumps(
    {
        "@context": {
            **{term: SCHEMA + term for term in TERMS},
            "File": SCHEMA + "MediaObject",
            "conformsTo": "http://purl.org/dc/terms/conformsTo",
        }
    }
).encode()
KIND = "application/ld+json"


class Given(urllib.request.BaseHandler):
    """Answers with the context; there is nothing else."""

    handler_order = 100  # before the one that opens connections

    def https_open(self, request: urllib.request.Request) -> urllib.response.addinfourl:
        """Return the context."""
        if request.full_url != ADDRESS:
            raise OSError(f"no network: {request.full_url}")
        headers = email.message.Message()
        headers["Content-Type"] = KIND
        found = urllib.response.addinfourl(io.BytesIO(CONTEXT), headers, request.full_url, 200)
        found.msg = "OK"  # type: ignore[attr-defined]
        return found


def given(_: requests.Session, method: str, url: str, **__: Any) -> requests.Response:
    """Do as `Given`, for what uses requests."""
    if url != ADDRESS:
        raise OSError(f"no network: {method} {url}")
    found = requests.Response()
    found.status_code, found.url, found._content = 200, url, CONTEXT
    found.headers["Content-Type"] = KIND
    return found


if __name__ == "__main__":
    urllib.request.install_opener(urllib.request.build_opener(Given))
    requests.Session.request = given  # type: ignore[method-assign,assignment]
    from rocrate_validator.cli.main import cli

    how = ["--no-paging", "--skip-availability-check", "--no-cache", "-p", "ro-crate-1.1", "-l", "required"]
    sys.argv = ["rocrate-validator", "validate", *how, sys.argv[1]]
    cli()
