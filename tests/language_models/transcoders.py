"""Transcoders that are the MLP of a model: neurons are features, or a linear map is the skip."""

import numpy as np
import torch

from sksae import SparseAutoencoder, Transcoder
from sksae.autoencoders import fitted
from tests.language_models.families import build

SOURCE = "h.1.mlp.input"  # a GPT-2's MLP behind its norm


def relu_gpt2():
    """A GPT-2 with a head whose MLPs are two linear maps with a ReLU in between."""
    return build("gpt2", head=True, activation_function="relu")


def linear_gpt2():
    """A GPT-2 with a head whose MLPs are linear."""
    return build("gpt2", head=True, activation_function="linear")


def weights_of(model, layer=1):
    """The weights of an MLP, arrays: W (16, 64), b (64,), V (64, 16), c (16,)."""
    mlp = model.transformer.h[layer].mlp
    return [
        p.detach().numpy()
        for p in (mlp.c_fc.weight, mlp.c_fc.bias, mlp.c_proj.weight, mlp.c_proj.bias)
    ]


def neurons(model, layer=1):
    """The transcoder with one feature per neuron: exact where the activation is a ReLU."""
    w, b, v, c = weights_of(model, layer)
    sizes = np.linalg.norm(v, axis=1)  # codes are in units of unit directions
    weights = {
        "encoder_coef": w.T * sizes[:, None],
        "encoder_intercept": b * sizes,
        "components": v / sizes[:, None],
        "intercept": c,
    }
    return fitted(Transcoder(SparseAutoencoder(64)), weights)


def skipping(model, layer=1):
    """The transcoder whose skip connection is a linear MLP, and whose features never fire."""
    w, b, v, c = weights_of(model, layer)
    weights = {
        "encoder_coef": np.eye(16, dtype=np.float32),
        "encoder_intercept": np.full(16, -1e6, np.float32),
        "components": np.eye(16, dtype=np.float32),
        "intercept": b @ v + c,
        "skip_coef": (w @ v).T.copy(),
    }
    return fitted(Transcoder(SparseAutoencoder(16), skip=True), weights)


def zeroed(model, numbers, layer=1):
    """A hook that switches neurons off, to be removed."""

    def off(_module, _args, output):
        output = output.clone()
        output[..., numbers] = 0
        return output

    return model.transformer.h[layer].mlp.act.register_forward_hook(off)


@torch.no_grad()
def logits(model, ids):
    return model(input_ids=ids).logits
