"""Two processes hold a net in shards; prints as JSON what does not hold of it.

torchrun --nproc_per_node 2 tests/training/shards_driver.py
"""

import json
from pathlib import Path

import torch
from accelerate.utils import gather_object

from maskgit.config.sections import TrainConfig
from maskgit.model.backbones import BACKBONES, make_backbone
from maskgit.model.transformer import Transformer
from maskgit.processes import leave_group
from maskgit.training.guard import not_finite
from maskgit.training.launch import make_accelerator
from maskgit.training.learner import Learner, finish, whole
from maskgit.training.sharding import ShardedLearner, make_learner

TRAIN = TrainConfig(trackers=[], precision="fp32", shard=True, warmup_steps=0)


def net():
    torch.manual_seed(0)
    return Transformer(
        codebook_size=8, grid=(2, 3), num_classes=2, dim=15, depth=2, heads=2, dim_head=8
    )


def loss_of(learner):
    codes = torch.arange(12).view(2, 2, 3) % 9
    return learner.ddp(codes).square().mean()


def same(one, other):
    return one.keys() == other.keys() and all(
        one[file].keys() == other[file].keys()
        and all(torch.equal(one[file][name], other[file][name]) for name in one[file])
        for file in one
    )


def step(learner, finite=None):
    learner.accelerator.backward(loss_of(learner))
    norm = learner.clip()
    learner.apply(0, finite)
    return norm


accelerator = make_accelerator(TRAIN, Path("unused"))
is_main, held = accelerator.is_main_process, {}
alone = Learner(net(), accelerator, TRAIN)
learner = make_learner(net(), accelerator, TRAIN)
held["it is in shards"] = isinstance(learner, ShardedLearner)
numbers = sum(p.numel() for p in alone.parameters)
mine = sum(p.numel() for p in learner.parameters)
held["a process has half of it"] = abs(mine - numbers / 2) < 0.1 * numbers
held["its average, too"] = sum(p.numel() for p in learner.ema.averaged) == mine
held["no weights lie about"] = not any(p.numel() for p in learner.hollow.parameters())
norms = [step(one) for one in (alone, learner)]
held["the norm is that of all"] = torch.allclose(*norms)
moments = [value for p in learner.parameters for value in learner.optimizer.state[p].values()]
held["and the moments"] = sum(v.numel() for v in moments if v.ndim) == 2 * mine

before = {key: dict(part) for key, part in learner.state().items()}
step(learner, torch.tensor(False))
learner.left_out()
after = learner.state()
held["a step that is left out changes nothing"] = same(before, after)

learner.keep_buffers()
loss = loss_of(learner) * (1.0 if is_main else torch.nan)
accelerator.backward(loss)
try:
    finish(loss.detach(), (learner, 1))
    held["a step that is not finite on one is a step of all"] = False
except FloatingPointError:
    learner.give_up()
    after = learner.state()
    held["all give up what is not finite on one"] = same(before, after)
step(learner, torch.tensor(True))
after = learner.state()
held["and go on"] = not is_main or not same(before, after)

truth = alone.state()
learner.load_state(truth, "run")
found = learner.state()
held["what is loaded is saved"] = not is_main or same(truth, found)
held["only the main process is given all"] = is_main or all(
    value.ndim == 0 for part in found.values() for value in part.values()
)
codes = torch.arange(6).view(1, 2, 3)
with whole({"net": learner}):
    held["its average runs, whole"] = torch.equal(learner.averaged(codes), alone.averaged(codes))
held["no weights lie about then"] = not any(p.numel() for p in learner.hollow.parameters())
with learner.opened() as module, torch.no_grad():
    for parameter in module.parameters():
        parameter.add_(1)
weights = learner.state()["module"]
held["weights can be written"] = not is_main or all(
    torch.equal(weights[name], value + 1) for name, value in truth["module"].items()
)
if not is_main:
    learner.parameters[0].data.fill_(torch.nan)
bad = not_finite({"net.module": learner.state()["module"]})
held["all find a number that is not finite on one"] = bad is not None

labels = torch.tensor([0, 1])
for name in [name for name in BACKBONES if name != "transformer"]:
    shape = {"codebook_size": 8, "grid": (2, 3), "num_classes": 2}
    small = {"name": name, "dim": 16, "depth": 2, "heads": 2, "hidden": 24}
    losses = []
    for make in (Learner, make_learner):
        torch.manual_seed(0)
        one = make(make_backbone(small, **shape), accelerator, TRAIN)
        for _ in range(2):
            loss = one.ddp(torch.arange(12).view(2, 2, 3) % 9, labels).square().mean()
            accelerator.backward(loss)
            one.clip()
            one.apply(0)
        losses.append(loss.detach())
    held[f"{name} trains in shards as it does whole"] = torch.allclose(*losses, rtol=1e-4)

rows = gather_object([held])
if is_main:
    print(json.dumps([name for row in rows for name, is_so in row.items() if not is_so]))
leave_group()
