"""The one exception that a user sees."""


class PipelineError(Exception):
    """A mistake or fault that the user can mend: one line that says what is wrong and what to do."""

    def __str__(self) -> str:
        r"""The line, in which line breaks and other control characters of names and cells are escaped.

        >>> str(PipelineError("no column 'a\nb'"))
        "no column 'a\\nb'"
        """
        text = super().__str__()
        if text.isprintable():
            return text
        return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
