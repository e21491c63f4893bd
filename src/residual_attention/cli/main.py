"""``ran COMMAND``: dispatch, help, and the one place where errors become one line and an exit status."""

import os
import sys
import tempfile
import traceback
from importlib import import_module

from ..allocator import keep_freed_memory
from ..errors import UserError
from ..hints import did_you_mean
from ..version import __version__

COMMANDS = {
    "train": "train on digits, CIFAR, ImageNet or a folder of class folders",
    "resume": "go on with a stopped run, bit for bit, or extend it",
    "eval": "error of a trained model on a data set's split",
    "predict": "classes of images, folders or globs",
    "attend": "attention masks over images, per module; --measure tells how good they are",
    "report": "a run's HTML report anew, or several runs compared on one page",
    "reproduce": "the paper's tables, a command each, ours beside the paper's",
    "detect": "an object detector on this backbone, from VOC or COCO data: train, eval, predict",
    "export": "one checked ONNX file, fp32 or int8, with masks on request",
    "demo": "a web page on this machine: drop an image, see its classes and masks",
    "bench": "speed and memory on this machine, beside what else one could use",
    "models": "the network family: parameters, MACs, depth",
}

EXIT_BUG, EXIT_USER_ERROR = 1, 2


def usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: ran COMMAND [ARGUMENT...] [--help]",
            "",
            "Residual Attention Network: an image classifier that shows where it looks.",
            "",
            *lines,
            "",
            "Start with `ran train` (handwritten digits, a few minutes) or `ran train FOLDER`.",
            "`ran COMMAND --help` tells a command's arguments; `ran --version` the version.",
        ]
    )


def fail(message: str) -> int:
    """One line on stderr; the exit status of a user's error."""
    print(f"ran: error: {' '.join(message.split())}", file=sys.stderr)
    return EXIT_USER_ERROR


def _report_bug(error: Exception) -> int:
    """One line on stderr that asks for a report, with the traceback in a file beside it; the exit status of a bug."""
    with tempfile.NamedTemporaryFile("w", prefix="ran-", suffix=".log", delete=False) as file:
        file.write(f"ran {__version__}: {' '.join(sys.argv[1:])}\n")
        traceback.print_exception(error, file=file)
    what = " ".join(f"{type(error).__name__}: {error}".split())
    print(
        f"ran: error: {what} (this is a bug; please report it: ran {__version__}, traceback in {file.name})",
        file=sys.stderr,
    )
    return EXIT_BUG


def _is_out_of_memory(error: BaseException) -> bool:
    """torch's own error, recognised without importing torch."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def _user_message(error: Exception) -> str | None:
    """The line for an error that the user can fix; None for a bug."""
    if _is_out_of_memory(error):
        return "out of memory: lower --batch-size or --image-size"
    if isinstance(error, ModuleNotFoundError):
        return f"this needs the package {error.name}, which is not installed"
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error) if isinstance(error, UserError) else None


def run(command: str, arguments: list[str]) -> int:
    """Call a command's ``main(arguments)`` and turn what it raises into an exit status."""
    debug = "--debug" in arguments
    try:
        keep_freed_memory()
        return import_module(f".{command}", __package__).main(arguments) or 0
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, `head` say, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if (code := getattr(error, "exit_code", None)) is not None:
            print(f"ran: {error}", file=sys.stderr)
            return code
        message = _user_message(error)
        if debug:
            traceback.print_exc()
        return _report_bug(error) if message is None else fail(message)


def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    command, *rest = arguments
    if command == "--version":
        print(f"ran {__version__}")
        return 0
    if command not in COMMANDS:
        return fail(f"no command {command!r}{did_you_mean(command, COMMANDS)}; there are {', '.join(COMMANDS)}")
    return run(command, rest)
