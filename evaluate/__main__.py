"""The commands of `python -m evaluate`."""

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from collectors.document import UserError, replacing
from evaluate import backends, benchmarks, comparison, corpus, fit, measure, params, scores
from evaluate.model import ModelEntry
from evaluate.report import page
from evaluate.windows import PROTOCOLS

CORPORA = Path("corpora")
RESULTS = Path("results")
CELLS = RESULTS / "scores"
STAGING = Path(".staging")
BENCHMARKS = Path("evaluate/benchmarks.csv")
PUBLISHED = Path("evaluate/published_correlations.csv")

COMMANDS = {
    "score": "measure how many bits a model pays per character of text",
    "benchmarks": "add benchmark scores from a lm-evaluation-harness result or a CSV file",
    "fit": "fit bits per character against benchmark scores, and reproduce the published law",
    "report": "write results/report.html",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 2 when a person has something to mend."""
    parser, arguments = _parse(argv)
    if arguments.command is None:
        parser.print_help()
        return 0
    try:
        arguments.run(arguments)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    return 0


def _parse(argv: Sequence[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    listing = "\n".join(f"  {name:<12}{text}" for name, text in COMMANDS.items())
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

    score = _command(commands, "score", _score)
    which = score.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", help="a name in params.yaml, a .gguf file, a folder, or a hub id")
    which.add_argument("--all", action="store_true", help="every model in params.yaml")
    text = score.add_mutually_exclusive_group()
    text.add_argument("--text", type=Path, metavar="FILE", help="score a UTF-8 text file")
    text.add_argument(
        "--corpus",
        type=Path,
        metavar="FOLDER",
        help="score a folder of .parquet or .jsonl files, or a built corpus",
    )
    score.add_argument(
        "--column", type=_name, default="text", help="the field that holds the text (default: text)"
    )
    score.add_argument(
        "--protocol",
        choices=(*PROTOCOLS, measure.AUTO),
        help="how text is cut into windows (default: params.yaml)",
    )
    score.add_argument(
        "--precision",
        type=float,
        metavar="P",
        help="stop when half the interval is at most P of the rate, such as 0.005",
    )
    score.add_argument("--revision", help="commit of a hub id")
    score.add_argument("--separator", help="token before each document, where the tokenizer adds no BOS")
    score.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="precision of the model")
    score.add_argument(
        "--quantization", metavar="HOW", help="quantise the weights, such as bitsandbytes-8bit"
    )
    score.add_argument("--device", help="where the model runs, such as cpu or cuda:0")

    add = _command(commands, "benchmarks", _benchmarks)
    add.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="a .json result of lm-eval, or a .csv file"
    )
    add.add_argument("--model", help="the model's published name, where the file does not say it")

    _command(commands, "fit", _fit)
    _command(commands, "report", _report)
    return parser, parser.parse_args(argv)


def _name(value: str) -> str:
    if not value:
        raise argparse.ArgumentTypeError("must not be empty")
    return value


def _command(commands: Any, name: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=COMMANDS[name], description=f"{COMMANDS[name][0].upper()}{COMMANDS[name][1:]}."
    )
    parser.add_argument("--json", action="store_true", help="print JSON for programs to read")
    parser.set_defaults(run=run)
    return parser


def _score(arguments: argparse.Namespace) -> None:
    own = bool(arguments.text or arguments.corpus)
    overrides = _overrides(arguments)
    if own and arguments.all:
        raise UserError("--all scores the corpora of params.yaml; name one --model for a text of your own")
    if not own and overrides:
        raise UserError(
            f"--{next(iter(overrides))} would record scores under settings that params.yaml does not "
            "name; change them there, or add --text or --corpus for a score of your own"
        )
    known = params.read() if params.PARAMS.exists() or not own else {}
    settings = params.settings(known, protocol=arguments.protocol, precision=arguments.precision)
    if own:
        chosen = (
            corpus.text_file(arguments.text)
            if arguments.text
            else corpus.folder(arguments.corpus, arguments.column)
        )
        rows = _score_once(_chosen_entry(known, arguments.model, overrides), settings, chosen)
    else:
        entries = (
            [params.entry(*model) for model in known["models"].items()]
            if arguments.all
            else [_chosen_entry(known, arguments.model, {})]
        )
        corpora = [corpus.built_corpus(CORPORA / name) for name in known["snapshots"]]
        rows = _score_cells(entries, settings, corpora)
    if arguments.json:
        results = [_result(part) for part in _by_protocol(rows)]
        alone = own and len(results) == 1
        print(json.dumps(results[0] if alone else results, indent=2))
    else:
        for part in _by_protocol(rows):
            print(_line(part))


def _overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    names = ("revision", "separator", "dtype", "quantization", "device", "protocol", "precision")
    return {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}


def _chosen_entry(known: dict[str, Any], model: str, overrides: dict[str, Any]) -> ModelEntry:
    models = known.get("models", {})
    options = {k: v for k, v in overrides.items() if k not in {"protocol", "precision"}}
    if model in models:
        entry = params.entry(model, models[model])
        entry = replace(entry, options={**entry.options, **options})
    elif Path(model).exists() or "/" in model:
        options = {"backend": "transformers", "source": model, **options}
        entry = params.entry(Path(model).name, options)
    else:
        raise UserError(
            f"model {model!r} is neither in params.yaml ({', '.join(models) or 'no models'}) nor a .gguf "
            "file, a folder with safetensors, or a hub id such as org/name"
        )
    if entry.backend == "compressors":
        for name, why in (
            ("protocol", "cuts text into windows for language models"),
            ("precision", "leaves documents out to save a language model's time"),
        ):
            if name in overrides:
                raise UserError(f"--{name} {why}; {entry.slug} is a compressor")
    return entry


def _score_once(entry: ModelEntry, settings: measure.Settings, chosen: corpus.Corpus) -> list[scores.Score]:
    # Read first: a text that cannot be is said before a model takes its time to load.
    alone = len(chosen.documents()) == 1
    if entry.backend == "compressors":
        scored = measure.compressed(entry, chosen)
        scored = scored[:1] if alone else scored  # a stream of one document says nothing new
    else:
        key = scores.cell_key(entry, backends.weights_of(entry), str(settings), chosen)
        journals = STAGING / "scores" / key
        scored = []
        exchange = measure.measure(entry, chosen, settings, journals=journals, say=_warn)
        measure.conduct(
            {chosen.name: exchange},
            settings.engine,
            lambda _, found: scored.append(found),
            together=measure.parallel(settings.engine, entry),
        )
        shutil.rmtree(journals, ignore_errors=True)
    return [row for part in scored for row in scores.summarise(entry, chosen, part)]


def _score_cells(
    entries: list[ModelEntry], settings: measure.Settings, corpora: list[corpus.Corpus]
) -> list[scores.Score]:
    """Score what has no current cell yet; return the scores of all cells."""
    cells: dict[tuple[str, str], tuple[ModelEntry, corpus.Corpus, str]] = {}
    exchanges: dict[tuple[str, str], measure.Exchange] = {}

    def finish(cell: tuple[str, str], scored: list[scores.Scored]) -> None:
        entry, chosen, key = cells[cell]
        scores.write_cell(_cell(*cell), entry, chosen, scored, key)
        shutil.rmtree(STAGING / "scores" / entry.slug / chosen.name, ignore_errors=True)

    for entry in entries:
        weights = backends.weights_of(entry)
        if not weights:
            raise UserError(
                f"model {entry.slug} is a hub id without a `revision`, so its weights may change under its name; pin "
                "a commit in params.yaml"
            )
        # A compressor knows no windows: new settings of score leave its cells as they are.
        how = "" if entry.backend == "compressors" else str(settings)
        for chosen in corpora:
            cell = (entry.slug, chosen.name)
            cells[cell] = (entry, chosen, scores.cell_key(entry, weights, how, chosen))
    missing = [cell for cell, (_, _, key) in cells.items() if not scores.is_current(_cell(*cell), key)]
    for cell in missing:
        entry, chosen, key = cells[cell]
        if chosen.empty:
            _warn(
                f"{chosen.name} kept no document, so there is nothing to score; its dropped.parquet says why"
            )
            finish(cell, [])
        elif entry.backend == "compressors":
            finish(cell, measure.compressed(entry, chosen))
        else:
            exchanges[cell] = measure.measure(
                entry,
                chosen,
                settings,
                journals=STAGING / "scores" / entry.slug / chosen.name / key,
                say=_warn,
            )
    for together in (True, False):
        measure.conduct(
            {
                c: e
                for c, e in exchanges.items()
                if measure.parallel(settings.engine, cells[c][0]) is together
            },
            settings.engine,
            lambda cell, found: finish(cell, [found]),
            together=together,
        )
    for entry in entries:
        new = sum(slug == entry.slug for slug, _ in missing)
        _warn(f"{entry.slug}: {new} of {len(corpora)} corpora scored, {len(corpora) - new} unchanged")
    return [
        row for cell, (entry, _, _) in cells.items() for row in scores.read_cell(_cell(*cell), entry.name)
    ]


def _cell(slug: str, name: str) -> Path:
    return CELLS / slug / f"{name}.parquet"


def _by_protocol(rows: list[scores.Score]) -> list[dict[str, scores.Score]]:
    groups: dict[tuple[str, ...], dict[str, scores.Score]] = {}
    for row in rows:
        groups.setdefault((row.model, row.corpus, row.protocol), {})[row.metric] = row
    return list(groups.values())


def _result(part: dict[str, scores.Score]) -> dict[str, Any]:
    first = part["bits_per_character"]
    derived = {"name", "backend", "content", "metric", "value", "nll", "low", "high"}
    return {
        **{metric: part[metric].value if metric in part else None for metric in scores.METRICS},
        "interval": None if first.low is None else [first.low, first.high],
        "nll_nats": first.nll,
        **{name: value for name, value in asdict(first).items() if name not in derived},
    }


def _line(part: dict[str, scores.Score]) -> str:
    first = part["bits_per_character"]
    bounds = "" if first.low is None else f" [{first.low:.4f}, {first.high:.4f}]"
    n = first.n_documents + first.n_unscored_documents
    scored = f"{first.n_documents} of {n}" if first.n_unscored_documents else f"{n}"
    documents = "" if first.protocol == "stream" else f" in {scored} document{'s' if n > 1 else ''}"
    free = f", {first.n_unscored_tokens:,} tokens unscored" if first.n_unscored_tokens else ""
    lossy = f", {first.n_lossy} not restored exactly by the tokenizer" if first.n_lossy else ""
    return (
        f"{first.model} on {first.corpus} ({first.protocol}): {first.value:.4f} bits per character{bounds}, "
        f"{part['bits_per_byte'].value:.4f} per byte; {first.n_characters:,} characters{documents}{free}{lossy}"
    )


def _benchmarks(arguments: argparse.Namespace) -> None:
    added = sum(benchmarks.import_file(path, BENCHMARKS, model=arguments.model) for path in arguments.files)
    print(json.dumps({"added": added}) if arguments.json else f"{added} scores added to {BENCHMARKS}")


def _fit(arguments: argparse.Namespace) -> None:
    known = params.read()
    rows = [
        score
        for slug, options in known["models"].items()
        for name in known["snapshots"]
        for score in scores.read_cell(_cell(slug, name), params.entry(slug, options).name)
    ]
    scores.write_scores(RESULTS / "scores.csv", rows)
    comparison.write(RESULTS / "differences.csv", _comparisons(known))
    settings = params.section(known, "fit")
    unknown = set(settings) - {"seed", "resamples"}
    if unknown:
        raise UserError(f"`fit` in params.yaml takes seed and resamples, not {', '.join(map(str, unknown))}")
    fit.run(RESULTS / "scores.csv", BENCHMARKS, PUBLISHED, RESULTS, **settings)
    metrics = json.loads((RESULTS / "metrics.json").read_text(encoding="utf-8"))
    print(json.dumps(metrics, indent=2) if arguments.json else f"fits written to {RESULTS}")


def _comparisons(known: dict[str, Any]) -> Iterator[comparison.Comparison]:
    for name in known["snapshots"]:
        scored = [
            (slug, protocol, rows)
            for slug in known["models"]
            for protocol, rows in scores.paid(_cell(slug, name)).items()
            if protocol != "stream" and not protocol.startswith("huang2024/")
        ]
        yield from comparison.comparisons(name, scored)


def _report(arguments: argparse.Namespace) -> None:
    html, figure = RESULTS / "report.html", RESULTS / "law.svg"
    page.write(RESULTS, CORPORA, list(params.read()["snapshots"]), html)
    with replacing(figure) as temporary:
        temporary.write_text(page.law_figure(RESULTS), encoding="utf-8")
    files = {"report": str(html), "figure": str(figure)}
    print(
        json.dumps(files)
        if arguments.json
        else f"report written to {html}, its figure of the law to {figure}"
    )


def _warn(message: str) -> None:
    print(message, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
