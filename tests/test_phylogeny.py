"""`python -m evaluate phylogeny`, and how models are related: from genes to tree, map and predictions."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import transformers
import yaml
from test_transformers_model import WIDE, save_model

from collectors.build import write_corpus
from collectors.document import UserError
from commands import add_published, change, run, run_json
from evaluate import alleles, backends, distances, genome_cells, phylogeny, relatives
from evaluate.genes import Genes
from evaluate.genomes import Genome
from evaluate.model import ModelEntry
from evaluate.phylogeny import Settings
from evaluate.prediction import KnownModel
from samples import REQUEST, make_document, replant

TEXTS = [f"{word} stands at the head of a page that is long enough for a gene. " * 3 for word in
         ("Heron", "Lantern", "Mortar", "Thistle", "Violin", "Anchor")]  # fmt: skip
ENTRY = ModelEntry(slug="one", backend="transformers", options={"source": "one"})
GENES = Genes(contexts=("A heron stands in the", "Rain again, said the", "x = [i for i in"), n_wanted=3)


@pytest.fixture
def project(workspace: Path) -> Path:
    """A working directory with params.yaml, three tiny models and a corpus of six texts."""
    for slug, n_layers in (("one", 2), ("two", 2), ("three", 1)):
        save_model(workspace / slug, transformers.LlamaConfig(**{**WIDE, "num_hidden_layers": n_layers}))
    write_corpus(
        workspace / "corpora" / REQUEST.name,
        REQUEST,
        [make_document(text, i) for i, text in enumerate(TEXTS, 1)],
    )
    params: dict[str, Any] = {
        "snapshots": {REQUEST.name: {}},
        "models": {
            slug: {"backend": "transformers", "source": slug, "name": f"org/{slug}"}
            for slug in ("one", "two", "three")
        },
        "score": {"protocol": "full", "window": 100, "stride": 30},
        "entropy": {"tokens": 50},
        "phylogeny": {"genes": 4, "alleles": "first-token"},
        "fit": {"resamples": 100},
    }
    params["models"]["gzip"] = {"backend": "compressors"}
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))
    add_published(workspace)
    return workspace


def table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_genome_is_measured_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Again only where models, genes or alleles have changed; a compressor has none."""
    status, out, err = run(capsys, "phylogeny", "--all")
    assert status == 0, err
    assert "one: genome of 4 genes measured" in err
    assert "gzip: backend compressors continues no text for us, so it has no genome" in err
    assert out.count("4 genes, ") == 3
    cell = project / "results" / "phylogeny" / "one" / "genome.parquet"
    stamp = cell.stat().st_mtime_ns
    assert "one: genome of 4 genes unchanged" in run(capsys, "phylogeny", "--all")[2]
    assert cell.stat().st_mtime_ns == stamp
    assert not list((project / ".staging").rglob("*.jsonl"))
    change(project, phylogeny={"genes": 9, "alleles": "first-token"})
    err = run(capsys, "phylogeny", "--model", "one")[2]
    assert "the documents gave 6 genes of the 9 asked for" in err
    assert "one: genome of 6 genes measured" in err
    assert pq.read_table(project / "results" / "phylogeny" / "gzip" / "genome.parquet").num_rows == 0


@pytest.mark.parametrize("kind", phylogeny.KINDS)
def test_a_cell_holds_the_genome_to_the_bit(project: Path, kind: str) -> None:
    """Whatever its alleles; as the functions that make them return it."""
    settings = Settings(alleles=kind, epsilon=0.01)
    genome, origin = phylogeny.measure(ENTRY, GENES, settings, journal_file=project / "j")
    genome_cells.write(project / "cell.parquet", genome, origin, "key")
    assert genome_cells.read(project / "cell.parquet") == (genome, origin)
    model: Any = backends.load(ENTRY)
    made = {
        "exact": lambda: alleles.exact(model, GENES.contexts, 0.7, 0.01),
        "first-token": lambda: alleles.first_token(model, GENES.contexts, 0.7),
        "paper": lambda: alleles.sampled(model, GENES.contexts, alleles.PRESETS["paper"], 1),
        "notebook": lambda: alleles.sampled(model, GENES.contexts, alleles.PRESETS["notebook"], 1),
    }
    assert genome == made[kind]()


