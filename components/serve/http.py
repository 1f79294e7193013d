"""The HTTP routes: KServe's own where they do, ours where those fall short, and the page.

KServe's V1 route refuses application/octet-stream and charset parameters, its V2 route cannot read image files in
binary tensors, and both parse bodies in the event loop.
"""

import asyncio
from collections.abc import Coroutine
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, RedirectResponse, Response
from fastapi.routing import APIRouter
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from components.core.contents import BinRecord
from components.serve import v1, v2
from components.serve.answers import Answer, Photo
from components.serve.guard import SHARE, error_response
from components.serve.kserve_lean import (
    DataPlane,
    ModelNotFound,
    ModelNotReady,
    V1Endpoints,
    V2Endpoints,
    metrics_handler,
)
from components.serve.limits import RequestLimits, Share
from components.serve.metrics import REQUESTS
from components.serve.model import BinCounter, Models
from components.serve.openapi import (
    ERRORS,
    INFER_ANSWER,
    INFER_BODY,
    PREDICT_ANSWER,
    PREDICT_BODY,
    QUANTITY_PARAMETER,
    operation_id,
)
from components.serve.refusal import Refusal, bad_request, overloaded, stopping

PAGE = Path(__file__).parent / "page"
_Result = TypeVar("_Result")


class Health(Protocol):
    """Whether the server should get requests."""

    @property
    def is_draining(self) -> bool:
        """True from the moment the server was asked to stop."""


