"""The commands of `python -m evaluate`, and the only place here that reads params.yaml."""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from collectors.document import UserError, replacing
from evaluate import benchmarks, corpus, fit, report, scores
from evaluate.windows import PROTOCOLS, ScoringProtocol

PARAMS = Path("params.yaml")
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
    score.add_argument(
        "--model", required=True, help="a name in params.yaml, a .gguf file, a folder, or a hub id"
    )
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
        "--protocol", choices=PROTOCOLS, help="how text is cut into windows (default: params.yaml)"
    )
    score.add_argument("--revision", help="commit of a hub id")
    score.add_argument("--separator", help="token before each document, where the tokenizer adds no BOS")
    score.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="precision of the model")
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
    entry, protocol, snapshots = _what_to_score(arguments)
    if arguments.text or arguments.corpus:
        chosen = (
            corpus.text_file(arguments.text)
            if arguments.text
            else corpus.folder(arguments.corpus, arguments.column)
        )
        rows = _score_once(entry, protocol, chosen)
    else:
        rows = _score_cells(entry, protocol, [corpus.built_corpus(CORPORA / name) for name in snapshots])
    if arguments.json:
        results = [_result(part) for part in _by_protocol(rows)]
        alone = (arguments.text or arguments.corpus) and len(results) == 1
        print(json.dumps(results[0] if alone else results, indent=2))
    else:
        for part in _by_protocol(rows):
            print(_line(part))


def _what_to_score(arguments: argparse.Namespace) -> tuple[scores.ModelEntry, ScoringProtocol, list[str]]:
    params = _params() if PARAMS.exists() else {}
    models = params.get("models", {})
    overrides = {
        name: getattr(arguments, name)
        for name in ("revision", "separator", "dtype", "device")
        if getattr(arguments, name)
    }
    if not (arguments.text or arguments.corpus) and (overrides or arguments.protocol):
        raise UserError(
            f"--{next(iter(overrides), 'protocol')} would record scores under settings that params.yaml does not "
            "name; change them there, or add --text or --corpus for a score of your own"
        )
    if arguments.model in models:
        entry = _entry(arguments.model, models[arguments.model])
        entry = replace(entry, options={**entry.options, **overrides})
    elif Path(arguments.model).exists() or "/" in arguments.model:
        options = {"backend": "transformers", "source": arguments.model, **overrides}
        entry = _entry(Path(arguments.model).name, options)
    else:
        raise UserError(
            f"model {arguments.model!r} is neither in params.yaml ({', '.join(models) or 'no models'}) nor a .gguf "
            "file, a folder with safetensors, or a hub id such as org/name"
        )
    if arguments.protocol and entry.backend == "compressors":
        raise UserError(
            f"--protocol cuts text into windows for language models; {entry.slug} is a compressor"
        )
    settings = dict(_section(params, "score"))
    if arguments.protocol:
        settings["protocol"] = arguments.protocol
    name = settings.pop("protocol", "full")
    try:
        protocol = ScoringProtocol(name=name, **settings)
    except TypeError as error:
        raise UserError(
            f"`score` in params.yaml takes protocol, window and stride, whole numbers: {error}"
        ) from error
    return entry, protocol, list(params.get("snapshots", {}))


def _entry(slug: str, options: Any) -> scores.ModelEntry:
    if not re.fullmatch(r"[A-Za-z0-9._-]+", str(slug)) or slug in {".", ".."}:
        raise UserError(
            f"model name {slug!r} must be of letters, digits, . _ and -; rename it in params.yaml"
        )
    if not isinstance(options, dict):
        raise UserError(f"model {slug} in params.yaml must be a mapping with a `backend`, not {options!r}")
    rest = dict(options)
    return scores.ModelEntry(
        slug=slug, backend=str(rest.pop("backend", "")), name=str(rest.pop("name", "")), options=rest
    )


def _score_once(
    entry: scores.ModelEntry, protocol: ScoringProtocol, chosen: corpus.Corpus
) -> list[scores.Score]:
    key = scores.cell_key(entry, scores.weights_of(entry), protocol, chosen)
    journal = STAGING / "scores" / f"{key}.jsonl"
    # Read first: a text that cannot be is said before a model takes its time to load.
    alone = len(chosen.documents()) == 1
    scored = scores.scorer(entry, protocol, _warn)(chosen, journal)
    journal.unlink(missing_ok=True)
    scored = scored[:1] if alone else scored  # a stream of one document says nothing new
    return [row for part in scored for row in scores.summarise(entry, chosen, part)]


