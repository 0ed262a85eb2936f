"""Losses of steps on the same batches; a test runs this as one process and as several processes of one world."""

import sys
from pathlib import Path

import torch

from ser_pipeline import config
from ser_pipeline.cache import manifest
from ser_pipeline.data.stream import Resident, open_data
from ser_pipeline.device import autocasting
from ser_pipeline.features.stores import store_entry
from ser_pipeline.model import build_model
from ser_pipeline.splits.folds import make_folds
from ser_pipeline.training.context import FoldContext
from ser_pipeline.training.distributed import join_world
from ser_pipeline.training.fold import epoch_rows, make_step, shares

TINY = ["model.small_width=8", "model.small_layers=1", "train.epochs=2", "train.batch=8", "train.lr=1e-3"]


def print_losses(cache: str, micro: int) -> None:
    """Run ten steps of a world's processes on the same batches; the first process prints the losses."""

    world, device = join_world("cpu"), torch.device("cpu")
    torch.set_num_threads(1)
    still = ("model.dropout=0.0", "model.small_drop=0.0", "augment.mixup=0.0", "train.precision=fp32")
    settings = config.load("demo", None, [*TINY, *still])
    folder = next((Path(cache) / "features").glob("emodb-*"))
    names = ("mfcc", "spectrogram", "waveform")
    data = open_data(manifest.read(folder), {name: [store_entry(folder, name, settings).path] for name in names})
    fold = make_folds(data.manifest, "speaker")[0]
    source = Resident(data, device)
    context = FoldContext(fold, data, source, settings, device, world, autocasting(settings, device), micro)
    torch.manual_seed(0)
    model = build_model(settings.model, audio=settings.audio, features=settings.features, classes=4)
    step = make_step(model, context)
    for epoch in range(5):
        mine, counts = shares(epoch_rows(context, epoch), 8, world)
        for batch, (real, total) in zip(source.batches(mine, 8 // world.size), counts, strict=True):
            loss = step(batch, real, total)
            if world.size > 1:
                torch.distributed.all_reduce(loss)
            if world.is_main:
                print(f"loss {float(loss):.9f}")


if __name__ == "__main__":
    print_losses(sys.argv[1], int(sys.argv[2]))
