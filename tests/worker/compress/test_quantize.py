"""`quantize` and `pareto` as commands: what they write opens everywhere; bad requests are refused."""

import json
import shutil
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
from safetensors.torch import load_file as read_tensors
from safetensors.torch import save_file

from windward_kernels import cpp
from windward_worker.cli import main
from windward_worker.compress.calibrate import windows_of
from windward_worker.compress.page import page
from windward_worker.compress.pareto import Point, Variant, documents, mark, table
from windward_worker.compress.perplexity import perplexity
from windward_worker.compress.ptq import quantise
from windward_worker.compress.recipe import Scheme
from windward_worker.control import Refused
from windward_worker.inference import CpuRunner, SequenceInput, TorchRunner
from windward_worker.model import PackedModel, load_path, open_model


def quantize(trained, out, *options):
    argv = ["quantize", "--model", str(trained.folder), "--calibration", str(trained.text), "--tokens", "1500"]
    return main([*argv, "--out", str(out), *map(str, options)])


@pytest.mark.parametrize(
    ("method", "bits", "group"),
    [("rtn", 4, 32), ("rtn", 8, 128), ("gptq", 4, 64), ("awq", 4, 32), ("smoothquant", 8, 32), ("mixed", 4, 32)],
)
def test_what_is_written_opens_as_what_was_made(trained, tmp_path, capsys, method, bits, group):
    chosen = () if method == "mixed" else ("--bits", bits)
    options = ("--method", method, *chosen, "--group", group, "-o", "json")
    assert quantize(trained, tmp_path / "made", *options) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["perplexity_after"] == pytest.approx(found["perplexity_before"], rel=0.05)
    assert found["perplexity_before"] != found["perplexity_after"]
    config = json.loads((tmp_path / "made" / "config.json").read_text())["quantization_config"]
    assert (config["quant_method"], config["method"]) == ("windward", method)
    assert found["bytes"] < 0.45 * (trained.folder / "model.safetensors").stat().st_size

    opened = load_path(tmp_path / "made")
    rows = [SequenceInput(trained.ids[:40], 0, [0, 1, 2], outputs=40)]
    torch_logits = TorchRunner(opened.decoder, blocks=4).step(rows)
    if cpp.available():  # float32 weights: the same numbers; int4 with int8 activations: near
        exact = CpuRunner(PackedModel(open_model(tmp_path / "made"), "float32"), blocks=4, kv="float32").step(rows)
        np.testing.assert_allclose(exact, torch_logits, rtol=1e-3, atol=1e-3)
        packed = PackedModel(open_model(tmp_path / "made"))
        assert packed.weights["layers.0.self_attn.q_proj"].stored in ("int4", "int8")
        quick = CpuRunner(packed, blocks=4, kv="float32").step(rows)
        assert np.abs(quick - torch_logits).max() < 0.05 * np.abs(torch_logits).max()


def test_the_round_trip_is_exact(trained, tmp_path):
    """What the loader reads is what the codes stand for, bit for bit; a matrix that fits no group stays as it was."""
    assert quantize(trained, tmp_path / "made", "--method", "gptq", "--bits", 4, "--group", 64) == 0
    stored = read_tensors(tmp_path / "made" / "model.safetensors")
    name = "layers.1.self_attn.q_proj.weight"
    codes, scale, low = (stored[f"model.{name}_{part}"] for part in ("codes", "scale", "low"))
    assert codes.shape == (96, 48) and scale.shape == (96, 3), "96 columns take groups of 32 where 64 was asked for"
    pairs = codes.reshape(96, 3, 16)
    wide = torch.cat((pairs & 15, pairs >> 4), dim=2).float() * scale.float()[..., None] + low.float()[..., None]
    read = open_model(tmp_path / "made").get(name).floats()
    assert torch.equal(torch.from_numpy(np.array(read)), wide.reshape(96, 96))
    assert torch.equal(load_path(tmp_path / "made").decoder.layers[1].self_attn.q_proj.weight, wide.reshape(96, 96))
    assert {k for k in stored if k.endswith("norm.weight")} and not any(k.endswith("q_proj.weight") for k in stored)


