"""What each method promises about the layers it rounds."""

import numpy as np
import pytest
import torch

from windward_kernels.cpp import quantise_int4, quantise_int8
from windward_worker.compress.calibrate import SHARED, CalibrationPass, InputStatistics, blocks_of, part_of, windows_of
from windward_worker.compress.grid import fitting_group, output_error, round_to_nearest
from windward_worker.compress.ptq import quantise, w8a8_error
from windward_worker.compress.recipe import Recipe, Scheme
from windward_worker.compress.recipes import RECIPES
from windward_worker.compress.recipes.awq import search
from windward_worker.compress.recipes.gptq import gptq, inverse_factor, solve
from windward_worker.compress.recipes.mixed import assign, bits_of, losses, matrices
from windward_worker.compress.recipes.smoothquant import migrate
from windward_worker.model import load_path
from windward_worker.model.gguf import _q4_1, _q8_0


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def correlated(count, cols, seed=0):
    """InputStatistics with a few loud directions, as in real layers, and their sums."""
    x = draw(count, cols, seed=seed) @ (draw(cols, cols, seed=seed + 1) / cols**0.5)
    x[:, ::17] *= 12
    inputs = InputStatistics.of(cols)
    inputs.add(x)
    return x, inputs


@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("bits", [4, 8])
def test_rounding_errs_by_half_a_step(bits, group):
    weight = draw(9, 256)
    weight[2, :group] = 0.7  # a group without a range
    weight[3, :group] = 0
    rounded = round_to_nearest(weight, bits, group)
    step = rounded.scale.float().repeat_interleave(group, 1)
    assert ((rounded.dense() - weight).abs() <= 0.51 * step + weight.abs() * 2**-10 + 1e-6).all()
    assert torch.equal(rounded.dense()[3, :group], torch.zeros(group))
    assert rounded.bits == bits and rounded.nbytes == sum(
        t.numel() * t.element_size() for t in rounded.tensors("w").values()
    )
    assert 8 * rounded.nbytes / weight.numel() == bits_of(bits, group)


def test_groups_of_32_are_those_of_the_packed_layout():
    weight = draw(6, 64)
    for bits, encode, decode in ((4, quantise_int4, _q4_1), (8, quantise_int8, _q8_0)):
        blocks = encode(weight.numpy()).reshape(12, -1)
        np.testing.assert_allclose(round_to_nearest(weight, bits, 32).dense().numpy(), decode(blocks).reshape(6, 64))


def test_a_group_must_divide_the_columns():
    assert [fitting_group(256, 128), fitting_group(192, 128), fitting_group(96, 128)] == [128, 64, 32]
    assert fitting_group(256, 64) == 64 and fitting_group(40, 32) is None


