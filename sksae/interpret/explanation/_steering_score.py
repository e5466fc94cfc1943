"""Whether an explanation tells what a feature does to the text that a model writes."""

import math
import re
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
from scipy import stats

from sksae._params import Float, Int, check_option
from sksae.interpret.explanation._answers import read_choice
from sksae.interpret.explanation._asking import ask, check_client, warn_of_failures
from sksae.interpret.explanation._explanation import as_explanations
from sksae.interpret.explanation._intervals import wilson
from sksae.interpret.explanation._prompts import steered_messages
from sksae.interpret.explanation._questions import no_score
from sksae.interpret.explanation._scoring import other_texts

PROMPTS = ("The", "I think that", "It is", "In this", "There are", "You can", "When we", "A")


def score_by_steering(
    explanations,
    model,
    site,
    sae,
    client=None,
    *,
    tokenizer,
    maxima,
    prompts=PROMPTS,
    strength=2.0,
    n_tokens=20,
    max_concurrency=4,
    random_state=0,
    verbose=0,
):
    """Measure how well explanations tell what features make a model say.

    The model reads neutral beginnings with and without the feature turned up. With a client, a
    language model sees both continuations and says which of them shows what the explanation names.
    Without, the score is how much more probable the words of the explanation become as the next
    one, those in quotes if there are any.

    Parameters
    ----------
    explanations : dict of int to (Explanation or str)
        By feature.
    model : PreTrainedModel
        The model that `sae` was fitted on, with its head.
    site : str or (int, str)
        Where, as for :func:`~sksae.language_models.steer`.
    sae : estimator
        The sparse autoencoder.
    client : object, default=None
        Something with ``complete(messages)`` that returns a string. None asks nobody.
    tokenizer : tokenizer
        The model's.
    maxima : array-like of shape (n_components,)
        The largest code of each feature, such as ``atlas.max_activation_``.
    prompts : sequence of str, default=PROMPTS
        The beginnings; The default are eight short English ones.
    strength : float, default=2.0
        How far each token is pushed along the feature, in units of its largest code.
    n_tokens : int, default=20
        Length of the continuations.
    max_concurrency : int, default=4
        Questions under way at a time.
    random_state : int, default=0
        Chooses the order of continuations, and the other explanation of the baseline.
    verbose : int, default=0
        Whether to show how many questions are answered.

    Returns
    -------
    explanations : dict of int to Explanation
        The same with ``scores["steering"]``. With a client `value` is the share of pairs in which
        the steered text was found, `n_same` the pairs that could not be told apart as they were the
        same, and the baseline is 0.5 and what another feature's explanation gets. Without, `value`
        is the mean change of the logarithm of the probability, in nats, `n` the prompts, and the
        baseline the change for the words of another feature's explanation. NaN where there is
        nothing to compute.

    Raises
    ------
    TypeError
        If `client` cannot be asked.
    ValueError
        If an option is out of range, there is no such site, or an explanation is of a feature that
        the autoencoder does not have.
    RuntimeError
        If no question got an answer.

    See Also
    --------
    score_explanations : Tests where a feature fires.
    sksae.language_models.steer : Steers a model.

    References
    ----------
    G. Paulo, A. Mallen, C. Juang, N. Belrose: Automatically Interpreting Millions of Features in
    Large Language Models, 2024. https://arxiv.org/abs/2410.13928 (intervention scoring)

    Examples
    --------
    >>> from sksae import TopKSAE
    >>> from sksae.datasets import load_corpus, load_tiny_lm
    >>> from sksae.interpret import FeatureAtlas, explain, score_by_steering
    >>> from sksae.language_models import ActivationExtractor
    >>> model, tokenizer = load_tiny_lm()
    >>> extractor = ActivationExtractor(model, layer=3, tokenizer=tokenizer)
    >>> rows, tokens = extractor.extract(load_corpus().data[:8])
    >>> sae = TopKSAE(64, k=8, max_iter=1, random_state=0).fit(rows)
    >>> atlas = FeatureAtlas(sae).fit(rows, tokens=tokens)
    >>> explanations = explain(atlas, features=[0, 1])
    >>> scored = score_by_steering(
    ...     explanations, model, "3.resid_post", sae, tokenizer=tokenizer,
    ...     maxima=atlas.max_activation_,
    ... )
    >>> sorted(scored[0].scores["steering"]["baseline"])
    ['random']
    """
    check_option("strength", strength, Float())
    check_option("n_tokens", n_tokens, Int(1))
    check_option("random_state", random_state, Int(0, 2**32 - 1))
    prompts = _prompts(prompts)
    explanations = as_explanations(explanations)
    others = other_texts(explanations, random_state)
    studio = _Studio(model, site, sae, tokenizer, np.asarray(maxima), prompts, strength)
    if client is None:
        scores = _by_probability(studio, explanations, others)
    else:
        check_client(client)
        options = {"max_concurrency": max_concurrency, "verbose": verbose, "name": "steering"}
        pairs = {number: studio.continued(number, n_tokens) for number in explanations}
        scores = _by_recognition(client, explanations, others, pairs, random_state, options)
    return {
        number: replace(e, scores=e.scores | {"steering": scores[number]})
        for number, e in explanations.items()
    }


