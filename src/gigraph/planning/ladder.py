"""The numbers of non-zeros that are tried where the decision to keep says how many are needed."""

MOST = 256
"""Largest number that can be chosen."""


def numbers(most: int) -> list[int]:
    """Return the numbers tried up to `most`, itself among them: 1, 2, 3, 4, 6, 8, 12, 16, 24 and so on."""
    ladder = [1, *(step << power for power in range(MOST.bit_length()) for step in (2, 3))]
    return [*sorted(number for number in ladder if number < most), most]
