"""The page: Gradio components around `session`. Only uploaded bytes are read, and nothing leaves the machine."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from ..attention.overlay import OPACITY
from ..checkpoints import Classifier
from ..data.images import ImageError
from .guards import bound_history, check_address, middleware, one_line_errors, uploads_only
from .session import Session, before_and_after, module_names, open_session, overlay, reading_labels
from .store import FORGET_AFTER_S, MAX_SESSIONS, SessionStore

MAX_FILE_MB = 20
MAX_WAITING = 32  # calls in the queue; further ones are refused
NOTHING = (None, "", [], "")  # picture and line, then before and after with theirs, without an image
FORGOTTEN = (None, "This image is no longer kept: choose it again.", [], "")
FIRST_READING = "class"
SYSTEM_FONTS = ("system-ui", "sans-serif")  # Gradio's default fonts come from another host
CSS = """
.gradio-container { max-width: 1100px !important; margin: auto; }
/* Gradio's galleries keep 100 px for each picture and 320 px of height: too wide for a phone, and mostly empty */
#examples .grid-container { grid-template-columns: repeat(4, minmax(0, 1fr)) !important; }
#triple .grid-container { grid-template-columns: repeat(3, minmax(0, 1fr)) !important; }
#examples .grid-wrap, #triple .grid-wrap { min-height: 0 !important; max-height: none !important; }
#upload { padding-top: 1.2rem; }
"""


def _warn_refused(error: ImageError) -> None:
    """Show the reason, without the server's path."""
    reason = str(error).split(": ", 1)[-1]
    gr.Warning(f"This file was not accepted: {reason}.", title="No image", duration=None)


Answer = tuple[Any, ...]  # one value per component


@dataclass(frozen=True)
class Answers:
    """What the page shows when an image arrives or a control changes."""

    model: Classifier
    examples: Sequence[Path]
    least: float | None = None
    store: SessionStore = field(default_factory=SessionStore)

    @property
    def last_module(self) -> int:
        return len(module_names(self.model)) - 1

    def uploaded(self, path: str | None) -> Answer:
        """Session, prediction, verdict, pictures (`redrawn`), then the initial module, reading and opacity."""
        return *self._classified(path), self.last_module, FIRST_READING, OPACITY

    def example(self, event: gr.SelectData) -> Answer:
        if not isinstance(event.index, int) or not 0 <= event.index < len(self.examples):
            raise gr.Error("No such example.", print_exception=False)
        return self.uploaded(str(self.examples[event.index]))

    def redrawn(self, token: str | None, module: float, reading: str, channel: float | None, opacity: float) -> Answer:
        """Picture and line, then before and after with theirs; nothing without an image."""
        if token is None:
            return NOTHING
        if (session := self.store.get(token)) is None:
            return FORGOTTEN
        if not all(isinstance(v, int | float) and math.isfinite(v) for v in (module, channel or 0, opacity)):
            raise gr.Error("Module, channel and opacity are numbers.", print_exception=False)
        return self._drawn(session, int(module), reading, int(channel or 0), opacity)

    def _drawn(self, session: Session, module: int, reading: str, channel: int, opacity: float) -> Answer:
        picture, line = overlay(session, module, reading, channel, opacity)
        return picture, line, *before_and_after(session, module, reading, channel)

    def _classified(self, path: str | None) -> Answer:
        if path is None:
            return None, None, "", *NOTHING
        try:
            session = open_session(self.model, Path(path), least=self.least)
        except ImageError as error:
            _warn_refused(error)
            return None, None, "", *NOTHING
        pictures = self._drawn(session, self.last_module, FIRST_READING, 0, OPACITY)
        return self.store.keep(session), session.top, session.verdict, *pictures


def _introduction(model: Classifier, name: str) -> str:
    what = "labels, any number per image" if model.card.confidence.several else "classes"
    return (
        f"# Where {name} looks\n{len(model.classes)} {what}, {model.preprocess.image_size} px. "
        "An attention mask scales features, position by position. It shows which features the network uses; "
        "by itself it does not explain the choice of class."
    )


def _inputs(examples: Sequence[Path]) -> tuple[gr.File, gr.Gallery]:
    upload = uploads_only(gr.File(label=f"Drop an image (up to {MAX_FILE_MB} MB)", elem_id="upload", height=160))
    if examples:
        gr.Markdown("or choose an example:")
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
    return upload, gallery


