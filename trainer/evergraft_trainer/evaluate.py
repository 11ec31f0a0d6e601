"""Forward passes without gradients: logits of a whole split, in batches of one full shape.

Called at validations, for the winner's test metrics and by predictions.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from evergraft_trainer.data.batches import eval_batches
from evergraft_trainer.data.dataset import Split
from evergraft_trainer.data.preprocessing import Preprocessing
from evergraft_trainer.device import Device


def logits_of(
    model: nn.Module,
    split: Split,
    *,
    preprocessing: Preprocessing,
    batch_size: int,
    device: Device,
    precision: str = "Float32",
) -> np.ndarray:
    """Logits of every sample of `split`, float64 N×C.

    The last batch is padded, so that every pass has the same shape and a sample's bits do not depend on N.
    """
    model.eval()
    with device.inference(), device.autocast(precision):
        rows = [
            model(device.put(batch.images)).float()[: batch.count].cpu()
            for batch in eval_batches(split, batch_size=batch_size, preprocessing=preprocessing)
        ]
    return torch.cat(rows).double().numpy()
