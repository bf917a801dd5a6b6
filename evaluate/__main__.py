"""The commands of `python -m evaluate`."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from collectors.document import UserError
from evaluate.measure import AUTO
from evaluate.windows import PROTOCOLS

COMMANDS = {
    "score": "measure how many bits a model pays per character of text",
    "entropy": "measure the matrix entropy of a model's hidden states, layer by layer",
    "membership": "measure how familiar documents are to a model: Min-K%, Min-K%++, bits",
    "contamination": "judge whether a model was trained on a corpus, against another corpus",
    "phylogeny": "measure what models continue short contexts with, to relate them",
    "passages": "compress a passage of each corpus with a model, and restore it",
    "same": "test whether two models, or two ways to load one, are one model",
    "compress": "compress a file with a model, into one that `decompress` restores to the bit",
    "decompress": "restore a file that `compress` wrote",
    "alignment": "measure how well a vision-language model aligns images with texts",
    "benchmarks": "add benchmark scores from a lm-evaluation-harness result or a CSV file",
    "tree": "draw the family tree of models from a matrix of similarities or distances",
    "fit": "fit bits per character against benchmark scores, and reproduce the published law",
    "report": "write results/report.html",
    "trace": "tell from which model, texts and commits a figure of the report came",
    "impact": "tell what a change of data did to scores and fits",
}

# Commands that are not the `run` of a module of their own name.
_ELSEWHERE = {
    "benchmarks": ("results", "add_benchmarks"),
    "compress": ("codec", "compress"),
    "decompress": ("codec", "decompress"),
    "fit": ("results", "write_fits"),
    "report": ("results", "write_report"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 2 when a person has something to mend."""
    parser, arguments = _parse(argv)
    if arguments.command is None:
        parser.print_help()
        return 0
    try:
        _run(arguments)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"error: not enough memory ({error}); free some, or take less at a time", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    return 0


def _parse(argv: Sequence[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    listing = "\n".join(f"  {name:<15}{text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m evaluate",
        usage="python -m evaluate COMMAND [--help]",
        description="Measure how well models compress a corpus, and what that says about them.",
        epilog=f"commands, in the order of the pipeline:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(
        dest="command", help=argparse.SUPPRESS, metavar="COMMAND", prog="python -m evaluate"
    )

    score = _command(commands, "score")
    _add_texts(score)
    score.add_argument(
        "--protocol",
        choices=(*PROTOCOLS, AUTO),
        help="how text is cut into windows (default: params.yaml)",
    )
    score.add_argument(
        "--precision",
        type=float,
        metavar="P",
        help="stop when half the interval is at most P of the rate, such as 0.005",
    )
    _add_model_options(score)

    states = _command(commands, "entropy")
    _add_texts(states)
    states.add_argument(
        "--tokens", type=int, metavar="N", help="read at most N tokens of a document (default: params.yaml)"
    )
    states.add_argument(
        "--fixed", action="store_true", default=None, help="leave out documents with fewer than N tokens"
    )
    states.add_argument(
        "--layers", type=_layers, metavar="WHICH", help="all, last, or numbers from 0 such as 0,6,12"
    )
    _add_model_options(states)

    familiar = _command(commands, "membership")
    _add_texts(familiar)
    familiar.add_argument(
        "--tokens", type=int, metavar="N", help="read at most N tokens of a document (default: params.yaml)"
    )
    familiar.add_argument(
        "--share",
        type=float,
        metavar="S",
        help="of the tokens that count, the least likely (default: params.yaml)",
    )
    _add_reference(familiar)
    _add_model_options(familiar)

    trained = _command(commands, "contamination")
    trained.add_argument(
        "--model", required=True, help="a name in params.yaml, a .gguf file, a folder, or a hub id"
    )
    trained.add_argument(
        "--corpus",
        required=True,
        type=Path,
        metavar="X",
        help="a corpus of params.yaml, or a folder of texts",
    )
    trained.add_argument(
        "--against", required=True, type=Path, metavar="Y", help="another, alike, that the model has not seen"
    )
    trained.add_argument(
        "--statistic",
        choices=("min_k_plus_plus", "min_k", "bits"),
        help="of a document (default: min_k_plus_plus; bits where the reference is a compressor)",
    )
    trained.add_argument(
        "--column", type=_name, default="text", help="the field that holds the text (default: text)"
    )
    _add_reference(trained)
    _add_model_options(trained)

    genomes = _command(commands, "phylogeny")
    which = genomes.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--model", nargs="+", help="names in params.yaml, .gguf files, folders, or hub ids, one or more"
    )
    which.add_argument("--all", action="store_true", help="every model in params.yaml")
    _add_genes(genomes)
    genomes.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FOLDER",
        help="write how the models are related: distances, their errors, tree, map",
    )

    _add_models(_command(commands, "passages"), "a name in params.yaml")

    same = _command(commands, "same")
    for number in ("first", "second"):
        same.add_argument(
            number, metavar=number.upper(), help="a name in params.yaml, a .gguf file, a folder, or a hub id"
        )
    _add_genes(same)
    same.add_argument(
        "--probes",
        type=_at_least_two,
        metavar="N",
        help="draws from each gene, where alleles are exact (default there: 32)",
    )
    same.add_argument("--permutations", type=_at_least_two, default=999, metavar="N", help="default: 999")
    _add_model_options(same.add_argument_group("how the second is loaded"))

    images = _command(commands, "alignment")
    images.add_argument("--model", required=True, help="a folder or a hub id of a vision-language model")
    images.add_argument("--images", required=True, type=Path, metavar="FOLDER", help="where the images are")
    images.add_argument(
        "--texts",
        required=True,
        type=Path,
        metavar="FILE",
        help='JSON lines such as {"image": "cat.png", "text": "A cat sleeps."}',
    )
    images.add_argument(
        "--rotate", type=int, default=0, metavar="DEGREES", help="turn every image by 90, 180 or 270 degrees"
    )
    images.add_argument("--shuffle", type=int, metavar="SEED", help="give every image the text of another")
    images.add_argument("--limit", type=int, metavar="N", help="measure the first N lines alone")
    _add_model_options(images, text_only=False)

    add = _command(commands, "benchmarks")
    add.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="a .json result of lm-eval, or a .csv file"
    )
    add.add_argument("--model", help="the model's published name, where the file does not say it")

    tree = _command(commands, "tree")
    tree.add_argument(
        "matrix", type=Path, metavar="MATRIX", help="a square .csv file, names in its first row and column"
    )
    tree.add_argument("--similarity", action="store_true", help="refuse a matrix of distances")
    tree.add_argument("--svg", type=Path, metavar="FILE", help="draw the tree")
    tree.add_argument("--unrooted", action="store_true", help="without a root, branches to all sides")
    tree.add_argument("--root", metavar="WHERE", help="midpoint (the default), or the model to root by")

    _command(commands, "fit")
    _command(commands, "report")

    smaller = _command(commands, "compress")
    smaller.add_argument("file", type=Path, metavar="FILE", help="any file")
    smaller.add_argument(
        "--model", required=True, help="a name in params.yaml, a .gguf file, a folder, or a hub id"
    )
    _add_output(smaller, "FILE.fb")
    _add_model_options(smaller)

    again = _command(commands, "decompress")
    again.add_argument("file", type=Path, metavar="FILE.fb", help="what `compress` wrote")
    again.add_argument("--model", help="the same model (default: that of params.yaml which FILE.fb names)")
    _add_output(again, "FILE")

    figure = _command(commands, "trace")
    figure.add_argument(
        "figure",
        metavar="FIGURE",
        help="a number as printed, or a row such as scores.csv:model=gzip,corpus=code-2026-10",
    )

    change = _command(commands, "impact")
    change.add_argument("before", metavar="REV_A", help="a commit, branch or tag, or workspace")
    change.add_argument("after", metavar="REV_B", help="likewise")
    return parser, parser.parse_args(argv)


