"""Pieces of text are certain, whole and in order, whatever tokens come."""

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers

from windward_worker.model import learn_bpe
from windward_worker.serve.text import TextStream

TOKENIZER: Tokenizer = learn_bpe(["wind and sun; Größe 風 und 日 🌬 " * 30], 320)
TOKENS = st.lists(st.integers(0, TOKENIZER.get_vocab_size() - 1), max_size=180)
TEXTS = st.text("ab 風🌬é\u200d", max_size=80).map(lambda t: TOKENIZER.encode(t).ids)


def run(tokens, stop=()):
    stream = TextStream(TOKENIZER, stop)
    pieces = [stream.push(t) for t in tokens]
    return stream, pieces, stream.finish()


@given(TOKENS | TEXTS)
def test_the_pieces_are_the_whole(tokens):
    _, pieces, rest = run(tokens)
    assert "".join(pieces) + rest == TOKENIZER.decode(tokens)


@given(TEXTS, st.lists(st.text("ab 風é", min_size=1, max_size=4), min_size=1, max_size=3))
def test_nothing_from_the_stop_on_that_is_whole_first_is_told(tokens, stops):
    whole = TOKENIZER.decode(tokens)
    places = [(whole.find(s) + len(s), whole.find(s)) for s in stops if s in whole]
    stream, pieces, rest = run(tokens, tuple(stops))
    assert "".join(pieces) + rest == (whole[: min(places)[1]] if places else whole)
    assert stream.stopped == bool(places)


def byte_fallback():
    """As in Llama-2, Mistral and TinyLlama: what is not in the vocabulary comes as its bytes, a token each."""
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"<0x{b:02X}>": 3 + b for b in range(256)}}
    for piece in ("▁", "h", "i", "▁hi", "é"):
        vocabulary[piece] = len(vocabulary)
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    made.decoder = decoders.Sequence(parts)
    return made


BYTES = byte_fallback()


def streamed(tokens, stop=()):
    stream = TextStream(BYTES, stop)
    return "".join([*map(stream.push, tokens), stream.finish()])


@given(st.text("hi é日本語😀€", max_size=120))
def test_characters_that_come_byte_by_byte_are_whole(text):
    """An unfinished one makes U+FFFD of all bytes before it: they were streamed as such."""
    tokens = BYTES.encode(text).ids
    assert streamed(tokens) == BYTES.decode(tokens)


def test_bytes_do_not_wait_for_the_end():
    stream = TextStream(BYTES)
    pieces = [stream.push(t) for t in BYTES.encode("hi 日本" + "語" * 200 + " hi").ids]
    assert "日" in pieces and pieces.count("語") == 200 and "\ufffd" not in "".join(pieces)
    assert streamed(BYTES.encode("hi 日本語 hi").ids, ("語",)) == "hi 日本"


def test_broken_bytes_are_told_once_they_are_certain():
    """A model may make bytes that are no text: they neither grow without bound nor hold up what follows."""
    stream = TextStream(BYTES)
    made = "".join(stream.push(3 + 0xE6) for _ in range(2000)) + stream.push(BYTES.token_to_id("h")) + stream.finish()
    assert made.endswith("h") and len(stream._tokens) < 300