def test_what_was_finished_is_not_measured_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted run goes on behind its last genes; what is damaged is measured again."""
    monkeypatch.setattr(phylogeny, "_AT_A_TIME", 1)
    settings = Settings(alleles="first-token")
    whole, _ = phylogeny.measure(ENTRY, GENES, settings, journal_file=project / "j")
    _, first, second, _ = (project / "j").read_text().splitlines()
    number, (n_probes, pruned, _own), _checksum = json.loads(first)
    replant(project / "j", (number, [n_probes, pruned, [{"marked": 1 - pruned[0]}]]), (1, 5))
    with (project / "j").open("a") as file:
        file.write(second[:40])
    resumed, _ = phylogeny.measure(ENTRY, GENES, settings, journal_file=project / "j")
    assert dict(resumed.alleles[0]) == {"marked": 1 - pruned[0]}
    assert resumed.alleles[1:] == whole.alleles[1:]


def test_the_key_changes_with_everything_a_genome_depends_on() -> None:
    """Weights, options, genes, kind of alleles, and what that kind depends on."""

    def key(entry: ModelEntry = ENTRY, weights: str = "w", genes: Genes = GENES, **settings: Any) -> str:
        return phylogeny.key(entry, weights, Settings(**settings), genes)

    keys = [
        key(),
        key(weights="other"),
        key(replace(ENTRY, options={"source": "other"})),
        key(genes=replace(GENES, contexts=GENES.contexts[:2])),
        key(temperature=1.0),
        key(epsilon=1e-4),
        key(alleles="first-token"),
        key(alleles="paper"),
        key(alleles="paper", seed=2),
        key(alleles="notebook"),
    ]
    assert len(set(keys)) == len(keys)
    assert key(seed=2) == keys[0]  # decides the genes alone, which have a digest of their own
    assert key(alleles="paper", temperature=2.0) == key(alleles="paper")
    assert key(estimator="bhattacharyya") == keys[0]  # of similarities, not of genomes


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            {"gene": 5},
            "`phylogeny` in params.yaml takes genes, seed, alleles, temperature, epsilon, estimator, not gene",
        ),
        ({"genes": 0}, "genes 0 of `phylogeny` must be a whole number from 1"),
        ({"genes": True}, "genes True of `phylogeny` must be a whole number from 1"),
        ({"seed": -1}, "seed -1 of `phylogeny` must be a whole number from 0"),
        ({"alleles": "all"}, "alleles 'all' of `phylogeny` are none of exact, first-token, paper, notebook"),
        (
            {"estimator": "best"},
            "estimator 'best' of `phylogeny` is none of unbiased, plug-in, bhattacharyya",
        ),
        (
            {"alleles": "paper", "estimator": "bhattacharyya"},
            "estimator bhattacharyya of `phylogeny` is for exact alleles, not for samples such as paper",
        ),
        ({"temperature": 0}, "temperature 0 of `phylogeny` must be a number above 0"),
        ({"epsilon": "small"}, "epsilon 'small' of `phylogeny` must be a number above 0"),
    ],
)
def test_wrong_settings_are_refused(
    project: Path, capsys: pytest.CaptureFixture[str], section: Any, message: str
) -> None:
    """Before a model is loaded, in one line."""
    change(project, phylogeny=section)
    status, out, err = run(capsys, "phylogeny", "--all")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_the_fit_stage_relates_all_models(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pairs, tree, map, and predictions that say why there are none; then the page."""
    for command in ("score", "entropy", "phylogeny"):
        status, _, err = run(capsys, command, "--all")
        assert status == 0, err
    status, _, err = run(capsys, "fit")
    assert status == 0, err
    results = project / "results"
    rows = {(row["model"], row["other"]): row for row in table(results / "relatives.csv")}
    assert set(rows) == {("one", "two"), ("one", "three"), ("three", "two")}
    assert rows["one", "two"]["other_name"] == "org/two"
    # The same seed made the first two, so that they are one model under two names.
    assert float(rows["one", "two"]["distance"]) == pytest.approx(0, abs=1e-6)
    genomes = [genome_cells.read(results / "phylogeny" / m / "genome.parquet")[0] for m in ("one", "three")]
    expected = distances.distances(distances.overlaps(genomes))[0, 1]
    assert float(rows["one", "three"]["distance"]) == pytest.approx(expected, rel=1e-8)
    change(project, phylogeny={"genes": 4, "alleles": "first-token", "estimator": "bhattacharyya"})
    assert run(capsys, "fit")[0] == 0
    other = {(row["model"], row["other"]): row for row in table(results / "relatives.csv")}["one", "three"]
    assert other["estimator"] == "bhattacharyya"
    expected = distances.distances(distances.overlaps(genomes, "bhattacharyya"))[0, 1]
    assert float(other["distance"]) == pytest.approx(expected, rel=1e-8)
    tree = json.loads((results / "tree.json").read_text())
    assert (results / "tree.nwk").read_text() == tree["newick"] + "\n"
    assert all(model in tree["newick"] for model in ("one", "two", "three"))
    assert {row["model"] for row in table(results / "map.csv")} == {"one", "two", "three"}
    assert table(results / "predictions.csv") == []  # no benchmark knows these models
    assert run(capsys, "report")[0] == 0


