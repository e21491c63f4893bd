"""The page: Gradio components around `session`. Nothing but uploaded bytes is read, and nothing leaves the machine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from ..attention.overlay import OPACITY
from ..checkpoints import Classifier
from ..data.images import MAX_PIXELS, ImageError
from .session import READINGS, Session, before_and_after, module_names, open_session, overlay

MAX_FILE_MB = 20
FORGET_AFTER_S = 1800  # a session's masks, and uploaded files
SYSTEM_FONTS = ("system-ui", "sans-serif")  # Gradio's own come from another host
CSS = ".gradio-container { max-width: 1100px !important; margin: auto; }"

class UploadedImage(gr.File):
    """A file that came with the request: an address, or a path of this machine, is refused."""

    is_template = True  # drawn by the page as Gradio's File

    async def async_move_resource_to_block_cache(self, url_or_file_path: Any) -> str | None:
        if "://" in str(url_or_file_path):
            raise gr.Error("Only uploaded files are taken, no addresses.")
        return await super().async_move_resource_to_block_cache(url_or_file_path)
    from collections.abc import Callable, Sequence
    from typing import TYPE_CHECKING, Any, Literal

    from gradio.blocks import Block

    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component

def _refused(error: ImageError) -> gr.Error:
    """The reason without the server's path."""
    reason = str(error).split(": ", 1)[-1]
    return gr.Error(f"This file is not taken: {reason}.", title="No image", duration=None, print_exception=False)

def build_page(model: Classifier, name: str, examples: Sequence[Path] = ()) -> gr.Blocks:
    """The page of one model; see `launch`."""
    modules = module_names(model)
    last = len(modules) - 1

    def classify(path: str | None):
        """A file to session, prediction and pictures; nothing for no file."""
        if path is None:
            return None, None, None, "", []
        try:
            session = open_session(model, Path(path))
        except ImageError as error:
            raise _refused(error) from None
        return session, session.top, *redraw(session, last, next(iter(READINGS)), 0, OPACITY)

    def redraw(session: Session | None, module: int, reading: str, channel: float | None, opacity: float):
        if session is None:
            return None, "", []
        number = int(channel or 0)
        picture, line = overlay(session, int(module), reading, number, opacity)
        return picture, line, before_and_after(session, int(module), reading, number)

    def example(event: gr.SelectData):
        return (*classify(str(examples[event.index])), last, next(iter(READINGS)), OPACITY)

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
                upload = UploadedImage(label=f"Drop an image (up to {MAX_FILE_MB} MB)", elem_id="upload", height=140)
                gallery = gr.Gallery(
                    [str(path) for path in examples],
                    label="or take an example",
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
                reading = gr.Radio(list(READINGS), value=next(iter(READINGS)), label="Reading", elem_id="reading")
                with gr.Row():
                    channel = gr.Number(0, label="Channel", precision=0, minimum=0, elem_id="channel")
                    opacity = gr.Slider(0, 1, value=OPACITY, step=0.05, label="Opacity", elem_id="opacity")
        triple = gr.Gallery(
            label="Before the mask, the mask, after it",
            columns=3,
            height="auto",
            allow_preview=False,
            interactive=False,
            elem_id="triple",
            format="png",
            buttons=[],
        )
        shown = [picture, line, triple]
        upload.change(
            lambda path: (*classify(path), last, next(iter(READINGS)), OPACITY),
            upload,
            [session, classes, *shown, module, reading, opacity],
            api_name="classify",
        )
        gallery.select(example, None, [session, classes, *shown, module, reading, opacity], api_visibility="private")
        controls = [session, module, reading, channel, opacity]
        for control in (module, reading, channel, opacity):
            control.input(redraw, controls, shown, show_progress="hidden", api_visibility="private")
    return page

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

    Uploads are limited to `MAX_FILE_MB` and `MAX_PIXELS`. Raises OSError when the port is taken.
    """
    assert MAX_PIXELS > 0
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
        theme=theme,
        css=CSS,
    )
    print(f"open        {local}   (Ctrl-C ends it)", flush=True)
    if block:
        page.block_thread()
    return local
