"""The trainer by itself: any model and loss, hooks at each step, and a resume that changes nothing."""

import pytest
import torch
from torch import nn

from windward_worker.checkpoint import Checkpoint
from windward_worker.control import Diverged, PauseRequest, PauseRequested
from windward_worker.train import BaseHook, CheckpointHook, PauseHook, Schedule, Trainer

SCHEDULE = Schedule(steps=20, batch_size=4, accumulation=2, learning_rate=0.3)


class Points:
    """x and 3 x - 1, drawn anew from each example's number."""

    def batch(self, first, size):
        x = torch.stack([torch.randn(1, generator=torch.Generator().manual_seed(first + i)) for i in range(size)])
        return torch.cat((x, 3 * x - 1), dim=1)


def squared_error(model, batch):
    return (model(batch[:, :1]) - batch[:, 1:]).square().mean()


def trainer(*hooks, loss=squared_error):
    torch.manual_seed(0)
    return Trainer(nn.Linear(1, 1), loss, Points(), SCHEDULE, hooks)


class Steps(BaseHook):
    def __init__(self):
        self.losses, self.batches = [], 0

    def before_batch(self):
        self.batches += 1

    def after_step(self, step, loss, seconds):
        self.losses.append(loss)
        assert step == len(self.losses) and seconds >= 0


def test_any_model_and_loss_are_trained_and_hooks_see_each_step():
    steps = Steps()
    trainer(steps).run()
    assert len(steps.losses) == 20 and steps.batches == 40
    assert steps.losses[-1] < 0.5 * steps.losses[0]


def test_a_resume_from_any_step_is_the_same_to_the_bit():
    whole = trainer()
    whole.run()
    first = trainer()
    for _ in range(7):
        first.advance()
    kept = {name: tensor.clone() for name, tensor in first.snapshot().items()}
    again = trainer()
    again.restore(Checkpoint("id", 7, kept, {}))
    again.run()
    assert all(torch.equal(a, b) for a, b in zip(again.model.parameters(), whole.model.parameters(), strict=True))


def test_a_pause_unwinds_between_batches_and_leaves_the_step_as_it_was():
    pause = PauseRequest()
    made = trainer(PauseHook(pause), CheckpointHook(3, 20, lambda: setattr(pause, "requested", made.step == 3)))
    with pytest.raises(PauseRequested):
        made.run()
    assert made.step == 3
    pause.requested = False
    made.run()
    whole = trainer()
    whole.run()
    assert all(torch.equal(a, b) for a, b in zip(made.model.parameters(), whole.model.parameters(), strict=True))


def test_checkpoints_come_every_few_steps_but_for_the_last():
    seen = []
    made = trainer()
    made.hooks.append(CheckpointHook(5, 20, lambda: seen.append(made.step)))
    made.run()
    assert seen == [5, 10, 15]


def test_a_loss_that_is_no_number_stops_the_training():
    with pytest.raises(Diverged, match="step 1: the loss is nan"):
        trainer(loss=lambda model, batch: squared_error(model, batch) * float("nan")).run()