def test_sums_over_inputs_in_pieces_are_those_of_the_whole():
    x, whole = correlated(300, 32)
    pieces = InputStatistics.of(32)
    for part in (x[:7], x[7:200], x[200:]):
        pieces.add(part)
    torch.testing.assert_close(pieces.hessian, whole.hessian, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(pieces.mean, x.abs().mean(0), rtol=1e-4, atol=1e-5)
    assert torch.equal(pieces.peak, x.abs().amax(0)) and pieces.count == 300
    scale = torch.rand(32) + 0.5
    direct = InputStatistics.of(32)
    direct.add(x / scale)
    torch.testing.assert_close(whole.scaled(scale).hessian, direct.hessian, rtol=1e-3, atol=1e-4)


def test_output_error_is_the_squared_difference_of_outputs():
    x, inputs = correlated(500, 64)
    difference = draw(5, 64, seed=4) * 0.01
    direct = float((x @ difference.T).square().sum() / 500)
    assert output_error(difference, inputs.hessian) == pytest.approx(direct, rel=1e-4)


@pytest.mark.parametrize(("bits", "group"), [(4, 32), (4, 128), (8, 64)])
def test_gptq_takes_a_third_off_the_error_of_correlated_inputs(bits, group):
    _, inputs = correlated(600, 256)
    weight = draw(40, 256, seed=7)
    upper = inverse_factor(inputs.hessian)
    solved, plain = solve(weight, upper, bits, group), round_to_nearest(weight, bits, group)
    errors = [output_error(q.dense() - weight, inputs.hessian) for q in (solved, plain)]
    assert errors[0] < 0.67 * errors[1]
    assert torch.equal(gptq(weight, inputs.hessian, upper, bits, group).codes, solved.codes)


def test_gptq_on_inputs_that_do_not_covary_is_plain_rounding():
    weight, moments = draw(8, 64), torch.eye(64)
    solved = solve(weight, inverse_factor(moments), 4, 32)
    assert torch.equal(solved.codes, round_to_nearest(weight, 4, 32).codes)


def test_gptq_bears_inputs_that_are_never_seen():
    _, inputs = correlated(20, 96)  # fewer samples than columns
    inputs.hessian[:, 5] = inputs.hessian[5] = 0
    weight = draw(8, 96)
    made = gptq(weight, inputs.hessian, inverse_factor(inputs.hessian), 4, 32)
    assert made.dense().isfinite().all()
    assert (made.dense()[:, 5] - weight[:, 5]).abs().max() < 1
    with pytest.raises(ArithmeticError, match="not finite"):
        inverse_factor(torch.full((4, 4), float("nan")))


def test_awq_scales_lower_the_error_of_loud_inputs():
    _, inputs = correlated(600, 128)
    weights = [draw(30, 128, seed=3), draw(10, 128, seed=4)]
    scale = search(weights, inputs, 4, 128)
    assert scale.max() > 1.05 * scale.min(), "it did move something"

    def error(s):
        return sum(
            output_error(round_to_nearest(w * s, 4, 128).dense() / s - w, inputs.hessian) for w in weights
        )  # fmt: skip

    assert error(scale) < 0.95 * error(torch.ones(128))


def test_smoothquant_lowers_the_error_of_rounded_activations():
    x, inputs = correlated(400, 128)
    x[:, 3] *= 60
    inputs = InputStatistics.of(128)
    inputs.add(x)
    weight = draw(50, 128, seed=2)
    scale = migrate([weight], inputs)
    torch.testing.assert_close((weight * scale) @ (x / scale).T, weight @ x.T, rtol=1e-3, atol=1e-2)
    assert w8a8_error(weight * scale, x / scale) < 0.5 * w8a8_error(weight, x)


@pytest.mark.parametrize("method", ["awq", "smoothquant"])
def test_moving_scales_leaves_the_model_as_it_was(trained, decoder, method, monkeypatch):
    from windward_worker.compress import ptq as module
    from windward_worker.compress.recipes import awq

    def fitting_group(cols, wanted):
        return None if wanted == 32 else 32

    monkeypatch.setattr(module, "_round", lambda *args: None)
    monkeypatch.setattr(module, "fitting_group", fitting_group)
    monkeypatch.setattr(awq, "fitting_group", fitting_group)
    before = decoder(trained.windows[:2])
    shifted = decoder.layers[0].input_layernorm.weight.clone()
    quantise(decoder, trained.windows, Scheme(method, 8, 64))
    assert not torch.equal(decoder.layers[0].input_layernorm.weight, shifted)
    torch.testing.assert_close(decoder(trained.windows[:2]), before, rtol=1e-3, atol=2e-3)


def outcomes(trained, *schemes):
    return [quantise(load_path(trained.folder).decoder, trained.windows, scheme) for scheme in schemes]


def test_on_a_trained_model_gptq_and_awq_err_no_more_than_plain(trained, decoder):
    """In the first layer, whose inputs are the same for all three; later ones see what the rounded ones before make."""
    plain, solved, scaled = outcomes(trained, *(Scheme(m, 4, 32) for m in ("rtn", "gptq", "awq")))
    assert set(plain.errors) == set(solved.errors) == set(scaled.errors)
    first = [n for n in plain.errors if n.startswith("layers.0.")]
    assert len(first) == 7 and all(solved.errors[n] <= plain.errors[n] for n in first)
    assert sum(solved.errors.values()) < 0.8 * sum(plain.errors.values())
    inputs = CalibrationPass(decoder, trained.windows).inputs(decoder.layers[0])
    for place in ("qkv", "down"):  # what the search minimises: the sum over the matrices that share an input
        sizes = {f"layers.0.{m}.weight": m for m in SHARED[place][0]}
        whole = {n: output_error(part_of(decoder.layers[0], m).weight, inputs[place].hessian) for n, m in sizes.items()}
        errors = [sum(o.errors[n] * whole[n] for n in sizes) for o in (scaled, plain)]
        assert errors[0] < errors[1]


def test_the_calibration_pass_sees_what_the_whole_model_sees(trained, decoder):
    calibration = CalibrationPass(decoder, trained.windows[:3])
    seen = {}
    decoder.layers[1].mlp.down_proj.register_forward_pre_hook(lambda _, given: seen.update(x=given[0]))
    for _, block in blocks_of(decoder):
        found = calibration.inputs(block)
        assert set(found) == set(SHARED)
        if block is decoder.layers[1]:
            decoder(trained.windows[:3])
            torch.testing.assert_close(found["down"].peak, seen["x"].flatten(0, 1).abs().amax(0))
        calibration.advance(block)
    torch.testing.assert_close(
        decoder.norm(calibration.states) @ decoder.embed_tokens.weight.T,
        decoder(trained.windows[:3]),
        rtol=1e-3,
        atol=1e-3,
    )


def test_losses_leave_the_decoder_alone_and_are_what_rounding_adds(trained, decoder):
    kept = {k: v.clone() for k, v in decoder.state_dict().items()}
    found = losses(decoder, trained.windows[:6], 32)
    assert len(found) == 3 and all(torch.equal(v, kept[k]) for k, v in decoder.state_dict().items())

    def entropy():
        logits = decoder(trained.windows[:6])[:, :-1]
        return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), trained.windows[:6, 1:].flatten()))

    whole = entropy()
    for weight in matrices(decoder.layers[1]).values():
        weight.data = round_to_nearest(weight.data, 4, 32).dense()
    assert entropy() - whole == pytest.approx(found[1], abs=2e-5)


