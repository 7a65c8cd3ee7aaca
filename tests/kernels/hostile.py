"""The Python faces of the compiled kernels under random and hostile arguments: run by test_faces.py, also sanitised.

`python hostile.py SECONDS` prints a JSON line for each case of the table, then draws until the time is over: sound
calls of odd shapes, of which every second one has one argument spoilt. What is spoilt must raise ValueError or be
harmless; nothing may kill the process. numpy alone.
"""

import json
import sys
import time

import numpy as np

from windward_kernels.cpp import (
    PackedWeight,
    PagePool,
    SequenceInput,
    Step,
    blocks_int4,
    linear,
    pack,
    quantise_int4,
    quantise_int8,
    set_threads,
)

FAR = 2**31


def i32(*values):
    return np.array(values, np.int32)


def pool(kind="float32", **sizes):
    return PagePool(kind, **{"layers": 1, "blocks": 4, "kv_heads": 1, "head_dim": 16, **sizes})


def kv(tokens):
    return np.ones((tokens, 1, 16), np.float32)


def step(token=(0,), position=(0,), first=(0, 1), table=((0,),), output=()):
    return Step(i32(*token), i32(*position), i32(*first), np.array(table, np.int32), i32(*output))


def attend(given, tokens=1, **options):
    return pool().attend(0, given, kv(tokens), **{"scale": 1.0, **options})


def weight(**changed):
    sound = {"kind": 0, "rows": 4, "cols": 4, "data": np.zeros(256, np.uint8), "bias": None}
    return PackedWeight(**{**sound, **changed})


def packed(encoding="F32", size=64, rows=4, cols=4, **more):
    return pack(encoding, np.zeros(size, np.uint8), rows, cols, **more)


