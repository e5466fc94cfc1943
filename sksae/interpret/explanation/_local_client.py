"""A client for a Hugging Face model in this process."""

import threading
import weakref
from pathlib import Path

from sksae._modes import evaluation
from sksae._params import Int, check_option
from sksae._threads import threads_of_process
from sksae.interpret.explanation._explanation_prompts import marks_thoughts, without_system

_LONGEST_WAIT = 30.0  # seconds for an answer to stop when the process ends


class LocalClient:
    """A client for a causal language model that is loaded in this process.

    The most probable token is taken each time, in evaluation mode, so that the same question gets
    the same answer; the modes of the model are as before afterwards. Questions are answered one
    after the other.

    Parameters
    ----------
    model : PreTrainedModel
        A model that predicts tokens.
    tokenizer : tokenizer
        Its tokenizer. If it has a chat template, that is used; otherwise the messages are joined.
        With a template that knows no system role, the system's text begins the user's message.
    max_new_tokens : int, default=300
        The largest number of tokens per answer, thoughts included.

    Attributes
    ----------
    name : str
        The name of the model.
    identity : dict
        The name of the model and the length of its answers; models of one name are not
        distinguished.

    See Also
    --------
    OpenAIClient : A model on a server.

    Examples
    --------
    >>> from sksae.datasets import load_tiny_lm
    >>> from sksae.interpret import LocalClient
    >>> client = LocalClient(*load_tiny_lm(), max_new_tokens=8)
    >>> isinstance(client.complete([{"role": "user", "content": "Compute the mean"}]), str)
    True
    """

    def __init__(self, model, tokenizer, *, max_new_tokens=300):
        check_option("max_new_tokens", max_new_tokens, Int(1))
        for name, thing, method in (
            ("model", model, "generate"),
            ("tokenizer", tokenizer, "decode"),
        ):
            if not callable(getattr(thing, method, None)):
                raise TypeError(
                    f"{name} must be the loaded {name} of a language model that predicts tokens. "
                    f"Got {type(thing).__name__} instead."
                )
        self.model, self.tokenizer, self.max_new_tokens = model, tokenizer, max_new_tokens
        self.name = Path(getattr(model, "name_or_path", "") or type(model).__name__).name
        self.identity = {"local": self.name, "max_new_tokens": max_new_tokens}
        self._lock, self._leaving = threading.Lock(), threading.Event()
        # Threads that answer questions are daemons. A daemon that is within torch when the process
        # ends would abort it.
        weakref.finalize(self, _end_answer, self._leaving, self._lock)

    def __repr__(self):
        return f"LocalClient({self.name!r}, max_new_tokens={self.max_new_tokens})"

    def complete(self, messages):
        """Return the answer of the model.

        Parameters
        ----------
        messages : list of dict
            Each with `role` and `content`.

        Returns
        -------
        answer : str
            The text that the model wrote.

        Raises
        ------
        RuntimeError
            If the process ends meanwhile.
        ValueError
            If the question is longer than the context of the model.
        """
        import torch

        prompt = self._prompt(messages)
        # Special tokens at the beginning are the template's own, where there is one.
        templated = bool(getattr(self.tokenizer, "chat_template", None))
        inputs = self.tokenizer(
            prompt, add_special_tokens=not templated, return_tensors="pt", verbose=False
        )
        inputs.pop("token_type_ids", None)  # not every model takes them
        n_tokens = inputs["input_ids"].shape[1]
        config = self.model.config.get_text_config()
        # Without a stated limit, the prompt and the answer fit by definition.
        limit = getattr(config, "max_position_embeddings", None) or n_tokens + self.max_new_tokens
        if n_tokens >= limit:
            raise ValueError(
                f"The question has {n_tokens} tokens and {self.name} reads {limit}: use fewer "
                f"examples, or a model with a longer context."
            )
        padding = self.tokenizer.pad_token_id
        with self._lock, evaluation(self.model), torch.no_grad(), threads_of_process():
            sequences = self.model.generate(
                **inputs.to(self.model.device),
                max_new_tokens=min(self.max_new_tokens, limit - n_tokens),
                do_sample=False,
                pad_token_id=self.tokenizer.eos_token_id if padding is None else padding,
                stopping_criteria=[self._must_stop],
            )
            if self._leaving.is_set():
                raise RuntimeError(f"{self.name} was stopped within its answer: the process ends.")
        # Some tokenizers count the marks of a thought among their special tokens.
        skipped = set(self.tokenizer.all_special_ids)
        skipped -= {i for i in skipped if marks_thoughts(self.tokenizer.decode([i]))}
        # (n_tokens + n_written,) without the prompt
        written = [i for i in sequences[0, n_tokens:].tolist() if i not in skipped]
        answer = self.tokenizer.decode(written).strip()
        # Templates of some reasoning models begin the thought themselves.
        return f"<think>{answer}" if prompt.rstrip().endswith("<think>") else answer

    def _must_stop(self, input_ids, scores, **options):
        import torch

        # (n_sequences,)
        return torch.full(input_ids.shape[:1], self._leaving.is_set(), device=input_ids.device)

    def _prompt(self, messages):
        """Text that the answer continues."""
        if not getattr(self.tokenizer, "chat_template", None):
            return "\n\n".join(message["content"] for message in messages) + "\n\nAnswer:"
        options = {"add_generation_prompt": True, "tokenize": False}
        system = [m["content"].strip() for m in messages if m["role"] == "system"]
        try:
            prompt = self.tokenizer.apply_chat_template(messages, **options)
        except Exception:  # a template is a program of the model's author
            if not system:
                raise
        else:
            if all(text in prompt for text in system):
                return prompt
        # The template knows no system role: it raises an error, or drops the message.
        return self.tokenizer.apply_chat_template(without_system(messages), **options)


def _end_answer(leaving, lock):
    """Have the answer under way end at its next token, and let no other begin."""
    leaving.set()
    lock.acquire(timeout=_LONGEST_WAIT)  # in a forked child, nobody may hold it and release it
