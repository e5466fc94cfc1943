"""States of random number generators from files, checked before they are used.

numpy and torch believe what they are given: a position outside of the 624 words of a Mersenne
twister reads memory that is not its own, and words that are all 0 give 0 for ever, which loops that
reject numbers never leave.
"""

import numpy as np
import torch

from sksae._params import Float, Int

_WORDS, _LARGEST = 624, 2**32
_HALVES = 2**31  # of the first word only the highest bit is part of the state
_FIELDS = np.dtype(
    [
        *(("seed", "<u8"), ("left", "<i4"), ("seeded", "<i4"), ("next", "<u8")),
        *(("words", "<u8", _WORDS), ("rest", "u1", 40)),
    ]
)
"""The state of torch's generator on the CPU."""


def random_state(state):
    """Return the `RandomState` of a state as `RandomState.get_state` has it.

    Raises
    ------
    ValueError
        If a generator does not have such states.
    """
    if not isinstance(state, list) or len(state) != 5:
        raise ValueError("its RandomState has not the five parts of one")
    # The second normal number of a pair is kept for the next call: `gauss`.
    kind, words, position, has_gauss, gauss = state
    right = kind == "MT19937" and isinstance(words, list) and len(words) == _WORDS
    if not right or not all(Int(0, _LARGEST - 1).accepts(word) for word in words):
        raise ValueError(f"its RandomState is not a MT19937 with {_WORDS} words of 32 bits")
    if not Int(0, _WORDS).accepts(position) or not Int(0, 1).accepts(has_gauss):
        raise ValueError(f"its RandomState has a position that is not in [0, {_WORDS}]")
    if not Float().accepts(gauss):
        raise ValueError("its RandomState has a normal number that is not finite")
    _check_words(np.array(words, dtype=np.uint64))
    made = np.random.RandomState()
    made.set_state((kind, np.array(words, dtype=np.uint32), position, has_gauss, gauss))
    return made


def check_generator(raw):
    """Raise a ValueError if bytes are not a state of torch's generator on the CPU."""
    if raw.shape != (_FIELDS.itemsize,) or raw.dtype != np.uint8:
        raise ValueError("its state of the random numbers is not right")
    fields = raw.view(_FIELDS)[0]
    remaining, following = int(fields["left"]), int(fields["next"])
    # `remaining` falls and `following` rises with each number; the first is drawn from new words.
    within = following > 0 and remaining + following == _WORDS + 1
    unused = (remaining, following) == (1, 0)
    if not (within or unused):
        raise ValueError("its state of the random numbers has a position outside of its words")
    _check_words(fields["words"])
    try:
        torch.Generator().set_state(torch.from_numpy(raw.copy()))
    except RuntimeError as error:
        raise ValueError("its state of the random numbers is not right") from error


def _check_words(words):
    if (words >= _LARGEST).any() or (words[0] < _HALVES and not words[1:].any()):
        raise ValueError("its state of the random numbers has words that no generator has")