NAN = np.full((1, 32), np.nan, np.float32)
CODES = np.zeros((2, 32), np.uint8)
ONES = np.ones((2, 1), np.float16)
HOSTILE = {  # what is wrong -> the argument that the error names, and the call
    "position below zero": ("position", lambda: step(position=(-1,))),
    "position far below zero": ("position", lambda: step(position=(-100000,))),
    "position beyond the table": ("position", lambda: step(position=(16,))),
    "positions descend": ("position", lambda: step((0, 0), (15, 0), (0, 2))),
    "positions leap over a page": ("position", lambda: step((0, 0), (0, 40), (0, 2), ((0, -1, 0),))),
    "positions of 64 bits": ("position", lambda: Step(i32(0), np.array([0]), i32(0, 1), i32(0)[None], i32())),
    "too few positions": ("position", lambda: step((0, 0), (0,), (0, 2))),
    "first beyond the tokens": ("first", lambda: step(first=(0, 10**6))),
    "first below zero": ("first", lambda: step(first=(-(10**6), 1))),
    "first falls": ("first", lambda: step((0, 0), (0, 1), (0, 2, 1, 2), ((0,), (0,), (0,)))),
    "first is empty": ("first", lambda: step(first=())),
    "a table row too few": ("table", lambda: step((0, 0), (0, 0), (0, 1, 2))),
    "a table from right to left": (
        "table",
        lambda: Step(i32(0), i32(17), i32(0, 1), np.full((1, 64), -1, np.int32)[:, ::-1][:, :4], i32()),
    ),
    "output beyond the tokens": ("output", lambda: step(output=(1,))),
    "output below zero": ("output", lambda: step(output=(-1,))),
    "tokens are a list": ("token", lambda: Step([0], i32(0), i32(0, 1), i32(0)[None], i32())),
    "append to a block out of the pool": ("table", lambda: pool().append(0, step(table=((9,),)), kv(1), kv(1))),
    "append to a hole": ("table", lambda: pool().append(0, step(table=((-1,),)), kv(1), kv(1))),
    "append to a layer that is not there": ("layer", lambda: pool().append(1, step(), kv(1), kv(1))),
    "append keys of two tokens for one": ("k", lambda: pool().append(0, step(), kv(2), kv(1))),
    "append values of another head": ("v", lambda: pool().append(0, step(), kv(1), kv(1)[..., :8])),
    "append keys that are text": ("k", lambda: pool().append(0, step(), np.array([[["a"]]]), kv(1))),
    "attend through a hole": ("table", lambda: attend(step(position=(16,), table=((-1, 0),)))),
    "attend to a far block": ("table", lambda: attend(step(position=(16,), table=((10**8, 0),)))),
    "attend in no window": ("window", lambda: attend(step(), window=0)),
    "attend in a window of -2^31": ("window", lambda: attend(step(), window=-FAR)),
    "attend in a window of 2^31": ("window", lambda: attend(step(), window=FAR)),
    "attend in a window of 2^32 + 1": ("window", lambda: attend(step(), window=2 * FAR + 1)),
    "attend with a scale of NaN": ("scale", lambda: attend(step(), scale=float("nan"))),
    "attend with a scale beyond float": ("scale", lambda: attend(step(), scale=1e39)),
    "attend with two queries for one": ("q", lambda: attend(step(), 2)),
    "attend with no heads": ("q", lambda: pool().attend(0, step(), kv(1)[:, :0], scale=1.0)),
    "read a block out of the pool": ("table", lambda: pool().read(0, [9], 0, 1)),
    "read beyond the table": ("end", lambda: pool().read(0, [0], 0, 17)),
    "a pool of -1 blocks": ("blocks", lambda: pool(blocks=-1)),
    "a pool of 2^31 blocks": ("blocks", lambda: pool("int4", blocks=FAR)),
    "a pool of 1.5 layers": ("layers", lambda: pool(layers=1.5)),
    "a pool of no heads": ("kv_heads", lambda: pool(kv_heads=0)),
    "a pool of heads of 0": ("head_dim", lambda: pool(head_dim=0)),
    "pack rows of 2^31": ("rows", lambda: pack("F16", np.broadcast_to(np.uint8(0), 2 * FAR), FAR, 1)),
    "pack an unknown encoding": ("encoding", lambda: packed("Q3_K")),
    "pack a longer bias": ("bias", lambda: packed(bias=np.zeros(64, np.float32))),
    "pack a bias of two dimensions": ("bias", lambda: packed(bias=np.zeros((4, 1), np.float32))),
    "pack in an order beyond the rows": ("order", lambda: packed(order=[0, 1, 2, 9])),
    "pack in an order beyond 32 bits": ("order", lambda: packed(order=[0, 1, 2, 2 * FAR + 3])),
    "pack in an order of fractions": ("order", lambda: packed(order=[0.5, 1, 2, 3])),
    "a weight of an unknown kind": ("kind", lambda: weight(kind=7)),
    "a weight of more rows than its data": ("data", lambda: weight(rows=1 << 20)),
    "a weight of more rows than 31 bits": ("rows", lambda: weight(rows=FAR)),
    "a weight of half a group": ("cols", lambda: weight(kind=3, cols=33)),
    "a weight whose data lie apart": ("data", lambda: weight(data=np.zeros(512, np.uint8)[::2])),
    "a weight with a short bias": ("bias", lambda: weight(bias=np.zeros(4, np.float32))),
    "a row below zero": ("index", lambda: weight().row(-1)),
    "a row beyond the last": ("index", lambda: weight().row(4)),
    "a product of no weights": ("weights", lambda: linear(np.zeros((1, 4), np.float32), [])),
    "a product with other columns": ("x", lambda: linear(np.zeros((2, 5), np.float32), [weight()])),
    "a product with a vector": ("x", lambda: linear(np.zeros(4, np.float32), [weight()])),
    "rounding NaN to int8": ("weight", lambda: quantise_int8(NAN)),
    "rounding NaN to int4": ("weight", lambda: quantise_int4(NAN)),
    "rounding half a group": ("weight", lambda: quantise_int8(np.zeros((2, 16), np.float32))),
    "codes of five bits": ("codes", lambda: blocks_int4(CODES + 31, ONES, ONES)),
    "a scale too few": ("scale", lambda: blocks_int4(CODES, ONES[:1], ONES)),
    "no threads": ("count", lambda: set_threads(0)),
    "a million threads": ("count", lambda: set_threads(10**6)),
}


