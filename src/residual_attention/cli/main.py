"""``ran COMMAND``: dispatch, help, and the one place where errors become one line and an exit status."""

import os
import sys
import tempfile
import traceback
from importlib import import_module

from ..allocator import keep_freed_memory
from ..errors import UserError
from ..hints import did_you_mean
from ..names import one_line
from ..plugins import FLAG, blamed, load_plugin
from ..version import __version__

COMMANDS = {
    "train": "train on digits, CIFAR, ImageNet or your own folder of images",
    "check": "check a data set for copies, suspect labels and unreadable files",
    "resume": "resume a stopped run, bit for bit, or extend a finished one",
    "eval": "evaluate a trained model on a split of a data set",
    "predict": "classify images, folders or globs",
    "attend": "draw attention masks over images, per module; --measure evaluates them",
    "audit": "find shortcuts that a model relies on, such as a watermark",
    "report": "rewrite a run's HTML report, or compare several runs on one page",
    "reproduce": "rerun the paper's tables, one command each, and compare with the published results",
    "detect": "train, evaluate and run object detectors on this backbone",
    "export": "export to a checked ONNX file, a web page or a hub folder",
    "serve": "serve a model over HTTP on this machine",
    "demo": "open a web page on this machine: drop an image, see its classes and masks",
    "bench": "measure speed and memory on this machine, compared with the alternatives",
    "models": "list the networks: parameters, MACs, depth",
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
            "`ran COMMAND --help` lists a command's arguments; `ran --version` prints the version.",
            "`ran COMMAND --plugin MODULE_OR_FILE` adds your own choices to any command.",
        ]
    )


def fail(message: str) -> int:
    """Print one line on stderr; returns the exit status of a user error."""
    print(f"ran: error: {one_line(message)}", file=sys.stderr)
    return EXIT_USER_ERROR


def _report_bug(error: Exception) -> int:
    """Write the traceback to a file and print one line on stderr asking for a report; returns a bug's exit status."""
    with tempfile.NamedTemporaryFile("w", prefix="ran-", suffix=".log", delete=False) as file:
        file.write(f"ran {__version__}: {' '.join(sys.argv[1:])}\n")
        traceback.print_exception(error, file=file)
    what = one_line(f"{type(error).__name__}: {error}")
    print(
        f"ran: error: {what} (this is a bug; please report it: ran {__version__}, traceback in {file.name})",
        file=sys.stderr,
    )
    return EXIT_BUG


def _is_out_of_memory(error: BaseException) -> bool:
    """Recognise torch's error without importing torch."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def _user_message(error: Exception) -> str | None:
    """The message for an error the user can fix; None for a bug."""
    if _is_out_of_memory(error):
        return "out of memory: lower --batch-size or --image-size"
    if isinstance(error, ModuleNotFoundError):
        return f"this needs the package {error.name}, which is not installed"
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error) if isinstance(error, UserError) else blamed(error)


def run(command: str, arguments: list[str], plugins: list[str]) -> int:
    """Import the plugins, call a command's ``main(arguments)``, and turn what either raises into an exit status."""
    debug = "--debug" in arguments
    try:
        keep_freed_memory()
        for plugin in plugins:
            load_plugin(plugin)
        return import_module(f".{command}", __package__).main(arguments) or 0
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader has exited, such as `head`
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


def _without_plugins(argv: list[str]) -> tuple[list[str], list[str]]:
    """The other arguments, and the value of each ``--plugin``. Raises UserError for a flag without one."""
    rest: list[str] = []
    plugins: list[str] = []
    waiting = False
    for argument in argv:
        if waiting:
            plugins.append(argument)
            waiting = False
        elif argument.startswith(f"{FLAG}="):
            plugins.append(argument.partition("=")[2])
        elif argument == FLAG:
            waiting = True
        else:
            rest.append(argument)
    if waiting or any(not plugin or plugin.startswith("-") for plugin in plugins):
        raise UserError(f"{FLAG} needs a Python file or a module name")
    return rest, plugins


def main(argv: list[str] | None = None) -> int:
    try:
        arguments, plugins = _without_plugins(sys.argv[1:] if argv is None else argv)
    except UserError as error:
        return fail(str(error))
    if arguments[:1] == ["--"]:  # `torchrun ... -m residual_attention -- train --p 1`: torchrun takes --p for its own
        arguments = arguments[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    command, *rest = arguments
    if command == "--version":
        print(f"ran {__version__}")
        return 0
    if command not in COMMANDS:
        return fail(f"no command {command!r}{did_you_mean(command, COMMANDS)}; choose from {', '.join(COMMANDS)}")
    return run(command, rest, plugins)
