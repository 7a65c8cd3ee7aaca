"""Text from tokens as they come: nothing that a later token could still change, nothing after a stop string."""

from __future__ import annotations

from typing import Protocol

KEEP, WINDOW = 8, 64  # tokens that are decoded again as context, at least; tokens after which only those are kept
MOST = 4 * WINDOW  # tokens of the window where no shorter context is sound
UNFINISHED = "\ufffd"  # what a decoder writes for the first bytes of a character: one for all of them, or one for each


class Decodes(Protocol):
    """The part of a tokenizer that is needed here."""

    def decode(self, ids: list[int]) -> str:
        """The text of these tokens."""


class TextStream:
    """Feed it token by token; the pieces together are the whole text, cut before the stop string that is whole first.

    A character of several bytes may come in several tokens, so a text's end is held back while it is unfinished; and so
    is an end that may become a stop string. Where bytes are tokens of their own (byte fallback, as of Llama-2 and
    Mistral), one unfinished character makes the whole run of bytes before it unreadable, until it is whole.
    """

    def __init__(self, tokenizer: Decodes, stop: tuple[str, ...] = ()) -> None:
        self._tokenizer = tokenizer
        self._stop = stop
        self._tokens: list[int] = []  # the window
        self._seen = 0  # characters of the window's text that were taken
        self._held = ""  # taken, and perhaps the begin of a stop string
        self.stopped = False

    def push(self, token: int) -> str:
        """The text that is certain after one more token; empty once stopped."""
        if self.stopped:
            return ""
        self._tokens.append(token)
        fresh = self._fresh(final=False)
        if len(self._tokens) > WINDOW:
            self._forget()
        return self._take(fresh)

    def _forget(self) -> None:
        """Shorten the window to a few tokens that by themselves decode to the text's end, where there are such."""
        whole = self._tokenizer.decode(self._tokens)
        if not whole.endswith(UNFINISHED):
            for count in range(KEEP, WINDOW):
                text = self._tokenizer.decode(self._tokens[-count:])
                if text and UNFINISHED not in text and whole.endswith(text):
                    del self._tokens[:-count]
                    self._seen = len(text)
                    return
        if len(self._tokens) > MOST:  # nothing but broken characters: their own tokens are all that is left of them
            del self._tokens[:-KEEP]
            self._seen = len(self._tokenizer.decode(self._tokens).rstrip(UNFINISHED))

    def finish(self) -> str:
        """What was held back: no token follows."""
        if self.stopped:
            return ""
        text = self._take(self._fresh(final=True)) + self._held
        self._held = ""
        return text

    def _fresh(self, *, final: bool) -> str:
        """What the window's text has got since the last look."""
        text = self._tokenizer.decode(self._tokens)
        if not final:
            text = text.rstrip(UNFINISHED)
        fresh = text[self._seen :]
        self._seen = max(self._seen, len(text))
        return fresh

    def _take(self, fresh: str) -> str:
        """Let through what is in front of any stop string, whole or begun."""
        text = self._held + fresh
        # Of several, the one that is whole first, so that it does not matter how the text is cut into tokens.
        matches = [(text.find(s) + len(s), text.find(s)) for s in self._stop if s in text]
        if matches:
            self.stopped, self._held = True, ""
            return text[: min(matches)[1]]
        keep = max((_begun(text, s) for s in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _begun(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
