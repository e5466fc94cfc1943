import math

import pytest
import torch

from sksae.kernels import Rule
from sksae.objectives import Objective
from sksae.training import AllEntries, Engine, SparsityController, Stopping, TrainingRun, _run


def weights(seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    return {
        "components": rows / rows.norm(dim=1, keepdim=True),
        "encoder_coef": rows.clone(),
        "encoder_intercept": torch.zeros(5, dtype=torch.float64),
        "intercept": torch.zeros(3, dtype=torch.float64),
    }


def objective(entries, alpha, dead):
    codes = torch.relu(entries.z)
    residual = entries.decode(codes) - entries.x
    return entries.w @ residual.square().sum(1) / entries.w.sum(), codes


def rule(weights):
    return Rule(bound=0.0)


class Plain(Objective):
    """Reconstruction by positive pre-activations, or another loss of them."""

    pre_bias = False

    def __init__(self, loss):
        self.loss = loss

    def rule(self, weights):
        return rule(weights)


def run_of(weights, objective=objective, **settings):
    return TrainingRun(weights, Engine(Plain(objective)), **settings)


def batch(n=8, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    return x, torch.ones(n, dtype=torch.float64)


def test_steps_are_adam_on_the_projected_clipped_gradient():
    """Three steps against the update written out."""
    run = run_of(weights(), learning_rate=0.01, max_grad_norm=1.0)
    expected = {name: w.clone() for name, w in weights().items()}
    first = {name: torch.zeros_like(w) for name, w in expected.items()}
    second = {name: torch.zeros_like(w) for name, w in expected.items()}
    for t in (1, 2, 3):
        x, w = batch(seed=t)
        run.step(x, w)
        leaves = {name: value.clone().requires_grad_() for name, value in expected.items()}
        entries = AllEntries(x, w, leaves, rule(leaves), pre_bias=False)
        objective(entries, 0.0, None)[0].backward()
        g = {name: leaf.grad for name, leaf in leaves.items()}
        d = expected["components"]
        g["components"] = g["components"] - (g["components"] * d).sum(1, keepdim=True) * d
        norm = math.sqrt(sum(float(v.square().sum()) for v in g.values()))
        clip = min(1.0, 1.0 / (norm + 1e-6))
        for name, value in expected.items():
            first[name] = 0.9 * first[name] + 0.1 * clip * g[name]
            second[name] = 0.999 * second[name] + 0.001 * (clip * g[name]) ** 2
            mean, square = first[name] / (1 - 0.9**t), second[name] / (1 - 0.999**t)
            expected[name] = value - 0.01 * mean / (square.sqrt() + 1e-8)
        expected["components"] /= expected["components"].norm(dim=1, keepdim=True)
    for name, value in expected.items():
        torch.testing.assert_close(run.weights[name].detach(), value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("at_once", [2**30, 0], ids=["at once", "in blocks"])
@pytest.mark.parametrize("frozen", ["components", "encoder_coef"])
def test_clipping_goes_by_the_gradient_of_trained_weights(frozen, at_once, monkeypatch):
    monkeypatch.setattr(_run, "_AT_ONCE", at_once)
    start, (x, w), unit = weights(), batch(), "components"
    leaves = {name: value.clone().requires_grad_() for name, value in start.items()}
    entries = AllEntries(x, w, leaves, rule(leaves), pre_bias=False)
    objective(entries, 0.0, None)[0].backward()
    g = {name: leaf.grad for name, leaf in leaves.items()}
    g[unit] = g[unit] - (g[unit] * start[unit]).sum(1, keepdim=True) * start[unit]
    del g[frozen]
    norm = math.sqrt(sum(float(v.square().sum()) for v in g.values()))
    assert norm > 1
    run = run_of(start, learning_rate=0.01, rate_scales={frozen: 0.0})
    run.step(x, w)
    for name, value in g.items():
        torch.testing.assert_close(run.moments[name][0], 0.1 * value / (norm + 1e-6))
    assert torch.equal(run.weights[frozen], weights()[frozen])
    assert not run.moments[frozen][0].any()


def test_where_all_is_frozen_nothing_moves():
    run = run_of(weights(), learning_rate=0.01, rate_scales=dict.fromkeys(weights(), 0.0))
    run.step(*batch())
    assert all(torch.equal(run.weights[name], value) for name, value in weights().items())


def test_dead_latents_are_counted_in_rows():
    start = weights()
    start["encoder_intercept"][2] = -1e6
    run = run_of(start, learning_rate=0.0, dead_window=16)
    for t in range(3):
        run.step(*batch(8, seed=t))
        assert run.since_fired[2] == 8 * (t + 1)
    assert run.dead().tolist() == [False, False, True, False, False]


def test_thresholds_stay_positive():
    start = {**weights(), "threshold": torch.full((5,), 1e-3, dtype=torch.float64)}

    def pushed(entries, alpha, dead):
        loss, codes = objective(entries, alpha, dead)
        return loss + entries.weights["threshold"].sum(), codes

    run = run_of(start, pushed, learning_rate=0.1, nonnegative=("threshold",))
    run.step(*batch())
    assert run.weights["threshold"].detach().tolist() == [0.0] * 5


def test_state_continues_exactly():
    straight = run_of(weights(), learning_rate=0.01)
    for t in range(6):
        straight.step(*batch(seed=t))
    first = run_of(weights(), learning_rate=0.01)
    for t in range(3):
        first.step(*batch(seed=t))
    state = first.state()
    continued = {name: torch.from_numpy(w) for name, w in state["weights"].items()}
    second = run_of(continued, learning_rate=0.01)
    second.restore(state)
    for t in range(3, 6):
        second.step(*batch(seed=t))
    assert second.n_steps == 6
    for name, w in straight.weights.items():
        assert torch.equal(second.weights[name], w)
    assert torch.equal(second.since_fired, straight.since_fired)


def test_infinite_loss_says_what_to_lower():
    class Rows(list):
        batch_size = 8

    def exploding(entries, alpha, dead):
        loss, codes = objective(entries, alpha, dead)
        return loss * math.inf, codes

    run = run_of(weights(), exploding, learning_rate=0.01)
    with pytest.raises(FloatingPointError, match="learning_rate"):
        run.run_pass(Rows([batch()]))


def test_stopping():
    stopping = Stopping(tol=0.1, patience=2)
    w = {"a": torch.zeros(1)}
    answers = []
    for step, score in enumerate([0.1, 0.5, 0.55, 0.58, 0.3]):
        w["a"] += 1
        answers.append(stopping.update(score, w))
        if step == 3:
            assert answers == [False, False, False, True]
    assert stopping.best == 0.58
    assert float(stopping.best_weights["a"]) == 4


def test_controller_settles_where_the_plant_says():
    """L0 = 10 / penalty: an asked L0 of 2 is met at a penalty of 5, from either side."""
    for start in (0.5, 50.0):
        controller = SparsityController(2.0, lambda: 0.0, interval=1, first=0)
        controller.measure = lambda c=controller, s=start: 10.0 / (s * c.factor)

        class Run:
            n_steps = 1

        for _ in range(200):
            controller(Run)
        assert start * controller.factor == pytest.approx(5.0, rel=1e-3)


@pytest.mark.parametrize("n_dead", [1, 3])
def test_many_dead_latents_are_revived_in_every_fourth_step(n_dead, monkeypatch):
    monkeypatch.setattr(_run, "_MANY_DEAD", 2)
    told = []

    def silent(entries, alpha, dead):
        told.append(int(dead.sum()))
        return objective(entries, alpha, dead)

    run = run_of(weights(), silent, learning_rate=0.0, dead_window=100)
    for _ in range(6):
        run.since_fired[:] = 0
        run.since_fired[:n_dead] = 101
        run.step(*batch())
    assert told == ([1] * 6 if n_dead == 1 else [3, 0, 0, 0, 3, 0])