class Routes:
    """The routes, over the model that is served."""

    def __init__(self, models: Models, health: Health, max_photos: int, limits: RequestLimits) -> None:
        self._models = models
        self._health = health
        self._max_photos = max_photos
        self._limits = limits

    def install(self, app: FastAPI, dataplane: DataPlane) -> None:
        """Put the routes into the application."""
        stock_v1, stock_v2 = V1Endpoints(dataplane), V2Endpoints(dataplane)
        predict = {"requestBody": PREDICT_BODY, "parameters": [QUANTITY_PARAMETER], "responses": PREDICT_ANSWER}
        infer = {"requestBody": INFER_BODY, "responses": INFER_ANSWER}
        model, version = "/v2/models/{model_name}", "/v2/models/{model_name}/versions/{model_version}"
        router = APIRouter(responses=ERRORS, generate_unique_id_function=operation_id)
        router.add_api_route("/", dataplane.live, include_in_schema=False)
        router.add_api_route("/metrics", metrics_handler, include_in_schema=False)
        router.add_api_route("/v1/models", stock_v1.models)
        router.add_api_route("/v1/models/{model_name}:predict", self.predict, methods=["POST"], openapi_extra=predict)
        router.add_api_route("/v1/models/{model_name}", self.model_ready)
        router.add_api_route("/v2", self.server_metadata)
        router.add_api_route("/v2/health/live", stock_v2.live)
        router.add_api_route("/v2/health/ready", self.server_ready)
        router.add_api_route("/v2/models", stock_v2.models)
        router.add_api_route(model, self.metadata)
        router.add_api_route(version, self.metadata_of_version)
        router.add_api_route(f"{model}/ready", self.model_ready)
        router.add_api_route(f"{version}/ready", self.version_ready)
        router.add_api_route(f"{model}/infer", self.infer, methods=["POST"], openapi_extra=infer)
        router.add_api_route(f"{version}/infer", self.infer_version, methods=["POST"], openapi_extra=infer)
        router.add_api_route("/ui", self.page, include_in_schema=False)
        router.add_api_route("/ui/", self.to_page, include_in_schema=False)
        router.add_api_route("/ui/{name}", self.page, include_in_schema=False)
        app.include_router(router)
        app.router.redirect_slashes = False  # an absolute address, which behind TLS would lead to a bare one
        app.add_exception_handler(ClientDisconnect, _left)
        app.add_exception_handler(Refusal, _refused)
        app.add_exception_handler(ModelNotFound, _not_found)
        app.add_exception_handler(ModelNotReady, _not_ready)
        app.add_exception_handler(HTTPException, _http_error)
        app.add_exception_handler(Exception, _failed)

    async def predict(self, model_name: str, request: Request) -> Response:
        """Count the items in photos: an image file as the body, a form with files, or JSON with base64."""
        with counted("v1"):
            model = loaded_model(self._models, model_name)
            photos = await self._v1_photos(request, model)
            answers = await _unless_left(request, count_photos(model, photos))
            return Response(v1.encode(answers, model.version), media_type="application/json")

    async def infer(self, model_name: str, request: Request) -> Response:
        """Count the items in photos by the Open Inference Protocol: JSON, or JSON and binary tensors."""
        return await self._infer(request, model_name)

    async def infer_version(self, model_name: str, model_version: str, request: Request) -> Response:
        """The same, by the version of the model that is named."""
        return await self._infer(request, model_name, model_version)

    async def _infer(self, request: Request, model_name: str, model_version: str | None = None) -> Response:
        with counted("v2"):
            model = loaded_model(self._models, model_name, model_version)
            for name in request.query_params:
                raise bad_request("unknown_parameter", f"There is no parameter {name!r:.60}; inputs hold everything.")
            with model.counter.receiving():
                body = await request.body()
                json_length = request.headers.get(v2.JSON_LENGTH_HEADER)
                with _share(request).more(2 * len(body)):
                    parsed = await asyncio.to_thread(
                        v2.request_from_http, body, json_length, self._max_photos, self._limits.json_parts
                    )
            answers = await _unless_left(request, count_photos(model, parsed.photos))
            encoded = v2.encode(parsed, answers, model_name, model.version)
            if encoded.json_length is None:
                return Response(encoded.body, media_type="application/json")
            headers = {v2.JSON_LENGTH_HEADER: str(encoded.json_length)}
            return Response(encoded.body, headers=headers, media_type="application/octet-stream")

    async def _v1_photos(self, request: Request, model: BinCounter) -> list[Photo]:
        names = [name for name, _ in request.query_params.multi_items()]
        v1.check_names(names, "parameter")
        if len(names) > 1:
            raise bad_request("bad_quantity", f"Give {v1.QUANTITY} once in the address.")
        quantity = v1.quantity_from_text(request.query_params.get(v1.QUANTITY))
        kind = v1.media_type(request.headers.get("content-type", ""))
        if not v1.is_raw(kind) and kind not in (v1.JSON_TYPE, v1.FORM_TYPE):
            raise Refusal(415, "media_type", f"Content-Type {kind!r:.80} is not accepted; send {v1.ACCEPTED}.")
        with model.counter.receiving():
            if kind == v1.FORM_TYPE:
                photos = await self._form_photos(request)
            else:
                body = await request.body()
                if v1.is_raw(kind) and not (kind in v1.RAW_TYPES and v1.is_json(body)):
                    return [Photo(body, v1.record_of(quantity))]
                with _share(request).more(2 * len(body)):
                    photos = await asyncio.to_thread(
                        v1.photos_from_json, body, self._max_photos, self._limits.json_parts
                    )
        if quantity is not None:
            photos = [Photo(photo.data, photo.record or BinRecord(quantity)) for photo in photos]
        return photos

    async def _form_photos(self, request: Request) -> list[Photo]:
        # The limits are of the same size: a quantity for every file.
        most = self._max_photos + 1
        try:
            parser = _FormInMemory(request.headers, request.stream(), max_files=most, max_fields=most)
            form = await parser.parse()
        except MultiPartException as error:
            raise bad_request("bad_form", f"The form cannot be read ({error.message}); send {v1.ACCEPTED}.") from error
        try:
            with _share(request).more(_share(request).held):
                return await v1.FormPhotos.of(form, self._max_photos).photos()
        finally:
            await form.close()

    async def server_metadata(self) -> dict[str, Any]:
        """Name, version and extensions of the server."""
        return server_metadata()

    async def server_ready(self) -> dict[str, bool]:
        """Whether the server takes requests."""
        if self._health.is_draining:
            raise stopping()
        return {"ready": True}

    async def metadata(self, model_name: str) -> dict[str, Any]:
        """Name, versions, inputs and outputs of a model."""
        return self._metadata(model_name)

    async def metadata_of_version(self, model_name: str, model_version: str) -> dict[str, Any]:
        """The same, of the version of the model that is named."""
        return self._metadata(model_name, model_version)

    def _metadata(self, model_name: str, model_version: str | None = None) -> dict[str, Any]:
        model = loaded_model(self._models, model_name, model_version)
        return {
            "name": model_name,
            "versions": [model.version],
            "platform": f"onnx_{model.counter.runtime.name}",
            "inputs": model.get_input_types(),
            "outputs": model.get_output_types(),
        }

    async def model_ready(self, model_name: str) -> dict[str, Any]:
        """Whether a model takes requests."""
        if ":" in model_name:  # of a verb, which wants POST; a model's name holds no colon
            raise HTTPException(405, headers={"Allow": "POST"})
        model = self._models.model(model_name)
        if not model.ready or self._health.is_draining:
            raise ModelNotReady(model_name)
        return {"name": model_name, "ready": True}

    async def version_ready(self, model_name: str, model_version: str) -> dict[str, Any]:
        """Whether a version of a model takes requests."""
        return {"name": model_name, "ready": loaded_model(self._models, model_name, model_version).ready}

    async def to_page(self) -> Response:
        """The page has one address, which the names of its parts are relative to."""
        return RedirectResponse("../ui")

    async def page(self, name: str = "index.html") -> Response:
        """The page for people, and its parts."""
        if name not in {path.name for path in PAGE.iterdir()}:
            raise HTTPException(404)
        return FileResponse(PAGE / name, headers=_PAGE_HEADERS)


