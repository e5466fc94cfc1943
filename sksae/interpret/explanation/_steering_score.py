"""Scores of explanations by steering: the effect of a feature on the text that a model writes."""

import math
import re
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
from scipy import stats

from sksae._modes import evaluation
from sksae._params import Float, Int, check_option
from sksae._threads import threads_of_process
from sksae.interpret.explanation._client_calls import (
    ask,
    check_client,
    warn_of_failures,
    warn_of_unread,
)
from sksae.interpret.explanation._explanation import as_explanations
from sksae.interpret.explanation._explanation_prompts import read_choice, steered_messages
from sksae.interpret.explanation._explanation_scores import no_score, other_texts
from sksae.interpret.explanation._intervals import share_interval

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
    """Measure how well explanations predict the effect of features on a model's output.

    The model continues neutral prompts with and without the feature amplified. With a client, a
    language model reads both continuations and says which of them shows what the explanation names.
    Without one, the score is the increase of the probability that the next word is one of the
    explanation, or one of those in quotes if there are any.

    Parameters
    ----------
    explanations : dict of int to (Explanation or str)
        By feature.
    model : PreTrainedModel
        The model that `sae` was fitted on, with its head.
    site : str or (int, str)
        The site, as for :func:`~sksae.language_models.steer`.
    sae : estimator
        The sparse autoencoder.
    client : object, default=None
        An object with ``complete(messages)`` that returns a string. None asks nobody.
    tokenizer : tokenizer
        The tokenizer of the model.
    maxima : array-like of shape (n_components,)
        The largest code of each feature, such as ``atlas.max_activation_``.
    prompts : sequence of str, default=PROMPTS
        The prompts; the default are eight short English ones.
    strength : float, default=2.0
        The multiple of the feature that is added at each token, in units of its largest code.
    n_tokens : int, default=20
        Length of the continuations.
    max_concurrency : int, default=4
        The largest number of questions at the same time.
    random_state : int, default=0
        Chooses the order of continuations, and the other explanation of the baseline.
    verbose : int, default=0
        Whether to show how many questions are answered.

    Returns
    -------
    explanations : dict of int to Explanation
        The same with ``scores["steering"]``. With a client, `value` is the share of pairs in which
        the steered text was recognised, `n_same` the number of pairs of identical texts, which are
        left out, and the baseline is 0.5 and the share for another feature's explanation. Without
        one, `value` is the mean change of the log-probability, in nats, `n` the number of prompts,
        and the baseline the change for the words of another feature's explanation. NaN where there
        is nothing to compute.

    Raises
    ------
    TypeError
        If `client` cannot be asked.
    ValueError
        If an option is out of range, there is no such site, or an explanation is of a feature that
        the autoencoder does not have.
    RuntimeError
        If no question got an answer.

    Warns
    -----
    UserWarning
        If some questions got no answer, or if most answers, or all of one score, cannot be read.

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
    prompts = _checked_prompts(prompts)
    explanations = as_explanations(explanations)
    baseline_texts = other_texts(explanations, random_state)
    steered = _SteeredModel(model, site, sae, tokenizer, np.asarray(maxima), prompts, strength)
    if client is None:
        scores = _by_probability(steered, explanations, baseline_texts)
    else:
        check_client(client)
        options = {"max_concurrency": max_concurrency, "verbose": verbose, "name": "steering"}
        pairs = {number: steered.continuations(number, n_tokens) for number in explanations}
        scores = _by_recognition(client, explanations, baseline_texts, pairs, random_state, options)
    return {
        number: replace(explanation, scores=explanation.scores | {"steering": scores[number]})
        for number, explanation in explanations.items()
    }


class _SteeredModel:
    """Outputs of a model after some prompts, with and without steering."""

    def __init__(self, model, site, sae, tokenizer, maxima, prompts, strength):
        self.model, self.site, self.sae, self.tokenizer = model, site, sae, tokenizer
        self.maxima, self.strength = maxima, strength
        device = model.get_input_embeddings().weight.device
        self.inputs = [_inputs(tokenizer, prompt, device) for prompt in prompts]
        self._unsteered = {}

    def continuations(self, number, n_tokens):
        """Pairs of continuations of each prompt, without and with the feature."""
        padding = self.tokenizer.pad_token_id
        padding = self.tokenizer.eos_token_id if padding is None else padding

        def continuation(inputs):
            options = {"max_new_tokens": n_tokens, "do_sample": False, "pad_token_id": padding}
            sequence = self.model.generate(**inputs, **options)[0]
            new_ids = sequence[inputs["input_ids"].shape[1] :]  # ids that the model added
            return self.tokenizer.decode(new_ids, skip_special_tokens=True)

        return self._pairs("continuations", continuation, number)

    def log_probabilities(self, number):
        """Pairs of log-probabilities of the next token after each prompt."""

        def log_probability(inputs):
            # Of the last token, in float64 so that small changes count, (n_vocabulary,).
            return self.model(**inputs).logits[0, -1].double().log_softmax(-1).cpu().numpy()

        return self._pairs("log_probabilities", log_probability, number)

    def first_tokens(self, text):
        """Tokens that the words of a text begin with: those in quotes, or else all words."""
        words = re.findall(r'"([^"]+)"', text) or re.findall(r"\w+", text)
        first_ids = set()
        for word in words:
            # Within a text a word has a space before it, which makes another token.
            for spelling in (word, f" {word}"):
                ids = self.tokenizer(spelling, add_special_tokens=False)["input_ids"]
                first_ids.update(ids[:1])
        return sorted(first_ids)

    def _pairs(self, name, output, number):
        if name not in self._unsteered:  # the same for all features
            self._unsteered[name] = self._outputs(output, None)
        return list(zip(self._unsteered[name], self._outputs(output, number), strict=True))

    def _outputs(self, output, number):
        """`output` of each prompt; with None for `number`, of the model without steering."""
        import torch

        from sksae.language_models import steer

        context = nullcontext()
        if number is not None:
            steps = {number: self.strength}
            context = steer(self.model, self.site, self.sae, steps, unit="max", maxima=self.maxima)
        with evaluation(self.model), torch.no_grad(), threads_of_process(), context:
            return [output(inputs) for inputs in self.inputs]


def _by_probability(steered, explanations, baseline_texts):
    """Scores by the log-probabilities of an explanation's words, without a client."""
    scores = {}
    for number, explanation in explanations.items():
        pairs = steered.log_probabilities(number)
        changes = _changes(pairs, steered.first_tokens(explanation.text))
        if not len(changes):
            scores[number] = no_score("no word of the explanation is a token of the model")
            continue
        half_width = math.nan
        if len(changes) > 1:
            # Student's interval of the mean over the prompts.
            half_width = float(stats.t.ppf(0.975, len(changes) - 1) * stats.sem(changes))
        mean = float(changes.mean())
        score = {"value": mean, "low": mean - half_width, "high": mean + half_width}
        other_changes = _changes(pairs, steered.first_tokens(baseline_texts.get(number, "")))
        baseline = {"random": float(other_changes.mean())} if len(other_changes) else {}
        scores[number] = {**score, "n": len(changes), "n_failed": 0, "baseline": baseline}
    return scores