def _score_cells(
    entry: scores.ModelEntry, protocol: ScoringProtocol, corpora: list[corpus.Corpus]
) -> list[scores.Score]:
    """Score what has no current cell yet; return the scores of all of them."""
    paths = {c.name: CELLS / entry.slug / f"{c.name}.parquet" for c in corpora}
    weights = scores.weights_of(entry)
    if not weights:
        raise UserError(
            f"model {entry.slug} is a hub id without a `revision`, so its weights may change under its name; pin a "
            "commit in params.yaml"
        )
    keys = {c.name: scores.cell_key(entry, weights, protocol, c) for c in corpora}
    missing = [c for c in corpora if not scores.is_current(paths[c.name], keys[c.name])]
    run = scores.scorer(entry, protocol, _warn) if not all(c.empty for c in missing) else None
    for chosen in missing:
        journal = STAGING / "scores" / entry.slug / f"{chosen.name}.jsonl"
        if chosen.empty:
            _warn(
                f"{chosen.name} kept no document, so there is nothing to score; its dropped.parquet says why"
            )
        scored = run(chosen, journal) if run and not chosen.empty else []
        scores.write_cell(paths[chosen.name], entry, chosen, scored, keys[chosen.name])
        journal.unlink(missing_ok=True)
    _warn(
        f"{entry.slug}: {len(missing)} of {len(corpora)} corpora scored, {len(corpora) - len(missing)} unchanged"
    )
    return [row for path in paths.values() for row in scores.read_cell(path, entry.name)]


def _by_protocol(rows: list[scores.Score]) -> list[dict[str, scores.Score]]:
    groups: dict[tuple[str, str], dict[str, scores.Score]] = {}
    for row in rows:
        groups.setdefault((row.corpus, row.protocol), {})[row.metric] = row
    return list(groups.values())


def _result(part: dict[str, scores.Score]) -> dict[str, Any]:
    first = part["bits_per_character"]
    return {
        **{metric: part[metric].value if metric in part else None for metric in scores.METRICS},
        "interval": None if first.low is None else [first.low, first.high],
        "nll_nats": first.nll,
        **{
            name: getattr(first, name)
            for name in (
                "n_documents",
                "n_tokens",
                "n_characters",
                "n_bytes",
                "n_lossy",
                "protocol",
                "prefix",
            )
        },
        **{
            name: getattr(first, name)
            for name in ("model", "revision", "software", "corpus", "corpus_sha256")
        },
    }


def _line(part: dict[str, scores.Score]) -> str:
    first = part["bits_per_character"]
    bounds = "" if first.low is None else f" [{first.low:.4f}, {first.high:.4f}]"
    documents = "document" if first.n_documents == 1 else "documents"
    lossy = f", {first.n_lossy} not restored exactly by the tokenizer" if first.n_lossy else ""
    return (
        f"{first.model} on {first.corpus} ({first.protocol}): {first.value:.4f} bits per character{bounds}, "
        f"{part['bits_per_byte'].value:.4f} per byte; {first.n_characters:,} characters"
        f"{'' if first.protocol == 'stream' else f' in {first.n_documents} {documents}'}{lossy}"
    )


def _benchmarks(arguments: argparse.Namespace) -> None:
    added = sum(benchmarks.import_file(path, BENCHMARKS, model=arguments.model) for path in arguments.files)
    print(json.dumps({"added": added}) if arguments.json else f"{added} scores added to {BENCHMARKS}")


def _fit(arguments: argparse.Namespace) -> None:
    params = _params()
    rows = [
        score
        for slug, options in params["models"].items()
        for name in params["snapshots"]
        for score in scores.read_cell(CELLS / slug / f"{name}.parquet", _entry(slug, options).name)
    ]
    scores.write_scores(RESULTS / "scores.csv", rows)
    settings = _section(params, "fit")
    unknown = set(settings) - {"seed", "resamples"}
    if unknown:
        raise UserError(f"`fit` in params.yaml takes seed and resamples, not {', '.join(map(str, unknown))}")
    fit.run(RESULTS / "scores.csv", BENCHMARKS, PUBLISHED, RESULTS, **settings)
    metrics = json.loads((RESULTS / "metrics.json").read_text(encoding="utf-8"))
    print(json.dumps(metrics, indent=2) if arguments.json else f"fits written to {RESULTS}")


def _report(arguments: argparse.Namespace) -> None:
    page, figure = RESULTS / "report.html", RESULTS / "law.svg"
    report.write(RESULTS, CORPORA, list(_params()["snapshots"]), page)
    with replacing(figure) as temporary:
        temporary.write_text(report.law_figure(RESULTS), encoding="utf-8")
    files = {"report": str(page), "figure": str(figure)}
    print(
        json.dumps(files)
        if arguments.json
        else f"report written to {page}, its figure of the law to {figure}"
    )


def _params() -> dict[str, Any]:
    try:
        params = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise UserError(
            f"{PARAMS} cannot be read ({' '.join(str(error).split())}); run from the repository"
        ) from error
    if not isinstance(params, dict) or not all(
        isinstance(params.get(k), dict) for k in ("models", "snapshots")
    ):
        raise UserError(f"{PARAMS} must hold the mappings `models` and `snapshots`; see the comments in it")
    return params


def _section(params: dict[str, Any], name: str) -> dict[str, Any]:
    section = params.get(name, {})
    if not isinstance(section, dict):
        raise UserError(f"`{name}` in params.yaml must be a mapping, not {section!r}")
    return section


def _warn(message: str) -> None:
    print(message, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
