"""Giving dead latents a new direction (Bricken et al. 2023, "neuron resampling")."""

import torch

_NO_DIRECTION = 1e-12


def resample(weights, moments, dead, directions):
    """Point dead latents at badly reconstructed rows, in place.

    The decoder row becomes the unit direction, the encoder row the same direction at a fifth of
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
    """
    sizes = directions.norm(dim=1)
    norm = alive_norm(weights["encoder_coef"], dead)
    dead, directions = dead[sizes > _NO_DIRECTION], directions[sizes > _NO_DIRECTION]
    unit = directions / directions.norm(dim=1, keepdim=True)
    with torch.no_grad():
        weights["components"][dead] = unit
        weights["encoder_coef"][dead] = 0.2 * norm * unit
        weights["encoder_intercept"][dead] = 0
        for name in ("components", "encoder_coef", "encoder_intercept"):
            for moment in moments.get(name, ()):
                moment[dead] = 0


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