def _changes(pairs, ids):
    """Change of the log-probability of some tokens together, per prompt."""
    if not ids:
        return np.zeros(0)
    # (prompts, 2, vocabulary) to (2, prompts)
    before, after = np.logaddexp.reduce(np.array(pairs)[:, :, ids], axis=2).T
    return after - before


def _by_recognition(client, explanations, baseline_texts, pairs, random_state, options):
    """Scores by a client that is asked which continuation of each pair was steered."""
    questions, n_same = [], dict.fromkeys(explanations, 0)
    for number, explanation in explanations.items():
        rng = np.random.default_rng([random_state, number])
        for unsteered, steered in pairs[number]:
            position = int(rng.integers(2))  # of the steered continuation
            if unsteered == steered:
                # Equal continuations cannot be told apart: they are counted, and not asked about.
                n_same[number] += 1
                continue
            lines = [steered, unsteered] if position == 0 else [unsteered, steered]
            for is_baseline, text in (
                (False, explanation.text),
                (True, baseline_texts.get(number)),
            ):
                if text is not None:
                    key = number, is_baseline
                    questions.append((key, position, steered_messages(text, lines)))
    answers = ask(client, [messages for *_, messages in questions], **options) if questions else []
    warn_of_failures(answers, stacklevel=4)
    parsed = [
        _is_right(a, position) for a, (_, position, _) in zip(answers, questions, strict=True)
    ]
    warn_of_unread([(key[0], "steering", key[1]) for key, *_ in questions], answers, parsed)
    recognised = {}  # True, False or None per question, by feature and kind of text
    for (key, *_), is_right in zip(questions, parsed, strict=True):
        recognised.setdefault(key, []).append(is_right)
    scores = {}
    for number in explanations:
        right = recognised.get((number, False), [])
        readable = [r for r in right if r is not None]
        low, high = share_interval(sum(readable), len(readable))
        baseline = {"chance": 0.5}
        if (number, True) in recognised:
            baseline["random"] = _share(recognised[number, True])
        score = {"value": _share(right), "low": low, "high": high, "n": len(readable)}
        score |= {"n_failed": len(right) - len(readable), "n_same": n_same[number]}
        scores[number] = {**score, "baseline": baseline}
    return scores


def _share(right):
    readable = [r for r in right if r is not None]
    return sum(readable) / len(readable) if readable else math.nan


def _is_right(answer, position):
    """Whether an answer names the steered text; None if it cannot be read."""
    try:
        return None if isinstance(answer, Exception) else read_choice(answer, 2) == position
    except ValueError:
        return None


def _inputs(tokenizer, prompt, device):
    """Ids and mask of a prompt; a start token that the text has is not added once more."""
    inputs = tokenizer(prompt, return_tensors="pt")
    start = tokenizer.bos_token_id
    twice = start is not None and inputs["input_ids"][0, :2].tolist() == [start, start]
    first = int(twice and tokenizer(prompt, add_special_tokens=False)["input_ids"][:1] == [start])
    return {name: inputs[name][:, first:].to(device) for name in ("input_ids", "attention_mask")}


def _checked_prompts(prompts):
    prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    if not prompts or not all(isinstance(p, str) and p.strip() for p in prompts):
        raise ValueError("prompts must be one or more strings, none of them empty.")
    return prompts
