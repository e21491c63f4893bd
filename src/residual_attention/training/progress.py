"""Progress output: a live bar on a terminal, plain lines elsewhere, nothing with --json."""

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from ..names import printable
from .duration import duration

LINE_EVERY_S = 60.0  # without a terminal, at most one line a minute within an epoch


def rate_text(images_per_s: float) -> str:
    """Images/s as text: a whole number, or two decimals for a slow run."""
    return f"{images_per_s:.0f}" if images_per_s >= 10 else f"{images_per_s:.2f}"


class ProgressDisplay:
    """Shows loss, error, images/s and the time left during an epoch, and one line at its end."""

    def __init__(
        self,
        *,
        quiet: bool,
        total_steps: int,
        first_step: int = 0,
        budget: str | None = None,
        console: Console | None = None,
    ) -> None:
        self.console = console or Console(stderr=quiet, highlight=False)
        self.quiet = quiet
        self.total_steps = total_steps
        self.budget = "" if budget is None else f" of {budget}"
        self.started, self.first_step = time.perf_counter(), first_step
        self.last_line = self.started
        self.window: list[tuple[float, int]] = []
        self.bar = None
        self.task = None
        if self.console.is_terminal and not quiet:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"))
            self.bar = Progress(*columns, console=self.console, transient=True)

    def __enter__(self) -> "ProgressDisplay":
        if self.bar is not None:
            self.bar.start()
            self.task = self.bar.add_task("training", total=self.total_steps, text="", completed=self.first_step)
        return self

    def __exit__(self, *_exc: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def say(self, text: str) -> None:
        """Print one line, above the bar if there is one."""
        if not self.quiet:
            self.console.print("\n".join(map(printable, text.split("\n"))), markup=False, soft_wrap=True)

    def _rate(self, images: int) -> float:
        """Images/s over the last 20 steps."""
        self.window.append((time.perf_counter(), images))
        self.window = self.window[-21:]
        elapsed = self.window[-1][0] - self.window[0][0]
        return sum(count for _, count in self.window[1:]) / elapsed if elapsed > 0 else 0.0

    def time_left_s(self, step: int) -> float:
        done = step - self.first_step
        return (time.perf_counter() - self.started) / max(1, done) * (self.total_steps - step)

    def step(self, *, epoch: int, epochs: int, step: int, loss: float, figures: str, images: int) -> None:
        """Show that ``step`` optimizer steps are done; ``loss`` and ``figures`` cover the epoch so far."""
        if self.quiet:
            return
        rate = self._rate(images)
        left = f"{duration(self.time_left_s(step))} left{self.budget}"
        text = "  ".join(filter(None, (f"loss {loss:.3f}", figures, f"{rate_text(rate)} images/s", left)))
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=step, description=f"epoch {epoch}/{epochs}", text=text)
        elif time.perf_counter() - self.last_line > LINE_EVERY_S:
            self.last_line = time.perf_counter()
            self.say(f"  step {step}/{self.total_steps}  {text}")
