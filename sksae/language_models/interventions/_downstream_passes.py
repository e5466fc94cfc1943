"""Predictions of a model whose activations are replaced at one site, summed per text."""

from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse

from sksae._coding import as_csr
from sksae._threads import threads_of_process
from sksae.language_models.extraction import (
    ActivationReader,
    ContextWindows,
    TextReading,
    bare_frame,
    batches,
    batching_of,
    check_parameters,
    padded,
    read_items,
    token_bar,
)
from sksae.language_models.model import (
    Target,
    check_head,
    final_hidden,
    load_model,
    logits_of,
    reads_images,
    reconstruct,
    wide,
    without_interventions,
)

LOGITS_AT_ONCE = 2**22
"""The most entries of one matrix of logits: 16 MiB in float32."""

_ROWS_AT_A_TIME = 1024  # an autoencoder makes dense codes of them
_ANY_TOKEN = 0  # stands in the padding, which nothing is read from


class Reconstruction:
    """Reconstructions of rows, with a count of the codes that are not zero.

    Parameters
    ----------
    sae : estimator
        A fitted autoencoder or transcoder, or a pipeline with one.
    """

    def __init__(self, sae):
        self.sae = sae
        self.n_rows = 0
        self.n_active = 0

    def __call__(self, rows, source):
        """Return what is made of the rows `source` in the place of `rows`, (n, width)."""
        parts = [
            reconstruct(self.sae, part, rows.shape[-1], see_codes=self._count)
            for part in source.split(_ROWS_AT_A_TIME)  # dense codes of a part of the rows at a time
        ]
        return torch.cat(parts)

    def l0(self):
        """Return the mean number of nonzero codes per row."""
        return self.n_active / self.n_rows if self.n_rows else float("nan")

    def _count(self, codes):
        self.n_rows += codes.shape[0]
        count = as_csr(codes).count_nonzero() if sparse.issparse(codes) else np.count_nonzero(codes)
        self.n_active += int(count)


class _Piece(NamedTuple):
    """Some consecutive texts as windows."""

    first: int  # index of the first of them
    reading: TextReading
    windows: ContextWindows  # `keep` says which tokens' activations are replaced
    scored: ContextWindows  # `keep` says after which tokens the prediction is scored