def _overlay() -> tuple[gr.Image, gr.Markdown]:
    picture = gr.Image(
        label="Mask on the image", format="png", interactive=False, elem_id="overlay", height=420, buttons=[]
    )
    return picture, gr.Markdown(elem_id="line")


def _controls(last: int) -> tuple[gr.Slider, gr.Radio, gr.Number, gr.Slider]:
    """Module (0 to ``last``), reading, channel, opacity."""
    module = gr.Slider(
        0, max(last, 1), value=last, step=1, label="Attention module, from low to high level", elem_id="module"
    )
    reading = gr.Radio(reading_labels(), value=FIRST_READING, label="Reading", elem_id="reading")
    with gr.Row():
        channel = gr.Number(0, label="Channel", precision=0, minimum=0, elem_id="channel")
        opacity = gr.Slider(0, 1, value=OPACITY, step=0.05, label="Opacity", elem_id="opacity")
    return module, reading, channel, opacity


def _before_and_after() -> tuple[gr.Gallery, gr.Markdown]:
    title = "Before the mask, the mask, after it"
    gr.Markdown(f"### {title}")
    triple = gr.Gallery(
        label=title,
        show_label=False,
        columns=3,
        height="auto",
        allow_preview=False,
        interactive=False,
        elem_id="triple",
        format="png",
        buttons=[],
    )
    return triple, gr.Markdown(elem_id="about")


def build_page(model: Classifier, name: str, examples: Sequence[Path] = (), *, least: float | None = None) -> gr.Blocks:
    """The page for one model; see `launch`."""
    answers = Answers(model, examples, least)
    with gr.Blocks(
        title=f"Where {name} looks", analytics_enabled=False, delete_cache=(FORGET_AFTER_S, FORGET_AFTER_S)
    ) as page:
        gr.Markdown(_introduction(model, name))
        session = gr.State(None, time_to_live=FORGET_AFTER_S)
        with gr.Row():
            with gr.Column(scale=1):
                upload, gallery = _inputs(examples)
                one_class = not model.card.confidence.several  # the heading is the first class
                classes = gr.Label(label="Prediction", num_top_classes=5, elem_id="classes", show_heading=one_class)
                verdict = gr.Markdown(elem_id="verdict")
            with gr.Column(scale=2):
                picture, line = _overlay()
                module, reading, channel, opacity = controls = _controls(answers.last_module)
        triple, about = _before_and_after()

        shown = [picture, line, triple, about]
        anew = [session, classes, verdict, *shown, module, reading, opacity]
        upload.change(answers.uploaded, upload, anew, api_name="classify")
        gallery.select(answers.example, None, anew, api_visibility="private")
        for control in controls:
            control.input(
                answers.redrawn,
                [session, module, reading, channel, opacity],
                shown,
                show_progress="hidden",
                api_visibility="private",
            )
    return page


def launch(
    model: Classifier,
    name: str,
    *,
    examples: Sequence[Path] = (),
    least: float | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    block: bool = True,
    debug: bool = False,
) -> str:
    """Serve the page and return its address. With ``block``, serve until Ctrl-C.

    A prediction below the probability ``least`` is called unsure. Uploads are limited to `MAX_FILE_MB`, images to what
    `read_image` allows. A request that fails is one line on stderr, with ``debug`` a traceback.

    Raises UserError for a host that is not an address of this machine, or a port that is in use.
    """
    check_address(host, port)
    if not debug:
        one_line_errors()
    theme = gr.themes.Soft(primary_hue="blue", font=SYSTEM_FONTS, font_mono=("ui-monospace", "monospace"))
    page = build_page(model, name, examples, least=least)
    page.queue(max_size=MAX_WAITING, api_open=False)  # no call goes past the queue, its limit and its errors
    bound_history(page._queue)
    _, local, _ = page.launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        max_file_size=f"{MAX_FILE_MB}mb",
        ssr_mode=False,
        state_session_capacity=MAX_SESSIONS,
        footer_links=[],
        app_kwargs={"middleware": middleware(host)},
        theme=theme,
        css=CSS,
    )
    print(f"open        {local}   (Ctrl-C to stop)", flush=True)
    if block:
        page.block_thread()
    return local
