"""Words that messages and pages share."""

import re


def plural(number: int, noun: str) -> str:
    """A number and its noun.

    >>> plural(1, "seed"), plural(5531, "utterance"), plural(4, "class")
    ('1 seed', '5,531 utterances', '4 classes')
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "es" if noun.endswith("s") else "s")


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sorting key that takes runs of digits as numbers.

    >>> sorted(["10F", "9F", "9A"], key=natural)
    ['9A', '9F', '10F']
    """
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(part), part) if part[0] in "0123456789" else (1, 0, part) for part in parts]
