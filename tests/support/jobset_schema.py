"""The schema of a JobSet (jobset.x-k8s.io/v1alpha2), written down from its API reference: which fields it has.

What its Jobs hold is a Job's, and is validated as one.
"""

from __future__ import annotations

from typing import Any

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_FLAG = {"type": "boolean"}
_NAMES = {"type": "array", "items": _TEXT}
_NAME = {"type": "string", "pattern": "^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$"}


def _object(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


_METADATA = _object(
    name=_NAME,
    namespace=_NAME,
    labels={"type": "object", "additionalProperties": {"type": "string", "maxLength": 63}},
    annotations={"type": "object", "additionalProperties": _TEXT},
)
JOBSET = _object(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "jobset.x-k8s.io/v1alpha2"},
    kind={"const": "JobSet"},
    metadata={**_METADATA, "required": ["name"]},
    spec=_object(
        replicatedJobs={
            "type": "array",
            "minItems": 1,
            "items": _object(
                ("name", "template"),
                name=_NAME,
                groupName=_TEXT,
                replicas=_COUNT,
                template=_object(("spec",), metadata=_METADATA, spec={"type": "object"}),
                dependsOn={"type": "array", "items": _object(("name", "status"), name=_TEXT, status=_TEXT)},
            ),
        },
        network=_object(enableDNSHostnames=_FLAG, subdomain=_TEXT, publishNotReadyAddresses=_FLAG),
        successPolicy=_object(("operator",), operator={"enum": ["All", "Any"]}, targetReplicatedJobs=_NAMES),
        failurePolicy=_object(
            maxRestarts=_COUNT,
            restartStrategy={"enum": ["Recreate", "BlockingRecreate"]},
            rules={"type": "array", "items": {"type": "object"}},
        ),
        startupPolicy=_object(("startupPolicyOrder",), startupPolicyOrder={"enum": ["AnyOrder", "InOrder"]}),
        suspend=_FLAG,
        coordinator={"type": "object"},
        managedBy=_TEXT,
        ttlSecondsAfterFinished=_COUNT,
    ),
)
