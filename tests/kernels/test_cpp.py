"""The compiled extension against its definitions: 200 random shapes an operation, odd and empty ones among them."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from skips import need, needs

import windward_kernels as kernels
from windward_kernels import cpp
from windward_kernels.cpp import PagePool, SequenceInput, Step, build, pack, quantise_int4, quantise_int8
from windward_kernels.cpp.build import Unavailable
from windward_kernels.cpp.library import library

SHAPES = int(os.environ.get("WINDWARD_SHAPES", "200"))
extension = needs("extension")
ISAS = ["", "avx2", "plain"]  # the best of this processor, and lesser ones
CHOSEN = "products or company or attention or pages_that or small_operations"


def error(got, expected):
    top = float(np.abs(expected).max()) if expected.size else 0.0
    return float(np.abs(got - expected).max()) / max(top, 1e-30) if expected.size else 0.0


def encoded(kind, weight):
    """A matrix in an encoding: its name and bytes."""
    if kind == "Q4_0":
        groups = weight.reshape(-1, 32)
        scale = (np.abs(groups).max(1, keepdims=True) / 7).astype("<f2")
        codes = np.clip(np.rint(groups / scale.astype(np.float32)), -8, 7).astype(np.int64) + 8
        packed = (codes[:, :16] | codes[:, 16:] << 4).astype(np.uint8)
        return np.concatenate((scale.view(np.uint8), packed), axis=1)
    if kind == "BF16":
        return (np.ascontiguousarray(weight).view(np.uint32) >> 16).astype(np.uint16)
    by_name = {"F32": lambda w: w, "F16": lambda w: w.astype(np.float16), "Q4_1": quantise_int4, "Q8_0": quantise_int8}
    return by_name[kind](weight)


def codes_of(x):
    """Rows as the extension rounds them: codes, scales, and sums of each group."""
    rows, cols = x.shape
    codes, scale, sums = np.empty((rows, cols), "i1"), *(np.empty((rows, cols // 32), "f4") for _ in range(2))
    library().ww_quantise(x.ctypes.data, rows, cols, codes.ctypes.data, scale.ctypes.data, sums.ctypes.data)
    return codes, scale, sums


@extension
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0"])
def test_products(kind, threads):
    dice = np.random.default_rng(len(kind) + threads)
    cpp.set_threads(threads)
    worst, ties = 0.0, 0
    for i in range(SHAPES):
        step = 32 if kind.startswith("Q") else 1
        rows, cols = int(dice.integers(1, 90)), int(dice.integers(1, 7)) * step
        m = int(dice.integers(0, 150 if i % 5 == 0 else 27))
        if kind[0] != "Q":
            cols = int(dice.integers(1, 150))
        weight = dice.standard_normal((rows, cols), np.float32) * 10 ** dice.uniform(-2, 1)
        bias = dice.standard_normal(rows, np.float32) if i % 3 == 0 else None
        order = dice.permutation(rows) if i % 4 == 0 else None
        packed = pack(kind, encoded(kind, weight), rows, cols, order=order, bias=bias)
        x = torch.from_numpy(dice.standard_normal((m, cols), np.float32))
        if m > 2:
            x[1] = 0  # a group without a scale
        got = {p.name: p.run for p in kernels.packed_linear.fast_paths}["cpp"](x, packed)
        expected = kernels.packed_linear.reference(x, packed)
        assert got.shape == expected.shape == (m, rows)
        same = np.ones(m, bool)
        if kind.startswith("Q"):  # a tie that falls otherwise after one ulp changes a code, and its row by a thousandth
            same = (codes_of(x.numpy())[0] == kernels.quantise_rows(x)[0].numpy()).all(1)
            ties += int((~same).sum())
        worst = max(worst, error(got.numpy()[same], expected.numpy()[same]))
        plain = weight if order is None else weight[order]
        coarse = {"F32": 1e-7, "F16": 1e-3, "BF16": 1e-2}.get(kind, 0.3)
        assert error(packed.dense(), plain) < coarse
        for row in {0, rows - 1, rows // 2}:
            np.testing.assert_allclose(packed.row(row), packed.dense()[row], rtol=1e-6, atol=1e-6)
    cpp.set_threads(1)
    print(f"{kind}: worst relative error {worst:.1e}")
    assert worst < kernels.packed_linear.tolerance[torch.float32] and ties <= 3


@extension
@pytest.mark.parametrize("kind", ["F32", "Q4_1", "Q8_0"])
def test_a_row_is_the_same_alone_and_in_company(kind):
    dice = np.random.default_rng(5)
    packed = pack(kind, encoded(kind, dice.standard_normal((50, 96), np.float32)), 50, 96)
    x = torch.from_numpy(dice.standard_normal((149, 96), np.float32))
    together = kernels.packed_linear(x, packed)
    assert torch.equal(kernels.packed_linear(x[:23], packed), together[:23])
    for m in (*range(23), 127, 128, 148):
        assert torch.equal(kernels.packed_linear(x[m : m + 1], packed)[0], together[m])


def filled(dice, kind, heads, size, lengths, layers=2):
    """A pool with sequences of these lengths in scattered blocks; their tables."""
    need = [-(-max(n, 1) // 16) for n in lengths]
    blocks = sum(need) + int(dice.integers(0, 4))
    free = dice.permutation(blocks).tolist()
    tables = [[free.pop() for _ in range(n)] for n in need]
    pool = PagePool(kind, layers=layers, blocks=blocks, kv_heads=heads, head_dim=size)
    rows = [SequenceInput([0] * n, 0, t) for n, t in zip(lengths, tables, strict=True)]
    step = Step.of(rows)
    k, v = (dice.standard_normal((sum(lengths), heads, size), np.float32) for _ in range(2))
    pool.append(layers - 1, step, k, v)
    return pool, tables, k, v


@extension
@pytest.mark.parametrize(("kind", "rounding"), [("float32", 0.0), ("float16", 1e-3), ("int8", 5e-3), ("int4", 0.07)])
def test_attention_over_pages(kind, rounding):
    dice = np.random.default_rng(7)
    worst = stored = 0.0
    for i in range(SHAPES):
        heads, size = int(dice.integers(1, 4)), 16 * int(dice.integers(1, 5))
        group = int(dice.choice([1, 2, 3, 4, 8]))
        lengths = [
            int(n) for n in dice.integers(0 if i % 5 == 0 else 1, 200 if i % 7 == 0 else 40, dice.integers(1, 5))
        ]
        pool, tables, k, v = filled(dice, kind, heads, size, lengths)
        window = int(dice.integers(1, 60)) if i % 2 else None
        asked = [int(dice.integers(0, n + 1)) for n in lengths]  # an empty sequence is a row of none
        step = Step.of([SequenceInput([0] * a, n - a, t) for a, n, t in zip(asked, lengths, tables, strict=True)])
        q = torch.from_numpy(dice.standard_normal((sum(asked), heads * group, size), np.float32))
        paths = {p.name: p.run for p in kernels.paged_attention.fast_paths}
        got = paths["cpp"](q, pool, 1, step, window=window)
        expected = kernels.paged_attention.reference(q, pool, 1, step, window=window)
        worst = max(worst, error(got.numpy(), expected.numpy()))
        begin = 0
        for n, table in zip(lengths, tables, strict=True):
            if n:
                read = pool.read(1, table, 0, n)
                stored = max(stored, error(read[0], k[begin : begin + n]), error(read[1], v[begin : begin + n]))
            begin += n
    print(f"{kind}: attention {worst:.1e}, rounding in the cache {stored:.1e}")
    assert worst < kernels.paged_attention.tolerance[torch.float32] and stored <= rounding


@extension
def test_attention_of_a_token_is_the_same_in_prefill_and_in_decode():
    dice = np.random.default_rng(3)
    pool, (table,), _, _ = filled(dice, "float32", 2, 32, [300])
    q = dice.standard_normal((300, 6, 32), np.float32)
    for window in (None, 37):
        whole = pool.attend(1, Step.of([SequenceInput([0] * 300, 0, table)]), q, window=window, scale=0.2)
        for place in (0, 1, 127, 128, 129, 255, 299):
            one = pool.attend(
                1, Step.of([SequenceInput([0], place, table)]), q[place : place + 1], window=window, scale=0.2
            )
            assert np.array_equal(one[0], whole[place])


@extension
def test_pages_that_the_window_has_passed_are_never_touched():
    dice = np.random.default_rng(4)
    pool, (table,), _, _ = filled(dice, "float32", 1, 16, [90])
    q = dice.standard_normal((1, 2, 16), np.float32)
    whole = pool.attend(1, Step.of([SequenceInput([0], 89, table)]), q, window=20, scale=1.0)
    holes = [-1] * 4 + table[4:]
    assert np.array_equal(pool.attend(1, Step.of([SequenceInput([0], 89, holes)]), q, window=20, scale=1.0), whole)


def small(name, dice, rows, cols):
    x = dice.standard_normal((rows, cols), np.float32) * 4
    return x, torch.from_numpy(x)


@extension
@pytest.mark.parametrize("name", ["rms_norm", "swiglu", "rope", "quantise"])
def test_small_operations(name):
    dice, entry, worst = np.random.default_rng(len(name)), library(), 0.0
    for _ in range(SHAPES):
        rows, cols = int(dice.integers(0, 6)), int(dice.integers(1, 200))
        if name == "rope":
            cols = 2 * cols
        if name == "quantise":
            cols = 32 * (1 + cols % 5)
        x, given = small(name, dice, rows, cols)
        out = np.empty_like(x)
        if name == "rms_norm":
            w = dice.standard_normal(cols, np.float32)
            entry.ww_rms_norm(x.ctypes.data, w.ctypes.data, 1e-5, rows, cols, out.ctypes.data)
            expected = kernels.rms_norm.reference(given.double(), torch.from_numpy(w).double(), 1e-5)
        elif name == "swiglu":
            up = dice.standard_normal((rows, cols), np.float32)
            entry.ww_swiglu(x.ctypes.data, up.ctypes.data, x.size, out.ctypes.data)
            expected = kernels.swiglu.reference(given.double(), torch.from_numpy(up).double())
        elif name == "rope":
            cos, sin = (t.contiguous() for t in kernels.rope_table(torch.arange(rows), cols, 1e4))
            out[:] = x
            entry.ww_rope(out.ctypes.data, cos.numpy().ctypes.data, sin.numpy().ctypes.data, rows, cols)
            expected = kernels.rope.reference(given[None, None].double(), cos.double(), sin.double())[0, 0]
        else:
            codes, scale, sums = codes_of(x)
            theirs, by = kernels.quantise_rows(given)
            assert np.abs(codes.astype(int) - theirs.numpy().astype(int)).max(initial=0) <= 1  # ties after one ulp
            totals = codes.reshape(rows, cols // 32, 32).sum(-1, dtype=np.int64) * scale
            np.testing.assert_allclose(sums, totals, rtol=1e-5, atol=1e-5)
            out, expected = scale, by
        worst = max(worst, error(out, expected.numpy()))
    print(f"{name}: worst relative error {worst:.1e}")
    assert worst < 2e-6


@extension
def test_swiglu_far_out():
    gate = np.array([-200, -90, -1e-30, 0, 1e-30, 90, 200, -1e4], np.float32)
    out, up = np.empty_like(gate), np.ones_like(gate)
    library().ww_swiglu(gate.ctypes.data, up.ctypes.data, gate.size, out.ctypes.data)
    np.testing.assert_allclose(out, [0, 0, -5e-31, 0, 5e-31, 90, 200, 0], rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize(
    ("encoding", "size", "rows", "cols"), [("F32", 7, 2, 4), ("Q4_1", 20, 1, 16), ("Q8_0", 34, 2, 32), ("F16", 0, 0, 4)]
)
def test_sizes_that_do_not_fit_are_named(encoding, size, rows, cols):
    with pytest.raises(ValueError, match="are no matrix"):
        pack(encoding, np.zeros(size, np.uint8), rows, cols)


@extension
def test_an_order_outside_the_matrix_is_refused():
    with pytest.raises(ValueError, match="order must name rows"):
        pack("F32", np.zeros((2, 4), np.float32), 2, 4, order=[0, 2])


CHILD = """
import sys
from windward_kernels import cpp
print(cpp.available(), cpp.why_not() or cpp.isa(), "torch" in sys.modules)
"""


def child(code=CHILD, **environ):
    path = str(Path(__file__).parents[2] / "kernels")
    env = {**os.environ, "PYTHONPATH": path, **environ}
    return subprocess.run(
        [sys.executable, "-P", "-c", code], env=env, capture_output=True, text=True, check=True
    ).stdout


@extension
def test_it_loads_without_torch_and_takes_a_lesser_instruction_set():
    assert child(WINDWARD_ISA="plain").split() == ["True", "plain", "False"]


PLAIN_AND_BEST = """
import json, numpy as np
from windward_kernels.cpp import pack, quantise_int4, quantise_int8, linear, PagePool, SequenceInput, Step
dice = np.random.default_rng(0)
made = []
half = lambda w: w.astype("f2")
for kind, f in (("Q4_1", quantise_int4), ("Q8_0", quantise_int8), ("F32", np.copy), ("F16", half)):
    w = dice.standard_normal((77, 160), np.float32)
    made.append(linear(dice.standard_normal((9, 160), np.float32), [pack(kind, f(w), 77, 160)]).ravel())
