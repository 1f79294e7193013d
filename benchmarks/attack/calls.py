"""gRPC calls that are wrong: messages that are none, tensors that are not photos, and callers that leave."""

import random
import time
from collections import Counter

import grpc
from tritonclient.grpc import service_pb2 as messages

from components.core.layout import MODEL_NAME

_METHOD = "/inference.GRPCInferenceService/ModelInfer"
_SECONDS = 20.0
# What a caller may be told of a request that is wrong, or that meets a server with too much to do.
_DESERVED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
}
# gRPC itself answers bytes that are no message with INTERNAL.
_OF_NO_MESSAGE = {*_DESERVED, grpc.StatusCode.INTERNAL}


def wrong_calls(port: int, seed: int, until: float, seen: Counter[str], undeserved: Counter[str]) -> None:
    """Call until then, one after the other; statuses that no caller should see are counted."""
    generator = random.Random(seed)  # noqa: S311 - a load, no secret
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        infer = channel.unary_unary(_METHOD)
        while time.monotonic() < until:
            kind = generator.choice(["gRPC bytes", "gRPC tensors", "gRPC cancelled"])
            seen[kind] += 1
            call = infer.future(_message(kind, generator), timeout=_SECONDS)
            if kind == "gRPC cancelled":
                time.sleep(generator.uniform(0, 0.02))
                call.cancel()
                continue
            status = call.code() or grpc.StatusCode.OK
            if status not in (_OF_NO_MESSAGE if kind == "gRPC bytes" else _DESERVED):
                undeserved[f"{status.name} for {kind}"] += 1


def _message(kind: str, generator: random.Random) -> bytes:
    if kind == "gRPC bytes":
        return generator.randbytes(generator.choice([3, 300, 100_000]))
    tensor = messages.ModelInferRequest.InferInputTensor(
        name=generator.choice(["image", "", "quantity"]),
        datatype=generator.choice(["BYTES", "FP32", "INT64"]),
        shape=[generator.choice([0, 1, 3, 2**40, -1])],
        contents=messages.InferTensorContents(bytes_contents=[b"no photo"] * generator.choice([1, 2, 1000])),
    )
    request = messages.ModelInferRequest(model_name=generator.choice([MODEL_NAME, "other"]), inputs=[tensor])
    found: bytes = request.SerializeToString()
    return found
