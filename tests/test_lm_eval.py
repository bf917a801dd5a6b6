"""Result files of several versions of lm-evaluation-harness are read, and hostile ones refused."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.document import UserError
from evaluate import lm_eval

# As 0.3 writes it: metrics without a filter, one number of shots for the whole run.
V03 = {
    "results": {
        "hellaswag": {"acc": 0.2665, "acc_stderr": 0.0044, "acc_norm": 0.2726, "acc_norm_stderr": 0.0044},
        "wikitext": {"word_perplexity": 61.2, "byte_perplexity": 2.16, "bits_per_byte": 1.11},
        "winogrande": {"acc": 0.5193, "acc_stderr": 0.014},
    },
    "versions": {"hellaswag": 0, "wikitext": 1, "winogrande": 0},
    "config": {
        "model": "hf-causal",
        "model_args": "pretrained=EleutherAI/pythia-70m,dtype=float16",
        "num_fewshot": 10,
        "batch_size": "8",
        "limit": None,
        "bootstrap_iters": 100000,
    },
}

# As 0.4.2 writes it: `metric,filter`, a group with parts, shots by task, no version of the harness.
V042 = {
    "results": {
        "mmlu": {"acc,none": 0.2301, "acc_stderr,none": 0.0035, "alias": "mmlu"},
        "mmlu_stem": {"acc,none": 0.2134, "acc_stderr,none": 0.0072, "alias": " - stem"},
        "mmlu_astronomy": {"acc,none": 0.1776, "acc_stderr,none": 0.0311, "alias": "  - astronomy"},
        "gsm8k": {
            "exact_match,flexible-extract": 0.0212,
            "exact_match_stderr,flexible-extract": 0.004,
            "exact_match,strict-match": 0.0159,
            "exact_match_stderr,strict-match": 0.0034,
            "alias": "gsm8k",
        },
    },
    "group_subtasks": {"mmlu": ["mmlu_stem"], "mmlu_stem": ["mmlu_astronomy"], "gsm8k": []},
    "configs": {
        "mmlu_astronomy": {"task": "mmlu_astronomy", "num_fewshot": 5, "metadata": {"version": 0.0}},
        "gsm8k": {"task": "gsm8k", "num_fewshot": 5, "metadata": {"version": 3.0}},
    },
    "versions": {"mmlu": "N/A", "mmlu_stem": "N/A", "mmlu_astronomy": 0.0, "gsm8k": 3.0},
    "n-shot": {"mmlu": 0, "mmlu_astronomy": 5, "gsm8k": 5},
    "config": {
        "model": "hf",
        "model_args": "pretrained=HuggingFaceTB/SmolLM2-135M,dtype=bfloat16",
        "batch_size": "auto",
        "limit": None,
        "gen_kwargs": None,
    },
    "git_hash": "4600d6b",
    "date": 1711990000.5,
}

# As 0.4.9 writes it: mapping of model arguments, name and version given, shots of leaves only.
V049 = {
    "results": {
        "arc_challenge": {
            "alias": "arc_challenge",
            "name": "arc_challenge",
            "sample_len": 1172,
            "acc,none": 0.2611,
            "acc_stderr,none": 0.0128,
            "acc_norm,none": 0.2952,
            "acc_norm_stderr,none": 0.0133,
        },
        "humaneval": {
            "alias": "humaneval",
            "pass@1,create_test": 0.0549,
            "pass@1_stderr,create_test": 0.0178,
        },
        "mmlu": {"acc,none": 0.2312, "acc_stderr,none": 0.0035, "alias": "mmlu"},
        "mmlu_astronomy": {"acc,none": 0.1776, "acc_stderr,none": 0.0311, "alias": " - astronomy"},
        "mmlu_virology": {"acc,none": 0.2831, "acc_stderr,none": 0.0351, "alias": " - virology"},
        "tinyBenchmarks": {" ": " ", "alias": "tinyBenchmarks"},
        "tinyHellaswag": {"acc_norm,none": 0.31, "acc_norm_stderr,none": "N/A", "alias": " - tinyHellaswag"},
    },
    "groups": {"mmlu": {"acc,none": 0.2312, "acc_stderr,none": 0.0035, "alias": "mmlu"}},
    "group_subtasks": {
        "arc_challenge": [],
        "humaneval": [],
        "mmlu": ["mmlu_astronomy", "mmlu_virology"],
        "tinyBenchmarks": ["tinyHellaswag"],
    },
    "configs": {"arc_challenge": {"task": "arc_challenge", "num_fewshot": 25}},
    "versions": {"arc_challenge": 1.0, "humaneval": 1.0, "mmlu": 2, "tinyHellaswag": 0.0},
    "n-shot": {
        "arc_challenge": 25,
        "humaneval": 0,
        "mmlu_astronomy": 5,
        "mmlu_virology": 5,
        "tinyHellaswag": 10,
    },
    "higher_is_better": {"arc_challenge": {"acc": True, "acc_norm": True}},
    "n-samples": {"arc_challenge": {"original": 1172, "effective": 1172}},
    "config": {
        "model": "hf",
        "model_args": {"pretrained": "HuggingFaceTB/SmolLM2-135M", "dtype": "float32"},
        "model_revision": "main",
        "limit": None,
        "random_seed": 0,
    },
    "lm_eval_version": "0.4.9.1",
    "model_source": "hf",
    "model_name": "HuggingFaceTB/SmolLM2-135M",
    "model_name_sanitized": "HuggingFaceTB__SmolLM2-135M",
    "chat_template": None,
    "max_length": 8192,
}
VERSIONS = {"0.3": V03, "0.4.2": V042, "0.4.9": V049}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def parsed(payload: Any) -> lm_eval.Run:
    """The run of a payload."""
    return lm_eval.parse(json.dumps(payload))


def found(run: lm_eval.Run) -> dict[str, tuple[str, float, int | None, str]]:
    """What a run holds, by task."""
    return {score.task: (score.metric, score.value, score.shots, score.version) for score in run.scores}


def test_version_03_is_read() -> None:
    """Metrics without filters, shots and model of the whole run; perplexities are left."""
    run = parsed(V03)
    assert (run.model, run.harness, run.chat_template) == ("EleutherAI/pythia-70m", "", False)
    assert found(run) == {
        "hellaswag": ("acc_norm", 0.2726, 10, "0"),
        "winogrande": ("acc", 0.5193, 10, "0"),
    }


def test_version_042_is_read() -> None:
    """A group with a score stands for its parts at any depth; strict-match is preferred."""
    run = parsed(V042)
    assert run.model == "HuggingFaceTB/SmolLM2-135M"
    assert found(run) == {
        "gsm8k": ("exact_match strict-match", 0.0159, 5, "3.0"),
        "mmlu": ("acc", 0.2301, 5, ""),
    }


def test_version_049_is_read() -> None:
    """Model arguments as a mapping; shots of a group are those its parts share; a group without score has parts."""
    run = parsed(V049)
    assert (run.model, run.harness) == ("HuggingFaceTB/SmolLM2-135M", "0.4.9.1")
    assert found(run) == {
        "arc_challenge": ("acc_norm", 0.2952, 25, "1.0"),
        "humaneval": ("pass@1 create_test", 0.0549, 0, "1.0"),
        "mmlu": ("acc", 0.2312, 5, "2"),
        "tinyHellaswag": ("acc_norm", 0.31, 10, "0.0"),
    }


def test_model_is_read_from_arguments_of_either_kind() -> None:
    """Without model_name, a mapping of arguments says it as a string does; an adapter is not its base."""
    bare = {key: value for key, value in V049.items() if key != "model_name"}
    assert parsed(bare).model == "HuggingFaceTB/SmolLM2-135M"
    adapted = {**bare, "config": {"model_args": "pretrained=org/base,peft=org/adapter"}}
    assert parsed(adapted).model == "org/adapter"
    assert parsed({**bare, "config": {}}).model == ""


def test_chat_template_is_noticed() -> None:
    """A run in the chat template is another protocol."""
    assert parsed({**V049, "chat_template": "{% for m in messages %}…"}).chat_template


def test_shots_that_differ_within_a_group_are_unknown() -> None:
    """No number of shots is made up for a group whose parts differ."""
    shots = {"mmlu_astronomy": 5, "mmlu_virology": 0}
    assert found(parsed({**V049, "n-shot": shots}))["mmlu"][2] is None


def test_groups_may_contain_themselves() -> None:
    """A cycle of groups ends, and hides no task entirely by itself."""
    cyclic = {**V049, "group_subtasks": {"mmlu": ["mmlu", "mmlu_virology"]}}
    assert {"mmlu", "mmlu_astronomy"} <= set(found(parsed(cyclic)))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "no readable JSON"),
        ("{", "no readable JSON"),
        ("[]", "no JSON object"),
        ("[" * 100_000, "no readable JSON"),
        ('{"results": ' * 100_000, "no readable JSON"),
        ('{"results": {"t": {"acc": NaN}}}', "no readable JSON"),
        ('{"results": {"t": {"acc": ' + "9" * 5000 + "}}}", "no readable JSON"),
        ("{}", "none of the metrics"),
        ('{"results": []}', "results is no JSON object"),
        ('{"results": {"t": 1}}', "task 't' is no JSON object"),
        ('{"results": {"t": {"acc": "0.5"}}}', "acc of task 't' is no number"),
        ('{"results": {"t": {"acc": true}}}', "acc of task 't' is no number"),
        ('{"results": {"t": {"acc": 1e999}}}', "acc of task 't' is no number from 0 to 1"),
        ('{"results": {"t": {"acc": 50.0}}}', "acc of task 't' is no number from 0 to 1"),
        ('{"results": {"t": {"word_perplexity": 9}}}', "none of the metrics"),
        ('{"results": {"t": {"acc": 0.5}}, "config": {"limit": 100}}', "--limit"),
        ('{"results": {"t": {"acc": 0.5}}, "config": {"model_args": [1]}}', "model_args is no JSON object"),
        ('{"results": {"t": {"acc": 0.5}}, "n-shot": 5}', "n-shot is no JSON object"),
        ('{"results": {"t": {"acc": 0.5}}, "configs": {"t": 5}}', "configs of 't' is no JSON object"),
    ],
)
def test_what_is_no_whole_result_is_refused(text: str, rule: str) -> None:
    """A file that is broken, partial or of another kind is refused by name of the rule."""
    with pytest.raises(UserError, match=rule):
        lm_eval.parse(text)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(VERSIONS)), st.data())
def test_damaged_results_never_break_the_reader(version: str, data: st.DataObject) -> None:
    """Whatever stands where in a result, the answer is a run or a UserError."""
    payload = json.loads(json.dumps(VERSIONS[version]))
    place = payload
    while True:
        key = data.draw(st.sampled_from(sorted(place)))
        if not isinstance(place[key], dict) or not place[key] or data.draw(st.booleans()):
            place[key] = data.draw(json_values)
            break
        place = place[key]
    try:
        run = parsed(payload)
    except UserError:
        return
    assert all(0 <= score.value <= 1 for score in run.scores)


@settings(max_examples=100, deadline=None)
@given(json_values)
def test_any_json_never_breaks_the_reader(payload: Any) -> None:
    """Any JSON, as a whole or as its results, is a run or a UserError."""
    for whole in (payload, {"results": payload}, {"results": {"t": payload}}):
        with pytest.raises(UserError):
            parsed(whole)


def test_a_part_of_a_task_is_refused() -> None:
    """Samples that were left out make another figure, whether `limit` says so or the counts do."""
    samples = {"hellaswag": {"original": 10042, "effective": 10}}
    with pytest.raises(UserError, match="covers only a part of hellaswag"):
        lm_eval.parse(json.dumps({**V049, "n-samples": samples}))
    whole = {"hellaswag": {"original": 10042, "effective": 10042}}
    assert lm_eval.parse(json.dumps({**V049, "n-samples": whole})) == lm_eval.parse(json.dumps(V049))