@pytest.mark.parametrize("budget", [4.0, 5.0, 5.9, 6.2, 7.4, 8.5])
def test_mixed_keeps_its_budget_and_spends_it_where_it_hurts(budget):
    suffering, sizes = {0: 0.3, 1: 0.9, 2: 0.001, 3: -0.1}, {0: 100, 1: 100, 2: 100, 3: 100}
    chosen = assign(suffering, sizes, 32, budget)
    mean = sum(bits_of(b, 32) for b in chosen.values()) / 4
    assert mean <= max(budget, 5.0)
    eights = [i for i in (1, 0, 2) if chosen[i] == 8]
    assert eights == [1, 0, 2][: len(eights)] and chosen[3] == 4
    assert len(eights) == min(3, max(0, int((budget - 5) * 4 / 3.5)))


def test_mixed_on_a_trained_model_meets_its_budget(trained):
    (made,) = outcomes(trained, Scheme("mixed", 4, 32, budget=6.4))
    assert made.mean_bits <= 6.4 and sorted(made.layer_bits.values()) == [4, 4, 8]


def test_windows_are_spread_over_the_text():
    made = windows_of(list(range(100)), 10, 4)
    assert made[:, 0].tolist() == [0, 30, 60, 90] and made[-1].tolist() == list(range(90, 100))


def test_every_recipe_stands_in_the_registry_under_its_name():
    assert list(RECIPES) == ["rtn", "gptq", "awq", "smoothquant", "mixed"]
    assert all(recipe.name == name and recipe.default_bits in (4, 8) for name, recipe in RECIPES.items())


def test_a_recipe_in_the_registry_is_asked_for_bits_preparation_and_rounding(trained, decoder, monkeypatch):
    class Halves(Recipe):
        name, asked = "halves", []

        def layer_bits(self, decoder, windows, scheme):
            return {0: 8, 1: 4, 2: 8}

        def prepare(self, decoder, block, inputs, scheme):
            self.asked.append(block)

        def rounding(self, inputs):
            return lambda weight, bits, group: round_to_nearest(weight / 2, bits, group)

    monkeypatch.setitem(RECIPES, "halves", Halves())
    before = decoder.layers[1].mlp.up_proj.weight.clone()
    result = quantise(decoder, trained.windows[:2], Scheme("halves"))
    assert Halves.asked == list(decoder.layers)
    assert [result.matrices[f"layers.{i}.mlp.up_proj.weight"].bits for i in range(3)] == [8, 4, 8]
    torch.testing.assert_close(decoder.layers[1].mlp.up_proj.weight, before / 2, rtol=0, atol=0.02)
