"""Which tokens are meant, as columns known in advance."""

import contextlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sksae.language_models.interventions._token_positions import Positions, read_where
from sksae.language_models.model import interventions_ignored, scope, without_interventions
from tests.cases import each_case, tries


class Reader(nn.Module):
    """What a model is to `Positions`: something that is given tokens."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Identity()

    def forward(
        self, input_ids=None, attention_mask=None, past_key_values=None, inputs_embeds=None
    ):
        return self.inner(input_ids if inputs_embeds is None else inputs_embeds)


class Cache:
    def __init__(self, length):
        self.length = length

    def get_seq_length(self):
        return self.length


class Follower:
    """Runs passes through a reader and asks for the mask of each."""

    def __init__(self, where):
        self.positions, self.reader = Positions(where), Reader()
        self.shape = None  # of the rows, where it is not that of the tokens

    def __enter__(self):
        self.stack = contextlib.ExitStack()
        here = self.stack.enter_context(scope())
        self.stack.enter_context(self.positions.following(self.reader, "inner", here))
        self.stack.callback(self.reader.inner.register_forward_hook(self.look).remove)
        return self

    def __exit__(self, *error):
        self.stack.close()

    def look(self, _module, _args, x):
        if interventions_ignored():
            return
        shape = self.shape or x.shape[:2]
        self.found = self.positions.mask(torch.zeros(*shape, 3)).int().tolist()

    def __call__(self, ids=None, attention=None, cached=None, **others):
        cache = None if cached is None else Cache(cached)
        ids, attention = (None if x is None else torch.tensor(x) for x in (ids, attention))
        self.reader(ids, attention, cache, **others)
        return self.found


PROMPT = [[7, 8, 9], [4, 5, 6]]

# where, the mask over the prompt, whether what comes after it is meant
CASES = [
    ("all", [[1, 1, 1], [1, 1, 1]], 1),
    ("last", [[0, 0, 1], [0, 0, 1]], 1),
    ("generated", [[0, 0, 0], [0, 0, 0]], 1),
    ([0, -1], [[1, 0, 1], [1, 0, 1]], 0),
    (1, [[0, 1, 0], [0, 1, 0]], 0),
    (range(2), [[1, 1, 0], [1, 1, 0]], 0),
    (torch.tensor([-3]), [[1, 0, 0], [1, 0, 0]], 0),
    (np.array([[1, 0, 0], [0, 1, 1]], bool), [[1, 0, 0], [0, 1, 1]], 0),
    (torch.tensor([[False, True, False]]), [[0, 1, 0], [0, 1, 0]], 0),
]


@each_case("where, prompt, after", CASES)
def test_tokens_from_the_cache_come_after_the_prompt(where, prompt, after):
    with Follower(where) as ask:
        assert ask(PROMPT, cached=0) == prompt
        assert ask([[1], [2]], cached=3) == [[after], [after]]
        assert ask([[1], [2]], cached=4) == [[after], [after]]
        # The next `generate` has another prompt.
        assert ask(PROMPT[::-1], cached=0) == prompt


@each_case("where, prompt, after", CASES)
def test_without_a_cache_each_pass_has_the_prompt_again(where, prompt, after):
    with Follower(where) as ask:
        assert ask(PROMPT) == prompt
        for n in (1, 2):
            longer = [row + [3] * n for row in PROMPT]
            assert ask(longer) == [row + [after] * n for row in prompt]
        assert ask(PROMPT) == prompt


def test_a_longer_pass_with_another_beginning_is_a_prompt_of_its_own():
    with Follower("generated") as ask:
        assert ask(PROMPT) == [[0] * 3] * 2
        assert ask([[7, 8, 1, 1], [4, 5, 6, 1]]) == [[0] * 4] * 2
        # With an empty cache it is a prompt, even if it begins like the last one.
        assert ask([[7, 8, 1, 1, 1], [4, 5, 6, 1, 1]], cached=0) == [[0] * 5] * 2
        assert ask([[1], [1]], cached=5) == [[1], [1]]


def test_conversations_go_on_in_the_cache():
    with Follower("generated") as ask:
        assert ask([[7, 8]], cached=0) == [[0, 0]]
        assert ask([[1]], cached=2) == [[1]]
        assert ask([[5, 6]], cached=3) == [[0, 0]]  # the next prompt
        assert ask([[1]], cached=5) == [[1]]
    with Follower([0, -1]) as ask:
        assert ask([[7, 8]], cached=6) == [[0, 1]]  # column 0 is in the cache already


def test_a_cache_that_does_not_go_on_belongs_to_another_prompt():
    with Follower("generated") as ask:
        ask([[7, 8, 9]], cached=0)
        assert ask([[1]], cached=10) == [[0]]
        assert ask([[1]], cached=11) == [[1]]


LEFT, RIGHT = [[0, 1, 1], [1, 1, 1]], [[1, 1, 0], [1, 1, 1]]


def test_padding_is_never_meant():
    with Follower("all") as ask:
        assert ask(PROMPT, LEFT) == LEFT
        assert ask(PROMPT, RIGHT) == RIGHT
    with Follower("last") as ask:
        assert ask(PROMPT, LEFT) == [[0, 0, 1], [0, 0, 1]]
        assert ask(PROMPT, RIGHT) == [[0, 1, 0], [0, 0, 1]]
        assert ask(PROMPT, [[0, 0, 0], [1, 0, 0]]) == [[0, 0, 0], [1, 0, 0]]
    with Follower([0]) as ask:
        assert ask(PROMPT, LEFT) == [[0, 0, 0], [1, 0, 0]]
    with Follower(np.ones((2, 3), bool)) as ask:
        assert ask(PROMPT, RIGHT) == RIGHT


def test_the_mask_of_all_columns_says_what_is_padding_among_the_new():
    with Follower("all") as ask:
        ask(PROMPT, LEFT, cached=0)
        longer = [[*row, 1] for row in LEFT]
        assert ask([[1], [1]], longer, cached=3) == [[1], [1]]
        longer = [[*row, 1, 0] for row in LEFT]
        assert ask([[1], [1]], longer, cached=4) == [[0], [0]]
    # What is no mask of tokens says nothing about padding.
    with Follower("all") as ask:
        assert ask(PROMPT, np.zeros((2, 1, 3, 3), bool)) == [[1] * 3] * 2


def test_beams_repeat_each_sequence():
    mask = np.array([[True, False], [False, True]])
    with Follower(mask) as ask:
        assert ask([[1, 2], [1, 2], [1, 2], [5, 6], [5, 6], [5, 6]], cached=0) == (
            [[1, 0]] * 3 + [[0, 1]] * 3
        )


@settings(max_examples=tries(40), deadline=None)
@given(
    st.integers(1, 5),
    st.integers(0, 4),
    st.sampled_from(["all", "last", "generated", "positions", "mask"]),
    st.data(),
)
def test_passes_with_a_cache_add_up_to_the_pass_without(n, new, where, data):
    ids = data.draw(st.lists(st.integers(1, 9), min_size=n + new, max_size=n + new))
    pads = data.draw(st.integers(0, n - 1))
    attention = [0] * pads + [1] * (n + new - pads)
    if where == "positions":
        where = data.draw(st.lists(st.integers(-n, n - 1), min_size=1, max_size=n))
    elif where == "mask":
        where = np.array([data.draw(st.lists(st.booleans(), min_size=n, max_size=n))])
    with Follower(where) as ask:
        parts = ask([ids[:n]], [attention[:n]], cached=0)[0]
        for i in range(n, n + new):
            parts += ask([[ids[i]]], [attention[: i + 1]], cached=i)[0]
    with Follower(where) as ask:
        whole = ask([ids[:n]], [attention[:n]])[0]
        for i in range(n + 1, n + new + 1):
            whole = ask([ids[:i]], [attention[:i]])[0]
    assert whole == parts
    assert not any(parts[:pads])


def test_embeddings_are_tokens_too():
    x = torch.randn(2, 4, 3)
    with Follower("generated") as ask:
        assert ask(inputs_embeds=x[:, :3]) == [[0] * 3] * 2
        assert ask(inputs_embeds=x) == [[0, 0, 0, 1]] * 2
        assert ask(inputs_embeds=x + 1) == [[0] * 4] * 2
        with pytest.raises(ValueError, match="input_ids or inputs_embeds"):
            ask()


def test_rows_may_be_flat():
    with Follower([1]) as ask:
        ask.shape = (6,)
        assert ask(PROMPT) == [0, 1, 0, 0, 1, 0]
        for wrong in ((5,), (3, 2), (6, 1)):
            ask.shape = wrong
            with pytest.raises(
                ValueError, match=rf"shape \({wrong[0]}, .*3\) passes this one for 2 sequences of 3"
            ):
                ask(PROMPT)


def test_a_part_that_runs_without_the_model_is_refused():
    with Follower("all") as ask:
        for _ in range(2):  # never called, and called before
            with pytest.raises(RuntimeError, match="call the model itself"):
                ask.reader.forward(torch.tensor(PROMPT))
            assert ask(PROMPT) == [[1] * 3] * 2
        ask.shape = (5,)
        with pytest.raises(ValueError, match="has one row per token"):
            ask(PROMPT)
        with pytest.raises(RuntimeError, match="call the model itself"):
            ask.reader.forward(torch.tensor(PROMPT))


def test_without_tokens_the_rows_themselves_are_counted():
    positions = Positions("last")
    with scope() as here, positions.following(nn.Sequential(nn.Identity()), "0", here):
        assert positions.mask(torch.zeros(2, 3, 4)).int().tolist() == [[0, 0, 1]] * 2
        assert positions.mask(torch.zeros(1, 2, 4)).int().tolist() == [[0, 1]]


def test_passes_that_only_ask_how_the_model_is_built_do_not_count():
    with Follower("generated") as ask:
        ask([[7, 8]], cached=0)
        with without_interventions():
            ask.reader(torch.tensor([[1, 2, 3, 4]]))
        assert ask([[1]], cached=2) == [[1]]


@each_case(
    "where",
    ["first", None, 0.5, [0.5], [], [[1, 2]], [True, False], np.zeros((0, 3), bool), {"a": 1}],
)
def test_what_is_no_place_is_refused(where):
    with pytest.raises(ValueError, match="where must be one of 'all', 'last', 'generated'"):
        read_where(where)


def test_what_lies_outside_of_the_prompt_is_refused():
    for where, wrong in (([0, 3], 3), ([-4], -4)):
        with (
            Follower(where) as ask,
            pytest.raises(ValueError, match=f"no position {wrong} in a prompt of 3 tokens"),
        ):
            ask(PROMPT)
    for shape in ((2, 4), (3, 3)):
        with (
            Follower(np.ones(shape, bool)) as ask,
            pytest.raises(ValueError, match=r"prompt has 2 sequences of 3 tokens"),
        ):
            ask(PROMPT)