class DownstreamPasses:
    """Forward passes over texts in which the rows of an extractor are replaced.

    Parameters
    ----------
    extractor : ActivationExtractor
        The model, the site, the windows, and the tokens that become rows. Of two sites the second
        is replaced, and the first is what a transcoder reads.
    texts : iterable
        Texts, in any form that the extractor takes.
    mean : ndarray of shape (width,), default=None
        The mean of the rows. None takes that of the rows of `texts`, when it is needed.

    Raises
    ------
    ValueError
        If the model does not predict tokens, or `texts` have no token to score, or `mean` is of
        another width, or there are more than two sites.
    """

    @threads_of_process()
    def __init__(self, extractor, texts, mean=None):
        check_parameters(extractor)
        self.extractor = extractor
        self.model, tokenizer = load_model(extractor, head=True)
        if reads_images(self.model):
            raise ValueError(f"{type(self.model).__name__} reads images, and texts are scored.")
        self.reader = reader = ActivationReader(extractor)
        check_head(self.model)
        self.target = _target_of(reader)
        with without_interventions(), torch.no_grad():
            widths = reader.widths()
            hidden = final_hidden(self.model, reader.source.probe())[0]
            # Padding may reach predictions where it does not reach the rows.
            key = extractor.position_ids
            self._batching = batching_of(
                reader.base, None, reader.source, self._final_hidden, key=key
            )
            self.n_vocabulary = logits_of(self.model, hidden).shape[-1]
        self.source_width, self.width = widths[0], widths[-1]
        if mean is not None and len(mean) != self.width:
            raise ValueError(
                f"mean has {len(mean)} entries, but the site has {self.width} features."
            )
        self.n_texts, self.pieces = _read(reader, tokenizer, texts)
        self._mean = mean
        if extractor.max_norm_ratio is not None:
            self._survey()

    @threads_of_process()
    def sums(self, variants, *, clean):
        """Return sums over the scored tokens of each text.

        Parameters
        ----------
        variants : dict of str to callable
            Functions from the rows, (n, width), and the rows that codes are made of, to their
            replacements.
        clean : bool
            Whether to run the model as it is as well, and compare.

        Returns
        -------
        sums : dict of str to ndarray of shape (n_texts,), dtype=float64
            ``n`` counts the tokens; of each variant, ``ce_name`` is the cross-entropy in nats.
            With `clean` there are ``ce_clean`` and, of each variant, ``kl_name``, the divergence
            from the clean prediction, and ``agree_name``, how often the likeliest token is the
            same.
        """
        names = ["n", *(f"ce_{name}" for name in variants)]
        if clean:
            names += ["ce_clean"]
            names += [f"{measure}_{name}" for measure in ("kl", "agree") for name in variants]
        totals = {name: np.zeros(self.n_texts) for name in names}
        lengths = [np.diff(piece.windows.bounds) for piece in self.pieces]
        sizes = self.extractor.batch_tokens, self._batching
        n_tokens = sum(int(n.sum()) for n in lengths)
        with torch.no_grad(), token_bar(self.extractor.verbose, n_tokens) as bar:
            for piece, n in zip(self.pieces, lengths, strict=True):
                for batch in batches(piece.scored, *sizes):
                    self._add(totals, piece, batch, variants, clean)
                    bar.update(int(n[batch].sum()))
        return totals

    def _final_hidden(self, inputs, _shape):
        return final_hidden(self.model, inputs)

    def mean(self):
        """Return the mean of the rows, ndarray of shape (width,)."""
        if self._mean is None:
            self._survey()
        return self._mean

    @threads_of_process()
    def _survey(self):
        """Run the texts up to the site: the mean of the rows, and which tokens become rows."""
        total, n_rows, pieces = np.zeros(self.width), 0, []
        for piece in self.pieces:
            rows, windows = self.reader.passes(piece.reading, token_bar(False)).token_rows()
            pieces.append(piece._replace(windows=windows))
            if rows is not None:
                # Columns of the target, in float64.
                total += rows[:, -self.width :].sum(0, dtype=np.float64)
                n_rows += len(rows)
        self.pieces = pieces
        if self._mean is None:
            if not n_rows:
                raise ValueError("No token of the texts has activations that become rows.")
            self._mean = total / n_rows

    def _add(self, totals, piece, batch, variants, clean):
        """Add what the model predicts for a batch of windows."""
        inputs, _ = piece.reading.feed(batch)
        # (n_windows, n_tokens), rows that an estimator would change
        mask = torch.from_numpy(padded(piece.windows, batch, _ANY_TOKEN)[2])
        ids, _, scored = padded(piece.scored, batch, _ANY_TOKEN)
        # Scored is the prediction that is made at a token, of the token after it.
        row, column = np.nonzero(scored)
        texts = piece.first + piece.windows.text[batch][row]  # text of each scored token
        targets = torch.from_numpy(ids[row, column + 1])
        visits = {"clean": []} if clean else {}
        for name, replace in variants.items():
            visits[name] = self.target.visits(_Replacement(mask, replace))
        states = {}
        for name, visit in visits.items():
            hidden = final_hidden(self.model, inputs, visit)
            states[name] = hidden[torch.from_numpy(scored).to(hidden.device)]  # (n_scored, width)
        step = max(1, LOGITS_AT_ONCE // self.n_vocabulary)  # tokens whose logits fit into memory
        for start in range(0, len(texts), step):
            part = slice(start, start + step)
            np.add.at(totals["n"], texts[part], 1)
            for name, values in self._scores(states, targets, part):
                np.add.at(totals[name], texts[part], values.double().cpu().numpy())

    def _scores(self, states, targets, part):
        """Yield ``(name, values)``, the scores of a slice of the scored tokens."""
        clean = None
        for name, hidden in states.items():
            logits = logits_of(self.model, hidden[part])
            log_p = torch.log_softmax(logits.to(wide(logits)), -1)  # (n_part, n_vocabulary)
            yield f"ce_{name}", -log_p.gather(-1, targets[part, None].to(log_p.device))[:, 0]
            if name == "clean":
                clean = log_p
            elif clean is not None:
                yield f"kl_{name}", divergence(clean, log_p)
                yield f"agree_{name}", log_p.argmax(-1) == clean.argmax(-1)


def divergence(log_p, log_q):
    """Return the Kullback-Leibler divergence of each row, in nats."""
    p = log_p.exp()
    # A token that p rules out adds nothing, also where q rules it out.
    return (p * (log_p - log_q)).masked_fill_(p == 0, 0).sum(-1)


class _Replacement:
    """A visit that replaces the activations of the tokens in a mask."""

    def __init__(self, mask, replace):
        self.mask = mask
        self.replace = replace

    def __call__(self, x, source):
        """Return the activations `x`, (n_sequences, n_tokens, width), with those replaced."""
        mask = self.mask.to(x.device)
        if x.shape[:2] != mask.shape or x.ndim != 3:
            raise ValueError(
                f"The activations have shape {tuple(x.shape)} for {mask.shape[0]} sequences of "
                f"{mask.shape[1]} tokens; one row per token is needed."
            )
        new = x.clone()
        new[mask] = self.replace(x[mask], source[mask]).to(x.dtype)
        return new


def _target_of(reader):
    """Return the `Target` of an estimator on the sites of a reader."""
    (source, *others) = reader.points.values()
    if len(others) > 1:
        raise ValueError(
            f"One site is replaced, or the second of two by what a transcoder predicts from the "
            f"first. The extractor has {len(reader.points)}: {', '.join(reader.points)}."
        )
    return Target(None, list(reader.points)[-1], others[0] if others else source, source)


def _read(reader, tokenizer, texts):
    """Return the number of texts, and the texts as a list of `_Piece`."""
    special = bare_frame(tokenizer).special
    n_texts, pieces, n_scored = 0, [], 0
    for first, kind, values in reader.groups(read_items(texts)):
        reading = reader.read(kind, values, first, spans=False)
        windows = reading.windows
        keep = (windows.source >= 0) & ~np.isin(windows.ids, special)
        keep[windows.bounds[1:] - 1] = False  # nothing follows the last token
        pieces.append(_Piece(first, reading, windows, windows._replace(keep=keep)))
        n_texts = first + len(values)
        n_scored += int(keep.sum())
    if not n_scored:
        raise ValueError(
            f"There is nothing to score in {n_texts} texts: none has a token that is not special "
            f"with another one after it."
        )
    return n_texts, pieces
