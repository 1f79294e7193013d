"""The gRPC side of the V2 protocol, on KServe's servicer, which it corrects where image files do not fit in."""

import logging
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from components.serve import v2
from components.serve.http import Health, count_photos, counted, loaded_model, server_metadata
from components.serve.kserve_lean import (
    InferenceServicer,
    ModelNotFound,
    ModelNotReady,
    grpc_predict_v2_pb2,
    grpc_predict_v2_pb2_grpc,
)
from components.serve.limits import Memory, RequestLimits
from components.serve.metrics import REJECTED
from components.serve.model import Models
from components.serve.reading import Readers
from components.serve.refusal import Refusal, bad_request
from components.serve.wire import check_infer_request

logger = logging.getLogger(__name__)
_STATUS = {
    404: grpc.StatusCode.NOT_FOUND,
    503: grpc.StatusCode.UNAVAILABLE,
}
_STREAMS = 128  # calls of one connection at once


class Interceptor(aio.ServerInterceptor):
    """Receives messages within limits of memory and time, turns refusals into gRPC statuses, and everything unforeseen
    into INTERNAL without details.
    """

    def __init__(self, limits: RequestLimits, memory: Memory) -> None:
        self._memory = memory
        self._readers = Readers(limits.body_seconds)

    async def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        """Wrap a method's handler in one of a stream of messages, which lets us say when the one message is read."""
        if _is_change(details.method):
            return None  # the method is not implemented
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler

        async def guarded(_: Any, context: aio.ServicerContext) -> Any:
            try:
                with self._memory.share() as share:
                    message = await self._readers.read(context)
                    if message is aio.EOF:
                        raise bad_request("bad_protobuf", "The call holds no message.")
                    share.hold(2 * len(message))  # it, and what it is parsed to
                    if details.method.endswith("/ModelInfer"):
                        check_infer_request(message)
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
            except aio.AbortError:
                raise
            except Exception:
                logger.exception("a call failed")
                await context.abort(grpc.StatusCode.INTERNAL, "The server failed; its log says why.")

        return grpc.stream_unary_rpc_method_handler(guarded, None, handler.response_serializer)


class Servicer(InferenceServicer):
    """KServe's servicer, with image files in BYTES tensors."""

    def __init__(self, dataplane: Any, extension: Any, models: Models, health: Health, max_photos: int) -> None:
        super().__init__(dataplane, extension)
        self._models = models
        self._health = health
        self._max_photos = max_photos

    async def ServerMetadata(self, request: Any, context: aio.ServicerContext) -> Any:  # noqa: N802, ARG002
        """Name, version and extensions of the server."""
        return grpc_predict_v2_pb2.ServerMetadataResponse(**server_metadata())

    async def ServerReady(self, request: Any, context: aio.ServicerContext) -> Any:  # noqa: N802, ARG002
        """Whether the server takes calls."""
        return grpc_predict_v2_pb2.ServerReadyResponse(ready=not self._health.is_draining)

    async def ModelReady(self, request: Any, context: aio.ServicerContext) -> Any:  # noqa: N802, ARG002
        """Whether a model takes calls."""
        model = self._models.model(request.name, request.version or None)
        return grpc_predict_v2_pb2.ModelReadyResponse(ready=model.ready and not self._health.is_draining)

    async def ModelInfer(self, request: Any, context: aio.ServicerContext) -> Any:  # noqa: N802, ARG002
        """Count photos."""
        with counted("grpc"):
            model = loaded_model(self._models, request.model_name, request.model_version or None)
            parsed = v2.V2Request(
                request.id,
                v2.photos_from_tensors(_tensors(request), self._max_photos, base64_values=False),
                tuple(v2.WantedOutput(output.name) for output in request.outputs),
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
    if len(request.inputs) > 2:
        raise bad_request("bad_inputs", f"The request has {len(request.inputs)} inputs, and may have two.")
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

    def __init__(self, servicer: Servicer, address: str, limits: RequestLimits, memory: Memory) -> None:
        self._address = address
        self._server = aio.server(
            interceptors=(Interceptor(limits, memory),),
            options=[
                ("grpc.max_receive_message_length", limits.body_bytes),
                ("grpc.so_reuseport", 0),  # a taken port is an error, not a second server on it
                ("grpc.max_concurrent_streams", _STREAMS),
                # A stream's window stays as small as it begins until its message is read (`reading.py`).
                ("grpc.http2.bdp_probe", 0),
                # Clients that keep a connection alive through a gateway ping, some of them every second.
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 500),
                ("grpc.keepalive_permit_without_calls", 1),
            ],
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
