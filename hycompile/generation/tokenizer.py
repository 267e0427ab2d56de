"""Text to tokens and back through a ``tokenizer.json``; tokens become text while they come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tokenizers import Tokenizer as Fast
from tokenizers.decoders import DecodeStream

from hycompile.errors import ArtifactError

# Twice what the largest vocabularies in use need.
LIMIT_BYTES = 64 * 2**20
_T = TypeVar("_T")
_WAY_OUT = "give a tokenizer.json as the library tokenizers saves it"


class Tokenizer:
    """A tokenizer from a file nobody vouches for.

    Args:
        data: contents of a ``tokenizer.json``.
        name: what errors call it.

    Raises:
        ArtifactError: not such a file, or larger than 64 MB.
    """

    def __init__(self, data: bytes, name: str) -> None:
        if len(data) > LIMIT_BYTES:
            raise ArtifactError(name, f"a tokenizer of more than {LIMIT_BYTES} bytes", _WAY_OUT)
        self._name = name
        try:
            self._fast = Fast.from_buffer(data)
        except Exception as error:  # noqa: BLE001 - the library raises plain exceptions
            reason = str(error).removeprefix("Cannot instantiate Tokenizer from buffer: ")
            raise ArtifactError(name, f"not a tokenizer ({reason})", _WAY_OUT) from None
        # What training used them for would cut or fill a prompt.
        self._fast.no_truncation()
        self._fast.no_padding()
        self.vocabulary = 1 + max(self._fast.get_vocab().values(), default=-1)
        added = self._fast.get_added_tokens_decoder()
        self.special = frozenset(token for token, known in added.items() if known.special)

    @classmethod
    def read(cls, path: Path) -> Tokenizer:
        """The tokenizer in a file.

        Raises:
            ArtifactError: the file cannot be read, is no tokenizer or too large.
        """
        try:
            with path.open("rb") as stream:
                data = stream.read(LIMIT_BYTES + 1)
        except OSError as error:
            raise ArtifactError(f"{path}", f"cannot be read ({error.strerror})", _WAY_OUT) from None
        return cls(data, f"{path}")

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, with those the tokenizer itself puts before it (a start of text).

        Raises:
            ArtifactError: the text holds what is no character, or the tokenizer fails on it.
        """
        return list(_attempt(self._name, lambda: self._fast.encode(text).ids))

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens; special ones are none."""
        return _attempt(self._name, lambda: self._fast.decode(list(tokens)))

    def stream(self, before: Sequence[int]) -> TextStream:
        """Text of tokens that continue ``before``, one at a time."""
        return TextStream(self._fast, before, self._name)


class TextStream:
    """Text as it becomes certain: the bytes of a character may come in several tokens, and are held back till then.

    What :meth:`push` returned and then :meth:`rest` are together the text of the tokens.
    """

    def __init__(self, fast: Fast, before: Sequence[int], name: str) -> None:
        self._fast, self._name = fast, name
        self._stream = DecodeStream(list(before), skip_special_tokens=True)
        self._held: list[int] = []

    def push(self, token: int) -> str:
        """The text that is certain with one token more; empty while a character is incomplete."""
        self._held.append(token)
        text = _attempt(self._name, lambda: self._stream.step(self._fast, token))
        if text is None:
            return ""
        self._held.clear()
        return text

    def rest(self) -> str:
        """What was held back, with U+FFFD for bytes that are no character; the stream is over then."""
        held, self._held = self._held, []
        return _attempt(self._name, lambda: self._fast.decode(held))


def _attempt(name: str, call: Callable[[], _T]) -> _T:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - the library raises plain exceptions
        raise ArtifactError(name, f"the tokenizer fails ({error})", _WAY_OUT) from None
