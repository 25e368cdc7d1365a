"""Asks roc-validator about a crate: run by the Python of .venv-peers/crate, FOLDER its argument.

Contexts of JSON-LD are not fetched: the terms of the two vocabularies in use are mapped here.
Prints each fault; exits 1 where there are any.
"""

import sys

from rdflib.plugins.shared.jsonld import context
from rocrate_validator import models, services

CONTEXT = {
    "@vocab": "http://schema.org/",
    "File": "http://schema.org/MediaObject",
    "ComputationalWorkflow": "https://bioschemas.org/ComputationalWorkflow",
    "FormalParameter": "https://bioschemas.org/FormalParameter",
    "conformsTo": {"@id": "http://purl.org/dc/terms/conformsTo", "@type": "@id"},
    "about": {"@id": "http://schema.org/about", "@type": "@id"},
    "sha256": "http://pcdm.org/models#sha256",
}
FETCHING = ("ro-crate-1.1_3.1", "ro-crate-1.1_3.2")
"""Checks that do nothing but fetch the contexts."""


def main() -> int:
    context.Context._fetch_context = lambda *_: {"@context": CONTEXT}
    asked = services.ValidationSettings(
        rocrate_uri=sys.argv[1],
        profile_identifier="workflow-run-crate",
        requirement_severity=models.Severity.REQUIRED,
        skip_checks=list(FETCHING),
    )
    issues = services.validate(asked).get_issues()
    for issue in issues:
        print(f"{issue.check.identifier}: {issue.message}")
    return 1 if issues else 0


if __name__ == "__main__":
    sys.exit(main())