def test_quantising_again_gives_the_same_file(trained, tmp_path):
    for out in ("a", "b"):
        assert quantize(trained, tmp_path / out, "--method", "awq") == 0
    files = [(tmp_path / out / "model.safetensors").read_bytes() for out in ("a", "b")]
    assert files[0] == files[1]
    assert quantize(trained, tmp_path / "a", "--method", "rtn") == 0, "a model folder is replaced"
    assert (tmp_path / "a" / "model.safetensors").read_bytes() != files[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--method", "magic"], ["--method", "'magic'", "rtn, gptq, awq, smoothquant, mixed"]),
        (["--bits", "3"], ["--bits", "3", "4 or 8"]),
        (["--group", "48"], ["--group", "48", "32, 64, 128"]),
        (["--method", "smoothquant", "--bits", "4"], ["--bits", "smoothquant", "8"]),
        (["--method", "mixed", "--budget", "2"], ["--budget", "2", "4 to 9"]),
        (["--tokens", "3"], ["--tokens", "64"]),
        (["--model", "nowhere.gguf"], ["--model", "nowhere.gguf", "does not exist"]),
        (["--calibration", "absent.txt"], ["--calibration", "absent.txt"]),
        (["--threads", "0"], ["--threads"]),
        (["-o", "xml"], ["--output", "table or json"]),
    ],
)
def test_a_bad_request_names_the_option(trained, tmp_path, capsys, options, words):
    assert quantize(trained, tmp_path / "made", *options) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert not (tmp_path / "made").exists()


def test_a_short_text_and_a_foreign_folder_are_refused(trained, tmp_path, capsys):
    (tmp_path / "short.txt").write_text("wind")
    assert quantize(trained, tmp_path / "made", "--calibration", tmp_path / "short.txt") == 2
    assert "--calibration" in capsys.readouterr().err
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("all of it")
    assert quantize(trained, tmp_path / "precious") == 2
    assert "--out" in capsys.readouterr().err and (tmp_path / "precious" / "thesis.txt").exists()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t, n: t.pop(f"{n}_scale"),
        lambda t, n: t.update({f"{n}_scale": t[f"{n}_scale"].float()}),
        lambda t, n: t.update({f"{n}_scale": t[f"{n}_scale"][:, :0].contiguous()}),
        lambda t, n: t.update({f"{n}_scale": t[f"{n}_scale"][:5].contiguous()}),
        lambda t, n: t.update({f"{n}_low": t[f"{n}_low"][:, :1].contiguous()}),
        lambda t, n: t.update({f"{n}_codes": t[f"{n}_codes"].to(torch.int8)}),
        lambda t, n: t.update({f"{n}_codes": t[f"{n}_codes"][:, :16].contiguous()}),
        lambda t, n: t.update({f"{n}_codes": t[f"{n}_codes"][:, :7].contiguous()}),
        lambda t, n: t.update({f"{n}_codes": t[f"{n}_codes"].flatten()}),
    ],
)
def test_codes_that_do_not_fit_are_refused(trained, tmp_path, spoil):
    assert quantize(trained, tmp_path / "made", "--method", "rtn") == 0
    file, name = tmp_path / "made" / "model.safetensors", "layers.0.mlp.up_proj.weight"
    tensors = read_tensors(file)
    spoil(tensors, f"model.{name}")
    save_file(tensors, file)
    with pytest.raises(Refused, match=r"layers\.0\.mlp\.up_proj"):
        open_model(tmp_path / "made").get(name)


def test_fewer_bits_say_less_of_the_whole_model_and_gptq_wins_some_back(trained):
    """Mean KL divergence from the whole model's next-token distributions, on text that calibration did not see.

    Perplexity would not do: a barely trained model may predict better by luck. Rounding errors of 4 bits are 16 times
    those of 8, and the divergence grows with their square.
    """
    held_out = windows_of(trained.ids[-1200:], 64, 12)
    whole = load_path(trained.folder).decoder(held_out).double().log_softmax(-1)

    def divergence(scheme):
        decoder = load_path(trained.folder).decoder
        quantise(decoder, trained.windows, scheme)
        said = decoder(held_out).double().log_softmax(-1)
        return float(torch.nn.functional.kl_div(said, whole, log_target=True, reduction="none").sum(-1).mean())

    eight, four, solved = (divergence(s) for s in (Scheme("rtn", 8), Scheme("rtn", 4), Scheme("gptq", 4)))
    print(f"nats: int8 {eight:.1e}, int4 {four:.1e}, gptq {solved:.1e}")
    assert 0 < 5 * eight < four < 0.1
    assert solved < 0.5 * four


