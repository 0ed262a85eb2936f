"""Words that messages and pages share."""


def plural(number: int, noun: str) -> str:
    """A number and its noun.

    >>> plural(1, "seed"), plural(5531, "utterance"), plural(4, "class")
    ('1 seed', '5,531 utterances', '4 classes')
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "es" if noun.endswith("s") else "s")
