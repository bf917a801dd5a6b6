"""The commands of `python -m collectors`."""

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence

from collectors.commands.places import line
from collectors.document import UserError

COMMANDS = {
    "collect": "fetch the raw bytes of a snapshot, once",
    "extract": "make documents of a raw snapshot, and their signatures",
    "dedup": "filter and deduplicate the documents into a corpus",
    "refresh": "add the next snapshot of every source on the web, collect, build and score it",
    "audit": "check the chain from the report back to the raw bytes, and name what is not as recorded",
    "push": "give the data of all commits to the remote, and say what it still lacks",
    "diff": "say which documents came, went and changed between two versions, and why",
    "overlap": "say which documents share word n-grams with other texts, such as a test set or a training dump",
    "export": "write a corpus as a data set that may be passed on, with a recipe for the rest",
    "rebuild": "collect the documents of an export again, and hold them against their digests",
    "sources": "list what can be collected, what it needs and how fast it may be asked",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 2 when a person has something to mend."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # titles are in any script, terminals are not
    parser, arguments = _parse(sys.argv[1:] if argv is None else argv)
    if arguments.command is None:
        parser.print_help()
        return 0
    try:
        arguments.run(arguments)
    except UserError as error:
        print(f"error: {line(error)}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read our output has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except OSError as error:
        print(
            f"error: {line(error)}; what was done is kept: mend this and run the same command again",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; what was done is kept: run the same command again to go on", file=sys.stderr)
        return 130
    return 0


def _parse(argv: Sequence[str]) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    listing = "\n".join(f"  {name:<12}{text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m collectors",
        usage="python -m collectors COMMAND [SNAPSHOT] [--help]",
        description="Collect dated text and make versioned corpora of it.",
        epilog=f"commands, in the order of the pipeline:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(
        dest="command", help=argparse.SUPPRESS, metavar="COMMAND", prog="python -m collectors"
    )
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        command.add_argument("--json", action="store_true", help="print JSON for programs to read")
        if name in argv[:1]:
            # Only what was asked for is imported, for some of it takes seconds.
            module = importlib.import_module(f"collectors.commands.{name}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser, parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
