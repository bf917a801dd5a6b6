r"""Measures text extraction and publication dates on real pages with gold, beside peers, in one run.

    python benchmarks/extraction.py --articles DIR --dated DIR [--quick]

Two public collections of pages, neither of them ours to pass on:

- articles: github.com/scrapinghub/article-extraction-benchmark, 181 pages with the text of each article;
- dated: github.com/flairNLP/fundus, the pages of its parsers' tests, with each page's publication date.

What is measured:

- F1: as the first collection defines it: multisets of 4-grams of words (`\w+`), precision and recall averaged
  over pages, F1 of the averages. Its README calls this F1; `token F1` is the same for single words.
- Documents per second: from the bytes of all pages of both collections to their texts, in one process; the
  best of three rounds in which the sides take turns; with --quick, of the articles alone, in one. Ours
  reads title, authors, language, licence and all date evidence too, newspaper4k most of these,
  readability-lxml the title. Pages that a side finds no text in count as read, and are given.
- Peak memory: ru_maxrss of each side's own process, and what it held before the first page.
- Dates: the share of dated pages whose publication date is accepted, without a feed or sitemap; those of
  them that are wrong, which means another calendar day than the gold date in the gold date's time zone
  (UTC where it has none); and why the others are rejected. For comparison, what htmldate finds alone.

Bars: F1 >= 0.95, and at most 1 % of accepted dates wrong. The last line is JSON; the exit status is 1
when a bar is missed, 2 when pages or peers are missing. Runs on Linux.
"""

import argparse
import gzip
import json
import logging
import multiprocessing
import re
import resource
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, from anywhere

