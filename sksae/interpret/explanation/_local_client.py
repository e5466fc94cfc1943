"""A client for a Hugging Face model in this process."""

import threading
from pathlib import Path

from sksae._params import Int, check_option


class LocalClient:
    """A client for a causal language model that is loaded in this process.

    The most probable token is taken each time, so that the same question gets the same answer.
    Questions are answered one after the other.

    Parameters
    ----------
    model : PreTrainedModel
        A model that predicts tokens.
    tokenizer : tokenizer
        Its tokenizer. Where it has a chat template that is used; otherwise the messages are joined.
    max_new_tokens : int, default=300
        The longest answer.

    Attributes
    ----------
    name : str
        What the model calls itself.
    identity : dict
        What an answer depends on, as far as names tell; two models of one name are not told apart.

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
        self._lock = threading.Lock()

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
            What the model said.

        Raises
        ------
        ValueError
            If the question is longer than what the model reads.
        """
        import torch

        inputs = self._encode(messages)
        n_tokens = inputs["input_ids"].shape[1]
        config = self.model.config.get_text_config()
        limit = getattr(config, "max_position_embeddings", None) or n_tokens + self.max_new_tokens
        if n_tokens >= limit:
            raise ValueError(
                f"The question has {n_tokens} tokens and {self.name} reads {limit}: use fewer "
                f"examples, or a model with a longer context."
            )
        room = min(self.max_new_tokens, limit - n_tokens)
        padding = self.tokenizer.pad_token_id
        with self._lock, torch.no_grad():
            found = self.model.generate(
                **inputs.to(self.model.device),
                max_new_tokens=room,
                do_sample=False,
                pad_token_id=self.tokenizer.eos_token_id if padding is None else padding,
            )
        return self.tokenizer.decode(found[0, n_tokens:], skip_special_tokens=True).strip()

    def _encode(self, messages):
        if getattr(self.tokenizer, "chat_template", None):
            return self.tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
            )
        text = "\n\n".join(message["content"] for message in messages) + "\n\nAnswer:"
        inputs = self.tokenizer(text, return_tensors="pt", verbose=False)
        inputs.pop("token_type_ids", None)
        return inputs
