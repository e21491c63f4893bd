"""The page: Gradio components around `session`. Nothing but uploaded bytes is read, and nothing leaves the machine."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import gradio as gr
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse

from ..attention.choices import READINGS
from ..attention.overlay import OPACITY
from ..checkpoints import Classifier
from ..data.images import ImageError
from .session import Session, before_and_after, module_names, open_session, overlay, reading_labels

MAX_FILE_MB = 20
FORGET_AFTER_S = 1800  # a session's masks, and uploaded files
LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")
NOTHING = (None, "", [], "")  # picture, line, and before and after, of no image
ONLY_UPLOADS = "Only uploaded files are taken, no addresses."
SYSTEM_FONTS = ("system-ui", "sans-serif")  # Gradio's own come from another host
CSS = ".gradio-container { max-width: 1100px !important; margin: auto; }"


class NoAddresses:
    """ASGI middleware: the page serves its own files and uploads, and fetches nothing from anywhere for anyone."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and re.search(r"(file|proxy)=[a-z][a-z0-9+.-]*:/", unquote(scope["path"]), re.I):
            await PlainTextResponse("no addresses are taken", status_code=403)(scope, receive, send)
            return
        await self.app(scope, receive, send)


def uploads_only(component: gr.File) -> gr.File:
    """The component, which now refuses an address in the place of an uploaded file. (Gradio refuses local paths.)"""
    keep = component.async_move_resource_to_block_cache

    async def move(url_or_file_path: Any) -> str | None:
        if "://" in str(url_or_file_path):
            raise gr.Error(ONLY_UPLOADS)
        return await keep(url_or_file_path)

    component.async_move_resource_to_block_cache = move  # type: ignore[method-assign]
    return component


def _refuse(error: ImageError) -> None:
    """Tell the reason, without the server's path."""
    reason = str(error).split(": ", 1)[-1]
    gr.Warning(f"This file is not taken: {reason}.", title="No image", duration=None)


def build_page(model: Classifier, name: str, examples: Sequence[Path] = ()) -> gr.Blocks:
    """The page of one model; see `launch`."""
    modules = module_names(model)
    last = len(modules) - 1

    def classify(path: str | None):
        """A file to session, prediction and pictures; nothing for no file."""
        if path is None:
            return None, None, *NOTHING
        try:
            session = open_session(model, Path(path))
        except ImageError as error:
            _refuse(error)
            return None, None, *NOTHING
        return session, session.top, *redraw(session, last, READINGS.default, 0, OPACITY)

    def redraw(session: Session | None, module: int, reading: str, channel: float | None, opacity: float):
        if session is None:
            return NOTHING
        number = int(channel or 0)
        picture, line = overlay(session, int(module), reading, number, opacity)
        return picture, line, *before_and_after(session, int(module), reading, number)

    def example(event: gr.SelectData):
        return (*classify(str(examples[event.index])), last, READINGS.default, OPACITY)

    with gr.Blocks(
        title=f"Where {name} looks", analytics_enabled=False, delete_cache=(FORGET_AFTER_S, FORGET_AFTER_S)
    ) as page:
        gr.Markdown(
            f"# Where {name} looks\n{len(model.classes)} classes, {model.preprocess.image_size} px. "
            "An attention mask weighs up features, position by position; it shows what the network works with, "
            "not by itself why it chose a class."
        )
        session = gr.State(None, time_to_live=FORGET_AFTER_S)
        with gr.Row():
            with gr.Column(scale=1):
                upload = uploads_only(
                    gr.File(label=f"Drop an image (up to {MAX_FILE_MB} MB)", elem_id="upload", height=140)
                )
                if examples:
                    gr.Markdown("or take an example:")
                gallery = gr.Gallery(
                    [str(path) for path in examples],
                    label="Examples",
                    show_label=False,
                    columns=4,
                    height="auto",
                    allow_preview=False,
                    interactive=False,
                    visible=bool(examples),
                    elem_id="examples",
                    buttons=[],
                )
                classes = gr.Label(label="Prediction", num_top_classes=5, elem_id="classes")
            with gr.Column(scale=2):
                picture = gr.Image(
                    label="Mask over the image",
                    format="png",
                    interactive=False,
                    elem_id="overlay",
                    height=420,
                    buttons=[],
                )
                line = gr.Markdown(elem_id="line")
                module = gr.Slider(
                    0, max(last, 1), value=last, step=1, label="Attention module, low to high level", elem_id="module"
                )
                reading = gr.Radio(reading_labels(), value=READINGS.default, label="Reading", elem_id="reading")
                with gr.Row():
                    channel = gr.Number(0, label="Channel", precision=0, minimum=0, elem_id="channel")
                    opacity = gr.Slider(0, 1, value=OPACITY, step=0.05, label="Opacity", elem_id="opacity")
        gr.Markdown("### Before the mask, the mask, after it")
        triple = gr.Gallery(
            label="Before the mask, the mask, after it",
            show_label=False,
            columns=3,
            height="auto",
            allow_preview=False,
            interactive=False,
            elem_id="triple",
            format="png",
            buttons=[],
        )
        about = gr.Markdown(elem_id="about")
        shown = [picture, line, triple, about]
        upload.change(
            lambda path: (*classify(path), last, READINGS.default, OPACITY),
            upload,
            [session, classes, *shown, module, reading, opacity],
            api_name="classify",
        )
        gallery.select(example, None, [session, classes, *shown, module, reading, opacity], api_visibility="private")
        controls = [session, module, reading, channel, opacity]
        for control in (module, reading, channel, opacity):
            control.input(redraw, controls, shown, show_progress="hidden", api_visibility="private")
    return page


def _middleware(host: str) -> list[Middleware]:
    """On a loopback address only requests that name this machine are answered (DNS rebinding)."""
    guards = [Middleware(NoAddresses)]
    if host in LOOPBACK:
        guards.append(Middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK)))
    return guards


def launch(
    model: Classifier,
    name: str,
    *,
    examples: Sequence[Path] = (),
    host: str = "127.0.0.1",
    port: int | None = None,
    block: bool = True,
) -> str:
    """Serve the page; returns its address. With ``block``, until Ctrl-C.

    Uploads are limited to `MAX_FILE_MB`, images to what `read_image` allows. Raises OSError when the port is taken.
    """
    theme = gr.themes.Soft(primary_hue="blue", font=SYSTEM_FONTS, font_mono=("ui-monospace", "monospace"))
    page = build_page(model, name, examples)
    _, local, _ = page.queue(max_size=32).launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        max_file_size=f"{MAX_FILE_MB}mb",
        ssr_mode=False,
        footer_links=[],
        app_kwargs={"middleware": _middleware(host)},
        theme=theme,
        css=CSS,
    )
    print(f"open        {local}   (Ctrl-C ends it)", flush=True)
    if block:
        page.block_thread()
    return local
