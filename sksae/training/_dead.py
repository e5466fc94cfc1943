"""Giving dead latents a new direction (Bricken et al. 2023, "neuron resampling")."""

import torch

_NO_DIRECTION = 1e-12


def resample(weights, moments, dead, directions, inputs=None):
    """Point dead latents at badly reconstructed rows, in place.

    The decoder row becomes the unit direction, the encoder row that of the inputs at a fifth of
    the mean norm of the living encoder rows, the encoder's bias zero; the optimiser forgets all of
    these entries, or its momentum would drag them back.

    Parameters
    ----------
    weights : dict of Tensor
    moments : dict of list of Tensor
        The optimiser's running moments by weight name, empty before the first step.
    dead : Tensor of int of shape (n_dead,)
        Which latents to replace.
    directions : Tensor of shape (n_dead, d)
        Centred rows in the internal unit; a latent that is given a zero is left as it was.
    inputs : Tensor of shape (n_dead, d_in), default=None
        Where the decoder's rows are directions of other activations than the encoder's, those of
        the encoder.
    """
    inputs = directions if inputs is None else inputs
    given = torch.minimum(directions.norm(dim=1), inputs.norm(dim=1)) > _NO_DIRECTION
    norm = alive_norm(weights["encoder_coef"], dead)
    dead = dead[given]
    with torch.no_grad():
        weights["components"][dead] = _unit(directions[given])
        weights["encoder_coef"][dead] = 0.2 * norm * _unit(inputs[given])
        weights["encoder_intercept"][dead] = 0
        for name in ("components", "encoder_coef", "encoder_intercept"):
            for moment in moments.get(name, ()):
                moment[dead] = 0


def _unit(rows):
    return rows / rows.norm(dim=1, keepdim=True)


def draw_rows(losses, w, n_rows, generator):
    """Draw rows in proportion to their weighted squared loss, without repetition if that can be.

    Parameters
    ----------
    losses, w : Tensor of shape (n,)
        Loss and weight of each row.
    n_rows : int
    generator : torch.Generator

    Returns
    -------
    rows : Tensor of int of shape (n_rows,), on the CPU
    """
    chances = (w * losses.square()).cpu().double()
    if not bool(chances.any()):
        chances = w.cpu().double()
    enough = int((chances > 0).sum()) >= n_rows
    return torch.multinomial(chances, n_rows, replacement=not enough, generator=generator)


def alive_norm(encoder_coef, dead):
    """Mean norm of the encoder rows of the latents that are not `dead`; 1 if there are none."""
    norms = encoder_coef.detach().norm(dim=1)
    alive = torch.ones_like(norms, dtype=torch.bool)
    alive[dead] = False
    return float(norms[alive].mean()) if bool(alive.any()) else 1.0