def _add_models(
    command: argparse.ArgumentParser,
    named: str = "a name in params.yaml, a .gguf file, a folder, or a hub id",
) -> None:
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", help=named)
    which.add_argument("--all", action="store_true", help="every model in params.yaml")


def _add_genes(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--genes", type=Path, metavar="FILE", help="contexts of one's own, a line each, or a .jsonl file"
    )
    command.add_argument(
        "--column", type=_name, default="text", help="the field of a .jsonl file (default: text)"
    )


def _add_texts(command: argparse.ArgumentParser) -> None:
    _add_models(command)
    text = command.add_mutually_exclusive_group()
    text.add_argument("--text", type=Path, metavar="FILE", help="read a UTF-8 text file")
    text.add_argument(
        "--corpus",
        type=Path,
        metavar="FOLDER",
        help="read a folder of .parquet or .jsonl files, or a built corpus",
    )
    command.add_argument(
        "--column", type=_name, default="text", help="the field that holds the text (default: text)"
    )


def _add_output(command: argparse.ArgumentParser, default: str) -> None:
    command.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help=f"where to write (default: {default})"
    )


def _add_reference(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--reference", metavar="OTHER", help="a model that was not trained on the text, or a compressor"
    )


def _add_model_options(command: argparse._ActionsContainer, *, text_only: bool = True) -> None:
    command.add_argument("--revision", help="commit of a hub id")
    if text_only:
        command.add_argument(
            "--separator", help="token before each document, where the tokenizer adds no BOS"
        )
        command.add_argument(
            "--quantization", metavar="HOW", help="quantise the weights, such as bitsandbytes-8bit"
        )
    command.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="precision of the model")
    command.add_argument("--device", help="where the model runs, such as cpu or cuda:0")


def _layers(value: str) -> str | list[int]:
    if value in {"all", "last"}:
        return value
    try:
        return [int(number) for number in value.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r} is not all, last, or numbers such as 0,6,12") from None


def _at_least_two(value: str) -> int:
    if not value.isdecimal() or int(value) < 2:
        raise argparse.ArgumentTypeError(f"{value!r} is no whole number from 2")
    return int(value)


def _name(value: str) -> str:
    if not value:
        raise argparse.ArgumentTypeError("must not be empty")
    return value


def _command(commands: Any, name: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=COMMANDS[name], description=f"{COMMANDS[name][0].upper()}{COMMANDS[name][1:]}."
    )
    parser.add_argument("--json", action="store_true", help="print JSON for programs to read")
    return parser


def _run(arguments: argparse.Namespace) -> None:
    # Each imports what it needs, for that takes seconds.
    module, function = _ELSEWHERE.get(arguments.command, (arguments.command, "run"))
    getattr(importlib.import_module(f"evaluate.commands.{module}"), function)(arguments)


if __name__ == "__main__":
    sys.exit(main())
