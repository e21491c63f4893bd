"""The HTTP interface: ``POST /predict``, ``GET /health``, ``GET /model``, ``/docs``; OpenAPI at ``/openapi.json``."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request
from pydantic import BaseModel, Field
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse

from ..classification.predict import Prediction
from ..data.images import ImageError
from ..errors import UserError
from ..version import __version__
from .answering import Answering, named
from .batching import Batching, Overloaded
from .limits import MAX_BODY_MB, MAX_FILE_MB, MAX_IMAGES, Limits, TooLarge, refused

LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")
DECODED_AT_ONCE = 2  # of up to 64 megapixels each
ONLY_THIS_PAGE = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; connect-src 'self'"
)


class Share(BaseModel):
    name: str = Field(alias="class")
    probability: float


class Answer(BaseModel):
    """The answer to one image; or its ``file`` and ``error``."""

    file: str
    error: str | None = None
    name: str | None = Field(None, alias="class", description='the class, or "unsure" below the server\'s threshold')
    probability: float | None = None
    unsure: bool | None = None
    unlike_training: bool | None = None
    labels: list[Share] | None = Field(None, description="of a multi-label model, in place of class and probability")
    top: list[Share] | None = None
    masks: dict[str, str] | None = Field(None, description="by attention module, a PNG file in base64")


class Answers(BaseModel):
    predictions: list[Answer]


class Health(BaseModel):
    status: str
    batches: int
    images: int


class Model(BaseModel):
    model: str
    classes: list[str]
    image_size: int
    temperature: float
    thresholds: dict[str, float] = Field(description="of a multi-label model, by label; empty with one class per image")
    engine: str
    masks: bool
    version: str


FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {
                        "images": {
                            "type": "array",
                            "maxItems": MAX_IMAGES,
                            "items": {"type": "string", "format": "binary"},
                            "description": f"image files of up to {MAX_FILE_MB} MB and 64 megapixels",
                        },
                        "masks": {"type": "boolean", "default": False},
                    },
                }
            }
        },
    },
    "responses": {str(code): {"description": text} for code, text in {
        408: "the body took too long", 413: "too large", 422: "no image could be read", 503: "too many images wait",
    }.items()},
}  # fmt: skip


class _Uploads:
    """The files of one request. Raises HTTPException for what the limits refuse."""

    def __init__(self, form: Any) -> None:
        given = form.getlist("images")
        if not given or not all(isinstance(each, UploadFile) for each in given):
            raise HTTPException(422, "send one or more files as multipart/form-data under the name images")
        if any((each.size or 0) > MAX_FILE_MB * 2**20 for each in given):
            raise HTTPException(413, f"the limit is {MAX_FILE_MB} MB a file")
        self.files: list[UploadFile] = given
        self.names = named([each.filename for each in given])
        self.masks = str(form.get("masks", "false")).lower() in ("true", "1", "on", "yes")


def _plain(found: Prediction, name: str) -> dict[str, Any]:
    answer = found.to_dict()
    del answer["path"]
    return {"file": name, **answer}


class _Service:
    """Answers requests; decodes a few images at a time."""

    def __init__(self, answering: Answering, batching: Batching[Prediction]) -> None:
        self.answering, self.batching = answering, batching
        self.decoding = asyncio.Semaphore(DECODED_AT_ONCE)

    async def answer(self, file: UploadFile, name: str, masks: bool) -> dict[str, Any]:
        async with self.decoding:
            content = await file.read()
            try:
                square, shown = await asyncio.to_thread(self.answering.read, content, name, masks)
            except ImageError as error:
                return {"file": name, "error": str(error).removeprefix(f"{name}: ")}
        answer = _plain(await self.batching.ask(square), name)
        if shown is not None:
            answer["masks"] = await self.batching.alone(lambda: self.answering.masks(shown, square))
        return answer


async def _errors(_request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, Overloaded):
        return refused(503, "too many images wait; try again")
    if isinstance(error, TooLarge):
        return refused(413, f"the limit is {MAX_BODY_MB} MB a request")
    if isinstance(error, TimeoutError):
        return refused(408, "the request took too long to arrive")
    return JSONResponse({"detail": str(error)}, status_code=400)


def build_app(answering: Answering, *, host: str = "127.0.0.1", batch_size: int = 16, wait_s: float = 0.005) -> FastAPI:
    """The application for one model. On a loopback address it answers only requests that name this machine."""
    batching = Batching(answering.classify, batch_size, wait_s)
    service = _Service(answering, batching)

    @contextlib.asynccontextmanager
    async def running(_app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(batching.run())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    guards = [Middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK))] if host in LOOPBACK else []
    app = FastAPI(
        title="ran serve",
        version=__version__,
        description="Classifies images with a Residual Attention Network.",
        lifespan=running,
        middleware=[*guards, Middleware(Limits)],
        docs_url=None,  # FastAPI's pages load scripts from another host
        redoc_url=None,
        exception_handlers=dict.fromkeys((Overloaded, TooLarge, TimeoutError, UserError), _errors),
    )
    _add_routes(app, service)
    return app


def _add_routes(app: FastAPI, service: _Service) -> None:
    model, batching = service.answering.fast, service.batching

    @app.post("/predict", openapi_extra=FORM, response_model=None, responses={200: {"model": Answers}})
    async def predict(request: Request) -> JSONResponse:
        """Classify images; with `masks`, draw each attention module's mask over them."""
        async with request.form(max_files=MAX_IMAGES, max_fields=4, max_part_size=1024) as form:
            uploads = _Uploads(form)
            if uploads.masks and not service.answering.draws:
                raise HTTPException(422, "this model was exported without its masks")
            pairs = zip(uploads.files, uploads.names, strict=True)
            found = await asyncio.gather(*(service.answer(file, name, uploads.masks) for file, name in pairs))
        failed = all("error" in answer for answer in found)
        return JSONResponse({"predictions": list(found)}, status_code=422 if failed else 200)

    @app.get("/health")
    async def health() -> Health:
        """Whether the server answers, and how many batches and images it has."""
        return Health(status="ok", batches=batching.batches, images=batching.images)

    @app.get("/model")
    async def about() -> Model:
        """What is served."""
        return Model(
            model=model.card.model,
            classes=model.classes,
            image_size=model.preprocess.image_size,
            temperature=model.card.confidence.temperature,
            thresholds=model.thresholds,
            engine=getattr(model, "engine", "torch"),
            masks=service.answering.draws,
            version=__version__,
        )

    page = (files("residual_attention.serve") / "docs.html").read_text(encoding="utf-8")

    @app.get("/", include_in_schema=False)
    async def start() -> RedirectResponse:
        return RedirectResponse("/docs")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": ONLY_THIS_PAGE})