for kind in ("float32", "float16", "int8", "int4"):
    pool = PagePool(kind, layers=1, blocks=12, kv_heads=2, head_dim=48)
    step = Step.of([SequenceInput([0] * 180, 0, list(range(12)))])
    k, v, q = (dice.standard_normal((180, n, 48), np.float32) for n in (2, 2, 6))
    pool.append(0, step, k, v)
    made.append(pool.attend(0, step, q, window=70, scale=0.2).ravel())
print(json.dumps(np.concatenate(made).tolist()))
"""


@extension
def test_plain_kernels_agree_with_those_of_this_processor():
    best, *lesser = [np.array(json.loads(child(PLAIN_AND_BEST, WINDWARD_ISA=isa))) for isa in ISAS]
    assert all(error(one, best) < 1e-5 for one in lesser)


@extension
@pytest.mark.parametrize("isa", ISAS[1:])
def test_lesser_processors_kernels(isa):
    """The tests of this file as if on a processor without AVX-512, and on one without vectors."""
    if isa == "avx2":
        need("avx2")
    assert child(WINDWARD_ISA=isa).split() == ["True", isa, "False"]
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", CHOSEN]
    done = subprocess.run(
        command,
        env={**os.environ, "WINDWARD_ISA": isa, "WINDWARD_SHAPES": "60"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and " passed" in done.stdout and "skipped" not in done.stdout, done.stdout


@extension
def test_avx512_kernels_on_an_emulator(tmp_path):
    """No processor of ours has AVX-512: SIMDe says its intrinsics in AVX2, and the tests of this file run on that."""
    need("avx2", "simde")
    header = Path(__file__).with_name("avx512_emulation.h")
    flags = ["-DWW_SKIP_AVX2", f'-DWW_EMULATION="{header}"', "-O1", "-mavx2", "-mfma", "-mf16c"]
    build.build(tmp_path / build.library_name(), flags)
    kernels_dir = {"WINDWARD_KERNELS_DIR": str(tmp_path), "WINDWARD_ISA": "avx512-vnni"}
    assert child(**kernels_dir).split() == ["True", "avx512-vnni", "False"]
    command = [sys.executable, "-P", "-m", "pytest", "-v", "-p", "no:cacheprovider", __file__, "-k", CHOSEN]
    done = subprocess.run(command, env={**os.environ, **kernels_dir}, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and " passed" in done.stdout and "skipped" not in done.stdout, done.stdout
    for kind in ("float32", "float16", "int8", "int4"):
        assert f"test_attention_over_pages[{kind}-" in done.stdout, "each form of the cache has been there"
    agreed = (child(PLAIN_AND_BEST, **kernels_dir | {"WINDWARD_ISA": isa}) for isa in ("avx512-vnni", "plain"))
    found = [np.array(json.loads(text)) for text in agreed]
    assert 0 < error(found[0], found[1]) < 1e-5, "close to the plain ones, and not they themselves"


@extension
def test_what_is_built_ahead_needs_no_compiler_and_nowhere_to_write(tmp_path):
    """As in the worker's image: built by root with a usual umask, used by nobody in a pod that may write nowhere."""
    folder = tmp_path / "image" / "kernels"
    path = str(Path(__file__).parents[2] / "kernels")
    quick = tmp_path / "quick"  # what it is about is where the library lies; -O1 compiles in a fraction of the time
    quick.write_text(f'#!/bin/sh\nexec {build.compiler()} "$@" -O1\n')
    quick.chmod(0o755)
    command = ["sh", "-c", f"umask 022 && exec {sys.executable} -P -m windward_kernels.cpp {folder}"]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": path, "CXX": str(quick)}, check=True, capture_output=True)
    (made,) = folder.iterdir()
    assert folder.stat().st_mode & 0o005 == 0o005 and made.stat().st_mode & 0o004, "others may read it"
    nowhere = {"PATH": str(tmp_path), "CXX": "", "XDG_CACHE_HOME": "/proc/none", "WINDWARD_KERNELS_DIR": str(folder)}
    assert child(**nowhere).split() == ["True", cpp.isa(), "False"]


