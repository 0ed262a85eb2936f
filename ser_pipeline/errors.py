"""The one exception that a user sees."""


class PipelineError(Exception):
    """A mistake or fault that the user can mend: one line that says what is wrong and what to do."""
