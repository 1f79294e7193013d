"""KServe's model server without what it does not need to serve.

`import kserve` also loads the client for the Kubernetes API with a few hundred model classes, and pandas for converting
tensors to data frames: two thirds of the time until the server is ready, and none of it is used here. So the package is
entered below its `__init__`, and pandas is replaced while KServe is imported; its names occur in annotations only.
Whoever needs all of kserve in the same process imports it before this module, and gets it.
"""

import importlib.util
import sys
import types

if "kserve" not in sys.modules:
    spec = importlib.util.find_spec("kserve")
    assert spec is not None
    sys.modules["kserve"] = importlib.util.module_from_spec(spec)
    pandas_before = sys.modules.get("pandas")
    if pandas_before is None:
        stand_in = types.ModuleType("pandas")
        stand_in.DataFrame = type("DataFrame", (), {})  # type: ignore[attr-defined]
        sys.modules["pandas"] = stand_in
    import kserve.model_server  # noqa: F401

    if pandas_before is None:
        del sys.modules["pandas"]

from kserve.errors import ModelNotFound, ModelNotReady
from kserve.model import Model
from kserve.model_repository import ModelRepository
from kserve.model_server import ModelServer
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.grpc import grpc_predict_v2_pb2, grpc_predict_v2_pb2_grpc
from kserve.protocol.grpc.servicer import InferenceServicer
from kserve.protocol.rest.server import RESTServer, _RefreshingServer, metrics_handler
from kserve.protocol.rest.v1_endpoints import V1Endpoints
from kserve.protocol.rest.v2_endpoints import V2Endpoints

__all__ = [
    "DataPlane",
    "InferenceServicer",
    "Model",
    "ModelNotFound",
    "ModelNotReady",
    "ModelRepository",
    "ModelServer",
    "RESTServer",
    "V1Endpoints",
    "V2Endpoints",
    "_RefreshingServer",
    "grpc_predict_v2_pb2",
    "grpc_predict_v2_pb2_grpc",
    "metrics_handler",
]