class _Studio:
    """The model with some beginnings, which it continues as it is or with a feature turned up."""

    def __init__(self, model, site, sae, tokenizer, maxima, prompts, strength):
        self.model, self.site, self.sae, self.tokenizer = model, site, sae, tokenizer
        self.maxima, self.strength = maxima, strength
        device = model.get_input_embeddings().weight.device
        self.inputs = [_inputs(tokenizer, prompt, device) for prompt in prompts]
        self._unsteered = {}

    def _run(self, work, number):
        """Return what `work` makes of each beginning; None for `number` is the model as it is."""
        import torch

        from sksae.language_models import steer

        context = nullcontext()
        if number is not None:
            steps = {number: self.strength}
            context = steer(self.model, self.site, self.sae, steps, unit="max", maxima=self.maxima)
        with torch.no_grad(), context:
            return [work(inputs) for inputs in self.inputs]

    def _both(self, name, work, number):
        if name not in self._unsteered:
            self._unsteered[name] = self._run(work, None)
        return list(zip(self._unsteered[name], self._run(work, number), strict=True))

    def continued(self, number, n_tokens):
        """Return the continuations, without and with the feature, of each beginning."""
        padding = self.tokenizer.pad_token_id
        padding = self.tokenizer.eos_token_id if padding is None else padding

        def work(inputs):
            options = {"max_new_tokens": n_tokens, "do_sample": False, "pad_token_id": padding}
            found = self.model.generate(**inputs, **options)
            new = found[0, inputs["input_ids"].shape[1] :]
            return self.tokenizer.decode(new, skip_special_tokens=True)

        return self._both("continued", work, number)

    def log_probabilities(self, number):
        """Return the log-probabilities of the next token, without and with the feature."""

        def work(inputs):
            return self.model(**inputs).logits[0, -1].double().log_softmax(-1).cpu().numpy()

        return self._both("log_probabilities", work, number)

    def first_tokens(self, text):
        """Return the tokens that words of a text begin with: those in quotes, or else all."""
        words = re.findall(r'"([^"]+)"', text) or re.findall(r"\w+", text)
        ids = [
            self.tokenizer(form, add_special_tokens=False)["input_ids"][:1]
            for word in words
            for form in (word, f" {word}")
        ]
        return sorted({one for some in ids for one in some})


def _by_probability(studio, explanations, others):
    scores = {}
    for number, explanation in explanations.items():
        pairs = studio.log_probabilities(number)
        changes = _changes(pairs, studio.first_tokens(explanation.text))
        if not len(changes):
            scores[number] = no_score("no word of the explanation is a token of the model")
            continue
        half = math.nan
        if len(changes) > 1:
            half = float(stats.t.ppf(0.975, len(changes) - 1) * stats.sem(changes))
        value = float(changes.mean())
        score = {"value": value, "low": value - half, "high": value + half}
        other = _changes(pairs, studio.first_tokens(others.get(number, "")))
        baseline = {"random": float(other.mean())} if len(other) else {}
        scores[number] = {**score, "n": len(changes), "n_failed": 0, "baseline": baseline}
    return scores


def _changes(pairs, ids):
    """Return by how much the logarithm of the probability of some tokens together changes."""
    if not ids:
        return np.zeros(0)
    before, after = np.logaddexp.reduce(np.array(pairs)[:, :, ids], axis=2).T
    return after - before


def _by_recognition(client, explanations, others, pairs, random_state, options):
    asked, n_same = [], dict.fromkeys(explanations, 0)
    for number, explanation in explanations.items():
        rng = np.random.default_rng([random_state, number])
        for plain, steered in pairs[number]:
            place = int(rng.integers(2))
            if plain == steered:
                n_same[number] += 1
                continue
            lines = [steered, plain] if place == 0 else [plain, steered]
            for other, text in enumerate((explanation.text, others.get(number))):
                if text is not None:
                    asked.append((number, bool(other), place, steered_messages(text, lines)))
    answers = ask(client, [one[-1] for one in asked], **options) if asked else []
    found = {}
    for (number, other, place, _), answer in zip(asked, answers, strict=True):
        found.setdefault((number, other), []).append(_is_right(answer, place))
    warn_of_failures(answers, stacklevel=4)
    scores = {}
    for number in explanations:
        right = found.get((number, False), [])
        known = [one for one in right if one is not None]
        low, high = wilson(sum(known), len(known))
        baseline = {"chance": 0.5}
        if (number, True) in found:
            baseline["random"] = _share(found[number, True])
        score = {"value": _share(right), "low": low, "high": high, "n": len(known)}
        score |= {"n_failed": len(right) - len(known), "n_same": n_same[number]}
        scores[number] = {**score, "baseline": baseline}
    return scores


def _share(right):
    known = [one for one in right if one is not None]
    return sum(known) / len(known) if known else math.nan


def _is_right(answer, place):
    """Return whether an answer names the right text; None if it cannot be read."""
    try:
        return None if isinstance(answer, Exception) else read_choice(answer, 2) == place
    except ValueError:
        return None


def _inputs(tokenizer, prompt, device):
    """Return ids and mask of a prompt; a start token that the text has is not added once more."""
    inputs = tokenizer(prompt, return_tensors="pt")
    start = tokenizer.bos_token_id
    twice = start is not None and inputs["input_ids"][0, :2].tolist() == [start, start]
    first = int(twice and tokenizer(prompt, add_special_tokens=False)["input_ids"][:1] == [start])
    return {name: inputs[name][:, first:].to(device) for name in ("input_ids", "attention_mask")}


def _prompts(prompts):
    prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    if not prompts or not all(isinstance(p, str) and p.strip() for p in prompts):
        raise ValueError("prompts must be one or more strings, none of them empty.")
    return prompts