def test_without_a_compiler_it_says_so(tmp_path):
    told = child(XDG_CACHE_HOME=str(tmp_path), PATH=str(tmp_path), CXX="", WINDWARD_KERNELS_DIR="")
    assert told.startswith("False no C++ compiler found (g++, c++, clang++ or $CXX); install one")


def test_a_compiler_that_fails_is_quoted(tmp_path):
    (tmp_path / "g++").write_text(
        "#!/bin/sh\ntest \"$1\" = -dumpfullversion || { echo 'no such header' >&2; exit 1; }\n"
    )
    (tmp_path / "g++").chmod(0o755)
    told = child(XDG_CACHE_HOME=str(tmp_path), PATH=f"{tmp_path}:/bin", CXX="", WINDWARD_KERNELS_DIR="")
    assert told.startswith("False the C++ compiler") and "no such header" in told
    assert not list((tmp_path / "windward" / "kernels").iterdir()), "nothing half-made is left"


def test_the_references_can_be_forced():
    assert child(WINDWARD_KERNELS="reference").startswith("False WINDWARD_KERNELS=reference")


def test_builders_side_by_side_leave_one_whole_library(tmp_path, monkeypatch):
    """With a compiler that only copies: what counts is that nobody sees a part."""

    def compile_slowly(command):
        Path(command[-1]).write_bytes(b"whole")

    monkeypatch.setattr(build, "_compile", compile_slowly)
    monkeypatch.setattr(build, "compiler", lambda: "cc")
    target, seen = tmp_path / "kept" / "a.so", []
    threads = [threading.Thread(target=lambda: seen.append(build.build(target, ()).read_bytes())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [b"whole"] * 8 and [p.name for p in target.parent.iterdir()] == ["a.so"]


def test_unavailable_is_an_error_that_callers_can_tell():
    assert issubclass(Unavailable, RuntimeError)


FOREIGN = [("the library", "", 0o775), ("its folder", "..", 0o777)]


@pytest.mark.parametrize(("which", "mode"), [f[1:] for f in FOREIGN], ids=[f[0] for f in FOREIGN])
def test_a_library_that_others_could_have_written_is_refused(tmp_path, which, mode):
    """Loading it would run their code with our rights."""
    folder = tmp_path / "kernels"
    folder.mkdir(mode=0o700)
    made = folder / "windward.so"
    made.write_bytes(b"")
    made.chmod(0o755)
    build.refuse_foreign(made)
    (folder if which else made).chmod(mode)
    with pytest.raises(Unavailable, match="may be written by others: run chmod go-w"):
        build.refuse_foreign(made)


def test_a_library_of_another_user_is_refused(tmp_path, monkeypatch):
    """Root gives the file away; who is not root becomes somebody else instead."""
    made = tmp_path / "windward.so"
    made.write_bytes(b"")
    made.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(made, 12345, 12345)
    else:
        monkeypatch.setattr(build.os, "getuid", lambda: os.geteuid() + 1)
    with pytest.raises(Unavailable, match="belongs to another user"):
        build.refuse_foreign(made)


@extension
def test_what_is_built_is_ours_alone_whatever_the_umask(tmp_path):
    old = os.umask(0o002)
    try:
        made = build.build(tmp_path / "kernels" / "windward.so", build._defines(every=False))
    finally:
        os.umask(old)
    build.refuse_foreign(made)


@extension
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["F32", "Q4_1", "Q8_0"])
def test_what_is_no_number_does_not_become_one(kind, bad):
    """A group of activations is rounded: one NaN in it used to end as a sound-looking sum."""
    dice = np.random.default_rng(3)
    packed = pack(kind, encoded(kind, dice.standard_normal((20, 64), np.float32)), 20, 64)
    x = torch.from_numpy(dice.standard_normal((3, 64), np.float32))
    x[1, 40] = bad
    got = kernels.packed_linear(x, packed)
    assert not got[1].isfinite().any() and got[0].isfinite().all() and got[2].isfinite().all()


@extension
@pytest.mark.parametrize("kind", ["float32", "float16", "int8", "int4"])
def test_a_stored_nan_is_seen_by_those_who_look_at_it(kind):
    pool, step = PagePool(kind, layers=1, blocks=2, kv_heads=1, head_dim=32), Step.of([SequenceInput([0] * 3, 0, [1])])
    k = np.ones((3, 1, 32), np.float32)
    k[1, 0, 5] = np.nan
    pool.append(0, step, k, np.ones_like(k))
    out = pool.attend(0, step, np.ones_like(k), scale=0.1)
    assert np.isfinite(out[0]).all() and np.isnan(pool.read(0, [1], 0, 3)[0][1]).any()
