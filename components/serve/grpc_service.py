"""The gRPC side of the V2 protocol, on KServe's servicer, which it corrects where image files do not fit in."""

import logging
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from components.serve import v2
from components.serve.http import count_photos, counted, loaded_model
from components.serve.kserve_lean import (
    InferenceServicer,
    ModelNotFound,
    ModelNotReady,
    grpc_predict_v2_pb2,
    grpc_predict_v2_pb2_grpc,
)
from components.serve.limits import HttpLimits
from components.serve.metrics import REJECTED
from components.serve.model import Models
from components.serve.refusal import Refusal

logger = logging.getLogger(__name__)
_STATUS = {
    404: grpc.StatusCode.NOT_FOUND,
    503: grpc.StatusCode.UNAVAILABLE,
}


class Interceptor(aio.ServerInterceptor):
    """Turns refusals into gRPC statuses, and everything unforeseen into INTERNAL without details."""

    async def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        """Wrap a method's handler."""
        if _is_change(details.method):
            return None  # the method is not implemented
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler

        async def guarded(message: bytes, context: aio.ServicerContext) -> Any:
            try:
                return await handler.unary_unary(handler.request_deserializer(message), context)
            except DecodeError:
                REJECTED.labels("bad_protobuf").inc()
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "The message cannot be read.")
            except Refusal as refusal:
                REJECTED.labels(refusal.reason).inc()
                status = _STATUS.get(refusal.status, grpc.StatusCode.INVALID_ARGUMENT)
                await context.abort(status, refusal.message)
            except ModelNotFound as error:
                REJECTED.labels("unknown_model").inc()
                await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
            except ModelNotReady as error:
                await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
            except Exception:
                logger.exception("a call failed")
                await context.abort(grpc.StatusCode.INTERNAL, "The server failed; its log says why.")

        return grpc.unary_unary_rpc_method_handler(guarded, None, handler.response_serializer)


class Servicer(InferenceServicer):
    """KServe's servicer, with image files in BYTES tensors."""

    def __init__(self, dataplane: Any, extension: Any, models: Models, max_photos: int) -> None:
        super().__init__(dataplane, extension)
        self._models = models
        self._max_photos = max_photos

    async def ModelInfer(self, request: Any, context: aio.ServicerContext) -> Any:  # noqa: N802, ARG002
        """Count photos."""
        with counted("grpc"):
            model = loaded_model(self._models, request.model_name, request.model_version or None)
            parsed = v2.V2Request(
                request.id,
                v2.photos_from_tensors(_tensors(request), self._max_photos, base64_values=False),
                tuple(v2.WantedOutput(output.name, binary=True) for output in request.outputs),
            )
            answers = await count_photos(model, parsed.photos)
            outputs = v2.outputs_of(answers, parsed.outputs)
        reply = grpc_predict_v2_pb2.ModelInferResponse(
            model_name=request.model_name, model_version=model.version, id=parsed.id
        )
        for output in outputs:
            reply.outputs.add(name=output.name, datatype=output.datatype, shape=output.values.shape)
            reply.raw_output_contents.append(output.values.tobytes())
        return reply

    async def ModelMetadata(self, request: Any, context: aio.ServicerContext) -> Any:  # noqa: N802, ARG002
        """Name, versions, inputs and outputs of a model."""
        model = loaded_model(self._models, request.name, request.version or None)
        return grpc_predict_v2_pb2.ModelMetadataResponse(
            name=request.name,
            versions=[model.version],
            platform=f"onnx_{model.counter.runtime.name}",
            inputs=model.get_input_types(),
            outputs=model.get_output_types(),
        )


def _is_change(method: str) -> bool:
    """Whether a method would load or unload models, which is nobody's business on this port."""
    return method.rpartition("/")[2].startswith("RepositoryModel")


def _tensors(request: Any) -> list[v2.Tensor]:
    raw = list(request.raw_input_contents)
    if raw and len(raw) != len(request.inputs):
        raise Refusal(400, "bad_binary", f"{len(request.inputs)} inputs come with {len(raw)} raw contents.")
    tensors = []
    for place, entry in enumerate(request.inputs):
        shape = tuple(entry.shape)
        if raw:
            tensors.append(v2.Tensor(entry.name, entry.datatype, shape, raw=raw[place]))
            continue
        contents = entry.contents
        values = {
            "BYTES": contents.bytes_contents,
            "INT32": contents.int_contents,
            "INT64": contents.int64_contents,
        }.get(entry.datatype, ())
        tensors.append(v2.Tensor(entry.name, entry.datatype, shape, values=list(values)))
    return tensors


class GrpcServer:
    """A gRPC server on an address of its own."""

    def __init__(self, servicer: Servicer, address: str, limits: HttpLimits) -> None:
        self._address = address
        self._server = aio.server(
            interceptors=(Interceptor(),),
            options=[
                ("grpc.max_receive_message_length", limits.body_bytes),
                ("grpc.so_reuseport", 0),  # a taken port is an error, not a second server on it
            ],
            maximum_concurrent_rpcs=256,
        )
        grpc_predict_v2_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, self._server)

    async def start(self) -> None:
        """Listen until stopped."""
        self._server.add_insecure_port(self._address)
        await self._server.start()
        await self._server.wait_for_termination()

    async def stop(self, grace_seconds: float) -> None:
        """Take no new calls, and wait for those that run."""
        await self._server.stop(grace_seconds)