def test_one_model_has_no_relatives(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The files are there and empty, and the page is made."""
    models = yaml.safe_load((project / "params.yaml").read_text())["models"]
    change(project, models={"one": models["one"]})
    for command in (["score", "--all"], ["entropy", "--all"], ["phylogeny", "--all"], ["fit"], ["report"]):
        status, _, err = run(capsys, *command)
        assert status == 0, err
    assert table(project / "results" / "relatives.csv") == []
    assert (project / "results" / "tree.json").read_text() == "{}\n"
    assert (project / "results" / "tree.nwk").read_text() == "one;\n"


CONTEXTS = [f"{word} came down to the {place}" for word in ("Nobody", "A heron", "Rain") for place in
            ("harbour", "mill", "long wall")]  # fmt: skip


def test_contexts_of_ones_own_give_distances_that_can_be_drawn(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every line is a gene; the table goes into `tree`, and nothing of it into the cells of the pipeline."""
    (project / "contexts.txt").write_text("\n".join([*CONTEXTS, "", CONTEXTS[0]]) + "\n")
    named = ("phylogeny", "--model", "one", "two", str(project / "three"), "--genes", "contexts.txt")
    status, out, err = run(capsys, *named, "-o", "own")
    assert status == 0, err
    assert out.count("9 genes") == 3
    assert "draw the tree with `python -m evaluate tree own/distances.csv --svg FILE`" in err
    rows = {row["model"]: row for row in table(project / "own" / "distances.csv")}
    assert float(rows["one"]["two"]) == pytest.approx(0, abs=1e-6)
    assert float(rows["one"]["three"]) == float(rows["three"]["one"]) > 0.01
    pairs = {(row["model"], row["other"]): row for row in table(project / "own" / "relatives.csv")}
    assert float(pairs["one", "three"]["standard_error"]) > 0
    names = {"relatives.csv", "distances.csv", "tree.json", "tree.nwk", "map.csv"}
    assert {path.name for path in (project / "own").iterdir()} == names
    assert not (project / "results").exists()
    status, out, err = run(capsys, "tree", "own/distances.csv")
    assert (status, err) == (0, "")
    assert out.count("three") == 1
    status, out, err = run(capsys, *named, "--json")
    assert [found["model"] for found in json.loads(out)] == ["one", "two", "three"]
    assert "genome of" not in err, "measured again"


def test_genes_of_json_lines(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Any field may hold the context; without params.yaml the settings are those of the default."""
    (project / "params.yaml").unlink()
    (project / "c.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in CONTEXTS[:2]))
    named = ("phylogeny", "--model", str(project / "one"), "--genes", "c.jsonl", "--column")
    status, out, err = run(capsys, *named, "prompt")
    assert status == 0, err
    assert "one: 2 genes" in out
    assert "exact/0.7/0.001" in out
    status, _, err = run(capsys, *named, "text")
    assert status == 2
    assert "no column 'text'" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "one", "-o", "own"), "--output is about how models are related; name two or more"),
        (
            ("--model", "one", "gzip", "-o", "own"),
            "--output is about how models are related; name two or more",
        ),
        (("--model", "one", "./one"), "two models are called 'one'; rename a folder, or give one an entry"),
        (("--model", "one", "--genes", "missing.txt"), "text file missing.txt does not exist"),
        (("--model", "one", "--genes", "empty.txt"), "empty.txt holds no "),
        (("--model", "missing"), "model 'missing' is neither in params.yaml"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    """In one line, without a traceback."""
    (project / "empty.txt").write_text("\n\n")
    status, _, err = run(capsys, "phylogeny", *arguments)
    assert status == 2
    assert message in err.splitlines()[-1]


def test_models_are_told_apart_or_not(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same weights under two names are not, other weights are; the p-value and the probes are stated."""
    (project / "contexts.txt").write_text("\n".join(CONTEXTS))
    status, out, err = run(capsys, "same", "one", "two", "--genes", "contexts.txt")
    assert status == 0, err
    assert out.startswith("one and two: not told apart, which does not prove them one (p = ")
    assert "9 genes, 32 probes each" in out
    found = run_json(capsys, "same", "one", "two", "--genes", "contexts.txt")
    assert found["p_value"] > 0.05
    assert found["distance"] == pytest.approx(0, abs=1e-6)
    out = run(capsys, "same", "one", "three", "--genes", "contexts.txt", "--probes", "400")[1]
    assert "one and three: different at the 5% level" in out
    # On the genes of the corpora the cells of the pipeline are read, and none is made.
    assert run(capsys, "phylogeny", "--model", "one", "three")[0] == 0
    status, out, err = run(capsys, "same", "one", "three")
    assert status == 0, err
    assert "genome of" not in err
    assert "4 genes" in out


@pytest.mark.parametrize("kind", ["exact", "paper"])
def test_one_model_loaded_in_two_ways(project: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    """The second has a name of its own, so that samples of the two are independent."""
    change(project, phylogeny={"alleles": kind, "epsilon": 0.05})
    (project / "contexts.txt").write_text("\n".join(CONTEXTS))
    found = run_json(capsys, "same", "one", "one", "--genes", "contexts.txt", "--dtype", "bfloat16")
    assert found["models"] == ["one", "one-bfloat16-again"]
    assert found["null"] == {"exact": "simulated", "paper": "permuted"}[kind]
    assert found["p_value"] > 0.001


def test_first_tokens_of_two_vocabularies_are_refused(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what to use instead."""
    other = project / "two" / "tokenizer.json"
    tokenizer = json.loads(other.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["A"], vocabulary["B"] = vocabulary["B"], vocabulary["A"]
    other.write_text(json.dumps(tokenizer))
    status, _, err = run(capsys, "same", "one", "two")
    assert status == 2
    assert (
        "two and one differ in vocabulary_sha256: first tokens are compared within one vocabulary; set" in err
    )


def test_the_published_regressor_and_training_compute_are_asked_for_in_params(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`prediction` of `fit` names the method, `training_flops` of a model stands among the baselines."""
    models = {
        f"m{i}": {
            "backend": "transformers",
            "source": "one" if i % 2 else "three",
            "name": name,
            "family": f"f{i % 3}",
            "training_flops": 6.0e21 * (i + 1),
        }
        for i, name in enumerate(
            (
                "meta-llama/Llama-2-7b-hf",
                "meta-llama/Llama-2-13b-hf",
                "mistralai/Mistral-7B-v0.1",
                "tiiuae/falcon-7b",
                "Qwen/Qwen-7B",
                "01-ai/Yi-6B",
            )
        )
    }
    change(project, models=models, fit={"resamples": 50, "prediction": "ica15-sigmoid"})
    benchmarks = project / "evaluate" / "benchmarks.csv"
    header, *lines = benchmarks.read_text().splitlines(keepends=True)
    benchmarks.write_text("".join([header, *(line for line in lines if "HellaSwag" in line)]))
    for command in ("score", "entropy", "phylogeny"):
        assert run(capsys, command, "--all")[0] == 0
    status, _, err = run(capsys, "fit")
    assert status == 0, err
    methods = {row["method"] for row in table(project / "results" / "predictions.csv") if row["rmse"]}
    assert {"ica15-sigmoid", "ln training FLOPs"} <= methods
    assert "ridge" not in methods
    change(project, fit={"prediction": "guess"})
    status, _, err = run(capsys, "fit")
    assert status == 2
    assert "prediction 'guess' of `fit` in params.yaml is none of ridge, ica15-sigmoid" in err
    change(project, models={"m": {**models["m0"], "training_flops": "6e21"}})
    assert (
        "`training_flops` of model m in params.yaml must be a number above 0, such as"
        in run(capsys, "fit")[2]
    )


def genome(model: str, *genes: dict[str, float]) -> Genome:
    """Return an exact genome."""
    return Genome(model=model, alleles=genes, n_probes=None, pruned=(0.0,) * len(genes))


ORIGIN = {"genes_sha256": "g", "alleles": "exact/0.7/0.001", "vocabulary_sha256": "v"}


@pytest.mark.parametrize(
    ("column", "alleles_of_both", "message"),
    [
        ("genes_sha256", "exact/0.7/0.001", "genomes are compared on the same genes"),
        ("alleles", "exact/0.7/0.001", "alleles of one kind are compared"),
        (
            "vocabulary_sha256",
            "first-token/0.7",
            "first tokens are compared within one vocabulary; set `alleles: exact`",
        ),
    ],
)
def test_genomes_that_do_not_compare_are_refused(column: str, alleles_of_both: str, message: str) -> None:
    """Naming both models."""
    origin = {**ORIGIN, "alleles": alleles_of_both}
    pair = [(genome("a", {"x": 1.0}), origin), (genome("b", {"x": 1.0}), {**origin, column: "other"})]
    with pytest.raises(UserError, match=f"b and a differ in {column}: {message}"):
        relatives.compare(pair)


def test_predictions_stand_beside_their_baselines(tmp_path: Path) -> None:
    """Twelve models of four families whose scores follow their distances from one end of a line."""
    genomes, models, scores = [], [], {}
    for i in range(12):
        share = 0.05 + 0.9 * i / 11
        genomes.append((genome(f"m{i:02}", *({"x": share, "y": 1 - share} for _ in range(3))), ORIGIN))
        models.append(KnownModel(name=f"m{i:02}", family=f"f{i % 4}", n_parameters=1e6 * (1 + i % 3)))
        scores[f"m{i:02}"] = share
    targets = {("PIQA (0-shot, s)", "s"): scores, ("MMLU (5-shot, s)", "s"): {"m00": 0.1, "m04": 0.5}}
    compared = relatives.compare(genomes)
    relatives.write(compared, {}, tmp_path, seed=1)
    relatives.write_predictions(compared, models, targets, tmp_path, seed=1, resamples=200)
    rows = {(row["benchmark"], row["method"]): row for row in table(tmp_path / "predictions.csv")}
    ridge = rows["PIQA (0-shot, s)", "ridge"]
    assert float(ridge["pearson"]) > 0.95
    assert float(ridge["pearson"]) > float(rows["PIQA (0-shot, s)", "ln parameters"]["pearson"] or -1)
    assert "3" in rows["MMLU (5-shot, s)", "ridge"]["refused"]
    assert float(ridge["pearson_low"]) <= float(ridge["pearson"]) <= float(ridge["pearson_high"])
    places = table(tmp_path / "map.csv")
    order = [float(place["x"]) for place in places]
    assert order in (sorted(order), sorted(order, reverse=True))
    assert 0.5 < sum(float(places[0][share]) for share in ("share_x", "share_y")) <= 1
