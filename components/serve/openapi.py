"""What the routes take and answer, as OpenAPI shows it."""

from typing import Any

from fastapi.routing import APIRoute
from pydantic import BaseModel

from components.core.contents import CENTIMETRES, KILOGRAMS, MOST_PRODUCTS, MOST_QUANTITY, SIDES
from components.serve import v1, v2
from components.serve.fields import FIELDS

_BINARY = {"schema": {"type": "string", "format": "binary"}}


class Error(BaseModel):
    """What every answer with an error holds."""

    error: str
    reason: str


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "model": Error}
    for status, text in {
        400: "The request cannot be read; the error says why and what is accepted",
        403: "Asked by a page of another site",
        404: "No such model or version",
        408: "The body came too slowly",
        413: "Too large, or too many photos",
        415: "A content type or content encoding that is not accepted",
        422: "A parameter of the wrong type",
        503: "As much waits as may wait; see Retry-After",
    }.items()
}
_VERSION_SCHEMA = {"type": "string", "description": "Version of the model that answered"}
PREDICT_ANSWER = {
    "200": {
        "description": "An answer for each photo, in order",
        "content": {
            "application/json": {
                "schema": {
                    "title": "Predictions",
                    "type": "object",
                    "required": ["predictions"],
                    "properties": {
                        "predictions": {
                            "type": "array",
                            "items": {
                                "title": "Answer",
                                "type": "object",
                                "required": [
                                    *(field.name for field in FIELDS if not field.of_record),
                                    v1.VERSION,
                                ],
                                "properties": {
                                    **{field.name: field.schema for field in FIELDS},
                                    v1.VERSION: _VERSION_SCHEMA,
                                },
                            },
                        }
                    },
                }
            }
        },
    }
}
INFER_ANSWER = {
    "200": {
        "description": "The outputs, with a row for each photo; in binary where the request asks for it",
        "content": {
            "application/json": {
                "schema": {
                    "title": "InferenceResponse",
                    "type": "object",
                    "required": ["id", "model_name", v1.VERSION, "outputs"],
                    "properties": {
                        "id": {"type": "string"},
                        "model_name": {"type": "string"},
                        v1.VERSION: _VERSION_SCHEMA,
                        "outputs": {
                            "type": "array",
                            "items": {
                                "title": "OutputTensor",
                                "type": "object",
                                "required": ["name", "datatype", "shape"],
                                "properties": {
                                    "name": {"type": "string", "enum": [field.name for field in FIELDS]},
                                    "datatype": {
                                        "type": "string",
                                        "enum": sorted({field.datatype for field in FIELDS}),
                                    },
                                    "shape": {"type": "array", "items": {"type": "integer"}},
                                    "data": {
                                        "type": "array",
                                        "items": {"anyOf": [{"type": "number"}, {"type": "null"}]},
                                    },
                                    "parameters": {"type": "object"},
                                },
                            },
                        },
                    },
                }
            },
            "application/octet-stream": _BINARY,
        },
    }
}
_QUANTITY_SCHEMA = {"type": "integer", "minimum": 0, "maximum": 10**9}
_MEASURE_SCHEMA = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "object"}, {"type": "null"}]}
_RECORD_SCHEMA = {
    "title": "BinRecord",
    "description": "What is on record: a quantity, products, or both; the answer then says whether the bin holds it",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "quantity": {"anyOf": [{"type": "integer", "minimum": 0, "maximum": MOST_QUANTITY}, {"type": "null"}]},
        "products": {
            "anyOf": [
                {
                    "type": "array",
                    "maxItems": MOST_PRODUCTS,
                    "items": {
                        "type": "object",
                        "required": ["quantity"],
                        "properties": {
                            "quantity": {"type": "integer", "minimum": 0, "maximum": MOST_QUANTITY},
                            **dict.fromkeys([*SIDES, "weight"], _MEASURE_SCHEMA),
                            "unit": {"type": "string", "enum": list(CENTIMETRES)},
                            "weight_unit": {"type": "string", "enum": list(KILOGRAMS)},
                        },
                    },
                },
                {"type": "null"},
            ]
        },
    },
}
QUANTITY_PARAMETER = {
    "name": v1.QUANTITY,
    "in": "query",
    "required": False,
    "description": "The quantity on record; the answer then says whether the bin holds it",
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
            "schema": {
                "type": "object",
                "properties": {
                    "file": {"type": "array", "items": _BINARY["schema"]},
                    v1.QUANTITY: {"type": "array", "items": _QUANTITY_SCHEMA},
                },
            }
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
                                v1.QUANTITY: {"anyOf": [_QUANTITY_SCHEMA, {"type": "null"}]},
                                v1.RECORD: {"anyOf": [_RECORD_SCHEMA, {"type": "null"}]},
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
                                "name": {"type": "string", "enum": [v2.IMAGE, v1.QUANTITY, v1.RECORD]},
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


def operation_id(route: APIRoute) -> str:
    """The name of an operation in clients that are generated: that of the route's function, once for each address."""
    return f"v1_{route.name}" if route.path.startswith("/v1/") and route.name != "predict" else route.name
