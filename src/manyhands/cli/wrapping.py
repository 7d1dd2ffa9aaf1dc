"""Text that comes piece by piece, broken between words where a terminal would break within them.

Knows no terminal: text in, the same text with line breaks out.
"""

from __future__ import annotations


class Wrapping:
    """Holds a word back until it is whole. `column` is where the next character goes."""

    def __init__(self, width: int) -> None:
        self.column = 0
        self._width, self._word = width, ""

    def feed(self, text: str) -> str:
        """What may be shown now."""
        shown = []
        for character in text:
            if not character.isspace():
                self._word += character
                if len(self._word) >= self._width:
                    shown.append(self.finish())
                continue
            shown.append(self.finish())
            if character == "\n":
                self.column = 0
                shown.append(character)
            elif self.column < self._width:  # a space at the edge is the break itself
                self.column += 1
                shown.append(character)
        return "".join(shown)

    def finish(self) -> str:
        """The word that was held back."""
        word, self._word = self._word, ""
        is_over = self.column > 0 and self.column + len(word) > self._width
        self.column = len(word) if is_over else self.column + len(word)
        return f"\n{word}" if word and is_over else word
