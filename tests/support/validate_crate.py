"""Validate an RO-Crate without a network: roc-validator, and the JSON-LD context of rocrate.

Run by the Python of roc-validator, whose dependencies are not those of this package:

    python validate_crate.py CRATE.zip CACHE

Prints the issues, one line each. rocrate ships the context of version 1.3 and the crate names that
of version 1.1; the terms that differ are replaced.
"""

import importlib.resources
import io
import json
import sys
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests_cache import CachedSession
from rocrate_validator import models, services

CONTEXT = "https://w3id.org/ro/crate/1.1/context"

TERMS = {
    "ComputationalWorkflow": "https://bioschemas.org/ComputationalWorkflow",
    "FormalParameter": "https://bioschemas.org/FormalParameter",
    "input": "https://bioschemas.org/ComputationalWorkflow#input",
    "output": "https://bioschemas.org/ComputationalWorkflow#output",
}
"""Terms of version 1.1 that have other names in version 1.3."""


class ShippedContext(HTTPAdapter):
    """Answers every request with the context that rocrate ships."""

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        """Return the context."""
        shipped = importlib.resources.files("rocrate") / "data" / "ro-crate.jsonld"
        context = json.loads(shipped.read_text())
        context["@context"] |= TERMS
        content = json.dumps(context).encode()
        headers = {"Content-Type": "application/ld+json"}
        raw = urllib3.HTTPResponse(io.BytesIO(content), headers, 200, preload_content=False)
        return self.build_response(request, raw)


def main() -> None:
    """Validate a crate, requirements and recommendations."""
    crate, cache_path = sys.argv[1:]
    session = CachedSession(cache_path, backend="sqlite", expire_after=-1)
    session.mount("https://", ShippedContext())
    session.get(CONTEXT).raise_for_status()
    settings = services.ValidationSettings(
        rocrate_uri=models.URI(crate),
        profile_identifier="workflow-run-crate",
        requirement_severity=models.Severity.RECOMMENDED,
        offline=True,
        cache_path=cache_path,
    )
    result = services.validate(settings)
    for issue in result.get_issues():
        print(issue.severity.name, issue.check.identifier, " ".join(str(issue.message).split()))


main()
