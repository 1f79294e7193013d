"""What the routes take and answer, as OpenAPI shows it."""

from typing import Any

from components.serve import v1, v2

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_ERROR_SCHEMA = {
    "type": "object",
    "required": ["error", "reason"],
    "properties": {"error": {"type": "string"}, "reason": {"type": "string"}},
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/json": {"schema": _ERROR_SCHEMA}}}
    for status, text in {
        400: "The request cannot be read; the error says why and what is accepted",
        404: "No such model or version",
        408: "The body came too slowly",
        413: "Too large, or too many photos",
        415: "A content type that is not accepted",
        422: "A parameter of the wrong type",
        503: "As much waits as may wait; see Retry-After",
    }.items()
}
_QUANTITY_SCHEMA = {"type": "integer", "minimum": 0, "maximum": 10**9}
QUANTITY_PARAMETER = {
    "name": v1.QUANTITY,
    "in": "query",
    "required": False,
    "description": "The quantity on record; the answer then has mismatch_probability",
    "schema": _QUANTITY_SCHEMA,
}
PREDICT_BODY = {
    "required": True,
    "content": {
        "image/jpeg": _BINARY,
        "image/png": _BINARY,
        "image/webp": _BINARY,
        "application/octet-stream": _BINARY,
        "multipart/form-data": {
            "schema": {"type": "object", "properties": {"file": {"type": "array", "items": _BINARY["schema"]}}}
        },
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["instances"],
                "properties": {
                    "instances": {
                        "type": "array",
                        "minItems": 1,
                        "items": {
                            "type": "object",
                            "required": ["b64"],
                            "additionalProperties": False,
                            "properties": {
                                "b64": {"type": "string", "format": "byte"},
                                v1.QUANTITY: {**_QUANTITY_SCHEMA, "nullable": True},
                            },
                        },
                    }
                },
            }
        },
    },
}
INFER_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["inputs"],
                "properties": {
                    "id": {"type": "string"},
                    "inputs": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["name", "shape", "datatype", "data"],
                            "properties": {
                                "name": {"type": "string", "enum": [v2.IMAGE, v1.QUANTITY]},
                                "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}},
                                "datatype": {"type": "string", "enum": ["BYTES", "INT32", "INT64"]},
                                "data": {"type": "array", "items": {}},
                            },
                        },
                    },
                },
            }
        },
        "application/octet-stream": _BINARY,
    },
}