ROUNDS = 3
PEERS = {"readability": "readability-lxml", "newspaper": "newspaper4k"}
FETCHED = datetime(2030, 1, 1, tzinfo=UTC)  # of articles, where it is not recorded and nothing depends on it
ALWAYS = (datetime(1995, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


def read_articles(folder: Path) -> list[dict[str, Any]]:
    """Return url, payload and gold text of each page of the first collection."""
    truth = json.loads((folder / "ground-truth.json").read_text(encoding="utf-8"))
    return [
        {
            "url": entry["url"],
            "payload": gzip.decompress((folder / "html" / f"{name}.html.gz").read_bytes()),
            "fetched": FETCHED,
            "text": entry["articleBody"],
        }
        for name, entry in sorted(truth.items())
    ]


def read_dated(folder: Path) -> list[dict[str, Any]]:
    """Return url, payload and moment of fetching of each page of the second, and its publisher."""
    pages = []
    for index in sorted((folder / "tests/resources/parser/test_data").glob("*/meta.info")):
        for name, entry in sorted(json.loads(index.read_text(encoding="utf-8")).items()):
            publisher = re.sub(r"_\d{4}_\d\d_\d\d\.html\.gz$", "", name)
            if (index.parent / name).is_file():
                pages.append(
                    {
                        "url": entry["url"],
                        "payload": gzip.decompress((index.parent / name).read_bytes()),
                        "fetched": datetime.fromisoformat(entry["crawl_date"]).replace(tzinfo=UTC),
                        "gold": index.parent / f"{publisher}.json",
                    }
                )
    return pages


def grams(text: str, n: int) -> Counter[tuple[str, ...]]:
    """Return the n-grams of a text's words; those of a shorter text are the text itself."""
    words = re.findall(r"\w+", text)
    return Counter(tuple(words[k : k + n]) for k in range(max(1, len(words) - n + 1)) if words)


def scores(pairs: list[tuple[str, str]], n: int) -> dict[str, float]:
    """Return F1, precision and recall of extracted texts against gold texts."""
    precisions, recalls = [], []
    for gold, found in pairs:
        truth, answer = grams(gold, n), grams(found, n)
        common = (truth & answer).total()
        if answer:
            precisions.append(common / answer.total())
        if truth:
            recalls.append(common / truth.total())
    precision, recall = statistics.mean(precisions), statistics.mean(recalls)
    return {"f1": 2 * precision * recall / (precision + recall), "precision": precision, "recall": recall}


def extractor_of(side: str) -> Callable[[dict[str, Any]], str]:
    """Return a side's function from a page to its text."""
    from collectors.pages.encoding import decode
    from collectors.pages.extraction import Page, extract

    if side == "readability":
        from readability import Document
        from resiliparse.extract.html2text import extract_plain_text

        def by_readability(page: dict[str, Any]) -> str:
            try:
                return extract_plain_text(Document(decode(page["payload"], "")[0]).summary())
            except ValueError:  # it refuses what it finds no article in
                return ""

        return by_readability
    if side == "newspaper":
        import newspaper

        def by_newspaper(page: dict[str, Any]) -> str:
            try:
                return str(
                    newspaper.article(
                        page["url"], input_html=decode(page["payload"], "")[0], fetch_images=False
                    ).text
                )
            except (newspaper.ArticleException, ImportError):  # it needs nltk for some languages
                return ""

        return by_newspaper

    def by_ours(page: dict[str, Any]) -> str:
        given = Page(url=page["url"], payload=page["payload"], fetched=page["fetched"])
        return extract(given, engine=side).text  # type: ignore[arg-type]

    return by_ours


def peak() -> int:
    """Return the process's peak memory in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measured(side: str, articles: Path, dated: Path | None) -> dict[str, Any]:
    """Return a side's texts of the articles, its seconds for these and the dated pages, and its memory."""
    logging.disable()  # what a side says about a page is no part of the figures
    pages = read_articles(articles)
    others = read_dated(dated) if dated else []
    extract = extractor_of(side)
    extract(pages[0])  # what is loaded with the first page is no part of the speed
    held, start = peak(), time.perf_counter()
    texts = [extract(page) for page in pages]
    empty = sum(not text for text in [*texts, *map(extract, others)])
    return {
        "seconds": time.perf_counter() - start,
        "peak": peak(),
        "held": held,
        "texts": texts,
        "empty": empty,
        "documents": len(pages) + len(others),
    }


def dates(folder: Path) -> dict[str, Any]:
    """Return what is accepted, what of it is wrong, and why the rest is rejected."""
    from htmldate import find_date

    from collectors.pages.dates import judge
    from collectors.pages.extraction import Page, texts

    pages = read_dated(folder)
    given = [Page(url=page["url"], payload=page["payload"], fetched=page["fetched"]) for page in pages]
    found = list(texts(given, workers=2))
    reasons: Counter[str] = Counter()
    wrong, precise, alone, alone_wrong = [], 0, 0, 0
    gold = published([(page["gold"], extracted.text) for page, extracted in zip(pages, found, strict=True)])
    for page, extracted, truth in zip(pages, found, gold, strict=True):
        if truth is None:
            continue
        verdict = judge(extracted.dates, fetched=page["fetched"], since=ALWAYS[0], until=ALWAYS[1])
        reasons[verdict.reason] += 1
        if verdict.published is not None:
            precise += verdict.precision in ("second", "minute")
            if differs(verdict.published, verdict.precision, truth):
                wrong.append(f"{page['url']}: {verdict.published.isoformat()}, gold {truth.isoformat()}")
        latest = (page["fetched"] + timedelta(days=1)).replace(tzinfo=None)
        # By now htmldate refuses partial dates, as `date_evidence` has it, which is in its favour.
        other = find_date(page["payload"], original_date=True, url=page["url"], max_date=latest)
        if other:
            alone += 1
            alone_wrong += differs(datetime.fromisoformat(other).replace(tzinfo=UTC), "day", truth)
    total = reasons.total()
    accepted = reasons.pop("")
    return {
        "pages": total,
        "accepted": accepted / total,
        "wrong": len(wrong) / accepted,
        "to_the_second_or_minute": precise / accepted,
        "rejected_for_want_of_evidence": (reasons["no-date-evidence"] + reasons["single-date-evidence"])
        / total,
        "rejected": {reason: count / total for reason, count in sorted(reasons.items())},
        "htmldate_alone_wrong": alone_wrong / alone,
        "wrong_pages": wrong,
    }


def published(pages: list[tuple[Path, str]]) -> list[datetime | None]:
    """Return each page's gold date, None where there is none.

    A publisher's file holds one entry for each version of its parser, without naming the page: the
    page of an entry is the one whose text is most like the entry's.
    """
    result: list[datetime | None] = [None] * len(pages)
    for path in sorted({path for path, _ in pages if path.is_file()}):
        numbers = [k for k, (other, _) in enumerate(pages) if other == path]
        for entry in json.loads(path.read_text(encoding="utf-8")).values():
            body = grams(json.dumps(entry.get("body"), ensure_ascii=False), 4)
            likeness = {k: (body & grams(pages[k][1], 4)).total() for k in numbers if result[k] is None}
            if likeness and "publishing_date" in entry:
                best = max(likeness, key=lambda k: likeness[k])
                result[best] = datetime.fromisoformat(entry["publishing_date"])
    return result


def differs(found: datetime, precision: str, gold: datetime) -> bool:
    """Return whether a date is another calendar day than the gold date, in the gold date's zone."""
    zone = gold.tzinfo or UTC
    return (found if precision == "day" else found.astimezone(zone)).date() != gold.date()


def alone(function: Callable[..., Any], *arguments: object) -> Any:
    """Run a function in a process of its own, so that nothing else counts towards its peak memory."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def missing(articles: Path | None, dated: Path | None) -> str:
    """Return one line on what is needed and missing, empty when nothing is."""
    for option, folder, inside, repository in (
        ("--articles", articles, "ground-truth.json", "scrapinghub/article-extraction-benchmark"),
        ("--dated", dated, "tests/resources/parser/test_data", "flairNLP/fundus"),
    ):
        if folder is None or not (folder / inside).exists():
            return f"{option} must be a clone with {inside}: git clone https://github.com/{repository}"
    for module, package in PEERS.items():
        if find_spec(module) is None:
            return f"the peer {package} is not installed: pip install {package}"
    return ""


def main() -> int:
    """Run all sides, print the figures, and return 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--articles", type=Path, help="a clone of scrapinghub/article-extraction-benchmark")
    parser.add_argument("--dated", type=Path, help="a clone of flairNLP/fundus")
    parser.add_argument("--quick", action="store_true", help="one round, and speed of the articles alone")
    options = parser.parse_args()
    if line := missing(options.articles, options.dated):
        print(f"error: {line}", file=sys.stderr)
        return 2
    sides = ("trafilatura", "resiliparse", *PEERS)
    rounds = [
        [alone(measured, side, options.articles, None if options.quick else options.dated) for side in sides]
        for _ in range(1 if options.quick else ROUNDS)
    ]
    gold = [page["text"] for page in read_articles(options.articles)]
    figures: dict[str, dict[str, float]] = {}
    for side, runs in zip(sides, zip(*rounds, strict=True), strict=True):
        best = min(runs, key=lambda run: run["seconds"])
        pairs = list(zip(gold, best["texts"], strict=True))
        figures[side] = {
            **scores(pairs, 4),
            "token_f1": scores(pairs, 1)["f1"],
            "pages_without_text": best["empty"],
            "documents_per_second": best["documents"] / best["seconds"],
            "peak_mb": best["peak"] / 1e6,
            "held_before_mb": best["held"] / 1e6,
        }
    found = alone(dates, options.dated)
    print("".join([f"{'':22}", *(f"{side:>13}" for side in sides)]))
    for name, value in figures[sides[0]].items():
        digits = 3 if value < 1 else 0
        print("".join([f"{name:22}", *(f"{figures[side][name]:13.{digits}f}" for side in sides)]))
    ours = figures["trafilatura"]["documents_per_second"]
    ratios = {side: ours / figures[side]["documents_per_second"] for side in sides[1:]}
    print(
        "speed of trafilatura here over", ", ".join(f"{side} {ratio:.2f}" for side, ratio in ratios.items())
    )
    print(
        f"{found['pages']} dated pages, {found['accepted']:.1%} accepted, {found['wrong']:.2%} of these wrong"
    )
    print(
        f"rejected for want of evidence: {found['rejected_for_want_of_evidence']:.1%} of the pages; by reason:"
    )
    for reason, share in found["rejected"].items():
        print(f"    {reason:22}{share:7.1%}")
    print(f"htmldate alone: {found['htmldate_alone_wrong']:.1%} wrong")
    for line in found.pop("wrong_pages"):
        print(f"wrong: {line}")
    bars = {
        "F1 >= 0.95": figures["trafilatura"]["f1"] >= 0.95,
        "wrong dates <= 1 %": found["wrong"] <= 0.01,
    }
    for name, met in bars.items():
        print(f"{'met' if met else 'MISSED'}: {name}")
    print(json.dumps({"extraction": figures, "speed_ratios": ratios, "dates": found}))
    return 0 if all(bars.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