def test_perplexity_is_that_of_the_windows(trained):
    decoder = load_path(trained.folder).decoder
    ids = trained.ids[:150]
    nats = []
    for begin in range(0, 149, 64):  # the model's context
        part = torch.tensor([ids[begin : begin + 65]])
        logits = decoder(part[:, :-1])[0]
        nats += torch.nn.functional.cross_entropy(logits, part[0, 1:], reduction="none").tolist()
    assert perplexity(TorchRunner(decoder, blocks=40), ids) == pytest.approx(np.exp(np.mean(nats)), rel=1e-5)
    with pytest.raises(ValueError, match="two tokens"):
        perplexity(TorchRunner(decoder, blocks=40), ids[:1])


def point(name, *costs):
    return Point(name, costs[0], costs[1], "modelled", costs[2], costs[3])


def test_a_point_is_dominated_where_another_is_nowhere_worse():
    points = mark(
        [
            point("exact", 10.0, 3.0, 10.0, 100.0),
            point("small", 11.0, 1.0, 30.0, 20.0),
            point("worse", 11.5, 1.0, 30.0, 20.0),
            point("slow but lean", 12.0, 2.0, 5.0, 10.0),
            point("twin", 11.0, 1.0, 30.0, 20.0),
        ]
    )
    assert [p.variant for p in points if p.dominated] == ["worse"], "equal points do not dominate each other"
    said = table(points).splitlines()
    assert said[1].startswith("* exact") and next(line for line in said if "worse" in line).startswith("  worse")


def test_the_page_is_sound_and_tells_the_dominated(tmp_path):
    points = mark([point("a<b", 10.0, 3.0, 1.0, 9.0), point("c", 9.0, 2.0, 2.0, 8.0), point("d", 9.0, 1e-4, 1.0, 8.0)])
    root = ET.fromstring(page(points, "x & y"))
    circles = [e for e in root.iter() if e.tag.endswith("circle")]
    assert [c.attrib["fill"] == "#ffffff" for c in circles] == [p.dominated for p in points] == [True, False, False]
    assert "a<b" in circles[0][0].text and "modelled" in page(points, "")
    inside = [0 < float(c.attrib["cx"]) < 860 and 0 < float(c.attrib["cy"]) < 520 for c in circles]
    assert all(inside)
    ET.fromstring(page(points[:1], "alone"))
    with pytest.raises(ValueError, match="at least one"):
        page([], "none")


def test_labels_of_near_points_do_not_cover_each_other():
    text = page([point(f"v{i}", 10.0 + i / 1000, 1.0, 1.0, 9.0) for i in range(5)] + [point("far", 20, 1, 1, 9)], "x")
    at = [float(e.attrib["y"]) for e in ET.fromstring(text).findall(".//{*}text") if e.text[0] == "v"]
    assert len(at) == 5 and min(b - a for a, b in zip(sorted(at), sorted(at)[1:], strict=False)) > 13.8
    assert "joules per token (modelled)" in text


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("float32", ("float32", "float16", None, 4, 32)),
        ("int4+kv8", ("int4", "int8", None, 4, 32)),
        ("int8-g64", ("stored", "float16", "rtn", 8, 64)),
        ("gptq-g128+kv8", ("stored", "int8", "gptq", 4, 128)),
        ("rtn-g64-w8", ("stored", "float16", "rtn", 8, 64)),
        ("smoothquant", ("stored", "float16", "smoothquant", 8, 32)),
        ("float32+kv4", ("float32", "int4", None, 4, 32)),
    ],
)
def test_a_variants_name_sets_its_fields(name, expected):
    v = Variant.parse(name)
    assert (v.weights, v.kv, v.method, v.bits, v.group) == expected


def test_a_folder_is_a_variant(trained, tmp_path):
    v = Variant.parse(f"{trained.folder}+kv8")
    assert (v.name, v.folder, v.weights, v.kv, v.method) == ("model+kv8", trained.folder, "stored", "int8", None)
    with pytest.raises(Refused, match="no model folder"):
        Variant.parse(f"{tmp_path}/absent")


