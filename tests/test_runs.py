import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sksae._runs import joined_ranges, ranks_in_runs, run_lengths, run_starts

SORTED = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=20).map(sorted)


@given(SORTED)
def test_runs_are_those_of_a_loop(pairs):
    first, second = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    starts = [i for i, pair in enumerate(pairs) if i == 0 or pair != pairs[i - 1]]
    assert run_starts(first, second).tolist() == starts
    lengths = run_lengths(run_starts(first, second), len(pairs))
    assert lengths.tolist() == [pairs.count(pairs[i]) for i in starts]
    values = first.tolist()
    expected = [i - values.index(value) for i, value in enumerate(values)]
    assert ranks_in_runs(first).tolist() == expected


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 4)), max_size=10))
def test_ranges_are_joined_in_their_order(ranges):
    starts, lengths = np.array(ranges, dtype=np.int64).reshape(-1, 2).T
    expected = [start + i for start, length in ranges for i in range(length)]
    assert joined_ranges(starts, lengths).tolist() == expected


def test_runs_of_strings():
    assert run_starts(np.array(["a", "a", "b"], dtype=object)).tolist() == [0, 2]