def told(call):
    """The kind of error that a call raises and its words; empty where it returns."""
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def spoilt(dice, array):
    """The array with one value or its form made wrong."""
    array = array.copy()
    how = int(dice.integers(0, 4))
    if how == 0 or not array.size:
        return array[..., :-1] if array.shape[-1] else np.zeros((*array.shape[:-1], 1), array.dtype)
    if how == 1:
        return array.astype(np.int64 if array.dtype.kind == "i" else np.float64)
    extreme = (-1, -(2**31), 2**31 - 1, 10**6, 16, 17) if array.dtype.kind == "i" else (np.nan, np.inf, 1e38)
    array.flat[int(dice.integers(0, array.size))] = dice.choice(extreme)
    return array


def products(dice, wrong):
    encoding = str(dice.choice(["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0"]))
    rows = int(dice.integers(1, 40))
    cols = 32 * int(dice.integers(1, 4)) if encoding[0] == "Q" else int(dice.integers(1, 70))
    each = {"F32": 4, "F16": 2, "BF16": 2, "Q4_0": 18 / 32, "Q4_1": 20 / 32, "Q8_0": 34 / 32}[encoding]
    raw = dice.integers(0, 256, int(rows * cols * each)).astype(np.uint8)  # any bytes: NaN and infinity too
    order = dice.permutation(rows).astype(np.int32)
    bias = dice.standard_normal(rows).astype(np.float32)
    x = dice.standard_normal((int(dice.integers(0, 30)), cols)).astype(np.float32)
    given = [raw, order, bias, x]
    if wrong:
        at = int(dice.integers(0, 4))
        given[at] = spoilt(dice, given[at]) if at else raw[:-1]
    try:
        made = pack(encoding, given[0], rows, cols, order=given[1], bias=given[2])
    except ValueError as error:
        if "Q4_0 scale" in str(error) and not wrong:
            return
        raise
    if wrong and dice.integers(0, 2):
        given[3] = given[3] * np.float32(1e-44)  # 127 over it is infinite
    linear(given[3], [made, made][: int(dice.integers(1, 3))])
    made.row(int(dice.integers(0, rows)))


def pages(dice, wrong):
    kind, heads, size = str(dice.choice(["float32", "float16", "int8", "int4"])), int(dice.integers(1, 3)), 16
    group, blocks = int(dice.integers(1, 9)), int(dice.integers(1, 12))
    store = PagePool(kind, layers=1, blocks=blocks, kv_heads=heads, head_dim=size * int(dice.integers(1, 4)))
    rows = []
    for _ in range(int(dice.integers(0, 4))):
        table = dice.integers(0, blocks, int(dice.integers(1, 11))).tolist()
        place = int(dice.integers(0, len(table) * 16))
        rows.append(SequenceInput([0] * int(dice.integers(0, len(table) * 16 - place + 1)), place, table, outputs=0))
    sound = Step.of(rows)
    count = len(sound.token)
    k, v = (dice.standard_normal((count, heads, store.head_dim)).astype(np.float32) for _ in range(2))
    q = dice.standard_normal((count, heads * group, store.head_dim)).astype(np.float32)
    arrays = [sound.token, sound.position, sound.first, sound.table, sound.output, k, v, q]
    window = int(dice.integers(1, 200)) if dice.integers(0, 2) else None
    if wrong:
        at = int(dice.integers(0, len(arrays)))
        arrays[at] = spoilt(dice, arrays[at])
    given = Step(*arrays[:5])
    store.append(0, given, arrays[5], arrays[6])
    store.attend(0, given, arrays[7], window=window, scale=0.1)


if __name__ == "__main__":
    for name, (_, call) in HOSTILE.items():
        print(json.dumps({"case": name, "told": told(call)}), flush=True)
    until, seed, refused = time.monotonic() + float(sys.argv[1]), 0, 0
    while time.monotonic() < until:
        dice, wrong = np.random.default_rng(seed), seed % 2 == 1
        for draw in (products, pages):
            with np.errstate(all="ignore"):
                try:
                    draw(dice, wrong)
                except ValueError:
                    assert wrong, (draw.__name__, seed)
                    refused += 1
        seed += 1
    print(json.dumps({"drawn": 2 * seed, "refused": refused}))