@pytest.mark.parametrize("name", ["", "int4-g", "float32-g64", "int4-w8", "GPTQ", "gptq+kv5", "int8+kv4", "int8 "])
def test_a_name_that_is_no_variant_is_refused(name):
    with pytest.raises(Refused, match="--variants"):
        Variant.parse(name)


def test_pareto_runs_as_a_command(trained, tmp_path, capsys):
    made = tmp_path / "made"
    assert quantize(trained, made, "--group", 64) == 0
    capsys.readouterr()
    argv = ["pareto", "--model", str(trained.folder), "--calibration", str(trained.text), "--tokens", "1000"]
    names = f"float32,int8,rtn-g64,{made}"
    assert main([*argv, "--variants", names, "--svg", str(tmp_path / "f.svg"), "-o", "json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    points = json.loads(lines[0])["points"]
    assert [p["variant"] for p in points] == ["float32", "int8", "rtn-g64", "made"]
    for p in points:
        assert p["joules_per_token"] > 0 and p["tokens_per_s"] > 0 and p["method"] in ("measured", "modelled", "mixed")
    assert not all(p["dominated"] for p in points)
    if cpp.available():
        memory = [p["memory_mb"] for p in points]
        assert memory[0] > memory[1] > memory[2] == memory[3]
    ET.fromstring((tmp_path / "f.svg").read_text())
    assert main([*argv, "--variants", "float32,nonsense-g7"]) == 2
    assert "nonsense" in capsys.readouterr().err
    assert main([*argv, "--variants", "gptq-g33"]) == 2
    assert "--group: 33" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["pareto", "--confidence", "never", "--variants", "float32"], "--variants"),
        (["pareto", "--confidence", "never", "--svg", "f.svg"], "--svg"),
        (["pareto", "--variants", "float32-g32"], "float32 has no groups"),
        (["pareto", "--variants", "mixed-w8"], "mixed chooses its bits"),
        (["quantize", "--out", "made", "--method", "gptq", "--budget", "5"], "--budget"),
        (["quantize", "--out", "made", "--method", "mixed", "--bits", "8"], "--bits"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(trained, capsys, argv, named):
    command, *more = argv
    given = ["--model", str(trained.folder), "--calibration", str(trained.text)]
    assert main([command, *given, *more]) == 2
    assert named in capsys.readouterr().err


def test_a_variant_that_cannot_run_has_no_row_and_is_told(trained, tmp_path, capsys, monkeypatch):
    """Without the compiled kernels there is no int4; its row used to be plain torch's under its name."""
    from windward_worker.inference import open as opening

    monkeypatch.setattr(opening, "available", lambda: False)
    argv = ["pareto", "--model", str(trained.folder), "--calibration", str(trained.text), "--tokens", "1000"]
    page = tmp_path / "f.svg"
    assert main([*argv, "--variants", "float32,int4,float32+kv8", "--svg", str(page), "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [p["variant"] for p in found["points"]] == ["float32"] and set(found["left_out"]) == {"int4", "float32+kv8"}
    assert "plain torch" in found["left_out"]["int4"]
    drawn = page.read_text()
    assert "left out: int4: " in drawn and "left out: float32+kv8: " in drawn
    ET.fromstring(drawn)
    assert main([*argv, "--variants", "float32,int4"]) == 0 and "left out: int4: " in capsys.readouterr().out
    assert main([*argv, "--variants", "int4"]) == 2 and "none can run here" in capsys.readouterr().err


def test_a_quantised_model_is_not_read_as_another_kind(trained, tmp_path):
    """Without its codes a folder is refused by name, not filled with noise."""
    assert quantize(trained, tmp_path / "made", "--method", "rtn") == 0
    broken = tmp_path / "broken"
    shutil.copytree(tmp_path / "made", broken)
    tensors = read_tensors(broken / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if "k_proj" not in k}, broken / "model.safetensors")
    with pytest.raises(Refused, match=r"k_proj\.weight is missing"):
        load_path(broken)
    assert documents([point("a", 1.0, 1.0, 1.0, 1.0)])[0]["dominated"] is False