class _FormInMemory(MultiPartParser):
    """A form's files are bounded as bodies are, and need no temporary folder that can be written."""

    spool_max_size = 2**40


def _share(request: Request) -> Share:
    """What the request holds of the server's memory."""
    share = request.scope[SHARE]
    assert isinstance(share, Share)
    return share


async def _unless_left(request: Request, work: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of some work, which is cancelled when the client closes its connection. Raises ClientDisconnect."""
    working = asyncio.create_task(work)
    leaving = asyncio.ensure_future(request.receive())  # after a body that was read: the end
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


def server_metadata() -> dict[str, Any]:
    """What the V2 protocol says of a server."""
    return {"name": "bin-counter", "version": version("kserve"), "extensions": ["binary_tensor_data"]}


def loaded_model(models: Models, name: str, version: str | None = None) -> BinCounter:
    """A model that can take a request now. Raises ModelNotReady and Refusal."""
    model = models.model(name, version)
    if not model.ready:
        raise ModelNotReady(name)
    if model.counter.is_full:
        raise overloaded()
    return model


async def count_photos(model: BinCounter, photos: list[Photo]) -> list[Answer]:
    """Answers to photos, by way of KServe's model call. Raises Refusal."""
    answers, _ = await model(photos)
    return answers


class counted:  # noqa: N801 - used like a function
    """Counts a request by its outcome."""

    def __init__(self, protocol: str) -> None:
        self._protocol = protocol

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if error is None:
            outcome = "answered"
        elif isinstance(error, ClientDisconnect | asyncio.CancelledError):
            outcome = "abandoned"
        elif isinstance(error, Refusal):
            outcome = "overloaded" if error.status == 503 else "refused"
        else:
            outcome = "refused" if isinstance(error, ModelNotFound) else "failed"
        REQUESTS.labels(self._protocol, outcome).inc()


async def _left(_: Request, error: Exception) -> Response:  # noqa: ARG001
    return Response(status_code=499)  # nobody reads it


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return error_response(error)


async def _not_found(_: Request, error: Exception) -> Response:
    return error_response(Refusal(404, "unknown_model", str(error)))


async def _not_ready(_: Request, error: Exception) -> Response:
    return error_response(Refusal(503, "not_ready", str(error), retry_after=1))


async def _failed(_: Request, error: Exception) -> Response:  # noqa: ARG001
    # Uvicorn logs the traceback; the caller gets none of it.
    return error_response(Refusal(500, "failed", "The server failed; its log says why."))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    messages = {
        404: f"There is nothing at {request.url.path[:100]!r}; photos go to /v1/models/<name>:predict.",
        405: f"The method {request.method} is not allowed at {request.url.path[:100]!r}.",
    }
    refusal = Refusal(error.status_code, "bad_request", messages.get(error.status_code, str(error.detail)))
    response = error_response(refusal)
    response.headers.update(error.headers or {})
    return response


# The page loads nothing from elsewhere and may be put in no frame.
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
