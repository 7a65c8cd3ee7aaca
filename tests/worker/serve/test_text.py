"""Pieces of text are certain, whole and in order, whatever tokens come."""

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

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
