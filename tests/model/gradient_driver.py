"""The averaged gradient of one step of 16 images over all processes, written by the first.

RANK=r WORLD_SIZE=n MASTER_ADDR=127.0.0.1 MASTER_PORT=p python tests/model/gradient_driver.py
OUT.safetensors
"""

import sys

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch.nn.parallel import DistributedDataParallel

from maskgit.model.masking import stratified_times
from maskgit.model.transformer import Transformer
from maskgit.model.wrapper import NonAutoregressiveWrapper
from maskgit.randomness import generator

dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
torch.manual_seed(0)
net = Transformer(
    codebook_size=16, grid=(4, 6), num_classes=3, dim=32, depth=2, heads=2, dim_head=16
)
wrapper = NonAutoregressiveWrapper(
    net,
    mask_id=16,
    self_cond=True,
    self_token_critic=True,
    no_replace_prob=0.1,
    critic_loss_weight=world
    / 16,  # its loss is a mean over one image here, and DDP averages over processes
)
codes, labels = torch.randint(16, (16, 4, 6), generator=generator("codes", 1)), torch.arange(16) % 3
t = stratified_times(16, generator("times", 2))
total = wrapper.objective.weight_of(t, 24)
ddp = DistributedDataParallel(wrapper)
mine = range(rank, 16, world)
# one image at a time, so that each has its own draws whatever the processes
for number, i in enumerate(mine):
    part = slice(i, i + 1)
    draws = generator("mask", 3, i)
    ddp.require_backward_grad_sync = number == len(mine) - 1
    ddp(
        codes[part], condition=labels[part], t=t[part], normalizer=total / world, generator=draws
    ).loss.backward()
if rank == 0:
    save_file({name: p.grad for name, p in wrapper.named_parameters()}, sys.argv[1])
dist.destroy_process_group()
